#include "pipeline/pipeline_internal.h"

#define TEXTS 512

/* The name in place of the first {}; a template without one is an error that names it. */
static char *fill(reco_ctx *ctx, const char *template, const char *name)
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
            texts[j] = fill(ctx, templates[(i + j) % m], classes[(i + j) / m]);
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
