#include "cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    KEY_MODEL = 0x100,
    KEY_PAIRS,
    KEY_EMBEDDINGS,
    KEY_TARS,
    KEY_DEDUP,
    KEY_OUT,
    KEY_BATCH,
    KEY_COMMIT,
    KEY_SEVERAL,
    KEY_ENCODER,
    KEY_KEY,
    KEY_SHARD
};

typedef struct args {
    cli *common;
    const char *verb, *model, *pairs, *embeddings, *out, *key;
    const char **tars;
    size_t ntars;
    bool more_tars; /* plain arguments after --tars belong to it */
    reco_ingest_opts ingest;
} args;

static void take_bank_argument(args *a, struct argp_state *state, const char *arg)
{
    if (!a->verb)
        a->verb = arg;
    else if (a->more_tars)
        a->tars[a->ntars++] = arg;
    else if (!a->out)
        a->out = arg;
    else
        cli_stray(state, arg);
}

static void check_bank_args(args *a, struct argp_state *state)
{
    const char *verb = a->verb ? a->verb : "";
    bool build = strcmp(verb, "build") == 0;
    bool update = strcmp(verb, "update") == 0;
    if (!build && !update && strcmp(verb, "add") != 0)
        argp_error(state, "want bank build, add, update, delete, undelete, list, get, export, index, info, "
                          "compact, merge or verify");
    cli_need(state, a->out, build ? "--out" : "BANK");
    if ((a->pairs != NULL) + (a->embeddings != NULL) + (a->ntars > 0) != 1)
        argp_error(state, "want one of --pairs, --tars and --embeddings");
    if (update && !a->pairs) argp_error(state, "update needs --pairs");
    if (update && a->ingest.dedup > 0) argp_error(state, "update takes no --dedup");
    if (a->ingest.shard.of && update) argp_error(state, "--shard is for build and add");
    if (a->key && !update) argp_error(state, "--key is for update");
    if (a->pairs || a->ntars) cli_need(state, a->model, "--model");
    if (a->ingest.encoder && !a->embeddings) argp_error(state, "--encoder needs --embeddings");
}

