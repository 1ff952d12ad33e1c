/* From the rows of an image to one: the class token, the mean of the patches, or attention pooling. */
#include "clip/clip_internal.h"

typedef struct mean_args {
    float *out;
    const float *x;
    size_t tokens, skip, width;
} mean_args;

static void mean(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const mean_args *a = arg;
    float scale = 1.0f / (float)(a->tokens - a->skip);
    for (size_t i = begin; i < end; i++) {
        float *out = a->out + i * a->width;
        memset(out, 0, a->width * sizeof(float));
        for (size_t t = a->skip; t < a->tokens; t++)
            for (size_t c = 0; c < a->width; c++) out[c] += a->x[(i * a->tokens + t) * a->width + c];
        for (size_t c = 0; c < a->width; c++) out[c] *= scale;
    }
}

typedef struct attend_args {
    const reco_ctx *ctx;
    float *out, *scores; /* [n][width], [n*heads][tokens] */
    const float *q, *kv; /* [width], [n*tokens][2*width] */
    size_t tokens, heads, width;
} attend_args;

/* One head of one image: the query against its keys. */
static void attend_query(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const attend_args *a = arg;
    size_t w = a->width / a->heads;
    for (size_t i = begin; i < end; i++) {
        size_t image = i / a->heads, at = i % a->heads * w;
        float *scores = a->scores + i * a->tokens, *out = a->out + image * a->width + at;
        const float *k = a->kv + image * a->tokens * 2 * a->width + at, *v = k + a->width;
        for (size_t t = 0; t < a->tokens; t++)
            scores[t] = reco_dot_fast(a->ctx, a->q + at, k + t * 2 * a->width, w);
        reco_softmax_row(a->ctx, scores, a->tokens);
        memset(out, 0, w * sizeof(float));
        for (size_t t = 0; t < a->tokens; t++)
            for (size_t c = 0; c < w; c++) out[c] += scores[t] * v[t * 2 * a->width + c];
    }
}

/* y = out(attention(query, x)); pooled = y + mlp(ln(y)) */
static reco_status attention_pool(reco_ctx *ctx, const reco_tower *tower, float *pooled, const float *x,
                                  size_t n, size_t tokens)
{
    const reco_pooler *map = tower->map;
    size_t width = tower->spec.width;
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    float *kv = reco_scratch(ctx, n * tokens * 2 * width, sizeof(float), "pooling");
    float *scores = reco_scratch(ctx, n * map->heads * tokens, sizeof(float), "pooling");
    float *y = reco_scratch(ctx, n * width, sizeof(float), "pooling");
    float *wide = reco_scratch(ctx, n * map->mlp, sizeof(float), "pooling");
    if (!kv || !scores || !y || !wide) RECO_GO(RECO_E_NOMEM);
    RECO_GO(reco_linear_run(ctx, kv, map->kv, x, n * tokens, false));
    attend_args arg = {ctx, y, scores, map->q, kv, tokens, map->heads, width};
    reco_parallel(ctx, n * map->heads, 1, attend_query, &arg);
    RECO_GO(reco_linear_run(ctx, pooled, map->out, y, n, false));
    reco_layernorm(ctx, y, pooled, map->ln_weight, map->ln_bias, n, width, tower->spec.eps, NULL, NULL);
    RECO_GO(reco_linear_run(ctx, wide, map->fc1, y, n, false));
    RECO_GO(reco_linear_run(ctx, pooled, map->fc2, wide, n, true));
out:
    reco_scratch_release(ctx, mark);
    return status;
}

reco_status reco_pool_image(reco_ctx *ctx, const reco_model *model, float *pooled, float *x, size_t n)
{
    const reco_tower *tower = &model->image;
    size_t width = tower->spec.width, tokens = reco_image_tokens(&model->spec);
    reco_pool pool = tower->spec.pool;
    bool last = pool == RECO_POOL_FIRST || (pool == RECO_POOL_MEAN && model->spec.ln_post_last);
    if (!last)
        reco_layernorm(ctx, x, x, tower->ln_post_weight, tower->ln_post_bias, n * tokens, width,
                       tower->spec.eps, NULL, NULL);
    if (pool == RECO_POOL_MAP) {
        RECO_TRY(attention_pool(ctx, tower, pooled, x, n, tokens));
    } else if (pool == RECO_POOL_MEAN) {
        mean_args arg = {pooled, x, tokens, model->spec.class_token ? 1 : 0, width};
        reco_parallel(ctx, n, 1, mean, &arg);
    } else {
        memcpy(pooled, x, n * width * sizeof(float));
    }
    if (last)
        reco_layernorm(ctx, pooled, pooled, tower->ln_post_weight, tower->ln_post_bias, n, width,
                       tower->spec.eps, NULL, NULL);
    return RECO_OK;
}

void reco_pooler_free(reco_pooler *map)
{
    if (!map) return;
    reco_free(map->q);
    reco_free(map->ln_weight);
    reco_free(map->ln_bias);
    reco_linear_free(map->kv);
    reco_linear_free(map->out);
    reco_linear_free(map->fc1);
    reco_linear_free(map->fc2);
    reco_free(map);
}
