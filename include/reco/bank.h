/* reco/bank.h: the memory: image-text pairs, embedded, in a folder that grows and shrinks.
 *
 * A bank is a folder: bank.sqlite (everything that is not a vector) and vectors/segment-NNNNNN.safetensors
 * (immutable; tensors image and text, [n][d] F16). One writer at a time, any number of readers, each on the
 * snapshot it opened. docs/format.md has every table and byte. */
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

/* What a bank says of itself. Strings end in NUL. Later versions may have more at the end. */
typedef struct reco_bank_info {
    int format;      /* version of the format, 1..3 */
    size_t d;        /* width of every vector */
    int64_t rows;    /* live rows */
    int64_t deleted; /* marked, not yet compacted */
    int64_t next_id; /* ids below it have been given */
    size_t segments;
    int64_t scan_rows;       /* rows that have int8 codes (reco_bank_index), deleted ones too */
    int64_t list_rows;       /* live rows in lists (reco_bank_index_lists); 0: there are none */
    size_t list_cells[2];    /* by reco_side */
    float list_recall;       /* that a search of them has by default */
    uint64_t vector_bytes;   /* of the vector files */
    uint64_t database_bytes; /* of bank.sqlite and its log */
    int complete;            /* 0: a build was cut off and goes on when it is run again */
    float logit_scale;       /* CLIP's own exp(logit_scale); 0 where the encoder is unknown */
    char encoder[256];       /* name of the encoder, "" where unknown */
    char fingerprint[33];    /* of its tensors, "" where unknown */
    size_t shards;           /* PostgreSQL servers that it lies on; 0: a folder */
} reco_bank_info;

/* One row without its vectors. Strings are NUL-terminated UTF-8; all but the caption may be NULL (none, or not known). */
typedef struct reco_pair {
    int64_t id;
    const char *caption;
    const char *uri;
    const char *meta; /* a JSON object, the user's other columns */
    const char *base; /* the folder that a relative uri is to be taken from */
    const unsigned char
        *place; /* [RECO_BANK_HASH] XXH3-128 of the resolved path or URL: whose picture it is */
    const unsigned char *content; /* [RECO_BANK_HASH] XXH3-128 of the picture's file */
} reco_pair;
#define RECO_BANK_HASH 16

/* ---- reading ---- */

/* Open a snapshot of the bank at path: what is committed now is what this handle sees until it is closed.
 * Any number of threads may use it at once, each with a context of its own, in every function that takes a const reco_bank;
 * those that read the database (rows and conditions) take turns there. Read-only media are fine. Returns RECO_OK; RECO_E_IO, RECO_E_FORMAT (file and reason), RECO_E_NOTFOUND (path is
 * no bank), RECO_E_UNSUPPORTED (newer format), RECO_E_NOMEM. */
RECO_API reco_status reco_bank_open(reco_ctx *ctx, reco_bank **out, const char *path);

/* A bank on PostgreSQL servers with pgvector: "postgresql://USER@HOST/DATABASE", or several with commas between them, each of
 * which holds a part of the rows (a shard), stands wherever a bank's path does, in writing too. It is no snapshot: each question
 * sees what is committed then. Answers are those of a folder; conditions are PostgreSQL's own SQL, in a read-only transaction
 * with a limit of time; rows that are deleted are gone. What servers can't do is RECO_E_UNSUPPORTED. docs/postgres.md has the
 * tables. */
typedef struct reco_bank_open_opts {
    int partial;     /* 1: shards that fail are left out of answers, with a warning; 0: they are errors */
    int approximate; /* 1: search by the servers' HNSW or IVFFlat indexes, where there are such */
    /* Of a folder: the recall of searches that don't say (reco_search_opts), also once it is refreshed. 0: what its lists were made
     * for; 1: exact. */
    double recall;
    uint64_t reserved[RECO_RESERVED - 1];
} reco_bank_open_opts;
/* The same as reco_bank_open with options. opts may be NULL. */
RECO_API reco_status reco_bank_open_with(reco_ctx *ctx, reco_bank **out, const char *path,
                                         const reco_bank_open_opts *opts);
