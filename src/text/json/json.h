/* text/json/json.h: a tokenizer.json of Unigram, or of BPE with bytes for what it does not know, run as the
 * tokenizers library runs it; for text/ alone. */
#ifndef RECO_SRC_JSON_TOKENIZER_H
#define RECO_SRC_JSON_TOKENIZER_H

#include "text/text.h"
#include "text/ids.h"
#include "text/json/scan.h"
#include "text/json/steps.h"
#include "text/pieces/unigram.h"
#include "text/unicode/unicode.h"

#include <jansson.h>

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

/* model.c: model and its vocabulary. */
reco_status reco_json_model_read(reco_ctx *ctx, reco_tokenizer *tok, const reco_json_file *file);
/* read.c: all of it, into a tokenizer of which class is set. config: tokenizer_config.json, or NULL */
reco_status reco_json_tokenizer_read(reco_ctx *ctx, reco_tokenizer *tok, const reco_json_file *file,
                                     const json_t *config, const char *dir);
void reco_json_model_free(reco_json_model *model);

/* Ids of a decoded caption, without begin and end token. */
reco_status reco_json_tokens(reco_ctx *ctx, const reco_tokenizer *tok, reco_points *text, reco_ids *ids);

/* clip.c: CLIP's, which bpe/ runs. */
/* file: the whole of it. as_file: transformers runs it as it is, since tokenizer_class is not CLIP's. */
reco_status reco_tokenizer_json_open(reco_ctx *ctx, reco_tokenizer *tok, json_t **vocab, json_t **file,
                                     bool as_file, const char *dir);
/* Of a tokenizer that is opened: whether such a file says what is done here; sets few_pieces. */
reco_status reco_tokenizer_json_check(reco_ctx *ctx, reco_tokenizer *tok, const json_t *vocab,
                                      const json_t *file, const char *dir);
#endif
