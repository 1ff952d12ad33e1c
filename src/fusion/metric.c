#include "fusion/params.h"
#include "kernels/kernels.h"

#include <stdlib.h>

const float *reco_fusion_metric(const reco_fusion *fusion) { return fusion->metric; }

reco_status reco_fusion_set_metric(reco_ctx *ctx, reco_fusion *fusion, const float *metric)
{
    size_t count = RECO_METRIC_FLOATS(fusion->config.d);
    float *copy = metric ? reco_alloc_raw(ctx, count, sizeof *copy, "metric") : NULL;
    if (metric && !copy) return RECO_E_NOMEM;
    if (metric) memcpy(copy, metric, count * sizeof *copy);
    reco_free(fusion->metric);
    fusion->metric = copy;
    return RECO_OK;
}

size_t reco_metric_rows(const int64_t *ids, size_t n, int64_t *rows, uint32_t *place)
{
    size_t count = 0, kept = 0;
    for (size_t i = 0; i < n; i++)
        if (ids[i] >= 0) rows[count++] = ids[i];
    if (count) qsort(rows, count, sizeof *rows, reco_by_id);
    for (size_t i = 0; i < count; i++)
        if (i == 0 || rows[i] != rows[kept - 1]) rows[kept++] = rows[i];
    for (size_t i = 0; i < n; i++) {
        const int64_t *at = ids[i] < 0 ? NULL : bsearch(&ids[i], rows, kept, sizeof *rows, reco_by_id);
        place[i] = at ? (uint32_t)(at - rows) : RECO_NO_CANDIDATE;
    }
    return kept;
}

/* y [n][d] = W (x - centre), of length 1. */
static reco_status whiten(reco_ctx *ctx, const float *metric, const float *x, size_t n, size_t d, float *y)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    const float *centre = metric + d * d;
    float *off = reco_scratch(ctx, n * d, sizeof *off, "metric");
    if (!off) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < d; j++) off[i * d + j] = x[i * d + j] - centre[j];
    if (n) RECO_GO(reco_gemm(ctx, y, d, off, d, false, metric, d, true, n, d, d, 1, 0));
    for (size_t i = 0; i < n; i++) reco_unit_row(y + i * d, d); /* one that is the centre stays zero */
out:
    reco_scratch_release(ctx, mark);
    return status;
}

typedef struct job {
    const reco_ctx *ctx;
    const float *x, *rows; /* [n][d], [m][d] whitened */
    const uint32_t *place; /* [n][k] */
    size_t k, d;
    float *scores; /* [n][k] */
} job;

static void score(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const job *j = arg;
    for (size_t h = begin * j->k; h < end * j->k; h++) {
        const float *x = j->x + h / j->k * j->d;
        uint32_t r = j->place[h];
        j->scores[h] = r == RECO_NO_CANDIDATE ? 0 : reco_dot_fast(j->ctx, x, j->rows + r * j->d, j->d);
    }
}

reco_status reco_metric_scores(reco_ctx *ctx, const float *metric, const float *x, size_t n,
                               const float *rows, size_t m, const uint32_t *place, size_t k, size_t d,
                               float *scores)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    float *white = reco_scratch(ctx, (n + m) * d, sizeof *white, "metric"), *others = white + n * d;
    if (!white) RECO_GO(RECO_E_NOMEM);
    RECO_GO(whiten(ctx, metric, x, n, d, white));
    RECO_GO(whiten(ctx, metric, rows, m, d, others));
    reco_parallel(ctx, n, 4, score, &(job){ctx, white, others, place, k, d, scores});
out:
    reco_scratch_release(ctx, mark);
    return status;
}
