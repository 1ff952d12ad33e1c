/* What took part in refining a class, which is asked for in several prompts. */
#include "query/query.h"

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

reco_status reco_class_neighbours(reco_ctx *ctx, const reco_model *model, const reco_memory *memory,
                                  const char *name, const char *const *templates, size_t m,
                                  const reco_refined *out)
{
    static const char *const plain[] = {"{}"};
    reco_settings s;
    reco_memory_settle(memory, RECO_TEXT, RECO_IMAGE, &s);
    size_t k = s.k, count, n = 0, texts = reco_max(m, 1);
    reco_status status = RECO_OK;
    char *text = NULL;
    reco_mark mark = reco_scratch_mark(ctx);
    float *row = reco_scratch(ctx, reco_bank_get_info(memory->bank).d, sizeof *row, "class embeddings"),
          *scores = reco_scratch(ctx, k, sizeof *scores, "hits"),
          *w = reco_scratch(ctx, k + 1, sizeof *w, "hits"), own = 0;
    int64_t *ids = reco_scratch(ctx, k, sizeof *ids, "hits");
    share *rows = reco_scratch(ctx, texts, k * sizeof *rows, "hits");
    if (!row || !scores || !w || !ids || !rows) RECO_GO(RECO_E_NOMEM);
    reco_question question = {.side = RECO_TEXT, .x = row, .n = 1};
    reco_refined found = {.hits = {ids, scores, &count}, .weights = w};
    for (size_t i = 0; i < texts; i++) {
        reco_free(text);
        if (!(text = reco_fill_template(ctx, m ? templates[i] : plain[0], name))) RECO_GO(RECO_E_ARG);
        RECO_GO(reco_model_embed_texts(ctx, model, (const char *const *)&text, 1, row, NULL));
        RECO_GO(reco_refine(ctx, memory, &question, &found));
        own += w[0] / (float)texts;
        for (size_t j = 0; j < count; j++) add(rows, &n, ids[j], scores[j], w[j + 1] / (float)texts);
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
    reco_free(text);
    reco_scratch_release(ctx, mark);
    return status;
}
