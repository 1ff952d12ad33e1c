/* The control without retrieval: z = x + W2 GELU(W1 LN(x)), with as many parameters as the transformer of one layer has. */
#include "fusion/tape.h"
#include "kernels/kernels.h"

reco_status reco_mlp_forward(reco_ctx *ctx, const reco_fusion *f, reco_tape *t)
{
#define P(id) reco_fusion_at(f, t->side, 0, P_MLP_##id)
    size_t n = t->n, d = f->config.d, mlp = f->config.mlp;
    reco_block_tape *b = t->blocks;
    reco_layernorm(ctx, b->b, t->x, P(LN_W), P(LN_B), n, d, f->config.eps, b->mean2, b->rstd2);
    RECO_TRY(reco_affine(ctx, f, b->m, b->b, d, P(FC_W), P(FC_B), n, mlp, d));
    reco_activate(ctx, b->g, b->m, n * mlp, RECO_ACT_GELU);
    RECO_TRY(reco_affine(ctx, f, t->z, b->g, mlp, P(PROJ_W), P(PROJ_B), n, d, mlp));
    for (size_t i = 0; i < n * d; i++) t->z[i] += t->x[i];
    return RECO_OK;
#undef P
}

reco_status reco_mlp_backward(reco_ctx *ctx, const reco_fusion *f, reco_tape *t, float *dz, float *dvector)
{
#define P(id) reco_fusion_at(f, t->side, 0, P_MLP_##id)
#define G(id) reco_fusion_grad(f, dvector, t->side, 0, P_MLP_##id)
    reco_status status = RECO_OK;
    size_t n = t->n, d = f->config.d, mlp = f->config.mlp;
    const reco_block_tape *b = t->blocks;
    reco_mark mark = reco_scratch_mark(ctx);
    float *wide = reco_scratch(ctx, n * mlp, sizeof *wide, "fusion backward"); /* [n][mlp] dg, dm */
    float *dnorm = reco_scratch(ctx, n * d, sizeof *dnorm, "fusion backward"); /* [n][d] of LN's output */
    if (!wide || !dnorm) RECO_GO(RECO_E_NOMEM);
    RECO_GO(
        reco_affine_backward(ctx, wide, false, G(PROJ_W), G(PROJ_B), dz, b->g, mlp, P(PROJ_W), n, d, mlp));
    reco_gelu_backward(ctx, wide, wide, b->m, n * mlp);
    RECO_GO(reco_affine_backward(ctx, dnorm, false, G(FC_W), G(FC_B), wide, b->b, d, P(FC_W), n, mlp, d));
    /* dz becomes the gradient of x, which nobody needs: x is frozen. */
    reco_layernorm_backward(ctx, dz, G(LN_W), G(LN_B), dnorm, t->x, P(LN_W), b->mean2, b->rstd2, n, d);
out:
    reco_scratch_release(ctx, mark);
    return status;
#undef G
#undef P
}
