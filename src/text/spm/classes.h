/* text/spm/classes.h: the part of a tokenizer that SentencePiece does. */
#ifndef RECO_SRC_SENTENCEPIECE_H
#define RECO_SRC_SENTENCEPIECE_H

#include "text/text.h"
#include "text/ids.h"
#include "text/unicode/unicode.h"

#include <jansson.h>

/* From the file `model`, into a tokenizer of which class is set; config: tokenizer_config.json, or NULL. */
reco_status reco_spm_open(reco_ctx *ctx, reco_tokenizer *tok, const json_t *config, const char *model,
                          const char *dir);
/* Ids of a decoded caption, without the end token. */
reco_status reco_spm_tokens(reco_ctx *ctx, const reco_tokenizer *tok, reco_points *text, reco_ids *ids);

#endif
