#include "bank/bank_internal.h"

typedef struct taken {
    int64_t *ids;
    size_t n, max;
} taken;

static reco_status take_id(reco_ctx *ctx, void *arg, int64_t id, bool *enough)
{
    taken *t = arg;
    (void)ctx;
    t->ids[t->n++] = id;
    *enough = t->n == t->max;
    return RECO_OK;
}

reco_status reco_folder_select(reco_ctx *ctx, const reco_bank *bank, const reco_bank_choice *choice,
                               size_t max, int64_t *ids, size_t *n)
{
    if (!choice->where) {
        *n = reco_folder_list(bank, choice->deleted, choice->from, max, ids);
        return RECO_OK;
    }
    if (max == 0) return RECO_OK;
    const reco_where_query query = {.where = choice->where,
                                    .from = choice->from,
                                    .rows = (uint64_t)bank->positions,
                                    .deleted = choice->deleted};
    taken t = {.ids = ids, .max = max};
    reco_status status = reco_catalog_where(ctx, bank->catalog, &query, take_id, &t);
    if (status == RECO_OK) *n = t.n;
    return status;
}
