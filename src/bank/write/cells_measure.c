#include "bank/write/cells.h"
#include "kernels/kernels.h"

#include <math.h>
#include <stdlib.h>

#define MARGINS ((size_t)RECO_LISTS_DEPTHS * RECO_LISTS_POINTS)
#define EASE 1e-5f /* on top of a margin: sums are rounded in other ways elsewhere */

typedef struct measuring {
    const reco_ctx *ctx;
    const reco_scan_kernel *kernel;
    const reco_cells_made *m;
    const float *queries;     /* [n][d] */
    const int64_t *positions; /* [n][k] */
    const size_t *counts;     /* [n] */
    size_t k;
    float *needs;    /* [n][k] margin at which each of the best would be found */
    uint32_t *found; /* [n][k] which of all the rows that are found it is, those of fewer best first */
    size_t nfound[RECO_LISTS_DEPTHS];
    float *scores; /* [threads][ncells] */
    float *best;   /* [n] */
    /* Of each depth: */
    const float *sorted[RECO_LISTS_DEPTHS]; /* needs, ascending */
    size_t all[RECO_LISTS_DEPTHS];          /* how many */
    double *sums;                           /* [threads][nfound of the last] */
    reco_lists_point *points;
    size_t n;
    /* The second time: */
    const float *margins;   /* [MARGINS] ascending */
    uint64_t *cells, *rows; /* [threads][MARGINS] that lie within a margin and not within the one before */
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
    uint64_t *cells = s->cells + (size_t)worker * MARGINS, *rows = s->rows + (size_t)worker * MARGINS;
    for (size_t q = begin; q < end; q++) {
        const float *scores = score_cells(s, q, worker);
        for (size_t c = 0; c < s->m->ncells; c++) {
            float gap = s->best[q] - scores[c];
            if (!(gap <= s->margins[MARGINS - 1])) continue;
            size_t low = 0, high = MARGINS - 1; /* the first margin that is as wide */
            while (low < high) {
                size_t middle = low + (high - low) / 2;
                if (s->margins[middle] < gap)
                    low = middle + 1;
                else
                    high = middle;
            }
            cells[low]++;
            rows[low] += (uint64_t)s->m->size[c];
        }
    }
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Number the rows that are found. numbers [positions] */
static void number_found(measuring *s, uint32_t *numbers, size_t positions)
{
    uint32_t next = 0;
    memset(numbers, 0xff, positions * sizeof *numbers);
    for (size_t depth = 0, j = 0; depth < RECO_LISTS_DEPTHS; s->nfound[depth++] = next)
        for (; j < reco_lists_depths[depth]; j++)
            for (size_t q = 0; q < s->n; q++) {
                if (j >= s->counts[q]) continue;
                uint32_t *number = &numbers[s->positions[q * s->k + j]];
                if (*number == UINT32_MAX) *number = next++;
                s->found[q * s->k + j] = *number;
            }
}

/* Standard error of the share that is found at a margin. Queries are drawn by chance, and so are the rows: where most queries have the
 * same few answers, as those of one dense region have, the greater error is that of the rows. */
static double error_of(const measuring *s, size_t depth, float margin, double share, double *sums)
{
    double by_query = 0, by_row = 0;
    memset(sums, 0, s->nfound[depth] * sizeof *sums);
    for (size_t q = 0; q < s->n; q++) {
        double sum = 0;
        for (size_t j = q * s->k, end = j + reco_min(reco_lists_depths[depth], s->counts[q]); j < end;
             j++) {
            double off = (s->needs[j] <= margin) - share;
            sum += off;
            sums[s->found[j]] += off;
        }
        by_query += sum * sum;
    }
    for (size_t i = 0; i < s->nfound[depth]; i++) by_row += sums[i] * sums[i];
    return sqrt(fmax(by_query, by_row)) / (double)s->all[depth];
}

/* Where the needs lead to a recall and, since other queries will ask, a standard error more. */
static void point_body(void *arg, size_t begin, size_t end, int worker)
{
    measuring *s = arg;
    for (size_t i = begin; i < end; i++) {
        const size_t depth = i / RECO_LISTS_POINTS, all = s->all[depth];
        const float *sorted = s->sorted[depth];
        double share = (double)reco_lists_recalls[i % RECO_LISTS_POINTS];
        s->points[i] = (reco_lists_point){0};
        if (!all) continue;
        size_t at = reco_max(1, (size_t)ceil(share * (double)all));
        share += error_of(s, depth, sorted[at - 1], share,
                          s->sums + (size_t)worker * s->nfound[RECO_LISTS_DEPTHS - 1]);
        at = reco_max(1, reco_min(all, (size_t)ceil(share * (double)all)));
        s->points[i].recall = reco_lists_recalls[i % RECO_LISTS_POINTS];
        s->points[i].margin = sorted[at - 1] + EASE;
    }
}

static reco_status find_points(reco_ctx *ctx, measuring *s, size_t positions)
{
    uint32_t *numbers = reco_scratch(ctx, positions, sizeof *numbers, "recall");
    s->found = reco_scratch(ctx, s->n, s->k * sizeof *s->found, "recall");
    if (!numbers || !s->found) return RECO_E_NOMEM;
    for (size_t depth = 0; depth < RECO_LISTS_DEPTHS; depth++) {
        size_t all = 0;
        float *sorted = reco_scratch(ctx, s->n, reco_lists_depths[depth] * sizeof *sorted, "recall");
        if (!sorted) return RECO_E_NOMEM;
        for (size_t q = 0; q < s->n; q++)
            for (size_t j = 0; j < reco_lists_depths[depth] && j < s->counts[q]; j++)
                sorted[all++] = s->needs[q * s->k + j];
        qsort(sorted, all, sizeof *sorted, ascending);
        s->sorted[depth] = sorted;
        s->all[depth] = all;
    }
    number_found(s, numbers, positions);
    s->sums = reco_scratch(ctx, (size_t)reco_ctx_threads(ctx),
                           reco_max(1, s->nfound[RECO_LISTS_DEPTHS - 1]) * sizeof *s->sums, "recall");
    if (!s->sums) return RECO_E_NOMEM;
    reco_parallel(ctx, MARGINS, 1, point_body, s);
    return RECO_OK;
}

/* What each point's margin costs. */
static void find_costs(reco_ctx *ctx, measuring *s, size_t positions)
{
    const size_t n = s->n;
    reco_lists_point *points = s->points;
    float margins[MARGINS];
    for (size_t i = 0; i < MARGINS; i++) margins[i] = points[i].margin;
    qsort(margins, MARGINS, sizeof *margins, ascending);
    s->margins = margins;
    reco_parallel(ctx, n, 8, cost_body, s);
    for (size_t i = 0; i < MARGINS; i++) {
        uint64_t cells = 0, rows = 0;
        for (size_t j = 0; j < MARGINS && margins[j] <= points[i].margin; j++)
            for (size_t t = 0; t < (size_t)reco_ctx_threads(ctx); t++) {
                cells += s->cells[t * MARGINS + j];
                rows += s->rows[t * MARGINS + j];
            }
        points[i].cells = (float)((double)cells / (double)n);
        points[i].rows = (float)((double)rows / (double)n / (double)positions);
    }
}

/* Asked by one side's rows. points [RECO_LISTS_DEPTHS][RECO_LISTS_POINTS] */
static reco_status measure(reco_ctx *ctx, const reco_cells_made *m, const reco_bank *bank, reco_side side,
                           reco_side asks, const reco_cells_asked *a, reco_lists_point *points)
{
    size_t n = a->n, k = a->k, threads = (size_t)reco_ctx_threads(ctx), bytes = MARGINS * sizeof(uint64_t);
    measuring s = {
        .ctx = ctx,
        .kernel = reco_scan_kernel_of(ctx),
        .m = m,
        .queries = a->queries[asks],
        .positions = a->found[side][asks],
        .counts = a->counts[side][asks],
        .k = k,
        .n = n,
        .points = points,
        .needs = reco_scratch(ctx, n, k * sizeof(float), "recall"),
        .scores = reco_scratch(ctx, threads, m->ncells * sizeof(float), "recall"),
        .best = reco_scratch(ctx, n, sizeof(float), "recall"),
        .cells = reco_scratch(ctx, threads, bytes, "recall"),
        .rows = reco_scratch(ctx, threads, bytes, "recall"),
    };
    if (!s.needs || !s.scores || !s.best || !s.cells || !s.rows) return RECO_E_NOMEM;
    memset(s.cells, 0, threads * bytes);
    memset(s.rows, 0, threads * bytes);
    reco_parallel(ctx, n, 8, need_body, &s);
    RECO_TRY(find_points(ctx, &s, bank->positions));
    find_costs(ctx, &s, bank->positions);
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
