/* pipeline/pipeline_internal.h: shared by the files of this folder. */
#ifndef RECO_SRC_PIPELINE_INTERNAL_H
#define RECO_SRC_PIPELINE_INTERNAL_H

#include "io/embeddings.h"
#include "io/io.h"
#include "kernels/kernels.h"
#include "query/query.h"
#include "reco/pipeline.h"

/* A JSON string of any bytes: what is not UTF-8 becomes U+FFFD. */
json_t *reco_json_text(const char *text, size_t bytes);
/* One line of JSON into an atomic file; takes the reference to `value`. */
reco_status reco_write_json_line(reco_ctx *ctx, reco_file *file, json_t *value);

/* ---- part.c: which source records are of a shard ---- */

static inline bool reco_is_part(reco_shard shard) { return shard.of > 0; }
/* RECO_E_ARG unless the shard is one of the shards. */
reco_status reco_part_check(reco_ctx *ctx, reco_shard shard);
typedef struct reco_part {
    uint64_t begin, end; /* records [begin, end); end UINT64_MAX where there are no shards */
} reco_part;
reco_part reco_part_of(reco_shard shard, uint64_t total);
void reco_part_key(char key[48], reco_shard shard); /* of a job: ":shard=I/N", or "" */
/* The lines of a text file that are of the shard. */
typedef struct reco_part_lines {
    bool skips_empty;
    reco_lines *lines;
    uint64_t left; /* to come; UINT64_MAX: as many as there are */
} reco_part_lines;
/* From the first on, also where it is open already. */
reco_status reco_part_open(reco_ctx *ctx, reco_part_lines *p, const char *path, reco_shard shard);
/* *line NULL at the end. */
reco_status reco_part_next(reco_ctx *ctx, reco_part_lines *p, const char **line, size_t *bytes);
void reco_part_close(reco_part_lines *p);

/* ---- source.c: pictures by path, from a folder, a list, or the one that it is ---- */

bool reco_is_picture_ending(const char *end, size_t n); /* "jpg", in any case: of any format, read or not */
typedef struct reco_source reco_source;
/* The output `except` (NULL: none) may be a folder below that of the pictures: it is passed over, unless it holds pictures. */
reco_status reco_source_open(reco_ctx *ctx, reco_source **out, const char *path, const char *except,
                             reco_shard shard);
/* Is there a picture at any depth below dir, which need not be there? */
reco_status reco_source_holds_pictures(reco_ctx *ctx, const char *dir, bool *holds);
typedef struct reco_source_item {
    char *name;   /* as it was typed, or below the folder; NULL: the end */
    char *path;   /* to read */
    char *reason; /* why there is nothing to read: a folder that can't be listed; else NULL */
} reco_source_item;
/* Free what comes, also after an error. */
reco_status reco_source_next(reco_ctx *ctx, reco_source *source, reco_source_item *item);
void reco_source_item_free(reco_source_item *item);
uint64_t reco_source_total(const reco_source *source); /* 0: unknown; smaller as others are passed over */
typedef struct reco_source_others {
    uint64_t files, hidden; /* of a folder, so far: evidently no pictures; names that start with a dot */
} reco_source_others;
reco_source_others reco_source_get_others(const reco_source *source);
void reco_source_close(reco_source *source);

/* ---- embed_cache.c: rows of a tar's pictures, kept in a folder ---- */

typedef struct reco_kept_tar {
    char encoder[33]; /* its hash, made once for all tars */
    char *path;       /* NULL: nothing is kept */
    float *rows;      /* [n][d], zero where there is none */
    size_t n, room;
    bool changed;
} reco_kept_tar;
/* Start from {0}; each open needs its close, also after an error. cache NULL: nothing is kept. */
reco_status reco_kept_tar_open(reco_ctx *ctx, reco_kept_tar *t, const reco_model *model, const char *cache,
                               const char *tar);
const float *reco_kept_tar_row(const reco_kept_tar *t, size_t i, size_t d); /* NULL: not kept */
reco_status reco_kept_tar_set(reco_ctx *ctx, reco_kept_tar *t, size_t i, size_t d, const float *row);
/* Writes what was set. */
void reco_kept_tar_close(reco_ctx *ctx, reco_kept_tar *t, const char *cache, size_t d);

