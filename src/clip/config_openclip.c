/* open_clip_config.json: model_cfg, or the same keys at the top as in open_clip's own list of models. What would
 * change the numbers and is not done here is refused by its key. */
#include "clip/reader.h"

#include <stdio.h>

/* Of a feature: missing, null, false, 0 or "". */
static bool off(const json_t *value)
{
    return !value || json_is_null(value) || json_is_false(value) ||
           (json_is_number(value) && json_number_value(value) == 0) ||
           (json_is_string(value) && !*json_string_value(value));
}

static void refuse_keys(reco_reader *r, const char *const *keys)
{
    for (; *keys; keys++)
        if (!off(reco_read_value(r, *keys)))
            reco_read_fail(r, RECO_E_UNSUPPORTED, *keys, "is set, which reco does not support");
}

/* A key that open_clip does not have either, or has from a later version on, could mean anything. */
static void nothing_but(reco_reader *r, const char *const *keys)
{
    json_t *object = (json_t *)r->object, *value; /* jansson's iterator is not const, but changes nothing */
    const char *key;
    json_object_foreach(object, key, value)
    {
        size_t i = 0;
        while (keys[i] && strcmp(keys[i], key) != 0) i++;
        if (!keys[i] && !off(value))
            reco_read_fail(r, RECO_E_UNSUPPORTED, key, "is set, a key that reco does not know");
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
    if (kwargs && (!json_is_object(kwargs) || json_object_size(kwargs) != (value ? 1u : 0u)))
        reco_read_fail(r, RECO_E_UNSUPPORTED, section, "has keys that reco does not support, want %s", key);
    return value;
}

/* All keys that open_clip has. Those that nothing below reads change nothing: they are for training, of a part that is
 * refused, say what the tensors say (proj_bias), or give out more beside the embedding (output_tokens). */
#define BLOCK_KEYS                                                                                         \
    "layers", "width", "mlp_ratio", "ls_init_value", "pool_type", "final_ln_after_pool", "act_kwargs",     \
        "norm_kwargs", "block_type", "qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner",   \
        "scale_attn", "scale_fc", "output_tokens"
static const char *const image_keys[] = {BLOCK_KEYS,          "head_width",
                                         "patch_size",        "image_size",
                                         "no_ln_pre",         "pos_embed_type",
                                         "attentional_pool",  "timm_model_name",
                                         "timm_pool",         "timm_proj",
                                         "patch_dropout",     "attn_pooler_queries",
                                         "attn_pooler_heads", "timm_model_pretrained",
                                         "timm_proj_bias",    "timm_drop",
                                         "timm_drop_path",    NULL};
static const char *const text_keys[] = {BLOCK_KEYS,          "heads",          "context_length",
                                        "vocab_size",        "eos_id",         "embed_cls",
                                        "no_causal_mask",    "proj_type",      "proj_bias",
                                        "hf_tokenizer_name", "tokenizer_mode", "tokenizer_kwargs",
                                        "hf_model_name",     "pad_id",         "hf_model_pretrained",
                                        "hf_proj_type",      "hf_pooler_type", NULL};
static const char *const model_keys[] = {"embed_dim",
                                         "vision_cfg",
                                         "text_cfg",
                                         "quick_gelu",
                                         "custom_text",
                                         "multimodal_cfg",
                                         "preprocess_cfg",
                                         "init_logit_scale",
                                         "init_logit_bias",
                                         "output_dict",
                                         "cast_dtype",
                                         "nonscalar_logit_scale",
                                         NULL};

/* What the native blocks of both towers have in common. */
static void blocks(reco_reader *r, reco_tower_spec *spec, size_t width, char *act, bool quick)
{
    static const char *const features[] = {
        "qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc", NULL};
    static const char *const types[] = {"default", "custom"};
    spec->present = true;
    spec->width = reco_read_size(r, "width", width, 1, 65536);
    spec->layers = reco_read_size(r, "layers", 12, 1, 1024);
    double ratio = 4;
    if (reco_read_value(r, "mlp_ratio")) ratio = reco_read_number(r, "mlp_ratio", 4, 1e-4, 64);
    spec->mlp = (size_t)((double)spec->width * ratio);
    if (spec->mlp < 1) reco_read_fail(r, RECO_E_FORMAT, "mlp_ratio", "leaves no MLP");
    refuse_keys(r, features);
    choice(r, "block_type", "default", types, 2);
    spec->layer_scale = reco_read_value(r, "ls_init_value") != NULL;
    const json_t *eps = only(r, "norm_kwargs", "eps"), *approximate = only(r, "act_kwargs", "approximate");
    spec->eps = json_is_number(eps) ? (float)json_number_value(eps) : 1e-5f;
    if (!(spec->eps >= 0 && spec->eps < 1))
        reco_read_fail(r, RECO_E_FORMAT, "norm_kwargs", "has eps = %g, want 0..1", (double)spec->eps);
    if (eps && !json_is_number(eps))
        reco_read_fail(r, RECO_E_FORMAT, "norm_kwargs", "has an eps that is not a number");
    const char *name = json_is_string(approximate) ? json_string_value(approximate)
                       : approximate               ? ""
                                                   : "none";
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
        reco_read_fail(r, RECO_E_FORMAT, key, "gives %zu heads, and width %zu is not a multiple of that",
                       spec->heads, spec->width);
}

static void native_image(reco_reader *r, reco_model *model, bool quick)
{
    static const char *const features[] = {"attentional_pool", NULL};
    static const char *const pools[] = {"tok", "avg"}, *const positions[] = {"learnable", "sin_cos_2d"};
    reco_spec *spec = &model->spec;
    if (json_is_array(reco_read_value(r, "layers")))
        reco_read_fail(r, RECO_E_UNSUPPORTED, "layers",
                       "is a list, as in a ResNet; want a vision transformer");
    blocks(r, &spec->image, 768, model->image_act, quick);
    size_t head = reco_read_size(r, "head_width", 64, 1, 65536);
    spec->image.heads = spec->image.width / head;
    divides(r, &spec->image, "head_width");
    spec->patch = reco_read_square(r, "patch_size", 16, 1, 4096);
    refuse_keys(r, features);
    choice(r, "pos_embed_type", "learnable", positions, 2); /* either is in the weights */
    spec->image.pool = choice(r, "pool_type", "tok", pools, 2) ? RECO_POOL_MEAN : RECO_POOL_FIRST;
    spec->ln_post_last = reco_read_flag(r, "final_ln_after_pool", false);
    spec->class_token = true;
    model->no_ln_pre = reco_read_flag(r, "no_ln_pre", false);
}

/* Image towers of timm that are SigLIP's or CLIP's. Their widths are in the weights; heads and activation are known by
 * the name alone. */
static bool timm_name(reco_spec *spec, const char *name)
{
    static const struct {
        const char *size;
        size_t siglip, clip;            /* heads; 0: timm has none */
        unsigned tanh_patch, tanh_side; /* SigLIP's that have the other activation; 1: all */
    } known[] = {{"xsmall", 0, 4, 0, 0},   {"medium", 0, 8, 0, 0},    {"betwixt", 0, 10, 0, 0},
                 {"base", 12, 12, 32, 0},  {"large", 16, 16, 0, 512}, {"huge", 0, 16, 0, 0},
                 {"giant", 0, 16, 0, 0},   {"gigantic", 0, 16, 0, 0}, {"so400m", 16, 0, 16, 0},
                 {"giantopt", 16, 0, 1, 0}};
    char size[16], rest[32];
    unsigned patch = 0, side = 0;
    int end = 0;
    if (sscanf(name, "vit_%15[a-z0-9]_patch%4u_%31[a-z_]%4u%n", size, &patch, rest, &side, &end) != 4 ||
        name[end] || patch < 1 || patch > 4096)
        return false;
    bool siglip = strcmp(rest, "siglip_") == 0, quick = strcmp(rest, "clip_quickgelu_") == 0;
    if (!siglip && !quick && strcmp(rest, "clip_") != 0) return false;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        size_t heads = siglip ? known[i].siglip : known[i].clip;
        if (strcmp(size, known[i].size) != 0 || !heads) continue;
        bool tanh = siglip && (known[i].tanh_patch == 1 || patch == known[i].tanh_patch ||
                               side == known[i].tanh_side);
        spec->patch = patch;
        spec->class_token = !siglip;
        spec->image = (reco_tower_spec){.present = true,
                                        .heads = heads,
                                        .eps = siglip ? 1e-6f : 1e-5f,
                                        .act = quick  ? RECO_ACT_QUICK_GELU
                                               : tanh ? RECO_ACT_GELU_TANH
                                                      : RECO_ACT_GELU,
                                        .pool = siglip ? RECO_POOL_MAP : RECO_POOL_FIRST};
        return true;
    }
    return false;
}

