#include "image/picture.h"

#define FILE_HEADER ((size_t)14)

enum { RAW = 0, RLE8 = 1, RLE4 = 2, BITFIELDS = 3, ALPHABITFIELDS = 6 };

typedef struct bmp {
    const reco_encoded *in;
    size_t header, pixels; /* size of the header; where the samples begin */
    unsigned bits, compression;
    bool top_down;
    uint32_t mask[4]; /* of red, green, blue, alpha */
} bmp;

static uint32_t read_little_endian(const uint8_t *p, size_t n)
{
    uint32_t value = 0;
    for (size_t i = 0; i < n; i++) value |= (uint32_t)p[i] << 8 * i;
    return value;
}

static reco_status truncated(reco_ctx *ctx, const bmp *b)
{
    return reco_fail(ctx, RECO_E_FORMAT, "%s: damaged BMP: image file is truncated", b->in->path);
}

static bool known_header(size_t size)
{
    return size == 12 || size == 16 || size == 40 || size == 52 || size == 56 || size == 64 ||
           size == 108 || size == 124;
}

/* Windows left the fourth byte of 32 bits unused, and Pillow follows: alpha only where a mask says so. */
static void set_masks(bmp *b, const uint8_t *d, size_t after)
{
    bool wide = b->header >= 52 && b->header != 64;
    if (b->compression == BITFIELDS || b->compression == ALPHABITFIELDS) {
        size_t n = wide ? (b->header >= 56 ? 4 : 3) : b->compression == ALPHABITFIELDS ? 4 : 3;
        const uint8_t *at = wide ? d + FILE_HEADER + 40 : d + after;
        for (size_t i = 0; i < n; i++) b->mask[i] = read_little_endian(at + 4 * i, 4);
        bool none = !(b->mask[0] | b->mask[1] | b->mask[2] | b->mask[3]);
        if (!none || b->bits != 32) return;
        b->mask[3] = 0xff000000;
    }
    if (b->bits == 16)
        b->mask[0] = 0x7c00, b->mask[1] = 0x3e0, b->mask[2] = 0x1f;
    else
        b->mask[0] = 0xff0000, b->mask[1] = 0xff00, b->mask[2] = 0xff;
}

/* A palette of the greys in order is none: such a picture is grey to Pillow, and resized as one. */
static reco_status read_bmp_palette(reco_ctx *ctx, const bmp *b, reco_picture *pic, size_t *at,
                                    uint32_t colours)
{
    const uint8_t *d = b->in->data;
    size_t each = b->header == 12 ? 3 : 4, most = (size_t)1 << b->bits;
    if (colours == 0) colours = (uint32_t)most;
    if (colours > 65536)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: damaged BMP: %u colours", b->in->path, colours);
    if (*at > b->in->bytes || b->in->bytes - *at < each * colours) return truncated(ctx, b);
    bool grey = true;
    for (size_t i = 0; i < 256; i++) pic->palette[i][3] = 255;
    for (size_t i = 0; i < colours; i++) {
        const uint8_t *bgr = d + *at + each * i;
        size_t level = colours == 2 ? 255 * i : i;
        grey = grey && bgr[0] == level && bgr[1] == level && bgr[2] == level;
        if (i < 256) memcpy(pic->palette[i], (uint8_t[3]){bgr[2], bgr[1], bgr[0]}, 3);
    }
    pic->mode = grey && colours == 2 && b->bits == 1 ? RECO_MODE_1
                : grey && b->bits == 8               ? RECO_MODE_L
                                                     : RECO_MODE_P;
    *at += each * colours;
    return RECO_OK;
}

