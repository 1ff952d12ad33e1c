/* text/json_tokenizer.h: a tokenizer.json of Unigram, or of BPE with bytes for what it does not know, run as the
 * tokenizers library runs it; for text/ alone. */
#ifndef RECO_SRC_JSON_TOKENIZER_H
#define RECO_SRC_JSON_TOKENIZER_H

#include "text/scan.h"
#include "text/steps.h"
#include "text/unigram.h"

typedef struct reco_json_model {
    reco_steps steps;
    reco_unigram_model vocab; /* of BPE too, but for its scores */
    bool unigram;
} reco_json_model;

/* tokenizer.json in memory, its long lists apart. Close whatever came of opening. */
typedef struct reco_json_file {
    char *path, *data;
    json_t *root; /* NULL: there is no such file */
    reco_span vocab, merges;
} reco_json_file;
reco_status reco_json_file_open(reco_ctx *ctx, reco_json_file *file, const char *dir);
void reco_json_file_close(reco_json_file *file);
bool reco_json_file_is_clip(const reco_json_file *file); /* BPE whose words end in </w> */

/* json_model.c: model and its vocabulary. */
reco_status reco_json_model_read(reco_ctx *ctx, reco_tokenizer *tok, const reco_json_file *file);
/* json_tokenizer.c: all of it, into a tokenizer of which class is set. config: tokenizer_config.json, or NULL */
reco_status reco_json_tokenizer_read(reco_ctx *ctx, reco_tokenizer *tok, const reco_json_file *file,
                                     const json_t *config, const char *dir);
void reco_json_model_free(reco_json_model *model);

/* Ids of a decoded caption, without begin and end token. */
reco_status reco_json_tokens(reco_ctx *ctx, const reco_tokenizer *tok, reco_points *text, reco_ids *ids);

#endif
