#include "image/picture.h"

#include <gif_lib.h>

#define NO_KEY (-1)

typedef struct gif {
    const reco_encoded *in;
    size_t at;
    GifFileType *file;
    int key; /* the transparent index, or NO_KEY */
} gif;

static int read_bytes(GifFileType *file, GifByteType *to, int n)
{
    gif *g = file->UserData;
    size_t take = reco_min((size_t)n, g->in->bytes - g->at);
    memcpy(to, g->in->data + g->at, take);
    g->at += take;
    return (int)take;
}

static reco_status damaged_gif(reco_ctx *ctx, const gif *g)
{
    if (g->at == g->in->bytes)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: damaged GIF: image file is truncated", g->in->path);
    const char *why = g->file && g->file->Error ? GifErrorString(g->file->Error) : NULL;
    return reco_fail(ctx, RECO_E_FORMAT, "%s: damaged GIF: %s", g->in->path, why ? why : "bad header");
}

/* Up to the first picture's description. */
static reco_status seek(reco_ctx *ctx, gif *g)
{
    for (;;) {
        GifRecordType record;
        if (DGifGetRecordType(g->file, &record) != GIF_OK) return damaged_gif(ctx, g);
        if (record == TERMINATE_RECORD_TYPE)
            return reco_fail(ctx, RECO_E_FORMAT, "%s: GIF without a picture", g->in->path);
        if (record == IMAGE_DESC_RECORD_TYPE)
            return DGifGetImageDesc(g->file) == GIF_OK ? RECO_OK : damaged_gif(ctx, g);
        if (record != EXTENSION_RECORD_TYPE) continue;
        int code;
        GifByteType *block;
        if (DGifGetExtension(g->file, &code, &block) != GIF_OK) return damaged_gif(ctx, g);
        if (code == GRAPHICS_EXT_FUNC_CODE && block && block[0] >= 4)
            g->key = block[1] & 1 ? block[4] : NO_KEY;
        while (block)
            if (DGifGetExtensionNext(g->file, &block) != GIF_OK) return damaged_gif(ctx, g);
    }
}

/* A palette of the greys in order is none to Pillow: the picture is grey, and resized as one. */
static void set_colours(reco_picture *pic, const ColorMapObject *map, int key)
{
    pic->mode = RECO_MODE_L;
    for (int i = 0; i < 256; i++) pic->palette[i][3] = 255;
    for (int i = 0; map && i < map->ColorCount && i < 256; i++) {
        GifColorType c = map->Colors[i];
        if (c.Red != i || c.Green != i || c.Blue != i) pic->mode = RECO_MODE_P;
        memcpy(pic->palette[i], (uint8_t[3]){c.Red, c.Green, c.Blue}, 3);
    }
    if (key == NO_KEY) return;
    pic->palette[key][3] = 0;
    pic->keyed = pic->mode == RECO_MODE_L;
    pic->key[0] = (uint8_t)key;
}

static reco_status read_lines(reco_ctx *ctx, gif *g, reco_picture *pic)
{
    static const size_t first[] = {0, 4, 2, 1}, step[] = {8, 8, 4, 2};
    const GifImageDesc *image = &g->file->Image;
    size_t left = (size_t)image->Left, top = (size_t)image->Top, h = (size_t)image->Height;
    size_t passes = image->Interlace ? 4 : 1;
    for (size_t pass = 0; pass < passes; pass++)
        for (size_t y = image->Interlace ? first[pass] : 0; y < h; y += image->Interlace ? step[pass] : 1) {
            uint8_t *line = pic->pixels.data + (top + y) * pic->width + left;
            if (DGifGetLine(g->file, line, image->Width) != GIF_OK) return damaged_gif(ctx, g);
        }
    return RECO_OK;
}

/* The first frame on its canvas, as Pillow lays it: what it does not cover is transparent, or index 0. */
static reco_status decode_first_frame(reco_ctx *ctx, gif *g, reco_picture *pic)
{
    RECO_TRY(seek(ctx, g));
    const GifImageDesc *image = &g->file->Image;
    if (image->Left < 0 || image->Top < 0 || image->Width <= 0 || image->Height <= 0)
        return damaged_gif(ctx, g);
    pic->width = reco_max((size_t)g->file->SWidth, (size_t)image->Left + (size_t)image->Width);
    pic->height = reco_max((size_t)g->file->SHeight, (size_t)image->Top + (size_t)image->Height);
    RECO_TRY(reco_picture_check(ctx, g->in, pic->width, pic->height));
    set_colours(pic, image->ColorMap ? image->ColorMap : g->file->SColorMap, g->key);
    RECO_TRY(reco_picture_alloc(ctx, pic));
    memset(pic->pixels.data, g->key == NO_KEY ? 0 : g->key, pic->width * pic->height);
    return read_lines(ctx, g, pic);
}

reco_status reco_decode_gif(reco_ctx *ctx, reco_picture *pic, const reco_encoded *in)
{
    gif g = {.in = in, .key = NO_KEY};
    int error = 0;
    g.file = DGifOpen(&g, read_bytes, &error);
    reco_status status = g.file ? decode_first_frame(ctx, &g, pic) : damaged_gif(ctx, &g);
    if (g.file) DGifCloseFile(g.file, &error);
    if (status != RECO_OK) reco_buffer_drop(&pic->pixels);
    return status;
}
