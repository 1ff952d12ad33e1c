/* Batches and chunks make no difference, and options do what they say; parity is tested in tests/golden. */
#include "kernels/kernels.h"
#include "reco/clip.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static reco_ctx *ctx;
static reco_model *model;
static char dir[1024];

static int setup(void **state)
{
    (void)state;
    const char *source = getenv("RECO_TEST_SOURCE");
    snprintf(dir, sizeof dir, "%s/tests/golden/small/hf-quickgelu", source ? source : ".");
    if (reco_ctx_create(&ctx, NULL) != RECO_OK) return 1;
    return (int)reco_model_open(ctx, &model, dir, &(reco_model_opts){.precision = RECO_F32});
}

static int teardown(void **state)
{
    (void)state;
    reco_model_close(model);
    reco_ctx_free(ctx);
    return 0;
}

/* More texts than one chunk takes, of many lengths, against one at a time. */
static void test_texts(void **state)
{
    (void)state;
    enum { N = 1500 };
    static char text[N][64];
    static const char *texts[N];
    static float all[N * 16], one[16];
    for (int i = 0; i < N; i++) {
        snprintf(text[i], sizeof text[i], "%.*s %d", i % 37, "a cat and a dog and a very long photo", i);
        texts[i] = text[i];
    }
    assert_int_equal(reco_model_embed_texts(ctx, model, texts, N, all, NULL), RECO_OK);
    for (int i = 0; i < N; i += 13) {
        assert_int_equal(reco_model_embed_texts(ctx, model, &texts[i], 1, one, NULL), RECO_OK);
        for (int c = 0; c < 16; c++) assert_true(fabsf(one[c] - all[i * 16 + c]) < 1e-5f);
    }
    assert_int_equal(reco_model_embed_texts(ctx, model, texts, 0, all, NULL), RECO_OK);
}

static void test_pixels(void **state)
{
    (void)state;
    enum { N = 450, P = 3 * 24 * 24 };
    float *pixels = reco_alloc(ctx, N * P, sizeof(float), "test"),
          *all = reco_alloc(ctx, N * 16, sizeof(float), "test"), one[16];
    reco_rng rng;
    reco_rng_seed(&rng, 1);
    for (size_t i = 0; i < N * P; i++) pixels[i] = (float)reco_rng_normal(&rng);
    assert_int_equal(reco_model_embed_pixels(ctx, model, pixels, N, all), RECO_OK);
    for (size_t i = 0; i < N; i += 7) {
        assert_int_equal(reco_model_embed_pixels(ctx, model, pixels + i * P, 1, one), RECO_OK);
        for (size_t c = 0; c < 16; c++) assert_true(fabsf(one[c] - all[i * 16 + c]) < 1e-5f);
        assert_true(fabs(reco_dot(one, one, 16) - 1) < 1e-5);
    }
    reco_free(pixels);
    reco_free(all);
}

static void test_info(void **state)
{
    (void)state;
    reco_model_info info = reco_model_get_info(model);
    assert_string_equal(info.name, "hf-quickgelu");
    assert_int_equal(info.precision, RECO_F32);
    assert_int_equal(info.weights, RECO_DTYPE_F16);
    char a[33], b[33];
    assert_int_equal(reco_model_fingerprint(ctx, model, a), RECO_OK);
    assert_int_equal(reco_model_fingerprint(ctx, model, b), RECO_OK);
    assert_string_equal(a, b);
    reco_model *missing;
    assert_int_equal(reco_model_open(ctx, &missing, "/nonexistent", NULL), RECO_E_IO);
    assert_null(missing);
}

/* One side alone: the same embeddings, and a clear answer for the other. */
static void test_sides(void **state)
{
    (void)state;
    const char *texts[] = {"a cat"};
    static float pixels[3 * 24 * 24];
    float got[16], want[16];
    for (size_t i = 0; i < 3 * 24 * 24; i++) pixels[i] = (float)(i % 17) / 17;
    for (int text = 0; text < 2; text++) {
        reco_model *half;
        reco_model_opts opts = {.precision = RECO_F32, .sides = text ? RECO_SIDES_TEXT : RECO_SIDES_IMAGE};
        assert_int_equal(reco_model_open(ctx, &half, dir, &opts), RECO_OK);
        assert_int_equal(reco_model_embed_pixels(ctx, half, pixels, 1, got), text ? RECO_E_ARG : RECO_OK);
        if (text) assert_non_null(strstr(reco_ctx_error(ctx), "was opened for texts alone"));
        assert_int_equal(reco_model_embed_pixels(ctx, model, pixels, 1, want), RECO_OK);
        if (!text) assert_memory_equal(got, want, sizeof got);
        assert_int_equal(reco_model_embed_texts(ctx, half, texts, 1, got, NULL),
                         text ? RECO_OK : RECO_E_ARG);
        if (!text) assert_non_null(strstr(reco_ctx_error(ctx), "was opened for images alone"));
        assert_int_equal(reco_model_embed_texts(ctx, model, texts, 1, want, NULL), RECO_OK);
        if (text) assert_memory_equal(got, want, sizeof got);
        reco_model_close(half);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_texts), cmocka_unit_test(test_pixels),
                                       cmocka_unit_test(test_info), cmocka_unit_test(test_sides)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
