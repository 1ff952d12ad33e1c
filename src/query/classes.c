#include "kernels/kernels.h"
#include "query/class_list.h"

#include <stdlib.h>

#define TEXTS 512

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
        if (!p->texts[j]) return RECO_E_ARG;
    }
    return RECO_OK;
}

static void add_rows(float *out, const float *rows, size_t first, size_t n, size_t m, size_t d)
{
    for (size_t j = 0; j < n; j++)
        for (size_t c = 0; c < d; c++) out[(first + j) / m * d + c] += rows[j * d + c];
}

/* said [2 n m], or NULL: hashes of what each prompt says, by its tokens and by its words. */
static reco_status embed(reco_ctx *ctx, const reco_model *model, const reco_memory *memory,
                         const char *const *classes, size_t n, const char *const *templates, size_t m,
                         float *plain, float *refined, struct reco_class_index *said, uint64_t *truncated)
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
        for (size_t j = 0; truncated && j < some; j++) *truncated += p->cut[j];
        for (size_t j = 0; said && j < some; j++) {
            struct reco_class_index *to = said + 2 * (i + j);
            to[0].entry = to[1].entry = (uint32_t)((i + j) / m);
            to[0].hash = p->hashes[j];
            RECO_GO(reco_class_hash_words(ctx, p->texts[j], false, &to[1].hash));
        }
        if (plain) add_rows(plain, p->rows, i, some, m, d);
        if (!refined) continue;
        RECO_GO(reco_refine(ctx, memory, &(reco_question){.side = RECO_TEXT, .x = p->rows, .n = some},
                            &(reco_refined){.rows = p->better}));
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

reco_status reco_embed_classes(reco_ctx *ctx, const reco_model *model, const reco_memory *memory,
                               const char *const *classes, size_t n, const char *const *templates, size_t m,
                               float *plain, float *refined, uint64_t *truncated)
{
    return embed(ctx, model, memory, classes, n, templates, m, plain, refined, NULL, truncated);
}

reco_status reco_class_list_embed(reco_ctx *ctx, reco_class_list *list, const reco_model *model,
                                  const reco_memory *memory, const char *const *templates, size_t m,
                                  float *plain, float *refined, uint64_t *truncated)
{
    size_t said;
    if (!reco_mul(list->n, 2 * m, &said)) return reco_fail_nomem(ctx, SIZE_MAX, "prompts");
    reco_free(list->said);
    list->said = NULL;
    list->embedded = false;
    if (m && !(list->said = reco_alloc(ctx, said, sizeof *list->said, "prompts"))) return RECO_E_NOMEM;
    RECO_TRY(embed(ctx, model, memory, list->class_texts, list->n, templates, m, plain, refined, list->said,
                   truncated));
    list->nsaid = said;
    list->embedded = true;
    if (said) qsort(list->said, said, sizeof *list->said, reco_class_by_hash);
    return RECO_OK;
}
