#include "clip/loader.h"

#include <math.h>
#include <stdio.h>

float *reco_load_tensor(reco_loader *l, const char *prefix, const char *name, size_t rank,
                        const size_t *shape)
{
    char full[256];
    if (l->status != RECO_OK) return NULL;
    snprintf(full, sizeof full, "%s%s", prefix, name);
    float *values = reco_weights_load(l->ctx, l->weights, full, rank, shape);
    if (!values) l->status = RECO_E_FORMAT;
    return values;
}

static const reco_tensor *need(reco_loader *l, const char *prefix, const char *name, size_t rank,
                               const size_t *shape)
{
    char full[256];
    if (l->status != RECO_OK) return NULL;
    snprintf(full, sizeof full, "%s%s", prefix, name);
    const reco_tensor *tensor = reco_weights_need(l->ctx, l->weights, full, rank, shape);
    if (!tensor) l->status = RECO_E_FORMAT;
    return tensor;
}

const reco_tensor *reco_load_table(reco_loader *l, const char *prefix, const char *name, size_t rows,
                                   size_t cols)
{
    const reco_tensor *table = need(l, prefix, name, 2, (size_t[]){rows, cols});
    if (table && !reco_weights_read(l->ctx, l->weights, table, 0, table->count, NULL))
        l->status = RECO_E_FORMAT;
    return l->status == RECO_OK ? table : NULL;
}

float *reco_load_vector(reco_loader *l, const char *prefix, const char *name, size_t n)
{
    return reco_load_tensor(l, prefix, name, 1, &n);
}

float *reco_load_matrix(reco_loader *l, const char *prefix, const char *name, size_t rows, size_t cols)
{
    return reco_load_tensor(l, prefix, name, 2, (size_t[]){rows, cols});
}

float *reco_load_grid(reco_loader *l, const char *prefix, const char *name, size_t rank,
                      const reco_spec *spec)
{
    char full[256];
    size_t tokens = reco_image_tokens(spec), shape[] = {1, tokens, spec->image.width};
    if (l->status != RECO_OK) return NULL;
    snprintf(full, sizeof full, "%s%s", prefix, name);
    const reco_tensor *tensor = reco_weights_find(l->weights, full);
    if (tensor && tensor->rank == rank && tensor->shape[rank - 2] != tokens)
        l->status = reco_fail(
            l->ctx, RECO_E_FORMAT,
            "%s: tensor %s has %zu positions, want %zu for image_size %zu and patch size %zu "
            "(positions are not interpolated)",
            l->weights->path, full, tensor->shape[rank - 2], tokens, spec->image_size, spec->patch);
    return reco_load_tensor(l, prefix, name, rank, shape + 3 - rank);
}

float reco_load_scalar(reco_loader *l, const char *name)
{
    const reco_tensor *tensor = reco_weights_find(l->weights, name);
    float *value = reco_load_tensor(l, "", name, tensor && tensor->rank == 1 ? 1 : 0, (size_t[]){1});
    float scalar = value ? value[0] : 0;
    reco_free(value);
    return scalar;
}

static reco_precision precision(const reco_loader *l)
{
    return l->precision == RECO_PRECISION_INT8 && !l->int8 ? RECO_PRECISION_AUTO : l->precision;
}

reco_linear *reco_load_pack(reco_loader *l, float *weight, float *bias, size_t out, size_t in, reco_act act)
{
    reco_linear *linear = NULL;
    if (l->status == RECO_OK)
        l->status = reco_linear_create(l->ctx, &linear, weight, bias, out, in, act, precision(l));
    reco_free(weight);
    reco_free(bias);
    return linear;
}

/* A layer's matrix as it lies in its file: tensors of `rows` rows each, one above the other. */
typedef struct source {
    const reco_loader *loader;
    const reco_tensor *tensors[3];
    size_t rows, in;
    const float *scale; /* [out], of each row; NULL: 1 */
} source;

