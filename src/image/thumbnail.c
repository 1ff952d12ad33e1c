/* A picture made small, as a JPEG in memory. */
#include "image/picture.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

#define QUALITY 85

typedef struct encoding {
    struct jpeg_compress_struct cinfo;
    struct jpeg_error_mgr error;
    jmp_buf jump;
    char message[JMSG_LENGTH_MAX];
    unsigned char *out; /* of libjpeg's malloc */
    unsigned long bytes;
} encoding;

static _Noreturn void fatal(j_common_ptr cinfo)
{
    encoding *job = cinfo->client_data;
    cinfo->err->format_message(cinfo, job->message);
    longjmp(job->jump, 1);
}

/* Split off so that no local lives across setjmp. */
static void compress(encoding *job, const uint8_t *rgb, size_t width, size_t height)
{
    struct jpeg_compress_struct *c = &job->cinfo;
    jpeg_mem_dest(c, &job->out, &job->bytes);
    c->image_width = (JDIMENSION)width;
    c->image_height = (JDIMENSION)height;
    c->input_components = 3;
    c->in_color_space = JCS_RGB;
    jpeg_set_defaults(c);
    jpeg_set_quality(c, QUALITY, TRUE);
    jpeg_start_compress(c, TRUE);
    while (c->next_scanline < c->image_height) {
        JSAMPROW row = (JSAMPROW)(uintptr_t)(rgb + 3 * width * c->next_scanline);
        jpeg_write_scanlines(c, &row, 1);
    }
    jpeg_finish_compress(c);
}

static bool try_compress(encoding *job, const uint8_t *rgb, size_t width, size_t height)
{
    if (setjmp(job->jump) != 0) return false;
    jpeg_create_compress(&job->cinfo);
    compress(job, rgb, width, height);
    return true;
}

static reco_status encode_thumbnail(reco_ctx *ctx, const char *path, const uint8_t *rgb, size_t width,
                                    size_t height, uint8_t **jpeg, size_t *bytes)
{
    reco_status status = RECO_OK;
    encoding *job = reco_alloc(ctx, 1, sizeof *job, "thumbnail");
    if (!job) return RECO_E_NOMEM;
    job->cinfo.err = jpeg_std_error(&job->error);
    job->error.error_exit = fatal;
    job->cinfo.client_data = job;
    if (!try_compress(job, rgb, width, height))
        status = reco_fail(ctx, RECO_E_INTERNAL, "%s: no thumbnail: %s", path, job->message);
    jpeg_destroy_compress(&job->cinfo);
    if (status == RECO_OK) {
        *bytes = job->bytes;
        *jpeg = reco_alloc_raw(ctx, *bytes, 1, "thumbnail");
        if (*jpeg) memcpy(*jpeg, job->out, *bytes);
        status = *jpeg ? RECO_OK : RECO_E_NOMEM;
    }
    free(job->out);
    reco_free(job);
    return status;
}

/* As wide and high as fits into edge x edge; never larger than it is. */
static reco_window fit(const reco_picture *pic, size_t edge)
{
    size_t w = pic->width, h = pic->height, longest = reco_max(w, h);
    if (longest > edge) {
        w = reco_max(1, (w * edge + longest / 2) / longest);
        h = reco_max(1, (h * edge + longest / 2) / longest);
    }
    return (reco_window){w, h, 0, 0, w, h};
}

reco_status reco_image_thumbnail(reco_ctx *ctx, const char *path, const reco_image_limits *limits,
                                 size_t edge, int upright, unsigned char **jpeg, size_t *bytes)
{
    size_t max_bytes = limits && limits->max_bytes ? limits->max_bytes : RECO_IMAGE_MAX_BYTES, n = 0;
    reco_buffer file = {0};
    reco_picture pic = {0}, small = {0};
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status = RECO_OK;
    *jpeg = NULL;
    *bytes = 0;
    if (edge < 1 || edge > 4096)
        RECO_GO(reco_fail(ctx, RECO_E_ARG, "thumbnail: edge = %zu, want 1..4096", edge));
    RECO_GO(reco_image_read(ctx, &file, &n, path, max_bytes));
    reco_encoded in = {path, file.data, n,
                       limits && limits->max_pixels ? limits->max_pixels : RECO_IMAGE_MAX_PIXELS,
                       upright != 0};
    RECO_GO(reco_decode(ctx, &pic, &in));
    RECO_GO(reco_picture_flatten(ctx, &pic, true));
    reco_window win = fit(&pic, edge);
    status = reco_resize(ctx, &small, &pic, RECO_FILTER_BICUBIC, &win);
    if (status != RECO_OK) {
        reco_fail_prefix(ctx, status, path);
        goto out;
    }
    uint8_t *rgb = reco_scratch(ctx, 3 * win.w * win.h, 1, "thumbnail");
    if (!rgb) RECO_GO(RECO_E_NOMEM);
    reco_picture_rgb(rgb, &small);
    status = encode_thumbnail(ctx, path, rgb, win.w, win.h, jpeg, bytes);
out:
    reco_buffer_drop(&small.pixels);
    reco_buffer_drop(&pic.pixels);
    reco_buffer_drop(&file);
    reco_scratch_release(ctx, mark);
    return status;
}
