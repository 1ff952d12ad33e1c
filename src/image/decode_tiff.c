#include "image/picture.h"

#include <stdarg.h>
#include <stdio.h>

#include <tiffio.h>

/* The library may ask for this much at once beside what the pixels need: tables of strips, dictionaries. */
#define MOST_BESIDE ((size_t)64 << 20)

typedef struct tiff {
    const reco_encoded *in;
    uint64_t at;
    char message[256];
    /* of the first picture */
    uint16_t bits, samples, colours, planar, format, photometric, extra;
    bool alpha, associated; /* the sample after the colours is one; colours are multiplied by it */
} tiff;

static tmsize_t read_bytes(thandle_t user, void *to, tmsize_t n)
{
    tiff *t = user;
    size_t left = t->at < t->in->bytes ? t->in->bytes - (size_t)t->at : 0, take = reco_min((size_t)n, left);
    if (take) memcpy(to, t->in->data + t->at, take);
    t->at += take;
    return (tmsize_t)take;
}

static tmsize_t write_bytes(thandle_t user, void *from, tmsize_t n)
{
    (void)user, (void)from, (void)n;
    return 0;
}

static toff_t seek(thandle_t user, toff_t to, int whence)
{
    tiff *t = user;
    t->at = whence == SEEK_SET ? to : whence == SEEK_CUR ? t->at + to : t->in->bytes + to;
    return t->at;
}

static int close_file(thandle_t user)
{
    (void)user;
    return 0;
}

static toff_t size_of(thandle_t user) { return ((const tiff *)user)->in->bytes; }

static int map(thandle_t user, void **base, toff_t *size)
{
    const tiff *t = user;
    *base = (void *)(uintptr_t)t->in->data; /* libtiff only reads it */
    *size = t->in->bytes;
    return 1;
}

static void unmap(thandle_t user, void *base, toff_t size) { (void)user, (void)base, (void)size; }

static int keep_error(TIFF *file, void *user, const char *module, const char *format, va_list args)
{
    (void)file, (void)module;
    tiff *t = user;
    if (!*t->message) vsnprintf(t->message, sizeof t->message, format, args);
    return 1;
}

static int drop_warning(TIFF *file, void *user, const char *module, const char *format, va_list args)
{
    (void)file, (void)user, (void)module, (void)format, (void)args;
    return 1;
}

static reco_status damaged_tiff(reco_ctx *ctx, const tiff *t)
{
    return reco_fail(ctx, RECO_E_FORMAT, "%s: damaged TIFF: %s", t->in->path,
                     *t->message ? t->message : "it cannot be decoded");
}

static reco_status unsupported(reco_ctx *ctx, const tiff *t)
{
    return reco_fail(ctx, RECO_E_UNSUPPORTED,
                     "%s: TIFF of %d samples of %d bits, photometric %d, which reco does not read",
                     t->in->path, t->samples, t->bits, t->photometric);
}

static void read_layout(tiff *t, TIFF *file)
{
    uint16_t *kinds = NULL, extras = 0, compression = 0;
    TIFFGetFieldDefaulted(file, TIFFTAG_BITSPERSAMPLE, &t->bits);
    TIFFGetFieldDefaulted(file, TIFFTAG_SAMPLESPERPIXEL, &t->samples);
    TIFFGetFieldDefaulted(file, TIFFTAG_PLANARCONFIG, &t->planar);
    TIFFGetFieldDefaulted(file, TIFFTAG_SAMPLEFORMAT, &t->format);
    TIFFGetFieldDefaulted(file, TIFFTAG_COMPRESSION, &compression);
    if (!TIFFGetField(file, TIFFTAG_PHOTOMETRIC, &t->photometric)) t->photometric = PHOTOMETRIC_MINISWHITE;
    if (t->photometric == PHOTOMETRIC_YCBCR && compression == COMPRESSION_JPEG &&
        t->planar == PLANARCONFIG_CONTIG && TIFFSetField(file, TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB))
        t->photometric = PHOTOMETRIC_RGB; /* the JPEG decoder converts */
    t->colours = t->photometric == PHOTOMETRIC_RGB ? 3 : t->photometric == PHOTOMETRIC_SEPARATED ? 4 : 1;
    if (t->samples <= t->colours) return;
    TIFFGetFieldDefaulted(file, TIFFTAG_EXTRASAMPLES, &extras, &kinds);
    uint16_t kind = extras && kinds ? kinds[0] : EXTRASAMPLE_UNSPECIFIED;
    t->associated = kind == EXTRASAMPLE_ASSOCALPHA;
    /* Colour with a fourth sample that nothing is said of has alpha. */
    t->alpha = t->associated || kind == EXTRASAMPLE_UNASSALPHA || kind == 999 ||
               (!extras && t->photometric == PHOTOMETRIC_RGB && t->samples == 4);
}

