#include "io/internal.h"

#include <stdlib.h>
#include <unistd.h>

#define MAX_LINE ((size_t)1 << 20)
#define FIRST_ROOM ((size_t)1 << 16)

struct reco_lines {
    int fd;
    bool ended;
    char *path;
    char *buffer; /* [start, end) is unread; one byte more for a NUL */
    size_t start, end, room, max;
    uint64_t number;
};

reco_status reco_io_lines_open(reco_ctx *ctx, reco_lines **out, const char *path, size_t max)
{
    *out = NULL;
    reco_lines *lines = reco_alloc(ctx, 1, sizeof *lines, "line reader");
    if (!lines) return RECO_E_NOMEM;
    lines->fd = -1;
    lines->max = max;
    reco_status status = RECO_E_NOMEM;
    lines->path = reco_strdup(ctx, path);
    if (!lines->path) goto out;
    RECO_GO(reco_io_open(ctx, &lines->fd, NULL, path, false));
    *out = lines;
    lines = NULL;
out:
    reco_lines_close(lines);
    return status;
}

reco_status reco_lines_open(reco_ctx *ctx, reco_lines **out, const char *path)
{
    return reco_io_lines_open(ctx, out, path, MAX_LINE);
}

void reco_lines_close(reco_lines *lines)
{
    if (!lines) return;
    if (lines->fd >= 0) close(lines->fd);
    free(lines->buffer);
    free(lines->path);
    reco_free(lines);
}

uint64_t reco_io_lines_number(const reco_lines *lines) { return lines->number; }

const char *reco_io_lines_path(const reco_lines *lines) { return lines->path; }

static reco_status too_long(reco_ctx *ctx, const reco_lines *lines)
{
    return reco_fail(ctx, RECO_E_FORMAT, "%s:%llu: line is longer than %zu bytes", lines->path,
                     (unsigned long long)lines->number + 1, lines->max);
}

/* Read behind what is left, which moves to the front. */
static reco_status fill(reco_ctx *ctx, reco_lines *lines)
{
    size_t left = lines->end - lines->start;
    if (left && lines->start) memmove(lines->buffer, lines->buffer + lines->start, left);
    lines->start = 0;
    lines->end = left;
    if (lines->room < left + 2) {
        size_t room = lines->room ? 2 * lines->room : FIRST_ROOM;
        char *grown = realloc(lines->buffer, room);
        if (!grown) return reco_fail_nomem(ctx, room, lines->path);
        lines->buffer = grown;
        lines->room = room;
    }
    size_t got;
    RECO_TRY(reco_io_read(ctx, lines->fd, lines->buffer + left, lines->room - left - 1, &got, lines->path));
    lines->end += got;
    lines->ended = got == 0;
    return RECO_OK;
}

reco_status reco_io_lines_raw(reco_ctx *ctx, reco_lines *lines, char **line, size_t *bytes, size_t *end)
{
    *line = NULL;
    *bytes = *end = 0;
    char *stop = NULL;
    for (size_t scanned = 0; !stop; scanned = lines->end - lines->start) {
        if (scanned > lines->max + 1) return too_long(ctx, lines); /* + 1: "\r" may be of the end */
        if (lines->ended) break; /* the last read gave nothing, after all before it was searched */
        if (lines->start + scanned == lines->end) RECO_TRY(fill(ctx, lines));
        stop = memchr(lines->buffer + lines->start + scanned, '\n', lines->end - lines->start - scanned);
    }
    if (!stop && lines->start == lines->end) return RECO_OK;
    char *from = lines->buffer + lines->start;
    size_t n = stop ? (size_t)(stop - from) : lines->end - lines->start, tail = stop != NULL;
    if (stop && n && from[n - 1] == '\r') {
        n--;
        tail++;
    }
    if (n > lines->max) return too_long(ctx, lines);
    lines->start += n + tail;
    if (lines->number++ == 0 && n >= 3 && memcmp(from, "\xef\xbb\xbf", 3) == 0) {
        from += 3;
        n -= 3;
        if (n + tail == 0) return RECO_OK; /* nothing but a mark */
    }
    *line = from;
    *bytes = n;
    *end = tail;
    return RECO_OK;
}

reco_status reco_io_lines_filled(reco_ctx *ctx, reco_lines *lines, bool trims, char **line, size_t *bytes,
                                 size_t *end, bool *gap)
{
    for (bool blank = false;; blank = true) {
        RECO_TRY(reco_io_lines_raw(ctx, lines, line, bytes, end));
        while (trims && *bytes && (**line == ' ' || **line == '\t')) {
            ++*line;
            --*bytes;
        }
        if (*line && *bytes == 0) continue;
        *gap |= blank && *line;
        return RECO_OK;
    }
}

reco_status reco_lines_next(reco_ctx *ctx, reco_lines *lines, const char **line, size_t *bytes)
{
    char *text;
    size_t end;
    *line = NULL;
    RECO_TRY(reco_io_lines_raw(ctx, lines, &text, bytes, &end));
    if (text) text[*bytes] = 0;
    *line = text;
    return RECO_OK;
}
