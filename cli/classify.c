#include "cli.h"

#include <math.h>
#include <stdlib.h>

enum { KEY_MODEL = 1, KEY_BANK, KEY_FUSION, KEY_CLASSES, KEY_TEMPLATES, KEY_REFINE, KEY_TOP };

#define MOST 100

typedef struct args {
    cli *common;
    const char *model, *bank, *fusion, *classes, *templates;
    reco_sides sides;
    size_t top, nimages;
    reco_refine_opts refine;
    const char **images;
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
    case KEY_TEMPLATES:
        a->templates = arg;
        return 0;
    case KEY_REFINE:
        a->sides = cli_sides(state, arg);
        return 0;
    case KEY_TOP:
        a->top = cli_size(state, "--top", arg, 1, MOST);
        return 0;
    case 'k':
        a->refine.k = cli_size(state, "k", arg, 1, RECO_BANK_MAX_K);
        return 0;
    case ARGP_KEY_ARG:
        a->images[a->nimages++] = arg;
        return 0;
    case ARGP_KEY_END:
        cli_need(state, a->model, "--model");
        cli_need(state, a->bank, "--bank");
        cli_need(state, a->fusion, "--fusion");
        cli_need(state, a->classes, "--classes");
        cli_need(state, a->nimages ? a : NULL, "IMAGE");
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
    {"templates", KEY_TEMPLATES, "FILE", 0,
     "Prompts, one a line, with {} for the name (default: the name alone)", 2},
    {"refine", KEY_REFINE, "SIDES", 0,
     "image, text, both, none or auto (default: auto, what training chose)", 2},
    {"top", KEY_TOP, "N", 0, "Classes to print (default 5)", 2},
    {"k", 'k', "K", 0, "Neighbours (default: the layer's own)", 2},
    {0},
};
static const struct argp_child children[] = {
    {&cli_model_options, 0, NULL, 0}, {&cli_strict_option, 0, NULL, 0}, {&cli_common, 0, NULL, 0}, {0}};
static const struct argp argp = {
    options,
    parse,
    "IMAGE...",
    "Name pictures: what CLIP alone says, what it says with the memory, and what was retrieved.\v"
    "Example:\n  reco classify --model clip/ --bank birds.bank --fusion fusion.safetensors "
    "--classes birds.txt photo.jpg",
    children,
    NULL,
    NULL};

typedef struct work {
    reco_model *model;
    reco_bank *bank;
    reco_fusion *fusion;
    char **classes, **templates;
    size_t c, m, d, k;
    float *plain, *refined;   /* [c][d] class embeddings */
    float *images, *improved; /* [n][d] */
    unsigned char *good;
    int64_t *ids;
    float *scores;
    size_t *counts;
} work;

/* The `top` best classes with softmax probabilities at the model's own scale. */
static json_t *predict(const work *w, const float *image, const float *classes, size_t top, float scale)
{
    double *scores = calloc(w->c, sizeof *scores), best = -1, sum = 0;
    json_t *list = json_array();
    for (size_t j = 0; scores && j < w->c; j++) {
        for (size_t i = 0; i < w->d; i++) scores[j] += (double)image[i] * (double)classes[j * w->d + i];
        if (scores[j] > best) best = scores[j];
    }
    for (size_t j = 0; scores && j < w->c; j++) sum += exp((double)scale * (scores[j] - best));
    for (size_t n = 0; scores && n < top && n < w->c; n++) {
        size_t at = 0;
        for (size_t j = 1; j < w->c; j++)
            if (scores[j] > scores[at]) at = j;
        json_array_append_new(list, json_pack("{s:o, s:f, s:f}", "label", cli_text(w->classes[at]), "score",
                                              scores[at], "probability",
                                              exp((double)scale * (scores[at] - best)) / sum));
        scores[at] = -INFINITY;
    }
    free(scores);
    return list;
}

static json_t *neighbours(cli *c, const work *w, size_t image)
{
    json_t *list = json_array();
    for (size_t j = 0; j < w->counts[image]; j++) {
        reco_pair pair;
        if (reco_bank_get(c->ctx, w->bank, w->ids[image * w->k + j], &pair) != RECO_OK) break;
        json_array_append_new(list, json_pack("{s:I, s:f, s:s, s:s?}", "id", (json_int_t)pair.id, "score",
                                              (double)w->scores[image * w->k + j], "caption", pair.caption,
                                              "uri", pair.uri));
        reco_pair_free(&pair);
    }
    return list;
}

static void print_text(const json_t *result)
{
    printf("%s\n", json_string_value(json_object_get(result, "image")));
    static const char *const rows[] = {"clip", "reco"};
    for (int r = 0; r < 2; r++) {
        size_t i;
        json_t *p;
        printf("  %s ", rows[r]);
        json_array_foreach(json_object_get(result, rows[r]), i, p)
            printf("%s %s %.1f%%", i ? "," : "", json_string_value(json_object_get(p, "label")),
                   100 * json_real_value(json_object_get(p, "probability")));
        printf("\n");
    }
    size_t i;
    json_t *p;
    printf("  like ");
    json_array_foreach(json_object_get(result, "neighbours"), i, p) if (i < 5)
        printf("%s %s (%.2f)", i ? "," : "", json_string_value(json_object_get(p, "caption")),
               json_real_value(json_object_get(p, "score")));
    printf("\n");
}

