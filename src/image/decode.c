#include "image/picture.h"

#include <stdio.h>
#include <strings.h>

static reco_status refuse_format(reco_ctx *ctx, const reco_encoded *in, const reco_picture_format *format)
{
    if (format && format->library)
        return reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: %s is not built in: install %s and build reco again",
                         in->path, format->name, format->library);
    if (format && format->kind == RECO_IMAGE_PICTURE)
        return reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: a %s picture, a format that reco does not read",
                         in->path, format->name);
    if (format) return reco_fail(ctx, RECO_E_FORMAT, "%s: not a picture but %s", in->path, format->name);
    size_t n = strlen(in->path); /* the one format without a mark to know it by */
    if (n > 4 && strcasecmp(in->path + n - 4, ".tga") == 0)
        return reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: a Targa picture, a format that reco does not read",
                         in->path);
    char start[3 * 8 + 1] = "";
    for (size_t i = 0; i < 8 && i < in->bytes; i++) snprintf(start + 3 * i, 4, " %02x", in->data[i]);
    return reco_fail(ctx, RECO_E_FORMAT, "%s: not a picture of a known format (starts with%s)", in->path,
                     start);
}

reco_status reco_decode(reco_ctx *ctx, reco_picture *pic, const reco_encoded *in)
{
    if (in->bytes == 0) return reco_fail(ctx, RECO_E_FORMAT, "%s: empty file, want a picture", in->path);
    const reco_picture_format *format = reco_picture_format_of(in->data, in->bytes);
    if (!format || !format->decode) return refuse_format(ctx, in, format);
    RECO_TRY(format->decode(ctx, pic, in));
    return reco_picture_turn(ctx, pic);
}