/* ---- failures.c: failures.jsonl ---- */

typedef struct reco_failures {
    char *path;
    reco_file *file; /* atomic: written when the first failure comes, in place at commit */
    FILE *journal;   /* of a resumable job: lines are appended as they come */
    reco_failure_fn failure;
    void *user;
    uint64_t count;
} reco_failures;
reco_status reco_failures_begin(reco_ctx *ctx, reco_failures *f, const char *dir, reco_failure_fn failure,
                                void *user);
/* As a journal: a job that goes on from source record `next` keeps the lines of the records before it, since those are
 * not looked at again; a new job (next 0) starts without any. */
reco_status reco_failures_resume(reco_ctx *ctx, reco_failures *f, const char *dir,
                                 const reco_embed_opts *opts, uint64_t next);
reco_status reco_failures_add(reco_ctx *ctx, reco_failures *f, uint64_t row, const char *item,
                              const char *reason);
/* The journal so far is on disk: before a commit after which its records are not looked at again. */
reco_status reco_failures_sync(reco_ctx *ctx, reco_failures *f);
/* In place when there were any; an old file is removed when there were none. A journal is synced. */
reco_status reco_failures_commit(reco_ctx *ctx, reco_failures *f);
void reco_failures_abort(reco_failures *f);

/* ---- decode.c: many pictures on all threads ---- */

typedef struct reco_decoder reco_decoder;
reco_status reco_decoder_create(reco_ctx *ctx, reco_decoder **out, const reco_model *model,
                                const reco_embed_opts *opts);
void reco_decoder_free(reco_decoder *decoder);
/* A picture in memory: the content of its file, or, where height is not 0, pixels [height][width][3]. */
typedef struct reco_picture_bytes {
    const void *data; /* NULL: read the file instead */
    size_t bytes, height, width;
} reco_picture_bytes;
/* rows [n][d], zeros where reasons[i] says why there is none; else as below. Decoding and embedding overlap. */
reco_status reco_decoder_embed(reco_ctx *ctx, reco_decoder *decoder, const char *const *paths,
                               const reco_picture_bytes *data, size_t n, float *rows, char **reasons);
/* XXH3-128 of each file's content, and whether it could be read. Pictures that are turned upright have hashes of their own. */
void reco_decoder_hash(reco_ctx *ctx, reco_decoder *decoder, const char *const *paths,
                       const reco_picture_bytes *data, size_t n, unsigned char (*hashes)[RECO_BANK_HASH],
                       bool *good);
/* pixels[n][3][R][R]; data[n] or NULL; reasons[i] is NULL where it went well, else a string to free with reco_free. */
reco_status reco_decoder_run(reco_ctx *ctx, reco_decoder *decoder, const char *const *paths,
                             const reco_picture_bytes *data, size_t n, float *pixels, char **reasons);

/* ---- dedup.c: pictures that are nearly there already ---- */

typedef struct reco_dedup reco_dedup;
/* least: cosine from which on a picture is a near-duplicate. The bank must exist; it is looked at as it was when it was
 * opened or last committed to. */
reco_status reco_dedup_open(reco_ctx *ctx, reco_dedup **out, const char *bank, size_t d, float least);
void reco_dedup_close(reco_dedup *dedup);
/* Of image [n][d], unit rows, those near one of the bank or an earlier one that stayed go, their texts [n][d] and pairs [n]
 * with them, and the others close up; *n and *dropped follow. What stays is remembered until the next commit: d floats for
 * each. dedup = NULL: all stay. */
reco_status reco_dedup_drop(reco_ctx *ctx, reco_dedup *dedup, float *image, float *text, reco_pair *pairs,
                            size_t *n, uint64_t *dropped);
/* What was remembered is in the bank now. */
reco_status reco_dedup_committed(reco_ctx *ctx, reco_dedup *dedup);
/* RECO_E_ARG unless it is 0 (off) or a cosine above 0. */
reco_status reco_dedup_check(reco_ctx *ctx, float least);

/* ---- pairs.c: records of a pairs file as image path, caption, other columns ---- */

