/* reco/pipeline.h: streams of pictures, captions and pairs through a model, a bank and a fusion layer.
 *
 * Bad input never costs other data: an item that cannot be read is reported and skipped, no row is written
 * for it, and the others keep their order. */
#ifndef RECO_PIPELINE_H
#define RECO_PIPELINE_H

#include "reco/bank.h"
#include "reco/base.h"
#include "reco/clip.h"
#include "reco/fusion.h"
#include "reco/io.h"
#include "reco/query.h"

#include <math.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Called for each item that is skipped, in input order, from the context's thread. row counts inputs from
 * 0: the records of a pairs file (without the header), the rows of embeddings over all parts, the samples
 * and damaged tars of tars. */
typedef void (*reco_failure_fn)(void *user, uint64_t row, const char *item, const char *reason);

/* How pictures and captions are embedded. */
typedef struct reco_embed_opts {
    size_t batch;             /* items processed at a time; 0: 64, or 16 per thread */
    reco_image_limits limits; /* of each picture */
    reco_failure_fn failure;  /* may be NULL */
    void *user;
    uint64_t reserved[RECO_RESERVED];
} reco_embed_opts;

/* Part `number`, 1..of, of an input; {0}: all of it. Parts are contiguous, in the input's order; if the
 * size is not divisible, the first parts have one item more. Items are lines, records, rows, files of a
 * folder, or tars. */
typedef struct reco_shard {
    unsigned number, of;
} reco_shard;

/* How embeddings are written to a folder. */
typedef struct reco_folder_opts {
    reco_embed_opts embed;
    reco_dtype dtype; /* RECO_DTYPE_F16 or RECO_DTYPE_F32 (0) */
    reco_shard shard;
    uint64_t reserved[RECO_RESERVED];
} reco_folder_opts;

typedef struct reco_stream_result {
    uint64_t rows;            /* written by this call */
    uint64_t failures;        /* skipped with a reason; listed in failures.jsonl */
    uint64_t embedded;        /* bank ingestion: pairs that went through the model in this call */
    uint64_t duplicates;      /* pairs that the bank had before the job began */
    uint64_t near_duplicates; /* dropped by dedup */
    uint64_t resumed;         /* source records that an interrupted run had committed */
    uint64_t repaired;        /* captions with invalid UTF-8, which was embedded as U+FFFD */
    /* captions with more tokens than the model's context, which were truncated */
    uint64_t truncated;
    /* values of the user's columns that JSON can't hold (NaN), or that a duplicate key overwrote */
    uint64_t dropped;
    /* embed_images from a folder: files that are evidently not pictures, which are ignored */
    uint64_t others;
    uint64_t hidden;          /* likewise: files and folders whose names start with a dot */
    uint64_t joined;          /* bank ingestion: lines of a CSV beyond the first of a record */
    uint64_t pictures, texts; /* bank ingestion: of these, how many went through the model */
    uint64_t changed;         /* bank ingestion: rows that got a new vector or other data */
    double seconds;
    uint64_t reserved[RECO_RESERVED];
} reco_stream_result;

/* Embed pictures into DIR/img_emb/img_emb_0.npy and DIR/metadata/metadata_0.jsonl.
 *   source  a folder, which is read recursively, sorted by path; or a file of paths, one per line, relative
 *           to its own folder if they exist there, else to the working directory, and stored in the
 *           metadata as written; or a picture
 * A file in a folder is embedded, or skipped with a reason, if its name or its content identifies it as a
 * picture; other and hidden files are only counted. Broken links and unreadable folders are skipped with a
 * reason.
 *   opts    NULL = {0}, here and below
 * failures.jsonl in `out` lists what was skipped; it is absent if nothing was. Files appear once everything
 * is done. A call with the same model, types and source resumes after the last checkpoint of an interrupted
 * one; result->rows, failures, repaired and truncated then count the whole run. If `out` already has the
 * text side, with the same number of rows, the metadata cover both. Each thread decodes and embeds its own
 * pieces. Memory beside the model: 4 batch d bytes, and for each thread at most 16 pictures of 12 R^2 bytes,
 * their activations and one decoded picture. It does not grow with the number of pictures, except that the
 * sorted paths of a folder are kept (those of a list are not).
 * Returns RECO_OK even if every item failed (result->rows 0), and then leaves `out` as it was; RECO_E_IO if
 * the source or `out` cannot be used; RECO_E_BUSY if another process writes there. */