/* The share of the 10 nearest rows that a search by the servers' indexes finds, measured against the exact search by n rows of the
 * bank itself.
 *   recall  [own][in] by reco_side, of vectors of side `own` among those of side `in`; NaN where a server has no index
 * It costs up to 4 n exact searches. Where reco made the tables and may write, they remember it, and opening with `approximate` logs it.
 * RECO_E_UNSUPPORTED of a folder. */
RECO_API reco_status reco_bank_measure(reco_ctx *ctx, const reco_bank *bank, size_t n, float recall[2][2]);
/* How many of its servers answers lack now; 0 unless it was opened with partial. */
RECO_API size_t reco_bank_shards_failed(const reco_bank *bank);

/* 1 where a bank's path is postgresql://... or postgres://..., 0 for a folder. Such a path may hold a password: show it by
 * reco_text_clean alone. */
RECO_API int reco_bank_is_server(const char *path);

RECO_API void reco_bank_close(reco_bank *bank);

/* See what was committed since the bank was opened, or another bank that has taken its place at the path.
 *   out  a newer snapshot, to be closed as any other; NULL where nothing was committed, which is found out in microseconds.
 *        Opening one takes as long as reco_bank_open: a fraction of a millisecond, and more with many vector files
 * The bank itself stays what it is. Who reads from it goes on, and its filters are its own: a search in the newer one refuses
 * them, so make them anew. Close the older one when nobody reads from it any more; a compaction's files take up space until
 * then. Errors as reco_bank_open. */
RECO_API reco_status reco_bank_refresh(reco_ctx *ctx, const reco_bank *bank, reco_bank **out);
/* Borrowed from the bank. */
RECO_API const reco_bank_info *reco_bank_get_info(const reco_bank *bank);

/* A vector file of the snapshot. */
typedef struct reco_segment_info {
    int64_t number, first; /* first: id of its first row */
    int64_t rows;          /* deleted ones too, until they are compacted */
    int64_t bytes;
    char file[48], xxh3[33]; /* name within vectors/; XXH3-128 of its content */
} reco_segment_info;
/* i = 0..info.segments-1, ascending by id; NULL for others. Borrowed from the bank. */
RECO_API const reco_segment_info *reco_bank_get_segment(const reco_bank *bank, size_t i);

/* A set of live rows of one open bank, to search among. Immutable; may be shared between threads; freed before its
 * bank is closed. */
typedef struct reco_bank_filter reco_bank_filter;

/* The rows of these ids. Ids that are negative, not in the snapshot or deleted are passed over; the same id may come
 * twice. Costs one bit a row of the bank. RECO_E_NOMEM. */
RECO_API reco_status reco_bank_filter_ids(reco_ctx *ctx, reco_bank_filter **out, const reco_bank *bank,
                                          const int64_t *ids, size_t n);

/* The live rows for which the SQL expression `where` is true. It sees the columns id, caption, uri and meta of table
 * pair; a name that is none of these and that any row has in its meta stands for the value there. It can read and compute, nothing else: one condition of at most 512 KiB, no statements, comments or
 * parameters; subqueries may read pair, json_each and json_tree; functions are SQLite's that compute. Values of more
 * than 1.2 MB (128 MB over the condition's names and calls, if that is less), more than 10^8 + 2,000 N steps of SQLite's and
 * more than 10 s + 0.2 ms N end it. Where a text is compared with a number, which says nothing of their values, a warning is logged.
 * RECO_E_ARG says what was refused; RECO_E_CANCELLED, RECO_E_NOMEM, RECO_E_IO, RECO_E_FORMAT. */
RECO_API reco_status reco_bank_filter_where(reco_ctx *ctx, reco_bank_filter **out, const reco_bank *bank,
                                            const char *where);

