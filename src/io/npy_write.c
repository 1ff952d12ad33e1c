#include "io/internal.h"

#define STREAM_HEADER 128 /* room for any number of rows, which is known last */
#define MAX_HEADER 384
#define PIECE ((size_t)4096)

struct reco_npy_writer {
    reco_file *file;
    reco_dtype dtype;
    size_t rows, cols, rank,
        shape[RECO_IO_MAX_RANK]; /* shape[0] is known last; cols is the product of the others */
};

static const char *descr_of(reco_dtype dtype)
{
    switch (dtype) {
    case RECO_DTYPE_F32:
        return "<f4";
    case RECO_DTYPE_F16:
        return "<f2";
    case RECO_DTYPE_F64:
        return "<f8";
    case RECO_DTYPE_I64:
        return "<i8";
    case RECO_DTYPE_I32:
        return "<i4";
    case RECO_DTYPE_U8:
        return "|u1";
    case RECO_DTYPE_BF16:
    case RECO_DTYPE_KEEP:
        break;
    }
    return NULL;
}

/* Version 1.0, padded to a multiple of 64 bytes and at least STREAM_HEADER. Returns its length. */
static size_t make_header(char out[MAX_HEADER], const char *descr, size_t rank, const size_t *shape)
{
    char dims[RECO_IO_SHAPE_TEXT];
    reco_io_shape_text(dims, rank, shape, false);
    int n =
        snprintf(out + 10, MAX_HEADER - 10, "{'descr': '%s', 'fortran_order': False, 'shape': (%.*s%s), }",
                 descr, (int)strlen(dims) - 2, dims + 1, rank == 1 ? "," : "");
    size_t used = 10 + (size_t)n, total = reco_max(STREAM_HEADER, (used + 1 + 63) / 64 * 64);
    memset(out + used, ' ', total - used - 1);
    out[total - 1] = '\n';
    memcpy(out, "\x93NUMPY\x01\x00", 8);
    out[8] = (char)((total - 10) & 0xff);
    out[9] = (char)((total - 10) >> 8);
    return total;
}

static reco_status check_dtype(reco_ctx *ctx, const char *path, reco_dtype dtype)
{
    if (descr_of(dtype)) return RECO_OK;
    return reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: numpy has no dtype for %s", path,
                     reco_dtype_name(dtype));
}

/* The writer without its file. */
static reco_status prepare_writer(reco_ctx *ctx, reco_npy_writer **out, const char *path, reco_dtype dtype,
                                  size_t rank, const size_t *shape)
{
    *out = NULL;
    RECO_TRY(check_dtype(ctx, path, dtype));
    size_t cols, bytes;
    if (rank > RECO_IO_MAX_RANK - 1 || !reco_io_shape_count(rank, shape, &cols) ||
        !reco_mul(cols, reco_dtype_size(dtype), &bytes))
        return reco_fail(ctx, RECO_E_ARG, "%s: rows of %zu dimensions are too large", path, rank);
    reco_npy_writer *w = reco_alloc(ctx, 1, sizeof *w, "npy writer");
    if (!w) return RECO_E_NOMEM;
    w->dtype = dtype;
    w->cols = cols;
    w->rank = rank + 1;
    w->shape[0] = SIZE_MAX;
    for (size_t i = 0; i < rank; i++) w->shape[i + 1] = shape[i];
    char header[MAX_HEADER] = {0};
    if (make_header(header, descr_of(dtype), w->rank, w->shape) != STREAM_HEADER) {
        reco_npy_abort(w);
        return reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: rows of %zu dimensions of this size", path, rank);
    }
    *out = w;
    return RECO_OK;
}

/* Room for the header of a new file. */
static reco_status begun(reco_ctx *ctx, reco_npy_writer **out, reco_npy_writer *w, reco_status status)
{
    const char header[STREAM_HEADER] = {0};
    if (status == RECO_OK && w->rows == 0) status = reco_file_write(ctx, w->file, header, STREAM_HEADER);
    if (status == RECO_OK)
        *out = w;
    else
        reco_npy_abort(w);
    return status;
}

