/* Thumbnails: as large as they may be, over white, readable, and refused where the picture is. */
#include "image/picture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static reco_ctx *ctx;
static char path[64];

/* A 24-bit BMP, left half blue, right half yellow. */
static void write_bmp(size_t w, size_t h)
{
    size_t row = (3 * w + 3) / 4 * 4;
    uint8_t head[54] = {'B', 'M'};
    uint32_t fields[] = {
        (uint32_t)(54 + row * h), 0, 54, 40, (uint32_t)w, (uint32_t)h, 1 | 24 << 16, 0, 0, 0, 0, 0, 0};
    memcpy(head + 2, fields, sizeof fields);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(head, 1, 54, file), 54);
    for (size_t y = 0; y < h; y++)
        for (size_t x = 0; x < row; x++)
            fputc(x >= 3 * w ? 0 : x / 3 < w / 2 ? (x % 3 == 0 ? 255 : 0) : (x % 3 == 0 ? 0 : 255), file);
    assert_int_equal(fclose(file), 0);
}

static void decode(reco_picture *pic, const unsigned char *jpeg, size_t bytes)
{
    reco_encoded in = {"thumbnail", jpeg, bytes, 1 << 20, false};
    *pic = (reco_picture){0};
    if (reco_decode(ctx, pic, &in) != RECO_OK) fail_msg("%s", reco_ctx_error(ctx));
    assert_int_equal(pic->mode, RECO_MODE_RGB);
}

static void sizes(void **state)
{
    (void)state;
    static const size_t cases[][5] = {{400, 200, 100, 100, 50},
                                      {200, 400, 100, 50, 100},
                                      {30, 20, 100, 30, 20},
                                      {999, 1, 10, 10, 1},
                                      {64, 64, 64, 64, 64}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const size_t *c = cases[i];
        unsigned char *jpeg;
        size_t bytes;
        reco_picture pic;
        write_bmp(c[0], c[1]);
        assert_int_equal(reco_image_thumbnail(ctx, path, NULL, c[2], 0, &jpeg, &bytes), RECO_OK);
        decode(&pic, jpeg, bytes);
        assert_int_equal(pic.width, c[3]);
        assert_int_equal(pic.height, c[4]);
        const uint8_t *left = pic.pixels.data, *right = left + 3 * (pic.width - 1);
        assert_true(left[2] > 200 && left[0] < 60 && right[0] > 200 && right[1] > 200 && right[2] < 60);
        reco_buffer_drop(&pic.pixels);
        reco_free(jpeg);
    }
}

/* What is transparent is white. */
static void over_white(void **state)
{
    (void)state;
    /* 1 x 1 RGBA, black, transparent */
    static const uint8_t png[] = {
        137, 80, 78, 71, 13, 10, 26,  10, 0,   0,   0, 13, 73, 72, 68, 82, 0,  0,  0,   1,   0,  0,  0,
        1,   8,  6,  0,  0,  0,  31,  21, 196, 137, 0, 0,  0,  11, 73, 68, 65, 84, 120, 156, 99, 96, 0,
        2,   0,  0,  5,  0,  1,  122, 94, 171, 63,  0, 0,  0,  0,  73, 69, 78, 68, 174, 66,  96, 130};
    unsigned char *jpeg;
    size_t bytes;
    reco_picture pic;
    FILE *file = fopen(path, "wb");
    assert_int_equal(fwrite(png, 1, sizeof png, file), sizeof png);
    assert_int_equal(fclose(file), 0);
    if (reco_image_thumbnail(ctx, path, NULL, 8, 0, &jpeg, &bytes) != RECO_OK)
        fail_msg("%s", reco_ctx_error(ctx));
    decode(&pic, jpeg, bytes);
    assert_true(pic.width == 1 && pic.height == 1 && pic.pixels.data[0] > 250 && pic.pixels.data[2] > 250);
    reco_buffer_drop(&pic.pixels);
    reco_free(jpeg);
}

static void refused(void **state)
{
    (void)state;
    unsigned char *jpeg = (unsigned char *)path;
    size_t bytes = 9;
    reco_image_limits small = {.max_pixels = 100};
    write_bmp(50, 50);
    assert_int_equal(reco_image_thumbnail(ctx, path, NULL, 0, 0, &jpeg, &bytes), RECO_E_ARG);
    assert_true(jpeg == NULL && bytes == 0);
    assert_int_equal(reco_image_thumbnail(ctx, path, &small, 10, 0, &jpeg, &bytes), RECO_E_NOMEM);
    assert_int_equal(reco_image_thumbnail(ctx, "/nowhere/x.png", NULL, 10, 0, &jpeg, &bytes), RECO_E_IO);
    FILE *file = fopen(path, "wb");
    fputs("<html>", file);
    fclose(file);
    assert_int_equal(reco_image_thumbnail(ctx, path, NULL, 10, 0, &jpeg, &bytes), RECO_E_FORMAT);
    assert_non_null(strstr(reco_ctx_error(ctx), path));
}

static int make(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "/tmp/reco-thumbnail-%d", (int)getpid());
    return reco_ctx_create(&ctx, NULL) != RECO_OK;
}

static int drop(void **state)
{
    (void)state;
    unlink(path);
    reco_ctx_free(ctx);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sizes), cmocka_unit_test(over_white),
                                       cmocka_unit_test(refused)};
    return cmocka_run_group_tests(tests, make, drop);
}
