/* text/sentencepiece.h: the part of a tokenizer that SentencePiece does. */
#ifndef RECO_SRC_SENTENCEPIECE_H
#define RECO_SRC_SENTENCEPIECE_H

#include "text/spm.h"
#include "text/tokenizer.h"

#ifdef RECO_SENTENCEPIECE
/* Ids of a decoded caption, without the end token. */
reco_status reco_spm_tokens(reco_ctx *ctx, const reco_tokenizer *tok, reco_points *text, reco_ids *ids);
#endif

#endif
