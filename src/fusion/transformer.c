#include "fusion/tape.h"
#include "kernels/kernels.h"

static void add_residual(float *restrict y, const float *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] += x[i];
}

/* The shapes of one layer of one pass. */
typedef struct shape {
    size_t n, T, tq, d, mlp;
    size_t rows, qrows; /* n*T, n*tq */
    size_t ldq;         /* distance of query rows in [n*T][d]: token 0 of each item, or every row */
} shape;

static shape layer_shape(const reco_fusion *f, const reco_tape *tape, size_t l)
{
    const reco_fusion_config *c = &f->config;
    size_t T = tape->k + 1, tq = l + 1 == c->layers ? 1 : T;
    return (shape){.n = tape->n,
                   .T = T,
                   .tq = tq,
                   .d = c->d,
                   .mlp = c->mlp,
                   .rows = tape->n * T,
                   .qrows = tape->n * tq,
                   .ldq = tq == 1 ? T * c->d : c->d};
}

static reco_attn attention_of(const reco_fusion *f, const reco_tape *tape, size_t l, const shape *s)
{
    const reco_block_tape *b = &tape->blocks[l];
    reco_attn a = {.n = s->n,
                   .tq = s->tq,
                   .T = s->T,
                   .d = s->d,
                   .H = f->config.heads,
                   .q = b->q,
                   .kv = b->kv,
                   .scores = tape->scores,
                   .valid = tape->valid};
    if (f->config.scores) {
        a.score_scale = reco_fusion_at(f, tape->side, l, P_SCORE_SCALE);
        a.self_bias = reco_fusion_at(f, tape->side, l, P_SELF_BIAS);
    }
    return a;
}

static reco_status layer_forward(reco_ctx *ctx, const reco_fusion *f, reco_tape *tape, size_t l, float *y)
{
#define P(id) reco_fusion_at(f, tape->side, l, P_##id)
    shape s = layer_shape(f, tape, l);
    reco_block_tape *b = &tape->blocks[l];
    size_t d = s.d;
    reco_layernorm(ctx, b->a, b->x, P(LN1_W), P(LN1_B), s.rows, d, f->config.eps, b->mean1, b->rstd1);
    RECO_TRY(reco_affine(ctx, f, b->q, b->a, s.ldq, P(QKV_W), P(QKV_B), s.qrows, d, d));
    reco_attn attn = attention_of(f, tape, l, &s);
    if (reco_layer_pools(&f->config, l))
        RECO_TRY(reco_pooled_attention(ctx, f, b->o, b->p, b->r, b->sums, b->a, P(QKV_W) + d * d,
                                       P(QKV_W) + 2 * d * d, P(QKV_B) + 2 * d, &attn));
    else {
        RECO_TRY(reco_affine(ctx, f, b->kv, b->a, d, P(QKV_W) + d * d, P(QKV_B) + d, s.rows, 2 * d, d));
        reco_set_attention(ctx, b->o, b->p, &attn);
    }
    RECO_TRY(reco_affine(ctx, f, b->h, b->o, d, P(OUT_W), P(OUT_B), s.qrows, d, d));
    for (size_t i = 0; i < s.qrows; i++) add_residual(b->h + i * d, b->x + i * s.ldq, d);
    reco_layernorm(ctx, b->b, b->h, P(LN2_W), P(LN2_B), s.qrows, d, f->config.eps, b->mean2, b->rstd2);
    RECO_TRY(reco_affine(ctx, f, b->m, b->b, d, P(FC_W), P(FC_B), s.qrows, s.mlp, d));
    reco_activate(ctx, b->g, b->m, s.qrows * s.mlp, RECO_ACT_GELU);
    RECO_TRY(reco_affine(ctx, f, y, b->g, s.mlp, P(PROJ_W), P(PROJ_B), s.qrows, d, s.mlp));
    add_residual(y, b->h, s.qrows * d);
    return RECO_OK;
#undef P
}

/* Tokens of every item; those that do not count are zero, so that what lies there (it may be garbage) is nowhere. */
static void copy_tokens(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const reco_tape *tape = ((const void *const *)arg)[0];
    const reco_fusion *f = ((const void *const *)arg)[1];
    size_t d = f->config.d, T = tape->k + 1;
    for (size_t i = begin; i < end; i++) {
        float *x = tape->blocks[0].x + i * T * d;
        const uint32_t *at;
        const float *rows = reco_tape_rows(tape, i, d, &at);
        size_t used = tape->valid[i];
        memcpy(x, tape->x + i * d, d * sizeof *x);
        for (size_t n = 0; n < used; n++)
            memcpy(x + (n + 1) * d, rows + (at ? at[n] : n) * d, d * sizeof *x);
        memset(x + (used + 1) * d, 0, (tape->k - used) * d * sizeof *x);
    }
}

reco_status reco_transformer_forward(reco_ctx *ctx, const reco_fusion *f, reco_tape *tape)
{
    reco_parallel(ctx, tape->n, 16, copy_tokens, (const void *[]){tape, f});
    for (size_t l = 0; l < f->config.layers; l++) {
        float *y = l + 1 < f->config.layers ? tape->blocks[l + 1].x : tape->z;
        RECO_TRY(layer_forward(ctx, f, tape, l, y));
    }
    return RECO_OK;
}

