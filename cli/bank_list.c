#include "cli.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { KEY_WHERE = 0x100, KEY_FROM, KEY_SINCE, KEY_DELETED, KEY_AUDIT, PAGE = 1024 };

typedef struct args {
    cli *common;
    const char *bank, *where, *since, *audit;
    int64_t from;
    size_t most; /* 0: all */
    bool deleted;
    int64_t *ids;
    size_t nids;
} args;

/* A row's number, or a time in UTC, which is written as in the audit log, or the beginning of one. */
static void set_since(args *a, struct argp_state *state, const char *text)
{
    static const char pattern[] = "0000-00-00T00:00:00Z";
    size_t n = strlen(text);
    if (n && strspn(text, "0123456789") == n) {
        a->from = (int64_t)cli_size(state, "--since", text, 0, INT64_MAX);
        return;
    }
    bool fits = n == 10 || n == 16 || n == 19 || n == 20;
    for (size_t i = 0; i < n && fits; i++)
        fits = pattern[i] == '0' ? isdigit((unsigned char)text[i]) != 0 : pattern[i] == text[i];
    if (!fits)
        argp_error(state,
                   "--since is \"%s\", want an id or a time such as 2026-01-31 or 2026-01-31T12:00:00Z",
                   text);
    a->since = text;
}

/* The least id that may have been given at `since` or later: ids ascend, so it comes after all that the audit has from before, and not
 * before those of that very second. */
static reco_status find_since(const args *a, const char *bank, int64_t *from)
{
    char *path = NULL, *line = NULL;
    size_t room = 0;
    if (!a->since) return RECO_OK;
    if (!a->audit && reco_bank_is_server(bank)) {
        cli_error("--since %s: the servers' tables don't say when a row was added; give the audit log that "
                  "reco serve keeps "
                  "in its folder --data, with --audit DATA/NAME/audit.jsonl, or an id",
                  a->since);
        return RECO_E_ARG;
    }
    if (asprintf(&path, "%s%s", a->audit ? a->audit : bank, a->audit ? "" : "/audit.jsonl") < 0)
        return RECO_E_NOMEM;
    FILE *in = fopen(path, "r");
    if (!in) cli_error("%s: %s; --since with an id needs no audit", path, strerror(errno));
    while (in && getline(&line, &room, in) >= 0) {
        json_t *entry = json_loads(line, 0, NULL); /* half a line is what a crash may have left */
        const char *time = json_string_value(json_object_get(entry, "time")),
                   *what = json_string_value(json_object_get(entry, "what"));
        size_t i;
        json_t *id;
        bool adds = what && (strcmp(what, "add") == 0 || strcmp(what, "update") == 0);
        int order = time && adds ? strcmp(time, a->since) : 1;
        if (order <= 0) json_array_foreach(json_object_get(entry, "ids"), i, id)
            {
                int64_t least = json_integer_value(id) + (order < 0 && json_integer_value(id) < INT64_MAX);
                if (least > *from && (order < 0 || i == 0)) *from = least;
            }
        json_decref(entry);
    }
    if (in) fclose(in);
    free(line);
    free(path);
    return in ? RECO_OK : RECO_E_NOTFOUND;
}

