#include "train/train_internal.h"

#include <math.h>

enum { RESAMPLES = 400, LEAST_TWINS = 20 };
/* A gain counts when it is above its standard error, and worth having at all. That is no proof, nor need it be: where
 * retrieval says nothing the gate closes by itself, and what is chosen then by luck changes next to nothing. On 42
 * splits of real pairs, a bar of two errors halved what was won and one did not lose. */
#define CLEAR 1.0
#define LEAST_GAIN 0.004

/* What each choice of sides is worth on the pairs picked [n]: the mean of 1/rank, which moves with every rank and so
 * is steadier than recall@1; or, where the memory holds the captions with other pictures, the harmonic mean of that
 * over the captions that CLIP knows and those it does not (docs/train.md says why). */
static void scores_of(double score[RECO_CHOICES], const reco_outcome *o, const uint32_t *picked, size_t n,
                      bool twins)
{
    double sum[3][RECO_CHOICES] = {{0}}, count[3] = {0};
    for (size_t i = 0; i < n; i++) {
        const reco_outcome *x = &o[picked[i]];
        int kind = twins ? (int)x->twin : 0;
        for (int c = 0; c < RECO_CHOICES; c++) sum[kind][c] += (double)x->reciprocal[1][c];
        count[kind]++;
    }
    for (int c = 0; c < RECO_CHOICES; c++) {
        double unknown = sum[RECO_TWIN_UNKNOWN][c] / fmax(1, count[RECO_TWIN_UNKNOWN]);
        double known = sum[RECO_TWIN_KNOWN][c] / fmax(1, count[RECO_TWIN_KNOWN]);
        if (!twins)
            score[c] = sum[0][c] / fmax(1, count[0]);
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

reco_status reco_choose(const reco_job *job, reco_verdict *v, const reco_outcome *o)
{
    reco_ctx *ctx = job->ctx;
    size_t n = job->nheld;
    reco_mark mark = reco_scratch_mark(ctx);
    uint32_t *picked = reco_scratch(ctx, n, sizeof *picked, "verdict");
    if (!picked) return RECO_E_NOMEM;
    bool twins = job->twins && both_kinds(o, n);
    double square[RECO_CHOICES] = {0};
    *v = (reco_verdict){.pairs = n};
    for (size_t i = 0; i < n; i++) {
        picked[i] = (uint32_t)i;
        for (int c = 0; c < RECO_CHOICES; c++) {
            v->recall[c] += 100 * (double)o[i].hit[c] / (double)n;
            for (int kind = 0; kind < 2; kind++)
                v->kinds[kind][c] += (double)o[i].reciprocal[kind][c] / (double)n;
        }
    }
    scores_of(v->score, o, picked, n, twins);
    for (int c = 1; c < RECO_CHOICES; c++) v->gain[c] = v->score[c] - v->score[0];
    /* The error of a gain by resampling the pairs: they are paired, so what CLIP and the choice share cancels. */
    reco_rng rng;
    reco_rng_seed(&rng, n);
    for (int r = 0; r < RESAMPLES; r++) {
        double score[RECO_CHOICES];
        for (size_t i = 0; i < n; i++) picked[i] = (uint32_t)reco_rng_below(&rng, n);
        scores_of(score, o, picked, n, twins);
        for (int c = 1; c < RECO_CHOICES; c++) {
            double off = score[c] - score[0] - v->gain[c];
            square[c] += off * off;
        }
    }
    for (int c = 1; c < RECO_CHOICES; c++) {
        v->error[c] = sqrt(square[c] / (double)RESAMPLES);
        if (v->best == RECO_SIDES_NONE || v->gain[c] - v->error[c] > v->merit) {
            v->best = (reco_sides)c;
            v->merit = v->gain[c] - v->error[c];
        }
    }
    /* Where the memory holds the captions, each side finds the concept by a search of its own. When one side is no
     * better than both by more than the error, that is a tie, and both sides, the paper's own way, are refined. */
    if (twins && v->gain[RECO_SIDES_BOTH] >= v->gain[v->best] - v->error[v->best]) {
        v->best = RECO_SIDES_BOTH;
        v->merit = v->gain[v->best] - v->error[v->best];
    }
    bool clear = v->gain[v->best] >= LEAST_GAIN && v->gain[v->best] > CLEAR * v->error[v->best];
    if (!twins && v->recall[v->best] < v->recall[0]) clear = false;
    v->sides = clear ? v->best : RECO_SIDES_NONE;
    reco_scratch_release(ctx, mark);
    return RECO_OK;
}
