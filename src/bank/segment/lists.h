/* bank/segment/lists.h: vectors/lists.safetensors: the rows of many segments, grouped into cells of similar rows,
 * so that a search need not read all of them. It is computed from the segments alone: no commit names it, and it
 * may be missing. */
#ifndef RECO_SRC_BANK_LISTS_H
#define RECO_SRC_BANK_LISTS_H

#include "bank/segment/segment.h"

#define RECO_LISTS_NAME "lists.safetensors"
#define RECO_LISTS_FORMAT "reco-lists-2"
/* Recall is measured of so many best, of queries of either side. */
#define RECO_LISTS_DEPTHS 7
extern const size_t reco_lists_depths[RECO_LISTS_DEPTHS];
/* and recorded where it first reaches these. */
#define RECO_LISTS_POINTS 16
extern const float reco_lists_recalls[RECO_LISTS_POINTS];

/* What a search must look at to find that share of the best: the cells whose centroids have a cosine to the query of at least that
 * of the nearest one, less the margin. In the mean these are so many cells, and that share of the rows. */
typedef struct reco_lists_point {
    float recall, margin, cells, rows;
} reco_lists_point;

typedef struct reco_lists_side {
    size_t ncells;
    /* Centroids as rows are in a segment and its scan file. */
    const uint16_t *centroids; /* [ncells][d] f16, unit */
    const uint8_t *codes;
    const float *bounds;
    const float *mean; /* [d] */
    const float *
        length; /* [ncells] the codes of a cell's rows are of what they are beside length times its centroid */
    const int32_t *size;      /* [ncells] rows */
    const int32_t *cell;      /* [rows] of each row, in order of position */
    const uint8_t *row_codes; /* groups of 16 rows; each cell begins with one */
    const float *row_bounds;
    const int32_t *order; /* [16 groups] row of each place; -1: none */
    const reco_lists_point
        *points; /* [2: asked by this side, by the other][RECO_LISTS_DEPTHS][RECO_LISTS_POINTS] */
    reco_scan_source *sources; /* [ncells]; mean is NULL */
    uint32_t *live;            /* [ncells] rows that can be found */
    bool even;                 /* these are about the same share of every cell */
} reco_lists_side;

typedef struct reco_lists {
    reco_safetensors *file;
    size_t rows, found;      /* in it; of these, those that can be found */
    size_t measured;         /* that could when recall was measured */
    float recall;            /* asked for when it was made */
    reco_lists_side side[2]; /* by reco_side */
    /* Where a segment is gone or stands elsewhere, the positions of each side's places; else NULL: the file's order is that. */
    uint32_t *positions[2];
} reco_lists;

/* "DIR/vectors/lists.safetensors" */
char *reco_lists_path(reco_ctx *ctx, const char *dir);
/* Map it when there is one and it is of any of the segments, which have their bases, and tell these segments. RECO_E_FORMAT when it is
 * damaged; *out is NULL where there is none to use.
 *   entries, segments  [n]
 *   deleted            bits by position of rows that can't be found; NULL: none */
reco_status reco_lists_open(reco_ctx *ctx, reco_lists **out, const char *dir,
                            const reco_segment_entry *entries, reco_segment *segments, size_t n, size_t d,
                            const uint64_t *deleted);
void reco_lists_close(reco_lists *lists); /* NULL is fine */
/* counts [ncells] += rows of each cell whose position has its bit set. */
void reco_lists_count(const reco_lists *lists, reco_side side, const reco_segment *segments, size_t n,
                      const uint64_t *bits, uint32_t *counts);
/* Are counts [ncells] of rows, `all` in all, what chance would leave of the cells, or nearly all? Recall was measured among rows that are
 * there; where they are gone from one region and not from another, nothing is known of it. */
bool reco_lists_even(const reco_lists *lists, reco_side side, const uint32_t *counts, size_t all);
/* What is wrong with it, a static text, or NULL: its checksum; the place of each row, and its bounds. RECO_E_IO where it can't be read. */
reco_status reco_lists_check(reco_ctx *ctx, const reco_lists *lists, const reco_segment *segments, size_t n,
                             size_t d, const char **problem);

#endif
