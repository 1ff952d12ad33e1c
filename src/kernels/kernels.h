/* kernels/kernels.h: the arithmetic, with a plain C twin of each in kernels/ref/. The only module that knows oneDNN.
 *
 * Outputs before inputs. Products go to oneDNN; the rest are loops compiled once per instruction set and chosen by
 * the context (reco_ctx_isa). Reductions may differ in the last bits between sets, never between runs. */
#ifndef RECO_SRC_KERNELS_H
#define RECO_SRC_KERNELS_H

#include "base/base.h"

typedef enum reco_act {
    RECO_ACT_NONE = 0,
    RECO_ACT_GELU = 1,       /* exact, by erf */
    RECO_ACT_QUICK_GELU = 2, /* x sigmoid(1.702 x) */
    RECO_ACT_GELU_TANH = 3   /* the approximation by tanh, of SigLIP */
} reco_act;

/* ---- products ---- */

/* c[m][n] = alpha * op(a) op(b) + beta * c; op is the transpose where ta or tb. Row-major, leading dimensions are row
 * strides of the arrays as stored. f32. A row of c depends on its row of op(a), on op(b) and on itself alone, to the bit: not on m,
 * its place, or the number of threads. */
reco_status reco_gemm(reco_ctx *ctx, float *c, size_t ldc, const float *a, size_t lda, bool ta,
                      const float *b, size_t ldb, bool tb, size_t m, size_t n, size_t k, float alpha,
                      float beta);

/* b as reco_gemm would pack it: by the same b, k x n, products come to the same bits without that work. b is borrowed, and may not
 * change. Immutable, so that any number of threads may use it. */
typedef struct reco_packed {
    const float *b;
    size_t ldb, n, k;
    bool tb;
    const float *panels; /* [reco_packed_floats], piece after piece as products want them; the caller's */
} reco_packed;
bool reco_packed_floats(size_t *floats, size_t n, size_t k); /* false: too many to count */
/* panels from all the others. */
void reco_pack(reco_ctx *ctx, float *panels, const reco_packed *packed);
reco_status reco_gemm_packed(reco_ctx *ctx, float *c, size_t ldc, const float *a, size_t lda,
                             const reco_packed *b, size_t m, float alpha, float beta);

/* sums[n] += the sums of the columns of x [m][n], in an order that m alone decides. */
void reco_column_sums(reco_ctx *ctx, float *sums, const float *x, size_t m, size_t n);

/* A layer y = act(x W^T + bias) (+ residual), its weights packed once. */
typedef struct reco_linear reco_linear;
/* weight [out][in] f32, bias [out] or NULL; both copied. */
reco_status reco_linear_create(reco_ctx *ctx, reco_linear **lin, const float *weight, const float *bias,
                               size_t out, size_t in, reco_act act, reco_precision precision);
/* The same of rows that are not in memory as f32: read writes rows first..first + n, [n][in]. It is called on the calling
 * thread, with few rows at a time unless the layer is f32. */
typedef reco_status (*reco_rows_read)(reco_ctx *ctx, void *arg, float *to, size_t first, size_t n);
reco_status reco_linear_create_from(reco_ctx *ctx, reco_linear **lin, reco_rows_read read, void *arg,
                                    const float *bias, size_t out, size_t in, reco_act act,
                                    reco_precision precision);
void reco_linear_free(reco_linear *lin);
/* y [m][out], x [m][in]; add: y += instead of y = (the residual is in y already; act must be NONE). */
reco_status reco_linear_run(reco_ctx *ctx, float *y, const reco_linear *lin, const float *x, size_t m,
                            bool add);
/* Rows between layers, in memory of the caller's: numbers of a type or, where scales is not NULL, int8 codes, a row's numbers
 * being scales[row] times its codes. */
typedef struct reco_rows {
    void *at;        /* [m][width] */
    reco_dtype type; /* F32 or BF16; of codes it says nothing */
    float *scales;   /* [m] */
} reco_rows;
/* The same with rows of any kind: BF16 only where reco_linear_input is BF16, codes only where reco_linear_codes is true, y F32
 * where add. */
reco_status reco_linear_run_as(reco_ctx *ctx, reco_rows y, const reco_linear *lin, reco_rows x, size_t m,
                               bool add);
/* The type of rows that suits the layer best: BF16 where it is computed natively in bf16 or int8, else F32. */
reco_dtype reco_linear_input(const reco_linear *lin);
/* Computed natively in int8: codes are better still. */
bool reco_linear_codes(const reco_linear *lin);
/* True where this CPU computes bf16 (int8) products natively. */
bool reco_has_bf16(const reco_ctx *ctx);
bool reco_has_int8(const reco_ctx *ctx);

