#include "recall.h"
#include "search.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    KEY_MODEL = 0x100,
    KEY_BANK,
    KEY_IMAGE,
    KEY_TEXT,
    KEY_NEAR,
    KEY_QUERIES,
    KEY_OUT,
    KEY_WHERE,
    KEY_FUSION,
    KEY_REFINE,
    KEY_IN,
    KEY_SIDE,
    KEY_MIN,
    KEY_ENCODER,
    KEY_DISTINCT,
    KEY_MIXTURE,
    KEY_OWN
};

static void add_query(cli_search *a, query_kind kind, const char *text, int64_t id)
{
    a->queries[a->n++] = (cli_query){kind, text, id};
}

static void check_search_args(cli_search *a, struct argp_state *state)
{
    bool embeds = false;
    for (size_t i = 0; i < a->n; i++) embeds |= a->queries[i].kind != QUERY_ROW;
    cli_need(state, a->bank, "--bank");
    if (a->file) {
        if (a->n) argp_error(state, "--queries cannot be used with --image, --text or --near");
        if (a->in < 0) argp_error(state, "--side is missing");
        cli_need(state, a->out, "--out");
    }
    if (a->n == 0 && !a->file) argp_error(state, "want --image, --text, --near or --queries");
    if (!a->file && (a->out || a->encoder || a->own >= 0))
        argp_error(state, "%s needs --queries",
                   a->out       ? "--out"
                   : a->encoder ? "--encoder"
                                : "--query-side");
    if (embeds) cli_need(state, a->model, "--model");
    if (a->readout.how || (a->memory.sides != RECO_SIDES_NONE && a->memory.sides != RECO_SIDES_DEFAULT))
        cli_need(state, a->fusion, "--fusion");
}

static error_t parse_search_option(int key, char *arg, struct argp_state *state)
{
    cli_search *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        for (int i = 0; i < 5; i++) state->child_inputs[i] = a->common;
        return 0;
    case KEY_MODEL:
        a->model = arg;
        return 0;
    case KEY_BANK:
        a->bank = arg;
        return 0;
    case KEY_IMAGE:
        add_query(a, QUERY_IMAGE, arg, -1);
        return 0;
    case KEY_TEXT:
        add_query(a, QUERY_TEXT, arg, -1);
        return 0;
    case KEY_NEAR:
        add_query(a, QUERY_ROW, arg, (int64_t)cli_size(state, "--near", arg, 0, INT64_MAX));
        return 0;
    case KEY_QUERIES:
        a->file = arg;
        return 0;
    case KEY_DISTINCT:
        a->find.distinct = 1;
        return 0;
    case KEY_ENCODER:
        a->encoder = arg;
        return 0;
    case KEY_OUT:
        a->out = arg;
        return 0;
    case KEY_WHERE:
        a->where = arg;
        return 0;
    case KEY_FUSION:
        a->fusion = arg;
        return 0;
    case KEY_REFINE:
        a->memory.sides = cli_sides(state, arg);
        return 0;
    case KEY_IN:
    case KEY_SIDE:
        a->in = (int)cli_side(state, key == KEY_IN ? "--in" : "--side", arg);
        return 0;
    case KEY_OWN:
        a->own = (int)cli_side(state, "--query-side", arg);
        return 0;
    case KEY_MIXTURE:
        cli_parse_readout(state, &a->readout, arg);
        return 0;
    case KEY_MIN:
        a->find.min_similarity = cli_similarity(state, "--min-similarity", arg);
        return 0;
    case 'k':
        a->find.k = cli_size(state, "k", arg, 1, RECO_BANK_MAX_K);
        return 0;
    case ARGP_KEY_END:
        check_search_args(a, state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"model", KEY_MODEL, "DIR", 0, "Model folder (with --image or --text)", 1},
    {"bank", KEY_BANK, "BANK", 0, "The bank", 1},
    {"image", KEY_IMAGE, "FILE", 0, "Find rows similar to this picture (may be given again)", 1},
    {"text", KEY_TEXT, "TEXT", 0, "Find rows similar to this text (may be given again)", 1},
    {"near", KEY_NEAR, "ID", 0, "Find rows similar to this row, without the row itself", 1},
    {"k", 'k', "K", 0, "Number of rows to find (default: 10, at most 1024)", 1},
    {"distinct", KEY_DISTINCT, NULL, 0,
     "Show each picture only once, with its best row, however many captions it has", 1},
    {"where", KEY_WHERE, "SQL", 0, "Only rows that satisfy this condition on id, caption, uri and meta", 2},
    {"in", KEY_IN, "image|text", 0, "Search the pictures or the captions (default: the query's own side)",
     2},
    {"min-similarity", KEY_MIN, "S", 0, "Only rows with at least this cosine", 2},
    {"fusion", KEY_FUSION, "FILE|NAME", 0, "Refine the query with this layer first", 2},
    {"refine", KEY_REFINE, "SIDES", 0,
     "Sides to refine: image, text, both, none or auto (default: auto, as training chose)", 2},
    {"mixture", KEY_MIXTURE, "HOW", 0, CLI_MIXTURE_HELP, 2},
    {"queries", KEY_QUERIES, "NPY", 0, "Embeddings to search with, [n][d]; no model is needed", 3},
    {"side", KEY_SIDE, "image|text", 0, "Search the pictures or the captions (with --queries)", 3},
    {"query-side", KEY_OWN, "image|text", 0,
     "The side of the embeddings (with --queries and --fusion; default: that of --side)", 3},
    {"encoder", KEY_ENCODER, "NAME|DIR", 0,
     "The encoder of the embeddings, as a name or a model folder, if no reco.json names it (with "
     "--queries)",
     3},
    {"out", KEY_OUT, "DIR", 0, "Folder for ids.npy and scores.npy (with --queries)", 3},
    {0},
};
static const struct argp_child children[] = {
    {&cli_model_options, 0, NULL, 0},  {&cli_strict_option, 0, NULL, 0}, {&cli_server_options, 0, NULL, 0},
    {&cli_recall_options, 0, NULL, 0}, {&cli_common, 0, NULL, 0},        {0}};
