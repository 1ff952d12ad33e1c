/* text/bpe/bpe.h: CLIP's vocabulary, its words and their byte-pair encoding; for text/ alone. */
#ifndef RECO_SRC_BPE_H
#define RECO_SRC_BPE_H

#include "text/text.h"
#include "text/ids.h"
#include "text/unicode/unicode.h"

#include <jansson.h>

/* ---- vocab.c; vocab is an object of token to id ---- */

/* Ids must be 0..n-1, once each; sets tok->vocab and the bytes' symbols. */
reco_status reco_vocab_use(reco_ctx *ctx, reco_tokenizer *tok, const json_t *vocab, const char *path);
int32_t reco_vocab_id(const json_t *vocab, const char *token); /* -1: none */
reco_status reco_merges_reserve(reco_ctx *ctx, reco_tokenizer *tok, size_t n);
/* where: "merges.txt:12", for messages. A pair met again takes the later rank, as in the reference. */
reco_status reco_merges_add(reco_ctx *ctx, reco_tokenizer *tok, const json_t *vocab, const char *left,
                            const char *right, uint32_t rank, const char *where);
void reco_merges_put(reco_tokenizer *tok, int32_t left, int32_t right, uint32_t rank, int32_t id);
/* merges.txt in memory, which is cut into lines; path for messages. */
reco_status reco_merges_parse(reco_ctx *ctx, reco_tokenizer *tok, const json_t *vocab, char *data,
                              const char *path);
void reco_vocab_letter(char out[3], int byte); /* a byte's name in a vocabulary, NUL-terminated */
reco_status reco_vocab_open(reco_ctx *ctx, reco_tokenizer *tok, json_t **vocab, const char *dir);
typedef struct reco_merge {
    uint64_t pair; /* left id << 32 | right id; UINT64_MAX: empty */
    uint32_t rank;
    int32_t id;
} reco_merge;

/* split.c: the pieces of CLIP's regular expression, from *at on; false at the end. */
typedef struct reco_piece {
    size_t begin, end;
    int special; /* 1: the rules' own begin token, 2: end token, spelled out in the text; 0: neither */
} reco_piece;
bool reco_split_next(reco_piece *piece, size_t *at, const reco_points *text, const reco_tokenizer *tok);

/* bpe.c: n > 0 symbols, merged as long as there is a merge. */
reco_status reco_bpe_merge(reco_ctx *ctx, const reco_tokenizer *tok, const int32_t *word, size_t n,
                           reco_ids *ids);
/* One word of n > 0 bytes. */
reco_status reco_bpe(reco_ctx *ctx, const reco_tokenizer *tok, const uint8_t *word, size_t n,
                     reco_ids *ids);
/* NULL when the two do not merge. */
const reco_merge *reco_merge_find(const reco_tokenizer *tok, int32_t left, int32_t right);

#endif
