#include "bank/search/scan.h"
#include "bank/write/cells.h"
#include "kernels/kernels.h"

#include <math.h>

/* What rows of the bank find exactly, on both sides. All ask of some segments before the next are read, so that a bank that is larger
 * than memory is read once. */

#define QUERIES 256 /* at once */

static reco_status make_room(reco_ctx *ctx, reco_cells_asked *a, size_t d)
{
    for (size_t i = 0; i < 4; i++) {
        a->scores[i / 2][i % 2] = reco_alloc_raw(ctx, a->n, a->k * sizeof(float), "recall");
        a->found[i / 2][i % 2] = reco_alloc_raw(ctx, a->n, a->k * sizeof(int64_t), "recall");
        a->counts[i / 2][i % 2] = reco_alloc(ctx, a->n, sizeof(size_t), "recall");
        if (!a->scores[i / 2][i % 2] || !a->found[i / 2][i % 2] || !a->counts[i / 2][i % 2])
            return RECO_E_NOMEM;
    }
    for (size_t side = 0; side < 2; side++)
        if (!(a->queries[side] = reco_alloc_raw(ctx, a->n, d * sizeof(float), "recall")))
            return RECO_E_NOMEM;
    return RECO_OK;
}

static void read_queries(const reco_cells_asked *a, const reco_bank *bank)
{
    size_t d = bank->info.d;
    for (reco_side side = 0; side < 2; side++)
        for (size_t q = 0; q < a->n; q++) {
            const reco_rows_at at = {bank, side, a->positions, 0};
            float *x = a->queries[side] + q * d;
            reco_f16_to_f32_n(x, reco_rows_get(&at, q), d);
            if (reco_unit_row(x, d)) continue;
            memset(x, 0, d * sizeof *x);
            x[0] = 1;
        }
}

typedef struct asking {
    const reco_bank *bank;
    reco_cells_asked *a;
    reco_side side, asks;
    size_t from, n;     /* queries of this scan */
    float *floors;      /* [QUERIES] */
    float *scores;      /* [QUERIES][k] of this scan */
    int64_t *found;     /* likewise */
    size_t *counts;     /* [QUERIES] */
    float *own, *other; /* [threads][d] */
} asking;

/* Others that say the same as the query's own row take a place among the best, but do not count: what asks in use is no copy of a
 * row. They are told apart here, while their rows are in memory. */
static void keep_body(void *arg, size_t begin, size_t end, int worker)
{
    const asking *g = arg;
    reco_cells_asked *a = g->a;
    size_t d = g->bank->info.d, k = a->k;
    float *own = g->own + (size_t)worker * d, *other = g->other + (size_t)worker * d;
    for (size_t i = begin; i < end; i++) {
        size_t q = g->from + i;
        if (!g->counts[i]) continue;
        const reco_rows_at at = {g->bank, g->side, a->positions + q, 0};
        reco_f16_to_f32_n(own, reco_rows_get(&at, 0), d);
        for (size_t j = 0; j < g->counts[i]; j++) {
            const reco_rows_at row = {g->bank, g->side, NULL, (size_t)g->found[i * k + j]};
            reco_f16_to_f32_n(other, reco_rows_get(&row, 0), d);
            reco_topk_offer(a->scores[g->side][g->asks] + q * k, a->found[g->side][g->asks] + q * k,
                            &a->counts[g->side][g->asks][q], k, g->scores[i * k + j],
                            2 * g->found[i * k + j] + reco_is_same(own, other, d));
        }
    }
}

static reco_status ask_slice(reco_ctx *ctx, asking *g, const reco_scan_block *blocks, size_t nblocks,
                             size_t pass, size_t passes)
{
    reco_cells_asked *a = g->a;
    size_t k = a->k, d = g->bank->info.d;
    for (g->from = 0; g->from < a->n; g->from += QUERIES) {
        g->n = reco_min(QUERIES, a->n - g->from);
        for (size_t i = 0; i < g->n; i++) {
            size_t q = g->from + i;
            g->floors[i] =
                a->counts[g->side][g->asks][q] < k ? -INFINITY : a->scores[g->side][g->asks][q * k + k - 1];
        }
        size_t batches = (a->n + QUERIES - 1) / QUERIES;
        const reco_scan_opts opts = {.side = g->side,
                                     .k = k,
                                     .least = -INFINITY,
                                     .floors = g->floors,
                                     .exclude = a->positions + g->from,
                                     .nexclude = 1,
                                     .blocks = blocks,
                                     .nblocks = nblocks,
                                     .pass = pass * batches + g->from / QUERIES,
                                     .passes = passes * batches};
        RECO_TRY(reco_bank_scan(ctx, g->bank, &opts, a->queries[g->asks] + g->from * d, g->n, g->scores,
                                g->found, g->counts));
        reco_parallel(ctx, g->n, 8, keep_body, g);
    }
    return RECO_OK;
}

