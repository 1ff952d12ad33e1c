/* Layers in int8: weights rounded with a scale per output channel, inputs with a scale per row (token), exact sums
 * in int32. What a row's largest value costs the others is that row's alone. */
#include "kernels/kernels_internal.h"

#include <math.h>

#define ROWS_AT_ONCE 2048
#define BLOCK 128 /* rows: with 3,072 channels its sums are 1.5 MB */
#define LEAST_BLOCK 64

reco_status reco_int8_weights(reco_ctx *ctx, reco_linear *lin, reco_rows_read read, void *arg)
{
    const reco_vec *vec = reco_vec_of(ctx);
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    float *row = reco_scratch(ctx, lin->in, sizeof *row, "weights");
    lin->quantized = reco_alloc(ctx, lin->out * lin->in, 1, "weights");
    lin->scales = reco_alloc(ctx, lin->out, sizeof(float), "weights");
    if (!row || !lin->quantized || !lin->scales) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < lin->out; i++) {
        RECO_GO(read(ctx, arg, row, i, 1));
        lin->scales[i] = vec->quantize(lin->quantized + i * lin->in, row, lin->in);
    }
out:
    reco_scratch_release(ctx, mark);
    return status;
}

/* Buffers of one call, or of one thread. */
typedef struct buffers {
    int8_t *codes; /* [n][in] */
    float *scales; /* [n] */
    int32_t *sums; /* [n][out] */
} buffers;

typedef struct job {
    const reco_vec *vec;
    const reco_linear *lin;
    reco_rows x, y;
    bool add;
    buffers all;  /* of n rows, or of a block for each thread; no codes where they are given */
    size_t block; /* rows of it */
    float *spare; /* [threads][out] */
    atomic_bool failed;
} job;

static reco_status allocate(reco_ctx *ctx, job *a, size_t n)
{
    const reco_linear *lin = a->lin;
    size_t threads = (size_t)reco_ctx_threads(ctx);
    if (!a->x.scales) {
        a->all.codes = reco_scratch(ctx, n * lin->in, 1, "int8 inputs");
        a->all.scales = reco_scratch(ctx, n, sizeof(float), "int8 inputs");
        if (!a->all.codes || !a->all.scales) return RECO_E_NOMEM;
    }
    a->all.sums = reco_scratch(ctx, n * lin->out, sizeof(int32_t), "int8 sums");
    a->spare = reco_scratch(ctx, threads * lin->out, sizeof(float), "int8 rows");
    return a->all.sums && a->spare ? RECO_OK : RECO_E_NOMEM;
}

/* The row-th of rows of width n. */
static void *row_at(const reco_rows *rows, size_t row, size_t n)
{
    return (char *)rows->at + row * n * (rows->scales ? 1 : reco_dtype_size(rows->type));
}

/* Of the rows from `row` on, which are rows first.. of the buffers. */
static buffers part(const job *a, size_t row, size_t first)
{
    const reco_linear *lin = a->lin;
    if (a->x.scales)
        return (buffers){row_at(&a->x, row, lin->in), a->x.scales + row, a->all.sums + first * lin->out};
    return (buffers){a->all.codes + first * lin->in, a->all.scales + first, a->all.sums + first * lin->out};
}

static void quantize_rows(const job *a, const buffers *to, size_t begin, size_t end)
{
    size_t in = a->lin->in;
    for (size_t i = begin; i < end && !a->x.scales; i++) {
        const void *x = row_at(&a->x, i, in);
        int8_t *y = to->codes + (i - begin) * in;
        to->scales[i - begin] =
            a->x.type == RECO_DTYPE_BF16 ? a->vec->quantize_bf16(y, x, in) : a->vec->quantize(y, x, in);
    }
}

static void finish_rows(const job *a, const buffers *from, size_t begin, size_t end, int worker)
{
    const reco_linear *lin = a->lin;
    size_t out = lin->out;
    float *row = a->spare + (size_t)worker * out;
    for (size_t i = begin; i < end; i++) {
        const int32_t *sums = from->sums + (i - begin) * out;
        float scale = from->scales[i - begin];
        void *y = row_at(&a->y, i, out);
        bool direct = !a->y.scales && a->y.type == RECO_DTYPE_F32;
        a->vec->rescale[lin->act](direct ? y : row, sums, scale, lin->scales, lin->bias, a->add, out);
        if (a->y.scales)
            a->y.scales[i] = a->vec->quantize(y, row, out);
        else if (!direct)
            a->vec->to_bf16(y, row, out);
    }
}

