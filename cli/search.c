#include "cli.h"

#include <stdlib.h>

enum { KEY_MODEL = 1, KEY_BANK, KEY_IMAGE, KEY_TEXT, KEY_FUSION, KEY_REFINE, KEY_IN, KEY_MIN };

typedef struct args {
    cli *common;
    const char *model, *bank, *image, *text, *fusion;
    reco_sides refine;
    int in; /* reco_side, or -1: the query's own */
    reco_search_opts search;
} args;

static error_t parse(int key, char *arg, struct argp_state *state)
{
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = state->child_inputs[1] = a->common;
        return 0;
    case KEY_MODEL:
        a->model = arg;
        return 0;
    case KEY_BANK:
        a->bank = arg;
        return 0;
    case KEY_IMAGE:
        a->image = arg;
        return 0;
    case KEY_TEXT:
        a->text = arg;
        return 0;
    case KEY_FUSION:
        a->fusion = arg;
        return 0;
    case KEY_REFINE:
        a->refine = cli_sides(state, arg);
        return 0;
    case KEY_IN:
        a->in = *arg == 't' ? RECO_TEXT : RECO_IMAGE;
        if (cli_sides(state, arg) != RECO_SIDES_IMAGE && cli_sides(state, arg) != RECO_SIDES_TEXT)
            argp_error(state, "--in = %s, want image or text", arg);
        return 0;
    case KEY_MIN:
        a->search.min_similarity = (float)cli_number(state, "--min-similarity", arg, -1, 1);
        a->search.use_min = 1;
        return 0;
    case 'k':
        a->search.k = cli_size(state, "k", arg, 1, RECO_BANK_MAX_K);
        return 0;
    case ARGP_KEY_END:
        cli_need(state, a->model, "--model");
        cli_need(state, a->bank, "--bank");
        if (!a->image == !a->text) argp_error(state, "want one of --image and --text");
        if (a->refine != RECO_SIDES_NONE && a->refine != RECO_SIDES_DEFAULT)
            cli_need(state, a->fusion, "--fusion");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"model", KEY_MODEL, "DIR", 0, "Model folder", 1},
    {"bank", KEY_BANK, "BANK", 0, "The memory", 1},
    {"image", KEY_IMAGE, "FILE", 0, "Look for what is like this picture", 1},
    {"text", KEY_TEXT, "TEXT", 0, "Look for what is like this text", 1},
    {"k", 'k', "K", 0, "How many to find (default 10)", 1},
    {"in", KEY_IN, "image|text", 0, "Search the pictures or the captions (default: what the query is)", 2},
    {"min-similarity", KEY_MIN, "S", 0, "Only what has at least this cosine", 2},
    {"fusion", KEY_FUSION, "FILE|NAME", 0, "Refine the query first, with this layer", 2},
    {"refine", KEY_REFINE, "SIDES", 0,
     "image, text, both, none or auto (default: auto, what training chose)", 2},
    {0},
};
static const struct argp_child children[] = {
    {&cli_model_options, 0, NULL, 0}, {&cli_common, 0, NULL, 0}, {0}};
static const struct argp argp = {
    options,
    parse,
    NULL,
    "Find the pairs of the memory that are nearest to a picture or a text.\v"
    "Example:\n  reco search --model clip/ --bank shop.bank --text \"red kettle\" -k 5\n"
    "  reco search --model clip/ --bank shop.bank --image photo.jpg --in text",
    children,
    NULL,
    NULL};

static reco_status embed(cli *c, const args *a, const reco_model *model, float *query)
{
    if (a->text) return reco_model_embed_texts(c->ctx, model, &a->text, 1, query);
    size_t side = reco_model_get_info(model).image_size;
    float *pixels = malloc(3 * side * side * sizeof *pixels);
    reco_status status = pixels ? reco_model_pixels(c->ctx, model, a->image, NULL, pixels) : RECO_E_NOMEM;
    if (status == RECO_OK) status = reco_model_embed_pixels(c->ctx, model, pixels, 1, query);
    free(pixels);
    return status;
}

static reco_status print(cli *c, const reco_bank *bank, const int64_t *ids, const float *scores, size_t n,
                         bool refined)
{
    json_t *hits = json_array();
    for (size_t i = 0; i < n; i++) {
        reco_pair pair;
        reco_status status = reco_bank_get(c->ctx, bank, ids[i], &pair);
        if (status != RECO_OK) {
            json_decref(hits);
            return status;
        }
        if (c->json)
            json_array_append_new(
                hits, json_pack("{s:I, s:f, s:s?, s:s?, s:o}", "id", (json_int_t)pair.id, "score",
                                (double)scores[i], "caption", pair.caption, "uri", pair.uri, "meta",
                                pair.meta ? json_loads(pair.meta, 0, NULL) : json_null()));
        else
            printf("%.4f  %8lld  %s%s%s\n", (double)scores[i], (long long)pair.id, pair.caption,
                   pair.uri ? "  " : "", pair.uri ? pair.uri : "");
        reco_pair_free(&pair);
    }
    if (c->json)
        cli_print(json_pack("{s:b, s:o}", "refined", refined, "hits", hits));
    else
        json_decref(hits);
    return RECO_OK;
}

static reco_status run(cli *c, args *a, reco_model **model, reco_bank **bank, reco_fusion **fusion,
                       float **query)
{
    reco_status status = cli_open_model(c, model, a->model);
    if (status == RECO_OK) status = cli_open_memory(c, *model, bank, a->bank, fusion, a->fusion, 0);
    if (status != RECO_OK) return status;
    if (!(*query = calloc(reco_model_get_info(*model).d, sizeof(float)))) return RECO_E_NOMEM;
    reco_side side = a->text ? RECO_TEXT : RECO_IMAGE;
    status = embed(c, a, *model, *query);
    if (status != RECO_OK) return status;
    reco_sides sides = a->refine;
    if (sides == RECO_SIDES_DEFAULT)
        sides = a->fusion ? reco_fusion_get_config(*fusion).sides : RECO_SIDES_NONE;
    bool refined = a->fusion && ((int)sides >> side & 1);
    reco_hits none = {0};
    if (refined) status = reco_refine(c->ctx, *bank, *fusion, side, *query, 1, NULL, *query, none);
    if (status != RECO_OK) return status;
    int64_t ids[RECO_BANK_MAX_K];
    float scores[RECO_BANK_MAX_K];
    size_t n;
    reco_hits hits = {ids, scores, &n};
    status =
        reco_bank_search(c->ctx, *bank, a->in < 0 ? side : (reco_side)a->in, *query, 1, &a->search, hits);
    return status == RECO_OK ? print(c, *bank, ids, scores, n, refined) : status;
}

int cmd_search(int argc, char **argv)
{
    cli c = {0};
    args a = {.common = &c, .refine = RECO_SIDES_DEFAULT, .in = -1, .search = {.k = 10}};
    if (!cli_begin(&c, argc, argv, &argp, &a)) return 1;
    reco_model *model = NULL;
    reco_bank *bank = NULL;
    reco_fusion *fusion = NULL;
    float *query = NULL;
    reco_status status = run(&c, &a, &model, &bank, &fusion, &query);
    free(query);
    reco_fusion_free(fusion);
    reco_bank_close(bank);
    reco_model_close(model);
    return cli_end(&c, status);
}