static reco_status read_rows(reco_ctx *ctx, void *arg, float *to, size_t first, size_t n)
{
    const source *s = arg;
    for (size_t m; n; first += m, n -= m, to += m * s->in) {
        size_t at = first % s->rows;
        m = reco_min(n, s->rows - at);
        if (!reco_weights_read(ctx, s->loader->weights, s->tensors[first / s->rows], at * s->in, m * s->in,
                               to))
            return RECO_E_FORMAT;
        for (size_t i = 0; s->scale && i < m; i++)
            for (size_t c = 0; c < s->in; c++) to[i * s->in + c] *= s->scale[first + i];
    }
    return RECO_OK;
}

/* Frees the bias [out], which may be NULL. */
static reco_linear *pack_linear(reco_loader *l, source *from, float *bias, size_t out, reco_act act)
{
    reco_linear *linear = NULL;
    from->loader = l;
    if (l->status == RECO_OK)
        l->status = reco_linear_create_from(l->ctx, &linear, read_rows, from, bias, out, from->in, act,
                                            precision(l));
    reco_free(bias);
    return linear;
}

/* scale * (W x + b) is a product too. */
static reco_linear *scaled(reco_loader *l, const char *prefix, const char *name, const char *scale,
                           size_t out, size_t in, reco_act act)
{
    char full[64];
    snprintf(full, sizeof full, "%s.weight", name);
    source from = {.tensors = {need(l, prefix, full, 2, (size_t[]){out, in})}, .rows = out, .in = in};
    snprintf(full, sizeof full, "%s.bias", name);
    float *bias = reco_load_vector(l, prefix, full, out);
    float *gamma = scale ? reco_load_vector(l, prefix, scale, out) : NULL;
    for (size_t o = 0; gamma && o < out; o++) bias[o] *= gamma[o];
    from.scale = gamma;
    reco_linear *linear = pack_linear(l, &from, bias, out, act);
    reco_free(gamma);
    return linear;
}

reco_linear *reco_load_linear(reco_loader *l, const char *prefix, const char *name, size_t out, size_t in,
                              reco_act act)
{
    return scaled(l, prefix, name, NULL, out, in, act);
}

reco_linear *reco_load_projection(reco_loader *l, const char *prefix, const char *name, size_t out,
                                  size_t in, bool transposed)
{
    if (!transposed) {
        source from = {.tensors = {need(l, prefix, name, 2, (size_t[]){out, in})}, .rows = out, .in = in};
        return pack_linear(l, &from, NULL, out, RECO_ACT_NONE);
    }
    float *stored = reco_load_matrix(l, prefix, name, in, out);
    float *weight = stored ? reco_alloc_raw(l->ctx, out * in, sizeof(float), name) : NULL;
    if (stored && !weight) l->status = RECO_E_NOMEM;
    for (size_t i = 0; weight && i < in; i++)
        for (size_t o = 0; o < out; o++) weight[o * in + i] = stored[i * out + o];
    reco_free(stored);
    return reco_load_pack(l, weight, NULL, out, in, RECO_ACT_NONE);
}

reco_linear *reco_load_patches(reco_loader *l, const char *prefix, const char *name, size_t width,
                               size_t patch, bool bias)
{
    char weight[128], bias_name[128];
    snprintf(weight, sizeof weight, "%s.weight", name);
    snprintf(bias_name, sizeof bias_name, "%s.bias", name);
    source from = {.tensors = {need(l, prefix, weight, 4, (size_t[]){width, 3, patch, patch})},
                   .rows = width,
                   .in = 3 * patch * patch};
    float *b = bias ? reco_load_vector(l, prefix, bias_name, width) : NULL;
    return pack_linear(l, &from, b, width, RECO_ACT_NONE);
}

