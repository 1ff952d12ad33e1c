/* pipeline/export.h: shared by writing an exported folder and reading it back. */
#ifndef RECO_SRC_EXPORT_H
#define RECO_SRC_EXPORT_H

#include "pipeline/pipeline_internal.h"

#define RECO_EXPORT_PREFIX "meta."
#define RECO_EXPORT_OWN                                                                                    \
    "reco." /* what only an export says of a row: base and content, as the bank has them */

/* Would a reader of records take this key for something of its own? (pairs.c) */
bool reco_pair_key_means(const char *key);

/* Rows that are picked, page by page. */
typedef struct reco_export_rows {
    const reco_bank *bank;
    const char *where;
    int64_t ids[1024];
    size_t n;
    bool begun;
} reco_export_rows;
/* n 0 at the end. */
reco_status reco_export_page(reco_ctx *ctx, reco_export_rows *rows);
/* The user's JSON; an empty object where there is none. */
reco_status reco_export_meta(reco_ctx *ctx, const reco_pair *pair, json_t **out);

/* The user's JSON of a row of an exported folder as it was before: without id, and with its own names. */
reco_status reco_export_undo(reco_ctx *ctx, reco_pair_row *row);

#endif