/* How many rows are in the set. */
RECO_API size_t reco_bank_filter_count(const reco_bank_filter *filter);
RECO_API void reco_bank_filter_free(reco_bank_filter *filter); /* NULL is fine */

/* Whose vectors ask: how far one must look for a recall differs. */
typedef enum reco_asked {
    RECO_ASKED_EITHER = 0, /* not known: as far as the harder of the two wants */
    RECO_ASKED_IMAGE = 1,
    RECO_ASKED_TEXT = 2
} reco_asked;

/* RECO_SEARCH_OPTS_INIT sets the defaults. */
typedef struct reco_search_opts {
    size_t k;                       /* 1..RECO_BANK_MAX_K; 0 = 10 */
    float min_similarity;           /* hits of smaller cosine are left out; -1 = none are */
    const reco_bank_filter *filter; /* search among these rows; NULL: all live rows */
    /* [nq][nexclude] rows that each query does not find. Ids that are not there, and -1, are passed over. May be NULL where
     * nexclude is 0. */
    const int64_t *exclude;
    size_t nexclude;
    /* Share of the k best that is to be found, in the mean over queries. 0: as the bank was opened or indexed for; 1: all, exactly. Without
     * lists (reco_bank_index_lists) a search is exact. */
    float recall;
    reco_asked asked;
    uint64_t reserved[RECO_RESERVED - 1];
} reco_search_opts;
#define RECO_SEARCH_OPTS_INIT                                                                              \
    {                                                                                                      \
        .min_similarity = -1                                                                               \
    }

/* Results of a search, caller's arrays, k as in the options. Unused places hold id -1, score 0. */
typedef struct reco_hits {
    int64_t *ids;   /* [nq][k] best first */
    float *scores;  /* [nq][k] cosines */
    size_t *counts; /* [nq] hits found, 0..k; may be NULL */
} reco_hits;

/* Find the k bank rows of greatest cosine to each query, among `side`'s vectors.
 *
 *   queries  [nq][d] f32 row-major, norms within 1e-3 of 1; not retained
 *   hits     overwritten on RECO_OK, unspecified on error
 *
 * Exact, but where the bank has lists and opts ask for less: then each hit's score is right all the same, and hits may be missing.
 * Scores are inner products with the stored f16 rows, in double, rounded to f32; equal ones order by smaller id.
 * Costs nq*N*d multiply-adds at most, in int8; scratch does not grow with N but for 24 bytes per 1,024 rows.
 * A search that takes longer than tenths of a second calls the progress hook as it goes, and ends when that asks it to.
 * Returns RECO_OK; RECO_E_ARG (k out of range, a query not unit norm or not finite, a filter of another bank);
 * RECO_E_CANCELLED; RECO_E_NOMEM. */
RECO_API reco_status reco_bank_search(reco_ctx *ctx, const reco_bank *bank, reco_side side,
                                      const float *queries, size_t nq, const reco_search_opts *opts,
                                      reco_hits hits);

/* The same, and the vectors of what is found: on servers all that a question needs comes in one round trip.
 *   vectors  [2] by reco_side: [nq][k][d] to be filled, zero where nothing is found, or NULL where they are not wanted */
RECO_API reco_status reco_bank_retrieve(reco_ctx *ctx, const reco_bank *bank, reco_side side,
                                        const float *queries, size_t nq, const reco_search_opts *opts,
                                        reco_hits hits, float *const vectors[2]);

/* The recall that a search with these options has, as measured when the lists were made; 1: it is exact. */
RECO_API float reco_bank_expected_recall(const reco_bank *bank, reco_side side,
                                         const reco_search_opts *opts);

