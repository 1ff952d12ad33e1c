#include "bank/bank_internal.h"
#include "kernels/kernels.h"

#include <math.h>

/* Scores come in two steps. A scan in f32 keeps, for each query, the k best and a few more: its sums depend on the
 * kernel and the block, so by at most `slack` it may be wrong. What it kept is then scored in double, in a fixed
 * order, and ranked. If the worst that was kept is so near the k-th that something better could have been dropped
 * (many equal rows), that query is scanned again and everything within the slack is scored in double. So the answer
 * is that of brute force, whatever the threads, blocks and kernels. */

#define DEFAULT_K 10
#define SPARE 16              /* kept beyond k */
#define PASS_QUERIES 1024     /* queries that share one reading of the bank */
#define TILE_ROWS 1024        /* rows converted to f32 at a time: */
#define TILE_FLOATS (1 << 20) /* so many, or fewer rows */
#define DIRECT_QUERIES 4      /* up to here a matrix product does not pay */
#define DIRECT_ROWS 1024      /* rows that a thread takes at once */
#define NORM_TOLERANCE 1e-3

/* The best so far of n queries: [n][room] scores and positions. Positions ascend with ids, so that they break ties
 * as ids do. */
typedef struct best {
    float *scores;
    int64_t *positions;
    size_t *counts; /* [n] */
    size_t room;
} best;

typedef struct scan {
    const reco_bank *bank;
    const reco_bank_filter *filter; /* NULL: all live rows */
    const reco_ctx *ctx;            /* for the kernel level alone; threads only read it */
    reco_side side;
    const float *queries; /* [nq][d], of this pass */
    size_t nq, k;
    bool use_min;
    float min, slack;
    best kept;
    float *rows;   /* [threads][d] scratch of each worker */
    float *floors; /* [nq] what a second scan must reach; INFINITY: none is needed */
    reco_hits hits;
    /* the tile in work: */
    size_t *positions;    /* [tile] */
    float *tile, *scores; /* [tile][d], [nq][tile] */
    size_t tile_rows, tile_room;
    /* a direct scan of few queries: */
    best own;                 /* [threads * few] */
    const float *few_queries; /* [few][d] */
    size_t few;
    float floor;
    bool exact;
} scan;

static bool is_in(const scan *s, size_t position)
{
    if (s->filter) return s->filter->bits[position / 64] >> position % 64 & 1;
    return !reco_bank_is_deleted(s->bank, position);
}

static bool make_best(reco_ctx *ctx, best *b, size_t n, size_t room)
{
    size_t total;
    if (!reco_mul(n, room, &total)) total = SIZE_MAX;
    b->room = room;
    b->scores = reco_scratch(ctx, total, sizeof *b->scores, "search");
    b->positions = reco_scratch(ctx, total, sizeof *b->positions, "search");
    b->counts = reco_scratch(ctx, n, sizeof *b->counts, "search");
    if (!b->scores || !b->positions || !b->counts) return false;
    memset(b->counts, 0, n * sizeof *b->counts);
    return true;
}

static void offer(best *b, size_t i, float score, int64_t position)
{
    reco_topk_offer(b->scores + i * b->room, b->positions + i * b->room, &b->counts[i], b->room, score,
                    position);
}

static void merge(best *to, size_t i, const best *from, size_t j)
{
    for (size_t r = 0; r < from->counts[j]; r++)
        offer(to, i, from->scores[j * from->room + r], from->positions[j * from->room + r]);
}

/* ---- few queries: every row against each, straight from the map ---- */

static void direct_body(void *arg, size_t begin, size_t end, int worker)
{
    scan *s = arg;
    const reco_bank *bank = s->bank;
    size_t d = bank->info.d, segment = reco_bank_segment_at(bank, begin);
    float *row = s->rows + (size_t)worker * d;
    for (size_t p = begin; p < end; p++) {
        if (!is_in(s, p)) continue;
        reco_f16_to_f32_n(row, reco_bank_row(bank, s->side, p, &segment), d);
        for (size_t q = 0; q < s->few; q++) {
            const float *query = s->few_queries + q * d;
            float score = reco_dot_fast(s->ctx, query, row, d);
            if (!(score >= s->floor)) continue; /* NaN, of a damaged row, too */
            if (s->exact) score = (float)reco_dot(query, row, d);
            if (s->exact && !isfinite(score)) continue;
            offer(&s->own, (size_t)worker * s->few + q, score, (int64_t)p);
        }
    }
}

/* Few queries against all rows, into the first places of `to`. exact: rank by scores in double, of the rows whose
 * f32 score reaches the floor. */
