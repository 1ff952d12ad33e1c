#include "bank/bank.h"
#include "base/base.h"

int reco_by_wanted(const void *a, const void *b)
{
    const reco_wanted *x = a, *y = b;
    if (x->id != y->id) return x->id < y->id ? -1 : 1;
    return (x->at > y->at) - (x->at < y->at);
}

reco_status reco_id_list_add(reco_ctx *ctx, reco_id_list *to, const int64_t *ids, size_t n)
{
    if (n == 0) return RECO_OK;
    if (to->n + n > to->room) {
        size_t room = reco_max(1024, 2 * (to->n + n));
        int64_t *grown = reco_alloc_raw(ctx, room, sizeof *grown, "rows");
        if (!grown) return RECO_E_NOMEM;
        if (to->n) memcpy(grown, to->at, to->n * sizeof *grown);
        reco_free(to->at);
        to->at = grown;
        to->room = room;
    }
    memcpy(to->at + to->n, ids, n * sizeof *ids);
    to->n += n;
    return RECO_OK;
}
