/* bank/segment/directions.h: the directions along which most of the rows' variance lies, so that a scan can compare
 * along them first. vectors/directions.safetensors is computed from some of a bank's rows when the first scan file
 * is made, and is then kept, because scan files record its checksum. It is derived data, as they are: without it,
 * searches compare in all dimensions. */
#ifndef RECO_SRC_BANK_DIRECTIONS_H
#define RECO_SRC_BANK_DIRECTIONS_H

#include "base/base.h"
#include "io/io.h"

#define RECO_DIRECTIONS_FILE "directions.safetensors"
#define RECO_DIRECTIONS_MOST 256   /* of one side */
#define RECO_DIRECTIONS_WIDTH 4096 /* wider rows have none: finding them would take minutes */

/* Of one side: R [second][d], orthonormal but for |RR' - I| <= loose. The first stage looks at `first` of them, the second at
 * all. R NULL: the variance is spread too evenly for stages to pay. */
typedef struct reco_directions_side {
    const float *rows;
    size_t first, second;
    float loose;
} reco_directions_side;

typedef struct reco_directions {
    reco_safetensors *file; /* NULL: none */
    char hash[33];
    reco_directions_side side[2]; /* by reco_side */
} reco_directions;

/* Rows in an order that the caller likes. */
typedef struct reco_scan_rows {
    const uint16_t *(*get)(const void *arg,
                           size_t i); /* row i, f16 [d]; called by several threads at once */
    const void *arg;
    size_t n, d;
} reco_scan_rows;

/* ---- directions.c ---- */

/* The data of a tensor of this dtype and shape, aligned for f32, in a file that is derived: scan files and directions. */
reco_status reco_derived_tensor(reco_ctx *ctx, const reco_safetensors *file, const char *name,
                                reco_dtype dtype, size_t rank, const size_t *shape, const void **out);
/* Map that of DIR; RECO_OK and file NULL where there is none, RECO_E_FORMAT where it is damaged. */
reco_status reco_directions_open(reco_ctx *ctx, reco_directions *out, const char *dir, size_t d);
void reco_directions_close(reco_directions *x);
/* Write one, in the place of any. */
reco_status reco_directions_write(reco_ctx *ctx, const char *dir, const reco_directions_side sides[2],
                                  size_t d);
/* The greatest |RR' - I| that these can have; rows [n][d]. */
double reco_directions_loose(const reco_ctx *ctx, const float *rows, size_t n, size_t d);

/* ---- principal.c ---- */

/* The principal directions of rows[side], after both sides' means, and how many make a stage: as many as would make searches of
 * these rows by each other fastest. R NULL where none would. first, second: 0, or how many are wanted. R lies in the scratch of
 * ctx. */
reco_status reco_directions_find(reco_ctx *ctx, reco_directions_side *out, const reco_scan_rows rows[2],
                                 int side, size_t first, size_t second);
/* Find and write those of both sides. */
reco_status reco_directions_make(reco_ctx *ctx, const char *dir, const reco_scan_rows rows[2], size_t first,
                                 size_t second);

#endif
