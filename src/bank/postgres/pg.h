/* bank/postgres/pg.h: connections to several servers that are queried in parallel, and what a bank stores about them. */
#ifndef RECO_SRC_BANK_PG_H
#define RECO_SRC_BANK_PG_H

#include "bank/bank_internal.h"
#include "bank/postgres/postgres.h"

#include <libpq-fe.h>

#define PG_MARGIN 10 /* rows that are fetched beyond k */
#define PG_INDEX 96  /* bytes of what an index is: "hnsw (image halfvec_ip_ops) WITH (m='16')" */

/* Recall is measured of so many best, at so many settings at most. */
#define PG_DEPTH_FEW 10
#define PG_DEPTH_MANY 100
#define PG_POINTS 16

typedef struct pg_point {
    int setting;     /* hnsw.ef_search, ivfflat.probes */
    float recall[2]; /* of PG_DEPTH_FEW, PG_DEPTH_MANY */
} pg_point;

typedef struct pg_points {
    size_t n; /* 0: not measured */
    pg_point at[PG_POINTS];
} pg_points;

/* What the servers' indexes find. */
typedef struct pg_recalls {
    float wanted; /* by searches that don't say */
    int64_t rows; /* when it was measured; 0: it was not */
    char index[2][PG_INDEX];
    pg_points points[2][2]; /* by side, by the side that asks */
} pg_recalls;

/* One server. */
typedef struct pg_shard {
    char *url;      /* a secret */
    char *password; /* what is taken out of messages; NULL: none that is known */
    char label[128];
    PGconn *conn;   /* NULL: not connected */
    bool failed;    /* in a partial bank: left out of what is asked now, */
    double again;   /* and not tried before this moment */
    PGconn *coming; /* of one that failed: a connection on its way, */
    double until;   /* which is given up then; */
    int waits;      /* poll's events that it waits for */
    bool back;      /* it answers again, but has not been looked at: the bank is to be opened anew */
    /* What is there, looked at when it is opened. */
    bool looked;
    bool half[2];                       /* by side: the column is a halfvec, not a vector */
    bool has_uri, has_meta, has_origin; /* columns; origin: base, place and content */
    bool is_ours;                       /* tables that reco made: it may write there */
    bool keeps_recall;                  /* reco_bank has a column for it */
    char index[2][PG_INDEX];            /* by side: an HNSW or IVFFlat index, "" without one */
    int pgvector;                       /* its version: 6 is 0.6 */
    reco_bank_info info;                /* of this server's rows */
} pg_shard;

typedef struct pg_set {
    pg_shard *shards;
    size_t n;
    bool partial;
    bool writes;     /* sessions may write */
    bool looking;    /* what is there is being looked at */
    double connect;  /* seconds to connect in, and to wait for an answer beyond its own time */
    int64_t timeout; /* ms of one statement: 10 s and 0.2 ms a row, or less: */
    int64_t limit;   /* the servers' own statement_timeout; 0: none */
} pg_set;

typedef struct pg_bank {
    reco_bank bank; /* what everybody sees of it */
    pthread_mutex_t turn;
    pg_set set;
    char *urls; /* a secret */
    reco_bank_open_opts opts;
    pg_recalls recalls;
    int64_t changes;
} pg_bank;
static inline pg_bank *pg_of(const reco_bank *bank) { return (pg_bank *)(uintptr_t)bank; }

/* ---- connect.c ---- */

/* Take the URLs apart; nothing is connected. */
reco_status pg_set_begin(reco_ctx *ctx, pg_set *set, const char *urls);
void pg_set_end(pg_set *set);
/* Connect all that are not, side by side. In a partial set those that fail are marked, unless all do; they are connected again
 * in the background, as far as they get from call to call. */
reco_status pg_connect(reco_ctx *ctx, pg_set *set);
void pg_disconnect(pg_shard *s);
/* s->label and a message of libpq's or the server's, in one line and without secrets, as the error; of one that fails in a
 * partial set a warning, and RECO_OK. */
reco_status pg_fail(reco_ctx *ctx, pg_set *set, pg_shard *s, reco_status status, const char *message);

/* ---- run.c ---- */

/* One statement: parameters in PostgreSQL's binary form or as text, NULL for NULL; all of it may go when send returns again. */
typedef struct pg_call {
    const char *sql;
    int n;
    const char *values[12];
    int lengths[12], formats[12];
} pg_call;
void pg_text(pg_call *call, const char *text);
void pg_bytes(pg_call *call, const void *bytes, size_t n);
/* *to holds the number as it is sent, and must last. */
void pg_int(pg_call *call, int64_t *to, int64_t value);