static reco_status read_bmp_header(reco_ctx *ctx, bmp *b, reco_picture *pic)
{
    const reco_encoded *in = b->in;
    const uint8_t *d = in->data, *h = d + FILE_HEADER;
    b->header = read_little_endian(h, 4);
    if (!known_header(b->header))
        return reco_fail(ctx, RECO_E_UNSUPPORTED,
                         "%s: BMP with a header of %zu bytes, which reco does not know", in->path,
                         b->header);
    if (in->bytes - FILE_HEADER < b->header) return truncated(ctx, b);
    uint32_t height, colours = 0;
    if (b->header == 12) {
        pic->width = read_little_endian(h + 4, 2);
        height = read_little_endian(h + 6, 2);
        b->bits = read_little_endian(h + 10, 2);
    } else {
        pic->width = read_little_endian(h + 4, 4);
        height = read_little_endian(h + 8, 4);
        b->bits = read_little_endian(h + 14, 2);
        if (b->header > 16) {
            b->compression = read_little_endian(h + 16, 4);
            colours = read_little_endian(h + 32, 4);
        }
        b->top_down = height >> 31;
        if (b->top_down) height = -height;
    }
    pic->height = height;
    RECO_TRY(reco_picture_check(ctx, in, pic->width, pic->height));
    bool fields = b->compression == BITFIELDS || b->compression == ALPHABITFIELDS;
    bool paletted = b->bits == 1 || b->bits == 2 || b->bits == 4 || b->bits == 8;
    bool fits = b->compression == RAW       ? paletted || b->bits == 16 || b->bits == 24 || b->bits == 32
                : b->compression == RLE8    ? b->bits == 8
                : b->compression == RLE4    ? b->bits == 4
                : fields && b->header != 64 ? b->bits == 16 || b->bits == 24 || b->bits == 32
                                            : false;
    if (!fits)
        return reco_fail(ctx, RECO_E_UNSUPPORTED,
                         "%s: BMP of %u bits and compression %u, which reco does not read", in->path,
                         b->bits, b->compression);
    size_t at = FILE_HEADER + b->header;
    if (paletted) {
        RECO_TRY(read_bmp_palette(ctx, b, pic, &at, colours));
    } else {
        if (fields && b->header <= 40) {
            size_t masks = b->compression == BITFIELDS ? 12 : 16;
            if (in->bytes < at + masks) return truncated(ctx, b);
            set_masks(b, d, at);
            at += masks;
        } else {
            set_masks(b, d, at);
        }
        pic->mode = b->mask[3] ? RECO_MODE_RGBA : RECO_MODE_RGB;
    }
    /* As Pillow: a file that puts its samples where its palette is means after the palette. */
    size_t offset = read_little_endian(d + 10, 4);
    b->pixels = offset == 0 || (paletted && offset == FILE_HEADER + b->header) ? at : offset;
    return RECO_OK;
}

typedef struct channel {
    unsigned shift;
    uint32_t most; /* value of all bits set; 0: no such channel */
} channel;

static channel channel_of(uint32_t mask)
{
    channel c = {0, 0};
    if (!mask) return c;
    while (!(mask >> c.shift & 1)) c.shift++;
    uint32_t run = mask >> c.shift;
    while (run & 1) c.most = c.most << 1 | 1, run >>= 1; /* bits after a gap are none of it */
    return c;
}

static uint8_t level(uint32_t sample, channel c)
{
    if (!c.most) return 0;
    return (uint8_t)((uint64_t)(sample >> c.shift & c.most) * 255 / c.most);
}

static void unpack_row(const bmp *b, const reco_picture *pic, uint8_t *out, const uint8_t *row)
{
    if (b->bits <= 8) {
        unsigned mask = (1u << b->bits) - 1, scale = pic->mode == RECO_MODE_1 ? 255 : 1;
        for (size_t x = 0; x < pic->width; x++) {
            size_t bit = x * b->bits;
            *out++ = (uint8_t)(((unsigned)row[bit / 8] >> (8 - b->bits - bit % 8) & mask) * scale);
        }
        return;
    }
    channel c[4];
    size_t bands = reco_mode_bytes(pic->mode), step = b->bits / 8;
    for (size_t i = 0; i < bands; i++) c[i] = channel_of(b->mask[i]);
    for (size_t x = 0; x < pic->width; x++, row += step) {
        uint32_t sample = read_little_endian(row, step);
        for (size_t i = 0; i < bands; i++) *out++ = level(sample, c[i]);
    }
}

