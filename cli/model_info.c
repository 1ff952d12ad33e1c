/* reco model info */
#include "cli.h"

#include <string.h>

typedef struct args {
    cli *common;
    const char *model;
} args;

static error_t parse(int key, char *arg, struct argp_state *state)
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

static json_t *tower(const reco_tower_info *t)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:s}", "width", (json_int_t)t->width, "layers",
                     (json_int_t)t->layers, "heads", (json_int_t)t->heads, "mlp", (json_int_t)t->mlp,
                     "activation", t->activation);
}

static void print_json(const reco_model_info *i, const char *print, const char *weights,
                       const char *precision)
{
    cli_print(json_pack("{s:o, s:s, s:I, s:o, s:o, s:I, s:I, s:I, s:I, s:s, s:s, s:f, s:I, s:s}", "name",
                        cli_text(i->name), "family", i->family, "dimensions", (json_int_t)i->d, "image",
                        tower(&i->image), "text", tower(&i->text), "image_size", (json_int_t)i->image_size,
                        "patch", (json_int_t)i->patch, "context", (json_int_t)i->context, "vocabulary",
                        (json_int_t)i->vocab, "weights", weights, "precision", precision, "logit_scale",
                        (double)i->logit_scale, "parameters", (json_int_t)i->parameters, "fingerprint",
                        print));
}

static void print_text(const reco_model_info *i, const char *print, const char *weights,
                       const char *precision)
{
    const reco_preprocess *p = &i->preprocess;
    printf("name         %s\nfamily       %s\ndimensions   %zu\nparameters   %.2f M, stored as %s, "
           "computed in %s\n",
           i->name, i->family, i->d, (double)i->parameters / 1e6, weights, precision);
    printf("image        %zux%zu pixels, patch %zu, width %zu, %zu layers, %zu heads, MLP %zu, %s\n",
           i->image_size, i->image_size, i->patch, i->image.width, i->image.layers, i->image.heads,
           i->image.mlp, i->image.activation);
    printf("text         %zu tokens of %zu, width %zu, %zu layers, %zu heads, MLP %zu, %s\n", i->context,
           i->vocab, i->text.width, i->text.layers, i->text.heads, i->text.mlp, i->text.activation);
    printf("preprocess   %s edge to %zu, %s, crop %zu, %s\n",
           p->mode == RECO_RESIZE_SQUASH ? "both" : "shortest", p->size,
           p->filter == RECO_FILTER_BICUBIC ? "bicubic" : "bilinear", p->crop,
           p->convert_first ? "RGB first" : "RGB last");
    printf("logit scale  %.2f\nfingerprint  %s\n", (double)i->logit_scale, print);
}

static const struct argp_child children[] = {
    {&cli_model_options, 0, NULL, 0}, {&cli_common, 0, NULL, 0}, {0}};
static const struct argp argp = {
    NULL,
    parse,
    "MODEL",
    "What a model folder is: family, sizes, precision, preprocessing, fingerprint.\v"
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
    reco_status status = cli_open_model(&c, &model, a.model);
    if (status == RECO_OK) status = reco_model_fingerprint(c.ctx, model, print);
    if (status == RECO_OK) {
        static const char *const dtypes[] = {"F32", "F16", "BF16"};
        reco_model_info info = reco_model_get_info(model);
        (c.json ? print_json : print_text)(&info, print,
                                           info.weights <= RECO_DTYPE_BF16 ? dtypes[info.weights] : "?",
                                           info.precision == RECO_BF16 ? "bf16" : "f32");
    }
    reco_model_close(model);
    return cli_end(&c, status);
}
