#include "bank/search/filter.h"

reco_status reco_bank_filter_new(reco_ctx *ctx, reco_bank_filter **out, const reco_bank *bank)
{
    *out = NULL;
    reco_bank_filter *f = reco_alloc(ctx, 1, sizeof *f, "filter");
    if (!f) return RECO_E_NOMEM;
    f->bank = bank;
    f->bits = reco_alloc(ctx, bank->positions / 64 + 1, sizeof *f->bits, "filter");
    if (!f->bits) {
        reco_free(f);
        return RECO_E_NOMEM;
    }
    *out = f;
    return RECO_OK;
}

reco_status reco_folder_filter_ids(reco_ctx *ctx, reco_bank_filter **out, const reco_bank *bank,
                                   const int64_t *ids, size_t n)
{
    RECO_TRY(reco_bank_filter_new(ctx, out, bank));
    reco_bank_filter *f = *out;
    for (size_t i = 0; i < n; i++) {
        size_t p;
        if (!reco_bank_find(bank, ids[i], &p) || reco_bank_is_deleted(bank, p)) continue;
        f->count += !(f->bits[p / 64] >> p % 64 & 1);
        f->bits[p / 64] |= (uint64_t)1 << p % 64;
    }
    return RECO_OK;
}

size_t reco_bank_filter_count(const reco_bank_filter *filter) { return filter->count; }

void reco_bank_filter_free(reco_bank_filter *filter)
{
    if (!filter) return;
    reco_free(filter->where);
    reco_free(filter->packed);
    reco_free(filter->bits);
    reco_free(filter);
}
