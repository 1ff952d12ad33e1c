#include "search.h"

reco_status cli_search_file(cli *c, cli_search *a, uint64_t *failures)
{
    reco_search_result r;
    reco_side own = (reco_side)(a->own < 0 ? a->in : a->own);
    reco_search_file_opts opts = {.failure = cli_failure, .user = c, .encoder = a->encoder};
    reco_settings settings;
    a->find.in = (reco_side)a->in;
    opts.find = a->find;
    reco_memory_settle(&a->memory, own, a->find.in, &settings);
    reco_status status = reco_search_file(c->ctx, &a->memory, own, a->file, a->out, &opts, &r);
    if (status != RECO_OK) return status;
    *failures = r.failures;
    a->nrows = r.queries;
    cli_clear_bar(c);
    if (c->json) {
        json_t *answer =
            json_pack("{s:I, s:I, s:I, s:I, s:O, s:f, s:b, s:o}", "queries", (json_int_t)r.queries, "k",
                      (json_int_t)a->find.k, "normalised", (json_int_t)r.normalised, "failures",
                      (json_int_t)r.failures, "failed", c->failed, "seconds", r.seconds, "refined",
                      (int)settings.sides >> own & 1, "mixture", cli_mixture(&settings.mixture));
        cli_tell_search(c, a->memory.bank, answer);
        cli_print(answer);
    } else {
        char more[80] = "";
        if (r.normalised)
            snprintf(more, sizeof more, "; %llu %s not of norm 1 and %s normalised",
                     (unsigned long long)r.normalised, r.normalised == 1 ? "was" : "were",
                     r.normalised == 1 ? "was" : "were");
        cli_say("%llu %s in %.3f s: %s/ids.npy, %s/scores.npy%s", (unsigned long long)r.queries,
                r.queries == 1 ? "query" : "queries", r.seconds, a->out, a->out, more);
    }
    return RECO_OK;
}