/* dy [qrows][d] becomes the gradient of the layer's input, in dx [rows][d] (may be dy's own memory's successor); NULL: nobody asks. */
static reco_status layer_backward(reco_ctx *ctx, const reco_fusion *f, reco_tape *tape, size_t l, float *dx,
                                  const float *dy, float *dvector)
{
#define P(id) reco_fusion_at(f, tape->side, l, P_##id)
#define G(id) reco_fusion_grad(f, dvector, tape->side, l, P_##id)
    shape s = layer_shape(f, tape, l);
    reco_block_tape *b = &tape->blocks[l];
    size_t d = s.d;
    float *wide =
        reco_scratch(ctx, s.qrows * s.mlp, sizeof(float), "fusion backward"); /* [qrows][mlp] dg, dm */
    float *dnorm =
        reco_scratch(ctx, s.rows * d, sizeof(float), "fusion backward"); /* d of LN2's, then LN1's output */
    float *dh = reco_scratch(ctx, s.qrows * d, sizeof(float), "fusion backward");
    float *dov = reco_scratch(ctx, s.qrows * d, sizeof(float), "fusion backward"); /* [qrows][d] do */
    float *dq = reco_scratch(ctx, s.qrows * d, sizeof(float), "fusion backward");
    bool pools = reco_layer_pools(&f->config, l);
    float *dkv = reco_scratch(ctx, pools ? 0 : s.rows * 2 * d, sizeof(float), "fusion backward");
    if (!wide || !dnorm || !dh || !dov || !dq || !dkv) return RECO_E_NOMEM;

    RECO_TRY(reco_affine_backward(ctx, wide, false, G(PROJ_W), G(PROJ_B), dy, b->g, s.mlp, P(PROJ_W),
                                  s.qrows, d, s.mlp));
    reco_gelu_backward(ctx, wide, wide, b->m, s.qrows * s.mlp);
    RECO_TRY(reco_affine_backward(ctx, dnorm, false, G(FC_W), G(FC_B), wide, b->b, d, P(FC_W), s.qrows,
                                  s.mlp, d));
    memcpy(dh, dy, s.qrows * d * sizeof *dh);
    reco_layernorm_backward(ctx, dh, G(LN2_W), G(LN2_B), dnorm, b->h, P(LN2_W), b->mean2, b->rstd2, s.qrows,
                            d);

    RECO_TRY(
        reco_affine_backward(ctx, dov, false, G(OUT_W), G(OUT_B), dh, b->o, d, P(OUT_W), s.qrows, d, d));
    reco_attn attn = attention_of(f, tape, l, &s);
    float *dscore = f->config.scores ? G(SCORE_SCALE) : NULL,
          *dself = f->config.scores ? G(SELF_BIAS) : NULL;
    if (pools) {
        reco_pooled_grads g = {.dq = dq,
                               .da = dnorm,
                               .dwk = G(QKV_W) + d * d,
                               .dwv = G(QKV_W) + 2 * d * d,
                               .dbv = G(QKV_B) + 2 * d,
                               .dscore = dscore,
                               .dself = dself};
        RECO_TRY(reco_pooled_attention_backward(ctx, &g, dov, b->p, b->r, b->sums, b->a, P(QKV_W) + d * d,
                                                P(QKV_W) + 2 * d * d, &attn));
    } else {
        RECO_TRY(reco_set_attention_backward(ctx, dq, dkv, dscore, dself, dov, b->p, &attn));
        RECO_TRY(reco_affine_backward(ctx, dnorm, false, G(QKV_W) + d * d, G(QKV_B) + d, dkv, b->a, d,
                                      P(QKV_W) + d * d, s.rows, 2 * d, d));
    }
    RECO_TRY(reco_affine_backward(ctx, dnorm, true, G(QKV_W), G(QKV_B), dq, b->a, s.ldq, P(QKV_W), s.qrows,
                                  d, d));
    if (dx) memset(dx, 0, s.rows * d * sizeof *dx);
    for (size_t i = 0; i < s.qrows && dx; i++) memcpy(dx + i * s.ldq, dh + i * d, d * sizeof *dx);
    reco_layernorm_backward(ctx, dx, G(LN1_W), G(LN1_B), dnorm, b->x, P(LN1_W), b->mean1, b->rstd1, s.rows,
                            d);
    return RECO_OK;
#undef G
#undef P
}

reco_status reco_transformer_backward(reco_ctx *ctx, const reco_fusion *f, reco_tape *tape, float *dz,
                                      float *dvector)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    size_t rows = tape->n * (tape->k + 1);
    float *dx[2]; /* [rows][d], of this layer's and of the layer's above */
    for (int i = 0; i < 2; i++) {
        dx[i] = reco_scratch(ctx, f->config.layers > 1 ? rows * f->config.d : 0, sizeof(float),
                             "fusion backward");
        if (!dx[i]) return RECO_E_NOMEM;
    }
    const float *dy = dz;
    for (size_t l = f->config.layers; l-- > 0;) {
        reco_mark layer = reco_scratch_mark(ctx);
        RECO_GO(layer_backward(ctx, f, tape, l, l ? dx[l % 2] : NULL, dy, dvector));
        reco_scratch_release(ctx, layer);
        dy = dx[l % 2];
    }
out:
    reco_scratch_release(ctx, mark);
    return status;
}
