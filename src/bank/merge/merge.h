/* bank/merge/merge.h: merging banks into a new one. */
#ifndef RECO_SRC_BANK_MERGE_H
#define RECO_SRC_BANK_MERGE_H

#include "bank/bank_internal.h"

typedef struct reco_merge {
    const char *out;
    const char *const *banks;
    size_t n;
    uint64_t *keys; /* [n] of what each bank's segments are */
    int64_t *
        firsts; /* [n + 1] number, among all live rows, of each bank's first; at the end how many there are */
    reco_bank_spec spec;
    char encoder[256], fingerprint[33]; /* of the spec */
    const char *named;                  /* the bank that has it */
    bool several, scans;                /* scans: wanted for what has none */
    char job[64];
    reco_catalog *catalog;
    size_t scanned; /* files that came with their scan files */
    int64_t deleted;
    reco_merge_result result;
} reco_merge;

/* Open bank i, which must be what it was when it was looked at first. (merge.c) */
reco_status reco_merge_open_bank(reco_ctx *ctx, const reco_merge *m, size_t i, reco_bank **bank);

/* All pairs into the catalog, without doubles. (pairs.c) */
reco_status reco_merge_pairs(reco_ctx *ctx, reco_merge *m);

/* All vector files into out, and their names into *files. (vectors.c) */
reco_status reco_merge_vectors(reco_ctx *ctx, reco_merge *m, reco_segment_list *files);

/* failures.jsonl and audit.jsonl. (texts.c) */
reco_status reco_merge_texts(reco_ctx *ctx, reco_merge *m);

#endif
