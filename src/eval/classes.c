#include "kernels/kernels.h"
#include "reco/eval.h"

#include <math.h>

#define IMAGES 256
#define CLASSES 2048
#define TOP 5

typedef struct args {
    const float *scores; /* [n][c] of this block */
    float *best;         /* [n][TOP] */
    int64_t *top;
    size_t *counts, c, first;
} args;

static void offer(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const args *a = arg;
    for (size_t i = begin; i < end; i++)
        for (size_t j = 0; j < a->c; j++)
            reco_topk_offer(a->best + i * TOP, a->top + i * TOP, a->counts + i, TOP,
                            a->scores[i * a->c + j], (int64_t)(a->first + j));
}

/* hits[c], counts[c]: pictures of each class that were named right, and all. */
static void tally(reco_class_scores *scores, const int64_t *top, const uint32_t *labels, size_t n,
                  uint32_t *hits, uint32_t *counts, size_t c)
{
    size_t first = 0, five = 0, seen = 0;
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        bool right = top[i * TOP] == (int64_t)labels[i];
        first += right;
        hits[labels[i]] += right;
        counts[labels[i]]++;
        for (size_t j = 0; j < TOP; j++) five += top[i * TOP + j] == (int64_t)labels[i];
    }
    for (size_t j = 0; j < c; j++) {
        if (!counts[j]) continue;
        sum += (double)hits[j] / counts[j];
        seen++;
    }
    double all = n ? (double)n : (double)NAN; /* nothing can be said of no pictures */
    *scores = (reco_class_scores){n, (double)first / all, (double)five / all,
                                  seen ? sum / (double)seen : all, (double)NAN};
}

reco_status reco_eval_classes(reco_ctx *ctx, reco_class_scores *scores, int64_t *top, const float *images,
                              size_t n, const float *classes, size_t c, size_t d, const uint32_t *labels)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    for (size_t i = 0; i < n; i++)
        if (labels[i] >= c)
            return reco_fail(ctx, RECO_E_ARG, "eval: label %u, want below %zu", labels[i], c);
    float *block = reco_scratch(ctx, IMAGES * CLASSES, sizeof(float), "scores");
    float *best = reco_scratch(ctx, IMAGES * TOP, sizeof(float), "scores");
    size_t *held = reco_scratch(ctx, IMAGES, sizeof(size_t), "scores");
    uint32_t *hits = reco_scratch(ctx, 2 * c, sizeof(uint32_t), "classes");
    if (!top) top = reco_scratch(ctx, n * TOP, sizeof(int64_t), "predictions");
    if (!block || !best || !held || !hits || !top) RECO_GO(RECO_E_NOMEM);
    memset(hits, 0, 2 * c * sizeof(uint32_t));
    for (size_t i = 0; i < n * TOP; i++) top[i] = -1;
    for (size_t i = 0; i < n; i += IMAGES) {
        size_t ni = reco_min(IMAGES, n - i);
        memset(held, 0, ni * sizeof *held);
        for (size_t j = 0; j < c; j += CLASSES) {
            size_t nc = reco_min(CLASSES, c - j);
            RECO_GO(reco_gemm(ctx, block, nc, images + i * d, d, false, classes + j * d, d, true, ni, nc, d,
                              1, 0));
            args a = {block, best, top + i * TOP, held, nc, j};
            reco_parallel(ctx, ni, 16, offer, &a);
        }
    }
    tally(scores, top, labels, n, hits, hits + c, c);
out:
    reco_scratch_release(ctx, mark);
    return status;
}