RECO_API reco_status reco_embed_images(reco_ctx *ctx, const reco_model *model, const char *source,
                                       const char *out, const reco_folder_opts *opts,
                                       reco_stream_result *result);

/* Embed captions, one per line, each line a row, into DIR/text_emb/text_emb_0.npy and the metadata.
 * Otherwise as reco_embed_images. */
RECO_API reco_status reco_embed_texts(reco_ctx *ctx, const reco_model *model, const char *source,
                                      const char *out, const reco_folder_opts *opts,
                                      reco_stream_result *result);

typedef struct reco_check_result {
    uint64_t images, texts; /* rows written */
    uint64_t failures;      /* skipped with a reason; listed in check.json */
    uint64_t repaired;      /* as in reco_stream_result */
    uint64_t truncated;     /* likewise */
    double seconds;
    uint64_t reserved[RECO_RESERVED];
} reco_check_result;

/* Write the intermediate results of the model for pictures and captions, for comparison with another
 * implementation.
 *   images  as in reco_embed_images; NULL: none
 *   texts   a file of captions, one per line; NULL: none
 *   out     a folder, created if missing, for
 *             pixels.npy [n][3][R][R] f32   image.npy [n][d] f32, unit rows
 *             ids.npy    [m][context] i64   text.npy  [m][d] f32, unit rows
 *             check.json {"model", "images": [n] paths, "texts": [m] captions, "failures"}
 *           ids are padded with reco_model_pad. check.json is written last: if it exists, all files are
 *           complete
 * Memory as reco_embed_images, and the names and captions. Errors likewise. */
RECO_API reco_status reco_check_model(reco_ctx *ctx, const reco_model *model, const char *images,
                                      const char *texts, const char *out, const reco_embed_opts *opts,
                                      reco_check_result *result);

/* How a bank is built, added to or updated. */
typedef struct reco_ingest_opts {
    reco_embed_opts embed;
    /* Drop pairs whose picture has at least this cosine to one in the bank or earlier in the run; 0: keep
     * all. */
    float dedup;
    /* approximate number of source records between commits; 0: 2048; for embeddings 65536, or half as many as the bank has rows if
     * that is more, at most 1048576 */
    size_t commit;
    /* 1: allow several captions per picture; 0: a second caption is a bad row */
    int several_captions;
    const reco_table_opts *table; /* of pairs and of metadata; NULL = {0} */
    /* The encoder of embeddings without reco.json, as a model folder or a name. NULL: unknown.
     * RECO_E_MISMATCH if reco.json names another encoder. */
    const char *encoder;
    /* For a build or an add. A part without a row becomes an empty bank, which can be merged with the
     * others. */
    reco_shard shard;
    uint64_t reserved[RECO_RESERVED];
} reco_ingest_opts;

/* Embed pairs and store them in a bank.
 *   pairs   CSV, TSV or JSONL with columns image and text (also filepath or image_path, caption or title);
 *           image paths are relative to the file's folder, else to the working directory; every other
 *           column goes to the row's JSON
 *   build   1: create the bank (or resume an interrupted build of the same pairs); 0: add to it
 * Commits every few thousand pairs, so that a killed run resumes where it was. A picture is identified by
 * its resolved path, URL, or tar and member, and by the content of its file; pictures with the same content
 * are embedded once. A pair whose picture and caption are already in the bank is counted (duplicates) and
 * not added again; if the content of the file has changed, the row keeps its id and gets the new vector
 * (changed). A pair that repeats an earlier row of the same file is a failure, and so is a picture that is
 * in the bank with another caption, unless opts->several_captions is set. If no record became or already
 * was a row, the result is RECO_E_NOTFOUND: a build leaves no bank, and an add leaves the bank as it was.
 * BANK/failures.jsonl lists each failure of the last job once, in the order of the rows, however often the
 * job was interrupted. RECO_E_MISMATCH: the bank is of another encoder. */
RECO_API reco_status reco_bank_ingest_pairs(reco_ctx *ctx, const reco_model *model, const char *pairs,
                                            const char *bank, int build, const reco_ingest_opts *opts,
                                            reco_stream_result *result);

