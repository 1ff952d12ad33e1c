/* Attention of token 0 alone, as the last layer needs it. With one query to an item keys and values need not be made: its inner
 * product with a key, q.(Wk a + bk), is (Wk^T q).a but for what is the same for all tokens, which softmax does not see; and the
 * sum of values is Wv times the sum of tokens, plus bv. The products are then of n rows and not of n*T. */
#include "fusion/tape.h"
#include "kernels/kernels.h"

#include <math.h>

typedef struct job {
    const reco_attn *a;
    const reco_ctx *ctx;
    const float *tokens, *r; /* [n*T][d], [n][H][d] */
    float *p, *sums;         /* [n][H][T], [n][H][d] */
    const float *kept;       /* backward: p */
    float *dsums, *da;       /* backward: [n][H][d] becomes d of r; [n*T][d] */
    float *dterms;           /* [n][2][H] */
    float *spare;            /* [threads][2H] */
} job;

static void attend_first_token(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const job *j = arg;
    const reco_attn *a = j->a;
    size_t d = a->d, H = a->H, T = a->T;
    float scale = 1 / sqrtf((float)(d / H));
    for (size_t i = begin; i < end; i++)
        for (size_t h = 0; h < H; h++) {
            const float *tokens = j->tokens + i * T * d, *r = j->r + (i * H + h) * d;
            float *p = j->p + (i * H + h) * T, *sum = j->sums + (i * H + h) * d;
            size_t seen = a->valid[i] + 1;
            reco_dots(j->ctx, p, r, tokens, d, NULL, seen, d);
            for (size_t s = 0; s < seen; s++) {
                p[s] *= scale;
                if (a->score_scale)
                    p[s] += s == 0 ? a->self_bias[h] : a->score_scale[h] * a->scores[i * (T - 1) + s - 1];
            }
            reco_softmax_row(j->ctx, p, seen);
            for (size_t s = seen; s < T; s++) p[s] = 0;
            memset(sum, 0, d * sizeof *sum);
            reco_mix(j->ctx, sum, tokens, d, NULL, p, seen, d);
        }
}

reco_status reco_pooled_attention(reco_ctx *ctx, const reco_fusion *f, float *o, float *p, float *r,
                                  float *sums, const float *tokens, const float *wk, const float *wv,
                                  const float *bv, const reco_attn *a)
{
    size_t d = a->d, H = a->H, w = d / H;
    for (size_t h = 0; h < H; h++)
        RECO_TRY(reco_fusion_product(ctx, f, r + h * d, H * d, a->q + h * w, d, wk + h * w * d, d, false,
                                     a->n, d, w, 0));
    reco_parallel(ctx, a->n, 16, attend_first_token,
                  &(job){.a = a, .ctx = ctx, .tokens = tokens, .r = r, .p = p, .sums = sums});
    for (size_t i = 0; i < a->n; i++) memcpy(o + i * d, bv, d * sizeof *o);
    for (size_t h = 0; h < H; h++)
        RECO_TRY(reco_fusion_product(ctx, f, o + h * w, d, sums + h * d, H * d, wv + h * w * d, d, true,
                                     a->n, w, d, 1));
    return RECO_OK;
}

