#include "train/train_internal.h"
#include "io/io.h"

#include <math.h>
#include <stdlib.h>

enum { LEAST_PAIRS = 10 };
/* With fewer pairs every fold is held out in turn, so that each pair is judged; with more, one fold is plenty. */
#define CROSS_VALIDATED 5000

typedef struct keyed {
    uint64_t key;
    uint32_t item;
} keyed;

static int by_key(const void *a, const void *b)
{
    const keyed *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return x->item < y->item ? -1 : x->item > y->item;
}

/* Live rows of the bank, as pairs. */
static reco_status load_own(reco_job *job)
{
    reco_ctx *ctx = job->ctx;
    job->own = reco_alloc(ctx, job->n, sizeof *job->own, "training pairs");
    if (!job->own) return RECO_E_NOMEM;
    for (size_t n = 0, got = 0; n < job->n; n += got) {
        RECO_TRY(
            reco_bank_ids(ctx, job->bank, n ? job->own[n - 1] + 1 : 0, job->n - n, job->own + n, &got));
        if (got == 0)
            return reco_fail(ctx, RECO_E_INTERNAL, "train: the bank gave %zu of %zu ids", n, job->n);
    }
    for (int side = 0; side < 2; side++) {
        job->rows[side] = job->owned[side] =
            reco_alloc(ctx, job->n * job->d, sizeof(float), "training pairs");
        if (!job->owned[side]) return RECO_E_NOMEM;
        RECO_TRY(reco_bank_gather(ctx, job->bank, (reco_side)side, job->own, job->n, job->owned[side]));
    }
    return RECO_OK;
}

/* What makes two captions the same: their text; where that is not known, their embedding, which follows from it. */
static reco_status caption_key(const reco_job *job, uint64_t *key, size_t i)
{
    if (job->own) {
        reco_pair pair;
        RECO_TRY(reco_bank_get(job->ctx, job->bank, job->own[i], &pair));
        size_t bytes = pair.caption ? strlen(pair.caption) : 0;
        if (bytes) *key = reco_hash64(pair.caption, bytes, 0);
        reco_pair_free(&pair);
        if (bytes) return RECO_OK;
    }
    *key = reco_hash64(job->rows[RECO_TEXT] + i * job->d, job->d * sizeof(float), 1);
    return RECO_OK;
}

/* Groups by caption, and folds by group: shuffled, then dealt in turn, so that folds are of one size. */
static reco_status split(reco_job *job, const uint64_t *captions)
{
    reco_ctx *ctx = job->ctx;
    reco_status status = RECO_OK;
    size_t n = job->n, groups = 0;
    uint32_t *order = NULL;
    keyed *k = reco_alloc(ctx, n, sizeof *k, "training pairs");
    if (!k) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < n; i++) {
        k[i].item = (uint32_t)i;
        if (captions)
            k[i].key = captions[i];
        else
            RECO_GO(caption_key(job, &k[i].key, i));
    }
    qsort(k, n, sizeof *k, by_key);
    for (size_t i = 0; i < n; i++) {
        groups += i == 0 || k[i].key != k[i - 1].key;
        job->group[k[i].item] = (uint32_t)(groups - 1);
    }
    job->folds = (size_t)lround(1 / job->o.validation);
    if (groups < 2 * job->folds)
        RECO_GO(reco_fail(ctx, RECO_E_ARG, "train: %zu pairs of %zu captions, want at least %zu captions",
                          n, groups, 2 * job->folds));
    order = reco_alloc(ctx, groups, sizeof *order, "training pairs");
    if (!order) RECO_GO(RECO_E_NOMEM);
    for (size_t g = 0; g < groups; g++) order[g] = (uint32_t)g;
    reco_rng rng;
    reco_rng_seed(&rng, job->o.seed);
    reco_rng_shuffle(&rng, order, groups);
    for (size_t g = 0; g < groups; g++)
        k[order[g]].item = (uint32_t)(g % job->folds); /* k is free by now */
    for (size_t i = 0; i < n; i++) job->fold[i] = k[job->group[i]].item;
out:
    reco_free(order);
    reco_free(k);
    return status;
}

/* The pairs that each run holds out and judges; of a large fold a random part. */
static reco_status list_held(reco_job *job)
{
    reco_ctx *ctx = job->ctx;
    job->runs = job->o.layer != RECO_LAYER_TRANSFORMER && job->n <= CROSS_VALIDATED ? job->folds : 1;
    job->held = reco_alloc(ctx, job->n, sizeof *job->held, "validation pairs");
    job->held_start = reco_alloc(ctx, job->runs + 1, sizeof *job->held_start, "validation pairs");
    if (!job->held || !job->held_start) return RECO_E_NOMEM;
    for (size_t run = 0; run < job->runs; run++) {
        uint32_t *held = job->held + job->held_start[run];
        size_t n = 0;
        for (size_t i = 0; i < job->n; i++)
            if (job->fold[i] == run) held[n++] = (uint32_t)i;
        if (n > RECO_MOST_JUDGED) {
            reco_rng rng;
            reco_rng_seed(&rng, job->o.seed + run);
            reco_rng_shuffle(&rng, held, n);
            n = RECO_MOST_JUDGED;
        }
        job->held_start[run + 1] = job->held_start[run] + n;
    }
    job->nheld = job->held_start[job->runs];
    return RECO_OK;
}

reco_status reco_job_load(reco_job *job, const float *image, const float *text, const uint64_t *captions,
                          size_t n)
{
    reco_ctx *ctx = job->ctx;
    reco_bank_info info = reco_bank_get_info(job->bank);
    job->d = info.d;
    job->n = image ? n : (size_t)info.rows;
    if (!image != !text) return reco_fail(ctx, RECO_E_ARG, "train: image and text go together");
    if (job->n < LEAST_PAIRS || job->n > UINT32_MAX)
        return reco_fail(ctx, RECO_E_ARG, "train: %zu pairs, want %d..%u", job->n, LEAST_PAIRS, UINT32_MAX);
    size_t rows = (size_t)info.rows;
    RECO_TRY(reco_train_resolve(ctx, &job->o, job->n, job->d, image || rows == 0 ? rows : rows - 1));
    job->group = reco_alloc(ctx, job->n, sizeof *job->group, "training pairs");
    job->fold = reco_alloc(ctx, job->n, sizeof *job->fold, "training pairs");
    if (!job->group || !job->fold) return RECO_E_NOMEM;
    if (image) {
        job->rows[RECO_IMAGE] = image;
        job->rows[RECO_TEXT] = text;
    } else
        RECO_TRY(load_own(job));
    RECO_TRY(split(job, image ? captions : NULL));
    return list_held(job);
}

size_t reco_job_index(const reco_job *job, int64_t id)
{
    size_t low = 0, high = job->own ? job->n : 0;
    if (high && id >= job->own[0] && (uint64_t)(id - job->own[0]) < high) {
        size_t guess = (size_t)(id - job->own[0]); /* right where nothing has been deleted */
        if (job->own[guess] == id) return guess;
    }
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (job->own[middle] < id)
            low = middle + 1;
        else
            high = middle;
    }
    return job->own && low < job->n && job->own[low] == id ? low : job->n;
}

void reco_job_clear(reco_job *job)
{
    for (int side = 0; side < 2; side++) {
        reco_free(job->owned[side]);
        reco_free(job->ids[side]);
        reco_free(job->scores[side]);
    }
    reco_free(job->held_start);
    reco_free(job->held);
    reco_free(job->fold);
    reco_free(job->group);
    reco_free(job->own);
}
