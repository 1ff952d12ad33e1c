/* reco/bank.h: banks, which store embedded image-text pairs in a folder that can grow and shrink.
 *
 * A bank is a folder: bank.sqlite (everything that is not a vector) and vectors/segment-NNNNNN.safetensors
 * (immutable; tensors image and text, [n][d] F16). A bank has one writer at a time and any number of
 * readers, each of which sees the snapshot it opened. docs/format.md specifies every table and byte. */
#ifndef RECO_BANK_H
#define RECO_BANK_H

#include "reco/base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RECO_BANK_MAX_WIDTH 65536
#define RECO_BANK_MAX_K 1024
#define RECO_CAPTION_MAX 65536 /* bytes of one caption */

typedef struct reco_bank reco_bank;

/* Properties of a bank. Strings end in NUL. Later versions may add fields at the end. */
typedef struct reco_bank_info {
    int format;      /* version of the format, 1..3 */
    size_t d;        /* width of every vector */
    int64_t rows;    /* live rows */
    int64_t deleted; /* rows marked as deleted and not yet compacted */
    int64_t next_id; /* all ids given so far are below it */
    size_t segments;
    int64_t scan_rows;         /* rows that have int8 codes (reco_bank_index), deleted ones too */
    int64_t list_rows;         /* live rows in the lists (reco_bank_index_lists); 0: no lists */
    size_t list_cells[2];      /* cells per side, by reco_side */
    float list_recall;         /* default recall of searches through the lists, or the servers' indexes */
    uint64_t vector_bytes;     /* size of the vector files */
    uint64_t database_bytes;   /* size of bank.sqlite and its log */
    int complete;              /* 0: a build was interrupted; it resumes when run again */
    float logit_scale;         /* exp(logit_scale) of the encoder; 0 if unknown */
    char encoder[256];         /* name of the encoder; "" if unknown */
    char fingerprint[33];      /* hash of the encoder's tensors; "" if unknown */
    size_t shards;             /* number of PostgreSQL servers; 0: the bank is a folder */
    char index_setting[2][12]; /* on servers: "ef_search" or "probes" by side; "": no recall measured */
} reco_bank_info;

/* One row without its vectors. Strings are NUL-terminated UTF-8; all except the caption may be NULL (absent or unknown). */
typedef struct reco_pair {
    int64_t id;
    const char *caption;
    const char *uri;
    const char *meta; /* JSON object with the user's other columns */
    const char *base; /* folder that a relative uri is relative to */
    /* [RECO_BANK_HASH] XXH3-128 of the resolved path or URL, which identifies the picture */
    const unsigned char *place;
    const unsigned char *content; /* [RECO_BANK_HASH] XXH3-128 of the picture's file */
} reco_pair;
#define RECO_BANK_HASH 16

/* ---- reading ---- */

/* Open a snapshot of the bank at path: until it is closed, the handle sees the state committed now. Any
 * number of threads may use it at once, each with its own context, in every function that takes a const
 * reco_bank; functions that read the database (rows and conditions) take turns. Read-only media are supported.
 * Returns RECO_OK; RECO_E_IO, RECO_E_FORMAT (file and reason), RECO_E_NOTFOUND (path is not a bank),
 * RECO_E_UNSUPPORTED (newer format), RECO_E_NOMEM. */
RECO_API reco_status reco_bank_open(reco_ctx *ctx, reco_bank **out, const char *path);

/* Wherever a function takes the path of a bank, for writing too, it also takes a bank on PostgreSQL servers
 * with pgvector: "postgresql://USER@HOST/DATABASE", or several such URLs separated by commas, each of which
 * holds part of the rows (a shard). Such a bank is not a snapshot: each query sees the state committed at
 * that time. Results are the same as those of a folder. Conditions are PostgreSQL's own SQL, run in a
 * read-only transaction with a time limit. Deleted rows are gone at once. Operations that servers don't
 * support return RECO_E_UNSUPPORTED. docs/postgres.md describes the tables. */
