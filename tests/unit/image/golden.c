/* Pixels against the reference's: the repository's own goldens, and the large set where it is at hand. */
#include "reco/image.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

static reco_ctx *ctx;

static const float mean[3] = {0.48145466f, 0.4578275f, 0.40821073f};
static const float deviation[3] = {0.26862954f, 0.26130258f, 0.27577711f};

static reco_preprocess settings(size_t size, size_t crop, int hugging_face)
{
    reco_preprocess pre = {.size = size,
                           .crop = crop,
                           .filter = RECO_FILTER_BICUBIC,
                           .rescale = 1,
                           .normalize = 1,
                           .convert_first = hugging_face,
                           .crop_floor = hugging_face};
    memcpy(pre.mean, mean, sizeof mean);
    memcpy(pre.std, deviation, sizeof deviation);
    return pre;
}

static char *slurp(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    fseek(file, 0, SEEK_END);
    *bytes = (size_t)ftell(file);
    rewind(file);
    char *data = malloc(*bytes + 1);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, *bytes, file), *bytes);
    data[*bytes] = 0;
    fclose(file);
    return data;
}

/* An array of known type and shape: what stands before the data is passed over. */
static char *slurp_npy(const char *path, size_t want)
{
    size_t bytes;
    char *data = slurp(path, &bytes);
    assert_non_null(data);
    size_t skip = 10 + (size_t)(unsigned char)data[8] + 256 * (size_t)(unsigned char)data[9];
    assert_int_equal(bytes, skip + want);
    memmove(data, data + skip, want);
    return data;
}

static void load(uint8_t *out, const char *path, const reco_preprocess *pre)
{
    if (reco_image_load_rgb(ctx, out, path, pre, NULL) != RECO_OK) fail_msg("%s", reco_ctx_error(ctx));
}

static void expect_equal(const char *name, const char *what, const uint8_t *got, const uint8_t *want,
                         size_t n)
{
    size_t wrong = 0;
    int most = 0;
    for (size_t i = 0; i < n; i++) {
        int d = abs(got[i] - want[i]);
        wrong += d != 0;
        if (d > most) most = d;
    }
    if (wrong) fail_msg("%s (%s): %zu of %zu bytes differ, by up to %d", name, what, wrong, n, most);
}

static const char *source_root(void)
{
    const char *root = getenv("RECO_TEST_SOURCE");
    return root ? root : ".";
}

/* Settings as in tools/golden/make_image_text.py. */
static void own_case(const char *name, reco_preprocess pre)
{
    char path[4096], line[256];
    size_t side = pre.crop ? pre.crop : pre.size, each = side * side * 3, bytes, n = 0;
    snprintf(path, sizeof path, "%s/tests/golden/image/%s.rgb", source_root(), name);
    uint8_t *want = (uint8_t *)slurp(path, &bytes), *got = malloc(each);
    assert_non_null(want);
    snprintf(path, sizeof path, "%s/tests/golden/image/index.txt", source_root());
    FILE *index = fopen(path, "r");
    assert_non_null(index);
    for (; fgets(line, sizeof line, index); n++) {
        line[strcspn(line, "\n")] = 0;
        assert_true((n + 1) * each <= bytes);
        snprintf(path, sizeof path, "%s/tests/golden/image/%s", source_root(), line);
        load(got, path, &pre);
        expect_equal(line, name, got, want + n * each, each);
    }
    assert_int_equal(n * each, bytes);
    fclose(index);
    free(want);
    free(got);
}

static void own_openai(void **state)
{
    (void)state;
    own_case("openai", settings(32, 32, 0));
    reco_preprocess pre = settings(20, 25, 0);
    pre.filter = RECO_FILTER_BILINEAR;
    own_case("openai-pad", pre);
}

static void own_hugging_face(void **state)
{
    (void)state;
    own_case("hf", settings(32, 29, 1));
    own_case("hf-pad", settings(15, 22, 1));
}

static void own_longest(void **state)
{
    (void)state;
    reco_preprocess pre = settings(32, 32, 0);
    pre.mode = RECO_RESIZE_LONGEST;
    pre.fill = 77;
    own_case("longest", pre);
}

static void own_squash(void **state)
{
    (void)state;
    reco_preprocess pre = settings(24, 0, 0);
    pre.mode = RECO_RESIZE_SQUASH;
    pre.filter = RECO_FILTER_BILINEAR;
    own_case("squash", pre);
}