static const struct argp argp = {
    options,
    parse_search_option,
    NULL,
    "Find the pairs of a bank that are nearest to pictures, texts or embeddings.\v"
    "Example:\n  reco search --model clip/ --bank shop.bank --text \"red kettle\" -k 5\n"
    "  reco search --model clip/ --bank shop.bank --image photo.jpg --in text\n"
    "  reco search --bank shop.bank --near 815 --where \"brand = 'Fiat'\"\n"
    "  reco search --bank shop.bank --queries q.npy --side image --out hits/",
    children,
    NULL,
    NULL};

static void unit(float *x, size_t d)
{
    double sum = 0;
    for (size_t i = 0; i < d; i++) sum += (double)x[i] * (double)x[i];
    for (size_t i = 0; i < d && sum > 0; i++) x[i] = (float)((double)x[i] / sqrt(sum));
}

reco_sides cli_query_sides(const cli_query *queries, size_t n)
{
    int sides = 0;
    for (size_t i = 0; i < n; i++)
        if (queries[i].kind != QUERY_ROW)
            sides |= queries[i].kind == QUERY_TEXT ? RECO_SIDES_TEXT : RECO_SIDES_IMAGE;
    return sides ? (reco_sides)sides : RECO_SIDES_BOTH;
}

reco_status cli_embed_query(cli *c, const reco_model *model, const reco_bank *bank, const cli_query *q,
                            reco_side side, float *out)
{
    size_t d = reco_bank_get_info(bank)->d;
    if (q->kind == QUERY_TEXT) {
        unsigned char cut = 0;
        reco_status done = reco_model_embed_texts(c->ctx, model, &q->text, 1, out, &cut);
        c->truncated += done == RECO_OK && cut;
        return done;
    }
    if (q->kind == QUERY_ROW) {
        reco_pair pair; /* gathering from a folder would find rows that are deleted too */
        reco_status status = RECO_OK;
        if (!reco_bank_get_info(bank)->shards) {
            status = reco_bank_get(c->ctx, bank, q->id, &pair);
            if (status == RECO_OK) reco_pair_free(&pair);
        }
        if (status == RECO_OK) status = reco_bank_gather(c->ctx, bank, side, &q->id, 1, out);
        if (status == RECO_OK) unit(out, d);
        return status;
    }
    size_t edge = reco_model_get_info(model)->image_size;
    float *pixels = malloc(3 * edge * edge * sizeof *pixels);
    reco_status status = pixels ? reco_model_pixels(c->ctx, model, q->text, NULL, pixels) : RECO_E_NOMEM;
    if (status == RECO_OK) status = reco_model_embed_pixels(c->ctx, model, pixels, 1, out);
    free(pixels);
    return status;
}

