/* io/io.h: internal face of io/: mapped files, atomic files, safetensors, npy, csv, jsonl, json. Everything
 * read here is untrusted: sizes are multiplied with overflow checks, offsets lie inside the file. */
#ifndef RECO_SRC_IO_H
#define RECO_SRC_IO_H

#include "base/base.h"
#include "reco/io.h"

#include <jansson.h>
#include <stdio.h>

/* ---- map.c: a whole file, read-only ---- */

typedef struct reco_map {
    const uint8_t *data; /* NULL when bytes is 0 */
    size_t bytes;
} reco_map;
/* Refuses directories, and anything else that is not a regular file, by name. */
reco_status reco_map_open(reco_ctx *ctx, reco_map *map, const char *path);
void reco_map_close(reco_map *map);
/* Pieces, such as a header, are going to be read: the system need not fetch what lies around them, which may be megabytes. Else,
 * as at first, all is. */
void reco_map_pieces(const reco_map *map, bool pieces);
/* Begin to read this part of a mapped file, which is going to be looked at soon. */
void reco_map_fetch(const void *data, size_t bytes);
/* How often this thread (the process, where the system counts no threads) has waited for the disk because it touched a part of a
 * mapped file that was not in memory. */
uint64_t reco_map_faults(void);
/* Ask the system to fetch a file that is going to be read; never fails. */
void reco_read_ahead(const char *path);
/* Whole small file into memory, NUL appended; refused above max_bytes, and where it is no regular file. Free with reco_free. */
reco_status reco_read_file(reco_ctx *ctx, char **out, size_t *bytes, const char *path, size_t max_bytes);

/* ---- pieces.c ---- */

/* A piece of a file at offset; data is NULL where it can't be read, and ctx has the reason. */
typedef reco_status (*reco_piece_fn)(reco_ctx *ctx, void *arg, uint64_t offset, const uint8_t *data,
                                     size_t bytes);
/* Read a file from its beginning to its end, in pieces of `piece` bytes but the last. Stops at the first status
 * that is not RECO_OK. */
reco_status reco_read_pieces(reco_ctx *ctx, const char *path, size_t piece, reco_piece_fn visit, void *arg);

/* ---- atomic.c: temporary name in the same folder, fsync, rename, fsync of the folder ---- */

typedef struct reco_file reco_file;
reco_status reco_file_begin(reco_ctx *ctx, reco_file **out, const char *path);
reco_status reco_file_write(reco_ctx *ctx, reco_file *file, const void *data, size_t bytes);
/* The offset-th bytes again, for headers known last. */
reco_status reco_file_pwrite(reco_ctx *ctx, reco_file *file, const void *data, size_t bytes,
                             uint64_t offset);
reco_status reco_file_printf(reco_ctx *ctx, reco_file *file, const char *format, ...) RECO_PRINTF(3, 4);
/* Fsync and rename into place; frees file whatever it returns (the temporary file is gone on error). */
reco_status reco_file_commit(reco_ctx *ctx, reco_file *file);
/* What was written and is not in the file yet; up to the first megabyte that is all of it. */
const void *reco_file_pending(const reco_file *file, size_t *bytes);
void reco_file_abort(reco_file *file); /* NULL is fine */
/* A file that long work goes on with after a kill: the temporary one, DIR/.NAME.part, keeps its name. The first `bytes` of it
 * are taken over (0: none, it begins anew); after a checkpoint, which says how many there are on the disk, it stays where it
 * is until it is committed. RECO_E_FORMAT: it has fewer bytes, or there is none; RECO_E_BUSY: another process writes it. */
reco_status reco_file_resume(reco_ctx *ctx, reco_file **out, const char *path, uint64_t bytes);
reco_status reco_file_checkpoint(reco_ctx *ctx, reco_file *file, uint64_t *bytes);
void reco_file_discard(reco_file *file); /* abort, the part of a resumable one too */
reco_status reco_write_file(reco_ctx *ctx, const char *path, const void *data, size_t bytes);

