#include "image/picture.h"

#include <ctype.h>

/* How far into a text its kind is looked for. */
#define TEXT_LOOK ((size_t)1024)

static bool starts(const uint8_t *d, size_t n, const char *magic, size_t length)
{
    return n >= length && memcmp(d, magic, length) == 0;
}
#define STARTS(magic) starts(d, n, magic, sizeof(magic) - 1)
#define AT(offset, magic)                                                                                  \
    (n >= (offset) + sizeof(magic) - 1 && memcmp(d + (offset), magic, sizeof(magic) - 1) == 0)

static bool is_jpeg(const uint8_t *d, size_t n) { return STARTS("\xff\xd8\xff"); }
static bool is_png(const uint8_t *d, size_t n) { return STARTS("\x89PNG\r\n\x1a\n"); }
static bool is_webp(const uint8_t *d, size_t n) { return STARTS("RIFF") && AT(8, "WEBP"); }
static bool is_gif(const uint8_t *d, size_t n) { return STARTS("GIF87a") || STARTS("GIF89a"); }

/* Two letters are too few to know it by; the header's size follows. */
static bool is_bmp(const uint8_t *d, size_t n)
{
    return STARTS("BM") && n >= 18 && d[15] == 0 && d[16] == 0 && d[17] == 0 && d[14] >= 12 && d[14] <= 124;
}

static bool is_tiff(const uint8_t *d, size_t n)
{
    return STARTS("II*\0") || STARTS("MM\0*") || STARTS("II+\0") || STARTS("MM\0+");
}

static bool is_jxl(const uint8_t *d, size_t n)
{
    return STARTS("\xff\x0a") || STARTS("\0\0\0\x0cJXL \r\n\x87\n");
}

/* Is one of `brands` (four letters each) the main brand of an ISO media file, or, where that only says "a picture", among
 * the compatible ones? */
static bool brand(const uint8_t *d, size_t n, const char *brands)
{
    if (n < 12 || memcmp(d + 4, "ftyp", 4) != 0) return false;
    for (const char *b = brands; *b; b += 4)
        if (memcmp(d + 8, b, 4) == 0) return true;
    if (memcmp(d + 8, "mif1", 4) != 0 && memcmp(d + 8, "msf1", 4) != 0 && memcmp(d + 8, "miaf", 4) != 0)
        return false;
    size_t box = (size_t)d[0] << 24 | (size_t)d[1] << 16 | (size_t)d[2] << 8 | d[3];
    for (size_t at = 16; at + 4 <= reco_min(box, n); at += 4)
        for (const char *b = brands; *b; b += 4)
            if (memcmp(d + at, b, 4) == 0) return true;
    return false;
}

static bool is_avif(const uint8_t *d, size_t n) { return brand(d, n, "avifavis"); }
static bool is_heic(const uint8_t *d, size_t n) { return brand(d, n, "heicheixheimheishevchevxhevmhevs"); }
static bool is_heif(const uint8_t *d, size_t n) { return brand(d, n, "mif1msf1miafjpegj2ki"); }

/* ---- pictures that no build reads ---- */

static bool is_jp2(const uint8_t *d, size_t n)
{
    return STARTS("\0\0\0\x0cjP  \r\n\x87\n") || STARTS("\xff\x4f\xff\x51");
}
static bool is_psd(const uint8_t *d, size_t n) { return STARTS("8BPS\0"); }
static bool is_exr(const uint8_t *d, size_t n) { return STARTS("v/1\x01"); }
static bool is_hdr(const uint8_t *d, size_t n) { return STARTS("#?RADIANCE") || STARTS("#?RGBE"); }
static bool is_dds(const uint8_t *d, size_t n) { return STARTS("DDS |\0\0\0"); }
static bool is_xcf(const uint8_t *d, size_t n) { return STARTS("gimp xcf"); }
static bool is_qoi(const uint8_t *d, size_t n) { return STARTS("qoif"); }
static bool is_icns(const uint8_t *d, size_t n) { return STARTS("icns\0"); }
static bool is_jxr(const uint8_t *d, size_t n) { return STARTS("II\xbc\x01"); }
static bool is_mng(const uint8_t *d, size_t n) { return STARTS("\x8aMNG\r\n\x1a\n"); }
static bool is_djvu(const uint8_t *d, size_t n) { return STARTS("AT&TFORM"); }
static bool is_fits(const uint8_t *d, size_t n) { return STARTS("SIMPLE  ="); }
static bool is_dicom(const uint8_t *d, size_t n) { return AT(128, "DICM"); }
static bool is_wmf(const uint8_t *d, size_t n) { return STARTS("\xd7\xcd\xc6\x9a"); }
static bool is_emf(const uint8_t *d, size_t n) { return STARTS("\1\0\0\0") && AT(40, " EMF"); }
static bool is_pcx(const uint8_t *d, size_t n)
{
    return n >= 128 && d[0] == 10 && d[1] <= 5 && d[2] == 1 &&
           (d[3] == 1 || d[3] == 2 || d[3] == 4 || d[3] == 8) && d[64] == 0;
}

