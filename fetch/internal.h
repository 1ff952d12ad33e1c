/* fetch/internal.h: what its files share. */
#ifndef RECO_FETCH_INTERNAL_H
#define RECO_FETCH_INTERNAL_H

#include "base/base.h"
#include "fetch/fetch.h"
#include "io/io.h"

/* ---- http.c: files over HTTP; the only place that knows libcurl ---- */

/* Of a URL that is not ours: where it and its redirects may lead. Private addresses never, whatever name leads there. */
typedef struct reco_fetch_guard {
    bool on;
    const char *const *hosts; /* [nhosts] "host", at the scheme's own port, or "host:port" */
    size_t nhosts;
    double until; /* reco_now() when all is to be over */
    bool nearby;  /* private addresses, too, for tests */
} reco_fetch_guard;

typedef struct reco_fetch_opts {
    const char
        *endpoint; /* "https://host[:port][/prefix]"; the token goes to this scheme, host and port alone */
    const char *token;            /* NULL or "": none */
    const char *proxy, *no_proxy; /* NULL: none; the environment is not looked at */
    unsigned stall;               /* give up after so many seconds without a byte */
    reco_fetch_guard guard;       /* its hosts are borrowed */
} reco_fetch_opts;

/* What the server said about the file. Strings are "" where it said nothing. */
typedef struct reco_fetch_answer {
    long http;            /* status of the last response; 0: there was none */
    char etag[256];       /* of the last response, strong, for If-Range */
    char sha256[65];      /* hex, where an ETag or X-Linked-Etag is one */
    char git[41];         /* hex sha1 of the git blob, likewise */
    char commit[65];      /* X-Repo-Commit */
    uint64_t size;        /* of the whole file; UINT64_MAX: unknown */
    uint64_t from, bytes; /* the body began at `from` and had so many bytes */
    bool cut;             /* the network failed, not the disk: to go on may help */
} reco_fetch_answer;

typedef struct reco_fetch reco_fetch;
/* RECO_E_ARG: endpoint is no http or https URL, or the token has what no token has. Strings are copied. */
reco_status reco_fetch_open(reco_ctx *ctx, reco_fetch **out, const reco_fetch_opts *opts);
void reco_fetch_close(reco_fetch *f);
/* endpoint + path, which begins with "/" */
char *reco_fetch_url(reco_ctx *ctx, const reco_fetch *f, const char *path);
/* text with everything that a URL has a meaning for escaped, "/" too */
char *reco_fetch_escape(reco_ctx *ctx, const char *text);
/* A small document into memory, NUL appended; free with reco_free. Statuses other than 200 leave *out NULL and return
 * RECO_OK: see answer->http. */
reco_status reco_fetch_text(reco_ctx *ctx, reco_fetch *f, const char *url, char **out, size_t *bytes,
                            size_t max_bytes, reco_fetch_answer *answer);
/* A file, appended to fd. begin(user, answer) is called before the first byte of a good answer (200, or 206 from where
 * the range began): it may refuse, and must truncate the file when answer->from is 0.
 *   from, etag  go on from this byte if the file still has this ETag; 0, ""
 * RECO_OK with answer->http not 200 or 206: nothing was written. RECO_E_IO: cut off, timed out, disk full; what has come is
 * in the file. RECO_E_NOMEM: larger than max_bytes. */
typedef reco_status (*reco_fetch_begin)(void *user, const reco_fetch_answer *answer);
reco_status reco_fetch_file(reco_ctx *ctx, reco_fetch *f, const char *url, int fd, const char *path,
                            uint64_t from, const char *etag, uint64_t max_bytes, reco_fetch_begin begin,
                            void *user, reco_fetch_answer *answer);

/* ---- address.c, download.c ---- */

struct sockaddr;
/* Of the public Internet: no private, local, shared, reserved or documentation's address, and none that hides another. */
bool reco_address_is_public(const struct sockaddr *address);
/* reco_download, for tests with private addresses. */
reco_status reco_download_near(reco_ctx *ctx, const char *url, const reco_download_opts *opts, bool nearby,
                               unsigned char **data, size_t *bytes);

/* ---- digest.c: checksums that hubs give ---- */

/* Content of the file as sha256, and as sha1 of the git blob; either may be NULL. */
reco_status reco_digest_file(reco_ctx *ctx, const char *path, char sha256[65], char git[41]);

#endif
