/* Tensor names of OpenAI and open_clip, and of timm's image towers inside open_clip's. */
#include "clip/loader.h"

#include <math.h>
#include <stdio.h>

static const reco_block_names native = {.block = "transformer.resblocks.",
                                        .ln1 = "ln_1",
                                        .ln2 = "ln_2",
                                        .qkv_weight = "attn.in_proj_weight",
                                        .qkv_bias = "attn.in_proj_bias",
                                        .out = "attn.out_proj",
                                        .fc1 = "mlp.c_fc",
                                        .fc2 = "mlp.c_proj"};
static const reco_block_names timm = {.block = "blocks.",
                                      .ln1 = "norm1",
                                      .ln2 = "norm2",
                                      .qkv_weight = "attn.qkv.weight",
                                      .qkv_bias = "attn.qkv.bias",
                                      .out = "attn.proj",
                                      .fc1 = "mlp.fc1",
                                      .fc2 = "mlp.fc2"};

static void blocks(reco_loader *l, reco_tower *tower, const char *prefix, const reco_tower_spec *spec)
{
    reco_block_names names = native;
    if (spec->layer_scale) {
        names.scale1 = "ls_1.gamma";
        names.scale2 = "ls_2.gamma";
    }
    reco_load_blocks(l, tower, prefix, spec, &names);
}

static void native_image(reco_loader *l, reco_model *m)
{
    static const char p[] = "visual.";
    size_t width = m->spec.image.width;
    reco_tower *t = &m->image;
    blocks(l, t, p, &m->spec.image);
    t->embedding = reco_load_vector(l, p, "class_embedding", width);
    t->positions = reco_load_grid(l, p, "positional_embedding", 2, &m->spec);
    t->patches = reco_load_patches(l, p, "conv1", width, m->spec.patch, false);
    if (!m->no_ln_pre) {
        t->ln_pre_weight = reco_load_vector(l, p, "ln_pre.weight", width);
        t->ln_pre_bias = reco_load_vector(l, p, "ln_pre.bias", width);
    }
    t->ln_post_weight = reco_load_vector(l, p, "ln_post.weight", width);
    t->ln_post_bias = reco_load_vector(l, p, "ln_post.bias", width);
    t->projection = reco_load_projection(l, p, "proj", m->spec.d, width, true);
}

static reco_pooler *pooling_head(reco_loader *l, const reco_tower_spec *spec)
{
    static const char p[] = "visual.trunk.attn_pool.";
    size_t width = spec->width;
    float *latent = reco_load_tensor(l, p, "latent", 3, (size_t[]){1, 1, width});
    float *q = reco_load_matrix(l, p, "q.weight", width, width);
    float *q_bias = reco_load_vector(l, p, "q.bias", width);
    float *kv = reco_load_matrix(l, p, "kv.weight", 2 * width, width);
    float *kv_bias = reco_load_vector(l, p, "kv.bias", 2 * width);
    float *weight = NULL, *bias = NULL;
    if (l->status == RECO_OK) {
        weight = reco_alloc(l->ctx, 3 * width * width, sizeof(float), "pooling head");
        bias = reco_alloc(l->ctx, 3 * width, sizeof(float), "pooling head");
        if (!weight || !bias) l->status = RECO_E_NOMEM;
    }
    if (l->status == RECO_OK) {
        memcpy(weight, q, width * width * sizeof(float));
        memcpy(weight + width * width, kv, 2 * width * width * sizeof(float));
        memcpy(bias, q_bias, width * sizeof(float));
        memcpy(bias + width, kv_bias, 2 * width * sizeof(float));
    }
    reco_free(q);
    reco_free(q_bias);
    reco_free(kv);
    reco_free(kv_bias);
    reco_pooler *map = reco_load_pooler(l, spec, latent, weight, bias);
    if (!map) return NULL;
    map->out = reco_load_linear(l, p, "proj", width, width, RECO_ACT_NONE);
    map->ln_weight = reco_load_vector(l, p, "norm.weight", width);
    map->ln_bias = reco_load_vector(l, p, "norm.bias", width);
    map->fc1 = reco_load_linear(l, p, "mlp.fc1", spec->mlp, width, spec->act);
    map->fc2 = reco_load_linear(l, p, "mlp.fc2", width, spec->mlp, RECO_ACT_NONE);
    return map;
}