/* Update rows of a bank from a pairs file. A record updates the row of its picture (with
 * opts->several_captions, of its picture and caption) or, with a key, the row whose column `key` has the
 * same value; a record without such a row is added. Only changes are embedded again: a picture if its
 * content differs, a text if its caption differs; other columns or another URI change only the database.
 * Rows keep their ids. Rows that the file does not name stay as they are.
 *   key     NULL, or the name of a user's column
 *   result  rows: added; changed: changed; duplicates: unchanged; pictures and texts: embedded; failures
 *           include records that repeat an earlier one, that lack the key, or whose key several rows of
 *           the bank have
 * Commits every 16,384 records, or opts->commit: a killed run leaves each row either old or updated, and
 * the next run reads the file again without embedding anything twice. opts->dedup is ignored. */
RECO_API reco_status reco_bank_update_pairs(reco_ctx *ctx, const reco_model *model, const char *pairs,
                                            const char *bank, const char *key, const reco_ingest_opts *opts,
                                            reco_stream_result *result);

/* Same as reco_bank_ingest_pairs, from webdataset tars, plain or compressed. Consecutive members with the
 * same key (their path up to the first dot of the name) form a sample: a picture (by its extension or
 * content), and a caption in .txt or else in .json, whose other keys go to the row's JSON; docs/bank.md
 * describes several pictures with one key. The URI is TAR/member. Nothing is unpacked to disk.
 *   tars  [n] paths or patterns: {000..099}, {a,b}, "*", "?", "[...]". A sample counts as a source record;
 *         a tar that is missing or damaged is reported as one, and the next is read
 * A JSON or text member that can't be read costs the pair only if it holds the caption. Pictures above
 * limits.max_bytes are failures. RECO_E_IO or RECO_E_NOTFOUND if no tar can be opened; the bank is then
 * unchanged. */
RECO_API reco_status reco_bank_ingest_tars(reco_ctx *ctx, const reco_model *model, const char *const *tars,
                                           size_t n, const char *bank, int build,
                                           const reco_ingest_opts *opts, reco_stream_result *result);

/* Store existing embeddings, in clip-retrieval's layout, in a bank. No model is needed (NULL), unless
 * img_emb or text_emb is missing: then the model, which must have made the other side, embeds the pictures
 * or captions of the metadata, as for a pairs file. Rows are normalised; rows that are zero or not finite
 * are skipped and listed. Captions and URIs come from the metadata, if any; then a row whose record is
 * missing, bad or has an empty caption is a failure, and URIs and captions already in the bank are treated
 * as for a pairs file. */
RECO_API reco_status reco_bank_ingest_embeddings(reco_ctx *ctx, const reco_model *model,
                                                 const char *embeddings, const char *bank, int build,
                                                 const reco_ingest_opts *opts, reco_stream_result *result);

/* Export the rows of a bank to a folder in clip-retrieval's layout, which reco_bank_ingest_embeddings reads
 * back as the same rows.
 *   out    must not exist, or be empty; it appears once everything is written
 *   where  as in reco_bank_filter_where; NULL: all rows
 *   rows   how many were written; may be NULL
 * img_emb/img_emb_0.npy and text_emb/text_emb_0.npy, f16, bit by bit as stored; metadata/metadata_0.jsonl
 * with id, caption, image_path (the URI, if any) and the user's columns, as "meta.NAME" if a reader of
 * pairs gives the name a meaning (docs/format.md); reco.json with the encoder. RECO_E_EXISTS, RECO_E_BUSY
 * (another export to it is running), RECO_E_IO; memory for 1,024 rows. */
RECO_API reco_status reco_bank_export(reco_ctx *ctx, const reco_bank *bank, const char *out,
                                      const char *where, uint64_t *rows);

/* Same, to a pairs file, by its extension: .jsonl, or .csv with every column that any row has (numbers and
 * nested values as JSON text, missing values empty). Columns image (the URI), text, and the user's. Atomic. */
RECO_API reco_status reco_bank_export_pairs(reco_ctx *ctx, const reco_bank *bank, const char *out,
                                            const char *where, uint64_t *rows);

