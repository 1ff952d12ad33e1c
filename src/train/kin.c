#include "train/train_internal.h"

reco_status reco_job_find_kin(reco_job *job)
{
    reco_ctx *ctx = job->ctx;
    size_t reach = job->reach[RECO_IMAGE], captions = job->same.captions;
    if (!job->twins || !job->inside || job->trained < job->n) return RECO_OK;
    job->kin = reco_alloc(ctx, job->n * reach, 1, "neighbours");
    uint32_t *rows = reco_alloc(ctx, 2 * captions, sizeof *rows, "neighbours"), *passed = rows + captions;
    if (!job->kin || !rows) {
        reco_free(rows);
        return RECO_E_NOMEM;
    }
    memset(rows, 0, 2 * captions * sizeof *rows);
    for (size_t i = 0; i < job->n; i++) {
        const uint32_t *near = job->near[RECO_IMAGE] + i * reach;
        size_t n = 0;
        for (; n < reach && near[n] != RECO_NOTHING; n++) rows[job->same.caption[near[n]]]++;
        for (size_t h = 0; h < n; h++) {
            uint32_t caption = job->same.caption[near[h]];
            bool nearer = passed[caption]++ < rows[caption] / 2;
            job->kin[i * reach + h] = nearer;
            job->apart |= nearer;
        }
        for (size_t h = 0; h < n; h++)
            rows[job->same.caption[near[h]]] = passed[job->same.caption[near[h]]] = 0;
    }
    reco_free(rows);
    return RECO_OK;
}
