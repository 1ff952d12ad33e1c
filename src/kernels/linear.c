#include "kernels/kernels_internal.h"

#define ROWS_AT_ONCE 4096

bool reco_has_bf16(const reco_ctx *ctx)
{
    return reco_ctx_isa(ctx) == RECO_ISA_AVX512 && reco_dnnl_has_bf16();
}

bool reco_has_int8(const reco_ctx *ctx)
{
    return reco_ctx_isa(ctx) == RECO_ISA_AVX512 && reco_dnnl_has_int8();
}

static void round_bf16(float *out, const float *in, size_t n)
{
    for (size_t i = 0; i < n; i++) out[i] = reco_bf16_to_f32(reco_f32_to_bf16(in[i]));
}

/* Where a precision is asked of a CPU that lacks it, operands are rounded as it would round them and multiplied in
 * f32: the same numbers, so that results do not depend on the machine. */
typedef struct rounded {
    const reco_linear *lin;
    reco_rows_read read;
    void *arg;
} rounded;

static reco_status read_rounded(reco_ctx *ctx, void *arg, float *to, size_t first, size_t n)
{
    const rounded *from = arg;
    size_t in = from->lin->in;
    if (from->lin->type == RECO_PRODUCT_S8) {
        for (size_t i = 0; i < n * in; i++) to[i] = (float)from->lin->quantized[first * in + i];
        return RECO_OK;
    }
    RECO_TRY(from->read(ctx, from->arg, to, first, n));
    if (from->lin->type == RECO_PRODUCT_BF16) round_bf16(to, to, n * in);
    return RECO_OK;
}

static reco_status create_f32(reco_ctx *ctx, reco_linear *lin, reco_rows_read read, void *arg)
{
    rounded from = {lin, read, arg};
    if (reco_ctx_isa(ctx) != RECO_ISA_PLAIN)
        return reco_panels_create(ctx, &lin->panels, read_rounded, &from, lin->out, lin->in);
    lin->weight = reco_alloc_raw(ctx, lin->out * lin->in, sizeof(float), "weights");
    return lin->weight ? read_rounded(ctx, &from, lin->weight, 0, lin->out) : RECO_E_NOMEM;
}

typedef struct to_bf16 {
    const reco_vec *vec;
    uint16_t *out;
    const float *in;
} to_bf16;

static void convert(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const to_bf16 *a = arg;
    a->vec->to_bf16(a->out + begin, a->in + begin, end - begin);
}

static bool has_tiles(const reco_ctx *ctx)
{
#ifdef RECO_AMX
    return reco_has_bf16(ctx) && reco_dnnl_has_amx() && reco_amx_has_bf16();
#else
    (void)ctx;
    return false;
#endif
}

/* Into tiles, or else out [out][in]. Few rows at a time: floats of all would be memory that the system has to find and clear
 * first, which takes as long as the conversion. */
static reco_status read_bf16(reco_ctx *ctx, const reco_linear *lin, reco_rows_read read, void *arg,
                             uint16_t *out)
{
    size_t in = lin->in, most = reco_min(lin->out, 1 + 8192 / in);
    float *rows = reco_scratch(ctx, most * in, sizeof *rows, "weights");
    uint16_t *half = out ? out : reco_scratch(ctx, most * in, sizeof *half, "weights");
    if (!rows || !half) return RECO_E_NOMEM;
    for (size_t i = 0; i < lin->out; i += most) {
        size_t n = reco_min(most, lin->out - i);
        RECO_TRY(read(ctx, arg, rows, i, n));
        if (out) half = out + i * in;
        reco_vec_of(ctx)->to_bf16(half, rows, n * in);
#ifdef RECO_AMX
        for (size_t r = 0; r < n && !out; r++) reco_amx_put(&lin->tiles, half + r * in, i + r);
#endif
    }
    return RECO_OK;
}

static reco_status create_tiles(reco_ctx *ctx, reco_linear *lin, reco_rows_read read, void *arg)
{
#ifdef RECO_AMX
    RECO_TRY(reco_amx_create(ctx, &lin->tiles, lin->out, lin->in));
#endif
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status = read_bf16(ctx, lin, read, arg, NULL);
    reco_scratch_release(ctx, mark);
    return status;
}

