/* text/pieces/unigram.h: a text in pieces of the greatest sum of scores; for text/ alone. */
#ifndef RECO_SRC_UNIGRAM_H
#define RECO_SRC_UNIGRAM_H

#include "text/ids.h"
#include "text/pieces/pieces.h"

typedef struct reco_unigram_model {
    reco_pieces pieces;
    double *score, unk_score; /* [by id] */
    bool *skip;               /* [by id] pieces that are none; NULL: there are no such */
    int32_t byte[256];        /* the pieces <0x00> to <0xFF>; -1: none */
    bool byte_fallback, fuse_unk;
    /* Sums as the sentencepiece library has them, in float, and unknown characters always unknown. Else as the tokenizers
     * library: in double, and a run of unknown characters that is a piece is that piece. */
    bool in_float;
} reco_unigram_model;

void reco_unigram_free(reco_unigram_model *model);
/* unk: id of what is in no piece; -1: that is an error. */
reco_status reco_unigram(reco_ctx *ctx, const reco_unigram_model *model, int32_t unk, const char *text,
                         size_t n, reco_ids *ids);
/* Ids of what is unknown: its bytes' pieces, with byte_fallback, else one unk. */
void reco_unigram_unknown(const reco_unigram_model *model, int32_t unk, const char *text, size_t n,
                          reco_ids *ids);

#endif
