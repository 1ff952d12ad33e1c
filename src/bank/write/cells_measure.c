#include "bank/search/scan.h"
#include "bank/write/cells.h"
#include "kernels/kernels.h"

#include <math.h>
#include <stdlib.h>

#define QUERIES 1024 /* of one exact search, which reads all rows */
#define EASE 1e-5f   /* on top of a margin: sums are rounded in other ways elsewhere */

typedef struct measuring {
    const reco_ctx *ctx;
    const reco_scan_kernel *kernel;
    const reco_cells_made *m;
    const float *queries;     /* [n][d] */
    const int64_t *positions; /* [n][k] */
    const size_t *counts;     /* [n] */
    size_t k;
    float *needs;  /* [n][k] margin at which each of the best would be found */
    float *scores; /* [threads][ncells] */
    float *best;   /* [n] */
    /* The second time: */
    const float *margins; /* [nmargins] */
    size_t nmargins;
    double *cells, *rows; /* [n][nmargins] */
} measuring;

static float *score_cells(measuring *s, size_t q, int worker)
{
    size_t k = s->m->ncells, d = s->m->d;
    float *scores = s->scores + (size_t)worker * k, best = -INFINITY;
    for (size_t c = 0; c < k; c++) {
        scores[c] = s->kernel->dot_f16(s->queries + q * d, s->m->centroids + c * d, d);
        if (scores[c] > best) best = scores[c];
    }
    s->best[q] = best;
    return scores;
}

static void need_body(void *arg, size_t begin, size_t end, int worker)
{
    measuring *s = arg;
    for (size_t q = begin; q < end; q++) {
        const float *scores = score_cells(s, q, worker);
        for (size_t j = 0; j < s->k; j++)
            s->needs[q * s->k + j] =
                j < s->counts[q] ? s->best[q] - scores[s->m->cell[s->positions[q * s->k + j]]] : INFINITY;
    }
}

