#include "kernels/kernels_internal.h"

#define ROWS_AT_ONCE 4096

struct reco_linear {
    size_t out, in;
    reco_act act;
    bool bf16;                /* products of bf16 inputs */
    reco_dnnl_weight *packed; /* NULL: plain */
    float *weight, *bias;     /* plain: [out][in], [out] */
};

bool reco_has_bf16(const reco_ctx *ctx)
{
    return reco_ctx_isa(ctx) == RECO_ISA_AVX512 && reco_dnnl_has_bf16();
}

static void round_bf16(float *out, const float *in, size_t n)
{
    for (size_t i = 0; i < n; i++) out[i] = reco_bf16_to_f32(reco_f32_to_bf16(in[i]));
}

/* Where bf16 is asked of a CPU that lacks it, inputs are rounded to bf16 and multiplied in f32: the same numbers, so
 * that results do not depend on the machine. */
static reco_status create_plain(reco_ctx *ctx, reco_linear *lin, const float *weight, const float *bias)
{
    lin->weight = reco_alloc(ctx, lin->out * lin->in, sizeof(float), "weights");
    lin->bias = reco_alloc(ctx, lin->out, sizeof(float), "bias");
    if (!lin->weight || !lin->bias) return RECO_E_NOMEM;
    if (lin->bf16)
        round_bf16(lin->weight, weight, lin->out * lin->in);
    else
        memcpy(lin->weight, weight, lin->out * lin->in * sizeof(float));
    if (bias) memcpy(lin->bias, bias, lin->out * sizeof(float));
    return RECO_OK;
}

reco_status reco_linear_create(reco_ctx *ctx, reco_linear **result, const float *weight, const float *bias,
                               size_t out, size_t in, reco_act act, reco_precision precision)
{
    *result = NULL;
    size_t count;
    if (!reco_mul(out, in, &count)) return reco_fail_nomem(ctx, SIZE_MAX, "weights");
    reco_linear *lin = reco_alloc(ctx, 1, sizeof *lin, "linear layer");
    if (!lin) return RECO_E_NOMEM;
    reco_status status = RECO_OK;
    uint16_t *half = NULL;
    lin->out = out;
    lin->in = in;
    lin->act = act;
    lin->bf16 = precision == RECO_BF16 || (precision == RECO_PRECISION_AUTO && reco_has_bf16(ctx));
    if (reco_ctx_isa(ctx) == RECO_ISA_PLAIN || (lin->bf16 && !reco_has_bf16(ctx))) {
        RECO_GO(create_plain(ctx, lin, weight, bias));
    } else {
        const void *source = weight;
        if (lin->bf16) {
            if (!(half = reco_alloc(ctx, count, sizeof *half, "weights"))) RECO_GO(RECO_E_NOMEM);
            for (size_t i = 0; i < count; i++) half[i] = reco_f32_to_bf16(weight[i]);
            source = half;
        }
        int before = reco_threads_enter(ctx);
        lin->packed = reco_dnnl_pack(source, bias, out, in, lin->bf16, act, 1024);
        reco_threads_leave(before);
        if (!lin->packed)
            RECO_GO(reco_fail(ctx, RECO_E_INTERNAL, "linear: oneDNN refused %zu x %zu", out, in));
    }
    *result = lin;
    lin = NULL;
out:
    reco_free(half);
    reco_linear_free(lin);
    return status;
}

void reco_linear_free(reco_linear *lin)
{
    if (!lin) return;
    reco_dnnl_weight_free(lin->packed);
    reco_free(lin->weight);
    reco_free(lin->bias);
    reco_free(lin);
}

typedef struct to_bf16 {
    uint16_t *out;
    const float *in;
} to_bf16;

static void convert(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    to_bf16 *a = arg;
    for (size_t i = begin; i < end; i++) a->out[i] = reco_f32_to_bf16(a->in[i]);
}

static reco_status run_plain(reco_ctx *ctx, float *y, const reco_linear *lin, const float *x, size_t m,
                             bool add)
{
    reco_mark mark = reco_scratch_mark(ctx);
    if (lin->bf16) {
        float *rounded = reco_scratch(ctx, m * lin->in, sizeof(float), "bf16 inputs");
        if (!rounded) return RECO_E_NOMEM;
        round_bf16(rounded, x, m * lin->in);
        x = rounded;
    }
    reco_status status = reco_gemm(ctx, y, lin->out, x, lin->in, false, lin->weight, lin->in, true, m,
                                   lin->out, lin->in, 1, add ? 1 : 0);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < lin->out; j++)
            y[i * lin->out + j] = reco_ref_act(y[i * lin->out + j] + lin->bias[j], lin->act);
    reco_scratch_release(ctx, mark);
    return status;
}

reco_status reco_linear_run(reco_ctx *ctx, float *y, const reco_linear *lin, const float *x, size_t m,
                            bool add)
{
    if (!lin->packed) return run_plain(ctx, y, lin, x, m, add);
    reco_mark mark = reco_scratch_mark(ctx);
    bool good = true;
    for (size_t i = 0; i < m && good; i += ROWS_AT_ONCE) {
        size_t n = reco_min(m - i, ROWS_AT_ONCE);
        const void *input = x + i * lin->in;
        if (lin->bf16) {
            to_bf16 arg = {reco_scratch(ctx, n * lin->in, sizeof(uint16_t), "bf16 inputs"), input};
            if (!arg.out) {
                reco_scratch_release(ctx, mark);
                return RECO_E_NOMEM;
            }
            reco_parallel(ctx, n * lin->in, 1 << 16, convert, &arg);
            input = arg.out;
        }
        int before = reco_threads_enter(ctx);
        good = reco_dnnl_product(y + i * lin->out, lin->packed, input, n, add);
        reco_threads_leave(before);
        reco_scratch_release(ctx, mark);
    }
    return good ? RECO_OK
                : reco_fail(ctx, RECO_E_INTERNAL, "linear: oneDNN refused %zu x %zu x %zu", m, lin->out,
                            lin->in);
}
