#include "eval/marks.h"
#include "kernels/kernels.h"

/* Floats of one matrix of pictures x classes. */
#define BLOCK (1u << 22)
#define IMAGES 256

reco_status reco_eval_mixture(reco_ctx *ctx, reco_class_scores *scores, int64_t *top,
                              const reco_mixture *mixture, const reco_readout_rows *rows,
                              const reco_votes *votes, const uint32_t *labels)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    size_t n = rows->n, c = rows->c, d = rows->d;
    size_t some = reco_max(1, reco_min(IMAGES, BLOCK / reco_max(c, 1)));
    reco_marks marks;
    RECO_GO(reco_marks_begin(ctx, &marks, top, labels, n, c));
    float *S[3];
    for (int s = 0; s < 3; s++)
        if (!(S[s] = reco_scratch(ctx, some * c, sizeof(float), "scores"))) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < n; i += some) {
        size_t m = reco_min(some, n - i);
        reco_votes part = {0};
        if (votes)
            part = (reco_votes){votes->scores + i * votes->k, votes->of + i * votes->k, votes->counts + i,
                                votes->k};
        RECO_GO(reco_gemm(ctx, S[0], c, rows->plain_images + i * d, d, false, rows->plain_classes, d, true,
                          m, c, d, 1, 0));
        RECO_GO(reco_gemm(ctx, S[1], c, rows->refined_images + i * d, d, false, rows->refined_classes, d,
                          true, m, c, d, 1, 0));
        RECO_GO(reco_mixture_posterior(ctx, mixture, S[0], S[1], votes ? &part : NULL, m, c, S[2]));
        for (size_t q = 0; q < m; q++) {
            const float *p = S[2] + q * c;
            reco_marks_rank(&marks, i + q, p);
            reco_marks_add(&marks, i + q, p[marks.top[(i + q) * RECO_TOP]]);
        }
    }
    reco_marks_end(&marks, scores);
out:
    reco_scratch_release(ctx, mark);
    return status;
}