static reco_status scan_directly(reco_ctx *ctx, scan *s, best *to, const float *queries, size_t few,
                                 bool exact, float floor)
{
    size_t threads = (size_t)reco_ctx_threads(ctx);
    reco_mark start = reco_scratch_mark(ctx);
    reco_status status = RECO_E_NOMEM;
    if (make_best(ctx, &s->own, threads * few, to->room)) {
        s->few_queries = queries;
        s->few = few;
        s->exact = exact;
        s->floor = floor;
        reco_parallel(ctx, s->bank->positions, DIRECT_ROWS, direct_body, s);
        for (size_t i = 0; i < threads * few; i++) merge(to, i % few, &s->own, i);
        status = RECO_OK;
    }
    reco_scratch_release(ctx, start);
    return status;
}

/* ---- many queries: tiles of rows through the matrix product ---- */

static void convert_body(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    scan *s = arg;
    size_t d = s->bank->info.d, segment = reco_bank_segment_at(s->bank, s->positions[begin]);
    for (size_t i = begin; i < end; i++)
        reco_f16_to_f32_n(s->tile + i * d, reco_bank_row(s->bank, s->side, s->positions[i], &segment), d);
}

static void offer_body(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    scan *s = arg;
    for (size_t q = begin; q < end; q++) {
        const float *scores = s->scores + q * s->tile_room;
        const float *worst = s->kept.scores + (q + 1) * s->kept.room - 1;
        for (size_t r = 0; r < s->tile_rows; r++) {
            if (s->kept.counts[q] == s->kept.room && !(scores[r] > *worst)) continue; /* nearly always */
            if (!isnan(scores[r])) offer(&s->kept, q, scores[r], (int64_t)s->positions[r]);
        }
    }
}

static reco_status scan_in_tiles(reco_ctx *ctx, scan *s)
{
    size_t d = s->bank->info.d;
    for (size_t p = 0; p < s->bank->positions;) {
        s->tile_rows = 0;
        for (; p < s->bank->positions && s->tile_rows < s->tile_room; p++)
            if (is_in(s, p)) s->positions[s->tile_rows++] = p;
        if (s->tile_rows == 0) break;
        reco_parallel(ctx, s->tile_rows, 64, convert_body, s);
        RECO_TRY(reco_gemm(ctx, s->scores, s->tile_room, s->queries, d, false, s->tile, d, true, s->nq,
                           s->tile_rows, d, 1.0f, 0.0f));
        reco_parallel(ctx, s->nq, 16, offer_body, s);
    }
    return RECO_OK;
}

/* ---- ranking ---- */

static void write_hits(scan *s, size_t q, const float *scores, const int64_t *positions, size_t count)
{
    int64_t *ids = s->hits.ids + q * s->k;
    float *out = s->hits.scores + q * s->k;
    while (count && s->use_min && !(scores[count - 1] >= s->min)) count--;
    for (size_t i = 0; i < s->k; i++) {
        ids[i] = i < count ? reco_bank_id_at(s->bank, (size_t)positions[i]) : -1;
        out[i] = i < count ? scores[i] : 0;
    }
    if (s->hits.counts) s->hits.counts[q] = count;
}

static void rank_body(void *arg, size_t begin, size_t end, int worker)
{
    scan *s = arg;
    size_t d = s->bank->info.d, room = s->kept.room;
    float *row = s->rows + (size_t)worker * d, ranked[RECO_BANK_MAX_K];
    int64_t positions[RECO_BANK_MAX_K];
    for (size_t q = begin; q < end; q++) {
        const float *kept = s->kept.scores + q * room;
        size_t count = s->kept.counts[q], found = 0;
        for (size_t i = 0; i < count; i++) {
            size_t p = (size_t)s->kept.positions[q * room + i], segment = reco_bank_segment_at(s->bank, p);
            reco_f16_to_f32_n(row, reco_bank_row(s->bank, s->side, p, &segment), d);
            float score = (float)reco_dot(s->queries + q * d, row, d);
            if (isfinite(score)) reco_topk_offer(ranked, positions, &found, s->k, score, (int64_t)p);
        }
        /* What was dropped scored at most as the last that was kept. */
        bool sure = count < room || kept[room - 1] < kept[s->k - 1] - 2 * s->slack;
        s->floors[q] = sure ? INFINITY : found == s->k ? ranked[s->k - 1] - s->slack : -INFINITY;
        if (sure) write_hits(s, q, ranked, positions, found);
    }
}

