/* fetch/fetch.h: files from other machines: models from a hub, pictures at URLs. Part of the programs and not of libreco, which
 * stays without libcurl; contexts, statuses and options are as in reco/base.h. */
#ifndef RECO_FETCH_H
#define RECO_FETCH_H

#include "reco/base.h"

typedef struct reco_pull_opts {
    const char *endpoint;         /* NULL = "https://huggingface.co"; another hub that speaks its API */
    const char *token;            /* NULL = none; sent to the endpoint's scheme, host and port alone */
    const char *revision;         /* branch, tag or commit; NULL = "main" */
    const char *proxy, *no_proxy; /* as libcurl takes them; NULL = none */
    uint64_t max_bytes;           /* of one file of weights; 0 = 64 GiB. Other files: 256 MiB */
    unsigned stall;               /* seconds without a byte before giving up; 0 = 30 */
    uint64_t reserved[RECO_RESERVED];
} reco_pull_opts;

typedef struct reco_pull_result {
    char commit[65];   /* what the revision stood for; "" where the hub does not say */
    size_t files;      /* in the folder */
    size_t kept;       /* of these, whole already from an interrupted run */
    size_t verified;   /* of these, with a checksum of the hub's that holds */
    uint64_t bytes;    /* of all files */
    uint64_t received; /* over the network in this run */
    uint64_t resumed;  /* bytes of cut-off files that were not fetched again */
    int already;       /* 1: the folder held this commit already, and nothing was fetched */
    double seconds;
    uint64_t reserved[RECO_RESERVED];
} reco_pull_result;

/* Fetch a model folder from a hub that speaks the Hugging Face API.
 *   name  "org/model" or "model"
 *   out   the folder to make. It appears when all is there and checked; until then files gather in OUT.partial, where the
 *         next run goes on, in the middle of a file where the server can (Range with If-Range)
 * Fetched is what reco reads (configuration, preprocessing, tokenizer, safetensors and shards) and LICENSE, README.md. A
 * repository with weights for both transformers and open_clip gives those for transformers. A sha256 or git hash that the
 * hub names is checked. OUT/reco-pull.json records where the files are from.
 * Redirects are followed, never from https to http. Files are fsynced before they get their names.
 * Returns RECO_OK, or RECO_E_ARG (name, revision or endpoint), RECO_E_NOTFOUND (404), RECO_E_EXISTS (out is something
 * else), RECO_E_BUSY (another pull to the same folder is at work), RECO_E_IO (401, 403, no network, disk full, no byte for
 * `stall` seconds), RECO_E_FORMAT (a checksum that does not hold, names that are no file names, a list that is none),
 * RECO_E_MISMATCH (the revision moved meanwhile), RECO_E_UNSUPPORTED (no safetensors), RECO_E_NOMEM (above max_bytes),
 * RECO_E_CANCELLED. */
reco_status reco_pull_model(reco_ctx *ctx, const char *name, const char *out, const reco_pull_opts *opts,
                            reco_pull_result *result);

typedef struct reco_download_opts {
    const char *const *hosts; /* [nhosts] "host", at the scheme's own port, or "host:port" */
    size_t nhosts;
    size_t max_bytes; /* 0 = 32 MiB */
    double seconds;   /* for all of it; 0 = 10 */
    uint64_t reserved[RECO_RESERVED];
} reco_download_opts;

/* Fetch what is at an http or https URL that a stranger gave. It and its redirects must lead to one of the hosts, and never, whatever
 * address the name of the host resolves to, to a private, local or reserved address. No proxy is used.
 *   data, bytes  to be freed with reco_free
 * RECO_E_ARG (no URL, another host, a private address), RECO_E_NOTFOUND (the host answers otherwise than 200), RECO_E_IO, RECO_E_FORMAT,
 * RECO_E_NOMEM (too large). */
reco_status reco_download(reco_ctx *ctx, const char *url, const reco_download_opts *opts,
                          unsigned char **data, size_t *bytes);

#endif
