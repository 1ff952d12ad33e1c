/* open_clip_config.json: model_cfg, or the same keys at the top as in open_clip's own list of models. What would
 * change the numbers and is not done here is refused by its key. */
#include "clip/reader.h"

#include <stdio.h>

/* Features that are off where the key is missing, null, false or 0. */
static void refuse(reco_reader *r, const char *const *keys)
{
    for (; *keys; keys++) {
        const json_t *value = reco_read_value(r, *keys);
        bool off = !value || json_is_false(value) ||
                   (json_is_number(value) && json_number_value(value) == 0) ||
                   (json_is_string(value) && !*json_string_value(value));
        if (!off) reco_read_fail(r, RECO_E_UNSUPPORTED, *keys, "is set, which reco does not support");
    }
}

/* A name that must be one of a list; its place. */
static size_t choice(reco_reader *r, const char *key, const char *otherwise, const char *const *names,
                     size_t n)
{
    const char *name = reco_read_text(r, key, otherwise);
    for (size_t i = 0; i < n; i++)
        if (strcmp(name, names[i]) == 0) return i;
    char list[128] = "";
    for (size_t i = 0; i < n; i++)
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", names[i]);
    reco_read_fail(r, RECO_E_UNSUPPORTED, key, "= \"%.60s\", want %s", name, list);
    return 0;
}

/* Keyword arguments of a layer: only `key` is known. */
static const json_t *only(reco_reader *r, const char *section, const char *key)
{
    const json_t *kwargs = reco_read_value(r, section), *value = json_object_get(kwargs, key);
    if (kwargs && json_object_size(kwargs) != (value ? 1u : 0u))
        reco_read_fail(r, RECO_E_UNSUPPORTED, section, "has keys that reco does not support, want %s", key);
    return value;
}

/* What the native blocks of both towers have in common. */
static void blocks(reco_reader *r, reco_tower_spec *spec, size_t width, char *act, bool quick)
{
    static const char *const off[] = {"qk_norm",    "scaled_cosine_attn", "scale_heads", "scale_attn_inner",
                                      "scale_attn", "scale_fc",           NULL};
    static const char *const types[] = {"default", "custom"};
    spec->present = true;
    spec->width = reco_read_size(r, "width", width, 1, 65536);
    spec->layers = reco_read_size(r, "layers", 12, 1, 1024);
    double ratio = 4;
    if (reco_read_value(r, "mlp_ratio")) ratio = reco_read_number(r, "mlp_ratio", 4, 1e-4, 64);
    spec->mlp = (size_t)((double)spec->width * ratio);
    if (spec->mlp < 1) reco_read_fail(r, RECO_E_FORMAT, "mlp_ratio", "leaves no MLP");
    refuse(r, off);
    choice(r, "block_type", "default", types, 2);
    const json_t *eps = only(r, "norm_kwargs", "eps"), *approximate = only(r, "act_kwargs", "approximate");
    spec->eps = json_is_number(eps) ? (float)json_number_value(eps) : 1e-5f;
    if (!(spec->eps >= 0 && spec->eps < 1))
        reco_read_fail(r, RECO_E_FORMAT, "norm_kwargs", "has eps = %g, want 0..1", (double)spec->eps);
    const char *name = json_is_string(approximate) ? json_string_value(approximate) : "none";
    spec->act = quick ? RECO_ACT_QUICK_GELU : RECO_ACT_GELU;
    if (strcmp(name, "tanh") == 0 && !quick)
        spec->act = RECO_ACT_GELU_TANH;
    else if (strcmp(name, "none") != 0 || (approximate && quick))
        reco_read_fail(r, RECO_E_UNSUPPORTED, "act_kwargs", "has approximate = \"%.60s\"", name);
    snprintf(act, 32, "%s", quick ? "quick_gelu" : spec->act == RECO_ACT_GELU ? "gelu" : "gelu_tanh");
}

static void divides(reco_reader *r, const reco_tower_spec *spec, const char *key)
{
    if (r->status == RECO_OK && (spec->heads < 1 || spec->width % spec->heads != 0))
        reco_read_fail(r, RECO_E_FORMAT, key, "gives %zu heads, and width %zu is no multiple of that",
                       spec->heads, spec->width);
}