/* What was measured with rows of the bank as queries, each of which did not find itself. */
typedef struct reco_recall_point {
    float recall; /* of the 10 best, that other queries will have too, by a standard error's caution */
    float cells;  /* looked at, in the mean */
    float rows;   /* share of all that are in them */
} reco_recall_point;
/* The table of searches among `side` asked by one side's vectors, recall rising: up to max points, how many there are. 0 without
 * lists. */
RECO_API size_t reco_bank_recall_table(const reco_bank *bank, reco_side side, reco_asked asked,
                                       reco_recall_point *points, size_t max);

/* Vectors of rows by id, as f32.
 *   out   [n][d]; rows of id -1 are zero
 * RECO_E_NOTFOUND for an id that the snapshot does not hold (deleted ones are still readable until compacted). */
RECO_API reco_status reco_bank_gather(reco_ctx *ctx, const reco_bank *bank, reco_side side,
                                      const int64_t *ids, size_t n, float *out);

/* Ids of live rows in ascending order, those >= from, at most max. *n is how many were written.
 *   where  as in reco_bank_filter_where: of the rows for which it is true; NULL: of all */
RECO_API reco_status reco_bank_select(reco_ctx *ctx, const reco_bank *bank, const char *where, int64_t from,
                                      size_t max, int64_t *ids, size_t *n);

/* Live rows whose cosine to the query is at least `least`, in ascending order of id, those >= from, at most max.
 *   query   [d], norm within 1e-3 of 1
 *   ids     [max]; scores [max], or NULL
 * Exact: the cosines are those that reco_bank_search gives. Costs N*d multiply-adds over all pages.
 * RECO_E_ARG as there. */
RECO_API reco_status reco_bank_within(reco_ctx *ctx, const reco_bank *bank, reco_side side,
                                      const float *query, float least, int64_t from, size_t max,
                                      int64_t *ids, float *scores, size_t *n);

/* Caption, uri and meta of one row. The strings of *out live until reco_pair_free(out). RECO_E_NOTFOUND. */
RECO_API reco_status reco_bank_get(reco_ctx *ctx, const reco_bank *bank, int64_t id, reco_pair *out);
RECO_API void reco_pair_free(reco_pair *pair);
/* The same of many.
 *   ids  [n], as reco_bank_search leaves them: of -1 comes a pair without strings
 *   out  [n], each to be freed with reco_pair_free; none where an error is returned */
RECO_API reco_status reco_bank_get_many(reco_ctx *ctx, const reco_bank *bank, const int64_t *ids, size_t n,
                                        reco_pair *out);

/* The same of rows that are deleted and not yet compacted; reco_bank_get_deleted says RECO_E_NOTFOUND of a live one. */
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

/* Start or resume a job of writing. A job is one source of rows (a pairs file, an embeddings folder) named by a key
 * that the caller makes of its content and options; the bank remembers how much of it has been committed.
 *
 *   path    folder; with spec it is created when missing (build), without it must be a bank (add)
 *   job     key of the job; "" for rows without a source to resume
 *   next    how many source records of this job earlier, interrupted runs have committed
 *   done    1 when the job was finished before: nothing is left to do
 *
 * With spec, an existing bank is accepted only when it was begun by this same job (RECO_E_EXISTS otherwise) and the
 * spec agrees (RECO_E_MISMATCH). Removes files that no commit names. Takes SQLite's write lock only for the moments
 * of commit, but an advisory lock for the writer's life: RECO_E_BUSY when another writer is at work. */
RECO_API reco_status reco_bank_writer_open(reco_ctx *ctx, reco_bank_writer **out, const char *path,
                                           const reco_bank_spec *spec, const char *job, uint64_t *next,
                                           int *done);

/* Add n pairs. Vectors must be finite and of norm within 1e-2 of 1 (they are renormalised before rounding to f16).
 *   image, text  [n][d] f32
 *   pairs        [n]; ids are given by the bank, in order, and not read
 * Nothing is visible before commit. Constant memory: rows go to the segment file as they come.
 * Returns RECO_OK, RECO_E_ARG (row named), RECO_E_IO. */
