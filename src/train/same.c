#include "kernels/kernels.h"
#include "train/train_internal.h"

#include <math.h>
#include <stdlib.h>

/* Such a difference has no direction of its own, so along a given one it is this many times 1/sqrt(d) of it at most. */
#define DEVIATIONS 6

typedef struct spot {
    double at; /* along one direction */
    uint32_t item;
} spot;

typedef struct keyed {
    uint64_t key;
    uint32_t item;
} keyed;

static int by_spot(const void *a, const void *b)
{
    const spot *x = a, *y = b;
    if (x->at != y->at) return x->at < y->at ? -1 : 1;
    return x->item < y->item ? -1 : x->item > y->item;
}

static int by_key(const void *a, const void *b)
{
    const keyed *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return x->item < y->item ? -1 : x->item > y->item;
}

/* Smaller numbers are roots, so that the result does not depend on the order. */
static void unite(uint32_t *parent, uint32_t a, uint32_t b)
{
    a = reco_root(parent, a);
    b = reco_root(parent, b);
    if (a < b)
        parent[b] = a;
    else
        parent[a] = b;
}

static reco_status unite_keys(const reco_job *job, const uint64_t *keys, uint32_t *parent)
{
    keyed *k = reco_alloc(job->ctx, job->total, sizeof *k, "training pairs");
    if (!k) return RECO_E_NOMEM;
    for (size_t i = 0; i < job->total; i++) k[i] = (keyed){keys[i], (uint32_t)i};
    qsort(k, job->total, sizeof *k, by_key);
    for (size_t i = 1; i < job->total; i++)
        if (k[i].key && k[i].key == k[i - 1].key) unite(parent, k[i].item, k[i - 1].item);
    reco_free(k);
    return RECO_OK;
}

#define MOST_HELD ((size_t)1 << 28) /* floats */

/* Rows of servers that are not pairs, at once, since they would be asked for one by one. NULL: they are gathered. */
static reco_status hold(const reco_job *job, reco_side side, float **held)
{
    size_t n = job->total - job->n, count;
    *held = NULL;
    if (!n || !reco_bank_get_info(job->bank)->shards || !reco_mul(n, job->d, &count) || count > MOST_HELD)
        return RECO_OK;
    if (!(*held = reco_alloc(job->ctx, count, sizeof **held, "training pairs"))) return RECO_E_NOMEM;
    return reco_bank_gather(job->ctx, job->bank, side, job->id + job->n, n, *held);
}

/* Vectors of rows [first, first+n) of the job, in `room` where they are neither pairs nor held. */
static reco_status vectors(const reco_job *job, reco_side side, size_t first, size_t n, const float *held,
                           float *room, const float **out)
{
    if (held && first >= job->n) {
        *out = held + (first - job->n) * job->d;
        return RECO_OK;
    }
    *out = room;
    if (first < job->n) {
        *out = job->rows[side] + first * job->d;
        return RECO_OK;
    }
    return reco_bank_gather(job->ctx, job->bank, side, job->id + first, n, room);
}

static reco_status place_spots(const reco_job *job, reco_side side, spot *spots, const float *held,
                               float *room, size_t fits)
{
    size_t d = job->d;
    const float *direction = room + fits * d, *x;
    for (size_t i = 0, n; i < job->total; i += n) {
        n = reco_min(fits, (i < job->n ? job->n : job->total) - i);
        RECO_TRY(vectors(job, side, i, n, held, room, &x));
        for (size_t q = 0; q < n; q++)
            spots[i + q] = (spot){reco_dot(direction, x + q * d, d), (uint32_t)(i + q)};
    }
    return RECO_OK;
}

/* Rows that are the same lie next to one another along any direction. Each is compared with those after it until one is
 * the same: the others follow from that one. */