typedef struct reco_bank_open_opts {
    int partial; /* 1: results omit shards that fail, with a warning; 0: such a failure is an error */
    /* The recall of searches whose options give none, also in refreshed snapshots. 0: the default recall
     * of the lists, or of the servers' indexes; 1: exact. */
    double recall;
    uint64_t reserved[RECO_RESERVED - 1];
} reco_bank_open_opts;
/* Same as reco_bank_open, with options. opts may be NULL. */
RECO_API reco_status reco_bank_open_with(reco_ctx *ctx, reco_bank **out, const char *path,
                                         const reco_bank_open_opts *opts);
/* Number of servers whose rows are missing from results at present; 0 unless the bank was opened with partial. */
RECO_API size_t reco_bank_shards_failed(const reco_bank *bank);
/* The i-th of these servers, i = 0, 1, ..., as "HOST:PORT/DATABASE"; NULL: there are fewer. Borrowed from the bank. */
RECO_API const char *reco_bank_missing_shard(const reco_bank *bank, size_t i);

/* 1 if the path is postgresql://... or postgres://..., 0 for a folder. Such a path may contain a password:
 * pass it through reco_text_clean before showing it. */
RECO_API int reco_bank_is_server(const char *path);

RECO_API void reco_bank_close(reco_bank *bank);

/* Open a newer snapshot if something was committed since the bank was opened, or if another bank has
 * replaced it at the path.
 *   out  a newer snapshot, to be closed like any other; NULL if nothing was committed, which takes
 *        microseconds to find out. Opening one takes as long as reco_bank_open: a fraction of a
 *        millisecond, and longer with many vector files
 * The older snapshot does not change, and readers can continue to use it. Its filters don't work with the
 * newer snapshot, so create new ones. Close the older snapshot when nobody reads from it any more; files
 * replaced by a compaction take up space until then. Errors as reco_bank_open. */
RECO_API reco_status reco_bank_refresh(reco_ctx *ctx, const reco_bank *bank, reco_bank **out);
RECO_API const reco_bank_info *reco_bank_get_info(const reco_bank *bank); /* borrowed from the bank */

/* A vector file of the snapshot. */
typedef struct reco_segment_info {
    int64_t number, first; /* first: id of its first row */
    int64_t rows;          /* including deleted rows that are not yet compacted */
    int64_t bytes;
    char file[48], xxh3[33]; /* name within vectors/; XXH3-128 of the content */
} reco_segment_info;
/* i = 0..info.segments-1, in ascending order of id; NULL for any other i. Borrowed from the bank. */
RECO_API const reco_segment_info *reco_bank_get_segment(const reco_bank *bank, size_t i);

/* A set of live rows of one open bank, to which searches are restricted. Immutable; may be shared between
 * threads; must be freed before its bank is closed. */
typedef struct reco_bank_filter reco_bank_filter;

/* Create a filter from ids. Ids that are negative, deleted or not in the snapshot are ignored; ids may
 * repeat. Takes one bit per row of the bank. RECO_E_NOMEM. */
RECO_API reco_status reco_bank_filter_ids(reco_ctx *ctx, reco_bank_filter **out, const reco_bank *bank,
                                          const int64_t *ids, size_t n);

/* Create a filter of the live rows for which the SQL expression `where` is true. The expression sees the
 * columns id, caption, uri and meta of table pair; any other name that occurs as a key in the meta of some
 * row stands for the value of that key. The expression can only read and compute: it is one condition of at
 * most 512 KiB without statements, comments or parameters; subqueries may read pair, json_each and
 * json_tree; only those of SQLite's functions that compute are allowed. It is stopped at values of more
 * than 1.2 MB (or 128 MB divided by the number of names and calls in the condition, if that is less), after
 * 10^8 + 2,000 N SQLite steps, and after 10 s + 0.2 ms N. A warning is logged if a text is compared with a
 * number, since SQLite does not compare such operands by value. RECO_E_ARG names what was refused;
 * RECO_E_CANCELLED, RECO_E_NOMEM, RECO_E_IO, RECO_E_FORMAT. */
RECO_API reco_status reco_bank_filter_where(reco_ctx *ctx, reco_bank_filter **out, const reco_bank *bank,
                                            const char *where);

RECO_API size_t reco_bank_filter_count(const reco_bank_filter *filter); /* its rows */
RECO_API void reco_bank_filter_free(reco_bank_filter *filter);          /* NULL is fine */

