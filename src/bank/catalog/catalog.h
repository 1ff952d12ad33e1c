/* bank/catalog/catalog.h: all of a bank that is not a vector. the files of this folder are the only ones that know SQLite; what they
 * do is what another store of the same tables would have to do.
 *
 * A catalog opened for reading stays in one read transaction: it sees one snapshot until it is closed. Used by
 * one thread at a time, but for reco_catalog_pair, reco_catalog_where and reco_catalog_changed, in which threads take turns. */
#ifndef RECO_SRC_BANK_CATALOG_H
#define RECO_SRC_BANK_CATALOG_H

#include "io/io.h"
#include "reco/bank.h"

#define RECO_CATALOG_FORMAT 3
#define RECO_BANK_MAX_ID ((int64_t)1 << 62)
#define RECO_BANK_URI_MAX 65536
#define RECO_BANK_META_MAX (1 << 20)
#define RECO_BANK_JOB_MAX 65536
#define RECO_BLOCK_SUMS_MAX (1 << 20) /* bytes of the sums of a segment's blocks */
#define RECO_SEGMENT_NAME "segment-%06lld.safetensors"

typedef struct reco_catalog reco_catalog;

/* A vector file. Its rows have ascending ids, from `first` on; without holes where nothing was compacted. */
typedef reco_segment_info reco_segment_entry;

typedef struct reco_segment_list {
    reco_segment_entry *items; /* free with reco_free */
    size_t n, room;
} reco_segment_list;
/* A fresh entry at the end; NULL with the error recorded. (read.c) */
reco_segment_entry *reco_segment_push(reco_ctx *ctx, reco_segment_list *list);

/* ---- open.c ---- */

/* Make DIR/bank.sqlite, in one step: a crash leaves none or all of it. The caller holds the writer's lock. */
reco_status reco_catalog_create(reco_ctx *ctx, const char *dir, const reco_bank_spec *spec,
                                const char *job);
/* RECO_E_NOTFOUND when dir holds no bank. */
reco_status reco_catalog_open(reco_ctx *ctx, reco_catalog **out, const char *dir, bool write);
void reco_catalog_close(reco_catalog *c);
/* Was anything committed since c was opened for reading, or is another bank in its place? A few microseconds. */
reco_status reco_catalog_changed(reco_ctx *ctx, reco_catalog *c, bool *changed);

/* ---- read.c ---- */

/* Fills what the catalog knows of *info; rows, segments and vector_bytes follow from the segments. */
reco_status reco_catalog_info(reco_ctx *ctx, reco_catalog *c, reco_bank_info *info, int64_t *next_segment);
/* Of the database and its log. */
uint64_t reco_catalog_bytes(const reco_catalog *c);
/* In order of id; file names are those that the format prescribes. */
reco_status reco_catalog_segments(reco_ctx *ctx, reco_catalog *c, reco_segment_list *out);
/* Calls visit(arg, id) for each deleted row, ascending, and no more than `most` times. */
reco_status reco_catalog_deleted(reco_ctx *ctx, reco_catalog *c, int64_t most,
                                 reco_status (*visit)(reco_ctx *ctx, void *arg, int64_t id), void *arg);
/* Least and greatest id of all pairs, deleted ones too; *some is false when there is none. */
reco_status reco_catalog_range(reco_ctx *ctx, reco_catalog *c, bool *some, int64_t *least,
                               int64_t *greatest);
/* A row, live or deleted as asked for (else RECO_E_NOTFOUND), its checksum verified. */
reco_status reco_catalog_pair(reco_ctx *ctx, reco_catalog *c, int64_t id, bool deleted, reco_pair *out);
/* RECO_E_FORMAT when the rows of bank, segment and job are not those that were written last. */
reco_status reco_catalog_check_seal(reco_ctx *ctx, reco_catalog *c);
/* What is known of a job. */
typedef struct reco_catalog_job_state {
    uint64_t next;
    bool done;
    bool built;    /* it is the one that began the bank */
    int64_t first; /* id of its first row; -1: not recorded */
} reco_catalog_job_state;
reco_status reco_catalog_job(reco_ctx *ctx, reco_catalog *c, const char *job, reco_catalog_job_state *out);

