#include "bank/segment/directions.h"
#include "kernels/kernels.h"

#include <math.h>

/* Orthogonal iteration: the directions V [m][d] become VC, C the covariance of a sample of the rows, orthonormalised in order,
 * again and again. The first come to span what varies most. How near they come decides how much a search can pass over, never
 * what it finds. */

#define ITERATIONS 12
#define CHUNK 1024 /* sampled rows at a time */
#define TRIED 2048 /* rows that a choice of stages is tried on, */
#define ASKED 32   /* by so many of them */

typedef struct sample {
    size_t n, d;
    float *mean[2]; /* [d] by side */
    float *c;       /* [d][d] sum of products */
} sample;

/* Row i of n, evenly spread. */
static const uint16_t *spread(const reco_scan_rows *rows, size_t i, size_t n)
{
    return rows->get(rows->arg, (size_t)((double)i * (double)rows->n / (double)n));
}

/* Less the mean; a row that is no number counts as the mean. */
static void centred(float *x, const reco_scan_rows *rows, size_t i, size_t n, const float *mean)
{
    size_t d = rows->d;
    float odd = 0;
    reco_f16_to_f32_n(x, spread(rows, i, n), d);
    for (size_t j = 0; j < d; j++) {
        x[j] -= mean[j];
        odd += x[j] * 0.0f;
    }
    if (odd != 0.0f) memset(x, 0, d * sizeof *x);
}

static void find_mean(float *mean, float *x, const reco_scan_rows *rows, size_t n)
{
    size_t d = rows->d;
    memset(x, 0, d * sizeof *x);
    memset(mean, 0, d * sizeof *mean);
    float *row = x + d;
    for (size_t i = 0; i < n; i++) {
        centred(row, rows, i, n, x);
        for (size_t j = 0; j < d; j++) mean[j] += row[j];
    }
    for (size_t j = 0; j < d; j++) mean[j] /= (float)n;
}

/* Row i of v less its part along those before, of length 1. Twice, in double: what rounding leaves is then rounding of the
 * result alone. A row that vanishes takes the place of an axis. */
static void straighten(const reco_ctx *ctx, float *v, size_t i, size_t d, double *y, size_t times)
{
    float *row = v + i * d;
    for (size_t axis = 0;; axis++) {
        double before = reco_dot_wide(ctx, row, row, d), square = 0;
        for (size_t t = 0; t < times; t++) {
            for (size_t k = 0; k < d; k++) y[k] = row[k];
            for (size_t j = 0; j < i; j++) {
                const float *other = v + j * d;
                double dot = reco_dot_wide(ctx, row, other, d);
                for (size_t k = 0; k < d; k++) y[k] -= dot * (double)other[k];
            }
            square = 0;
            for (size_t k = 0; k < d; k++) square += y[k] * y[k];
            double scale = square > 0 ? 1 / sqrt(square) : 0;
            for (size_t k = 0; k < d; k++) row[k] = (float)(y[k] * scale);
            if (t == 0 && !(square > 1e-8 * before)) break;
        }
        if (square > 1e-8 * before || axis == d) return;
        memset(row, 0, d * sizeof *row);
        row[(i + axis) % d] = 1;
    }
}

static reco_status add_products(reco_ctx *ctx, sample *s, const reco_scan_rows *rows, const float *mean)
{
    size_t d = s->d;
    reco_mark mark = reco_scratch_mark(ctx);
    float *x = reco_scratch(ctx, CHUNK * d, sizeof *x, "directions");
    reco_status status = x ? RECO_OK : RECO_E_NOMEM;
    for (size_t at = 0; status == RECO_OK && at < s->n; at += CHUNK) {
        size_t n = reco_min(CHUNK, s->n - at);
        for (size_t i = 0; i < n; i++) centred(x + i * d, rows, at + i, s->n, mean);
        status = reco_gemm(ctx, s->c, d, x, d, true, x, d, false, d, d, n, 1, at ? 1 : 0);
    }
    reco_scratch_release(ctx, mark);
    return status;
}

