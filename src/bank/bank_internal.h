/* bank/bank_internal.h: an open bank: the operations that each kind of bank implements and, for a folder, the
 * catalog and the mapped vector files. */
#ifndef RECO_SRC_BANK_INTERNAL_H
#define RECO_SRC_BANK_INTERNAL_H

#include "bank/bank.h"
#include "bank/segment/lists.h"

#include <stdatomic.h>

#define RECO_DEFAULT_K 10

/* Rows to list: live or deleted ones, of ids >= from, for which where is true (NULL: all). */
typedef struct reco_bank_choice {
    const char *where;
    bool deleted;
    int64_t from;
} reco_bank_choice;

/* What a kind of bank does. bank.c has looked at the arguments: sides, norms, options (given, k settled) and filters are right,
 * *out is NULL, and *n and the count of within are 0. */
typedef struct reco_bank_ops {
    void (*close)(reco_bank *bank);
    reco_status (*refresh)(reco_ctx *ctx, const reco_bank *bank, reco_bank **out);
    const char *(*missing_shard)(const reco_bank *bank, size_t i); /* NULL: none ever */
    const reco_segment_info *(*get_segment)(const reco_bank *bank, size_t i);
    reco_status (*filter_ids)(reco_ctx *ctx, reco_bank_filter **out, const reco_bank *bank,
                              const int64_t *ids, size_t n);
    reco_status (*filter_where)(reco_ctx *ctx, reco_bank_filter **out, const reco_bank *bank,
                                const char *where);
    reco_status (*search)(reco_ctx *ctx, const reco_bank *bank, reco_side side, const float *queries,
                          size_t nq, const reco_search_opts *opts, const reco_hits *hits);
    /* Several at once, as reco_bank_look_up; NULL: one by one, and what belongs to the hits after them. */
    reco_status (*look_up)(reco_ctx *ctx, const reco_bank *bank, const reco_lookup *lookups, size_t n);
    reco_status (*within)(reco_ctx *ctx, const reco_bank *bank, const reco_range *range,
                          const reco_hits *hits);
    float (*expected)(const reco_bank *bank, reco_side side, const reco_search_opts *opts);
    size_t (*table)(const reco_bank *bank, reco_side side, reco_asked asked, reco_recall_point *points,
                    size_t max);
    reco_status (*gather)(reco_ctx *ctx, const reco_bank *bank, reco_side side, const int64_t *ids,
                          size_t n, float *out);
    reco_status (*select)(reco_ctx *ctx, const reco_bank *bank, const reco_bank_choice *choice, size_t max,
                          int64_t *ids, size_t *n);
    reco_status (*get)(reco_ctx *ctx, const reco_bank *bank, int64_t id, bool deleted, reco_pair *out);
    /* Of many at once, none where one fails; NULL: one by one. */
    reco_status (*get_many)(reco_ctx *ctx, const reco_bank *bank, const int64_t *ids, size_t n,
                            reco_pair *out);
} reco_bank_ops;

struct reco_bank {
    const reco_bank_ops *ops;
    reco_bank_info info;
    /* Of a folder: */
    char *path; /* of the folder, absolute: the working directory may change before a refresh */
    reco_catalog *catalog;
    reco_directions directions; /* of the segments' stages; file NULL: none */
    reco_segment *segments;
    reco_segment_entry *entries; /* [nsegments] */
    size_t nsegments, positions; /* positions: rows of all segments, deleted ones too */
    uint64_t *deleted;           /* bit p: position p is deleted; NULL when nothing is */
    reco_lists *lists;           /* NULL: none */
    float recall;                /* of searches that don't say; 0: what the lists were made for */
    /* So many scans will take the files as not in memory (search/cold.c); no answer depends on it. */
    atomic_int cold;
};

/* The segment of a position below bank->positions. */
size_t reco_bank_segment_at(const reco_bank *bank, size_t position);
/* Position of an id; false when the snapshot does not hold it. */
bool reco_bank_find(const reco_bank *bank, int64_t id, size_t *position);
static inline bool reco_bank_is_deleted(const reco_bank *bank, size_t position)
{
    return bank->deleted && (bank->deleted[position / 64] >> position % 64 & 1);
}
int64_t reco_bank_id_at(const reco_bank *bank, size_t position);
/* [d] f16 at a position. *hint is a segment at or before it, updated: walking upwards costs nothing. */
static inline const uint16_t *reco_bank_row(const reco_bank *bank, reco_side side, size_t position,
                                            size_t *hint)
{
    const reco_segment *s = &bank->segments[*hint];
    while (position - s->base >= s->rows) s = &bank->segments[++*hint];
    return s->vectors[side] + (position - s->base) * bank->info.d;
}

/* RECO_E_UNSUPPORTED, with the reason, of a bank on servers. */
reco_status reco_bank_check_folder(reco_ctx *ctx, const char *path, const char *why);

/* ---- a folder's operations ---- */

reco_status reco_folder_open(reco_ctx *ctx, reco_bank **out, const char *path);
reco_status reco_folder_filter_ids(reco_ctx *ctx, reco_bank_filter **out, const reco_bank *bank,
                                   const int64_t *ids, size_t n);
reco_status reco_folder_filter_where(reco_ctx *ctx, reco_bank_filter **out, const reco_bank *bank,
                                     const char *where);
reco_status reco_folder_search(reco_ctx *ctx, const reco_bank *bank, reco_side side, const float *queries,
                               size_t nq, const reco_search_opts *opts, const reco_hits *hits);
reco_status reco_folder_within(reco_ctx *ctx, const reco_bank *bank, const reco_range *range,
                               const reco_hits *hits);
float reco_folder_expected(const reco_bank *bank, reco_side side, const reco_search_opts *opts);
size_t reco_folder_table(const reco_bank *bank, reco_side side, reco_asked asked, reco_recall_point *points,
                         size_t max);
reco_status reco_folder_gather(reco_ctx *ctx, const reco_bank *bank, reco_side side, const int64_t *ids,
                               size_t n, float *out);
reco_status reco_folder_select(reco_ctx *ctx, const reco_bank *bank, const reco_bank_choice *choice,
                               size_t max, int64_t *ids, size_t *n);
/* Ids of live or deleted rows, those >= from, at most max; how many. */
size_t reco_folder_list(const reco_bank *bank, bool deleted, int64_t from, size_t max, int64_t *ids);

/* ---- postgres/measure.c ---- */

/* reco_bank_index_lists: the recall of the servers' indexes. */
reco_status reco_pg_index(reco_ctx *ctx, const char *urls, const reco_lists_opts *opts,
                          reco_lists_result *result);

#endif