static error_t parse_list(int key, char *arg, struct argp_state *state)
{
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = a->common;
        return 0;
    case KEY_WHERE:
        a->where = arg;
        return 0;
    case KEY_FROM:
        a->from = (int64_t)cli_size(state, "--from", arg, 0, INT64_MAX);
        return 0;
    case KEY_SINCE:
        set_since(a, state, arg);
        return 0;
    case KEY_AUDIT:
        a->audit = arg;
        return 0;
    case 'n':
        a->most = cli_size(state, "-n", arg, 1, SIZE_MAX);
        return 0;
    case KEY_DELETED:
        a->deleted = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_get(int key, char *arg, struct argp_state *state)
{
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = a->common;
        return 0;
    case ARGP_KEY_ARG:
        if (a->bank)
            a->ids[a->nids++] = (int64_t)cli_size(state, "ID", arg, 0, INT64_MAX);
        else
            a->bank = arg;
        return 0;
    case ARGP_KEY_END:
        cli_need(state, a->bank, "BANK");
        if (!a->nids) argp_error(state, "ID is missing");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option list_options[] = {
    {"where", KEY_WHERE, "SQL", 0, "Only rows that satisfy this condition on id, caption, uri and meta", 1},
    {"deleted", KEY_DELETED, NULL, 0,
     "List deleted rows, which undelete restores until compact removes them", 1},
    {"from", KEY_FROM, "ID", 0, "Start at this id", 1},
    {"since", KEY_SINCE, "TIME|ID", 0,
     "Only rows added at this time (UTC) or later, according to the audit log of reco serve, or from this "
     "id on",
     1},
    {"audit", KEY_AUDIT, "FILE", 0, "The audit log (default: BANK/audit.jsonl; with --since TIME)", 1},
    {"rows", 'n', "N", 0, "List at most N rows (default: all)", 1},
    {0},
};
static const struct argp_child list_children[] = {{&cli_bank, 0, NULL, 0}, {0}};
static const struct argp_child get_children[] = {{&cli_common, 0, NULL, 0}, {0}};
static const struct argp list_argp = {
    list_options,
    parse_list,
    "BANK",
    "List the rows of a bank in ascending order of id: id, caption, URI and the user's JSON; with --json, "
    "one object per line.\v"
    "Example:\n  reco bank list shop.bank -n 20\n"
    "  reco bank list shop.bank --where \"caption LIKE '%kettle%'\" --json",
    list_children,
    NULL,
    NULL};
static const struct argp get_argp = {
    NULL,
    parse_get,
    "BANK ID...",
    "Show rows of a bank by id: id, caption, URI and the user's JSON; with --json, one object per line.\v"
    "Example:\n  reco bank get shop.bank 815 4711",
    get_children,
    NULL,
    NULL};

static void print_pair(const cli *c, const reco_pair *pair)
{
    if (c->json)
        cli_print(answer_row(pair));
    else
        cli_show_row(pair);
}

static reco_status show_pair(cli *c, const reco_bank *bank, int64_t id, bool deleted)
{
    reco_pair pair;
    reco_status status =
        deleted ? reco_bank_get_deleted(c->ctx, bank, id, &pair) : reco_bank_get(c->ctx, bank, id, &pair);
    if (status != RECO_OK) return status;
    print_pair(c, &pair);
    reco_pair_free(&pair);
    return RECO_OK;
}

/* Of servers, in one round trip; rows before one that is not there are shown. */
static reco_status show_page(cli *c, const reco_bank *bank, const int64_t *ids, size_t n)
{
    static reco_pair pairs[PAGE];
    reco_status status = reco_bank_get_many(c->ctx, bank, ids, n, pairs);
    if (status != RECO_OK) {
        status = RECO_OK;
        for (size_t i = 0; i < n && status == RECO_OK; i++) status = show_pair(c, bank, ids[i], false);
        return status;
    }
    for (size_t i = 0; i < n; i++) {
        print_pair(c, &pairs[i]);
        reco_pair_free(&pairs[i]);
    }
    return RECO_OK;
}

int cmd_bank_list(int argc, char **argv)
{
    cli c = {0};
    args a = {.common = &c};
    if (!cli_begin(&c, argc, argv, &list_argp, &a)) return 1;
    reco_bank *bank = NULL;
    int64_t ids[PAGE];
    size_t left = a.most ? a.most : SIZE_MAX, n = PAGE;
    reco_status status = find_since(&a, c.bank, &a.from);
    if (status == RECO_OK) status = reco_bank_open(c.ctx, &bank, c.bank);
    for (int64_t from = a.from; status == RECO_OK && n == PAGE && left > 0;
         from = n ? ids[n - 1] + 1 : from) {
        size_t page = left < PAGE ? left : PAGE;
        status = (a.deleted ? reco_bank_select_deleted : reco_bank_select)(c.ctx, bank, a.where, from, page,
                                                                           ids, &n);
        const bool pages = status == RECO_OK && !a.deleted && reco_bank_get_info(bank)->shards;
        if (pages) status = show_page(&c, bank, ids, n);
        for (size_t i = 0; !pages && i < n && status == RECO_OK; i++)
            status = show_pair(&c, bank, ids[i], a.deleted);
        left -= n;
    }
    reco_bank_close(bank);
    return cli_end(&c, status);
}

/* All ids are looked at: the one error names the first that is not there. */
int cmd_bank_get(int argc, char **argv)
{
    cli c = {0};
    args a = {.common = &c, .ids = calloc((size_t)argc, sizeof *a.ids)};
    if (!a.ids || !cli_begin(&c, argc, argv, &get_argp, &a)) {
        free(a.ids);
        return 1;
    }
    reco_bank *bank = NULL;
    reco_status status = reco_bank_open(c.ctx, &bank, a.bank);
    const size_t page = status == RECO_OK && reco_bank_get_info(bank)->shards ? PAGE : 1;
    for (size_t i = 0; i < a.nids && status == RECO_OK; i += page)
        status = show_page(&c, bank, a.ids + i, a.nids - i < page ? a.nids - i : page);
    free(a.ids);
    reco_bank_close(bank);
    return cli_end(&c, status);
}
