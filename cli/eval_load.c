#include "eval.h"

#include <stdlib.h>
#include <string.h>

/* Of --images: the folder of each picture is its label. */
static reco_status from_folder(cli *c, eval_args *a, eval_work *w)
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

static void report(cli *c, const eval_args *a, const eval_work *w, size_t i, uint64_t line)
{
    char *reason;
    bool bad = w->reasons && w->reasons[i];
    const char *near = w->names[i] && !bad ? reco_class_list_nearest(a->z.list, w->names[i]) : NULL;
    int n;
    if (bad)
        n = asprintf(&reason, "%s:%llu: %s", a->labels, (unsigned long long)line, w->reasons[i]);
    else if (!near)
        n = asprintf(&reason, "%s: lies in no class folder", w->images[i]);
    else if (line)
        n = asprintf(&reason, "%s:%llu: label \"%s\" of %s is no class, the nearest is \"%s\"", a->labels,
                     (unsigned long long)line, w->names[i], w->images[i], near);
    else
        n = asprintf(&reason, "%s: its folder \"%s\" is no class, the nearest is \"%s\"", w->images[i],
                     w->names[i], near);
    if (n < 0) return;
    reco_text_clean(reason);
    cli_failure(c, i, w->images[i], reason);
    free(reason);
}

/* Class of each folder of --images, by its place among the folders, which are sorted. */
static reco_status match_folders(cli *c, eval_args *a, eval_work *w)
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
        status = reco_class_list_match(c->ctx, a->z.list, a->z.model, names, n, 1, classes, &a->how);
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
static reco_status match_table(cli *c, eval_args *a, eval_work *w)
{
    const char **names = calloc(w->total + 1, sizeof *names);
    uint32_t *classes = calloc(w->total + 1, sizeof *classes);
    size_t n = 0;
    reco_status status = names && classes ? RECO_OK : RECO_E_NOMEM;
    for (size_t i = 0; i < w->total && status == RECO_OK; i++)
        if (!w->reasons[i]) names[n++] = w->names[i];
    if (status == RECO_OK && n)
        status = reco_class_list_match(c->ctx, a->z.list, a->z.model, names, n, 0, classes, &a->how);
    for (size_t i = 0, j = 0; i < w->total && status == RECO_OK; i++)
        w->labels[i] = w->reasons[i] ? RECO_NO_CLASS : classes[j++];
    free(names);
    free(classes);
    return status;
}

reco_status eval_load(cli *c, eval_args *a, eval_work *w)
{
    reco_status status = zero_shot_open(c, w->z);
    if (status == RECO_OK) status = a->labels ? from_table(c, a, w) : from_folder(c, a, w);
    if (status != RECO_OK) return status;
    uint64_t *lines = w->rows_at;
    w->rows_at = calloc(w->total + 1, sizeof *w->rows_at);
    w->labels = calloc(w->total + 1, sizeof *w->labels);
    if (!w->rows_at || !w->labels) status = RECO_E_NOMEM;
    if (status == RECO_OK && a->labels)
        status = match_table(c, a, w);
    else if (status == RECO_OK)
        status = match_folders(c, a, w);
    for (size_t i = 0; i < w->total && status == RECO_OK; i++) {
        w->rows_at[i] = i;
        if (w->labels[i] == RECO_NO_CLASS)
            report(c, a, w, i, lines ? lines[i] : 0);
        else
            move(w, w->n++, i);
    }
    reco_free(lines);
    return status;
}

static void failed(void *user, uint64_t row, const char *item, const char *reason)
{
    eval_work *w = user;
    cli_failure(w->c, w->rows_at[row], item, reason);
}

reco_status eval_embed(cli *c, eval_work *w)
{
    size_t d = w->z->d, good = 0;
    w->c = c;
    w->rows = calloc(w->n * d + 1, sizeof(float));
    w->improved = calloc(w->n * d + 1, sizeof(float));
    w->ok = calloc(w->n + 1, 1);
    w->top[0] = calloc(w->n * 5 + 1, sizeof(int64_t));
    w->top[1] = calloc(w->n * 5 + 1, sizeof(int64_t));
    w->top[2] = calloc(w->n * 5 + 1, sizeof(int64_t));
    if (!w->rows || !w->improved || !w->ok || !w->top[0] || !w->top[1] || !w->top[2]) return RECO_E_NOMEM;
    reco_stream_opts stream = {.failure = failed, .user = w};
    reco_status status =
        reco_embed_files(c->ctx, w->z->model, (const char *const *)w->paths, w->n, &stream, w->rows, w->ok);
    if (status != RECO_OK) return status;
    for (size_t i = 0; i < w->n; i++) {
        if (!w->ok[i]) continue;
        size_t j = good++;
        if (i != j) memcpy(w->rows + j * d, w->rows + i * d, d * sizeof(float));
        move(w, j, i);
    }
    w->n = good;
    return RECO_OK;
}

void eval_free(eval_work *w)
{
    reco_lines_free(w->groups, w->total);
    reco_lines_free(w->images, w->total);
    reco_lines_free(w->names, w->total);
    reco_lines_free(w->paths, w->total);
    reco_lines_free(w->reasons, w->total);
    free(w->rows_at), free(w->labels);
    free(w->rows), free(w->improved), free(w->ok), free(w->top[0]), free(w->top[1]), free(w->top[2]);
}
