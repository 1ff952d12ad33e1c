#include "io/window.h"
#include "io/internal.h"

#include <errno.h>
#include <iconv.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#define FIRST_ROOM ((size_t)1 << 16)
#define RAW ((size_t)1 << 16)
#define NO_ICONV ((iconv_t)-1)

struct reco_window_source {
    reco_inflate *inflate; /* NULL: as it is on the disk */
    iconv_t convert;       /* NO_ICONV: UTF-8 already */
    size_t unit;           /* bytes of the least character */
    char head[8];
    size_t nhead;   /* read to see what the file is, not given yet */
    size_t athead;  /* of these, given */
    bool raw_ended; /* no more bytes */
    size_t from, to;
    char raw[RAW]; /* [from, to): to be recoded */
};

static reco_status raw_read(reco_ctx *ctx, reco_window *w, char *out, size_t bytes, size_t *got)
{
    struct reco_window_source *s = w->source;
    *got = reco_min(bytes, s->nhead - s->athead);
    if (*got) {
        memcpy(out, s->head + s->athead, *got);
        s->athead += *got;
        return RECO_OK;
    }
    return s->inflate ? reco_inflate_read(ctx, s->inflate, out, bytes, got)
                      : reco_io_read(ctx, w->fd, out, bytes, got, w->path);
}

/* The first bytes, as many as there are up to eight. */
static reco_status peek_head(reco_ctx *ctx, reco_window *w)
{
    struct reco_window_source *s = w->source;
    s->nhead = s->athead = 0;
    for (size_t got = 1; got && s->nhead < sizeof s->head; s->nhead += got) {
        if (s->inflate)
            RECO_TRY(
                reco_inflate_read(ctx, s->inflate, s->head + s->nhead, sizeof s->head - s->nhead, &got));
        else
            RECO_TRY(
                reco_io_read(ctx, w->fd, s->head + s->nhead, sizeof s->head - s->nhead, &got, w->path));
    }
    return RECO_OK;
}

static const char *marked(const char *head, size_t n)
{
    if (n >= 4 && memcmp(head, "\xff\xfe\0\0", 4) == 0) return "UTF-32LE";
    if (n >= 4 && memcmp(head, "\0\0\xfe\xff", 4) == 0) return "UTF-32BE";
    if (n >= 2 && memcmp(head, "\xff\xfe", 2) == 0) return "UTF-16LE";
    if (n >= 2 && memcmp(head, "\xfe\xff", 2) == 0) return "UTF-16BE";
    return NULL;
}

static reco_status open_source(reco_ctx *ctx, reco_window *w, const char *encoding)
{
    struct reco_window_source *s = w->source;
    char packed[sizeof s->head];
    RECO_TRY(peek_head(ctx, w));
    if (reco_inflate_wants(s->head, s->nhead)) {
        size_t n = s->nhead;
        memcpy(packed, s->head, n);
        RECO_TRY(reco_inflate_open(ctx, &s->inflate, w->fd, packed, n, w->path));
        RECO_TRY(peek_head(ctx, w));
    }
    if (encoding && (strcasecmp(encoding, "utf-8") == 0 || strcasecmp(encoding, "utf8") == 0 ||
                     strcasecmp(encoding, "utf-8-sig") == 0))
        return RECO_OK;
    const char *name = encoding ? encoding : marked(s->head, s->nhead);
    if (!name) return RECO_OK;
    s->unit = strncasecmp(name, "utf-16", 6) == 0 ? 2 : strncasecmp(name, "utf-32", 6) == 0 ? 4 : 1;
    s->convert = iconv_open("UTF-8", name);
    if (s->convert == NO_ICONV)
        return reco_fail(ctx, RECO_E_ARG, "encoding \"%.40s\" is not known: iconv -l lists the known ones",
                         name);
    return RECO_OK;
}

reco_status reco_window_open(reco_ctx *ctx, reco_window **out, const char *path, const char *encoding,
                             bool regular)
{
    *out = NULL;
    reco_window *w = reco_alloc(ctx, 1, sizeof *w, "text reader");
    if (!w) return RECO_E_NOMEM;
    w->fd = -1;
    w->line = 1;
    reco_status status = RECO_E_NOMEM;
    if (!(w->path = reco_strdup(ctx, path))) goto out;
    if (!(w->source = reco_alloc(ctx, 1, sizeof *w->source, "text reader"))) goto out;
    w->source->convert = NO_ICONV;
    RECO_GO(reco_io_open(ctx, &w->fd, NULL, path, regular));
    RECO_GO(open_source(ctx, w, encoding));
    *out = w;
    w = NULL;
out:
    reco_window_close(w);
    return status;
}

void reco_window_close(reco_window *w)
{
    if (!w) return;
    if (w->source) {
        reco_inflate_close(w->source->inflate);
        if (w->source->convert != NO_ICONV) iconv_close(w->source->convert);
        reco_free(w->source);
    }
    if (w->fd >= 0) close(w->fd);
    free(w->data);
    free(w->path);
    reco_free(w);
}

/* What is not of the encoding, or cut off at the end, becomes U+FFFD. */
static reco_status recode(reco_ctx *ctx, reco_window *w, char *out, size_t room, size_t *got)
{
    struct reco_window_source *s = w->source;
    *got = 0;
    while (*got == 0) {
        if (s->to - s->from < 8 && !s->raw_ended) {
            size_t n;
            memmove(s->raw, s->raw + s->from, s->to - s->from);
            s->to -= s->from;
            s->from = 0;
            RECO_TRY(raw_read(ctx, w, s->raw + s->to, RAW - s->to, &n));
            s->to += n;
            s->raw_ended = n == 0;
            if (n) continue;
        }
        if (s->from == s->to) return RECO_OK;
        char *in = s->raw + s->from, *at = out;
        size_t in_left = s->to - s->from, out_left = room;
        size_t done = iconv(s->convert, &in, &in_left, &at, &out_left);
        int why = errno;
        s->from = s->to - in_left;
        *got = room - out_left;
        if (done != (size_t)-1 || why == E2BIG || *got) continue;
        if (why == EINVAL && !s->raw_ended) continue;
        s->from += reco_min(s->unit, in_left);
        memcpy(out, "\xef\xbf\xbd", 3);
        *got = 3;
    }
    return RECO_OK;
}

reco_status reco_window_fill(reco_ctx *ctx, reco_window *w)
{
    size_t left = w->end - w->start;
    bool first = !w->data;
    if (w->ended) return RECO_OK;
    if (left && w->start) memmove(w->data, w->data + w->start, left);
    w->start = 0;
    w->end = left;
    if (w->room < left + 16) {
        size_t room = w->room ? 2 * w->room : FIRST_ROOM;
        char *grown = realloc(w->data, room + 1);
        if (!grown) return reco_fail_nomem(ctx, room, w->path);
        w->data = grown;
        w->room = room;
    }
    size_t got, room = w->room - left;
    if (w->source->convert == NO_ICONV)
        RECO_TRY(raw_read(ctx, w, w->data + left, room, &got));
    else
        RECO_TRY(recode(ctx, w, w->data + left, room, &got));
    w->end += got;
    w->ended = got == 0;
    if (first && got >= 3 && memcmp(w->data, "\xef\xbb\xbf", 3) == 0) w->start = 3;
    return RECO_OK;
}
