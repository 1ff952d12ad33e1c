#include "bank/search/filter.h"

static reco_status set_bit(reco_ctx *ctx, void *arg, int64_t id, bool *enough)
{
    reco_bank_filter *f = arg;
    size_t p;
    (void)enough;
    if (!reco_bank_find(f->bank, id, &p))
        return reco_fail(ctx, RECO_E_FORMAT, "bank: pair %lld has no vectors", (long long)id);
    f->count += !(f->bits[p / 64] >> p % 64 & 1);
    f->bits[p / 64] |= (uint64_t)1 << p % 64;
    return RECO_OK;
}

reco_status reco_folder_filter_where(reco_ctx *ctx, reco_bank_filter **out, const reco_bank *bank,
                                     const char *where)
{
    reco_bank_filter *f;
    *out = NULL;
    RECO_TRY(reco_bank_filter_new(ctx, &f, bank));
    const reco_where_query query = {.where = where, .rows = (uint64_t)bank->positions};
    reco_status status = reco_catalog_where(ctx, bank->catalog, &query, set_bit, f);
    if (status == RECO_OK) status = reco_bank_filter_finish(ctx, f);
    if (status == RECO_OK)
        *out = f;
    else
        reco_bank_filter_free(f);
    return status;
}