/* v [m][d]: the first `fixed` rows stay. */
static reco_status iterate(reco_ctx *ctx, const sample *s, float *v, size_t fixed, size_t m)
{
    size_t d = s->d;
    reco_rng rng;
    reco_status status = RECO_E_NOMEM;
    reco_mark mark = reco_scratch_mark(ctx);
    float *next = reco_scratch(ctx, m * d, sizeof *next, "directions");
    double *y = reco_scratch(ctx, d, sizeof *y, "directions");
    if (!next || !y) goto out;
    reco_rng_seed(&rng, 20);
    for (size_t i = fixed * d; i < m * d; i++) v[i] = (float)reco_rng_normal(&rng);
    for (size_t t = 0; t < ITERATIONS; t++) {
        RECO_GO(reco_gemm(ctx, next + fixed * d, d, v + fixed * d, d, false, s->c, d, false, m - fixed, d,
                          d, 1, 0));
        memcpy(v + fixed * d, next + fixed * d, (m - fixed) * d * sizeof *v);
        for (size_t i = fixed; i < m; i++) straighten(ctx, v, i, d, y, t + 1 == ITERATIONS ? 3 : 1);
    }
    status = RECO_OK;
out:
    reco_scratch_release(ctx, mark);
    return status;
}

/* ---- how many ---- */

/* What looking at one row for one query costs, in cycles of a core with AVX2, by measurement: dimensions of groups, a row's test,
 * a pair, its dimensions, and a row in f16. */
static double dense_cost(size_t d) { return 0.04 * (double)d + 1; }
static double pair_cost(size_t d) { return 8 + 0.06 * (double)d; }
static double row_cost(size_t d) { return 10 + 0.25 * (double)d; }

typedef struct trial {
    float *x, *y;         /* [TRIED][d] centred, [TRIED][m] along the directions */
    float *along;         /* [m] of the mean */
    double square, *rest; /* [TRIED][steps] length beyond */
    size_t n, d, m, steps;
} trial;

/* How many pairs pass after each 64 directions: share [steps]. The floor is what the best other row of so many reaches: of a bank,
 * as it is while a search goes on. */
static reco_status measure(reco_ctx *ctx, const trial *t, const float *mean, double *share)
{
    size_t n = t->n, m = t->m, d = t->d, pairs = 0;
    reco_mark mark = reco_scratch_mark(ctx);
    double *score = reco_scratch(ctx, n, sizeof *score, "directions");
    double *bound = reco_scratch(ctx, n * t->steps, sizeof *bound, "directions");
    if (!score || !bound) return RECO_E_NOMEM;
    memset(share, 0, t->steps * sizeof *share);
    for (size_t a = 0; a < ASKED; a++) {
        size_t q = a * n / ASKED;
        const float *x = t->x + q * d, *w = t->y + q * m;
        double best = -INFINITY,
               norm = t->square + 2 * reco_dot_wide(ctx, x, mean, d) + reco_dot_wide(ctx, x, x, d);
        for (size_t i = 0; i < n; i++) {
            const float *row = t->y + i * m;
            double dot = 0, turned = 0, length = 0;
            score[i] = reco_dot_wide(ctx, x, t->x + i * d, d) + reco_dot_wide(ctx, mean, t->x + i * d, d);
            if (i != q && score[i] > best) best = score[i];
            for (size_t s = 0; s < t->steps; s++) {
                for (size_t j = 64 * s; j < 64 * (s + 1); j++) {
                    double along = (double)w[j] + (double)t->along[j];
                    dot += along * (double)row[j];
                    turned += along * along;
                    length += (double)row[j] * (double)row[j];
                }
                bound[i * t->steps + s] = dot + sqrt(fmax(norm - turned, 0)) * t->rest[i * t->steps + s] +
                                          0.015 * sqrt(turned * length); /* what codes leave out */
            }
        }
        for (size_t i = 0; i < n; i++)
            for (size_t s = 0; s < t->steps && i != q; s++) share[s] += bound[i * t->steps + s] >= best;
        pairs += n - 1;
    }
    for (size_t s = 0; s < t->steps; s++) share[s] /= (double)pairs;
    reco_scratch_release(ctx, mark);
    return RECO_OK;
}

static void choose(const double *share, size_t steps, size_t d, size_t *first, size_t *second)
{
    double least = 0.7 * dense_cost(d);
    *first = *second = 0;
    for (size_t a = 0; a < steps; a++)
        for (size_t b = a + 1; b < steps; b++) {
            double cost =
                dense_cost(64 * (a + 1)) + share[a] * pair_cost(64 * (b + 1)) + share[b] * row_cost(d);
            if (cost >= least) continue;
            least = cost;
            *first = 64 * (a + 1);
            *second = 64 * (b + 1);
        }
}

