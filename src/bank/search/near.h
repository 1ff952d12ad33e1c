/* bank/search/near.h: finding the cells nearest to a query. */
#ifndef RECO_SRC_BANK_SEARCH_NEAR_H
#define RECO_SRC_BANK_SEARCH_NEAR_H

#include "bank/segment/segment.h"
#include "kernels/scan.h"

/* Centroids, as rows are in a segment and its scan file. */
typedef struct reco_cells {
    size_t n, d;
    const uint16_t *centroids; /* [n][d] f16 */
    const uint8_t *codes;
    const float *bounds, *mean;
    const uint32_t *rows; /* [n] cells without rows are passed over; NULL: none is */
} reco_cells;

/* Cells and their centroids' inner products, in f32. */
typedef struct reco_near {
    uint32_t *cells;  /* [nq][cells->n] */
    float *scores;    /* likewise */
    uint32_t *counts; /* [nq] */
} reco_near;

/* Of each query [d] f32 the cells whose inner product is at least that of the nearest less the margin, in order of cell: that does not
 * depend on threads. (It does, by roundings, on the kernel.) */
reco_status reco_near_find(reco_ctx *ctx, const reco_cells *cells, const float *queries, size_t nq,
                           float margin, reco_near near);

/* The nearest cell of each row, of equal ones the first, and where scores is not NULL its inner product. */
reco_status reco_near_assign(reco_ctx *ctx, const reco_cells *cells, const reco_scan_rows *rows,
                             int32_t *nearest, float *scores);

#endif