/* d of token s of an item: what its heads make of it, as key and as value. */
static void attend_backward(void *arg, size_t begin, size_t end, int worker)
{
    const job *j = arg;
    const reco_attn *a = j->a;
    size_t d = a->d, H = a->H, T = a->T;
    float scale = 1 / sqrtf((float)(d / H)), *dlogit = j->spare + (size_t)worker * (H * T + 2 * H),
          *by_token = dlogit + H * T;
    for (size_t i = begin; i < end; i++) {
        const float *tokens = j->tokens + i * T * d, *r = j->r + i * H * d;
        float *dsums = j->dsums + i * H * d;
        size_t seen = a->valid[i] + 1;
        for (size_t h = 0; h < H; h++) {
            const float *p = j->kept + (i * H + h) * T;
            float *dl = dlogit + h * T, mean = 0, *dterm = j->dterms + i * 2 * H + h;
            reco_dots(j->ctx, dl, dsums + h * d, tokens, d, NULL, seen, d);
            for (size_t s = 0; s < seen; s++) mean += p[s] * dl[s];
            for (size_t s = 0; s < seen; s++) {
                dl[s] = p[s] * (dl[s] - mean);
                if (!a->score_scale) continue;
                if (s == 0)
                    dterm[H] += dl[s];
                else
                    dterm[0] += dl[s] * a->scores[i * (T - 1) + s - 1];
            }
            for (size_t s = 0; s < seen; s++) dl[s] *= scale;
        }
        float *da = j->da + i * T * d;
        memset(da, 0, T * d * sizeof *da);
        for (size_t s = 0; s < seen; s++) {
            for (size_t h = 0; h < H; h++) {
                by_token[h] = j->kept[(i * H + h) * T + s];
                by_token[H + h] = dlogit[h * T + s];
            }
            reco_mix(j->ctx, da + s * d, dsums, d, NULL, by_token, H, d);
            reco_mix(j->ctx, da + s * d, r, d, NULL, by_token + H, H, d);
        }
        memset(dsums, 0, H * d * sizeof *dsums);
        for (size_t h = 0; h < H; h++)
            reco_mix(j->ctx, dsums + h * d, tokens, d, NULL, dlogit + h * T, seen, d);
    }
}

reco_status reco_pooled_attention_backward(reco_ctx *ctx, const reco_pooled_grads *g, const float *dout,
                                           const float *p, const float *r, const float *sums,
                                           const float *tokens, const float *wk, const float *wv,
                                           const reco_attn *a)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    size_t n = a->n, d = a->d, H = a->H, w = d / H;
    float *dsums = reco_scratch(ctx, n * H * d, sizeof *dsums, "fusion backward");
    float *dterms = reco_scratch(ctx, n * 2 * H, sizeof *dterms, "fusion backward");
    float *spare = reco_scratch(ctx, (size_t)reco_ctx_threads(ctx) * (H * a->T + 2 * H), sizeof *spare,
                                "fusion backward");
    if (!dsums || !dterms || !spare) RECO_GO(RECO_E_NOMEM);
    memset(dterms, 0, n * 2 * H * sizeof *dterms);
    reco_column_sums(ctx, g->dbv, dout, n, d);
    for (size_t h = 0; h < H; h++) {
        RECO_GO(reco_gemm(ctx, g->dwv + h * w * d, d, dout + h * w, d, true, sums + h * d, H * d, false, w,
                          d, n, 1, 1));
        RECO_GO(reco_gemm(ctx, dsums + h * d, H * d, dout + h * w, d, false, wv + h * w * d, d, false, n, d,
                          w, 1, 0));
    }
    reco_parallel(ctx, n, 16, attend_backward,
                  &(job){.a = a,
                         .ctx = ctx,
                         .tokens = tokens,
                         .r = r,
                         .kept = p,
                         .dsums = dsums,
                         .da = g->da,
                         .dterms = dterms,
                         .spare = spare});
    for (size_t h = 0; h < H; h++) {
        RECO_GO(reco_gemm(ctx, g->dwk + h * w * d, d, a->q + h * w, d, true, dsums + h * d, H * d, false, w,
                          d, n, 1, 1));
        RECO_GO(reco_gemm(ctx, g->dq + h * w, d, dsums + h * d, H * d, false, wk + h * w * d, d, true, n, w,
                          d, 1, 0));
    }
    /* Summed in the order of items, so that the result does not depend on the threads. */
    for (size_t i = 0; i < (a->score_scale ? n : 0); i++)
        for (size_t h = 0; h < H; h++) {
            g->dscore[h] += dterms[i * 2 * H + h];
            g->dself[h] += dterms[i * 2 * H + H + h];
        }
out:
    reco_scratch_release(ctx, mark);
    return status;
}
