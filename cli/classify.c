#include "recall.h"
#include "zero_shot.h"

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

static error_t parse_classify_option(int key, char *arg, struct argp_state *state)
{
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->z;
        for (int i = 1; i < 6; i++) state->child_inputs[i] = a->common;
        return 0;
    case KEY_TOP:
        a->top = cli_size(state, "--top", arg, 1, MOST);
        return 0;
    case ARGP_KEY_ARG:
        a->images[a->nimages++] = arg;
        return 0;
    case ARGP_KEY_END:
        cli_need(state, a->nimages || a->z.images ? a : NULL, "IMAGE");
        if (a->nimages && a->z.images) argp_error(state, "--images cannot be used with IMAGE");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"top", KEY_TOP, "N", 0, "Number of classes to print (default: 5)", 2},
    {0},
};
static const struct argp_child children[] = {{&zero_shot_options, 0, NULL, 0},
                                             {&cli_model_options, 0, NULL, 0},
                                             {&cli_strict_option, 0, NULL, 0},
                                             {&cli_server_options, 0, NULL, 0},
                                             {&cli_recall_options, 0, NULL, 0},
                                             {&cli_common, 0, NULL, 0},
                                             {0}};
static const struct argp argp = {
    options,
    parse_classify_option,
    "IMAGE...",
    "Classify pictures: the answer of CLIP alone, the answer with the memory, and what was retrieved.\v"
    "Example:\n  reco classify --model clip/ --bank birds.bank --fusion fusion.safetensors --classes "
    "birds.txt photo.jpg",
    children,
    NULL,
    NULL};

/* The first classes of a picture by one readout. */
typedef struct listing {
    int64_t *of;
    float *p, *score; /* [n][top] */
} listing;

static reco_status list_by(cli *c, const args *a, const reco_mixture *by, listing *l)
{
    size_t places = a->z.found.n * a->top + 1;
    l->of = calloc(places, sizeof *l->of);
    l->p = calloc(places, sizeof *l->p);
    l->score = calloc(places, sizeof *l->score);
    if (!l->of || !l->p || !l->score) return RECO_E_NOMEM;
    return reco_classifier_rank(c->ctx, a->z.classifier, &a->z.found, by,
                                &(reco_ranking){.top = a->top, .of = l->of, .p = l->p, .score = l->score});
}

static json_t *list_json(const args *a, const listing *l, size_t i)
{
    json_t *list = json_array();
    for (size_t t = i * a->top; t < (i + 1) * a->top && l->of[t] >= 0; t++)
        json_array_append_new(list, json_pack("{s:o, s:f, s:f}", "label",
                                              cli_text(zero_shot_name(&a->z, (size_t)l->of[t])), "score",
                                              (double)l->score[t], "probability", (double)l->p[t]));
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

static void print_readouts(const json_t *result)
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

enum { CLIP, COSINES, ANSWER, READOUTS };

/* Picture i's predictions, `at` its place among those that could be read; NULL where a row of the bank can't be read. */
static json_t *name_it(cli *c, args *a, const listing *l, size_t i, size_t at)
{
    zero_shot *z = &a->z;
    json_t *found = zero_shot_neighbours(c, z, at, (size_t)l[ANSWER].of[at * a->top]);
    if (!found) return NULL;
    json_t *result =
        json_pack("{s:o, s:o, s:o, s:o, s:o}", "image", cli_text(a->images[i]), "clip",
                  list_json(a, &l[CLIP], at), "reco", list_json(a, &l[ANSWER], at), "cosines",
                  zero_shot_mixes(z) ? list_json(a, &l[COSINES], at) : json_null(), "neighbours", found);
    char *folder = z->images ? zero_shot_folder(z->images, a->images[i]) : NULL;
    if (folder) json_object_set_new(result, "folder", cli_text(folder));
    free(folder);
    return result;
}

static reco_status print_all(cli *c, args *a, const listing *l, const unsigned char *good,
                             uint64_t failures)
{
    zero_shot *z = &a->z;
    json_t *results = json_array();
    reco_status status = RECO_OK;
    if (!c->json && zero_shot_mixes(z)) {
        fputs("mixture: ", stdout);
        cli_print_mixture(&z->s.mixture);
        putchar('\n');
    }
    if (!c->json && z->s.sides == RECO_SIDES_NONE) printf("refined: %s\n", zero_shot_refined(z));
    for (size_t i = 0, at = 0; i < a->nimages && status == RECO_OK; i++) {
        if (!good[i]) continue;
        json_t *result = name_it(c, a, l, i, at++);
        if (!result)
            status = RECO_E_FORMAT; /* the context has the reason */
        else if (!c->json)
            print_readouts(result);
        json_array_append_new(results, result);
        if (!c->json) json_array_clear(results);
    }
    if (c->json && status == RECO_OK) {
        json_t *answer =
            json_pack("{s:s, s:o, s:O, s:I, s:I, s:O}", "refined", cli_sides_name(z->s.sides), "mixture",
                      cli_mixture(&z->s.mixture), "results", results, "truncated", (json_int_t)c->truncated,
                      "failures", (json_int_t)failures, "failed", c->failed);
        cli_tell_search(c, z->bank, answer);
        cli_print(answer);
    }
    json_decref(results);
    return status;
}

static reco_status run_classify(cli *c, args *a, uint64_t *failures)
{
    zero_shot *z = &a->z;
    listing lists[READOUTS] = {0};
    float *rows = NULL;
    unsigned char *good = NULL;
    reco_status status = zero_shot_open(c, z);
    if (status == RECO_OK)
        status = zero_shot_remember(c, z, z->bank_dir, z->fusion_name, z->memory.k, &z->readout);
    if (status == RECO_OK && z->images) {
        status = reco_list_pictures(c->ctx, z->images, &a->found, &a->nfound);
        free(a->images);
        a->images = (const char **)a->found;
        a->nimages = a->nfound;
    }
    if (status != RECO_OK) return status;
    size_t n = a->nimages, d = z->among.d, read = 0;
    if (!(rows = calloc(n * d, sizeof *rows)) || !(good = calloc(n, 1))) status = RECO_E_NOMEM;
    reco_embed_opts embed = {.failure = cli_failure, .user = c};
    if (status == RECO_OK) status = reco_embed_files(c->ctx, z->model, a->images, n, &embed, rows, good);
    for (size_t i = 0; i < n && status == RECO_OK; i++)
        if (good[i] && read++ < i) memcpy(rows + (read - 1) * d, rows + i * d, d * sizeof *rows);
    *failures = n - read;
    if (status == RECO_OK) status = zero_shot_ask(c, z, rows, NULL, read);
    if (status == RECO_OK) status = list_by(c, a, &zero_shot_clip, &lists[CLIP]);
    if (status == RECO_OK) status = list_by(c, a, &zero_shot_cosines, &lists[COSINES]);
    if (status == RECO_OK) status = list_by(c, a, NULL, &lists[ANSWER]);
    if (status == RECO_OK) status = print_all(c, a, lists, good, *failures);
    for (int r = 0; r < READOUTS; r++) free(lists[r].of), free(lists[r].p), free(lists[r].score);
    free(rows), free(good);
    return status;
}

int cmd_classify(int argc, char **argv)
{
    cli c = {0};
    args a = {.common = &c, .top = 5};
    uint64_t failures = 0;
    if (!(a.images = calloc((size_t)argc, sizeof *a.images)) || !cli_begin(&c, argc, argv, &argp, &a)) {
        free(a.images);
        return 1;
    }
    reco_status status = run_classify(&c, &a, &failures);
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
