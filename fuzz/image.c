/* A picture is refused or becomes pixels, whatever the settings. The first byte chooses these. */
#include "reco/image.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static uint8_t out[24 * 24 * 3];
    static reco_ctx *ctx;
    if (!ctx && reco_ctx_create(&ctx, NULL) != RECO_OK) abort();
    if (bytes == 0) return 0;
    reco_preprocess pre = {.size = data[0] & 1 ? 24 : 13,
                           .crop = 24,
                           .mode = (reco_resize_mode)(data[0] / 2 % 3),
                           .filter = data[0] & 8 ? RECO_FILTER_BICUBIC : RECO_FILTER_BILINEAR,
                           .fill = 9,
                           .convert_first = data[0] >> 4 & 1,
                           .crop_floor = data[0] >> 5 & 1,
                           .upright = data[0] >> 6 & 1};
    reco_image_limits limits = {.max_pixels = 1 << 16};
    reco_image_decode_rgb(ctx, out, "fuzz", data + 1, bytes - 1, &pre, &limits);
    return 0;
}