typedef struct reco_search_result {
    uint64_t queries, failures; /* rows of the file; those that are zero or not finite */
    uint64_t normalised;        /* queries whose norm was not within 1e-3 of 1 */
    double seconds;             /* the search alone: neither reading nor writing */
    uint64_t reserved[RECO_RESERVED];
} reco_search_result;

typedef struct reco_search_file_opts {
    reco_find_opts find;
    const char *encoder;     /* as in reco_ingest_opts */
    reco_failure_fn failure; /* may be NULL */
    void *user;
    uint64_t reserved[RECO_RESERVED];
} reco_search_file_opts;
#define RECO_SEARCH_FILE_OPTS_INIT                                                                         \
    {                                                                                                      \
        .find = RECO_FIND_OPTS_INIT                                                                        \
    }

/* Search with queries from a file and write the hits to files. No model is needed.
 *   side     side of the queries; memory, opts->find: as for reco_ask
 *   queries  a .npy of [nq][d], float32 or float16
 *   out      folder: ids.npy [nq][k] i64 and scores.npy [nq][k] f32, best first; unused places, and rows of
 *            bad queries, hold id -1 and score 0. Both files appear once everything is done; a killed
 *            process leaves both, or those of an earlier search, or no ids.npy
 * Memory: 16 MiB of queries at a time, and their hits. RECO_E_MISMATCH if the width differs; otherwise as
 * reco_bank_search. */
RECO_API reco_status reco_search_file(reco_ctx *ctx, const reco_memory *memory, reco_side side,
                                      const char *queries, const char *out,
                                      const reco_search_file_opts *opts, reco_search_result *result);

typedef struct reco_refine_opts {
    reco_dtype dtype; /* output type: RECO_DTYPE_KEEP, RECO_DTYPE_F16 or RECO_DTYPE_F32 */
    /* Weight a, 0..1, of rows [sqrt(a) v; sqrt(1-a) v'], which are twice as wide; NaN: only v'. */
    float concat;
    const char *encoder;     /* as in reco_ingest_opts */
    reco_failure_fn failure; /* may be NULL */
    void *user;
    uint64_t reserved[RECO_RESERVED];
} reco_refine_opts;
#define RECO_REFINE_OPTS_INIT                                                                              \
    {                                                                                                      \
        .dtype = RECO_DTYPE_KEEP, .concat = NAN                                                            \
    }

/* Refine a folder of embeddings. A side that is not refined is copied, and so is the metadata. Rows that no
 * neighbour changed keep their bytes. With opts->concat, rows of both sides are concatenations of norm 1,
 * and reco.json says so; concatenated embeddings are refused wherever embeddings are read
 * (RECO_E_UNSUPPORTED). `out` gets a reco.json if `in` has one or opts->encoder names the encoder.
 *   opts  NULL = RECO_REFINE_OPTS_INIT
 * RECO_E_EXISTS if `out` is `in` or lies within it; RECO_E_MISMATCH if the embeddings are from another
 * encoder. */
RECO_API reco_status reco_refine_folder(reco_ctx *ctx, const reco_memory *memory, const char *in,
                                        const char *out, const reco_refine_opts *opts,
                                        reco_stream_result *result);

/* ---- classes, labels, queries ---- */

/* Read classes from a file, one name per line. Blank lines are dropped, and blanks around names are
 * trimmed. The following cases are recognised and logged:
 *   - If all lines begin with a number and a tab or one of ":,.)", or with 0, 1, 2, ... and a blank, or
 *     with a WordNet synset id, this prefix is the class's number and not part of the name.
 *   - Text after a tab is a description and is ignored.
 * A .csv, .tsv or .jsonl with a column name, class or label is read as a table, with its numbers from a
 * column id, index or number. RECO_E_FORMAT: no names. */
RECO_API reco_status reco_class_list_read(reco_ctx *ctx, reco_class_list **out, const char *path);
/* Take the subfolders of `folder` as classes, sorted as bytes, without hidden ones: the layout of
 * torchvision's ImageFolder. In prompts, underscores in their names become blanks. */
RECO_API reco_status reco_class_list_folders(reco_ctx *ctx, reco_class_list **out, const char *folder);

/* Pictures below a folder, sorted by path. Free with reco_lines_free. */
RECO_API reco_status reco_list_pictures(reco_ctx *ctx, const char *folder, char ***paths, size_t *n);

