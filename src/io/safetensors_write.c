#include "io/internal.h"

#include <stdlib.h>

#define DATA_ALIGNMENT 64

static reco_status tensor_bytes(reco_ctx *ctx, const char *path, const reco_tensor *t, size_t *bytes)
{
    size_t count;
    if (!t->name || t->rank > RECO_IO_MAX_RANK)
        return reco_fail(ctx, RECO_E_ARG,
                         "%s: tensor %.200s has %zu dimensions, want a name and at most %d", path,
                         t->name ? t->name : "(unnamed)", t->rank, RECO_IO_MAX_RANK);
    *bytes = t->bytes;
    if (!t->dtype_name && (!reco_io_shape_count(t->rank, t->shape, &count) ||
                           !reco_mul(count, reco_dtype_size(t->dtype), bytes)))
        return reco_fail(ctx, RECO_E_ARG, "%s: tensor %.200s is too large", path, t->name);
    return RECO_OK;
}

/* value is NULL where it could not be made; text is what it says, or NULL. */
static reco_status add_member(reco_ctx *ctx, const char *path, json_t *object, const char *key,
                              json_t *value, const char *text)
{
    if (json_object_get(object, key)) {
        json_decref(value);
        return reco_fail(ctx, RECO_E_ARG, "%s: %.200s occurs twice", path, key);
    }
    if (json_object_set_new(object, key, value) == 0) return RECO_OK;
    if (!reco_io_is_utf8(key, strlen(key)) || (text && !reco_io_is_utf8(text, strlen(text))))
        return reco_fail(ctx, RECO_E_ARG, "%s: %.200s: is not UTF-8", path, key);
    return reco_fail_nomem(ctx, 0, path);
}

static json_t *describe_tensor(const reco_tensor *t, size_t begin, size_t end)
{
    json_t *shape = json_array();
    for (size_t i = 0; i < t->rank; i++)
        json_array_append_new(shape, json_integer((json_int_t)t->shape[i]));
    if (json_array_size(shape) != t->rank) { /* out of memory on the way */
        json_decref(shape);
        return NULL;
    }
    return json_pack("{s:s, s:o, s:[I,I]}", "dtype",
                     t->dtype_name ? t->dtype_name : reco_dtype_name(t->dtype), "shape", shape,
                     "data_offsets", (json_int_t)begin, (json_int_t)end);
}

static reco_status build_header(reco_ctx *ctx, const char *path, json_t *root, const reco_tensor *tensors,
                                size_t n, const reco_meta *meta, size_t nmeta, size_t *data_bytes)
{
    if (nmeta) {
        json_t *object = json_object();
        RECO_TRY(add_member(ctx, path, root, "__metadata__", object, NULL));
        for (size_t i = 0; i < nmeta; i++)
            RECO_TRY(add_member(ctx, path, object, meta[i].key, json_string(meta[i].value), meta[i].value));
    }
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        size_t bytes = 0, end;
        RECO_TRY(tensor_bytes(ctx, path, &tensors[i], &bytes));
        if (!reco_add(at, bytes, &end) || end > INT64_MAX / 2)
            return reco_fail(ctx, RECO_E_ARG, "%s: tensor %.200s: the file is too large", path,
                             tensors[i].name);
        RECO_TRY(add_member(ctx, path, root, tensors[i].name, describe_tensor(&tensors[i], at, end), NULL));
        at = end;
    }
    *data_bytes = at;
    return RECO_OK;
}

reco_status reco_safetensors_begin(reco_ctx *ctx, reco_file **out, const char *path,
                                   const reco_tensor *tensors, size_t n, const reco_meta *meta,
                                   size_t nmeta)
{
    *out = NULL;
    reco_status status;
    reco_file *file = NULL;
    char *text = NULL;
    json_t *root = json_object();
    if (!root) return reco_fail_nomem(ctx, 0, path);
    size_t data_bytes = 0;
    RECO_GO(build_header(ctx, path, root, tensors, n, meta, nmeta, &data_bytes));
    text = reco_json_dump(ctx, root);
    if (!text) RECO_GO(RECO_E_NOMEM);

    size_t used = strlen(text), start = (8 + used + DATA_ALIGNMENT - 1) / DATA_ALIGNMENT * DATA_ALIGNMENT;
    if (start - 8 > RECO_IO_MAX_HEADER)
        RECO_GO(reco_fail(ctx, RECO_E_ARG, "%s: header is %zu bytes, want at most %u", path, start - 8,
                          RECO_IO_MAX_HEADER));
    uint64_t length = start - 8;
    RECO_GO(reco_file_begin(ctx, &file, path));
    RECO_GO(reco_file_write(ctx, file, &length, sizeof length));
    RECO_GO(reco_file_write(ctx, file, text, used));
    RECO_GO(reco_file_printf(ctx, file, "%*s", (int)(start - 8 - used), ""));
    reco_io_file_expect(file, start + data_bytes);
    *out = file;
    file = NULL;
out:
    reco_file_abort(file);
    free(text);
    json_decref(root);
    return status;
}

reco_status reco_safetensors_write(reco_ctx *ctx, const char *path, const reco_tensor *tensors, size_t n,
                                   const reco_meta *meta, size_t nmeta)
{
    reco_file *file;
    RECO_TRY(reco_safetensors_begin(ctx, &file, path, tensors, n, meta, nmeta));
    reco_status status = RECO_OK;
    for (size_t i = 0; i < n; i++) {
        size_t bytes = 0;
        RECO_GO(tensor_bytes(ctx, path, &tensors[i], &bytes));
        RECO_GO(reco_file_write(ctx, file, tensors[i].data, bytes));
    }
    return reco_file_commit(ctx, file);
out:
    reco_file_abort(file);
    return status;
}
