#include "bank/segment/segment.h"
#include "kernels/kernels.h"
#include "kernels/scan.h"

#define CHUNK 1024 /* rows that are turned at a time; a multiple of 16 */

static size_t groups_of(size_t n) { return (n + RECO_SCAN_GROUP - 1) / RECO_SCAN_GROUP; }

reco_status reco_scan_stages_new(reco_ctx *ctx, reco_scan_stages_room *out, const reco_directions_side *x,
                                 size_t n)
{
    size_t groups = groups_of(n);
    out->codes[0] = reco_scratch(ctx, groups, RECO_SCAN_GROUP * reco_scan_width(x->first), "stages");
    out->codes[1] = reco_scratch(ctx, n, reco_scan_width(x->second), "stages");
    for (size_t i = 0; i < 2; i++)
        out->bounds[i] = reco_scratch(ctx, groups, RECO_SCAN_TURNED_BOUNDS * sizeof(float), "stages");
    return out->codes[0] && out->codes[1] && out->bounds[0] && out->bounds[1] ? RECO_OK : RECO_E_NOMEM;
}

typedef struct turning {
    const reco_ctx *ctx;
    const reco_directions_side *x;
    const reco_scan_rows *rows;
    const float *mean;
    size_t at, n;             /* the chunk */
    float *c, *y;             /* [CHUNK][d] less the mean, [CHUNK][second] turned */
    double *square, *along;   /* [CHUNK] */
    uint8_t *codes, *scratch; /* of each worker */
    const reco_scan_stages_room *to;
    const reco_scan_stages *checked;
    size_t bad; /* the first in this chunk; for the threads, an atomic minimum */
} turning;

static size_t code_bytes(const reco_directions_side *x) { return reco_scan_width(x->second); }

static void centre(void *arg, size_t begin, size_t end, int worker)
{
    turning *t = arg;
    size_t d = t->rows->d;
    (void)worker;
    for (size_t i = begin; i < end; i++) {
        float *c = t->c + i * d;
        double square = 0;
        reco_f16_to_f32_n(c, t->rows->get(t->rows->arg, t->at + i), d);
        for (size_t j = 0; j < d; j++) {
            double exact = (double)c[j] - (double)t->mean[j];
            square += exact * exact;
            c[j] = (float)exact;
        }
        t->square[i] = square;
        t->along[i] = reco_dot_wide(t->ctx, t->x->rows, c, d);
    }
}

static double off_of(const turning *t, size_t i, size_t m)
{
    return reco_scan_turn_error(t->rows->d, m) * sqrt(t->square[i]);
}

static void encode(void *arg, size_t begin, size_t end, int worker)
{
    turning *t = arg;
    uint8_t *codes = t->codes + (size_t)worker * code_bytes(t->x);
    void *scratch = t->scratch + (size_t)worker * reco_scan_turned_scratch(t->x->second);
    for (size_t i = begin; i < end; i++) {
        size_t row = t->at + i, g = row / RECO_SCAN_GROUP, r = row % RECO_SCAN_GROUP;
        for (size_t stage = 0; stage < 2; stage++) {
            size_t m = stage ? t->x->second : t->x->first, width = reco_scan_width(m);
            float bound[5];
            uint8_t *own = stage ? t->to->codes[1] + row * width : codes;
            reco_scan_encode_turned(t->ctx, own, bound, t->y + i * t->x->second, m, t->along[i],
                                    t->square[i], (double)t->x->loose, off_of(t, i, m), scratch);
            for (size_t j = 0; j < width / 4 && !stage; j++)
                memcpy(t->to->codes[0] + g * RECO_SCAN_GROUP * width + (j * RECO_SCAN_GROUP + r) * 4,
                       codes + 4 * j, 4);
            for (size_t k = 0; k < 5; k++)
                t->to->bounds[stage][g * RECO_SCAN_TURNED_BOUNDS + k * RECO_SCAN_GROUP + r] = bound[k];
        }
    }
}

