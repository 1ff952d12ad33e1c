#include "io/internal.h"

/* The header is a Python dictionary, of which numpy writes three keys; no more of Python is understood here. */
typedef struct cursor {
    const char *at, *end;
} cursor;

typedef struct header {
    char descr[16];
    bool fortran, record;
    size_t rank, shape[8];
} header;

static void skip_space(cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || (*c->at >= '\t' && *c->at <= '\r'))) c->at++;
}

static bool take_char(cursor *c, char wanted)
{
    skip_space(c);
    if (c->at == c->end || *c->at != wanted) return false;
    c->at++;
    return true;
}

static bool take_word(cursor *c, const char *word)
{
    size_t n = strlen(word);
    if (!take_char(c, word[0]) || (size_t)(c->end - c->at) < n - 1 || memcmp(c->at, word + 1, n - 1) != 0)
        return false;
    c->at += n - 1;
    return true;
}

static bool take_string(cursor *c, char *out, size_t room)
{
    char quote = '\'';
    if (!take_char(c, quote) && !take_char(c, quote = '"')) return false;
    const char *end = memchr(c->at, quote, (size_t)(c->end - c->at));
    if (!end || (size_t)(end - c->at) >= room) return false;
    memcpy(out, c->at, (size_t)(end - c->at));
    out[end - c->at] = 0;
    c->at = end + 1;
    return true;
}

static bool take_number(cursor *c, size_t *out)
{
    skip_space(c);
    const char *start = c->at;
    *out = 0;
    for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++)
        if (!reco_mul(*out, 10, out) || !reco_add(*out, (size_t)(*c->at - '0'), out)) return false;
    bool found = c->at > start;
    if (found && c->at < c->end && *c->at == 'L') c->at++; /* Python 2 */
    return found;
}

static bool take_shape(cursor *c, header *h)
{
    if (!take_char(c, '(')) return false;
    while (!take_char(c, ')')) {
        if (h->rank == 8 || !take_number(c, &h->shape[h->rank])) return false;
        h->rank++;
        if (!take_char(c, ',')) return take_char(c, ')');
    }
    return true;
}

static bool take_entry(cursor *c, header *h, unsigned *seen)
{
    char key[16];
    if (!take_string(c, key, sizeof key) || !take_char(c, ':')) return false;
    unsigned which;
    bool good;
    if (strcmp(key, "descr") == 0) {
        which = 1;
        cursor list = *c;
        if (take_char(&list, '[')) { /* a record type: named later, and nothing after it matters */
            memcpy(h->descr, "a record", 9);
            return h->record = true;
        }
        good = take_string(c, h->descr, sizeof h->descr);
    } else if (strcmp(key, "fortran_order") == 0) {
        which = 2;
        h->fortran = take_word(c, "True");
        good = h->fortran || take_word(c, "False");
    } else if (strcmp(key, "shape") == 0) {
        which = 4;
        good = take_shape(c, h);
    } else
        return false;
    good = good && !(*seen & which);
    *seen |= which;
    return good;
}

static bool parse_npy_header(cursor c, header *h)
{
    unsigned seen = 0;
    if (!take_char(&c, '{')) return false;
    while (!take_char(&c, '}')) {
        if (!take_entry(&c, h, &seen)) return false;
        if (h->record) return true;
        if (take_char(&c, ',')) continue;
        if (!take_char(&c, '}')) return false;
        break;
    }
    skip_space(&c);
    return seen == 7 && c.at == c.end;
}

static reco_status find_dtype(reco_ctx *ctx, const char *path, const char *descr, reco_dtype *out,
                              bool *swapped)
{
    static const struct {
        const char *descr;
        reco_dtype dtype;
    } known[] = {{"<f4", RECO_DTYPE_F32}, {"<f2", RECO_DTYPE_F16}, {"<f8", RECO_DTYPE_F64},
                 {"<i8", RECO_DTYPE_I64}, {"<i4", RECO_DTYPE_I32}, {"|u1", RECO_DTYPE_U8},
                 {"<u1", RECO_DTYPE_U8}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        bool big = *descr == '>' && descr[1] == 'f';
        if (strcmp(descr + big, known[i].descr + big) != 0) continue;
        *out = known[i].dtype;
        *swapped = big;
        return RECO_OK;
    }
    return reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: dtype is %s, want <f2, <f4, <f8, <i4, <i8 or |u1", path,
                     descr);
}

