/* io/embeddings.h: clip-retrieval's layout. DIR/img_emb/img_emb_0.npy, DIR/text_emb/text_emb_0.npy,
 * DIR/metadata/metadata_0.jsonl (or .csv, .tsv); parts _0, _1, ... follow one another; either side may be missing. */
#ifndef RECO_SRC_EMBEDDINGS_H
#define RECO_SRC_EMBEDDINGS_H

#include "io/io.h"

typedef struct reco_embeddings reco_embeddings;
/* Opens every part (mapped). Both sides present: equal row counts and widths, or RECO_E_FORMAT naming the files.
 * Part numbers are sorted numerically; a part that is missing, or that one side lacks, is a hole. */
reco_status reco_embeddings_open(reco_ctx *ctx, reco_embeddings **out, const char *dir);
void reco_embeddings_close(reco_embeddings *e);
size_t reco_embeddings_rows(const reco_embeddings *e);
size_t reco_embeddings_width(const reco_embeddings *e);
bool reco_embeddings_has(const reco_embeddings *e, reco_side side);
reco_dtype reco_embeddings_dtype(const reco_embeddings *e); /* F16 or F32: the wider of what it holds */
reco_dtype reco_embeddings_side_dtype(const reco_embeddings *e, reco_side side); /* the same of one side */
bool reco_embeddings_has_metadata(const reco_embeddings *e);
/* What is missing of the parts, in words; valid as long as the embeddings. */
size_t reco_embeddings_holes(const reco_embeddings *e, const char *const **holes);
/* Of what was read of the metadata since they were rewound. */
reco_records_counts reco_embeddings_count(const reco_embeddings *e);
/* How the metadata are read from now on; borrowed. */
void reco_embeddings_read_as(reco_embeddings *e, const reco_table_opts *table);
/* RECO_E_UNSUPPORTED where a part has its metadata as parquet alone: without them captions would be missing. */
reco_status reco_embeddings_need_metadata(reco_ctx *ctx, const reco_embeddings *e);
/* Rows [from, from+n) of one side as f32, as stored (not normalised). */
reco_status reco_embeddings_read(reco_ctx *ctx, const reco_embeddings *e, reco_side side, size_t from,
                                 size_t n, float *out);
/* After a rewind: begin with the part of the metadata that has the record of this row. Returns the row whose record comes next. */
size_t reco_embeddings_skip(reco_embeddings *e, size_t row);
/* Metadata record by record in row order; same contract as reco_records_next, over all parts. */
reco_status reco_embeddings_rewind(reco_ctx *ctx, reco_embeddings *e);
reco_status reco_embeddings_next(reco_ctx *ctx, reco_embeddings *e, json_t **row, uint64_t *number,
                                 const char **bad);
#endif
