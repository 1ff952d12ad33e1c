/* Every fast kernel against its plain twin, at every instruction set this machine has, awkward sizes included. */
#include "kernels/kernels_internal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static void fill(float *x, size_t n, uint64_t seed)
{
    reco_rng rng;
    reco_rng_seed(&rng, seed);
    for (size_t i = 0; i < n; i++) x[i] = (float)reco_rng_normal(&rng);
}

static float *array(size_t n, uint64_t seed)
{
    float *x = reco_alloc(NULL, n, sizeof(float), "test");
    assert_non_null(x);
    if (seed) fill(x, n, seed);
    return x;
}

static void close_to(const float *a, const float *b, size_t n, double tolerance)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)a[i] - (double)b[i]) <= tolerance * (1 + fabs((double)b[i]))))
            fail_msg("element %zu: %g, want %g", i, (double)a[i], (double)b[i]);
}

static void each_isa(void (*test)(reco_ctx *))
{
    for (int isa = RECO_ISA_PLAIN; isa <= RECO_ISA_AVX512; isa++) {
        reco_ctx *ctx;
        reco_ctx_opts opts = {.threads = 2, .max_isa = (reco_isa)isa};
        assert_int_equal(reco_ctx_create(&ctx, &opts), RECO_OK);
        if ((int)reco_ctx_isa(ctx) == isa)
            test(ctx);
        else
            print_message("[  SKIPPED ] this CPU has no instruction set %d\n", isa);
        reco_ctx_free(ctx);
    }
}

static void gemm(reco_ctx *ctx)
{
    static const size_t sizes[][3] = {{1, 1, 1}, {3, 5, 7}, {33, 17, 64}, {4100, 3, 5}, {64, 130, 31}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int t = 0; t < 4; t++) {
            size_t m = sizes[s][0], n = sizes[s][1], k = sizes[s][2];
            bool ta = t & 1, tb = t & 2;
            float *a = array(m * k, 1), *b = array(k * n, 2), *c = array(m * n, 3), *want = array(m * n, 3);
            size_t lda = ta ? m : k, ldb = tb ? k : n;
            assert_int_equal(reco_gemm(ctx, c, n, a, lda, ta, b, ldb, tb, m, n, k, 0.5f, 2), RECO_OK);
            reco_ref_gemm(want, n, a, lda, ta, b, ldb, tb, m, n, k, 0.5f, 2);
            close_to(c, want, m * n, 2e-5);
            reco_free(a), reco_free(b), reco_free(c), reco_free(want);
        }
}

static void linear(reco_ctx *ctx)
{
    size_t out = 45, in = 70;
    for (int precision = RECO_PRECISION_F32; precision <= RECO_PRECISION_BF16; precision++)
        for (int act = RECO_ACT_NONE; act <= RECO_ACT_GELU_TANH; act++)
            for (int add = 0; add <= (act == RECO_ACT_NONE); add++)
                for (size_t m = 1; m < 200; m += 66) {
                    float *w = array(out * in, 1), *bias = array(out, 2), *x = array(m * in, 3),
                          *y = array(m * out, 4), *want = array(m * out, 4);
                    reco_linear *lin;
                    assert_int_equal(reco_linear_create(ctx, &lin, w, bias, out, in, (reco_act)act,
                                                        (reco_precision)precision),
                                     RECO_OK);
                    assert_int_equal(reco_linear_run(ctx, y, lin, x, m, add), RECO_OK);
                    if (precision == RECO_PRECISION_BF16) {
                        for (size_t i = 0; i < out * in; i++)
                            w[i] = reco_bf16_to_f32(reco_f32_to_bf16(w[i]));
                        for (size_t i = 0; i < m * in; i++) x[i] = reco_bf16_to_f32(reco_f32_to_bf16(x[i]));
                    }
                    reco_ref_gemm(want, out, x, in, false, w, in, true, m, out, in, 1, add ? 1 : 0);
                    for (size_t i = 0; i < m * out; i++)
                        want[i] = reco_ref_act(want[i] + bias[i % out], (reco_act)act);
                    close_to(y, want, m * out, 3e-5);
                    reco_linear_free(lin);
                    reco_free(w), reco_free(bias), reco_free(x), reco_free(y), reco_free(want);
                }
}

