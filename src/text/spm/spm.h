/* text/spm/spm.h: a SentencePiece model, run as the sentencepiece library runs it; for text/ alone. */
#ifndef RECO_SRC_SPM_H
#define RECO_SRC_SPM_H

#include "text/ids.h"
#include "text/pieces/charsmap.h"
#include "text/pieces/pieces.h"
#include "text/pieces/unigram.h"

typedef enum reco_spm_kind {
    RECO_SPM_UNIGRAM = 1,
    RECO_SPM_BPE,
    RECO_SPM_WORD,
    RECO_SPM_CHAR
} reco_spm_kind;
typedef enum reco_spm_type {
    RECO_SPM_NORMAL = 1,
    RECO_SPM_UNKNOWN,
    RECO_SPM_CONTROL,
    RECO_SPM_USER_DEFINED, /* found in a text before all else */
    RECO_SPM_UNUSED,
    RECO_SPM_BYTE
} reco_spm_type;

typedef struct reco_spm {
    reco_spm_kind kind;
    reco_unigram_model model; /* of NORMAL, USER_DEFINED and UNUSED pieces */
    reco_pieces reserved;     /* of the other types */
    reco_pieces user;         /* of USER_DEFINED once more */
    uint8_t *type;            /* [size] reco_spm_type */
    size_t size, unused;      /* pieces of all types, and of UNUSED */
    int32_t unk;
    bool suffix;               /* white space belongs to the word before it */
    bool dummy_prefix;         /* a space before the text, or behind it where suffix */
    bool remove_extra, escape; /* runs of spaces become one; spaces become U+2581 */
    bool bytes;                /* what is in no piece becomes its bytes */
    reco_charsmap map;         /* n 0: none */
} reco_spm;

/* read.c: from a serialised ModelProto; path for messages. RECO_E_FORMAT where it is none or is damaged, RECO_E_UNSUPPORTED
 * for a model of words. */
reco_status reco_spm_read(reco_ctx *ctx, reco_spm **out, const void *data, size_t bytes, const char *path);
void reco_spm_free(reco_spm *spm);
/* Id of a piece; the unknown token's where there is none of that name. */
int32_t reco_spm_id(const reco_spm *spm, const char *piece, size_t bytes);

/* encode.c: ids of a text in UTF-8, nothing added. */
reco_status reco_spm_encode(reco_ctx *ctx, const reco_spm *spm, const char *text, size_t bytes,
                            reco_ids *ids);
/* normalize.c: the text as the pieces have it, in scratch. */
reco_status reco_spm_normalize(reco_ctx *ctx, const reco_spm *spm, const char *text, size_t bytes,
                               char **out, size_t *n);
/* Bytes of the longest USER_DEFINED piece that the text begins with; 0: none. */
size_t reco_spm_user(const reco_spm *spm, const char *text, size_t bytes);
/* Bytes of a character by its first byte, within what is left. */
static inline size_t reco_spm_step(const char *text, size_t left)
{
    size_t n;
    reco_utf8_next((const uint8_t *)text, left, &n);
    return n;
}
/* bpe.c: the same of a normalised text, with merges or (CHAR) without. */
reco_status reco_spm_bpe(reco_ctx *ctx, const reco_spm *spm, const char *text, size_t bytes, reco_ids *ids);

#endif
