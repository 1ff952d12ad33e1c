#include "clip/clip.h"
#include "query/classifier.h"

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

const char *reco_candidate_text(const reco_candidates *c, size_t i)
{
    if (c->list) return c->list->class_texts[i];
    return c->names ? c->names[i] : NULL;
}

/* Rows that are there: prompt by prompt. */
static reco_status take_rows(reco_ctx *ctx, const reco_candidates *c, size_t m, reco_prompts *p,
                             reco_prompts_fn fn, void *user)
{
    for (size_t i = 0; i < c->n * m; i += p->n) {
        p->n = reco_min(RECO_PROMPTS, c->n * m - i);
        p->rows = c->rows + i * c->d;
        for (size_t j = 0; j < p->n; j++) {
            p->of[j] = (uint32_t)((i + j) % c->n);
            p->prompt[j] = (uint32_t)((i + j) / c->n);
        }
        RECO_TRY(fn(ctx, user, p));
    }
    return RECO_OK;
}

/* Candidate by candidate, so that little is held whatever the number of prompts. */
static reco_status embed_rows(reco_ctx *ctx, const reco_candidates *c, size_t m, reco_prompts *p,
                              reco_prompts_fn fn, void *user, uint64_t *truncated)
{
    char *texts[RECO_PROMPTS] = {NULL};
    unsigned char cut[RECO_PROMPTS];
    uint64_t hashes[RECO_PROMPTS];
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    float *rows = reco_scratch(ctx, RECO_PROMPTS * c->d, sizeof *rows, "prompts");
    if (!rows) RECO_GO(RECO_E_NOMEM);
    p->rows = rows;
    p->texts = texts;
    p->hashes = hashes;
    for (size_t i = 0; i < c->n * m; i += p->n) {
        p->n = reco_min(RECO_PROMPTS, c->n * m - i);
        for (size_t j = 0; j < p->n; j++) {
            p->of[j] = (uint32_t)((i + j) / m);
            p->prompt[j] = (uint32_t)((i + j) % m);
            const char *name = reco_candidate_text(c, p->of[j]),
                       *template = c->m ? c->templates[p->prompt[j]] : "{}";
            reco_free(texts[j]);
            if (!(texts[j] = reco_fill_template(ctx, template, name)))
                RECO_GO(hole_of(template) ? RECO_E_NOMEM : RECO_E_ARG);
        }
        RECO_GO(reco_progress(ctx, "classes", i / m, c->n));
        RECO_GO(
            reco_model_embed_hashed(ctx, c->model, (const char *const *)texts, p->n, rows, cut, hashes));
        for (size_t j = 0; truncated && j < p->n; j++) *truncated += cut[j];
        RECO_GO(fn(ctx, user, p));
    }
out:
    for (size_t j = 0; j < RECO_PROMPTS; j++) reco_free(texts[j]);
    reco_scratch_release(ctx, mark);
    return status;
}

reco_status reco_each_prompt(reco_ctx *ctx, const reco_candidates *c, reco_prompts_fn fn, void *user,
                             uint64_t *truncated)
{
    reco_prompts p = {0};
    size_t m = reco_max(c->m, 1), all;
    if (truncated) *truncated = 0;
    RECO_TRY(reco_reserved(ctx, "candidates", c->reserved));
    if (!reco_mul(m, c->n, &all) || c->n >= UINT32_MAX) return reco_fail_nomem(ctx, SIZE_MAX, "prompts");
    if (c->rows) return take_rows(ctx, c, m, &p, fn, user);
    if (!c->model || (!c->list && !c->names))
        return reco_fail(ctx, RECO_E_ARG, "candidates: neither rows, nor names and a model");
    if (reco_model_get_info(c->model)->d != c->d)
        return reco_fail(ctx, RECO_E_MISMATCH,
                         "candidates of width %zu, the model makes vectors of width %zu", c->d,
                         reco_model_get_info(c->model)->d);
    return embed_rows(ctx, c, m, &p, fn, user, truncated);
}

typedef struct keeping {
    float *rows;
    size_t n, d;
} keeping;

static reco_status keep(reco_ctx *ctx, void *user, const reco_prompts *p)
{
    (void)ctx;
    const keeping *k = user;
    for (size_t j = 0; j < p->n; j++)
        memcpy(k->rows + (p->prompt[j] * k->n + p->of[j]) * k->d, p->rows + j * k->d, k->d * sizeof(float));
    return RECO_OK;
}

reco_status reco_embed_prompts(reco_ctx *ctx, const reco_candidates *candidates, float *rows,
                               uint64_t *truncated)
{
    return reco_each_prompt(ctx, candidates, keep, &(keeping){rows, candidates->n, candidates->d},
                            truncated);
}
