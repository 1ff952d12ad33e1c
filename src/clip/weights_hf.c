/* Tensor names of Hugging Face's CLIPModel and SiglipModel, whole or a tower alone. */
#include "clip/loader.h"

#include <math.h>
#include <stdio.h>

static const reco_block_names names = {.block = "encoder.layers.",
                                       .ln1 = "layer_norm1",
                                       .ln2 = "layer_norm2",
                                       .q = "self_attn.q_proj",
                                       .k = "self_attn.k_proj",
                                       .v = "self_attn.v_proj",
                                       .out = "self_attn.out_proj",
                                       .fc1 = "mlp.fc1",
                                       .fc2 = "mlp.fc2"};

/* A tower alone is saved under its name by transformers 4, at the top by 5. */
static const char *where(const reco_loader *l, const reco_spec *spec, const char *prefix)
{
    if (spec->image.present && spec->text.present) return prefix;
    return reco_weights_prefix(l->weights, prefix) ? prefix : "";
}

static reco_linear *projection(reco_loader *l, const char *name, size_t d, size_t width)
{
    if (l->status == RECO_OK && !reco_weights_find(l->weights, name))
        l->status = reco_fail(l->ctx, RECO_E_UNSUPPORTED,
                              "%s: no tensor %s: a tower without the projection to embeddings, such as "
                              "CLIPTextModel, CLIPVisionModel or a classifier",
                              l->weights->path, name);
    return reco_load_projection(l, "", name, d, width, false);
}

static reco_pooler *pooling_head(reco_loader *l, const char *tower, const reco_tower_spec *spec)
{
    char p[32];
    snprintf(p, sizeof p, "%shead.", tower);
    size_t width = spec->width;
    float *probe = reco_load_tensor(l, p, "probe", 3, (size_t[]){1, 1, width});
    float *weight = reco_load_matrix(l, p, "attention.in_proj_weight", 3 * width, width);
    float *bias = reco_load_vector(l, p, "attention.in_proj_bias", 3 * width);
    reco_pooler *map = reco_load_pooler(l, spec, probe, weight, bias);
    if (!map) return NULL;
    map->out = reco_load_linear(l, p, "attention.out_proj", width, width, RECO_ACT_NONE);
    map->ln_weight = reco_load_vector(l, p, "layernorm.weight", width);
    map->ln_bias = reco_load_vector(l, p, "layernorm.bias", width);
    map->fc1 = reco_load_linear(l, p, "mlp.fc1", spec->mlp, width, spec->act);
    map->fc2 = reco_load_linear(l, p, "mlp.fc2", width, spec->mlp, RECO_ACT_NONE);
    return map;
}

static void image_tower(reco_loader *l, reco_model *m)
{
    const char *p = where(l, &m->spec, "vision_model.");
    const reco_tower_spec *spec = &m->spec.image;
    size_t width = spec->width;
    reco_tower *t = &m->image;
    bool siglip = spec->pool == RECO_POOL_MAP;
    reco_load_blocks(l, t, p, spec, &names);
    if (m->spec.class_token) t->embedding = reco_load_vector(l, p, "embeddings.class_embedding", width);
    t->positions = reco_load_grid(l, p, "embeddings.position_embedding.weight", 2, &m->spec);
    t->patches = reco_load_patches(l, p, "embeddings.patch_embedding", width, m->spec.patch, siglip);
    if (!siglip) { /* The misspelling is transformers' own. */
        t->ln_pre_weight = reco_load_vector(l, p, "pre_layrnorm.weight", width);
        t->ln_pre_bias = reco_load_vector(l, p, "pre_layrnorm.bias", width);
    }
    t->ln_post_weight = reco_load_vector(l, p, "post_layernorm.weight", width);
    t->ln_post_bias = reco_load_vector(l, p, "post_layernorm.bias", width);
    if (siglip)
        t->map = pooling_head(l, p, spec);
    else
        t->projection = projection(l, "visual_projection.weight", m->spec.d, width);
}

static void text_tower(reco_loader *l, reco_model *m)
{
    const char *p = where(l, &m->spec, "text_model.");
    size_t width = m->spec.text.width;
    reco_tower *t = &m->text;
    reco_load_blocks(l, t, p, &m->spec.text, &names);
    t->causal = m->spec.causal;
    t->tokens = reco_load_table(l, p, "embeddings.token_embedding.weight", m->spec.vocab, width);
    t->positions = reco_load_matrix(l, p, "embeddings.position_embedding.weight", m->spec.context, width);
    t->ln_post_weight = reco_load_vector(l, p, "final_layer_norm.weight", width);
    t->ln_post_bias = reco_load_vector(l, p, "final_layer_norm.bias", width);
    if (m->spec.causal)
        t->projection = projection(l, "text_projection.weight", m->spec.d, width);
    else
        t->projection = reco_load_linear(l, p, "head", m->spec.d, width, RECO_ACT_NONE);
}

/* A folder that says CLIPModel may hold the weights of one tower alone. */
reco_status reco_towers_hf(reco_ctx *ctx, reco_model *model)
{
    reco_spec *spec = &model->spec;
    RECO_TRY(reco_weights_open(ctx, &model->weights, model->dir, "model.safetensors"));
    bool image = reco_weights_prefix(&model->weights, "vision_model."),
         text = reco_weights_prefix(&model->weights, "text_model.");
    if (!spec->image.present || !spec->text.present || image == text) return RECO_OK;
    *(image ? &spec->text : &spec->image) = (reco_tower_spec){0};
    return reco_guess(ctx, model, "config.json describes a %s tower, which the weights lack: left out",
                      image ? "text" : "image");
}

reco_status reco_weights_hf(reco_ctx *ctx, reco_model *model)
{
    reco_loader l = {.ctx = ctx, .weights = &model->weights, .precision = model->precision};
    const reco_spec *spec = &model->spec;
    bool is_siglip = spec->image.present ? spec->image.pool == RECO_POOL_MAP : !spec->causal;
    l.check = !(model->sides & RECO_SIDES_IMAGE);
    if (spec->image.present) image_tower(&l, model);
    l.check = !(model->sides & RECO_SIDES_TEXT);
    if (spec->text.present) text_tower(&l, model);
    if (spec->image.present && spec->text.present) {
        model->logit_scale = expf(reco_load_scalar(&l, "logit_scale"));
        model->has_logit_bias = is_siglip;
        if (is_siglip) model->logit_bias = reco_load_scalar(&l, "logit_bias");
    }
    return l.status;
}
