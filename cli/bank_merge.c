#include "cli.h"

#include <stdlib.h>

enum { KEY_OUT = 0x100, KEY_SEVERAL };

typedef struct args {
    cli *common;
    const char *out, **banks;
    size_t n;
    reco_merge_opts opts;
} args;

static error_t parse_merge_option(int key, char *arg, struct argp_state *state)
{
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = state->child_inputs[1] = state->child_inputs[2] = a->common;
        return 0;
    case KEY_OUT:
        a->out = arg;
        return 0;
    case KEY_SEVERAL:
        a->opts.several_captions = 1;
        return 0;
    case ARGP_KEY_ARG:
        a->banks[a->n++] = arg;
        return 0;
    case ARGP_KEY_END:
        cli_need(state, a->out, "--out");
        if (a->n == 0) argp_error(state, "want banks to merge");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"out", KEY_OUT, "BANK", 0, "The bank to create", 1},
    {"several-captions", KEY_SEVERAL, NULL, 0,
     "Allow a later bank to add captions to a picture of an earlier one (default: they are left out)", 1},
    {0},
};
static const struct argp_child children[] = {
    {&cli_strict_option, 0, NULL, 0}, {&cli_wait_option, 0, NULL, 0}, {&cli_common, 0, NULL, 0}, {0}};
static const struct argp argp = {
    options,
    parse_merge_option,
    "BANK...",
    "Merge banks into a new one, in the order given. Vector files are hard-linked if the file system "
    "allows it. An interrupted merge resumes when the command is run again.\v"
    "Example:\n  reco bank merge part-1.bank part-2.bank --out shop.bank",
    children,
    NULL,
    NULL};

static void print_merge_result(const cli *c, const args *a, const reco_merge_result *r)
{
    if (c->json)
        cli_print(json_pack(
            "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b}", "rows", (json_int_t)r->rows,
            "duplicates", (json_int_t)r->duplicates, "replaced", (json_int_t)r->replaced, "refused",
            (json_int_t)r->refused, "deleted", (json_int_t)r->deleted, "segments", (json_int_t)r->segments,
            "linked", (json_int_t)r->linked, "copied", (json_int_t)r->copied, "rewritten",
            (json_int_t)r->rewritten, "vector_bytes", (json_int_t)r->bytes, "already", r->already));
    else if (r->already)
        cli_say("%s was merged before: %lld row%s", a->out, (long long)r->rows, cli_s((uint64_t)r->rows));
    else
        cli_say("%lld row%s of %zu bank%s in %s, %lld already there, %lld replaced, %lld skipped, %lld "
                "deleted left out; %zu vector file%s linked, %zu copied, %zu rewritten",
                (long long)r->rows, cli_s((uint64_t)r->rows), a->n, cli_s(a->n), a->out,
                (long long)r->duplicates, (long long)r->replaced, (long long)r->refused,
                (long long)r->deleted, r->linked, cli_s(r->linked), r->copied, r->rewritten);
}

int cmd_bank_merge(int argc, char **argv)
{
    cli c = {0};
    args a = {.common = &c};
    int code = 0, ended = 1;
    a.banks = calloc((size_t)argc, sizeof *a.banks);
    if (a.banks && cli_begin(&c, argc, argv, &argp, &a)) {
        reco_merge_result r;
        reco_status status = cli_output(&c, a.out, RECO_OUT_FOLDER, NULL, a.banks, a.n);
        if (status == RECO_OK) status = reco_bank_merge(c.ctx, a.out, a.banks, a.n, &a.opts, &r);
        if (status == RECO_OK) {
            code = cli_skipped(&c, (uint64_t)r.refused, "failures.jsonl");
            print_merge_result(&c, &a, &r);
        }
        ended = cli_end(&c, status);
    }
    free(a.banks);
    return ended ? ended : code;
}
