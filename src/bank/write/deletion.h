/* bank/write/deletion.h: a deletion that is being prepared: rows are selected by any number of calls, can be
 * listed, and are then deleted in one commit. It holds the writer's lock, and the selection is on disk.
 * delete_rows.c makes one from a reco_bank_rows. */
#ifndef RECO_SRC_BANK_DELETION_H
#define RECO_SRC_BANK_DELETION_H

#include "bank/write/writer.h"

typedef struct reco_bank_deletion reco_bank_deletion;

/* What another kind of bank than a folder does to delete; deleted rows are not picked there. */
typedef struct reco_deletion_ops {
    /* *found += how many of them have rows, picked before or not. */
    reco_status (*pick_ids)(reco_ctx *ctx, reco_bank_deletion *d, const int64_t *ids, size_t n,
                            uint64_t *found);
    reco_status (*pick_uris)(reco_ctx *ctx, reco_bank_deletion *d, const char *const *uris, size_t n,
                             uint64_t *found);
    /* *n: how many rows there are. */
    reco_status (*pick_where)(reco_ctx *ctx, reco_bank_deletion *d, const char *where, uint64_t *n);
    reco_status (*picked)(reco_ctx *ctx, reco_bank_deletion *d, int64_t from, size_t max, int64_t *ids,
                          size_t *n);
    reco_status (*commit)(reco_ctx *ctx, reco_bank_deletion *d, uint64_t *deleted);
    void (*close)(reco_bank_deletion *d); /* what is its own */
} reco_deletion_ops;

struct reco_bank_deletion {
    const reco_deletion_ops *ops; /* NULL: of a folder */
    void *own;                    /* the ops' */
    reco_bank_writer *writer;     /* NULL in a preview */
    reco_catalog *catalog;        /* the writer's, or its own */
    char *dir;
    int64_t next_id;
    size_t doubts;   /* comparisons of a text with a number in its conditions */
    reco_bank *bank; /* what is being deleted from; opened when it is asked for */
    bool back;       /* deleted rows are picked, to come back */
};

/* back: deleted rows are picked, to come back. preview: it can't be committed, and takes no lock. */
reco_status reco_bank_deletion_open(reco_ctx *ctx, reco_bank_deletion **out, const char *path, bool back,
                                    bool preview);
reco_status reco_folder_deletion_open(reco_ctx *ctx, reco_bank_deletion **out, const char *path, bool back,
                                      bool preview);
void reco_bank_deletion_close(reco_bank_deletion *d);
/* Many at once, since servers are asked for them. *found: how many of the n have rows, whether picked before or not. */
reco_status reco_bank_deletion_pick(reco_ctx *ctx, reco_bank_deletion *d, const int64_t *ids, size_t n,
                                    uint64_t *found);
reco_status reco_bank_deletion_uris(reco_ctx *ctx, reco_bank_deletion *d, const char *const *uris, size_t n,
                                    uint64_t *found);
/* *picked, which may be NULL: how many rows there are, whether picked before or not. */
reco_status reco_bank_deletion_where(reco_ctx *ctx, reco_bank_deletion *d, const char *where,
                                     uint64_t *picked);
reco_status reco_bank_deletion_near(reco_ctx *ctx, reco_bank_deletion *d, reco_side side,
                                    const float *query, float least, uint64_t *picked);
reco_status reco_bank_deletion_all(reco_ctx *ctx, reco_bank_deletion *d, uint64_t *picked);
/* The bank as it is before, to look at rows with; borrowed, valid until the deletion is closed or committed. */
reco_status reco_bank_deletion_bank(reco_ctx *ctx, reco_bank_deletion *d, const reco_bank **bank);
/* Ids that are picked, ascending, those >= from, at most max. */
reco_status reco_bank_deletion_ids(reco_ctx *ctx, reco_bank_deletion *d, int64_t from, size_t max,
                                   int64_t *ids, size_t *n);
/* Of those that were to come back, the ones that the bank holds again; they are no longer picked. */
reco_status reco_bank_deletion_doubles(reco_ctx *ctx, reco_bank_deletion *d, int64_t from, size_t max,
                                       int64_t *ids, size_t *n);
/* In one transaction. Nothing is picked afterwards. */
reco_status reco_bank_deletion_commit(reco_ctx *ctx, reco_bank_deletion *d, uint64_t *deleted);

#endif
