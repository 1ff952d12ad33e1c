/* bank/write/deletion.h: a deletion in the making, open. */
#ifndef RECO_SRC_BANK_DELETION_H
#define RECO_SRC_BANK_DELETION_H

#include "bank/write/writer.h"

/* What another kind of bank than a folder does to delete; deleted rows are not picked there. */
typedef struct reco_deletion_ops {
    /* *n: how many rows there are, picked before or not. */
    reco_status (*pick_id)(reco_ctx *ctx, reco_bank_deletion *d, int64_t id, uint64_t *n);
    reco_status (*pick_uri)(reco_ctx *ctx, reco_bank_deletion *d, const char *uri, uint64_t *n);
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
/* back as there; preview: without a lock, and nothing changes. */
reco_status reco_folder_deletion_open(reco_ctx *ctx, reco_bank_deletion **out, const char *path, bool back,
                                      bool preview);

#endif
