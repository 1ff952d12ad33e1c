/* fusion/tape.h: what one forward pass leaves for backward; forward and backward of each layer. */
#ifndef RECO_SRC_FUSION_TAPE_H
#define RECO_SRC_FUSION_TAPE_H

#include "fusion/params.h"

/* One transformer layer: n items, T = k+1 tokens, tq = T query tokens of each (1 in the last layer). */
typedef struct reco_block_tape {
    float *x;                 /* [n*T][d] input */
    float *a, *mean1, *rstd1; /* [n*T][d], [n*T]: LN1(x) */
    float *q;                 /* [n*tq][d] */
    float *kv;                /* [n*T][2d], where tq > 1 or there are many heads; else */
    float *r, *sums;          /* [n][H][d], of pooled.c */
    float *p;                 /* [n][H][tq][T] attention */
    float *o;                 /* [n*tq][d] */
    float *h;                 /* [n*tq][d] */
    float *b, *mean2, *rstd2; /* LN2(h) */
    float *m, *g;             /* [n*tq][mlp] before and after GELU */
} reco_block_tape;

/* Relational layer. Rows of neighbours that do not count are zero. */
typedef struct reco_relation_tape {
    float *f;      /* [n*k][RECO_FEATURES] inputs of u */
    float *pre[2]; /* [n*k][hidden], [n][hidden]: u's and w's hidden layer before GELU */
    float *act[2]; /* the same, after */
    float *u;      /* [n*k] u(f) */
    float *p;      /* [n*k] softmax */
    float *e;      /* [n][RECO_FEATURES] inputs of w */
    float *gate;   /* [n] w(e), then g */
} reco_relation_tape;

struct reco_tape {
    size_t max_n, max_k;
    reco_side side;
    size_t n, k;
    const float *x, *retrieved, *scores; /* borrowed from forward's caller until backward has run */
    const float *c, *a;                  /* known inner products, or NULL; borrowed likewise */
    const float *rows;                   /* of which place [n][k] are the neighbours; or NULL */
    const uint32_t *place;
    size_t *valid;           /* [n] */
    float *y, *z;            /* [n][d] refined, and before normalising */
    float *norms;            /* [n] of z */
    reco_block_tape *blocks; /* [layers]; of the mlp one, of which b to g are used, with tq = 1 */
    reco_relation_tape rel;
    float *memory; /* [floats] all of the above */
    size_t floats;
};

/* Rows of which the neighbours of item i are those at *at [k], the first k where that is NULL. */
static inline const float *reco_tape_rows(const reco_tape *t, size_t i, size_t d, const uint32_t **at)
{
    *at = t->rows ? t->place + i * t->k : NULL;
    return t->rows ? t->rows : t->retrieved + i * t->k * d;
}

/* z [n][d] from tape->x, retrieved, scores, valid. */
reco_status reco_transformer_forward(reco_ctx *ctx, const reco_fusion *f, reco_tape *tape);
reco_status reco_relational_forward(reco_ctx *ctx, const reco_fusion *f, reco_tape *tape);
reco_status reco_mlp_forward(reco_ctx *ctx, const reco_fusion *f, reco_tape *tape);
/* dz is overwritten at will. */
reco_status reco_transformer_backward(reco_ctx *ctx, const reco_fusion *f, reco_tape *tape, float *dz,
                                      float *dvector);
reco_status reco_relational_backward(reco_ctx *ctx, const reco_fusion *f, reco_tape *tape, float *dz,
                                     float *dvector);
reco_status reco_mlp_backward(reco_ctx *ctx, const reco_fusion *f, reco_tape *tape, float *dz,
                              float *dvector);
/* vote, mean, weighted; z may be anything afterwards for items without neighbours. */
void reco_control_forward(reco_ctx *ctx, const reco_fusion *f, float *z, const reco_fusion_input *in,
                          const size_t *valid);

