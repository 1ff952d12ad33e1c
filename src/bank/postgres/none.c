/* Replaces the rest of this folder in builds without libpq. */
#include "bank/bank_internal.h"
#include "bank/postgres/postgres.h"

static reco_status none(reco_ctx *ctx)
{
    return reco_fail(ctx, RECO_E_UNSUPPORTED,
                     "bank: reco was built without libpq and can't open postgresql:// URLs");
}

reco_status reco_pg_open(reco_ctx *ctx, reco_bank **out, const char *urls, const reco_bank_open_opts *opts)
{
    (void)urls, (void)opts;
    *out = NULL;
    return none(ctx);
}

reco_status reco_pg_writer_open(reco_ctx *ctx, reco_bank_writer **out, const char *urls,
                                const reco_bank_spec *spec, const char *job, uint64_t *next, int *done)
{
    (void)urls, (void)spec, (void)job, (void)next, (void)done;
    *out = NULL;
    return none(ctx);
}

reco_status reco_pg_index(reco_ctx *ctx, const char *urls, const reco_lists_opts *opts,
                          reco_lists_result *result)
{
    (void)urls, (void)opts, (void)result;
    return none(ctx);
}

reco_status reco_pg_deletion_open(reco_ctx *ctx, reco_bank_deletion **out, const char *urls, bool preview)
{
    (void)urls, (void)preview;
    *out = NULL;
    return none(ctx);
}
