#include "image/picture.h"

#include <stdlib.h>

#include <jxl/decode.h>

/* The library keeps up to this much for each pixel (floats of all channels, and filters' copies), and tables beside. */
#define MOST_EACH ((size_t)64)
#define MOST_BESIDE ((size_t)256 << 20)

/* Memory is counted, since the library has no limit of its own. */
typedef struct budget {
    size_t used, most;
} budget;

static void *alloc_in_budget(void *user, size_t bytes)
{
    budget *b = user;
    size_t *block, whole;
    if (!reco_add(bytes, 16, &whole) || whole > b->most - b->used) return NULL;
    if (!(block = malloc(whole))) return NULL;
    b->used += whole;
    *block = whole;
    return (char *)block + 16;
}

static void give(void *user, void *memory)
{
    if (!memory) return;
    budget *b = user;
    size_t *block = (size_t *)(void *)((char *)memory - 16);
    b->used -= *block;
    free(block);
}

static reco_status damaged_jxl(reco_ctx *ctx, const reco_encoded *in, bool cut)
{
    return reco_fail(ctx, RECO_E_FORMAT, "%s: damaged JPEG XL%s", in->path,
                     cut ? ": image file is truncated" : "");
}

/* Grey stays grey, as in Pillow's modes; the library turns the picture upright, as the format demands. */
static reco_status start(reco_ctx *ctx, reco_picture *pic, const reco_encoded *in, JxlDecoder *jxl,
                         JxlPixelFormat *format)
{
    JxlBasicInfo info;
    size_t bytes;
    if (JxlDecoderGetBasicInfo(jxl, &info) != JXL_DEC_SUCCESS) return damaged_jxl(ctx, in, false);
    RECO_TRY(reco_picture_check(ctx, in, info.xsize, info.ysize));
    bool grey = info.num_color_channels == 1, alpha = info.alpha_bits > 0;
    pic->mode = grey ? (alpha ? RECO_MODE_LA : RECO_MODE_L) : alpha ? RECO_MODE_RGBA : RECO_MODE_RGB;
    pic->width = info.xsize;
    pic->height = info.ysize;
    *format = (JxlPixelFormat){(uint32_t)reco_mode_bytes(pic->mode), JXL_TYPE_UINT8, JXL_NATIVE_ENDIAN, 0};
    if (JxlDecoderImageOutBufferSize(jxl, format, &bytes) != JXL_DEC_SUCCESS ||
        bytes != pic->width * pic->height * reco_mode_bytes(pic->mode))
        return damaged_jxl(ctx, in, false);
    return reco_picture_alloc(ctx, pic);
}

static reco_status decode_jxl(reco_ctx *ctx, reco_picture *pic, const reco_encoded *in, JxlDecoder *jxl)
{
    JxlPixelFormat format = {0};
    if (JxlDecoderSubscribeEvents(jxl, JXL_DEC_BASIC_INFO | JXL_DEC_FULL_IMAGE) != JXL_DEC_SUCCESS ||
        JxlDecoderSetInput(jxl, in->data, in->bytes) != JXL_DEC_SUCCESS)
        return damaged_jxl(ctx, in, false);
    JxlDecoderCloseInput(jxl);
    for (;;) switch (JxlDecoderProcessInput(jxl)) {
        case JXL_DEC_BASIC_INFO:
            RECO_TRY(start(ctx, pic, in, jxl, &format));
            break;
        case JXL_DEC_NEED_IMAGE_OUT_BUFFER:
            if (!pic->pixels.data || JxlDecoderSetImageOutBuffer(
                                         jxl, &format, pic->pixels.data,
                                         pic->width * pic->height * format.num_channels) != JXL_DEC_SUCCESS)
                return damaged_jxl(ctx, in, false);
            break;
        case JXL_DEC_FULL_IMAGE: /* of an animation the first */
            return RECO_OK;
        case JXL_DEC_NEED_MORE_INPUT:
            return damaged_jxl(ctx, in, true);
        default:
            return damaged_jxl(ctx, in, false);
        }
}

reco_status reco_decode_jxl(reco_ctx *ctx, reco_picture *pic, const reco_encoded *in)
{
    budget memory = {0};
    if (!reco_mul(in->max_pixels, MOST_EACH, &memory.most) ||
        !reco_add(memory.most, MOST_BESIDE, &memory.most))
        memory.most = SIZE_MAX;
    JxlMemoryManager manager = {&memory, alloc_in_budget, give};
    JxlDecoder *jxl = JxlDecoderCreate(&manager);
    if (!jxl) return reco_fail_nomem(ctx, 0, "JPEG XL decoder");
    reco_status status = decode_jxl(ctx, pic, in, jxl);
    JxlDecoderDestroy(jxl);
    if (status != RECO_OK) reco_buffer_drop(&pic->pixels);
    return status;
}
