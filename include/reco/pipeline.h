/* reco/pipeline.h: streams of pictures, captions and pairs through a model, a bank and a fusion layer.
 *
 * Bad input costs nobody data: an item that cannot be read is reported and skipped, its row is not written, and the
 * others keep their order. */
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

/* Called for each item that is skipped, in input order, from the context's thread. row counts inputs from 0: of a
 * pairs file the records (a header is none), of embeddings the rows over all parts, of tars the samples and damaged tars. */
typedef void (*reco_failure_fn)(void *user, uint64_t row, const char *item, const char *reason);

/* How pictures and captions are embedded. */
typedef struct reco_embed_opts {
    size_t batch;             /* items in flight; 0 = 64, or 16 a thread */
    reco_image_limits limits; /* of each picture */
    reco_failure_fn failure;  /* may be NULL */
    void *user;
    uint64_t reserved[RECO_RESERVED];
} reco_embed_opts;

/* Part `number`, 1..of, of an input; {0}: all of it. Parts lie side by side in the input's order; where it does not divide, the first
 * have one more. They are parts of the lines, records or rows, of a folder's files, or of the tars. */
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
    uint64_t repaired;        /* captions that were not UTF-8, embedded with U+FFFD for what was wrong */
    uint64_t
        truncated; /* captions embedded with more tokens than the model's context: cut, their end does not count */
    uint64_t
        dropped; /* values of the user's columns that JSON can't hold (NaN), or written over by the same key */
    uint64_t
        others; /* embed_images from a folder: files that are evidently no pictures, not looked at further */
    uint64_t hidden;          /* likewise: files and folders whose names start with a dot */
    uint64_t joined;          /* bank ingestion: lines of a CSV beyond the first of a record */
    uint64_t pictures, texts; /* bank ingestion: of these, how many went through the model */
    uint64_t changed; /* bank ingestion: rows that got another picture's vector, or say something else */
    double seconds;
    uint64_t reserved[RECO_RESERVED];
} reco_stream_result;

/* Pictures to DIR/img_emb/img_emb_0.npy and DIR/metadata/metadata_0.jsonl.
 *   source  a folder, of which everything below is looked at, sorted by path; or a file of paths, one a line, taken from its own
 *           folder where they are there, else from the working directory, and kept in the metadata as they stand; or a picture
 * A file in a folder is embedded, or skipped with a reason, when its name or its content says that it is a picture; others
 * and hidden ones are counted. Links to nothing and folders that cannot be read are skipped with a reason.
 *   opts    NULL = {0}, here and below
 * failures.jsonl in `out` lists what was skipped; it is absent when nothing was. Files appear when all is done.
 * A call with the same model, types and source goes on after the last checkpoint of one that was cut off; result->rows,
 * failures, repaired and truncated count the whole. Where the text side is in `out` already, of as many rows, the metadata tell of both.
 * Each thread decodes and embeds pieces of its own. Memory beside the model: 4 batch d bytes, and for each thread 16
 * pictures of 12 R^2 bytes at most, their activations and one decoded picture; it does not grow with the number of
 * pictures (the sorted paths of a folder do: a list does not).
 * Returns RECO_OK even when every item failed (result->rows 0), and then leaves nothing in `out` but what was there; RECO_E_IO when
 * the source or `out` cannot be used; RECO_E_BUSY when another process writes there. */
RECO_API reco_status reco_embed_images(reco_ctx *ctx, const reco_model *model, const char *source,
                                       const char *out, const reco_folder_opts *opts,
                                       reco_stream_result *result);

/* Captions, one a line, every line a row, to DIR/text_emb/text_emb_0.npy and the metadata. Same contract. */
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

/* What the model makes of pictures and captions, step by step, for comparison with another implementation.
 *   images  as in reco_embed_images; NULL: none
 *   texts   a file of captions, one a line; NULL: none
 *   out     a folder, made when it is missing, for
 *             pixels.npy [n][3][R][R] f32   image.npy [n][d] f32, unit rows
 *             ids.npy    [m][context] i64   text.npy  [m][d] f32, unit rows
 *             check.json {"model", "images": [n] paths, "texts": [m] captions, "failures"}
 *           ids are padded with reco_model_pad. check.json comes last: with it, all of them are there
 * Memory as reco_embed_images, and the names and captions. Errors likewise. */
RECO_API reco_status reco_check_model(reco_ctx *ctx, const reco_model *model, const char *images,
                                      const char *texts, const char *out, const reco_embed_opts *opts,
                                      reco_check_result *result);

