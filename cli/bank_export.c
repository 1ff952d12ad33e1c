#include "cli.h"

enum { KEY_OUT = 0x100, KEY_PAIRS, KEY_WHERE };

typedef struct args {
    cli *common;
    const char *out, *pairs, *where;
} args;

static error_t parse_export_option(int key, char *arg, struct argp_state *state)
{
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = a->common;
        return 0;
    case KEY_OUT:
        a->out = arg;
        return 0;
    case KEY_PAIRS:
        a->pairs = arg;
        return 0;
    case KEY_WHERE:
        a->where = arg;
        return 0;
    case ARGP_KEY_END:
        cli_need(state, a->common->bank, "BANK"); /* before what else may be missing */
        if (!a->out == !a->pairs) argp_error(state, "want one of --out and --pairs");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"out", KEY_OUT, "DIR", 0,
     "New folder for img_emb/, text_emb/ and metadata/ in clip-retrieval's layout", 1},
    {"pairs", KEY_PAIRS, "FILE", 0, "Write a pairs file instead, .csv or .jsonl", 1},
    {"where", KEY_WHERE, "SQL", 0, "Only rows that satisfy this condition on id, caption, uri and meta", 1},
    {0},
};
static const struct argp_child children[] = {{&cli_bank, 0, NULL, 0}, {0}};
static const struct argp argp = {
    options,
    parse_export_option,
    "BANK",
    "Export the rows of a bank for other programs or for another bank.\v"
    "Example:\n  reco bank export shop.bank --out shop/\n"
    "  reco bank export shop.bank --pairs red.csv --where \"caption LIKE '%red%'\"",
    children,
    NULL,
    NULL};

int cmd_bank_export(int argc, char **argv)
{
    cli c = {0};
    args a = {.common = &c};
    if (!cli_begin(&c, argc, argv, &argp, &a)) return 1;
    reco_bank *bank = NULL;
    uint64_t n;
    reco_status status = cli_output(&c, a.out ? a.out : a.pairs, a.out ? RECO_OUT_FOLDER : RECO_OUT_FILE,
                                    NULL, (const char *const[]){c.bank}, 1);
    if (status == RECO_OK) status = reco_bank_open(c.ctx, &bank, c.bank);
    if (status == RECO_OK && a.out) status = reco_bank_export(c.ctx, bank, a.out, a.where, &n);
    if (status == RECO_OK && a.pairs) status = reco_bank_export_pairs(c.ctx, bank, a.pairs, a.where, &n);
    reco_bank_close(bank);
    if (status == RECO_OK) cli_clear_bar(&c);
    if (status == RECO_OK && c.json)
        cli_print(json_pack("{s:I}", "rows", (json_int_t)n));
    else if (status == RECO_OK)
        cli_say("%llu row%s in %s", (unsigned long long)n, cli_s(n), a.out ? a.out : a.pairs);
    return cli_end(&c, status);
}