static void cost_body(void *arg, size_t begin, size_t end, int worker)
{
    measuring *s = arg;
    for (size_t q = begin; q < end; q++) {
        const float *scores = score_cells(s, q, worker);
        for (size_t i = 0; i < s->nmargins; i++) {
            double cells = 0, rows = 0;
            for (size_t c = 0; c < s->m->ncells; c++) {
                bool near = scores[c] >= s->best[q] - s->margins[i];
                cells += near;
                rows += near ? (double)s->m->size[c] : 0;
            }
            s->cells[q * s->nmargins + i] = cells;
            s->rows[q * s->nmargins + i] = rows;
        }
    }
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Standard error of the share that is found at a margin, its queries being drawn by chance. */
static double error_of(const measuring *s, size_t n, size_t depth, float margin, double share, size_t all)
{
    double sum = 0;
    for (size_t q = 0; q < n; q++) {
        double found = 0;
        size_t among = reco_min(depth, s->counts[q]);
        for (size_t j = 0; j < among; j++) found += s->needs[q * s->k + j] <= margin;
        sum += (found - share * (double)among) * (found - share * (double)among);
    }
    return sqrt(sum) / (double)all;
}

/* Where the needs of the first `depth` of each query lead to each recall and, since other queries will ask, a standard error more. */
static void find_points(const measuring *s, size_t n, size_t depth, reco_lists_point *points, float *sorted)
{
    size_t all = 0;
    for (size_t q = 0; q < n; q++)
        for (size_t j = 0; j < depth && j < s->counts[q]; j++) sorted[all++] = s->needs[q * s->k + j];
    qsort(sorted, all, sizeof *sorted, ascending);
    for (size_t i = 0; i < RECO_LISTS_POINTS && all; i++) {
        double share = (double)reco_lists_recalls[i];
        size_t at = reco_max(1, (size_t)ceil(share * (double)all));
        share += error_of(s, n, depth, sorted[at - 1], share, all);
        at = reco_max(1, reco_min(all, (size_t)ceil(share * (double)all)));
        points[i] = (reco_lists_point){.recall = reco_lists_recalls[i], .margin = sorted[at - 1] + EASE};
    }
}

/* Others that say the same as the query's own row are left out with it: what asks in use is no copy of a row. */
static void drop_copies(const reco_bank *bank, reco_side side, const size_t *asking, size_t n, size_t k,
                        int64_t *found, size_t *counts, float *own, float *other)
{
    size_t d = bank->info.d;
    for (size_t q = 0; q < n; q++) {
        size_t kept = 0;
        const reco_rows_at at = {bank, side, asking + q, 0};
        reco_f16_to_f32_n(own, reco_rows_get(&at, 0), d);
        for (size_t j = 0; j < counts[q]; j++) {
            const reco_rows_at row = {bank, side, NULL, (size_t)found[q * k + j]};
            reco_f16_to_f32_n(other, reco_rows_get(&row, 0), d);
            if (!reco_is_same(own, other, d)) found[q * k + kept++] = found[q * k + j];
        }
        counts[q] = kept;
    }
}

/* Exact: the k best of each query, itself left out. */
static reco_status find_best(reco_ctx *ctx, const reco_bank *bank, reco_side side, const size_t *positions,
                             size_t n, size_t k, const float *queries, int64_t *found, size_t *counts)
{
    size_t d = bank->info.d;
    reco_mark mark = reco_scratch_mark(ctx);
    float *scores = reco_scratch(ctx, QUERIES, k * sizeof *scores, "recall");
    reco_status status = scores ? RECO_OK : RECO_E_NOMEM;
    for (size_t q = 0; status == RECO_OK && q < n; q += QUERIES) {
        const reco_scan_opts opts = {.side = side,
                                     .k = k,
                                     .least = -INFINITY,
                                     .exclude = positions + q,
                                     .nexclude = 1,
                                     .pass = q / QUERIES,
                                     .passes = (n + QUERIES - 1) / QUERIES};
        status = reco_bank_scan(ctx, bank, &opts, queries + q * d, reco_min(QUERIES, n - q), scores,
                                found + q * k, counts + q);
    }
    reco_scratch_release(ctx, mark);
    return status;
}

/* Asked by one side's rows. points [RECO_LISTS_DEPTHS][RECO_LISTS_POINTS] */
static reco_status measure(reco_ctx *ctx, const reco_cells_made *m, const reco_bank *bank, reco_side side,
                           reco_side asked, const size_t *positions, size_t n, reco_lists_point *points)
{
    size_t d = m->d, k = reco_lists_depths[RECO_LISTS_DEPTHS - 1],
           nmargins = RECO_LISTS_DEPTHS * RECO_LISTS_POINTS;
    float *queries = reco_scratch(ctx, n, d * sizeof *queries, "recall"),
          *needs = reco_scratch(ctx, n, k * sizeof *needs, "recall"),
          *sorted = reco_scratch(ctx, n + 2 * d / k + 1, k * sizeof *sorted, "recall"),
          margins[RECO_LISTS_DEPTHS * RECO_LISTS_POINTS];
    int64_t *found = reco_scratch(ctx, n, k * sizeof *found, "recall");
    size_t *counts = reco_scratch(ctx, n, sizeof *counts, "recall");
    measuring s = {
        .ctx = ctx,
        .kernel = reco_scan_kernel_of(ctx),
        .m = m,
        .queries = queries,
        .positions = found,
        .counts = counts,
        .k = k,
        .needs = needs,
        .scores = reco_scratch(ctx, (size_t)reco_ctx_threads(ctx), m->ncells * sizeof(float), "recall"),
        .best = reco_scratch(ctx, n, sizeof(float), "recall"),
        .margins = margins,
        .nmargins = nmargins,
        .cells = reco_scratch(ctx, n, nmargins * sizeof(double), "recall"),
        .rows = reco_scratch(ctx, n, nmargins * sizeof(double), "recall"),
    };
    if (!queries || !needs || !sorted || !found || !counts || !s.scores || !s.best || !s.cells || !s.rows)
        return RECO_E_NOMEM;
    const reco_rows_at at = {bank, asked, positions, 0};
    for (size_t q = 0; q < n; q++) {
        reco_f16_to_f32_n(queries + q * d, reco_rows_get(&at, q), d);
        if (reco_unit_row(queries + q * d, d)) continue;
        memset(queries + q * d, 0, d * sizeof *queries);
        queries[q * d] = 1;
    }
    RECO_TRY(find_best(ctx, bank, side, positions, n, k, queries, found, counts));
    drop_copies(bank, side, positions, n, k, found, counts, sorted, sorted + d);
    reco_parallel(ctx, n, 8, need_body, &s);
    for (size_t i = 0; i < RECO_LISTS_DEPTHS; i++)
        find_points(&s, n, reco_lists_depths[i], points + i * RECO_LISTS_POINTS, sorted);
    for (size_t i = 0; i < nmargins; i++) margins[i] = points[i].margin;
    reco_parallel(ctx, n, 8, cost_body, &s);
    for (size_t i = 0; i < nmargins; i++) {
        double cells = 0, rows = 0;
        for (size_t q = 0; q < n; q++) {
            cells += s.cells[q * nmargins + i];
            rows += s.rows[q * nmargins + i];
        }
        points[i].cells = (float)(cells / (double)n);
        points[i].rows = (float)(rows / (double)n / (double)bank->positions);
    }
    return RECO_OK;
}

reco_status reco_cells_measure(reco_ctx *ctx, reco_cells_made *m, const reco_bank *bank, reco_side side,
                               const size_t *positions, size_t n)
{
    reco_status status = RECO_OK;
    for (int other = 0; status == RECO_OK && other < 2; other++) {
        reco_side asked = other ? (side == RECO_IMAGE ? RECO_TEXT : RECO_IMAGE) : side;
        reco_mark mark = reco_scratch_mark(ctx);
        status = measure(ctx, m, bank, side, asked, positions, n, m->points[other][0]);
        reco_scratch_release(ctx, mark);
    }
    return status;
}