static reco_status prepare(cli *c, args *a, work *w)
{
    reco_status status = cli_open_model(c, &w->model, a->model);
    if (status == RECO_OK)
        status = cli_open_memory(c, w->model, &w->bank, a->bank, &w->fusion, a->fusion, a->refine.k);
    if (status == RECO_OK) status = reco_read_lines(c->ctx, a->classes, &w->classes, &w->c);
    if (status == RECO_OK && a->templates)
        status = reco_read_lines(c->ctx, a->templates, &w->templates, &w->m);
    if (status != RECO_OK) return status;
    w->d = reco_model_get_info(w->model).d;
    w->k = a->refine.k ? a->refine.k : reco_fusion_get_config(w->fusion).k;
    if (a->sides == RECO_SIDES_DEFAULT) a->sides = reco_fusion_get_config(w->fusion).sides;
    size_t n = a->nimages;
    w->plain = calloc(w->c * w->d, sizeof(float));
    w->refined = calloc(w->c * w->d, sizeof(float));
    w->images = calloc(n * w->d, sizeof(float));
    w->improved = calloc(n * w->d, sizeof(float));
    w->good = calloc(n, 1);
    w->ids = calloc(n * w->k, sizeof *w->ids);
    w->scores = calloc(n * w->k, sizeof(float));
    w->counts = calloc(n, sizeof *w->counts);
    return w->plain && w->refined && w->images && w->improved && w->good && w->ids && w->scores && w->counts
               ? RECO_OK
               : RECO_E_NOMEM;
}

static reco_status run(cli *c, args *a, work *w, uint64_t *failures)
{
    reco_status status = prepare(c, a, w);
    if (status != RECO_OK) return status;
    bool text = a->sides & RECO_SIDES_TEXT, image = a->sides & RECO_SIDES_IMAGE;
    const char *const *classes = (const char *const *)w->classes, *const *templates =
                                                                      (const char *const *)w->templates;
    reco_stream_opts stream = {.failure = cli_failure, .user = c};
    status =
        reco_embed_classes(c->ctx, w->model, NULL, NULL, classes, w->c, templates, w->m, NULL, w->plain);
    if (status == RECO_OK)
        status = reco_embed_classes(c->ctx, w->model, text ? w->bank : NULL, w->fusion, classes, w->c,
                                    templates, w->m, &a->refine, w->refined);
    if (status == RECO_OK)
        status = reco_embed_files(c->ctx, w->model, a->images, a->nimages, &stream, w->images, w->good);
    if (status != RECO_OK) return status;
    float scale = reco_model_get_info(w->model).logit_scale;
    json_t *results = json_array();
    for (size_t i = 0; i < a->nimages && status == RECO_OK; i++) {
        if (!w->good[i]) {
            ++*failures;
            continue;
        }
        float *x = w->images + i * w->d, *y = w->improved + i * w->d;
        reco_hits hits = {w->ids + i * w->k, w->scores + i * w->k, w->counts + i};
        status = reco_refine(c->ctx, w->bank, w->fusion, RECO_IMAGE, x, 1, &a->refine, y, hits);
        if (status != RECO_OK) break;
        json_t *result = json_pack("{s:o, s:o, s:o, s:o}", "image", cli_text(a->images[i]), "clip",
                                   predict(w, x, w->plain, a->top, scale), "reco",
                                   predict(w, image ? y : x, w->refined, a->top, scale), "neighbours",
                                   neighbours(c, w, i));
        if (!c->json) print_text(result);
        json_array_append_new(results, result);
    }
    if (c->json && status == RECO_OK)
        cli_print(json_pack("{s:s, s:O, s:I, s:O}", "refined", cli_sides_name(a->sides), "results", results,
                            "failures", (json_int_t)*failures, "failed", c->failed));
    json_decref(results);
    return status;
}

int cmd_classify(int argc, char **argv)
{
    cli c = {0};
    args a = {.common = &c, .sides = RECO_SIDES_DEFAULT, .top = 5};
    work w = {0};
    uint64_t failures = 0;
    if (!(a.images = calloc((size_t)argc, sizeof *a.images)) || !cli_begin(&c, argc, argv, &argp, &a)) {
        free(a.images);
        return 1;
    }
    reco_status status = run(&c, &a, &w, &failures);
    reco_lines_free(w.classes, w.c);
    reco_lines_free(w.templates, w.m);
    free(w.plain), free(w.refined), free(w.images), free(w.improved), free(w.good), free(w.ids),
        free(w.scores), free(w.counts);
    reco_fusion_free(w.fusion);
    reco_bank_close(w.bank);
    reco_model_close(w.model);
    int strict = status == RECO_OK ? cli_skipped(&c, failures, NULL) : 0;
    /* With a single picture there is nothing to go on with: what could not be read is the result. */
    if (status == RECO_OK && failures == a.nimages) strict = 1;
    free(a.images);
    int code = cli_end(&c, status);
    return code ? code : strict;
}
