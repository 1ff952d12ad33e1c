/* reco/text.h: from captions to token ids, as the model's own tokenizer computes them. */
#ifndef RECO_TEXT_H
#define RECO_TEXT_H

#include "reco/base.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct reco_tokenizer reco_tokenizer;

typedef enum reco_text_rules {
    RECO_TEXT_AUTO = 0,    /* open_clip_config.json in the folder -> OPENCLIP, else HF */
    RECO_TEXT_HF = 1,      /* Hugging Face CLIPTokenizer: NFC, white space, lower case */
    RECO_TEXT_OPENCLIP = 2 /* open_clip SimpleTokenizer: ftfy-like repair, HTML unescape, lower case */
} reco_text_rules;

/* Open the tokenizer of a model folder: tokenizer.json, or vocab.json + merges.txt; with OPENCLIP rules,
 * the latter are preferred.
 *   dir      the folder; read now, not retained
 * Returns RECO_OK; RECO_E_IO (file missing: named), RECO_E_FORMAT (file, line and what is wrong with it:
 * merges that are not pairs, a vocabulary with holes, special tokens missing), RECO_E_UNSUPPORTED (no
 * tokenizer in the folder; a normalizer or a class that is not CLIP's, and the like: named), RECO_E_NOMEM. */
RECO_API reco_status reco_tokenizer_open(reco_ctx *ctx, reco_tokenizer **out, const char *dir,
                                         reco_text_rules rules);
RECO_API void reco_tokenizer_close(reco_tokenizer *tok);

typedef struct reco_tokenizer_info {
    /* "bpe" (CLIP's), "sentencepiece", and of tokenizer.json "unigram" or "bpe with bytes" */
    char kind[16];
    char rules[32];   /* how text is cleaned first: "hf", "open_clip lower", "siglip", ... */
    bool built_in;    /* CLIP's own merges, compiled into the library */
    size_t vocab;     /* number of entries; every id is below it */
    int32_t bos, eos; /* ids of the begin and the end token; bos -1: none */
    int32_t pad;      /* padding of the reference; reco pads only for models that attend to padding */
    bool pads_left;   /* the reference pads before a text */
} reco_tokenizer_info;
/* Borrowed from the tokenizer. */
RECO_API const reco_tokenizer_info *reco_tokenizer_get_info(const reco_tokenizer *tok);

/* The text with U+FFFD in place of invalid UTF-8, as Python's errors="replace" does. Free with reco_free.
 *   errors  how many there were; may be NULL
 * NULL if out of memory. */
RECO_API char *reco_text_repair(const char *text, size_t bytes, size_t *errors);

/* Tokens of one caption, including begin and end token, truncated to max with the end token kept last.
 *   text   UTF-8, `bytes` long; invalid sequences become U+FFFD as Python's errors="replace" does
 *   ids    [max], written 0..*n
 *   max    2..65536, the model's context length
 *   cut    true if the caption was truncated; may be NULL
 * Thread-safe on a shared tokenizer.
 * Returns RECO_OK, RECO_E_ARG, RECO_E_NOMEM (caption above 1 MiB). */
RECO_API reco_status reco_tokenizer_encode(reco_ctx *ctx, const reco_tokenizer *tok, const char *text,
                                           size_t bytes, int32_t *ids, size_t max, size_t *n, bool *cut);

#ifdef __cplusplus
}
#endif
#endif
