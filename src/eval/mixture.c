#include "kernels/kernels.h"
#include "reco/eval.h"

#include <math.h>

/* Floats of one matrix of pictures x classes. */
#define BLOCK (1u << 22)
#define IMAGES 256
#define TOP 5
#define BINS 15

typedef struct bin {
    double sure; /* sum of the probabilities of what was said */
    size_t n, right;
} bin;

static void best_five(const float *p, size_t c, int64_t *top)
{
    float best[TOP];
    size_t count = 0;
    for (size_t j = 0; j < TOP; j++) top[j] = -1;
    for (size_t j = 0; j < c; j++) reco_topk_offer(best, top, &count, TOP, p[j], (int64_t)j);
}

static double calibration(const bin *bins, size_t n)
{
    double off = 0;
    for (int b = 0; b < BINS; b++) off += fabs(bins[b].sure - (double)bins[b].right);
    return n ? off / (double)n : (double)NAN;
}

reco_status reco_eval_mixture(reco_ctx *ctx, reco_class_scores *scores, int64_t *top,
                              const reco_mixture *mixture, const reco_readout_rows *rows,
                              const reco_votes *votes, const uint32_t *labels)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    size_t n = rows->n, c = rows->c, d = rows->d, first = 0, five = 0, seen = 0;
    size_t some = reco_max(1, reco_min(IMAGES, BLOCK / reco_max(c, 1)));
    bin bins[BINS] = {{0}};
    double sum = 0, all = n ? (double)n : (double)NAN;
    for (size_t i = 0; i < n; i++)
        if (labels[i] >= c)
            return reco_fail(ctx, RECO_E_ARG, "eval: label %u, want below %zu", labels[i], c);
    float *S[3];
    for (int s = 0; s < 3; s++)
        if (!(S[s] = reco_scratch(ctx, some * c, sizeof(float), "scores"))) RECO_GO(RECO_E_NOMEM);
    uint32_t *hits = reco_scratch(ctx, 2 * c, sizeof *hits, "classes"), *counts = hits + c;
    if (!top) top = reco_scratch(ctx, n * TOP, sizeof *top, "predictions");
    if (!hits || !top) RECO_GO(RECO_E_NOMEM);
    memset(hits, 0, 2 * c * sizeof *hits);
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
            int64_t *t = top + (i + q) * TOP;
            uint32_t label = labels[i + q];
            best_five(S[2] + q * c, c, t);
            bool right = t[0] == (int64_t)label;
            float sure = S[2][q * c + (size_t)t[0]];
            bin *b = &bins[reco_min(BINS - 1, (size_t)(sure * BINS))];
            b->n++;
            b->sure += (double)sure;
            b->right += right;
            first += right;
            for (int j = 0; j < TOP; j++) five += t[j] == (int64_t)label;
            hits[label] += right;
            counts[label]++;
        }
    }
    for (size_t j = 0; j < c; j++)
        if (counts[j]) {
            sum += (double)hits[j] / counts[j];
            seen++;
        }
    *scores = (reco_class_scores){n, (double)first / all, (double)five / all,
                                  seen ? sum / (double)seen : all, calibration(bins, n)};
out:
    reco_scratch_release(ctx, mark);
    return status;
}
