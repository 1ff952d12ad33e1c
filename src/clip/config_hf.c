/* config.json of a Hugging Face CLIPModel. Keys that are missing have the defaults of transformers' CLIPConfig. */
#include "clip/clip_internal.h"

typedef struct reader {
    reco_ctx *ctx;
    const char *path, *section;
    const json_t *object;
    reco_status status;
} reader;

static size_t number(reader *r, const char *key, size_t otherwise, size_t low, size_t high)
{
    const json_t *value = json_object_get(r->object, key);
    if (r->status != RECO_OK || !value || json_is_null(value)) return otherwise;
    json_int_t n = json_integer_value(value);
    if (!json_is_integer(value) || n < (json_int_t)low || (uint64_t)n > high) {
        r->status = reco_fail(r->ctx, RECO_E_FORMAT, "%s: %s.%s = %lld, want %zu..%zu", r->path, r->section,
                              key, (long long)n, low, high);
        return otherwise;
    }
    return (size_t)n;
}

reco_status reco_act_named(reco_ctx *ctx, reco_act *act, const char *name, const char *path)
{
    if (strcmp(name, "quick_gelu") == 0)
        *act = RECO_ACT_QUICK_GELU;
    else if (strcmp(name, "gelu") == 0)
        *act = RECO_ACT_GELU;
    else
        return reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: activation \"%s\", want quick_gelu or gelu", path,
                         name);
    return RECO_OK;
}

static void tower(reader *r, reco_tower_spec *spec, const reco_tower_spec *defaults, char act[16])
{
    spec->width = number(r, "hidden_size", defaults->width, 1, 65536);
    spec->layers = number(r, "num_hidden_layers", defaults->layers, 1, 1024);
    spec->heads = number(r, "num_attention_heads", defaults->heads, 1, 1024);
    spec->mlp = number(r, "intermediate_size", defaults->mlp, 1, 1 << 20);
    if (r->status != RECO_OK) return;
    const json_t *eps = json_object_get(r->object, "layer_norm_eps"),
                 *name = json_object_get(r->object, "hidden_act");
    spec->eps = json_is_number(eps) ? (float)json_number_value(eps) : 1e-5f;
    if (!(spec->eps >= 0 && spec->eps < 1))
        r->status = reco_fail(r->ctx, RECO_E_FORMAT, "%s: %s.layer_norm_eps = %g, want 0..1", r->path,
                              r->section, (double)spec->eps);
    else if (spec->width % spec->heads != 0)
        r->status =
            reco_fail(r->ctx, RECO_E_FORMAT, "%s: %s.hidden_size = %zu is not a multiple of %zu heads",
                      r->path, r->section, spec->width, spec->heads);
    else if (name && !json_is_string(name))
        r->status =
            reco_fail(r->ctx, RECO_E_FORMAT, "%s: %s.hidden_act is not a string", r->path, r->section);
    if (r->status != RECO_OK) return;
    const char *text = name ? json_string_value(name) : "quick_gelu";
    r->status = reco_act_named(r->ctx, &spec->act, text, r->path);
    if (r->status == RECO_OK) memcpy(act, text, strlen(text) + 1);
}

/* transformers pools at the first eos token, but a configuration with eos_token_id 2 (written before that was fixed)
 * at the highest id. */
static void eos_rule(reader *r, reco_spec *spec)
{
    size_t eos = number(r, "eos_token_id", 49407, 0, INT32_MAX);
    spec->pool_max = eos == 2;
    spec->eos = (int32_t)eos;
}

reco_status reco_config_hf(reco_ctx *ctx, reco_model *model)
{
    static const reco_tower_spec image_defaults = {.width = 768, .layers = 12, .heads = 12, .mlp = 3072};
    static const reco_tower_spec text_defaults = {.width = 512, .layers = 12, .heads = 8, .mlp = 2048};
    reco_spec *spec = &model->spec;
    json_t *root = NULL, *nothing = json_object();
    reco_status status = RECO_OK;
    char *path = reco_path_join(ctx, model->dir, "config.json");
    if (!path || !nothing) RECO_GO(RECO_E_NOMEM);
    RECO_GO(reco_json_load(ctx, &root, path));
    const char *type = json_string_value(json_object_get(root, "model_type"));
    if (!type || strcmp(type, "clip") != 0)
        RECO_GO(
            reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: model_type \"%s\", want clip", path, type ? type : ""));
    const json_t *image = json_object_get(root, "vision_config"),
                 *text = json_object_get(root, "text_config");
    reader r = {ctx, path, "vision_config", json_is_object(image) ? image : nothing, RECO_OK};
    tower(&r, &spec->image, &image_defaults, model->image_act);
    spec->image_size = number(&r, "image_size", 224, 1, 4096);
    spec->patch = number(&r, "patch_size", 32, 1, 4096);
    if (number(&r, "num_channels", 3, 1, 64) != 3 && r.status == RECO_OK)
        r.status = reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: vision_config.num_channels, want 3", path);
    if (r.status == RECO_OK && spec->image_size < spec->patch)
        r.status = reco_fail(ctx, RECO_E_FORMAT, "%s: image_size %zu is below patch_size %zu", path,
                             spec->image_size, spec->patch);
    r.section = "text_config";
    r.object = json_is_object(text) ? text : nothing;
    tower(&r, &spec->text, &text_defaults, model->text_act);
    spec->context = number(&r, "max_position_embeddings", 77, 2, 65536);
    spec->vocab = number(&r, "vocab_size", 49408, 1, 1 << 24);
    eos_rule(&r, spec);
    r.section = "config";
    r.object = root;
    spec->d = number(&r, "projection_dim", 512, 1, 65536);
    status = r.status;
out:
    json_decref(root);
    json_decref(nothing);
    reco_free(path);
    return status;
}
