#include "clip/clip_internal.h"
#include "clip/folder.h"

#include <pthread.h>
#include <stdio.h>

/* The last part of the path, which is what people call a model. */
static char *folder_name(reco_ctx *ctx, const char *dir)
{
    size_t end = strlen(dir);
    while (end > 1 && dir[end - 1] == '/') end--;
    size_t begin = end;
    while (begin > 0 && dir[begin - 1] != '/') begin--;
    return reco_format(ctx, "%.*s", (int)(end - begin), dir + begin);
}

static reco_status look_for_file(reco_ctx *ctx, const char *dir, const char *name, bool *out)
{
    char *path = reco_path_join(ctx, dir, name);
    if (!path) return RECO_E_NOMEM;
    *out = reco_path_exists(path);
    reco_free(path);
    return RECO_OK;
}

/* The weights that open_clip would take from the folder; NULL where there is no open_clip_config.json, or where it lies
 * beside a model of Hugging Face and has no weights of its own, as in a folder that was fetched in part. */
static reco_status open_clip_weights(reco_ctx *ctx, reco_model *model, const char **out)
{
    static const char *const names[] = {"open_clip_model.safetensors",
                                        "open_clip_pytorch_model.safetensors"};
    static const char shared[] = "model.safetensors";
    bool there = false, of_hf = false;
    *out = NULL;
    RECO_TRY(look_for_file(ctx, model->dir, "open_clip_config.json", &there));
    if (!there) return RECO_OK;
    for (size_t i = 0; i < 2; i++) {
        RECO_TRY(reco_weights_there(ctx, model->dir, names[i], &there));
        if (there) *out = names[i];
        if (there) return RECO_OK;
    }
    *out = names[0];
    RECO_TRY(reco_weights_there(ctx, model->dir, shared, &there));
    RECO_TRY(look_for_file(ctx, model->dir, "config.json", &of_hf));
    if (!there) return RECO_OK;
    reco_weights weights = {0};
    reco_status status = reco_weights_open(ctx, &weights, model->dir, shared);
    bool native = status == RECO_OK && reco_weights_prefix(&weights, "visual.");
    reco_weights_close(&weights);
    *out = native || !of_hf ? shared : NULL;
    if (status == RECO_OK && !*out)
        status = reco_guess(ctx, model,
                            "open_clip_config.json exists, but not its weights, %s: read as Hugging Face's",
                            names[0]);
    return status;
}

/* Tensors that no layer took: transformers passes over them; for open_clip they are an error, being of a layer that the
 * configuration does not tell of. */
static reco_status leftover(reco_ctx *ctx, reco_model *model, bool open_clip)
{
    const reco_tensor *first;
    size_t left = reco_weights_left(&model->weights, &first);
    const reco_named *wrapped = model->weights.wrapped;
    if (wrapped)
        RECO_TRY(reco_guess(ctx, model, "tensor names have prefixes of training code: %s is read as %s",
                            wrapped->tensor->name, wrapped->name));
    if (model->weights.outside)
        RECO_TRY(reco_guess(ctx, model, "%zu tensors outside the model, such as an optimizer's: ignored",
                            model->weights.outside));
    if (left == 0) return RECO_OK;
    if (open_clip)
        return reco_fail(
            ctx, RECO_E_UNSUPPORTED,
            "%s: tensor %s (and %zu more) belongs to no layer that the configuration describes",
            model->weights.path, first->name, left - 1);
    return reco_guess(ctx, model,
                      "%zu tensors belong to no layer of this architecture: ignored, such as %s", left,
                      first->name);
}

/* The tokenizer is read while the weights are packed: neither needs the other, and nothing else is written by both. */
typedef struct tokenizer_job {
    reco_ctx *ctx;
    reco_model *model;
    reco_status status;
} tokenizer_job;

static void *read_tokenizer(void *arg)
{
    tokenizer_job *job = arg;
    job->status = reco_model_tokenizer(job->ctx, job->model);
    return NULL;
}

/* Pads count where they move the text, and where the first of them is what is pooled: as the highest id, or as what the
 * configuration takes for the end while the tokenizer ends its texts otherwise. */
static void pads(reco_model *model)
{
    if (!model->tokenizer) return;
    const reco_spec *spec = &model->spec;
    reco_tokenizer_info info = *reco_tokenizer_get_info(model->tokenizer);
    bool highest = spec->text.pool == RECO_POOL_MAX && info.pad > info.eos;
    bool end = spec->text.pool == RECO_POOL_EOS && info.pad == spec->eos && info.eos != spec->eos;
    if (info.pads_left || highest || end) model->spec.pad = true;
}

