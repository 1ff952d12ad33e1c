/* kernels/kernels_internal.h: what the files of kernels/ share. */
#ifndef RECO_SRC_KERNELS_INTERNAL_H
#define RECO_SRC_KERNELS_INTERNAL_H

#include "kernels/kernels.h"
#include "kernels/vec.h"

#include <stdatomic.h>

const reco_vec *reco_vec_of(const reco_ctx *ctx);
/* y = act(x) over n values of one thread; may alias. */
void reco_vec_activate(const reco_vec *vec, float *y, const float *x, size_t n, reco_act act);

/* ---- oneDNN (dnnl.c; dnnl2.h and dnnl3.h for the generations of its interface) ---- */

/* c = alpha op(a) op(b) + beta c, row-major. False: oneDNN refused. */
bool reco_dnnl_sgemm(float *c, size_t ldc, const float *a, size_t lda, bool ta, const float *b, size_t ldb,
                     bool tb, size_t m, size_t n, size_t k, float alpha, float beta);

/* Types of both operands of a product. */
typedef enum reco_product_type { RECO_PRODUCT_F32, RECO_PRODUCT_BF16, RECO_PRODUCT_S8 } reco_product_type;

/* A weight matrix, BF16 or S8, in the layout that oneDNN likes best for products of about `rows` rows. */
typedef struct reco_dnnl_weight reco_dnnl_weight;
/* weight [out][in] of the type; the packed copy belongs to *w. BF16 gives F32 or BF16; S8 gives exact I32 sums, and has neither
 * bias nor activation. NULL result: refused or out of memory. */
reco_dnnl_weight *reco_dnnl_pack(const void *weight, const float *bias, size_t out, size_t in,
                                 reco_product_type type, reco_act act, size_t rows);
void reco_dnnl_weight_free(reco_dnnl_weight *w);
/* y[m][out] = act(x W^T + bias), or += ; x [m][in] of the type, y of type yt. */
bool reco_dnnl_product(void *y, reco_dtype yt, const reco_dnnl_weight *w, const void *x, size_t m,
                       bool add);
bool reco_dnnl_has_bf16(void);
bool reco_dnnl_has_int8(void); /* products of int8 as fast as they should be */
bool reco_dnnl_has_amx(void);  /* neither the CPU nor ONEDNN_MAX_CPU_ISA takes it away */

/* oneDNN takes its threads from OpenMP's per-thread setting: set it, give back what was there. */
int reco_threads_enter(int threads);
void reco_threads_leave(int before);

/* ---- products in f32 (tile.c, panels.c) ---- */

#define RECO_TILE 48   /* rows, in sixes */
#define RECO_PANEL 256 /* columns */
#define RECO_PANEL_SPARE                                                                                   \
    16 /* floats between rows of a panel, which would else all lie on the same lines of a cache */

/* y [m][width] = alpha x panel + beta y; x [m][in]; panel [in] rows, width + RECO_PANEL_SPARE apart; m is at most RECO_TILE.
 * On the calling thread, of whose OpenMP threads there must be one. A row's bits depend on that row alone. False: oneDNN
 * refused. */
bool reco_tile(float *y, size_t ldy, const float *x, size_t ldx, const float *panel, size_t m, size_t width,
               size_t in, float alpha, float beta, float *scratch);
size_t reco_tile_scratch(size_t in); /* floats */

typedef struct reco_panels reco_panels;
/* Of the rows [out][in] that read gives, few at a time. */
reco_status reco_panels_create(reco_ctx *ctx, reco_panels **w, reco_rows_read read, void *arg, size_t out,
                               size_t in);
void reco_panels_free(reco_panels *w);
/* y [m][out] = act(x W^T + bias), or +=; x [m][in]; bias [out] or NULL. A row's bits depend on that row alone. */
reco_status reco_panels_run(reco_ctx *ctx, float *y, const reco_panels *w, const float *x,
                            const float *bias, reco_act act, size_t m, bool add);

/* ---- products of bf16 by AMX (amx.c, amx_bf16.c), where the compiler knows it: RECO_AMX ---- */

#define RECO_AMX_BLOCK ((size_t)32) /* numbers of a sum that one instruction takes */
#define RECO_AMX_PANEL ((size_t)32) /* columns */
#define RECO_AMX_ROWS ((size_t)32)

/* This CPU has the tiles, and the system lets this process use them. */
bool reco_amx_has_int8(void);
bool reco_amx_has_bf16(void);

