#include "image/picture.h"

/* The formats tell their size in as many ways as there are formats, and turning may swap it: what is decoded knows. */
reco_status reco_image_size(reco_ctx *ctx, const char *path, const void *data, size_t bytes,
                            const reco_image_limits *limits, int upright, size_t *width, size_t *height)
{
    reco_picture pic = {0};
    reco_encoded in = {path, data, bytes,
                       limits && limits->max_pixels ? limits->max_pixels : RECO_IMAGE_MAX_PIXELS,
                       upright != 0};
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status = reco_decode(ctx, &pic, &in);
    if (status == RECO_OK) {
        *width = pic.width;
        *height = pic.height;
    }
    reco_buffer_drop(&pic.pixels);
    reco_scratch_release(ctx, mark);
    return status;
}
