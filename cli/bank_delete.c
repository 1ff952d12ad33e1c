#include "search.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    KEY_ID = 1,
    KEY_URI,
    KEY_IDS,
    KEY_URIS,
    KEY_WHERE,
    KEY_NEAR,
    KEY_NEAR_IMAGE,
    KEY_NEAR_TEXT,
    KEY_MIN,
    KEY_MODEL,
    KEY_IN,
    KEY_DRY,
    KEY_YES,
    KEY_ALL,
    PAGE = 1024
};

typedef struct args {
    cli *common;
    const char *bank, *ids_file, *uris_file, *where, *model;
    int64_t *ids;
    const char **uris;
    size_t nids, nuris;
    bool more_ids, more_uris; /* plain arguments after --id and --uri belong to it */
    cli_query *near;
    size_t nnear;
    int in; /* reco_side, or -1: the query's own */
    float least;
    bool has_least, dry, yes, all;
    bool back; /* undelete */
    uint64_t missing;
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
    if (a->more_ids && a->bank)
        add_id(a, state, arg);
    else if (a->more_uris && a->bank)
        add_uri(a, arg);
    else if (!a->bank)
        a->bank = arg;
    else
        cli_stray(state, arg);
}

static void check(const args *a, struct argp_state *state)
{
    bool embeds = false;
    cli_need(state, a->bank, "BANK");
    for (size_t i = 0; i < a->nnear; i++) embeds |= a->near[i].kind != QUERY_ROW;
    if (embeds) cli_need(state, a->model, "--model");
    if (a->nnear && !a->has_least) argp_error(state, "--min-similarity is missing");
    if (!a->nnear && a->has_least)
        argp_error(state, "--min-similarity goes with --near-image, --near-text or --near");
    bool any = a->nids || a->nuris || a->ids_file || a->uris_file || a->where || a->nnear || a->all;
    if (!any && a->back) argp_error(state, "want --id, --uri, --ids, --uris, --where or --all");
    if (!any)
        argp_error(state, "want --id, --uri, --ids, --uris, --where, --near-image, --near-text or --near");
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        for (int i = 0; i < (a->back ? 2 : 3); i++) state->child_inputs[i] = a->common;
        return 0;
    case KEY_ID:
        add_id(a, state, arg);
        return 0;
    case KEY_URI:
        add_uri(a, arg);
        return 0;
    case KEY_IDS:
        a->ids_file = arg;
        break;
    case KEY_URIS:
        a->uris_file = arg;
        break;
    case KEY_WHERE:
        a->where = arg;
        break;
    case KEY_NEAR:
        a->near[a->nnear++] =
            (cli_query){QUERY_ROW, arg, (int64_t)cli_size(state, "--near", arg, 0, INT64_MAX)};
        break;
    case KEY_NEAR_IMAGE:
    case KEY_NEAR_TEXT:
        a->near[a->nnear++] = (cli_query){key == KEY_NEAR_TEXT ? QUERY_TEXT : QUERY_IMAGE, arg, -1};
        break;
    case KEY_MIN:
        a->least = cli_similarity(state, "--min-similarity", arg);
        a->has_least = true;
        break;
    case KEY_MODEL:
        a->model = arg;
        break;
    case KEY_IN:
        a->in = (int)cli_side(state, "--in", arg);
        break;
    case KEY_DRY:
        a->dry = true;
        break;
    case KEY_YES:
        a->yes = true;
        break;
    case KEY_ALL:
        a->all = true;
        break;
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
    {"id", KEY_ID, "N", 0, "These rows (more may follow)", 1},
    {"uri", KEY_URI, "U", 0, "The rows of this image, as the pairs named it (more may follow)", 1},
    {"ids", KEY_IDS, "FILE", 0, "The rows whose ids stand in this file, one a line", 1},
    {"uris", KEY_URIS, "FILE", 0, "The rows of the images in this file, one a line", 1},
    {"where", KEY_WHERE, "SQL", 0, "The rows for which this is true of id, caption, uri, meta", 1},
    {"near-image", KEY_NEAR_IMAGE, "FILE", 0, "What is like this picture", 2},
    {"near-text", KEY_NEAR_TEXT, "TEXT", 0, "What is like this text", 2},
    {"near", KEY_NEAR, "ID", 0, "What is like this row, and the row", 2},
    {"min-similarity", KEY_MIN, "S", 0, "How like: at least this cosine", 2},
    {"model", KEY_MODEL, "DIR", 0, "Model folder (with --near-image and --near-text)", 2},
    {"in", KEY_IN, "image|text", 0,
     "Compare with the pictures or the captions (default: what the query is)", 2},
    {"dry-run", KEY_DRY, NULL, 0, "Show what would go, and delete nothing", 3},
    {"yes", KEY_YES, NULL, 0, "Delete although the condition compares a text with a number", 3},
    {0},
};
static const struct argp_child children[] = {
    {&cli_model_options, 0, NULL, 0}, {&cli_wait_option, 0, NULL, 0}, {&cli_common, 0, NULL, 0}, {0}};
