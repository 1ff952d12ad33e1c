#include "fusion/tape.h"
#include "io/io.h"

#include <math.h>

static const char *const format_name = "reco-fusion-1";
static const char *const metric_name = "vote.metric";
static const char *const layer_name[] = {"none",       "vote",        "mean", "weighted",
                                         "relational", "transformer", "mlp"};
static const char *const sides_name[] = {"none", "image", "text", "both"};
static const char *const modality_name[] = {"", "uni", "cross"}; /* "": not said, the default */

const char *reco_layer_name(reco_layer layer)
{
    return layer >= RECO_LAYER_NONE && layer <= RECO_LAYER_MLP ? layer_name[layer] : "?";
}

/* Index of name in list, or -1. */
static int lookup(const char *const *list, int n, const char *name)
{
    for (int i = 0; name && i < n; i++)
        if (strcmp(list[i], name) == 0) return i;
    return -1;
}

/* ---- save ---- */

static char *dump(reco_ctx *ctx, json_t *json)
{
    char *text = json ? json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    if (!text) reco_fail_nomem(ctx, 0, "fusion metadata");
    return text;
}

static json_t *config_json(const reco_fusion *f)
{
    const reco_fusion_config *c = &f->config;
    json_t *json = json_pack("{ss, sI, sI, sf, ss}", "layer", layer_name[c->layer], "d", (json_int_t)c->d,
                             "k", (json_int_t)c->k, "min_similarity", (double)c->min_similarity, "sides",
                             sides_name[c->sides]);
    json_t *own = NULL;
    if (c->layer == RECO_LAYER_TRANSFORMER)
        own = json_pack("{sI, sI, sI, sf, sb}", "layers", (json_int_t)c->layers, "heads",
                        (json_int_t)c->heads, "mlp", (json_int_t)c->mlp, "eps", (double)c->eps, "scores",
                        c->scores);
    else if (c->layer == RECO_LAYER_RELATIONAL)
        own = json_pack("{sI}", "hidden", (json_int_t)c->hidden);
    else if (c->layer == RECO_LAYER_MLP)
        own = json_pack("{sI, sf}", "mlp", (json_int_t)c->mlp, "eps", (double)c->eps);
    else
        own = json_pack("{s[ff], s[ff]}", "beta", (double)c->beta[0], (double)c->beta[1], "gain",
                        (double)c->gain[0], (double)c->gain[1]);
    const reco_mixture *m = &c->mixture;
    if (json && m->scale[0] > 0) {
        json_object_set_new(json, "mixture",
                            json_pack("[fffff]", (double)m->clip, (double)m->refined, (double)m->scale[0],
                                      (double)m->scale[1], (double)m->scale[2]));
        if (m->voters) json_object_set_new(json, "voters", json_integer(m->voters));
    }
    /* The method's own way is not written: its checkpoints are what they were. */
    if (json && (c->search != RECO_UNI || c->fuse != RECO_CROSS)) {
        json_object_set_new(json, "search", json_string(modality_name[c->search]));
        json_object_set_new(json, "fuse", json_string(modality_name[c->fuse]));
    }
    if (json && !isnan(f->concat)) json_object_set_new(json, "concat", json_real((double)f->concat));
    if (!json || !own || json_object_update(json, own) != 0) {
        json_decref(json);
        json = NULL;
    }
    json_decref(own);
    return json;
}