/* ---- check.c ---- */

/* Calls visit with each thing that SQLite finds wrong with the database. */
reco_status reco_catalog_integrity(reco_ctx *ctx, reco_catalog *c,
                                   void (*visit)(void *arg, const char *message), void *arg);
/* Calls visit for each pair, ascending; bad is NULL or says what is wrong with it (a static text). */
reco_status reco_catalog_pairs(reco_ctx *ctx, reco_catalog *c,
                               reco_status (*visit)(reco_ctx *ctx, void *arg, int64_t id, int deleted,
                                                    const char *bad),
                               void *arg);
/* Recorded sums of a segment's blocks of so many bytes; *n 0 where there are none. Free with reco_free. */
reco_status reco_catalog_blocks(reco_ctx *ctx, reco_catalog *c, int64_t segment, size_t block,
                                uint64_t **sums, size_t *n);

/* ---- log.c ---- */

/* A place in the write-ahead log; bytes 0: nowhere. */
typedef struct reco_catalog_damage {
    int64_t offset, bytes;
    const char *what; /* a static text */
} reco_catalog_damage;
/* Damage that takes back commits. What a crash may have left is none. */
reco_status reco_catalog_log(reco_ctx *ctx, const reco_catalog *c, reco_catalog_damage *out);

/* ---- write.c ---- */

/* Is text a JSON object, by the judgement of the store that will query it? */
reco_status reco_catalog_is_object(reco_ctx *ctx, reco_catalog *c, const char *text, bool *yes);
/* Keep n pairs, of ids from `first` on, until the next commit; on disk, seen by reco_catalog_seek alone. */
reco_status reco_catalog_stage(reco_ctx *ctx, reco_catalog *c, int64_t first, const reco_pair *pairs,
                               size_t n);
/* Keep the XXH3-64 of each `block` bytes of a segment's file until the commit that names it. */
reco_status reco_catalog_stage_blocks(reco_ctx *ctx, reco_catalog *c, int64_t segment, size_t block,
                                      const uint64_t *sums, size_t n);
/* The least id of a live or staged pair of pair's place and caption (any_caption: of any), if there is one of its content. Where
 * there is none, one without a place whose uri is pair's, or is `resolved` (may be NULL). -1: there is none. *has_others: with any_caption, the place has more rows. */
reco_status reco_catalog_seek(reco_ctx *ctx, reco_catalog *c, const reco_pair *pair, const char *resolved,
                              bool any_caption, int64_t *id, unsigned char content[RECO_BANK_HASH],
                              bool *has_content, bool *has_others);
/* Note that this pair was met; *before: since the catalog was opened, it was already. Kept in a temporary file. */
reco_status reco_catalog_touch(reco_ctx *ctx, reco_catalog *c, int64_t id, bool *before);
/* Rows are to be found by the value of a column of the user's; case and blanks around its name don't matter. */
reco_status reco_catalog_key_by(reco_ctx *ctx, reco_catalog *c, const char *column);
/* Live rows whose value is that of `meta`: how many, and the least id; -1 where one was noted that is not committed. *has false: meta
 * has no value there. */
reco_status reco_catalog_seek_key(reco_ctx *ctx, reco_catalog *c, const char *column, const char *meta,
                                  bool *has, int64_t *id, int64_t *count);
/* Note that a row of this value is to come. */
reco_status reco_catalog_add_key(reco_ctx *ctx, reco_catalog *c, const char *column, const char *meta);
/* The least id of a live, committed pair whose picture has this content; -1: there is none. */
reco_status reco_catalog_seek_content(reco_ctx *ctx, reco_catalog *c,
                                      const unsigned char content[RECO_BANK_HASH], int64_t *id);

/* Into the table at once, under their own ids. */
reco_status reco_catalog_put(reco_ctx *ctx, reco_catalog *c, const reco_pair *pairs, size_t n);