/* q, k and v as one product. */
static reco_linear *stacked(reco_loader *l, const char *prefix, const reco_block_names *names, size_t width)
{
    const char *const parts[] = {names->q, names->k, names->v};
    source from = {.rows = names->qkv_weight ? 3 * width : width, .in = width};
    if (names->qkv_weight) {
        from.tensors[0] = need(l, prefix, names->qkv_weight, 2, (size_t[]){3 * width, width});
        return pack_linear(l, &from, reco_load_vector(l, prefix, names->qkv_bias, 3 * width), 3 * width,
                           RECO_ACT_NONE);
    }
    float *bias = reco_alloc_raw(l->ctx, 3 * width, sizeof(float), "weights");
    if (!bias) l->status = RECO_E_NOMEM;
    for (size_t i = 0; i < 3; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s.weight", parts[i]);
        from.tensors[i] = need(l, prefix, name, 2, (size_t[]){width, width});
        snprintf(name, sizeof name, "%s.bias", parts[i]);
        float *part = reco_load_vector(l, prefix, name, width);
        if (part) memcpy(bias + i * width, part, width * sizeof(float));
        reco_free(part);
    }
    return pack_linear(l, &from, bias, 3 * width, RECO_ACT_NONE);
}

static void layernorm(reco_loader *l, float **weight, float **bias, const char *prefix, const char *name,
                      size_t width)
{
    char full[64];
    snprintf(full, sizeof full, "%s.weight", name);
    *weight = reco_load_vector(l, prefix, full, width);
    snprintf(full, sizeof full, "%s.bias", name);
    *bias = reco_load_vector(l, prefix, full, width);
}

static void check_linear(reco_loader *l, const char *prefix, const char *name, size_t out, size_t in)
{
    char full[64];
    snprintf(full, sizeof full, "%s.weight", name);
    reco_load_table(l, prefix, full, out, in);
    snprintf(full, sizeof full, "%s.bias", name);
    reco_free(reco_load_vector(l, prefix, full, out));
}

static void check_block(reco_loader *l, const char *p, const reco_block_names *names,
                        const reco_tower_spec *spec)
{
    const char *const parts[] = {names->q, names->k, names->v}, *const scales[] = {names->scale1,
                                                                                   names->scale2};
    if (names->qkv_weight) {
        reco_load_table(l, p, names->qkv_weight, 3 * spec->width, spec->width);
        reco_free(reco_load_vector(l, p, names->qkv_bias, 3 * spec->width));
    } else
        for (size_t i = 0; i < 3; i++) check_linear(l, p, parts[i], spec->width, spec->width);
    check_linear(l, p, names->out, spec->width, spec->width);
    check_linear(l, p, names->fc1, spec->mlp, spec->width);
    check_linear(l, p, names->fc2, spec->width, spec->mlp);
    for (size_t i = 0; i < 2; i++)
        if (scales[i]) reco_free(reco_load_vector(l, p, scales[i], spec->width));
}

typedef struct blocks {
    reco_loader *workers; /* one a thread */
    reco_tower *tower;
    const char *prefix;
    const reco_block_names *names;
    reco_status *status; /* [layers] */
    char **reasons;      /* [layers] */
} blocks;

/* Each thread loads blocks of its own: converting and packing one tensor is too little for all of them. */
static void load_blocks(void *arg, size_t begin, size_t end, int worker)
{
    const blocks *a = arg;
    reco_loader *l = &a->workers[worker];
    const reco_block_names *names = a->names;
    const reco_tower_spec *spec = &a->tower->spec;
    for (size_t i = begin; i < end; i++) {
        reco_block *block = &a->tower->blocks[i];
        char p[128];
        l->status = RECO_OK;
        snprintf(p, sizeof p, "%s%s%zu.", a->prefix, names->block, i);
        layernorm(l, &block->ln1_weight, &block->ln1_bias, p, names->ln1, spec->width);
        layernorm(l, &block->ln2_weight, &block->ln2_bias, p, names->ln2, spec->width);
        if (l->check)
            check_block(l, p, names, spec);
        else {
            block->qkv = stacked(l, p, names, spec->width);
            block->out = scaled(l, p, names->out, names->scale1, spec->width, spec->width, RECO_ACT_NONE);
            block->fc1 = reco_load_linear(l, p, names->fc1, spec->mlp, spec->width, spec->act);
            block->fc2 = scaled(l, p, names->fc2, names->scale2, spec->width, spec->mlp, RECO_ACT_NONE);
        }
        a->status[i] = l->status;
        if (l->status != RECO_OK) a->reasons[i] = reco_strdup(l->ctx, reco_ctx_error(l->ctx));
    }
}

