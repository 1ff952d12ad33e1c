/* image/picture.h: a decoded picture in its own mode; for image/ alone. */
#ifndef RECO_SRC_PICTURE_H
#define RECO_SRC_PICTURE_H

#include "reco/image.h"

#include "base/base.h"

/* Pillow's modes, since what a resize does depends on them. */
typedef enum reco_mode {
    RECO_MODE_1,  /* bilevel, a byte 0 or 255 each */
    RECO_MODE_L,  /* grey */
    RECO_MODE_LA, /* grey, alpha */
    RECO_MODE_P,  /* index into palette */
    RECO_MODE_RGB,
    RECO_MODE_RGBA,
    RECO_MODE_CMYK, /* 0 = no ink */
    RECO_MODE_I16   /* grey, uint16_t of the host */
} reco_mode;

/* Bytes from the scratch of a context while small, from the heap (freed after use) when large: a worker that met
 * one huge picture should not hold its memory for ever. */
typedef struct reco_buffer {
    uint8_t *data;
    void *heap;
} reco_buffer;
/* Readable past the end of what was asked for, so that a vector may hold more than the last pixel. */
#define RECO_BUFFER_SPARE 4
reco_status reco_buffer_get(reco_ctx *ctx, reco_buffer *buffer, size_t bytes, const char *what);
void reco_buffer_drop(reco_buffer *buffer);

/* Defaults of reco_image_limits. */
#define RECO_IMAGE_MAX_BYTES ((size_t)256 << 20)
#define RECO_IMAGE_MAX_PIXELS ((size_t)178956970)
/* A file's bytes; drop them after use, also after an error. */
reco_status reco_image_read(reco_ctx *ctx, reco_buffer *out, size_t *bytes, const char *path,
                            size_t max_bytes);

typedef struct reco_picture {
    reco_mode mode;
    size_t width, height;
    reco_buffer pixels;      /* [height][width][reco_mode_bytes(mode)] */
    uint8_t palette[256][4]; /* of RECO_MODE_P: RGB, alpha */
    bool keyed;              /* of the modes without alpha: pixels of colour key are transparent */
    uint8_t key[3];
    unsigned turn; /* how the pixels have to be turned: an EXIF orientation 2..8, else nothing */
} reco_picture;

static inline size_t reco_mode_bytes(reco_mode mode)
{
    switch (mode) {
    case RECO_MODE_LA:
    case RECO_MODE_I16:
        return 2;
    case RECO_MODE_RGB:
        return 3;
    case RECO_MODE_RGBA:
    case RECO_MODE_CMYK:
        return 4;
    default:
        return 1;
    }
}

/* Pixels for mode, width and height, already set in pic; not zeroed. */
reco_status reco_picture_alloc(reco_ctx *ctx, reco_picture *pic);

/* What every decoder gets: the file's bytes, its name for messages, and max_pixels, which is checked against the
 * header before anything is allocated (reco_picture_check). *pic needs no reco_buffer_drop on error. */
typedef struct reco_encoded {
    const char *path;
    const uint8_t *data;
    size_t bytes, max_pixels;
    bool upright; /* look for an orientation */
} reco_encoded;
reco_status reco_picture_check(reco_ctx *ctx, const reco_encoded *in, size_t width, size_t height);
reco_status reco_decode(reco_ctx *ctx, reco_picture *pic, const reco_encoded *in); /* by content, turned */
reco_status reco_decode_jpeg(reco_ctx *ctx, reco_picture *pic, const reco_encoded *in);
reco_status reco_decode_png(reco_ctx *ctx, reco_picture *pic, const reco_encoded *in);
reco_status reco_decode_webp(reco_ctx *ctx, reco_picture *pic, const reco_encoded *in);
reco_status reco_decode_bmp(reco_ctx *ctx, reco_picture *pic, const reco_encoded *in);
/* These need a library, which may not have been there when reco was built. */
reco_status reco_decode_gif(reco_ctx *ctx, reco_picture *pic, const reco_encoded *in);
reco_status reco_decode_tiff(reco_ctx *ctx, reco_picture *pic, const reco_encoded *in);
reco_status reco_decode_avif(reco_ctx *ctx, reco_picture *pic, const reco_encoded *in);
reco_status reco_decode_heif(reco_ctx *ctx, reco_picture *pic, const reco_encoded *in);
reco_status reco_decode_jxl(reco_ctx *ctx, reco_picture *pic, const reco_encoded *in);

