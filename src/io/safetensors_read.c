#include "io/internal.h"

#include <stdlib.h>

struct reco_safetensors {
    reco_map map;
    char *path;
    json_t *root; /* owns the names and the metadata */
    size_t n;
    reco_tensor *tensors;        /* [n] by offset */
    const reco_tensor **by_name; /* [n] */
};

/* Bits, since the smallest floats share bytes. Those that reco computes with come first, in its order. */
static const struct {
    const char *name;
    size_t bits;
} types[] = {
    {"F32", 32},    {"F16", 16},    {"BF16", 16},       {"I64", 64},        {"I32", 32}, {"U8", 8},
    {"F64", 64},    {"BOOL", 8},    {"I8", 8},          {"I16", 16},        {"U16", 16}, {"U32", 32},
    {"U64", 64},    {"F8_E4M3", 8}, {"F8_E5M2", 8},     {"F8_E8M0", 8},     {"C64", 64}, {"F4", 4},
    {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8},
};
#define NTYPES (sizeof types / sizeof *types)

static size_t find_type(const char *name)
{
    size_t i = 0;
    while (i < NTYPES && strcmp(types[i].name, name) != 0) i++;
    return i;
}

/* A non-negative integer of json into *out. */
static bool to_size(const json_t *value, size_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0) return false;
    *out = (size_t)json_integer_value(value);
    return true;
}

static reco_status read_shape(reco_ctx *ctx, const char *path, const json_t *entry, reco_tensor *t)
{
    const json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape))
        return reco_fail(ctx, RECO_E_FORMAT, "%s: tensor %.200s has no shape", path, t->name);
    t->rank = json_array_size(shape);
    if (t->rank > RECO_IO_MAX_RANK)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: tensor %.200s has %zu dimensions, want at most %d", path,
                         t->name, t->rank, RECO_IO_MAX_RANK);
    for (size_t i = 0; i < t->rank; i++)
        if (!to_size(json_array_get(shape, i), &t->shape[i]))
            return reco_fail(ctx, RECO_E_FORMAT, "%s: tensor %.200s: dimension %zu is not a whole number",
                             path, t->name, i);
    return RECO_OK;
}

static reco_status read_tensor(reco_ctx *ctx, const char *path, const char *name, const json_t *entry,
                               const uint8_t *data, size_t data_bytes, reco_tensor *t)
{
    t->name = name;
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    if (!dtype) return reco_fail(ctx, RECO_E_FORMAT, "%s: tensor %.200s has no dtype", path, name);
    size_t type = find_type(dtype);
    if (type == NTYPES)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: tensor %.200s has unknown dtype %.40s", path, name,
                         dtype);
    RECO_TRY(read_shape(ctx, path, entry, t));

    const json_t *span = json_object_get(entry, "data_offsets");
    size_t begin, end;
    if (json_array_size(span) != 2 || !to_size(json_array_get(span, 0), &begin) ||
        !to_size(json_array_get(span, 1), &end))
        return reco_fail(ctx, RECO_E_FORMAT, "%s: tensor %.200s: data_offsets are not two whole numbers",
                         path, name);
    t->bytes = end - begin;
    char shape[RECO_IO_SHAPE_TEXT];
    reco_io_shape_text(shape, t->rank, t->shape, false);
    size_t bits = 1;
    bool fits =
        reco_io_shape_count(t->rank, t->shape, &t->count) && reco_mul(t->count, types[type].bits, &bits);
    if (begin > end || end > data_bytes)
        return reco_fail(
            ctx, RECO_E_FORMAT, "%s: tensor %.200s: data_offsets [%zu,%zu], want within [0,%zu]%s", path,
            name, begin, end, data_bytes,
            begin < end && fits && bits / 8 == t->bytes ? ": the file is cut off, fetch it again" : "");
    t->data = data + begin;
    if (!fits)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: tensor %.200s: shape %s is too large", path, name, shape);
    if (bits % 8 != 0 || bits / 8 != t->bytes)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: tensor %.200s: %s %s is %zu bytes, data_offsets give %zu",
                         path, name, dtype, shape, bits / 8, t->bytes);

    if (type <= RECO_DTYPE_F64)
        t->dtype = (reco_dtype)type;
    else {
        t->dtype = RECO_DTYPE_U8;
        t->dtype_name = types[type].name;
        t->count = t->bytes;
    }
    return RECO_OK;
}

