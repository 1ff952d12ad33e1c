#include "clip/clip_internal.h"

typedef struct unfold {
    const reco_ctx *ctx;
    char *out;
    reco_dtype type;
    const float *pixels;
    size_t size, patch, grid;
} unfold;

/* The patch convolution as a product: one row per patch, channel by channel as the weights lie. */
static void patches(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const unfold *a = arg;
    size_t p = a->patch, row = 3 * p * p, item = reco_dtype_size(a->type);
    for (size_t i = begin; i < end; i++) {
        size_t image = i / (a->grid * a->grid), py = i / a->grid % a->grid, px = i % a->grid;
        const float *source = a->pixels + image * 3 * a->size * a->size;
        for (size_t c = 0; c < 3; c++)
            for (size_t y = 0; y < p; y++)
                reco_store(a->ctx, a->out + (i * row + (c * p + y) * p) * item, a->type,
                           source + (c * a->size + py * p + y) * a->size + px * p, p);
    }
}

reco_status reco_image_tower(reco_ctx *ctx, const reco_model *model, const float *pixels, size_t n,
                             float *out)
{
    const reco_tower *tower = &model->image;
    size_t width = tower->spec.width, patch = model->spec.patch, grid = model->spec.image_size / patch;
    size_t cells = grid * grid, tokens = reco_image_tokens(&model->spec), before = tokens - cells;
    size_t rows = n * tokens; /* the same in nearly every call */
    reco_dtype type = reco_linear_input(tower->patches);
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    float *x = reco_scratch(ctx, rows * width, sizeof(float), "image tokens");
    float *embedded = reco_scratch(ctx, n * cells * width, sizeof(float), "patches");
    char *unfolded = reco_scratch(ctx, n * cells * 3 * patch * patch, reco_dtype_size(type), "patches");
    float *pooled = reco_scratch(ctx, n * width, sizeof(float), "pooled");
    size_t *starts = reco_scratch(ctx, n + 1, sizeof *starts, "starts");
    const size_t *only = tower->spec.pool == RECO_POOL_FIRST ? starts : NULL;
    if (!x || !embedded || !unfolded || !pooled || !starts) RECO_GO(RECO_E_NOMEM);
    unfold arg = {ctx, unfolded, type, pixels, model->spec.image_size, patch, grid};
    reco_parallel(ctx, n * cells, 64, patches, &arg);
    RECO_GO(reco_linear_run_as(ctx, (reco_rows){.at = embedded, .type = RECO_DTYPE_F32}, tower->patches,
                               (reco_rows){.at = unfolded, .type = type}, n * cells, false));
    for (size_t i = 0; i <= n; i++) starts[i] = i * tokens;
    for (size_t i = 0; i < n; i++)
        for (size_t t = 0; t < tokens; t++) {
            const float *from = t < before ? tower->embedding : embedded + (i * cells + t - before) * width;
            float *to = x + (i * tokens + t) * width;
            for (size_t c = 0; c < width; c++) to[c] = from[c] + tower->positions[t * width + c];
        }
    if (tower->ln_pre_weight)
        reco_layernorm(ctx, x, x, tower->ln_pre_weight, tower->ln_pre_bias, rows, width, tower->spec.eps,
                       NULL, NULL);
    RECO_GO(reco_tower_run(ctx, tower, x, rows, starts, n, only));
    RECO_GO(reco_pool_image(ctx, model, pooled, x, n));
    if (tower->projection) RECO_GO(reco_linear_run(ctx, out, tower->projection, pooled, n, false));
    reco_normalize(ctx, out, tower->projection ? out : pooled, n, model->spec.d, NULL);
out:
    reco_scratch_release(ctx, mark);
    return status;
}
