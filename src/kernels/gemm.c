/* Products of any two matrices: op(b) is packed in panels and a transposed a in rows, then tiles are multiplied (tile.c). Sums
 * are cut where their length alone says. */
#include "kernels/kernels_internal.h"

#ifdef _OPENMP
#include <omp.h>
#endif

#define PANELS 8  /* packed at once */
#define DEPTH 512 /* terms of a sum at once */
#define SQUARE 16

int reco_threads_enter(int threads)
{
#ifdef _OPENMP
    int before = omp_get_max_threads();
    reco_threads_sleep(threads);
    if (before != threads) omp_set_num_threads(threads);
    return before;
#else
    (void)threads;
    return 1;
#endif
}

void reco_threads_leave(int before)
{
#ifdef _OPENMP
    if (before != omp_get_max_threads()) omp_set_num_threads(before);
#else
    (void)before;
#endif
}

typedef struct job {
    float *c;
    const float *a, *b;
    size_t ldc, lda, ldb, m, n;
    bool ta, tb;
    float alpha, beta;
    size_t at, k;        /* the piece of the sums: at .. at + k */
    size_t first, width; /* the columns that are packed */
    float *panels;       /* of op(b), each [k][columns + RECO_PANEL_SPARE] */
    const float *packed; /* all of these, or NULL */
    float *rows;         /* of op(a) where that is transposed, [m][k + RECO_PANEL_SPARE] */
    size_t tiles;
    float *scratch;
    size_t per_worker;
    atomic_bool failed;
} job;

static size_t panel_at(const job *j, size_t panel)
{
    return j->k * panel * (RECO_PANEL + RECO_PANEL_SPARE);
}

/* to [n][m] = from [m][n] transposed, square by square, so that lines stay in a cache. */
static void transpose_squares(float *restrict to, size_t ldt, const float *restrict from, size_t ldf,
                              size_t m, size_t n)
{
    for (size_t i = 0; i < m; i += SQUARE)
        for (size_t l = 0; l < n; l++)
            for (size_t q = i; q < reco_min(m, i + SQUARE); q++) to[l * ldt + q] = from[q * ldf + l];
}

static void pack_panels(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const job *j = arg;
    for (size_t p = 0; p * RECO_PANEL < j->width; p++) {
        size_t columns = reco_min(RECO_PANEL, j->width - p * RECO_PANEL), ld = columns + RECO_PANEL_SPARE,
               column = j->first + p * RECO_PANEL;
        float *to = j->panels + panel_at(j, p) + begin * ld;
        if (j->tb)
            transpose_squares(to, ld, j->b + column * j->ldb + j->at + begin, j->ldb, columns, end - begin);
        for (size_t l = begin; l < end && !j->tb; l++, to += ld)
            memcpy(to, j->b + (j->at + l) * j->ldb + column, columns * sizeof *to);
    }
}

static void pack_rows(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const job *j = arg;
    transpose_squares(j->rows + begin * (j->k + RECO_PANEL_SPARE), j->k + RECO_PANEL_SPARE,
                      j->a + j->at * j->lda + begin, j->lda, j->k, end - begin);
}

static void multiply(void *arg, size_t begin, size_t end, int worker)
{
    job *j = arg;
    size_t lda = j->ta ? j->k + RECO_PANEL_SPARE : j->lda;
    const float *a = j->ta ? j->rows : j->a + j->at, *b = j->packed ? j->packed : j->panels;
    for (size_t task = begin; task < end; task++) {
        size_t row = task % j->tiles * RECO_TILE, p = task / j->tiles;
        if (!reco_tile(j->c + row * j->ldc + j->first + p * RECO_PANEL, j->ldc, a + row * lda, lda,
                       b + panel_at(j, p), reco_min(RECO_TILE, j->m - row),
                       reco_min(RECO_PANEL, j->width - p * RECO_PANEL), j->k, j->alpha, j->at ? 1 : j->beta,
                       j->scratch + (size_t)worker * j->per_worker))
            atomic_store(&j->failed, true);
    }
}

/* Floats of a piece: its panels, of k terms of sums of so many columns. */
static size_t piece(size_t width, size_t k)
{
    return k * (width + (width + RECO_PANEL - 1) / RECO_PANEL * RECO_PANEL_SPARE);
}

