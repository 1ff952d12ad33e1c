#include "bank/bank_internal.h"

typedef struct taken {
    int64_t *ids;
    size_t n, max;
} taken;

static reco_status take(reco_ctx *ctx, void *arg, int64_t id, bool *enough)
{
    taken *t = arg;
    (void)ctx;
    t->ids[t->n++] = id;
    *enough = t->n == t->max;
    return RECO_OK;
}

static reco_status select_rows(reco_ctx *ctx, const reco_bank *bank, const reco_where_query *query,
                               size_t max, int64_t *ids, size_t *n)
{
    *n = 0;
    if (max == 0) return RECO_OK;
    taken t = {.ids = ids, .max = max};
    reco_status status = reco_catalog_where(ctx, bank->catalog, query, take, &t);
    if (status == RECO_OK) *n = t.n;
    return status;
}

reco_status reco_bank_select(reco_ctx *ctx, const reco_bank *bank, const char *where, int64_t from,
                             size_t max, int64_t *ids, size_t *n)
{
    const reco_where_query query = {.where = where, .from = from, .rows = (uint64_t)bank->positions};
    return where ? select_rows(ctx, bank, &query, max, ids, n)
                 : reco_bank_ids(ctx, bank, from, max, ids, n);
}

reco_status reco_bank_select_deleted(reco_ctx *ctx, const reco_bank *bank, const char *where, int64_t from,
                                     size_t max, int64_t *ids, size_t *n)
{
    const reco_where_query query = {
        .where = where, .from = from, .rows = (uint64_t)bank->positions, .deleted = true};
    return where ? select_rows(ctx, bank, &query, max, ids, n)
                 : reco_bank_deleted_ids(ctx, bank, from, max, ids, n);
}
