#include "zero_shot.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_LABELS = 1, KEY_DETAILS };

typedef struct args {
    cli *common;
    zero_shot z;
    const char *labels, *details;
} args;

static error_t parse(int key, char *arg, struct argp_state *state)
{
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->z;
        state->child_inputs[1] = state->child_inputs[2] = state->child_inputs[3] = a->common;
        state->child_inputs[4] = a->common;
        return 0;
    case KEY_LABELS:
        a->labels = arg;
        return 0;
    case KEY_DETAILS:
        a->details = arg;
        return 0;
    case ARGP_KEY_END:
        cli_need(state, a->labels, "--labels");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"labels", KEY_LABELS, "FILE", 0, "CSV or JSONL with columns image and label", 1},
    {"details", KEY_DETAILS, "FILE", 0, "Write each picture's predictions and neighbours here, as JSONL",
     2},
    {0},
};
static const struct argp_child children[] = {
    {&zero_shot_options, 0, NULL, 0}, {&cli_model_options, 0, NULL, 0},  {&cli_strict_option, 0, NULL, 0},
    {&cli_common, 0, NULL, 0},        {&cli_labels_options, 0, NULL, 0}, {0}};
static const struct argp argp = {
    options,
    parse,
    NULL,
    "Zero-shot accuracy of CLIP alone and with the memory, side by side.\v"
    "Example:\n  reco eval --model clip/ --bank birds.bank --fusion fusion.safetensors "
    "--classes birds.txt --labels test.csv --json",
    children,
    NULL,
    NULL};

typedef struct work {
    zero_shot *z;
    char **images, **names, **paths;
    size_t n, good;
    float *rows, *improved; /* [n][d] */
    unsigned char *ok;
    uint32_t *labels;
    int64_t *top[2];
} work;

typedef struct named {
    const char *name;
    uint32_t index;
} named;

