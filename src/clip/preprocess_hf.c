/* preprocessor_config.json as CLIPImageProcessor and SiglipImageProcessor read it, or the same as `image_processor` in
 * the processor_config.json that newer transformers write. */
#include "clip/reader.h"

/* What `size` or `crop_size` says. */
typedef struct extent {
    size_t shortest, height, width; /* either the first or the others; all 0: missing */
} extent;

static size_t edge(reco_reader *r, const char *key, const json_t *value)
{
    json_int_t n = json_integer_value(value);
    if (!json_is_integer(value) || n < 1 || n > 4096)
        reco_read_fail(r, RECO_E_FORMAT, key, "has an edge that is not 1..4096");
    return r->status == RECO_OK ? (size_t)n : 0;
}

/* A number (a square, or the shortest edge), [height, width], or an object of what is named so; what else transformers
 * knows, as a longest edge beside the shortest, resizes otherwise. */
static extent read_extent(reco_reader *r, const char *key, bool square)
{
    extent e = {0};
    json_t *value = (json_t *)reco_read_value(r, key), *part; /* jansson's iterator is not const */
    const char *name;
    if (json_is_integer(value)) {
        size_t n = edge(r, key, value);
        return square ? (extent){0, n, n} : (extent){.shortest = n};
    }
    if (json_is_array(value) && json_array_size(value) == 2)
        return (extent){0, edge(r, key, json_array_get(value, 0)), edge(r, key, json_array_get(value, 1))};
    if (value && !json_is_object(value))
        reco_read_fail(r, RECO_E_FORMAT, key, "is neither a number nor an object");
    json_object_foreach(value, name, part)
    {
        size_t *to = strcmp(name, "shortest_edge") == 0 ? &e.shortest
                     : strcmp(name, "height") == 0      ? &e.height
                     : strcmp(name, "width") == 0       ? &e.width
                                                        : NULL;
        if (!json_is_null(part) && !to)
            reco_read_fail(r, RECO_E_UNSUPPORTED, key, "has %.60s, want shortest_edge, or height and width",
                           name);
        else if (!json_is_null(part))
            *to = edge(r, key, part);
    }
    if (value && !e.height != !e.width)
        reco_read_fail(r, RECO_E_FORMAT, key, "has only one of height and width");
    if (value && !e.shortest == !e.height)
        reco_read_fail(r, RECO_E_FORMAT, key, "is neither a shortest_edge nor a height and width");
    return e;
}

