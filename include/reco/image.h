/* reco/image.h: from picture files to a model's input pixels, byte for byte as Pillow computes them. */
#ifndef RECO_IMAGE_H
#define RECO_IMAGE_H

#include "reco/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Limits on what an untrusted file may cost. 0 = default. */
typedef struct reco_image_limits {
    size_t max_bytes;  /* of the file; default 256 MiB */
    size_t max_pixels; /* width * height; default 178,956,970, where Pillow raises an error */
} reco_image_limits;

typedef enum reco_resize_mode {
    RECO_RESIZE_SHORTEST = 0, /* shortest edge to size, then centre crop */
    RECO_RESIZE_LONGEST = 1,  /* longest edge to size, then pad centred (open_clip) */
    RECO_RESIZE_SQUASH = 2    /* both edges to size */
} reco_resize_mode;

typedef enum reco_filter {
    RECO_FILTER_BICUBIC = 3,
    RECO_FILTER_BILINEAR = 2
} reco_filter; /* Pillow's numbers */

/* Preprocessing as configured in preprocessor_config.json or open_clip_config.json. */
typedef struct reco_preprocess {
    size_t size; /* resize target (shortest edge), 1..4096 */
    size_t crop; /* square crop, 1..4096; 0 = no crop (squash) */
    reco_resize_mode mode;
    reco_filter filter;
    int convert_first; /* 1: Hugging Face, to RGB over white before resizing; 0: OpenAI/open_clip, resize and crop in
                            the file's own mode (palette and bilevel then resize by nearest, as Pillow does) */
    int crop_floor; /* 1: crop offset (n - crop) / 2 floored (Hugging Face); 0: rounded half to even
                            (torchvision) */
    /* 1: first rotate the picture according to its EXIF (or XMP) orientation, as
     * PIL.ImageOps.exif_transpose does; 0: as Image.open gives it. TIFF, HEIC and JPEG XL are always
     * rotated, as in Pillow */
    int upright;
    int fill;              /* grey level 0..255 of padding in LONGEST mode */
    int rescale;           /* 1: divide by 255 */
    int normalize;         /* 1: (x - mean) / std */
    double rescale_factor; /* 1/255 where 0 */
    float mean[3], std[3];
} reco_preprocess;

/* Decode, convert, resize, crop: RGB bytes.
 *   out    [crop][crop][3] u8 ([size][size][3] when crop is 0)
 *   path   JPEG, PNG, WebP or BMP, and, where reco was built with their libraries, GIF, TIFF, AVIF, HEIC
 *          and JPEG XL; recognised by content, never by name; only the first frame of an animation
 *   data, bytes   the file's content if it is already in memory; path is then only used in messages
 * Returns RECO_OK; RECO_E_IO (missing, a directory, unreadable), RECO_E_FORMAT (not an image, truncated,
 * damaged), RECO_E_UNSUPPORTED (a format, or a variant of one, that is not supported: named), RECO_E_NOMEM
 * (above the limits), RECO_E_ARG. Messages name the file. */
RECO_API reco_status reco_image_load_rgb(reco_ctx *ctx, uint8_t *out, const char *path,
                                         const reco_preprocess *pre, const reco_image_limits *limits);
RECO_API reco_status reco_image_decode_rgb(reco_ctx *ctx, uint8_t *out, const char *path, const void *data,
                                           size_t bytes, const reco_preprocess *pre,
                                           const reco_image_limits *limits);

/* Same, from decoded pixels: convert, resize, crop.
 *   pixels  [height][width][3] u8, RGB; at most limits->max_pixels pixels
 *   name    name of the picture in messages
 * Returns RECO_OK, RECO_E_FORMAT (no pixels, or a shape that cannot be resized), RECO_E_NOMEM, RECO_E_ARG. */
RECO_API reco_status reco_image_shape_rgb(reco_ctx *ctx, uint8_t *out, const char *name,
                                          const uint8_t *pixels, size_t height, size_t width,
                                          const reco_preprocess *pre, const reco_image_limits *limits);

/* Make a thumbnail: at most edge pixels wide and high (1..4096), never enlarged, over white, as a JPEG in
 * memory.
 *   jpeg   [bytes]; free with reco_free
 * upright as in reco_preprocess; errors as reco_image_load_rgb. */
RECO_API reco_status reco_image_thumbnail(reco_ctx *ctx, const char *path, const reco_image_limits *limits,
                                          size_t edge, int upright, unsigned char **jpeg, size_t *bytes);

/* Width and height in pixels of a picture in memory, which is decoded for this. path: its name in messages;
 * upright and errors as above. */
RECO_API reco_status reco_image_size(reco_ctx *ctx, const char *path, const void *data, size_t bytes,
                                     const reco_image_limits *limits, int upright, size_t *width,
                                     size_t *height);

typedef enum reco_image_kind {
    RECO_IMAGE_UNKNOWN = 0,
    RECO_IMAGE_PICTURE = 1, /* a picture, whether or not this build reads its format */
    RECO_IMAGE_POINTER = 2, /* placeholder for a file that was not fetched: git-lfs, git-annex, DVC */
    RECO_IMAGE_OTHER = 3    /* a text, a page, an archive, a video */
} reco_image_kind;

/* Identify a file by its first bytes (RECO_IMAGE_SNIFF are enough, or the whole file if it is shorter).
 *   name   NULL: not wanted. "JPEG", "HEIC", "a git-lfs pointer: ...", "an HTML page"; NULL if unknown.
 *          Static */
#define RECO_IMAGE_SNIFF 1024
RECO_API reco_image_kind reco_image_sniff(const void *data, size_t bytes, const char **name);

/* The formats that this build reads, by name: i from 0, NULL at the end. Static. */
RECO_API const char *reco_image_reads(size_t i);

/* Convert bytes to the tower's input: rescale and normalise.
 *   out    [3][side][side] f32 (channels first)
 *   rgb    [side][side][3] */
RECO_API void reco_image_normalize(float *out, const uint8_t *rgb, size_t side, const reco_preprocess *pre);

#ifdef __cplusplus
}
#endif
#endif
