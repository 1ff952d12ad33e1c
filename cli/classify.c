#include "zero_shot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_TOP = 1 };

#define MOST 100

typedef struct args {
    cli *common;
    zero_shot z;
    size_t top, nimages;
    const char **images;
    char **found; /* of --images */
    size_t nfound;
} args;

static error_t parse(int key, char *arg, struct argp_state *state)
{
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->z;
        state->child_inputs[1] = state->child_inputs[2] = state->child_inputs[3] = a->common;
        return 0;
    case KEY_TOP:
        a->top = cli_size(state, "--top", arg, 1, MOST);
        return 0;
    case ARGP_KEY_ARG:
        a->images[a->nimages++] = arg;
        return 0;
    case ARGP_KEY_END:
        cli_need(state, a->nimages || a->z.images ? a : NULL, "IMAGE");
        if (a->nimages && a->z.images) argp_error(state, "--images goes without IMAGE");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"top", KEY_TOP, "N", 0, "Classes to print (default 5)", 2},
    {0},
};
static const struct argp_child children[] = {{&zero_shot_options, 0, NULL, 0},
                                             {&cli_model_options, 0, NULL, 0},
                                             {&cli_strict_option, 0, NULL, 0},
                                             {&cli_common, 0, NULL, 0},
                                             {0}};
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

typedef struct pictures {
    float *rows, *improved; /* [n][d] */
    unsigned char *good;
} pictures;

/* The `top` best classes with softmax probabilities at the model's own scale. */
static json_t *predict(const zero_shot *w, const float *image, const float *classes, size_t top,
                       float scale, size_t *first)
{
    double *scores = calloc(w->nclasses, sizeof *scores), best = -1, sum = 0;
    json_t *list = json_array();
    for (size_t j = 0; scores && j < w->nclasses; j++) {
        for (size_t i = 0; i < w->d; i++) scores[j] += (double)image[i] * (double)classes[j * w->d + i];
        if (scores[j] > best) best = scores[j];
    }
    for (size_t j = 0; scores && j < w->nclasses; j++) sum += exp((double)scale * (scores[j] - best));
    for (size_t n = 0; scores && n < top && n < w->nclasses; n++) {
        size_t at = 0;
        for (size_t j = 1; j < w->nclasses; j++)
            if (scores[j] > scores[at]) at = j;
        if (first && n == 0) *first = at;
        json_array_append_new(list, json_pack("{s:o, s:f, s:f}", "label", cli_text(w->classes[at]), "score",
                                              scores[at], "probability",
                                              exp((double)scale * (scores[at] - best)) / sum));
        scores[at] = -INFINITY;
    }
    free(scores);
    return list;
}

/* Picture i by the mixture: the `top` best classes; their scores are the refined cosines. NULL: the context has the reason. */
static json_t *predict_mixed(cli *c, const zero_shot *z, size_t i, const float *x, const float *y,
                             size_t top, size_t *first)
{
    size_t n = z->nclasses, d = z->d;
    float *plain = calloc(3 * n + 1, sizeof *plain), *refined = plain + n, *p = refined + n;
    reco_votes votes = {z->scores + i * z->reach, z->of + i * z->reach, z->heard + i, z->reach};
    json_t *list = NULL;
    for (size_t j = 0; plain && j < n; j++) {
        double sum[2] = {0};
        for (size_t q = 0; q < d; q++) {
            sum[0] += (double)x[q] * (double)z->plain[j * d + q];
            sum[1] += (double)y[q] * (double)z->refined[j * d + q];
        }
        plain[j] = (float)sum[0];
        refined[j] = (float)sum[1];
    }
    if (plain && reco_mixture_posterior(c->ctx, &z->s.mixture, plain, refined,
                                        zero_shot_votes(z) ? &votes : NULL, 1, n, p) == RECO_OK)
        list = json_array();
    for (size_t m = 0; list && m < top && m < n; m++) {
        size_t at = 0;
        for (size_t j = 1; j < n; j++)
            if (p[j] > p[at]) at = j;
        if (m == 0) *first = at;
        json_array_append_new(list, json_pack("{s:o, s:f, s:f}", "label", cli_text(z->classes[at]), "score",
                                              (double)refined[at], "probability", (double)p[at]));
        p[at] = -1;
    }
    free(plain);
    return list;
}

static void print_rows(const json_t *neighbours, const char *side)
{
    const json_t *list = json_object_get(neighbours, side), *p;
    size_t i;
    if (json_array_size(list) == 0) return;
    printf("  %s like", side);
    json_array_foreach(list, i, p)
    {
        if (i == 5) break;
        fputs(i ? ", " : " ", stdout);
        cli_put(json_string_value(json_object_get(p, "caption")));
        printf(" (%.2f)", json_real_value(json_object_get(p, "score")));
    }
    putchar('\n');
}

static void print_text(const json_t *result)
{
    static const char *const rows[] = {"clip", "cosines", "reco"};
    bool mixed = !json_is_null(json_object_get(result, "cosines"));
    cli_put(json_string_value(json_object_get(result, "image")));
    putchar('\n');
    for (int r = 0; r < 3; r++) {
        size_t i;
        json_t *p;
        if (r == 1 && !mixed) continue;
        printf("  %s ", rows[r]);
        json_array_foreach(json_object_get(result, rows[r]), i, p)
        {
            fputs(i ? ", " : " ", stdout);
            cli_put(json_string_value(json_object_get(p, "label")));
            printf(" %.1f%%", 100 * json_real_value(json_object_get(p, "probability")));
        }
        putchar('\n');
    }
    print_rows(json_object_get(result, "neighbours"), "image");
    print_rows(json_object_get(result, "neighbours"), "text");
}

