#include "train/train_internal.h"

#include <math.h>

enum { TENTHS = 11 };
/* Products of the same vectors in another order differ by less. */
#define TIE 1e-6f

/* What a weight of CLIP in the mixture of cosines does for the queries. */
typedef struct point {
    double share, won, reciprocal;
} point;

/* How many candidates are before query i's right one, which is the first. */
static size_t rank_of(const reco_queries *q, size_t i, float weight)
{
    const float *plain = q->plain + i * q->width, *refined = q->refined + i * q->width;
    float right = weight * plain[0] + (1 - weight) * refined[0] - TIE;
    size_t rank = 0;
    for (size_t j = 1; j < q->count[i]; j++) rank += weight * plain[j] + (1 - weight) * refined[j] >= right;
    return rank;
}

static point judge_weight(const reco_queries *q, float weight)
{
    point p = {0};
    double wrong = 0, n = (double)q->n;
    for (size_t i = 0; i < q->n; i++) {
        size_t rank = rank_of(q, i, weight);
        int clip = rank_of(q, i, 1) == 0, hit = rank == 0;
        p.share += hit / n;
        p.reciprocal += 1 / (1 + (double)rank) / n;
        p.won += !clip && hit;
        wrong += !clip;
    }
    p.won /= fmax(1, wrong);
    return p;
}

/* The error of what a weight gains over CLIP. */
static reco_status error_of(const reco_job *job, const reco_queries *q, float weight, double *error)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(job->ctx);
    float *hit = reco_scratch(job->ctx, q->n, sizeof *hit, "mixture"),
          *clip = reco_scratch(job->ctx, q->n, sizeof *clip, "mixture");
    if (!hit || !clip) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < q->n; i++) {
        hit[i] = rank_of(q, i, weight) == 0;
        clip[i] = rank_of(q, i, 1) == 0;
    }
    RECO_GO(reco_queries_error(job, q, hit, clip, error));
out:
    reco_scratch_release(job->ctx, mark);
    return status;
}

/* By the rule that chooses the mixture of posteriors (mixture.c says why); 1/rank in the place of the likelihood, which cosines
 * do not have. */
reco_status reco_choose_concat(const reco_job *job, const reco_queries *q, float *weight)
{
    point at[TENTHS];
    double most = 0, won = 0;
    int best = TENTHS - 1;
    *weight = 1;
    if (q->n == 0) return RECO_OK;
    for (int a = 0; a < TENTHS; a++) {
        at[a] = judge_weight(q, (float)a / 10);
        most = fmax(most, at[a].share);
    }
    double clip = at[TENTHS - 1].share, least = most;
    if (job->twins && most > clip) least = clip + (most - clip) / 2;
    for (int a = 0; a < TENTHS; a++)
        if (job->twins && at[a].share >= least) won = fmax(won, at[a].won);
    if (clip < 1) won -= sqrt(won * (1 - won) / ((1 - clip) * (double)q->n));
    double found = -1;
    for (int a = TENTHS; a-- > 0;) /* of equals, the one nearest to CLIP */
        if (at[a].share >= least && at[a].won >= won && at[a].reciprocal > found) {
            found = at[a].reciprocal;
            best = a;
        }
    double error;
    RECO_TRY(error_of(job, q, (float)best / 10, &error));
    if (at[best].share - clip > error) *weight = (float)best / 10;
    return RECO_OK;
}
