#include "fusion/tape.h"

#include <math.h>
#include <stdio.h>

static reco_status out_of_range(reco_ctx *ctx, const char *what, size_t value, size_t low, size_t high)
{
    return reco_fail(ctx, RECO_E_ARG, "fusion: %s = %zu, want %zu..%zu", what, value, low, high);
}

reco_status reco_fusion_resolve(reco_ctx *ctx, reco_fusion_config *c)
{
    if (c->layer < RECO_LAYER_NONE || c->layer > RECO_LAYER_MLP)
        return reco_fail(ctx, RECO_E_ARG, "fusion: unknown layer %d", (int)c->layer);
    if (c->d < 1 || c->d > 65536) return out_of_range(ctx, "d", c->d, 1, 65536);
    if (c->k < 1 || c->k > 1024) return out_of_range(ctx, "k", c->k, 1, 1024);
    if (c->layers == 0) c->layers = 1;
    if (c->heads == 0) c->heads = 8;
    if (c->mlp == 0) c->mlp = c->layer == RECO_LAYER_MLP ? 6 * c->d + 2 : 4 * c->d;
    if (c->hidden == 0) c->hidden = 32;
    if (c->eps == 0) c->eps = 1e-5f;
    if (c->search == RECO_MODALITY_DEFAULT) c->search = RECO_UNI;
    if (c->fuse == RECO_MODALITY_DEFAULT) c->fuse = RECO_CROSS;
    if (c->search < RECO_UNI || c->search > RECO_CROSS || c->fuse < RECO_UNI || c->fuse > RECO_CROSS)
        return reco_fail(ctx, RECO_E_ARG, "fusion: search = %d, fuse = %d, want 0..2", (int)c->search,
                         (int)c->fuse);
    if (c->layers > RECO_MAX_LAYERS) return out_of_range(ctx, "layers", c->layers, 1, RECO_MAX_LAYERS);
    if (c->heads > RECO_MAX_HEADS) return out_of_range(ctx, "heads", c->heads, 1, RECO_MAX_HEADS);
    if (c->mlp > RECO_MAX_MLP) return out_of_range(ctx, "mlp", c->mlp, 1, RECO_MAX_MLP);
    if (c->hidden > RECO_MAX_HIDDEN) return out_of_range(ctx, "hidden", c->hidden, 1, RECO_MAX_HIDDEN);
    if (c->layer == RECO_LAYER_TRANSFORMER && c->d % c->heads != 0)
        return reco_fail(ctx, RECO_E_ARG, "fusion: d = %zu is not a multiple of heads = %zu", c->d,
                         c->heads);
    if (!(c->eps > 0 && c->eps <= 1))
        return reco_fail(ctx, RECO_E_ARG, "fusion: eps = %g, want above 0, at most 1", (double)c->eps);
    c->scores = c->scores != 0;
    for (int side = 0; side < 2; side++) {
        if (c->beta[side] == 0) c->beta[side] = 40;
        if (c->gain[side] == 0) c->gain[side] = 0.5f;
        if (!(fabsf(c->beta[side]) <= 1e6f && fabsf(c->gain[side]) <= 1e6f))
            return reco_fail(ctx, RECO_E_ARG, "fusion: beta %g, gain %g, want finite and at most 1e6",
                             (double)c->beta[side], (double)c->gain[side]);
    }
    if (!(c->min_similarity >= -1 && c->min_similarity <= 1))
        return reco_fail(ctx, RECO_E_ARG, "fusion: min_similarity = %g, want -1..1",
                         (double)c->min_similarity);
    if (c->sides < RECO_SIDES_NONE || c->sides > RECO_SIDES_BOTH)
        return reco_fail(ctx, RECO_E_ARG, "fusion: sides = %d, want 0..3", (int)c->sides);
    if (c->mixture.scale[0] != 0) RECO_TRY(reco_mixture_check(ctx, &c->mixture));
    return RECO_OK;
}

typedef struct spec {
    const char *name;
    size_t rows, cols;
    reco_init init;
    bool decay;
} spec;

static bool set_param(reco_ctx *ctx, reco_fusion *f, size_t i, const char *prefix, const spec *s)
{
    reco_param *p = &f->params[i];
    p->rank = s->cols ? 2 : s->rows ? 1 : 0;
    p->shape[0] = s->rows;
    p->shape[1] = s->cols;
    p->count = p->rank == 2 ? s->rows * s->cols : p->rank == 1 ? s->rows : 1;
    p->decay = s->decay;
    p->name = reco_format(ctx, "%s%s", prefix, s->name);
    f->inits[i] = s->init;
    f->total += p->count;
    return p->name != NULL;
}

