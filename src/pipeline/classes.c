#include "pipeline/pipeline_internal.h"

#define TEXTS 512

char *reco_fill_template(reco_ctx *ctx, const char *template, const char *name)
{
    const char *hole = strstr(template, "{}");
    if (!hole) {
        reco_fail(ctx, RECO_E_ARG, "template \"%s\" has no {} for the class name", template);
        return NULL;
    }
    return reco_format(ctx, "%.*s%s%s", (int)(hole - template), template, name, hole + 2);
}

reco_status reco_embed_classes(reco_ctx *ctx, const reco_model *model, const reco_bank *bank,
                               const reco_fusion *fusion, const char *const *classes, size_t n,
                               const char *const *templates, size_t m, const reco_refine_opts *opts,
                               float *out, uint64_t *truncated)
{
    static const char *const plain[] = {"{}"};
    if (m == 0) {
        templates = plain;
        m = 1;
    }
    size_t d = reco_model_get_info(model).d;
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    float *rows = reco_scratch(ctx, TEXTS * d, sizeof(float), "class embeddings");
    char *texts[TEXTS] = {0};
    unsigned char cut[TEXTS];
    if (!rows) RECO_GO(RECO_E_NOMEM);
    memset(out, 0, n * d * sizeof(float));
    if (truncated) *truncated = 0;
    for (size_t i = 0; i < n * m; i += TEXTS) {
        size_t some = reco_min(TEXTS, n * m - i);
        for (size_t j = 0; j < some; j++) {
            reco_free(texts[j]);
            texts[j] = reco_fill_template(ctx, templates[(i + j) % m], classes[(i + j) / m]);
            if (!texts[j]) RECO_GO(strstr(templates[(i + j) % m], "{}") ? RECO_E_NOMEM : RECO_E_ARG);
        }
        RECO_GO(reco_progress(ctx, "classes", i / m, n));
        RECO_GO(reco_model_embed_texts(ctx, model, (const char *const *)texts, some, rows, cut));
        if (truncated) *truncated += reco_count_cut(cut, some);
        reco_hits none = {0};
        if (bank && fusion)
            RECO_GO(reco_refine(ctx, bank, fusion, RECO_TEXT, rows, some, opts, rows, none));
        for (size_t j = 0; j < some; j++)
            for (size_t c = 0; c < d; c++) out[(i + j) / m * d + c] += rows[j * d + c];
    }
    reco_normalize(ctx, out, out, n, d, NULL);
out:
    for (size_t j = 0; j < TEXTS; j++) reco_free(texts[j]);
    reco_scratch_release(ctx, mark);
    return status;
}

/* Put a hit among those that are there, best first, equal ones by id; one that is there counts once, with its better score. */
static void offer(reco_hits hits, size_t k, int64_t id, float score)
{
    size_t n = *hits.counts, at = 0;
    for (size_t i = 0; i < n; i++)
        if (hits.ids[i] == id) {
            if (hits.scores[i] >= score) return;
            memmove(hits.ids + i, hits.ids + i + 1, (n - i - 1) * sizeof *hits.ids);
            memmove(hits.scores + i, hits.scores + i + 1, (n - i - 1) * sizeof *hits.scores);
            n--;
            break;
        }
    while (at < n && (hits.scores[at] > score || (hits.scores[at] == score && hits.ids[at] < id))) at++;
    if (at < k) {
        if (n == k) n--;
        memmove(hits.ids + at + 1, hits.ids + at, (n - at) * sizeof *hits.ids);
        memmove(hits.scores + at + 1, hits.scores + at, (n - at) * sizeof *hits.scores);
        hits.ids[at] = id;
        hits.scores[at] = score;
        n++;
    }
    *hits.counts = n;
}

reco_status reco_class_neighbours(reco_ctx *ctx, const reco_model *model, const reco_bank *bank,
                                  const reco_fusion *fusion, const char *name, const char *const *templates,
                                  size_t m, const reco_refine_opts *opts, reco_hits hits)
{
    static const char *const plain[] = {"{}"};
    reco_fusion_config config = reco_fusion_get_config(fusion);
    size_t k = opts && opts->k ? opts->k : config.k, count;
    reco_status status = RECO_OK;
    char *text = NULL;
    reco_mark mark = reco_scratch_mark(ctx);
    float *row = reco_scratch(ctx, config.d, sizeof *row, "class embeddings"),
          *scores = reco_scratch(ctx, k, sizeof *scores, "hits");
    int64_t *ids = reco_scratch(ctx, k, sizeof *ids, "hits");
    *hits.counts = 0;
    if (!row || !scores || !ids) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < reco_max(m, 1); i++) {
        reco_free(text);
        if (!(text = reco_fill_template(ctx, m ? templates[i] : plain[0], name))) RECO_GO(RECO_E_ARG);
        RECO_GO(reco_model_embed_texts(ctx, model, (const char *const *)&text, 1, row, NULL));
        RECO_GO(
            reco_refine(ctx, bank, fusion, RECO_TEXT, row, 1, opts, row, (reco_hits){ids, scores, &count}));
        for (size_t j = 0; j < count; j++)
            if (!(scores[j] < config.min_similarity)) offer(hits, k, ids[j], scores[j]);
    }
out:
    reco_free(text);
    reco_scratch_release(ctx, mark);
    return status;
}
