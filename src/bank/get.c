#include "bank/bank_internal.h"

reco_status reco_bank_get(reco_ctx *ctx, const reco_bank *bank, int64_t id, reco_pair *out)
{
    return reco_catalog_pair(ctx, bank->catalog, id, false, out);
}

reco_status reco_bank_get_many(reco_ctx *ctx, const reco_bank *bank, const int64_t *ids, size_t n,
                               reco_pair *out)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = (reco_pair){.id = -1};
        reco_status status = ids[i] == -1 ? RECO_OK : reco_bank_get(ctx, bank, ids[i], &out[i]);
        if (status == RECO_OK) continue;
        while (i-- > 0) reco_pair_free(&out[i]);
        return status;
    }
    return RECO_OK;
}

reco_status reco_bank_get_deleted(reco_ctx *ctx, const reco_bank *bank, int64_t id, reco_pair *out)
{
    return reco_catalog_pair(ctx, bank->catalog, id, true, out);
}