/* The side of the queries. The number of cells that a recall requires depends on it. */
typedef enum reco_asked {
    RECO_ASKED_EITHER = 0, /* unknown: as many cells as the harder side requires */
    RECO_ASKED_IMAGE = 1,
    RECO_ASKED_TEXT = 2
} reco_asked;

/* RECO_SEARCH_OPTS_INIT sets the defaults. */
typedef struct reco_search_opts {
    size_t k;                       /* 1..RECO_BANK_MAX_K; 0 = 10 */
    float min_similarity;           /* hits of smaller cosine are left out; -1: keep all */
    const reco_bank_filter *filter; /* search among these rows; NULL: all live rows */
    /* [nq][nexclude] rows excluded from the hits of each query. -1 and unknown ids are ignored. May be NULL if nexclude is 0. */
    const int64_t *exclude;
    size_t nexclude;
    /* Expected recall of the k best, averaged over queries. 0: the default of the open bank or of its
     * lists; 1: exact. Without lists (reco_bank_index_lists), every search is exact; on servers, so are
     * searches with a filter. */
    float recall;
    reco_asked asked;
    uint64_t reserved[RECO_RESERVED - 1];
} reco_search_opts;
#define RECO_SEARCH_OPTS_INIT                                                                              \
    {                                                                                                      \
        .min_similarity = -1                                                                               \
    }

/* Results of a search, in arrays of the caller; k as in the options. Unused places hold id -1 and score 0. */
typedef struct reco_hits {
    int64_t *ids;   /* [nq][k] best first */
    float *scores;  /* [nq][k] cosines */
    size_t *counts; /* [nq] hits found, 0..k; may be NULL */
    uint64_t reserved[RECO_RESERVED];
} reco_hits;

/* Find the k bank rows of greatest cosine to each query, among `side`'s vectors.
 *   queries  [nq][d] f32 row-major, norms within 1e-3 of 1; not retained
 *   hits     overwritten on RECO_OK, unspecified on error
 * The search is exact unless the bank has lists and the recall in force is below 1. In that case hits may
 * be missing, but the scores of those found are still exact. Scores are inner products with the stored f16
 * rows, computed in double and rounded to f32; ties are ordered by ascending id. Costs at most nq*N*d
 * multiply-adds, in int8; scratch memory grows with N only by 24 bytes per 1,024 rows. A search that takes
 * longer than a few tenths of a second calls the progress hook, which can cancel it.
 * Returns RECO_OK; RECO_E_ARG (k out of range, a query not unit norm or not finite, a filter of another
 * bank); RECO_E_CANCELLED; RECO_E_NOMEM. */
RECO_API reco_status reco_bank_search(reco_ctx *ctx, const reco_bank *bank, reco_side side,
                                      const float *queries, size_t nq, const reco_search_opts *opts,
                                      const reco_hits *hits);

/* Same as reco_bank_search, and also return the vectors of the hits; on servers, this takes a single round trip.
 *   vectors  [2] by reco_side: [nq][k][d] to fill, with zeros in unused places; NULL: not wanted */
RECO_API reco_status reco_bank_retrieve(reco_ctx *ctx, const reco_bank *bank, reco_side side,
                                        const float *queries, size_t nq, const reco_search_opts *opts,
                                        const reco_hits *hits, float *const vectors[2]);

/* Expected recall of a search with these options, as reco_bank_index_lists measured it; 1: exact. */
RECO_API float reco_bank_expected_recall(const reco_bank *bank, reco_side side,
                                         const reco_search_opts *opts);

/* A recall measurement, with rows of the bank as queries, each excluded from its own results. */
typedef struct reco_recall_point {
    float recall; /* recall@10, lowered by one standard error */
    float cells;  /* mean number of cells visited; on servers, the setting of the index (index_setting) */
    float rows;   /* fraction of all rows that these cells hold; on servers 0 */
} reco_recall_point;
/* The measurements for searches among `side` with queries of side `asked`, in ascending order of recall.
 * Writes at most max points and returns how many exist; 0 without lists. */
RECO_API size_t reco_bank_recall_table(const reco_bank *bank, reco_side side, reco_asked asked,
                                       reco_recall_point *points, size_t max);

/* Read the vectors of rows by id, as f32.
 *   out   [n][d]; rows for id -1 are zero
 * RECO_E_NOTFOUND for an id that is not in the snapshot (deleted rows are readable until they are compacted). */
