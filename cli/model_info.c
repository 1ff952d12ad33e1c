/* reco model info */
#include "cli.h"

#include <string.h>

typedef struct args {
    cli *common;
    const char *model;
} args;

static error_t parse_info_option(int key, char *arg, struct argp_state *state)
{
    args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = state->child_inputs[1] = a->common;
        return 0;
    case ARGP_KEY_ARG:
        if (a->model) return ARGP_ERR_UNKNOWN;
        a->model = arg;
        return 0;
    case ARGP_KEY_END:
        cli_need(state, a->model, "MODEL");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const char *mode_name(reco_resize_mode mode)
{
    return mode == RECO_RESIZE_SQUASH ? "squash" : mode == RECO_RESIZE_LONGEST ? "longest" : "shortest";
}

static const char *filter_name(reco_filter filter)
{
    return filter == RECO_FILTER_BICUBIC ? "bicubic" : "bilinear";
}

/* null: the model has no such tower */
static json_t *tower(bool there, const reco_tower_info *t)
{
    if (!there) return json_null();
    return json_pack("{s:I, s:I, s:I, s:I, s:s}", "width", (json_int_t)t->width, "layers",
                     (json_int_t)t->layers, "heads", (json_int_t)t->heads, "mlp", (json_int_t)t->mlp,
                     "activation", t->activation);
}

static json_t *pack_three(const float v[3])
{
    return json_pack("[f, f, f]", (double)v[0], (double)v[1], (double)v[2]);
}

static json_t *preprocess(const reco_model_info *i)
{
    const reco_preprocess *p = &i->preprocess;
    if (!i->has_image) return json_null();
    return json_pack(
        "{s:s, s:s, s:I, s:I, s:s, s:s, s:i, s:b, s:f, s:b, s:o, s:o, s:b}", "resize_mode",
        mode_name(p->mode), "interpolation", filter_name(p->filter), "size", (json_int_t)p->size, "crop",
        (json_int_t)p->crop, "convert_to_rgb", p->convert_first ? "before resizing" : "after cropping",
        "crop_offset", p->crop_floor ? "floor" : "round", "fill_color", p->fill, "rescale", p->rescale,
        "rescale_factor", p->rescale_factor != 0 ? p->rescale_factor : 1.0 / 255, "normalize", p->normalize,
        "mean", pack_three(p->mean), "std", pack_three(p->std), "exif", p->upright);
}

static json_t *tokenizer(const reco_model_info *i)
{
    const reco_tokenizer_info *t = &i->tokenizer;
    if (!i->has_text || !t->kind[0]) return json_null();
    json_t *bos = t->bos < 0 ? json_null() : json_integer(t->bos);
    return json_pack("{s:s, s:s, s:b, s:I, s:o, s:i, s:i, s:b, s:b}", "kind", t->kind, "rules", t->rules,
                     "built_in", t->built_in, "vocabulary", (json_int_t)t->vocab, "bos", bos, "eos", t->eos,
                     "pad", t->pad, "padded", i->pads, "pads_left", t->pads_left);
}

static json_t *guesses(const reco_model *model)
{
    json_t *list = json_array();
    for (size_t i = 0; i < reco_model_guesses(model); i++)
        json_array_append_new(list, cli_text(reco_model_guess(model, i)));
    return list;
}

static json_t *size(bool there, size_t n) { return there ? json_integer((json_int_t)n) : json_null(); }

static void print_json(const reco_model *model, const reco_model_info *i, const char *print,
                       const char *weights, const char *precision)
{
    bool both = i->has_image && i->has_text;
    json_t *value = json_pack(
        "{s:o, s:s, s:I, s:b, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:s, s:I, s:s, s:o}",
        "name", cli_text(i->name), "family", i->family, "dimensions", (json_int_t)i->d, "has_image",
        i->has_image, "has_text", i->has_text, "image", tower(i->has_image, &i->image), "text",
        tower(i->has_text, &i->text), "image_size", size(i->has_image, i->image_size), "patch",
        size(i->has_image, i->patch), "context", size(i->has_text, i->context), "vocabulary",
        size(i->has_text, i->vocab), "preprocess", preprocess(i), "tokenizer", tokenizer(i), "weights",
        weights, "precision", precision, "parameters", (json_int_t)i->parameters, "fingerprint", print,
        "guessed", guesses(model));
    json_object_set_new(value, "logit_scale", both ? json_real((double)i->logit_scale) : json_null());
    json_object_set_new(value, "logit_bias",
                        i->has_logit_bias ? json_real((double)i->logit_bias) : json_null());
    cli_print(value);
}

static void print_image(const reco_model_info *i)
{
    const reco_preprocess *p = &i->preprocess;
    printf("image        %zux%zu pixels, patch %zu, width %zu, %zu layers, %zu heads, MLP %zu, %s\n",
           i->image_size, i->image_size, i->patch, i->image.width, i->image.layers, i->image.heads,
           i->image.mlp, i->image.activation);
    printf("preprocess   %s edge%s to %zu, %s", p->mode == RECO_RESIZE_SQUASH ? "both" : mode_name(p->mode),
           p->mode == RECO_RESIZE_SQUASH ? "s" : "", p->size, filter_name(p->filter));
    if (p->crop) printf(", crop %zu", p->crop);
    if (p->mode == RECO_RESIZE_LONGEST) printf(", filled with %d", p->fill);
    printf(", RGB %s", p->convert_first ? "first" : "last");
    printf(", %s", p->upright ? "turned as EXIF says" : "EXIF orientation not followed (--exif)");
    if (p->normalize)
        printf(", mean %g %g %g, std %g %g %g", (double)p->mean[0], (double)p->mean[1], (double)p->mean[2],
               (double)p->std[0], (double)p->std[1], (double)p->std[2]);
    printf("\n");
}

static void print_words(const reco_model_info *i)
{
    const reco_tokenizer_info *t = &i->tokenizer;
    printf("text         %zu tokens of %zu, width %zu, %zu layers, %zu heads, MLP %zu, %s\n", i->context,
           i->vocab, i->text.width, i->text.layers, i->text.heads, i->text.mlp, i->text.activation);
    if (!t->kind[0]) {
        printf("tokenizer    none that this build can read\n");
        return;
    }
    printf("tokenizer    %s%s, rules %s, %zu entries, ", t->kind, t->built_in ? ", built in" : "", t->rules,
           t->vocab);
    if (t->bos >= 0) printf("begin %d, ", t->bos);
    printf("end %d, pad %d%s\n", t->eos, t->pad,
           t->pads_left ? ", padded on the left"
           : i->pads    ? ", padded"
                        : "");
}

static void print_model_info(const reco_model *model, const reco_model_info *i, const char *print,
                             const char *weights, const char *precision)
{
    cli_say("name         %s", i->name);
    printf("family       %s\ndimensions   %zu\nparameters   %.2f M, stored as %s, computed in %s\n",
           i->family, i->d, (double)i->parameters / 1e6, weights, precision);
    if (i->has_image)
        print_image(i);
    else
        printf("image        none\n");
    if (i->has_text)
        print_words(i);
    else
        printf("text         none\n");
    if (i->has_image && i->has_text) printf("logit scale  %.2f\n", (double)i->logit_scale);
    if (i->has_logit_bias) printf("logit bias   %.2f\n", (double)i->logit_bias);
    printf("fingerprint  %s\n", print);
    for (size_t g = 0; g < reco_model_guesses(model); g++)
        cli_say("%s%s", g ? "             " : "guessed      ", reco_model_guess(model, g));
}

static const struct argp_child children[] = {
    {&cli_model_options, 0, NULL, 0}, {&cli_common, 0, NULL, 0}, {0}};
static const struct argp argp = {
    NULL,
    parse_info_option,
    "MODEL",
    "Describe a model folder: family, sizes, precision, preprocessing, tokenizer, fingerprint, and the "
    "assumptions made where its files are silent.\v"
    "Example:\n  reco model info clip-vit-base-patch32/",
    children,
    NULL,
    NULL};

int cmd_model_info(int argc, char **argv)
{
    cli c = {0};
    args a = {.common = &c};
    if (!cli_begin(&c, argc, argv, &argp, &a)) return 1;
    reco_model *model = NULL;
    char print[33];
    reco_status status = cli_open_model(&c, &model, a.model, RECO_SIDES_BOTH);
    if (status == RECO_OK) status = reco_model_fingerprint(c.ctx, model, print);
    if (status == RECO_OK) {
        static const char *const dtypes[] = {
            [RECO_DTYPE_F32] = "F32", "F16", "BF16", [RECO_DTYPE_F64] = "F64"};
        reco_model_info info = *reco_model_get_info(model);
        (c.json ? print_json : print_model_info)(
            model, &info, print,
            info.weights <= RECO_DTYPE_F64 && dtypes[info.weights] ? dtypes[info.weights] : "?",
            reco_precision_name(info.precision));
    }
    reco_model_close(model);
    return cli_end(&c, status);
}
