#include "kernels/kernels.h"
#include "reco/eval.h"

#include <math.h>

/* Floats of one matrix of queries x candidates. */
#define BLOCK (1u << 22)
#define QUERIES 256
/* Scores nearer than this are ties, as in reco_rank. */
#define TIE 1e-6f

static const size_t depths[RECO_RECALLS] = RECO_RECALL_DEPTHS;

static reco_status check_retrieval(reco_ctx *ctx, const reco_retrieval_rows *rows,
                                   const reco_mixture *mixture)
{
    RECO_TRY(reco_reserved(ctx, "eval", rows->reserved));
    if (rows->nimages >= UINT32_MAX || rows->ncaptions >= UINT32_MAX)
        return reco_fail(ctx, RECO_E_ARG, "eval: %zu pictures and %zu captions, want fewer", rows->nimages,
                         rows->ncaptions);
    for (size_t j = 0; j < rows->ncaptions; j++)
        if (rows->of[j] >= rows->nimages)
            return reco_fail(ctx, RECO_E_ARG, "eval: caption %zu is of picture %u, want below %zu", j,
                             rows->of[j], rows->nimages);
    if (mixture && !(rows->plain_images && rows->plain_captions))
        return reco_fail(ctx, RECO_E_ARG, "eval: a mixture needs plain rows");
    return RECO_OK;
}

/* Which candidates are right for a query: of a picture's captions those that are `of` it, of a caption's picture the one. */
typedef struct side {
    const float *x, *refined_x, *y, *refined_y; /* queries, candidates */
    const uint32_t *query_of, *of;              /* picture of each query, of each candidate; NULL: itself */
    size_t n, c, d;
} side;

static uint32_t own(const uint32_t *of, size_t i) { return of ? of[i] : (uint32_t)i; }

typedef struct ranking {
    const side *s;
    const float *scores; /* [queries][c] */
    uint32_t *ranks;
    size_t first;
    float tie;
} ranking;

/* How many wrong candidates come before the best right one: those that score more, and of equal ones the earlier. */
static void rank_queries(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const ranking *r = arg;
    const side *s = r->s;
    for (size_t i = begin; i < end; i++) {
        const float *p = r->scores + i * s->c;
        uint32_t picture = own(s->query_of, r->first + i), before = 0;
        size_t best = s->c;
        for (size_t j = 0; j < s->c; j++)
            if (own(s->of, j) == picture && (best == s->c || p[j] > p[best] + r->tie)) best = j;
        for (size_t j = 0; j < s->c && best < s->c; j++)
            if (own(s->of, j) != picture)
                before += p[j] > p[best] + r->tie || (j < best && p[j] >= p[best] - r->tie);
        r->ranks[r->first + i] = best < s->c ? before : RECO_NO_RANK;
    }
}

static reco_status rank_side(reco_ctx *ctx, const side *s, const reco_mixture *mixture,
                             const reco_votes *votes, uint32_t *ranks)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    size_t some = reco_max(1, reco_min(QUERIES, BLOCK / reco_max(s->c, 1))), c = s->c, d = s->d;
    float *S[3] = {0};
    for (int i = 0; i < (mixture ? 3 : 1); i++)
        if (!(S[i] = reco_scratch(ctx, some * c, sizeof(float), "scores"))) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < s->n; i += some) {
        size_t m = reco_min(some, s->n - i);
        ranking r = {s, S[mixture ? 2 : 0], ranks, i, mixture ? 0 : TIE};
        RECO_GO(
            reco_gemm(ctx, S[0], c, s->refined_x + i * d, d, false, s->refined_y, d, true, m, c, d, 1, 0));
        if (mixture) {
            reco_votes part = {0};
            if (votes)
                part = (reco_votes){.scores = votes->scores + i * votes->k,
                                    .of = votes->of + i * votes->k,
                                    .counts = votes->counts + i,
                                    .k = votes->k};
            RECO_GO(reco_gemm(ctx, S[1], c, s->x + i * d, d, false, s->y, d, true, m, c, d, 1, 0));
            RECO_GO(reco_mixture_posterior(ctx, mixture, S[1], S[0], votes ? &part : NULL, m, c, S[2]));
        }
        reco_parallel(ctx, m, 4, rank_queries, &r);
        RECO_GO(reco_progress(ctx, "ranking", i + m, s->n));
    }
out:
    reco_scratch_release(ctx, mark);
    return status;
}

static void tally(double recall[RECO_RECALLS], const uint32_t *ranks, size_t n)
{
    size_t counted = 0, found[RECO_RECALLS] = {0};
    for (size_t i = 0; i < n; i++) {
        counted += ranks[i] != RECO_NO_RANK;
        for (int k = 0; k < RECO_RECALLS; k++) found[k] += ranks[i] < depths[k];
    }
    for (int k = 0; k < RECO_RECALLS; k++)
        recall[k] = counted ? (double)found[k] / (double)counted : (double)NAN;
}

reco_status reco_eval_retrieval(reco_ctx *ctx, reco_retrieval_scores *scores, uint32_t *const ranks[2],
                                const reco_retrieval_rows *rows, const reco_mixture *mixture,
                                const reco_votes *votes)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    RECO_TRY(check_retrieval(ctx, rows, mixture));
    size_t n = rows->nimages, m = rows->ncaptions, d = rows->d;
    const side sides[2] = {
        {rows->plain_images, rows->images, rows->plain_captions, rows->captions, NULL, rows->of, n, m, d},
        {rows->plain_captions, rows->captions, rows->plain_images, rows->images, rows->of, NULL, m, n, d}};
    *scores = (reco_retrieval_scores){.images = n, .captions = m};
    for (int way = 0; way < 2; way++) {
        uint32_t *found =
            ranks && ranks[way] ? ranks[way] : reco_scratch(ctx, sides[way].n, sizeof *found, "ranks");
        if (!found) RECO_GO(RECO_E_NOMEM);
        RECO_GO(rank_side(ctx, &sides[way], mixture, way ? NULL : votes, found));
        tally(scores->recall[way], found, sides[way].n);
    }
out:
    reco_scratch_release(ctx, mark);
    return status;
}