reco_status reco_npy_begin_shape(reco_ctx *ctx, reco_npy_writer **out, const char *path, reco_dtype dtype,
                                 size_t rank, const size_t *shape)
{
    *out = NULL;
    reco_npy_writer *w;
    RECO_TRY(prepare_writer(ctx, &w, path, dtype, rank, shape));
    return begun(ctx, out, w, reco_file_begin(ctx, &w->file, path));
}

reco_status reco_npy_begin(reco_ctx *ctx, reco_npy_writer **out, const char *path, reco_dtype dtype,
                           size_t cols)
{
    return reco_npy_begin_shape(ctx, out, path, dtype, 1, &cols);
}

reco_status reco_npy_resume(reco_ctx *ctx, reco_npy_writer **out, const char *path, reco_dtype dtype,
                            size_t cols, size_t rows)
{
    *out = NULL;
    reco_npy_writer *w;
    RECO_TRY(prepare_writer(ctx, &w, path, dtype, 1, &cols));
    w->rows = rows;
    size_t bytes = 0;
    bool fits = reco_mul(rows, cols * reco_dtype_size(dtype), &bytes) &&
                reco_add(bytes, rows ? STREAM_HEADER : 0, &bytes);
    return begun(ctx, out, w,
                 fits ? reco_file_resume(ctx, &w->file, path, bytes)
                      : reco_fail(ctx, RECO_E_FORMAT, "%s: %zu rows are too many", path, rows));
}

reco_status reco_npy_checkpoint(reco_ctx *ctx, reco_npy_writer *w)
{
    uint64_t bytes;
    return reco_file_checkpoint(ctx, w->file, &bytes);
}

reco_status reco_npy_append(reco_ctx *ctx, reco_npy_writer *w, const void *rows, size_t n)
{
    size_t count = n * w->cols;
    if (w->dtype == RECO_DTYPE_F16) {
        const float *from = rows;
        uint16_t piece[PIECE];
        for (size_t i = 0; i < count; i += PIECE) {
            size_t m = reco_min(PIECE, count - i);
            reco_f32_to_f16_n(piece, from + i, m);
            RECO_TRY(reco_file_write(ctx, w->file, piece, m * sizeof *piece));
        }
    } else
        RECO_TRY(reco_file_write(ctx, w->file, rows, count * reco_dtype_size(w->dtype)));
    w->rows += n;
    return RECO_OK;
}

reco_status reco_npy_commit(reco_ctx *ctx, reco_npy_writer *w)
{
    char header[MAX_HEADER];
    w->shape[0] = w->rows;
    make_header(header, descr_of(w->dtype), w->rank, w->shape);
    reco_status status = reco_file_pwrite(ctx, w->file, header, STREAM_HEADER, 0);
    if (status == RECO_OK) {
        status = reco_file_commit(ctx, w->file);
        w->file = NULL;
    }
    reco_npy_abort(w);
    return status;
}

void reco_npy_abort(reco_npy_writer *w)
{
    if (!w) return;
    reco_file_abort(w->file);
    reco_free(w);
}

void reco_npy_drop(reco_npy_writer *w)
{
    if (!w) return;
    reco_file_discard(w->file);
    reco_free(w);
}

reco_status reco_npy_write(reco_ctx *ctx, const char *path, reco_dtype dtype, size_t rank,
                           const size_t *shape, const void *data)
{
    RECO_TRY(check_dtype(ctx, path, dtype));
    size_t count, bytes;
    if (rank > RECO_IO_MAX_RANK || !reco_io_shape_count(rank, shape, &count) ||
        !reco_mul(count, reco_dtype_size(dtype), &bytes))
        return reco_fail(ctx, RECO_E_ARG, "%s: array of %zu dimensions is too large", path, rank);
    char header[MAX_HEADER];
    size_t n = make_header(header, descr_of(dtype), rank, shape);
    reco_file *file;
    RECO_TRY(reco_file_begin(ctx, &file, path));
    reco_status status = reco_file_write(ctx, file, header, n);
    if (status == RECO_OK) status = reco_file_write(ctx, file, data, bytes);
    if (status == RECO_OK) return reco_file_commit(ctx, file);
    reco_file_abort(file);
    return status;
}