static error_t parse_bank_option(int key, char *arg, struct argp_state *state)
{
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = state->child_inputs[1] = a->common;
        state->child_inputs[2] = state->child_inputs[3] = a->common;
        state->child_inputs[4] = a->common;
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
    case KEY_TARS:
        a->tars[a->ntars++] = arg;
        a->more_tars = true;
        return 0;
    case KEY_DEDUP:
        a->ingest.dedup = (float)cli_number(state, "--dedup", arg, 1e-6, 1);
        break;
    case KEY_SEVERAL:
        a->ingest.several_captions = 1;
        break;
    case KEY_KEY:
        a->key = arg;
        break;
    case KEY_ENCODER:
        a->ingest.encoder = arg;
        break;
    case KEY_SHARD:
        cli_shard(state, arg, &a->ingest.shard);
        break;
    case KEY_OUT:
        a->out = arg;
        break;
    case KEY_BATCH:
        a->ingest.embed.batch = cli_size(state, "--batch", arg, 1, 4096);
        break;
    case KEY_COMMIT:
        a->ingest.commit = cli_size(state, "--commit", arg, 1, 1 << 20);
        break;
    case ARGP_KEY_ARG:
        take_bank_argument(a, state, arg);
        return 0;
    case ARGP_KEY_END:
        check_bank_args(a, state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    a->more_tars = false;
    return 0;
}

static const struct argp_option options[] = {
    {"model", KEY_MODEL, "DIR", 0,
     "Model folder (with --pairs or --tars; with --embeddings, it embeds the side that is missing)", 1},
    {"pairs", KEY_PAIRS, "FILE", 0,
     "CSV, TSV, JSONL or JSON file with a picture column and a caption column; other columns are kept as "
     "JSON",
     1},
    {"tars", KEY_TARS, "TAR", 0,
     "webdataset tars, compressed or not, or patterns such as x-{000..009}.tar and {a,b}-*.tar (more may "
     "follow; BANK comes first)",
     1},
    {"embeddings", KEY_EMBEDDINGS, "DIR", 0,
     "Existing embeddings: img_emb/, text_emb/ and metadata/; a model embeds the side that is missing", 1},
    {"encoder", KEY_ENCODER, "NAME|DIR", 0,
     "The encoder of the embeddings, as a name or a model folder, if no reco.json names it (with "
     "--embeddings)",
     1},
    {"key", KEY_KEY, "COLUMN", 0,
     "Column that identifies the row to update (with update; default: the picture)", 1},
    {"out", KEY_OUT, "BANK", 0, "The bank to build", 1},
    {"shard", KEY_SHARD, "I/N", 0, CLI_SHARD_HELP, 1},
    {"dedup", KEY_DEDUP, "S", 0,
     "Drop pairs whose picture has at least this cosine to one already in the bank", 3},
    {"several-captions", KEY_SEVERAL, NULL, 0,
     "Allow several captions per picture (default: a second caption is a bad row)", 3},
    {"batch", KEY_BATCH, "N", 0, "Number of pictures processed at a time (default: 64, or 16 per thread)",
     3},
    {"commit", KEY_COMMIT, "N", 0,
     "Commit to the bank every N rows (default: 2048; with --embeddings, 65536 or more in a large bank)",
     3},
    {0},
};
static const struct argp_child children[] = {
    {&cli_model_options, 0, NULL, 0}, {&cli_strict_option, 0, NULL, 0}, {&cli_wait_option, 0, NULL, 0},
    {&cli_table_options, 0, NULL, 0}, {&cli_common, 0, NULL, 0},        {0}};
static const struct argp argp = {
    options,
    parse_bank_option,
    "build --out BANK\nadd BANK\nupdate BANK",
    "Build, extend or update a bank. An interrupted run resumes when the command is run again. Other "
    "commands: reco bank delete, undelete, list, get, export, info, index, compact, merge, and verify; "
    "each has --help.\v"
    "Example:\n  reco bank build --model clip/ --pairs products.csv --out shop.bank\n"
    "  reco bank add --model clip/ --pairs new.csv shop.bank",
    children,
    NULL,
    NULL};

static void tell_update(const cli *c, const args *a, const reco_stream_result *r, int64_t rows)
{
    if (c->json)
        cli_print(json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:O, s:I, s:f}", "added",
                            (json_int_t)r->rows, "changed", (json_int_t)r->changed, "unchanged",
                            (json_int_t)r->duplicates, "pictures", (json_int_t)r->pictures, "texts",
                            (json_int_t)r->texts, "truncated", (json_int_t)r->truncated, "repaired",
                            (json_int_t)r->repaired, "dropped", (json_int_t)r->dropped, "joined_lines",
                            (json_int_t)r->joined, "failures", (json_int_t)r->failures, "failed", c->failed,
                            "rows", (json_int_t)rows, "seconds", r->seconds));
    else
        cli_say("%llu added, %llu changed, %llu unchanged, %llu skipped; %llu picture%s and %llu text%s "
                "embedded; %lld row%s in %s",
                (unsigned long long)r->rows, (unsigned long long)r->changed,
                (unsigned long long)r->duplicates, (unsigned long long)r->failures,
                (unsigned long long)r->pictures, cli_s(r->pictures), (unsigned long long)r->texts,
                cli_s(r->texts), (long long)rows, cli_s((uint64_t)rows), a->out);
}

