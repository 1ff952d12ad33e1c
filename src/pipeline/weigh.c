/* What took part in refining, and with what weight. */
#include "pipeline/pipeline_internal.h"

#include <stdlib.h>

reco_status reco_weigh(reco_ctx *ctx, const reco_bank *bank, const reco_fusion *fusion, reco_side side,
                       const float *x, const reco_refine_opts *opts, reco_hits hits, float *weights)
{
    reco_fusion_config config = reco_fusion_get_config(fusion);
    size_t k = opts && opts->k ? opts->k : config.k, count;
    reco_search_opts search = {.k = k, .filter = opts ? opts->filter : NULL};
    if (opts && opts->use_min) {
        search.use_min = 1;
        search.min_similarity = opts->min_similarity;
    }
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    float *retrieved = reco_scratch(ctx, k * config.d, sizeof *retrieved, "retrieved");
    if (!retrieved) RECO_GO(RECO_E_NOMEM);
    hits.counts = hits.counts ? hits.counts : &count;
    RECO_GO(reco_check_encoder(ctx, NULL, bank, fusion));
    RECO_GO(reco_bank_search(ctx, bank, reco_modality_side(config.search, side), x, 1, &search, hits));
    RECO_GO(reco_bank_gather(ctx, bank, reco_modality_side(config.fuse, side), hits.ids, k, retrieved));
    RECO_GO(reco_fusion_weights(ctx, fusion, side, x, retrieved, hits.scores, hits.counts, 1, k, weights));
out:
    reco_scratch_release(ctx, mark);
    return status;
}

typedef struct share {
    int64_t id;
    float score, weight;
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

reco_status reco_weigh_class(reco_ctx *ctx, const reco_model *model, const reco_bank *bank,
                             const reco_fusion *fusion, const char *name, const char *const *templates,
                             size_t m, const reco_refine_opts *opts, reco_hits hits, float *weights)
{
    static const char *const plain[] = {"{}"};
    reco_fusion_config config = reco_fusion_get_config(fusion);
    size_t k = opts && opts->k ? opts->k : config.k, count, n = 0, texts = reco_max(m, 1);
    reco_status status = RECO_OK;
    char *text = NULL;
    reco_mark mark = reco_scratch_mark(ctx);
    float *row = reco_scratch(ctx, config.d, sizeof *row, "class embeddings"),
          *scores = reco_scratch(ctx, k, sizeof *scores, "hits"),
          *w = reco_scratch(ctx, k + 1, sizeof *w, "hits");
    int64_t *ids = reco_scratch(ctx, k, sizeof *ids, "hits");
    share *rows = reco_scratch(ctx, texts * k, sizeof *rows, "hits");
    if (!row || !scores || !w || !ids || !rows) RECO_GO(RECO_E_NOMEM);
    weights[0] = 0;
    for (size_t i = 0; i < texts; i++) {
        reco_free(text);
        if (!(text = reco_fill_template(ctx, m ? templates[i] : plain[0], name))) RECO_GO(RECO_E_ARG);
        RECO_GO(reco_model_embed_texts(ctx, model, (const char *const *)&text, 1, row, NULL));
        RECO_GO(reco_weigh(ctx, bank, fusion, RECO_TEXT, row, opts, (reco_hits){ids, scores, &count}, w));
        weights[0] += w[0] / (float)texts;
        for (size_t j = 0; j < count; j++)
            if (!(scores[j] < config.min_similarity))
                add(rows, &n, ids[j], scores[j], w[j + 1] / (float)texts);
    }
    qsort(rows, n, sizeof *rows, by_weight);
    *hits.counts = reco_min(n, k);
    for (size_t j = 0; j < *hits.counts; j++) {
        hits.ids[j] = rows[j].id;
        hits.scores[j] = rows[j].score;
        weights[j + 1] = rows[j].weight;
    }
out:
    reco_free(text);
    reco_scratch_release(ctx, mark);
    return status;
}
