/* kernels/scan.h: which rows of a bank may be among a query's best: inner products of int8 codes, with a bound.
 *
 * A row x is mean + scale * (code - 128) + e, its codes 1..255. A query q is step * a + f, a in -levels..levels. So
 *
 *     q.x <= q.mean + step * (scale * dot + slack * gain),   dot = sum a * (code - 128),
 *     slack = |e| + |f|/|q| |scale (code - 128)|,  gain = |q| / step
 *
 * by Cauchy and Schwarz, and a row whose right side stays below what is asked for is not looked at again.
 *
 * Where most of the rows' variance lies along few directions, R [m][d], those alone are looked at first. With the rows of R
 * orthonormal but for RR' = I + E, |E| <= loose, and x = mean + c, w = Rq, y = Rc, s = q - R'w and rest = |c - R'y|,
 *
 *     q.x = q.mean + w.y - w.Ey + s.(c - R'y) <= q.mean + w.y + loose |w| |y| + |s| rest
 *
 * by Cauchy and Schwarz. y is coded like a row and w like a query, but for the first of them: R's first row is the direction of the
 * rows' mean, where queries are far longer than along any other, so along = y[0] is kept in f32. That makes
 *
 *     scale * dot + slack * gain + rest * beyond + along * ahead,    beyond = |s| / step, ahead = w[0] / step.
 *
 * Rows lie in groups of 16, width = d rounded up to 64: group g at byte g * 16 * width, [width/4][16][4] u8, row r's
 * dimensions 4j..4j+3 at [j][r]. That is what vpdpbusd and AMX's tiles take as it is. Padding is 128, which counts as 0.
 * Each group has bounds [3][16] f32: scale, error |e|, norm |scale (code - 128)|; error is infinite for a row that is to
 * be looked at whatever its codes. */
#ifndef RECO_SRC_KERNELS_SCAN_H
#define RECO_SRC_KERNELS_SCAN_H

#include "base/base.h"

#include <math.h>

#define RECO_SCAN_GROUP 16
#define RECO_SCAN_TILE 32 /* rows that one call looks at */
#define RECO_SCAN_BOUNDS 48
#define RECO_SCAN_MOST_LEVELS 127
#define RECO_SCAN_LEAST_SIZE 0.1 /* gain * step is at least so much, however short a query is */

static inline size_t reco_scan_width(size_t d) { return (d + 63) / 64 * 64; }

/* Queries as a kernel wants them. */
typedef struct reco_scan_queries {
    int8_t *codes;  /* packed, [n rounded up to 16][width] */
    int32_t *start; /* [n] -128 sum a: what the codes' 128 adds to a product, taken away */
    float *gain;    /* [n] */
    float *step;    /* [n] */
    float *beyond;  /* [n] */
    float *ahead;   /* [n] */
    float error;    /* greatest |f|/|q|, rounded up */
    size_t n, width;
} reco_scan_queries;

typedef struct reco_scan_tile {
    const uint8_t *codes[2];                   /* two groups; the same twice where there is one */
    const float *scale, *slack, *rest, *along; /* [32] */
    const float *floor;                        /* [n] what their sum must reach */
    uint32_t live;                             /* bit r: row r counts */
} reco_scan_tile;

/* Rows of the tile that may reach a query's floor. */
typedef struct reco_scan_hit {
    uint32_t query, rows; /* bit r: row r */
} reco_scan_hit;

/* Queries as they are compared with one row after another, in 16 bits: step is so small then that rows alone make errors. */
#define RECO_SCAN_PAIR_LEVELS 32767
#define RECO_SCAN_PAIR_MOST 512 /* width; sums of more might not fit 32 bits */
typedef struct reco_scan_pair_query {
    float gain, beyond, ahead, floor;
} reco_scan_pair_query;
typedef struct reco_scan_pairs {
    const int16_t *codes; /* [n][width] */
    const reco_scan_pair_query *queries;
    size_t width;
} reco_scan_pairs;

typedef struct reco_scan_kernel {
    const char *name;
    reco_isa isa; /* least level of the context */
    int levels;
    bool (*usable)(void); /* does this CPU have it? */
    double saves; /* about so many ns does a dimension less save, for a row and one of many queries */
    /* Order the codes [n][width]; to has room for n rounded up to 16. */
    void (*pack)(int8_t *to, const int8_t *codes, size_t n, size_t width);
    /* hits [n], ascending by query; returns how many. Sums are exact and floats are rounded at the same places in every
     * kernel: the same queries and tile give the same hits. */
    size_t (*scan)(reco_scan_hit *hits, const reco_scan_queries *q, const reco_scan_tile *t);
    /* Of n queries that names[] lists those that the row may reach, in their order; returns how many. codes [width] is the
     * row by itself, bound its scale, slack, rest and along. The same of every kernel. */
    size_t (*pairs)(uint32_t *names, size_t n, const reco_scan_pairs *q, const uint8_t *codes,
                    const float bound[4]);
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
/* Encode n queries [n][d], which may be wrong by a vector of length off. codes is scratch [n][width]; errors [n] are |f| of each,
 * NULL: not wanted. beyond and ahead are left at 0. */
void reco_scan_encode_queries(const reco_scan_kernel *kernel, reco_scan_queries *q, int8_t *codes,
                              float *errors, const float *queries, size_t n, size_t d, double off);
/* Scratch of reco_scan_encode_row, [width + 2 d] floats' worth of bytes. */
static inline size_t reco_scan_row_scratch(size_t d) { return reco_scan_width(d) + 2 * d * sizeof(float); }
/* Row `row` (0..15) of a group, from f16 [d]; the group's padding must be 128 already or is written here. */
void reco_scan_encode_row(const reco_ctx *ctx, uint8_t *group, float *bounds, size_t row, const uint16_t *x,
                          const float *mean, size_t d, void *scratch);

/* Of R [m][d] and c [d]: how far an f32 product Rc may be from the exact one, over |c|; c itself may be wrong by a rounding. Any
 * order of summation will do. */
static inline double reco_scan_turn_error(size_t d, size_t m)
{
    return 1.01 * 0x1p-24 * (double)(d + 4) * sqrt((double)m);
}
#define RECO_SCAN_TURNED_BOUNDS 80 /* of a group, [5][16]: scale, error, norm, rest, along */
/* Scratch of reco_scan_encode_turned, bytes. */
static inline size_t reco_scan_turned_scratch(size_t m) { return 3 * m * sizeof(float); }
/* A row that R turned: y [m] = Rc, wrong by a vector of length off at most, but along = y[0]; |c|^2 = square. codes [width of m],
 * the first of them 0, and the bounds. off counts twice, so that reco_scan_turned_holds says yes of what another kernel makes. */
void reco_scan_encode_turned(const reco_ctx *ctx, uint8_t *codes, float bound[5], const float *y, size_t m,
                             double along, double square, double loose, double off, void *scratch);
/* Are these codes, code i at [i / 4 * step + i % 4], bounded by these? In double, from the definition. */
bool reco_scan_turned_holds(const uint8_t *codes, size_t step, const float bound[5], const float *y,
                            size_t m, double along, double square, double loose, double off);

/* Row `from` of one group to row `to` of another, with its bounds [kinds][16]. */
void reco_scan_copy_row(uint8_t *group, float *bounds, size_t to, const uint8_t *from_group,
                        const float *from_bounds, size_t from, size_t width, size_t kinds);

#endif
