#include "search.h"

reco_status cli_search_file(cli *c, const cli_search *a, const reco_bank *bank, uint64_t *failures)
{
    reco_search_result r;
    reco_stream_opts stream = {.failure = cli_failure, .user = c};
    reco_status status =
        reco_search_file(c->ctx, bank, (reco_side)a->in, a->file, a->out, &a->search, &stream, &r);
    if (status != RECO_OK) return status;
    *failures = r.failures;
    cli_clear_bar(c);
    if (c->json)
        cli_print(json_pack("{s:I, s:I, s:I, s:I, s:O, s:f}", "queries", (json_int_t)r.queries, "k",
                            (json_int_t)a->search.k, "normalised", (json_int_t)r.normalised, "failures",
                            (json_int_t)r.failures, "failed", c->failed, "seconds", r.seconds));
    else {
        printf("%llu queries in %.3f s: %s/ids.npy, %s/scores.npy", (unsigned long long)r.queries,
               r.seconds, a->out, a->out);
        if (r.normalised)
            printf("; %llu were not of norm 1 and were normalised", (unsigned long long)r.normalised);
        putchar('\n');
    }
    return RECO_OK;
}
