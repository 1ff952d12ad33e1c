#include "bank/bank_internal.h"

reco_status reco_bank_get(reco_ctx *ctx, const reco_bank *bank, int64_t id, reco_pair *out)
{
    return reco_catalog_pair(ctx, bank->catalog, id, false, out);
}

reco_status reco_bank_get_deleted(reco_ctx *ctx, const reco_bank *bank, int64_t id, reco_pair *out)
{
    return reco_catalog_pair(ctx, bank->catalog, id, true, out);
}

/* The caption's block holds all three strings. */
void reco_pair_free(reco_pair *pair)
{
    if (!pair) return;
    reco_free((void *)(uintptr_t)pair->caption);
    *pair = (reco_pair){0};
}
