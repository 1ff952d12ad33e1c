#include "text/pieces/pieces.h"

reco_status reco_pieces_reserve(reco_ctx *ctx, reco_pieces *pieces, size_t n, size_t bytes)
{
    size_t slots = 16;
    while (slots < 2 * n) slots *= 2;
    *pieces = (reco_pieces){.room = n, .mask = slots - 1};
    pieces->bytes = reco_alloc_raw(ctx, bytes + 1, 1, "vocabulary");
    pieces->at = reco_alloc_raw(ctx, n + 1, sizeof *pieces->at, "vocabulary");
    pieces->id = reco_alloc_raw(ctx, n, sizeof *pieces->id, "vocabulary");
    pieces->slots = reco_alloc(ctx, slots, sizeof *pieces->slots, "vocabulary");
    if (!pieces->bytes || !pieces->at || !pieces->id || !pieces->slots) return RECO_E_NOMEM;
    pieces->at[0] = 0;
    return RECO_OK;
}

void reco_pieces_free(reco_pieces *pieces)
{
    reco_free(pieces->bytes);
    reco_free(pieces->at);
    reco_free(pieces->id);
    reco_free(pieces->slots);
    *pieces = (reco_pieces){0};
}

/* The slot of a string, or the empty one where it belongs. The hash's low bits are those of the last byte mostly. */
static size_t slot_of(const reco_pieces *pieces, const char *text, size_t bytes, uint32_t hash)
{
    size_t i = (hash ^ hash >> 15) & pieces->mask;
    for (; pieces->slots[i].entry; i = (i + 1) & pieces->mask) {
        size_t e = pieces->slots[i].entry - 1;
        if (pieces->slots[i].hash == hash && pieces->at[e + 1] - pieces->at[e] == bytes &&
            memcmp(pieces->bytes + pieces->at[e], text, bytes) == 0)
            break;
    }
    return i;
}

static uint32_t hash_of(const char *text, size_t bytes)
{
    uint32_t hash = RECO_PIECES_HASH;
    for (size_t i = 0; i < bytes; i++) hash = reco_pieces_hash(hash, text[i]);
    return hash;
}

bool reco_pieces_add(reco_pieces *pieces, const char *text, size_t bytes, int32_t id)
{
    uint32_t hash = hash_of(text, bytes);
    size_t i = slot_of(pieces, text, bytes, hash), n = pieces->n;
    if (pieces->slots[i].entry || n == pieces->room) return false;
    memmove(pieces->bytes + pieces->at[n], text, bytes);
    pieces->at[n + 1] = pieces->at[n] + (uint32_t)bytes;
    pieces->id[n] = id;
    pieces->slots[i].hash = hash;
    pieces->slots[i].entry = (uint32_t)++pieces->n;
    pieces->longest = reco_max(pieces->longest, bytes);
    return true;
}

int32_t reco_pieces_id_hashed(const reco_pieces *pieces, const char *text, size_t bytes, uint32_t hash)
{
    size_t i = slot_of(pieces, text, bytes, hash);
    return pieces->slots[i].entry ? pieces->id[pieces->slots[i].entry - 1] : -1;
}

int32_t reco_pieces_id(const reco_pieces *pieces, const char *text, size_t bytes)
{
    return reco_pieces_id_hashed(pieces, text, bytes, hash_of(text, bytes));
}
