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

reco_status reco_scan_queries_new(reco_ctx *ctx, reco_scan_queries *q, size_t n, size_t d)
{
    size_t width = reco_scan_width(d), room = (n + 15) / 16 * 16;
    *q = (reco_scan_queries){.width = width};
    q->codes = reco_scratch(ctx, room * width, 1, "queries");
    q->start = reco_scratch(ctx, n, sizeof *q->start, "queries");
    q->gain = reco_scratch(ctx, n, sizeof *q->gain, "queries");
    q->step = reco_scratch(ctx, n, sizeof *q->step, "queries");
    return q->codes && q->start && q->gain && q->step ? RECO_OK : RECO_E_NOMEM;
}

void reco_scan_encode_queries(const reco_scan_kernel *kernel, reco_scan_queries *q, int8_t *codes,
                              const float *queries, size_t n, size_t d)
{
    double worst = 0;
    q->n = n;
    memset(codes, 0, n * q->width);
    for (size_t i = 0; i < n; i++) {
        const float *x = queries + i * d;
        int8_t *a = codes + i * q->width;
        float most = 0;
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
        q->gain[i] = (float)(sqrt(norm) / (double)step * (1 + 1e-6));
        worst = fmax(worst, sqrt(error / norm));
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
                        const float *from_bounds, size_t from, size_t width)
{
    for (size_t j = 0; j < width / 4; j++)
        memcpy(group + (j * RECO_SCAN_GROUP + to) * 4, from_group + (j * RECO_SCAN_GROUP + from) * 4, 4);
    for (size_t i = 0; i < 3; i++)
        bounds[i * RECO_SCAN_GROUP + to] = from_bounds[i * RECO_SCAN_GROUP + from];
}
