/* What a row becomes depends on that row alone: not on what it is given together with, not on its place, not on the number of
 * threads. To the bit, at every instruction set; ONEDNN_MAX_CPU_ISA lowers oneDNN's. */
#include "kernels/kernels_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#define MOST 110

static const size_t counts[] = {1, 2, 3, 5, 6, 7, 8, 17, 33, 47, 49, 50, 64, 90, MOST};

static float *array(size_t n, uint64_t seed)
{
    float *x = reco_alloc(NULL, n, sizeof(float), "test");
    assert_non_null(x);
    reco_rng rng;
    reco_rng_seed(&rng, seed);
    for (size_t i = 0; i < n; i++) x[i] = (float)reco_rng_normal(&rng);
    return x;
}

static void each_isa(void (*test)(reco_ctx *))
{
    for (int isa = RECO_ISA_PLAIN; isa <= RECO_ISA_AVX512; isa++)
        for (int threads = 1; threads <= 3; threads += 2) {
            reco_ctx *ctx;
            reco_ctx_opts opts = {.threads = threads, .max_isa = (reco_isa)isa};
            assert_int_equal(reco_ctx_create(&ctx, &opts), RECO_OK);
            if ((int)reco_ctx_isa(ctx) == isa)
                test(ctx);
            else if (threads == 1)
                print_message("[  SKIPPED ] this CPU has no instruction set %d\n", isa);
            reco_ctx_free(ctx);
        }
}

/* Every count, from several places on, against all rows on one thread. */
static void products(reco_ctx *ctx, size_t out, size_t in, reco_precision precision, bool add, reco_act act)
{
    reco_ctx *alone;
    reco_ctx_opts one = {.threads = 1, .max_isa = reco_ctx_isa(ctx)};
    assert_int_equal(reco_ctx_create(&alone, &one), RECO_OK);
    float *w = array(out * in, 1), *bias = array(out, 2), *x = array(MOST * in, 3),
          *first = array(MOST * out, 4), *want = array(MOST * out, 4), *y = array(MOST * out, 5);
    reco_linear *lin;
    assert_int_equal(reco_linear_create(ctx, &lin, w, bias, out, in, act, precision), RECO_OK);
    assert_int_equal(reco_linear_run(alone, want, lin, x, MOST, add), RECO_OK);
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
        for (size_t from = 0; from + counts[c] <= MOST; from += 37) {
            memcpy(y, first + from * out, counts[c] * out * sizeof *y);
            assert_int_equal(reco_linear_run(ctx, y, lin, x + from * in, counts[c], add), RECO_OK);
            for (size_t i = 0; i < counts[c]; i++)
                if (memcmp(y + i * out, want + (from + i) * out, out * sizeof *y) != 0)
                    fail_msg("%s, %zu x %zu, %d threads: row %zu of %zu from %zu on is another",
                             reco_precision_name(precision), out, in, reco_ctx_threads(ctx), i, counts[c],
                             from);
        }
    reco_linear_free(lin);
    reco_free(w), reco_free(bias), reco_free(x), reco_free(first), reco_free(want), reco_free(y);
    reco_ctx_free(alone);
}

static void linear(reco_ctx *ctx)
{
    static const size_t shapes[][2] = {{1, 5},     {7, 3},     {16, 32}, {45, 70},
                                       {300, 256}, {72, 1100}, {270, 64}};
    size_t n = reco_ctx_isa(ctx) == RECO_ISA_PLAIN ? 4 : sizeof shapes / sizeof *shapes;
    for (size_t s = 0; s < n; s++)
        for (int precision = RECO_PRECISION_F32; precision <= RECO_PRECISION_INT8; precision++) {
            products(ctx, shapes[s][0], shapes[s][1], (reco_precision)precision, false,
                     RECO_ACT_QUICK_GELU);
            products(ctx, shapes[s][0], shapes[s][1], (reco_precision)precision, true, RECO_ACT_NONE);
        }
}

/* The same of a product of any two matrices. */
static void product(reco_ctx *ctx, size_t n, size_t k, bool ta, bool tb, float beta)
{
    reco_ctx *alone;
    reco_ctx_opts one = {.threads = 1, .max_isa = reco_ctx_isa(ctx)};
    assert_int_equal(reco_ctx_create(&alone, &one), RECO_OK);
    size_t lda = (ta ? MOST : k) + 3, ldb = (tb ? k : n) + 2, ldc = n + 1;
    float *a = array((ta ? k : MOST) * lda, 1), *b = array((tb ? n : k) * ldb, 2),
          *first = array(MOST * ldc, 3), *want = array(MOST * ldc, 3), *c = array(MOST * ldc, 4);
    assert_int_equal(reco_gemm(alone, want, ldc, a, lda, ta, b, ldb, tb, MOST, n, k, 0.3f, beta), RECO_OK);
    for (size_t q = 0; q < sizeof counts / sizeof *counts; q++)
        for (size_t from = 0; from + counts[q] <= MOST; from += 37) {
            memcpy(c, first + from * ldc, counts[q] * ldc * sizeof *c);
            assert_int_equal(reco_gemm(ctx, c, ldc, ta ? a + from : a + from * lda, lda, ta, b, ldb, tb,
                                       counts[q], n, k, 0.3f, beta),
                             RECO_OK);
            for (size_t i = 0; i < counts[q]; i++)
                if (memcmp(c + i * ldc, want + (from + i) * ldc, ldc * sizeof *c) != 0)
                    fail_msg("%zu columns, sums of %zu, a%s b%s, %d threads: row %zu of %zu from %zu on is "
                             "another",
                             n, k, ta ? "'" : "", tb ? "'" : "", reco_ctx_threads(ctx), i, counts[q], from);
        }
    reco_free(a), reco_free(b), reco_free(first), reco_free(want), reco_free(c);
    reco_ctx_free(alone);
}

