#include "image/picture.h"

#include <setjmp.h>
#include <stdio.h>

#include <jpeglib.h>
#include <jerror.h>

/* A progressive file may hold any number of scans, each costing a pass over all coefficients; real ones hold ten. */
#define MOST_SCANS 500

typedef struct jpeg_job {
    struct jpeg_decompress_struct cinfo;
    struct jpeg_error_mgr error;
    struct jpeg_progress_mgr progress;
    jmp_buf jump;
    char message[JMSG_LENGTH_MAX];
} jpeg_job;

static _Noreturn void jpeg_fatal(j_common_ptr cinfo)
{
    jpeg_job *job = cinfo->client_data;
    cinfo->err->format_message(cinfo, job->message);
    longjmp(job->jump, 1);
}

/* libjpeg makes up an end-of-image marker where the data end and only warns; Pillow takes that for an error. Other
 * warnings (a damaged scan) Pillow passes over, and so do we. */
static void jpeg_warning(j_common_ptr cinfo, int level)
{
    if (level < 0 && cinfo->err->msg_code == JWRN_JPEG_EOF) {
        jpeg_job *job = cinfo->client_data;
        snprintf(job->message, sizeof job->message, "image file is truncated");
        longjmp(job->jump, 1);
    }
}

static void jpeg_watch(j_common_ptr cinfo)
{
    jpeg_job *job = cinfo->client_data;
    if (job->cinfo.input_scan_number > MOST_SCANS) {
        snprintf(job->message, sizeof job->message, "more than %d scans", MOST_SCANS);
        longjmp(job->jump, 1);
    }
}

/* Adobe's programs, which wrote nearly every CMYK JPEG, store ink inverted; Pillow assumes it of all. */
static void invert(uint8_t *row, size_t n)
{
    for (size_t i = 0; i < n; i++) row[i] = (uint8_t)~row[i];
}

/* Everything between create and destroy; split off so that no local lives across setjmp. */
static reco_status jpeg_run(reco_ctx *ctx, reco_picture *pic, const reco_encoded *in, jpeg_job *job)
{
    struct jpeg_decompress_struct *c = &job->cinfo;
    jpeg_mem_src(c, in->data, in->bytes);
    jpeg_read_header(c, TRUE);
    RECO_TRY(reco_picture_check(ctx, in, c->image_width, c->image_height));
    switch (c->num_components) {
    case 1:
        pic->mode = RECO_MODE_L, c->out_color_space = JCS_GRAYSCALE;
        break;
    case 3:
        pic->mode = RECO_MODE_RGB, c->out_color_space = JCS_RGB;
        break;
    case 4:
        pic->mode = RECO_MODE_CMYK, c->out_color_space = JCS_CMYK;
        break;
    default:
        return reco_fail(ctx, RECO_E_FORMAT, "%s: JPEG of %d components, want 1, 3 or 4", in->path,
                         c->num_components);
    }
    pic->width = c->image_width;
    pic->height = c->image_height;
    RECO_TRY(reco_picture_alloc(ctx, pic));
    size_t row = pic->width * reco_mode_bytes(pic->mode);
    jpeg_start_decompress(c);
    while (c->output_scanline < c->output_height) {
        JSAMPROW lines[16];
        size_t left = pic->height - c->output_scanline;
        uint8_t *at = pic->pixels.data + c->output_scanline * row;
        for (size_t i = 0; i < 16; i++) lines[i] = at + (i < left ? i : left - 1) * row;
        JDIMENSION got = jpeg_read_scanlines(c, lines, (JDIMENSION)reco_min(16, left));
        if (pic->mode == RECO_MODE_CMYK) invert(at, got * row);
    }
    jpeg_finish_decompress(c);
    return RECO_OK;
}

/* The segments before the first scan that hold EXIF or XMP; EXIF's word counts first, as in Pillow. */
static unsigned find_jpeg_orientation(const reco_encoded *in)
{
    static const char exif[] = "Exif\0", xmp[] = "http://ns.adobe.com/xap/1.0/";
    const uint8_t *d = in->data;
    unsigned from_exif = 0, from_xmp = 0;
    for (size_t at = 2; at + 4 <= in->bytes && d[at] == 0xff;) {
        unsigned marker = d[at + 1];
        if (marker == 0xff) { /* filling */
            at++;
            continue;
        }
        if (marker == 0xda || marker == 0xd9) break;
        size_t length = (size_t)d[at + 2] << 8 | d[at + 3];
        if (length < 2 || length > in->bytes - at - 2) break;
        const uint8_t *body = d + at + 4;
        size_t n = length - 2;
        if (marker == 0xe1 && !from_exif && n > sizeof exif && memcmp(body, exif, sizeof exif) == 0)
            from_exif = reco_exif_orientation(body, n);
        if (marker == 0xe1 && !from_xmp && n > sizeof xmp && memcmp(body, xmp, sizeof xmp) == 0)
            from_xmp = reco_xmp_orientation(body + sizeof xmp, n - sizeof xmp);
        at += 2 + length;
    }
    return from_exif ? from_exif : from_xmp;
}

reco_status reco_decode_jpeg(reco_ctx *ctx, reco_picture *pic, const reco_encoded *in)
{
    jpeg_job job;
    memset(&job, 0, sizeof job);
    job.cinfo.err = jpeg_std_error(&job.error);
    job.cinfo.client_data = &job;
    job.error.error_exit = jpeg_fatal;
    job.error.emit_message = jpeg_warning;
    job.progress.progress_monitor = jpeg_watch;
    reco_status status;
    if (setjmp(job.jump)) {
        status = reco_fail(ctx, RECO_E_FORMAT, "%s: damaged JPEG: %s", in->path, job.message);
    } else {
        jpeg_create_decompress(&job.cinfo);
        job.cinfo.progress = &job.progress;
        status = jpeg_run(ctx, pic, in, &job);
    }
    jpeg_destroy_decompress(&job.cinfo);
    if (in->upright) pic->turn = find_jpeg_orientation(in);
    if (status != RECO_OK) reco_buffer_drop(&pic->pixels);
    return status;
}