static bool is_icon(const uint8_t *d, size_t n)
{
    return (STARTS("\0\0\1\0") || STARTS("\0\0\2\0")) && n >= 22 && (d[4] || d[5]) && d[9] == 0;
}

static bool is_pnm(const uint8_t *d, size_t n)
{
    return n >= 4 && d[0] == 'P' && d[1] >= '1' && d[1] <= '7' && isspace(d[2]) &&
           (isdigit(d[3]) || d[3] == '#' || (d[1] == '7' && d[3] == 'W'));
}

static bool is_raw(const uint8_t *d, size_t n)
{
    return (is_tiff(d, n) && AT(8, "CR\2")) || brand(d, n, "crx ") || STARTS("FUJIFILMCCD-RAW") ||
           STARTS("IIRO") || STARTS("IIRS") || STARTS("MMOR") || STARTS("IIU\0") || STARTS("FOVb") ||
           STARTS("\0MRM");
}

/* ---- what stands in the place of a picture ---- */

static bool is_lfs(const uint8_t *d, size_t n)
{
    return STARTS("version https://git-lfs.github.com/spec/");
}
static bool is_annex(const uint8_t *d, size_t n) { return STARTS("/annex/objects/"); }

/* A word in the beginning of a text, in any case. */
static bool says(const uint8_t *d, size_t n, const char *word)
{
    size_t length = strlen(word);
    for (size_t i = 0; i + length <= reco_min(n, TEXT_LOOK); i++) {
        size_t k = 0;
        while (k < length && tolower(d[i + k]) == word[k]) k++;
        if (k == length) return true;
    }
    return false;
}

static bool is_dvc(const uint8_t *d, size_t n)
{
    return (STARTS("outs:") || says(d, n, "\nouts:")) && (says(d, n, "- md5:") || says(d, n, "  path:"));
}

/* ---- other files ---- */

static bool is_text(const uint8_t *d, size_t n)
{
    n = reco_min(n, TEXT_LOOK);
    if (STARTS("\xff\xfe") || STARTS("\xfe\xff")) return true; /* UTF-16 */
    for (size_t i = 0; i < n; i++)
        if (d[i] < 32 && !isspace(d[i]) && d[i] != 27) return false;
    return n > 0;
}

/* The first letter that is none of a blank, a byte order mark or, of XML, a declaration or comment. */
static bool is_markup(const uint8_t *d, size_t n)
{
    size_t i = STARTS("\xef\xbb\xbf") ? 3 : 0;
    while (i < n && isspace(d[i])) i++;
    return i < n && d[i] == '<' && is_text(d, n);
}
static bool is_svg(const uint8_t *d, size_t n)
{
    return is_markup(d, n) && says(d, n, "<svg") && !says(d, n, "<html");
}
static bool is_html(const uint8_t *d, size_t n)
{
    return is_markup(d, n) && (says(d, n, "<html") || says(d, n, "<!doctype html") || says(d, n, "<head"));
}
static bool is_pdf(const uint8_t *d, size_t n) { return STARTS("%PDF-"); }
static bool is_zip(const uint8_t *d, size_t n) { return STARTS("PK\3\4"); }
static bool is_gzip(const uint8_t *d, size_t n) { return STARTS("\x1f\x8b"); }
static bool is_video(const uint8_t *d, size_t n)
{
    return AT(4, "ftyp") || AT(4, "moov") || AT(4, "mdat") || AT(4, "wide") || STARTS("\x1a\x45\xdf\xa3") ||
           (STARTS("RIFF") && AT(8, "AVI "));
}