/* ---- rows ---- */

/* Two unit vectors are the same when they differ by rounding alone: rounding to f16 moves one by 4.9e-4 at most, other
 * kernels in f32 by far less. (A cosine above 1 - 5e-7.) */
#define RECO_SAME 1e-3
bool reco_is_same(const float *x, const float *y, size_t d);

/* y[n][d] = (x - mean) / sqrt(var + eps) * weight + bias per row; y may alias x. mean/rstd [n] kept when not NULL. */
void reco_layernorm(reco_ctx *ctx, float *y, const float *x, const float *weight, const float *bias,
                    size_t n, size_t d, float eps, float *mean, float *rstd);
/* The same into rows of any kind; no alias. */
reco_status reco_layernorm_as(reco_ctx *ctx, reco_rows y, const float *x, const float *weight,
                              const float *bias, size_t n, size_t d, float eps);
/* dx[n][d] += ..., dweight[d] +=, dbias[d] +=; dx may be NULL, or dweight and dbias together. */
void reco_layernorm_backward(reco_ctx *ctx, float *dx, float *dweight, float *dbias, const float *dy,
                             const float *x, const float *weight, const float *mean, const float *rstd,
                             size_t n, size_t d);
/* y [n] of type F32 or BF16 = x; may be called by bodies of reco_parallel. */
void reco_store(const reco_ctx *ctx, void *y, reco_dtype yt, const float *x, size_t n);
/* y = act(x) over n values; may alias. */
void reco_activate(reco_ctx *ctx, float *y, const float *x, size_t n, reco_act act);
/* dx = dy * gelu'(x) (exact erf form); dx may alias dy. */
void reco_gelu_backward(reco_ctx *ctx, float *dx, const float *dy, const float *x, size_t n);
/* Make a row of length 1; false where it is zero or not finite. */
bool reco_unit_row(float *row, size_t d);
/* Unit rows: y = x / |x|; a zero row stays zero. norms [n] kept when not NULL. May alias. */
void reco_normalize(reco_ctx *ctx, float *y, const float *x, size_t n, size_t d, float *norms);
/* Softmax of one row in place; may be called by bodies of reco_parallel. */
void reco_softmax_row(const reco_ctx *ctx, float *x, size_t n);
/* The same; *top: the largest x; returns what becomes of that. n is 1 or more. */
float reco_softmax_top(const reco_ctx *ctx, float *x, size_t n, float *top);
/* Inner product in double, in a fixed order: the same whatever the CPU. */
double reco_dot(const float *a, const float *b, size_t d);
/* The same bits, by the context's instructions. */
double reco_dot_wide(const reco_ctx *ctx, const float *a, const float *b, size_t d);
/* y [d] += the sum of p[j] x[at[j]] over n rows, ldx apart; at NULL: of p[j] x[j]. May be called by bodies of reco_parallel. */
void reco_mix(const reco_ctx *ctx, float *y, const float *x, size_t ldx, const uint32_t *at, const float *p,
              size_t n, size_t d);
float reco_dot_fast(const reco_ctx *ctx, const float *a, const float *b, size_t d);
/* y [n] = a.x[at[j]], rows as in reco_mix. */
void reco_dots(const reco_ctx *ctx, float *y, const float *a, const float *x, size_t ldx,
               const uint32_t *at, size_t n, size_t d);

/* Multi-head attention over sequences packed back to back.
 *   out   [T][H*w], of type F32 or BF16 as qkv
 *   qkv   [T][3*H*w], q then k then v in each row
 *   starts [n+1] first row of each sequence; starts[n] == T
 *   causal  position i sees 0..i only
 *   only    NULL, or [n] one row (0..T-1) of each sequence: out is [n][H*w] then */
reco_status reco_attention(reco_ctx *ctx, void *out, const void *qkv, reco_dtype type, const size_t *starts,
                           size_t n, size_t heads, size_t width, bool causal, const size_t *only);

/* ---- top k ---- */

/* Offer (s,i) to score[k], id[k], kept best first; equal scores rank by id. *count is how many are held. */
void reco_topk_offer(float *score, int64_t *id, size_t *count, size_t k, float s, int64_t i);

/* Rank of target[i] (an index into c's rows) for query i among all m candidates by inner product, 0 = first: the
 * number of candidates that score strictly higher plus those of equal score and smaller index.
 *   q [n][d], c [m][d]; ranks [n] */
reco_status reco_rank(reco_ctx *ctx, uint32_t *ranks, const float *q, size_t n, const float *c, size_t m,
                      size_t d, const uint32_t *target);

#endif