static reco_status create_packed(reco_ctx *ctx, reco_linear *lin, reco_rows_read read, void *arg)
{
    reco_status status = RECO_OK;
    size_t count = lin->out * lin->in;
    const void *source = lin->quantized;
    const float *bias = lin->type == RECO_PRODUCT_S8 ? NULL : lin->bias;
    reco_act act = lin->type == RECO_PRODUCT_S8 ? RECO_ACT_NONE : lin->act;
    reco_mark mark = reco_scratch_mark(ctx);
    if (lin->type == RECO_PRODUCT_BF16) {
        uint16_t *half = reco_scratch(ctx, count, sizeof *half, "weights");
        if (!half) RECO_GO(RECO_E_NOMEM);
        RECO_GO(read_bf16(ctx, lin, read, arg, half));
        source = half;
    }
    int before = reco_threads_enter(reco_ctx_threads(ctx));
    lin->packed = reco_dnnl_pack(source, bias, lin->out, lin->in, lin->type, act, 1024);
    reco_threads_leave(before);
    if (!lin->packed)
        RECO_GO(reco_fail(ctx, RECO_E_INTERNAL, "linear: oneDNN refused %zu x %zu", lin->out, lin->in));
out:
    reco_scratch_release(ctx, mark);
    return status;
}

reco_status reco_linear_create_from(reco_ctx *ctx, reco_linear **result, reco_rows_read read, void *arg,
                                    const float *bias, size_t out, size_t in, reco_act act,
                                    reco_precision precision)
{
    *result = NULL;
    size_t count;
    if (!reco_mul(out, in, &count)) return reco_fail_nomem(ctx, SIZE_MAX, "weights");
    reco_linear *lin = reco_alloc(ctx, 1, sizeof *lin, "linear layer");
    if (!lin) return RECO_E_NOMEM;
    reco_status status = RECO_OK;
    bool native = false;
    lin->out = out;
    lin->in = in;
    lin->act = act;
    if (precision == RECO_PRECISION_INT8) {
        lin->type = RECO_PRODUCT_S8;
        native = reco_has_int8(ctx);
        RECO_GO(reco_int8_weights(ctx, lin, read, arg));
    } else if (precision == RECO_PRECISION_BF16 ||
               (precision == RECO_PRECISION_AUTO && reco_has_bf16(ctx))) {
        lin->type = RECO_PRODUCT_BF16;
        native = reco_has_bf16(ctx);
    }
    if (!(lin->bias = reco_alloc(ctx, out, sizeof(float), "bias"))) RECO_GO(RECO_E_NOMEM);
    if (bias) memcpy(lin->bias, bias, out * sizeof(float));
    if (native && lin->type == RECO_PRODUCT_BF16 && has_tiles(ctx))
        RECO_GO(create_tiles(ctx, lin, read, arg));
    else
        RECO_GO(native ? create_packed(ctx, lin, read, arg) : create_f32(ctx, lin, read, arg));
    reco_free(lin->quantized);
    lin->quantized = NULL;
    *result = lin;
    lin = NULL;
out:
    reco_linear_free(lin);
    return status;
}

typedef struct in_memory {
    const float *weight;
    size_t in;
} in_memory;

static reco_status copy_rows(reco_ctx *ctx, void *arg, float *to, size_t first, size_t n)
{
    (void)ctx;
    const in_memory *from = arg;
    memcpy(to, from->weight + first * from->in, n * from->in * sizeof *to);
    return RECO_OK;
}

reco_status reco_linear_create(reco_ctx *ctx, reco_linear **result, const float *weight, const float *bias,
                               size_t out, size_t in, reco_act act, reco_precision precision)
{
    in_memory from = {weight, in};
    return reco_linear_create_from(ctx, result, copy_rows, &from, bias, out, in, act, precision);
}

void reco_linear_free(reco_linear *lin)
{
    if (!lin) return;
    reco_free(lin->tiles.data);
    reco_dnnl_weight_free(lin->packed);
    reco_panels_free(lin->panels);
    reco_free(lin->weight);
    reco_free(lin->quantized);
    reco_free(lin->scales);
    reco_free(lin->bias);
    reco_free(lin);
}

reco_dtype reco_linear_input(const reco_linear *lin)
{
    return lin->packed || lin->tiles.data ? RECO_DTYPE_BF16 : RECO_DTYPE_F32;
}

