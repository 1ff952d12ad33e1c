#include "image/picture.h"

#include <limits.h>
#include <math.h>

/* Where one axis of the resized picture, n long, lies in the crop: [skip, skip+len) of it goes to pad. */
typedef struct placement {
    size_t skip, pad, len;
} placement;

/* torchvision rounds halves of the skip to even and the pad down; Hugging Face the skip down and the pad up. */
static placement place_crop(size_t n, size_t crop, int floored)
{
    if (n < crop) return (placement){0, (crop - n + (floored ? 1 : 0)) / 2, n};
    size_t spare = n - crop, skip = spare / 2;
    if (!floored && spare % 2) skip += skip % 2;
    return (placement){skip, 0, crop};
}

/* Resized lengths, truncated (torchvision, Hugging Face) or rounded half to even (open_clip's longest edge). */
static reco_status target(reco_ctx *ctx, const char *path, const reco_picture *pic,
                          const reco_preprocess *pre, reco_window *win)
{
    double w = (double)pic->width, h = (double)pic->height, size = (double)pre->size;
    double tw = size, th = size;
    if (pre->mode == RECO_RESIZE_SHORTEST) {
        if (w <= h)
            th = floor(size * h / w);
        else
            tw = floor(size * w / h);
    } else if (pre->mode == RECO_RESIZE_LONGEST) {
        double rw = w / size, rh = h / size, ratio = rw > rh ? rw : rh;
        tw = rint(w / ratio);
        th = rint(h / ratio);
    }
    if (tw < 1 || th < 1 || tw > INT_MAX || th > INT_MAX)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: %zu x %zu pixels cannot be resized to %.0f x %.0f", path,
                         pic->width, pic->height, tw, th);
    win->width = (size_t)tw;
    win->height = (size_t)th;
    return RECO_OK;
}

static reco_status check_preprocess(reco_ctx *ctx, const reco_preprocess *pre)
{
    if (pre->size < 1 || pre->size > 4096)
        return reco_fail(ctx, RECO_E_ARG, "preprocess: size = %zu, want 1..4096", pre->size);
    if (pre->crop > 4096)
        return reco_fail(ctx, RECO_E_ARG, "preprocess: crop = %zu, want 0..4096", pre->crop);
    if (pre->filter != RECO_FILTER_BICUBIC && pre->filter != RECO_FILTER_BILINEAR)
        return reco_fail(ctx, RECO_E_ARG, "preprocess: filter = %d, want 2 (bilinear) or 3 (bicubic)",
                         (int)pre->filter);
    if (pre->mode != RECO_RESIZE_SHORTEST && pre->mode != RECO_RESIZE_LONGEST &&
        pre->mode != RECO_RESIZE_SQUASH)
        return reco_fail(ctx, RECO_E_ARG, "preprocess: resize mode = %d, want 0..2", (int)pre->mode);
    if (pre->crop == 0 && pre->mode == RECO_RESIZE_SHORTEST)
        return reco_fail(ctx, RECO_E_ARG,
                         "preprocess: no crop after resizing the shortest edge, want a square");
    if (pre->fill < 0 || pre->fill > 255)
        return reco_fail(ctx, RECO_E_ARG, "preprocess: fill = %d, want 0..255", pre->fill);
    return RECO_OK;
}

/* Lay `part` into a crop x crop picture of the same mode, every band of the rest filled alike. (That makes CMYK
 * padding of 0 white: so do Pillow and torchvision.) */
static reco_status pad(reco_ctx *ctx, reco_picture *pic, const reco_picture *part, size_t crop, int fill,
                       size_t left, size_t top)
{
    *pic = (reco_picture){.mode = part->mode, .width = crop, .height = crop};
    memcpy(pic->palette, part->palette, sizeof pic->palette);
    RECO_TRY(reco_picture_alloc(ctx, pic));
    size_t bytes = reco_mode_bytes(pic->mode), row = part->width * bytes;
    uint8_t *p = pic->pixels.data;
    memset(p, fill, crop * crop * bytes);
    if (pic->mode == RECO_MODE_I16)
        for (size_t i = 0; i < crop * crop; i++) memcpy(p + 2 * i, &(uint16_t){(uint16_t)fill}, 2);
    for (size_t y = 0; y < part->height; y++)
        memcpy(p + ((top + y) * crop + left) * bytes, part->pixels.data + y * row, row);
    return RECO_OK;
}

/* Convert, resize, crop. *pic is worn out by it. */
static reco_status shape(reco_ctx *ctx, uint8_t *out, const char *path, reco_picture *pic,
                         const reco_preprocess *pre)
{
    size_t crop = pre->crop ? pre->crop : pre->size;
    reco_picture part = {0}, whole = {0};
    reco_window win;
    reco_status status;
    if (pre->convert_first) RECO_GO(reco_picture_flatten(ctx, pic, true));
    RECO_GO(target(ctx, path, pic, pre, &win));
    placement px = place_crop(win.width, crop, pre->crop_floor),
              py = place_crop(win.height, crop, pre->crop_floor);
    win.x = px.skip, win.w = px.len;
    win.y = py.skip, win.h = py.len;
    status = reco_resize(ctx, &part, pic, pre->filter, &win);
    if (status != RECO_OK) {
        reco_fail_prefix(ctx, status, path);
        goto out;
    }
    int fill = pre->mode == RECO_RESIZE_LONGEST ? pre->fill : 0;
    RECO_GO(pad(ctx, &whole, &part, crop, fill, px.pad, py.pad));
    RECO_GO(reco_picture_flatten(ctx, &whole, false));
    reco_picture_rgb(out, &whole);
out:
    reco_buffer_drop(&whole.pixels);
    reco_buffer_drop(&part.pixels);
    return status;
}

static size_t most_pixels(const reco_image_limits *limits)
{
    return limits && limits->max_pixels ? limits->max_pixels : RECO_IMAGE_MAX_PIXELS;
}

reco_status reco_image_decode_rgb(reco_ctx *ctx, uint8_t *out, const char *path, const void *data,
                                  size_t bytes, const reco_preprocess *pre, const reco_image_limits *limits)
{
    RECO_TRY(check_preprocess(ctx, pre));
    reco_encoded in = {path, data, bytes, most_pixels(limits), pre->upright != 0};
    reco_picture pic = {0};
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status;
    RECO_GO(reco_decode(ctx, &pic, &in));
    RECO_GO(shape(ctx, out, path, &pic, pre));
out:
    reco_buffer_drop(&pic.pixels);
    reco_scratch_release(ctx, mark);
    return status;
}

reco_status reco_image_shape_rgb(reco_ctx *ctx, uint8_t *out, const char *name, const uint8_t *pixels,
                                 size_t height, size_t width, const reco_preprocess *pre,
                                 const reco_image_limits *limits)
{
    RECO_TRY(check_preprocess(ctx, pre));
    reco_encoded in = {.path = name, .max_pixels = most_pixels(limits)};
    RECO_TRY(reco_picture_check(ctx, &in, width, height));
    reco_picture pic = {.mode = RECO_MODE_RGB, .width = width, .height = height};
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status;
    RECO_GO(reco_picture_alloc(ctx, &pic)); /* a copy: resizing reads past the end of it */
    memcpy(pic.pixels.data, pixels, height * width * 3);
    RECO_GO(shape(ctx, out, name, &pic, pre));
out:
    reco_buffer_drop(&pic.pixels);
    reco_scratch_release(ctx, mark);
    return status;
}
