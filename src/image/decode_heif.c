#include "image/picture.h"

#include <libheif/heif.h>
#include <libheif/heif_version.h>

#define VERSION(major, minor) ((major) << 24 | (minor) << 16)

/* Memory that a picture may take beside its pixels: planes of more than 8 bits, tiles, reference frames. */
#define MOST_EACH ((size_t)64)
#define MOST_BESIDE ((size_t)256 << 20)

static reco_status damaged_heif(reco_ctx *ctx, const reco_encoded *in, struct heif_error error)
{
    bool plugin =
        error.code == heif_error_Unsupported_feature && error.subcode == heif_suberror_Unsupported_codec;
    if (plugin)
        return reco_fail(ctx, RECO_E_UNSUPPORTED,
                         "%s: HEIC whose codec is not installed (on Debian: libheif-plugin-libde265)",
                         in->path);
    return reco_fail(ctx, error.code == heif_error_Memory_allocation_error ? RECO_E_NOMEM : RECO_E_FORMAT,
                     "%s: damaged HEIC: %s", in->path,
                     error.message ? error.message : "it cannot be decoded");
}

static void set_limits(struct heif_context *heif, const reco_encoded *in)
{
#if LIBHEIF_NUMERIC_VERSION >= VERSION(1, 19)
    struct heif_security_limits *limits = heif_context_get_security_limits(heif);
    limits->max_image_size_pixels = in->max_pixels;
#if LIBHEIF_NUMERIC_VERSION >= VERSION(1, 20)
    if (limits->version >= 2) limits->max_total_memory = MOST_EACH * in->max_pixels + MOST_BESIDE;
#endif
#else
    (void)in; /* the library's own limit of 32,768 x 32,768 holds */
#endif
#if LIBHEIF_NUMERIC_VERSION >= VERSION(1, 13)
    heif_context_set_max_decoding_threads(heif, 0); /* ours are busy with other pictures */
#endif
}

/* Rotation, mirror and crop are part of the picture, and the library applies them. */
static reco_status decode(reco_ctx *ctx, reco_picture *pic, const reco_encoded *in,
                          struct heif_context *heif, struct heif_image_handle **handle,
                          struct heif_image **image)
{
    struct heif_error error = heif_context_read_from_memory_without_copy(heif, in->data, in->bytes, NULL);
    if (error.code == heif_error_Ok) error = heif_context_get_primary_image_handle(heif, handle);
    if (error.code != heif_error_Ok) return damaged_heif(ctx, in, error);
    int w = heif_image_handle_get_width(*handle), h = heif_image_handle_get_height(*handle);
    if (w < 0 || h < 0) return reco_fail(ctx, RECO_E_FORMAT, "%s: damaged HEIC: no size", in->path);
    RECO_TRY(reco_picture_check(ctx, in, (size_t)w, (size_t)h));
    bool alpha = heif_image_handle_has_alpha_channel(*handle);
    struct heif_decoding_options *options = heif_decoding_options_alloc();
    if (!options) return reco_fail_nomem(ctx, 0, "HEIC decoder");
    options->convert_hdr_to_8bit = 1;
    error = heif_decode_image(*handle, image, heif_colorspace_RGB,
                              alpha ? heif_chroma_interleaved_RGBA : heif_chroma_interleaved_RGB, options);
    heif_decoding_options_free(options);
    if (error.code != heif_error_Ok) return damaged_heif(ctx, in, error);
    w = heif_image_get_width(*image, heif_channel_interleaved);
    h = heif_image_get_height(*image, heif_channel_interleaved);
    int stride = 0;
    const uint8_t *plane = heif_image_get_plane_readonly(*image, heif_channel_interleaved, &stride);
    if (!plane || w < 0 || h < 0 || stride < 0)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: damaged HEIC: no pixels", in->path);
    RECO_TRY(reco_picture_check(ctx, in, (size_t)w, (size_t)h));
    pic->mode = alpha ? RECO_MODE_RGBA : RECO_MODE_RGB;
    pic->width = (size_t)w;
    pic->height = (size_t)h;
    size_t row = pic->width * reco_mode_bytes(pic->mode);
    if ((size_t)stride < row) return reco_fail(ctx, RECO_E_FORMAT, "%s: damaged HEIC: no pixels", in->path);
    RECO_TRY(reco_picture_alloc(ctx, pic));
    for (size_t y = 0; y < pic->height; y++)
        memcpy(pic->pixels.data + y * row, plane + y * (size_t)stride, row);
    return RECO_OK;
}

reco_status reco_decode_heif(reco_ctx *ctx, reco_picture *pic, const reco_encoded *in)
{
    struct heif_image_handle *handle = NULL;
    struct heif_image *image = NULL;
    struct heif_context *heif = heif_context_alloc();
    if (!heif) return reco_fail_nomem(ctx, 0, "HEIC decoder");
    set_limits(heif, in);
    reco_status status = decode(ctx, pic, in, heif, &handle, &image);
    if (image) heif_image_release(image);
    if (handle) heif_image_handle_release(handle);
    heif_context_free(heif);
    return status;
}
