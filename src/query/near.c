/* Similarities of the neighbours that vote, by the metric that a layer learned. */
#include "fusion/fusion.h"
#include "query/query.h"

enum { BLOCK = 64 }; /* questions at a time */

reco_status reco_vote_near(reco_ctx *ctx, const reco_memory *memory, const float *x, size_t n,
                           const int64_t *ids, size_t reach, const float *images, size_t fetch, float *near)
{
    const float *metric = reco_fusion_metric(memory->fusion);
    size_t d = reco_bank_get_info(memory->bank)->d;
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    size_t most = reco_min(n, BLOCK) * reach;
    int64_t *unique = reco_scratch(ctx, most, sizeof *unique, "neighbours");
    uint32_t *place = reco_scratch(ctx, most, sizeof *place, "neighbours");
    if (!unique || !place) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < n; i += BLOCK) {
        reco_mark inner = reco_scratch_mark(ctx);
        size_t some = reco_min(BLOCK, n - i),
               m = reco_metric_rows(ids + i * reach, some * reach, unique, place);
        float *rows = reco_scratch(ctx, m * d, sizeof *rows, "neighbours");
        if (!rows) RECO_GO(RECO_E_NOMEM);
        if (!images) RECO_GO(reco_bank_gather(ctx, memory->bank, RECO_IMAGE, unique, m, rows));
        for (size_t j = 0; images && j < some * reach; j++)
            if (place[j] != RECO_NO_CANDIDATE)
                memcpy(rows + place[j] * d, images + ((i + j / reach) * fetch + j % reach) * d,
                       d * sizeof *rows);
        RECO_GO(
            reco_metric_scores(ctx, metric, x + i * d, some, rows, m, place, reach, d, near + i * reach));
        reco_scratch_release(ctx, inner);
    }
out:
    reco_scratch_release(ctx, mark);
    return status;
}
