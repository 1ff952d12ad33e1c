/* Towers, preprocessing and tokens against transformers: the models of every golden folder that is there. A folder
 * has index.json, images/, and per model hf-NAME/, hf-NAME-ids.json, -pixels.npy, -image.npy, -text.npy. */
#include "io/io.h"
#include "kernels/kernels.h"
#include "reco/clip.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static char roots[2][1024];
/* Of the repository, and of the large set. */
static const char *const models[2][11] = {
    {"hf-quickgelu", "hf-gelu-bf16", "openclip-longest", "openclip-squash", "openclip-siglip",
     "openclip-timm", "hf-siglip", "hf-vision", "hf-text", "hf-text-pad"},
    {"hf-quickgelu", "hf-gelu-bf16", "openai-quickgelu", "openclip-gelu"}};

static reco_ctx *ctx;

static void good(reco_status status)
{
    if (status != RECO_OK) fail_msg("%s: %s", reco_status_name(status), reco_ctx_error(ctx));
}

static char *at(const char *root, const char *model, const char *rest)
{
    char *path = reco_format(ctx, "%s/%s%s", root, model, rest);
    assert_non_null(path);
    return path;
}

static json_t *json_at(const char *root, const char *model, const char *rest)
{
    json_t *value = NULL;
    char *path = at(root, model, rest);
    good(reco_json_load(ctx, &value, path));
    reco_free(path);
    return value;
}

/* Rows of an npy as f32; *n rows. */
static float *rows_of(const char *root, const char *model, const char *rest, size_t *n, size_t *d)
{
    reco_npy npy;
    char *path = at(root, model, rest);
    good(reco_npy_open(ctx, &npy, path));
    reco_free(path);
    float *rows = reco_alloc(ctx, npy.rows * npy.cols, sizeof(float), "golden");
    assert_non_null(rows);
    good(reco_npy_rows(ctx, &npy, 0, npy.rows, rows));
    *n = npy.rows;
    *d = npy.cols;
    reco_npy_close(&npy);
    return rows;
}

static void ids(const char *root, const char *name, const reco_model *model, const json_t *texts)
{
    json_t *want = json_at(root, name, "-ids.json");
    size_t context = reco_model_get_info(model)->context;
    int32_t *got = reco_alloc(ctx, context, sizeof *got, "ids");
    assert_int_equal(json_array_size(want), json_array_size(texts));
    for (size_t i = 0; i < json_array_size(texts); i++) {
        const json_t *text = json_array_get(texts, i), *row = json_array_get(want, i);
        size_t n;
        good(reco_model_tokens(ctx, model, json_string_value(text), json_string_length(text), got, &n));
        for (size_t j = 0; j < json_array_size(row); j++) {
            int32_t id = j < n ? got[j] : reco_model_pad(model);
            if (id != json_integer_value(json_array_get(row, j)))
                fail_msg("%s: text %zu, token %zu: %d, want %lld", name, i, j, id,
                         (long long)json_integer_value(json_array_get(row, j)));
        }
    }
    reco_free(got);
    json_decref(want);
}

/* The golden pixels lie as [n][3][R][R]; read as raw floats since the npy reader takes rank 2 at most. */
static void pixels(const char *root, const char *name, const reco_model *model, const json_t *images,
                   float *out)
{
    size_t side = reco_model_get_info(model)->image_size, per = 3 * side * side,
           n = json_array_size(images);
    reco_map map;
    char *path = at(root, name, "-pixels.npy");
    good(reco_map_open(ctx, &map, path));
    assert_true(map.bytes > n * per * sizeof(float));
    const uint8_t *want = map.data + map.bytes - n * per * sizeof(float);
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        char *file = reco_format(ctx, "%s/images/%s", root, json_string_value(json_array_get(images, i)));
        good(reco_model_pixels(ctx, model, file, NULL, out + i * per));
        reco_free(file);
        for (size_t j = 0; j < per; j++) {
            float w;
            memcpy(&w, want + (i * per + j) * sizeof(float), sizeof w);
            double error = fabs((double)out[i * per + j] - (double)w);
            worst = error > worst ? error : worst;
        }
    }
    print_message("%s: pixels differ by at most %.2g\n", name, worst);
    assert_true(worst <= 1e-6);
    reco_map_close(&map);
    reco_free(path);
}

