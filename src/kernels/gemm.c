#include "kernels/kernels_internal.h"

#ifdef _OPENMP
#include <omp.h>
#endif

/* oneDNN 2.6 collapses on products of more rows than this. */
#define ROWS_AT_ONCE 4096

int reco_threads_enter(int threads)
{
#ifdef _OPENMP
    int before = omp_get_max_threads();
    reco_threads_sleep(threads);
    if (before != threads) omp_set_num_threads(threads);
    return before;
#else
    (void)threads;
    return 1;
#endif
}

void reco_threads_leave(int before)
{
#ifdef _OPENMP
    if (before != omp_get_max_threads()) omp_set_num_threads(before);
#else
    (void)before;
#endif
}

reco_status reco_gemm(reco_ctx *ctx, float *c, size_t ldc, const float *a, size_t lda, bool ta,
                      const float *b, size_t ldb, bool tb, size_t m, size_t n, size_t k, float alpha,
                      float beta)
{
    if (m == 0 || n == 0) return RECO_OK;
    if (reco_ctx_isa(ctx) == RECO_ISA_PLAIN) {
        reco_ref_gemm(c, ldc, a, lda, ta, b, ldb, tb, m, n, k, alpha, beta);
        return RECO_OK;
    }
    int before = reco_threads_enter(reco_ctx_threads(ctx));
    bool good = true;
    for (size_t i = 0; i < m && good; i += ROWS_AT_ONCE)
        good = reco_dnnl_sgemm(c + i * ldc, ldc, ta ? a + i : a + i * lda, lda, ta, b, ldb, tb,
                               reco_min(m - i, ROWS_AT_ONCE), n, k, alpha, beta);
    reco_threads_leave(before);
    return good ? RECO_OK
                : reco_fail(ctx, RECO_E_INTERNAL, "gemm: oneDNN refused %zu x %zu x %zu", m, n, k);
}