static reco_status read_model(reco_ctx *ctx, reco_model *model, bool open_clip)
{
    tokenizer_job job = {NULL, model, RECO_OK};
    pthread_t thread;
    bool text = model->spec.text.present && model->sides & RECO_SIDES_TEXT, beside = false;
    if (text && reco_ctx_threads(ctx) > 1) {
        RECO_TRY(reco_ctx_worker(ctx, &job.ctx));
        beside = pthread_create(&thread, NULL, read_tokenizer, &job) == 0;
    }
    reco_status status = text && !beside ? reco_model_tokenizer(ctx, model) : RECO_OK;
    if (status == RECO_OK)
        status = open_clip ? reco_weights_openclip(ctx, model) : reco_weights_hf(ctx, model);
    if (beside) pthread_join(thread, NULL);
    if (job.status != RECO_OK) status = reco_fail(ctx, job.status, "%s", reco_ctx_error(job.ctx));
    reco_ctx_free(job.ctx);
    if (status == RECO_OK) pads(model);
    return status == RECO_OK ? leftover(ctx, model, open_clip) : status;
}

static reco_tower_info tower_info(const reco_tower_spec *spec, const char *act)
{
    reco_tower_info info = {spec->width, spec->layers, spec->heads, spec->mlp, ""};
    snprintf(info.activation, sizeof info.activation, "%s", act);
    return info;
}

static void describe_model(reco_model *model)
{
    const reco_spec *spec = &model->spec;
    reco_model_info info = {
        .d = spec->d,
        .has_image = spec->image.present,
        .has_text = spec->text.present,
        .image = tower_info(&spec->image, model->image_act),
        .text = tower_info(&spec->text, model->text_act),
        .image_size = spec->image_size,
        .patch = spec->patch,
        .context = spec->context,
        .vocab = spec->vocab,
        .precision = model->precision,
        .logit_scale = model->logit_scale,
        .has_logit_bias = model->has_logit_bias,
        .logit_bias = model->logit_bias,
        .pads = spec->pad,
        .preprocess = model->preprocess,
    };
    if (model->tokenizer) info.tokenizer = *reco_tokenizer_get_info(model->tokenizer);
    snprintf(info.family, sizeof info.family, "%s", model->family);
    snprintf(info.name, sizeof info.name, "%s", model->name);
    size_t largest = 0;
    for (size_t i = 0; i < model->weights.count; i++) {
        const reco_tensor *t = model->weights.named[i].tensor;
        info.parameters += t->count;
        if (t->count <= largest) continue;
        largest = t->count;
        info.weights = t->dtype;
    }
    model->info = info;
}

reco_status reco_model_open(reco_ctx *ctx, reco_model **out, const char *dir, const reco_model_opts *opts)
{
    *out = NULL;
    RECO_TRY(reco_reserved(ctx, "model", opts ? opts->reserved : NULL));
    reco_precision precision = opts ? opts->precision : RECO_PRECISION_AUTO;
    reco_sides without = opts ? opts->without : RECO_SIDES_NONE;
    if (without < RECO_SIDES_NONE || without > RECO_SIDES_TEXT)
        return reco_fail(ctx, RECO_E_ARG, "model: without = %d, want 0..2", (int)without);
    if (precision == RECO_PRECISION_AUTO)
        precision = reco_has_bf16(ctx) ? RECO_PRECISION_BF16 : RECO_PRECISION_F32;
    const char *layout, *open_clip = NULL;
    reco_status status = RECO_OK;
    reco_model *model = reco_alloc(ctx, 1, sizeof *model, "model");
    if (!model) return RECO_E_NOMEM;
    model->precision = precision;
    model->sides = (reco_sides)(RECO_SIDES_BOTH - (int)without);
    RECO_GO(reco_folder_find(ctx, &model->dir, &layout, dir));
    if (!(model->name = folder_name(ctx, dir))) RECO_GO(RECO_E_NOMEM);
    if (*layout) RECO_GO(reco_guess(ctx, model, "%s: read from %s", layout, model->dir));
    RECO_GO(open_clip_weights(ctx, model, &open_clip));
    if (open_clip) {
        RECO_GO(reco_config_openclip(ctx, model));
        RECO_GO(reco_preprocess_openclip(ctx, model));
        RECO_GO(reco_weights_open(ctx, &model->weights, model->dir, open_clip));
    } else {
        RECO_GO(reco_config_hf(ctx, model));
        RECO_GO(reco_towers_hf(ctx, model));
        if (model->spec.image.present) RECO_GO(reco_preprocess_hf(ctx, model));
    }
    RECO_GO(read_model(ctx, model, open_clip != NULL));
    model->preprocess.upright = opts && opts->exif;
    describe_model(model);
    *out = model;
    model = NULL;
out:
    reco_model_close(model);
    return status;
}