/* Statements for all shards, in one round trip: of shard s calls (or per_shard[s]) ones. */
typedef struct pg_work {
    size_t calls;
    const size_t *per_shard; /* NULL: calls each */
    reco_status (*send)(reco_ctx *ctx, void *arg, size_t shard, size_t i, pg_call *call);
    /* Rows in binary form; NULL: nobody looks at them. */
    reco_status (*take)(reco_ctx *ctx, void *arg, size_t shard, size_t i, const PGresult *rows);
    void *arg;
    const char *what;  /* for the progress hook; NULL: none */
    bool bare;         /* without a transaction of their own */
    reco_status wrong; /* what an error in SQL is: RECO_E_ARG for a user's; RECO_OK: RECO_E_IO */
    int64_t timeout;   /* ms; 0: the set's */
} pg_work;
/* Each statement in a read-only transaction, unless bare. Shards answer in any order; of one shard the answers come in order. */
reco_status pg_run(reco_ctx *ctx, pg_set *set, const pg_work *work);
/* The same in turn with the bank's other threads. */
reco_status pg_read(reco_ctx *ctx, const reco_bank *bank, const pg_work *work);

/* ---- values.c ---- */

int64_t pg_get_int(const PGresult *rows, int row, int column); /* of an int2, int4 or int8; 0 for NULL */
bool pg_get_bool(const PGresult *rows, int row, int column);
const char *pg_get_text(const PGresult *rows, int row, int column); /* NULL for NULL */
/* A vector or halfvec [d], rounded to halves as a folder keeps it, in floats. */
reco_status pg_get_vector(reco_ctx *ctx, const pg_shard *s, const PGresult *rows, int row, int column,
                          bool half, size_t d, float *out);
/* A vector [d] as it is sent, [4 + 4 d] bytes for vectors and [4 + 2 d] for halves; how many. */
size_t pg_put_vector(unsigned char *to, const float *x, bool half, size_t d);
size_t pg_put_halves(unsigned char *to, const uint16_t *x, bool half, size_t d);
/* int8[] of n ids, [20 + 12 n] bytes; how many. */
size_t pg_put_ids(unsigned char *to, const int64_t *ids, size_t n);
static inline size_t pg_ids_bytes(size_t n) { return 20 + 12 * n; }
void pg_put16(unsigned char *to, uint16_t value);
void pg_put32(unsigned char *to, uint32_t value);
void pg_put64(unsigned char *to, uint64_t value);

/* ---- rows.c ---- */

/* caption, uri, meta and where it came from, in this order, NULL for columns that are not there. */
const char *pg_pair_columns(const pg_shard *s);
/* A row of these, from column `first` on, behind its id in column 0; free with reco_pair_free. */
reco_status pg_get_pair(reco_ctx *ctx, const pg_shard *s, const PGresult *rows, int row, int first,
                        reco_pair *out);

/* ---- where.c ---- */

/* Is it one condition, which can't reach out of its parentheses? */
reco_status pg_check_where(reco_ctx *ctx, const char *where);
extern const char pg_side_names[2][6];

/* ---- recall.c ---- */

/* "ef_search" or "probes" */
const char *pg_setting_name(const char *index);
/* The least setting of the index that reaches the recall in force, and what was measured there; 0: only an exact search does. */
int pg_plan(const reco_bank *bank, reco_side side, const reco_search_opts *opts, float *reached);
/* As they stand in reco_bank.recall. */
json_t *pg_pack_recalls(const pg_recalls *r);
void pg_read_recalls(const json_t *all, pg_recalls *r);
/* Is this the index of the side on every server that answers? */
bool pg_is_index(const pg_set *set, reco_side side, const char *index);
/* Forget those of indexes that are gone, and tell info of the others. */
void pg_settle_recalls(reco_ctx *ctx, const pg_set *set, pg_recalls *r, reco_bank_info *info);
float pg_expected(const reco_bank *bank, reco_side side, const reco_search_opts *opts);
size_t pg_table(const reco_bank *bank, reco_side side, reco_asked asked, reco_recall_point *points,
                size_t max);

/* ---- the operations ---- */

/* look.c; recalls may be NULL. */
reco_status pg_look(reco_ctx *ctx, pg_set *set, reco_bank_info *info, int64_t *changes,
                    pg_recalls *recalls);
reco_status pg_look_up(reco_ctx *ctx, const reco_bank *bank, const reco_lookup *lookups, size_t n);
/* One search by the servers' indexes at this setting; 0: exactly. what: for the progress hook. */
reco_status pg_find(reco_ctx *ctx, const reco_bank *bank, const reco_lookup *lookup, int setting,
                    const char *what);
reco_status pg_within(reco_ctx *ctx, const reco_bank *bank, const reco_range *range, const reco_hits *hits);
reco_status pg_gather(reco_ctx *ctx, const reco_bank *bank, reco_side side, const int64_t *ids, size_t n,
                      float *out);
reco_status pg_select(reco_ctx *ctx, const reco_bank *bank, const reco_bank_choice *choice, size_t max,
                      int64_t *ids, size_t *n);
reco_status pg_get(reco_ctx *ctx, const reco_bank *bank, int64_t id, bool deleted, reco_pair *out);
reco_status pg_get_many(reco_ctx *ctx, const reco_bank *bank, const int64_t *ids, size_t n, reco_pair *out);
reco_status pg_filter_ids(reco_ctx *ctx, reco_bank_filter **out, const reco_bank *bank, const int64_t *ids,
                          size_t n);
reco_status pg_filter_where(reco_ctx *ctx, reco_bank_filter **out, const reco_bank *bank,
                            const char *where);

#endif
