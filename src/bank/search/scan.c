#include "bank/search/filter.h"
#include "bank/search/scan.h"
#include "kernels/kernels.h"
#include "kernels/scan.h"

#include <math.h>

/* Each worker takes blocks of rows and keeps, per query, the k best that it met. A row is scored in f32, and then in
 * double, only when the bound from its codes reaches the floor: the k-th best score that any worker has. Floors rise
 * while the scan goes on, so what is scored depends on chance, but what is passed over never belongs to the k best.
 *
 * Blocks without codes, of segments without a scan file, are encoded on the way when there are queries enough to pay
 * for it. Where few rows of a block are live (a filter, deletions), those are gathered into full groups first. */

#define BLOCK_BYTES ((size_t)1 << 19) /* of codes; a worker has room for so many of its own */
#define BLOCK_ROWS 1024
#define DIRECT_QUERIES 8 /* up to here, scoring f16 rows is faster than encoding them */
#define MEAN_ROWS 64     /* of a block that is encoded on the way, its mean is of so many */
/* Products between two looks at the progress hook: tens of milliseconds. What is done sooner never looks. */
#define SLICE_PRODUCTS ((size_t)1 << 32)

typedef struct worker {
    float *scores;              /* [nq][k] */
    int64_t *positions;         /* [nq][k] */
    size_t *counts;             /* [nq] */
    const reco_scan_queries *q; /* those of the block in work: all, or own */
    const uint32_t *names;      /* [q->n] which of the scan's they are; NULL: all */
    reco_scan_queries own;
    int8_t *own_codes; /* [nq][width] */
    float *floor;      /* [nq] in the kernel's units, of the block in work */
    double *centre;    /* [nq] inner product with the mean */
    double rounding;   /* of centre, where it was given */
    const float *mean; /* of which centre is, of all queries; NULL: none */
    reco_scan_hit *hits;
    float *row, *own_mean; /* [d] */
    void *scratch;
    uint32_t *live; /* [rows / 32] bits of a block's rows */
    uint8_t *codes; /* gathered or encoded groups */
    float *bounds;
    uint32_t *rows; /* of the block, in the order gathered */
    size_t segment; /* of the last row that was looked up */
} worker;

typedef struct scan {
    const reco_ctx *ctx; /* for the kernel level alone; threads only read it */
    const reco_bank *bank;
    const reco_scan_kernel *kernel;
    const reco_scan_opts *opts;
    const reco_scan_block *blocks; /* those of a slice */
    const float *queries;
    reco_scan_queries q;
    const int8_t *codes; /* [nq][width] of the queries, as they were before packing */
    uint32_t *best;      /* [nq] bits of a float: the k-th best score known, shared */
    worker *workers;
    float slack; /* f32 products may be wrong by so much */
    float *scores;
    int64_t *positions;
    size_t *counts;
} scan;

size_t reco_scan_block_rows(size_t d)
{
    size_t rows = BLOCK_BYTES / reco_scan_width(d) / RECO_SCAN_TILE * RECO_SCAN_TILE;
    return reco_max(RECO_SCAN_TILE, reco_min(rows, BLOCK_ROWS));
}

/* ---- the floor ---- */

