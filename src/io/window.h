/* io/window.h: the part of a text file that is being looked at. */
#ifndef RECO_SRC_IO_WINDOW_H
#define RECO_SRC_IO_WINDOW_H

#include "io/io.h"

/* inflate.c: what a compressed file holds. */
typedef struct reco_inflate reco_inflate;
bool reco_inflate_wants(const void *head, size_t bytes); /* gzip, bzip2, xz or zstd, by its first bytes */
/* Reads fd behind the `bytes` of head, which were read from it; both are borrowed. */
reco_status reco_inflate_open(reco_ctx *ctx, reco_inflate **out, int fd, const void *head, size_t bytes,
                              const char *path);
reco_status reco_inflate_read(reco_ctx *ctx, reco_inflate *z, void *out, size_t bytes, size_t *got);
void reco_inflate_close(reco_inflate *z);

/* UTF-8, whatever the file is: inflated, recoded, without a byte-order mark. [data + start, data + end) is there; bytes that an
 * encoding does not have become U+FFFD. A text that claims no encoding is passed on as it is. */
typedef struct reco_window {
    char *path;
    char *data; /* one byte more than room, for a NUL */
    size_t start, end, room;
    bool ended;    /* the file has no more */
    uint64_t line; /* at start, from 1; counted by who moves start */
    int fd;
    struct reco_window_source *source;
} reco_window;
/*   encoding  as iconv names it; NULL: UTF-8, or UTF-16 or UTF-32 by its byte-order mark
 *   regular   refuse what can't be read twice
 * RECO_E_ARG: no such encoding. */
reco_status reco_window_open(reco_ctx *ctx, reco_window **out, const char *path, const char *encoding,
                             bool regular);
void reco_window_close(reco_window *w);
/* More behind what is there, unless the file has ended. What is before start may go, and data may move. */
reco_status reco_window_fill(reco_ctx *ctx, reco_window *w);

#endif
