#include "bank/search/filter.h"
#include "bank/search/near.h"
#include "bank/search/scan.h"

#include <math.h>

#define MOST_SCORES ((size_t)1 << 22) /* of queries and cells */
#define MOST_ROWS 0.5f                /* a search that would look at more of the rows looks at all */
#define THINNED 1.25
#define FIRST_CELLS 2 /* of a query, whose rows come first: they raise its floor */

/* ---- what to look at ---- */

/* The margin that reaches the recall among so many best; what lies between the depths at which it was measured is interpolated. *rows
 * is the share of rows. */
static float margin_of(const reco_lists_point *points, float recall, double depth, float *reached,
                       float *rows)
{
    size_t i = 0;
    while (i < RECO_LISTS_POINTS && reco_lists_recalls[i] < recall - 1e-6f) i++;
    size_t deeper = 1;
    while (deeper < RECO_LISTS_DEPTHS && (double)reco_lists_depths[deeper] < depth) deeper++;
    if (i == RECO_LISTS_POINTS || deeper == RECO_LISTS_DEPTHS) return INFINITY;
    const reco_lists_point *many = &points[deeper * RECO_LISTS_POINTS + i], *few = many - RECO_LISTS_POINTS;
    if (few->recall < reco_lists_recalls[i] || many->recall < reco_lists_recalls[i]) return INFINITY;
    const double from = (double)reco_lists_depths[deeper - 1], to = (double)reco_lists_depths[deeper];
    float t = (float)fmax(0, log(depth / from) / log(to / from));
    *reached = reco_lists_recalls[i];
    *rows = fmaxf(*rows, few->rows + t * (many->rows - few->rows));
    return few->margin + t * fmaxf(0, many->margin - few->margin);
}

reco_plan reco_plan_search(const reco_bank *bank, reco_side side, const reco_search_opts *opts)
{
    const reco_plan exact = {.recall = 1, .margin = INFINITY};
    const reco_lists *lists = bank->lists;
    if (!lists) return exact;
    float recall = opts->recall > 0   ? opts->recall
                   : bank->recall > 0 ? bank->recall
                                      : lists->recall,
          rows = 0;
    if (recall >= 1) return exact;
    if (!(opts->filter ? opts->filter->even[side] : lists->side[side].even)) return exact;
    /* Of rows that are fewer than when recall was measured, or that a filter leaves, the k best are as far away as more were then. */
    size_t found = opts->filter ? opts->filter->listed : lists->found;
    const double k = (double)(opts->k + opts->nexclude),
                 fewer = (double)lists->measured / (double)reco_max(1, found);
    /* The k-th of those that are left was about that one in the mean; chance takes more from some regions than from others. */
    const double depth = k + THINNED * fmax(0, (k + 1) * (fewer - 1));
    reco_plan plan = {.margin = 0};
    for (int other = 0; other < 2; other++) {
        reco_side asked = other ? (side == RECO_IMAGE ? RECO_TEXT : RECO_IMAGE) : side;
        if (opts->asked != RECO_ASKED_EITHER && opts->asked != (reco_asked)(asked + 1)) continue;
        const reco_lists_point *points =
            lists->side[side].points + other * RECO_LISTS_DEPTHS * RECO_LISTS_POINTS;
        plan.margin = fmaxf(plan.margin, margin_of(points, recall, depth, &plan.recall, &rows));
    }
    return plan.margin < INFINITY && rows <= MOST_ROWS ? plan : exact;
}

float reco_folder_expected(const reco_bank *bank, reco_side side, const reco_search_opts *opts)
{
    return reco_plan_search(bank, side, opts).recall;
}

size_t reco_folder_table(const reco_bank *bank, reco_side side, reco_asked asked, reco_recall_point *points,
                         size_t max)
{
    if (!bank->lists) return 0;
    const reco_lists_point *p = bank->lists->side[side].points;
    if (asked != RECO_ASKED_EITHER && asked != (reco_asked)(side + 1))
        p += RECO_LISTS_DEPTHS * RECO_LISTS_POINTS;
    size_t n = 0;
    for (; n < RECO_LISTS_POINTS && n < max; n++)
        points[n] = (reco_recall_point){p[n].recall, p[n].cells, p[n].rows};
    return n;
}

size_t reco_cells_queries(const reco_bank *bank, reco_side side)
{
    return reco_max(16, MOST_SCORES / bank->lists->side[side].ncells);
}

/* ---- blocks ---- */

typedef struct work {
    const reco_lists_side *side;
    reco_near near;
    size_t nq, ncells;
    size_t *
        start; /* [2 ncells + 1] of the pairs of each cell, once for queries to which it is among the nearest, once for others */
    uint32_t *names; /* [pairs] query */
    float *centre;   /* [pairs] */
    bool *first;     /* [nq][FIRST_CELLS] of its list */
} work;

