#include "fusion/tape.h"
#include "kernels/kernels.h"

typedef struct job {
    const reco_ctx *ctx;
    const reco_fusion_config *c;
    float *z;
    const reco_fusion_input *in;
    const size_t *valid;
} job;

/* All three are own * x_0 + g * sum_i p_i R_i. */
static void items(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const job *j = arg;
    const reco_fusion_input *in = j->in;
    size_t d = j->c->d, k = in->k;
    bool mean = j->c->layer == RECO_LAYER_MEAN;
    float own = j->c->layer == RECO_LAYER_VOTE ? 0.0f : 1.0f;
    float g = j->c->layer == RECO_LAYER_WEIGHTED ? j->c->gain[in->side] : 1.0f;
    for (size_t i = begin; i < end; i++) {
        float p[1024]; /* k is at most 1024 */
        float *z = j->z + i * d;
        size_t m = j->valid[i];
        for (size_t n = 0; n < m; n++) p[n] = mean ? 1 : j->c->beta[in->side] * in->scores[i * k + n];
        if (!mean && m) reco_softmax_row(j->ctx, p, m);
        for (size_t q = 0; q < d; q++) z[q] = own * in->x[i * d + q];
        for (size_t n = 0; n < m; n++)
            for (size_t q = 0; q < d; q++) z[q] += g * p[n] * in->retrieved[(i * k + n) * d + q];
    }
}

void reco_control_forward(reco_ctx *ctx, const reco_fusion *f, float *z, const reco_fusion_input *in,
                          const size_t *valid)
{
    reco_parallel(ctx, in->n, 16, items, &(job){ctx, &f->config, z, in, valid});
}
