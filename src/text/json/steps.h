/* text/json/steps.h: the normalizer and the pre_tokenizer of a tokenizer.json, step by step; for text/ alone. */
#ifndef RECO_SRC_STEPS_H
#define RECO_SRC_STEPS_H

#include "text/pieces/charsmap.h"
#include "text/unicode/unicode.h"

#include <jansson.h>

typedef enum reco_step_kind {
    RECO_STEP_CHARSMAP,
    RECO_STEP_REPLACE,     /* `from`, wherever it stands, by `to` */
    RECO_STEP_RUNS,        /* runs of at least `least` characters of the set `from` by `to` */
    RECO_STEP_STRIP,       /* White_Space at the ends */
    RECO_STEP_LOWER,       /* character by character */
    RECO_STEP_LOWER_SIGMA, /* as Python's str.lower */
    RECO_STEP_NFC,
    RECO_STEP_PREPEND,     /* `to`, before text that is not empty */
    RECO_STEP_PUNCTUATION, /* as SiglipTokenizer takes it out */
    RECO_STEP_SPACES,      /* as it makes white space one */
} reco_step_kind;

typedef struct reco_step {
    reco_step_kind kind;
    reco_charsmap map;
    reco_points from, to; /* owned */
    size_t least;
    bool white, single; /* of RUNS: the set is White_Space; a run is one character */
    bool left, right;   /* of STRIP */
} reco_step;

typedef enum reco_prepend { RECO_PREPEND_ALWAYS, RECO_PREPEND_FIRST, RECO_PREPEND_NEVER } reco_prepend;

/* Both are made for what SentencePiece's converted models have. */
typedef struct reco_steps {
    reco_step *at;
    size_t n;
    bool split_white; /* words are what stands between White_Space */
    bool metaspace;   /* a space becomes U+2581, and so on */
    reco_prepend prepend;
    bool split_meta;  /* a word begins at each U+2581 */
    bool split_space; /* a word ends behind each space */
} reco_steps;

/* Append a step; NULL with the error recorded. */
reco_step *reco_steps_add(reco_ctx *ctx, reco_steps *steps, reco_step_kind kind);
/* From the values of these keys, null and missing included. RECO_E_UNSUPPORTED for a step that is not known. */
reco_status reco_steps_normalizer(reco_ctx *ctx, reco_steps *steps, const json_t *value, const char *path);
reco_status reco_steps_pre_tokenizer(reco_ctx *ctx, reco_steps *steps, const json_t *value,
                                     const char *path);
void reco_steps_free(reco_steps *steps);

/* first: becomes false where the first character left does not come from the text's beginning, as the reference reckons;
 * may be NULL. */
reco_status reco_steps_apply(reco_ctx *ctx, const reco_steps *steps, reco_points *text, bool *first);
/* The words of normalised text, from *at on; in the text's place or in scratch. False at the end.
 *   first  the text is the caption's beginning */
typedef struct reco_words {
    reco_points text;
    size_t white, at; /* next piece between white space; next word of `piece` */
    reco_points piece;
    bool first;
} reco_words;
reco_status reco_words_next(reco_ctx *ctx, const reco_steps *steps, reco_words *words, reco_points *word);

/* Fails with RECO_E_UNSUPPORTED for a key that is not in the list, which ends with NULL. */
reco_status reco_json_only(reco_ctx *ctx, const json_t *object, const char *const *keys, const char *where);

#endif
