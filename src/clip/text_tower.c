#include "clip/clip_internal.h"

static size_t pool_at(const reco_spec *spec, const int32_t *ids, size_t n)
{
    size_t best = 0;
    if (spec->text.pool == RECO_POOL_LAST) return n - 1;
    for (size_t i = 0; i < n && spec->text.pool != RECO_POOL_FIRST; i++) {
        if (spec->text.pool == RECO_POOL_EOS && ids[i] == spec->eos) return i;
        if (spec->text.pool == RECO_POOL_MAX && ids[i] > ids[best]) best = i;
    }
    return best;
}

/* Captions lie back to back, without padding where attention is causal, since nothing after the pooled token counts
 * then; the caller has padded the others (embed.c). */
reco_status reco_text_tower(reco_ctx *ctx, const reco_model *model, const int32_t *ids,
                            const size_t *starts, size_t n, float *out)
{
    const reco_tower *tower = &model->text;
    size_t width = tower->spec.width, tokens = starts[n], rows = reco_tower_rows(tokens);
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    float *x = reco_scratch(ctx, rows * width, sizeof(float), "text tokens");
    size_t *only = reco_scratch(ctx, n, sizeof *only, "pooled");
    if (!x || !only) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < n; i++)
        for (size_t t = starts[i]; t < starts[i + 1]; t++) {
            if (ids[t] < 0 || (size_t)ids[t] >= model->spec.vocab)
                RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s: token id %d, want below vocab_size %zu",
                                  model->dir, ids[t], model->spec.vocab));
            const float *position = tower->positions + (t - starts[i]) * width;
            float *row = x + t * width;
            RECO_GO(reco_tensor_f32(ctx, tower->tokens, (size_t)ids[t] * width, width, row));
            for (size_t c = 0; c < width; c++) row[c] += position[c];
        }
    memset(x + tokens * width, 0, (rows - tokens) * width * sizeof(float));
    for (size_t i = 0; i < n; i++)
        only[i] = starts[i] + pool_at(&model->spec, ids + starts[i], starts[i + 1] - starts[i]);
    RECO_GO(reco_tower_run(ctx, tower, x, rows, starts, n, only));
    reco_layernorm(ctx, x, x, tower->ln_post_weight, tower->ln_post_bias, n, width, tower->spec.eps, NULL,
                   NULL);
    if (tower->projection) RECO_GO(reco_linear_run(ctx, out, tower->projection, x, n, false));
    reco_normalize(ctx, out, tower->projection ? out : x, n, model->spec.d, NULL);
out:
    reco_scratch_release(ctx, mark);
    return status;
}
