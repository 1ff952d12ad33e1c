#include "base/context.h"

#ifdef _OPENMP
#include <omp.h>
#endif

void reco_parallel(reco_ctx *ctx, size_t n, size_t grain, reco_body body, void *arg)
{
    if (grain == 0) grain = 1;
    size_t pieces = n / grain + (n % grain != 0);
#ifdef _OPENMP
    if (ctx->threads > 1 && pieces > 1) {
        int threads = (size_t)ctx->threads < pieces ? ctx->threads : (int)pieces;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
        for (size_t p = 0; p < pieces; p++)
            body(arg, p * grain, reco_min(n, (p + 1) * grain), omp_get_thread_num());
        return;
    }
#endif
    for (size_t p = 0; p < pieces; p++) body(arg, p * grain, reco_min(n, (p + 1) * grain), 0);
}