/* Rows that were found, as an array or as lines of text; those of a mixture show their cosines, too. */
static void print(const cli *c, const reco_answer *list, bool mixed, json_t *hits)
{
    for (size_t i = 0; i < *list->counts; i++) {
        reco_pair pair = list->pairs[i];
        if (c->json) {
            json_t *hit = answer_row(&pair);
            json_object_set_new(hit, "score", answer_score(list->scores[i]));
            if (mixed) json_object_set_new(hit, "plain", answer_score(list->plain[i]));
            if (mixed) json_object_set_new(hit, "refined", answer_score(list->refined[i]));
            json_array_append_new(hits, hit);
        } else {
            printf("%.4f  ", (double)list->scores[i]);
            if (mixed) printf("%.4f  %.4f  ", (double)list->plain[i], (double)list->refined[i]);
            printf("%8lld  ", (long long)pair.id);
            cli_put(pair.caption);
            if (pair.uri) fputs("  ", stdout);
            if (pair.uri) cli_put(pair.uri);
            putchar('\n');
        }
        reco_pair_free(&pair);
    }
}

/* Search for one query; its result goes to *out with --json. */
static reco_status search_query(cli *c, const cli_search *a, const cli_query *q, const reco_model *model,
                                const reco_bank *bank, float *x, json_t **out)
{
    reco_side own = q->kind == QUERY_TEXT ? RECO_TEXT : RECO_IMAGE,
              side = a->in < 0 ? own : (reco_side)a->in;
    if (q->kind == QUERY_ROW) own = side;
    reco_status status = cli_embed_query(c, model, bank, q, own, x);
    if (status != RECO_OK) return status;
    int64_t ids[RECO_BANK_MAX_K];
    float scores[3][RECO_BANK_MAX_K];
    reco_pair pairs[RECO_BANK_MAX_K];
    size_t n;
    reco_settings settings;
    reco_memory_settle(&a->memory, own, side, &settings);
    bool mixed = settings.mixture.scale[0] > 0;
    reco_answer list = {.ids = ids,
                        .scores = scores[0],
                        .counts = &n,
                        .plain = scores[1],
                        .refined = scores[2],
                        .pairs = pairs};
    if (!mixed) list.plain = list.refined = NULL;
    reco_question question = {
        .side = own, .x = x, .n = 1, .exclude = &q->id, .nexclude = q->kind == QUERY_ROW};
    reco_find_opts find = a->find;
    find.in = side;
    status = reco_ask(c->ctx, &a->memory, &question, &find, &list);
    if (status != RECO_OK) return status;
    json_t *hits = json_array();
    if (mixed && !c->json && n) puts("p       plain   refined");
    print(c, &list, mixed, hits);
    *out = json_pack("{s:b, s:o, s:o}", "refined", (int)settings.sides >> own & 1, "mixture",
                     cli_mixture(&settings.mixture), "hits", hits);
    return status;
}

/* Whether a text query was cut is said of it. */
static void tell_cut(json_t *result, const cli_query *q, bool cut)
{
    if (q->kind == QUERY_TEXT) json_object_set_new(result, "truncated", json_boolean(cut));
}

