/* The weights of the original and of each neighbour in a refined embedding. */
#include "fusion/tape.h"
#include "kernels/kernels.h"

/* Of x_0 + g sum_i p_i R_i, or of the neighbours alone. */
static void of_sum(float *w, const float *p, size_t m, size_t k, float own, float g)
{
    float all = 0;
    for (size_t i = 0; i < m; i++) all += p[i];
    all = own + g * all;
    w[0] = all > 0 ? own / all : 1;
    for (size_t i = 0; i < k; i++) w[i + 1] = i < m && all > 0 ? g * p[i] / all : 0;
}

static void of_control(const reco_ctx *ctx, const reco_fusion_config *c, reco_side side, float *w,
                       const float *scores, size_t m, size_t k)
{
    float p[1024]; /* k is at most 1024 */
    bool mean = c->layer == RECO_LAYER_MEAN;
    for (size_t i = 0; i < m; i++) p[i] = mean ? 1 : c->beta[side] * scores[i];
    if (!mean && m) reco_softmax_row(ctx, p, m);
    of_sum(w, p, m, k, c->layer == RECO_LAYER_VOTE ? 0.0f : 1.0f,
           c->layer == RECO_LAYER_WEIGHTED ? c->gain[side] : 1.0f);
}

/* Attention of the last layer's token 0, the mean of its heads. */
static void of_attention(const reco_fusion_config *c, const reco_tape *t, size_t i, float *w)
{
    size_t T = t->k + 1, H = c->heads;
    const float *p = t->blocks[c->layers - 1].p + i * H * T; /* [H][1][T] */
    for (size_t s = 0; s < T; s++) {
        w[s] = 0;
        for (size_t h = 0; h < H; h++) w[s] += p[h * T + s] / (float)H;
    }
}

/* Of one item, of whose neighbours *in->valid count. */
static reco_status of_trained(reco_ctx *ctx, const reco_fusion *f, const reco_fusion_input *in, float *w)
{
    const reco_fusion_config *c = &f->config;
    reco_tape *tape = NULL;
    reco_mark mark = reco_scratch_mark(ctx);
    float *out = reco_scratch(ctx, c->d, sizeof *out, "fusion");
    reco_status status = out ? RECO_OK : RECO_E_NOMEM;
    if (status == RECO_OK) status = reco_tape_create(ctx, &tape, f, 1, in->k);
    if (status == RECO_OK) status = reco_fusion_forward(ctx, f, in, out, tape);
    if (status == RECO_OK && c->layer == RECO_LAYER_TRANSFORMER)
        of_attention(c, tape, 0, w);
    else if (status == RECO_OK)
        of_sum(w, tape->rel.p, *tape->valid, in->k, 1, *tape->rel.gate);
    reco_tape_free(tape);
    reco_scratch_release(ctx, mark);
    return status;
}

reco_status reco_fusion_weights(reco_ctx *ctx, const reco_fusion *f, const reco_fusion_input *in,
                                float *weights)
{
    const reco_fusion_config *c = &f->config;
    size_t k = in->k;
    for (size_t i = 0; i < in->n; i++) {
        reco_fusion_input item = reco_fusion_part(f, in, i, 1);
        float *w = weights + i * (k + 1);
        size_t m = 0;
        if (c->layer != RECO_LAYER_MLP) RECO_TRY(reco_fusion_counts(ctx, &m, f, &item));
        item.valid = &m;
        if (m == 0 || c->layer == RECO_LAYER_NONE)
            of_sum(w, NULL, 0, k, 1, 0);
        else if (reco_layer_trains(c->layer))
            RECO_TRY(of_trained(ctx, f, &item, w));
        else
            of_control(ctx, c, in->side, w, item.scores, m, k);
    }
    return RECO_OK;
}