static reco_status read_npy_header(reco_ctx *ctx, reco_npy *npy, const char *path)
{
    const uint8_t *data = npy->map.data;
    size_t bytes = npy->map.bytes;
    if (bytes < 10 || memcmp(data, "\x93NUMPY", 6) != 0)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: is not a .npy file", path);
    if (data[6] < 1 || data[6] > 3)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: .npy version is %d, want 1 to 3", path, data[6]);
    size_t prefix = data[6] == 1 ? 10 : 12, length = data[8] | (size_t)data[9] << 8;
    if (prefix == 12 && bytes >= prefix) length |= (size_t)data[10] << 16 | (size_t)data[11] << 24;
    if (bytes < prefix || length > bytes - prefix)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: header is %zu bytes, the file has %zu", path, length,
                         bytes);

    header h = {0};
    const char *text = (const char *)data + prefix;
    if (!parse_npy_header((cursor){text, text + length}, &h)) {
        int shown = (int)reco_min(length, 200);
        return reco_fail(ctx, RECO_E_FORMAT, "%s: header is not understood: %.*s", path, shown, text);
    }
    RECO_TRY(find_dtype(ctx, path, h.descr, &npy->dtype, &npy->swapped));
    char shape[RECO_IO_SHAPE_TEXT];
    reco_io_shape_text(shape, h.rank, h.shape, false);
    size_t count, want, have = bytes - prefix - length;
    bool counted = reco_io_shape_count(h.rank, h.shape, &count);
    for (size_t i = 0; i < h.rank && h.rank > 2;) { /* [n][1][d] is [n][d] */
        if (h.shape[i] != 1) {
            i++;
            continue;
        }
        memmove(h.shape + i, h.shape + i + 1, (--h.rank - i) * sizeof *h.shape);
    }
    npy->fortran = h.fortran && h.rank == 2;
    if (npy->fortran && npy->dtype != RECO_DTYPE_F16 && npy->dtype != RECO_DTYPE_F32 &&
        npy->dtype != RECO_DTYPE_F64)
        return reco_fail(ctx, RECO_E_UNSUPPORTED,
                         "%s: is in Fortran order, want C order (numpy.ascontiguousarray before saving)",
                         path);
    if (h.rank != 1 && h.rank != 2)
        return reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: shape is %s, want one or two dimensions", path,
                         shape);
    npy->rows = h.shape[0];
    npy->rank = h.rank;
    npy->cols = h.rank == 2 ? h.shape[1] : 1;

    if (!counted || !reco_mul(count, reco_dtype_size(npy->dtype), &want))
        return reco_fail(ctx, RECO_E_FORMAT, "%s: shape %s is too large", path, shape);
    if (have != want)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: holds %zu bytes of data, want %zu for %s %s", path, have,
                         want, h.descr, shape);
    npy->data = data + prefix + length;
    return RECO_OK;
}

reco_status reco_npy_open(reco_ctx *ctx, reco_npy *npy, const char *path)
{
    *npy = (reco_npy){0};
    RECO_TRY(reco_map_open(ctx, &npy->map, path));
    reco_status status = read_npy_header(ctx, npy, path);
    if (status != RECO_OK) reco_npy_close(npy);
    return status;
}

void reco_npy_close(reco_npy *npy)
{
    reco_map_close(&npy->map);
    *npy = (reco_npy){0};
}

/* Elements that lie apart, or the other way round, one by one. */
static void gather_elements(float *out, const reco_npy *npy, size_t from, size_t n)
{
    const size_t size = reco_dtype_size(npy->dtype);
    const uint8_t *data = npy->data;
    for (size_t c = 0; c < npy->cols; c++)
        for (size_t r = 0; r < n; r++) {
            const size_t at = npy->fortran ? c * npy->rows + from + r : (from + r) * npy->cols + c;
            uint8_t element[8] = {0};
            for (size_t b = 0; b < size; b++)
                element[b] = data[at * size + (npy->swapped ? size - 1 - b : b)];
            reco_io_to_f32(out + r * npy->cols + c, npy->dtype, element, 1);
        }
}

reco_status reco_npy_rows(reco_ctx *ctx, const reco_npy *npy, size_t from, size_t n, float *out)
{
    if (npy->dtype != RECO_DTYPE_F32 && npy->dtype != RECO_DTYPE_F16 && npy->dtype != RECO_DTYPE_F64)
        return reco_fail(ctx, RECO_E_FORMAT, "array has dtype %s, want F16, F32 or F64",
                         reco_dtype_name(npy->dtype));
    if (from > npy->rows || n > npy->rows - from)
        return reco_fail(ctx, RECO_E_ARG, "array: %zu rows from %zu, want within %zu", n, from, npy->rows);
    if (npy->fortran || npy->swapped) {
        gather_elements(out, npy, from, n);
        return RECO_OK;
    }
    size_t row = npy->cols * reco_dtype_size(npy->dtype);
    reco_io_to_f32(out, npy->dtype, (const uint8_t *)npy->data + from * row, n * npy->cols);
    return RECO_OK;
}
