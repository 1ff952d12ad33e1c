#include "fusion/tape.h"
#include "kernels/kernels.h"

typedef struct job {
    const reco_fusion_config *c;
    reco_side side;
    float *z;
    const float *x, *retrieved, *scores;
    const size_t *valid;
    size_t k;
    const reco_ctx *ctx;
} job;

/* All three are own * x_0 + g * sum_i p_i R_i. */
static void items(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const job *j = arg;
    size_t d = j->c->d;
    bool mean = j->c->layer == RECO_LAYER_MEAN;
    float own = j->c->layer == RECO_LAYER_VOTE ? 0.0f : 1.0f;
    float g = j->c->layer == RECO_LAYER_WEIGHTED ? j->c->gain[j->side] : 1.0f;
    for (size_t i = begin; i < end; i++) {
        float p[1024]; /* k is at most 1024 */
        float *z = j->z + i * d;
        size_t m = j->valid[i];
        for (size_t n = 0; n < m; n++) p[n] = mean ? 1 : j->c->beta[j->side] * j->scores[i * j->k + n];
        if (!mean && m) reco_softmax_row(j->ctx, p, m);
        for (size_t q = 0; q < d; q++) z[q] = own * j->x[i * d + q];
        for (size_t n = 0; n < m; n++)
            for (size_t q = 0; q < d; q++) z[q] += g * p[n] * j->retrieved[(i * j->k + n) * d + q];
    }
}

void reco_control_forward(reco_ctx *ctx, const reco_fusion *f, reco_side side, float *z, const float *x,
                          const float *retrieved, const float *scores, const size_t *valid, size_t n,
                          size_t k)
{
    reco_parallel(ctx, n, 16, items, &(job){&f->config, side, z, x, retrieved, scores, valid, k, ctx});
}
