/* text/text.h: what the modules above need of tokenizers beside reco/text.h. */
#ifndef RECO_SRC_TEXT_H
#define RECO_SRC_TEXT_H

#include "reco/text.h"

/* What open_clip does to a repaired caption. */
typedef enum reco_clean {
    RECO_CLEAN_LOWER = 0,    /* white space, lower case */
    RECO_CLEAN_WHITESPACE,   /* white space */
    RECO_CLEAN_CANONICALIZE, /* "_" is a space, no punctuation, lower case, white space */
} reco_clean;

/* CLIP's own tokenizer, of 49,408 entries, from what is compiled in; cleaned and padded as in open_clip. */
reco_status reco_tokenizer_builtin(reco_ctx *ctx, reco_tokenizer **out);
/* The tokenizer of a folder by its tokenizer_class, from tokenizer.json, SentencePiece's file or CLIP's two: rules HF, as
 * transformers does it for SigLIP, or OPENCLIP, as open_clip does it where hf_tokenizer_name is set: it cleans the text
 * before (RECO_CLEAN_WHITESPACE if nothing else is set). Beside the errors of reco_tokenizer_open, RECO_E_UNSUPPORTED for a
 * folder without such a file, and for what a file asks for and is not done here. */
reco_status reco_tokenizer_hub(reco_ctx *ctx, reco_tokenizer **out, const char *dir, reco_text_rules rules);
/* Before the tokenizer is shared. */
void reco_tokenizer_set_clean(reco_tokenizer *tok, reco_clean clean);
/* Likewise: tokens that were added beside the vocabulary, as a mask, and have ids from `vocab` on, for which the model has no
 * embedding, are no longer found in a text. Gives how many; 0, and nothing is changed, where any other id is not below. */
size_t reco_tokenizer_limit(reco_tokenizer *tok, size_t vocab);

#endif
