#include "bank/write/writer.h"

reco_status reco_bank_commit(reco_ctx *ctx, reco_bank_writer *w, uint64_t next, int done)
{
    RECO_TRY(reco_bank_writer_check(ctx, w));
    if (next > INT64_MAX)
        return reco_fail(ctx, RECO_E_ARG, "bank: next = %llu, want at most %lld", (unsigned long long)next,
                         (long long)INT64_MAX);
    if (w->ops) return w->broken = w->ops->commit(ctx, w, next, done != 0);
    int64_t before = w->committed;
    w->broken = reco_bank_writer_flush(ctx, w);
    if (w->broken == RECO_OK) w->broken = reco_bank_writer_join(ctx, w);
    if (w->broken == RECO_OK) w->broken = reco_bank_rewrite_changed(ctx, w);
    if (w->broken != RECO_OK) return w->broken;
    const reco_catalog_change change = {
        .segments = &w->files,
        .old = &w->old,
        .next_id = w->next_id,
        .next_segment = w->next_segment,
        .job = w->job,
        .first = w->keeps_first ? w->first : -1,
        .next = next,
        .done = done != 0,
    };
    w->broken = reco_catalog_commit(ctx, w->catalog, &change);
    /* A failed commit may still lie whole in the log, and come true when the log is read again. */
    w->commit_failed = w->broken != RECO_OK;
    if (w->broken != RECO_OK) return w->broken;
    w->files.n = 0;
    w->committed = w->next_id;
    reco_bank_changes_committed(ctx, w);
    /* Rows that are in stay in; without scan files they are found all the same, and the next commit tries again: only of
     * the last one there is something to tell. */
    if (w->committed > before && reco_bank_index_new(ctx, w, before) != RECO_OK && done)
        reco_log(ctx, RECO_LOG_WARN, "%s; the bank lacks scan files", reco_ctx_error(ctx));
    return RECO_OK;
}