/* How a bank is built, added to or updated. */
typedef struct reco_ingest_opts {
    reco_embed_opts embed;
    /* Pairs are dropped whose picture has at least this cosine to one that is there already, or came earlier in the run; 0 = keep
     * all. */
    float dedup;
    size_t commit;                /* source records between commits, about; 0 = 2048, of embeddings 65536 */
    int several_captions;         /* 1: a URI may come again with another caption; 0: that is a bad row */
    const reco_table_opts *table; /* of pairs and of metadata; NULL = {0} */
    /* Whose the embeddings are that have no reco.json: a model folder, or a name. NULL: not known. Where there is one that says
     * another, RECO_E_MISMATCH. */
    const char *encoder;
    /* Of a build or an addition. A part without a row becomes a bank without rows, to be merged with the others. */
    reco_shard shard;
    uint64_t reserved[RECO_RESERVED];
} reco_ingest_opts;

/* Pairs into a bank, embedded as they come.
 *   pairs   CSV, TSV or JSONL with columns image and text (also filepath or image_path, caption or title); image paths
 *           are taken from the file's folder, else from the working directory; every other column goes to the row's
 *           JSON
 *   build   1: create the bank (or go on with the build of these same pairs that was cut off); 0: add to it
 * Commits every few thousand pairs, so that a killed run goes on where it was. A picture is known by its resolved path, URL or
 * tar and member, and by the content of its file; those of one content are embedded once. A pair whose picture and caption
 * were both in the bank before is counted (duplicates) and not added again; where the file has other content by now, the row
 * keeps its id and gets the new vector (changed). One that repeats an earlier row of the same file is a failure, and so is a
 * picture that is there with another caption, unless opts->several_captions. Where no record became a row, or was one, the
 * answer is RECO_E_NOTFOUND: a build leaves no bank, and one that was added to stays as it was.
 * BANK/failures.jsonl lists the failures of the last job, each once, in the order of the rows, however often the
 * job was interrupted.
 * RECO_E_MISMATCH: the bank is of another encoder. */
RECO_API reco_status reco_bank_ingest_pairs(reco_ctx *ctx, const reco_model *model, const char *pairs,
                                            const char *bank, int build, const reco_ingest_opts *opts,
                                            reco_stream_result *result);

/* Rows of a bank are to be as a pairs file has them. A record is of the row of its picture (with opts->several_captions, of its picture
 * and caption), or with a key of the row whose column `key` has the same value; where there is none, it is added. Only what differs
 * is embedded again: another content the picture, another caption the text; other columns or another URI touch the database
 * alone. Rows keep their ids. Rows that the file does not name stay.
 *   key     NULL, or the name of a column of the user's
 *   result  rows: added; changed; duplicates: unchanged; pictures and texts: embedded; failures: a record that repeats
 *           an earlier one, whose key is missing, or is that of several rows of the bank, among them
 * Commits every 16,384 records, or opts->commit: a killed run leaves each row as it was or as it is to be, and the next goes
 * through the file again, embedding nothing twice. opts->dedup is not looked at. */
RECO_API reco_status reco_bank_update_pairs(reco_ctx *ctx, const reco_model *model, const char *pairs,
                                            const char *bank, const char *key, const reco_ingest_opts *opts,
                                            reco_stream_result *result);

/* The same from webdataset tars, plain or compressed: members of one key (their path up to the first dot of the name) that
 * follow one another are a sample, of a picture (by its ending or its content), .txt or else a caption in .json, whose other keys
 * go to the row's JSON; docs/bank.md tells of several pictures of one key. The URI is TAR/member. Nothing is unpacked to disk.
 *   tars  [n] paths or patterns: {000..099}, {a,b}, "*", "?", "[...]". A sample counts as a source record; a tar that is
 *         missing or damaged is reported as one, and the next is read
 * A JSON or text that can't be read costs the pair only where it is the caption. Pictures above limits.max_bytes are failures.
 * RECO_E_IO or RECO_E_NOTFOUND when not one tar can be opened: then the bank is not touched. */
RECO_API reco_status reco_bank_ingest_tars(reco_ctx *ctx, const reco_model *model, const char *const *tars,
                                           size_t n, const char *bank, int build,
                                           const reco_ingest_opts *opts, reco_stream_result *result);