reco_status reco_fusion_save(reco_ctx *ctx, const reco_fusion *f, const char *path)
{
    reco_status status = RECO_E_NOMEM;
    json_t *config = config_json(f);
    char *config_text = dump(ctx, config), *meta_text = dump(ctx, f->meta);
    reco_tensor *tensors = reco_alloc(ctx, f->nparams + 1, sizeof *tensors, "checkpoint");
    if (!config_text || !meta_text || !tensors) goto out;
    for (size_t i = 0; i < f->nparams; i++) {
        const reco_param *p = &f->params[i];
        tensors[i] = (reco_tensor){.name = p->name,
                                   .dtype = RECO_DTYPE_F32,
                                   .rank = p->rank,
                                   .shape = {p->shape[0], p->shape[1]},
                                   .count = p->count,
                                   .bytes = p->count * sizeof(float),
                                   .data = p->value};
    }
    size_t n = f->nparams, d = f->config.d;
    if (f->metric)
        tensors[n++] = (reco_tensor){.name = metric_name,
                                     .dtype = RECO_DTYPE_F32,
                                     .rank = 2,
                                     .shape = {d + 1, d},
                                     .count = RECO_METRIC_FLOATS(d),
                                     .bytes = RECO_METRIC_FLOATS(d) * sizeof(float),
                                     .data = f->metric};
    const reco_meta meta[] = {{"format", format_name}, {"config", config_text}, {"provenance", meta_text}};
    status = reco_safetensors_write(ctx, path, tensors, n, meta, 3);
out:
    reco_free(tensors);
    free(meta_text);
    free(config_text);
    json_decref(config);
    return status;
}

/* ---- open ---- */

/* A field that must be a number when it is there. Sizes that are negative become too large for any range. */
static bool get_number(const json_t *json, const char *key, size_t index, double *value)
{
    const json_t *v = json_object_get(json, key);
    if (json_is_array(v)) v = json_array_get(v, index);
    if (!v) return true;
    if (!json_is_number(v)) return false;
    *value = json_number_value(v);
    return true;
}

static bool get_size(const json_t *json, const char *key, size_t *value)
{
    double number = 0;
    if (!get_number(json, key, 0, &number) || !(number >= 0 && number <= 1e9) || number != floor(number))
        return false;
    *value = (size_t)number;
    return true;
}

static bool get_float(const json_t *json, const char *key, size_t index, float *value)
{
    double number = *value;
    if (!get_number(json, key, index, &number) || !(fabs(number) <= 1e30)) return false;
    *value = (float)number;
    return true;
}

/* Absent, or five numbers; how many vote stands beside it, where it is not as many as are fused. */
static bool get_mixture(const json_t *json, reco_mixture *m)
{
    const json_t *list = json_object_get(json, "mixture");
    float *const numbers[] = {&m->clip, &m->refined, &m->scale[0], &m->scale[1], &m->scale[2]};
    size_t voters = 0;
    if (!list) return true;
    if (json_array_size(list) != 5 || !get_size(json, "voters", &voters) || voters > RECO_VOTES_MAX)
        return false;
    m->voters = (uint32_t)voters;
    for (size_t i = 0; i < 5; i++)
        if (!get_float(json, "mixture", i, numbers[i])) return false;
    return true;
}

/* Absent, or a number. */
static bool get_concat(const json_t *json, float *concat)
{
    *concat = json_object_get(json, "concat") ? 0 : NAN;
    return isnan(*concat) || (get_float(json, "concat", 0, concat) && *concat >= 0 && *concat <= 1);
}

/* Absent, or a name. */
static bool get_modality(const json_t *json, const char *key, reco_modality *modality)
{
    const json_t *value = json_object_get(json, key);
    int found = value ? lookup(modality_name, 3, json_string_value(value)) : 0;
    *modality = (reco_modality)found;
    return found > 0 || !value;
}

/* Zero would mean a default to reco_fusion_resolve, so a checkpoint that leaves a field out, or says 0, gets the
 * default too; tensors of another shape then do not match. */
