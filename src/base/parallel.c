#include "base/context.h"

#ifdef _OPENMP
#include <omp.h>
#endif

#ifdef _OPENMP
/* On its own, since clang starts the OpenMP runtime at the head of a function that has a parallel region, even where that
 * is not reached: a process that has little to do is to do without its threads and its shared memory. */
#ifdef __GNUC__
__attribute__((noinline))
#endif
static void
on_threads(int threads, size_t n, size_t grain, size_t pieces, reco_body body, void *arg)
{
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (size_t p = 0; p < pieces; p++)
        body(arg, p * grain, reco_min(n, (p + 1) * grain), omp_get_thread_num());
}
#endif

void reco_parallel(reco_ctx *ctx, size_t n, size_t grain, reco_body body, void *arg)
{
    if (grain == 0) grain = 1;
    size_t pieces = n / grain + (n % grain != 0);
#ifdef _OPENMP
    if (ctx->threads > 1 && pieces > 1) {
        int threads = (size_t)ctx->threads < pieces ? ctx->threads : (int)pieces;
        reco_threads_sleep(threads);
        on_threads(threads, n, grain, pieces, body, arg);
        return;
    }
#endif
    for (size_t p = 0; p < pieces; p++) body(arg, p * grain, reco_min(n, (p + 1) * grain), 0);
}
