/* The mixture of cosines, as one vector per row. */
#include "fusion/params.h"

#include <math.h>

static reco_status check_weight(reco_ctx *ctx, float weight)
{
    if (weight >= 0 && weight <= 1) return RECO_OK;
    return reco_fail(ctx, RECO_E_ARG, "fusion: weight of the original is %g, want 0..1", (double)weight);
}

reco_status reco_fusion_set_concat(reco_ctx *ctx, reco_fusion *fusion, float weight)
{
    RECO_TRY(check_weight(ctx, weight));
    fusion->concat = weight;
    return RECO_OK;
}

/* Where posteriors are flat, the mixture moves with a s1 cos + b s2 cos'. */
reco_status reco_fusion_get_concat(reco_ctx *ctx, const reco_fusion *fusion, float *weight)
{
    const reco_mixture *m = &fusion->config.mixture;
    if (!isnan(fusion->concat)) {
        *weight = fusion->concat;
        return RECO_OK;
    }
    float own = m->clip * m->scale[0], refined = m->refined * m->scale[1];
    if (!(m->scale[0] > 0 && own + refined > 0))
        return reco_fail(ctx, RECO_E_ARG, "fusion: training set no weight for concatenation");
    *weight = own / (own + refined);
    return RECO_OK;
}

void reco_fusion_concat(float *out, const float *x, const float *refined, float weight, size_t n, size_t d)
{
    float own = sqrtf(weight), other = sqrtf(1 - weight);
    for (size_t i = 0; i < n; i++)
        for (size_t q = 0; q < d; q++) {
            out[2 * i * d + q] = own * x[i * d + q];
            out[(2 * i + 1) * d + q] = other * refined[i * d + q];
        }
}
