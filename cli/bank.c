#include "cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_MODEL = 1, KEY_PAIRS, KEY_EMBEDDINGS, KEY_OUT, KEY_ID, KEY_URI, KEY_BATCH };

typedef struct args {
    cli *common;
    const char *verb, *model, *pairs, *embeddings, *out;
    int64_t *ids;
    const char **uris;
    size_t nids, nuris;
    bool more_ids, more_uris; /* plain arguments after --id and --uri belong to it */
    reco_stream_opts stream;
} args;

static void add_id(args *a, struct argp_state *state, const char *arg)
{
    a->ids[a->nids++] = (int64_t)cli_size(state, "--id", arg, 0, INT64_MAX);
    a->more_ids = true;
    a->more_uris = false;
}

static void add_uri(args *a, const char *arg)
{
    a->uris[a->nuris++] = arg;
    a->more_uris = true;
    a->more_ids = false;
}

/* `bank delete BANK --id 1 2 3`: the bank is the first plain argument that no list before it has taken. */
static void plain(args *a, struct argp_state *state, const char *arg)
{
    if (!a->verb)
        a->verb = arg;
    else if (a->more_ids && a->out)
        add_id(a, state, arg);
    else if (a->more_uris && a->out)
        add_uri(a, arg);
    else if (!a->out)
        a->out = arg;
    else
        argp_error(state, "what is \"%s\"?", arg);
}

