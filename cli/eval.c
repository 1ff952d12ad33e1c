#include "cli.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

enum {
    KEY_MODEL = 1,
    KEY_BANK,
    KEY_FUSION,
    KEY_CLASSES,
    KEY_LABELS,
    KEY_TEMPLATES,
    KEY_REFINE,
    KEY_DETAILS
};

typedef struct args {
    cli *common;
    const char *model, *bank, *fusion, *classes, *labels, *templates, *details;
    reco_sides sides;
    reco_refine_opts refine;
} args;

static error_t parse(int key, char *arg, struct argp_state *state)
{
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = state->child_inputs[1] = state->child_inputs[2] = a->common;
        return 0;
    case KEY_MODEL:
        a->model = arg;
        return 0;
    case KEY_BANK:
        a->bank = arg;
        return 0;
    case KEY_FUSION:
        a->fusion = arg;
        return 0;
    case KEY_CLASSES:
        a->classes = arg;
        return 0;
    case KEY_LABELS:
        a->labels = arg;
        return 0;
    case KEY_TEMPLATES:
        a->templates = arg;
        return 0;
    case KEY_DETAILS:
        a->details = arg;
        return 0;
    case KEY_REFINE:
        a->sides = cli_sides(state, arg);
        return 0;
    case 'k':
        a->refine.k = cli_size(state, "k", arg, 1, RECO_BANK_MAX_K);
        return 0;
    case ARGP_KEY_END:
        cli_need(state, a->model, "--model");
        cli_need(state, a->bank, "--bank");
        cli_need(state, a->fusion, "--fusion");
        cli_need(state, a->classes, "--classes");
        cli_need(state, a->labels, "--labels");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"model", KEY_MODEL, "DIR", 0, "Model folder", 1},
    {"bank", KEY_BANK, "BANK", 0, "The memory", 1},
    {"fusion", KEY_FUSION, "FILE|NAME", 0, "A trained layer, or none, vote, mean, weighted", 1},
    {"classes", KEY_CLASSES, "FILE", 0, "Class names, one a line", 1},
    {"labels", KEY_LABELS, "FILE", 0, "CSV or JSONL with columns image and label", 1},
    {"templates", KEY_TEMPLATES, "FILE", 0,
     "Prompts, one a line, with {} for the name (default: the name alone)", 2},
    {"refine", KEY_REFINE, "SIDES", 0,
     "image, text, both, none or auto (default: auto, what training chose)", 2},
    {"details", KEY_DETAILS, "FILE", 0, "Write each picture's predictions and neighbours here, as JSONL",
     2},
    {"k", 'k', "K", 0, "Neighbours (default: the layer's own)", 2},
    {0},
};
static const struct argp_child children[] = {
    {&cli_model_options, 0, NULL, 0}, {&cli_strict_option, 0, NULL, 0}, {&cli_common, 0, NULL, 0}, {0}};
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
    reco_model *model;
    reco_bank *bank;
    reco_fusion *fusion;
    char **classes, **templates, **images, **names, **paths;
    size_t c, m, n, good, d, k;
    float *plain, *refined; /* [c][d] */
    float *rows, *improved; /* [n][d] */
    unsigned char *ok;
    uint32_t *labels;
    int64_t *top[2], *ids;
    float *scores;
    size_t *counts;
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
    named *table = calloc(w->c, sizeof *table);
    if (!table) return RECO_E_NOMEM;
    reco_status status = RECO_OK;
    for (size_t i = 0; i < w->c; i++) table[i] = (named){w->classes[i], (uint32_t)i};
    qsort(table, w->c, sizeof *table, by_name);
    for (size_t i = 0; i < w->n && status == RECO_OK; i++) {
        named key = {w->names[i], 0}, *found = bsearch(&key, table, w->c, sizeof *table, by_name);
        if (found) {
            w->labels[i] = found->index;
        } else {
            cli_error("%s: label \"%s\" of %s is not in %s", a->labels, w->names[i], w->images[i],
                      a->classes);
            status = RECO_E_NOTFOUND;
        }
    }
    free(table);
    return status;
}

static reco_status load(cli *c, args *a, work *w)
{
    reco_status status = cli_open_model(c, &w->model, a->model);
    if (status == RECO_OK)
        status = cli_open_memory(c, w->model, &w->bank, a->bank, &w->fusion, a->fusion, a->refine.k);
    if (status == RECO_OK) status = reco_read_lines(c->ctx, a->classes, &w->classes, &w->c);
    if (status == RECO_OK && a->templates)
        status = reco_read_lines(c->ctx, a->templates, &w->templates, &w->m);
    if (status == RECO_OK)
        status = reco_read_columns(c->ctx, a->labels, "image", "label", &w->images, &w->names, &w->n);
    if (status != RECO_OK) return status;
    w->d = reco_model_get_info(w->model).d;
    w->k = a->refine.k ? a->refine.k : reco_fusion_get_config(w->fusion).k;
    if (a->sides == RECO_SIDES_DEFAULT) a->sides = reco_fusion_get_config(w->fusion).sides;
    w->plain = calloc(w->c * w->d, sizeof(float));
    w->refined = calloc(w->c * w->d, sizeof(float));
    w->rows = calloc(w->n * w->d, sizeof(float));
    w->improved = calloc(w->n * w->d, sizeof(float));
    w->ok = calloc(w->n, 1);
    w->labels = calloc(w->n, sizeof *w->labels);
    w->top[0] = calloc(w->n * 5, sizeof(int64_t));
    w->top[1] = calloc(w->n * 5, sizeof(int64_t));
    w->ids = calloc(w->n * w->k, sizeof *w->ids);
    w->scores = calloc(w->n * w->k, sizeof(float));
    w->counts = calloc(w->n, sizeof *w->counts);
    w->paths = calloc(w->n, sizeof *w->paths);
    if (!w->plain || !w->refined || !w->rows || !w->improved || !w->ok || !w->labels || !w->top[0] ||
        !w->top[1] || !w->ids || !w->scores || !w->counts || !w->paths)
        return RECO_E_NOMEM;
    for (size_t i = 0; i < w->n; i++)
        if (!(w->paths[i] = reco_resolve_path(c->ctx, a->labels, w->images[i]))) return RECO_E_NOMEM;
    return find_labels(a, w);
}