/* Pairs embedded elsewhere, in clip-retrieval's layout; no model needed (NULL), unless img_emb or text_emb is not there: then
 * the model, whose the other must be, embeds the pictures or captions of the metadata, as of a pairs file. Rows are normalised; rows that are zero or not
 * finite are skipped and listed. Captions and URIs come from the metadata, when there is one; then a row whose record is
 * missing, bad or has an empty caption is a failure, and URIs and captions that are there already are as in a pairs file. */
RECO_API reco_status reco_bank_ingest_embeddings(reco_ctx *ctx, const reco_model *model,
                                                 const char *embeddings, const char *bank, int build,
                                                 const reco_ingest_opts *opts, reco_stream_result *result);

/* Rows of a bank to a folder in clip-retrieval's layout, which reco_bank_ingest_embeddings reads back as the same rows.
 *   out    must not exist, or be empty; it appears when all is written
 *   where  as in reco_bank_filter_where; NULL: all rows
 *   rows   how many were written; may be NULL
 * img_emb/img_emb_0.npy and text_emb/text_emb_0.npy, f16, bit by bit as stored; metadata/metadata_0.jsonl with id,
 * caption, image_path (the URI, where there is one) and the user's columns, those whose names mean something to a reader
 * of pairs (docs/format.md) as "meta.NAME"; reco.json with the encoder.
 * RECO_E_EXISTS, RECO_E_BUSY (another export to it is at work), RECO_E_IO; memory for 1,024 rows. */
RECO_API reco_status reco_bank_export(reco_ctx *ctx, const reco_bank *bank, const char *out,
                                      const char *where, uint64_t *rows);

/* The same as a pairs file, by the ending of its name: .jsonl, or .csv with every column that any row has (numbers and
 * nested values as JSON text, what is missing empty). Columns image (the URI), text, and the user's. Atomic. */
RECO_API reco_status reco_bank_export_pairs(reco_ctx *ctx, const reco_bank *bank, const char *out,
                                            const char *where, uint64_t *rows);