static float scale_of(const float *x, size_t n)
{
    float top = 0;
    for (size_t i = 0; i < n; i++) top = fabsf(x[i]) > top ? fabsf(x[i]) : top;
    return top / 127;
}

static reco_rows bf16(uint16_t *at) { return (reco_rows){.at = at, .type = RECO_DTYPE_BF16}; }

static reco_rows code_rows(reco_ctx *ctx, const float *x, size_t m, size_t n)
{
    reco_rows rows = {.at = reco_alloc(ctx, m * n, 1, "codes"),
                      .scales = reco_alloc(ctx, m, sizeof(float), "codes")};
    for (size_t i = 0; x && i < m; i++)
        rows.scales[i] = reco_vec_of(ctx)->quantize((int8_t *)rows.at + i * n, x + i * n, n);
    return rows;
}

static void same_codes(reco_rows got, reco_rows want, size_t m, size_t n)
{
    assert_memory_equal(got.at, want.at, m * n);
    assert_memory_equal(got.scales, want.scales, m * sizeof(float));
    reco_free(got.at), reco_free(got.scales), reco_free(want.at), reco_free(want.scales);
}

/* Codes in are what the layer would have made of the numbers, and codes out what the next one would. */
static void codes_between(reco_ctx *ctx, const reco_linear *lin, const float *x, size_t m, size_t in,
                          size_t out)
{
    float *y = array(m * out, 0), *again = array(m * out, 0);
    reco_rows given = code_rows(ctx, x, m, in), made = code_rows(ctx, NULL, m, out);
    assert_int_equal(reco_linear_run(ctx, y, lin, x, m, false), RECO_OK);
    assert_int_equal(reco_linear_run_as(ctx, (reco_rows){.at = again}, lin, given, m, false), RECO_OK);
    assert_memory_equal(again, y, m * out * sizeof(float));
    assert_int_equal(reco_linear_run_as(ctx, made, lin, given, m, false), RECO_OK);
    same_codes(made, code_rows(ctx, y, m, out), m, out);
    reco_free(y), reco_free(again), reco_free(given.at), reco_free(given.scales);
}

/* Against sums of the rounded integers in double: what int8 loses is in the rounding, nothing in the sums. */
static void linear_int8(reco_ctx *ctx)
{
    size_t out = 45, in = 71;
    bool half = reco_has_int8(ctx);
    for (int act = RECO_ACT_NONE; act <= RECO_ACT_GELU_TANH; act++)
        for (int add = 0; add <= (act == RECO_ACT_NONE); add++)
            for (size_t m = 1; m < 700; m += m < 199 ? 66 : 500) {
                float *w = array(out * in, 1), *bias = array(out, 2), *x = array(m * in, 3),
                      *y = array(m * out, 4), *want = array(m * out, 4);
                memset(x, 0, in * sizeof *x); /* a row of zeros */
                if (m > 1) x[in + 3] = 1000;  /* a value that drowns the others of its row */
                reco_linear *lin;
                assert_int_equal(
                    reco_linear_create(ctx, &lin, w, bias, out, in, (reco_act)act, RECO_PRECISION_INT8),
                    RECO_OK);
                assert_int_equal(reco_linear_run(ctx, y, lin, x, m, add), RECO_OK);
                for (size_t i = 0; i < m; i++)
                    for (size_t o = 0; o < out; o++) {
                        float sx = scale_of(x + i * in, in), sw = scale_of(w + o * in, in);
                        double sum = 0;
                        for (size_t c = 0; c < in; c++)
                            sum += sx == 0 ? 0
                                           : (double)roundf(x[i * in + c] / sx) *
                                                 (double)roundf(w[o * in + c] / sw);
                        float value =
                            reco_ref_act((float)(sum * (double)sx * (double)sw) + bias[o], (reco_act)act);
                        want[i * out + o] = value + (add ? want[i * out + o] : 0);
                    }
                /* A value that lies on the edge may be rounded to its other neighbour: one unit of 127. */
                for (size_t i = 0; i < m * out; i++) {
                    float unit = scale_of(x + i / out * in, in) * scale_of(w + i % out * in, in) * 127;
                    if (fabsf(y[i] - want[i]) > 1e-4f * (1 + fabsf(want[i])) + unit)
                        fail_msg("%zu: %g, want %g", i, (double)y[i], (double)want[i]);
                }
                assert_int_equal(reco_linear_codes(lin), half);
                if (half && !add) codes_between(ctx, lin, x, m, in, out);
                if (half && !add) { /* rows of bf16 in and out */
                    uint16_t *hx = reco_alloc(ctx, m * in, sizeof *hx, "x"),
                             *hy = reco_alloc(ctx, m * out, sizeof *hy, "y");
                    for (size_t i = 0; i < m * in; i++)
                        x[i] = reco_bf16_to_f32(hx[i] = reco_f32_to_bf16(x[i]));
                    assert_int_equal(reco_linear_run_as(ctx, bf16(hy), lin, bf16(hx), m, false), RECO_OK);
                    assert_int_equal(reco_linear_run(ctx, y, lin, x, m, false), RECO_OK);
                    for (size_t i = 0; i < m * out; i++) /* as numbers: one zero may be negative */
                        assert_true(reco_bf16_to_f32(hy[i]) == reco_bf16_to_f32(reco_f32_to_bf16(y[i])));
                    reco_free(hx), reco_free(hy);
                }
                reco_linear_free(lin);
                reco_free(w), reco_free(bias), reco_free(x), reco_free(y), reco_free(want);
            }
}