static void native_image(reco_reader *r, reco_model *model, bool quick)
{
    static const char *const off[] = {"attentional_pool", NULL};
    static const char *const pools[] = {"tok", "avg"}, *const positions[] = {"learnable", "sin_cos_2d"};
    reco_spec *spec = &model->spec;
    if (json_is_array(reco_read_value(r, "layers")))
        reco_read_fail(r, RECO_E_UNSUPPORTED, "layers", "is a list, a ResNet; want a vision transformer");
    blocks(r, &spec->image, 768, model->image_act, quick);
    size_t head = reco_read_size(r, "head_width", 64, 1, 65536);
    spec->image.heads = spec->image.width / head;
    divides(r, &spec->image, "head_width");
    spec->patch = reco_read_square(r, "patch_size", 16, 1, 4096);
    refuse(r, off);
    choice(r, "pos_embed_type", "learnable", positions, 2); /* either is in the weights */
    spec->image.pool = choice(r, "pool_type", "tok", pools, 2) ? RECO_POOL_MEAN : RECO_POOL_FIRST;
    spec->ln_post_last = reco_read_flag(r, "final_ln_after_pool", false);
    spec->class_token = true;
    model->no_ln_pre = reco_read_flag(r, "no_ln_pre", false);
}

/* SigLIP's image towers are timm's. Their widths are in the weights; heads are known by the name alone. */
static void timm_image(reco_reader *r, reco_model *model, const char *name)
{
    static const struct {
        const char *prefix;
        size_t heads;
        unsigned tanh_patch, tanh_side; /* those of timm's list that have the other activation; 1: all */
    } known[] = {{"vit_base_patch", 12, 32, 0},
                 {"vit_large_patch", 16, 0, 512},
                 {"vit_so400m_patch", 16, 16, 0},
                 {"vit_giantopt_patch", 16, 1, 0}};
    static const char *const pools[] = {"map"}, *const projections[] = {"none"};
    reco_spec *spec = &model->spec;
    unsigned patch = 0, side = 0;
    int end = 0;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        size_t n = strlen(known[i].prefix);
        if (strncmp(name, known[i].prefix, n) == 0 &&
            sscanf(name + n, "%4u_siglip_%4u%n", &patch, &side, &end) == 2 && !name[n + (size_t)end]) {
            spec->image.heads = known[i].heads;
            bool tanh =
                known[i].tanh_patch == 1 || patch == known[i].tanh_patch || side == known[i].tanh_side;
            spec->image.act = tanh ? RECO_ACT_GELU_TANH : RECO_ACT_GELU;
        }
    }
    if (!spec->image.heads)
        reco_read_fail(r, RECO_E_UNSUPPORTED, "timm_model_name",
                       "= \"%.60s\", want vit_{base,large,so400m,giantopt}_patchN_siglip_M", name);
    choice(r, "timm_pool", "avg", pools, 1);
    choice(r, "timm_proj", "linear", projections, 1);
    spec->image.present = true;
    spec->image.pool = RECO_POOL_MAP;
    spec->image.eps = 1e-6f;
    snprintf(model->image_act, sizeof model->image_act, "%s",
             spec->image.act == RECO_ACT_GELU ? "gelu" : "gelu_tanh");
    spec->patch = patch;
    if (patch < 1 || patch > 4096)
        reco_read_fail(r, RECO_E_UNSUPPORTED, "timm_model_name", "= \"%.60s\": patch", name);
}