RECO_API reco_status reco_bank_gather(reco_ctx *ctx, const reco_bank *bank, reco_side side,
                                      const int64_t *ids, size_t n, float *out);

/* List the ids of live rows >= from, in ascending order, at most max of them. *n: how many were written.
 *   where  a condition as in reco_bank_filter_where; NULL: all rows */
RECO_API reco_status reco_bank_select(reco_ctx *ctx, const reco_bank *bank, const char *where, int64_t from,
                                      size_t max, int64_t *ids, size_t *n);

/* What a range search looks for. */
typedef struct reco_range {
    reco_side side;
    const float *query; /* [d], norm within 1e-3 of 1 */
    float least;        /* smallest cosine, -1..1 */
    int64_t from;       /* smallest id */
    size_t max;         /* most rows */
    uint64_t reserved[RECO_RESERVED];
} reco_range;
/* List the live rows of a range, in ascending order of id, with cosines equal to those of reco_bank_search.
 *   hits  ids [max] and counts [1]; scores [max], or NULL
 * Costs N*d multiply-adds over all pages. Errors as reco_bank_search. */
RECO_API reco_status reco_bank_within(reco_ctx *ctx, const reco_bank *bank, const reco_range *range,
                                      const reco_hits *hits);

/* Caption, uri and meta of one row. The strings of *out live until reco_pair_free(out). RECO_E_NOTFOUND. */
RECO_API reco_status reco_bank_get(reco_ctx *ctx, const reco_bank *bank, int64_t id, reco_pair *out);
RECO_API void reco_pair_free(reco_pair *pair);
/* Same for many rows.
 *   ids  [n] as written by reco_bank_search; an id of -1 gives a pair without strings
 *   out  [n], each to be freed with reco_pair_free; nothing to free after an error */
RECO_API reco_status reco_bank_get_many(reco_ctx *ctx, const reco_bank *bank, const int64_t *ids, size_t n,
                                        reco_pair *out);

/* Same for rows that are deleted and not yet compacted; reco_bank_get_deleted returns RECO_E_NOTFOUND for a live row. */
RECO_API reco_status reco_bank_select_deleted(reco_ctx *ctx, const reco_bank *bank, const char *where,
                                              int64_t from, size_t max, int64_t *ids, size_t *n);
RECO_API reco_status reco_bank_get_deleted(reco_ctx *ctx, const reco_bank *bank, int64_t id,
                                           reco_pair *out);

/* ---- writing ---- */

typedef struct reco_bank_spec {
    size_t d;                /* 1..RECO_BANK_MAX_WIDTH */
    const char *encoder;     /* may be NULL */
    const char *fingerprint; /* 32 hex digits; may be NULL */
    float logit_scale;       /* exp(logit_scale) of the encoder, or 0 */
    uint64_t reserved[RECO_RESERVED];
} reco_bank_spec;

typedef struct reco_bank_writer reco_bank_writer;

/* Start or resume a write job. A job is one source of rows (a pairs file, an embeddings folder), identified
 * by a key that the caller derives from its content and options; the bank records how much of it has been committed.
 *
 *   path    folder; with spec it is created if missing (build), without spec it must be a bank (add)
 *   job     key of the job; "" for rows without a source to resume
 *   next    number of source records of this job that earlier, interrupted runs committed
 *   done    1 if the job was already finished and nothing is left to do
 *
 * With spec, an existing bank is accepted only if this same job began it (RECO_E_EXISTS otherwise) and the
 * spec agrees (RECO_E_MISMATCH). Removes files that no commit names. Holds SQLite's write lock only while
 * committing, but an advisory lock as long as the writer is open: RECO_E_BUSY if another writer is active. */
RECO_API reco_status reco_bank_writer_open(reco_ctx *ctx, reco_bank_writer **out, const char *path,
                                           const reco_bank_spec *spec, const char *job, uint64_t *next,
                                           int *done);

/* Add n pairs. Vectors must be finite and of norm within 1e-2 of 1 (they are renormalised before rounding to f16).
 *   image, text  [n][d] f32
 *   pairs        [n]; their ids are not read, since the bank assigns ids in order
 * Nothing is visible before the commit. Takes constant memory: rows are written to the segment file as they arrive.
 * Returns RECO_OK, RECO_E_ARG (row named), RECO_E_IO. */