/* Rows of bf16: what f32 gives for the same numbers, rounded. */
static void linear_bf16_rows(reco_ctx *ctx)
{
    size_t out = 45, in = 70, m = 33;
    float *w = array(out * in, 1), *bias = array(out, 2), *x = array(m * in, 3), *y = array(m * out, 0);
    uint16_t *hx = reco_alloc(ctx, m * in, sizeof *hx, "x"),
             *hy = reco_alloc(ctx, m * out, sizeof *hy, "y");
    reco_linear *lin;
    assert_int_equal(
        reco_linear_create(ctx, &lin, w, bias, out, in, RECO_ACT_QUICK_GELU, RECO_PRECISION_BF16), RECO_OK);
    for (size_t i = 0; i < m * in; i++) x[i] = reco_bf16_to_f32(hx[i] = reco_f32_to_bf16(x[i]));
    assert_int_equal(reco_linear_run(ctx, y, lin, x, m, false), RECO_OK);
    if (reco_linear_input(lin) == RECO_DTYPE_BF16) {
        assert_int_equal(reco_linear_run_as(ctx, bf16(hy), lin, bf16(hx), m, false), RECO_OK);
        for (size_t i = 0; i < m * out; i++) x[i] = reco_bf16_to_f32(hy[i]);
        close_to(x, y, m * out, 4e-3);
    }
    reco_linear_free(lin);
    reco_free(w), reco_free(bias), reco_free(x), reco_free(y), reco_free(hx), reco_free(hy);
}

/* to_bf16 as the scalar conversion, NaN and infinity too; layer norm into bf16. */
static void half_rows(reco_ctx *ctx)
{
    size_t n = 1000;
    float *x = array(n, 8), *y = array(n, 0), *weight = array(n / 4, 9), *bias = array(n / 4, 10);
    uint16_t *h = reco_alloc(ctx, n, sizeof *h, "h");
    x[0] = NAN, x[1] = INFINITY, x[2] = -INFINITY, x[3] = 0, x[4] = 3.3961775e38f, x[5] = 1e-40f;
    reco_store(ctx, h, RECO_DTYPE_BF16, x, n);
    for (size_t i = 0; i < n; i++) assert_int_equal(h[i], reco_f32_to_bf16(x[i]));
    for (size_t i = 0; i < 6; i++) x[i] = 1;
    reco_layernorm(ctx, y, x, weight, bias, 4, n / 4, 1e-5f, NULL, NULL);
    assert_int_equal(reco_layernorm_as(ctx, bf16(h), x, weight, bias, 4, n / 4, 1e-5f), RECO_OK);
    for (size_t i = 0; i < n; i++) assert_int_equal(h[i], reco_f32_to_bf16(y[i]));
    reco_rows codes = code_rows(ctx, NULL, 4, n / 4);
    assert_int_equal(reco_layernorm_as(ctx, codes, x, weight, bias, 4, n / 4, 1e-5f), RECO_OK);
    same_codes(codes, code_rows(ctx, y, 4, n / 4), 4, n / 4);
    reco_free(x), reco_free(y), reco_free(weight), reco_free(bias), reco_free(h);
}