static reco_status unite_rows(const reco_job *job, reco_side side, uint32_t *parent)
{
    enum { FITS = 64 };
    reco_ctx *ctx = job->ctx;
    reco_status status = RECO_OK;
    size_t d = job->d, n = job->total;
    double window = RECO_SAME * fmin(1, DEVIATIONS / sqrt((double)d));
    spot *spots = reco_alloc(ctx, n, sizeof *spots, "training pairs");
    float *room = reco_alloc(ctx, (FITS + 1) * d, sizeof *room, "training pairs"), *held = NULL;
    const float *x, *y;
    reco_rng rng;
    if (!spots || !room) RECO_GO(RECO_E_NOMEM);
    reco_rng_seed(&rng, 1);
    for (size_t i = 0; i < d; i++)
        room[FITS * d + i] = (float)((reco_rng_next(&rng) & 1 ? 1 : -1) / sqrt((double)d));
    RECO_GO(hold(job, side, &held));
    RECO_GO(place_spots(job, side, spots, held, room, FITS));
    qsort(spots, n, sizeof *spots, by_spot);
    for (size_t i = 0; i < n; i++) {
        x = NULL;
        for (size_t j = i + 1; j < n && spots[j].at - spots[i].at <= window; j++) {
            if (!x) RECO_GO(vectors(job, side, spots[i].item, 1, held, room, &x));
            RECO_GO(vectors(job, side, spots[j].item, 1, held, room + d, &y));
            if (!reco_is_same(x, y, d)) continue;
            unite(parent, spots[i].item, spots[j].item);
            break;
        }
    }
out:
    reco_free(held);
    reco_free(room);
    reco_free(spots);
    return status;
}

/* Numbers in the order of first appearance; a root is the first of its own. */
static size_t label(uint32_t *number, uint32_t *parent, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t root = reco_root(parent, (uint32_t)i);
        number[i] = root == i ? (uint32_t)count++ : number[root];
    }
    return count;
}

static int by_two(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    if (x[0] != y[0]) return x[0] < y[0] ? -1 : 1;
    return x[1] < y[1] ? -1 : x[1] > y[1];
}

/* The captions of each picture. */
static reco_status list_answers(const reco_job *job, reco_answers *a)
{
    reco_ctx *ctx = job->ctx;
    size_t n = job->total, kept = 0;
    a->start = reco_alloc(ctx, a->pictures + 1, sizeof *a->start, "training pairs");
    a->of = reco_alloc(ctx, n, sizeof *a->of, "training pairs");
    uint32_t *both = reco_alloc(ctx, 2 * n, sizeof *both, "training pairs");
    if (!a->start || !a->of || !both) {
        reco_free(both);
        return RECO_E_NOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        both[2 * i] = a->picture[i];
        both[2 * i + 1] = a->caption[i];
    }
    qsort(both, n, 2 * sizeof *both, by_two);
    for (size_t i = 0; i < n; i++) {
        if (i && by_two(both + 2 * i, both + 2 * i - 2) == 0) continue;
        a->of[kept++] = both[2 * i + 1];
        a->start[both[2 * i] + 1] = (uint32_t)kept;
    }
    reco_free(both);
    return RECO_OK;
}

reco_status reco_job_number(reco_job *job)
{
    reco_ctx *ctx = job->ctx;
    reco_status status = RECO_OK;
    reco_answers *a = &job->same;
    size_t n = job->total;
    uint32_t **number[2] = {&a->picture, &a->caption}; /* by the side whose vectors make them the same */
    size_t *count[2] = {&a->pictures, &a->captions};
    uint32_t *parent = reco_alloc(ctx, n, sizeof *parent, "training pairs");
    if (!parent) return RECO_E_NOMEM;
    for (int side = 0; side < 2; side++) {
        if (!(*number[side] = reco_alloc(ctx, n, sizeof **number[side], "training pairs")))
            RECO_GO(RECO_E_NOMEM);
        for (size_t i = 0; i < n; i++) parent[i] = (uint32_t)i;
        RECO_GO(unite_keys(job, job->keys[side], parent));
        RECO_GO(unite_rows(job, (reco_side)side, parent));
        *count[side] = label(*number[side], parent, n);
    }
    RECO_GO(list_answers(job, a));
out:
    reco_free(parent);
    return status;
}