static reco_status scan_again(reco_ctx *ctx, scan *s)
{
    reco_mark start = reco_scratch_mark(ctx);
    reco_status status = RECO_E_NOMEM;
    best top;
    if (!make_best(ctx, &top, 1, s->k)) goto out;
    for (size_t q = 0; q < s->nq; q++) {
        if (s->floors[q] == INFINITY) continue;
        top.counts[0] = 0;
        RECO_GO(scan_directly(ctx, s, &top, s->queries + q * s->bank->info.d, 1, true, s->floors[q]));
        write_hits(s, q, top.scores, top.positions, top.counts[0]);
    }
    status = RECO_OK;
out:
    reco_scratch_release(ctx, start);
    return status;
}

/* ---- the whole ---- */

static reco_status prepare(reco_ctx *ctx, scan *s, size_t most_queries)
{
    size_t d = s->bank->info.d, threads = (size_t)reco_ctx_threads(ctx);
    s->rows = reco_scratch(ctx, threads * d, sizeof *s->rows, "search");
    s->floors = reco_scratch(ctx, most_queries, sizeof *s->floors, "search");
    if (!s->rows || !s->floors || !make_best(ctx, &s->kept, most_queries, s->k + SPARE))
        return RECO_E_NOMEM;
    if (most_queries <= DIRECT_QUERIES) return RECO_OK;
    s->tile_room = reco_max(16, reco_min(TILE_ROWS, TILE_FLOATS / d));
    s->positions = reco_scratch(ctx, s->tile_room, sizeof *s->positions, "search");
    s->tile = reco_scratch(ctx, s->tile_room * d, sizeof *s->tile, "search");
    s->scores = reco_scratch(ctx, s->tile_room * most_queries, sizeof *s->scores, "search");
    return s->positions && s->tile && s->scores ? RECO_OK : RECO_E_NOMEM;
}

static reco_status run_pass(reco_ctx *ctx, scan *s)
{
    memset(s->kept.counts, 0, s->nq * sizeof *s->kept.counts);
    if (s->nq <= DIRECT_QUERIES)
        RECO_TRY(scan_directly(ctx, s, &s->kept, s->queries, s->nq, false, -INFINITY));
    else
        RECO_TRY(scan_in_tiles(ctx, s));
    reco_parallel(ctx, s->nq, 4, rank_body, s);
    return scan_again(ctx, s);
}

static reco_status check_queries(reco_ctx *ctx, const float *queries, size_t nq, size_t d)
{
    for (size_t q = 0; q < nq; q++) {
        double norm = sqrt(reco_dot(queries + q * d, queries + q * d, d));
        if (!(fabs(norm - 1) <= NORM_TOLERANCE))
            return reco_fail(ctx, RECO_E_ARG, "query %zu has norm %g, want 1 within %g", q, norm,
                             NORM_TOLERANCE);
    }
    return RECO_OK;
}

reco_status reco_bank_search(reco_ctx *ctx, const reco_bank *bank, reco_side side, const float *queries,
                             size_t nq, const reco_search_opts *opts, reco_hits hits)
{
    size_t d = bank->info.d;
    scan s = {
        .bank = bank,
        .filter = opts ? opts->filter : NULL,
        .ctx = ctx,
        .side = side,
        .k = opts && opts->k ? opts->k : DEFAULT_K,
        .use_min = opts && (opts->use_min || opts->min_similarity != 0),
        .min = opts ? opts->min_similarity : 0,
        /* d roundings of 2^-24 at most on the way of any product into its sum, and the last to f32; norms are
         * within 1.01 of 1. */
        .slack = 1.03f * (float)(d + 4) * 0x1p-24f,
    };
    if (s.k > RECO_BANK_MAX_K)
        return reco_fail(ctx, RECO_E_ARG, "bank: k = %zu, want 1..%d", s.k, RECO_BANK_MAX_K);
    if (side != RECO_IMAGE && side != RECO_TEXT)
        return reco_fail(ctx, RECO_E_ARG, "bank: side = %d, want 0 (image) or 1 (text)", (int)side);
    if (s.filter && s.filter->bank != bank)
        return reco_fail(ctx, RECO_E_ARG, "bank: the filter belongs to another open bank");
    RECO_TRY(check_queries(ctx, queries, nq, d));

    reco_mark start = reco_scratch_mark(ctx);
    reco_status status;
    RECO_GO(prepare(ctx, &s, reco_min(nq, PASS_QUERIES)));
    for (size_t q = 0; q < nq; q += s.nq) {
        s.nq = reco_min(nq - q, PASS_QUERIES);
        s.queries = queries + q * d;
        s.hits =
            (reco_hits){hits.ids + q * s.k, hits.scores + q * s.k, hits.counts ? hits.counts + q : NULL};
        RECO_GO(run_pass(ctx, &s));
    }
out:
    reco_scratch_release(ctx, start);
    return status;
}
