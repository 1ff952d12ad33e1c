#include "cli.h"

static error_t parse_compact_option(int key, char *arg, struct argp_state *state)
{
    (void)arg;
    if (key != ARGP_KEY_INIT) return ARGP_ERR_UNKNOWN;
    state->child_inputs[0] = state->child_inputs[1] = state->input;
    return 0;
}

static const struct argp_child children[] = {{&cli_wait_option, 0, NULL, 0}, {&cli_bank, 0, NULL, 0}, {0}};
static const struct argp argp = {NULL,
                                 parse_compact_option,
                                 "BANK",
                                 "Remove deleted rows for good and merge small vector files. Ids stay the "
                                 "same; a process that has the bank open keeps its snapshot.\v"
                                 "Example:\n  reco bank compact shop.bank",
                                 children,
                                 NULL,
                                 NULL};

int cmd_bank_compact(int argc, char **argv)
{
    cli c = {0};
    if (!cli_begin(&c, argc, argv, &argp, &c)) return 1;
    reco_compact_result r;
    reco_status status = reco_bank_compact(c.ctx, c.bank, NULL, &r);
    if (status == RECO_OK && c.json)
        cli_print(json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "rows", (json_int_t)r.rows, "removed",
                            (json_int_t)r.removed, "copied", (json_int_t)r.copied, "segments_before",
                            (json_int_t)r.segments_before, "segments", (json_int_t)r.segments,
                            "vector_bytes_before", (json_int_t)r.bytes_before, "vector_bytes",
                            (json_int_t)r.bytes));
    else if (status == RECO_OK)
        printf("%lld deleted row%s removed, %lld row%s in %zu segment%s (were %zu), %.1f MB of vectors "
               "(were %.1f)\n",
               (long long)r.removed, cli_s((uint64_t)r.removed), (long long)r.rows, cli_s((uint64_t)r.rows),
               r.segments, cli_s(r.segments), r.segments_before, (double)r.bytes / 1e6,
               (double)r.bytes_before / 1e6);
    return cli_end(&c, status);
}
