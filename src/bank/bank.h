/* bank/bank.h: what other modules need besides reco/bank.h: to ask for much at once, and of a writer to find out whether
 * a record is already a row, and to change that row. */
#ifndef RECO_SRC_BANK_H
#define RECO_SRC_BANK_H

#include "reco/bank.h"

/* What rows say, many of them in one round trip. The pair of ids[i] is freed when fn returns. */
typedef reco_status (*reco_pair_fn)(reco_ctx *ctx, void *arg, size_t i, const reco_pair *pair);
reco_status reco_bank_each_pair(reco_ctx *ctx, const reco_bank *bank, const int64_t *ids, size_t n,
                                reco_pair_fn fn, void *arg);

/* One search of several that don't wait for each other. */
typedef struct reco_lookup {
    reco_side side;
    const float *queries; /* [nq][d] */
    size_t nq;
    reco_search_opts opts;
    reco_hits hits;
    float *vectors[2]; /* by reco_side: [nq][k][d] to fill, as of reco_bank_retrieve; NULL: not wanted */
    reco_pair *pairs;  /* [nq][k] to fill, as of reco_bank_get_many; NULL: not wanted */
} reco_lookup;
/* Servers are asked for all of them, and all that belongs to the hits, in one round trip. Settles the options. After an error
 * there are no pairs to free. */
reco_status reco_bank_look_up(reco_ctx *ctx, const reco_bank *bank, reco_lookup *lookups, size_t n);

/* ---- ids.c ---- */

/* A row that is asked for at a place of a list. */
typedef struct reco_wanted {
    int64_t id;
    size_t at;
} reco_wanted;
int reco_by_wanted(const void *a, const void *b); /* for qsort: by id, then by place */

/* A list of ids that grows; at is freed with reco_free. */
typedef struct reco_id_list {
    int64_t *at; /* [n] */
    size_t n, room;
} reco_id_list;
reco_status reco_id_list_add(reco_ctx *ctx, reco_id_list *to, const int64_t *ids, size_t n);

/* RECO_OK when append would take the pair; RECO_E_ARG says what is wrong with it: a caption, uri or meta that is too
 * long or not UTF-8, a meta that is no JSON object. */
reco_status reco_bank_check_pair(reco_ctx *ctx, reco_bank_writer *w, const reco_pair *pair);

/* A row that is live, or appended and not yet committed, as reco_bank_seek finds it. */
typedef enum reco_bank_held {
    RECO_HELD_NOT = 0,
    RECO_HELD_BEFORE = 1, /* since before this job began */
    RECO_HELD_BY_JOB = 2  /* it came earlier in this job, in this run or one that was interrupted */
} reco_bank_held;
typedef enum reco_picture_is {
    RECO_PICTURE_UNKNOWN = 0, /* the content of one of the two was never read */
    RECO_PICTURE_SAME = 1,
    RECO_PICTURE_OTHER = 2
} reco_picture_is;
typedef struct reco_bank_found {
    int64_t id; /* -1: there is none */
    reco_bank_held held;
    reco_picture_is same;
    int others; /* 1: the picture has more rows (with any_caption) */
} reco_bank_found;

/* Is there a row of this picture? One is, whose place is pair's, or which has no place (of a bank of format 1 or 2) and whose
 * uri is pair's or `resolved`; one of the same content comes first, then the least id.
 *   pair         uri, place, content and caption are looked at
 *   resolved     the absolute path or URL of pair->uri; may be NULL
 *   any_caption  1: whatever the row's caption; 0: it must be pair's */
reco_status reco_bank_seek(reco_ctx *ctx, reco_bank_writer *w, const reco_pair *pair, const char *resolved,
                           int any_caption, reco_bank_found *out);

/* From now on rows can be found by the value of this column of theirs, in whose name case and blanks around it don't matter.
 * Reads all live rows once; what it notes lies on disk. */
reco_status reco_bank_key_by(reco_ctx *ctx, reco_bank_writer *w, const char *column);
/* The row whose column has the value that `meta` has there (compared as text).
 *   rows  how many there are; 0: none, and the value is noted, so that *id is -1 when it comes again; -1: meta has no value */
reco_status reco_bank_seek_key(reco_ctx *ctx, reco_bank_writer *w, const char *meta, int64_t *id,
                               int64_t *rows);

/* Note that a record is of this row. *before: an earlier one was, since the writer was opened. */
reco_status reco_bank_touch(reco_ctx *ctx, reco_bank_writer *w, int64_t id, int *before);

/* The image vector [d] of a committed row whose picture has this very content [RECO_BANK_HASH]; *found 0: there is none. */
reco_status reco_bank_seek_picture(reco_ctx *ctx, reco_bank_writer *w, const unsigned char *content,
                                   float *image, int *found);

/* A vector [d] of a committed row, and what it says, as of the last commit. */
reco_status reco_bank_writer_gather(reco_ctx *ctx, reco_bank_writer *w, reco_side side, int64_t id,
                                    float *out);
reco_status reco_bank_writer_get(reco_ctx *ctx, reco_bank_writer *w, int64_t id, reco_pair *out);

/* Row pair->id, live and committed, is to say what pair says, and to have these vectors [d] (NULL: those it has). It keeps its
 * id. Seen from the next commit on, which writes anew the vector files that hold changed vectors; until then they are held
 * in memory, 2 d bytes each. RECO_E_ARG as reco_bank_append. */
reco_status reco_bank_change(reco_ctx *ctx, reco_bank_writer *w, const reco_pair *pair, const float *image,
                             const float *text);

/* Rows that this job has appended, in this run and in those before it that were interrupted. */
int64_t reco_bank_writer_added(const reco_bank_writer *w);
/* Rows of the last commit that every other commit writes to again; 0: commits are as dear in a large bank as in a small one. */
int64_t reco_bank_writer_rows(const reco_bank_writer *w);

#endif
