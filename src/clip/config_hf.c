/* config.json of Hugging Face: CLIPModel and SiglipModel, or one of their towers alone, whose file is flat. Missing
 * keys have the defaults of transformers' configuration classes. Null counts as missing only for whole sections,
 * architectures and projection_size; for other keys transformers takes null as a value, and fails. */
#include "clip/reader.h"

/* What the two families assume. */
typedef struct defaults {
    reco_tower_spec image, text;
    size_t patch, context, vocab;
    double eps;
    const char *act;
} defaults;

static const defaults clip = {.image = {.width = 768, .layers = 12, .heads = 12, .mlp = 3072},
                              .text = {.width = 512, .layers = 12, .heads = 8, .mlp = 2048},
                              .patch = 32,
                              .context = 77,
                              .vocab = 49408,
                              .eps = 1e-5,
                              .act = "quick_gelu"};
static const defaults siglip = {.image = {.width = 768, .layers = 12, .heads = 12, .mlp = 3072},
                                .text = {.width = 768, .layers = 12, .heads = 12, .mlp = 3072},
                                .patch = 16,
                                .context = 64,
                                .vocab = 32000,
                                .eps = 1e-6,
                                .act = "gelu_pytorch_tanh"};

static void tower(reco_reader *r, reco_tower_spec *spec, const reco_tower_spec *otherwise,
                  const defaults *family, char *act)
{
    spec->present = true;
    spec->width = reco_read_size(r, "hidden_size", otherwise->width, 1, 65536);
    spec->layers = reco_read_size(r, "num_hidden_layers", otherwise->layers, 1, 1024);
    spec->heads = reco_read_size(r, "num_attention_heads", otherwise->heads, 1, 1024);
    spec->mlp = reco_read_size(r, "intermediate_size", otherwise->mlp, 1, 1 << 20);
    spec->eps = (float)reco_read_number(r, "layer_norm_eps", family->eps, 0, 1);
    if (spec->width % spec->heads != 0)
        reco_read_fail(r, RECO_E_FORMAT, "hidden_size", "= %zu is not a multiple of %zu heads", spec->width,
                       spec->heads);
    reco_read_act(r, &spec->act, act, "hidden_act", family->act);
}

static void image(reco_reader *r, reco_model *model, bool is_siglip)
{
    const defaults *family = is_siglip ? &siglip : &clip;
    reco_spec *spec = &model->spec;
    tower(r, &spec->image, &family->image, family, model->image_act);
    spec->image_size = reco_read_square(r, "image_size", 224, 1, 4096);
    spec->patch = reco_read_square(r, "patch_size", family->patch, 1, 4096);
    spec->class_token = !is_siglip;
    spec->image.pool = is_siglip ? RECO_POOL_MAP : RECO_POOL_FIRST;
    const json_t *channels = json_object_get(r->object, "num_channels");
    if (channels && json_integer_value(channels) != 3)
        reco_read_fail(r, RECO_E_UNSUPPORTED, "num_channels", "is not 3");
    if (spec->image_size < spec->patch)
        reco_read_fail(r, RECO_E_FORMAT, "image_size", "%zu is below patch_size %zu", spec->image_size,
                       spec->patch);
    if (is_siglip && !reco_read_flag(r, "vision_use_head", true))
        reco_read_fail(r, RECO_E_UNSUPPORTED, "vision_use_head", "is false: no embedding without a head");
}

/* transformers pools CLIP at the first eos token, but where eos_token_id is 2 (as it wrote before that was fixed) at
 * the highest id. */
static void read_hf_text(reco_reader *r, reco_model *model, bool is_siglip)
{
    const defaults *family = is_siglip ? &siglip : &clip;
    reco_spec *spec = &model->spec;
    tower(r, &spec->text, &family->text, family, model->text_act);
    spec->context = reco_read_size(r, "max_position_embeddings", family->context, 2, 65536);
    spec->vocab = reco_read_size(r, "vocab_size", family->vocab, 1, 1 << 24);
    spec->causal = !is_siglip;
    spec->pad = is_siglip;
    spec->text.pool = RECO_POOL_LAST;
    if (is_siglip) return;
    spec->eos = (int32_t)reco_read_size(r, "eos_token_id", 49407, 0, INT32_MAX);
    spec->text.pool = spec->eos == 2 ? RECO_POOL_MAX : RECO_POOL_EOS;
}