RECO_API reco_status reco_bank_append(reco_ctx *ctx, reco_bank_writer *w, const float *image,
                                      const float *text, const reco_pair *pairs, size_t n);

/* Make all that was appended part of the bank, in one transaction that also remembers `next` and `done` of the job.
 * After it, the writer goes on with a new segment. */
RECO_API reco_status reco_bank_commit(reco_ctx *ctx, reco_bank_writer *w, uint64_t next, int done);

/* Take back a bank that a build began and that never had a row: its files go, and the folder where nothing else is in it. Closes the
 * writer whatever it returns. RECO_E_ARG when the bank has or had rows; RECO_E_IO. */
RECO_API reco_status reco_bank_writer_discard(reco_ctx *ctx, reco_bank_writer *w);

/* Close; what was appended and not committed is gone. NULL is fine. */
RECO_API void reco_bank_writer_close(reco_bank_writer *w);

typedef enum reco_scan_kind { RECO_SCAN_NONE = 0, RECO_SCAN_INT8 = 1 } reco_scan_kind;

/* Make (or with RECO_SCAN_NONE take away) the files that make searches fast: per segment, int8 codes of the rows and
 * bounds of what they leave out. Answers are the same with them and without. A build or add makes them from 10,000 rows
 * on by itself, unless the bank had them taken away. Takes memory for the codes of one segment, and half the space of
 * the vectors on disk. *files: how many were made or removed; may be NULL.
 * Returns RECO_OK; RECO_E_BUSY, RECO_E_IO, RECO_E_FORMAT, RECO_E_NOTFOUND as reco_bank_writer_open. */
RECO_API reco_status reco_bank_index(reco_ctx *ctx, const char *path, reco_scan_kind kind, size_t *files);

typedef enum reco_lists_kind { RECO_LISTS_CELLS = 0, RECO_LISTS_NONE = 1 } reco_lists_kind;
typedef struct reco_lists_opts {
    reco_lists_kind kind; /* RECO_LISTS_NONE takes lists away */
    size_t
        cells; /* of each side, at most one for two rows; 0: about 4 sqrt(N), and none below 10,000 rows */
    float recall; /* of searches that don't say, 0.5..1; 0: 0.99 */
    uint64_t reserved[RECO_RESERVED];
} reco_lists_opts;
typedef struct reco_lists_result {
    size_t cells; /* of each side; 0: none */
    size_t files; /* that were made or removed, scan files too */
} reco_lists_result;

/* Make lists: the rows of each side in cells, by k-means, so that a search looks at the cells nearest to a query and not at all
 * rows. What it looks at it ranks exactly. How many cells a recall takes is measured, by exact searches for some rows of the bank.
 * Rows that are added later are looked at by every search until lists are made again. The file is derived data: it may be
 * removed, and is the same bytes whatever the number of threads. Takes 24 bytes of memory a row beside the map, and the space of
 * the scan files once more on disk. opts and result may be NULL. Errors as of reco_bank_index; RECO_E_CANCELLED. */
RECO_API reco_status reco_bank_index_lists(reco_ctx *ctx, const char *path, const reco_lists_opts *opts,
                                           reco_lists_result *result);