static void check(args *a, struct argp_state *state)
{
    const char *verb = a->verb ? a->verb : "";
    bool build = strcmp(verb, "build") == 0, add = strcmp(verb, "add") == 0,
         delete = strcmp(verb, "delete") == 0;
    if (!build && !add && !delete &&strcmp(verb, "info") != 0)
        argp_error(state, "want: bank build, add, delete, compact, verify or info");
    cli_need(state, a->out, build ? "--out" : "BANK");
    if ((build || add) && !a->pairs == !a->embeddings)
        argp_error(state, "want one of --pairs and --embeddings");
    if (a->pairs) cli_need(state, a->model, "--model");
    if (delete &&!a->nids && !a->nuris) argp_error(state, "want --id or --uri");
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = state->child_inputs[1] = a->common;
        state->child_inputs[2] = state->child_inputs[3] = a->common;
        return 0;
    case KEY_MODEL:
        a->model = arg;
        break;
    case KEY_PAIRS:
        a->pairs = arg;
        break;
    case KEY_EMBEDDINGS:
        a->embeddings = arg;
        break;
    case KEY_OUT:
        a->out = arg;
        break;
    case KEY_BATCH:
        a->stream.batch = cli_size(state, "--batch", arg, 1, 4096);
        break;
    case KEY_ID:
        add_id(a, state, arg);
        return 0;
    case KEY_URI:
        add_uri(a, arg);
        return 0;
    case ARGP_KEY_ARG:
        plain(a, state, arg);
        return 0;
    case ARGP_KEY_END:
        check(a, state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    a->more_ids = a->more_uris = false;
    return 0;
}

static const struct argp_option options[] = {
    {"model", KEY_MODEL, "DIR", 0, "Model folder (with --pairs)", 1},
    {"pairs", KEY_PAIRS, "FILE", 0, "CSV or JSONL with columns image and text; others are kept as JSON", 1},
    {"embeddings", KEY_EMBEDDINGS, "DIR", 0,
     "img_emb/, text_emb/, metadata/, embedded elsewhere; no model needed", 1},
    {"out", KEY_OUT, "BANK", 0, "The bank to build", 1},
    {"id", KEY_ID, "N", 0, "Delete these rows (more may follow)", 2},
    {"uri", KEY_URI, "U", 0, "Delete the rows of this image, as the pairs named it (more may follow)", 2},
    {"batch", KEY_BATCH, "N", 0, "Pictures in flight (default 64)", 3},
    {0},
};
static const struct argp_child children[] = {{&cli_model_options, 0, NULL, 0},
                                             {&cli_strict_option, 0, NULL, 0},
                                             {&cli_wait_option, 0, NULL, 0},
                                             {&cli_common, 0, NULL, 0},
                                             {0}};
static const struct argp argp = {
    options,
    parse,
    "build --out BANK\nadd BANK\ndelete BANK\ninfo BANK\ncompact BANK\nverify BANK",
    "Build, extend, shrink or describe the memory. An interrupted build or add goes on when it is run "
    "again.\v"
    "Example:\n  reco bank build --model clip/ --pairs products.csv --out shop.bank\n"
    "  reco bank add --model clip/ --pairs new.csv shop.bank\n"
    "  reco bank delete shop.bank --uri img/0815.jpg\n  reco bank info shop.bank",
    children,
    NULL,
    NULL};

static reco_status ingest(cli *c, args *a, bool build, int *code)
{
    reco_model *model = NULL;
    reco_stream_result r = {0};
    reco_status status = RECO_OK;
    if (a->pairs) {
        status = cli_open_model(c, &model, a->model);
        if (status == RECO_OK)
            status = reco_bank_ingest_pairs(c->ctx, model, a->pairs, a->out, build, &a->stream, &r);
    } else {
        status = reco_bank_ingest_embeddings(c->ctx, a->embeddings, a->out, build, &a->stream, &r);
    }
    reco_model_close(model);
    if (status != RECO_OK) return status;
    reco_bank *bank = NULL;
    status = reco_bank_open(c->ctx, &bank, a->out);
    if (status != RECO_OK) return status;
    reco_bank_info info = reco_bank_get_info(bank);
    reco_bank_close(bank);
    *code = cli_skipped(c, r.failures, "failures.jsonl");
    if (c->json)
        cli_print(json_pack("{s:I, s:I, s:I, s:I, s:O, s:I, s:f}", "added", (json_int_t)r.rows,
                            "duplicates", (json_int_t)r.duplicates, "resumed", (json_int_t)r.resumed,
                            "failures", (json_int_t)r.failures, "failed", c->failed, "rows",
                            (json_int_t)info.rows, "seconds", r.seconds));
    else
        printf("%llu pairs added, %llu already there, %llu skipped; %lld rows in %s\n",
               (unsigned long long)r.rows, (unsigned long long)r.duplicates, (unsigned long long)r.failures,
               (long long)info.rows, a->out);
    return RECO_OK;
}

static reco_status delete (cli *c, const args *a)
{
    uint64_t deleted, missing;
    reco_status status =
        reco_bank_delete(c->ctx, a->out, a->ids, a->nids, a->uris, a->nuris, &deleted, &missing);
    if (status != RECO_OK) return status;
    if (c->json)
        cli_print(json_pack("{s:I, s:I}", "deleted", (json_int_t)deleted, "missing", (json_int_t)missing));
    else
        printf("%llu rows deleted, %llu not there\n", (unsigned long long)deleted,
               (unsigned long long)missing);
    return RECO_OK;
}

static reco_status describe(cli *c, const args *a)
{
    reco_bank *bank = NULL;
    reco_status status = reco_bank_open(c->ctx, &bank, a->out);
    if (status != RECO_OK) return status;
    reco_bank_info i = reco_bank_get_info(bank);
    reco_bank_close(bank);
    if (c->json)
        cli_print(json_pack("{s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:s, s:s, s:f}", "format", i.format,
                            "dimensions", (json_int_t)i.d, "rows", (json_int_t)i.rows, "deleted",
                            (json_int_t)i.deleted, "next_id", (json_int_t)i.next_id, "segments",
                            (json_int_t)i.segments, "vector_bytes", (json_int_t)i.vector_bytes, "complete",
                            i.complete, "encoder", i.encoder, "fingerprint", i.fingerprint, "logit_scale",
                            (double)i.logit_scale));
    else
        printf("rows         %lld (%lld deleted), next id %lld\ndimensions   %zu\nsegments     %zu, %.1f "
               "MB of vectors\n"
               "encoder      %s %s\nformat       %d%s\n",
               (long long)i.rows, (long long)i.deleted, (long long)i.next_id, i.d, i.segments,
               (double)i.vector_bytes / 1e6, *i.encoder ? i.encoder : "not recorded", i.fingerprint,
               i.format, i.complete ? "" : ", unfinished: run the same build again");
    return RECO_OK;
}

int cmd_bank(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "compact") == 0)
        return argv[1] = "reco bank compact", cmd_bank_compact(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "verify") == 0)
        return argv[1] = "reco bank verify", cmd_bank_verify(argc - 1, argv + 1);
    cli c = {0};
    args a = {.common = &c, .stream = {.failure = cli_failure, .user = &c}};
    a.ids = calloc((size_t)argc, sizeof *a.ids);
    a.uris = calloc((size_t)argc, sizeof *a.uris);
    int code = 0;
    reco_status status = RECO_E_NOMEM;
    if (!a.ids || !a.uris || !cli_begin(&c, argc, argv, &argp, &a)) {
        free(a.ids);
        free(a.uris);
        return 1;
    }
    if (strcmp(a.verb, "info") == 0)
        status = describe(&c, &a);
    else if (strcmp(a.verb, "delete") == 0)
        status = delete (&c, &a);
    else
        status = ingest(&c, &a, strcmp(a.verb, "build") == 0, &code);
    free(a.ids);
    free(a.uris);
    int ended = cli_end(&c, status);
    return ended ? ended : code;
}
