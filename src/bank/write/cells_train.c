#include "bank/write/cells.h"
#include "kernels/kernels.h"

#include <math.h>

#define COPY_ROWS 65536 /* of the bank at once */
#define ITERATIONS 10
#define SPLITS 7     /* iterations after which large cells are split */
#define LARGE 2.0    /* times the mean size */
#define SAME 0.9999f /* rows of a greater cosine are not worth splitting */

const uint16_t *reco_rows_get(const void *arg, size_t i)
{
    const reco_rows_at *r = arg;
    size_t p = r->positions ? r->positions[i] : r->first + i, at = reco_bank_segment_at(r->bank, p);
    return reco_bank_row(r->bank, r->side, p, &at);
}

void reco_rows_advise(const reco_bank *bank)
{
    for (size_t i = 0; i < bank->nsegments; i++) reco_safetensors_pieces(bank->segments[i].file, true);
}

void reco_rows_fetch(const reco_bank *bank, reco_side side, size_t first, size_t n)
{
    size_t end = reco_min(first + reco_min(n, bank->positions), bank->positions),
           row = bank->info.d * sizeof(uint16_t);
    for (size_t p = first, i; p < end; p = bank->segments[i].base + bank->segments[i].rows) {
        i = reco_bank_segment_at(bank, p);
        const reco_segment *s = &bank->segments[i];
        reco_map_fetch((const uint8_t *)s->vectors[side] + (p - s->base) * row,
                       reco_min(end - p, s->base + s->rows - p) * row);
    }
}

static const uint16_t *centroid_at(const void *arg, size_t i)
{
    const reco_cells_made *m = arg;
    return m->centroids + i * m->d;
}

reco_status reco_cells_encode(reco_ctx *ctx, reco_cells_made *m)
{
    reco_mark mark = reco_scratch_mark(ctx);
    const reco_scan_rows rows = {centroid_at, m, m->ncells, m->d};
    float *row = reco_scratch(ctx, m->d, sizeof *row, "cells");
    reco_status status = row ? RECO_OK : RECO_E_NOMEM;
    if (row) {
        reco_scan_find_mean(m->mean, row, &rows);
        status = reco_scan_encode(ctx, m->codes, m->bounds, &rows, m->mean);
    }
    reco_scratch_release(ctx, mark);
    return status;
}

/* The sample lies all over the bank's files, of which memory holds a part where the bank is large; every iteration reads it twice. */
typedef struct copied {
    reco_rows_at from;
    uint16_t *rows; /* [n][d] */
    size_t d, begin;
} copied;

static const uint16_t *copied_row(const void *arg, size_t i)
{
    const copied *c = arg;
    return c->rows + i * c->d;
}

static void copy_body(void *arg, size_t begin, size_t end, int worker)
{
    const copied *c = arg;
    (void)worker;
    for (size_t i = c->begin + begin; i < c->begin + end; i++)
        memcpy(c->rows + i * c->d, reco_rows_get(&c->from, i), c->d * sizeof *c->rows);
}

typedef struct training {
    reco_cells_made *m;
    const reco_scan_rows *rows;
    int32_t *nearest; /* [n] */
    float *scores;    /* [n] to the centroid */
    size_t *start;    /* [ncells + 1] of each cell in order */
    uint32_t *order;  /* [n] rows by cell */
    double *sums;     /* [threads][d] */
    float *wide;      /* [threads][d] */
} training;

static void sort_by_cell(training *t)
{
    size_t k = t->m->ncells, n = t->rows->n;
    memset(t->start, 0, (k + 1) * sizeof *t->start);
    for (size_t i = 0; i < n; i++) t->start[t->nearest[i] + 1]++;
    for (size_t c = 0; c < k; c++) t->start[c + 1] += t->start[c];
    for (size_t i = 0; i < n; i++) t->order[t->start[t->nearest[i]]++] = (uint32_t)i;
    for (size_t c = k; c > 0; c--) t->start[c] = t->start[c - 1];
    t->start[0] = 0;
}

static void move_body(void *arg, size_t begin, size_t end, int worker)
{
    training *t = arg;
    size_t d = t->m->d;
    double *sum = t->sums + (size_t)worker * d;
    float *wide = t->wide + (size_t)worker * d;
    for (size_t c = begin; c < end; c++) {
        if (t->start[c] == t->start[c + 1]) continue;
        memset(sum, 0, d * sizeof *sum);
        for (size_t i = t->start[c]; i < t->start[c + 1]; i++) {
            reco_f16_to_f32_n(wide, t->rows->get(t->rows->arg, t->order[i]), d);
            for (size_t j = 0; j < d; j++) sum[j] += (double)wide[j];
        }
        for (size_t j = 0; j < d; j++) wide[j] = (float)sum[j];
        if (reco_unit_row(wide, d)) reco_f32_to_f16_n(t->m->centroids + c * d, wide, d);
    }
}