static int by_name(const void *a, const void *b)
{
    const named *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* labels[n]: index of each picture's class. */
static reco_status find_labels(const args *a, work *w)
{
    size_t c = w->z->nclasses;
    named *table = calloc(c, sizeof *table);
    if (!table) return RECO_E_NOMEM;
    reco_status status = RECO_OK;
    for (size_t i = 0; i < c; i++) table[i] = (named){w->z->classes[i], (uint32_t)i};
    qsort(table, c, sizeof *table, by_name);
    for (size_t i = 0; i < w->n && status == RECO_OK; i++) {
        named key = {w->names[i], 0}, *found = bsearch(&key, table, c, sizeof *table, by_name);
        if (found) {
            w->labels[i] = found->index;
        } else {
            cli_error("%s: label \"%s\" of %s is not in %s", a->labels, w->names[i], w->images[i],
                      w->z->class_file);
            status = RECO_E_NOTFOUND;
        }
    }
    free(table);
    return status;
}

static reco_status load(cli *c, const args *a, work *w)
{
    reco_status status = zero_shot_open(c, w->z);
    if (status == RECO_OK)
        status =
            reco_read_columns(c->ctx, a->labels, &c->table, "image", "label", &w->images, &w->names, &w->n);
    if (status != RECO_OK) return status;
    w->rows = calloc(w->n * w->z->d, sizeof(float));
    w->improved = calloc(w->n * w->z->d, sizeof(float));
    w->ok = calloc(w->n, 1);
    w->labels = calloc(w->n, sizeof *w->labels);
    w->top[0] = calloc(w->n * 5, sizeof(int64_t));
    w->top[1] = calloc(w->n * 5, sizeof(int64_t));
    w->paths = calloc(w->n, sizeof *w->paths);
    if (!w->rows || !w->improved || !w->ok || !w->labels || !w->top[0] || !w->top[1] || !w->paths)
        return RECO_E_NOMEM;
    for (size_t i = 0; i < w->n; i++)
        if (!(w->paths[i] = reco_resolve_path(c->ctx, a->labels, w->images[i]))) return RECO_E_NOMEM;
    return find_labels(a, w);
}

/* Pictures that could not be read drop out of every array in step. */
static void compact(work *w)
{
    size_t d = w->z->d;
    for (size_t i = 0; i < w->n; i++) {
        if (!w->ok[i]) continue;
        size_t j = w->good++;
        if (i == j) continue;
        memcpy(w->rows + j * d, w->rows + i * d, d * sizeof(float));
        w->labels[j] = w->labels[i];
        char *swap = w->images[j];
        w->images[j] = w->images[i];
        w->images[i] = swap;
    }
}

static json_t *scores_json(const reco_class_scores *s)
{
    return json_pack("{s:f, s:f, s:f}", "acc1", s->acc1, "acc5", s->acc5, "mean_per_class",
                     s->mean_per_class);
}

static json_t *top_json(const work *w, const int64_t *top)
{
    json_t *list = json_array();
    for (int j = 0; j < 5 && top[j] >= 0; j++) json_array_append_new(list, cli_text(w->z->classes[top[j]]));
    return list;
}

static reco_status write_details(cli *c, const args *a, const work *w)
{
    FILE *file = fopen(a->details, "w");
    if (!file) {
        cli_error("%s: cannot be written", a->details);
        return RECO_E_IO;
    }
    reco_status status = RECO_OK;
    for (size_t i = 0; i < w->good && status == RECO_OK; i++) {
        json_t *found = zero_shot_neighbours(c, w->z, i);
        json_t *row =
            json_pack("{s:o, s:o, s:o, s:o, s:o}", "image", cli_text(w->images[i]), "label",
                      cli_text(w->z->classes[w->labels[i]]), "clip", top_json(w, w->top[0] + i * 5), "reco",
                      top_json(w, w->top[1] + i * 5), "neighbours", found);
        if (!row || json_dumpf(row, file, JSON_COMPACT | JSON_REAL_PRECISION(6)) != 0) status = RECO_E_IO;
        fputc('\n', file);
        json_decref(row);
    }
    if (fclose(file) != 0 || status != RECO_OK) {
        cli_error("%s: cannot be written", a->details);
        return RECO_E_IO;
    }
    return RECO_OK;
}

static void print(cli *c, const work *w, const reco_class_scores s[2])
{
    if (c->json) {
        cli_print(json_pack("{s:I, s:I, s:I, s:I, s:O, s:s, s:o, s:o}", "images", (json_int_t)w->good,
                            "classes", (json_int_t)w->z->nclasses, "truncated", (json_int_t)c->truncated,
                            "failures", (json_int_t)(w->n - w->good), "failed", c->failed, "refined",
                            cli_sides_name(w->z->sides), "clip", scores_json(&s[0]), "reco",
                            scores_json(&s[1])));
        return;
    }
    printf("%zu pictures, %zu classes, refined: %s\n\n              acc@1   acc@5   per class\n", w->good,
           w->z->nclasses, cli_sides_name(w->z->sides));
    for (int r = 0; r < 2; r++)
        printf("%-10s %7.2f%% %7.2f%% %9.2f%%\n", r ? "RECO" : "CLIP", 100 * s[r].acc1, 100 * s[r].acc5,
               100 * s[r].mean_per_class);
}

static reco_status run(cli *c, args *a, work *w)
{
    zero_shot *z = w->z;
    reco_status status = load(c, a, w);
    if (status != RECO_OK) return status;
    bool image = z->sides & RECO_SIDES_IMAGE;
    reco_stream_opts stream = {.failure = cli_failure, .user = c};
    reco_class_scores scores[2];
    status = zero_shot_embed(c, z, w->n);
    if (status == RECO_OK)
        status = reco_embed_files(c->ctx, z->model, (const char *const *)w->paths, w->n, &stream, w->rows,
                                  w->ok);
    if (status != RECO_OK) return status;
    compact(w);
    if (image || a->details)
        status = reco_refine(c->ctx, z->bank, z->fusion, RECO_IMAGE, w->rows, w->good, &z->refine,
                             w->improved, (reco_hits){z->ids, z->scores, z->counts});
    for (int r = 0; r < 2 && status == RECO_OK; r++)
        status = reco_eval_classes(c->ctx, &scores[r], w->top[r], r && image ? w->improved : w->rows,
                                   w->good, r ? z->refined : z->plain, z->nclasses, z->d, w->labels);
    if (status == RECO_OK && a->details) status = write_details(c, a, w);
    if (status == RECO_OK) print(c, w, scores);
    return status;
}

int cmd_eval(int argc, char **argv)
{
    cli c = {0};
    args a = {.common = &c};
    if (!cli_begin(&c, argc, argv, &argp, &a)) return 1;
    work w = {.z = &a.z};
    reco_status status = run(&c, &a, &w);
    int strict = status == RECO_OK ? cli_skipped(&c, w.n - w.good, NULL) : 0;
    if (status == RECO_OK) strict |= cli_truncated(&c, a.z.model, c.truncated, "prompt");
    reco_lines_free(w.images, w.n);
    reco_lines_free(w.names, w.n);
    reco_lines_free(w.paths, w.n);
    free(w.rows), free(w.improved), free(w.ok), free(w.labels), free(w.top[0]), free(w.top[1]);
    zero_shot_close(&a.z);
    int code = cli_end(&c, status);
    return code ? code : strict;
}
