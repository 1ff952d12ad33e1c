/* Weights of a layer that was opened lie packed for the products of forward, which are then as they would be without, to the bit:
 * packing them anew takes longer than refining one embedding. A layer whose parameters may change has no such copies. */
#include "fusion/tape.h"
#include "kernels/kernels.h"

#include <stdlib.h>

/* op(b) [k][n] by where b lies, which says what it is. */
typedef struct reco_weight_copy {
    const float *b;
    size_t n;
    reco_packed *packed;
} copy;

static int by_place(const void *a, const void *b)
{
    const copy *x = a, *y = b;
    if (x->b != y->b) return x->b < y->b ? -1 : 1;
    return x->n < y->n ? -1 : x->n > y->n;
}

reco_status reco_fusion_product(reco_ctx *ctx, const reco_fusion *f, float *c, size_t ldc, const float *a,
                                size_t lda, const float *b, size_t ldb, bool tb, size_t m, size_t n,
                                size_t k, float beta)
{
    const copy *found =
        f->ncopies ? bsearch(&(copy){.b = b, .n = n}, f->copies, f->ncopies, sizeof *f->copies, by_place)
                   : NULL;
    return found ? reco_gemm_packed(ctx, c, ldc, a, lda, found->packed, m, 1, beta)
                 : reco_gemm(ctx, c, ldc, a, lda, false, b, ldb, tb, m, n, k, 1, beta);
}

void reco_fusion_unpack(reco_fusion *f)
{
    for (size_t i = 0; i < f->ncopies; i++) reco_packed_free(f->copies[i].packed);
    reco_free(f->copies);
    f->copies = NULL;
    f->ncopies = 0;
}

static reco_status add(reco_ctx *ctx, reco_fusion *f, const float *b, size_t ldb, bool tb, size_t n,
                       size_t k)
{
    copy *to = &f->copies[f->ncopies];
    RECO_TRY(reco_pack(ctx, &to->packed, b, ldb, tb, n, k));
    to->b = b;
    to->n = n;
    f->ncopies++;
    return RECO_OK;
}

static reco_status add_attention(reco_ctx *ctx, reco_fusion *f, reco_side side, size_t l)
{
    const reco_fusion_config *c = &f->config;
    size_t d = c->d, w = d / c->heads;
    const float *q = reco_fusion_at(f, side, l, P_QKV_W), *k = q + d * d, *v = k + d * d;
    RECO_TRY(add(ctx, f, q, d, true, d, d));
    if (!reco_layer_pools(c, l)) RECO_TRY(add(ctx, f, k, d, true, 2 * d, d));
    for (size_t h = 0; h < c->heads && reco_layer_pools(c, l); h++) {
        RECO_TRY(add(ctx, f, k + h * w * d, d, false, d, w));
        RECO_TRY(add(ctx, f, v + h * w * d, d, true, w, d));
    }
    return add(ctx, f, reco_fusion_at(f, side, l, P_OUT_W), d, true, d, d);
}

reco_status reco_fusion_pack(reco_ctx *ctx, reco_fusion *f)
{
    const reco_fusion_config *c = &f->config;
    bool transformer = c->layer == RECO_LAYER_TRANSFORMER;
    size_t d = c->d, layers = transformer ? c->layers : 1;
    if (!transformer && c->layer != RECO_LAYER_MLP) return RECO_OK;
    f->copies = reco_alloc(ctx, 2 * layers * (5 + 2 * c->heads), sizeof *f->copies, "packed weights");
    if (!f->copies) return RECO_E_NOMEM;
    for (int side = 0; side < 2; side++)
        for (size_t l = 0; l < layers; l++) {
            if (transformer) RECO_TRY(add_attention(ctx, f, (reco_side)side, l));
            RECO_TRY(add(ctx, f, reco_fusion_at(f, (reco_side)side, l, transformer ? P_FC_W : P_MLP_FC_W),
                         d, true, c->mlp, d));
            RECO_TRY(add(ctx, f,
                         reco_fusion_at(f, (reco_side)side, l, transformer ? P_PROJ_W : P_MLP_PROJ_W),
                         c->mlp, true, d, c->mlp));
        }
    qsort(f->copies, f->ncopies, sizeof *f->copies, by_place);
    return RECO_OK;
}