/* The modes that Pillow gives; false: libtiff must convert. Integers above 16 bits and floats become grey clipped to
 * 0..255 as Pillow's convert does; it resizes them first in a mode of their own. */
static bool set_mode(const tiff *t, reco_picture *pic)
{
    bool whole = t->format == SAMPLEFORMAT_UINT, bytes = t->bits == 8 || t->bits == 16;
    switch (t->photometric) {
    case PHOTOMETRIC_MINISWHITE:
    case PHOTOMETRIC_MINISBLACK:
        if (t->samples > 1)
            pic->mode = t->alpha ? RECO_MODE_LA : RECO_MODE_L;
        else
            pic->mode = t->bits == 1                                ? RECO_MODE_1
                        : whole && (t->bits == 12 || t->bits == 16) ? RECO_MODE_I16
                                                                    : RECO_MODE_L;
        if (t->samples == 1 && t->bits == 32) return true;
        if (t->samples == 1 && t->bits == 16) return whole || t->format == SAMPLEFORMAT_INT;
        if (t->format != SAMPLEFORMAT_UINT && !(t->format == SAMPLEFORMAT_INT && t->bits == 8))
            return false;
        return bytes ||
               (t->samples == 1 && (t->bits == 1 || t->bits == 2 || t->bits == 4 || t->bits == 12));
    case PHOTOMETRIC_RGB:
        pic->mode = t->alpha ? RECO_MODE_RGBA : RECO_MODE_RGB;
        return whole && bytes && t->samples >= 3;
    case PHOTOMETRIC_PALETTE:
        pic->mode = RECO_MODE_P;
        return whole && (t->bits == 1 || t->bits == 2 || t->bits == 4 || t->bits == 8);
    case PHOTOMETRIC_SEPARATED:
        pic->mode = RECO_MODE_CMYK;
        return whole && bytes && t->samples >= 4;
    default:
        return false;
    }
}

static reco_status read_tiff_palette(reco_ctx *ctx, const tiff *t, TIFF *file, reco_picture *pic)
{
    uint16_t *red, *green, *blue;
    if (!TIFFGetField(file, TIFFTAG_COLORMAP, &red, &green, &blue)) return damaged_tiff(ctx, t);
    for (size_t i = 0; i < 256; i++) pic->palette[i][3] = 255;
    for (size_t i = 0; i < (size_t)1 << t->bits; i++)
        memcpy(pic->palette[i],
               (uint8_t[3]){(uint8_t)(red[i] >> 8), (uint8_t)(green[i] >> 8), (uint8_t)(blue[i] >> 8)}, 3);
    return RECO_OK;
}

static uint8_t clipped(double v) { return v <= 0 ? 0 : v >= 255 ? 255 : v > 0 ? (uint8_t)v : 0; }

/* Sample i of a row, as the mode keeps it; the high byte of 16 bits. */
static uint8_t sample(const tiff *t, const reco_picture *pic, const uint8_t *row, size_t i)
{
    uint16_t v16;
    uint32_t v32;
    float f;
    switch (t->bits) {
    case 8:
        return row[i];
    case 16:
        memcpy(&v16, row + 2 * i, 2);
        return t->format == SAMPLEFORMAT_INT ? clipped((int16_t)v16) : (uint8_t)(v16 >> 8);
    case 32:
        memcpy(&v32, row + 4 * i, 4);
        memcpy(&f, &v32, 4);
        return clipped(t->format == SAMPLEFORMAT_IEEEFP ? (double)f : (double)(int32_t)v32);
    default: {
        size_t bit = i * t->bits;
        unsigned mask = (1u << t->bits) - 1, v = (unsigned)row[bit / 8] >> (8 - t->bits - bit % 8) & mask;
        return (uint8_t)(pic->mode == RECO_MODE_P ? v : v * (255 / mask));
    }
    }
}

