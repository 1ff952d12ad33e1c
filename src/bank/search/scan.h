/* bank/search/scan.h: finding the best rows among those that a search reads. */
#ifndef RECO_SRC_BANK_SEARCH_SCAN_H
#define RECO_SRC_BANK_SEARCH_SCAN_H

#include "bank/bank_internal.h"

/* Rows of a source: first is a multiple of 16, at most reco_scan_block_rows rows. */
typedef struct reco_scan_block {
    const reco_scan_source *source; /* of the side that is scanned */
    size_t first, rows;
    /* Which queries look at it, ascending, and their inner products with the source's mean [nqueries], in f32 and
     * summed in any order; NULL: all of them, and to be computed. */
    const uint32_t *queries;
    size_t nqueries;
    const float *centre;
} reco_scan_block;
size_t reco_scan_block_rows(size_t d);

typedef struct reco_scan_opts {
    reco_side side;
    const reco_bank_filter *filter; /* NULL: all live rows */
    size_t k;
    float least;         /* score that a hit must reach; -INFINITY: none */
    const float *floors; /* [nq] scores that the hits of each query must reach, instead; NULL: least */
    const size_t
        *exclude; /* [nq][nexclude] positions that each query does not find, ascending; SIZE_MAX: none */
    size_t nexclude;
    /* Where to look, each row at most once; blocks NULL: everywhere. A list of fewer blocks is what an approximate
     * index would give. */
    const reco_scan_block *blocks;
    size_t nblocks;
    size_t pass, passes; /* for the progress hook: which of how many scans of the bank; 0 of 0: of one */
} reco_scan_opts;
/* How a search looks for what it is asked for. */
typedef struct reco_plan {
    float recall; /* share of the best that is found, in the mean; 1: all, by looking everywhere */
    float margin; /* of cells */
} reco_plan;
reco_plan reco_plan_search(const reco_bank *bank, reco_side side, const reco_search_opts *opts);
/* Queries that fit into one reco_bank_scan_cells. */
size_t reco_cells_queries(const reco_bank *bank, reco_side side);

/* The k best of those rows: position and score of each of nq queries [nq][k], counts [nq]. Scores are inner products
 * with the stored f16 rows in double, rounded to f32, equal ones by position: that does not depend on blocks, threads
 * or kernel. Scratch: about threads * (nq (12 k + 1,000) + 1 MiB). */
reco_status reco_bank_scan(reco_ctx *ctx, const reco_bank *bank, const reco_scan_opts *opts,
                           const float *queries, size_t nq, float *scores, int64_t *positions,
                           size_t *counts);
/* The k best of the rows that a plan with a margin looks at; opts->blocks is not read. Scratch: beside that of a scan about 8 bytes
 * per query and cell. */
reco_status reco_bank_scan_cells(reco_ctx *ctx, const reco_bank *bank, const reco_scan_opts *opts,
                                 const reco_plan *plan, const float *queries, size_t nq, float *scores,
                                 int64_t *positions, size_t *counts);

#endif