static int compare_offset(const void *a, const void *b)
{
    const reco_tensor *x = a, *y = b;
    if (x->data != y->data) return (uintptr_t)x->data < (uintptr_t)y->data ? -1 : 1;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1; /* empty tensors take no room: first */
    return strcmp(x->name, y->name);
}

static int compare_name(const void *a, const void *b)
{
    return strcmp((*(const reco_tensor *const *)a)->name, (*(const reco_tensor *const *)b)->name);
}

/* Each tensor starts where the one before ends, and the last ends with the file. */
static reco_status check_tiling(reco_ctx *ctx, const reco_safetensors *st, const uint8_t *data,
                                size_t data_bytes)
{
    size_t at = 0;
    for (size_t i = 0; i < st->n; i++) {
        const reco_tensor *t = &st->tensors[i];
        size_t begin = (size_t)((const uint8_t *)t->data - data);
        if (begin != at)
            return reco_fail(ctx, RECO_E_FORMAT, "%s: tensor %.200s starts at %zu, want %zu: %s", st->path,
                             t->name, begin, at, begin < at ? "it overlaps another" : "there is a gap");
        at += t->bytes;
    }
    if (at != data_bytes)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: holds %zu bytes of data, the header accounts for %zu",
                         st->path, data_bytes, at);
    return RECO_OK;
}

static reco_status check_meta(reco_ctx *ctx, const char *path, json_t *meta)
{
    if (!json_is_object(meta))
        return reco_fail(ctx, RECO_E_FORMAT, "%s: __metadata__ is not an object", path);
    const char *key;
    json_t *value;
    json_object_foreach(meta, key, value) if (!json_is_string(value)) return reco_fail(
        ctx, RECO_E_FORMAT, "%s: __metadata__: %.200s is not a string", path, key);
    return RECO_OK;
}

static reco_status read_safetensors_header(reco_ctx *ctx, reco_safetensors *st)
{
    uint64_t length;
    if (st->map.bytes < sizeof length)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: is %zu bytes, too short for a safetensors file", st->path,
                         st->map.bytes);
    memcpy(&length, st->map.data, sizeof length);
    size_t rest = st->map.bytes - sizeof length;
    if (length > RECO_IO_MAX_HEADER)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: header is %llu bytes, want at most %u", st->path,
                         (unsigned long long)length, RECO_IO_MAX_HEADER);
    if (length > rest)
        return reco_fail(ctx, RECO_E_FORMAT,
                         "%s: header is %llu bytes, the file has %zu left: it is cut off, fetch it again",
                         st->path, (unsigned long long)length, rest);

    const char *text = (const char *)st->map.data + sizeof length;
    reco_io_json_error error;
    reco_status status = reco_io_json_parse(&st->root, text, (size_t)length, &error);
    if (status != RECO_OK)
        return reco_fail(ctx, status, "%s: header: %s (byte %zu)", st->path, error.reason, error.byte);
    if (!json_is_object(st->root))
        return reco_fail(ctx, RECO_E_FORMAT, "%s: header is not an object", st->path);

    const uint8_t *data = st->map.data + sizeof length + length;
    size_t data_bytes = rest - (size_t)length, n = json_object_size(st->root);
    st->tensors = reco_alloc(ctx, n, sizeof *st->tensors, "tensor list");
    st->by_name = reco_alloc(ctx, n, sizeof *st->by_name, "tensor list");
    if (!st->tensors || !st->by_name) return RECO_E_NOMEM;

    const char *name;
    json_t *entry;
    json_object_foreach(st->root, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0)
            RECO_TRY(check_meta(ctx, st->path, entry));
        else
            RECO_TRY(read_tensor(ctx, st->path, name, entry, data, data_bytes, &st->tensors[st->n++]));
    }
    qsort(st->tensors, st->n, sizeof *st->tensors, compare_offset);
    RECO_TRY(check_tiling(ctx, st, data, data_bytes));
    for (size_t i = 0; i < st->n; i++) st->by_name[i] = &st->tensors[i];
    qsort(st->by_name, st->n, sizeof *st->by_name, compare_name);
    return RECO_OK;
}

