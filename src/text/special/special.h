/* text/special/special.h: tokens that are found in a text before anything else is done to it; for text/ alone. */
#ifndef RECO_SRC_SPECIAL_H
#define RECO_SRC_SPECIAL_H

#include "text/text.h"
#include "text/unicode/unicode.h"

#include <jansson.h>

/* A token that is found in the text before anything else is done to it. */
typedef struct reco_special {
    int32_t *points;
    size_t n;
    int32_t id;
    bool normalized;     /* looked for in the normalised text instead */
    bool lstrip, rstrip; /* takes the white space on that side along */
    bool single_word;    /* not where it touches a letter, a mark, a number or a connector */
    bool plain;          /* added, and none of the configuration's own */
} reco_special;

/* bos, eos, unk, pad and other tokens to be found whole; those that were added to vocab join it. file: tokenizer.json;
 * config: tokenizer_config.json; or NULL. */
reco_status reco_special_open(reco_ctx *ctx, reco_tokenizer *tok, json_t *vocab, const json_t *file,
                              bool as_file, const json_t *config, const char *dir);
/* flags: the token's object in a file; of anything else, the token is found as it is spelled. */
reco_status reco_special_add(reco_ctx *ctx, reco_tokenizer *tok, const json_t *flags, const char *token,
                             int32_t id);
/* The same, of characters as the text will have them when it is looked for; the points are copied. */
reco_status reco_special_put(reco_ctx *ctx, reco_tokenizer *tok, const reco_special *special);
/* Texts are cut at their ends alone, and special tokens always found. */
reco_status reco_special_check(reco_ctx *ctx, const json_t *config, const char *path);
/* The id that is a key of added_tokens_decoder; -1: none below 2^24. */
int32_t reco_special_id(const char *key);
/* A special token's text where it is "text" or {"content": "text", ...}; NULL: none. */
const char *reco_token_text(const json_t *value);
const char *reco_special_text(const json_t *config, const char *key);
/* First special token in text from `at` on, the longest of those that start there; NULL: none, and *at the end. */
const reco_special *reco_special_find(const reco_tokenizer *tok, const reco_points *text, size_t *at,
                                      bool normalized);
/* One after the other from a zeroed place: the next token, and in part what is left of the text before it; NULL: no
 * more, and the rest. */
typedef struct reco_place {
    size_t begin, look;
} reco_place;
const reco_special *reco_special_next(const reco_tokenizer *tok, const reco_points *text, bool normalized,
                                      reco_place *place, reco_points *part);

#endif
