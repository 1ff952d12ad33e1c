#include "bank/search/near.h"
#include "kernels/kernels.h"

#include <math.h>

/* As a scan of the bank does it, queries by centroids, but each thread has queries of its own: what a query's list holds then depends
 * on nothing but the query. Centroids come in tiles, and the queries' floor rises with the nearest so far. */

#define CHUNK 256 /* queries of a thread at once */

typedef struct worker {
    reco_scan_queries q;
    int8_t *codes;
    float *floor, *best;
    double *centre;
    reco_scan_hit *hits;
    /* Of rows that are to be assigned: */
    float *rows, *scores; /* [CHUNK][d], [CHUNK][ncells] */
    uint32_t *near, *counts;
} worker;

typedef struct finding {
    const reco_ctx *ctx; /* for the kernel level alone */
    const reco_scan_kernel *kernel;
    const reco_cells *cells;
    float margin;
    worker *workers;
    size_t chunk;
    /* one of these: */
    const float *queries;
    size_t nq;
    reco_near near;
    const reco_scan_rows *rows;
    int32_t *nearest;
    float *scores;
} finding;

static void raise_floor(worker *w, const finding *f, size_t q)
{
    double least = (double)w->best[q] - (double)f->margin,
           rounding = 1e-6 * (fabs(least) + fabs(w->centre[q])) + 1e-6;
    w->floor[q] = (float)((least - w->centre[q] - rounding) / (double)w->q.step[q]);
}

static void score_cell(const finding *f, worker *w, const float *x, size_t q, size_t cell, uint32_t *near,
                       float *scores, uint32_t *count)
{
    size_t d = f->cells->d;
    float score = f->kernel->dot_f16(x + q * d, f->cells->centroids + cell * d, d);
    if (!(score >= w->best[q] - f->margin)) return;
    near[*count] = (uint32_t)cell;
    scores[(*count)++] = score;
    if (score > w->best[q]) {
        w->best[q] = score;
        raise_floor(w, f, q);
    }
}

static void find_cells(const finding *f, worker *w, const float *x, size_t n, reco_near near)
{
    const reco_cells *cells = f->cells;
    size_t d = cells->d, group = RECO_SCAN_GROUP * reco_scan_width(d);
    _Alignas(64) float scale[RECO_SCAN_TILE], slack[RECO_SCAN_TILE];
    static const float none[RECO_SCAN_TILE];
    reco_scan_encode_queries(f->kernel, &w->q, w->codes, NULL, x, n, d, 0);
    for (size_t q = 0; q < n; q++) {
        w->centre[q] = reco_dot_wide(f->ctx, x + q * d, cells->mean, d);
        w->best[q] = w->floor[q] = -INFINITY;
        near.counts[q] = 0;
    }
    for (size_t c = 0; c < cells->n; c += RECO_SCAN_TILE) {
        uint32_t live = 0;
        for (size_t r = 0; r < RECO_SCAN_TILE; r++) {
            bool is_there = c + r < cells->n && (!cells->rows || cells->rows[c + r]);
            const float *bound =
                cells->bounds + (c + r) / RECO_SCAN_GROUP * RECO_SCAN_BOUNDS + r % RECO_SCAN_GROUP;
            live |= (uint32_t)is_there << r;
            scale[r] = is_there ? bound[0] : 0;
            slack[r] = is_there ? bound[16] + w->q.error * bound[32] : 0;
        }
        if (!live) continue;
        const uint8_t *low = cells->codes + c / RECO_SCAN_GROUP * group;
        const reco_scan_tile tile = {{low, c + RECO_SCAN_GROUP < cells->n ? low + group : low},
                                     scale,
                                     slack,
                                     none,
                                     none,
                                     w->floor,
                                     live};
        size_t hits = f->kernel->scan(w->hits, &w->q, &tile);
        for (size_t h = 0; h < hits; h++) {
            size_t q = w->hits[h].query;
            for (uint32_t bits = w->hits[h].rows; bits; bits &= bits - 1)
                score_cell(f, w, x, q, c + (size_t)__builtin_ctz(bits), near.cells + q * cells->n,
                           near.scores + q * cells->n, near.counts + q);
        }
    }
    for (size_t q = 0; q < n; q++) { /* those that were near before a nearer one came */
        uint32_t *to = near.cells + q * cells->n, kept = 0;
        float *score = near.scores + q * cells->n;
        for (uint32_t i = 0; i < near.counts[q]; i++) {
            if (!(score[i] >= w->best[q] - f->margin)) continue;
            to[kept] = to[i];
            score[kept++] = score[i];
        }
        near.counts[q] = kept;
    }
}