/* What the file is, where that says more than what is wrong with its header, which is recorded already. */
static reco_status excuse(reco_ctx *ctx, const reco_safetensors *st)
{
    const char *is = reco_content_excuse(st->map.data, st->map.bytes), *data = (const char *)st->map.data;
    if (is) return reco_fail(ctx, RECO_E_FORMAT, "%s: %s", st->path, is);
    size_t n = 0; /* a header's length has a NUL among its eight bytes */
    while (n < reco_min(st->map.bytes, 60) && data[n] >= ' ' && data[n] < 127) n++;
    if (n < 9) return RECO_E_FORMAT;
    return reco_fail(ctx, RECO_E_FORMAT, "%s: is text (\"%.*s\"), want safetensors: fetch it again",
                     st->path, (int)n, data);
}

reco_status reco_safetensors_open(reco_ctx *ctx, reco_safetensors **out, const char *path)
{
    *out = NULL;
    reco_safetensors *st = reco_alloc(ctx, 1, sizeof *st, "safetensors");
    if (!st) return RECO_E_NOMEM;
    reco_status status = RECO_E_NOMEM;
    st->path = reco_strdup(ctx, path);
    if (!st->path) goto out;
    RECO_GO(reco_map_open(ctx, &st->map, path));
    reco_map_pieces(&st->map, true);
    status = read_safetensors_header(ctx, st);
    reco_map_pieces(&st->map, false);
    if (status == RECO_E_FORMAT) status = excuse(ctx, st);
    if (status != RECO_OK) goto out;
    *out = st;
    st = NULL;
out:
    reco_safetensors_close(st);
    return status;
}

void reco_safetensors_close(reco_safetensors *st)
{
    if (!st) return;
    reco_free(st->by_name);
    reco_free(st->tensors);
    json_decref(st->root);
    reco_map_close(&st->map);
    free(st->path);
    reco_free(st);
}

void reco_safetensors_pieces(const reco_safetensors *st, bool pieces) { reco_map_pieces(&st->map, pieces); }

size_t reco_safetensors_count(const reco_safetensors *st) { return st->n; }

const reco_tensor *reco_safetensors_at(const reco_safetensors *st, size_t i)
{
    return i < st->n ? &st->tensors[i] : NULL;
}

const reco_tensor *reco_safetensors_find(const reco_safetensors *st, const char *name)
{
    reco_tensor key = {.name = name};
    const reco_tensor *wanted = &key;
    const reco_tensor *const *found =
        bsearch(&wanted, st->by_name, st->n, sizeof *st->by_name, compare_name);
    return found ? *found : NULL;
}

const char *reco_safetensors_meta(const reco_safetensors *st, const char *key)
{
    return json_string_value(json_object_get(json_object_get(st->root, "__metadata__"), key));
}

const char *reco_safetensors_path(const reco_safetensors *st) { return st->path; }

reco_status reco_safetensors_need(reco_ctx *ctx, const reco_safetensors *st, const reco_tensor **out,
                                  const char *name, int rank, const size_t *shape)
{
    const reco_tensor *t = *out = reco_safetensors_find(st, name);
    if (!t) return reco_fail(ctx, RECO_E_NOTFOUND, "%s: no tensor %s", st->path, name);
    if (rank < 0) return RECO_OK;
    bool same = t->rank == (size_t)rank;
    for (size_t i = 0; same && i < t->rank; i++) same = shape[i] == 0 || shape[i] == t->shape[i];
    if (same) return RECO_OK;
    char has[RECO_IO_SHAPE_TEXT], want[RECO_IO_SHAPE_TEXT];
    reco_io_shape_text(has, t->rank, t->shape, false);
    reco_io_shape_text(want, (size_t)rank, shape, true);
    *out = NULL;
    return reco_fail(ctx, RECO_E_FORMAT, "%s: tensor %s has shape %s, want %s", st->path, name, has, want);
}

reco_status reco_tensor_f32(reco_ctx *ctx, const reco_tensor *t, size_t from, size_t n, float *out)
{
    if (t->dtype_name || (t->dtype > RECO_DTYPE_BF16 && t->dtype != RECO_DTYPE_F64))
        return reco_fail(ctx, RECO_E_FORMAT, "tensor %.200s has dtype %s, want F32, F16, BF16 or F64",
                         t->name, t->dtype_name ? t->dtype_name : reco_dtype_name(t->dtype));
    if (from > t->count || n > t->count - from)
        return reco_fail(ctx, RECO_E_ARG, "tensor %.200s: %zu elements from %zu, want within %zu", t->name,
                         n, from, t->count);
    reco_io_to_f32(out, t->dtype, (const uint8_t *)t->data + from * reco_dtype_size(t->dtype), n);
    return RECO_OK;
}
