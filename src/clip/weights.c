#include "clip/clip_internal.h"
#include "clip/folder.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>

static reco_status open_shard(reco_ctx *ctx, reco_weights *weights, const char *path)
{
    RECO_TRY(reco_safetensors_open(ctx, &weights->files[weights->n], path));
    weights->n++;
    return RECO_OK;
}

static reco_status alloc_shards(reco_ctx *ctx, reco_weights *weights, size_t files)
{
    weights->files = reco_alloc(ctx, files + 1, sizeof *weights->files, "shards");
    return weights->files ? RECO_OK : RECO_E_NOMEM;
}

/* A shard's name comes from the index file, so it must be a plain name in the same folder. */
static reco_status open_shards(reco_ctx *ctx, reco_weights *weights, const char *dir, const char *index)
{
    json_t *root = NULL;
    reco_status status = reco_json_load(ctx, &root, index);
    if (status != RECO_OK) return status;
    const char *key;
    json_t *value, *map = json_object_get(root, "weight_map");
    if (!json_is_object(map)) RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s: no object weight_map", index));
    RECO_GO(alloc_shards(ctx, weights, json_object_size(map)));
    json_object_foreach(map, key, value)
    {
        const char *name = json_string_value(value);
        if (!name || !*name || strchr(name, '/') || name[0] == '.')
            RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s: weight_map: %s is in \"%s\", want a file name",
                              index, key, name ? name : ""));
        char *path = reco_path_join(ctx, dir, name);
        if (!path) RECO_GO(RECO_E_NOMEM);
        bool known = false;
        for (size_t i = 0; i < weights->n; i++)
            known = known || strcmp(reco_safetensors_path(weights->files[i]), path) == 0;
        if (!known) status = open_shard(ctx, weights, path);
        reco_free(path);
        if (status != RECO_OK) goto out;
    }
out:
    json_decref(root);
    return status;
}

reco_status reco_weights_there(reco_ctx *ctx, const char *dir, const char *name, bool *there)
{
    char *file = reco_path_join(ctx, dir, name);
    char *index = file ? reco_format(ctx, "%s.index.json", file) : NULL;
    if (index) *there = reco_path_exists(file) || reco_path_exists(index);
    reco_status status = index ? RECO_OK : RECO_E_NOMEM;
    reco_free(file);
    reco_free(index);
    return status;
}

reco_status reco_weights_open(reco_ctx *ctx, reco_weights *weights, const char *dir, const char *name)
{
    reco_status status = RECO_OK;
    char *index = NULL, *index_name = reco_format(ctx, "%s.index.json", name);
    if (!index_name || !(weights->path = reco_path_join(ctx, dir, name)) ||
        !(index = reco_path_join(ctx, dir, index_name)))
        RECO_GO(RECO_E_NOMEM);
    if (!reco_path_exists(weights->path) && reco_path_exists(index)) {
        reco_free(weights->path);
        weights->path = index;
        index = NULL;
        RECO_GO(open_shards(ctx, weights, dir, weights->path));
    } else if (!reco_path_exists(weights->path)) {
        RECO_GO(reco_folder_no_weights(ctx, dir, name));
    } else {
        RECO_GO(alloc_shards(ctx, weights, 1));
        RECO_GO(open_shard(ctx, weights, weights->path));
    }
    status = reco_weights_name(ctx, weights);
out:
    reco_free(index);
    reco_free(index_name);
    return status;
}

void reco_weights_close(reco_weights *weights)
{
    for (size_t i = 0; i < weights->count; i++) reco_free(weights->named[i].own);
    for (size_t i = 0; i < weights->n; i++) reco_safetensors_close(weights->files[i]);
    reco_free(weights->named);
    reco_free(weights->files);
    reco_free(weights->prefix);
    reco_free(weights->path);
    *weights = (reco_weights){0};
}