/* ---- many rows: each thread takes blocks, whose sums it still has in its cache when it rescales them ---- */

static void run_block(void *arg, size_t begin, size_t end, int worker)
{
    job *a = arg;
    buffers b = part(a, begin, (size_t)worker * a->block);
    quantize_rows(a, &b, begin, end);
    if (reco_dnnl_product(b.sums, RECO_DTYPE_I32, a->lin->packed, b.codes, end - begin, false))
        finish_rows(a, &b, begin, end, worker);
    else
        atomic_store(&a->failed, true);
}

/* ---- few rows: the threads share one product ---- */

static void quantize(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    buffers b = part(arg, begin, begin);
    quantize_rows(arg, &b, begin, end);
}

static void finish_chunk(void *arg, size_t begin, size_t end, int worker)
{
    buffers b = part(arg, begin, begin);
    finish_rows(arg, &b, begin, end, worker);
}

/* Without native int8: the same integers as floats, which hold sums of up to 2^24 exactly. */
static reco_status sums_plain(reco_ctx *ctx, const job *a, const int8_t *codes, size_t n)
{
    const reco_linear *lin = a->lin;
    float *x = reco_scratch(ctx, n * lin->in, sizeof *x, "int8 inputs");
    float *y = reco_scratch(ctx, n * lin->out, sizeof *y, "int8 sums");
    if (!x || !y) return RECO_E_NOMEM;
    for (size_t i = 0; i < n * lin->in; i++) x[i] = (float)codes[i];
    RECO_TRY(reco_linear_f32(ctx, y, lin, x, n, false));
    for (size_t i = 0; i < n * lin->out; i++) a->all.sums[i] = (int32_t)lrintf(y[i]);
    return RECO_OK;
}

static reco_status run_together(reco_ctx *ctx, job *a, size_t n)
{
    const int8_t *codes = part(a, 0, 0).codes;
    if (!a->x.scales) reco_parallel(ctx, n, 16, quantize, a);
    if (a->lin->packed) {
        int before = reco_threads_enter(reco_ctx_threads(ctx));
        a->failed = !reco_dnnl_product(a->all.sums, RECO_DTYPE_I32, a->lin->packed, codes, n, false);
        reco_threads_leave(before);
    } else {
        reco_mark inner = reco_scratch_mark(ctx);
        reco_status status = sums_plain(ctx, a, codes, n);
        reco_scratch_release(ctx, inner);
        if (status != RECO_OK) return status;
    }
    if (!a->failed) reco_parallel(ctx, n, 16, finish_chunk, a);
    return RECO_OK;
}

reco_status reco_int8_run(reco_ctx *ctx, reco_rows y, const reco_linear *lin, reco_rows x, size_t m,
                          bool add)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    size_t threads = (size_t)reco_ctx_threads(ctx);
    job a = {.vec = reco_vec_of(ctx), .lin = lin, .x = x, .y = y, .add = add};
    if (lin->packed && m >= threads * LEAST_BLOCK) {
        size_t turns = (m + threads * BLOCK - 1) / (threads * BLOCK), pieces = turns * threads;
        a.block = ((m + pieces - 1) / pieces + 15) / 16 * 16;
        RECO_GO(allocate(ctx, &a, threads * a.block));
        int before = reco_threads_enter(1); /* of each call of oneDNN's */
        reco_parallel(ctx, m, a.block, run_block, &a);
        reco_threads_leave(before);
    } else {
        size_t most = reco_min(m, ROWS_AT_ONCE);
        RECO_GO(allocate(ctx, &a, most));
        for (size_t i = 0; i < m && !a.failed; i += most) {
            RECO_GO(run_together(ctx, &a, reco_min(m - i, most)));
            a.x.at = row_at(&a.x, most, lin->in);
            a.y.at = row_at(&a.y, most, lin->out);
            if (x.scales) a.x.scales += most;
            if (y.scales) a.y.scales += most;
        }
    }
    if (a.failed)
        status = reco_fail(ctx, RECO_E_INTERNAL, "linear: oneDNN refused %zu x %zu x %zu in int8", m,
                           lin->out, lin->in);
out:
    reco_scratch_release(ctx, mark);
    return status;
}
