#include "train/train_internal.h"

#include <math.h>

enum { PAIRS = 512 };

reco_status reco_train_fit_scale(const reco_job *job, float *scale)
{
    reco_ctx *ctx = job->ctx;
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    size_t n = reco_min(PAIRS, job->trained), d = job->d;
    double best = INFINITY;
    float *x[2], *dx[2], slope;
    uint32_t *items = reco_scratch(ctx, n, sizeof *items, "scale");
    for (int side = 0; side < 2; side++) {
        x[side] = reco_scratch(ctx, n * d, sizeof(float), "scale");
        dx[side] = reco_scratch(ctx, n * d, sizeof(float), "scale");
    }
    if (!items || !x[0] || !x[1] || !dx[0] || !dx[1]) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < n; i++) { /* spread over all pairs, which may be sorted */
        size_t at = i * job->trained / n;
        items[i] = (uint32_t)at;
        for (int side = 0; side < 2; side++)
            memcpy(x[side] + i * d, job->rows[side] + at * d, d * sizeof(float));
    }
    for (float s = 100; s > 1; s /= 1.25f) {
        double loss;
        RECO_GO(reco_train_loss(ctx, &loss, dx[0], dx[1], &slope, x[0], x[1], x[0], x[1], logf(s),
                                &job->same, items, n, d));
        if (loss >= best) break; /* convex in s */
        best = loss;
        *scale = s;
    }
out:
    reco_scratch_release(ctx, mark);
    return status;
}