static void find_body(void *arg, size_t begin, size_t end, int number)
{
    const finding *f = arg;
    for (size_t i = begin; i < end; i++) {
        size_t q = i * f->chunk;
        const reco_near near = {f->near.cells + q * f->cells->n, f->near.scores + q * f->cells->n,
                                f->near.counts + q};
        find_cells(f, &f->workers[number], f->queries + q * f->cells->d, reco_min(f->chunk, f->nq - q),
                   near);
    }
}

static void assign_body(void *arg, size_t begin, size_t end, int number)
{
    const finding *f = arg;
    worker *w = &f->workers[number];
    const reco_near near = {w->near, w->scores, w->counts};
    for (size_t i = begin; i < end; i++) {
        size_t first = i * f->chunk, n = reco_min(f->chunk, f->rows->n - first), d = f->rows->d;
        for (size_t r = 0; r < n; r++) {
            float *row = w->rows + r * d;
            reco_f16_to_f32_n(row, f->rows->get(f->rows->arg, first + r), d);
            if (reco_unit_row(row, d)) continue;
            memset(row, 0, d * sizeof *row); /* a damaged one lies somewhere */
            row[0] = 1;
        }
        find_cells(f, w, w->rows, n, near);
        for (size_t r = 0; r < n; r++) { /* none: all centroids are damaged */
            bool some = near.counts[r] > 0;
            f->nearest[first + r] = some ? (int32_t)near.cells[r * f->cells->n] : 0;
            if (f->scores) f->scores[first + r] = some ? near.scores[r * f->cells->n] : 0;
        }
    }
}

static reco_status run_on_threads(reco_ctx *ctx, finding *f, size_t n, reco_body body)
{
    size_t threads = (size_t)reco_ctx_threads(ctx), d = f->cells->d, width = reco_scan_width(d);
    size_t each = ((n + threads - 1) / threads + 15) / 16 * 16; /* AMX multiplies 16 at once */
    f->ctx = ctx;
    f->kernel = reco_scan_kernel_of(ctx);
    f->chunk = reco_max(16, reco_min(CHUNK, each));
    f->workers = reco_scratch(ctx, threads, sizeof *f->workers, "cells");
    for (size_t t = 0; f->workers && t < threads; t++) {
        worker *w = &f->workers[t];
        RECO_TRY(reco_scan_queries_new(ctx, &w->q, f->chunk, d));
        w->codes = reco_scratch(ctx, f->chunk, width, "cells");
        w->floor = reco_scratch(ctx, f->chunk, sizeof *w->floor, "cells");
        w->best = reco_scratch(ctx, f->chunk, sizeof *w->best, "cells");
        w->centre = reco_scratch(ctx, f->chunk, sizeof *w->centre, "cells");
        w->hits = reco_scratch(ctx, f->chunk, sizeof *w->hits, "cells");
        if (!w->codes || !w->floor || !w->best || !w->centre || !w->hits) return RECO_E_NOMEM;
        if (!f->rows) continue;
        w->rows = reco_scratch(ctx, f->chunk, d * sizeof *w->rows, "cells");
        w->near = reco_scratch(ctx, f->chunk, f->cells->n * sizeof *w->near, "cells");
        w->scores = reco_scratch(ctx, f->chunk, f->cells->n * sizeof *w->scores, "cells");
        w->counts = reco_scratch(ctx, f->chunk, sizeof *w->counts, "cells");
        if (!w->rows || !w->near || !w->scores || !w->counts) return RECO_E_NOMEM;
    }
    if (!f->workers) return RECO_E_NOMEM;
    reco_parallel(ctx, (n + f->chunk - 1) / f->chunk, 1, body, f);
    return RECO_OK;
}

reco_status reco_near_find(reco_ctx *ctx, const reco_cells *cells, const float *queries, size_t nq,
                           float margin, reco_near near)
{
    finding f = {.cells = cells, .margin = margin, .queries = queries, .nq = nq, .near = near};
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status = run_on_threads(ctx, &f, nq, find_body);
    reco_scratch_release(ctx, mark);
    return status;
}

reco_status reco_near_assign(reco_ctx *ctx, const reco_cells *cells, const reco_scan_rows *rows,
                             int32_t *nearest, float *scores)
{
    finding f = {.cells = cells, .rows = rows, .nearest = nearest, .scores = scores};
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status = run_on_threads(ctx, &f, rows->n, assign_body);
    reco_scratch_release(ctx, mark);
    return status;
}