static reco_status read_rows(reco_ctx *ctx, const bmp *b, reco_picture *pic)
{
    size_t bits, stride, need, row;
    if (!reco_mul(pic->width, b->bits, &bits) || !reco_add(bits, 31, &stride)) return truncated(ctx, b);
    stride = stride / 32 * 4;
    if (!reco_mul(stride, pic->height - 1, &need) || !reco_add(need, (bits + 7) / 8, &need) ||
        b->pixels > b->in->bytes || b->in->bytes - b->pixels < need)
        return truncated(ctx, b);
    RECO_TRY(reco_picture_alloc(ctx, pic));
    row = pic->width * reco_mode_bytes(pic->mode);
    for (size_t y = 0; y < pic->height; y++)
        unpack_row(b, pic, pic->pixels.data + (b->top_down ? y : pic->height - 1 - y) * row,
                   b->in->data + b->pixels + y * stride);
    return RECO_OK;
}

/* Runs to `out`, in the order of the file; what they pass over is 0. false: the file ends before its end is said. */
static bool expand(const bmp *b, uint8_t *out, size_t width, size_t total)
{
    const uint8_t *d = b->in->data;
    size_t at = b->pixels, end = b->in->bytes, n = 0, x = 0;
    bool half = b->compression == RLE4;
    while (n < total) {
        if (at > end || end - at < 2) return false;
        size_t count = d[at], value = d[at + 1];
        at += 2;
        if (count > 0) {
            count = reco_min(reco_min(count, width - reco_min(x, width)), total - n);
            for (size_t i = 0; i < count; i++)
                out[n++] = (uint8_t)(!half ? value : i % 2 ? value & 15 : value >> 4);
            x += count;
        } else if (value == 0) {
            n = reco_min((n + width - 1) / width * width, total);
            x = 0;
        } else if (value == 1) {
            return true;
        } else if (value == 2) {
            if (end - at < 2) return false;
            n += reco_min(d[at] + d[at + 1] * width, total - n);
            x = n % width;
            at += 2;
        } else {
            size_t pixels = reco_min(value, total - n), bytes = half ? (pixels + 1) / 2 : pixels;
            if (end - at < bytes) return false;
            for (size_t i = 0; i < pixels; i++)
                out[n++] = (uint8_t)(!half ? d[at + i] : i % 2 ? d[at + i / 2] & 15 : d[at + i / 2] >> 4);
            at += bytes;
            x += value;
            at += at % 2; /* Pillow counts from the file's start */
        }
    }
    return true;
}

static reco_status read_runs(reco_ctx *ctx, const bmp *b, reco_picture *pic)
{
    RECO_TRY(reco_picture_alloc(ctx, pic));
    size_t w = pic->width, h = pic->height;
    uint8_t *p = pic->pixels.data;
    memset(p, 0, w * h);
    if (!expand(b, p, w, w * h)) return truncated(ctx, b);
    if (b->top_down) return RECO_OK;
    for (size_t y = 0; y < h / 2; y++)
        for (size_t x = 0; x < w; x++) {
            uint8_t *upper = p + y * w + x, *lower = p + (h - 1 - y) * w + x, t = *upper;
            *upper = *lower;
            *lower = t;
        }
    return RECO_OK;
}

reco_status reco_decode_bmp(reco_ctx *ctx, reco_picture *pic, const reco_encoded *in)
{
    bmp b = {.in = in};
    if (in->bytes < FILE_HEADER + 4) return truncated(ctx, &b);
    RECO_TRY(read_bmp_header(ctx, &b, pic));
    reco_status status =
        b.compression == RLE8 || b.compression == RLE4 ? read_runs(ctx, &b, pic) : read_rows(ctx, &b, pic);
    if (status != RECO_OK) reco_buffer_drop(&pic->pixels);
    return status;
}
