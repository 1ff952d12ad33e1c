/* Ranking by the experts and by their mixture. */
#include "fusion/fusion.h"
#include "kernels/kernels.h"
#include "query/classifier.h"

/* Floats of one matrix of pictures x candidates. */
#define BLOCK (1u << 22)
#define PICTURES 256

typedef struct job {
    const reco_ctx *ctx;
    const reco_ranking *out;
    const float *by, *cosines; /* [m][n] what ranks, and what is shown */
    float *p;                  /* [m][n]; NULL: to be made of `by`, in place of it */
    float scale;
    float *best; /* [m][top] */
    size_t first, n;
} job;

static void rank(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const job *j = arg;
    const reco_ranking *out = j->out;
    for (size_t i = begin; i < end; i++) {
        const float *by = j->by + i * j->n;
        float *p = j->p + i * j->n, *best = j->best + i * out->top;
        size_t count = 0, to = (j->first + i) * out->top;
        int64_t *of = out->of ? out->of + to : NULL;
        if (p != by && (out->p || out->all)) {
            for (size_t c = 0; c < j->n; c++) p[c] = j->scale * by[c];
            reco_softmax_row(j->ctx, p, j->n);
        }
        for (size_t c = 0; of && c < j->n; c++)
            reco_topk_offer(best, of, &count, out->top, by[c], (int64_t)c);
        for (size_t t = 0; of && t < out->top; t++) {
            if (t >= count) of[t] = -1;
            if (out->p) out->p[to + t] = t < count ? p[of[t]] : 0;
            if (out->score) out->score[to + t] = t < count ? j->cosines[i * j->n + (size_t)of[t]] : 0;
        }
        if (out->all) memcpy(out->all + (j->first + i) * j->n, p, j->n * sizeof *p);
    }
}

reco_status reco_classifier_rank(reco_ctx *ctx, const reco_classifier *c, const reco_findings *f,
                                 const reco_mixture *by, const reco_ranking *out)
{
    reco_mixture m = by ? *by : c->s.mixture.scale[0] > 0 ? c->s.mixture : (reco_mixture){.refined = 1};
    bool clip = m.clip == 1, refined = m.refined == 1, alone = clip || refined;
    for (int e = 0; e < 3; e++)
        if (m.scale[e] == 0) m.scale[e] = c->scale;
    size_t n = c->c.n, d = c->c.d, some = reco_max(1, reco_min(PICTURES, BLOCK / reco_max(n, 1)));
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    float *plain = reco_scratch(ctx, some * n, sizeof *plain, "scores"),
          *better = reco_scratch(ctx, some * n, sizeof *better, "scores"),
          *p = reco_scratch(ctx, some * n, sizeof *p, "scores"),
          *best = reco_scratch(ctx, some * out->top, sizeof *best, "scores");
    if (!plain || !better || !p || !best) RECO_GO(RECO_E_NOMEM);
    RECO_GO(reco_reserved(ctx, "classes", out->reserved));
    RECO_GO(reco_mixture_check(ctx, &m));
    if (!out->of && (out->p || out->score))
        RECO_GO(reco_fail(ctx, RECO_E_ARG, "ranking: probabilities and cosines need a list of candidates"));
    for (size_t i = 0; i < f->n; i += some) {
        size_t k = reco_min(some, f->n - i);
        if (!refined)
            RECO_GO(reco_gemm(ctx, plain, n, f->plain + i * d, d, false, c->plain, d, true, k, n, d, 1, 0));
        if (!clip)
            RECO_GO(reco_gemm(ctx, better, n, f->refined + i * d, d, false, c->refined, d, true, k, n, d, 1,
                              0));
        reco_votes votes = {.scores = (f->near ? f->near : f->scores) + i * f->reach,
                            .of = f->of + i * f->reach,
                            .counts = f->voters + i,
                            .k = f->reach};
        if (!alone)
            RECO_GO(reco_mixture_posterior(ctx, &m, plain, better, c->s.voters ? &votes : NULL, k, n, p));
        const float *shown = clip ? plain : better;
        job j = {ctx, out, alone ? shown : p, shown, p, m.scale[clip ? 0 : 1], best, i, n};
        reco_parallel(ctx, k, 4, rank, &j);
    }
out:
    reco_scratch_release(ctx, mark);
    return status;
}
