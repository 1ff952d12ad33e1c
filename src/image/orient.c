#include "image/picture.h"

#define ORIENTATION 0x0112

static unsigned read_exif_number(const uint8_t *p, bool big, size_t n)
{
    unsigned value = 0;
    for (size_t i = 0; i < n; i++) value |= (unsigned)p[i] << 8 * (big ? n - 1 - i : i);
    return value;
}

unsigned reco_exif_orientation(const uint8_t *data, size_t bytes)
{
    while (bytes >= 6 && memcmp(data, "Exif\0\0", 6) == 0) data += 6, bytes -= 6;
    if (bytes < 8 || (memcmp(data, "II", 2) != 0 && memcmp(data, "MM", 2) != 0)) return 0;
    bool big = data[0] == 'M';
    size_t at = read_exif_number(data + 4, big, 4);
    if (at > bytes || bytes - at < 2) return 0;
    unsigned entries = read_exif_number(data + at, big, 2);
    for (at += 2; entries-- && bytes - at >= 12; at += 12) {
        const uint8_t *entry = data + at;
        unsigned type = read_exif_number(entry + 2, big, 2);
        if (read_exif_number(entry, big, 2) != ORIENTATION || read_exif_number(entry + 4, big, 4) != 1)
            continue;
        unsigned value = type == 3   ? read_exif_number(entry + 8, big, 2)
                         : type == 4 ? read_exif_number(entry + 8, big, 4)
                                     : entry[8];
        return value >= 1 && value <= 8 ? value : 0;
    }
    return 0;
}

unsigned reco_xmp_orientation(const uint8_t *data, size_t bytes)
{
    static const char *const starts[] = {"tiff:Orientation=\"", "tiff:Orientation>"};
    const uint8_t *best = NULL;
    for (size_t i = 0; i < 2; i++) {
        size_t n = strlen(starts[i]);
        const uint8_t *at = bytes ? memmem(data, bytes, starts[i], n) : NULL;
        if (at && (!best || at + n < best) && at + n < data + bytes && at[n] >= '1' && at[n] <= '8')
            best = at + n;
    }
    return best ? (unsigned)(*best - '0') : 0;
}

/* Squares small enough that both sides of a turn by 90 degrees stay in the cache. */
#define SQUARE ((size_t)32)

/* Where in the turned picture the pixel (x, y) of the old one goes: start + x * right + y * down. */
typedef struct path {
    ptrdiff_t start, right, down;
} path;

static path path_of_turn(unsigned turn, size_t width, size_t height)
{
    ptrdiff_t w = (ptrdiff_t)width, h = (ptrdiff_t)height;
    switch (turn) {
    case 2:
        return (path){w - 1, -1, w};
    case 3:
        return (path){w * h - 1, -1, -w};
    case 4:
        return (path){w * (h - 1), 1, -w};
    case 5:
        return (path){0, h, 1};
    case 6:
        return (path){h - 1, h, -1};
    case 7:
        return (path){w * h - 1, -h, -1};
    default: /* 8 */
        return (path){h * (w - 1), -h, 1};
    }
}

reco_status reco_picture_turn(reco_ctx *ctx, reco_picture *pic)
{
    if (pic->turn < 2 || pic->turn > 8) return RECO_OK;
    size_t w = pic->width, h = pic->height, n = reco_mode_bytes(pic->mode);
    reco_buffer old = pic->pixels;
    path to = path_of_turn(pic->turn, w, h);
    reco_status status = reco_picture_alloc(ctx, pic);
    if (status != RECO_OK) {
        pic->pixels = old;
        return status;
    }
    for (size_t top = 0; top < h; top += SQUARE)
        for (size_t left = 0; left < w; left += SQUARE)
            for (size_t y = top; y < reco_min(top + SQUARE, h); y++) {
                const uint8_t *from = old.data + (y * w + left) * n;
                ptrdiff_t at = to.start + (ptrdiff_t)left * to.right + (ptrdiff_t)y * to.down;
                for (size_t x = left; x < reco_min(left + SQUARE, w); x++, from += n, at += to.right)
                    memcpy(pic->pixels.data + (size_t)at * n, from, n);
            }
    if (pic->turn >= 5) {
        pic->width = h;
        pic->height = w;
    }
    pic->turn = 0;
    reco_buffer_drop(&old);
    return RECO_OK;
}
