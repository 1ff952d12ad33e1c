/* preprocessor_config.json as CLIPImageProcessor and SiglipImageProcessor read it, or the same as `image_processor` in
 * the processor_config.json that newer transformers write. */
#include "clip/reader.h"

/* An edge is a number, or an object with the named key. Missing: 0. */
static size_t edge(const json_t *value, const char *key)
{
    if (json_is_object(value)) value = json_object_get(value, key);
    json_int_t n = json_integer_value(value);
    return n > 0 && n <= 4096 ? (size_t)n : 0;
}

static void three(reco_reader *r, float out[3], const char *key, const float *otherwise)
{
    const json_t *value = reco_read_value(r, key);
    memcpy(out, otherwise, 3 * sizeof(float));
    if (r->status != RECO_OK) return;
    if (!value) {
        r->status = reco_guess(r->ctx, r->model, "%s: [%g, %g, %g], for want of it in a file", key,
                               (double)out[0], (double)out[1], (double)out[2]);
        return;
    }
    if (!json_is_array(value) || json_array_size(value) != 3) {
        reco_read_fail(r, RECO_E_FORMAT, key, "is not an array of 3 numbers");
        return;
    }
    for (size_t i = 0; i < 3; i++) {
        const json_t *number = json_array_get(value, i);
        out[i] = (float)json_number_value(number);
        if (!json_is_number(number) || !(out[i] > -1e6f && out[i] < 1e6f) || (key[6] == 's' && out[i] <= 0))
            reco_read_fail(r, RECO_E_FORMAT, key, "[%zu] = %g is out of range", i, (double)out[i]);
    }
}

/* CLIP resizes the shortest edge and crops, SigLIP squashes; either may say what the other does. */
static void geometry(reco_reader *r, reco_preprocess *pre, bool siglip, size_t side)
{
    const json_t *size = reco_read_value(r, "size"), *crop = reco_read_value(r, "crop_size");
    size_t shortest = edge(size, "shortest_edge"), height = edge(size, "height"),
           width = edge(size, "width");
    if (!size && r->status == RECO_OK)
        r->status = reco_guess(r->ctx, r->model, "size: %s to %zu, for want of it in a file",
                               siglip ? "both edges" : "shortest edge", side);
    if (!size && !siglip) shortest = side;
    if (!size && siglip) height = width = side;
    if (!reco_read_flag(r, "do_resize", true))
        reco_read_fail(r, RECO_E_UNSUPPORTED, "do_resize", "is false, want true");
    if (!shortest && (json_is_object(size) || !size)) {
        if (!height || height != width)
            reco_read_fail(r, RECO_E_UNSUPPORTED, "size",
                           "is neither a shortest_edge nor a square of 1..4096");
        pre->mode = RECO_RESIZE_SQUASH;
        shortest = height;
    }
    if (!shortest) reco_read_fail(r, RECO_E_FORMAT, "size", "is not 1..4096");
    pre->size = shortest;
    if (reco_read_flag(r, "do_center_crop", !siglip)) {
        pre->crop = crop ? edge(crop, "height") : side;
        if (!pre->crop || (json_is_object(crop) && edge(crop, "width") != pre->crop))
            reco_read_fail(r, RECO_E_UNSUPPORTED, "crop_size", "is not a square of 1..4096");
    } else if (pre->mode != RECO_RESIZE_SQUASH) {
        reco_read_fail(r, RECO_E_UNSUPPORTED, "do_center_crop", "is false and size is no square");
    }
    size_t given = pre->crop ? pre->crop : pre->size;
    if (given != side)
        reco_read_fail(r, RECO_E_FORMAT, crop ? "crop_size" : "size",
                       "gives pictures of %zu pixels, the model wants %zu", given, side);
}

static void read(reco_reader *r, reco_preprocess *pre, bool siglip, size_t side)
{
    static const float clip_mean[3] = {0.48145466f, 0.4578275f, 0.40821073f},
                       clip_std[3] = {0.26862954f, 0.26130258f, 0.27577711f}, half[3] = {0.5f, 0.5f, 0.5f};
    const char *type = reco_read_text(r, "image_processor_type", "");
    if (!*type) type = reco_read_text(r, "feature_extractor_type", "");
    if (strncmp(type, "Siglip", 6) == 0)
        siglip = true;
    else if (strncmp(type, "CLIP", 4) == 0)
        siglip = false;
    else if (*type)
        reco_read_fail(r, RECO_E_UNSUPPORTED, "image_processor_type",
                       "= \"%.60s\", want CLIPImageProcessor or SiglipImageProcessor", type);
    *pre = (reco_preprocess){.convert_first = 1, .crop_floor = 1, .filter = RECO_FILTER_BICUBIC};
    geometry(r, pre, siglip, side);
    const json_t *filter = reco_read_value(r, "resample");
    if (filter && json_integer_value(filter) != RECO_FILTER_BICUBIC &&
        json_integer_value(filter) != RECO_FILTER_BILINEAR)
        reco_read_fail(r, RECO_E_UNSUPPORTED, "resample", "= %lld, want 2 or 3",
                       (long long)json_integer_value(filter));
    if (filter) pre->filter = (reco_filter)json_integer_value(filter);
    pre->rescale = reco_read_flag(r, "do_rescale", true);
    pre->normalize = reco_read_flag(r, "do_normalize", true);
    const json_t *factor = reco_read_value(r, "rescale_factor");
    pre->rescale_factor = json_is_number(factor) ? json_number_value(factor) : 1.0 / 255;
    three(r, pre->mean, "image_mean", siglip ? half : clip_mean);
    three(r, pre->std, "image_std", siglip ? half : clip_std);
}

reco_status reco_preprocess_hf(reco_ctx *ctx, reco_model *model)
{
    bool siglip = model->spec.image.pool == RECO_POOL_MAP;
    json_t *root = NULL;
    reco_status status = RECO_OK;
    char *path = reco_path_join(ctx, model->dir, "preprocessor_config.json");
    if (!path) RECO_GO(RECO_E_NOMEM);
    reco_reader r = {ctx, model, path, "", NULL, RECO_OK};
    if (reco_path_exists(path)) {
        RECO_GO(reco_json_load(ctx, &root, path));
        r.object = root;
    } else {
        reco_free(path);
        if (!(path = reco_path_join(ctx, model->dir, "processor_config.json"))) RECO_GO(RECO_E_NOMEM);
        r.path = path;
        if (reco_path_exists(path)) RECO_GO(reco_json_load(ctx, &root, path));
        r.object = root;
        r = reco_read_section(&r, "image_processor");
        if (!r.object)
            RECO_GO(reco_guess(ctx, model, "no preprocessor_config.json: as %s does by default",
                               siglip ? "SiglipImageProcessor" : "CLIPImageProcessor"));
    }
    read(&r, &model->preprocess, siglip, model->spec.image_size);
    status = r.status;
out:
    json_decref(root);
    reco_free(path);
    return status;
}
