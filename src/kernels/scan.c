#include "kernels/kernels_internal.h"
#include "kernels/scan_internal.h"

#include <math.h>

const reco_scan_kernel *const reco_scan_kernels[] = {
#ifdef RECO_AMX
    &reco_scan_amx,
#endif
#ifdef RECO_SCAN_VNNI
    &reco_scan_vnni,
#endif
#ifdef RECO_VEC_X86
    &reco_scan_avx2,
#endif
    &reco_scan_plain,
};
const size_t reco_scan_kernel_count = sizeof reco_scan_kernels / sizeof *reco_scan_kernels;

const reco_scan_kernel *reco_scan_kernel_of(const reco_ctx *ctx)
{
    for (size_t i = 0; i < reco_scan_kernel_count; i++)
        if (reco_scan_kernels[i]->isa <= reco_ctx_isa(ctx) && reco_scan_kernels[i]->usable())
            return reco_scan_kernels[i];
    return &reco_scan_plain;
}

#define LEAST 1e-6f /* no element of a query need be told from 0 if all are below it */

reco_status reco_scan_queries_new(reco_ctx *ctx, reco_scan_queries *q, size_t n, size_t d)
{
    size_t width = reco_scan_width(d), room = (n + 15) / 16 * 16;
    *q = (reco_scan_queries){.width = width};
    q->codes = reco_scratch(ctx, room * width, 1, "queries");
    q->start = reco_scratch(ctx, n, sizeof *q->start, "queries");
    q->gain = reco_scratch(ctx, n, sizeof *q->gain, "queries");
    q->step = reco_scratch(ctx, n, sizeof *q->step, "queries");
    q->beyond = reco_scratch(ctx, n, sizeof *q->beyond, "queries");
    q->ahead = reco_scratch(ctx, n, sizeof *q->ahead, "queries");
    return q->codes && q->start && q->gain && q->step && q->beyond && q->ahead ? RECO_OK : RECO_E_NOMEM;
}

void reco_scan_encode_queries(const reco_scan_kernel *kernel, reco_scan_queries *q, int8_t *codes,
                              float *errors, const float *queries, size_t n, size_t d, double off)
{
    double worst = 0;
    q->n = n;
    memset(q->beyond, 0, n * sizeof *q->beyond);
    memset(q->ahead, 0, n * sizeof *q->ahead);
    memset(codes, 0, n * q->width);
    for (size_t i = 0; i < n; i++) {
        const float *x = queries + i * d;
        int8_t *a = codes + i * q->width;
        float most = LEAST;
        for (size_t j = 0; j < d; j++) most = fmaxf(most, fabsf(x[j]));
        float step = most / (float)kernel->levels;
        double error = 0, norm = 0;
        int32_t sum = 0;
        for (size_t j = 0; j < d; j++) {
            a[j] = (int8_t)lrintf(x[j] / step);
            sum += a[j];
            double e = (double)x[j] - (double)step * a[j];
            error += e * e;
            norm += (double)x[j] * (double)x[j];
        }
        q->start[i] = -128 * sum;
        q->step[i] = step;
        double size =
            fmax(sqrt(norm) + off, RECO_SCAN_LEAST_SIZE); /* what has no length would be all error */
        q->gain[i] = (float)(size / (double)step * (1 + 1e-6));
        worst = fmax(worst, (sqrt(error) + off) / size);
        if (errors) errors[i] = (float)((sqrt(error) + off + 1e-6 * size) * (1 + 1e-6));
    }
    /* The rest is for rounding in the kernels: a handful of roundings of terms no greater than the norms. */
    q->error = (float)(worst * (1 + 1e-6) + 1e-6);
    kernel->pack(q->codes, codes, n, q->width);
}

void reco_scan_encode_row(const reco_ctx *ctx, uint8_t *group, float *bounds, size_t row, const uint16_t *x,
                          const float *mean, size_t d, void *scratch)
{
    size_t width = reco_scan_width(d);
    float *y = scratch, *wide = y + d, bound[3];
    uint8_t *codes = (uint8_t *)(wide + d);
    reco_f16_to_f32_n(wide, x, d);
    reco_vec_of(ctx)->encode(codes, bound, wide, mean, y, d);
    memset(codes + d, 128, width - d);
    for (size_t j = 0; j < width / 4; j++)
        memcpy(group + (j * RECO_SCAN_GROUP + row) * 4, codes + 4 * j, 4);
    for (size_t i = 0; i < 3; i++) bounds[i * RECO_SCAN_GROUP + row] = bound[i];
}

void reco_scan_copy_row(uint8_t *group, float *bounds, size_t to, const uint8_t *from_group,
                        const float *from_bounds, size_t from, size_t width, size_t kinds)
{
    for (size_t j = 0; j < width / 4; j++)
        memcpy(group + (j * RECO_SCAN_GROUP + to) * 4, from_group + (j * RECO_SCAN_GROUP + from) * 4, 4);
    for (size_t i = 0; i < kinds; i++)
        bounds[i * RECO_SCAN_GROUP + to] = from_bounds[i * RECO_SCAN_GROUP + from];
}

/* The terms that are over |w|, not over what of it is coded. */
static double apart(double along, double length, double loose)
{
    return 1.02 / RECO_SCAN_LEAST_SIZE * (loose * length + 0x1p-22 * fabs(along));
}

void reco_scan_encode_turned(const reco_ctx *ctx, uint8_t *codes, float bound[5], const float *y, size_t m,
                             double along, double square, double loose, double off, void *scratch)
{
    float *zeros = scratch, *copy = zeros + m, *coded = copy + m;
    memset(zeros, 0, m * sizeof *zeros);
    memcpy(coded, y, m * sizeof *coded);
    coded[0] = 0;
    reco_vec_of(ctx)->encode(codes, bound, coded, zeros, copy, m);
    memset(codes + m, 128, reco_scan_width(m) - m);
    double length = sqrt(reco_dot_wide(ctx, y, y, m)), sure = fmax(length - 2 * off, 0);
    bound[1] = (float)(((double)bound[1] + 2 * off + apart(along, length + 2 * off, loose)) * (1 + 1e-6));
    bound[3] = (float)(sqrt(fmax(square - (1 - loose) * sure * sure, 0) + 1e-14) * (1 + 1e-6));
    bound[4] = (float)along;
    if (isfinite(bound[1]) && isfinite(bound[3]) && isfinite(bound[4])) return;
    bound[0] = bound[2] = bound[3] = bound[4] = 0; /* no number: looked at always */
    bound[1] = INFINITY;
}

bool reco_scan_turned_holds(const uint8_t *codes, size_t step, const float bound[5], const float *y,
                            size_t m, double along, double square, double loose, double off)
{
    double scale = (double)bound[0], error = 0, norm = 0, length = 0;
    if (!isfinite(bound[0]) || isnan(bound[2])) return false;
    if (bound[1] == INFINITY) return bound[2] >= 0 && bound[3] >= 0 && isfinite(bound[4]);
    for (size_t i = 0; i < m; i++) {
        double code = scale * (codes[i / 4 * step + i % 4] - 128), e = (i ? (double)y[i] : 0) - code;
        error += e * e;
        norm += code * code;
        length += (double)y[i] * (double)y[i];
    }
    length = sqrt(length);
    double sure = fmax(length - off, 0);
    return sqrt(error) + off + apart(along, length + off, loose) <= (double)bound[1] &&
           sqrt(norm) <= (double)bound[2] &&
           square - (1 - loose) * sure * sure <= (double)bound[3] * (double)bound[3] &&
           fabs(along - (double)bound[4]) <= 0x1p-23 * fabs(along) + 1e-12;
}
