/* bank/postgres/write.h: writing rows to servers. */
#ifndef RECO_SRC_BANK_PG_WRITE_H
#define RECO_SRC_BANK_PG_WRITE_H

#include "bank/postgres/pg.h"

/* A row that is to change at the commit. */
typedef struct pg_change {
    reco_pair pair;       /* all strings in the caption's block */
    uint16_t *vectors[2]; /* [d] by side; NULL: as it is */
} pg_change;

/* Hashes of all pictures, once there are many to ask about. */
typedef struct pg_known {
    enum { PG_KNOWN_NONE, PG_KNOWN_ALL, PG_KNOWN_TOO_MANY } state;
    uint64_t *hashes; /* hash table [room], a power of two; 0: free */
    size_t n, room;
} pg_known;

typedef struct pg_writer {
    reco_bank_writer w;
    pg_set set;
    bool builds;      /* the job is the one that began the bank */
    bool begun;       /* a transaction is open on every server */
    int64_t *added;   /* [shards] rows since the last commit */
    int64_t *touched; /* hash table [touched_room] of ids + 1; 0: free */
    size_t ntouched, touched_room;
    pg_known known;
    uint64_t seeks; /* before it was known */
    pg_change *changes;
    size_t nchanges, changes_room;
} pg_writer;
static inline pg_writer *pg_writer_of(reco_bank_writer *w) { return (pg_writer *)w; }

/* The server that a new row goes to. */
size_t pg_shard_of(int64_t id, size_t n);

/* ---- write.c ---- */

/* The same statement on all servers, without an answer that matters. */
reco_status pg_all(reco_ctx *ctx, pg_set *set, const char *sql);
/* A transaction on every server, unless there is one. */
reco_status pg_begin(reco_ctx *ctx, pg_writer *p);
/* The commit, on every server. */
reco_status pg_commit_all(reco_ctx *ctx, pg_writer *p);

/* ---- create.c ---- */

/* Tables for a bank, on servers that have none. */
reco_status pg_create(reco_ctx *ctx, pg_set *set, const reco_bank_spec *spec, const char *job);

/* ---- known.c ---- */

/* A row that was added, or what one is to say. */
reco_status pg_know(reco_ctx *ctx, pg_writer *p, const reco_pair *pair);
/* *may false: no row is of pair's picture. */
reco_status pg_may_be_there(reco_ctx *ctx, pg_writer *p, const reco_pair *pair, const char *resolved,
                            bool *may);

/* ---- copy.c, change.c, seek.c: the writer's operations ---- */

reco_status pg_append(reco_ctx *ctx, reco_bank_writer *w, const float *const x[2], const double *norms,
                      const reco_pair *pairs, size_t n);
reco_status pg_change_row(reco_ctx *ctx, reco_bank_writer *w, const reco_pair *pair, const float *image,
                          const float *text);
/* What is to change, in the open transaction. */
reco_status pg_send_changes(reco_ctx *ctx, pg_writer *p);
void pg_drop_changes(pg_writer *p);
reco_status pg_seek(reco_ctx *ctx, reco_bank_writer *w, const reco_pair *pair, const char *resolved,
                    bool any_caption, int64_t *id, unsigned char content[RECO_BANK_HASH], bool *has_content,
                    bool *has_others);
reco_status pg_touch(reco_ctx *ctx, reco_bank_writer *w, int64_t id, bool *before);
reco_status pg_key_by(reco_ctx *ctx, reco_bank_writer *w);
reco_status pg_seek_key(reco_ctx *ctx, reco_bank_writer *w, const char *meta, bool *has, int64_t *id,
                        int64_t *count);
reco_status pg_add_key(reco_ctx *ctx, reco_bank_writer *w, const char *meta);
reco_status pg_seek_content(reco_ctx *ctx, reco_bank_writer *w, const unsigned char content[RECO_BANK_HASH],
                            int64_t *id);
reco_status pg_writer_gather(reco_ctx *ctx, reco_bank_writer *w, reco_side side, int64_t id, float *out);
reco_status pg_writer_get(reco_ctx *ctx, reco_bank_writer *w, int64_t id, reco_pair *out);

#endif