static void attention_of(reco_ctx *ctx, size_t width)
{
    size_t starts[] = {0, 5, 6, 43}, heads = 3, rows = 43;
    for (int causal = 0; causal < 2; causal++) {
        float *qkv = array(rows * 3 * heads * width, 5), *got = array(rows * heads * width, 0),
              *want = array(rows * heads * width, 0);
        assert_int_equal(
            reco_attention(ctx, got, qkv, RECO_DTYPE_F32, starts, 3, heads, width, causal, NULL), RECO_OK);
        reco_ref_attention(want, qkv, starts, 3, heads, width, causal);
        close_to(got, want, rows * heads * width, 1e-5);
        /* One row of each sequence, from f32 and from bf16. */
        size_t only[] = {2, 5, 42};
        assert_int_equal(
            reco_attention(ctx, got, qkv, RECO_DTYPE_F32, starts, 3, heads, width, causal, only), RECO_OK);
        for (size_t s = 0; s < 3; s++)
            close_to(got + s * heads * width, want + only[s] * heads * width, heads * width, 1e-5);
        size_t n = rows * 3 * heads * width;
        uint16_t *half = reco_alloc(ctx, n, sizeof *half, "qkv"),
                 *out = reco_alloc(ctx, rows * heads * width, sizeof *out, "out");
        for (size_t i = 0; i < n; i++) qkv[i] = reco_bf16_to_f32(half[i] = reco_f32_to_bf16(qkv[i]));
        reco_ref_attention(want, qkv, starts, 3, heads, width, causal);
        assert_int_equal(
            reco_attention(ctx, out, half, RECO_DTYPE_BF16, starts, 3, heads, width, causal, NULL),
            RECO_OK);
        for (size_t i = 0; i < rows * heads * width; i++) got[i] = reco_bf16_to_f32(out[i]);
        close_to(got, want, rows * heads * width, 4e-3);
        reco_free(half), reco_free(out);
        reco_free(qkv), reco_free(got), reco_free(want);
    }
}

static void attention(reco_ctx *ctx)
{
    static const size_t widths[] = {10, 16, 48, 64}; /* multiples of 16 may be done in bf16 */
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) attention_of(ctx, widths[i]);
}

static void activations(reco_ctx *ctx)
{
    size_t n = 1003;
    float *x = array(n, 6), *y = array(n, 0), *want = array(n, 0);
    for (size_t i = 0; i < n; i++) x[i] *= 4;
    x[0] = 100, x[1] = -100, x[2] = 0;
    for (int act = RECO_ACT_GELU; act <= RECO_ACT_GELU_TANH; act++) {
        reco_activate(ctx, y, x, n, (reco_act)act);
        for (size_t i = 0; i < n; i++) want[i] = reco_ref_act(x[i], (reco_act)act);
        close_to(y, want, n, 2e-6);
    }
    float *dy = array(n, 7);
    reco_gelu_backward(ctx, y, dy, x, n);
    for (size_t i = 0; i < n; i++) {
        double v = (double)x[i], cdf = 0.5 * (1 + erf(v / sqrt(2.0))),
               pdf = exp(-v * v / 2) / sqrt(2 * 3.141592653589793);
        want[i] = (float)((double)dy[i] * (cdf + v * pdf));
    }
    close_to(y, want, n, 3e-6);
    reco_free(x), reco_free(y), reco_free(want), reco_free(dy);
}

