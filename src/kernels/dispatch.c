#include "kernels/kernels_internal.h"

const reco_vec *reco_vec_of(const reco_ctx *ctx)
{
#ifdef RECO_VEC_X86
    if (reco_ctx_isa(ctx) == RECO_ISA_AVX512) return &reco_vec_avx512;
    if (reco_ctx_isa(ctx) == RECO_ISA_AVX2) return &reco_vec_avx2;
#endif
    (void)ctx;
    return &reco_vec_plain;
}