RECO_API reco_status reco_bank_append(reco_ctx *ctx, reco_bank_writer *w, const float *image,
                                      const float *text, const reco_pair *pairs, size_t n);

/* Commit all appended rows to the bank, in one transaction that also records `next` and `done` of the job.
 * The writer then continues with a new segment. */
RECO_API reco_status reco_bank_commit(reco_ctx *ctx, reco_bank_writer *w, uint64_t next, int done);

/* Remove a bank that a build began and that never had a row: its files, and the folder if nothing else is
 * in it. Closes the writer in any case. RECO_E_ARG if the bank has or had rows; RECO_E_IO. */
RECO_API reco_status reco_bank_writer_discard(reco_ctx *ctx, reco_bank_writer *w);

/* Close the writer; rows that were appended but not committed are discarded. NULL is fine. */
RECO_API void reco_bank_writer_close(reco_bank_writer *w);

typedef enum reco_scan_kind { RECO_SCAN_NONE = 0, RECO_SCAN_INT8 = 1 } reco_scan_kind;

/* Create the scan files, or remove them with RECO_SCAN_NONE. They make searches fast without changing the
 * results: for each segment, they hold int8 codes of the rows and bounds of the quantization error. A build
 * or add creates them automatically from 10,000 rows on, unless they were removed from this bank. Takes
 * memory for the codes of one segment, and half the size of the vectors on disk. *files: how many were
 * created or removed; may be NULL.
 * Returns RECO_OK; RECO_E_BUSY, RECO_E_IO, RECO_E_FORMAT, RECO_E_NOTFOUND as reco_bank_writer_open. */
RECO_API reco_status reco_bank_index(reco_ctx *ctx, const char *path, reco_scan_kind kind, size_t *files);

typedef enum reco_lists_kind { RECO_LISTS_CELLS = 0, RECO_LISTS_NONE = 1 } reco_lists_kind;
typedef struct reco_lists_opts {
    reco_lists_kind kind; /* RECO_LISTS_NONE removes the lists */
    /* cells per side, at most N/2; 0: about 4 sqrt(N), and no lists below 10,000 rows */
    size_t cells;
    float recall; /* default recall of searches, 0.5..1; 0: 0.99 */
    uint64_t reserved[RECO_RESERVED];
} reco_lists_opts;
typedef struct reco_lists_result {
    size_t cells; /* cells per side; 0: no lists. On servers: recalls that were measured */
    size_t files; /* created or removed, including scan files */
    uint64_t reserved[RECO_RESERVED];
} reco_lists_result;

/* Create lists (an inverted file): k-means clusters the rows of each side into cells, and a search visits
 * only the cells nearest to the query, whose rows it ranks exactly. The number of cells that a recall
 * requires is measured by exact searches for some rows of the bank. Rows added later are visited by each
 * search until the lists are created again. The file is derived data: it may be removed, and its bytes
 * don't depend on the number of threads. Takes 24 bytes of memory per row beside the mapped files, and as
 * much disk space as the scan files. opts and result may be NULL. Errors as reco_bank_index; RECO_E_CANCELLED.
 * On servers, only the recall of their HNSW or IVFFlat indexes is measured, at several settings (ef_search,
 * probes), with 50 to 200 rows as queries, and stored (docs/postgres.md); searches then set what their recall
 * requires. RECO_LISTS_NONE forgets it. RECO_E_NOTFOUND: there is no index; RECO_E_UNSUPPORTED: `cells` was
 * given, or there is nowhere to store it. */
RECO_API reco_status reco_bank_index_lists(reco_ctx *ctx, const char *path, const reco_lists_opts *opts,
                                           reco_lists_result *result);

/* A selection of rows: the union of what the fields select. {0}: no rows. */
typedef struct reco_bank_rows {
    const int64_t *ids; /* [nids] */
    size_t nids;
    /* [nuris] URIs as stored, or paths from the working directory to the same picture */
    const char *const *uris;
    size_t nuris;
    const char *ids_file, *uris_file; /* files of ids and of URIs, one per line; NULL: none */
    const char *where;                /* a condition, as in reco_bank_filter_where; NULL: none */
    /* [nnear][d] unit rows: selects the rows whose cosine to any of them is at least `least`, as
     * reco_bank_within finds them among the vectors of sides [nnear]. */
    const float *near;
    const reco_side *sides;
    size_t nnear;
    float least;
    int all; /* 1: every row */
    uint64_t reserved[RECO_RESERVED];
} reco_bank_rows;

