#include "pipeline/pipeline_internal.h"

#include <ctype.h>
#include <fcntl.h>
#include <strings.h>
#include <unistd.h>

struct reco_source {
    char *path;
    reco_found *files;        /* of a folder, or the one picture */
    size_t n, at, end, total; /* at..end: those to come; total: as many at first */
    reco_source_others others;
    reco_part_lines list;
};

/* ---- what in a folder is a picture to its owner ---- */

static const char *const picture_endings[] = {
    "apng", "arw",  "avif", "avifs", "bmp",  "cr2",  "cr3",  "cur", "dcm",  "dds", "dib", "djvu", "dng",
    "emf",  "exr",  "fits", "gif",   "hdr",  "heic", "heif", "hif", "icns", "ico", "j2k", "jfif", "jif",
    "jp2",  "jpe",  "jpeg", "jpf",   "jpg",  "jpx",  "jxl",  "jxr", "mng",  "nef", "orf", "pam",  "pbm",
    "pcx",  "pef",  "pgm",  "png",   "pnm",  "ppm",  "psb",  "psd", "qoi",  "raf", "raw", "rw2",  "srw",
    "svg",  "svgz", "tga",  "tif",   "tiff", "wdp",  "webp", "wmf", "xcf"};

typedef enum ending { NO_ENDING, PICTURE_ENDING, OTHER_ENDING } ending;

bool reco_is_picture_ending(const char *end, size_t n)
{
    for (size_t i = 0; i < sizeof picture_endings / sizeof *picture_endings; i++)
        if (strlen(picture_endings[i]) == n && strncasecmp(end, picture_endings[i], n) == 0) return true;
    return false;
}

/* "IMG.2024" has no ending that says anything, and "IMG" has none. */
static ending ending_of(const char *name, size_t length)
{
    size_t n = 0, letters = 0;
    while (n < length && name[length - 1 - n] != '.') n++;
    if (n == length || n == 0 || n > 16) return NO_ENDING;
    const char *end = name + length - n;
    for (size_t i = 0; i < n; i++) {
        if (!isalnum((unsigned char)end[i])) return NO_ENDING;
        letters += isalpha((unsigned char)end[i]) != 0;
    }
    if (reco_is_picture_ending(end, n)) return PICTURE_ENDING;
    return letters ? OTHER_ENDING : NO_ENDING;
}

static reco_image_kind sniff_kind(const char *path, const char **name)
{
    unsigned char start[RECO_IMAGE_SNIFF];
    *name = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return RECO_IMAGE_UNKNOWN;
    ssize_t got = read(fd, start, sizeof start);
    close(fd);
    return got > 0 ? reco_image_sniff(start, (size_t)got, name) : RECO_IMAGE_UNKNOWN;
}

/* "a.jpg.dvc" tells of a picture that is not beside it. */
static bool is_unfetched(reco_ctx *ctx, const char *path, const char *base)
{
    size_t n = strlen(base);
    if (n < 5 || strcasecmp(base + n - 4, ".dvc") != 0 || ending_of(base, n - 4) != PICTURE_ENDING)
        return false;
    char *content = reco_format(ctx, "%.*s", (int)(strlen(path) - 4), path);
    bool there = content && reco_path_exists(content);
    reco_free(content);
    return !there;
}

/* A name that says "picture" is taken at its word, since whatever is wrong with it must be told; any other file is a
 * picture when its content says so. One without an ending that says nothing at all, empty or unknown, is told of too. */
static bool is_picture(reco_ctx *ctx, const char *path)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path, *name;
    ending end = ending_of(base, strlen(base));
    if (end == PICTURE_ENDING) return true;
    switch (sniff_kind(path, &name)) {
    case RECO_IMAGE_PICTURE:
        return true;
    case RECO_IMAGE_POINTER:
        return end == NO_ENDING || is_unfetched(ctx, path, base);
    case RECO_IMAGE_UNKNOWN:
        return end == NO_ENDING;
    default:
        return false;
    }
}

/* ---- the stream ---- */

/* Not a list: by content, or by name where the content is no text. (SVG and Netpbm are texts, as a list is.) */
static bool is_one_picture(const char *path)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path, *name;
    reco_image_kind kind = sniff_kind(path, &name);
    if (kind == RECO_IMAGE_OTHER || !reco_path_exists(path)) return false;
    if (ending_of(base, strlen(base)) == PICTURE_ENDING) return true;
    return kind == RECO_IMAGE_PICTURE && strcmp(name, "SVG") != 0 && strcmp(name, "Netpbm") != 0;
}