/* Which rows: all that any field names. {0}: none. */
typedef struct reco_bank_rows {
    const int64_t *ids; /* [nids] */
    size_t nids;
    const char *const *
        uris; /* [nuris] each as it was written, or of the picture that it leads to from the working directory */
    size_t nuris;
    const char *ids_file, *uris_file; /* the same, one a line; NULL: none */
    const char *where;                /* a condition, as in reco_bank_filter_where; NULL: none */
    /* [nnear][d] what has at least the cosine `least` to one of these unit rows, as reco_bank_within finds it among the vectors of
     * sides [nnear]. */
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
    /* 1: deleted rows are meant, and become live again, ids, vectors and all, until a compaction takes them away for good. Rows stay
     * deleted that the bank holds again: a live row has their picture (its place, else its uri) and caption, or a newer one that
     * comes back has. Deleted rows are not searched: `near` is RECO_E_ARG. */
    int restore;
    /* 1: nothing is changed, and `row` is called with each row that would be. It takes no lock: also while a writer is at work, and on media
     * that can't be written. */
    int preview;
    /* 0: nothing is deleted, and RECO_E_ARG returned, where the condition compares a text with a number. SQLite orders every text
     * behind every number, so what is picked is hardly what was meant. */
    int sure;
    reco_row_fn row; /* may be NULL */
    void *user;
    int64_t *
        doubles; /* [max_doubles] ids of the first rows that do not come back; may be NULL where max_doubles is 0 */
    size_t max_doubles;
    uint64_t reserved[RECO_RESERVED];
} reco_delete_opts;

typedef struct reco_delete_result {
    uint64_t
        rows; /* deleted, or live again; of a preview, or where RECO_E_ARG says that it was not sure, those that would be */
    uint64_t missing; /* ids and uris that no row has */
    uint64_t doubles; /* rows that do not come back */
    uint64_t doubts;  /* comparisons of a text with a number in the condition */
    uint64_t reserved[RECO_RESERVED];
} reco_delete_result;

/* Mark rows as deleted, or take the mark away: all or none of them, in one transaction. What is picked lies on disk.
 *   opts, result  may be NULL
 * RECO_E_ARG, also of a condition that is refused; RECO_E_BUSY when a writer is at work; RECO_E_NOTFOUND, RECO_E_IO, RECO_E_FORMAT as
 * reco_bank_writer_open, and of a file. */
RECO_API reco_status reco_bank_delete(reco_ctx *ctx, const char *path, const reco_bank_rows *rows,
                                      const reco_delete_opts *opts, reco_delete_result *result);

/* ---- checking ---- */

/* Something wrong with a bank. Strings are valid during the call only. */
typedef struct reco_bank_problem {
    const char *file; /* within the bank: "bank.sqlite", "vectors/segment-000003.safetensors" */
    const char *what; /* "is damaged: checksum differs" */
    int64_t offset,
        bytes; /* the damage lies within this range of the file; bytes 0: not known, or of no range */
    int64_t id, rows; /* ids that it concerns, id..id+rows-1; rows 0: not known, or all */
} reco_bank_problem;

typedef void (*reco_problem_fn)(void *user, const reco_bank_problem *problem);

typedef struct reco_bank_health {
    uint64_t problems;     /* 0: the bank is whole */
    int64_t rows, deleted; /* pairs found */
    size_t segments;
    uint64_t bytes; /* of vectors that were read */
    size_t
        orphans; /* files of an interrupted writer, or of one at work; the next one removes them: no problem */
    uint64_t reserved[RECO_RESERVED];
} reco_bank_health;

/* Read every byte of a bank and check it against every checksum, offset, norm and count: vector files (XXH3 of the
 * whole and of each 64 KiB, structure, ids, finite unit vectors), the database (SQLite's integrity check, the sum of
 * each pair and of the small tables), and that both speak of the same rows. Takes no lock; constant memory.
 *   fn      called with each problem; may be NULL
 *   health  may be NULL
 * Returns RECO_OK when the bank could be examined, whatever was found; RECO_E_NOTFOUND (no bank), RECO_E_UNSUPPORTED
 * (newer format), RECO_E_NOMEM, RECO_E_CANCELLED. */
RECO_API reco_status reco_bank_verify(reco_ctx *ctx, const char *path, reco_problem_fn fn, void *user,
                                      reco_bank_health *health);

/* ---- merging ---- */

typedef struct reco_merge_opts {
    int several_captions; /* a picture that an earlier bank has may come again with another caption; else it is left out */
    uint64_t reserved[RECO_RESERVED];
} reco_merge_opts;