typedef struct reco_amx_weight {
    size_t out, in, blocks, panels;
    uint16_t *data; /* [panels][blocks][2][16 pairs][16 columns][2], zeros where in and out end */
} reco_amx_weight;

/* y [m][w->out], F32 or BF16, = act(x W^T + bias); += where add, which F32 without activation alone heeds. A row's bits depend
 * on that row alone. */
typedef struct reco_amx_product {
    const reco_vec *vec;
    const reco_amx_weight *w;
    void *y;
    reco_dtype yt;
    const uint16_t *x; /* [m][w->in] */
    size_t m;
    const float *bias; /* [w->out] or NULL */
    reco_act act;
    bool add;
} reco_amx_product;

/* Room for weights, whose rows are then put; reco_free(w->data). */
reco_status reco_amx_create(reco_ctx *ctx, reco_amx_weight *w, size_t out, size_t in);
void reco_amx_put(const reco_amx_weight *w, const uint16_t *row, size_t at);
reco_status reco_amx_run(reco_ctx *ctx, const reco_amx_product *product);
/* n rows, at most reco_amx_group, by some panels, on this thread. */
void reco_amx_rows(const reco_amx_product *p, size_t first, size_t n, size_t panel, size_t panels,
                   uint16_t *scratch);
/* Rows that wait in the second cache while the panels pass by: 768 KiB. */
static inline size_t reco_amx_group(const reco_amx_weight *w)
{
    size_t rows = ((size_t)3 << 17) / (w->blocks * RECO_AMX_BLOCK) / RECO_AMX_ROWS * RECO_AMX_ROWS;
    return reco_max(RECO_AMX_ROWS, reco_min(512, rows));
}
static inline size_t reco_amx_scratch(const reco_amx_weight *w) /* numbers */
{
    return (w->in % RECO_AMX_BLOCK ? reco_amx_group(w) : RECO_AMX_ROWS) * w->blocks * RECO_AMX_BLOCK;
}

/* ---- layers (linear.c, linear_int8.c) ---- */

struct reco_linear {
    size_t out, in;
    reco_act act;
    reco_product_type type;
    /* One of the four: */
    reco_amx_weight tiles;    /* of bf16 with AMX; data NULL: none */
    reco_dnnl_weight *packed; /* of what this CPU computes in bf16 or int8 */
    reco_panels *panels;      /* of f32, and of bf16 and int8 elsewhere */
    float *weight;            /* [out][in] of the plain */
    float *bias;              /* [out] */
    float *scales;            /* [out] of int8 */
    int8_t *quantized;        /* [out][in] while an int8 layer is made */
};
/* Not packed: y [m][out] = act(x W^T + bias), or +=, of x as the layer wants it rounded; of int8 the sums of codes alone. */
reco_status reco_linear_f32(reco_ctx *ctx, float *y, const reco_linear *lin, const float *x, size_t m,
                            bool add);
reco_status reco_int8_weights(reco_ctx *ctx, reco_linear *lin, reco_rows_read read, void *arg);
reco_status reco_int8_run(reco_ctx *ctx, reco_rows y, const reco_linear *lin, reco_rows x, size_t m,
                          bool add);

/* ---- attention over bf16 (attend_bf16.c), where the compiler and reco_has_bf16 allow it ---- */

/* One head: q, k and v [t] rows of w numbers, w a multiple of 16, each `row` numbers after the last. scratch:
 * reco_attend_bf16_scratch(t, w), aligned to 64 bytes. */
void reco_attend_bf16(const reco_vec *vec, uint16_t *out, size_t ldo, const uint16_t *q, const uint16_t *k,
                      const uint16_t *v, size_t row, size_t t, size_t w, bool causal, float *scratch);
static inline size_t reco_attend_bf16_ld(size_t t) { return (t + 31) / 32 * 32; }
static inline size_t reco_attend_bf16_scratch(size_t t, size_t w)
{
    return (w + 6) * reco_attend_bf16_ld(t);
}

/* ---- plain twins (ref/ref.c) ---- */

void reco_ref_gemm(float *c, size_t ldc, const float *a, size_t lda, bool ta, const float *b, size_t ldb,
                   bool tb, size_t m, size_t n, size_t k, float alpha, float beta);
void reco_ref_attention(float *out, const float *qkv, const size_t *starts, size_t n, size_t heads,
                        size_t width, bool causal);
float reco_ref_act(float x, reco_act act);

#endif
