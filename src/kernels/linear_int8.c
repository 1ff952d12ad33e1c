/* Layers in int8: weights rounded with a scale per output channel, inputs with a scale per row (token), exact sums
 * in int32. What a row's largest value costs the others is that row's alone. */
#include "kernels/kernels_internal.h"

#include <math.h>

#define ROWS_AT_ONCE 2048

reco_status reco_int8_weights(reco_ctx *ctx, reco_linear *lin, const float *weight)
{
    const reco_vec *vec = reco_vec_of(ctx);
    lin->quantized = reco_alloc(ctx, lin->out * lin->in, 1, "weights");
    lin->scales = reco_alloc(ctx, lin->out, sizeof(float), "weights");
    if (!lin->quantized || !lin->scales) return RECO_E_NOMEM;
    for (size_t i = 0; i < lin->out; i++)
        lin->scales[i] = vec->quantize(lin->quantized + i * lin->in, weight + i * lin->in, lin->in);
    return RECO_OK;
}

typedef struct rows {
    const reco_vec *vec;
    const reco_linear *lin;
    const char *x;
    char *y;
    reco_dtype xt, yt;
    bool add;
    int8_t *quantized; /* [n][in] */
    float *scales;     /* [n] */
    int32_t *sums;     /* [n][out] */
    float *spare;      /* [threads][max(in, out)] */
} rows;

static void quantize(void *arg, size_t begin, size_t end, int worker)
{
    const rows *a = arg;
    size_t in = a->lin->in;
    float *row = a->spare + (size_t)worker * reco_max(in, a->lin->out);
    for (size_t i = begin; i < end; i++) {
        const char *x = a->x + i * in * reco_dtype_size(a->xt);
        if (a->xt == RECO_DTYPE_BF16) a->vec->from_bf16(row, (const uint16_t *)(const void *)x, in);
        a->scales[i] = a->vec->quantize(
            a->quantized + i * in, a->xt == RECO_DTYPE_BF16 ? row : (const float *)(const void *)x, in);
    }
}

static void finish(void *arg, size_t begin, size_t end, int worker)
{
    const rows *a = arg;
    const reco_linear *lin = a->lin;
    size_t out = lin->out;
    float *row = a->spare + (size_t)worker * reco_max(lin->in, out);
    for (size_t i = begin; i < end; i++) {
        char *y = a->y + i * out * reco_dtype_size(a->yt);
        a->vec->rescale(row, a->sums + i * out, a->scales[i], lin->scales, lin->bias, out);
        reco_vec_activate(a->vec, row, row, out, lin->act);
        if (a->yt == RECO_DTYPE_BF16) {
            a->vec->to_bf16((uint16_t *)(void *)y, row, out);
        } else {
            float *to = (float *)(void *)y;
            for (size_t j = 0; j < out; j++) to[j] = row[j] + (a->add ? to[j] : 0);
        }
    }
}

/* Without native int8: the same integers, as floats. */
static reco_status sums_plain(reco_ctx *ctx, rows *a, size_t n)
{
    const reco_linear *lin = a->lin;
    float *x = reco_scratch(ctx, n * lin->in, sizeof *x, "int8 inputs");
    float *y = reco_scratch(ctx, n * lin->out, sizeof *y, "int8 sums");
    if (!x || !y) return RECO_E_NOMEM;
    for (size_t i = 0; i < n * lin->in; i++) x[i] = (float)a->quantized[i];
    RECO_TRY(reco_gemm(ctx, y, lin->out, x, lin->in, false, lin->weight, lin->in, true, n, lin->out,
                       lin->in, 1, 0));
    for (size_t i = 0; i < n * lin->out; i++) a->sums[i] = (int32_t)lrintf(y[i]);
    return RECO_OK;
}

reco_status reco_int8_run(reco_ctx *ctx, void *y, reco_dtype yt, const reco_linear *lin, const void *x,
                          reco_dtype xt, size_t m, bool add)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    size_t most = reco_min(m, ROWS_AT_ONCE), threads = (size_t)reco_ctx_threads(ctx);
    rows a = {.vec = reco_vec_of(ctx), .lin = lin, .xt = xt, .yt = yt, .add = add};
    a.quantized = reco_scratch(ctx, most * lin->in, 1, "int8 inputs");
    a.scales = reco_scratch(ctx, most, sizeof(float), "int8 inputs");
    a.sums = reco_scratch(ctx, most * lin->out, sizeof(int32_t), "int8 sums");
    a.spare = reco_scratch(ctx, threads * reco_max(lin->in, lin->out), sizeof(float), "int8 rows");
    if (!a.quantized || !a.scales || !a.sums || !a.spare) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < m; i += most) {
        size_t n = reco_min(m - i, most);
        a.x = (const char *)x + i * lin->in * reco_dtype_size(xt);
        a.y = (char *)y + i * lin->out * reco_dtype_size(yt);
        reco_parallel(ctx, n, 16, quantize, &a);
        if (lin->packed) {
            int before = reco_threads_enter(ctx);
            bool good = reco_dnnl_product(a.sums, RECO_DTYPE_I32, lin->packed, a.quantized, n, false);
            reco_threads_leave(before);
            if (!good)
                RECO_GO(reco_fail(ctx, RECO_E_INTERNAL, "linear: oneDNN refused %zu x %zu x %zu in int8", n,
                                  lin->out, lin->in));
        } else {
            reco_mark inner = reco_scratch_mark(ctx);
            status = sums_plain(ctx, &a, n);
            reco_scratch_release(ctx, inner);
            if (status != RECO_OK) goto out;
        }
        reco_parallel(ctx, n, 16, finish, &a);
    }
out:
    reco_scratch_release(ctx, mark);
    return status;
}