reco_status reco_linear_f32(reco_ctx *ctx, float *y, const reco_linear *lin, const float *x, size_t m,
                            bool add)
{
    const float *bias = lin->type == RECO_PRODUCT_S8 ? NULL : lin->bias;
    reco_act act = lin->type == RECO_PRODUCT_S8 ? RECO_ACT_NONE : lin->act;
    if (lin->panels) return reco_panels_run(ctx, y, lin->panels, x, bias, act, m, add);
    reco_ref_gemm(y, lin->out, x, lin->in, false, lin->weight, lin->in, true, m, lin->out, lin->in, 1,
                  add ? 1 : 0);
    for (size_t i = 0; i < m * lin->out; i++)
        y[i] = reco_ref_act(y[i] + (bias ? bias[i % lin->out] : 0), act);
    return RECO_OK;
}

static reco_status run_rounded(reco_ctx *ctx, float *y, const reco_linear *lin, const float *x, size_t m,
                               bool add)
{
    reco_mark mark = reco_scratch_mark(ctx);
    if (lin->type == RECO_PRODUCT_BF16) {
        float *rows = reco_scratch(ctx, m * lin->in, sizeof(float), "bf16 inputs");
        if (!rows) return RECO_E_NOMEM;
        round_bf16(rows, x, m * lin->in);
        x = rows;
    }
    reco_status status = reco_linear_f32(ctx, y, lin, x, m, add);
    reco_scratch_release(ctx, mark);
    return status;
}

bool reco_linear_codes(const reco_linear *lin) { return lin->packed && lin->type == RECO_PRODUCT_S8; }

static reco_status multiply_bf16(reco_ctx *ctx, void *y, reco_dtype yt, const reco_linear *lin,
                                 const uint16_t *x, size_t m, bool add)
{
#ifdef RECO_AMX
    if (lin->tiles.data)
        return reco_amx_run(ctx, &(reco_amx_product){.vec = reco_vec_of(ctx),
                                                     .w = &lin->tiles,
                                                     .y = y,
                                                     .yt = yt,
                                                     .x = x,
                                                     .m = m,
                                                     .bias = lin->bias,
                                                     .act = lin->act,
                                                     .add = add});
#endif
    int before = reco_threads_enter(reco_ctx_threads(ctx));
    bool good = reco_dnnl_product(y, yt, lin->packed, x, m, add);
    reco_threads_leave(before);
    return good ? RECO_OK
                : reco_fail(ctx, RECO_E_INTERNAL, "linear: oneDNN refused %zu x %zu x %zu", m, lin->out,
                            lin->in);
}

reco_status reco_linear_run_as(reco_ctx *ctx, reco_rows y, const reco_linear *lin, reco_rows x, size_t m,
                               bool add)
{
    if (lin->type == RECO_PRODUCT_S8) return reco_int8_run(ctx, y, lin, x, m, add);
    if (!lin->packed && !lin->tiles.data) {
        if (y.type != RECO_DTYPE_F32 || x.type != RECO_DTYPE_F32)
            return reco_fail(ctx, RECO_E_INTERNAL, "linear: f32 rows wanted");
        return run_rounded(ctx, y.at, lin, x.at, m, add);
    }
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status = RECO_OK;
    for (size_t i = 0; i < m && status == RECO_OK; i += ROWS_AT_ONCE) {
        size_t n = reco_min(m - i, ROWS_AT_ONCE);
        const void *input = (const char *)x.at + i * lin->in * reco_dtype_size(x.type);
        if (x.type == RECO_DTYPE_F32) {
            to_bf16 arg = {reco_vec_of(ctx),
                           reco_scratch(ctx, n * lin->in, sizeof(uint16_t), "bf16 inputs"), input};
            if (!arg.out) {
                reco_scratch_release(ctx, mark);
                return RECO_E_NOMEM;
            }
            reco_parallel(ctx, n * lin->in, 1 << 15, convert, &arg);
            input = arg.out;
        }
        status = multiply_bf16(ctx, (char *)y.at + i * lin->out * reco_dtype_size(y.type), y.type, lin,
                               input, n, add);
        reco_scratch_release(ctx, mark);
    }
    return status;
}

reco_status reco_linear_run(reco_ctx *ctx, float *y, const reco_linear *lin, const float *x, size_t m,
                            bool add)
{
    union {
        const float *in;
        void *out; /* of x, which is only read */
    } input = {x};
    return reco_linear_run_as(ctx, (reco_rows){.at = y, .type = RECO_DTYPE_F32}, lin,
                              (reco_rows){.at = input.out, .type = RECO_DTYPE_F32}, m, add);
}