static float get_best(const scan *s, size_t q)
{
    uint32_t bits = __atomic_load_n(&s->best[q], __ATOMIC_RELAXED);
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static void raise_best(scan *s, size_t q, float score)
{
    uint32_t was = __atomic_load_n(&s->best[q], __ATOMIC_RELAXED), bits;
    memcpy(&bits, &score, sizeof bits);
    for (;;) {
        float f;
        memcpy(&f, &was, sizeof f);
        if (!(score > f)) return;
        if (__atomic_compare_exchange_n(&s->best[q], &was, bits, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            return;
    }
}

/* Of query i of the block. */
static size_t name_of(const worker *w, size_t i) { return w->names ? w->names[i] : i; }

/* What scale * dot + slack * gain must reach, a little lower for the roundings on the way. */
static float floor_of(const scan *s, const worker *w, size_t i)
{
    double best = (double)get_best(s, name_of(w, i)),
           rounding = 1e-6 * (fabs(best) + fabs(w->centre[i])) + w->rounding;
    return best == -INFINITY ? -INFINITY
                             : (float)((best - w->centre[i] - rounding) / (double)w->q->step[i]);
}

/* ---- scoring ---- */

/* Of the bank, where the block's row is. */
static size_t position_of(const reco_scan_block *b, size_t row)
{
    const reco_scan_source *from = b->source;
    return from->positions ? from->positions[b->first + row] : from->base + b->first + row;
}

static const uint16_t *row_of(const scan *s, worker *w, const reco_scan_block *b, size_t row)
{
    size_t p = position_of(b, row);
    const reco_segment *at = &s->bank->segments[w->segment];
    if (p - at->base >= at->rows) at = &s->bank->segments[w->segment = reco_bank_segment_at(s->bank, p)];
    return at->vectors[s->opts->side] + (p - at->base) * s->bank->info.d;
}

/* Asked of the few rows that would be among the best. */
static bool is_excluded(const scan *s, size_t q, size_t position)
{
    const size_t n = s->opts->nexclude, *exclude = s->opts->exclude + q * n;
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (exclude[middle] < position)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n && exclude[low] == position;
}

/* The f32 score first: a row that fails by more than f32 can be wrong is done with. */
static void score(scan *s, worker *w, const reco_scan_block *b, size_t row, size_t i)
{
    size_t d = s->bank->info.d, k = s->opts->k, q = name_of(w, i);
    const uint16_t *x = row_of(s, w, b, row);
    const float *query = s->queries + q * d;
    float best = get_best(s, q), rough = s->kernel->dot_f16(query, x, d);
    if (!(rough >= best - s->slack)) return; /* NaN, of a damaged row, too */
    reco_f16_to_f32_n(w->row, x, d);
    float exact = (float)reco_dot_wide(s->ctx, query, w->row, d);
    if (!isfinite(exact) || !(exact >= best)) return;
    size_t position = position_of(b, row);
    if (is_excluded(s, q, position)) return;
    reco_topk_offer(w->scores + q * k, w->positions + q * k, &w->counts[q], k, exact, (int64_t)position);
    if (w->counts[q] < k) return;
    raise_best(s, q, w->scores[q * k + k - 1]);
    w->floor[i] = floor_of(s, w, i);
}

/* ---- a block ---- */

/* Where positions are listed, one by one. */
static size_t find_live_among(const scan *s, worker *w, const uint32_t *positions, size_t n)
{
    const reco_bank_filter *f = s->opts->filter;
    size_t count = 0;
    memset(w->live, 0, (n + 31) / 32 * sizeof *w->live);
    for (size_t i = 0; i < n; i++) {
        size_t p = positions[i];
        if (p >= s->bank->positions || reco_bank_is_deleted(s->bank, p)) continue;
        if (f && !(f->bits[p / 64] >> p % 64 & 1)) continue;
        w->live[i / 32] |= (uint32_t)1 << i % 32;
        count++;
    }
    return count;
}

/* Bits of the rows that count, and how many. */
static size_t find_live(const scan *s, worker *w, const reco_scan_block *b)
{
    if (b->source->positions) return find_live_among(s, w, b->source->positions + b->first, b->rows);
    const reco_bank *bank = s->bank;
    const uint64_t *bits = s->opts->filter ? s->opts->filter->bits : bank->deleted;
    uint64_t flip = s->opts->filter ? 0 : UINT64_MAX;
    size_t from = b->source->base + b->first, count = 0;
    for (size_t i = 0; i < b->rows; i += 32) {
        size_t p = from + i, n = reco_min(32, b->rows - i);
        uint64_t word = UINT64_MAX;
        if (bits) {
            word = (bits[p / 64] ^ flip) >> p % 64;
            if (p % 64 + n > 64) word |= (bits[p / 64 + 1] ^ flip) << (64 - p % 64);
        }
        if (s->opts->filter &&
            bank->deleted) { /* deleted after the filter was made: can't be, but costs nothing */
            uint64_t gone = bank->deleted[p / 64] >> p % 64;
            if (p % 64 + n > 64) gone |= bank->deleted[p / 64 + 1] << (64 - p % 64);
            word &= ~gone;
        }
        w->live[i / 32] = (uint32_t)(word & (n == 32 ? UINT32_MAX : ((uint32_t)1 << n) - 1));
        count += (size_t)__builtin_popcount(w->live[i / 32]);
    }
    return count;
}

/* The queries that look at the block, packed. */
static void use_queries(scan *s, worker *w, const reco_scan_block *b)
{
    reco_scan_queries *own = &w->own;
    size_t width = s->q.width;
    bool all = !b->queries || b->nqueries == s->q.n;
    w->q = all ? &s->q : own;
    w->names = all ? NULL : b->queries;
    if (all) return;
    own->n = b->nqueries;
    for (size_t i = 0; i < own->n; i++) {
        size_t q = b->queries[i];
        memcpy(w->own_codes + i * width, s->codes + q * width, width);
        own->start[i] = s->q.start[q];
        own->gain[i] = s->q.gain[q];
        own->step[i] = s->q.step[q];
    }
    own->error = s->q.error;
    s->kernel->pack(own->codes, w->own_codes, own->n, width);
}

static void use_mean(scan *s, worker *w, const reco_scan_block *b, const float *mean)
{
    size_t d = s->bank->info.d;
    bool given = b->centre && mean == b->source->mean;
    if (given || w->names || mean != w->mean || mean == w->own_mean)
        for (size_t i = 0; i < w->q->n; i++)
            w->centre[i] = given ? (double)b->centre[i]
                                 : reco_dot_wide(s->ctx, s->queries + name_of(w, i) * d, mean, d);
    w->mean = given || w->names ? NULL : mean;
    w->rounding = given ? (double)s->slack : 1e-30;
    for (size_t i = 0; i < w->q->n; i++) w->floor[i] = floor_of(s, w, i);
}

/* rows: of the block, where they were gathered; NULL: row i of the codes is row i of the block. */
static void scan_codes(scan *s, worker *w, const reco_scan_block *b, const uint8_t *codes,
                       const float *bounds, size_t n, const uint32_t *rows)
{
    size_t group = RECO_SCAN_GROUP * s->q.width;
    _Alignas(64) float scale[RECO_SCAN_TILE], slack[RECO_SCAN_TILE];
    for (size_t i = 0; i < n; i += RECO_SCAN_TILE) {
        uint32_t live = UINT32_MAX;
        if (!rows)
            live = w->live[i / 32];
        else if (n - i < 32)
            live = ((uint32_t)1 << (n - i)) - 1;
        if (!live) continue;
        for (size_t g = 0; g < 2; g++) {
            const float *bound = bounds + (i / RECO_SCAN_GROUP + g) * RECO_SCAN_BOUNDS;
            bool is_there = i + g * RECO_SCAN_GROUP < n;
            for (size_t r = 0; r < RECO_SCAN_GROUP; r++) {
                scale[g * 16 + r] = is_there ? bound[r] : 0;
                slack[g * 16 + r] = is_there ? bound[16 + r] + w->q->error * bound[32 + r] : 0;
            }
        }
        const uint8_t *low = codes + i / RECO_SCAN_GROUP * group;
        const reco_scan_tile tile = {
            {low, i + RECO_SCAN_GROUP < n ? low + group : low}, scale, slack, w->floor, live};
        size_t hits = s->kernel->scan(w->hits, w->q, &tile);
        for (size_t h = 0; h < hits; h++)
            for (uint32_t bits = w->hits[h].rows; bits; bits &= bits - 1) {
                size_t r = i + (size_t)__builtin_ctz(bits);
                score(s, w, b, rows ? rows[r] : r, w->hits[h].query);
            }
    }
}

/* Of some rows; any mean would do, a good one makes errors small. */
static void find_mean(scan *s, worker *w, const reco_scan_block *b)
{
    size_t d = s->bank->info.d, step = (b->rows + MEAN_ROWS - 1) / MEAN_ROWS, n = 0;
    memset(w->own_mean, 0, d * sizeof *w->own_mean);
    for (size_t r = 0; r < b->rows; r += step) {
        if (!(w->live[r / 32] >> r % 32 & 1)) continue;
        n++;
        reco_f16_to_f32_n(w->row, row_of(s, w, b, r), d);
        for (size_t i = 0; i < d; i++) w->own_mean[i] += w->row[i];
    }
    for (size_t i = 0; i < d; i++) {
        w->own_mean[i] /= (float)reco_max(1, n);
        if (!isfinite(w->own_mean[i])) w->own_mean[i] = 0;
    }
}

/* Live rows into full groups: codes from the scan file, or made here. */
static void gather(scan *s, worker *w, const reco_scan_block *b, size_t count)
{
    const reco_scan_source *source = b->source;
    size_t d = s->bank->info.d, group = RECO_SCAN_GROUP * s->q.width, n = 0;
    for (size_t i = 0; i < b->rows; i += 32)
        for (uint32_t bits = w->live[i / 32]; bits; bits &= bits - 1, n++) {
            size_t row = i + (size_t)__builtin_ctz(bits), from = (b->first + row) / RECO_SCAN_GROUP;
            uint8_t *codes = w->codes + n / RECO_SCAN_GROUP * group;
            float *bounds = w->bounds + n / RECO_SCAN_GROUP * RECO_SCAN_BOUNDS;
            w->rows[n] = (uint32_t)row;
            if (source->codes)
                reco_scan_copy_row(codes, bounds, n % RECO_SCAN_GROUP, source->codes + from * group,
                                   source->bounds + from * RECO_SCAN_BOUNDS,
                                   (b->first + row) % RECO_SCAN_GROUP, s->q.width);
            else
                reco_scan_encode_row(s->ctx, codes, bounds, n % RECO_SCAN_GROUP, row_of(s, w, b, row),
                                     w->own_mean, d, w->scratch);
        }
    scan_codes(s, w, b, w->codes, w->bounds, count, w->rows);
}

static void scan_rows(scan *s, worker *w, const reco_scan_block *b)
{
    for (size_t i = 0; i < b->rows; i += 32)
        for (uint32_t bits = w->live[i / 32]; bits; bits &= bits - 1)
            for (size_t q = 0; q < w->q->n; q++) score(s, w, b, i + (size_t)__builtin_ctz(bits), q);
}

static void scan_block(void *arg, size_t begin, size_t end, int number)
{
    scan *s = arg;
    worker *w = &s->workers[number];
    for (size_t i = begin; i < end; i++) {
        const reco_scan_block *b = &s->blocks[i];
        const reco_scan_source *source = b->source;
        size_t count = find_live(s, w, b);
        if (count == 0) continue;
        use_queries(s, w, b);
        if (w->q->n <= DIRECT_QUERIES && (!source->codes || count * 16 < b->rows)) {
            scan_rows(s, w, b);
        } else if (source->codes && (count * 4 > b->rows * 3 || w->q->n <= DIRECT_QUERIES)) {
            size_t first = b->first / RECO_SCAN_GROUP;
            use_mean(s, w, b, source->mean);
            scan_codes(s, w, b, source->codes + first * RECO_SCAN_GROUP * s->q.width,
                       source->bounds + first * RECO_SCAN_BOUNDS, b->rows, NULL);
        } else {
            if (!source->codes) find_mean(s, w, b);
            use_mean(s, w, b, source->codes ? source->mean : w->own_mean);
            gather(s, w, b, count);
        }
    }
}

/* ---- the whole ---- */

static bool make_worker(reco_ctx *ctx, worker *w, size_t nq, size_t k, size_t d)
{
    size_t most = reco_scan_block_rows(d), width = reco_scan_width(d), places;
    if (!reco_mul(nq, k, &places)) places = SIZE_MAX;
    *w = (worker){
        .own_codes = reco_scratch(ctx, nq, width, "search"),
        .scores = reco_scratch(ctx, places, sizeof *w->scores, "search"),
        .positions = reco_scratch(ctx, places, sizeof *w->positions, "search"),
        .counts = reco_scratch(ctx, nq, sizeof *w->counts, "search"),
        .floor = reco_scratch(ctx, nq, sizeof *w->floor, "search"),
        .centre = reco_scratch(ctx, nq, sizeof *w->centre, "search"),
        .hits = reco_scratch(ctx, nq, sizeof *w->hits, "search"),
        .row = reco_scratch(ctx, d, sizeof *w->row, "search"),
        .own_mean = reco_scratch(ctx, d, sizeof *w->own_mean, "search"),
        .scratch = reco_scratch(ctx, reco_scan_row_scratch(d), 1, "search"),
        .live = reco_scratch(ctx, most / 32, sizeof *w->live, "search"),
        .codes = reco_scratch(ctx, most * width, 1, "search"),
        .bounds = reco_scratch(ctx, most / RECO_SCAN_GROUP * RECO_SCAN_BOUNDS, sizeof(float), "search"),
        .rows = reco_scratch(ctx, most, sizeof *w->rows, "search"),
    };
    if (reco_scan_queries_new(ctx, &w->own, nq, d) != RECO_OK || !w->own_codes || !w->scores ||
        !w->positions || !w->counts || !w->floor || !w->centre || !w->hits || !w->row || !w->own_mean ||
        !w->scratch || !w->live || !w->codes || !w->bounds || !w->rows)
        return false;
    memset(w->counts, 0, nq * sizeof *w->counts);
    memset(w->floor, 0, nq * sizeof *w->floor);
    memset(w->centre, 0, nq * sizeof *w->centre);
    return true;
}

static reco_scan_block *all_blocks(reco_ctx *ctx, const reco_bank *bank, reco_side side, size_t *n)
{
    size_t most = reco_scan_block_rows(bank->info.d), total = 0;
    for (size_t i = 0; i < bank->nsegments; i++) total += (bank->segments[i].rows + most - 1) / most;
    reco_scan_block *blocks = reco_scratch(ctx, total, sizeof *blocks, "search");
    *n = 0;
    for (size_t i = 0; blocks && i < bank->nsegments; i++)
        for (size_t first = 0; first < bank->segments[i].rows; first += most)
            blocks[(*n)++] = (reco_scan_block){.source = &bank->segments[i].source[side],
                                               .first = first,
                                               .rows = reco_min(most, bank->segments[i].rows - first)};
    return blocks;
}

static void merge_body(void *arg, size_t begin, size_t end, int number)
{
    (void)number;
    scan *s = arg;
    size_t k = s->opts->k;
    for (size_t q = begin; q < end; q++) {
        s->counts[q] = 0;
        for (int t = 0; t < reco_ctx_threads(s->ctx); t++) {
            const worker *w = &s->workers[t];
            for (size_t i = 0; i < w->counts[q]; i++)
                reco_topk_offer(s->scores + q * k, s->positions + q * k, &s->counts[q], k,
                                w->scores[q * k + i], w->positions[q * k + i]);
        }
    }
}

/* Blocks slice by slice, since hooks are for the context's own thread. */
static reco_status scan_slices(reco_ctx *ctx, scan *s, const reco_scan_block *blocks, size_t n)
{
    size_t least = 4 * (size_t)reco_ctx_threads(ctx);
    for (size_t i = 0, slice; i < n; i += slice) {
        if (i)
            RECO_TRY(
                reco_progress(ctx, "searching", s->opts->pass * n + i, reco_max(1, s->opts->passes) * n));
        size_t products = 0;
        for (slice = 0; i + slice < n && (slice < least || products < SLICE_PRODUCTS); slice++) {
            const reco_scan_block *b = &blocks[i + slice];
            products += b->rows * s->bank->info.d * (b->queries ? b->nqueries : s->q.n);
        }
        s->blocks = blocks + i;
        reco_parallel(ctx, slice, 1, scan_block, s);
    }
    return RECO_OK;
}

reco_status reco_bank_scan(reco_ctx *ctx, const reco_bank *bank, const reco_scan_opts *opts,
                           const float *queries, size_t nq, float *scores, int64_t *positions,
                           size_t *counts)
{
    size_t d = bank->info.d, threads = (size_t)reco_ctx_threads(ctx), nblocks = opts->nblocks;
    scan s = {
        .ctx = ctx,
        .bank = bank,
        .kernel = reco_scan_kernel_of(ctx),
        .opts = opts,
        .queries = queries,
        /* d roundings of 2^-24 at most on the way of any product into its sum, and the last to f32; norms are within
         * 1.01 of 1. */
        .slack = 1.03f * (float)(d + 4) * 0x1p-24f,
        .scores = scores,
        .positions = positions,
        .counts = counts,
    };
    reco_mark start = reco_scratch_mark(ctx);
    reco_status status = RECO_E_NOMEM;
    const reco_scan_block *blocks =
        opts->blocks ? opts->blocks : all_blocks(ctx, bank, opts->side, &nblocks);
    s.best = reco_scratch(ctx, nq, sizeof *s.best, "search");
    s.workers = reco_scratch(ctx, threads, sizeof *s.workers, "search");
    int8_t *codes = reco_scratch(ctx, nq, reco_scan_width(d), "search");
    if (!blocks || !s.best || !s.workers || !codes) goto out;
    RECO_GO(reco_scan_queries_new(ctx, &s.q, nq, d));
    status = RECO_E_NOMEM;
    for (size_t t = 0; t < threads; t++)
        if (!make_worker(ctx, &s.workers[t], nq, opts->k, d)) goto out;
    for (size_t q = 0; q < nq; q++) memcpy(&s.best[q], &opts->least, sizeof opts->least);
    reco_scan_encode_queries(s.kernel, &s.q, codes, queries, nq, d);
    s.codes = codes;
    RECO_GO(scan_slices(ctx, &s, blocks, nblocks));
    reco_parallel(ctx, nq, 64, merge_body, &s);
out:
    reco_scratch_release(ctx, start);
    return status;
}