/* ---- path.c ---- */

char *reco_path_join(reco_ctx *ctx, const char *dir, const char *name); /* name absolute: name alone */
char *reco_path_absolute(reco_ctx *ctx, const char *path);              /* links are not followed */
char *reco_path_dir(reco_ctx *ctx, const char *path);                   /* "." when it has none */
bool reco_path_exists(const char *path);
bool reco_path_is_dir(const char *path);
/* The first n bytes of path end so, in letters of either case, and are more than the ending. */
bool reco_path_ends(const char *path, size_t n, const char *ending);
reco_status reco_mkdirs(reco_ctx *ctx, const char *path); /* and parents; existing is fine */
/* fsync a folder so that renames in it last. */
reco_status reco_sync_dir(reco_ctx *ctx, const char *path);
reco_status reco_sync_file(reco_ctx *ctx, const char *path); /* one that another library wrote */
/* Files directly or at any depth below dir, sorted by strcmp, paths joined with dir. Names for which
 * keep(name) is false are passed over (keep may be NULL). Free each and the array with reco_free. */
reco_status reco_list_files(reco_ctx *ctx, char ***out, size_t *n, const char *dir, bool recurse,
                            bool (*keep)(const char *name));

/* Everything below dir that is no folder, sorted by strcmp: files, links to nothing, devices. A folder below it that can't be
 * read is listed too, with the reason as problem. What starts with a dot is passed over and counted. A link to a folder is
 * followed, but never in circles. The folder `except` (NULL: none), under whatever name, is as if it were not there. RECO_E_IO
 * when dir itself can't be read. */
typedef struct reco_found {
    char *path, *problem; /* problem: NULL, or why the folder is not listed */
} reco_found;
reco_status reco_find_files(reco_ctx *ctx, reco_found **found, size_t *n, uint64_t *hidden, const char *dir,
                            const char *except);
void reco_found_free(reco_found *found, size_t n);

/* ---- lock.c ---- */

/* The advisory lock of a folder's one writer, DIR/writer.lock, for which ctx waits as long as its options say: RECO_E_BUSY says
 * who holds it. It ends with the process, however that ends. */
reco_status reco_dir_lock(reco_ctx *ctx, int *fd, const char *dir);
void reco_dir_unlock(int fd); /* -1 is fine */

/* ---- safetensors_read.c, safetensors_write.c ---- */

typedef struct reco_tensor {
    const char *name;
    reco_dtype dtype;
    size_t rank, shape[8];
    size_t count; /* elements */
    size_t bytes;
    const void *data; /* borrowed from the map, may be unaligned in foreign files */
    /* NULL where dtype says it all. A type that reco does not compute with (BOOL, I8, F8_E4M3, ...) is named
     * here, and the tensor is opaque: dtype U8, count = bytes, shape as in the file. */
    const char *dtype_name;
} reco_tensor;

typedef struct reco_safetensors reco_safetensors;
/* Maps path and checks all of the header: length within the file (and at most 100 MB), JSON depth, duplicate
 * keys, known dtypes, shapes whose product times size equals the span, spans that tile the data without
 * overlap, gap or excess. Offending tensor or key is named. */
reco_status reco_safetensors_open(reco_ctx *ctx, reco_safetensors **out, const char *path);
void reco_safetensors_close(reco_safetensors *st);
/* As reco_map_pieces. */
void reco_safetensors_pieces(const reco_safetensors *st, bool pieces);
size_t reco_safetensors_count(const reco_safetensors *st);
const reco_tensor *reco_safetensors_at(const reco_safetensors *st, size_t i);           /* in file order */
const reco_tensor *reco_safetensors_find(const reco_safetensors *st, const char *name); /* NULL: none */
const char *reco_safetensors_meta(const reco_safetensors *st, const char *key);         /* NULL: none */
const char *reco_safetensors_path(const reco_safetensors *st);
/* Find or fail with "file: no tensor NAME"; rank -1 takes any, else shape[0..rank) must match where it is
 * not 0: "file: tensor NAME has shape [3,4], want [3,5]". */
