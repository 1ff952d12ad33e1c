/* preprocess_cfg of open_clip_config.json, as image_transform_v2 follows it. The size is the model's image_size. */
#include "clip/reader.h"

#include <stdio.h>

/* Three numbers, or one for all. */
static void read_three_or_one(reco_reader *r, float out[3], const char *key, const float *otherwise,
                              double low)
{
    const json_t *value = reco_read_value(r, key);
    memcpy(out, otherwise, 3 * sizeof(float));
    if (json_is_number(value) && json_number_value(value) == 0)
        value = NULL; /* open_clip: `mean or default` */
    if (!value) {
        if (r->status == RECO_OK)
            r->status = reco_guess(r->ctx, r->model,
                                   "open_clip_config.json has no preprocess_cfg.%s: OpenAI's", key);
        return;
    }
    if (json_is_array(value) && json_array_size(value) != 3)
        reco_read_fail(r, RECO_E_FORMAT, key, "is not an array of 3 numbers");
    for (size_t i = 0; i < 3; i++) {
        const json_t *number = json_is_array(value) ? json_array_get(value, i) : value;
        double n = json_number_value(number);
        if (!json_is_number(number) || !(n > low && n < 1e6))
            reco_read_fail(r, RECO_E_FORMAT, key, "[%zu] = %g, want a number above %g", i, n, low);
        out[i] = (float)n;
    }
}

static const char *name(reco_reader *r, const char *key, const char *otherwise)
{
    const char *text = reco_read_text(r, key, NULL);
    if (!text && r->status == RECO_OK)
        r->status = reco_guess(r->ctx, r->model, "open_clip_config.json has no preprocess_cfg.%s: %s", key,
                               otherwise);
    return text ? text : otherwise;
}

reco_status reco_preprocess_openclip(reco_ctx *ctx, reco_model *model)
{
    static const float mean[3] = {0.48145466f, 0.4578275f, 0.40821073f},
                       std[3] = {0.26862954f, 0.26130258f, 0.27577711f};
    reco_preprocess *pre = &model->preprocess;
    size_t side = model->spec.image_size;
    json_t *root = NULL;
    reco_status status = RECO_OK;
    char *path = reco_path_join(ctx, model->dir, "open_clip_config.json");
    if (!path) RECO_GO(RECO_E_NOMEM);
    RECO_GO(reco_json_load(ctx, &root, path));
    reco_reader top = {ctx, model, path, "", root, RECO_OK, false};
    reco_reader r = reco_read_section(&top, "preprocess_cfg");
    *pre = (reco_preprocess){.size = side, .crop = side, .rescale = 1, .normalize = 1};
    const char *mode = name(&r, "resize_mode", "shortest"), *filter = name(&r, "interpolation", "bicubic");
    if (strcmp(mode, "squash") == 0) {
        pre->mode = RECO_RESIZE_SQUASH;
        pre->crop = 0;
    } else if (strcmp(mode, "longest") == 0) {
        pre->mode = RECO_RESIZE_LONGEST;
    } else if (strcmp(mode, "shortest") != 0) {
        reco_read_fail(&r, RECO_E_UNSUPPORTED, "resize_mode",
                       "= \"%.60s\", want shortest, longest or squash", mode);
    }
    /* "random" is for training; what follows is bicubic. */
    pre->filter = strcmp(filter, "bilinear") == 0 ? RECO_FILTER_BILINEAR : RECO_FILTER_BICUBIC;
    if (strcmp(filter, "bilinear") != 0 && strcmp(filter, "bicubic") != 0 && strcmp(filter, "random") != 0)
        reco_read_fail(&r, RECO_E_UNSUPPORTED, "interpolation", "= \"%.60s\", want bicubic or bilinear",
                       filter);
    const char *colours = reco_read_text(&r, "mode", "RGB");
    if (strcmp(colours, "RGB") != 0)
        reco_read_fail(&r, RECO_E_UNSUPPORTED, "mode", "= \"%.60s\", want RGB", colours);
    if (reco_read_value(&r, "fill_color")) pre->fill = (int)reco_read_size(&r, "fill_color", 0, 0, 255);
    read_three_or_one(&r, pre->mean, "mean", mean, -1e6);
    read_three_or_one(&r, pre->std, "std", std, 0);
    status = r.status;
out:
    json_decref(root);
    reco_free(path);
    return status;
}
