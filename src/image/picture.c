#include "image/picture.h"

#define SCRATCH_MOST ((size_t)64 << 20)

reco_status reco_buffer_get(reco_ctx *ctx, reco_buffer *buffer, size_t bytes, const char *what)
{
    buffer->heap = NULL;
    if (!reco_add(bytes, RECO_BUFFER_SPARE, &bytes)) return reco_fail_nomem(ctx, SIZE_MAX, what);
    if (bytes <= SCRATCH_MOST)
        buffer->data = reco_scratch(ctx, bytes, 1, what);
    else
        buffer->data = buffer->heap = reco_alloc(ctx, bytes, 1, what);
    return buffer->data ? RECO_OK : RECO_E_NOMEM;
}

void reco_buffer_drop(reco_buffer *buffer)
{
    reco_free(buffer->heap);
    *buffer = (reco_buffer){0};
}

reco_status reco_picture_alloc(reco_ctx *ctx, reco_picture *pic)
{
    size_t bytes;
    if (!reco_mul(pic->width, pic->height, &bytes) || !reco_mul(bytes, reco_mode_bytes(pic->mode), &bytes))
        return reco_fail_nomem(ctx, SIZE_MAX, "picture");
    return reco_buffer_get(ctx, &pic->pixels, bytes, "picture");
}

reco_status reco_picture_check(reco_ctx *ctx, const reco_encoded *in, size_t width, size_t height)
{
    size_t pixels;
    if (width == 0 || height == 0)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: damaged image: %zu x %zu pixels", in->path, width,
                         height);
    if (!reco_mul(width, height, &pixels) || pixels > in->max_pixels)
        return reco_fail(ctx, RECO_E_NOMEM, "%s: %zu x %zu pixels, want at most %zu", in->path, width,
                         height, in->max_pixels);
    return RECO_OK;
}
