#include "base/base.h"
#include "reco/eval.h"

#include <math.h>
#include <stdlib.h>

enum { RESAMPLES = 1000 };

typedef struct args {
    const float *a, *b;
    size_t n;
    uint64_t seed;
    double *means; /* [RESAMPLES] */
} args;

static double difference(const args *w, size_t i) { return (double)w->a[i] - (w->b ? (double)w->b[i] : 0); }

/* Each resample has numbers of its own, so that threads change nothing. */
static void resample(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const args *w = arg;
    for (size_t r = begin; r < end; r++) {
        reco_rng rng;
        double sum = 0;
        reco_rng_seed(&rng, w->seed * RESAMPLES + r);
        for (size_t i = 0; i < w->n; i++) sum += difference(w, reco_rng_below(&rng, w->n));
        w->means[r] = sum / (double)w->n;
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(const double *sorted, double q)
{
    double at = q * (RESAMPLES - 1);
    size_t i = (size_t)at;
    return sorted[i] + (at - (double)i) * (sorted[i + 1] - sorted[i]);
}

reco_status reco_eval_interval(reco_ctx *ctx, reco_interval *out, const float *a, const float *b, size_t n,
                               uint64_t seed)
{
    *out = (reco_interval){(double)NAN, (double)NAN, (double)NAN};
    if (n == 0) return RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    args w = {a, b, n, seed, reco_scratch(ctx, RESAMPLES, sizeof(double), "resamples")};
    if (!w.means) return RECO_E_NOMEM;
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += difference(&w, i);
    reco_parallel(ctx, RESAMPLES, 8, resample, &w);
    qsort(w.means, RESAMPLES, sizeof *w.means, by_value);
    *out = (reco_interval){sum / (double)n, quantile(w.means, 0.025), quantile(w.means, 0.975)};
    reco_scratch_release(ctx, mark);
    return RECO_OK;
}
