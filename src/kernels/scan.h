/* kernels/scan.h: which rows of a bank may be among a query's best: inner products of int8 codes, with a bound.
 *
 * A row x is mean + scale * (code - 128) + e, its codes 1..255. A query q is step * a + f, a in -levels..levels. So
 *
 *     q.x <= q.mean + step * (scale * dot + slack * gain),   dot = sum a * (code - 128),
 *     slack = |e| + |f|/|q| |scale (code - 128)|,  gain = |q| / step
 *
 * by Cauchy and Schwarz, and a row whose right side stays below what is asked for is not looked at again.
 *
 * Rows lie in groups of 16, width = d rounded up to 64: group g at byte g * 16 * width, [width/4][16][4] u8, row r's
 * dimensions 4j..4j+3 at [j][r]. That is what vpdpbusd and AMX's tiles take as it is. Padding is 128, which counts as 0.
 * Each group has bounds [3][16] f32: scale, error |e|, norm |scale (code - 128)|; error is infinite for a row that is to
 * be looked at whatever its codes. */
#ifndef RECO_SRC_KERNELS_SCAN_H
#define RECO_SRC_KERNELS_SCAN_H

#include "base/base.h"

#define RECO_SCAN_GROUP 16
#define RECO_SCAN_TILE 32 /* rows that one call looks at */
#define RECO_SCAN_BOUNDS 48
#define RECO_SCAN_MOST_LEVELS 127

static inline size_t reco_scan_width(size_t d) { return (d + 63) / 64 * 64; }

/* Queries as a kernel wants them. */
typedef struct reco_scan_queries {
    int8_t *codes;  /* packed, [n rounded up to 16][width] */
    int32_t *start; /* [n] -128 sum a: what the codes' 128 adds to a product, taken away */
    float *gain;    /* [n] */
    float *step;    /* [n] */
    float error;    /* greatest |f|/|q|, rounded up */
    size_t n, width;
} reco_scan_queries;

typedef struct reco_scan_tile {
    const uint8_t *codes[2];    /* two groups; the same twice where there is one */
    const float *scale, *slack; /* [32] */
    const float *floor;         /* [n] what scale * dot + slack * gain must reach */
    uint32_t live;              /* bit r: row r counts */
} reco_scan_tile;

/* Rows of the tile that may reach a query's floor. */
typedef struct reco_scan_hit {
    uint32_t query, rows; /* bit r: row r */
} reco_scan_hit;

typedef struct reco_scan_kernel {
    const char *name;
    reco_isa isa; /* least level of the context */
    int levels;
    bool (*usable)(void); /* does this CPU have it? */
    /* Order the codes [n][width]; to has room for n rounded up to 16. */
    void (*pack)(int8_t *to, const int8_t *codes, size_t n, size_t width);
    /* hits [n], ascending by query; returns how many. Sums are exact and floats are rounded at the same places in every
     * kernel: the same queries and tile give the same hits. */
    size_t (*scan)(reco_scan_hit *hits, const reco_scan_queries *q, const reco_scan_tile *t);
    /* Inner product with a row in f16, in f32. */
    float (*dot_f16)(const float *q, const uint16_t *x, size_t d);
} reco_scan_kernel;

/* All that were compiled, best first; the last is plain C. */
extern const reco_scan_kernel *const reco_scan_kernels[];
extern const size_t reco_scan_kernel_count;
/* The best within the context's limit that this CPU has. */
const reco_scan_kernel *reco_scan_kernel_of(const reco_ctx *ctx);

/* ---- scan.c ---- */

/* Room in the scratch of ctx for n queries. */
reco_status reco_scan_queries_new(reco_ctx *ctx, reco_scan_queries *q, size_t n, size_t d);
/* Encode n unit queries [n][d]. codes is scratch [n][width]. */
void reco_scan_encode_queries(const reco_scan_kernel *kernel, reco_scan_queries *q, int8_t *codes,
                              const float *queries, size_t n, size_t d);
/* Scratch of reco_scan_encode_row, [width + 2 d] floats' worth of bytes. */
static inline size_t reco_scan_row_scratch(size_t d) { return reco_scan_width(d) + 2 * d * sizeof(float); }
/* Row `row` (0..15) of a group, from f16 [d]; the group's padding must be 128 already or is written here. */
void reco_scan_encode_row(const reco_ctx *ctx, uint8_t *group, float *bounds, size_t row, const uint16_t *x,
                          const float *mean, size_t d, void *scratch);
/* Row `from` of one group to row `to` of another, with its bounds. */
void reco_scan_copy_row(uint8_t *group, float *bounds, size_t to, const uint8_t *from_group,
                        const float *from_bounds, size_t from, size_t width);

#endif