static reco_status multiply_parts(reco_ctx *ctx, job *j, size_t k)
{
    size_t most = reco_min(j->n, PANELS * RECO_PANEL), part = reco_min(k, DEPTH);
    j->tiles = (j->m + RECO_TILE - 1) / RECO_TILE;
    j->per_worker = reco_tile_scratch(part);
    j->panels = reco_scratch(ctx, j->packed ? 0 : piece(most, part), sizeof(float), "product");
    j->rows = reco_scratch(ctx, j->ta ? j->m * (part + RECO_PANEL_SPARE) : 0, sizeof(float), "product");
    j->scratch = reco_scratch(ctx, (size_t)reco_ctx_threads(ctx) * j->per_worker, sizeof(float), "product");
    if (!j->panels || !j->rows || !j->scratch) return RECO_E_NOMEM;
    for (j->at = 0; j->at < k; j->at += j->k) {
        j->k = reco_min(part, k - j->at);
        if (j->ta) reco_parallel(ctx, j->m, SQUARE, pack_rows, j);
        for (j->first = 0; j->first < j->n; j->first += j->width) {
            j->width = reco_min(most, j->n - j->first);
            if (!j->packed) reco_parallel(ctx, j->k, SQUARE, pack_panels, j);
            reco_parallel(ctx, j->tiles * ((j->width + RECO_PANEL - 1) / RECO_PANEL), 1, multiply, j);
            if (j->packed) j->packed += piece(j->width, j->k);
        }
    }
    return RECO_OK;
}

static reco_status product(reco_ctx *ctx, job *j, size_t k)
{
    if (j->m == 0 || j->n == 0) return RECO_OK;
    if (reco_ctx_isa(ctx) == RECO_ISA_PLAIN || k == 0) {
        reco_ref_gemm(j->c, j->ldc, j->a, j->lda, j->ta, j->b, j->ldb, j->tb, j->m, j->n, k, j->alpha,
                      j->beta);
        return RECO_OK;
    }
    reco_mark mark = reco_scratch_mark(ctx);
    int before = reco_threads_enter(1); /* of each call of oneDNN's */
    reco_status status = multiply_parts(ctx, j, k);
    reco_threads_leave(before);
    reco_scratch_release(ctx, mark);
    if (status == RECO_OK && j->failed)
        status = reco_fail(ctx, RECO_E_INTERNAL, "gemm: oneDNN refused %zu x %zu x %zu", j->m, j->n, k);
    return status;
}

reco_status reco_gemm(reco_ctx *ctx, float *c, size_t ldc, const float *a, size_t lda, bool ta,
                      const float *b, size_t ldb, bool tb, size_t m, size_t n, size_t k, float alpha,
                      float beta)
{
    job j = {.c = c,
             .a = a,
             .b = b,
             .ldc = ldc,
             .lda = lda,
             .ldb = ldb,
             .m = m,
             .n = n,
             .ta = ta,
             .tb = tb,
             .alpha = alpha,
             .beta = beta};
    return product(ctx, &j, k);
}

/* ---- packed beforehand ---- */

bool reco_packed_floats(size_t *floats, size_t n, size_t k)
{
    size_t most = reco_min(n, PANELS * RECO_PANEL), width;
    return reco_add(n, (n / RECO_PANEL + n / reco_max(1, most) + 1) * RECO_PANEL_SPARE, &width) &&
           reco_mul(width, k, floats);
}

void reco_pack(reco_ctx *ctx, float *panels, const reco_packed *p)
{
    size_t most = reco_min(p->n, PANELS * RECO_PANEL), part = reco_min(p->k, DEPTH);
    job j = {.b = p->b, .ldb = p->ldb, .tb = p->tb, .n = p->n, .panels = panels};
    for (; j.at < p->k; j.at += j.k) {
        j.k = reco_min(part, p->k - j.at);
        for (j.first = 0; j.first < p->n; j.first += j.width) {
            j.width = reco_min(most, p->n - j.first);
            reco_parallel(ctx, j.k, SQUARE, pack_panels, &j);
            j.panels += piece(j.width, j.k);
        }
    }
}

reco_status reco_gemm_packed(reco_ctx *ctx, float *c, size_t ldc, const float *a, size_t lda,
                             const reco_packed *b, size_t m, float alpha, float beta)
{
    job j = {.c = c,
             .a = a,
             .b = b->b,
             .ldc = ldc,
             .lda = lda,
             .ldb = b->ldb,
             .m = m,
             .n = b->n,
             .tb = b->tb,
             .alpha = alpha,
             .beta = beta,
             .packed = b->panels};
    return product(ctx, &j, b->k);
}