/* Called with each row, in ascending order of id; its strings are valid during the call only. */
typedef void (*reco_row_fn)(void *user, const reco_pair *row);

typedef struct reco_delete_opts {
    /* 1: restore deleted rows, with their ids and vectors, which is possible until a compaction removes
     * them. A row stays deleted if the bank holds it again, that is, if a live row, or a newer row that is
     * restored, has the same picture (by place, else by uri) and caption. Deleted rows cannot be searched:
     * `near` gives RECO_E_ARG. */
    int restore;
    /* 1: change nothing, and call `row` with each row that would change. Takes no lock, so it works while a
     * writer is active and on read-only media. */
    int preview;
    /* 0: delete nothing and return RECO_E_ARG if the condition compares a text with a number. SQLite sorts
     * every text after every number, so such a condition rarely selects what was intended. */
    int sure;
    reco_row_fn row; /* may be NULL */
    void *user;
    /* [max_doubles] ids of the first rows that were not restored; may be NULL if max_doubles is 0 */
    int64_t *doubles;
    size_t max_doubles;
    uint64_t reserved[RECO_RESERVED];
} reco_delete_opts;

typedef struct reco_delete_result {
    /* rows deleted or restored; after a preview, or after RECO_E_ARG because `sure` was 0, rows that would be */
    uint64_t rows;
    uint64_t missing; /* ids and uris that no row has */
    uint64_t doubles; /* rows that were not restored */
    uint64_t doubts;  /* comparisons of a text with a number in the condition */
    uint64_t reserved[RECO_RESERVED];
} reco_delete_result;

/* Mark rows as deleted, or remove the mark: all of them or none, in one transaction. The selection is kept on disk.
 *   opts, result  may be NULL
 * RECO_E_ARG, also for a condition that is refused; RECO_E_BUSY if a writer is active; RECO_E_NOTFOUND,
 * RECO_E_IO, RECO_E_FORMAT as reco_bank_writer_open, and for a file of ids or URIs. */
RECO_API reco_status reco_bank_delete(reco_ctx *ctx, const char *path, const reco_bank_rows *rows,
                                      const reco_delete_opts *opts, reco_delete_result *result);

/* ---- checking ---- */

/* A problem in a bank. Strings are valid during the call only. */
typedef struct reco_bank_problem {
    const char *file; /* within the bank: "bank.sqlite", "vectors/segment-000003.safetensors" */
    const char *what; /* "is damaged: checksum differs" */
    /* the damage lies within this range of the file; bytes 0: unknown, or not a range */
    int64_t offset, bytes;
    int64_t id, rows; /* affected ids, id..id+rows-1; rows 0: unknown, or all */
} reco_bank_problem;

typedef void (*reco_problem_fn)(void *user, const reco_bank_problem *problem);

typedef struct reco_bank_health {
    uint64_t problems;     /* 0: the bank is undamaged */
    int64_t rows, deleted; /* pairs found */
    size_t segments;
    uint64_t bytes; /* bytes of vectors that were read */
    /* files of an interrupted or active writer, which the next writer removes; not a problem */
    size_t orphans;
    uint64_t reserved[RECO_RESERVED];
} reco_bank_health;

/* Read every byte of a bank and check it against every checksum, offset, norm and count: vector files (XXH3
 * of the whole and of each 64 KiB, structure, ids, finite unit vectors), the database (SQLite's integrity
 * check, the checksums of each pair and of the small tables), and that both hold the same rows. Takes no
 * lock and constant memory.
 *   fn      called with each problem; may be NULL
 *   health  may be NULL
 *
 * Returns RECO_OK if the bank could be examined, whatever was found; RECO_E_NOTFOUND (no bank),
 * RECO_E_UNSUPPORTED (newer format), RECO_E_NOMEM, RECO_E_CANCELLED. */
RECO_API reco_status reco_bank_verify(reco_ctx *ctx, const char *path, reco_problem_fn fn, void *user,
                                      reco_bank_health *health);

/* ---- merging ---- */