/* The same bytes without vector instructions. */
static void own_plain(void **state)
{
    reco_ctx *full = ctx;
    assert_int_equal(reco_ctx_create(&ctx, &(reco_ctx_opts){.max_isa = RECO_ISA_PLAIN}), RECO_OK);
    own_openai(state);
    own_hugging_face(state);
    own_longest(state);
    reco_ctx_free(ctx);
    ctx = full;
}

/* The large set: $RECO_GOLDEN, or shared/golden beside the source. */
static json_t *large_set(char *root, size_t bytes)
{
    const char *given = getenv("RECO_GOLDEN");
    if (given)
        snprintf(root, bytes, "%s", given);
    else
        snprintf(root, bytes, "%s/../shared/golden", source_root());
    char path[4096];
    snprintf(path, sizeof path, "%s/index.json", root);
    json_t *index = json_load_file(path, 0, NULL);
    if (!index) {
        printf("SKIPPED: no large goldens at %s\n", root);
        skip();
    }
    return index;
}

static void large_bytes(void **state)
{
    (void)state;
    char root[2048], path[4096];
    json_t *index = large_set(root, sizeof root), *name;
    size_t i, each = (size_t)224 * 224 * 3;
    uint8_t *got = malloc(each);
    reco_preprocess pre = settings(224, 224, 0);
    json_array_foreach(json_object_get(index, "images"), i, name)
    {
        snprintf(path, sizeof path, "%s/images/%s", root, json_string_value(name));
        load(got, path, &pre);
        snprintf(path, sizeof path, "%s/pixels-224/%s.npy", root, json_string_value(name));
        char *want = slurp_npy(path, each);
        expect_equal(json_string_value(name), "224", got, (uint8_t *)want, each);
        free(want);
    }
    assert_int_equal(i, 20);
    free(got);
    json_decref(index);
}

static void large_floats(void **state)
{
    (void)state;
    static const struct {
        const char *model;
        size_t side;
        int hugging_face;
    } models[] = {{"hf-quickgelu", 64, 1},
                  {"hf-gelu-bf16", 56, 1},
                  {"openai-quickgelu", 64, 0},
                  {"openclip-gelu", 56, 0}};
    char root[2048], path[4096];
    json_t *index = large_set(root, sizeof root), *images = json_object_get(index, "images"), *name;
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        size_t side = models[m].side, each = 3 * side * side, i;
        reco_preprocess pre = settings(side, side, models[m].hugging_face);
        snprintf(path, sizeof path, "%s/%s-pixels.npy", root, models[m].model);
        float *want = (float *)(void *)slurp_npy(path, json_array_size(images) * each * sizeof(float));
        uint8_t *rgb = malloc(each);
        float *got = malloc(each * sizeof *got);
        json_array_foreach(images, i, name)
        {
            snprintf(path, sizeof path, "%s/images/%s", root, json_string_value(name));
            load(rgb, path, &pre);
            reco_image_normalize(got, rgb, side, &pre);
            for (size_t j = 0; j < each; j++)
                if (!(got[j] - want[i * each + j] < 1e-6f && want[i * each + j] - got[j] < 1e-6f))
                    fail_msg("%s, %s: value %zu is %.9g, want %.9g", models[m].model,
                             json_string_value(name), j, (double)got[j], (double)want[i * each + j]);
        }
        free(want);
        free(got);
        free(rgb);
    }
    json_decref(index);
}

static void normalize(void **state)
{
    (void)state;
    const uint8_t rgb[2 * 2 * 3] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 253, 254, 255};
    float out[12];
    reco_preprocess pre = {.rescale_factor = 0.5, .rescale = 1};
    reco_image_normalize(out, rgb, 2, &pre);
    for (size_t c = 0; c < 3; c++)
        for (size_t i = 0; i < 4; i++) assert_float_equal(out[4 * c + i], (float)rgb[3 * i + c] * 0.5f, 0);
    pre.rescale = 0;
    reco_image_normalize(out, rgb, 2, &pre);
    assert_float_equal(out[11], 255, 0);
    pre = settings(2, 2, 0);
    reco_image_normalize(out, rgb, 2, &pre);
    assert_float_equal(out[0], -0.48145466f / 0.26862954f, 1e-6f);
}

static int make(void **state)
{
    (void)state;
    return reco_ctx_create(&ctx, NULL) != RECO_OK;
}

static int drop(void **state)
{
    (void)state;
    reco_ctx_free(ctx);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(own_openai),   cmocka_unit_test(own_hugging_face), cmocka_unit_test(own_longest),
        cmocka_unit_test(own_squash),   cmocka_unit_test(own_plain),        cmocka_unit_test(large_bytes),
        cmocka_unit_test(large_floats), cmocka_unit_test(normalize),
    };
    return cmocka_run_group_tests(tests, make, drop);
}