static const struct argp argp = {
    options,
    parse,
    "BANK",
    "Delete rows: all that any of the options picks, or none when something fails.\v"
    "Example:\n  reco bank delete shop.bank --uri img/0815.jpg\n"
    "  reco bank delete shop.bank --where \"json_extract(meta,'$.year') < 2010\" --dry-run\n"
    "  reco bank delete shop.bank --model clip/ --near-image logo.png --min-similarity 0.95",
    children,
    NULL,
    NULL};

static const struct argp_option back_options[] = {
    {"id", KEY_ID, "N", 0, "These rows (more may follow)", 1},
    {"uri", KEY_URI, "U", 0, "The rows of this image, as the pairs named it (more may follow)", 1},
    {"ids", KEY_IDS, "FILE", 0, "The rows whose ids stand in this file, one a line", 1},
    {"uris", KEY_URIS, "FILE", 0, "The rows of the images in this file, one a line", 1},
    {"where", KEY_WHERE, "SQL", 0, "The rows for which this is true of id, caption, uri, meta", 1},
    {"all", KEY_ALL, NULL, 0, "All deleted rows", 1},
    {"dry-run", KEY_DRY, NULL, 0, "Show what would come back, and change nothing", 2},
    {0},
};
static const struct argp_child back_children[] = {
    {&cli_wait_option, 0, NULL, 0}, {&cli_common, 0, NULL, 0}, {0}};
static const struct argp back_argp = {
    back_options,
    parse,
    "BANK",
    "Bring deleted rows back, under their ids, as long as compact has not taken them away: all that any of "
    "the options picks, or "
    "none when something fails. A row that the bank holds again stays deleted, and is named. "
    "`reco bank list --deleted` shows what can come back.\v"
    "Example:\n  reco bank undelete shop.bank --all --dry-run\n"
    "  reco bank undelete shop.bank --uri img/0815.jpg",
    back_children,
    NULL,
    NULL};

static reco_status pick(cli *c, reco_bank_deletion *d, args *a, const char *uri, int64_t id)
{
    uint64_t n;
    reco_status status =
        uri ? reco_bank_deletion_uri(c->ctx, d, uri, &n) : reco_bank_deletion_id(c->ctx, d, id, &n);
    if (status == RECO_OK) a->missing += n == 0;
    return status;
}

/* Line by line, so that a list of millions costs no memory. */
static reco_status pick_file(cli *c, reco_bank_deletion *d, args *a, const char *path, bool uris)
{
    FILE *file = fopen(path, "re");
    char *line = NULL, *end;
    size_t room = 0, number = 0;
    ssize_t bytes;
    reco_status status = RECO_OK;
    while (file && status == RECO_OK && (bytes = getline(&line, &room, file)) >= 0) {
        number++;
        while (bytes > 0 && (line[bytes - 1] == '\n' || line[bytes - 1] == '\r')) line[--bytes] = 0;
        if (bytes == 0) continue;
        errno = 0;
        long long id = uris ? 0 : strtoll(line, &end, 10);
        if (!uris && (errno || end == line || *end || id < 0)) {
            cli_error("%s:%zu: \"%.40s\" is no id", path, number, line);
            status = RECO_E_FORMAT;
        } else
            status = pick(c, d, a, uris ? line : NULL, id);
    }
    if (!file || (status == RECO_OK && ferror(file))) {
        cli_error("%s: %s", path, strerror(errno));
        status = RECO_E_IO;
    }
    if (file) fclose(file);
    free(line);
    return status;
}