reco_status reco_safetensors_need(reco_ctx *ctx, const reco_safetensors *st, const reco_tensor **out,
                                  const char *name, int rank, const size_t *shape);
/* F32, F16, BF16 or F64 elements [from, from+n) as f32. RECO_E_FORMAT for other dtypes. */
reco_status reco_tensor_f32(reco_ctx *ctx, const reco_tensor *t, size_t from, size_t n, float *out);

typedef struct reco_meta {
    const char *key, *value;
} reco_meta;
/* Atomic; header padded with spaces so that data starts at a multiple of 64; tensors in the order given, each
 * followed by the next without a gap. count and bytes follow from shape and dtype and need not be set (bytes is
 * read where dtype_name is). */
reco_status reco_safetensors_write(reco_ctx *ctx, const char *path, const reco_tensor *tensors, size_t n,
                                   const reco_meta *meta, size_t nmeta);
/* Streaming twin for tensors whose data come block by block: begin (data pointers ignored), then write each
 * tensor's bytes in order with reco_file_write, then reco_file_commit, which refuses a wrong total. */
reco_status reco_safetensors_begin(reco_ctx *ctx, reco_file **out, const char *path,
                                   const reco_tensor *tensors, size_t n, const reco_meta *meta,
                                   size_t nmeta);

/* ---- npy_read.c, npy_write.c: versions 1 to 3, rank 1 or 2 (rank 1 reads as [n][1]), f2 f4 f8 of either
 * byte order and either order of axes, little-endian i4 i8 u1 in C order ---- */

typedef struct reco_npy {
    reco_map map;
    reco_dtype dtype;
    size_t rows, cols, rank; /* of the file, without axes of 1 beyond two */
    bool swapped, fortran;   /* floats alone: big-endian; column by column. reco_npy_rows undoes both */
    const void *data;
} reco_npy;
reco_status reco_npy_open(reco_ctx *ctx, reco_npy *npy, const char *path);
void reco_npy_close(reco_npy *npy);
/* Rows [from, from+n) as f32 (F16, F32 or F64). */
reco_status reco_npy_rows(reco_ctx *ctx, const reco_npy *npy, size_t from, size_t n, float *out);

/* Row-appending writer, atomic (temporary name until commit): of a 2-d array, or of rows with a shape of their own. */
typedef struct reco_npy_writer reco_npy_writer;
reco_status reco_npy_begin(reco_ctx *ctx, reco_npy_writer **out, const char *path, reco_dtype dtype,
                           size_t cols);
reco_status reco_npy_begin_shape(reco_ctx *ctx, reco_npy_writer **out, const char *path, reco_dtype dtype,
                                 size_t rank, const size_t *shape);
/* Over a resumable file, of which `rows` rows are there already. */
reco_status reco_npy_resume(reco_ctx *ctx, reco_npy_writer **out, const char *path, reco_dtype dtype,
                            size_t cols, size_t rows);
reco_status reco_npy_checkpoint(reco_ctx *ctx, reco_npy_writer *w);
/* rows are f32 for F32/F16 (converted), int64_t for I64, bytes for U8 */
reco_status reco_npy_append(reco_ctx *ctx, reco_npy_writer *w, const void *rows, size_t n);
reco_status reco_npy_commit(reco_ctx *ctx, reco_npy_writer *w); /* frees w whatever it returns */
void reco_npy_abort(reco_npy_writer *w);
void reco_npy_drop(reco_npy_writer *w); /* abort, the part of a resumable one too */
/* Whole array of any rank in one go, atomic; data already of dtype. */
reco_status reco_npy_write(reco_ctx *ctx, const char *path, reco_dtype dtype, size_t rank,
                           const size_t *shape, const void *data);

/* ---- lines.c: text files line by line, compressed or not ---- */

