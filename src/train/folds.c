#include "train/train_internal.h"

#include <math.h>
#include <stdlib.h>

/* With fewer pairs every fold is held out in turn, so that each pair is judged; with more, one fold is plenty. */
#define CROSS_VALIDATED 5000

/* Pairs of one caption, or of one picture: members[first, first+n) */
typedef struct set {
    size_t first, n;
} set;

typedef struct linking {
    uint32_t *members; /* [2n] */
    set *sets;         /* those of two pairs or more, small ones first */
    size_t nsets;
    uint32_t *parent, *size, *seen; /* [n]; size: pairs of a root; seen: by which set */
    size_t distinct[2];             /* pictures, captions */
    size_t broken;                  /* sets that were left apart */
} linking;

static int by_size(const void *a, const void *b)
{
    const set *x = a, *y = b;
    if (x->n != y->n) return x->n < y->n ? -1 : 1;
    return x->first < y->first ? -1 : x->first > y->first;
}

/* The sets of one kind, given the number of each pair; start is scratch [count + 1]. */
static void collect_sets(linking *l, const uint32_t *number, size_t n, size_t count, uint32_t *start,
                         int kind)
{
    uint32_t *members = l->members + (size_t)kind * n;
    memset(start, 0, (count + 1) * sizeof *start);
    for (size_t i = 0; i < n; i++) start[number[i] + 1]++;
    for (size_t c = 0; c < count; c++) {
        size_t size = start[c + 1];
        l->distinct[kind] += size > 0;
        if (size > 1) l->sets[l->nsets++] = (set){(size_t)kind * n + start[c], size};
        start[c + 1] += start[c];
    }
    for (size_t i = n; i-- > 0;) members[--start[number[i] + 1]] = (uint32_t)i;
}

/* Unite the set's pairs, unless they and all that hangs on them are more than most. */
static bool unite(linking *l, const set *s, uint32_t stamp, size_t most)
{
    size_t sum = 0;
    for (size_t i = 0; i < s->n; i++) {
        uint32_t root = reco_root(l->parent, l->members[s->first + i]);
        if (l->seen[root] != stamp) sum += l->size[root];
        l->seen[root] = stamp;
    }
    if (sum > most) return false;
    uint32_t top = reco_root(l->parent, l->members[s->first]);
    for (size_t i = 1; i < s->n; i++) l->parent[reco_root(l->parent, l->members[s->first + i])] = top;
    l->size[top] = (uint32_t)sum;
    return true;
}

/* Pairs that hang together, through captions or pictures that they share, by one root. Where all would hang together (a
 * picture that stands for many captions, a caption for many pictures) the largest sets are left apart: they make the
 * links, and each of them is one caption or picture. */
static reco_status link_pairs(const reco_job *job, linking *l)
{
    reco_ctx *ctx = job->ctx;
    size_t n = job->n, room = reco_max(job->same.captions, job->same.pictures) + 1;
    l->members = reco_alloc(ctx, 2 * n, sizeof *l->members, "training pairs");
    l->sets = reco_alloc(ctx, n, sizeof *l->sets, "training pairs");
    l->parent = reco_alloc(ctx, n, sizeof *l->parent, "training pairs");
    l->size = reco_alloc(ctx, n, sizeof *l->size, "training pairs");
    l->seen = reco_alloc(ctx, n, sizeof *l->seen, "training pairs");
    uint32_t *start = reco_alloc(ctx, room, sizeof *start, "training pairs");
    if (!l->members || !l->sets || !l->parent || !l->size || !l->seen || !start) {
        reco_free(start);
        return RECO_E_NOMEM;
    }
    collect_sets(l, job->same.picture, n, job->same.pictures, start, 0);
    collect_sets(l, job->same.caption, n, job->same.captions, start, 1);
    reco_free(start);
    qsort(l->sets, l->nsets, sizeof *l->sets, by_size);
    size_t most = (n + job->folds - 1) / job->folds;
    if (l->nsets) most = reco_max(most, l->sets[l->nsets - 1].n);
    for (size_t i = 0; i < n; i++) {
        l->parent[i] = (uint32_t)i;
        l->size[i] = 1;
    }
    for (size_t s = 0; s < l->nsets; s++) l->broken += !unite(l, &l->sets[s], (uint32_t)s + 1, most);
    return RECO_OK;
}