void reco_load_blocks(reco_loader *l, reco_tower *tower, const char *prefix, const reco_tower_spec *spec,
                      const reco_block_names *names)
{
    if (l->status != RECO_OK) return;
    reco_status status = RECO_OK;
    size_t threads = (size_t)reco_ctx_threads(l->ctx);
    blocks a = {NULL, tower, prefix, names, NULL, NULL};
    tower->spec = *spec;
    tower->blocks = reco_alloc(l->ctx, spec->layers, sizeof *tower->blocks, "blocks");
    a.workers = reco_alloc(l->ctx, threads, sizeof *a.workers, "loader");
    a.status = reco_alloc(l->ctx, spec->layers, sizeof *a.status, "loader");
    a.reasons = reco_alloc(l->ctx, spec->layers, sizeof *a.reasons, "loader");
    if (!tower->blocks || !a.workers || !a.status || !a.reasons) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < threads; i++) {
        a.workers[i] = (reco_loader){
            .weights = l->weights, .precision = l->precision, .check = l->check, .int8 = true};
        RECO_GO(reco_ctx_worker(l->ctx, &a.workers[i].ctx));
    }
    reco_parallel(l->ctx, spec->layers, 1, load_blocks, &a);
    for (size_t i = 0; i < spec->layers && status == RECO_OK; i++) /* the first in the model's order */
        if (a.status[i] != RECO_OK)
            status = reco_fail(l->ctx, a.status[i], "%s", a.reasons[i] ? a.reasons[i] : "out of memory");
out:
    for (size_t i = 0; a.workers && i < threads; i++) reco_ctx_free(a.workers[i].ctx);
    for (size_t i = 0; a.reasons && i < spec->layers; i++) reco_free(a.reasons[i]);
    reco_free(a.workers);
    reco_free(a.status);
    reco_free(a.reasons);
    l->status = status;
}

reco_pooler *reco_load_pooler(reco_loader *l, const reco_tower_spec *spec, float *probe, float *in_weight,
                              float *in_bias)
{
    size_t width = spec->width;
    float scale = 1.0f / sqrtf((float)(width / spec->heads));
    reco_pooler *map = NULL;
    float *weight = NULL, *bias = NULL;
    if (l->status == RECO_OK) {
        map = reco_alloc(l->ctx, 1, sizeof *map, "pooling head");
        weight = reco_alloc(l->ctx, 2 * width * width, sizeof(float), "pooling head");
        bias = reco_alloc(l->ctx, 2 * width, sizeof(float), "pooling head");
        if (map) map->q = reco_alloc(l->ctx, width, sizeof(float), "pooling head");
        if (!map || !map->q || !weight || !bias) l->status = RECO_E_NOMEM;
    }
    if (l->status == RECO_OK) {
        map->heads = spec->heads;
        map->mlp = spec->mlp;
        for (size_t o = 0; o < width; o++)
            map->q[o] = scale * ((float)reco_dot(in_weight + o * width, probe, width) + in_bias[o]);
        memcpy(weight, in_weight + width * width, 2 * width * width * sizeof(float));
        memcpy(bias, in_bias + width, 2 * width * sizeof(float));
    }
    reco_free(probe);
    reco_free(in_weight);
    reco_free(in_bias);
    reco_linear *kv = reco_load_pack(l, weight, bias, 2 * width, width, RECO_ACT_NONE);
    if (map) map->kv = kv;
    return map;
}
