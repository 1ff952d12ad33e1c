#include "train/train_internal.h"

#include <math.h>
#include <stdlib.h>

enum { RESAMPLES = 400, LEAST_TWINS = 20 };
/* A gain counts when it is above its standard error, and worth having at all. That is no proof, nor need it be: where
 * retrieval says nothing the gate closes by itself, and what is chosen then by luck changes next to nothing. On 42
 * splits of real pairs, a bar of two errors halved what was won and one did not lose. */
#define CLEAR 1.0

/* Outcomes of one caption, added up. Pairs of one caption fare alike, and it is captions that come later: they are what is
 * drawn anew, not pairs. */
typedef struct concept {
    double sum[3][RECO_CHOICES], count[3]; /* by kind */
}
concept;

typedef struct member {
    uint32_t caption, at; /* at: place among the outcomes */
} member;

static int by_caption_and_place(const void *a, const void *b)
{
    const member *x = a, *y = b;
    if (x->caption != y->caption) return x->caption < y->caption ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

static void join_concepts(concept *to, const concept *c)
{
    for (int kind = 0; kind < 3; kind++) {
        for (int choice = 0; choice < RECO_CHOICES; choice++) to->sum[kind][choice] += c->sum[kind][choice];
        to->count[kind] += c->count[kind];
    }
}

/* concepts [n]; members [n] is scratch. Returns how many. */
static size_t group(const reco_job *job, const reco_outcome *o, bool twins, member *members,
                    concept *concepts)
{
    size_t n = job->nheld, count = 0;
    for (size_t i = 0; i < n; i++) members[i] = (member){job->same.caption[job->held[i]], (uint32_t)i};
    qsort(members, n, sizeof *members, by_caption_and_place);
    for (size_t i = 0; i < n; i++) {
        const reco_outcome *x = &o[members[i].at];
        concept one = {0};
        int kind = twins ? (int)x->twin : 0;
        for (int c = 0; c < RECO_CHOICES; c++) one.sum[kind][c] = (double)x->reciprocal[1][c];
        one.count[kind] = 1;
        if (i == 0 || members[i].caption != members[i - 1].caption) concepts[count++] = (concept){0};
        join_concepts(&concepts[count - 1], &one);
    }
    return count;
}

/* What each choice of sides is worth: the mean of 1/rank, which moves with every rank and so is steadier than recall@1; or,
 * where the memory holds the captions with other pictures, the harmonic mean of that over the captions that CLIP knows and
 * those it does not (docs/train.md says why). */
static void score_of(double score[RECO_CHOICES], const concept *all, bool twins)
{
    for (int c = 0; c < RECO_CHOICES; c++) {
        double unknown = all->sum[RECO_TWIN_UNKNOWN][c] / fmax(1, all->count[RECO_TWIN_UNKNOWN]);
        double known = all->sum[RECO_TWIN_KNOWN][c] / fmax(1, all->count[RECO_TWIN_KNOWN]);
        if (!twins)
            score[c] = all->sum[0][c] / fmax(1, all->count[0]);
        else
            score[c] = unknown + known > 0 ? 2 * unknown * known / (unknown + known) : 0;
    }
}

/* Are there enough captions of both kinds to tell them apart? */
static bool both_kinds(const reco_outcome *o, size_t n)
{
    size_t count[3] = {0};
    for (size_t i = 0; i < n; i++) count[(int)o[i].twin]++;
    return count[RECO_TWIN_UNKNOWN] >= LEAST_TWINS && count[RECO_TWIN_KNOWN] >= LEAST_TWINS;
}

/* Errors of the gains, by resampling: they are paired, so what CLIP and the choice share cancels. */
static void resample(reco_verdict *v, const concept *concepts, size_t n, bool twins)
{
    double square[RECO_CHOICES] = {0}, score[RECO_CHOICES];
    reco_rng rng;
    reco_rng_seed(&rng, n);
    for (int r = 0; r < RESAMPLES; r++) {
        concept drawn = {0};
        for (size_t i = 0; i < n; i++) join_concepts(&drawn, &concepts[reco_rng_below(&rng, n)]);
        score_of(score, &drawn, twins);
        for (int c = 1; c < RECO_CHOICES; c++) {
            double off = score[c] - score[0] - v->gain[c];
            square[c] += off * off;
        }
    }
    for (int c = 1; c < RECO_CHOICES; c++) v->error[c] = sqrt(square[c] / (double)RESAMPLES);
}

reco_status reco_choose(const reco_job *job, reco_verdict *v, const reco_outcome *o)
{
    reco_ctx *ctx = job->ctx;
    reco_status status = RECO_OK;
    size_t n = job->nheld;
    reco_mark mark = reco_scratch_mark(ctx);
    member *members = reco_scratch(ctx, n, sizeof *members, "verdict");
    concept *concepts = reco_scratch(ctx, n, sizeof *concepts, "verdict"), all = {0};
    if (!members || !concepts) RECO_GO(RECO_E_NOMEM);
    bool twins = job->twins && both_kinds(o, n);
    *v = (reco_verdict){.pairs = n};
    for (size_t i = 0; i < n; i++)
        for (int c = 0; c < RECO_CHOICES; c++) {
            v->recall[c] += 100 * (double)o[i].hit[c] / (double)n;
            for (int kind = 0; kind < 2; kind++)
                v->kinds[kind][c] += (double)o[i].reciprocal[kind][c] / (double)n;
        }
    size_t captions = group(job, o, twins, members, concepts);
    for (size_t i = 0; i < captions; i++) join_concepts(&all, &concepts[i]);
    score_of(v->score, &all, twins);
    for (int c = 1; c < RECO_CHOICES; c++) v->gain[c] = v->score[c] - v->score[0];
    resample(v, concepts, captions, twins);
    for (int c = 1; c < RECO_CHOICES; c++)
        if (v->best == RECO_SIDES_NONE || v->gain[c] - v->error[c] > v->merit) {
            v->best = (reco_sides)c;
            v->merit = v->gain[c] - v->error[c];
        }
    /* Each side finds the concept by a search of its own. When one side is no better than both by more than the error, that is
     * a tie, and both sides, the paper's own way, are refined. */
    if (v->gain[RECO_SIDES_BOTH] >= v->gain[v->best] - v->error[v->best]) {
        v->best = RECO_SIDES_BOTH;
        v->merit = v->gain[v->best] - v->error[v->best];
    }
    bool clear = v->gain[v->best] >= RECO_LEAST_GAIN && v->gain[v->best] > CLEAR * v->error[v->best];
    if (!twins && v->recall[v->best] < v->recall[0]) clear = false;
    v->sides = clear ? v->best : RECO_SIDES_NONE;
out:
    reco_scratch_release(ctx, mark);
    return status;
}