static bool parse_config(const json_t *json, reco_fusion_config *c, float *concat)
{
    *c = (reco_fusion_config){.min_similarity = -1};
    int layer = lookup(layer_name, RECO_LAYER_MLP + 1, json_string_value(json_object_get(json, "layer")));
    int sides = lookup(sides_name, 4, json_string_value(json_object_get(json, "sides")));
    if (layer < 0 || sides < 0) return false;
    c->layer = (reco_layer)layer;
    c->sides = (reco_sides)sides;
    c->scores = json_is_true(json_object_get(json, "scores"));
    return get_size(json, "d", &c->d) && get_size(json, "k", &c->k) &&
           get_size(json, "layers", &c->layers) && get_size(json, "heads", &c->heads) &&
           get_size(json, "mlp", &c->mlp) && get_size(json, "hidden", &c->hidden) &&
           get_float(json, "eps", 0, &c->eps) && get_float(json, "min_similarity", 0, &c->min_similarity) &&
           get_float(json, "beta", 0, &c->beta[0]) && get_float(json, "beta", 1, &c->beta[1]) &&
           get_float(json, "gain", 0, &c->gain[0]) && get_float(json, "gain", 1, &c->gain[1]) &&
           get_mixture(json, &c->mixture) && get_concat(json, concat) &&
           get_modality(json, "search", &c->search) && get_modality(json, "fuse", &c->fuse);
}

/* Are all finite? Exponents alone are looked at, many at once. */
static bool is_finite(const float *x, size_t n)
{
    unsigned bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bad |= (bits & 0x7f800000) == 0x7f800000;
    }
    return !bad;
}

static reco_status read_values(reco_ctx *ctx, const reco_safetensors *st, const reco_tensor *t, float *to)
{
    RECO_TRY(reco_tensor_f32(ctx, t, 0, t->count, to));
    for (size_t j = 0; j < t->count && !is_finite(to, t->count); j++)
        if (!isfinite(to[j]))
            return reco_fail(ctx, RECO_E_FORMAT, "%s: tensor %s holds %g at %zu, want finite numbers",
                             reco_safetensors_path(st), t->name, (double)to[j], j);
    return RECO_OK;
}

static reco_status read_params(reco_ctx *ctx, const reco_safetensors *st, reco_fusion *f)
{
    const char *path = reco_safetensors_path(st);
    /* All shapes before the first allocation: what is allocated is then no larger than the file. */
    for (size_t i = 0; i < f->nparams; i++) {
        const reco_tensor *t;
        RECO_TRY(reco_safetensors_need(ctx, st, &t, f->params[i].name, (int)f->params[i].rank,
                                       f->params[i].shape));
    }
    const reco_tensor *metric = reco_safetensors_find(st, metric_name);
    const size_t shape[2] = {f->config.d + 1, f->config.d};
    if (metric) RECO_TRY(reco_safetensors_need(ctx, st, &metric, metric_name, 2, shape));
    if (reco_safetensors_count(st) != f->nparams + (metric != NULL))
        return reco_fail(ctx, RECO_E_FORMAT, "%s: %zu tensors, want the %zu of a %s layer", path,
                         reco_safetensors_count(st), f->nparams, layer_name[f->config.layer]);
    RECO_TRY(reco_fusion_allocate(ctx, f));
    for (size_t i = 0; i < f->nparams; i++) {
        const reco_param *p = &f->params[i];
        RECO_TRY(read_values(ctx, st, reco_safetensors_find(st, p->name), p->value));
    }
    if (!metric) return RECO_OK;
    f->metric = reco_alloc_raw(ctx, metric->count, sizeof *f->metric, "metric");
    return f->metric ? read_values(ctx, st, metric, f->metric) : RECO_E_NOMEM;
}

/* An object whose values are all strings. */
static bool is_provenance(json_t *json)
{
    const char *key;
    json_t *value;
    if (!json_is_object(json)) return false;
    json_object_foreach(json, key, value) if (!json_is_string(value)) return false;
    return true;
}