/* Places in a query's list of its nearest cells. */
static void find_first(const work *w, size_t q, uint32_t first[FIRST_CELLS])
{
    const float *score = w->near.scores + q * w->ncells;
    for (size_t j = 0; j < FIRST_CELLS; j++) {
        first[j] = UINT32_MAX;
        for (uint32_t i = 0; i < w->near.counts[q]; i++) {
            if (j > 0 && i == first[j - 1]) continue;
            if (first[j] == UINT32_MAX || score[i] > score[first[j]]) first[j] = i;
        }
    }
}

/* Sort pairs of query and cell by cell: a count, then a second walk that fills. */
static void walk_pairs(work *w, bool fill)
{
    for (size_t q = 0; q < w->nq; q++) {
        const uint32_t *cells = w->near.cells + q * w->ncells;
        uint32_t first[FIRST_CELLS];
        find_first(w, q, first);
        for (uint32_t i = 0; i < w->near.counts[q]; i++) {
            size_t slot = cells[i] + (i == first[0] || i == first[1] ? 0 : w->ncells);
            if (!fill) {
                w->start[slot + 1]++;
                continue;
            }
            size_t at = w->start[slot]++;
            w->names[at] = (uint32_t)q;
            w->centre[at] = w->side->length[cells[i]] * w->near.scores[q * w->ncells + i];
        }
    }
}

static size_t add_blocks(reco_scan_block *blocks, const reco_scan_source *source, size_t most)
{
    size_t n = 0;
    for (size_t first = 0; first < source->rows; first += most, n++)
        if (blocks)
            blocks[n] = (reco_scan_block){
                .source = source, .first = first, .rows = reco_min(most, source->rows - first)};
    return n;
}

/* Rows of the cells, and all of those that are not listed. blocks NULL: count alone. */
static size_t list_blocks(const work *w, const reco_bank *bank, reco_side side, reco_scan_block *blocks)
{
    size_t n = 0, most = reco_scan_block_rows(bank->info.d), from = 0;
    for (size_t slot = 0; slot < 2 * w->ncells; slot++) {
        for (size_t i = 0; slot == w->ncells && i < bank->nsegments; i++)
            if (!bank->segments[i].listed)
                n += add_blocks(blocks ? blocks + n : NULL, &bank->segments[i].source[side], most);
        size_t pairs = w->start[slot] - from;
        if (pairs) {
            size_t added =
                add_blocks(blocks ? blocks + n : NULL, &w->side->sources[slot % w->ncells], most);
            for (size_t i = 0; blocks && i < added; i++) {
                blocks[n + i].queries = w->names + from;
                blocks[n + i].nqueries = pairs;
                blocks[n + i].centre = w->centre + from;
            }
            n += added;
        }
        from = w->start[slot];
    }
    return n;
}

reco_status reco_bank_scan_cells(reco_ctx *ctx, const reco_bank *bank, const reco_scan_opts *opts,
                                 const reco_plan *plan, const float *queries, size_t nq, float *scores,
                                 int64_t *positions, size_t *counts)
{
    const reco_lists_side *side = &bank->lists->side[opts->side];
    size_t n = side->ncells, pairs = 0;
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status = RECO_E_NOMEM;
    work w = {.side = side, .nq = nq, .ncells = n};
    w.near.cells = reco_scratch(ctx, nq, n * sizeof(uint32_t), "cells");
    w.near.scores = reco_scratch(ctx, nq, n * sizeof(float), "cells");
    w.near.counts = reco_scratch(ctx, nq, sizeof(uint32_t), "cells");
    w.start = reco_scratch(ctx, 2 * n + 1, sizeof *w.start, "cells");
    if (!w.near.cells || !w.near.scores || !w.near.counts || !w.start) goto out;
    const reco_cells cells = {n,
                              bank->info.d,
                              side->centroids,
                              side->codes,
                              side->bounds,
                              side->mean,
                              opts->filter ? opts->filter->cells[opts->side] : side->live};
    RECO_GO(reco_near_find(ctx, &cells, queries, nq, plan->margin, w.near));
    memset(w.start, 0, (2 * n + 1) * sizeof *w.start);
    walk_pairs(&w, false);
    for (size_t i = 0; i < 2 * n; i++) w.start[i + 1] += w.start[i];
    pairs = w.start[2 * n];
    w.names = reco_scratch(ctx, pairs, sizeof *w.names, "cells");
    w.centre = reco_scratch(ctx, pairs, sizeof *w.centre, "cells");
    if (!w.names || !w.centre) RECO_GO(RECO_E_NOMEM);
    walk_pairs(&w, true); /* start[i] is now where those of i end */
    size_t nblocks = list_blocks(&w, bank, opts->side, NULL);
    reco_scan_block *blocks = reco_scratch(ctx, nblocks, sizeof *blocks, "cells");
    if (!blocks) RECO_GO(RECO_E_NOMEM);
    list_blocks(&w, bank, opts->side, blocks);
    reco_scan_opts among = *opts;
    among.blocks = blocks;
    among.nblocks = nblocks;
    status = reco_bank_scan(ctx, bank, &among, queries, nq, scores, positions, counts);
out:
    reco_scratch_release(ctx, mark);
    return status;
}