static void layernorm(reco_ctx *ctx)
{
    size_t n = 4, d = 37;
    float *x = array(n * d, 8), *w = array(d, 9), *b = array(d, 10), *y = array(n * d, 0),
          *mean = array(n, 0), *rstd = array(n, 0), *dy = array(n * d, 11), *dx = array(n * d, 0),
          *dw = array(d, 0), *db = array(d, 0), *shifted = array(n * d, 0);
    reco_layernorm(ctx, y, x, w, b, n, d, 1e-5f, mean, rstd);
    for (size_t i = 0; i < n; i++) {
        double m = 0, v = 0;
        for (size_t c = 0; c < d; c++) m += (double)x[i * d + c] / (double)d;
        for (size_t c = 0; c < d; c++) v += pow((double)x[i * d + c] - m, 2) / (double)d;
        for (size_t c = 0; c < d; c++) {
            float want = (float)(((double)x[i * d + c] - m) / sqrt(v + 1e-5) * (double)w[c] + (double)b[c]);
            close_to(&y[i * d + c], &want, 1, 1e-5);
        }
    }
    reco_layernorm_backward(ctx, dx, dw, db, dy, x, w, mean, rstd, n, d);
    for (size_t e = 0; e < n * d; e += 5) { /* finite differences of sum(dy * y) */
        double both[2];
        for (int s = 0; s < 2; s++) {
            memcpy(shifted, x, n * d * sizeof(float));
            shifted[e] += s ? 1e-2f : -1e-2f;
            reco_layernorm(ctx, y, shifted, w, b, n, d, 1e-5f, NULL, NULL);
            both[s] = reco_dot(dy, y, n * d);
        }
        float want = (float)((both[1] - both[0]) / 2e-2);
        close_to(&dx[e], &want, 1, 5e-3);
    }
    reco_free(x), reco_free(w), reco_free(b), reco_free(y), reco_free(mean), reco_free(rstd), reco_free(dy),
        reco_free(dx);
    reco_free(dw), reco_free(db), reco_free(shifted);
}

static void test_gemm(void **state) { (void)state, each_isa(gemm); }
static void test_linear(void **state) { (void)state, each_isa(linear); }
static void test_linear_int8(void **state) { (void)state, each_isa(linear_int8); }
static void test_linear_bf16_rows(void **state) { (void)state, each_isa(linear_bf16_rows); }
static void test_half_rows(void **state) { (void)state, each_isa(half_rows); }
static void test_attention(void **state) { (void)state, each_isa(attention); }
static void test_activations(void **state) { (void)state, each_isa(activations); }
static void test_layernorm(void **state) { (void)state, each_isa(layernorm); }

static void test_topk(void **state)
{
    (void)state;
    float score[3];
    int64_t id[3];
    size_t count = 0;
    static const float s[] = {0.1f, 0.5f, 0.5f, 0.2f, 0.5f};
    static const int64_t ids[] = {7, 9, 4, 1, 2};
    for (int i = 0; i < 5; i++) reco_topk_offer(score, id, &count, 3, s[i], ids[i]);
    assert_int_equal(count, 3);
    assert_int_equal(id[0], 2), assert_int_equal(id[1], 4), assert_int_equal(id[2], 9);
}

static void test_rank(void **state)
{
    (void)state;
    reco_ctx *ctx;
    assert_int_equal(reco_ctx_create(&ctx, NULL), RECO_OK);
    float c[] = {1, 0, 0, 1, 1, 0, 0.6f, 0.8f}, q[] = {1, 0, 0, 1};
    uint32_t target[] = {2, 3}, ranks[2];
    assert_int_equal(reco_rank(ctx, ranks, q, 2, c, 4, 2, target), RECO_OK);
    assert_int_equal(ranks[0], 1); /* equal to candidate 0, which comes first */
    assert_int_equal(ranks[1], 1);
    target[0] = 4;
    assert_int_equal(reco_rank(ctx, ranks, q, 2, c, 4, 2, target), RECO_E_ARG);
    reco_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gemm),        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_linear_int8), cmocka_unit_test(test_linear_bf16_rows),
        cmocka_unit_test(test_half_rows),   cmocka_unit_test(test_attention),
        cmocka_unit_test(test_activations), cmocka_unit_test(test_layernorm),
        cmocka_unit_test(test_topk),        cmocka_unit_test(test_rank),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
