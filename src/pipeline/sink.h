/* pipeline/sink.h: rows from any source into a bank, under one set of rules for duplicates, failures,
 * near-duplicates and resuming. A reader gives it each record in turn, as a row or as a failure, and reports how
 * far it has read. */
#ifndef RECO_SRC_SINK_H
#define RECO_SRC_SINK_H

#include "pipeline/pipeline_internal.h"

typedef struct reco_sink_spec {
    const char *bank;
    bool build;                 /* create it, or go on with its build; else add */
    const char *kind, *content; /* of the source: they name the job, with the encoder and the options */
    const char
        *source; /* its path: relative URIs are of its folder, or of the working directory; NULL: of that */
    bool is_folder;          /* source is that folder itself */
    const reco_model *model; /* embeds pictures and captions; NULL: each row brings its vectors */
    reco_bank_spec encoder;  /* of the vectors, where there is no model */
    bool brings[2];  /* with a model, by reco_side: rows bring their vectors of this side all the same */
    bool update;     /* a record of a row that is there changes it; no build */
    const char *key; /* the column of an update that says which row; NULL: the picture does */
    bool exported;   /* the rows are a bank's own, and so are the doubles among them */
    uint64_t first;  /* source record with which a shard's part begins, else 0 */
    uint64_t total;  /* source records, for progress; 0: not known */
} reco_sink_spec;

typedef struct reco_sink reco_sink;
/* The spec's strings and model are borrowed until the sink is closed. */
reco_status reco_sink_open(reco_ctx *ctx, reco_sink **out, const reco_sink_spec *spec,
                           const reco_ingest_opts *opts, reco_stream_result *result);
/* NULL is fine. */
void reco_sink_close(reco_sink *s);
/* The build was finished before: there is nothing to read. */
bool reco_sink_is_done(const reco_sink *s);
/* Source records before it were dealt with by an earlier run: they are not to be given again. */
uint64_t reco_sink_next(const reco_sink *s);
/* Record `number` as a row. It is taken over; its vectors are copied. */
reco_status reco_sink_take(reco_ctx *ctx, reco_sink *s, reco_pair_row *row, uint64_t number);
/* Record `number` can't be one. Failures are reported in the order of the input. item NULL or "": "row NUMBER". */
reco_status reco_sink_fail(reco_ctx *ctx, reco_sink *s, const char *item, const char *reason,
                           uint64_t number);
/* All records before `seen` were given: a moment to commit. */
reco_status reco_sink_seen(reco_ctx *ctx, reco_sink *s, uint64_t seen);
/* There are no more. */
reco_status reco_sink_finish(reco_ctx *ctx, reco_sink *s, uint64_t seen);

#endif
