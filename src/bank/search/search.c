#include "bank/search/filter.h"
#include "bank/search/scan.h"
#include "kernels/kernels.h"
#include "kernels/scan.h"

#include <math.h>
#include <stdlib.h>

#define PASS_BYTES                                                                                         \
    ((size_t)1 << 19)     /* of queries' codes, which should stay in L2, and of queries that share */
#define PASS_QUERIES 1024 /* one reading of the bank: so many at most, */
#define PASS_PLACES ((size_t)1 << 22) /* and so many places of k best among all threads */

static int by_position(const void *a, const void *b)
{
    size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return (x > y) - (x < y);
}

/* Where the rows are that each query of a pass does not find, in order. */
static void find_excluded(const reco_bank *bank, const int64_t *ids, size_t nq, size_t n, size_t *positions)
{
    for (size_t i = 0; i < nq * n; i++)
        if (!reco_bank_find(bank, ids[i], &positions[i])) positions[i] = SIZE_MAX;
    for (size_t q = 0; q < nq; q++) qsort(positions + q * n, n, sizeof *positions, by_position);
}

/* Queries of one pass: as many as fit, in passes of equal size. */
static size_t pass_queries(const reco_ctx *ctx, size_t nq, size_t k, size_t d)
{
    size_t most = reco_min(PASS_QUERIES, PASS_BYTES / reco_scan_width(d));
    most = reco_max(1, reco_min(reco_max(most, 16), PASS_PLACES / (k * (size_t)reco_ctx_threads(ctx))));
    size_t passes = (nq + most - 1) / most;
    return passes ? (nq + passes - 1) / passes : 1;
}

reco_status reco_folder_search(reco_ctx *ctx, const reco_bank *bank, reco_side side, const float *queries,
                               size_t nq, const reco_search_opts *opts, const reco_hits *hits)
{
    size_t d = bank->info.d, k = opts->k;
    reco_scan_opts scan = {
        .side = side,
        .filter = opts->filter,
        .k = k,
        .least = opts->min_similarity,
        .nexclude = opts->nexclude,
    };

    reco_plan plan = reco_plan_search(bank, side, opts);
    size_t pass = pass_queries(ctx, nq, k, d);
    if (plan.recall < 1) pass = reco_min(pass, reco_cells_queries(bank, side));
    reco_mark start = reco_scratch_mark(ctx);
    reco_status status = RECO_E_NOMEM;
    int64_t *positions = reco_scratch(ctx, pass * k, sizeof *positions, "search");
    size_t *counts = reco_scratch(ctx, pass, sizeof *counts, "search");
    size_t *excluded = reco_scratch(ctx, pass, scan.nexclude * sizeof *excluded, "search");
    if (!positions || !counts || !excluded) goto out;
    scan.exclude = excluded;
    scan.passes = (nq + pass - 1) / pass;
    for (size_t q = 0; q < nq; q += pass) {
        size_t n = reco_min(pass, nq - q);
        float *scores = hits->scores + q * k;
        if (scan.nexclude)
            find_excluded(bank, opts->exclude + q * scan.nexclude, n, scan.nexclude, excluded);
        scan.pass = q / pass;
        status = plan.recall < 1
                     ? reco_bank_scan_cells(ctx, bank, &scan, &plan, queries + q * d, n, scores, positions,
                                            counts)
                     : reco_bank_scan(ctx, bank, &scan, queries + q * d, n, scores, positions, counts);
        if (status != RECO_OK) goto out;
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < k; j++) {
                bool found = j < counts[i];
                hits->ids[(q + i) * k + j] =
                    found ? reco_bank_id_at(bank, (size_t)positions[i * k + j]) : -1;
                if (!found) scores[i * k + j] = 0;
            }
        if (hits->counts) memcpy(hits->counts + q, counts, n * sizeof *counts);
    }
    status = RECO_OK;
out:
    reco_scratch_release(ctx, start);
    return status;
}
