/* Weights of a layer that was opened lie packed for the products of forward, which are then as they would be without, to the bit:
 * packing them anew takes longer than refining one embedding. A layer whose parameters may change has no such copies. */
#include "fusion/tape.h"
#include "kernels/kernels.h"

#include <stdlib.h>

/* Weights are known by where they lie, and how many columns. */
static int by_weights(const void *a, const void *b)
{
    const reco_packed *x = a, *y = b;
    if (x->b != y->b) return x->b < y->b ? -1 : 1;
    return x->n < y->n ? -1 : x->n > y->n;
}

reco_status reco_fusion_product(reco_ctx *ctx, const reco_fusion *f, float *c, size_t ldc, const float *a,
                                size_t lda, const float *b, size_t ldb, bool tb, size_t m, size_t n,
                                size_t k, float beta)
{
    const reco_packed *found = f->ncopies ? bsearch(&(reco_packed){.b = b, .n = n}, f->copies, f->ncopies,
                                                    sizeof *f->copies, by_weights)
                                          : NULL;
    return found ? reco_gemm_packed(ctx, c, ldc, a, lda, found, m, 1, beta)
                 : reco_gemm(ctx, c, ldc, a, lda, false, b, ldb, tb, m, n, k, 1, beta);
}

void reco_fusion_unpack(reco_fusion *f)
{
    reco_free(f->panels);
    reco_free(f->copies);
    f->panels = NULL;
    f->copies = NULL;
    f->ncopies = 0;
}

static void add_copy(reco_fusion *f, const float *b, size_t ldb, bool tb, size_t n, size_t k)
{
    f->copies[f->ncopies++] = (reco_packed){.b = b, .ldb = ldb, .tb = tb, .n = n, .k = k};
}

static void add_attention(reco_fusion *f, reco_side side, size_t l)
{
    const reco_fusion_config *c = &f->config;
    size_t d = c->d, w = d / c->heads;
    const float *q = reco_fusion_at(f, side, l, P_QKV_W), *k = q + d * d, *v = k + d * d;
    add_copy(f, q, d, true, d, d);
    if (!reco_layer_pools(c, l)) add_copy(f, k, d, true, 2 * d, d);
    for (size_t h = 0; h < c->heads && reco_layer_pools(c, l); h++) {
        add_copy(f, k + h * w * d, d, false, d, w);
        add_copy(f, v + h * w * d, d, true, w, d);
    }
    add_copy(f, reco_fusion_at(f, side, l, P_OUT_W), d, true, d, d);
}

/* One allocation for all: large ones get huge pages, and many small ones as many faults. */
static reco_status pack_all(reco_ctx *ctx, reco_fusion *f)
{
    size_t floats, all = 0;
    for (size_t i = 0; i < f->ncopies; i++)
        if (!reco_packed_floats(&floats, f->copies[i].n, f->copies[i].k) || !reco_add(all, floats, &all))
            return reco_fail_nomem(ctx, SIZE_MAX, "packed weights");
    if (!(f->panels = reco_alloc_raw(ctx, all, sizeof *f->panels, "packed weights"))) return RECO_E_NOMEM;
    float *to = f->panels;
    for (size_t i = 0; i < f->ncopies; i++) {
        reco_packed *copy = &f->copies[i];
        copy->panels = to;
        reco_pack(ctx, to, copy);
        reco_packed_floats(&floats, copy->n, copy->k);
        to += floats;
    }
    return RECO_OK;
}

reco_status reco_fusion_pack(reco_ctx *ctx, reco_fusion *f)
{
    const reco_fusion_config *c = &f->config;
    bool transformer = c->layer == RECO_LAYER_TRANSFORMER;
    size_t d = c->d, layers = transformer ? c->layers : 1;
    if (!transformer && c->layer != RECO_LAYER_MLP) return RECO_OK;
    f->copies = reco_alloc(ctx, 2 * layers * (5 + 2 * c->heads), sizeof *f->copies, "packed weights");
    if (!f->copies) return RECO_E_NOMEM;
    for (int s = 0; s < 2; s++)
        for (size_t l = 0; l < layers; l++) {
            reco_side side = (reco_side)s;
            if (transformer) add_attention(f, side, l);
            add_copy(f, reco_fusion_at(f, side, l, transformer ? P_FC_W : P_MLP_FC_W), d, true, c->mlp, d);
            add_copy(f, reco_fusion_at(f, side, l, transformer ? P_PROJ_W : P_MLP_PROJ_W), c->mlp, true, d,
                     c->mlp);
        }
    qsort(f->copies, f->ncopies, sizeof *f->copies, by_weights);
    return pack_all(ctx, f);
}
