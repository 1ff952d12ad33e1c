#include "io/window.h"

#define MAX_LINE ((size_t)1 << 20)

struct reco_lines {
    reco_window *window;
    uint64_t number;
};

reco_status reco_lines_open(reco_ctx *ctx, reco_lines **out, const char *path)
{
    *out = NULL;
    reco_lines *lines = reco_alloc(ctx, 1, sizeof *lines, "line reader");
    if (!lines) return RECO_E_NOMEM;
    reco_status status = reco_window_open(ctx, &lines->window, path, NULL, false);
    if (status == RECO_OK)
        *out = lines;
    else
        reco_lines_close(lines);
    return status;
}

void reco_lines_close(reco_lines *lines)
{
    if (!lines) return;
    reco_window_close(lines->window);
    reco_free(lines);
}

static reco_status too_long(reco_ctx *ctx, const reco_lines *lines)
{
    return reco_fail(ctx, RECO_E_FORMAT, "%s:%llu: line is longer than %zu bytes", lines->window->path,
                     (unsigned long long)lines->number + 1, MAX_LINE);
}

reco_status reco_lines_next(reco_ctx *ctx, reco_lines *lines, const char **line, size_t *bytes)
{
    reco_window *w = lines->window;
    *line = NULL;
    *bytes = 0;
    char *stop = NULL;
    for (size_t scanned = 0; !stop;) {
        if (scanned > MAX_LINE + 1) return too_long(ctx, lines); /* + 1: "\r" may be of the end */
        if (w->start + scanned == w->end) {
            if (w->ended) break;
            RECO_TRY(reco_window_fill(ctx, w));
        }
        size_t n = w->end - w->start - scanned;
        stop = n ? memchr(w->data + w->start + scanned, '\n', n) : NULL;
        scanned = w->end - w->start;
    }
    if (!stop && w->start == w->end) return RECO_OK;
    char *from = w->data + w->start;
    size_t n = stop ? (size_t)(stop - from) : w->end - w->start, tail = stop != NULL;
    w->start += n + tail;
    if (stop && n && from[n - 1] == '\r') n--;
    if (n > MAX_LINE) return too_long(ctx, lines);
    lines->number++;
    from[n] = 0;
    *line = from;
    *bytes = n;
    return RECO_OK;
}
