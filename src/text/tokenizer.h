/* text/tokenizer.h: what an open tokenizer holds; for text/ alone. */
#ifndef RECO_SRC_TOKENIZER_H
#define RECO_SRC_TOKENIZER_H

#include "reco/text.h"

#include "base/base.h"
#include "text/text.h"

#include <jansson.h>

#define RECO_TEXT_MAX ((size_t)1 << 20) /* bytes of a caption */

/* Text between decoding and BPE is code points: [n] in the scratch of a context. */
typedef struct reco_points {
    int32_t *at;
    size_t n;
} reco_points;

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

typedef struct reco_merge {
    uint64_t pair; /* left id << 32 | right id; UINT64_MAX: empty */
    uint32_t rank;
    int32_t id;
} reco_merge;

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
    reco_merge *merges;             /* [mask + 1], open addressing */
    size_t mask;
    reco_special *specials;
    size_t nspecials;
    bool starts[256]; /* low byte of a special token's first character */
};

/* ---- reading (files.c): what is missing comes back as RECO_OK with *out NULL ---- */

reco_status reco_text_read(reco_ctx *ctx, char **out, size_t *bytes,
                           const char *path);                              /* free with reco_free */
reco_status reco_text_json(reco_ctx *ctx, json_t **out, const char *path); /* an object */

/* ---- building (vocab.c, tokenizer_json.c, added.c, special.c); vocab is an object of token to id ---- */

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
/* file: the whole of it. as_file: transformers runs it as it is, since tokenizer_class is not CLIP's. */
reco_status reco_tokenizer_json_open(reco_ctx *ctx, reco_tokenizer *tok, json_t **vocab, json_t **file,
                                     bool as_file, const char *dir);
/* Of a tokenizer that is opened: whether such a file says what is done here; sets few_pieces. */
reco_status reco_tokenizer_json_check(reco_ctx *ctx, reco_tokenizer *tok, const json_t *vocab,
                                      const json_t *file, const char *dir);
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
/* For reco_tokenizer_hub. as_file: see above. */
reco_status reco_tokenizer_clip(reco_ctx *ctx, reco_tokenizer **out, const char *dir, reco_text_rules rules,
                                bool as_file);

/* ---- encoding ---- */

/* Ids so far; full when only the end token's place is left. */
typedef struct reco_ids {
    int32_t *at;
    size_t n, max;
} reco_ids;
static inline bool reco_ids_full(const reco_ids *ids) { return ids->n + 1 >= ids->max; }
static inline void reco_ids_push(reco_ids *ids, int32_t id)
{
    if (!reco_ids_full(ids)) ids->at[ids->n++] = id;
}

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
/* CLIPTokenizer's normalizer: NFC, white space to a space, lower case. May change the text in place. */
reco_status reco_clip_normalize(reco_ctx *ctx, reco_points *text);

/* unicode.c */
reco_status reco_points_decode(reco_ctx *ctx, reco_points *out, const char *text, size_t bytes);
size_t reco_point_encode(uint8_t out[4], int32_t point);
bool reco_point_letter(int32_t point); /* categories L* */
bool reco_point_word(int32_t point);   /* \w of Unicode's expressions (UTS 18) */
reco_status reco_points_nfc(reco_ctx *ctx, reco_points *text);
/* Character by character, as Rust does it, or with the final sigma of Python's str.lower. */
reco_status reco_points_lower(reco_ctx *ctx, reco_points *text, bool final_sigma);

/* clean_openclip.c: ftfy.fix_text, html.unescape twice, then as `clean` says. */
reco_status reco_clean_openclip(reco_ctx *ctx, reco_points *text, reco_clean clean);
/* Runs of what Python's str.split takes for white space become a space; none at the ends. In place. */
void reco_clean_spaces(reco_points *text);
/* Without string.punctuation; in place. */
void reco_clean_punctuation(reco_points *text);

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