static reco_status pick_near(cli *c, reco_bank_deletion *d, const args *a)
{
    reco_model *model = NULL;
    const reco_bank *bank;
    float *x = NULL;
    reco_status status = reco_bank_deletion_bank(c->ctx, d, &bank);
    if (status == RECO_OK && a->model)
        status = cli_open_model(c, &model, a->model, cli_query_sides(a->near, a->nnear));
    if (status == RECO_OK) status = reco_check_encoder(c->ctx, model, bank, NULL);
    if (status == RECO_OK && !(x = calloc(reco_bank_get_info(bank)->d, sizeof *x))) status = RECO_E_NOMEM;
    for (size_t i = 0; i < a->nnear && status == RECO_OK; i++) {
        const cli_query *q = &a->near[i];
        reco_side own = q->kind == QUERY_TEXT ? RECO_TEXT : RECO_IMAGE;
        reco_side side = a->in < 0 ? own : (reco_side)a->in;
        status = cli_embed_query(c, model, bank, q, side, x);
        if (status == RECO_OK) status = reco_bank_deletion_near(c->ctx, d, side, x, a->least, NULL);
    }
    free(x);
    reco_model_close(model);
    return status;
}

static reco_status pick_all(cli *c, reco_bank_deletion *d, args *a)
{
    reco_status status = RECO_OK;
    for (size_t i = 0; i < a->nids && status == RECO_OK; i++) status = pick(c, d, a, NULL, a->ids[i]);
    for (size_t i = 0; i < a->nuris && status == RECO_OK; i++) status = pick(c, d, a, a->uris[i], 0);
    if (status == RECO_OK && a->ids_file) status = pick_file(c, d, a, a->ids_file, false);
    if (status == RECO_OK && a->uris_file) status = pick_file(c, d, a, a->uris_file, true);
    if (status == RECO_OK && a->where) status = reco_bank_deletion_where(c->ctx, d, a->where, NULL);
    if (status == RECO_OK && a->nnear) status = pick_near(c, d, a);
    if (status == RECO_OK && a->all) status = reco_bank_deletion_all(c->ctx, d, NULL);
    return status;
}

/* What would go or come back: a line of text or JSON for each row, and how many. */
static reco_status preview(cli *c, reco_bank_deletion *d, bool back, uint64_t *total)
{
    int64_t ids[PAGE];
    const reco_bank *bank;
    size_t n = PAGE;
    reco_status status = reco_bank_deletion_bank(c->ctx, d, &bank);
    *total = 0;
    for (int64_t from = 0; status == RECO_OK && n == PAGE; from = n ? ids[n - 1] + 1 : 0) {
        status = reco_bank_deletion_ids(c->ctx, d, from, PAGE, ids, &n);
        for (size_t i = 0; i < n && status == RECO_OK; i++) {
            reco_pair pair;
            status = (back ? reco_bank_get_deleted : reco_bank_get)(c->ctx, bank, ids[i], &pair);
            if (status != RECO_OK) break;
            if (c->json)
                cli_print(cli_row(&pair));
            else
                cli_show_row(&pair);
            reco_pair_free(&pair);
        }
        *total += n;
    }
    return status;
}

/* Rows that stay deleted, since the bank holds them again: how many, and the ids of the first thousand. */
static reco_status find_doubles(cli *c, reco_bank_deletion *d, uint64_t *total, json_t *doubles)
{
    int64_t ids[PAGE];
    size_t n = PAGE;
    reco_status status = RECO_OK;
    *total = 0;
    for (int64_t from = 0; status == RECO_OK && n == PAGE; from = n ? ids[n - 1] + 1 : 0) {
        status = reco_bank_deletion_doubles(c->ctx, d, from, PAGE, ids, &n);
        for (size_t i = 0; i < n && status == RECO_OK && *total + i < 1000; i++)
            json_array_append_new(doubles, json_integer((json_int_t)ids[i]));
        *total += n;
    }
    return status;
}