/* "\n" or "\r\n" ends stripped, UTF-8 byte-order mark dropped, last line may lack its end. A line is at most
 * 1 MiB (RECO_E_FORMAT with file and line number above). */
typedef struct reco_lines reco_lines;
reco_status reco_lines_open(reco_ctx *ctx, reco_lines **out, const char *path);
/* *line NULL at the end; valid until the next call. NUL bytes inside are kept: use *bytes. */
reco_status reco_lines_next(reco_ctx *ctx, reco_lines *lines, const char **line, size_t *bytes);
void reco_lines_close(reco_lines *lines);

/* ---- records.c: tables of records with named fields ---- */

/* FILE.csv (and .tsv, which has tabs), or FILE.jsonl (.ndjson, .json: objects one a line, over several, or in one array), told
 * by the name's ending; compressed with gzip, bzip2, xz or zstd too. Both give the same: a json object of the row. The values of
 * a csv are strings, or numbers in a column whose every value is a number; a value that is missing has no key there. The
 * caller decrefs *row; *row NULL at the end. A damaged row (wrong field count, bad JSON, invalid UTF-8 in a column of images,
 * captions or labels, an unclosed quote, more than 4096 fields, more lines than table->max_lines) yields RECO_OK with *row NULL and
 * *bad set to a reason (valid until the next call), so that the caller can report and go on: the row after it is read. number
 * counts records from 0.
 *   table  NULL = {0}; its strings are borrowed as long as the records are open
 * RECO_E_IO: a csv that can't be read twice, as a pipe. */
typedef struct reco_records reco_records;
reco_status reco_records_open(reco_ctx *ctx, reco_records **out, const char *path,
                              const reco_table_opts *table);
reco_status reco_records_next(reco_ctx *ctx, reco_records *r, json_t **row, uint64_t *number,
                              const char **bad);
/* Have blank lines been passed over, with a record behind them? */
bool reco_records_have_gap(const reco_records *r);
typedef struct reco_records_counts {
    uint64_t
        dropped; /* values of columns that JSON can't hold, or that were written over by the same key */
    uint64_t repaired; /* texts that got U+FFFD */
    uint64_t joined;   /* lines beyond the first of a record in a csv */
} reco_records_counts;
reco_records_counts reco_records_count(const reco_records *r);
uint64_t reco_records_line(const reco_records *r); /* of the file, from 1, where the last record began */
void reco_records_close(reco_records *r);

/* ---- columns.c: what names of columns mean; docs/format.md lists them ---- */

/* Is it a number as JSON writes them, of no more digits than an int64 or a double keeps? Blanks around it are none of it. */
bool reco_is_number(const char *text, size_t bytes);

typedef enum reco_column {
    RECO_COLUMN_IMAGE,
    RECO_COLUMN_TEXT,
    RECO_COLUMN_LABEL,
    RECO_COLUMNS
} reco_column;
/* Place of the name among those of its kind, best first; -1: none of them. Case, blanks, "_" and "-" don't matter. */
int reco_column_rank(reco_column kind, const char *name);
bool reco_column_same(const char *a, const char *b); /* likewise */
/* The name that the options give for a kind; NULL: any that is known. */
const char *reco_column_given(reco_column kind, const reco_table_opts *table);
/* A known name that is a slip away, or NULL. */
const char *reco_column_near(reco_column kind, const char *name);
/* RECO_E_FORMAT unless the file has a column of this kind, or each record has its own names. Shows the header. */
reco_status reco_records_need(reco_ctx *ctx, const reco_records *r, reco_column kind);

/* ---- tar.c (and inflate.c) alone know libarchive; nothing is ever unpacked to disk ---- */

typedef struct reco_tar reco_tar;
/* A tar (ustar, pax, GNU), plain or compressed by gzip, bzip2, xz, zstd or lz4, which its content tells. */
reco_status reco_tar_open(reco_ctx *ctx, reco_tar **out, const char *path);
/* The next regular file; *name NULL at the end, else valid until the next call. Folders, links and devices are passed
 * over. RECO_E_FORMAT (damaged or cut off), after which nothing more can be read. */
