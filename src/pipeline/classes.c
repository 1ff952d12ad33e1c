#include "pipeline/class_list.h"

#include <stdlib.h>

#define TEXTS 512

/* {}, or {c} as CLIP_benchmark's files have it. */
static const char *hole_of(const char *template)
{
    const char *hole = strstr(template, "{}");
    return hole ? hole : strstr(template, "{c}");
}

char *reco_fill_template(reco_ctx *ctx, const char *template, const char *name)
{
    const char *hole = hole_of(template);
    if (!hole) {
        reco_fail(ctx, RECO_E_ARG, "template \"%s\" has no {} for the class name", template);
        return NULL;
    }
    return reco_format(ctx, "%.*s%s%s", (int)(hole - template), template, name, strchr(hole, '}') + 1);
}

/* One block of prompts. */
typedef struct prompts {
    char *texts[TEXTS];
    unsigned char cut[TEXTS];
    uint64_t hashes[TEXTS];
    float *rows, *better; /* [TEXTS][d] as they come, and refined */
} prompts;

/* Prompts first..first+n of all classes and templates. */
static reco_status fill(reco_ctx *ctx, prompts *p, const char *const *classes, const char *const *templates,
                        size_t m, size_t first, size_t n)
{
    for (size_t j = 0; j < n; j++) {
        const char *template = templates[(first + j) % m];
        reco_free(p->texts[j]);
        p->texts[j] = reco_fill_template(ctx, template, classes[(first + j) / m]);
        if (!p->texts[j]) return hole_of(template) ? RECO_E_NOMEM : RECO_E_ARG;
    }
    return RECO_OK;
}

static void add_rows(float *out, const float *rows, size_t first, size_t n, size_t m, size_t d)
{
    for (size_t j = 0; j < n; j++)
        for (size_t c = 0; c < d; c++) out[(first + j) / m * d + c] += rows[j * d + c];
}

/* said [2 n m], or NULL: hashes of what each prompt says, by its tokens and by its words. */
static reco_status embed(reco_ctx *ctx, const reco_model *model, const reco_bank *bank,
                         const reco_fusion *fusion, const char *const *classes, size_t n,
                         const char *const *templates, size_t m, const reco_refine_opts *opts, float *plain,
                         float *refined, struct reco_class_index *said, uint64_t *truncated)
{
    static const char *const name_alone[] = {"{}"};
    if (m == 0) {
        templates = name_alone;
        m = 1;
    }
    size_t d = reco_model_get_info(model).d;
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    prompts *p = reco_alloc(ctx, 1, sizeof *p, "prompts");
    if (!p) RECO_GO(RECO_E_NOMEM);
    p->rows = reco_scratch(ctx, TEXTS * d, sizeof(float), "class embeddings");
    p->better = reco_scratch(ctx, TEXTS * d, sizeof(float), "class embeddings");
    if (!p->rows || !p->better) RECO_GO(RECO_E_NOMEM);
    if (plain) memset(plain, 0, n * d * sizeof(float));
    if (refined) memset(refined, 0, n * d * sizeof(float));
    if (truncated) *truncated = 0;
    for (size_t i = 0; i < n * m; i += TEXTS) {
        size_t some = reco_min(TEXTS, n * m - i);
        RECO_GO(fill(ctx, p, classes, templates, m, i, some));
        RECO_GO(reco_progress(ctx, "classes", i / m, n));
        RECO_GO(reco_model_embed_hashed(ctx, model, (const char *const *)p->texts, some, p->rows, p->cut,
                                        p->hashes));
        if (truncated) *truncated += reco_count_cut(p->cut, some);
        for (size_t j = 0; said && j < some; j++) {
            struct reco_class_index *to = said + 2 * (i + j);
            to[0].entry = to[1].entry = (uint32_t)((i + j) / m);
            to[0].hash = p->hashes[j];
            RECO_GO(reco_class_hash_words(ctx, p->texts[j], false, &to[1].hash));
        }
        if (plain) add_rows(plain, p->rows, i, some, m, d);
        if (!refined) continue;
        RECO_GO(reco_refine(ctx, bank, fusion, RECO_TEXT, p->rows, some, opts, p->better, (reco_hits){0}));
        add_rows(refined, p->better, i, some, m, d);
    }
    if (plain) reco_normalize(ctx, plain, plain, n, d, NULL);
    if (refined) reco_normalize(ctx, refined, refined, n, d, NULL);
out:
    for (size_t j = 0; p && j < TEXTS; j++) reco_free(p->texts[j]);
    reco_free(p);
    reco_scratch_release(ctx, mark);
    return status;
}

reco_status reco_embed_classes(reco_ctx *ctx, const reco_model *model, const reco_bank *bank,
                               const reco_fusion *fusion, const char *const *classes, size_t n,
                               const char *const *templates, size_t m, const reco_refine_opts *opts,
                               float *plain, float *refined, uint64_t *truncated)
{
    return embed(ctx, model, bank, fusion, classes, n, templates, m, opts, plain, refined, NULL, truncated);
}

reco_status reco_class_list_embed(reco_ctx *ctx, reco_class_list *list, const reco_model *model,
                                  const reco_bank *bank, const reco_fusion *fusion,
                                  const char *const *templates, size_t m, const reco_refine_opts *opts,
                                  float *plain, float *refined, uint64_t *truncated)
{
    size_t said;
    if (!reco_mul(list->n, 2 * m, &said)) return reco_fail_nomem(ctx, SIZE_MAX, "prompts");
    reco_free(list->said);
    list->said = NULL;
    list->embedded = false;
    if (m && !(list->said = reco_alloc(ctx, said, sizeof *list->said, "prompts"))) return RECO_E_NOMEM;
    RECO_TRY(embed(ctx, model, bank, fusion, list->class_texts, list->n, templates, m, opts, plain, refined,
                   list->said, truncated));
    list->nsaid = said;
    list->embedded = true;
    if (said) qsort(list->said, said, sizeof *list->said, reco_class_by_hash);
    return RECO_OK;
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
