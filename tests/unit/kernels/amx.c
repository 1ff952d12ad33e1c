/* Products of bf16 in tiles against sums in double, of odd shapes, in both types of rows; and a row alone against the row among
 * others. Real tiles where this CPU has them. */
#include "amx_emulated.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#ifdef RECO_AMX

typedef void (*rows)(const reco_amx_product *, size_t, size_t, size_t, size_t, uint16_t *);
enum { MOST = 70 };

static void fill(uint16_t *half, float *x, size_t n, uint64_t seed)
{
    reco_rng rng;
    reco_rng_seed(&rng, seed);
    for (size_t i = 0; i < n; i++) {
        x[i] = (float)reco_rng_normal(&rng);
        if (half) x[i] = reco_bf16_to_f32(half[i] = reco_f32_to_bf16(x[i]));
    }
}

static void product(reco_ctx *ctx, rows multiply, size_t out, size_t in, reco_act act, bool add)
{
    float *w = reco_alloc(ctx, out * in, 4, "w"), *x = reco_alloc(ctx, MOST * in, 4, "x"),
          *y = reco_alloc(ctx, MOST * out, 4, "y"), *old = reco_alloc(ctx, MOST * out, 4, "old"),
          *bias = reco_alloc(ctx, out, 4, "bias"), *alone = reco_alloc(ctx, out, 4, "alone");
    uint16_t *hw = reco_alloc(ctx, out * in, 2, "w"), *hx = reco_alloc(ctx, MOST * in, 2, "x"),
             *hy = reco_alloc(ctx, MOST * out, 2, "y");
    fill(hw, w, out * in, 1), fill(hx, x, MOST * in, 2), fill(NULL, old, MOST * out, 3),
        fill(NULL, bias, out, 4);
    memcpy(y, old, MOST * out * sizeof *y);
    reco_amx_weight weight;
    assert_int_equal(reco_amx_create(ctx, &weight, out, in), RECO_OK);
    for (size_t i = 0; i < out; i++) reco_amx_put(&weight, hw + i * in, i);
    uint16_t *scratch = reco_alloc(ctx, reco_amx_scratch(&weight), 2, "scratch");
    reco_amx_product p = {reco_vec_of(ctx), &weight, y, RECO_DTYPE_F32, hx, MOST, bias, act, add};
    for (size_t first = 0; first < MOST; first += reco_amx_group(&weight))
        multiply(&p, first, reco_min(MOST - first, reco_amx_group(&weight)), 0, weight.panels, scratch);
    for (size_t i = 0; i < MOST; i++)
        for (size_t o = 0; o < out; o++) {
            double sum = (double)bias[o] + (add ? (double)old[i * out + o] : 0), most = 1;
            for (size_t c = 0; c < in; c++) {
                sum += (double)x[i * in + c] * (double)w[o * in + c];
                most += fabs((double)x[i * in + c] * (double)w[o * in + c]);
            }
            float want = reco_ref_act((float)sum, act);
            if (fabs((double)y[i * out + o] - (double)want) > 1e-6 * most)
                fail_msg("%zu x %zu at %zu, %zu: %g, want %g", out, in, i, o, (double)y[i * out + o],
                         (double)want);
        }
    p.y = alone, p.m = 1;
    for (size_t i = 0; i < MOST; i += 3) {
        memcpy(alone, old + i * out, out * sizeof *alone);
        p.x = hx + i * in;
        multiply(&p, 0, 1, 0, weight.panels, scratch);
        assert_memory_equal(alone, y + i * out, out * sizeof *alone);
    }
    if (!add) {
        p.x = hx, p.y = hy, p.yt = RECO_DTYPE_BF16, p.m = MOST;
        hy[MOST * out - 1] = 0;
        multiply(&p, 0, reco_min(MOST, reco_amx_group(&weight)), 0, weight.panels, scratch);
        for (size_t i = 0; i < reco_min(MOST, reco_amx_group(&weight)) * out; i++)
            assert_int_equal(hy[i], reco_f32_to_bf16(y[i]));
    }
    reco_free(w), reco_free(x), reco_free(y), reco_free(old), reco_free(bias), reco_free(alone);
    reco_free(hw), reco_free(hx), reco_free(hy), reco_free(weight.data), reco_free(scratch);
}

static void test_rows(void **state)
{
    (void)state;
    static const size_t shapes[][2] = {{1, 1},   {7, 33},    {16, 32},   {32, 64},
                                       {45, 70}, {100, 256}, {20, 12300}};
    if (!__builtin_cpu_supports("avx512bf16") || !__builtin_cpu_supports("avx512bw")) {
        print_message("SKIPPED: this CPU has no AVX512-BF16\n");
        skip();
    }
    reco_ctx *ctx;
    assert_int_equal(reco_ctx_create(&ctx, NULL), RECO_OK);
    for (int real = 0; real <= reco_amx_has_bf16(); real++)
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
            rows multiply = real ? reco_amx_rows : reco_amx_rows_emulated;
            product(ctx, multiply, shapes[s][0], shapes[s][1], RECO_ACT_NONE, false);
            product(ctx, multiply, shapes[s][0], shapes[s][1], RECO_ACT_NONE, true);
            product(ctx, multiply, shapes[s][0], shapes[s][1], RECO_ACT_QUICK_GELU, false);
        }
    reco_ctx_free(ctx);
}

#else

static void test_rows(void **state)
{
    (void)state;
    print_message("SKIPPED: this compiler has no AMX\n");
    skip();
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
