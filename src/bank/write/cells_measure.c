#include "bank/write/cells.h"
#include "kernels/kernels.h"

#include <math.h>
#include <stdlib.h>

#define EASE 1e-5f /* on top of a margin: sums are rounded in other ways elsewhere */

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

/* Asked by one side's rows. points [RECO_LISTS_DEPTHS][RECO_LISTS_POINTS] */
static reco_status measure(reco_ctx *ctx, const reco_cells_made *m, const reco_bank *bank, reco_side side,
                           reco_side asks, const reco_cells_asked *a, reco_lists_point *points)
{
    size_t n = a->n, k = a->k, nmargins = RECO_LISTS_DEPTHS * RECO_LISTS_POINTS;
    float *needs = reco_scratch(ctx, n, k * sizeof *needs, "recall"),
          *sorted = reco_scratch(ctx, n, k * sizeof *sorted, "recall"),
          margins[RECO_LISTS_DEPTHS * RECO_LISTS_POINTS];
    measuring s = {
        .ctx = ctx,
        .kernel = reco_scan_kernel_of(ctx),
        .m = m,
        .queries = a->queries[asks],
        .positions = a->found[side][asks],
        .counts = a->counts[side][asks],
        .k = k,
        .needs = needs,
        .scores = reco_scratch(ctx, (size_t)reco_ctx_threads(ctx), m->ncells * sizeof(float), "recall"),
        .best = reco_scratch(ctx, n, sizeof(float), "recall"),
        .margins = margins,
        .nmargins = nmargins,
        .cells = reco_scratch(ctx, n, nmargins * sizeof(double), "recall"),
        .rows = reco_scratch(ctx, n, nmargins * sizeof(double), "recall"),
    };
    if (!needs || !sorted || !s.scores || !s.best || !s.cells || !s.rows) return RECO_E_NOMEM;
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
                               const reco_cells_asked *asked)
{
    reco_status status = RECO_OK;
    for (int other = 0; status == RECO_OK && other < 2; other++) {
        reco_side asks = other ? (side == RECO_IMAGE ? RECO_TEXT : RECO_IMAGE) : side;
        reco_mark mark = reco_scratch_mark(ctx);
        status = measure(ctx, m, bank, side, asks, asked, m->points[other][0]);
        reco_scratch_release(ctx, mark);
    }
    return status;
}