reco_status reco_tar_next(reco_ctx *ctx, reco_tar *tar, const char **name);
/* The first RECO_TAR_PEEK bytes of it, fewer where it has no more; valid until the next call. It may be read whole afterwards. */
#define RECO_TAR_PEEK 1024
reco_status reco_tar_peek(reco_ctx *ctx, reco_tar *tar, const char **head, size_t *bytes);
/* Its content, NUL appended; once. RECO_E_NOMEM above `most` bytes. Free with reco_free. */
reco_status reco_tar_read(reco_ctx *ctx, reco_tar *tar, char **data, size_t *bytes, size_t most);
void reco_tar_close(reco_tar *tar);

/* ---- json.c ---- */

/* Whole file, at most 64 MiB, at most 100 levels deep and 4 million values, duplicate keys refused; message names the
 * file and line. */
reco_status reco_json_load(reco_ctx *ctx, json_t **out, const char *path);
/* One object in memory, under the same limits; RECO_E_FORMAT with the reason alone. */
reco_status reco_json_parse_object(reco_ctx *ctx, json_t **out, const char *text, size_t bytes);
/* The same of a user's object, of which as much is kept as can be: an integer that no int64 holds becomes a string, a lone
 * surrogate, a NUL and what is not UTF-8 become U+FFFD; a key whose value is NaN or infinite is dropped, and of the same key
 * twice the last counts. *dropped (may be NULL) goes up by the values that are lost so. */
reco_status reco_json_read_object(reco_ctx *ctx, json_t **out, const char *text, size_t bytes,
                                  uint64_t *dropped);

/* The value, of any type, in one line, from which every number is read back as it is; free with reco_free. NULL: no memory,
 * and the error is set. */
char *reco_json_dump(reco_ctx *ctx, const json_t *value);

/* ---- place.c: where a picture is, under one name ---- */

#define RECO_PLACE_BYTES 16
/* "scheme://...", other than file://. */
bool reco_place_is_url(const char *item);
/* The path that "file://..." names; other items as they are. Free with reco_free. */
char *reco_place_path(reco_ctx *ctx, const char *item);
/* An absolute path whose folders are free of links, ".", ".." and double slashes, as far as they are there; a URL as it is. A
 * relative item is taken from base (NULL: the working directory). Free with reco_free. */
char *reco_place_resolve(reco_ctx *ctx, const char *base, const char *item);
/* The same of a folder; NULL: the working directory. */
char *reco_place_folder(reco_ctx *ctx, const char *dir);
/* XXH3-128 of what was resolved. */
void reco_place_hash(const char *resolved, unsigned char out[RECO_PLACE_BYTES]);

/* ---- hash.c: xxh3 ---- */

uint64_t reco_hash64(const void *data, size_t bytes, uint64_t seed);
/* caption_key.c: a hash of the caption in NFC, case folded, blanks at both ends dropped and others collapsed into one; of
 * its bytes where it is not UTF-8. 0: NULL, or nothing but blanks. RECO_E_NOMEM. */
reco_status reco_caption_key(reco_ctx *ctx, uint64_t *key, const char *caption);
/* Of what a picture is known by: the hash [16] of its content or place, else its name. 0: both are NULL, or it has an empty
 * name. */
uint64_t reco_picture_key(const unsigned char *hash, const char *uri);
void reco_hash128(const void *data, size_t bytes, unsigned char out[16]); /* canonical */
typedef struct reco_hash reco_hash;                                       /* streaming, 128 bits */
reco_status reco_hash_new(reco_ctx *ctx, reco_hash **out);
void reco_hash_update(reco_hash *h, const void *data, size_t bytes);
void reco_hash_hex(reco_hash *h, char hex[33]); /* ends and frees h */
/* Content of a file, streamed. */
reco_status reco_hash_file(reco_ctx *ctx, const char *path, char hex[33]);

#endif
