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
    return (int)reco_model_open(ctx, &model, dir, &(reco_model_opts){.precision = RECO_PRECISION_F32});
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
        assert_memory_equal(one, all + i * 16, sizeof one);
    }
    assert_int_equal(reco_model_embed_texts(ctx, model, texts, 0, all, NULL), RECO_OK);
}

/* Token ids, padded with zeros or with the end token, are the text that they are of. */
static void test_tokens(void **state)
{
    (void)state;
    enum { N = 300 };
    reco_model_info info = *reco_model_get_info(model);
    int32_t *ids = reco_alloc(ctx, N * info.context, sizeof *ids, "test");
    float *got = reco_alloc(ctx, N * info.d, sizeof *got, "test"), want[16];
    char text[64];
    for (int i = 0; i < N; i++) {
        size_t n;
        int32_t *row = ids + (size_t)i * info.context;
        snprintf(text, sizeof text, "%.*s %d", i % 37, "a cat and a dog and a very long photo", i);
        assert_int_equal(reco_model_tokens(ctx, model, text, strlen(text), row, &n), RECO_OK);
        for (; i % 2 && n < info.context; n++) row[n] = reco_model_pad(model);
    }
    assert_int_equal(reco_model_embed_tokens(ctx, model, ids, N, got), RECO_OK);
    for (int i = 0; i < N; i += 7) {
        const char *one = text;
        snprintf(text, sizeof text, "%.*s %d", i % 37, "a cat and a dog and a very long photo", i);
        assert_int_equal(reco_model_embed_texts(ctx, model, &one, 1, want, NULL), RECO_OK);
        assert_memory_equal(want, got + (size_t)i * info.d, sizeof want);
    }
    ids[2 * info.context + 3] = (int32_t)info.vocab;
    assert_int_equal(reco_model_embed_tokens(ctx, model, ids, N, got), RECO_E_ARG);
    assert_non_null(strstr(reco_ctx_error(ctx), "of text 2, want 0.."));
    ids[2 * info.context + 3] = -1;
    assert_int_equal(reco_model_embed_tokens(ctx, model, ids, N, got), RECO_E_ARG);
    reco_free(ids);
    reco_free(got);
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
        assert_memory_equal(one, all + i * 16, sizeof one);
        assert_true(fabs(reco_dot(one, one, 16) - 1) < 1e-5);
    }
    reco_free(pixels);
    reco_free(all);
}

/* Alone, in batches of many sizes, in another order, with other threads: the same bytes, at every precision and instruction set. */
static void rows_of(reco_ctx *with, const reco_model *m, size_t side, size_t d)
{
    size_t step = d > 64 ? 4 : 1; /* sizes of the larger model: some */
    enum { N = 65 };
    static const size_t sizes[] = {1, 2, 3, 5, 7, 8, 17, 33, 64, N};
    static const char *const words[] = {"cat", "a dog on a boat", "x", "red and green and blue things",
                                        "taco"};
    static char text[N][64];
    const char *texts[N];
    size_t picture = 3 * side * side, order[N];
    float *pixels = reco_alloc(ctx, 2 * N * picture, sizeof(float), "test"), *moved = pixels + N * picture,
          *want = reco_alloc(ctx, 2 * N * d, sizeof(float), "test"), *want_texts = want + N * d,
          *got = reco_alloc(ctx, N * d, sizeof(float), "test");
    reco_rng rng;
    reco_rng_seed(&rng, 2);
    for (size_t i = 0; i < N * picture; i++) pixels[i] = (float)reco_rng_normal(&rng);
    for (size_t i = 0; i < N; i++) {
        snprintf(text[i], sizeof text[i], "%s %zu", words[i % 5], i);
        texts[i] = text[i];
        order[i] = i * 27 % N;
        memcpy(moved + i * picture, pixels + order[i] * picture, picture * sizeof *moved);
    }
    assert_int_equal(reco_model_embed_pixels(with, m, pixels, N, want), RECO_OK);
    assert_int_equal(reco_model_embed_texts(with, m, texts, N, want_texts, NULL), RECO_OK);
    for (int threads = 1; threads <= 3; threads += 2) {
        reco_ctx *other;
        reco_ctx_opts opts = {.threads = threads, .max_isa = reco_ctx_isa(with)};
        assert_int_equal(reco_ctx_create(&other, &opts), RECO_OK);
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s += step) {
            size_t from = s * 5 % (N - sizes[s] + 1), n = sizes[s];
            assert_int_equal(reco_model_embed_pixels(other, m, pixels + from * picture, n, got), RECO_OK);
            assert_memory_equal(got, want + from * d, n * d * sizeof *got);
            assert_int_equal(reco_model_embed_texts(other, m, texts + from, n, got, NULL), RECO_OK);
            assert_memory_equal(got, want_texts + from * d, n * d * sizeof *got);
            assert_int_equal(reco_model_embed_pixels(other, m, moved + from * picture, n, got), RECO_OK);
            for (size_t i = 0; i < n; i++)
                assert_memory_equal(got + i * d, want + order[from + i] * d, d * sizeof *got);
        }
        reco_ctx_free(other);
    }
    reco_free(pixels), reco_free(want), reco_free(got);
}

static void test_rows(void **state)
{
    (void)state;
    static const char *const models[] = {"tests/golden/small/hf-quickgelu",
                                         "tests/golden/small/openclip-timm", "tests/golden/small/hf-siglip",
                                         "demo/model"};
    const char *source = getenv("RECO_TEST_SOURCE");
    for (int isa = RECO_ISA_AVX2; isa <= RECO_ISA_AVX512; isa++)
        for (size_t i = 0; i < sizeof models / sizeof *models; i++)
            for (int precision = RECO_PRECISION_F32; precision <= RECO_PRECISION_INT8; precision++) {
                reco_ctx *with;
                reco_ctx_opts opts = {.threads = 2, .max_isa = (reco_isa)isa};
                assert_int_equal(reco_ctx_create(&with, &opts), RECO_OK);
                char path[1200];
                snprintf(path, sizeof path, "%s/%s", source ? source : ".", models[i]);
                reco_model *m;
                reco_model_opts how = {.precision = (reco_precision)precision};
                if ((int)reco_ctx_isa(with) == isa) {
                    assert_int_equal(reco_model_open(with, &m, path, &how), RECO_OK);
                    reco_model_info info = *reco_model_get_info(m);
                    rows_of(with, m, info.image_size, info.d);
                    reco_model_close(m);
                }
                reco_ctx_free(with);
            }
}

static void test_info(void **state)
{
    (void)state;
    reco_model_info info = *reco_model_get_info(model);
    assert_string_equal(info.name, "hf-quickgelu");
    assert_int_equal(info.precision, RECO_PRECISION_F32);
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
        reco_model_opts opts = {.precision = RECO_PRECISION_F32,
                                .without = text ? RECO_SIDES_IMAGE : RECO_SIDES_TEXT};
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
    reco_model *none;
    assert_int_equal(reco_model_open(ctx, &none, dir, &(reco_model_opts){.without = RECO_SIDES_BOTH}),
                     RECO_E_ARG);
    assert_null(none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_texts),  cmocka_unit_test(test_tokens),
                                       cmocka_unit_test(test_pixels), cmocka_unit_test(test_rows),
                                       cmocka_unit_test(test_info),   cmocka_unit_test(test_sides)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
