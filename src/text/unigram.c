#include "text/json_tokenizer.h"

/* Best way to a place in the word: from where, over which piece. from -1: none yet. */
typedef struct node {
    double score;
    int32_t from, id;
} node;

static void offer(node *to, double score, size_t from, int32_t id)
{
    if (to->from >= 0 && !(score > to->score))
        return; /* of equals the one from further left, and of those the shorter */
    *to = (node){score, (int32_t)from, id};
}

/* Ids of what the reference takes for one token: a piece, or a run of unknown characters together. */
static void emit(const reco_tokenizer *tok, const char *text, size_t n, reco_ids *ids)
{
    const reco_json_model *model = tok->json;
    int32_t id = reco_pieces_id(&model->pieces, text, n);
    bool bytes = id < 0 && model->byte_fallback;
    for (size_t i = 0; i < n && bytes; i++) bytes = model->byte[(uint8_t)text[i]] >= 0;
    for (size_t i = 0; i < n && bytes; i++) reco_ids_push(ids, model->byte[(uint8_t)text[i]]);
    if (!bytes) reco_ids_push(ids, id < 0 ? tok->unk : id);
}

/* Viterbi, forward, in doubles and in the order of the reference, so that even equal sums choose alike. */
reco_status reco_unigram(reco_ctx *ctx, const reco_tokenizer *tok, const char *word, size_t n,
                         reco_ids *ids)
{
    const reco_json_model *model = tok->json;
    reco_mark mark = reco_scratch_mark(ctx);
    node *best = reco_scratch(ctx, n + 1, sizeof *best, "word");
    if (!best) return RECO_E_NOMEM;
    for (size_t i = 0; i <= n; i++) best[i] = (node){0, -1, -1};
    for (size_t at = 0, character; at < n; at += character) {
        uint32_t hash = RECO_PIECES_HASH;
        bool whole = false; /* the character alone is a piece */
        reco_utf8_next((const uint8_t *)word + at, n - at, &character);
        for (size_t k = 1; k <= model->pieces.longest && at + k <= n; k++) {
            hash = reco_pieces_hash(hash, word[at + k - 1]);
            int32_t id = reco_pieces_id_hashed(&model->pieces, word + at, k, hash);
            if (id < 0) continue;
            offer(&best[at + k], model->score[id] + best[at].score, at, id);
            whole = whole || k == character;
        }
        if (!whole) offer(&best[at + character], model->unk_score + best[at].score, at, tok->unk);
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
        int32_t end = best[at].from;
        if (best[end].id == tok->unk && model->fuse_unk)
            while ((size_t)end < n && best[best[end].from].id == tok->unk) end = best[end].from;
        if (best[end].id < 0 && tok->unk < 0) {
            reco_scratch_release(ctx, mark);
            return reco_fail(ctx, RECO_E_FORMAT,
                             "caption: a character is in no piece, and the tokenizer has no unk_id");
        }
        emit(tok, word + at, (size_t)(end - at), ids);
        at = end;
    }
    reco_scratch_release(ctx, mark);
    return RECO_OK;
}
