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
/* Begin to read n rows of one side, which nothing else reads ahead (reco_rows_advise). */
void reco_rows_fetch(const reco_bank *bank, reco_side side, size_t first, size_t n);
/* From now on what is read of the bank's vectors is fetched by reco_rows_fetch. */
void reco_rows_advise(const reco_bank *bank);

/* What rows at n positions, ascending, find on each side when each side of theirs asks; filled by reco_cells_ask. */
typedef struct reco_cells_asked {
    const size_t *positions; /* [n] */
    size_t n, k;
    float *queries[2];    /* [n][d] by the side that asks */
    int64_t *found[2][2]; /* [n][k] positions, by the side that is searched and the side that asks */
    float *scores[2][2];  /* likewise */
    size_t *counts[2][2]; /* [n] */
} reco_cells_asked;
/* Exact; neither the row itself is found nor one that says the same. slice: bytes of the vectors that all ask of before the next are
 * read. */
reco_status reco_cells_ask(reco_ctx *ctx, reco_cells_asked *a, const reco_bank *bank, size_t slice);
void reco_cells_asked_free(reco_cells_asked *a);

/* Centroids of the rows at n positions, by k-means on the sphere, large cells split on the way. The same whatever the threads. */
reco_status reco_cells_train(reco_ctx *ctx, reco_cells_made *m, const reco_bank *bank, reco_side side,
                             const size_t *positions, size_t n);
/* codes, bounds and mean from the centroids. */
reco_status reco_cells_encode(reco_ctx *ctx, reco_cells_made *m);
/* points: of a search for what was asked. */
reco_status reco_cells_measure(reco_ctx *ctx, reco_cells_made *m, const reco_bank *bank, reco_side side,
                               const reco_cells_asked *asked);
/* Write the file of both sides; bank's segments are those that it lists. */
reco_status reco_lists_write(reco_ctx *ctx, const reco_bank *bank, const reco_cells_made made[2],
                             float recall);

#endif
