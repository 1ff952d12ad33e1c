#include "kernels/kernels.h"
#include "reco/eval.h"

reco_status reco_eval_recall(reco_ctx *ctx, double *recall, const float *a, const float *b, size_t n,
                             size_t d, const size_t *ks, size_t nks)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    uint32_t *ranks = reco_scratch(ctx, n, sizeof *ranks, "ranks"),
             *own = reco_scratch(ctx, n, sizeof *own, "ranks");
    if (!ranks || !own) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < n; i++) own[i] = (uint32_t)i;
    RECO_GO(reco_rank(ctx, ranks, a, n, b, n, d, own));
    for (size_t j = 0; j < nks; j++) {
        size_t found = 0;
        for (size_t i = 0; i < n; i++) found += ranks[i] < ks[j];
        recall[j] = n ? (double)found / (double)n : 0;
    }
out:
    reco_scratch_release(ctx, mark);
    return status;
}
