#include "image/picture.h"

#include <stdio.h>

reco_status reco_decode(reco_ctx *ctx, reco_picture *pic, const reco_encoded *in)
{
    const uint8_t *d = in->data;
    if (in->bytes == 0)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: empty file, want a JPEG, PNG or WebP image", in->path);
    if (in->bytes >= 3 && memcmp(d, "\xff\xd8\xff", 3) == 0) return reco_decode_jpeg(ctx, pic, in);
    if (in->bytes >= 8 && memcmp(d, "\x89PNG\r\n\x1a\n", 8) == 0) return reco_decode_png(ctx, pic, in);
    if (in->bytes >= 12 && memcmp(d, "RIFF", 4) == 0 && memcmp(d + 8, "WEBP", 4) == 0)
        return reco_decode_webp(ctx, pic, in);
    char start[3 * 8 + 1] = "";
    for (size_t i = 0; i < 8 && i < in->bytes; i++) snprintf(start + 3 * i, 4, " %02x", d[i]);
    return reco_fail(ctx, RECO_E_FORMAT, "%s: not a JPEG, PNG or WebP image (starts with%s)", in->path,
                     start);
}