/* vision_config, unless a vision_config_dict, which older versions wrote, is there to overrule it. */
static reco_reader section(reco_reader *r, const char *key, const char *older)
{
    return reco_read_section(r, reco_read_value(r, older) ? older : key);
}

/* The width of the embeddings: CLIP's own key, SigLIP's is that of the towers. */
static void width(reco_reader *root, reco_reader *image_section, reco_reader *text_section,
                  reco_model *model, bool is_siglip)
{
    reco_spec *spec = &model->spec;
    if (!is_siglip) {
        spec->d = reco_read_size(root, "projection_dim", 512, 1, 65536);
        return;
    }
    const json_t *given = text_section ? reco_read_value(text_section, "projection_size") : NULL;
    size_t of_text = spec->text.width;
    if (given) of_text = reco_read_size(text_section, "projection_size", of_text, 1, 65536);
    spec->d = text_section ? of_text : spec->image.width;
    if (image_section && text_section && of_text != spec->image.width)
        reco_read_fail(text_section, RECO_E_FORMAT, "projection_size",
                       "= %zu, but images have vision_config.hidden_size = %zu", of_text,
                       spec->image.width);
}

/* A repository may bring a model of its own code under a model_type that transformers has, as EVA-CLIP does. Towers
 * without a projection are told by their tensors. */
static void architecture(reco_reader *r)
{
    static const char *const families[] = {"CLIP", "Siglip"};
    static const char *const kinds[] = {"Model",
                                        "VisionModel",
                                        "VisionModelWithProjection",
                                        "TextModel",
                                        "TextModelWithProjection",
                                        "ForImageClassification"};
    const json_t *list = reco_read_value(r, "architectures");
    const char *name = json_string_value(json_array_get(list, 0));
    if (!list || (json_is_array(list) && json_array_size(list) == 0)) return;
    for (size_t f = 0; name && f < 2; f++)
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
            size_t n = strlen(families[f]);
            if (strncmp(name, families[f], n) == 0 && strcmp(name + n, kinds[k]) == 0) return;
        }
    reco_read_fail(r, RECO_E_UNSUPPORTED, "architectures", "= \"%.60s\", want CLIPModel or SiglipModel",
                   name ? name : "");
}

reco_status reco_config_hf(reco_ctx *ctx, reco_model *model)
{
    static const struct {
        const char *type, *family;
        bool siglip, image, text;
    } kinds[] = {{"clip", "hf-clip", false, true, true},
                 {"clip_vision_model", "hf-clip", false, true, false},
                 {"clip_text_model", "hf-clip", false, false, true},
                 {"siglip", "hf-siglip", true, true, true},
                 {"siglip_vision_model", "hf-siglip", true, true, false},
                 {"siglip_text_model", "hf-siglip", true, false, true}};
    enum { KINDS = sizeof kinds / sizeof *kinds };
    json_t *root = NULL;
    reco_status status = RECO_OK;
    char *path = reco_path_join(ctx, model->dir, "config.json");
    if (!path) RECO_GO(RECO_E_NOMEM);
    RECO_GO(reco_json_load(ctx, &root, path));
    const char *type = json_string_value(json_object_get(root, "model_type"));
    size_t k = 0;
    while (k < KINDS && strcmp(kinds[k].type, type ? type : "") != 0) k++;
    if (k == KINDS)
        RECO_GO(reco_fail(ctx, RECO_E_UNSUPPORTED,
                          "%s: model_type \"%.60s\" is another kind of model, want clip or siglip (or "
                          "their _vision_model or _text_model)",
                          path, type ? type : ""));
    bool whole = kinds[k].image && kinds[k].text, is_siglip = kinds[k].siglip;
    model->family = kinds[k].family;
    reco_reader r = {ctx, model, path, "", root, RECO_OK, true};
    architecture(&r);
    reco_reader i = whole ? section(&r, "vision_config", "vision_config_dict") : r;
    if (kinds[k].image) image(&i, model, is_siglip);
    r.status = i.status;
    reco_reader t = whole ? section(&r, "text_config", "text_config_dict") : r;
    if (kinds[k].text) read_hf_text(&t, model, is_siglip);
    r.status = t.status;
    if (r.status == RECO_OK)
        width(&r, kinds[k].image ? &i : NULL, kinds[k].text ? &t : NULL, model, is_siglip);
    status = r.status != RECO_OK ? r.status : t.status;
out:
    json_decref(root);
    reco_free(path);
    return status;
}
