#include "clip/clip_internal.h"

reco_status reco_tower_run(reco_ctx *ctx, const reco_tower *tower, float *x, size_t rows,
                           const size_t *starts, size_t n)
{
    const reco_tower_spec *spec = &tower->spec;
    size_t width = spec->width;
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    float *y = reco_scratch(ctx, rows * width, sizeof(float), "activations");
    float *wide = reco_scratch(ctx, rows * reco_max(3 * width, spec->mlp), sizeof(float), "activations");
    if (!y || !wide) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < spec->layers; i++) {
        const reco_block *b = &tower->blocks[i];
        reco_layernorm(ctx, y, x, b->ln1_weight, b->ln1_bias, rows, width, spec->eps, NULL, NULL);
        RECO_GO(reco_linear_run(ctx, wide, b->qkv, y, rows, false));
        RECO_GO(reco_attention(ctx, y, wide, starts, n, spec->heads, width / spec->heads, tower->causal));
        RECO_GO(reco_linear_run(ctx, x, b->out, y, rows, true));
        reco_layernorm(ctx, y, x, b->ln2_weight, b->ln2_bias, rows, width, spec->eps, NULL, NULL);
        RECO_GO(reco_linear_run(ctx, wide, b->fc1, y, rows, false));
        RECO_GO(reco_linear_run(ctx, x, b->fc2, wide, rows, true));
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