typedef struct reco_merge_opts {
    /* 1: a later bank may add captions to a picture of an earlier bank; 0: they are left out */
    int several_captions;
    uint64_t reserved[RECO_RESERVED];
} reco_merge_opts;

typedef struct reco_merge_result {
    int64_t rows;       /* rows of the merged bank */
    int64_t deleted;    /* deleted rows of the source banks, which are left out */
    int64_t duplicates; /* pairs whose picture and caption are in an earlier bank */
    /* pairs left out because a later bank has another picture under the same name, with the same caption */
    int64_t replaced;
    /* pictures that are in an earlier bank with another caption; listed in failures.jsonl */
    int64_t refused;
    size_t segments;                  /* vector files of the merged bank */
    size_t linked, copied, rewritten; /* how this run made them */
    uint64_t bytes;                   /* of vectors */
    int already;                      /* 1: the banks were already merged, and nothing was done */
    uint64_t reserved[RECO_RESERVED];
} reco_merge_result;

/* Merge banks into a new one: the rows of the first, then those of the second, and so on.
 *   out    the folder to create. It becomes a bank only once the merge is complete
 *   banks  [n] folders, 1..10000; they are only read, each in the state at which it is opened
 * New ids 0, 1, 2, ... are assigned in the order of the banks and of the ids within each. Deleted rows are
 * left out, and so are pairs that an earlier bank has, by the rules of reco_bank_ingest_pairs, except that
 * a picture that was replaced under its name takes the later place. Rows, vectors, captions and ids thus
 * equal those of a bank built from all sources in this order. The merged bank knows the finished jobs of
 * its sources; its failures.jsonl and audit.jsonl are the concatenation of theirs. Vector files that lose
 * no rows are hard-linked, or copied to another file system; others are rewritten. Their scan files go with
 * them, and missing ones are created for a bank of 10,000 rows or more. A merge that was killed resumes
 * when it is run again with the same arguments. Memory: one bit per row of banks with deleted rows, and the
 * names of the vector files.
 * Returns RECO_OK; RECO_E_ARG (a bank given twice or inside out, an incomplete build), RECO_E_MISMATCH (two
 * encoders or widths), RECO_E_EXISTS (out is something else, or two banks have rows without a URI from the
 * same input), RECO_E_NOTFOUND (no rows), RECO_E_FORMAT, RECO_E_BUSY, RECO_E_IO, RECO_E_CANCELLED. */
RECO_API reco_status reco_bank_merge(reco_ctx *ctx, const char *out, const char *const *banks, size_t n,
                                     const reco_merge_opts *opts, reco_merge_result *result);

/* ---- compaction ---- */

typedef struct reco_compact_opts {
    /* most rows of a new segment; 0: as in a build (20 MiB of vectors, 65,536 rows) */
    size_t rows;
    uint64_t reserved[RECO_RESERVED];
} reco_compact_opts;

typedef struct reco_compact_result {
    int64_t rows;    /* live */
    int64_t removed; /* deleted rows whose vectors and captions were removed */
    int64_t copied;  /* live rows that were rewritten */
    size_t segments_before, segments;
    uint64_t bytes_before, bytes; /* of vectors */
    uint64_t reserved[RECO_RESERVED];
} reco_compact_result;

/* Remove deleted rows for good and merge small vector files. Segments that lose rows are rewritten, and so
 * are those that are less than half full, together with their neighbours; ids stay the same. Database pages
 * that held captions of deleted rows are overwritten. If a quarter of the database is unused, it is
 * rewritten (VACUUM), which needs twice its size in free space and is skipped with a warning if it fails.
 *
 * Compaction is one transaction: if it is killed at any moment, the bank is in the state before or after
 * it. Readers keep the snapshot that they opened, with its deleted rows. Rows are verified before they are
 * copied, so a damaged file never gets a new checksum. Takes constant memory plus one bit per row, and free
 * space for the copied rows.
 *   opts, result  may be NULL
 *
 * Returns RECO_OK; RECO_E_BUSY, RECO_E_IO, RECO_E_FORMAT (damage; nothing was changed), RECO_E_NOTFOUND. */
RECO_API reco_status reco_bank_compact(reco_ctx *ctx, const char *path, const reco_compact_opts *opts,
                                       reco_compact_result *result);

#ifdef __cplusplus
}
#endif
#endif
