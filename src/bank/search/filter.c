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
    reco_status status = reco_bank_filter_finish(ctx, f);
    if (status == RECO_OK) return RECO_OK;
    reco_bank_filter_free(f);
    *out = NULL;
    return status;
}

reco_status reco_bank_filter_finish(reco_ctx *ctx, reco_bank_filter *f)
{
    const reco_bank *bank = f->bank;
    if (!bank->lists) return RECO_OK;
    for (int side = 0; side < 2; side++) {
        size_t n = bank->lists->side[side].ncells;
        f->cells[side] = reco_alloc(ctx, n, sizeof *f->cells[side], "filter");
        if (!f->cells[side]) return RECO_E_NOMEM;
        reco_lists_count(bank->lists, (reco_side)side, bank->segments, bank->nsegments, f->bits,
                         f->cells[side]);
    }
    for (size_t c = 0; c < bank->lists->side[0].ncells; c++) f->listed += f->cells[0][c];
    for (int side = 0; side < 2; side++)
        f->even[side] = reco_lists_even(bank->lists, (reco_side)side, f->cells[side], f->listed);
    return RECO_OK;
}

size_t reco_bank_filter_count(const reco_bank_filter *filter) { return filter->count; }

void reco_bank_filter_free(reco_bank_filter *filter)
{
    if (!filter) return;
    reco_free(filter->where);
    reco_free(filter->packed);
    reco_free(filter->bits);
    for (int side = 0; side < 2; side++) reco_free(filter->cells[side]);
    reco_free(filter);
}
