/* bank/write/cells.h: making lists: the cells, and the recall of a search that reads some of them. */
#ifndef RECO_SRC_BANK_CELLS_H
#define RECO_SRC_BANK_CELLS_H

#include "bank/bank_internal.h"
#include "bank/search/near.h"
#include "bank/write/writer.h"

/* Cells of one side in the making; all is the caller's. */
typedef struct reco_cells_made {
    size_t ncells, d;
    uint16_t *centroids; /* [ncells][d] f16 */
    uint8_t *codes;      /* as in near.h, of the centroids */
    float *bounds, *mean;
    int32_t *cell; /* [positions] */
    int32_t *size; /* [ncells] */
    float *length; /* [ncells] */
    reco_lists_point points[2][RECO_LISTS_DEPTHS][RECO_LISTS_POINTS];
} reco_cells_made;
static inline reco_cells reco_cells_of(const reco_cells_made *m)
{
    return (reco_cells){m->ncells, m->d, m->centroids, m->codes, m->bounds, m->mean, NULL};
}

/* Rows of one side of a bank at some positions; get is for reco_scan_rows. */
typedef struct reco_rows_at {
    const reco_bank *bank;
    reco_side side;
    const size_t *positions; /* NULL: first, first + 1, ... */
    size_t first;
} reco_rows_at;
const uint16_t *reco_rows_get(const void *arg, size_t i);

/* Centroids of the rows at n positions, by k-means on the sphere, large cells split on the way. The same whatever the threads. */
reco_status reco_cells_train(reco_ctx *ctx, reco_cells_made *m, const reco_bank *bank, reco_side side,
                             const size_t *positions, size_t n);
/* codes, bounds and mean from the centroids. */
reco_status reco_cells_encode(reco_ctx *ctx, reco_cells_made *m);
/* points: of a search asked by the rows at n positions, each of which does not find itself. */
reco_status reco_cells_measure(reco_ctx *ctx, reco_cells_made *m, const reco_bank *bank, reco_side side,
                               const size_t *positions, size_t n);
/* Write the file of both sides; bank's segments are those that it lists. */
reco_status reco_lists_write(reco_ctx *ctx, const reco_bank *bank, const reco_cells_made made[2],
                             float recall);

#endif
