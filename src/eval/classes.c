#include "eval/marks.h"
#include "kernels/kernels.h"

#include <math.h>

#define IMAGES 256
#define CLASSES 2048

typedef struct args {
    const float *scores; /* [n][c] of this block */
    float *best;         /* [n][RECO_TOP] */
    int64_t *top;
    size_t *counts, c, first;
} args;

static void offer(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const args *a = arg;
    for (size_t i = begin; i < end; i++)
        for (size_t j = 0; j < a->c; j++)
            reco_topk_offer(a->best + i * RECO_TOP, a->top + i * RECO_TOP, a->counts + i, RECO_TOP,
                            a->scores[i * a->c + j], (int64_t)(a->first + j));
}

reco_status reco_eval_classes(reco_ctx *ctx, reco_class_scores *scores, int64_t *top, const float *images,
                              size_t n, const float *classes, size_t c, size_t d, const uint32_t *labels)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    reco_marks marks;
    RECO_GO(reco_marks_begin(ctx, &marks, top, labels, n, c));
    float *block = reco_scratch(ctx, IMAGES * CLASSES, sizeof(float), "scores");
    float *best = reco_scratch(ctx, IMAGES * RECO_TOP, sizeof(float), "scores");
    size_t *held = reco_scratch(ctx, IMAGES, sizeof(size_t), "scores");
    if (!block || !best || !held) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < n; i += IMAGES) {
        size_t ni = reco_min(IMAGES, n - i);
        memset(held, 0, ni * sizeof *held);
        for (size_t j = 0; j < c; j += CLASSES) {
            size_t nc = reco_min(CLASSES, c - j);
            RECO_GO(reco_gemm(ctx, block, nc, images + i * d, d, false, classes + j * d, d, true, ni, nc, d,
                              1, 0));
            args a = {block, best, marks.top + i * RECO_TOP, held, nc, j};
            reco_parallel(ctx, ni, 16, offer, &a);
        }
    }
    for (size_t i = 0; i < n; i++) reco_marks_add(&marks, i, NAN);
    reco_marks_end(&marks, scores);
out:
    reco_scratch_release(ctx, mark);
    return status;
}