typedef struct reco_pair_row {
    char *uri, *path, *caption,
        *meta;  /* uri as written, path resolved; meta NULL when there are no other columns */
    void *data; /* the picture's content, when it is no file of its own */
    size_t bytes;
    const float *vectors[2]; /* by reco_side, unit rows [d], borrowed; NULL: to be embedded */
    char *base;              /* of an exported row: what its URI is to be taken from; NULL: not said */
    bool has_content;        /* the same of the picture's content */
    unsigned char content[RECO_BANK_HASH];
} reco_pair_row;
void reco_pair_row_free(reco_pair_row *row);
/* RECO_E_FORMAT unless the file has a column of images and one of captions. */
reco_status reco_pair_columns(reco_ctx *ctx, const reco_records *records);
/* Why a pair that an earlier record of the same input brought is skipped. */
#define RECO_REPEATS "duplicate URI: the same image and text as an earlier row"
#define RECO_OTHER_TEXT "duplicate URI: the bank has it already, with another text"
typedef enum reco_pair_need {
    RECO_NEED_NOTHING, /* "" where there is no caption */
    RECO_NEED_BOTH     /* there must be an image and a caption */
} reco_pair_need;
/* Caption, uri and the rest out of a record, which is changed. *reason: NULL, or what makes it a failure (a text that is valid
 * until the next error of ctx).
 *   table  NULL: columns by their known names */
reco_status reco_pair_row_read(reco_ctx *ctx, reco_pair_row *row, json_t *record, const char *file,
                               const reco_table_opts *table, reco_pair_need need, const char **reason);
/* Where the caption is a list of several, the list, to be released, and its name; else NULL. */
reco_status reco_pair_captions(reco_ctx *ctx, const json_t *record, const reco_table_opts *table,
                               char **name, json_t **captions);
/* What of the options changes what is stored, for the key of a job: ":table=HASH", "" for {0} and NULL. */
void reco_table_key(char key[32], const reco_table_opts *table);

/* ---- output.c: DIR/img_emb or text_emb, and metadata, in clip-retrieval's layout ---- */

/* How far a job has come: what it has to go on with when it is killed. */
typedef struct reco_output_place {
    uint64_t next, hash; /* inputs taken, and a hash of them all */
    uint64_t rows, failures, repaired, truncated;
} reco_output_place;

typedef struct reco_output {
    const reco_model *model;
    reco_side side;
    reco_dtype dtype;
    char *dir, *state; /* OUT/.embed.json */
    json_t *job;
    char part[48];        /* of the input, "": all */
    reco_output_place at; /* of the last checkpoint */
    double saved;         /* when that was */
    bool was_there;       /* the folder, before this job */
    reco_npy_writer *rows;
    reco_file *metadata;
    reco_failures failures;
} reco_output;
/* Goes on after the checkpoint of a killed run of the same model and types: o->at says where; the caller passes over that many
 * inputs, and begins anew (restart) unless their hash is the same. */
reco_status reco_output_begin(reco_ctx *ctx, reco_output *o, const char *dir, reco_side side,
                              const reco_model *model, const reco_folder_opts *opts);
reco_status reco_output_restart(reco_ctx *ctx, reco_output *o);
uint64_t reco_output_hash(uint64_t hash, const char *item,
                          size_t bytes); /* of the inputs so far, and one more */
/* When it is time: everything up to `at` is on the disk. */
reco_status reco_output_checkpoint(reco_ctx *ctx, reco_output *o, const reco_output_place *at);
/* All of it in place. Where the other side's embeddings are there already, of as many rows, the metadata tell of both. */
reco_status reco_output_commit(reco_ctx *ctx, reco_output *o, const reco_output_place *at);
void reco_output_abort(reco_output *o);
char *reco_layout_path(reco_ctx *ctx, const char *dir, reco_side side);

/* How many of reco_model_embed_texts' flags are set. */
static inline uint64_t reco_count_cut(const unsigned char *cut, size_t n)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += cut[i];
    return sum;
}

static inline size_t reco_batch(const reco_ctx *ctx, const reco_embed_opts *opts)
{
    return opts && opts->batch ? opts->batch : reco_max(64, 16 * (size_t)reco_ctx_threads(ctx));
}

/* read.c: the value of a record as text, a number as it is written; NULL: it has none. name as for reco_read_columns. */
reco_status reco_row_value(reco_ctx *ctx, const json_t *row, const char *name, const reco_table_opts *table,
                           char **out);

#endif