/* The first name that is not less. */
static size_t lower_bound(const reco_weights *weights, const char *name)
{
    size_t low = 0, high = weights->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(weights->named[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static reco_named *find_tensor(const reco_weights *weights, const char *name)
{
    size_t i = lower_bound(weights, name);
    return i < weights->count && strcmp(weights->named[i].name, name) == 0 ? &weights->named[i] : NULL;
}

const reco_tensor *reco_weights_find(const reco_weights *weights, const char *name)
{
    const reco_named *found = find_tensor(weights, name);
    return found ? found->tensor : NULL;
}

size_t reco_weights_left(const reco_weights *weights, const reco_tensor **first)
{
    static const char positions[] = "position_ids";
    size_t left = 0;
    for (size_t i = 0; i < weights->count; i++) {
        const reco_tensor *t = weights->named[i].tensor;
        size_t n = strlen(t->name), end = sizeof positions - 1;
        bool number = t->dtype == RECO_DTYPE_I64 || t->dtype == RECO_DTYPE_I32 ||
                      (n >= end && strcmp(t->name + n - end, positions) == 0);
        if (number || weights->named[i].used) continue;
        if (left++ == 0) *first = t;
    }
    return left;
}

bool reco_weights_prefix(const reco_weights *weights, const char *prefix)
{
    size_t i = lower_bound(weights, prefix);
    return i < weights->count && strncmp(weights->named[i].name, prefix, strlen(prefix)) == 0;
}

typedef struct conversion {
    const reco_tensor *tensor;
    size_t first;
    float *out;       /* NULL: only look */
    atomic_bool good; /* set to false by any thread */
} conversion;

#define PIECE ((size_t)2048)

/* Halves tell by their exponents, unconverted. */
static bool all_finite(const reco_tensor *t, size_t from, size_t n, const float *values)
{
    const uint8_t *halves = (const uint8_t *)t->data + from * reco_dtype_size(t->dtype);
    int16_t exponent = t->dtype == RECO_DTYPE_F16 ? 0x7c00 : 0x7f80, most = 0;
    float sum = 0;
    if (t->dtype == RECO_DTYPE_F32 || t->dtype == RECO_DTYPE_F64) {
#pragma omp simd reduction(+ : sum)
        for (size_t i = 0; i < n; i++) sum += values[i] * 0; /* NaN where one is not finite */
        return sum == 0;
    }
#pragma omp simd reduction(max : most)
    for (size_t i = 0; i < n; i++) {
        int16_t v;
        memcpy(&v, halves + i * sizeof v, sizeof v);
        v &= exponent;
        most = v > most ? v : most;
    }
    return most < exponent;
}

static void convert(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    conversion *c = arg;
    const reco_tensor *t = c->tensor;
    float piece[PIECE];
    bool good = true;
    for (size_t from = begin; from < end && good; from += PIECE) {
        size_t n = reco_min(PIECE, end - from);
        float *to = c->out ? c->out + from : piece;
        size_t at = c->first + from;
        if (c->out || t->dtype == RECO_DTYPE_F32 || t->dtype == RECO_DTYPE_F64)
            good = reco_tensor_f32(NULL, t, at, n, to) == RECO_OK;
        good = good && all_finite(t, at, n, to);
    }
    if (!good) atomic_store(&c->good, false);
}

/* Adapters of PEFT that were not merged leave tensors of these names instead. */
static bool has_adapter(const reco_weights *weights)
{
    for (size_t i = 0; i < weights->count; i++)
        if (strstr(weights->named[i].name, ".lora_") || strstr(weights->named[i].name, ".base_layer."))
            return true;
    return false;
}

const reco_tensor *reco_weights_need(reco_ctx *ctx, const reco_weights *weights, const char *name,
                                     size_t rank, const size_t *shape)
{
    float none;
    const reco_tensor *tensor;
    reco_named *found = find_tensor(weights, name);
    if (!found) {
        reco_fail(ctx, RECO_E_FORMAT, "%s: no tensor %s%s%s", weights->path, weights->prefix, name,
                  has_adapter(weights)
                      ? ", but those of an adapter: merge it (docs/models.md, \"Adapters\")"
                      : "");
        return NULL;
    }
    if (reco_safetensors_need(ctx, found->file, &tensor, found->tensor->name, (int)rank, shape) != RECO_OK)
        return NULL;
    found->used = true;
    if (tensor->dtype_name)
        reco_fail(ctx, RECO_E_FORMAT,
                  "%s: tensor %s has dtype %s, want F32, F16, BF16 or F64: save the model in one of these",
                  reco_safetensors_path(found->file), tensor->name, tensor->dtype_name);
    else if (reco_tensor_f32(ctx, tensor, 0, 0, &none) == RECO_OK)
        return tensor;
    else
        reco_fail_prefix(ctx, RECO_E_FORMAT, reco_safetensors_path(found->file));
    return NULL;
}

/* The file that a tensor is in, for messages. */
static const char *file_of_tensor(const reco_weights *weights, const reco_tensor *tensor)
{
    for (size_t i = 0; i < weights->count; i++)
        if (weights->named[i].tensor == tensor) return reco_safetensors_path(weights->named[i].file);
    return weights->path;
}

bool reco_weights_read(reco_ctx *ctx, const reco_weights *weights, const reco_tensor *tensor, size_t from,
                       size_t n, float *out)
{
    conversion c = {tensor, from, out, true};
    reco_parallel(ctx, n, 1 << 16, convert, &c);
    for (size_t i = from; i < from + n && !c.good; i++) {
        float value;
        if (reco_tensor_f32(ctx, tensor, i, 1, &value) == RECO_OK && isfinite(value)) continue;
        reco_fail(ctx, RECO_E_FORMAT, "%s: tensor %s: element %zu is not finite",
                  file_of_tensor(weights, tensor), tensor->name, i);
        return false;
    }
    return true;
}

float *reco_weights_load(reco_ctx *ctx, const reco_weights *weights, const char *name, size_t rank,
                         const size_t *shape)
{
    const reco_tensor *tensor = reco_weights_need(ctx, weights, name, rank, shape);
    float *values = tensor ? reco_alloc_raw(ctx, tensor->count, sizeof(float), name) : NULL;
    if (values && reco_weights_read(ctx, weights, tensor, 0, tensor->count, values)) return values;
    reco_free(values);
    return NULL;
}