/* What hangs together goes to one fold: shuffled, then each to the fold that is smallest so far. */
static reco_status deal(reco_job *job, linking *l)
{
    reco_ctx *ctx = job->ctx;
    size_t roots = 0;
    uint32_t *order = l->seen; /* free by now */
    for (size_t i = 0; i < job->n; i++)
        if (reco_root(l->parent, (uint32_t)i) == i) order[roots++] = (uint32_t)i;
    size_t want = 2 * job->folds;
    if (l->distinct[0] < want || l->distinct[1] < want || roots < job->folds)
        return reco_fail(ctx, RECO_E_ARG,
                         "train: %zu pair%s of %zu picture%s and %zu caption%s, want at least %zu of each",
                         job->n, reco_s(job->n), l->distinct[0], reco_s(l->distinct[0]), l->distinct[1],
                         reco_s(l->distinct[1]), want);
    size_t *filled = reco_alloc(ctx, job->folds, sizeof *filled, "training pairs");
    if (!filled) return RECO_E_NOMEM;
    reco_rng rng;
    reco_rng_seed(&rng, job->o.seed);
    reco_rng_shuffle(&rng, order, roots);
    for (size_t r = 0; r < roots; r++) {
        size_t least = 0;
        for (size_t f = 1; f < job->folds; f++)
            if (filled[f] < filled[least]) least = f;
        job->fold[order[r]] = (uint32_t)least;
        filled[least] += l->size[order[r]];
    }
    reco_free(filled);
    for (size_t i = 0; i < job->n; i++) job->fold[i] = job->fold[reco_root(l->parent, (uint32_t)i)];
    if (l->broken)
        reco_log(ctx, RECO_LOG_WARN,
                 "train: shared pictures and captions link more than %g of all pairs: %zu of them are on "
                 "both sides of the validation split",
                 job->o.validation, l->broken);
    return RECO_OK;
}

/* The pairs that each run holds out and judges; of a large fold a random part. */
reco_status reco_job_hold(reco_job *job)
{
    reco_ctx *ctx = job->ctx;
    reco_free(job->held);
    reco_free(job->held_start);
    job->held = NULL;
    job->held_start = NULL;
    job->runs = job->trained == job->n && !reco_layer_memorises(job->o.layer) && job->n <= CROSS_VALIDATED
                    ? job->folds
                    : 1;
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

/* Two folds: what is judged on, and what is trained on. */
static reco_status split_judged(reco_job *job)
{
    job->folds = 2;
    job->fold = reco_alloc(job->ctx, job->n, sizeof *job->fold, "training pairs");
    if (!job->fold) return RECO_E_NOMEM;
    for (size_t i = 0; i < job->n; i++) job->fold[i] = i < job->trained;
    return reco_job_hold(job);
}

reco_status reco_job_split(reco_job *job)
{
    linking l = {0};
    if (job->trained < job->n) return split_judged(job);
    job->folds = (size_t)lround(1 / job->o.validation);
    job->fold = reco_alloc(job->ctx, job->n, sizeof *job->fold, "training pairs");
    reco_status status = job->fold ? link_pairs(job, &l) : RECO_E_NOMEM;
    if (status == RECO_OK) status = deal(job, &l);
    if (status == RECO_OK) status = reco_job_hold(job);
    reco_free(l.seen);
    reco_free(l.size);
    reco_free(l.parent);
    reco_free(l.sets);
    reco_free(l.members);
    return status;
}