void reco_model_close(reco_model *model)
{
    if (!model) return;
    reco_tower_free(&model->image);
    reco_tower_free(&model->text);
    reco_weights_close(&model->weights);
    reco_tokenizer_close(model->tokenizer);
    reco_free(model->no_tokenizer);
    for (size_t i = 0; i < model->nguesses; i++) reco_free(model->guesses[i]);
    reco_free(model->guesses);
    reco_free(model->dir);
    reco_free(model->name);
    reco_free(model);
}

const reco_model_info *reco_model_get_info(const reco_model *model) { return &model->info; }

size_t reco_model_guesses(const reco_model *model) { return model->nguesses; }

const char *reco_model_guess(const reco_model *model, size_t i)
{
    return i < model->nguesses ? model->guesses[i] : NULL;
}

reco_status reco_model_need(reco_ctx *ctx, const reco_model *model, const reco_tower_spec *tower)
{
    bool image = tower == &model->spec.image;
    if (tower->present && !(model->sides & (image ? RECO_SIDES_IMAGE : RECO_SIDES_TEXT)))
        return reco_fail(ctx, RECO_E_ARG, "%s: was opened for %s alone", model->dir,
                         image ? "texts" : "images");
    if (tower->present && !image && !model->tokenizer)
        return reco_fail(ctx, RECO_E_UNSUPPORTED, "%s", model->no_tokenizer);
    if (tower->present) return RECO_OK;
    return reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: no %s tower in this model, so no %s can be embedded",
                     model->dir, image ? "image" : "text", image ? "image" : "text");
}

/* Of a file (data NULL), of a file's content (height 0), or of pixels. */
static reco_status pixels_of(reco_ctx *ctx, const reco_model *model, const char *path, const void *data,
                             size_t bytes, size_t height, size_t width, const reco_image_limits *limits,
                             float *out)
{
    RECO_TRY(reco_model_need(ctx, model, &model->spec.image));
    size_t side = model->spec.image_size;
    const reco_preprocess *pre = &model->preprocess;
    reco_mark mark = reco_scratch_mark(ctx);
    uint8_t *rgb = reco_scratch(ctx, side * side, 3, "pixels");
    reco_status status = RECO_E_NOMEM;
    if (rgb)
        status = !data    ? reco_image_load_rgb(ctx, rgb, path, pre, limits)
                 : height ? reco_image_shape_rgb(ctx, rgb, path, data, height, width, pre, limits)
                          : reco_image_decode_rgb(ctx, rgb, path, data, bytes, pre, limits);
    if (status == RECO_OK) reco_image_normalize(out, rgb, side, pre);
    reco_scratch_release(ctx, mark);
    return status;
}

reco_status reco_model_pixels_of(reco_ctx *ctx, const reco_model *model, const char *path, const void *data,
                                 size_t bytes, const reco_image_limits *limits, float *out)
{
    return pixels_of(ctx, model, path, data, bytes, 0, 0, limits, out);
}

reco_status reco_model_pixels_rgb(reco_ctx *ctx, const reco_model *model, const char *name,
                                  const uint8_t *rgb, size_t height, size_t width,
                                  const reco_image_limits *limits, float *out)
{
    if (!rgb || height < 1 || width < 1)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: %zu x %zu pixels, want at least one", name, width,
                         height);
    return pixels_of(ctx, model, name, rgb, 0, height, width, limits, out);
}

reco_status reco_model_pixels(reco_ctx *ctx, const reco_model *model, const char *path,
                              const reco_image_limits *limits, float *out)
{
    return pixels_of(ctx, model, path, NULL, 0, 0, 0, limits, out);
}

reco_status reco_model_ids(reco_ctx *ctx, const reco_model *model, const char *text, size_t bytes,
                           int32_t *ids, size_t *n, bool *cut)
{
    size_t context = model->spec.context;
    RECO_TRY(reco_model_need(ctx, model, &model->spec.text));
    RECO_TRY(reco_tokenizer_encode(ctx, model->tokenizer, text, bytes, ids, context, n, cut));
    if (!reco_tokenizer_get_info(model->tokenizer)->pads_left) return RECO_OK;
    memmove(ids + (context - *n), ids, *n * sizeof *ids);
    for (size_t i = 0; i < context - *n; i++) ids[i] = reco_tokenizer_get_info(model->tokenizer)->pad;
    *n = context;
    return RECO_OK;
}

reco_status reco_model_tokens(reco_ctx *ctx, const reco_model *model, const char *text, size_t bytes,
                              int32_t *ids, size_t *n)
{
    return reco_model_ids(ctx, model, text, bytes, ids, n, NULL);
}

int32_t reco_model_pad(const reco_model *model)
{
    return model->tokenizer ? reco_tokenizer_get_info(model->tokenizer)->pad : 0;
}
