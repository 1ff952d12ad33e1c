#include "fusion/tape.h"
#include "kernels/kernels.h"

reco_status reco_affine(reco_ctx *ctx, const reco_fusion *f, float *y, const float *x, size_t ldx,
                        const float *weight, const float *bias, size_t m, size_t out, size_t in)
{
    for (size_t i = 0; i < m; i++) memcpy(y + i * out, bias, out * sizeof *y);
    return reco_fusion_product(ctx, f, y, out, x, ldx, weight, in, true, m, out, in, 1);
}

reco_status reco_affine_backward(reco_ctx *ctx, float *dx, bool keep, float *dweight, float *dbias,
                                 const float *dy, const float *x, size_t ldx, const float *weight, size_t m,
                                 size_t out, size_t in)
{
    RECO_TRY(reco_gemm(ctx, dweight, in, dy, out, true, x, ldx, false, out, in, m, 1, 1));
    reco_column_sums(ctx, dbias, dy, m, out);
    return reco_gemm(ctx, dx, ldx, dy, out, false, weight, in, false, m, in, out, 1, keep ? 1 : 0);
}