/* pack.c: copies of the weights as forward's products want them, once the parameters are what they will be. */
reco_status reco_fusion_pack(reco_ctx *ctx, reco_fusion *f);
void reco_fusion_unpack(reco_fusion *f);
/* c [m][n] = a op(b) + beta c as reco_gemm has it, b being weights of f. */
reco_status reco_fusion_product(reco_ctx *ctx, const reco_fusion *f, float *c, size_t ldc, const float *a,
                                size_t lda, const float *b, size_t ldb, bool tb, size_t m, size_t n,
                                size_t k, float beta);

/* affine.c: y[m][out] = x[m][in] W^T + bias, rows of x ldx apart. */
reco_status reco_affine(reco_ctx *ctx, const reco_fusion *f, float *y, const float *x, size_t ldx,
                        const float *weight, const float *bias, size_t m, size_t out, size_t in);
/* dweight += dy^T x; dbias += column sums of dy; dx = dy W (+ dx where keep), rows of x and dx ldx apart. */
reco_status reco_affine_backward(reco_ctx *ctx, float *dx, bool keep, float *dweight, float *dbias,
                                 const float *dy, const float *x, size_t ldx, const float *weight, size_t m,
                                 size_t out, size_t in);

/* Attention of tq query tokens of each item over its T tokens, heads of width d/H.
 *   o [n*tq][d], p [n][H][tq][T]; q [n*tq][d], kv [n*T][2d], scores [n][T-1]
 *   score_scale, self_bias [H], or NULL: no score terms
 * Tokens above valid[i] get no weight. */
typedef struct reco_attn {
    size_t n, tq, T, d, H;
    const float *q, *kv, *scores, *score_scale, *self_bias;
    const size_t *valid;
} reco_attn;
/* With fewer heads than this, attention of token 0 alone is that of pooled.c. */
enum { RECO_POOLED_HEADS = 64 };
static inline bool reco_layer_pools(const reco_fusion_config *c, size_t l)
{
    return l + 1 == c->layers && c->heads < RECO_POOLED_HEADS;
}
/* The same with tq = 1, and values projected: o [n][d] of tokens [n*T][d] (a->kv is not looked at), weights of keys and values
 * [d][d], bias of values [d]. Kept for backward: p, r, sums. */
reco_status reco_pooled_attention(reco_ctx *ctx, const reco_fusion *f, float *o, float *p, float *r,
                                  float *sums, const float *tokens, const float *wk, const float *wv,
                                  const float *bv, const reco_attn *a);
/* dq [n][d] and da [n*T][d] (of tokens) are overwritten, the others accumulate. The bias of keys has no gradient. */
typedef struct reco_pooled_grads {
    float *dq, *da, *dwk, *dwv, *dbv, *dscore, *dself;
} reco_pooled_grads;
reco_status reco_pooled_attention_backward(reco_ctx *ctx, const reco_pooled_grads *g, const float *dout,
                                           const float *p, const float *r, const float *sums,
                                           const float *tokens, const float *wk, const float *wv,
                                           const reco_attn *a);
void reco_set_attention(reco_ctx *ctx, float *o, float *p, const reco_attn *a);
/* dq, dkv are overwritten; dscore, dself [H] accumulate (NULL with score_scale); scratch from ctx. */
reco_status reco_set_attention_backward(reco_ctx *ctx, float *dq, float *dkv, float *dscore, float *dself,
                                        const float *dout, const float *p, const reco_attn *a);

/* valid[i] = neighbours that count: the first of in->valid[i] (or k) of at least the layer's min_similarity. */
reco_status reco_fusion_counts(reco_ctx *ctx, size_t *valid, const reco_fusion *f,
                               const reco_fusion_input *in);
/* weights.c: reco_fused.weights. */
reco_status reco_fusion_weights(reco_ctx *ctx, const reco_fusion *f, const reco_fusion_input *in,
                                float *weights);
/* out = z/|z|, or x where valid is 0. May alias x. norms [n] kept when not NULL. */
void reco_fusion_finish(reco_ctx *ctx, float *out, const float *z, const float *x, const size_t *valid,
                        size_t n, size_t d, float *norms);

#endif