/* The same of what pair pair->id, which is committed and live, is to say from then on. */
reco_status reco_catalog_stage_change(reco_ctx *ctx, reco_catalog *c, const reco_pair *pair);

typedef struct reco_catalog_change {
    const reco_segment_list *segments;
    const reco_segment_list *old; /* segments whose place they take; NULL: none */
    int64_t next_id, next_segment;
    const char *job; /* NULL: none to remember */
    int64_t first;   /* id of its first row, to be remembered while it is not done; -1: needs not be */
    uint64_t next;
    bool done;
} reco_catalog_change;
/* All that was staged and all of change, or nothing. */
reco_status reco_catalog_commit(reco_ctx *ctx, reco_catalog *c, const reco_catalog_change *change);
/* Compaction: new segments in the place of old ones, and the pairs that are marked deleted, of which there must be
 * `deleted`, gone. */
reco_status reco_catalog_replace(reco_ctx *ctx, reco_catalog *c, const reco_segment_list *old,
                                 const reco_segment_list *new, int64_t next_segment, int64_t deleted);
/* Once this is on disk, no earlier commit that failed can come true any more. */
reco_status reco_catalog_settle(reco_ctx *ctx, reco_catalog *c);

/* ---- shrink.c ---- */

/* Give back the pages that hold nothing, when they are a quarter of the database. Needs its size in free space, twice. */
reco_status reco_catalog_shrink(reco_ctx *ctx, reco_catalog *c);

/* ---- merge.c: a database made of others', under another name until it is whole ---- */

/* DIR/bank.sqlite.tmp: the one of this job that a killed process left, to go on with, or a new one. The caller holds the writer's lock. */
reco_status reco_catalog_merge_open(reco_ctx *ctx, reco_catalog **out, const char *dir,
                                    const reco_bank_spec *spec, const char *job);
/* How far it has come. */
typedef enum reco_merge_round {
    RECO_MERGE_FIRST,   /* pairs of all catalogs are being taken */
    RECO_MERGE_WITHOUT, /* once more, without those that were dropped */
    RECO_MERGE_ALL_IN
} reco_merge_round;
typedef struct reco_merge_state {
    reco_merge_round round;
    int64_t taken;   /* catalogs of this round */
    int64_t met;     /* their live pairs */
    int64_t next_id; /* how many of these are here */
} reco_merge_state;
reco_status reco_catalog_merge_state(reco_ctx *ctx, reco_catalog *c, reco_merge_state *state);
#define RECO_MERGE_CATALOG_BITS 14 /* how many there may be */
/* Where the pairs are of that were taken: enough to tell that none can be there twice. */
typedef struct reco_merge_seen {
    uint64_t *places; /* [room] a hash of the place, and the catalog's number; NULL: nobody asks */
    size_t n, room;
    bool unplaced; /* there are pairs that are known by their uri */
} reco_merge_seen;
/* Live pairs of the next catalog, in order of id, with its sources and finished jobs, in one transaction. total: for progress. */
reco_status reco_catalog_merge_take(reco_ctx *ctx, reco_catalog *c, reco_catalog *from,
                                    reco_merge_state *state, reco_merge_seen *seen, int64_t total);
/* What a catalog to be merged was built from: visit is called with each finished job, and the next record of it. */
reco_status reco_catalog_merge_jobs(reco_ctx *ctx, reco_catalog *from,
                                    reco_status (*visit)(reco_ctx *ctx, void *arg, const char *job,
                                                         int64_t next),
                                    void *arg);
/* Are there live pairs whose picture has no name, by which they would be known when they come again? */
reco_status reco_catalog_merge_nameless(reco_ctx *ctx, reco_catalog *from, bool *nameless);
/* No more catalogs come in this round. */
reco_status reco_catalog_merge_next(reco_ctx *ctx, reco_catalog *c, reco_merge_state *state);

/* Why a pair was dropped: its picture and caption were there; another picture has taken its name; its picture was there under
 * another caption. */