/* The first segment after those that are asked from `first` on. */
static size_t end_of_slice(const reco_bank *bank, size_t first, size_t most)
{
    size_t end = first, bytes = 0;
    while (end < bank->nsegments && (end == first || bytes < most))
        bytes += 2 * bank->segments[end++].rows * bank->info.d * sizeof(uint16_t);
    return end;
}

static size_t fill_blocks(const reco_bank *bank, reco_side side, size_t first, size_t end,
                          reco_scan_block *blocks)
{
    size_t most = reco_scan_block_rows(bank->info.d), n = 0;
    for (size_t i = first; i < end; i++)
        for (size_t at = 0; at < bank->segments[i].rows; at += most)
            blocks[n++] = (reco_scan_block){.source = &bank->segments[i].source[side],
                                            .first = at,
                                            .rows = reco_min(most, bank->segments[i].rows - at)};
    return n;
}

static reco_status ask_all(reco_ctx *ctx, asking *g, reco_scan_block *blocks, size_t most)
{
    const reco_bank *bank = g->bank;
    size_t slices = 0, slice = 0;
    for (size_t first = 0; first < bank->nsegments; first = end_of_slice(bank, first, most)) slices++;
    for (size_t first = 0, end; first < bank->nsegments; first = end, slice++) {
        end = end_of_slice(bank, first, most);
        size_t from = bank->segments[first].base,
               rows = bank->segments[end - 1].base + bank->segments[end - 1].rows - from;
        for (reco_side side = 0; side < 2; side++) reco_rows_fetch(bank, side, from, rows);
        for (g->side = 0; g->side < 2; g->side++) {
            size_t n = fill_blocks(bank, g->side, first, end, blocks);
            for (g->asks = 0; g->asks < 2; g->asks++)
                RECO_TRY(ask_slice(ctx, g, blocks, n, (slice * 2 + g->side) * 2 + g->asks, 4 * slices));
        }
    }
    return RECO_OK;
}

static void drop_copies(reco_cells_asked *a)
{
    for (size_t i = 0; i < 4; i++)
        for (size_t q = 0; q < a->n; q++) {
            int64_t *found = a->found[i / 2][i % 2] + q * a->k;
            size_t *count = &a->counts[i / 2][i % 2][q], kept = 0;
            for (size_t j = 0; j < *count; j++)
                if (found[j] % 2 == 0) found[kept++] = found[j] / 2;
            *count = kept;
        }
}

reco_status reco_cells_ask(reco_ctx *ctx, reco_cells_asked *a, const reco_bank *bank, size_t slice)
{
    size_t d = bank->info.d, k = a->k = reco_lists_depths[RECO_LISTS_DEPTHS - 1], blocks = 0,
           threads = (size_t)reco_ctx_threads(ctx);
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status;
    for (size_t i = 0; i < bank->nsegments; i++)
        blocks += bank->segments[i].rows / reco_scan_block_rows(d) + 1;
    asking g = {
        .bank = bank,
        .a = a,
        .floors = reco_scratch(ctx, QUERIES, sizeof *g.floors, "recall"),
        .scores = reco_scratch(ctx, QUERIES, k * sizeof *g.scores, "recall"),
        .found = reco_scratch(ctx, QUERIES, k * sizeof *g.found, "recall"),
        .counts = reco_scratch(ctx, QUERIES, sizeof *g.counts, "recall"),
        .own = reco_scratch(ctx, threads, d * sizeof *g.own, "recall"),
        .other = reco_scratch(ctx, threads, d * sizeof *g.other, "recall"),
    };
    reco_scan_block *room = reco_scratch(ctx, blocks, sizeof *room, "recall");
    if (!g.floors || !g.scores || !g.found || !g.counts || !g.own || !g.other || !room)
        RECO_GO(RECO_E_NOMEM);
    RECO_GO(make_room(ctx, a, d));
    read_queries(a, bank);
    RECO_GO(ask_all(ctx, &g, room, slice));
    drop_copies(a);
out:
    reco_scratch_release(ctx, mark);
    return status;
}

void reco_cells_asked_free(reco_cells_asked *a)
{
    for (size_t i = 0; i < 4; i++) {
        reco_free(a->scores[i / 2][i % 2]);
        reco_free(a->found[i / 2][i % 2]);
        reco_free(a->counts[i / 2][i % 2]);
    }
    for (size_t side = 0; side < 2; side++) reco_free(a->queries[side]);
}
