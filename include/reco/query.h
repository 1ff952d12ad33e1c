/* reco/query.h: embeddings that are asked with, their labels, and whose captions their neighbours have. */
#ifndef RECO_QUERY_H
#define RECO_QUERY_H

#include "reco/bank.h"
#include "reco/base.h"
#include "reco/clip.h"
#include "reco/io.h"

#ifdef __cplusplus
extern "C" {
#endif

struct reco_stream_opts; /* of reco/pipeline.h */

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
/* From a folder in clip-retrieval's layout, or a .npy [n][d], which is of `side`. Rows that are zero or not finite are told to
 * stream->failure, and left out. RECO_E_FORMAT where none is left.
 *   group  the column of RECO_QUERY_GROUP; NULL: none. The others are columns with a known name, or that `table` gives */
RECO_API reco_status reco_query_set_load(reco_ctx *ctx, reco_query_set *set, const char *path,
                                         reco_side side, const char *group, const reco_table_opts *table,
                                         const struct reco_stream_opts *stream);
/* From a data set as CLIP_benchmark has it in tars (DIR/test/nshards.txt, DIR/test/0.tar, ...), embedded by the model: pictures
 * with their .cls as labels, or, for retrieval, a row for each line of their .txt. */
RECO_API reco_status reco_query_set_read(reco_ctx *ctx, reco_query_set *set, const reco_model *model,
                                         const char *dir, int retrieval,
                                         const struct reco_stream_opts *stream);
RECO_API void reco_query_set_free(reco_query_set *set);
/* Labels in order: whole numbers of a .npy, the column `label` of a table, or the lines of a text. Free with reco_lines_free. */
RECO_API reco_status reco_read_labels(reco_ctx *ctx, const char *path, const reco_table_opts *table,
                                      char ***labels, size_t *n);

/* Captions, or classes, that a vote can be for.
 *   names    [n] texts of the candidates, or NULL
 *   rows     [prompts][n][d] unit rows: each candidate in every template */
typedef struct reco_candidates {
    const char *const *names;
    const float *rows;
    size_t n, prompts, d;
} reco_candidates;
/* of [n]: which candidate each row of the bank says, or RECO_NO_CANDIDATE: the first whose name is its caption, but for case, Unicode
 * form and blanks, else the one that it has the vector of, but for rounding. No model needed.
 *   ids  [n]; -1 is no row */
RECO_API reco_status reco_candidate_votes(reco_ctx *ctx, const reco_bank *bank, const reco_candidates *c,
                                          const int64_t *ids, size_t n, uint32_t *of);

#ifdef __cplusplus
}
#endif
#endif