typedef struct reco_search_result {
    uint64_t queries, failures; /* rows of the file; those that are zero or not finite */
    uint64_t normalised;        /* whose norm was not within 1e-3 of 1 */
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

/* Queries from a file, hits to files; no model needed.
 *   side     what the queries are embeddings of; memory, opts->find: as for reco_ask
 *   queries  a .npy of [nq][d], float32 or float16
 *   out      folder: ids.npy [nq][k] i64 and scores.npy [nq][k] f32, best first; places without a hit, and rows of bad
 *            queries, hold id -1 and score 0. Both files appear when all is done; a killed process leaves both, or those
 *            of an earlier search, or no ids.npy
 * Memory: 16 MiB of queries at a time, and their hits.
 * RECO_E_MISMATCH when the width differs; otherwise as reco_bank_search. */
RECO_API reco_status reco_search_file(reco_ctx *ctx, const reco_memory *memory, reco_side side,
                                      const char *queries, const char *out,
                                      const reco_search_file_opts *opts, reco_search_result *result);

typedef struct reco_refine_opts {
    reco_dtype dtype; /* of what is written: RECO_DTYPE_KEEP, RECO_DTYPE_F16 or RECO_DTYPE_F32 */
    /* Rows become [sqrt(a) v; sqrt(1-a) v'], twice as wide, of this weight a, 0..1; NaN: v' alone. */
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

/* A folder of embeddings in, the same refined out; the side that is not refined is copied, and so is the metadata. Rows that
 * no neighbour changed keep their bytes. With opts->concat rows are of norm 1 and have both, on both sides, and reco.json says so;
 * embeddings that are concatenated already are refused wherever embeddings are read (RECO_E_UNSUPPORTED). `out` gets reco.json when `in` has it, or opts->encoder says whose they are.
 *   opts  NULL = RECO_REFINE_OPTS_INIT
 * RECO_E_EXISTS where `out` is `in` or lies within it; RECO_E_MISMATCH where the embeddings are of another encoder. */
RECO_API reco_status reco_refine_folder(reco_ctx *ctx, const reco_memory *memory, const char *in,
                                        const char *out, const reco_refine_opts *opts,
                                        reco_stream_result *result);

/* ---- classes, labels, queries ---- */

/* Classes of a file, one name a line. Blank lines are dropped, and blanks around names. Said in the log and never silent:
 *   - where all lines begin with a number and a tab or one of ":,.)", or with 0, 1, 2, ... and a blank, or with WordNet's name of
 *     a synset, that is the class's number and no part of the name
 *   - what follows a tab is a description and left out
 * A .csv, .tsv or .jsonl with a column name, class or label is read as a table, with its numbers from a column id, index or
 * number. RECO_E_FORMAT: no names. */
RECO_API reco_status reco_class_list_read(reco_ctx *ctx, reco_class_list **out, const char *path);
/* The folders directly in `folder`, sorted as bytes, hidden ones left out: the layout of torchvision's ImageFolder. The model
 * reads their names with blanks for underscores. */
RECO_API reco_status reco_class_list_folders(reco_ctx *ctx, reco_class_list **out, const char *folder);

/* Pictures below a folder, sorted by path. Free with reco_lines_free. */
RECO_API reco_status reco_list_pictures(reco_ctx *ctx, const char *folder, char ***paths, size_t *n);

/* A picture in one of three forms: a file (name alone), the content of a file, or pixels. */
typedef struct reco_picture_input {
    const char *name; /* the file; of the other forms what messages call it, which may be NULL */
    const void *data; /* [bytes] content of a file in memory */
    size_t bytes;
    const uint8_t *pixels; /* [height][width][3] RGB */
    size_t height, width;
} reco_picture_input;

/* Pictures from memory or from files, decoded and embedded on all threads, side by side.
 *   pictures  [n]; what they point to is read during the call alone
 *   out       [n][d] room for all of them; the first *count rows are those of the good ones, in order
 *   rows      [n] likewise: which picture each row is of
 *   opts      failures tell index and name of the picture
 * Errors are those of the model and of memory: a picture that cannot be read is a failure. */
RECO_API reco_status reco_embed_pictures(reco_ctx *ctx, const reco_model *model,
                                         const reco_picture_input *pictures, size_t n,
                                         const reco_embed_opts *opts, float *out, size_t *rows,
                                         size_t *count);

/* Pictures by path, decoded on all threads.
 *   out    [n][d]; rows of pictures that failed are zero
 *   good   [n] 1 or 0; failures go to opts->failure */
RECO_API reco_status reco_embed_files(reco_ctx *ctx, const reco_model *model, const char *const *paths,
                                      size_t n, const reco_embed_opts *opts, float *out,
                                      unsigned char *good);
/* The same, of rows that are kept in a folder: CACHE/HASH.safetensors, whose name is made of the encoder, its precision and the content
 * of all these pictures. Those that fail are tried, and told of, each time. Files appear when they are whole; where they
 * are damaged or can't be written, a warning is logged, and all is embedded.
 *   cache  made when it is missing; NULL: nothing is kept */
RECO_API reco_status reco_embed_files_cached(reco_ctx *ctx, const reco_model *model,
                                             const char *const *paths, size_t n, const char *cache,
                                             const reco_embed_opts *opts, float *out, unsigned char *good);
/* Likewise of reco_embed_prompts. */
RECO_API reco_status reco_embed_prompts_cached(reco_ctx *ctx, const reco_candidates *candidates,
                                               const char *cache, float *rows, uint64_t *truncated);

/* Embeddings that are asked with. Free with reco_query_set_free. */
enum { RECO_QUERY_IMAGE, RECO_QUERY_TEXT, RECO_QUERY_LABEL, RECO_QUERY_GROUP, RECO_QUERY_VALUES };
typedef struct reco_query_set {
    size_t n, d, total; /* rows, of so many that were there */
    float *rows[2];     /* [n][d] unit rows by reco_side; NULL: that side is not there */
    char **values
        [RECO_QUERY_VALUES];     /* [n] what the metadata say: its place, its caption, ...; NULL: nothing */
    uint64_t *at;                /* [n] row of the file */
    float logit_scale;           /* of the encoder; 0: not known */
    uint64_t skipped, truncated; /* samples of a data set that could not be used; captions that were cut */
} reco_query_set;
typedef struct reco_query_set_opts {
    const char *group; /* the column of RECO_QUERY_GROUP; NULL: none */
    /* The others are columns with a known name, or that this gives; NULL = {0}. */
    const reco_table_opts *table;
    const char *encoder;     /* as in reco_ingest_opts */
    reco_failure_fn failure; /* may be NULL */
    void *user;
    uint64_t reserved[RECO_RESERVED];
} reco_query_set_opts;
/* From a folder in clip-retrieval's layout, or a .npy [n][d], which is of `side`. Rows that are zero or not finite are told to
 * opts->failure, and left out. RECO_E_FORMAT where none is left. */
RECO_API reco_status reco_query_set_load(reco_ctx *ctx, reco_query_set *set, const char *path,
                                         reco_side side, const reco_query_set_opts *opts);
/* From a data set as CLIP_benchmark has it in tars (DIR/test/nshards.txt, DIR/test/0.tar, ...), embedded by the model: pictures
 * with their .cls as labels, or, for retrieval, a row for each line of their .txt. */
RECO_API reco_status reco_query_set_read(reco_ctx *ctx, reco_query_set *set, const reco_model *model,
                                         const char *dir, int retrieval, const reco_embed_opts *opts);
RECO_API void reco_query_set_free(reco_query_set *set);
/* Labels in order: whole numbers of a .npy, the column `label` of a table, or the lines of a text. Free with reco_lines_free. */
RECO_API reco_status reco_read_labels(reco_ctx *ctx, const char *path, const reco_table_opts *table,
                                      char ***labels, size_t *n);

/* Training pairs in memory: unit rows, and hashes of what they say and show (reco_train_pairs). Free with
 * reco_pair_set_free. */
typedef struct reco_pair_set {
    size_t n, d;
    float *image, *text; /* [n][d] */
    uint64_t *captions;  /* [n] of each caption, but for case and blanks; 0: there is none */
    uint64_t *pictures;  /* [n] of its name; 0: there is none */
} reco_pair_set;
/* From a folder of embeddings (img_emb/, text_emb/; rows that are zero or not finite are left out), or from the live
 * rows of a bank. */
RECO_API reco_status reco_pair_set_load(reco_ctx *ctx, reco_pair_set *set, const char *path);
RECO_API void reco_pair_set_free(reco_pair_set *set);

enum {
    RECO_OUT_FILE = 0,
    RECO_OUT_FOLDER = 1,
    RECO_OUT_WITHIN = 2,   /* it may lie within an input that is a folder */
    RECO_OUT_NO_PROBE = 4, /* do not try to write */
    RECO_OUT_PICTURES =
        8 /* inputs are pictures: it may lie within their folder, unless it holds pictures itself */
};
/* Can an output be written, and is it none of the inputs? To be asked before the work.
 *   out     of the kind RECO_OUT_FILE or RECO_OUT_FOLDER; it need not be there. Links and other spellings are seen through
 *   inputs  [n] paths; NULL and what is not there are passed over
 * RECO_E_EXISTS: it is an input, or lies within one; RECO_E_IO: it can't be written. */
RECO_API reco_status reco_check_output(reco_ctx *ctx, const char *out, int kind, const char *const *inputs,
                                       size_t n);

/* RECO_E_MISMATCH, naming both encoders, unless embeddings may be of the encoder of bank and fusion layer (NULL: none), by
 * what reco.json beside them says.
 *   embeddings  a folder of embeddings, a bank, or a .npy: beside reco.json, or in img_emb/ or text_emb/ of its folder
 *   encoder     as in reco_ingest_opts
 * Two encoders are the same when their fingerprints are; where one has none, when their names are. */
RECO_API reco_status reco_check_embeddings(reco_ctx *ctx, const char *embeddings, const char *encoder,
                                           const reco_bank *bank, const reco_fusion *fusion);

/* A text file's lines, for class names and templates; blank lines dropped. Free with reco_lines_free. */
RECO_API reco_status reco_read_lines(reco_ctx *ctx, const char *path, char ***lines, size_t *n);
RECO_API void reco_lines_free(char **lines, size_t n);

/* Two columns of a table (of labels, say), row by row: a[i], b[i], numbers as they are written.
 *   table  NULL = {0}
 *   reasons  what is wrong with a row that cannot be read or lacks a value, which then is "", else NULL; free with
 *          reco_lines_free. NULL: such a row is an error
 *   lines  where each record begins, from 1; free with reco_free. May be NULL
 *   a, b   "image", "text" or "label": any known name of it, or the one that `table` gives; else the column of this name */
RECO_API reco_status reco_read_columns(reco_ctx *ctx, const char *path, const reco_table_opts *table,
                                       const char *a, const char *b, char ***as, char ***bs,
                                       char ***reasons, uint64_t **lines, size_t *n);

/* Path of an item named in a file: next to that file if it is there, else as it is. Free with reco_free. */
RECO_API char *reco_resolve_path(reco_ctx *ctx, const char *file, const char *item);

#ifdef __cplusplus
}
#endif
#endif
