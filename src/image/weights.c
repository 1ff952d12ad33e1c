#include "image/picture.h"

#include <math.h>

/* A fused multiply-add rounds once where Pillow rounds twice. */
#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#else
#pragma GCC optimize("fp-contract=off")
#endif

/* Only hostile shapes (millions of samples squashed to hundreds) come near this. */
#define MOST_WEIGHTS ((size_t)1 << 26)

static double bicubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

static double bilinear(double x)
{
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

/* Pillow's arithmetic, operation by operation: the filter is stretched by the scale when shrinking (that is its
 * antialiasing), evaluated in double, normalised to sum 1, then rounded away from zero to fixed point. */
reco_status reco_weights_make(reco_ctx *ctx, reco_weights *w, reco_filter filter, size_t in, size_t out,
                              size_t from, size_t n, bool fixed)
{
    double (*const f)(double) = filter == RECO_FILTER_BILINEAR ? bilinear : bicubic;
    double scale = (double)in / (double)out;
    double stretch = scale < 1.0 ? 1.0 : scale;
    double support = (filter == RECO_FILTER_BILINEAR ? 1.0 : 2.0) * stretch;
    size_t total;
    *w = (reco_weights){
        .n = n, .taps = (size_t)ceil(support) * 2 + 1, .avx2 = reco_ctx_isa(ctx) >= RECO_ISA_AVX2};
    if (!reco_mul(n, w->taps, &total) || total > MOST_WEIGHTS)
        return reco_fail(ctx, RECO_E_NOMEM, "resizing %zu samples to %zu needs %zu weights each, too many",
                         in, out, w->taps);
    w->first = reco_scratch(ctx, n, sizeof *w->first, "resize weights");
    w->count = reco_scratch(ctx, n, sizeof *w->count, "resize weights");
    double *k = reco_scratch(ctx, fixed ? w->taps : total, sizeof *k, "resize weights");
    if (fixed)
        w->weight = reco_scratch(ctx, total, sizeof *w->weight, "resize weights");
    else
        w->exact = k;
    if (!w->first || !w->count || !k || (fixed && !w->weight)) return RECO_E_NOMEM;
    for (size_t i = 0; i < n; i++) {
        double center = ((double)(from + i) + 0.5) * scale, sum = 0.0, shrink = 1.0 / stretch;
        double low = center - support + 0.5, high = center + support + 0.5;
        size_t first = low < 0 ? 0 : (size_t)low, last = reco_min((size_t)high, in);
        w->first[i] = first;
        w->count[i] = last - first;
        for (size_t t = 0; t < last - first; t++) {
            k[t] = f(((double)(t + first) - center + 0.5) * shrink);
            sum += k[t];
        }
        for (size_t t = 0; t < last - first; t++) {
            if (sum != 0.0) k[t] /= sum;
            if (!fixed) continue;
            double v = k[t] * (1 << RECO_WEIGHT_BITS);
            w->weight[i * w->taps + t] = (int32_t)(v < 0 ? v - 0.5 : v + 0.5);
        }
        if (!fixed) k += w->taps;
    }
    return RECO_OK;
}