static double worst_cosine(const float *a, const float *b, size_t n, size_t d)
{
    double worst = 1;
    for (size_t i = 0; i < n; i++) {
        double c = reco_dot(a + i * d, b + i * d, d);
        worst = c < worst ? c : worst;
    }
    return worst;
}

static void embeddings(const char *root, const char *name, reco_precision precision, double limit)
{
    reco_model *model;
    reco_model_opts opts = {.precision = precision};
    char *dir = at(root, name, "");
    good(reco_model_open(ctx, &model, dir, &opts));
    reco_model_info info = *reco_model_get_info(model);
    json_t *index = json_at(root, "", "index.json");
    const json_t *images = json_object_get(index, "images"), *texts = json_object_get(index, "texts");
    size_t ni = json_array_size(images), nt = json_array_size(texts), n, d;
    float *all = reco_alloc(ctx, ni * 3 * info.image_size * info.image_size, sizeof(float), "pixels");
    float *got = reco_alloc(ctx, reco_max(ni, nt) * info.d, sizeof(float), "rows");
    double image = 1, text = 1;
    if (info.has_text) {
        ids(root, name, model, texts);
        float *want = rows_of(root, name, "-text.npy", &n, &d);
        assert_int_equal(n, nt), assert_int_equal(d, info.d);
        const char **strings = reco_alloc(ctx, nt, sizeof *strings, "texts");
        for (size_t i = 0; i < nt; i++) strings[i] = json_string_value(json_array_get(texts, i));
        good(reco_model_embed_texts(ctx, model, strings, nt, got, NULL));
        text = worst_cosine(got, want, nt, d);
        reco_free(want), reco_free(strings);
    }
    if (info.has_image) {
        pixels(root, name, model, images, all);
        float *want = rows_of(root, name, "-image.npy", &n, &d);
        assert_int_equal(n, ni), assert_int_equal(d, info.d);
        good(reco_model_embed_pixels(ctx, model, all, ni, got));
        image = worst_cosine(got, want, ni, d);
        reco_free(want);
    }
    print_message("%s, %s: smallest cosine of images %.7f, of texts %.7f\n", name,
                  reco_precision_name(precision), image, text);
    assert_true(image >= limit), assert_true(text >= limit);
    reco_free(got), reco_free(all), reco_free(dir);
    json_decref(index);
    reco_model_close(model);
}

static void each(reco_isa isa, reco_precision precision, double limit)
{
    reco_ctx_opts opts = {.threads = 2, .max_isa = isa};
    assert_int_equal(reco_ctx_create(&ctx, &opts), RECO_OK);
    for (size_t r = 0; r < 2; r++)
        for (size_t m = 0; models[r][m]; m++) {
            char *dir = at(roots[r], models[r][m], "");
            if (reco_path_is_dir(dir))
                embeddings(roots[r], models[r][m], precision, limit);
            else
                print_message("[  SKIPPED ] no goldens at %s\n",
                              r == 0 ? "tests/golden/small" : "RECO_GOLDEN");
            reco_free(dir);
        }
    reco_ctx_free(ctx);
}

static void test_f32(void **state) { (void)state, each(RECO_ISA_AUTO, RECO_PRECISION_F32, 0.99999); }
static void test_bf16(void **state) { (void)state, each(RECO_ISA_AUTO, RECO_PRECISION_BF16, 0.999); }
static void test_int8(void **state) { (void)state, each(RECO_ISA_AUTO, RECO_PRECISION_INT8, 0.99); }
static void test_avx2(void **state) { (void)state, each(RECO_ISA_AVX2, RECO_PRECISION_F32, 0.99999); }

int main(void)
{
    const char *source = getenv("RECO_TEST_SOURCE"), *given = getenv("RECO_GOLDEN");
    snprintf(roots[0], sizeof roots[0], "%s/tests/golden/small", source ? source : ".");
    if (given)
        snprintf(roots[1], sizeof roots[1], "%s", given);
    else
        snprintf(roots[1], sizeof roots[1], "%s/../shared/golden", source ? source : ".");
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_f32), cmocka_unit_test(test_bf16),
                                       cmocka_unit_test(test_int8), cmocka_unit_test(test_avx2)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