typedef struct by_size {
    size_t size, cell;
} by_size;

static int larger_first(const void *a, const void *b)
{
    const by_size *x = a, *y = b;
    if (x->size != y->size) return x->size < y->size ? 1 : -1;
    return (x->cell > y->cell) - (x->cell < y->cell);
}

/* The smallest cells are given up and begin anew beside the farthest rows of the largest. */
static void split(training *t, by_size *cells)
{
    size_t k = t->m->ncells, d = t->m->d, last = k;
    for (size_t c = 0; c < k; c++) cells[c] = (by_size){t->start[c + 1] - t->start[c], c};
    qsort(cells, k, sizeof *cells, larger_first);
    double mean = (double)t->rows->n / (double)k;
    for (size_t i = 0; i < k && i < last; i++) {
        if ((double)cells[i].size < LARGE * mean) break;
        size_t from = t->start[cells[i].cell], farthest = from;
        for (size_t j = from; j < t->start[cells[i].cell + 1]; j++)
            if (t->scores[t->order[j]] < t->scores[t->order[farthest]]) farthest = j;
        if (t->scores[t->order[farthest]] > SAME) continue;
        if ((double)cells[--last].size > mean / 2) break;
        float *wide = t->wide;
        const uint16_t *centre = t->m->centroids + cells[i].cell * d,
                       *row = t->rows->get(t->rows->arg, t->order[farthest]);
        for (size_t j = 0; j < d; j++)
            wide[j] = 0.7f * reco_f16_to_f32(centre[j]) + 0.3f * reco_f16_to_f32(row[j]);
        if (reco_unit_row(wide, d)) reco_f32_to_f16_n(t->m->centroids + cells[last].cell * d, wide, d);
    }
}

reco_status reco_cells_train(reco_ctx *ctx, reco_cells_made *m, const reco_bank *bank, reco_side side,
                             const size_t *positions, size_t n)
{
    size_t k = m->ncells, d = m->d, threads = (size_t)reco_ctx_threads(ctx);
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status = RECO_E_NOMEM;
    copied copy = {{bank, side, positions, 0}, NULL, d, 0};
    const reco_scan_rows rows = {copied_row, &copy, n, d};
    training t = {
        .m = m,
        .rows = &rows,
        .nearest = reco_scratch(ctx, n, sizeof *t.nearest, "cells"),
        .scores = reco_scratch(ctx, n, sizeof *t.scores, "cells"),
        .start = reco_scratch(ctx, k + 1, sizeof *t.start, "cells"),
        .order = reco_scratch(ctx, n, sizeof *t.order, "cells"),
        .sums = reco_scratch(ctx, threads, d * sizeof *t.sums, "cells"),
        .wide = reco_scratch(ctx, threads, d * sizeof *t.wide, "cells"),
    };
    by_size *cells = reco_scratch(ctx, k, sizeof *cells, "cells");
    copy.rows = reco_alloc_raw(ctx, n, d * sizeof *copy.rows, "cells");
    if (!copy.rows || !t.nearest || !t.scores || !t.start || !t.order || !t.sums || !t.wide || !cells)
        goto out;
    for (size_t i = 0, next; i < n; i = next) { /* positions ascend */
        for (next = i; next < n && positions[next] < positions[i] + COPY_ROWS;) next++;
        reco_rows_fetch(bank, side, positions[i], COPY_ROWS);
        copy.begin = i;
        reco_parallel(ctx, next - i, 256, copy_body, &copy);
    }
    for (size_t c = 0; c < k; c++)
        memcpy(m->centroids + c * d, copied_row(&copy, (size_t)((double)n * ((double)c + 0.5) / (double)k)),
               d * sizeof *m->centroids);
    for (size_t i = 0; i < ITERATIONS; i++) {
        RECO_GO(reco_progress(
            ctx, side == RECO_IMAGE ? "finding cells of images" : "finding cells of texts", i, ITERATIONS));
        RECO_GO(reco_cells_encode(ctx, m));
        const reco_cells now = reco_cells_of(m);
        RECO_GO(reco_near_assign(ctx, &now, &rows, t.nearest, t.scores));
        sort_by_cell(&t);
        reco_parallel(ctx, k, 8, move_body, &t);
        if (i < SPLITS) split(&t, cells);
    }
    status = reco_cells_encode(ctx, m);
out:
    reco_free(copy.rows);
    reco_scratch_release(ctx, mark);
    return status;
}
