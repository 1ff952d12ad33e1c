#include "image/picture.h"

#include <avif/avif.h>

/* A file's own rotation and mirror say what an orientation says elsewhere, and Pillow takes them for one. */
static unsigned turn_of(const avifImage *image)
{
    static const unsigned turned[4] = {1, 8, 3, 6}, tops[4] = {4, 5, 2, 7}, sides[4] = {2, 7, 4, 5};
    unsigned angle = image->transformFlags & AVIF_TRANSFORM_IROT ? image->irot.angle & 3u : 0;
    if (!(image->transformFlags & AVIF_TRANSFORM_IMIR)) return turned[angle];
#if AVIF_VERSION < 1000000
    unsigned axis = image->imir.mode;
#else
    unsigned axis = image->imir.axis;
#endif
    return axis ? sides[angle] : tops[angle];
}

static reco_status damaged_avif(reco_ctx *ctx, const reco_encoded *in, avifResult result)
{
    bool cut = result == AVIF_RESULT_TRUNCATED_DATA;
    return reco_fail(ctx, result == AVIF_RESULT_OUT_OF_MEMORY ? RECO_E_NOMEM : RECO_E_FORMAT,
                     "%s: damaged AVIF: %s", in->path,
                     cut ? "image file is truncated" : avifResultToString(result));
}

/* As Pillow decodes: both tolerate what other programs leave out. */
static avifResult parse_avif(avifDecoder *decoder, const reco_encoded *in)
{
    decoder->maxThreads = 1;
    decoder->ignoreExif = decoder->ignoreXMP = AVIF_TRUE;
    decoder->strictFlags &= ~(avifStrictFlags)(AVIF_STRICT_CLAP_VALID | AVIF_STRICT_PIXI_REQUIRED);
    decoder->imageSizeLimit = (uint32_t)reco_min(in->max_pixels, AVIF_DEFAULT_IMAGE_SIZE_LIMIT);
    avifResult result = avifDecoderSetIOMemory(decoder, in->data, in->bytes);
    return result == AVIF_RESULT_OK ? avifDecoderParse(decoder) : result;
}

reco_status reco_decode_avif(reco_ctx *ctx, reco_picture *pic, const reco_encoded *in)
{
    reco_status status = RECO_OK;
    avifDecoder *decoder = avifDecoderCreate();
    if (!decoder) return reco_fail_nomem(ctx, 0, "AVIF decoder");
    avifResult result = parse_avif(decoder, in);
    if (result != AVIF_RESULT_OK) RECO_GO(damaged_avif(ctx, in, result));
    RECO_GO(reco_picture_check(ctx, in, decoder->image->width, decoder->image->height));
    if ((result = avifDecoderNextImage(decoder)) != AVIF_RESULT_OK) RECO_GO(damaged_avif(ctx, in, result));
    pic->mode = decoder->alphaPresent ? RECO_MODE_RGBA : RECO_MODE_RGB;
    pic->width = decoder->image->width;
    pic->height = decoder->image->height;
    RECO_GO(reco_picture_check(ctx, in, pic->width, pic->height));
    RECO_GO(reco_picture_alloc(ctx, pic));
    avifRGBImage rgb;
    avifRGBImageSetDefaults(&rgb, decoder->image);
    rgb.depth = 8;
    rgb.format = decoder->alphaPresent ? AVIF_RGB_FORMAT_RGBA : AVIF_RGB_FORMAT_RGB;
    rgb.pixels = pic->pixels.data;
    rgb.rowBytes = (uint32_t)(pic->width * reco_mode_bytes(pic->mode));
    if ((result = avifImageYUVToRGB(decoder->image, &rgb)) != AVIF_RESULT_OK)
        RECO_GO(damaged_avif(ctx, in, result));
    if (in->upright) pic->turn = turn_of(decoder->image);
out:
    avifDecoderDestroy(decoder);
    if (status != RECO_OK) reco_buffer_drop(&pic->pixels);
    return status;
}
