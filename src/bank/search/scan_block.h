/* bank/search/scan_block.h: the state of one running scan. */
#ifndef RECO_SRC_BANK_SEARCH_SCAN_BLOCK_H
#define RECO_SRC_BANK_SEARCH_SCAN_BLOCK_H

#include "bank/search/scan.h"
#include "kernels/scan.h"

#define RECO_SCAN_LATE 64

/* A row that was asked for, to be scored when it is there. */
typedef struct reco_scan_late {
    const reco_scan_block *block;
    size_t row, query, i; /* of the block; of the scan; the query's number in the block */
} reco_scan_late;

typedef struct reco_scan_worker {
    float *scores;              /* [nq][k] */
    int64_t *positions;         /* [nq][k] */
    size_t *counts;             /* [nq] */
    const reco_scan_queries *q; /* those of the block in work: all, or own */
    const uint32_t *names;      /* [q->n] which of the scan's they are; NULL: all */
    reco_scan_queries own;
    int8_t *own_codes; /* [nq][width] */
    float *floor;      /* [nq] in the kernel's units, of the block in work */
    double *centre;    /* [nq] inner product with the mean */
    double rounding;   /* of centre, where it was given */
    const float *mean; /* of which centre is, of all queries; NULL: none */
    reco_scan_hit *hits;
    float *row, *own_mean; /* [d] */
    void *scratch;
    uint32_t *live; /* [rows / 32] bits of a block's rows */
    uint8_t *codes; /* gathered or encoded groups */
    float *bounds;
    uint32_t *rows;               /* of the block, in the order gathered */
    size_t segment;               /* of the last row that was looked up */
    const reco_scan_block *block; /* in work */
    /* See cold.c: */
    uint64_t faults;   /* of the worker's thread, when it last looked; UINT64_MAX: it never did */
    size_t done, look; /* work since then, and after how much it looks again */
    bool whole;        /* the block's rows were asked for, all of them */
    uint32_t *asked;   /* [rows / 32] bits of the block's rows that were */
    reco_scan_late late[RECO_SCAN_LATE]; /* a ring */
    size_t oldest, nlate;
    /* Of a block that is looked at in stages: */
    bool staged;
    reco_scan_queries own_first;
    const reco_scan_queries *first; /* those of the block, as q */
    int8_t *own_turned;             /* [nq][width of the first stage] */
    int16_t *own_pairs;             /* [nq][width of the second] */
    double norm;                    /* of the block's rows as the first stage has them, at most */
    float *first_floor;             /* [nq] */
    reco_scan_pair_query *pairs;    /* [nq] with the floors of the second stage */
    const int16_t *pair_codes;      /* [nq][width] */
    uint32_t *reached;              /* [32][nq] queries that a row of a tile may reach */
    size_t dense,
        patience; /* so many blocks are looked at in all dimensions before the next try in stages */
} reco_scan_worker;

typedef struct reco_scan {
    const reco_ctx *ctx; /* for the kernel level alone; threads only read it */
    const reco_bank *bank;
    const reco_scan_kernel *kernel;
    const reco_scan_opts *opts;
    const reco_scan_block *blocks; /* those of a slice */
    const reco_scan_block *all;    /* [nall] */
    size_t nall;
    atomic_bool cold;    /* see cold.c */
    atomic_size_t ahead; /* blocks that were asked for while it is */
    atomic_bool many;    /* rows of a block are scored, lately */
    const float *queries;
    reco_scan_queries q;
    const int8_t *codes; /* [nq][width] of the queries, as they were before packing */
    /* Queries along the bank's directions: NULL: no block has stages, or they aren't worth it. */
    const reco_directions_side *directions;
    reco_scan_queries turned;          /* for the first stage */
    const int8_t *turned_codes;        /* [nq][width] as they were before packing */
    const int16_t *pair_codes;         /* [nq][pair_width] for the second */
    const reco_scan_pair_query *pairs; /* [nq] without floors */
    size_t pair_width;
    const float *pair_step; /* [nq] */
    float pair_error;       /* the greatest part of a query that its 16 bits leave out */
    const float *missing;   /* [nq] length of what its codes for the first stage leave out */
    uint32_t *best;         /* [nq] bits of a float: the k-th best score known, shared */
    reco_scan_worker *workers;
    float slack; /* f32 products may be wrong by so much */
    float *scores;
    int64_t *positions;
    size_t *counts;
} reco_scan;

/* ---- block.c ---- */

/* Look at blocks begin..end - 1 of s->blocks: a body of reco_parallel. */
void reco_scan_blocks(void *scan, size_t begin, size_t end, int worker);
/* Score a row of the block for its query i, soon, and keep it if it is among the best. */
void reco_scan_score(reco_scan *s, reco_scan_worker *w, const reco_scan_block *b, size_t row, size_t i);
/* The same at once. */
void reco_scan_score_late(reco_scan *s, reco_scan_worker *w, const reco_scan_late *late);
const uint16_t *reco_scan_row(const reco_scan *s, reco_scan_worker *w, const reco_scan_block *b,
                              size_t row);
/* Sets w->live, bits of the block's rows that count; returns how many. */
size_t reco_scan_find_live(const reco_scan *s, reco_scan_worker *w, const reco_scan_block *b);
/* So few queries look at so few live rows of the block that these are scored one by one, without codes. */
bool reco_scan_is_direct(const reco_scan_block *b, size_t queries, size_t live);
/* Does the worker look at this block in stages? */
static inline bool reco_scan_is_staged(const reco_scan *s, const reco_scan_worker *w,
                                       const reco_scan_block *b)
{
    return s->directions && b->source->stages.directions == s->directions && w->dense == 0;
}

/* ---- cold.c ---- */

static inline bool reco_scan_is_cold(const reco_scan *s)
{
    return atomic_load_explicit(&s->cold, memory_order_relaxed);
}
/* Is the next scan of the bank to begin so? */
bool reco_scan_begins_cold(const reco_bank *bank);
/* Find out whether the worker has waited for the disk. */
void reco_scan_look(reco_scan *s, reco_scan_worker *w);
/* Of a cold scan: ask for what will be read of the block, whose turn it is, and of some after it. Changes w->live. */
void reco_scan_ask_blocks(reco_scan *s, reco_scan_worker *w, const reco_scan_block *b);
/* Ask for a row, and score what was asked for some time ago. */
void reco_scan_defer(reco_scan *s, reco_scan_worker *w, const reco_scan_late *late);
/* Score all that wait. */
void reco_scan_score_rest(reco_scan *s, reco_scan_worker *w);

/* ---- turned.c ---- */

/* The queries along the directions, if it is worth it for these blocks. */
reco_status reco_scan_turn_queries(reco_ctx *ctx, reco_scan *s, const reco_scan_block *blocks, size_t n);
reco_status reco_scan_turned_worker(reco_ctx *ctx, const reco_scan *s, reco_scan_worker *w);
/* The block's queries, as they are chosen in w. */
void reco_scan_use_turned(const reco_scan *s, reco_scan_worker *w, const reco_scan_block *b);
/* Look at n rows in stages: codes and bounds are the first's; rows as in block.c. */
void reco_scan_staged(reco_scan *s, reco_scan_worker *w, const reco_scan_block *b, const uint8_t *codes,
                      const float *bounds, size_t n, const uint32_t *rows);

#endif
