#include "pipeline/pipeline_internal.h"

/* Items at a time: k vectors are gathered for each. */
#define ITEMS 256

static reco_status block(reco_ctx *ctx, const reco_bank *bank, const reco_fusion *fusion, reco_side side,
                         const float *x, size_t n, size_t k, const reco_search_opts *search, float *out,
                         reco_hits hits)
{
    reco_fusion_config config = reco_fusion_get_config(fusion);
    size_t d = config.d;
    reco_status status = RECO_OK;
    if (config.layer == RECO_LAYER_MLP && !hits.ids && !hits.scores && !hits.counts)
        return reco_fusion_refine(ctx, fusion, side, x, NULL, NULL, NULL, n, k, out);
    reco_mark mark = reco_scratch_mark(ctx);
    float *retrieved = reco_scratch(ctx, n * k * d, sizeof(float), "retrieved");
    hits.ids = hits.ids ? hits.ids : reco_scratch(ctx, n * k, sizeof(int64_t), "hits");
    hits.scores = hits.scores ? hits.scores : reco_scratch(ctx, n * k, sizeof(float), "hits");
    hits.counts = hits.counts ? hits.counts : reco_scratch(ctx, n, sizeof(size_t), "hits");
    if (!retrieved || !hits.ids || !hits.scores || !hits.counts) RECO_GO(RECO_E_NOMEM);
    RECO_GO(reco_bank_search(ctx, bank, reco_modality_side(config.search, side), x, n, search, hits));
    RECO_GO(reco_bank_gather(ctx, bank, reco_modality_side(config.fuse, side), hits.ids, n * k, retrieved));
    RECO_GO(reco_fusion_refine(ctx, fusion, side, x, retrieved, hits.scores, hits.counts, n, k, out));
out:
    reco_scratch_release(ctx, mark);
    return status;
}

reco_status reco_refine(reco_ctx *ctx, const reco_bank *bank, const reco_fusion *fusion, reco_side side,
                        const float *x, size_t n, const reco_refine_opts *opts, float *out, reco_hits hits)
{
    reco_fusion_config config = reco_fusion_get_config(fusion);
    size_t d = config.d, k = opts && opts->k ? opts->k : config.k;
    reco_search_opts search = {.k = k, .filter = opts ? opts->filter : NULL};
    if (opts && opts->use_min) {
        search.use_min = 1;
        search.min_similarity = opts->min_similarity;
    }
    RECO_TRY(reco_check_encoder(ctx, NULL, bank, fusion));
    for (size_t i = 0; i < n; i += ITEMS) {
        reco_hits part = {hits.ids ? hits.ids + i * k : NULL, hits.scores ? hits.scores + i * k : NULL,
                          hits.counts ? hits.counts + i : NULL};
        RECO_TRY(block(ctx, bank, fusion, side, x + i * d, reco_min(ITEMS, n - i), k, &search, out + i * d,
                       part));
    }
    return RECO_OK;
}