static void read_three(reco_reader *r, float out[3], const char *key, const float *otherwise)
{
    const json_t *value = reco_read_value(r, key);
    memcpy(out, otherwise, 3 * sizeof(float));
    if (r->status != RECO_OK) return;
    if (!value) {
        r->status = reco_guess(r->ctx, r->model, "%s: [%g, %g, %g], since no file gives it", key,
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

/* A key that is missing in a file has transformers' default, whatever the model's size. */
static size_t assume_size(reco_reader *r, const char *key, const char *what, size_t side)
{
    size_t assumed = r->object ? 224 : side;
    if (r->status == RECO_OK)
        r->status = reco_guess(r->ctx, r->model, "%s: %s %zu, since no file gives it", key, what, assumed);
    return assumed;
}

/* CLIP resizes the shortest edge and crops, SigLIP squashes; either may say what the other does. */
static void geometry(reco_reader *r, reco_preprocess *pre, bool siglip, size_t side)
{
    extent size = read_extent(r, "size", false), crop = read_extent(r, "crop_size", true);
    bool cropped = reco_read_flag(r, "do_center_crop", !siglip);
    if (!size.shortest && !size.height) {
        size_t n = assume_size(r, "size", siglip ? "both edges to" : "shortest edge to", side);
        size = siglip ? (extent){0, n, n} : (extent){.shortest = n};
    }
    if (!reco_read_flag(r, "do_resize", true))
        reco_read_fail(r, RECO_E_UNSUPPORTED, "do_resize", "is false, want true");
    if (reco_read_flag(r, "do_pad", false))
        reco_read_fail(r, RECO_E_UNSUPPORTED, "do_pad", "is true, want false");
    if (size.height != size.width)
        reco_read_fail(r, RECO_E_UNSUPPORTED, "size", "%zux%zu is not a square", size.height, size.width);
    if (!size.shortest) pre->mode = RECO_RESIZE_SQUASH;
    pre->size = size.shortest ? size.shortest : size.height;
    if (cropped && !crop.height)
        crop.height = crop.width = assume_size(r, "crop_size", "a square of", side);
    if (cropped && (crop.shortest || crop.height != crop.width))
        reco_read_fail(r, RECO_E_UNSUPPORTED, "crop_size", "is not a square");
    if (!cropped && size.shortest)
        reco_read_fail(r, RECO_E_UNSUPPORTED, "do_center_crop", "is false and size is not a square");
    if (cropped) pre->crop = crop.height;
    size_t given = cropped ? pre->crop : pre->size;
    if (given != side)
        reco_read_fail(r, RECO_E_FORMAT, cropped ? "crop_size" : "size",
                       "gives pictures of %zu pixels, the model takes %zu", given, side);
}

/* Whether it is SigLIP's: each has a variant that resizes in PyTorch, whose pictures differ by a few grey levels, and by
 * name (docs/models.md). */
static bool processor(reco_reader *r, bool siglip)
{
    static const char *const families[] = {"CLIP", "Siglip"};
    static const char *const kinds[] = {"ImageProcessor", "ImageProcessorFast", "ImageProcessorPil",
                                        "FeatureExtractor"};
    const char *type = reco_read_text(r, "image_processor_type", "");
    if (!*type) type = reco_read_text(r, "feature_extractor_type", "");
    for (size_t f = 0; f < 2; f++)
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
            size_t n = strlen(families[f]);
            if (strncmp(type, families[f], n) == 0 && strcmp(type + n, kinds[k]) == 0) return f == 1;
        }
    if (*type)
        reco_read_fail(r, RECO_E_UNSUPPORTED, "image_processor_type",
                       "= \"%.60s\", want CLIPImageProcessor or SiglipImageProcessor", type);
    return siglip;
}

static void read(reco_reader *r, reco_preprocess *pre, bool siglip, size_t side)
{
    static const float clip_mean[3] = {0.48145466f, 0.4578275f, 0.40821073f},
                       clip_std[3] = {0.26862954f, 0.26130258f, 0.27577711f}, half[3] = {0.5f, 0.5f, 0.5f};
    siglip = processor(r, siglip);
    *pre = (reco_preprocess){.convert_first = 1, .crop_floor = 1, .filter = RECO_FILTER_BICUBIC};
    geometry(r, pre, siglip, side);
    const json_t *filter = reco_read_value(r, "resample");
    if (filter && json_integer_value(filter) != RECO_FILTER_BICUBIC &&
        json_integer_value(filter) != RECO_FILTER_BILINEAR)
        reco_read_fail(r, RECO_E_UNSUPPORTED, "resample", "= %lld, want 2 or 3",
                       (long long)json_integer_value(filter));
    if (filter) pre->filter = (reco_filter)json_integer_value(filter);
    const json_t *convert = reco_read_value(r, "do_convert_rgb");
    if (json_is_false(convert) && r->status == RECO_OK)
        r->status = reco_guess(r->ctx, r->model,
                               "pictures that are not RGB are converted, though do_convert_rgb is false");
    pre->rescale = reco_read_flag(r, "do_rescale", true);
    pre->normalize = reco_read_flag(r, "do_normalize", true);
    const json_t *factor = reco_read_value(r, "rescale_factor");
    if (factor && !json_is_number(factor))
        reco_read_fail(r, RECO_E_FORMAT, "rescale_factor", "is not a number");
    pre->rescale_factor = json_is_number(factor) ? json_number_value(factor) : 1.0 / 255;
    read_three(r, pre->mean, "image_mean", siglip ? half : clip_mean);
    read_three(r, pre->std, "image_std", siglip ? half : clip_std);
}

reco_status reco_preprocess_hf(reco_ctx *ctx, reco_model *model)
{
    bool siglip = model->spec.image.pool == RECO_POOL_MAP;
    json_t *root = NULL;
    reco_status status = RECO_OK;
    char *path = reco_path_join(ctx, model->dir, "preprocessor_config.json");
    if (!path) RECO_GO(RECO_E_NOMEM);
    reco_reader r = {ctx, model, path, "", NULL, RECO_OK, false};
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
            RECO_GO(reco_guess(ctx, model, "no preprocessor_config.json: the defaults of %s",
                               siglip ? "SiglipImageProcessor" : "CLIPImageProcessor"));
    }
    read(&r, &model->preprocess, siglip, model->spec.image_size);
    status = r.status;
out:
    json_decref(root);
    reco_free(path);
    return status;
}
