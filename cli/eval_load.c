/* Pictures with labels, from a table or from class folders. */
#include "eval.h"

#include <stdlib.h>
#include <string.h>

/* Pictures and their labels. All arrays are in step, and what cannot be used drops out of all of them. */
typedef struct eval_work {
    char **groups;                   /* [total] of --groups; NULL: none asked for */
    char **images, **names, **paths; /* [n] as typed, the labels, the files; [total] are allocated */
    char **reasons;    /* [total] what is wrong with a row of --labels, or NULL; NULL: nothing */
    uint64_t *rows_at; /* [n] row of the input, for messages */
    uint32_t *labels;  /* [n] class of each */
    size_t n, total;
    cli *c;
} eval_work;

/* Of --images: the folder of each picture is its label. */
static reco_status list_class_folders(cli *c, eval_args *a, eval_work *w)
{
    const char *root = a->z.images;
    reco_status status = reco_list_pictures(c->ctx, root, &w->paths, &w->total);
    if (status != RECO_OK) return status;
    w->images = calloc(w->total + 1, sizeof *w->images);
    w->names = calloc(w->total + 1, sizeof *w->names);
    if (!w->images || !w->names) return RECO_E_NOMEM;
    for (size_t i = 0; i < w->total; i++) {
        w->names[i] = zero_shot_folder(root, w->paths[i]);
        if (!(w->images[i] = strdup(w->paths[i]))) return RECO_E_NOMEM;
    }
    return RECO_OK;
}

static reco_status from_table(cli *c, eval_args *a, eval_work *w)
{
    reco_status status = reco_read_columns(c->ctx, a->labels, &c->table, "image", "label", &w->images,
                                           &w->names, &w->reasons, &w->rows_at, &w->total);
    if (status != RECO_OK) w->total = 0;
    if (status != RECO_OK) return status;
    if (a->groups) {
        char **again = NULL, **reasons = NULL;
        size_t n;
        status = reco_read_columns(c->ctx, a->labels, &c->table, "image", a->groups, &again, &w->groups,
                                   &reasons, NULL, &n);
        if (status != RECO_OK) return status;
        reco_lines_free(again, n);
        reco_lines_free(reasons, n);
    }
    if (!(w->paths = calloc(w->total + 1, sizeof *w->paths))) return RECO_E_NOMEM;
    for (size_t i = 0; i < w->total; i++)
        if (!(w->paths[i] = reco_resolve_path(c->ctx, a->labels, w->images[i]))) return RECO_E_NOMEM;
    return RECO_OK;
}

/* Item i to place j of what a picture has before it is embedded. */
static void move(eval_work *w, size_t j, size_t i)
{
    char **const lists[] = {w->images, w->names, w->paths, w->groups};
    if (i == j) return;
    for (size_t k = 0; k < sizeof lists / sizeof *lists && lists[k]; k++) {
        char *swap = lists[k][j];
        lists[k][j] = lists[k][i];
        lists[k][i] = swap;
    }
    w->rows_at[j] = w->rows_at[i];
    w->labels[j] = w->labels[i];
}

static void report_unmatched_picture(cli *c, const eval_args *a, const eval_work *w, size_t i,
                                     uint64_t line)
{
    char *reason;
    bool bad = w->reasons && w->reasons[i];
    const char *near = w->names[i] && !bad ? reco_class_list_nearest(a->z.list, w->names[i]) : NULL;
    int n;
    if (bad)
        n = asprintf(&reason, "%s:%llu: %s", a->labels, (unsigned long long)line, w->reasons[i]);
    else if (!near)
        n = asprintf(&reason, "%s: is not in the folder of a class", w->images[i]);
    else if (line)
        n = asprintf(&reason, "%s:%llu: label \"%s\" of %s is not a class, the nearest is \"%s\"",
                     a->labels, (unsigned long long)line, w->names[i], w->images[i], near);
    else
        n = asprintf(&reason, "%s: its folder \"%s\" is not a class, the nearest is \"%s\"", w->images[i],
                     w->names[i], near);
    if (n < 0) return;
    reco_text_clean(reason);
    cli_failure(c, i, w->images[i], reason);
    free(reason);
}

/* Class of each folder of --images, by its place among the folders, which are sorted. */
static reco_status match_folders(cli *c, eval_args *a, eval_work *w, const char **how)
{
    reco_class_list *folders = NULL;
    uint32_t *classes = NULL;
    reco_status status = reco_class_list_folders(c->ctx, &folders, a->z.images);
    if (status == RECO_OK) status = reco_class_list_settle(c->ctx, folders, a->z.model, 1);
    if (status != RECO_OK) goto out;
    size_t n = reco_class_list_count(folders) + reco_class_list_merged(folders);
    const char *const *names = reco_class_list_entries(folders);
    if (!(classes = calloc(n, sizeof *classes))) status = RECO_E_NOMEM;
    if (status == RECO_OK)
        status = reco_class_list_match(c->ctx, a->z.list, a->z.model, names, n, 1, classes, how);
    for (size_t i = 0; i < w->total && status == RECO_OK; i++) {
        w->labels[i] = RECO_NO_CLASS;
        for (size_t low = 0, high = n; w->names[i] && low < high;) {
            size_t middle = low + (high - low) / 2;
            int order = strcmp(w->names[i], names[middle]);
            if (order == 0) w->labels[i] = classes[middle];
            if (order == 0) break;
            if (order < 0)
                high = middle;
            else
                low = middle + 1;
        }
    }
out:
    free(classes);
    reco_class_list_free(folders);
    return status;
}