static void timm_image(reco_reader *r, reco_model *model, const char *name)
{
    static const char *const map[] = {"map"}, *const token[] = {"token"}, *const none[] = {"none"};
    reco_spec *spec = &model->spec;
    model->timm_image = true;
    if (!timm_name(spec, name)) {
        reco_read_fail(r, RECO_E_UNSUPPORTED, "timm_model_name",
                       "= \"%.60s\", not an image tower of CLIP's or SigLIP's family "
                       "(vit_SIZE_patchN_clip_M, vit_SIZE_patchN_siglip_M)",
                       name);
        return;
    }
    bool siglip = spec->image.pool == RECO_POOL_MAP;
    choice(r, "timm_pool", "avg", siglip ? map : token, 1);
    /* Null is not the same as a missing key here: the classifier of timm's model is the projection then. */
    const json_t *projection = json_object_get(r->object, "timm_proj");
    if (siglip)
        choice(r, "timm_proj", "linear", none, 1);
    else if (!projection || !off(projection))
        reco_read_fail(r, RECO_E_UNSUPPORTED, "timm_proj", "= \"%.60s\", want null",
                       projection ? reco_read_text(r, "timm_proj", "") : "linear");
    snprintf(model->image_act, sizeof model->image_act, "%s",
             spec->image.act == RECO_ACT_GELU        ? "gelu"
             : spec->image.act == RECO_ACT_GELU_TANH ? "gelu_tanh"
                                                     : "quick_gelu");
}

