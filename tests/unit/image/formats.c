/* Pictures of every format, plain and turned upright, against Pillow's pixels (tools/golden/make_formats.py). */
#include "image/picture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define SMALL 12

static reco_ctx *ctx;

static uint8_t *slurp(const char *name, size_t *bytes)
{
    char path[4096];
    const char *root = getenv("RECO_TEST_SOURCE");
    snprintf(path, sizeof path, "%s/tests/golden/formats/%s", root ? root : ".", name);
    FILE *file = fopen(path, "rb");
    if (!file) fail_msg("%s is missing", path);
    uint8_t *data = malloc(1 << 20);
    assert_non_null(data);
    *bytes = fread(data, 1, 1 << 20, file);
    fclose(file);
    return data;
}

/* Is the picture of a format that this build has a library for? */
static bool is_read(const uint8_t *data, size_t bytes)
{
    const char *name, *read;
    assert_int_equal(reco_image_sniff(data, bytes, &name), RECO_IMAGE_PICTURE);
    for (size_t i = 0; (read = reco_image_reads(i)); i++)
        if (strcmp(read, name) == 0) return true;
    return false;
}

/* exact 0: versions of the library round differently. */
static void compare(const char *name, const char *what, const uint8_t *got, const uint8_t *want, size_t n,
                    int exact)
{
    size_t wrong = 0, sum = 0;
    int most = 0;
    for (size_t i = 0; i < n; i++) {
        int d = abs(got[i] - want[i]);
        wrong += d != 0;
        sum += (size_t)d;
        if (d > most) most = d;
    }
    if (exact ? wrong > 0 : 2 * sum > n || most > 4)
        fail_msg("%s (%s): %zu of %zu bytes differ, by up to %d", name, what, wrong, n, most);
}

static void whole(const char *name, const reco_encoded *in, const uint8_t *want, size_t w, size_t h,
                  int exact)
{
    reco_picture pic = {0};
    reco_mark mark = reco_scratch_mark(ctx);
    if (reco_decode(ctx, &pic, in) != RECO_OK) fail_msg("%s", reco_ctx_error(ctx));
    if (pic.width != w || pic.height != h)
        fail_msg("%s: %zu x %zu pixels, want %zu x %zu", name, pic.width, pic.height, w, h);
    assert_int_equal(reco_picture_flatten(ctx, &pic, false), RECO_OK);
    uint8_t *rgb = malloc(3 * w * h);
    assert_non_null(rgb);
    reco_picture_rgb(rgb, &pic);
    compare(name, "convert", rgb, want, 3 * w * h, exact);
    free(rgb);
    reco_buffer_drop(&pic.pixels);
    reco_scratch_release(ctx, mark);
}

static void resized(const char *name, const reco_encoded *in, const uint8_t *want, int convert_first,
                    int exact)
{
    reco_preprocess pre = {.size = SMALL,
                           .mode = RECO_RESIZE_SQUASH,
                           .filter = RECO_FILTER_BICUBIC,
                           .convert_first = convert_first,
                           .upright = in->upright};
    uint8_t rgb[SMALL * SMALL * 3];
    if (reco_image_decode_rgb(ctx, rgb, name, in->data, in->bytes, &pre, NULL) != RECO_OK)
        fail_msg("%s", reco_ctx_error(ctx));
    compare(name, convert_first ? "over white" : "resized", rgb, want, sizeof rgb, exact);
}

static void formats(void **state)
{
    (void)state;
    size_t bytes, total, small = SMALL * SMALL * 3, passed = 0;
    uint8_t *pixels = slurp("pixels.rgb", &total), *at = pixels;
    char *index = (char *)slurp("index.txt", &bytes);
    index[bytes] = 0;
    for (char *line = strtok(index, "\n"); line; line = strtok(NULL, "\n")) {
        char name[256];
        size_t w, h;
        int upright, exact;
        assert_int_equal(sscanf(line, "%255s %zu %zu %d %d", name, &w, &h, &upright, &exact), 5);
        uint8_t *data = slurp(name, &bytes);
        reco_encoded in = {name, data, bytes, 1 << 20, upright != 0};
        if (is_read(data, bytes)) {
            whole(name, &in, at, w, h, exact);
            resized(name, &in, at + 3 * w * h, 0, exact);
            resized(name, &in, at + 3 * w * h + small, 1, exact);
        } else {
            passed++;
        }
        free(data);
        at += 3 * w * h + 2 * small;
    }
    assert_int_equal(at - pixels, total);
    if (passed) printf("SKIPPED: %zu pictures, of formats that this build has no library for\n", passed);
    free(pixels);
    free(index);
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(formats)};
    return cmocka_run_group_tests(tests, make, drop);
}
