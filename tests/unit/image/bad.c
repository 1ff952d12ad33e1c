/* Files that are not the pictures they claim to be: a status, a message that names the file, and no harm. */
#include "reco/image.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static reco_ctx *ctx;
static uint8_t out[32 * 32 * 3];
static const reco_preprocess plain = {.size = 32, .crop = 32, .filter = RECO_FILTER_BICUBIC};

static void expect(reco_status got, reco_status want, const char *name, const char *words)
{
    const char *message = reco_ctx_error(ctx);
    if (got != want || !strstr(message, name) || !strstr(message, words))
        fail_msg("%s: status %d, want %d; message '%s', want '%s'", name, (int)got, (int)want, message,
                 words);
}

static uint8_t *golden(const char *name, size_t *bytes)
{
    char path[4096];
    const char *root = getenv("RECO_TEST_SOURCE");
    snprintf(path, sizeof path, "%s/tests/golden/image/%s", root ? root : ".", name);
    FILE *file = fopen(path, "rb");
    snprintf(path, sizeof path, "%s/tests/golden/formats/%s", root ? root : ".", name);
    if (!file) file = fopen(path, "rb");
    assert_non_null(file);
    uint8_t *data = malloc(1 << 20);
    assert_non_null(data);
    *bytes = fread(data, 1, 1 << 20, file);
    fclose(file);
    return data;
}

/* A buffer of exactly n bytes, so that the sanitizer sees a read past its end. */
static reco_status decode_cut(const char *name, const uint8_t *data, size_t n)
{
    uint8_t *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, data, n);
    reco_status status = reco_image_decode_rgb(ctx, out, name, copy, n, &plain, NULL);
    free(copy);
    return status;
}

/* Is the picture of a format that this build has a library for? */
static bool is_read(const uint8_t *data, size_t bytes)
{
    const char *name = NULL, *read;
    reco_image_sniff(data, bytes, &name);
    for (size_t i = 0; name && (read = reco_image_reads(i)); i++)
        if (strcmp(read, name) == 0) return true;
    return false;
}

/* What follows the pixels may be missing as far as Pillow cares: `tail` bytes. */
static void cut_everywhere(const char *name, size_t tail)
{
    size_t bytes;
    uint8_t *data = golden(name, &bytes);
    if (!is_read(data, bytes)) {
        free(data);
        return;
    }
    assert_int_equal(decode_cut(name, data, bytes), RECO_OK);
    for (size_t n = 0; n < bytes - tail; n += n < 700 ? 1 : 37)
        expect(decode_cut(name, data, n), RECO_E_FORMAT, name, n == 0 ? "empty" : "");
    free(data);
}

static void truncated(void **state)
{
    (void)state;
    cut_everywhere("rgb.jpg", 0);
    cut_everywhere("rgb-444-progressive.jpg", 0);
    cut_everywhere("cmyk.jpg", 0);
    cut_everywhere("rgba.png", 16);
    cut_everywhere("palette-4-alpha.png", 16);
    cut_everywhere("grey-16.png", 16);
    cut_everywhere("lossy.webp", 0);
    cut_everywhere("alpha.webp", 0);
    cut_everywhere("animated.webp", 8);
    cut_everywhere("palette-8.bmp", 3); /* padding of the last row */
    cut_everywhere("alpha-v5.bmp", 0);
    cut_everywhere("rle-8.bmp", 4); /* the ends of line and picture */
    cut_everywhere("rle-4.bmp", 4);
    cut_everywhere("placed.gif", 4); /* code of the end, empty block, trailer */
    cut_everywhere("interlaced.gif", 4);
    cut_everywhere("rgb.tif", 0);      /* tags are at the end of most of them */
    cut_everywhere("grey-lzw.tif", 4); /* the link to a next picture */
    cut_everywhere("rgb-jpeg.tif", 0);
    cut_everywhere("rgb-tiles.tif", 0);
    cut_everywhere("rgba.avif", 0);
    cut_everywhere("rgb.heic", 0);
    cut_everywhere("lossless.jxl", 0);
    cut_everywhere("rgb.jxl", 0);
}

/* Anything may come out of a damaged file but a crash; on error the message names it. */
static void damaged(void **state)
{
    (void)state;
    static const char *const names[] = {"rgb.jpg",
                                        "rgb-444-progressive.jpg",
                                        "cmyk.jpg",
                                        "rgba.png",
                                        "palette-4-alpha.png",
                                        "lossy.webp",
                                        "alpha.webp",
                                        "animated.webp",
                                        "turn-exif.jpg",
                                        "turn-profile.png",
                                        "turn-xmp.png",
                                        "turn.webp",
                                        "palette-8.bmp",
                                        "alpha-v5.bmp",
                                        "rgb-16.bmp",
                                        "os2.bmp",
                                        "rle-8.bmp",
                                        "rle-8-delta.bmp",
                                        "rle-4.bmp",
                                        "placed.gif",
                                        "interlaced.gif",
                                        "grey-transparent.gif",
                                        "rgb.tif",
                                        "grey-lzw.tif",
                                        "rgb-jpeg.tif",
                                        "rgb-tiles.tif",
                                        "rgb-planes.tif",
                                        "palette-4.tif",
                                        "rgba-associated.tif",
                                        "bilevel-g4.tif",
                                        "rgba.avif",
                                        "turn.avif",
                                        "animated.avif",
                                        "rgb.heic",
                                        "rgba.heic",
                                        "turn.heic",
                                        "rgb.jxl",
                                        "alpha-lossless.jxl"};
    uint32_t seed = 12345;
    for (size_t f = 0; f < sizeof names / sizeof *names; f++) {
        size_t bytes;
        uint8_t *data = golden(names[f], &bytes);
        for (int round = 0; round < 150; round++) {
            uint8_t old[4];
            size_t at[4];
            for (int i = 0; i < 4; i++) {
                seed = seed * 1664525u + 1013904223u;
                at[i] = (seed >> 8) % (round % 2 ? bytes : 64);
                old[i] = data[at[i]];
                data[at[i]] = (uint8_t)(seed >> 3);
            }
            reco_image_limits limits = {.max_pixels = 1 << 20};
            reco_preprocess pre = plain;
            pre.upright = round % 3 == 0;
            reco_status status = reco_image_decode_rgb(ctx, out, names[f], data, bytes, &pre, &limits);
            if (status != RECO_OK) assert_non_null(strstr(reco_ctx_error(ctx), names[f]));
            for (int i = 3; i >= 0; i--) data[at[i]] = old[i];
        }
        free(data);
    }
}

