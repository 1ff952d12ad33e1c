#include "bank/search/scan_block.h"
#include "kernels/kernels.h"

#include <math.h>

/* Each worker takes blocks of rows and keeps, per query, the k best that it met. A row is scored in f32, and then in
 * double, only when the bound from its codes reaches the floor: the k-th best score that any worker has. Floors rise
 * while the scan goes on, so what is scored depends on chance, but what is passed over never belongs to the k best.
 *
 * Blocks without codes, of segments without a scan file, are encoded on the way when there are queries enough to pay
 * for it. Where few rows of a block are live (a filter, deletions), those are gathered into full groups first.
 *
 * Blocks that have stages are looked at along few directions first (turned.c). */

#define BLOCK_BYTES ((size_t)1 << 19) /* of codes; a worker has room for so many of its own */
#define BLOCK_ROWS 1024
/* Products between two looks at the progress hook: tens of milliseconds. What is done sooner never looks. */
#define SLICE_PRODUCTS ((size_t)1 << 32)

size_t reco_scan_block_rows(size_t d)
{
    size_t rows = BLOCK_BYTES / reco_scan_width(d) / RECO_SCAN_TILE * RECO_SCAN_TILE;
    return reco_max(RECO_SCAN_TILE, reco_min(rows, BLOCK_ROWS));
}

/* ---- the whole ---- */

static bool make_worker(reco_ctx *ctx, reco_scan_worker *w, size_t nq, size_t k, size_t d)
{
    size_t most = reco_scan_block_rows(d), width = reco_scan_width(d), places;
    if (!reco_mul(nq, k, &places)) places = SIZE_MAX;
    *w = (reco_scan_worker){
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
        .faults = UINT64_MAX,
        .asked = reco_scratch(ctx, most / 32, sizeof *w->asked, "search"),
        .codes = reco_scratch(ctx, most * width, 1, "search"),
        .bounds =
            reco_scratch(ctx, most / RECO_SCAN_GROUP * RECO_SCAN_TURNED_BOUNDS, sizeof(float), "search"),
        .rows = reco_scratch(ctx, most, sizeof *w->rows, "search"),
    };
    if (reco_scan_queries_new(ctx, &w->own, nq, d) != RECO_OK || !w->own_codes || !w->scores ||
        !w->positions || !w->counts || !w->floor || !w->centre || !w->hits || !w->row || !w->own_mean ||
        !w->scratch || !w->live || !w->asked || !w->codes || !w->bounds || !w->rows)
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
    reco_scan *s = arg;
    size_t k = s->opts->k;
    for (size_t q = begin; q < end; q++) {
        s->counts[q] = 0;
        for (int t = 0; t < reco_ctx_threads(s->ctx); t++) {
            const reco_scan_worker *w = &s->workers[t];
            for (size_t i = 0; i < w->counts[q]; i++)
                reco_topk_offer(s->scores + q * k, s->positions + q * k, &s->counts[q], k,
                                w->scores[q * k + i], w->positions[q * k + i]);
        }
    }
}

/* Blocks slice by slice, since hooks are for the context's own thread. */
static reco_status scan_slices(reco_ctx *ctx, reco_scan *s, const reco_scan_block *blocks, size_t n)
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
        reco_parallel(ctx, slice, 1, reco_scan_blocks, s);
    }
    for (int t = 0; t < reco_ctx_threads(ctx); t++) reco_scan_score_rest(s, &s->workers[t]);
    return RECO_OK;
}

reco_status reco_bank_scan(reco_ctx *ctx, const reco_bank *bank, const reco_scan_opts *opts,
                           const float *queries, size_t nq, float *scores, int64_t *positions,
                           size_t *counts)
{
    size_t d = bank->info.d, threads = (size_t)reco_ctx_threads(ctx), nblocks = opts->nblocks;
    reco_scan s = {
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
        .cold = reco_scan_begins_cold(bank),
    };
    reco_mark start = reco_scratch_mark(ctx);
    reco_status status = RECO_E_NOMEM;
    const reco_scan_block *blocks =
        opts->blocks ? opts->blocks : all_blocks(ctx, bank, opts->side, &nblocks);
    s.best = reco_scratch(ctx, nq, sizeof *s.best, "search");
    s.workers = reco_scratch(ctx, threads, sizeof *s.workers, "search");
    int8_t *codes = reco_scratch(ctx, nq, reco_scan_width(d), "search");
    s.all = blocks;
    s.nall = nblocks;
    if (!blocks || !s.best || !s.workers || !codes) goto out;
    RECO_GO(reco_scan_queries_new(ctx, &s.q, nq, d));
    reco_scan_encode_queries(s.kernel, &s.q, codes, NULL, queries, nq, d, 0);
    s.codes = codes;
    RECO_GO(reco_scan_turn_queries(ctx, &s, blocks, nblocks));
    for (size_t t = 0; t < threads; t++) {
        if (!make_worker(ctx, &s.workers[t], nq, opts->k, d)) RECO_GO(RECO_E_NOMEM);
        if (s.directions) RECO_GO(reco_scan_turned_worker(ctx, &s, &s.workers[t]));
    }
    for (size_t q = 0; q < nq; q++)
        memcpy(&s.best[q], opts->floors ? &opts->floors[q] : &opts->least, sizeof opts->least);
    RECO_GO(scan_slices(ctx, &s, blocks, nblocks));
    reco_parallel(ctx, nq, 64, merge_body, &s);
out:
    reco_scratch_release(ctx, start);
    return status;
}