/* The one picture's predictions; NULL where a row of the bank can't be read. */
static json_t *name_it(cli *c, args *a, pictures *p, size_t i, float scale)
{
    zero_shot *z = &a->z;
    const float *x = p->rows + i * z->d, *y = p->improved + i * z->d;
    size_t first = 0;
    json_t *clip = predict(z, x, z->plain, a->top, scale, NULL),
           *cosines = predict(z, z->s.sides & RECO_SIDES_IMAGE ? y : x, z->refined, a->top, scale, &first),
           *reco = cosines, *found = NULL;
    if (zero_shot_mixes(z))
        reco = predict_mixed(c, z, i, x, y, a->top, &first);
    else
        cosines = json_null();
    if (reco) found = zero_shot_neighbours(c, z, i, first);
    if (!found) {
        json_decref(clip);
        json_decref(reco);
        json_decref(cosines);
        return NULL;
    }
    json_t *result = json_pack("{s:o, s:o, s:o, s:o, s:o}", "image", cli_text(a->images[i]), "clip", clip,
                               "reco", reco, "cosines", cosines, "neighbours", found);
    char *folder = z->images ? zero_shot_folder(z->images, a->images[i]) : NULL;
    if (folder) json_object_set_new(result, "folder", cli_text(folder));
    free(folder);
    return result;
}

static reco_status run(cli *c, args *a, pictures *p, uint64_t *failures)
{
    zero_shot *z = &a->z;
    reco_status status = zero_shot_open(c, z);
    if (status == RECO_OK && z->images) {
        status = reco_list_pictures(c->ctx, z->images, &a->found, &a->nfound);
        free(a->images);
        a->images = (const char **)a->found;
        a->nimages = a->nfound;
    }
    if (status != RECO_OK) return status;
    size_t n = a->nimages;
    p->rows = calloc(n * z->d, sizeof(float));
    p->improved = calloc(n * z->d, sizeof(float));
    p->good = calloc(n, 1);
    if (!p->rows || !p->improved || !p->good) return RECO_E_NOMEM;
    reco_stream_opts stream = {.failure = cli_failure, .user = c};
    status = zero_shot_embed(c, z, n);
    if (status == RECO_OK)
        status = reco_embed_files(c->ctx, z->model, a->images, n, &stream, p->rows, p->good);
    if (status != RECO_OK) return status;
    for (size_t i = 0; i < n && status == RECO_OK; i++)
        if (p->good[i]) status = zero_shot_refine(c, z, p->rows, i, 1, p->improved);
    if (status == RECO_OK) status = zero_shot_vote(c, z, n);
    if (status != RECO_OK) return status;
    float scale = reco_model_get_info(z->model).logit_scale;
    json_t *results = json_array();
    if (!c->json && zero_shot_mixes(z)) {
        fputs("mixture: ", stdout);
        cli_print_mixture(&z->s.mixture);
        putchar('\n');
    }
    if (!c->json && z->s.sides == RECO_SIDES_NONE) printf("refined: %s\n", zero_shot_refined(z));
    for (size_t i = 0; i < n && status == RECO_OK; i++) {
        if (!p->good[i]) {
            ++*failures;
            continue;
        }
        json_t *result = name_it(c, a, p, i, scale);
        if (!result) {
            status = RECO_E_FORMAT; /* the context has the reason */
            break;
        }
        if (c->json)
            json_array_append_new(results, result);
        else {
            print_text(result);
            json_decref(result);
        }
    }
    if (c->json && status == RECO_OK)
        cli_print(json_pack("{s:s, s:o, s:O, s:I, s:I, s:O}", "refined", cli_sides_name(z->s.sides),
                            "mixture", cli_mixture(&z->s.mixture), "results", results, "truncated",
                            (json_int_t)c->truncated, "failures", (json_int_t)*failures, "failed",
                            c->failed));
    json_decref(results);
    return status;
}

int cmd_classify(int argc, char **argv)
{
    cli c = {0};
    args a = {.common = &c, .top = 5};
    pictures p = {0};
    uint64_t failures = 0;
    if (!(a.images = calloc((size_t)argc, sizeof *a.images)) || !cli_begin(&c, argc, argv, &argp, &a)) {
        free(a.images);
        return 1;
    }
    reco_status status = run(&c, &a, &p, &failures);
    free(p.rows), free(p.improved), free(p.good);
    int strict = status == RECO_OK ? cli_skipped(&c, failures, NULL) : 0;
    if (status == RECO_OK) strict |= cli_truncated(&c, a.z.model, c.truncated, "prompt");
    zero_shot_close(&a.z);
    /* With a single picture there is nothing to go on with: what could not be read is the result. */
    if (status == RECO_OK && failures == a.nimages) strict = 1;
    if (a.found)
        reco_lines_free(a.found, a.nfound);
    else
        free(a.images);
    int code = cli_end(&c, status);
    return code ? code : strict;
}