/* open_clip has CLIP's tokenizer inside; only hf_tokenizer_name makes it read the folder's. */
static void tokenizer(reco_reader *r, reco_model *model)
{
    static const char *const clean_alone[] = {"clean", NULL}, *const no_mode[] = {"tokenizer_mode", NULL};
    static const char *const cleans[] = {"lower", "whitespace", "canonicalize"};
    static const reco_clean clean[] = {RECO_CLEAN_LOWER, RECO_CLEAN_WHITESPACE, RECO_CLEAN_CANONICALIZE};
    model->folder_tokenizer = *reco_read_text(r, "hf_tokenizer_name", "") != 0;
    if (r->status != RECO_OK) return;
    refuse_keys(r, no_mode);
    reco_reader kwargs = reco_read_section(r, "tokenizer_kwargs");
    kwargs.section = "tokenizer_kwargs";
    nothing_but(&kwargs, clean_alone);
    model->clean =
        clean[choice(&kwargs, "clean", model->folder_tokenizer ? "whitespace" : "lower", cleans, 3)];
    r->status = kwargs.status;
    if (r->status == RECO_E_UNSUPPORTED) { /* pictures can be embedded all the same */
        model->no_tokenizer = reco_strdup(r->ctx, reco_ctx_error(r->ctx));
        r->status = model->no_tokenizer
                        ? reco_guess(r->ctx, model, "texts cannot be embedded: %s", model->no_tokenizer)
                        : RECO_E_NOMEM;
    }
}

static void read_openclip_text(reco_reader *r, reco_model *model, bool quick)
{
    static const char *const features[] = {"embed_cls", NULL};
    static const char *const pools[] = {"argmax", "eos", "first", "last"};
    static const reco_pool pool[] = {RECO_POOL_MAX, RECO_POOL_EOS, RECO_POOL_FIRST, RECO_POOL_LAST};
    static const char *const projections[] = {"linear", "none"};
    reco_spec *spec = &model->spec;
    const char *other = reco_read_text(r, "hf_model_name", "");
    if (*other)
        reco_read_fail(r, RECO_E_UNSUPPORTED, "hf_model_name",
                       "= \"%.60s\", not a text tower of CLIP's family", other);
    nothing_but(r, text_keys);
    refuse_keys(r, features);
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
    char *path = reco_path_join(ctx, model->dir, "open_clip_config.json");
    if (!path) RECO_GO(RECO_E_NOMEM);
    RECO_GO(reco_json_load(ctx, &root, path));
    model->family = "open_clip";
    reco_reader top = {ctx, model, path, "", root, RECO_OK, false};
    reco_reader cfg = json_object_get(root, "model_cfg") ? reco_read_section(&top, "model_cfg") : top;
    reco_reader r = {ctx, model, path, "", cfg.object, cfg.status, false};
    if (!off(reco_read_value(&r, "multimodal_cfg")))
        reco_read_fail(&r, RECO_E_UNSUPPORTED, "multimodal_cfg",
                       "is set (CoCa), which reco does not support");
    if (cfg.object != root) nothing_but(&r, model_keys);
    if (!reco_read_value(&r, "vision_cfg") || !reco_read_value(&r, "text_cfg"))
        reco_read_fail(&r, RECO_E_FORMAT, "model_cfg", "has no vision_cfg or no text_cfg");
    if (!reco_read_value(&r, "embed_dim")) reco_read_fail(&r, RECO_E_FORMAT, "embed_dim", "is missing");
    model->spec.d = reco_read_size(&r, "embed_dim", 512, 1, 65536);
    bool quick = reco_read_flag(&r, "quick_gelu", false);
    reco_reader image = reco_read_section(&r, "vision_cfg");
    nothing_but(&image, image_keys);
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
    read_openclip_text(&words, model, quick);
    status = words.status;
out:
    json_decref(root);
    reco_free(path);
    return status;
}
