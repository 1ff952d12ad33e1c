/* Tensor names of a Hugging Face CLIPModel. */
#include "clip/clip_internal.h"

#include <math.h>
#include <stdio.h>

typedef struct loader {
    reco_ctx *ctx;
    const reco_weights *weights;
    reco_precision precision;
    reco_status status; /* first failure; everything after it is a no-op */
} loader;

static float *load(loader *l, const char *name, size_t rank, const size_t *shape)
{
    if (l->status != RECO_OK) return NULL;
    float *values = reco_weights_load(l->ctx, l->weights, name, rank, shape);
    if (!values) l->status = RECO_E_FORMAT;
    return values;
}

static float *vector(loader *l, const char *prefix, const char *name, size_t n)
{
    char full[256];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    return load(l, full, 1, &n);
}

static float *matrix(loader *l, const char *prefix, const char *name, size_t rows, size_t cols)
{
    char full[256];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    return load(l, full, 2, (size_t[]){rows, cols});
}

static reco_linear *pack(loader *l, float *weight, float *bias, size_t out, size_t in, reco_act act)
{
    reco_linear *linear = NULL;
    if (l->status == RECO_OK)
        l->status = reco_linear_create(l->ctx, &linear, weight, bias, out, in, act, l->precision);
    reco_free(weight);
    reco_free(bias);
    return linear;
}

static reco_linear *linear(loader *l, const char *prefix, const char *name, size_t out, size_t in,
                           reco_act act)
{
    char weight[64], bias[64];
    snprintf(weight, sizeof weight, "%s.weight", name);
    snprintf(bias, sizeof bias, "%s.bias", name);
    float *w = matrix(l, prefix, weight, out, in), *b = vector(l, prefix, bias, out);
    return pack(l, w, b, out, in, act);
}

/* q, k and v as one product. */
static reco_linear *stacked(loader *l, const char *prefix, size_t width)
{
    static const char *const names[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"};
    float *weight = reco_alloc(l->ctx, 3 * width * width, sizeof(float), "weights");
    float *bias = reco_alloc(l->ctx, 3 * width, sizeof(float), "weights");
    if (!weight || !bias) l->status = RECO_E_NOMEM;
    for (size_t i = 0; i < 3; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s.weight", names[i]);
        float *w = matrix(l, prefix, name, width, width);
        snprintf(name, sizeof name, "%s.bias", names[i]);
        float *b = vector(l, prefix, name, width);
        if (w && b) {
            memcpy(weight + i * width * width, w, width * width * sizeof(float));
            memcpy(bias + i * width, b, width * sizeof(float));
        }
        reco_free(w);
        reco_free(b);
    }
    return pack(l, weight, bias, 3 * width, width, RECO_ACT_NONE);
}

static void tower(loader *l, reco_tower *tower, const char *prefix, const reco_tower_spec *spec)
{
    tower->spec = *spec;
    tower->blocks = reco_alloc(l->ctx, spec->layers, sizeof *tower->blocks, "blocks");
    if (!tower->blocks) {
        l->status = RECO_E_NOMEM;
        return;
    }
    for (size_t i = 0; i < spec->layers && l->status == RECO_OK; i++) {
        reco_block *block = &tower->blocks[i];
        char p[128];
        snprintf(p, sizeof p, "%sencoder.layers.%zu.", prefix, i);
        block->ln1_weight = vector(l, p, "layer_norm1.weight", spec->width);
        block->ln1_bias = vector(l, p, "layer_norm1.bias", spec->width);
        block->ln2_weight = vector(l, p, "layer_norm2.weight", spec->width);
        block->ln2_bias = vector(l, p, "layer_norm2.bias", spec->width);
        block->qkv = stacked(l, p, spec->width);
        block->out = linear(l, p, "self_attn.out_proj", spec->width, spec->width, RECO_ACT_NONE);
        block->fc1 = linear(l, p, "mlp.fc1", spec->mlp, spec->width, spec->act);
        block->fc2 = linear(l, p, "mlp.fc2", spec->width, spec->mlp, RECO_ACT_NONE);
    }
}

static void image_tower(loader *l, reco_model *m)
{
    static const char p[] = "vision_model.";
    size_t width = m->spec.image.width, patch = m->spec.patch, grid = m->spec.image_size / patch;
    reco_tower *t = &m->image;
    tower(l, t, p, &m->spec.image);
    t->embedding = vector(l, p, "embeddings.class_embedding", width);
    t->positions = matrix(l, p, "embeddings.position_embedding.weight", grid * grid + 1, width);
    float *patches =
        load(l, "vision_model.embeddings.patch_embedding.weight", 4, (size_t[]){width, 3, patch, patch});
    t->patches = pack(l, patches, NULL, width, 3 * patch * patch, RECO_ACT_NONE);
    /* The misspelling is transformers' own. */
    t->ln_pre_weight = vector(l, p, "pre_layrnorm.weight", width);
    t->ln_pre_bias = vector(l, p, "pre_layrnorm.bias", width);
    t->ln_post_weight = vector(l, p, "post_layernorm.weight", width);
    t->ln_post_bias = vector(l, p, "post_layernorm.bias", width);
    t->projection = pack(l, matrix(l, "", "visual_projection.weight", m->spec.d, width), NULL, m->spec.d,
                         width, RECO_ACT_NONE);
}

static void text_tower(loader *l, reco_model *m)
{
    static const char p[] = "text_model.";
    size_t width = m->spec.text.width;
    reco_tower *t = &m->text;
    tower(l, t, p, &m->spec.text);
    t->causal = true;
    t->embedding = matrix(l, p, "embeddings.token_embedding.weight", m->spec.vocab, width);
    t->positions = matrix(l, p, "embeddings.position_embedding.weight", m->spec.context, width);
    t->ln_post_weight = vector(l, p, "final_layer_norm.weight", width);
    t->ln_post_bias = vector(l, p, "final_layer_norm.bias", width);
    t->projection = pack(l, matrix(l, "", "text_projection.weight", m->spec.d, width), NULL, m->spec.d,
                         width, RECO_ACT_NONE);
}

reco_status reco_weights_hf(reco_ctx *ctx, reco_model *model)
{
    RECO_TRY(reco_weights_open(ctx, &model->weights, model->dir, "model.safetensors"));
    loader l = {ctx, &model->weights, model->precision, RECO_OK};
    image_tower(&l, model);
    text_tower(&l, model);
    float *scale = load(&l, "logit_scale", 0, NULL);
    if (scale) model->logit_scale = expf(scale[0]);
    reco_free(scale);
    return l.status;
}