static void check(void *arg, size_t begin, size_t end, int worker)
{
    turning *t = arg;
    const reco_scan_stages *s = t->checked;
    (void)worker;
    for (size_t i = begin; i < end; i++) {
        size_t row = t->at + i, g = row / RECO_SCAN_GROUP, r = row % RECO_SCAN_GROUP;
        bool holds = true;
        for (size_t stage = 0; stage < 2; stage++) {
            size_t m = stage ? t->x->second : t->x->first, width = reco_scan_width(m);
            const float *all =
                (stage ? s->second_bounds : s->first_bounds) + g * RECO_SCAN_TURNED_BOUNDS + r;
            const float bound[] = {all[0], all[16], all[32], all[48], all[64]};
            const uint8_t *codes =
                stage ? s->second + row * width : s->first + g * RECO_SCAN_GROUP * width + 4 * r;
            /* Padding meets queries' zeros. */
            holds &= reco_scan_turned_holds(codes, stage ? 4 : 4 * RECO_SCAN_GROUP, bound,
                                            t->y + i * t->x->second, m, t->along[i], t->square[i],
                                            (double)t->x->loose, off_of(t, i, m));
        }
        size_t least = __atomic_load_n(&t->bad, __ATOMIC_RELAXED);
        while (!holds && row < least &&
               !__atomic_compare_exchange_n(&t->bad, &least, row, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            continue;
    }
}

static reco_status turn(reco_ctx *ctx, turning *t, reco_body body)
{
    size_t d = t->rows->d, m = t->x->second, threads = (size_t)reco_ctx_threads(ctx),
           chunk = reco_min(CHUNK, t->rows->n);
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status = RECO_E_NOMEM;
    t->ctx = ctx;
    t->bad = t->rows->n;
    t->c = reco_scratch(ctx, chunk * d, sizeof *t->c, "stages");
    t->y = reco_scratch(ctx, chunk * m, sizeof *t->y, "stages");
    t->square = reco_scratch(ctx, chunk, sizeof *t->square, "stages");
    t->along = reco_scratch(ctx, chunk, sizeof *t->along, "stages");
    t->codes = reco_scratch(ctx, threads, code_bytes(t->x), "stages");
    t->scratch = reco_scratch(ctx, threads, reco_scan_turned_scratch(m), "stages");
    if (!t->c || !t->y || !t->square || !t->along || !t->codes || !t->scratch) goto out;
    for (t->at = 0; t->at < t->rows->n && t->bad == t->rows->n; t->at += t->n) {
        t->n = reco_min(CHUNK, t->rows->n - t->at);
        reco_parallel(ctx, t->n, 16, centre, t);
        RECO_GO(reco_gemm(ctx, t->y, m, t->c, d, false, t->x->rows, d, true, t->n, m, d, 1, 0));
        reco_parallel(ctx, t->n, 16, body, t);
    }
    status = RECO_OK;
out:
    reco_scratch_release(ctx, mark);
    return status;
}

reco_status reco_scan_stages_encode(reco_ctx *ctx, const reco_scan_stages_room *to,
                                    const reco_directions_side *x, const reco_scan_rows *rows,
                                    const float *mean)
{
    size_t groups = groups_of(rows->n), group = RECO_SCAN_GROUP * reco_scan_width(x->first);
    for (size_t i = 0; i < 2 && groups; i++)
        memset(to->bounds[i] + (groups - 1) * RECO_SCAN_TURNED_BOUNDS, 0,
               RECO_SCAN_TURNED_BOUNDS * sizeof(float));
    if (groups) memset(to->codes[0] + (groups - 1) * group, 128, group);
    turning t = {.x = x, .rows = rows, .mean = mean, .to = to};
    return turn(ctx, &t, encode);
}

reco_status reco_scan_stages_check(reco_ctx *ctx, const reco_scan_stages *s, const reco_scan_rows *rows,
                                   const float *mean, size_t *bad)
{
    turning t = {.x = s->directions, .rows = rows, .mean = mean, .checked = s};
    RECO_TRY(turn(ctx, &t, check));
    *bad = t.bad;
    return RECO_OK;
}
