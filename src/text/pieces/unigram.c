#include "text/pieces/unigram.h"
#include "text/ids.h"
#include "text/pieces/pieces.h"

#define RESET 100000.0 /* sentencepiece's */

/* Best way to a place in the text: from where, over which piece. from -1: none yet. */
typedef struct node {
    double score;
    int32_t from, id;
} node;

/* Of equals the one from further left, and of those the shorter. */
static void offer_piece(const reco_unigram_model *model, node *to, double score, size_t from, int32_t id)
{
    if (model->in_float) score = (double)(float)score;
    if (to->from >= 0 && !(score > to->score)) return;
    *to = (node){score, (int32_t)from, id};
}

void reco_unigram_free(reco_unigram_model *model)
{
    reco_pieces_free(&model->pieces);
    reco_free(model->score);
    reco_free(model->skip);
}

void reco_unigram_unknown(const reco_unigram_model *model, int32_t unk, const char *text, size_t n,
                          reco_ids *ids)
{
    bool bytes = model->byte_fallback;
    for (size_t i = 0; i < n && bytes; i++) bytes = model->byte[(uint8_t)text[i]] >= 0;
    for (size_t i = 0; i < n && bytes; i++) reco_ids_push(ids, model->byte[(uint8_t)text[i]]);
    if (!bytes) reco_ids_push(ids, unk);
}

/* Ids of what the reference takes for one token: a piece, or a run of unknown characters together. */
static void emit_piece(const reco_unigram_model *model, int32_t unk, int32_t id, const char *text, size_t n,
                       reco_ids *ids)
{
    if (!model->in_float) id = reco_pieces_id(&model->pieces, text, n);
    if (id < 0 || (model->in_float && id == unk))
        reco_unigram_unknown(model, unk, text, n, ids);
    else
        reco_ids_push(ids, id);
}

/* The library takes the sum so far off every place ahead when it grows large, for the sake of what a float can tell apart. */
static void reset(node *best, size_t at, size_t frontier)
{
    double offset = best[at].score;
    if (!(offset < -RESET || offset > RESET)) return;
    for (size_t i = at; i <= frontier; i++)
        if (i == at || best[i].from >= 0) best[i].score = (double)(float)(best[i].score - offset);
}

/* Viterbi, forward, in the order of the reference, so that even equal sums choose alike. */
reco_status reco_unigram(reco_ctx *ctx, const reco_unigram_model *model, int32_t unk, const char *text,
                         size_t n, reco_ids *ids)
{
    reco_mark mark = reco_scratch_mark(ctx);
    node *best = reco_scratch(ctx, n + 1, sizeof *best, "word");
    if (!best) return RECO_E_NOMEM;
    for (size_t i = 0; i <= n; i++) best[i] = (node){0, -1, -1};
    for (size_t at = 0, character, frontier = 0; at < n; at += character) {
        uint32_t hash = RECO_PIECES_HASH;
        bool whole = false; /* the character alone is a piece */
        reco_utf8_next((const uint8_t *)text + at, n - at, &character);
        if (model->in_float) reset(best, at, frontier);
        for (size_t k = 1; k <= model->pieces.longest && at + k <= n; k++) {
            hash = reco_pieces_hash(hash, text[at + k - 1]);
            int32_t id = reco_pieces_id_hashed(&model->pieces, text + at, k, hash);
            if (id < 0 || (model->skip && model->skip[id])) continue;
            offer_piece(model, &best[at + k], model->score[id] + best[at].score, at, id);
            whole = whole || k == character;
            frontier = reco_max(frontier, at + k);
        }
        frontier = reco_max(frontier, at + character);
        if (!whole) offer_piece(model, &best[at + character], model->unk_score + best[at].score, at, unk);
    }
    /* Backwards through the chain; `from` then points to the next node instead. */
    int32_t next = -1;
    for (int32_t at = (int32_t)n; at >= 0;) {
        int32_t from = best[at].from;
        best[at].from = next;
        next = at;
        at = at ? from : -1;
    }
    for (int32_t at = 0; (size_t)at < n && !reco_ids_full(ids);) {
        int32_t end = best[at].from, id = best[end].id;
        if (id == unk && model->fuse_unk)
            while ((size_t)end < n && best[best[end].from].id == unk) end = best[end].from;
        if (id < 0 && unk < 0) {
            reco_scratch_release(ctx, mark);
            return reco_fail(ctx, RECO_E_FORMAT,
                             "caption: a character is in no piece, and the tokenizer has no unk_id");
        }
        emit_piece(model, unk, id, text + at, (size_t)(end - at), ids);
        at = end;
    }
    reco_scratch_release(ctx, mark);
    return RECO_OK;
}
