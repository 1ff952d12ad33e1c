/* The rows that took part in refining a class, over all of its prompts. */
#include "query/classifier.h"

#include <stdlib.h>

typedef struct share {
    int64_t id;
    float score, weight; /* the best of its scores, the mean of its weights */
} share;

/* Add to the rows that are there. */
static void add(share *rows, size_t *n, int64_t id, float score, float weight)
{
    size_t at = 0;
    while (at < *n && rows[at].id != id) at++;
    if (at == *n) rows[(*n)++] = (share){id, score, 0};
    rows[at].weight += weight;
    if (score > rows[at].score) rows[at].score = score;
}

static int by_weight(const void *a, const void *b)
{
    const share *x = a, *y = b;
    if (x->weight != y->weight) return x->weight > y->weight ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static int by_score(const void *a, const void *b)
{
    const share *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

/* x [m][d]: a candidate in every prompt. */
static reco_status prompts_of(reco_ctx *ctx, const reco_classifier *c, size_t candidate, float *x)
{
    reco_candidates one = c->c;
    const char *name = reco_candidate_text(&c->c, candidate);
    one.n = 1;
    one.list = NULL;
    one.names = &name;
    if (!c->c.rows) return reco_embed_prompts(ctx, &one, x, NULL);
    for (size_t i = 0; i < c->m; i++)
        memcpy(x + i * c->c.d, c->c.rows + (i * c->c.n + candidate) * c->c.d, c->c.d * sizeof *x);
    return RECO_OK;
}

reco_status reco_classifier_neighbours(reco_ctx *ctx, const reco_classifier *c, size_t candidate,
                                       const reco_refined *out)
{
    size_t m = c->m, d = c->c.d, n = 0;
    reco_settings s = c->s;
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    size_t k = s.k, *counts = reco_scratch(ctx, m, sizeof *counts, "hits");
    float *x = reco_scratch(ctx, m * d, sizeof *x, "prompts"),
          *scores = reco_scratch(ctx, m * k, sizeof *scores, "hits"),
          *w = reco_scratch(ctx, m * (k + 1), sizeof *w, "hits"), own = 0;
    int64_t *ids = reco_scratch(ctx, m * k, sizeof *ids, "hits");
    share *rows = reco_scratch(ctx, m * k, sizeof *rows, "hits");
    *out->hits.counts = 0;
    RECO_GO(reco_reserved_of(ctx, "classes", out->reserved, RECO_RESERVED - 1));
    RECO_GO(reco_reserved(ctx, "classes", out->hits.reserved));
    if (!counts || !x || !scores || !w || !ids || !rows) RECO_GO(RECO_E_NOMEM);
    if (candidate >= c->c.n || !c->remembers)
        RECO_GO(reco_fail(ctx, RECO_E_ARG, "classifier: candidate %zu, want below %zu, and a memory",
                          candidate, c->c.n));
    RECO_GO(prompts_of(ctx, c, candidate, x));
    reco_question question = {.side = RECO_TEXT, .x = x, .n = m};
    RECO_GO(reco_refine(
        ctx, &c->memory, &question,
        &(reco_refined){.hits = {.ids = ids, .scores = scores, .counts = counts}, .weights = w}));
    for (size_t i = 0; i < m; i++) {
        own += w[i * (k + 1)] / (float)m;
        for (size_t j = 0; j < counts[i]; j++)
            add(rows, &n, ids[i * k + j], scores[i * k + j], w[i * (k + 1) + j + 1] / (float)m);
    }
    qsort(rows, n, sizeof *rows, out->weights ? by_weight : by_score);
    *out->hits.counts = reco_min(n, k);
    if (out->weights) out->weights[0] = own;
    for (size_t j = 0; j < *out->hits.counts; j++) {
        out->hits.ids[j] = rows[j].id;
        out->hits.scores[j] = rows[j].score;
        if (out->weights) out->weights[j + 1] = rows[j].weight;
    }
out:
    reco_scratch_release(ctx, mark);
    return status;
}