/* A picture in one of three forms: a file (name alone), the content of a file, or pixels. */
typedef struct reco_picture_input {
    const char *name; /* the file; in the other forms the name in messages, which may be NULL */
    const void *data; /* [bytes] content of a file in memory */
    size_t bytes;
    const uint8_t *pixels; /* [height][width][3] RGB */
    size_t height, width;
} reco_picture_input;

/* Decode and embed pictures from memory or from files, on all threads.
 *   pictures  [n]; what they point to is read only during the call
 *   out       [n][d] room for all of them; the first *count rows are those of the good ones, in order
 *   rows      [n] likewise: which picture each row is of
 *   opts      failures report the index and the name of the picture
 * Errors are those of the model and RECO_E_NOMEM; a picture that cannot be read is a failure. */
RECO_API reco_status reco_embed_pictures(reco_ctx *ctx, const reco_model *model,
                                         const reco_picture_input *pictures, size_t n,
                                         const reco_embed_opts *opts, float *out, size_t *rows,
                                         size_t *count);

/* Embed pictures by path, decoded on all threads.
 *   out    [n][d]; rows of pictures that failed are zero
 *   good   [n] 1 or 0; failures go to opts->failure */
RECO_API reco_status reco_embed_files(reco_ctx *ctx, const reco_model *model, const char *const *paths,
                                      size_t n, const reco_embed_opts *opts, float *out,
                                      unsigned char *good);
/* Same, with a cache of rows in a folder: CACHE/HASH.safetensors, whose name is derived from the encoder,
 * its precision and the content of all these pictures. Pictures that fail are tried, and reported, each
 * time. Files appear once they are complete; if one is damaged or can't be written, a warning is logged and
 * all pictures are embedded.
 *   cache  created if missing; NULL: no cache */
RECO_API reco_status reco_embed_files_cached(reco_ctx *ctx, const reco_model *model,
                                             const char *const *paths, size_t n, const char *cache,
                                             const reco_embed_opts *opts, float *out, unsigned char *good);
/* reco_embed_prompts with the same cache. */
RECO_API reco_status reco_embed_prompts_cached(reco_ctx *ctx, const reco_candidates *candidates,
                                               const char *cache, float *rows, uint64_t *truncated);

/* Query embeddings. Free with reco_query_set_free. */
enum { RECO_QUERY_IMAGE, RECO_QUERY_TEXT, RECO_QUERY_LABEL, RECO_QUERY_GROUP, RECO_QUERY_VALUES };
typedef struct reco_query_set {
    size_t n, d, total; /* n rows are valid, of total */
    float *rows[2];     /* [n][d] unit rows by reco_side; NULL: this side does not exist */

    char **
        values[RECO_QUERY_VALUES]; /* [n] from the metadata: path, caption, label, group; NULL: not given */
    uint64_t *at;                  /* [n] row of the file */
    float logit_scale;             /* of the encoder; 0: unknown */
    /* samples of a data set that could not be used; captions that were truncated */
    uint64_t skipped, truncated;
    uint64_t reserved[RECO_RESERVED];
} reco_query_set;
typedef struct reco_query_set_opts {
    const char *group; /* the column of RECO_QUERY_GROUP; NULL: none */
    /* The other columns are known by name or given here; NULL = {0}. */
    const reco_table_opts *table;
    const char *encoder;     /* as in reco_ingest_opts */
    reco_failure_fn failure; /* may be NULL */
    void *user;
    uint64_t reserved[RECO_RESERVED];
} reco_query_set_opts;
/* Load a folder in clip-retrieval's layout, or a .npy [n][d] of `side`. Rows that are zero or not finite
 * are reported to opts->failure and left out. RECO_E_FORMAT if none is left. */
RECO_API reco_status reco_query_set_load(reco_ctx *ctx, reco_query_set *set, const char *path,
                                         reco_side side, const reco_query_set_opts *opts);
/* Embed a data set in tars in CLIP_benchmark's layout (DIR/test/nshards.txt, DIR/test/0.tar, ...): pictures
 * with their .cls as labels or, for retrieval, a row for each line of their .txt. cache is as for
 * reco_embed_files_cached, with a file for each tar. */
