/* server/server.h: one process that holds a model, banks and a fusion layer, and answers many clients at once. */
#ifndef RECO_SERVER_H
#define RECO_SERVER_H

#include "reco/reco.h"

#include <stdbool.h>
#include <stdio.h>

typedef struct serve_opts {
    const char *model, *fusion; /* NULL: none; without a model only vectors and rows can be asked with */
    const char *const
        *banks; /* [nbanks] paths; a bank is called by the name of its folder, without ".bank" */
    size_t nbanks;
    reco_bank_open_opts
        open;         /* how the banks are opened: partial, and the recall of requests that name none */
    const char *data; /* folder for pictures and audits of banks on servers, a folder each; NULL: none */
    const char *host; /* to listen on, NULL = "127.0.0.1" */
    unsigned port;    /* 0: the system chooses */
    const char *port_file;  /* gets the port as a line when the server listens; NULL: none */
    const char *token_file; /* of lines NAME TOKEN [RATE], or a lone token; NULL: everybody may ask */
    const char *
        rate; /* how often each token may ask, "5" a second or "5:20", where its line says nothing; NULL: as it likes */
    const char *cert, *key; /* files in PEM; NULL: no TLS */
    const char
        *origin; /* Access-Control-Allow-Origin of clip-retrieval's endpoints; NULL = "*", "" = none */
    const char *const
        *fetch_hosts; /* [nfetch_hosts] "host" or "host:port" that pictures may be fetched from */
    size_t nfetch_hosts;
    bool read_only;     /* refuse writes */
    bool show_content;  /* captions may stand in the log */
    size_t body;        /* most bytes of a request; 0 = 32 MiB */
    size_t queue;       /* most requests that wait; 0 = 1024 */
    size_t connections; /* most at a time; 0 = 12,000 */
    double
        patience; /* seconds that a request may take before it is answered with 503, and, where that is less than 30, its
                         * headers to come; 0 = 60 */
    reco_precision precision;
    int exif, threads;
    reco_isa max_isa;
    FILE *log; /* a JSON object a line, of each request; NULL: none */
} serve_opts;

enum { SERVE_ERROR_BYTES = 1200 };

/* Serve until SIGTERM or SIGINT comes, then finish what runs; SIGHUP reads the fusion layer and the tokens anew. To be called from
 * the main thread of a process. On an error *error says what is wrong. */
reco_status serve_run(const serve_opts *opts, char error[SERVE_ERROR_BYTES]);

#endif