static reco_status try_stages(reco_ctx *ctx, const sample *s, const reco_scan_rows *rows, const float *mean,
                              const float *v, size_t m, size_t *first, size_t *second)
{
    trial t = {.n = reco_min(TRIED, rows->n), .d = s->d, .m = m, .steps = m / 64};
    double share[RECO_DIRECTIONS_MOST / 64];
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status = RECO_E_NOMEM;
    t.x = reco_scratch(ctx, t.n * t.d, sizeof *t.x, "directions");
    t.y = reco_scratch(ctx, t.n * m, sizeof *t.y, "directions");
    t.along = reco_scratch(ctx, m, sizeof *t.along, "directions");
    t.rest = reco_scratch(ctx, t.n * t.steps, sizeof *t.rest, "directions");
    if (!t.x || !t.y || !t.along || !t.rest) goto out;
    for (size_t i = 0; i < t.n; i++) centred(t.x + i * t.d, rows, i, t.n, mean);
    RECO_GO(reco_gemm(ctx, t.y, m, t.x, t.d, false, v, t.d, true, t.n, m, t.d, 1, 0));
    for (size_t j = 0; j < m; j++) t.along[j] = (float)reco_dot_wide(ctx, v + j * t.d, mean, t.d);
    t.square = reco_dot_wide(ctx, mean, mean, t.d);
    for (size_t i = 0; i < t.n; i++) {
        double rest = reco_dot_wide(ctx, t.x + i * t.d, t.x + i * t.d, t.d);
        for (size_t step = 0; step < t.steps; step++) {
            for (size_t j = 64 * step; j < 64 * (step + 1); j++)
                rest -= (double)t.y[i * m + j] * (double)t.y[i * m + j];
            t.rest[i * t.steps + step] = sqrt(fmax(rest, 0));
        }
    }
    RECO_GO(measure(ctx, &t, mean, share));
    choose(share, t.steps, t.d, first, second);
out:
    reco_scratch_release(ctx, mark);
    return status;
}

/* ---- the whole ---- */

reco_status reco_directions_find(reco_ctx *ctx, reco_directions_side *out, const reco_scan_rows rows[2],
                                 int side, size_t first, size_t second)
{
    size_t d = rows[side].d, n = rows[side].n, fixed = 0;
    size_t m = first ? second : reco_min(RECO_DIRECTIONS_MOST, (d - 1) / 64 * 64);
    *out = (reco_directions_side){0};
    if (!first && (m < 128 || d > RECO_DIRECTIONS_WIDTH)) return RECO_OK;
    sample s = {.n = reco_min(n, reco_max(2048, reco_min(16384, ((size_t)1 << 32) / (d * d)))), .d = d};
    reco_status status = RECO_E_NOMEM;
    float *v = reco_scratch(ctx, m * d, sizeof *v, "directions"); /* the caller's */
    reco_mark mark = reco_scratch_mark(ctx);
    s.c = reco_scratch(ctx, d * d, sizeof *s.c, "directions");
    float *two = reco_scratch(ctx, 2 * d, sizeof *two, "directions");
    double *y = reco_scratch(ctx, d, sizeof *y, "directions");
    for (int i = 0; i < 2; i++) s.mean[i] = reco_scratch(ctx, d, sizeof *s.mean[i], "directions");
    if (!v || !s.c || !two || !y || !s.mean[0] || !s.mean[1]) goto out;
    /* A query that is far from the mean lies along it and, of the other side, along the other's. */
    for (int i = 0; i < 2; i++) {
        const reco_scan_rows *of = &rows[i == 0 ? side : 1 - side];
        find_mean(s.mean[i], two, of, reco_min(of->n, s.n));
        if (fixed == m || !(reco_dot_wide(ctx, s.mean[i], s.mean[i], d) > 1e-4)) continue;
        memcpy(v + fixed * d, s.mean[i], d * sizeof *v);
        straighten(ctx, v, fixed++, d, y, 3);
    }
    RECO_GO(add_products(ctx, &s, &rows[side], s.mean[0]));
    RECO_GO(iterate(ctx, &s, v, fixed, m));
    if (!first) RECO_GO(try_stages(ctx, &s, &rows[side], s.mean[0], v, m, &first, &second));
    if (first)
        *out = (reco_directions_side){v, first, second,
                                      (float)(reco_directions_loose(ctx, v, second, d) * 1.001)};
out:
    reco_scratch_release(ctx, mark);
    return status;
}

reco_status reco_directions_make(reco_ctx *ctx, const char *dir, const reco_scan_rows rows[2], size_t first,
                                 size_t second)
{
    reco_directions_side sides[2];
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status = RECO_OK;
    for (int side = 0; side < 2; side++)
        RECO_GO(reco_directions_find(ctx, &sides[side], rows, side, first, second));
    status = reco_directions_write(ctx, dir, sides, rows[0].d);
out:
    reco_scratch_release(ctx, mark);
    return status;
}