static reco_status one_picture(reco_ctx *ctx, reco_source *source, const char *path)
{
    if (!(source->files = reco_alloc(ctx, 1, sizeof *source->files, "source"))) return RECO_E_NOMEM;
    source->n = 1;
    source->files[0].path = reco_strdup(ctx, path);
    return source->files[0].path ? RECO_OK : RECO_E_NOMEM;
}

reco_status reco_source_open(reco_ctx *ctx, reco_source **out, const char *path, const char *except,
                             reco_shard shard)
{
    *out = NULL;
    reco_source *source = reco_alloc(ctx, 1, sizeof *source, "source");
    if (!source) return RECO_E_NOMEM;
    reco_status status = RECO_OK;
    if (!(source->path = reco_strdup(ctx, path))) RECO_GO(RECO_E_NOMEM);
    if (reco_path_is_dir(path)) {
        bool holds = false;
        if (except) RECO_GO(reco_source_holds_pictures(ctx, except, &holds));
        if (holds) except = NULL;
        RECO_GO(reco_find_files(ctx, &source->files, &source->n, &source->others.hidden, path, except));
        if (source->n == 0)
            RECO_GO(reco_fail(ctx, RECO_E_NOTFOUND, "%s: no file below it%s", path,
                              source->others.hidden ? " that is not hidden" : ""));
    } else if (is_one_picture(path)) {
        RECO_GO(one_picture(ctx, source, path));
    } else {
        source->list.skips_empty = true;
        RECO_GO(reco_part_open(ctx, &source->list, path, shard));
    }
    reco_part part = reco_part_of(shard, source->n);
    source->at = (size_t)part.begin;
    source->end = reco_min(source->n, part.end);
    source->total = source->end - source->at;
    *out = source;
    source = NULL;
out:
    reco_source_close(source);
    return status;
}

static reco_status next_in_folder(reco_ctx *ctx, reco_source *source, reco_source_item *item)
{
    while (source->at < source->end) {
        reco_found *file = &source->files[source->at++];
        if (!file->problem && !is_picture(ctx, file->path)) {
            source->others.files++;
            continue;
        }
        item->name = reco_strdup(ctx, file->path);
        item->path = reco_strdup(ctx, file->path);
        if (file->problem) item->reason = reco_strdup(ctx, file->problem);
        return item->name && item->path && (item->reason || !file->problem) ? RECO_OK : RECO_E_NOMEM;
    }
    return RECO_OK;
}

reco_status reco_source_next(reco_ctx *ctx, reco_source *source, reco_source_item *item)
{
    *item = (reco_source_item){0};
    if (source->files) return next_in_folder(ctx, source, item);
    const char *line;
    size_t bytes;
    RECO_TRY(reco_part_next(ctx, &source->list, &line, &bytes));
    if (!line) return RECO_OK;
    item->name = reco_strdup(ctx, line);
    item->path = reco_resolve_path(ctx, source->path, line);
    return item->name && item->path ? RECO_OK : RECO_E_NOMEM;
}

reco_status reco_source_holds_pictures(reco_ctx *ctx, const char *dir, bool *holds)
{
    reco_found *files = NULL;
    size_t n = 0;
    uint64_t hidden;
    *holds = false;
    if (!reco_path_is_dir(dir)) return RECO_OK;
    RECO_TRY(reco_find_files(ctx, &files, &n, &hidden, dir, NULL));
    for (size_t i = 0; i < n && !*holds; i++) *holds = !files[i].problem && is_picture(ctx, files[i].path);
    reco_found_free(files, n);
    return RECO_OK;
}

void reco_source_item_free(reco_source_item *item)
{
    reco_free(item->name);
    reco_free(item->path);
    reco_free(item->reason);
    *item = (reco_source_item){0};
}

uint64_t reco_source_total(const reco_source *source) { return source->total - source->others.files; }

reco_source_others reco_source_get_others(const reco_source *source) { return source->others; }

void reco_source_close(reco_source *source)
{
    if (!source) return;
    reco_found_free(source->files, source->n);
    reco_part_close(&source->list);
    reco_free(source->path);
    reco_free(source);
}
