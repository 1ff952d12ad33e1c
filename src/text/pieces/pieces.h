/* text/pieces/pieces.h: the strings of a vocabulary and their ids; for text/ alone. */
#ifndef RECO_SRC_PIECES_H
#define RECO_SRC_PIECES_H

#include "base/base.h"

/* Strings lie back to back in `bytes`; entry e is bytes[at[e] .. at[e + 1]), its id id[e]. */
typedef struct reco_pieces {
    char *bytes;
    uint32_t *at; /* [n + 1] */
    int32_t *id;  /* [n] */
    size_t n, room;
    struct {
        uint32_t hash, entry; /* entry n + 1, 0: empty */
    } * slots;                /* [mask + 1], open addressing */
    size_t mask, longest;     /* bytes of the longest string */
} reco_pieces;

/* Room for n strings of `bytes` bytes together, both below 2^31. Free with reco_pieces_free, also after an error. */
reco_status reco_pieces_reserve(reco_ctx *ctx, reco_pieces *pieces, size_t n, size_t bytes);
void reco_pieces_free(reco_pieces *pieces);
/* The next string's place, where the caller may have written it already; then its id. False: it is known, and nothing
 * was added. */
static inline char *reco_pieces_next(const reco_pieces *pieces)
{
    return pieces->bytes + pieces->at[pieces->n];
}
bool reco_pieces_add(reco_pieces *pieces, const char *text, size_t bytes, int32_t id);
int32_t reco_pieces_id(const reco_pieces *pieces, const char *text, size_t bytes); /* -1: none */

/* A string's hash, byte by byte, for those who ask for every prefix. */
#define RECO_PIECES_HASH 2166136261u
static inline uint32_t reco_pieces_hash(uint32_t hash, char byte)
{
    return (hash ^ (uint8_t)byte) * 16777619u;
}
int32_t reco_pieces_id_hashed(const reco_pieces *pieces, const char *text, size_t bytes, uint32_t hash);

#endif