/* open_clip has CLIP's tokenizer inside; only hf_tokenizer_name makes it read the folder's. */
static void tokenizer(reco_reader *r, reco_model *model)
{
    static const char *const off[] = {"additional_special_tokens", "reduction_mask", "strip_sep_token",
                                      "bpe_path", NULL};
    static const char *const cleans[] = {"lower", "whitespace", "canonicalize"};
    static const reco_clean clean[] = {RECO_CLEAN_LOWER, RECO_CLEAN_WHITESPACE, RECO_CLEAN_CANONICALIZE};
    static const char *const no_mode[] = {"tokenizer_mode", NULL};
    model->folder_tokenizer = *reco_read_text(r, "hf_tokenizer_name", "") != 0;
    refuse(r, no_mode);
    reco_reader kwargs = reco_read_section(r, "tokenizer_kwargs");
    kwargs.section = "tokenizer_kwargs";
    refuse(&kwargs, off);
    model->clean =
        clean[choice(&kwargs, "clean", model->folder_tokenizer ? "whitespace" : "lower", cleans, 3)];
    r->status = kwargs.status;
}

static void text(reco_reader *r, reco_model *model, bool quick)
{
    static const char *const off[] = {"hf_model_name", "embed_cls", NULL};
    static const char *const pools[] = {"argmax", "eos", "first", "last"};
    static const reco_pool pool[] = {RECO_POOL_MAX, RECO_POOL_EOS, RECO_POOL_FIRST, RECO_POOL_LAST};
    static const char *const projections[] = {"linear", "none"};
    reco_spec *spec = &model->spec;
    refuse(r, off);
    blocks(r, &spec->text, 512, model->text_act, quick);
    spec->text.heads = reco_read_size(r, "heads", 8, 1, 1024);
    divides(r, &spec->text, "heads");
    spec->context = reco_read_size(r, "context_length", 77, 2, 65536);
    spec->vocab = reco_read_size(r, "vocab_size", 49408, 1, 1 << 24);
    spec->text.pool = pool[choice(r, "pool_type", "argmax", pools, 4)];
    if (spec->text.pool == RECO_POOL_EOS) spec->eos = (int32_t)reco_read_size(r, "eos_id", 2, 0, INT32_MAX);
    spec->causal = !reco_read_flag(r, "no_causal_mask", false);
    spec->pad = !spec->causal || spec->text.pool == RECO_POOL_LAST;
    model->no_text_projection = choice(r, "proj_type", "linear", projections, 2) == 1;
    tokenizer(r, model);
}

reco_status reco_config_openclip(reco_ctx *ctx, reco_model *model)
{
    json_t *root = NULL;
    reco_status status = RECO_OK;
    static const char *const off[] = {"multimodal_cfg", NULL};
    char *path = reco_path_join(ctx, model->dir, "open_clip_config.json");
    if (!path) RECO_GO(RECO_E_NOMEM);
    RECO_GO(reco_json_load(ctx, &root, path));
    model->family = "open_clip";
    reco_reader top = {ctx, model, path, "", root, RECO_OK};
    reco_reader cfg = json_object_get(root, "model_cfg") ? reco_read_section(&top, "model_cfg") : top;
    reco_reader r = {ctx, model, path, "", cfg.object, cfg.status};
    refuse(&r, off);
    if (!reco_read_value(&r, "vision_cfg") || !reco_read_value(&r, "text_cfg"))
        reco_read_fail(&r, RECO_E_FORMAT, "model_cfg", "has no vision_cfg or no text_cfg");
    if (!reco_read_value(&r, "embed_dim")) reco_read_fail(&r, RECO_E_FORMAT, "embed_dim", "is missing");
    model->spec.d = reco_read_size(&r, "embed_dim", 512, 1, 65536);
    bool quick = reco_read_flag(&r, "quick_gelu", false);
    reco_reader image = reco_read_section(&r, "vision_cfg");
    const char *timm = reco_read_text(&image, "timm_model_name", "");
    if (*timm)
        timm_image(&image, model, timm);
    else
        native_image(&image, model, quick);
    model->spec.image_size = reco_read_square(&image, "image_size", 224, 1, 4096);
    if (image.status == RECO_OK && model->spec.image_size < model->spec.patch)
        reco_read_fail(&image, RECO_E_FORMAT, "image_size", "%zu is below patch_size %zu",
                       model->spec.image_size, model->spec.patch);
    r.status = image.status;
    reco_reader words = reco_read_section(&r, "text_cfg");
    text(&words, model, quick);
    status = words.status;
out:
    json_decref(root);
    reco_free(path);
    return status;
}
