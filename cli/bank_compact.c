#include "cli.h"

typedef struct args {
    cli *common;
    const char *bank;
} args;

static error_t parse(int key, char *arg, struct argp_state *state)
{
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = state->child_inputs[1] = a->common;
        return 0;
    case ARGP_KEY_ARG:
        if (a->bank) argp_error(state, "what is \"%s\"?", arg);
        a->bank = arg;
        return 0;
    case ARGP_KEY_END:
        cli_need(state, a->bank, "BANK");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {
    {&cli_wait_option, 0, NULL, 0}, {&cli_common, 0, NULL, 0}, {0}};
static const struct argp argp = {NULL,
                                 parse,
                                 "BANK",
                                 "Make the deleted rows go, and many small vector files few. Ids stay; who "
                                 "has the bank open keeps what it "
                                 "sees.\vExample:\n  reco bank compact shop.bank",
                                 children,
                                 NULL,
                                 NULL};

int cmd_bank_compact(int argc, char **argv)
{
    cli c = {0};
    args a = {.common = &c};
    if (!cli_begin(&c, argc, argv, &argp, &a)) return 1;
    reco_compact_result r;
    reco_status status = reco_bank_compact(c.ctx, a.bank, NULL, &r);
    if (status == RECO_OK && c.json)
        cli_print(json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "rows", (json_int_t)r.rows, "removed",
                            (json_int_t)r.removed, "copied", (json_int_t)r.copied, "segments_before",
                            (json_int_t)r.segments_before, "segments", (json_int_t)r.segments,
                            "vector_bytes_before", (json_int_t)r.bytes_before, "vector_bytes",
                            (json_int_t)r.bytes));
    else if (status == RECO_OK)
        printf("%lld deleted rows removed, %lld rows in %zu segments (were %zu), %.1f MB of vectors (were "
               "%.1f)\n",
               (long long)r.removed, (long long)r.rows, r.segments, r.segments_before,
               (double)r.bytes / 1e6, (double)r.bytes_before / 1e6);
    return cli_end(&c, status);
}
