#include "image/picture.h"

#include <webp/decode.h>
#include <webp/demux.h>

static unsigned find_webp_orientation(const WebPData *data)
{
    WebPDemuxer *file = WebPDemux(data);
    if (!file) return 0;
    WebPChunkIterator chunk;
    unsigned turn = 0;
    if (WebPDemuxGetChunk(file, "EXIF", 1, &chunk)) {
        turn = reco_exif_orientation(chunk.chunk.bytes, chunk.chunk.size);
        WebPDemuxReleaseChunkIterator(&chunk);
    }
    if (!turn && WebPDemuxGetChunk(file, "XMP ", 1, &chunk)) {
        turn = reco_xmp_orientation(chunk.chunk.bytes, chunk.chunk.size);
        WebPDemuxReleaseChunkIterator(&chunk);
    }
    WebPDemuxDelete(file);
    return turn;
}

/* As Pillow: through the animation decoder, so that a first frame smaller than its canvas lies where it should, and
 * a file cut short anywhere is refused. */
reco_status reco_decode_webp(reco_ctx *ctx, reco_picture *pic, const reco_encoded *in)
{
    reco_status status = RECO_OK;
    WebPAnimDecoder *decoder = NULL;
    WebPData data = {in->data, in->bytes};
    WebPBitstreamFeatures features;
    WebPAnimInfo info;
    uint8_t *canvas;
    int timestamp;
    VP8StatusCode code = WebPGetFeatures(in->data, in->bytes, &features);
    if (code != VP8_STATUS_OK) {
        status = reco_fail(ctx, RECO_E_FORMAT, "%s: damaged WebP: %s", in->path,
                           code == VP8_STATUS_NOT_ENOUGH_DATA ? "image file is truncated" : "bad header");
        goto out;
    }
    RECO_GO(reco_picture_check(ctx, in, (size_t)features.width, (size_t)features.height));
    decoder = WebPAnimDecoderNew(&data, NULL);
    if (!decoder || !WebPAnimDecoderGetInfo(decoder, &info)) {
        status = reco_fail(ctx, RECO_E_FORMAT, "%s: damaged or truncated WebP", in->path);
        goto out;
    }
    RECO_GO(reco_picture_check(ctx, in, info.canvas_width, info.canvas_height));
    if (!WebPAnimDecoderGetNext(decoder, &canvas, &timestamp)) {
        status = reco_fail(ctx, RECO_E_FORMAT, "%s: damaged WebP: cannot decode the first frame", in->path);
        goto out;
    }
    pic->mode = features.has_alpha ? RECO_MODE_RGBA : RECO_MODE_RGB;
    pic->width = info.canvas_width;
    pic->height = info.canvas_height;
    RECO_GO(reco_picture_alloc(ctx, pic));
    if (in->upright) pic->turn = find_webp_orientation(&data);
    size_t pixels = pic->width * pic->height;
    if (features.has_alpha)
        memcpy(pic->pixels.data, canvas, pixels * 4);
    else
        for (size_t i = 0; i < pixels; i++) memcpy(pic->pixels.data + 3 * i, canvas + 4 * i, 3);
out:
    WebPAnimDecoderDelete(decoder);
    return status;
}
