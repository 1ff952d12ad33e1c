#include "fusion/tape.h"
#include "kernels/kernels.h"

#include <math.h>

/* Items are few tokens long, so each is done by one thread in registers and L1; the products that matter are the
 * projections before and after, which are matrix products over the whole batch. */
typedef struct job {
    const reco_attn *a;
    float *o, *p;             /* forward's outputs */
    const float *dout, *kept; /* backward's inputs: dLoss/do, forward's p */
    float *dq, *dkv, *dterms; /* dterms [n][2][H] */
    const reco_ctx *ctx;
} job;

static void add_scaled(float *restrict y, const float *restrict x, float s, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] += s * x[i];
}

static void attend_tokens(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const job *j = arg;
    const reco_attn *a = j->a;
    size_t w = a->d / a->H;
    float scale = 1 / sqrtf((float)w);
    for (size_t i = begin; i < end; i++)
        for (size_t h = 0; h < a->H; h++)
            for (size_t t = 0; t < a->tq; t++) {
                const float *q = a->q + (i * a->tq + t) * a->d + h * w; /* [w] */
                const float *kv = a->kv + i * a->T * 2 * a->d + h * w;  /* [T] rows of 2d */
                float *p = j->p + ((i * a->H + h) * a->tq + t) * a->T;  /* [T] */
                float *o = j->o + (i * a->tq + t) * a->d + h * w;       /* [w] */
                size_t seen = a->valid[i] + 1;
                for (size_t s = 0; s < seen; s++) {
                    p[s] = scale * reco_dot_fast(j->ctx, q, kv + s * 2 * a->d, w);
                    if (a->score_scale)
                        p[s] += s == 0 ? a->self_bias[h]
                                       : a->score_scale[h] * a->scores[i * (a->T - 1) + s - 1];
                }
                reco_softmax_row(j->ctx, p, seen);
                for (size_t s = seen; s < a->T; s++) p[s] = 0;
                memset(o, 0, w * sizeof *o);
                for (size_t s = 0; s < seen; s++) add_scaled(o, kv + s * 2 * a->d + a->d, p[s], w);
            }
}

void reco_set_attention(reco_ctx *ctx, float *o, float *p, const reco_attn *a)
{
    reco_parallel(ctx, a->n, 16, attend_tokens, &(job){.a = a, .o = o, .p = p, .ctx = ctx});
}

static void attend_backward(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const job *j = arg;
    const reco_attn *a = j->a;
    size_t w = a->d / a->H;
    float scale = 1 / sqrtf((float)w);
    for (size_t i = begin; i < end; i++) {
        memset(j->dkv + i * a->T * 2 * a->d, 0, a->T * 2 * a->d * sizeof(float));
        for (size_t h = 0; h < a->H; h++)
            for (size_t t = 0; t < a->tq; t++) {
                size_t row = (i * a->tq + t) * a->d + h * w;
                const float *kv = a->kv + i * a->T * 2 * a->d + h * w;
                float *dkv = j->dkv + i * a->T * 2 * a->d + h * w;
                const float *p = j->kept + ((i * a->H + h) * a->tq + t) * a->T;
                const float *dout = j->dout + row;
                size_t seen = a->valid[i] + 1;
                float mean = 0; /* sum_s p_s dp_s */
                for (size_t s = 0; s < seen; s++)
                    mean += p[s] * reco_dot_fast(j->ctx, dout, kv + s * 2 * a->d + a->d, w);
                memset(j->dq + row, 0, w * sizeof(float));
                for (size_t s = 0; s < seen; s++) {
                    float dp = reco_dot_fast(j->ctx, dout, kv + s * 2 * a->d + a->d, w);
                    float dlogit = p[s] * (dp - mean);
                    add_scaled(dkv + s * 2 * a->d + a->d, dout, p[s], w);
                    add_scaled(dkv + s * 2 * a->d, a->q + row, scale * dlogit, w);
                    add_scaled(j->dq + row, kv + s * 2 * a->d, scale * dlogit, w);
                    if (!a->score_scale) continue;
                    float *dterm = j->dterms + i * 2 * a->H + h;
                    if (s == 0)
                        dterm[a->H] += dlogit;
                    else
                        dterm[0] += dlogit * a->scores[i * (a->T - 1) + s - 1];
                }
            }
    }
}

reco_status reco_set_attention_backward(reco_ctx *ctx, float *dq, float *dkv, float *dscore, float *dself,
                                        const float *dout, const float *p, const reco_attn *a)
{
    reco_mark mark = reco_scratch_mark(ctx);
    size_t terms = a->score_scale ? a->n * 2 * a->H : 0;
    float *dterms = reco_scratch(ctx, terms, sizeof *dterms, "fusion backward");
    if (!dterms) return RECO_E_NOMEM;
    memset(dterms, 0, terms * sizeof *dterms);
    reco_parallel(
        ctx, a->n, 16, attend_backward,
        &(job){.a = a, .dout = dout, .kept = p, .dq = dq, .dkv = dkv, .dterms = dterms, .ctx = ctx});
    /* Summed in the order of items, so that the result does not depend on the threads. */
    for (size_t i = 0; i < (terms ? a->n : 0); i++)
        for (size_t h = 0; h < a->H; h++) {
            dscore[h] += dterms[i * 2 * a->H + h];
            dself[h] += dterms[i * 2 * a->H + a->H + h];
        }
    reco_scratch_release(ctx, mark);
    return RECO_OK;
}