/* Rows without a label count for nothing when it is told what labels are. */
static reco_status match_table(cli *c, eval_args *a, eval_work *w, const char **how)
{
    const char **names = calloc(w->total + 1, sizeof *names);
    uint32_t *classes = calloc(w->total + 1, sizeof *classes);
    size_t n = 0;
    reco_status status = names && classes ? RECO_OK : RECO_E_NOMEM;
    for (size_t i = 0; i < w->total && status == RECO_OK; i++)
        if (!w->reasons[i]) names[n++] = w->names[i];
    if (status == RECO_OK && n)
        status = reco_class_list_match(c->ctx, a->z.list, a->z.model, names, n, 0, classes, how);
    for (size_t i = 0, j = 0; i < w->total && status == RECO_OK; i++)
        w->labels[i] = w->reasons[i] ? RECO_NO_CLASS : classes[j++];
    free(names);
    free(classes);
    return status;
}

static reco_status match_pictures(cli *c, eval_args *a, eval_question *q, eval_work *w)
{
    uint64_t *lines = w->rows_at;
    reco_status status = RECO_OK;
    w->rows_at = calloc(w->total + 1, sizeof *w->rows_at);
    w->labels = calloc(w->total + 1, sizeof *w->labels);
    if (!w->rows_at || !w->labels) status = RECO_E_NOMEM;
    if (status == RECO_OK)
        status = a->labels ? match_table(c, a, w, &q->how) : match_folders(c, a, w, &q->how);
    for (size_t i = 0; i < w->total && status == RECO_OK; i++) {
        w->rows_at[i] = i;
        if (w->labels[i] == RECO_NO_CLASS)
            report_unmatched_picture(c, a, w, i, lines ? lines[i] : 0);
        else
            move(w, w->n++, i);
    }
    reco_free(lines);
    return status;
}

/* The outputs are none of the pictures. */
static reco_status check_outputs(cli *c, const eval_args *a, const eval_work *w)
{
    const char *const outputs[] = {a->details, a->page, a->classifier};
    reco_status status = RECO_OK;
    for (int o = 0; o < 3 && status == RECO_OK; o++)
        if (outputs[o])
            status = reco_check_output(c->ctx, outputs[o], RECO_OUT_FILE | RECO_OUT_NO_PROBE,
                                       (const char *const *)w->paths, w->n);
    return status;
}

static void report_unread_picture(void *user, uint64_t row, const char *item, const char *reason)
{
    eval_work *w = user;
    cli_failure(w->c, w->rows_at[row], item, reason);
}

/* Of those that could be read, the embeddings. */
static reco_status embed_labelled(cli *c, eval_args *a, eval_question *q, eval_work *w)
{
    size_t d = a->z.among.d, good = 0;
    unsigned char *ok = calloc(w->n + 1, 1);
    q->images = calloc(w->n * d + 1, sizeof(float));
    reco_embed_opts embed = {.failure = report_unread_picture, .user = w};
    reco_status status = ok && q->images ? RECO_OK : RECO_E_NOMEM;
    if (status == RECO_OK)
        status = reco_embed_files_cached(c->ctx, a->z.model, (const char *const *)w->paths, w->n, a->cache,
                                         &embed, q->images, ok);
    for (size_t i = 0; i < w->n && status == RECO_OK; i++) {
        if (!ok[i]) continue;
        size_t j = good++;
        if (i != j) memcpy(q->images + j * d, q->images + i * d, d * sizeof(float));
        move(w, j, i);
    }
    w->n = good;
    free(ok);
    return status;
}

reco_status eval_load_pictures(cli *c, eval_args *a, eval_question *q)
{
    eval_work w = {.c = c};
    reco_status status = zero_shot_open(c, &a->z);
    if (status == RECO_OK) status = a->labels ? from_table(c, a, &w) : list_class_folders(c, a, &w);
    if (status == RECO_OK) status = match_pictures(c, a, q, &w);
    if (status == RECO_OK) status = check_outputs(c, a, &w);
    if (status == RECO_OK) status = embed_labelled(c, a, q, &w);
    q->n = w.n;
    q->total = w.total;
    q->labels = w.labels;
    q->places = w.images;
    q->paths = w.paths;
    if (status == RECO_OK && w.groups) status = eval_group(q, w.groups);
    reco_lines_free(w.groups, w.total);
    reco_lines_free(w.names, w.total);
    reco_lines_free(w.reasons, w.total);
    free(w.rows_at);
    return status;
}
