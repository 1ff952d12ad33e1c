/* preprocessor_config.json as CLIPImageProcessor reads it. */
#include "clip/clip_internal.h"

/* An edge is a number, or an object with the named key. Missing: 0. */
static size_t edge(const json_t *value, const char *key)
{
    if (json_is_object(value)) value = json_object_get(value, key);
    json_int_t n = json_integer_value(value);
    return n > 0 && n <= 4096 ? (size_t)n : 0;
}

static int flag(const json_t *root, const char *key, int otherwise)
{
    const json_t *value = json_object_get(root, key);
    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

static reco_status three(reco_ctx *ctx, float out[3], const json_t *root, const char *key,
                         const float *otherwise, const char *path)
{
    const json_t *value = json_object_get(root, key);
    memcpy(out, otherwise, 3 * sizeof(float));
    if (!value) return RECO_OK;
    if (!json_is_array(value) || json_array_size(value) != 3)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: %s is not an array of 3 numbers", path, key);
    for (size_t i = 0; i < 3; i++) {
        out[i] = (float)json_number_value(json_array_get(value, i));
        if (!(out[i] > -1e6f && out[i] < 1e6f) || (key[6] == 's' && out[i] <= 0))
            return reco_fail(ctx, RECO_E_FORMAT, "%s: %s[%zu] = %g is out of range", path, key, i,
                             (double)out[i]);
    }
    return RECO_OK;
}

reco_status reco_preprocess_hf(reco_ctx *ctx, reco_model *model)
{
    static const float mean[3] = {0.48145466f, 0.4578275f, 0.40821073f},
                       std[3] = {0.26862954f, 0.26130258f, 0.27577711f};
    reco_preprocess *pre = &model->preprocess;
    json_t *root = NULL;
    reco_status status = RECO_OK;
    char *path = reco_path_join(ctx, model->dir, "preprocessor_config.json");
    if (!path) RECO_GO(RECO_E_NOMEM);
    RECO_GO(reco_json_load(ctx, &root, path));
    const json_t *size = json_object_get(root, "size"), *crop = json_object_get(root, "crop_size");
    size_t shortest = edge(size, "shortest_edge"), height = edge(size, "height"),
           width = edge(size, "width");
    *pre = (reco_preprocess){.convert_first = 1, .crop_floor = 1, .filter = RECO_FILTER_BICUBIC};
    if (!size) shortest = 224;
    if (!flag(root, "do_resize", 1))
        RECO_GO(reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: do_resize is false, want true", path));
    if (json_is_object(size) && !shortest) {
        if (!height || height != width)
            RECO_GO(reco_fail(ctx, RECO_E_UNSUPPORTED,
                              "%s: size is neither a shortest_edge nor a square of 1..4096", path));
        pre->mode = RECO_RESIZE_SQUASH;
        shortest = height;
    }
    if (!shortest) RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s: size, want 1..4096", path));
    pre->size = shortest;
    if (flag(root, "do_center_crop", 1)) {
        pre->crop = crop ? edge(crop, "height") : 224;
        if (!pre->crop || (json_is_object(crop) && edge(crop, "width") != pre->crop))
            RECO_GO(reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: crop_size is not a square of 1..4096", path));
    } else if (pre->mode != RECO_RESIZE_SQUASH) {
        RECO_GO(
            reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: do_center_crop is false and size is no square", path));
    }
    size_t side = pre->crop ? pre->crop : pre->size;
    if (side != model->spec.image_size)
        RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s: gives pictures of %zu pixels, the model wants %zu", path,
                          side, model->spec.image_size));
    const json_t *filter = json_object_get(root, "resample");
    if (filter && json_integer_value(filter) != RECO_FILTER_BICUBIC &&
        json_integer_value(filter) != RECO_FILTER_BILINEAR)
        RECO_GO(reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: resample = %lld, want 2 or 3", path,
                          (long long)json_integer_value(filter)));
    if (filter) pre->filter = (reco_filter)json_integer_value(filter);
    pre->rescale = flag(root, "do_rescale", 1);
    pre->normalize = flag(root, "do_normalize", 1);
    const json_t *factor = json_object_get(root, "rescale_factor");
    pre->rescale_factor = json_is_number(factor) ? json_number_value(factor) : 1.0 / 255;
    RECO_GO(three(ctx, pre->mean, root, "image_mean", mean, path));
    RECO_GO(three(ctx, pre->std, root, "image_std", std, path));
out:
    json_decref(root);
    reco_free(path);
    return status;
}
