#include "image/picture.h"

#include <stdlib.h>

#include <spng.h>

/* Ancillary chunks (profiles, texts) are of no use to us; this only has to admit what real files carry. */
#define MOST_CHUNK ((size_t)64 << 20)

static reco_status png_fail(reco_ctx *ctx, const reco_encoded *in, int code)
{
    if (code == SPNG_EMEM) return reco_fail(ctx, RECO_E_NOMEM, "%s: out of memory reading PNG", in->path);
    bool cut = code == SPNG_IO_EOF || code == SPNG_EOF || code == SPNG_EIDAT_TOO_SHORT;
    return reco_fail(ctx, RECO_E_FORMAT, "%s: damaged PNG: %s", in->path,
                     cut ? "image file is truncated" : spng_strerror(code));
}

/* Samples of 1, 2 or 4 bits, rows padded to bytes, to a byte each: value * scale. */
static void unpack_bits(uint8_t *out, const uint8_t *raw, size_t width, size_t height, unsigned depth,
                        unsigned scale)
{
    size_t stride = (width * depth + 7) / 8;
    unsigned mask = (1u << depth) - 1;
    for (size_t y = 0; y < height; y++, raw += stride)
        for (size_t x = 0; x < width; x++) {
            size_t bit = x * depth;
            *out++ = (uint8_t)(((unsigned)raw[bit / 8] >> (8 - depth - bit % 8) & mask) * scale);
        }
}

/* Big-endian 16-bit samples. Pillow keeps grey as 16 bits and the high byte of the others; it has no mode for grey
 * with alpha of 16 bits and makes RGBA of it. */
static void unpack_16(reco_picture *pic, const uint8_t *raw, size_t pixels, unsigned colour)
{
    uint8_t *out = pic->pixels.data;
    if (pic->mode == RECO_MODE_I16) {
        uint16_t *grey = (uint16_t *)(void *)out;
        for (size_t i = 0; i < pixels; i++) grey[i] = (uint16_t)(raw[2 * i] << 8 | raw[2 * i + 1]);
    } else if (colour == SPNG_COLOR_TYPE_GRAYSCALE_ALPHA) {
        for (size_t i = 0; i < pixels; i++, raw += 4, out += 4) {
            out[0] = out[1] = out[2] = raw[0];
            out[3] = raw[2];
        }
    } else {
        size_t n = pixels * reco_mode_bytes(pic->mode);
        for (size_t i = 0; i < n; i++) out[i] = raw[2 * i];
    }
}

/* Entries that the file leaves out are black and opaque, as in Pillow. */
static int read_png_palette(spng_ctx *png, reco_picture *pic)
{
    struct spng_plte plte;
    struct spng_trns trns;
    int code = spng_get_plte(png, &plte);
    if (code != SPNG_OK) return code;
    for (size_t i = 0; i < 256; i++) pic->palette[i][3] = 255;
    for (size_t i = 0; i < plte.n_entries; i++)
        memcpy(pic->palette[i],
               (uint8_t[3]){plte.entries[i].red, plte.entries[i].green, plte.entries[i].blue}, 3);
    if (spng_get_trns(png, &trns) == SPNG_OK)
        for (size_t i = 0; i < trns.n_type3_entries; i++) pic->palette[i][3] = trns.type3_alpha[i];
    return SPNG_OK;
}

/* A colour declared transparent. Pillow compares its low bytes with the pixels it decoded, whatever the bit depth. */
static void read_key(spng_ctx *png, reco_picture *pic)
{
    struct spng_trns trns;
    if (pic->mode == RECO_MODE_P || spng_get_trns(png, &trns) != SPNG_OK) return;
    pic->keyed = true;
    if (pic->mode == RECO_MODE_RGB) {
        pic->key[0] = (uint8_t)(trns.red & 255);
        pic->key[1] = (uint8_t)(trns.green & 255);
        pic->key[2] = (uint8_t)(trns.blue & 255);
    } else {
        pic->key[0] = (uint8_t)(pic->mode == RECO_MODE_1 ? (trns.gray ? 255 : 0) : trns.gray & 255);
    }
}

static reco_mode png_mode(const struct spng_ihdr *ihdr)
{
    bool wide = ihdr->bit_depth == 16;
    switch (ihdr->color_type) {
    case SPNG_COLOR_TYPE_GRAYSCALE:
        return wide ? RECO_MODE_I16 : ihdr->bit_depth == 1 ? RECO_MODE_1 : RECO_MODE_L;
    case SPNG_COLOR_TYPE_TRUECOLOR:
        return RECO_MODE_RGB;
    case SPNG_COLOR_TYPE_INDEXED:
        return RECO_MODE_P;
    case SPNG_COLOR_TYPE_GRAYSCALE_ALPHA:
        return wide ? RECO_MODE_RGBA : RECO_MODE_LA;
    default:
        return RECO_MODE_RGBA;
    }
}