/* Width, layers and MLP are nowhere but in the tensors. */
static void timm_sizes(reco_loader *l, reco_model *m)
{
    reco_tower_spec *spec = &m->spec.image;
    const reco_tensor *patches = reco_weights_find(l->weights, "visual.trunk.patch_embed.proj.weight"),
                      *mlp = reco_weights_find(l->weights, "visual.trunk.blocks.0.mlp.fc1.weight");
    if (!patches || patches->rank != 4 || !mlp || mlp->rank != 2) {
        l->status =
            reco_fail(l->ctx, RECO_E_FORMAT, "%s: no tensor visual.trunk.%s of rank %d", m->weights.path,
                      patches && patches->rank == 4 ? "blocks.0.mlp.fc1.weight" : "patch_embed.proj.weight",
                      patches && patches->rank == 4 ? 2 : 4);
        return;
    }
    spec->width = patches->shape[0];
    spec->mlp = mlp->shape[0];
    for (bool more = true; more && spec->layers < 1024; spec->layers += more) {
        char prefix[64];
        snprintf(prefix, sizeof prefix, "visual.trunk.blocks.%zu.", spec->layers);
        more = reco_weights_prefix(l->weights, prefix);
    }
    if (spec->width < 1 || spec->width > 65536 || spec->width % spec->heads != 0 || spec->mlp < 1 ||
        spec->mlp > 1 << 20)
        l->status =
            reco_fail(l->ctx, RECO_E_FORMAT,
                      "%s: tensor visual.trunk.patch_embed.proj.weight: width %zu, want a multiple of "
                      "%zu heads up to 65536",
                      m->weights.path, spec->width, spec->heads);
    else if (spec->pool == RECO_POOL_MAP && spec->width != m->spec.d)
        l->status =
            reco_fail(l->ctx, RECO_E_FORMAT,
                      "%s: tensor visual.trunk.patch_embed.proj.weight: width %zu, but embed_dim is %zu",
                      m->weights.path, spec->width, m->spec.d);
}

static void timm_image(reco_loader *l, reco_model *m)
{
    static const char p[] = "visual.trunk.";
    timm_sizes(l, m);
    if (l->status != RECO_OK) return;
    size_t width = m->spec.image.width;
    reco_tower *t = &m->image;
    reco_load_blocks(l, t, p, &m->spec.image, &timm);
    bool siglip = m->spec.image.pool == RECO_POOL_MAP;
    t->positions = reco_load_grid(l, p, "pos_embed", 3, &m->spec);
    t->patches = reco_load_patches(l, p, "patch_embed.proj", width, m->spec.patch, siglip);
    t->ln_post_weight = reco_load_vector(l, p, "norm.weight", width);
    t->ln_post_bias = reco_load_vector(l, p, "norm.bias", width);
    if (siglip) {
        t->map = pooling_head(l, &m->spec.image);
        return;
    }
    t->embedding = reco_load_tensor(l, p, "cls_token", 3, (size_t[]){1, 1, width});
    t->ln_pre_weight = reco_load_vector(l, p, "norm_pre.weight", width);
    t->ln_pre_bias = reco_load_vector(l, p, "norm_pre.bias", width);
    t->projection = reco_load_linear(l, p, "head", m->spec.d, width, RECO_ACT_NONE);
}

static void text_tower(reco_loader *l, reco_model *m)
{
    /* open_clip keeps the text tower at the top or, with custom_text, by itself. */
    const char *p = reco_weights_prefix(l->weights, "text.") ? "text." : "";
    size_t width = m->spec.text.width, d = m->spec.d;
    reco_tower *t = &m->text;
    char bias[64];
    snprintf(bias, sizeof bias, "%stext_projection.weight", p);
    blocks(l, t, p, &m->spec.text);
    t->causal = m->spec.causal;
    t->tokens = reco_load_table(l, p, "token_embedding.weight", m->spec.vocab, width);
    t->positions = reco_load_matrix(l, p, "positional_embedding", m->spec.context, width);
    t->ln_post_weight = reco_load_vector(l, p, "ln_final.weight", width);
    t->ln_post_bias = reco_load_vector(l, p, "ln_final.bias", width);
    if (m->no_text_projection && width != d)
        l->status = reco_fail(l->ctx, RECO_E_FORMAT,
                              "%s: text_cfg.width %zu is not embed_dim %zu, and proj_type is none", m->dir,
                              width, d);
    else if (!m->no_text_projection && reco_weights_find(l->weights, bias)) /* proj_bias: a Linear */
        t->projection = reco_load_linear(l, p, "text_projection", d, width, RECO_ACT_NONE);
    else if (!m->no_text_projection)
        t->projection = reco_load_projection(l, p, "text_projection", d, width, true);
}

reco_status reco_weights_openclip(reco_ctx *ctx, reco_model *model)
{
    reco_loader l = {.ctx = ctx, .weights = &model->weights, .precision = model->precision};
    l.check = !(model->sides & RECO_SIDES_IMAGE);
    if (model->timm_image)
        timm_image(&l, model);
    else
        native_image(&l, model);
    l.check = !(model->sides & RECO_SIDES_TEXT);
    text_tower(&l, model);
    model->logit_scale = expf(reco_load_scalar(&l, "logit_scale"));
    model->has_logit_bias = reco_weights_find(&model->weights, "logit_bias") != NULL;
    if (model->has_logit_bias) model->logit_bias = reco_load_scalar(&l, "logit_bias");
    return l.status;
}
