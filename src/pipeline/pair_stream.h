/* pipeline/pair_stream.h: pairs with pictures, from whatever source, embedded in batches into a bank. */
#ifndef RECO_SRC_PAIR_STREAM_H
#define RECO_SRC_PAIR_STREAM_H

#include "pipeline/pipeline_internal.h"

typedef struct reco_pair_stream {
    const reco_model *model;
    reco_decoder *decoder;
    reco_bank_writer *writer;
    reco_dedup *dedup; /* NULL: near-duplicates are welcome */
    reco_failures failures;
    reco_stream_result *result;
    reco_pair_row *rows; /* [size] */
    uint64_t *numbers;   /* [size] source record of each */
    char **reasons;      /* [size] what is wrong with it; NULL: nothing so far */
    float *image, *text; /* [size][d] */
    bool several;        /* captions of one URI */
    size_t size, n, d;
    size_t commit, uncommitted; /* records between commits, and since the last one */
    size_t held;                /* bytes of pictures in the rows */
    uint64_t next;              /* source records before it were dealt with by an earlier run */
    bool nothing;               /* the build was finished before */
} reco_pair_stream;

/* kind and content name the source. Close it whatever this returns. */
reco_status reco_pair_stream_open(reco_ctx *ctx, reco_pair_stream *g, const reco_model *model,
                                  const char *bank, int build, const char *kind, const char *content,
                                  const reco_stream_opts *opts, reco_stream_result *result);
void reco_pair_stream_close(reco_pair_stream *g);
/* A row with path (or data), uri and caption; it is taken over. */
reco_status reco_pair_stream_take(reco_ctx *ctx, reco_pair_stream *g, reco_pair_row *row, uint64_t number);
/* A record that can't be one, in its turn: failures are reported in the order of the input. */
reco_status reco_pair_stream_fail(reco_ctx *ctx, reco_pair_stream *g, const char *item, const char *reason,
                                  uint64_t number);
/* All records before `seen` were given: a moment to commit. */
reco_status reco_pair_stream_seen(reco_ctx *ctx, reco_pair_stream *g, uint64_t seen);
reco_status reco_pair_stream_finish(reco_ctx *ctx, reco_pair_stream *g, uint64_t seen);

#endif