/* EXIF that ImageMagick wrote before PNG had a chunk for it: "\nexif\n", its length, and hex digits in lines. */
static unsigned raw_profile(const char *text)
{
    uint8_t exif[4096]; /* the first directory lies at the start */
    size_t n = 0;
    int high = -1;
    for (int line = 0; line < 3 && *text; text++) line += *text == '\n';
    for (; *text && n < sizeof exif; text++) {
        int digit = *text >= '0' && *text <= '9'   ? *text - '0'
                    : *text >= 'a' && *text <= 'f' ? *text - 'a' + 10
                    : *text >= 'A' && *text <= 'F' ? *text - 'A' + 10
                                                   : -1;
        if (digit < 0) continue;
        if (high >= 0) exif[n++] = (uint8_t)(high << 4 | digit);
        high = high < 0 ? digit : -1;
    }
    return reco_exif_orientation(exif, n);
}

/* From the chunks before and after the pixels; what cannot be read says nothing. */
static unsigned find_png_orientation(spng_ctx *png)
{
    struct spng_exif exif;
    uint32_t n = 0;
    if (spng_decode_chunks(png) != SPNG_OK) return 0;
    unsigned turn = spng_get_exif(png, &exif) == SPNG_OK
                        ? reco_exif_orientation((const uint8_t *)exif.data, exif.length)
                        : 0;
    if (turn || spng_get_text(png, NULL, &n) != SPNG_OK || n == 0 || n > 1000) return turn;
    struct spng_text *texts = calloc(n, sizeof *texts);
    if (!texts || spng_get_text(png, texts, &n) != SPNG_OK) n = 0;
    for (uint32_t i = 0; i < n && !turn; i++)
        if (strcmp(texts[i].keyword, "Raw profile type exif") == 0) turn = raw_profile(texts[i].text);
    for (uint32_t i = 0; i < n && !turn; i++)
        if (strcmp(texts[i].keyword, "XML:com.adobe.xmp") == 0)
            turn = reco_xmp_orientation((const uint8_t *)texts[i].text, texts[i].length);
    free(texts);
    return turn;
}

reco_status reco_decode_png(reco_ctx *ctx, reco_picture *pic, const reco_encoded *in)
{
    reco_status status = RECO_OK;
    reco_buffer raw = {0};
    int code;
    struct spng_ihdr ihdr;
    spng_ctx *png = spng_ctx_new(0);
    if (!png) return reco_fail_nomem(ctx, 0, "PNG decoder");
    size_t bytes;
    if ((code = spng_set_chunk_limits(png, MOST_CHUNK, MOST_CHUNK)) != SPNG_OK ||
        (code = spng_set_png_buffer(png, in->data, in->bytes)) != SPNG_OK ||
        (code = spng_get_ihdr(png, &ihdr)) != SPNG_OK)
        goto damaged;
    RECO_GO(reco_picture_check(ctx, in, ihdr.width, ihdr.height));
    pic->mode = png_mode(&ihdr);
    pic->width = ihdr.width;
    pic->height = ihdr.height;
    if (pic->mode == RECO_MODE_P && (code = read_png_palette(png, pic)) != SPNG_OK) goto damaged;
    read_key(png, pic);
    if ((code = spng_decoded_image_size(png, SPNG_FMT_RAW, &bytes)) != SPNG_OK) goto damaged;
    RECO_GO(reco_picture_alloc(ctx, pic));
    if (ihdr.bit_depth == 8)
        raw.data = pic->pixels.data;
    else
        RECO_GO(reco_buffer_get(ctx, &raw, bytes, "PNG samples"));
    /* libspng ORs interlaced samples of less than a byte into place. */
    if (ihdr.bit_depth < 8) memset(raw.data, 0, bytes);
    if ((code = spng_decode_image(png, raw.data, bytes, SPNG_FMT_RAW, 0)) != SPNG_OK) goto damaged;
    if (ihdr.bit_depth == 16) {
        unpack_16(pic, raw.data, pic->width * pic->height, ihdr.color_type);
    } else if (ihdr.bit_depth < 8) {
        unsigned scale = pic->mode == RECO_MODE_P ? 1 : 255u / ((1u << ihdr.bit_depth) - 1);
        unpack_bits(pic->pixels.data, raw.data, pic->width, pic->height, ihdr.bit_depth, scale);
    }
    if (in->upright) pic->turn = find_png_orientation(png);
    goto out;
damaged:
    status = png_fail(ctx, in, code);
out:
    reco_buffer_drop(&raw);
    if (status != RECO_OK) reco_buffer_drop(&pic->pixels);
    spng_ctx_free(png);
    return status;
}
