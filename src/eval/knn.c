/* The label vote of the nearest neighbours. */
#include "eval/marks.h"

#include <math.h>

typedef struct share {
    uint32_t class;
    float weight;
} share;

static reco_status check_votes(reco_ctx *ctx, float scale, const reco_votes *votes, size_t n, size_t c)
{
    RECO_TRY(reco_reserved(ctx, "kNN", votes->reserved));
    if (!(scale >= 0 && scale <= RECO_MIXTURE_MAX_SCALE))
        return reco_fail(ctx, RECO_E_ARG, "kNN: scale %g, want 0..%g", (double)scale,
                         (double)RECO_MIXTURE_MAX_SCALE);
    if (votes->k > RECO_VOTES_MAX)
        return reco_fail(ctx, RECO_E_ARG, "kNN: %zu neighbours, want at most %d", votes->k, RECO_VOTES_MAX);
    for (size_t i = 0; i < n; i++) {
        if (votes->counts[i] > votes->k)
            return reco_fail(ctx, RECO_E_ARG, "kNN: %zu neighbours, want at most %zu", votes->counts[i],
                             votes->k);
        for (size_t h = 0; h < votes->counts[i]; h++) {
            uint32_t of = votes->of[i * votes->k + h];
            if (of >= c && of != RECO_NO_CANDIDATE)
                return reco_fail(ctx, RECO_E_ARG, "kNN: class %u, want below %zu", of, c);
        }
    }
    return RECO_OK;
}

/* What the classes of the neighbours have, in the order in which they come up; how many classes. */
static size_t sum_votes(share *shares, float scale, const float *scores, const uint32_t *of, size_t count)
{
    size_t n = 0;
    float most = -INFINITY;
    for (size_t h = 0; h < count; h++) most = fmaxf(most, scores[h]);
    for (size_t h = 0; h < count; h++) {
        size_t at = 0;
        if (of[h] == RECO_NO_CANDIDATE) continue;
        while (at < n && shares[at].class != of[h]) at++;
        if (at == n) shares[n++] = (share){of[h], 0};
        shares[at].weight += scale > 0 ? expf(scale * (scores[h] - most)) : 1;
    }
    return n;
}

reco_status reco_eval_knn(reco_ctx *ctx, reco_class_scores *scores, int64_t *top, float scale,
                          const reco_votes *votes, size_t n, size_t c, const uint32_t *labels)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    reco_marks marks;
    RECO_GO(check_votes(ctx, scale, votes, n, c));
    RECO_GO(reco_marks_begin(ctx, &marks, top, labels, n, c));
    for (size_t i = 0; i < n; i++) {
        share shares[RECO_VOTES_MAX];
        float all = 0, first = 0;
        size_t at = i * votes->k,
               found = sum_votes(shares, scale, votes->scores + at, votes->of + at, votes->counts[i]);
        for (size_t s = 0; s < found; s++) all += shares[s].weight;
        for (size_t r = 0; r < reco_min(found, RECO_TOP); r++) {
            size_t best = 0; /* of equals the one that came up first, whose neighbour is nearest */
            for (size_t s = 1; s < found; s++)
                if (shares[s].weight > shares[best].weight) best = s;
            marks.top[i * RECO_TOP + r] = shares[best].class;
            if (r == 0) first = shares[best].weight;
            shares[best].weight = -1;
        }
        reco_marks_add(&marks, i, found ? first / all : 0);
    }
    reco_marks_end(&marks, scores);
out:
    reco_scratch_release(ctx, mark);
    return status;
}
