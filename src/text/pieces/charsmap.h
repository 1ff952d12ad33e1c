/* text/pieces/charsmap.h: SentencePiece's compiled normalisation, which the tokenizers library and sentencepiece apply each in its way; for text/ alone. */
#ifndef RECO_SRC_CHARSMAP_H
#define RECO_SRC_CHARSMAP_H

#include "text/unicode/unicode.h"

typedef struct reco_charsmap {
    uint32_t *units; /* [n], a double-array trie (darts-clone) from UTF-8 to places in text */
    size_t n;
    char *text; /* [bytes], strings that end in NUL, and a NUL behind */
    size_t bytes;
} reco_charsmap;

/* From base64. where: "tokenizer.json: normalizer", for messages. Free with reco_charsmap_free. */
reco_status reco_charsmap_read(reco_ctx *ctx, reco_charsmap *map, const char *base64, const char *where);
/* From the bytes themselves, which are copied. */
reco_status reco_charsmap_take(reco_ctx *ctx, reco_charsmap *map, const uint8_t *blob, size_t bytes,
                               const char *where);
void reco_charsmap_free(reco_charsmap *map);
/* What the longest key that the text begins with becomes, as sentencepiece itself looks it up, and the key's bytes; NULL: there
 * is none. */
const char *reco_charsmap_longest(const reco_charsmap *map, const char *text, size_t bytes, size_t *taken);
reco_status reco_charsmap_apply(reco_ctx *ctx, const reco_charsmap *map, reco_points *text);

#endif