reco_status reco_fusion_layout(reco_ctx *ctx, reco_fusion **out, const reco_fusion_config *config)
{
#define SPEC(id, name, rows, cols, init, decay) {name, rows, cols, INIT_##init, decay},
    const spec block[] = {RECO_BLOCK_PARAMS(SPEC, config) RECO_SCORE_PARAMS(SPEC, config)};
    const spec relational[] = {RECO_RELATIONAL_PARAMS(SPEC, config)};
    const spec mlp[] = {RECO_MLP_PARAMS(SPEC, config)};
#undef SPEC
    static const char *const side_name[2] = {"image", "text"};
    reco_status status = RECO_E_NOMEM;
    *out = NULL;
    reco_fusion *f = reco_alloc(ctx, 1, sizeof *f, "fusion");
    if (!f) return RECO_E_NOMEM;
    f->config = *config;
    f->concat = NAN;
    bool transformer = config->layer == RECO_LAYER_TRANSFORMER;
    size_t layers = transformer ? config->layers : reco_layer_trains(config->layer);
    const spec *specs = transformer ? block : config->layer == RECO_LAYER_MLP ? mlp : relational;
    f->per_layer = config->layer == RECO_LAYER_MLP ? P_MLP_COUNT
                   : !transformer                  ? P_RELATIONAL_COUNT
                   : config->scores                ? P_BLOCK_COUNT
                                                   : P_SCORE_SCALE;
    f->per_side = layers * f->per_layer;
    f->nparams = layers ? 2 * f->per_side + 1 : 0;
    f->params = reco_alloc(ctx, f->nparams, sizeof *f->params, "fusion parameters");
    f->inits = reco_alloc(ctx, f->nparams, sizeof *f->inits, "fusion parameters");
    f->meta = json_object();
    if (!f->params || !f->inits || !f->meta) goto out;
    for (size_t i = 0; i + 1 < f->nparams; i++) {
        size_t l = i % f->per_side / f->per_layer;
        char prefix[64];
        if (transformer)
            snprintf(prefix, sizeof prefix, "%s.layers.%zu.", side_name[i / f->per_side], l);
        else
            snprintf(prefix, sizeof prefix, "%s.", side_name[i / f->per_side]);
        if (!set_param(ctx, f, i, prefix, &specs[i % f->per_layer])) goto out;
    }
    if (layers && !set_param(ctx, f, f->nparams - 1, "", &(spec){"logit_scale", 0, 0, INIT_ZERO, false}))
        goto out;
    *out = f;
    f = NULL;
    status = RECO_OK;
out:
    reco_fusion_free(f);
    return status;
}

reco_status reco_fusion_allocate(reco_ctx *ctx, reco_fusion *f)
{
    f->vector = reco_alloc_raw(ctx, f->total, sizeof *f->vector, "fusion parameters");
    if (!f->vector) return RECO_E_NOMEM;
    float *at = f->vector;
    for (size_t i = 0; i < f->nparams; i++) {
        f->params[i].value = at;
        at += f->params[i].count;
    }
    return RECO_OK;
}

static void initialise(reco_fusion *f, uint64_t seed)
{
    reco_rng rng;
    reco_rng_seed(&rng, seed);
    for (size_t i = 0; i < f->nparams; i++) {
        const reco_param *p = &f->params[i];
        for (size_t j = 0; j < p->count; j++) {
            switch (f->inits[i]) {
            case INIT_ZERO:
                p->value[j] = 0;
                break;
            case INIT_ONE:
                p->value[j] = 1;
                break;
            case INIT_THREE:
                p->value[j] = 3;
                break;
            case INIT_TRACE:
                p->value[j] = -2.5f;
                break;
            case INIT_FAN_IN:
                p->value[j] = (float)(reco_rng_normal(&rng) / sqrt((double)p->shape[1]));
                break;
            case INIT_LINEAR:
                p->value[j] = (float)((2 * reco_rng_uniform(&rng) - 1) / sqrt(RECO_FEATURES));
                break;
            }
        }
    }
}

reco_status reco_fusion_create(reco_ctx *ctx, reco_fusion **out, const reco_fusion_config *config,
                               float scale, uint64_t seed)
{
    *out = NULL;
    reco_fusion_config c = *config;
    RECO_TRY(reco_fusion_resolve(ctx, &c));
    if (scale == 0) scale = 100;
    if (!(scale > 0 && scale <= 1e6f))
        return reco_fail(ctx, RECO_E_ARG,
                         "fusion: scale = %g, want above 0, at most "
                         "1e6",
                         (double)scale);
    reco_fusion *f;
    RECO_TRY(reco_fusion_layout(ctx, &f, &c));
    reco_status status = reco_fusion_allocate(ctx, f);
    if (status != RECO_OK) {
        reco_fusion_free(f);
        return status;
    }
    initialise(f, seed);
    if (f->nparams) *f->params[f->nparams - 1].value = fminf(logf(scale), logf(100));
    *out = f;
    return RECO_OK;
}

void reco_fusion_free(reco_fusion *f)
{
    if (!f) return;
    json_decref(f->meta);
    reco_fusion_unpack(f);
    reco_free(f->metric);
    reco_free(f->vector);
    for (size_t i = 0; f->params && i < f->nparams; i++) reco_free((void *)f->params[i].name);
    reco_free(f->inits);
    reco_free(f->params);
    reco_free(f);
}

reco_side reco_modality_side(reco_modality modality, reco_side side)
{
    if (modality != RECO_CROSS) return side;
    return side == RECO_IMAGE ? RECO_TEXT : RECO_IMAGE;
}

const reco_fusion_config *reco_fusion_get_config(const reco_fusion *fusion) { return &fusion->config; }

void reco_fusion_set_sides(reco_fusion *fusion, reco_sides sides)
{
    if (sides >= RECO_SIDES_NONE && sides <= RECO_SIDES_BOTH) fusion->config.sides = sides;
}

reco_status reco_fusion_set_mixture(reco_ctx *ctx, reco_fusion *fusion, const reco_mixture *mixture)
{
    if (mixture->scale[0] != 0) RECO_TRY(reco_mixture_check(ctx, mixture));
    fusion->config.mixture = *mixture;
    return RECO_OK;
}

size_t reco_fusion_params(const reco_fusion *fusion, const reco_param **params)
{
    *params = fusion->params;
    return fusion->nparams;
}

float *reco_fusion_vector(reco_fusion *fusion, size_t *total)
{
    reco_fusion_unpack(fusion); /* whoever has this may change it */
    *total = fusion->total;
    return fusion->vector;
}

void reco_fusion_scale_gate(reco_fusion *f, float factor)
{
    if (f->config.layer != RECO_LAYER_RELATIONAL) return;
    for (size_t side = 0; side < 2; side++)
        *f->params[side * f->per_side + P_REL_GAMMA].value += logf(factor);
}