typedef enum reco_merge_fate {
    RECO_MERGE_DOUBLE = 1,
    RECO_MERGE_REPLACED,
    RECO_MERGE_REFUSED
} reco_merge_fate;
typedef struct reco_merge_rules {
    const int64_t *firsts; /* [n] number, among all live pairs, of each catalog's first */
    size_t n;
    bool several; /* captions of one picture */
    /* Do two pairs, by number, show the same picture? For those whose content is not known. */
    reco_status (*same)(reco_ctx *ctx, void *arg, int64_t a, int64_t b, bool *same);
    void *arg;
} reco_merge_rules;
/* After the first round: drop what is there twice. (merge_doubles.c) */
reco_status reco_catalog_merge_drop(reco_ctx *ctx, reco_catalog *c, const reco_merge_rules *rules);
/* Numbers of dropped pairs, ascending, those >= from, at most max. */
reco_status reco_catalog_merge_dropped(reco_ctx *ctx, reco_catalog *c, int64_t from, size_t max,
                                       int64_t *numbers, size_t *n);
/* Calls visit for each that was refused. uri may be NULL. */
reco_status reco_catalog_merge_refused(reco_ctx *ctx, reco_catalog *c,
                                       reco_status (*visit)(reco_ctx *ctx, void *arg, int64_t number,
                                                            const char *uri),
                                       void *arg);
/* How many were dropped, by fate: counts [4]. */
reco_status reco_catalog_merge_counts(reco_ctx *ctx, reco_catalog *c, int64_t counts[4]);
/* It becomes DIR/bank.sqlite, in one step; c is closed whatever is returned. After the commit that finishes its job. */
reco_status reco_catalog_merge_publish(reco_ctx *ctx, reco_catalog *c, const char *dir);

/* ---- delete.c: rows picked to be deleted, or deleted ones to come back, in a temporary table ---- */

/* Start without any. */
reco_status reco_catalog_pick_none(reco_ctx *ctx, reco_catalog *c);
/* *picked: how many rows there are, picked before or not; deleted ones or live ones. */
reco_status reco_catalog_pick_id(reco_ctx *ctx, reco_catalog *c, int64_t id, bool deleted,
                                 uint64_t *picked);
reco_status reco_catalog_pick_uri(reco_ctx *ctx, reco_catalog *c, const char *uri, bool deleted,
                                  uint64_t *picked);
reco_status reco_catalog_pick_deleted(reco_ctx *ctx, reco_catalog *c, uint64_t *picked);
reco_status reco_catalog_picked(reco_ctx *ctx, reco_catalog *c, int64_t from, size_t max, int64_t *ids,
                                size_t *n);
/* Take deleted rows that a live row equals (uri and caption), or a newer one that is picked, out of what is picked. */
reco_status reco_catalog_drop_doubles(reco_ctx *ctx, reco_catalog *c);
/* Those that were taken out. */
reco_status reco_catalog_doubles(reco_ctx *ctx, reco_catalog *c, int64_t from, size_t max, int64_t *ids,
                                 size_t *n);
/* Mark them as deleted or as live, all or none; *marked: how many were not so before. */
reco_status reco_catalog_mark_picked(reco_ctx *ctx, reco_catalog *c, bool deleted, uint64_t *marked);

/* ---- where.c ---- */

typedef struct reco_where_query {
    const char *where;
    int64_t from;   /* rows of this id or more */
    uint64_t rows;  /* about how many there are in all, for the limit on steps */
    bool deleted;   /* look among deleted rows, not among live ones */
    size_t *doubts; /* comparisons of a text with a number that were made are added here; may be NULL */
} reco_where_query;
/* Calls visit for each row for which the condition is true, ascending, until there is *enough. Each doubtful comparison is logged
 * as a warning, once for a condition. visit may use other statements of c. */
reco_status reco_catalog_where(reco_ctx *ctx, reco_catalog *c, const reco_where_query *query,
                               reco_status (*visit)(reco_ctx *ctx, void *arg, int64_t id, bool *enough),
                               void *arg);

#endif