typedef struct reco_merge_result {
    int64_t rows;       /* of the merged bank */
    int64_t deleted;    /* deleted rows of the banks, which are left behind */
    int64_t duplicates; /* pairs whose picture and caption an earlier bank has */
    int64_t
        replaced; /* pairs that go because a later bank has another picture under their name, with their caption */
    int64_t refused; /* pictures that an earlier bank has with another caption; listed in failures.jsonl */
    size_t segments; /* vector files of the merged bank */
    size_t linked, copied, rewritten; /* how they came there in this run */
    uint64_t bytes;                   /* of vectors */
    int already;                      /* 1: it was merged before, and nothing was done */
} reco_merge_result;

/* Join banks into a new one: the rows of the first, then those of the second, and so on.
 *   out    the folder to make. It is no bank until all is there, and then the whole one
 *   banks  [n] folders, 1..10000; read alone, as they are when they are opened
 * Ids are given anew, 0, 1, 2, ..., in the order of the banks and of ids within each. Pairs that an earlier bank has are left out as
 * reco_bank_ingest_pairs does it, but that a picture that was replaced under its name takes the later place; so are
 * deleted rows. Rows, vectors, captions and ids are then those of a bank that was built from all sources in this order. Finished jobs are known to the merged bank; failures.jsonl and
 * audit.jsonl are those of the banks, one after the other.
 * Vector files that lose nothing are linked, or copied to another file system; others are written anew. Scan files go with
 * them, and a bank of 10,000 rows and more gets those that are missing.
 * A merge that was killed goes on when the same is run again. Memory: a bit a row of what has deleted rows, and the names of vector files.
 * Returns RECO_OK; RECO_E_ARG (no bank twice, none within out; a build that was cut off); RECO_E_MISMATCH (another encoder or
 * width, both named); RECO_E_EXISTS (out is something else); RECO_E_NOTFOUND (no row in all of them); RECO_E_FORMAT (damage), RECO_E_BUSY,
 * RECO_E_IO, RECO_E_CANCELLED. */
RECO_API reco_status reco_bank_merge(reco_ctx *ctx, const char *out, const char *const *banks, size_t n,
                                     const reco_merge_opts *opts, reco_merge_result *result);

/* ---- compaction ---- */

typedef struct reco_compact_opts {
    size_t
        rows; /* of a new segment at most; 0: as many as a build puts there (20 MiB of vectors, 65,536 rows) */
    uint64_t reserved[RECO_RESERVED];
} reco_compact_opts;

typedef struct reco_compact_result {
    int64_t rows;    /* live */
    int64_t removed; /* deleted rows that are gone now, vectors and captions */
    int64_t copied;  /* live rows that were written again */
    size_t segments_before, segments;
    uint64_t bytes_before, bytes; /* of vectors */
    uint64_t reserved[RECO_RESERVED];
} reco_compact_result;

/* Make the deleted rows go, and many small vector files few. Segments that lose rows are rewritten, and so are those
 * that are less than half full, together with their neighbours; ids stay. The pages that captions of deleted rows
 * held are overwritten; when a quarter of the database holds nothing, it is written anew without them (VACUUM), which
 * needs its size in free space, twice, and is left out with a warning where that fails.
 *
 * One transaction: killed at any moment, the bank is that of before or after. Readers keep the rows that they opened,
 * deleted ones too. What is copied is checked first: a damaged file is never given a new checksum.
 * Constant memory but for a bit a row; needs free space for what it copies.
 *   opts, result  may be NULL
 * Returns RECO_OK; RECO_E_BUSY, RECO_E_IO, RECO_E_FORMAT (damage; nothing was changed), RECO_E_NOTFOUND. */
RECO_API reco_status reco_bank_compact(reco_ctx *ctx, const char *path, const reco_compact_opts *opts,
                                       reco_compact_result *result);

#ifdef __cplusplus
}
#endif
#endif
