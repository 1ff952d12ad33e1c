/* text/tokenizer.h: what an open tokenizer holds; for text/ alone. */
#ifndef RECO_SRC_TOKENIZER_H
#define RECO_SRC_TOKENIZER_H

#include "text/text.h"
#include "reco/text.h"

#include "base/base.h"

/* Of the classes that transformers reads a folder with, those that change what its files say. */
typedef enum reco_class {
    RECO_CLASS_PLAIN, /* CLIPTokenizer; PreTrainedTokenizerFast and TokenizersBackend: as tokenizer.json has it */
    RECO_CLASS_SIGLIP,
    RECO_CLASS_T5,
    RECO_CLASS_GEMMA,
    RECO_CLASS_SIGLIP2, /* Gemma's, in lower case */
    RECO_CLASS_XLMR,    /* XLMRobertaTokenizer: T5's with a begin token */
} reco_class;

struct reco_tokenizer {
    reco_text_rules rules;
    reco_class class;
    reco_clean clean; /* of wash */
    bool wash;        /* open_clip cleans the text before */
    bool built_in;
    struct reco_json_model
        *json; /* of a tokenizer.json that is not CLIP's; it uses merges, specials and ids below */
    struct reco_spm *spm; /* neither: CLIP's byte-pair encoding, by what follows */
    bool keep_case;       /* of spm */
    char unk_text[64];    /* of spm, and how many pieces it is */
    size_t unk_pieces;
    bool few_pieces; /* of CLIP's: a begin or end token that is spelled out is no piece of its own */
    size_t vocab;
    int32_t bos, eos, pad, unk;     /* bos or unk -1: none */
    bool pad_left;                  /* pads go before a text */
    int32_t symbol[256], last[256]; /* id of a byte, and of a byte that ends its word; -1: none */
    struct reco_merge *merges;      /* [mask + 1], open addressing */
    size_t mask;
    struct reco_special *specials;
    size_t nspecials;
    reco_tokenizer_info info; /* reco_tokenizer_describe */
    bool starts[256];         /* low byte of a special token's first character */
};

/* Anew, whenever what it says changes. */
void reco_tokenizer_describe(reco_tokenizer *tok);

/* For reco_tokenizer_hub. as_file: see above. */
reco_status reco_tokenizer_clip(reco_ctx *ctx, reco_tokenizer **out, const char *dir, reco_text_rules rules,
                                bool as_file);

#endif