#ifdef RECO_HAVE_GIF
#define GIF reco_decode_gif
#else
#define GIF NULL
#endif
#ifdef RECO_HAVE_TIFF
#define TIFF reco_decode_tiff
#else
#define TIFF NULL
#endif
#ifdef RECO_HAVE_AVIF
#define AVIF reco_decode_avif
#else
#define AVIF NULL
#endif
#ifdef RECO_HAVE_HEIF
#define HEIF reco_decode_heif
#else
#define HEIF NULL
#endif
#ifdef RECO_HAVE_JXL
#define JXL reco_decode_jxl
#else
#define JXL NULL
#endif

#define PICTURE RECO_IMAGE_PICTURE
#define STANDIN RECO_IMAGE_POINTER
#define OTHER RECO_IMAGE_OTHER

/* In order: the first that matches is it. */
static const reco_picture_format formats[] = {
    {PICTURE, "JPEG", is_jpeg, reco_decode_jpeg, NULL},
    {PICTURE, "PNG", is_png, reco_decode_png, NULL},
    {PICTURE, "WebP", is_webp, reco_decode_webp, NULL},
    {PICTURE, "camera raw", is_raw, NULL, NULL},
    {PICTURE, "GIF", is_gif, GIF, "giflib"},
    {PICTURE, "BMP", is_bmp, reco_decode_bmp, NULL},
    {PICTURE, "TIFF", is_tiff, TIFF, "libtiff"},
    {PICTURE, "AVIF", is_avif, AVIF, "libavif"},
    {PICTURE, "HEIC", is_heic, HEIF, "libheif"},
    {PICTURE, "HEIF", is_heif, HEIF, "libheif"},
    {PICTURE, "JPEG XL", is_jxl, JXL, "libjxl"},
    {PICTURE, "JPEG 2000", is_jp2, NULL, NULL},
    {PICTURE, "JPEG XR", is_jxr, NULL, NULL},
    {PICTURE, "Photoshop", is_psd, NULL, NULL},
    {PICTURE, "OpenEXR", is_exr, NULL, NULL},
    {PICTURE, "Radiance HDR", is_hdr, NULL, NULL},
    {PICTURE, "DDS", is_dds, NULL, NULL},
    {PICTURE, "GIMP", is_xcf, NULL, NULL},
    {PICTURE, "QOI", is_qoi, NULL, NULL},
    {PICTURE, "Apple icon", is_icns, NULL, NULL},
    {PICTURE, "Windows icon", is_icon, NULL, NULL},
    {PICTURE, "MNG", is_mng, NULL, NULL},
    {PICTURE, "DjVu", is_djvu, NULL, NULL},
    {PICTURE, "FITS", is_fits, NULL, NULL},
    {PICTURE, "DICOM", is_dicom, NULL, NULL},
    {PICTURE, "Windows metafile", is_wmf, NULL, NULL},
    {PICTURE, "Windows metafile", is_emf, NULL, NULL},
    {PICTURE, "PCX", is_pcx, NULL, NULL},
    {PICTURE, "SVG", is_svg, NULL, NULL},
    {PICTURE, "Netpbm", is_pnm, NULL, NULL},
    {STANDIN, "a git-lfs pointer: fetch the content with git lfs pull", is_lfs, NULL, NULL},
    {STANDIN, "a git-annex pointer: fetch the content with git annex get", is_annex, NULL, NULL},
    {STANDIN, "a DVC pointer: fetch the content with dvc pull", is_dvc, NULL, NULL},
    {OTHER, "an HTML page", is_html, NULL, NULL},
    {OTHER, "a PDF document", is_pdf, NULL, NULL},
    {OTHER, "a ZIP archive", is_zip, NULL, NULL},
    {OTHER, "a gzip file", is_gzip, NULL, NULL},
    {OTHER, "a video", is_video, NULL, NULL},
    {OTHER, "a text file", is_text, NULL, NULL},
};

const reco_picture_format *reco_picture_format_of(const uint8_t *data, size_t bytes)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (formats[i].match(data, bytes)) return &formats[i];
    return NULL;
}

reco_image_kind reco_image_sniff(const void *data, size_t bytes, const char **name)
{
    const reco_picture_format *format = bytes ? reco_picture_format_of(data, bytes) : NULL;
    if (name) *name = format ? format->name : NULL;
    return format ? format->kind : RECO_IMAGE_UNKNOWN;
}

const char *reco_image_reads(size_t i)
{
    for (size_t f = 0; f < sizeof formats / sizeof *formats; f++)
        if (formats[f].decode && i-- == 0) return formats[f].name;
    return NULL;
}
