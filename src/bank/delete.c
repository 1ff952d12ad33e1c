#include "bank/bank_internal.h"

reco_status reco_bank_delete(reco_ctx *ctx, const char *path, const int64_t *ids, size_t nids,
                             const char *const *uris, size_t nuris, uint64_t *deleted, uint64_t *missing)
{
    uint64_t next, marked, absent;
    int done;
    reco_bank_writer *w;
    RECO_TRY(reco_bank_writer_open(ctx, &w, path, NULL, "", &next, &done));
    reco_status status = reco_catalog_delete(ctx, w->catalog, ids, nids, uris, nuris, &marked, &absent);
    reco_bank_writer_close(w);
    if (status != RECO_OK) return status;
    if (deleted) *deleted = marked;
    if (missing) *missing = absent;
    return RECO_OK;
}