static void report_back(cli *c, const args *a, uint64_t n, uint64_t ndoubles, json_t *doubles)
{
    if (c->json) {
        cli_print(json_pack("{s:I, s:I, s:I, s:O}", a->dry ? "would_undelete" : "undeleted", (json_int_t)n,
                            "missing", (json_int_t)a->missing, "doubles", (json_int_t)ndoubles,
                            "double_ids", doubles));
        return;
    }
    printf("%llu row%s %s, %llu not there\n", (unsigned long long)n, n == 1 ? "" : "s",
           a->dry ? "would come back" : "undeleted", (unsigned long long)a->missing);
    if (ndoubles)
        cli_error("warning: %llu row%s stay%s deleted, since the bank holds the same picture and caption "
                  "again, such as id %lld",
                  (unsigned long long)ndoubles, ndoubles == 1 ? "" : "s", ndoubles == 1 ? "s" : "",
                  (long long)json_integer_value(json_array_get(doubles, 0)));
}

static void report(cli *c, const args *a, uint64_t n)
{
    if (c->json)
        cli_print(json_pack("{s:I, s:I}", a->dry ? "would_delete" : "deleted", (json_int_t)n, "missing",
                            (json_int_t)a->missing));
    else
        printf("%llu row%s %s, %llu not there\n", (unsigned long long)n, n == 1 ? "" : "s",
               a->dry ? "would be deleted" : "deleted", (unsigned long long)a->missing);
}

static reco_status run(cli *c, args *a)
{
    reco_status (*const opens[2][2])(reco_ctx *, reco_bank_deletion **, const char *) = {
        {reco_bank_deletion_open, reco_bank_deletion_preview},
        {reco_bank_undeletion_open, reco_bank_undeletion_preview}};
    reco_bank_deletion *d = NULL;
    uint64_t n = 0, ndoubles = 0;
    json_t *doubles = json_array();
    reco_status status = opens[a->back][a->dry](c->ctx, &d, a->bank);
    if (status == RECO_OK) status = pick_all(c, d, a);
    if (status == RECO_OK && a->back) status = find_doubles(c, d, &ndoubles, doubles);
    if (status == RECO_OK) cli_clear_bar(c);
    if (status == RECO_OK && !a->back && !a->dry && !a->yes && reco_bank_deletion_doubts(d)) {
        cli_error(
            "nothing was deleted, since the condition compares a text with a number: look with --dry-run, "
            "delete all the same with --yes");
        status = RECO_E_ARG;
    }
    if (status == RECO_OK)
        status = a->dry ? preview(c, d, a->back, &n) : reco_bank_deletion_commit(c->ctx, d, &n);
    reco_bank_deletion_close(d);
    if (status == RECO_OK && a->back) report_back(c, a, n, ndoubles, doubles);
    if (status == RECO_OK && !a->back) report(c, a, n);
    json_decref(doubles);
    return status;
}

static int command(int argc, char **argv, const struct argp *parser, bool back)
{
    cli c = {.in_order = true};
    args a = {.common = &c, .in = -1, .back = back};
    a.ids = calloc((size_t)argc, sizeof *a.ids);
    a.uris = calloc((size_t)argc, sizeof *a.uris);
    a.near = calloc((size_t)argc, sizeof *a.near);
    int code = 1;
    if (a.ids && a.uris && a.near && cli_begin(&c, argc, argv, parser, &a)) code = cli_end(&c, run(&c, &a));
    free(a.ids);
    free(a.uris);
    free(a.near);
    return code;
}

int cmd_bank_delete(int argc, char **argv) { return command(argc, argv, &argp, false); }

int cmd_bank_undelete(int argc, char **argv) { return command(argc, argv, &back_argp, true); }