static reco_status ingest(cli *c, args *a, bool build, int *code)
{
    reco_model *model = NULL;
    reco_stream_result r = {0};
    reco_status status = RECO_OK;
    const char *const inputs[] = {a->pairs, a->embeddings};
    int kind = build ? RECO_OUT_FOLDER : RECO_OUT_FOLDER | RECO_OUT_NO_PROBE;
    status = cli_output(c, a->out, kind, a->model, inputs, 2);
    for (size_t i = 0; i < a->ntars && status == RECO_OK; i++)
        status = cli_output(c, a->out, RECO_OUT_FOLDER | RECO_OUT_NO_PROBE, NULL, a->tars + i, 1);
    if (status != RECO_OK) return status;
    a->ingest.table = &c->table;
    if (a->model) status = cli_open_model(c, &model, a->model, RECO_SIDES_BOTH);
    if (status != RECO_OK)
        ;
    else if (a->embeddings)
        status = reco_bank_ingest_embeddings(c->ctx, model, a->embeddings, a->out, build, &a->ingest, &r);
    else if (a->ntars)
        status = reco_bank_ingest_tars(c->ctx, model, a->tars, a->ntars, a->out, build, &a->ingest, &r);
    else if (strcmp(a->verb, "update") == 0)
        status = reco_bank_update_pairs(c->ctx, model, a->pairs, a->out, a->key, &a->ingest, &r);
    else
        status = reco_bank_ingest_pairs(c->ctx, model, a->pairs, a->out, build, &a->ingest, &r);
    if (status == RECO_OK) *code = cli_truncated(c, model, r.truncated, "caption");
    reco_model_close(model);
    if (status != RECO_OK) return status;
    reco_bank *bank = NULL;
    status = reco_bank_open(c->ctx, &bank, a->out);
    if (status != RECO_OK) return status;
    reco_bank_info info = *reco_bank_get_info(bank);
    reco_bank_close(bank);
    *code |= cli_skipped(c, r.failures, "failures.jsonl");
    cli_table_result(c, &r);
    char replaced[40] = "";
    if (r.changed) snprintf(replaced, sizeof replaced, "%llu replaced, ", (unsigned long long)r.changed);
    if (strcmp(a->verb, "update") == 0)
        tell_update(c, a, &r, info.rows);
    else if (c->json)
        cli_print(json_pack(
            "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:O, s:I, s:f}", "added",
            (json_int_t)r.rows, "replaced", (json_int_t)r.changed, "pictures", (json_int_t)r.pictures,
            "texts", (json_int_t)r.texts, "truncated", (json_int_t)r.truncated, "repaired",
            (json_int_t)r.repaired, "dropped", (json_int_t)r.dropped, "joined_lines", (json_int_t)r.joined,
            "embedded", (json_int_t)r.embedded, "duplicates", (json_int_t)r.duplicates, "near_duplicates",
            (json_int_t)r.near_duplicates, "resumed", (json_int_t)r.resumed, "failures",
            (json_int_t)r.failures, "failed", c->failed, "rows", (json_int_t)info.rows, "seconds",
            r.seconds));
    else
        cli_say("%llu pair%s added, %s%llu already there, %llu skipped; %lld row%s in %s",
                (unsigned long long)r.rows, cli_s(r.rows), replaced,
                (unsigned long long)(r.duplicates + r.near_duplicates), (unsigned long long)r.failures,
                (long long)info.rows, cli_s((uint64_t)info.rows), a->out);
    return RECO_OK;
}

static int build_or_add(int argc, char **argv)
{
    cli c = {.in_order = true};
    args a = {.common = &c, .ingest = {.embed = {.failure = cli_failure, .user = &c}}};
    int code = 0, ended = 1;
    a.tars = calloc((size_t)argc, sizeof *a.tars);
    if (a.tars && cli_begin(&c, argc, argv, &argp, &a))
        ended = cli_end(&c, ingest(&c, &a, strcmp(a.verb, "build") == 0, &code));
    free(a.tars);
    return ended ? ended : code;
}

int cmd_bank(int argc, char **argv)
{
    static const struct {
        const char *verb;
        char name[24];
        int (*run)(int, char **);
    } verbs[] = {{"compact", "reco bank compact", cmd_bank_compact},
                 {"delete", "reco bank delete", cmd_bank_delete},
                 {"undelete", "reco bank undelete", cmd_bank_undelete},
                 {"export", "reco bank export", cmd_bank_export},
                 {"get", "reco bank get", cmd_bank_get},
                 {"index", "reco bank index", cmd_bank_index},
                 {"info", "reco bank info", cmd_bank_info},
                 {"list", "reco bank list", cmd_bank_list},
                 {"merge", "reco bank merge", cmd_bank_merge},
                 {"verify", "reco bank verify", cmd_bank_verify}};
    for (size_t i = 0; argc > 1 && i < sizeof verbs / sizeof *verbs; i++) {
        if (strcmp(argv[1], verbs[i].verb) != 0) continue;
        char name[24];
        memcpy(name, verbs[i].name, sizeof name);
        argv[1] = name;
        return verbs[i].run(argc - 1, argv + 1);
    }
    return build_or_add(argc, argv);
}