/* Pictures that could not be read drop out of every array in step. */
static void compact(work *w)
{
    for (size_t i = 0; i < w->n; i++) {
        if (!w->ok[i]) continue;
        size_t j = w->good++;
        if (i == j) continue;
        memcpy(w->rows + j * w->d, w->rows + i * w->d, w->d * sizeof(float));
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
    for (int j = 0; j < 5 && top[j] >= 0; j++) json_array_append_new(list, cli_text(w->classes[top[j]]));
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
        json_t *found = json_array();
        for (size_t j = 0; j < w->counts[i] && status == RECO_OK; j++) {
            reco_pair pair;
            status = reco_bank_get(c->ctx, w->bank, w->ids[i * w->k + j], &pair);
            if (status != RECO_OK) break;
            json_array_append_new(found, json_pack("{s:I, s:f, s:s, s:s?}", "id", (json_int_t)pair.id,
                                                   "score", (double)w->scores[i * w->k + j], "caption",
                                                   pair.caption, "uri", pair.uri));
            reco_pair_free(&pair);
        }
        json_t *row = json_pack("{s:o, s:o, s:o, s:o, s:o}", "image", cli_text(w->images[i]), "label",
                                cli_text(w->classes[w->labels[i]]), "clip", top_json(w, w->top[0] + i * 5),
                                "reco", top_json(w, w->top[1] + i * 5), "neighbours", found);
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

static void print(cli *c, const args *a, const work *w, const reco_class_scores s[2])
{
    if (c->json) {
        cli_print(json_pack("{s:I, s:I, s:I, s:O, s:s, s:o, s:o}", "images", (json_int_t)w->good, "classes",
                            (json_int_t)w->c, "failures", (json_int_t)(w->n - w->good), "failed", c->failed,
                            "refined", cli_sides_name(a->sides), "clip", scores_json(&s[0]), "reco",
                            scores_json(&s[1])));
        return;
    }
    printf("%zu pictures, %zu classes, refined: %s\n\n              acc@1   acc@5   per class\n", w->good,
           w->c, cli_sides_name(a->sides));
    for (int r = 0; r < 2; r++)
        printf("%-10s %7.2f%% %7.2f%% %9.2f%%\n", r ? "RECO" : "CLIP", 100 * s[r].acc1, 100 * s[r].acc5,
               100 * s[r].mean_per_class);
}

static reco_status run(cli *c, args *a, work *w)
{
    reco_status status = load(c, a, w);
    if (status != RECO_OK) return status;
    bool text = a->sides & RECO_SIDES_TEXT, image = a->sides & RECO_SIDES_IMAGE;
    const char *const *classes = (const char *const *)w->classes, *const *templates =
                                                                      (const char *const *)w->templates;
    reco_stream_opts stream = {.failure = cli_failure, .user = c};
    reco_class_scores scores[2];
    reco_hits hits = {w->ids, w->scores, w->counts};
    status =
        reco_embed_classes(c->ctx, w->model, NULL, NULL, classes, w->c, templates, w->m, NULL, w->plain);
    if (status == RECO_OK)
        status = reco_embed_classes(c->ctx, w->model, text ? w->bank : NULL, w->fusion, classes, w->c,
                                    templates, w->m, &a->refine, w->refined);
    if (status == RECO_OK)
        status = reco_embed_files(c->ctx, w->model, (const char *const *)w->paths, w->n, &stream, w->rows,
                                  w->ok);
    if (status != RECO_OK) return status;
    compact(w);
    if (image || a->details)
        status = reco_refine(c->ctx, w->bank, w->fusion, RECO_IMAGE, w->rows, w->good, &a->refine,
                             w->improved, hits);
    if (status == RECO_OK)
        status = reco_eval_classes(c->ctx, &scores[0], w->top[0], w->rows, w->good, w->plain, w->c, w->d,
                                   w->labels);
    if (status == RECO_OK)
        status = reco_eval_classes(c->ctx, &scores[1], w->top[1], image ? w->improved : w->rows, w->good,
                                   w->refined, w->c, w->d, w->labels);
    if (status == RECO_OK && a->details) status = write_details(c, a, w);
    if (status == RECO_OK) print(c, a, w, scores);
    return status;
}

int cmd_eval(int argc, char **argv)
{
    cli c = {0};
    args a = {.common = &c, .sides = RECO_SIDES_DEFAULT};
    if (!cli_begin(&c, argc, argv, &argp, &a)) return 1;
    work w = {0};
    reco_status status = run(&c, &a, &w);
    int strict = status == RECO_OK ? cli_skipped(&c, w.n - w.good, NULL) : 0;
    reco_lines_free(w.classes, w.c);
    reco_lines_free(w.templates, w.m);
    reco_lines_free(w.images, w.n);
    reco_lines_free(w.names, w.n);
    reco_lines_free(w.paths, w.n);
    free(w.plain), free(w.refined), free(w.rows), free(w.improved), free(w.ok), free(w.labels),
        free(w.top[0]), free(w.top[1]);
    free(w.ids), free(w.scores), free(w.counts);
    reco_fusion_free(w.fusion);
    reco_bank_close(w.bank);
    reco_model_close(w.model);
    int code = cli_end(&c, status);
    return code ? code : strict;
}