static void gemm(reco_ctx *ctx)
{
    static const size_t shapes[][2] = {{1, 5}, {7, 3}, {45, 70}, {300, 256}, {70, 1100}, {2100, 20}};
    size_t n = reco_ctx_isa(ctx) == RECO_ISA_PLAIN ? 3 : sizeof shapes / sizeof *shapes;
    for (size_t s = 0; s < n; s++)
        for (int t = 0; t < 4; t++) product(ctx, shapes[s][0], shapes[s][1], t & 1, t & 2, t % 3 ? 1 : 0);
}

static void sums(reco_ctx *ctx)
{
    size_t m = 5000, n = 203;
    float *x = array(m * n, 1), *y = array(n, 2);
    double *want = reco_alloc(NULL, n, sizeof *want, "test");
    for (size_t q = 0; q < n; q++) want[q] = (double)y[q];
    for (size_t i = 0; i < m * n; i++) want[i % n] += (double)x[i];
    reco_column_sums(ctx, y, x, m, n);
    for (size_t q = 0; q < n; q++) assert_float_equal((double)y[q], want[q], 1e-4);
    reco_free(x), reco_free(y), reco_free(want);
}

/* Loops over a row must not begin elsewhere when it lies elsewhere. */
static void places(reco_ctx *ctx)
{
    const reco_vec *vec = reco_vec_of(ctx);
    enum { D = 77 };
    float *x = array(D, 1), *w = array(D, 2), *b = array(D, 3), *room = array(D + 32, 4),
          *to = array(D + 32, 5);
    float normed[D], soft[D], gelu[D];
    vec->layernorm(normed, x, w, b, D, 1e-5f, NULL, NULL);
    float top, most;
    memcpy(soft, x, sizeof soft);
    float share = vec->softmax(soft, D, &top);
    size_t largest = 0;
    for (size_t i = 1; i < D; i++)
        if (x[i] > x[largest]) largest = i;
    most = x[largest];
    assert_memory_equal(&top, &most, sizeof top);
    assert_memory_equal(&share, &soft[largest], sizeof share);
    vec->gelu(gelu, x, D);
    float dot = vec->dot(x, w, D);
    for (size_t at = 0; at < 32; at++) {
        memcpy(room + at, x, sizeof normed);
        vec->layernorm(to + at / 2, room + at, w, b, D, 1e-5f, NULL, NULL);
        assert_memory_equal(to + at / 2, normed, sizeof normed);
        vec->gelu(to + at / 2, room + at, D);
        assert_memory_equal(to + at / 2, gelu, sizeof gelu);
        float again = vec->dot(room + at, w, D);
        assert_memory_equal(&again, &dot, sizeof dot);
        vec->softmax(room + at, D, NULL);
        assert_memory_equal(room + at, soft, sizeof soft);
    }
    reco_free(x), reco_free(w), reco_free(b), reco_free(room), reco_free(to);
}

/* Products and sums of rows that lie apart, against doubles and against the same rows side by side. */
static void apart(reco_ctx *ctx)
{
    enum { N = 11, ROWS = 17, D = 77 };
    float *x = array(ROWS * D, 1), *a = array(D, 2), *p = array(N, 3), *near = array(N * D, 4);
    uint32_t at[N];
    for (size_t j = 0; j < N; j++) {
        at[j] = (uint32_t)(5 * j % ROWS);
        memcpy(near + j * D, x + at[j] * D, D * sizeof *x);
    }
    for (size_t n = 0; n <= N; n++)
        for (size_t d = 1; d <= D; d += 19) {
            float products[2][N + 1], sums[2][D + 1];
            for (int way = 0; way < 2; way++) {
                memcpy(sums[way], a, d * sizeof *a);
                products[way][n] = sums[way][d] = 7;
                reco_dots(ctx, products[way], a, way ? near : x, D, way ? NULL : at, n, d);
                reco_mix(ctx, sums[way], way ? near : x, D, way ? NULL : at, p, n, d);
                assert_true(products[way][n] == 7 && sums[way][d] == 7);
            }
            assert_memory_equal(products[0], products[1], n * sizeof(float));
            assert_memory_equal(sums[0], sums[1], d * sizeof(float));
            for (size_t j = 0; j < n; j++)
                assert_float_equal((double)products[0][j], reco_dot(a, near + j * D, d), 1e-4);
            for (size_t q = 0; q < d; q++) {
                double want = (double)a[q];
                for (size_t j = 0; j < n; j++) want += (double)p[j] * (double)near[j * D + q];
                assert_float_equal((double)sums[0][q], want, 1e-5);
            }
        }
    reco_free(x), reco_free(a), reco_free(p), reco_free(near);
}

static void test_linear(void **state) { (void)state, each_isa(linear); }
static void test_gemm(void **state) { (void)state, each_isa(gemm); }
static void test_sums(void **state) { (void)state, each_isa(sums); }
static void test_places(void **state) { (void)state, each_isa(places); }
static void test_apart(void **state) { (void)state, each_isa(apart); }

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_linear), cmocka_unit_test(test_gemm),
                                       cmocka_unit_test(test_sums), cmocka_unit_test(test_places),
                                       cmocka_unit_test(test_apart)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