RECO_API reco_status reco_query_set_read(reco_ctx *ctx, reco_query_set *set, const reco_model *model,
                                         const char *dir, int retrieval, const char *cache,
                                         const reco_embed_opts *opts);
RECO_API void reco_query_set_free(reco_query_set *set);
/* Read labels in order: the integers of a .npy, the column `label` of a table, or the lines of a text. Free
 * with reco_lines_free. */
RECO_API reco_status reco_read_labels(reco_ctx *ctx, const char *path, const reco_table_opts *table,
                                      char ***labels, size_t *n);

/* Training pairs in memory: unit rows, and hashes of captions and pictures (reco_train_pairs). Free with
 * reco_pair_set_free. */
typedef struct reco_pair_set {
    size_t n, d;
    float *image, *text; /* [n][d] */
    uint64_t *captions;  /* [n] hash of each caption without case and blanks; 0: no caption */
    uint64_t *pictures;  /* [n] hash of the picture's name; 0: no name */
    uint64_t reserved[RECO_RESERVED];
} reco_pair_set;
/* Load a folder of embeddings (img_emb/, text_emb/; rows that are zero or not finite are left out), or the
 * live rows of a bank. */
RECO_API reco_status reco_pair_set_load(reco_ctx *ctx, reco_pair_set *set, const char *path);
RECO_API void reco_pair_set_free(reco_pair_set *set);

enum {
    RECO_OUT_FILE = 0,
    RECO_OUT_FOLDER = 1,
    RECO_OUT_WITHIN = 2,   /* the output may lie within an input folder */
    RECO_OUT_NO_PROBE = 4, /* do not try to write */
    /* inputs are pictures: the output may lie within their folder, unless it holds pictures itself */
    RECO_OUT_PICTURES = 8
};
/* Check, before the work, that an output can be written and is not one of the inputs.
 *   out     of the kind RECO_OUT_FILE or RECO_OUT_FOLDER; it need not exist. Links and other spellings of a
 *           path are resolved
 *   inputs  [n] paths; NULL and missing files are ignored
 * RECO_E_EXISTS: the output is an input, or lies within one; RECO_E_IO: it can't be written. */
RECO_API reco_status reco_check_output(reco_ctx *ctx, const char *out, int kind, const char *const *inputs,
                                       size_t n);

/* RECO_E_MISMATCH, naming both encoders, unless the embeddings may be from the encoder of bank and fusion
 * layer (NULL: none), according to their reco.json.
 *   embeddings  a folder of embeddings, a bank, or a .npy: beside reco.json, or in img_emb/ or text_emb/ of
 *               its folder
 *   encoder     as in reco_ingest_opts
 * Two encoders are the same if their fingerprints are equal or, if one has none, if their names are equal. */
RECO_API reco_status reco_check_embeddings(reco_ctx *ctx, const char *embeddings, const char *encoder,
                                           const reco_bank *bank, const reco_fusion *fusion);

/* Read the lines of a text file, for class names and templates; blank lines are dropped. Free with
 * reco_lines_free. */
RECO_API reco_status reco_read_lines(reco_ctx *ctx, const char *path, char ***lines, size_t *n);
RECO_API void reco_lines_free(char **lines, size_t n);

/* Read two columns of a table (of labels, for instance), row by row: a[i], b[i], with numbers as written.
 *   table    NULL = {0}
 *   a, b     "image", "text" or "label": the column that `table` names, else one with a known name of that
 *            kind; any other string: the column of this name
 *   reasons  for a row that cannot be read or lacks a value, what is wrong with it (its values are ""); NULL
 *            for the other rows. Free with reco_lines_free. If the argument is NULL, such a row is an error
 *   lines    line on which each record begins, from 1; free with reco_free. May be NULL */
RECO_API reco_status reco_read_columns(reco_ctx *ctx, const char *path, const reco_table_opts *table,
                                       const char *a, const char *b, char ***as, char ***bs,
                                       char ***reasons, uint64_t **lines, size_t *n);

/* Path of an item named in a file: next to that file if it exists there, else as written. Free with
 * reco_free. */
RECO_API char *reco_resolve_path(reco_ctx *ctx, const char *file, const char *item);

#ifdef __cplusplus
}
#endif
#endif
