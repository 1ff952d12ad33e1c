#include "search.h"

#include <stdlib.h>
#include <string.h>

enum {
    KEY_ID = 0x100,
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
    DOUBLES = 1000 /* whose ids are told */
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
static void take_delete_argument(args *a, struct argp_state *state, const char *arg)
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

static void check_delete_args(const args *a, struct argp_state *state)
{
    bool embeds = false;
    cli_need(state, a->bank, "BANK");
    for (size_t i = 0; i < a->nnear; i++) embeds |= a->near[i].kind != QUERY_ROW;
    if (embeds) cli_need(state, a->model, "--model");
    if (a->nnear && !a->has_least) argp_error(state, "--min-similarity is missing");
    if (!a->nnear && a->has_least)
        argp_error(state, "--min-similarity needs --near-image, --near-text or --near");
    bool any = a->nids || a->nuris || a->ids_file || a->uris_file || a->where || a->nnear || a->all;
    if (!any && a->back) argp_error(state, "want --id, --uri, --ids, --uris, --where or --all");
    if (!any)
        argp_error(state, "want --id, --uri, --ids, --uris, --where, --near-image, --near-text or --near");
}

static error_t parse_delete_option(int key, char *arg, struct argp_state *state)
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
        take_delete_argument(a, state, arg);
        return 0;
    case ARGP_KEY_END:
        check_delete_args(a, state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    a->more_ids = a->more_uris = false;
    return 0;
}

static const struct argp_option options[] = {
    {"id", KEY_ID, "N", 0, "These rows (more may follow)", 1},
    {"uri", KEY_URI, "U", 0, "The rows of this picture, by the name in the pairs (more may follow)", 1},
    {"ids", KEY_IDS, "FILE", 0, "The rows whose ids are in this file, one per line", 1},
    {"uris", KEY_URIS, "FILE", 0, "The rows of the pictures named in this file, one per line", 1},
    {"where", KEY_WHERE, "SQL", 0,
     "The rows that satisfy this condition on id, caption, uri, meta and your own columns", 1},
    {"near-image", KEY_NEAR_IMAGE, "FILE", 0, "Rows similar to this picture", 2},
    {"near-text", KEY_NEAR_TEXT, "TEXT", 0, "Rows similar to this text", 2},
    {"near", KEY_NEAR, "ID", 0, "This row and rows similar to it", 2},
    {"min-similarity", KEY_MIN, "S", 0, "Least cosine that counts as similar", 2},
    {"model", KEY_MODEL, "DIR", 0, "Model folder (with --near-image or --near-text)", 2},
    {"in", KEY_IN, "image|text", 0,
     "Compare with the pictures or with the captions (default: the query's own side)", 2},
    {"dry-run", KEY_DRY, NULL, 0, "Show what would be deleted, and delete nothing", 3},
    {"yes", KEY_YES, NULL, 0, "Delete even if the condition compares a text with a number", 3},
    {0},
};
static const struct argp_child children[] = {
    {&cli_model_options, 0, NULL, 0}, {&cli_wait_option, 0, NULL, 0}, {&cli_common, 0, NULL, 0}, {0}};
static const struct argp argp = {
    options,
    parse_delete_option,
    "BANK",
    "Delete all rows that any of the options selects, or none if something fails.\v"
    "Example:\n  reco bank delete shop.bank --uri img/0815.jpg\n"
    "  reco bank delete shop.bank --where \"year < 2010\" --dry-run\n"
    "  reco bank delete shop.bank --model clip/ --near-image logo.png --min-similarity 0.95",
    children,
    NULL,
    NULL};

static const struct argp_option back_options[] = {
    {"id", KEY_ID, "N", 0, "These rows (more may follow)", 1},
    {"uri", KEY_URI, "U", 0, "The rows of this picture, by the name in the pairs (more may follow)", 1},
    {"ids", KEY_IDS, "FILE", 0, "The rows whose ids are in this file, one per line", 1},
    {"uris", KEY_URIS, "FILE", 0, "The rows of the pictures named in this file, one per line", 1},
    {"where", KEY_WHERE, "SQL", 0,
     "The rows that satisfy this condition on id, caption, uri, meta and your own columns", 1},
    {"all", KEY_ALL, NULL, 0, "All deleted rows", 1},
    {"dry-run", KEY_DRY, NULL, 0, "Show what would be restored, and change nothing", 2},
    {0},
};
static const struct argp_child back_children[] = {
    {&cli_wait_option, 0, NULL, 0}, {&cli_common, 0, NULL, 0}, {0}};
static const struct argp back_argp = {
    back_options,
    parse_delete_option,
    "BANK",
    "Restore all deleted rows that any of the options selects, or none if something fails. Rows keep their "
    "ids and can be restored until compact removes them. A row that the bank holds again stays deleted and "
    "is listed. `reco bank list --deleted` shows the rows that can be restored.\v"
    "Example:\n  reco bank undelete shop.bank --all --dry-run\n"
    "  reco bank undelete shop.bank --uri img/0815.jpg",
    back_children,
    NULL,
    NULL};

/* Embeddings of what is looked for, by the bank as it is before. */
static reco_status embed_near(cli *c, const args *a, float **x, reco_side *sides)
{
    reco_model *model = NULL;
    reco_bank *bank = NULL;
    reco_status status = reco_bank_open(c->ctx, &bank, a->bank);
    if (status == RECO_OK && a->model)
        status = cli_open_model(c, &model, a->model, cli_query_sides(a->near, a->nnear));
    if (status == RECO_OK) status = reco_check_encoder(c->ctx, model, bank, NULL);
    size_t d = bank ? reco_bank_get_info(bank)->d : 0;
    if (status == RECO_OK && !(*x = calloc(a->nnear * d, sizeof **x))) status = RECO_E_NOMEM;
    for (size_t i = 0; i < a->nnear && status == RECO_OK; i++) {
        const cli_query *q = &a->near[i];
        reco_side own = q->kind == QUERY_TEXT ? RECO_TEXT : RECO_IMAGE;
        sides[i] = a->in < 0 ? own : (reco_side)a->in;
        status = cli_embed_query(c, model, bank, q, sides[i], *x + i * d);
    }
    reco_bank_close(bank);
    reco_model_close(model);
    return status;
}

/* A row that would go or come back: a line of text or JSON. */
static void print_chosen_row(void *user, const reco_pair *row)
{
    const cli *c = user;
    if (c->json)
        cli_print(answer_row(row));
    else
        cli_show_row(row);
}

static void report_back(cli *c, const args *a, const reco_delete_result *r, const int64_t *doubles)
{
    if (c->json) {
        json_t *ids = json_array();
        for (size_t i = 0; i < r->doubles && i < DOUBLES; i++)
            json_array_append_new(ids, json_integer((json_int_t)doubles[i]));
        cli_print(json_pack("{s:I, s:I, s:I, s:o}", a->dry ? "would_undelete" : "undeleted",
                            (json_int_t)r->rows, "missing", (json_int_t)r->missing, "doubles",
                            (json_int_t)r->doubles, "double_ids", ids));
        return;
    }
    printf("%llu row%s %s, %llu not found\n", (unsigned long long)r->rows, cli_s(r->rows),
           a->dry ? "would be restored" : "undeleted", (unsigned long long)r->missing);
    if (r->doubles)
        cli_error("warning: %llu row%s stay%s deleted, since the bank holds the same picture and caption "
                  "again, such as id %lld",
                  (unsigned long long)r->doubles, cli_s(r->doubles), r->doubles == 1 ? "s" : "",
                  (long long)doubles[0]);
}

static void print_delete_result(cli *c, const args *a, const reco_delete_result *r)
{
    if (c->json)
        cli_print(json_pack("{s:I, s:I}", a->dry ? "would_delete" : "deleted", (json_int_t)r->rows,
                            "missing", (json_int_t)r->missing));
    else
        printf("%llu row%s %s, %llu not found\n", (unsigned long long)r->rows, cli_s(r->rows),
               a->dry ? "would be deleted" : "deleted", (unsigned long long)r->missing);
}

static reco_status run_delete(cli *c, args *a)
{
    int64_t doubles[DOUBLES];
    float *near = NULL;
    reco_side *sides = calloc(a->nnear + 1, sizeof *sides);
    reco_delete_result r = {0};
    const reco_delete_opts opts = {.restore = a->back,
                                   .preview = a->dry,
                                   .sure = a->yes,
                                   .row = print_chosen_row,
                                   .user = c,
                                   .doubles = doubles,
                                   .max_doubles = DOUBLES};
    reco_status status = sides ? RECO_OK : RECO_E_NOMEM;
    if (status == RECO_OK && a->nnear) status = embed_near(c, a, &near, sides);
    if (status == RECO_OK)
        status = reco_bank_delete(c->ctx, a->bank,
                                  &(reco_bank_rows){.ids = a->ids,
                                                    .nids = a->nids,
                                                    .uris = a->uris,
                                                    .nuris = a->nuris,
                                                    .ids_file = a->ids_file,
                                                    .uris_file = a->uris_file,
                                                    .where = a->where,
                                                    .near = near,
                                                    .sides = sides,
                                                    .nnear = a->nnear,
                                                    .least = a->least,
                                                    .all = a->all},
                                  &opts, &r);
    free(near);
    free(sides);
    cli_clear_bar(c);
    if (status == RECO_E_ARG && r.doubts && !a->yes)
        cli_error("nothing was deleted, since the condition compares a text with a number: check with "
                  "--dry-run, or delete anyway with --yes");
    if (status == RECO_OK && a->back) report_back(c, a, &r, doubles);
    if (status == RECO_OK && !a->back) print_delete_result(c, a, &r);
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
    if (a.ids && a.uris && a.near && cli_begin(&c, argc, argv, parser, &a))
        code = cli_end(&c, run_delete(&c, &a));
    free(a.ids);
    free(a.uris);
    free(a.near);
    return code;
}

int cmd_bank_delete(int argc, char **argv) { return command(argc, argv, &argp, false); }

int cmd_bank_undelete(int argc, char **argv) { return command(argc, argv, &back_argp, true); }