/* What a file is by its content. */
typedef struct reco_picture_format {
    reco_image_kind kind;
    const char *name;
    bool (*match)(const uint8_t *data, size_t bytes);
    reco_status (*decode)(reco_ctx *ctx, reco_picture *pic,
                          const reco_encoded *in); /* NULL: none is built in */
    const char *library;                           /* that would read it */
} reco_picture_format;
const reco_picture_format *reco_picture_format_of(const uint8_t *data, size_t bytes); /* NULL: unknown */

/* The orientation that EXIF (from its byte order mark or "Exif" on) or XMP tells, 1..8; 0: none. */
unsigned reco_exif_orientation(const uint8_t *data, size_t bytes);
unsigned reco_xmp_orientation(const uint8_t *data, size_t bytes);
/* As PIL.ImageOps.exif_transpose. */
reco_status reco_picture_turn(reco_ctx *ctx, reco_picture *pic);

/* To RGB as Pillow's convert("RGB"), which forgets transparency, or, over_white, as Hugging Face since transformers
 * 5: laid over white. The result is RGB, or L for grey pictures, whose three channels would be equal ever after. */
reco_status reco_picture_flatten(reco_ctx *ctx, reco_picture *pic, bool over_white);
/* out [pixels][3] from a flattened picture. */
void reco_picture_rgb(uint8_t *out, const reco_picture *pic);
/* RGBA to RGBa, LA to La, and back, in place, with Pillow's rounding. */
void reco_premultiply(reco_picture *pic);
void reco_unpremultiply(reco_picture *pic);

/* Weights of one axis for outputs [from, from+n) of `out` samples made from `in` samples.
 *   first[i], count[i]    the input samples that output from+i sees
 *   weight[i * taps + t]  in fixed point (RECO_WEIGHT_BITS), or exact[] as doubles when fixed is false */
typedef struct reco_weights {
    size_t n, taps;
    size_t *first, *count;
    int32_t *weight;
    double *exact;
    bool avx2; /* may be used */
} reco_weights;
#define RECO_WEIGHT_BITS 22
reco_status reco_weights_make(reco_ctx *ctx, reco_weights *w, reco_filter filter, size_t in, size_t out,
                              size_t from, size_t n, bool fixed);

/* A window of the picture that resizing `in` to width x height would give; only what the window needs is computed. */
typedef struct reco_window {
    size_t width, height; /* of the resized picture */
    size_t x, y, w, h;    /* of the window in it */
} reco_window;
/* May premultiply in's pixels in place. out is allocated. */
reco_status reco_resize(reco_ctx *ctx, reco_picture *out, reco_picture *in, reco_filter filter,
                        const reco_window *win);
/* The passes. Rows are `stride` bytes apart; in starts at the first row (column) that the weights touch,
 * w->first[0]; out is packed. horizontal: out [rows][w->n][channels]; vertical: out [w->n][row]. */
void reco_resize_h8(uint8_t *out, const uint8_t *in, size_t stride, size_t rows, size_t channels,
                    const reco_weights *w);
void reco_resize_v8(uint8_t *out, const uint8_t *in, size_t stride, size_t row, const reco_weights *w);
void reco_resize_h16(uint16_t *out, const uint16_t *in, size_t stride, size_t rows, const reco_weights *w);
void reco_resize_v16(uint16_t *out, const uint16_t *in, size_t stride, size_t row, const reco_weights *w);

#endif