static reco_status search_all(cli *c, const cli_search *a, const reco_model *model, const reco_bank *bank,
                              float *x, uint64_t *failures)
{
    static const char *const names[] = {"image", "text", "near"};
    json_t *results = json_array(), *one = NULL;
    reco_status status = RECO_OK;
    for (size_t i = 0; i < a->n && status == RECO_OK; i++) {
        const cli_query *q = &a->queries[i];
        if (a->n > 1 && !c->json) cli_say("%s %s", names[q->kind], q->text);
        uint64_t before = c->truncated;
        status = search_query(c, a, q, model, bank, x, &one);
        if (one) tell_cut(one, q, c->truncated > before);
        if (a->n == 1) break;
        if (!one) one = json_pack("{s:b, s:n, s:[]}", "refined", 0, "mixture", "hits");
        json_object_set_new(one, names[q->kind],
                            q->kind == QUERY_ROW ? json_integer(q->id) : cli_text(q->text));
        if (status == RECO_E_IO || status == RECO_E_FORMAT || status == RECO_E_NOTFOUND) {
            cli_failure(c, i, q->text, reco_ctx_error(c->ctx));
            json_object_set_new(one, "error", cli_text(reco_ctx_error(c->ctx)));
            ++*failures;
            status = RECO_OK;
        }
        json_array_append_new(results, one);
        one = NULL;
    }
    if (status == RECO_OK && c->json) {
        json_t *answer = a->n == 1 ? json_incref(one) : json_pack("{s:O}", "results", results);
        cli_tell_search(c, bank, answer);
        cli_print(answer);
    }
    json_decref(one);
    json_decref(results);
    return status;
}

/* What the options leave to the layer. */
static void use_fusion(cli_search *a, const reco_fusion *fusion, float scale)
{
    a->memory.fusion = fusion;
    if (a->memory.sides == RECO_SIDES_DEFAULT) a->memory.sides = reco_fusion_get_config(fusion)->sides;
    cli_set_mixture(&a->readout, &a->memory, scale);
}

static reco_status run_search(cli *c, cli_search *a, reco_model **model, reco_bank **bank,
                              reco_fusion **fusion, reco_bank_filter **filter, uint64_t *failures)
{
    reco_status status = RECO_OK;
    if (a->file)
        status =
            cli_output(c, a->out, RECO_OUT_FOLDER, a->model, (const char *const[]){a->bank, a->file}, 2);
    if (status == RECO_OK && a->model)
        status = cli_open_model(c, model, a->model, cli_query_sides(a->queries, a->n));
    if (status == RECO_OK) status = cli_open_memory(c, *model, bank, a->bank, fusion, a->fusion, 0);
    if (status == RECO_OK && a->where) status = reco_bank_filter_where(c->ctx, filter, *bank, a->where);
    if (status != RECO_OK) return status;
    a->memory.bank = *bank;
    a->memory.filter = *filter;
    if (*fusion) use_fusion(a, *fusion, reco_bank_get_info(*bank)->logit_scale);
    if (a->file) return cli_search_file(c, a, failures);
    float *x = calloc(reco_bank_get_info(*bank)->d, sizeof *x);
    if (!x) return RECO_E_NOMEM;
    status = search_all(c, a, *model, *bank, x, failures);
    free(x);
    return status;
}

int cmd_search(int argc, char **argv)
{
    cli c = {0};
    cli_search a = {.common = &c,
                    .in = -1,
                    .own = -1,
                    .memory = RECO_MEMORY_INIT,
                    .find = {.k = 10, .min_similarity = -1}};
    a.queries = calloc((size_t)argc, sizeof *a.queries);
    if (!a.queries || !cli_begin(&c, argc, argv, &argp, &a)) {
        free(a.queries);
        return 1;
    }
    reco_model *model = NULL;
    reco_bank *bank = NULL;
    reco_fusion *fusion = NULL;
    reco_bank_filter *filter = NULL;
    uint64_t failures = 0;
    reco_status status = run_search(&c, &a, &model, &bank, &fusion, &filter, &failures);
    int code = status == RECO_OK ? cli_skipped(&c, failures, NULL) : 0;
    if (status == RECO_OK && failures && failures == (a.file ? a.nrows : a.n))
        code = 1; /* nothing worked */
    uint64_t repaired = 0;
    for (size_t i = 0; i < a.n && status == RECO_OK; i++)
        repaired += a.queries[i].kind == QUERY_TEXT && cli_not_utf8(a.queries[i].text);
    cli_repaired(&c, repaired);
    if (status == RECO_OK) code |= cli_truncated(&c, model, c.truncated, "text");
    free(a.queries);
    reco_bank_filter_free(filter);
    reco_fusion_free(fusion);
    reco_bank_close(bank);
    reco_model_close(model);
    int ended = cli_end(&c, status);
    return ended ? ended : code;
}
