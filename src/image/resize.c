#include "image/picture.h"

/* Input position of outputs [from, from+n). Pillow adds up the step instead of multiplying, so sums must start at
 * output 0 for its rounding errors to be ours. */
static void nearest_positions(size_t *at, size_t in, size_t out, size_t from, size_t n)
{
    double step = (double)in / (double)out, x = 0.0 + step * 0.5;
    for (size_t i = 0; i < from; i++) x += step;
    for (size_t i = 0; i < n; i++, x += step) at[i] = reco_min((size_t)x, in - 1);
}

static reco_status nearest(reco_ctx *ctx, reco_picture *out, const reco_picture *in, const reco_window *win)
{
    size_t *xs = reco_scratch(ctx, win->w, sizeof *xs, "resize positions");
    size_t *ys = reco_scratch(ctx, win->h, sizeof *ys, "resize positions");
    if (!xs || !ys) return RECO_E_NOMEM;
    nearest_positions(xs, in->width, win->width, win->x, win->w);
    nearest_positions(ys, in->height, win->height, win->y, win->h);
    uint8_t *to = out->pixels.data;
    for (size_t y = 0; y < win->h; y++)
        for (size_t x = 0; x < win->w; x++) *to++ = in->pixels.data[ys[y] * in->width + xs[x]];
    return RECO_OK;
}

/* One pass of either kind over pixels of `bytes` bytes. */
static void across(uint8_t *out, const uint8_t *in, size_t stride, size_t rows, size_t bytes,
                   const reco_weights *w)
{
    if (w->exact)
        reco_resize_h16((void *)out, (const void *)in, stride, rows, w);
    else
        reco_resize_h8(out, in, stride, rows, bytes, w);
}

static void down(uint8_t *out, const uint8_t *in, size_t stride, size_t row, const reco_weights *w)
{
    if (w->exact)
        reco_resize_v16((void *)out, (const void *)in, stride, row, w);
    else
        reco_resize_v8(out, in, stride, row, w);
}

/* Each pass rounds to bytes, so their order shows. Pillow goes across first and, since version 13, down first when
 * the height shrinks by more than twice what the width does; a pass that would not change the size is left out. */
static reco_status two_passes(reco_ctx *ctx, reco_picture *out, const reco_picture *in, reco_filter filter,
                              const reco_window *win)
{
    bool fixed = in->mode != RECO_MODE_I16;
    size_t bytes = reco_mode_bytes(in->mode), stride = in->width * bytes, row = win->w * bytes;
    size_t x = win->x, y = win->y, w = win->w, h = win->h; /* what is needed of the input */
    uint8_t *to = out->pixels.data;
    reco_buffer between = {0};
    reco_status status = RECO_OK;
    reco_weights wx, wy;
    bool need_x = win->width != in->width, need_y = win->height != in->height;
    if (need_x) {
        RECO_TRY(reco_weights_make(ctx, &wx, filter, in->width, win->width, win->x, win->w, fixed));
        x = wx.first[0];
        w = wx.first[win->w - 1] + wx.count[win->w - 1] - x;
    }
    if (need_y) {
        RECO_TRY(reco_weights_make(ctx, &wy, filter, in->height, win->height, win->y, win->h, fixed));
        y = wy.first[0];
        h = wy.first[win->h - 1] + wy.count[win->h - 1] - y;
    }
    const uint8_t *from = in->pixels.data + y * stride + x * bytes;
    if (!need_y) {
        across(to, from, stride, win->h, bytes, &wx);
    } else if (!need_x) {
        down(to, from, stride, row, &wy);
    } else if ((double)in->height - (double)win->height > 2 * ((double)in->width - (double)win->width) &&
               win->height < in->height) {
        RECO_GO(reco_buffer_get(ctx, &between, win->h * w * bytes, "resize rows"));
        down(between.data, from, stride, w * bytes, &wy);
        across(to, between.data, w * bytes, win->h, bytes, &wx);
    } else {
        RECO_GO(reco_buffer_get(ctx, &between, h * row, "resize rows"));
        across(between.data, from, stride, h, bytes, &wx);
        down(to, between.data, row, row, &wy);
    }
out:
    reco_buffer_drop(&between);
    return status;
}

reco_status reco_resize(reco_ctx *ctx, reco_picture *out, reco_picture *in, reco_filter filter,
                        const reco_window *win)
{
    out->mode = in->mode;
    out->width = win->w;
    out->height = win->h;
    memcpy(out->palette, in->palette, sizeof out->palette);
    RECO_TRY(reco_picture_alloc(ctx, out));
    size_t bytes = reco_mode_bytes(in->mode);
    if (win->width == in->width && win->height == in->height) {
        for (size_t y = 0; y < win->h; y++)
            memcpy(out->pixels.data + y * win->w * bytes,
                   in->pixels.data + ((win->y + y) * in->width + win->x) * bytes, win->w * bytes);
        return RECO_OK;
    }
    if (in->mode == RECO_MODE_1 || in->mode == RECO_MODE_P) return nearest(ctx, out, in, win);
    /* Colours hidden under alpha 0 must not bleed into their neighbours. */
    bool alpha = in->mode == RECO_MODE_LA || in->mode == RECO_MODE_RGBA;
    if (alpha) reco_premultiply(in);
    RECO_TRY(two_passes(ctx, out, in, filter, win));
    if (alpha) reco_unpremultiply(out);
    return RECO_OK;
}