static reco_status open_checkpoint(reco_ctx *ctx, reco_fusion **out, const char *path)
{
    reco_status status = RECO_OK;
    reco_safetensors *st = NULL;
    reco_fusion *f = NULL;
    json_t *config = NULL, *meta = NULL;
    reco_fusion_config c;
    float concat;
    RECO_TRY(reco_safetensors_open(ctx, &st, path));
    const char *format = reco_safetensors_meta(st, "format");
    if (!format || strcmp(format, format_name) != 0) {
        status =
            reco_fail(ctx, RECO_E_FORMAT, "%s: not a fusion checkpoint: __metadata__.format is %s, want %s",
                      path, format ? format : "missing", format_name);
        goto out;
    }
    const char *config_text = reco_safetensors_meta(st, "config"),
               *meta_text = reco_safetensors_meta(st, "provenance");
    config = json_loads(config_text ? config_text : "", JSON_REJECT_DUPLICATES, NULL);
    meta = json_loads(meta_text ? meta_text : "{}", JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(config) || !parse_config(config, &c, &concat)) {
        status = reco_fail(ctx, RECO_E_FORMAT, "%s: __metadata__.config is missing or damaged", path);
        goto out;
    }
    if (!is_provenance(meta)) {
        status =
            reco_fail(ctx, RECO_E_FORMAT, "%s: __metadata__.provenance is not an object of strings", path);
        goto out;
    }
    status = reco_fusion_resolve(ctx, &c);
    if (status != RECO_OK) {
        status = reco_fail_prefix(ctx, RECO_E_FORMAT, path);
        goto out;
    }
    RECO_GO(reco_fusion_layout(ctx, &f, &c));
    RECO_GO(read_params(ctx, st, f));
    RECO_GO(reco_fusion_pack(ctx, f));
    json_decref(f->meta);
    f->meta = json_incref(meta);
    f->concat = concat;
    *out = f;
    f = NULL;
out:
    reco_fusion_free(f);
    json_decref(meta);
    json_decref(config);
    reco_safetensors_close(st);
    return status;
}

/* The control of this name, in one of its variants or not. */
static bool is_control(const char *name, reco_fusion_config *c)
{
    static const char *const variants[] = {":uni-uni", ":uni-cross", ":cross-uni", ":cross-cross"};
    for (int control = 0; control <= RECO_LAYER_WEIGHTED; control++) {
        size_t n = strlen(layer_name[control]);
        if (strncmp(name, layer_name[control], n) != 0) continue;
        int variant = name[n] ? lookup(variants, 4, name + n) : 1;
        if (variant < 0) continue;
        c->layer = (reco_layer)control;
        c->search = variant & 2 ? RECO_CROSS : RECO_UNI;
        c->fuse = variant & 1 ? RECO_CROSS : RECO_UNI;
        return true;
    }
    return false;
}

reco_status reco_fusion_open(reco_ctx *ctx, reco_fusion **out, const char *path_or_name, size_t d, size_t k)
{
    *out = NULL;
    reco_fusion_config named;
    if (is_control(path_or_name, &named)) {
        reco_layer control = named.layer;
        reco_fusion_config c = {.layer = control,
                                .search = named.search,
                                .fuse = named.fuse,
                                .d = d,
                                .k = k ? k : 10,
                                .min_similarity = -1,
                                .sides = control == RECO_LAYER_NONE   ? RECO_SIDES_NONE
                                         : control == RECO_LAYER_VOTE ? RECO_SIDES_IMAGE
                                                                      : RECO_SIDES_BOTH};
        return reco_fusion_create(ctx, out, &c, 0, 0);
    }
    RECO_TRY(open_checkpoint(ctx, out, path_or_name));
    if (d != 0 && d != (*out)->config.d) {
        reco_status status = reco_fail(ctx, RECO_E_MISMATCH, "%s: made for d = %zu, used with d = %zu",
                                       path_or_name, (*out)->config.d, d);
        reco_fusion_free(*out);
        *out = NULL;
        return status;
    }
    return RECO_OK;
}

/* ---- provenance ---- */

const char *reco_fusion_meta(const reco_fusion *fusion, const char *key)
{
    return json_string_value(json_object_get(fusion->meta, key));
}

reco_status reco_fusion_set_meta(reco_ctx *ctx, reco_fusion *fusion, const char *key, const char *value)
{
    json_t *text = json_string(value); /* NULL when it is not UTF-8 */
    if (!text) return reco_fail(ctx, RECO_E_ARG, "fusion: value of %s is not UTF-8", key);
    if (json_object_set_new(fusion->meta, key, text) != 0)
        return reco_fail_nomem(ctx, 0, "fusion metadata");
    return RECO_OK;
}