static void not_an_image(void **state)
{
    (void)state;
    char folder[] = "/tmp/reco-image-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    expect(reco_image_load_rgb(ctx, out, folder, &plain, NULL), RECO_E_IO, folder, "a directory");
    snprintf(path, sizeof path, "%s/missing.png", folder);
    expect(reco_image_load_rgb(ctx, out, path, &plain, NULL), RECO_E_IO, path, "No such file");
    snprintf(path, sizeof path, "%s/text.png", folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    expect(reco_image_load_rgb(ctx, out, path, &plain, NULL), RECO_E_FORMAT, path, "empty file");
    fputs("not a picture\n", file);
    fclose(file);
    expect(reco_image_load_rgb(ctx, out, path, &plain, NULL), RECO_E_FORMAT, path,
           "not a picture but a text file");
    reco_image_limits limits = {.max_bytes = 10};
    expect(reco_image_load_rgb(ctx, out, path, &plain, &limits), RECO_E_NOMEM, path,
           "14 bytes, want at most 10");
    unlink(path);
    snprintf(path, sizeof path, "%s/pipe.png", folder);
    assert_int_equal(mkfifo(path, 0600), 0);
    expect(reco_image_load_rgb(ctx, out, path, &plain, NULL), RECO_E_IO, path, "not a regular file");
    unlink(path);
    rmdir(folder);
}

/* Headers that promise far more than the file holds must cost nothing. */
static void bombs(void **state)
{
    (void)state;
    size_t bytes;
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    static const uint8_t png[] = {0x89, 'P',  'N', 'G', '\r', '\n', 0x1a, '\n', 0,    0,    0,
                                  13,   'I',  'H', 'D', 'R',  0,    0,    0xea, 0x60, 0,    0,
                                  0xea, 0x60, 8,   2,   0,    0,    0,    0x9d, 0xc6, 0x15, 0x27};
    expect(decode_cut("bomb.png", png, sizeof png), RECO_E_NOMEM, "bomb.png", "60000 x 60000 pixels");
    uint8_t *data = golden("rgb.jpg", &bytes);
    for (size_t i = 0; i + 9 < bytes; i++)
        if (data[i] == 0xff && data[i + 1] == 0xc0) {
            data[i + 5] = data[i + 7] = 0xff;
            break;
        }
    expect(decode_cut("bomb.jpg", data, bytes), RECO_E_NOMEM, "bomb.jpg", "pixels, want at most");
    free(data);
    data = golden("animated.webp", &bytes);
    data[26] = data[29] = 0xff; /* top bytes of the canvas */
    reco_status status = decode_cut("bomb.webp", data, bytes);
    assert_true(status == RECO_E_NOMEM || status == RECO_E_FORMAT);
    assert_non_null(strstr(reco_ctx_error(ctx), "bomb.webp"));
    free(data);
    getrusage(RUSAGE_SELF, &after);
    assert_true(after.ru_maxrss - before.ru_maxrss < 32 << 10);
}

static void limits(void **state)
{
    (void)state;
    size_t bytes;
    uint8_t *data = golden("rgba.png", &bytes); /* 52 x 38 */
    reco_image_limits limit = {.max_pixels = 52 * 38};
    assert_int_equal(reco_image_decode_rgb(ctx, out, "it", data, bytes, &plain, &limit), RECO_OK);
    limit.max_pixels--;
    expect(reco_image_decode_rgb(ctx, out, "it", data, bytes, &plain, &limit), RECO_E_NOMEM, "it",
           "52 x 38 pixels, want at most 1975");
    free(data);
}

static void arguments(void **state)
{
    (void)state;
    reco_preprocess pre = plain;
    pre.size = 0;
    expect(reco_image_decode_rgb(ctx, out, "x", "", 0, &pre, NULL), RECO_E_ARG, "size = 0", "1..4096");
    pre = plain;
    pre.crop = 5000;
    expect(reco_image_decode_rgb(ctx, out, "x", "", 0, &pre, NULL), RECO_E_ARG, "crop = 5000", "");
    pre.crop = 0;
    expect(reco_image_decode_rgb(ctx, out, "x", "", 0, &pre, NULL), RECO_E_ARG, "no crop", "");
    pre = plain;
    pre.filter = (reco_filter)1;
    expect(reco_image_decode_rgb(ctx, out, "x", "", 0, &pre, NULL), RECO_E_ARG, "filter = 1", "");
    pre = plain;
    pre.fill = 256;
    expect(reco_image_decode_rgb(ctx, out, "x", "", 0, &pre, NULL), RECO_E_ARG, "fill = 256", "");
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
        cmocka_unit_test(bombs),        cmocka_unit_test(truncated), cmocka_unit_test(damaged),
        cmocka_unit_test(not_an_image), cmocka_unit_test(limits),    cmocka_unit_test(arguments),
    };
    return cmocka_run_group_tests(tests, make, drop);
}
