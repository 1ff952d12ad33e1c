#include "image/picture.h"

/* a * b / 255 rounded, as Pillow's MULDIV255. */
static inline unsigned muldiv255(unsigned a, unsigned b)
{
    unsigned t = a * b + 128;
    return ((t >> 8) + t) >> 8;
}

/* v of opacity a over white, as Pillow's alpha_composite: 7 more bits, one rounding. */
static inline uint8_t on_white(unsigned v, unsigned a)
{
    unsigned t = (v * a + 255 * (255 - a)) * 128 + (0x80 << 7);
    return (uint8_t)((((t >> 8) + t) >> 8) >> 7);
}

/* The last band is alpha: fold it in or forget it. */
static void drop_alpha(uint8_t *p, size_t pixels, size_t bands, bool over_white)
{
    uint8_t *out = p;
    for (size_t i = 0; i < pixels; i++, p += bands)
        for (size_t c = 0; c + 1 < bands; c++) *out++ = over_white ? on_white(p[c], p[bands - 1]) : p[c];
}

static reco_status from_palette(reco_ctx *ctx, reco_picture *pic, bool over_white)
{
    uint8_t table[256][3];
    reco_buffer old = pic->pixels;
    for (size_t i = 0; i < 256; i++)
        for (size_t c = 0; c < 3; c++)
            table[i][c] =
                over_white ? on_white(pic->palette[i][c], pic->palette[i][3]) : pic->palette[i][c];
    pic->mode = RECO_MODE_RGB;
    reco_status status = reco_picture_alloc(ctx, pic);
    size_t pixels = pic->width * pic->height;
    for (size_t i = 0; status == RECO_OK && i < pixels; i++)
        memcpy(pic->pixels.data + 3 * i, table[old.data[i]], 3);
    reco_buffer_drop(&old);
    return status;
}

static void from_cmyk(uint8_t *p, size_t pixels)
{
    uint8_t *out = p;
    for (size_t i = 0; i < pixels; i++, p += 4) {
        unsigned white = 255u - p[3];
        for (size_t c = 0; c < 3; c++) *out++ = (uint8_t)(white - muldiv255(p[c], white));
    }
}

/* In place, front to back: no mode but the palette grows. */
reco_status reco_picture_flatten(reco_ctx *ctx, reco_picture *pic, bool over_white)
{
    size_t pixels = pic->width * pic->height;
    uint8_t *p = pic->pixels.data;
    switch (pic->mode) {
    case RECO_MODE_L:
    case RECO_MODE_RGB:
        break;
    case RECO_MODE_1: /* padding may have put other values between */
        for (size_t i = 0; i < pixels; i++) p[i] = p[i] ? 255 : 0;
        pic->mode = RECO_MODE_L;
        break;
    case RECO_MODE_I16: /* clipped, not scaled: Pillow's choice */
        for (size_t i = 0; i < pixels; i++) {
            uint16_t v;
            memcpy(&v, p + 2 * i, 2);
            p[i] = (uint8_t)(v > 255 ? 255 : v);
        }
        pic->mode = RECO_MODE_L;
        break;
    case RECO_MODE_LA:
        drop_alpha(p, pixels, 2, over_white);
        pic->mode = RECO_MODE_L;
        break;
    case RECO_MODE_RGBA:
        drop_alpha(p, pixels, 4, over_white);
        pic->mode = RECO_MODE_RGB;
        break;
    case RECO_MODE_CMYK:
        from_cmyk(p, pixels);
        pic->mode = RECO_MODE_RGB;
        break;
    case RECO_MODE_P:
        return from_palette(ctx, pic, over_white);
    }
    size_t bands = reco_mode_bytes(pic->mode);
    for (size_t i = 0; pic->keyed && over_white && i < pixels; i++)
        if (memcmp(p + i * bands, pic->key, bands) == 0) memset(p + i * bands, 255, bands);
    return RECO_OK;
}

void reco_picture_rgb(uint8_t *out, const reco_picture *pic)
{
    size_t pixels = pic->width * pic->height;
    if (pic->mode == RECO_MODE_L)
        for (size_t i = 0; i < pixels; i++) memset(out + 3 * i, pic->pixels.data[i], 3);
    else
        memcpy(out, pic->pixels.data, 3 * pixels);
}

void reco_premultiply(reco_picture *pic)
{
    size_t n = pic->width * pic->height, bands = reco_mode_bytes(pic->mode);
    uint8_t *p = pic->pixels.data;
    for (size_t i = 0; i < n; i++, p += bands)
        for (size_t c = 0; c + 1 < bands; c++) p[c] = (uint8_t)muldiv255(p[c], p[bands - 1]);
}

void reco_unpremultiply(reco_picture *pic)
{
    size_t n = pic->width * pic->height, bands = reco_mode_bytes(pic->mode);
    uint8_t *p = pic->pixels.data;
    for (size_t i = 0; i < n; i++, p += bands) {
        unsigned alpha = p[bands - 1];
        if (alpha == 0 || alpha == 255) continue;
        for (size_t c = 0; c + 1 < bands; c++) p[c] = (uint8_t)reco_min(255u * p[c] / alpha, 255);
    }
}
