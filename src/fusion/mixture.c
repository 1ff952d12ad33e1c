#include "fusion/fusion.h"
#include "kernels/kernels.h"

#include <math.h>

reco_status reco_mixture_check(reco_ctx *ctx, const reco_mixture *m)
{
    double sum = (double)m->clip + (double)m->refined;
    if (!(m->clip >= 0 && m->refined >= 0 && sum <= 1 + 1e-6))
        return reco_fail(ctx, RECO_E_ARG,
                         "mixture: weights %g and %g, want two of 0 or more, together at most 1",
                         (double)m->clip, (double)m->refined);
    for (int e = 0; e < 3; e++)
        if (!(m->scale[e] > 0 && m->scale[e] <= RECO_MIXTURE_MAX_SCALE))
            return reco_fail(ctx, RECO_E_ARG, "mixture: scale %g, want more than 0 and at most %g",
                             (double)m->scale[e], (double)RECO_MIXTURE_MAX_SCALE);
    if (m->voters > RECO_VOTES_MAX)
        return reco_fail(ctx, RECO_E_ARG, "mixture: %u voters, want at most %d", m->voters, RECO_VOTES_MAX);
    return RECO_OK;
}

float reco_vote_weights(const reco_ctx *ctx, float scale, const float *scores, const uint32_t *of, size_t n,
                        float *weights)
{
    float found = 0;
    for (size_t i = 0; i < n; i++) weights[i] = scale * scores[i];
    if (n) reco_softmax_row(ctx, weights, n);
    for (size_t i = 0; i < n; i++) found += of[i] == RECO_NO_CANDIDATE ? 0 : weights[i];
    return found;
}

typedef struct job {
    const reco_ctx *ctx;
    const reco_mixture *m;
    const float *plain, *refined;
    const reco_votes *votes;
    size_t c;
    float *p, *other; /* [n][c] */
} job;

static void sharpen(const reco_ctx *ctx, float *p, const float *cosines, float scale, size_t c)
{
    for (size_t j = 0; j < c; j++) p[j] = scale * cosines[j];
    reco_softmax_row(ctx, p, c);
}

static void mix(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const job *w = arg;
    size_t c = w->c;
    float a = w->m->clip, b = w->m->refined, v = fmaxf(0, 1 - a - b);
    for (size_t i = begin; i < end; i++) {
        float *p = w->p + i * c, *q = w->other + i * c, weights[RECO_VOTES_MAX], heard = 0;
        const uint32_t *of = w->votes ? w->votes->of + i * w->votes->k : NULL;
        size_t n = w->votes ? w->votes->counts[i] : 0;
        if (n)
            heard = reco_vote_weights(w->ctx, w->m->scale[2], w->votes->scores + i * w->votes->k, of, n,
                                      weights);
        sharpen(w->ctx, p, w->plain + i * c, w->m->scale[0], c);
        float all = a + b + v * heard;
        if (!(all > 0)) continue; /* nobody else has anything to say */
        if (b > 0)
            sharpen(w->ctx, q, w->refined + i * c, w->m->scale[1], c);
        else
            memset(q, 0, c * sizeof *q);
        for (size_t j = 0; j < c; j++) p[j] = (a * p[j] + b * q[j]) / all;
        for (size_t h = 0; h < n; h++)
            if (of[h] != RECO_NO_CANDIDATE) p[of[h]] += v * weights[h] / all;
    }
}

reco_status reco_mixture_posterior(reco_ctx *ctx, const reco_mixture *m, const float *plain,
                                   const float *refined, const reco_votes *votes, size_t n, size_t c,
                                   float *p)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    RECO_TRY(reco_mixture_check(ctx, m));
    RECO_TRY(reco_reserved(ctx, "mixture", votes ? votes->reserved : NULL));
    if (votes && votes->k > RECO_VOTES_MAX)
        return reco_fail(ctx, RECO_E_ARG, "mixture: %zu neighbours, want at most %d", votes->k,
                         RECO_VOTES_MAX);
    for (size_t i = 0; votes && i < n; i++) {
        if (votes->counts[i] > votes->k)
            return reco_fail(ctx, RECO_E_ARG, "mixture: %zu neighbours, want at most %zu", votes->counts[i],
                             votes->k);
        for (size_t h = 0; h < votes->counts[i]; h++) {
            uint32_t of = votes->of[i * votes->k + h];
            if (of >= c && of != RECO_NO_CANDIDATE)
                return reco_fail(ctx, RECO_E_ARG, "mixture: candidate %u, want below %zu", of, c);
        }
    }
    float *other = reco_scratch(ctx, n * c, sizeof *other, "posteriors");
    if (!other) RECO_GO(RECO_E_NOMEM);
    reco_parallel(ctx, n, 1, mix, &(job){ctx, m, plain, refined, votes, c, p, other});
out:
    reco_scratch_release(ctx, mark);
    return status;
}
