#include "bank/bank_internal.h"

reco_status reco_bank_get(reco_ctx *ctx, const reco_bank *bank, int64_t id, reco_pair *out)
{
    return reco_catalog_pair(ctx, bank->catalog, id, false, out);
}

reco_status reco_bank_get_deleted(reco_ctx *ctx, const reco_bank *bank, int64_t id, reco_pair *out)
{
    return reco_catalog_pair(ctx, bank->catalog, id, true, out);
}
