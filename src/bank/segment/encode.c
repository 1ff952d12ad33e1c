#include "bank/segment/segment.h"
#include "kernels/scan.h"

#include <math.h>

#define MEAN_ROWS 4096 /* the mean is of so many, evenly spread: any mean would do */

typedef struct encoding {
    const reco_ctx *ctx;
    const reco_scan_rows *rows;
    const float *mean;
    uint8_t *codes;
    float *bounds;
    uint8_t *scratch; /* [threads][reco_scan_row_scratch] */
} encoding;

static void encode_groups(void *arg, size_t begin, size_t end, int worker)
{
    encoding *e = arg;
    size_t d = e->rows->d, n = e->rows->n, group = RECO_SCAN_GROUP * reco_scan_width(d);
    for (size_t g = begin; g < end; g++) {
        uint8_t *codes = e->codes + g * group;
        float *bounds = e->bounds + g * RECO_SCAN_BOUNDS;
        memset(bounds, 0, RECO_SCAN_BOUNDS * sizeof *bounds);
        if ((g + 1) * RECO_SCAN_GROUP > n) memset(codes, 128, group);
        for (size_t r = 0; r < RECO_SCAN_GROUP && g * RECO_SCAN_GROUP + r < n; r++)
            reco_scan_encode_row(e->ctx, codes, bounds, r,
                                 e->rows->get(e->rows->arg, g * RECO_SCAN_GROUP + r), e->mean, d,
                                 e->scratch + (size_t)worker * reco_scan_row_scratch(d));
    }
}

void reco_scan_find_mean(float *mean, float *row, const reco_scan_rows *rows)
{
    size_t d = rows->d, step = (rows->n + MEAN_ROWS - 1) / MEAN_ROWS, used = 0;
    memset(mean, 0, d * sizeof *mean);
    for (size_t r = 0; r < rows->n; r += step, used++) {
        reco_f16_to_f32_n(row, rows->get(rows->arg, r), d);
        for (size_t i = 0; i < d; i++) mean[i] += row[i];
    }
    for (size_t i = 0; i < d; i++) {
        mean[i] /= (float)used;
        if (!isfinite(mean[i])) mean[i] = 0;
    }
}

reco_status reco_scan_encode(reco_ctx *ctx, uint8_t *codes, float *bounds, const reco_scan_rows *rows,
                             const float *mean)
{
    reco_mark start = reco_scratch_mark(ctx);
    uint8_t *scratch =
        reco_scratch(ctx, (size_t)reco_ctx_threads(ctx), reco_scan_row_scratch(rows->d), "codes");
    encoding e = {ctx, rows, mean, codes, bounds, scratch};
    if (scratch)
        reco_parallel(ctx, (rows->n + RECO_SCAN_GROUP - 1) / RECO_SCAN_GROUP, 16, encode_groups, &e);
    reco_scratch_release(ctx, start);
    return scratch ? RECO_OK : RECO_E_NOMEM;
}
