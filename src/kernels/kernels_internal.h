/* kernels/kernels_internal.h: what the files of kernels/ share. */
#ifndef RECO_SRC_KERNELS_INTERNAL_H
#define RECO_SRC_KERNELS_INTERNAL_H

#include "kernels/kernels.h"
#include "kernels/vec.h"

const reco_vec *reco_vec_of(const reco_ctx *ctx);

/* ---- oneDNN, one file per generation of its interface (dnnl2.c, dnnl3.c) ---- */

/* c = alpha op(a) op(b) + beta c, row-major. False: oneDNN refused. */
bool reco_dnnl_sgemm(float *c, size_t ldc, const float *a, size_t lda, bool ta, const float *b, size_t ldb,
                     bool tb, size_t m, size_t n, size_t k, float alpha, float beta);

/* A weight matrix in the layout that oneDNN likes best for products of about `rows` rows. */
typedef struct reco_dnnl_weight reco_dnnl_weight;
/* weight [out][in] in f32 or bf16 bits; the packed copy belongs to *w. NULL result: refused or out of memory. */
reco_dnnl_weight *reco_dnnl_pack(const void *weight, const float *bias, size_t out, size_t in, bool bf16,
                                 reco_act act, size_t rows);
void reco_dnnl_weight_free(reco_dnnl_weight *w);
/* y[m][out] f32 = act(x W^T + bias), or += ; x f32 or bf16 bits as packed. */
bool reco_dnnl_product(float *y, const reco_dnnl_weight *w, const void *x, size_t m, bool add);
bool reco_dnnl_has_bf16(void);

/* oneDNN takes its threads from OpenMP's per-thread setting: set ours, give back what was there. */
int reco_threads_enter(const reco_ctx *ctx);
void reco_threads_leave(int before);

/* ---- plain twins (ref/ref.c) ---- */

void reco_ref_gemm(float *c, size_t ldc, const float *a, size_t lda, bool ta, const float *b, size_t ldb,
                   bool tb, size_t m, size_t n, size_t k, float alpha, float beta);
void reco_ref_attention(float *out, const float *qkv, const size_t *starts, size_t n, size_t heads,
                        size_t width, bool causal);
float reco_ref_act(float x, reco_act act);

#endif
