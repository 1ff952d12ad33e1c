#include "clip/clip_internal.h"

/* Rows between products are bf16, or int8 codes, where every layer multiplies such rows; the residual stream is always f32. */
static reco_dtype activations(const reco_tower *tower, bool *codes)
{
    reco_dtype type = RECO_DTYPE_BF16;
    *codes = true;
    for (size_t i = 0; i < tower->spec.layers; i++) {
        const reco_block *b = &tower->blocks[i];
        const reco_linear *const layers[] = {b->qkv, b->out, b->fc1, b->fc2};
        for (size_t l = 0; l < 4; l++) {
            if (reco_linear_input(layers[l]) != RECO_DTYPE_BF16) type = RECO_DTYPE_F32;
            *codes = *codes && reco_linear_codes(layers[l]);
        }
    }
    return type;
}

reco_status reco_tower_run(reco_ctx *ctx, const reco_tower *tower, float *x, size_t rows,
                           const size_t *starts, size_t n, const size_t *only)
{
    const reco_tower_spec *spec = &tower->spec;
    size_t width = spec->width;
    bool codes;
    reco_dtype type = activations(tower, &codes);
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    reco_rows residual = {.at = x, .type = RECO_DTYPE_F32}, y = {.type = type}, wide = y;
    y.at = reco_scratch(ctx, rows * width, reco_dtype_size(type), "activations");
    wide.at =
        reco_scratch(ctx, rows * reco_max(3 * width, spec->mlp), reco_dtype_size(type), "activations");
    if (!y.at || !wide.at) RECO_GO(RECO_E_NOMEM);
    reco_rows normed = y, hidden = wide;
    if (codes) {
        normed.scales = reco_scratch(ctx, rows, sizeof(float), "activations");
        hidden.scales = reco_scratch(ctx, rows, sizeof(float), "activations");
        if (!normed.scales || !hidden.scales) RECO_GO(RECO_E_NOMEM);
    }
    for (size_t i = 0; i < spec->layers; i++) {
        const reco_block *b = &tower->blocks[i];
        const size_t *wanted = i + 1 == spec->layers ? only : NULL;
        RECO_GO(reco_layernorm_as(ctx, normed, x, b->ln1_weight, b->ln1_bias, rows, width, spec->eps));
        RECO_GO(reco_linear_run_as(ctx, wide, b->qkv, normed, rows, false));
        RECO_GO(reco_attention(ctx, y.at, wide.at, type, starts, n, spec->heads, width / spec->heads,
                               tower->causal, wanted));
        if (wanted) { /* the last block's other rows are nobody's input */
            for (size_t s = 0; s < n; s++)
                memmove(x + s * width, x + wanted[s] * width, width * sizeof(float));
            rows = reco_min(rows, reco_tower_rows(n));
            memset((char *)y.at + n * width * reco_dtype_size(type), 0,
                   (rows - n) * width * reco_dtype_size(type));
        }
        RECO_GO(reco_linear_run_as(ctx, residual, b->out, y, rows, true));
        RECO_GO(reco_layernorm_as(ctx, normed, x, b->ln2_weight, b->ln2_bias, rows, width, spec->eps));
        RECO_GO(reco_linear_run_as(ctx, hidden, b->fc1, normed, rows, false));
        RECO_GO(reco_linear_run_as(ctx, residual, b->fc2, hidden, rows, true));
    }
out:
    reco_scratch_release(ctx, mark);
    return status;
}

void reco_tower_free(reco_tower *tower)
{
    for (size_t i = 0; tower->blocks && i < tower->spec.layers; i++) {
        reco_block *b = &tower->blocks[i];
        reco_free(b->ln1_weight);
        reco_free(b->ln1_bias);
        reco_free(b->ln2_weight);
        reco_free(b->ln2_bias);
        reco_linear_free(b->qkv);
        reco_linear_free(b->out);
        reco_linear_free(b->fc1);
        reco_linear_free(b->fc2);
    }
    reco_free(tower->blocks);
    reco_free(tower->ln_pre_weight);
    reco_free(tower->ln_pre_bias);
    reco_free(tower->ln_post_weight);
    reco_free(tower->ln_post_bias);
    reco_free(tower->positions);
    reco_free(tower->embedding);
    reco_linear_free(tower->patches);
    reco_pooler_free(tower->map);
    reco_linear_free(tower->projection);
}