/* n pixels of a row to bands [from, from+bands) of out. `step` samples a pixel. */
static void unpack(const tiff *t, const reco_picture *pic, uint8_t *out, const uint8_t *row, size_t n,
                   size_t step, size_t from, size_t bands)
{
    size_t each = reco_mode_bytes(pic->mode);
    if (pic->mode == RECO_MODE_I16) {
        for (size_t x = 0; x < n; x++) {
            uint16_t v;
            if (t->bits == 16) {
                memcpy(&v, row + 2 * x * step, 2);
            } else {
                const uint8_t *p = row + x / 2 * 3; /* two of 12 bits in three bytes */
                v = (uint16_t)(x % 2 ? (p[1] & 15) << 8 | p[2] : p[0] << 4 | p[1] >> 4);
            }
            memcpy(out + 2 * x, &v, 2);
        }
        return;
    }
    bool inverted = t->photometric == PHOTOMETRIC_MINISWHITE && t->bits <= 8;
    for (size_t x = 0; x < n; x++)
        for (size_t i = 0; i < bands; i++) {
            uint8_t v = sample(t, pic, row, x * step + i);
            out[x * each + from + i] = inverted && from + i == 0 ? (uint8_t)~v : v;
        }
}

/* Rows, or tiles, of the samples in one plane, or of all of them. */
static reco_status read_plane(reco_ctx *ctx, tiff *t, TIFF *file, reco_picture *pic, uint16_t plane,
                              size_t step, size_t from, size_t bands)
{
    reco_status status = RECO_OK;
    reco_buffer raw = {0};
    size_t each = reco_mode_bytes(pic->mode), w = pic->width, h = pic->height, need, bits;
    uint32_t tw = (uint32_t)w, th = 1;
    bool tiled = TIFFIsTiled(file);
    if (tiled) {
        TIFFGetFieldDefaulted(file, TIFFTAG_TILEWIDTH, &tw);
        TIFFGetFieldDefaulted(file, TIFFTAG_TILELENGTH, &th);
        RECO_TRY(reco_picture_check(ctx, t->in, tw, th));
    }
    size_t row = (size_t)(tiled ? TIFFTileRowSize64(file) : TIFFScanlineSize64(file));
    /* What is read here is within what the library writes. */
    if (!reco_mul(tw, step * t->bits, &bits) || row < (bits + 7) / 8 || !reco_mul(row, th, &need))
        return unsupported(ctx, t);
    if (tiled && need != (uint64_t)TIFFTileSize64(file)) return unsupported(ctx, t);
    if (need > 16 * t->in->max_pixels + MOST_BESIDE) return reco_fail_nomem(ctx, need, "TIFF samples");
    RECO_GO(reco_buffer_get(ctx, &raw, need, "TIFF samples"));
    for (size_t y = 0; y < h; y += th)
        for (size_t x = 0; x < w; x += tw) {
            bool good = tiled ? TIFFReadTile(file, raw.data, (uint32_t)x, (uint32_t)y, 0, plane) >= 0
                              : TIFFReadScanline(file, raw.data, (uint32_t)y, plane) == 1;
            if (!good) RECO_GO(damaged_tiff(ctx, t));
            for (size_t dy = 0; dy < th && y + dy < h; dy++)
                unpack(t, pic, pic->pixels.data + ((y + dy) * w + x) * each, raw.data + dy * row,
                       reco_min(tw, w - x), step, from, bands);
        }
out:
    reco_buffer_drop(&raw);
    return status;
}

static reco_status read_samples(reco_ctx *ctx, tiff *t, TIFF *file, reco_picture *pic)
{
    size_t bands = pic->mode == RECO_MODE_I16 ? 1 : reco_mode_bytes(pic->mode);
    if (pic->mode == RECO_MODE_P) RECO_TRY(read_tiff_palette(ctx, t, file, pic));
    RECO_TRY(reco_picture_alloc(ctx, pic));
    if (t->planar == PLANARCONFIG_SEPARATE && t->samples > 1)
        for (uint16_t i = 0; i < bands; i++) RECO_TRY(read_plane(ctx, t, file, pic, i, 1, i, 1));
    else
        RECO_TRY(read_plane(ctx, t, file, pic, 0, t->samples, 0, bands));
    if (!t->alpha || !t->associated) return RECO_OK;
    size_t pixels = pic->width * pic->height, n = reco_mode_bytes(pic->mode);
    for (size_t i = 0; i < pixels; i++)
        if (pic->pixels.data[i * n + n - 1] == 0) memset(pic->pixels.data + i * n, 0, n);
    reco_unpremultiply(pic);
    return RECO_OK;
}

/* Brightness and colour differences, CIELab, LogLuv and what else the library knows. */
static reco_status read_converted(reco_ctx *ctx, tiff *t, TIFF *file, reco_picture *pic)
{
    TIFFRGBAImage image;
    char why[1024] = "";
    if (!TIFFRGBAImageOK(file, why) || !TIFFRGBAImageBegin(&image, file, 0, why))
        return unsupported(ctx, t);
    image.req_orientation = image.orientation; /* turned later, as the others are */
    pic->mode = RECO_MODE_RGBA;
    reco_status status = reco_picture_alloc(ctx, pic);
    size_t pixels = pic->width * pic->height;
    if (status == RECO_OK &&
        !TIFFRGBAImageGet(&image, (uint32_t *)(void *)pic->pixels.data, image.width, image.height))
        status = damaged_tiff(ctx, t);
    bool opaque = image.alpha == 0;
    TIFFRGBAImageEnd(&image);
    for (size_t i = 0; status == RECO_OK && i < pixels; i++) {
        uint8_t *p = pic->pixels.data + 4 * i, *to = pic->pixels.data + (opaque ? 3 : 4) * i;
        uint32_t v;
        memcpy(&v, p, 4);
        to[0] = (uint8_t)TIFFGetR(v);
        to[1] = (uint8_t)TIFFGetG(v);
        to[2] = (uint8_t)TIFFGetB(v);
        if (!opaque) to[3] = (uint8_t)TIFFGetA(v);
    }
    if (opaque) pic->mode = RECO_MODE_RGB;
    return status;
}

static TIFF *open_tiff(tiff *t)
{
    TIFFOpenOptions *options = TIFFOpenOptionsAlloc();
    if (!options) return NULL;
    TIFFOpenOptionsSetErrorHandlerExtR(options, keep_error, t);
    TIFFOpenOptionsSetWarningHandlerExtR(options, drop_warning, NULL);
    TIFFOpenOptionsSetMaxSingleMemAlloc(options, (tmsize_t)(8 * t->in->max_pixels + MOST_BESIDE));
    TIFF *file = TIFFClientOpenExt(t->in->path, "r", t, read_bytes, write_bytes, seek, close_file, size_of,
                                   map, unmap, options);
    TIFFOpenOptionsFree(options);
    return file;
}

/* Pillow turns a TIFF upright whenever it loads one, so that is no question of options here. */
reco_status reco_decode_tiff(reco_ctx *ctx, reco_picture *pic, const reco_encoded *in)
{
    tiff t = {.in = in};
    uint32_t width = 0, height = 0;
    uint16_t turn = 1;
    reco_status status = RECO_OK;
    TIFF *file = open_tiff(&t);
    if (!file) return damaged_tiff(ctx, &t);
    TIFFGetField(file, TIFFTAG_IMAGEWIDTH, &width);
    TIFFGetField(file, TIFFTAG_IMAGELENGTH, &height);
    TIFFGetFieldDefaulted(file, TIFFTAG_ORIENTATION, &turn);
    pic->width = width;
    pic->height = height;
    RECO_GO(reco_picture_check(ctx, in, width, height));
    read_layout(&t, file);
    RECO_GO(set_mode(&t, pic) ? read_samples(ctx, &t, file, pic) : read_converted(ctx, &t, file, pic));
    pic->turn = turn;
out:
    TIFFClose(file);
    if (status != RECO_OK) reco_buffer_drop(&pic->pixels);
    return status;
}
