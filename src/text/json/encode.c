#include "text/bpe/bpe.h"
#include "text/ids.h"
#include "text/json/json.h"
#include "text/json/steps.h"
#include "text/pieces/pieces.h"
#include "text/pieces/unigram.h"
#include "text/special/special.h"
#include "text/tokenizer.h"
#include "text/unicode/unicode.h"

/* Each character's piece; without one, its bytes' pieces; without those, the unknown token. Then the merges. */
static reco_status bpe(reco_ctx *ctx, const reco_tokenizer *tok, const char *word, size_t n, reco_ids *ids)
{
    const reco_json_model *model = tok->json;
    int32_t *symbols = reco_scratch(ctx, n + 1, sizeof *symbols, "word");
    size_t count = 0;
    bool unknown = false; /* one is owed: after bytes it comes late, as in the reference */
    if (!symbols) return RECO_E_NOMEM;
    for (size_t at = 0, k; at < n; at += k) {
        reco_utf8_next((const uint8_t *)word + at, n - at, &k);
        int32_t id = reco_pieces_id(&model->vocab.pieces, word + at, k);
        if (id >= 0) {
            if (unknown) symbols[count++] = tok->unk;
            unknown = false;
            symbols[count++] = id;
            continue;
        }
        bool bytes = model->vocab.byte_fallback;
        for (size_t i = 0; i < k && bytes; i++) bytes = model->vocab.byte[(uint8_t)word[at + i]] >= 0;
        if (bytes) {
            for (size_t i = 0; i < k; i++) symbols[count++] = model->vocab.byte[(uint8_t)word[at + i]];
        } else if (tok->unk >= 0) {
            if (unknown && !model->vocab.fuse_unk) symbols[count++] = tok->unk;
            unknown = true;
        }
    }
    if (unknown) symbols[count++] = tok->unk;
    return count ? reco_bpe_merge(ctx, tok, symbols, count, ids) : RECO_OK;
}

static reco_status encode_words(reco_ctx *ctx, const reco_tokenizer *tok, const reco_points *text,
                                bool first, reco_ids *ids)
{
    const reco_json_model *model = tok->json;
    reco_words words = {.text = *text, .first = first};
    while (!reco_ids_full(ids)) {
        reco_mark mark;
        reco_points word;
        RECO_TRY(reco_words_next(ctx, &model->steps, &words, &word));
        if (!word.n) break;
        mark = reco_scratch_mark(ctx);
        char *bytes = reco_scratch(ctx, word.n, 4, "word");
        size_t n = 0;
        if (!bytes) return RECO_E_NOMEM;
        for (size_t i = 0; i < word.n; i++) n += reco_point_encode((uint8_t *)bytes + n, word.at[i]);
        RECO_TRY(model->unigram ? reco_unigram(ctx, &model->vocab, tok->unk, bytes, n, ids)
                                : bpe(ctx, tok, bytes, n, ids));
        reco_scratch_release(ctx, mark);
    }
    return RECO_OK;
}

/* Added tokens are cut out, those marked `normalized` from what the rest became. */
static reco_status encode_part(reco_ctx *ctx, const reco_tokenizer *tok, const reco_points *text,
                               bool normalized, bool first, reco_ids *ids)
{
    const reco_special *found = NULL;
    reco_place place = {0};
    do {
        bool begins = first && place.begin == 0;
        reco_points part;
        found = reco_special_next(tok, text, normalized, &place, &part);
        if (part.n && normalized) {
            RECO_TRY(encode_words(ctx, tok, &part, begins, ids));
        } else if (part.n) {
            RECO_TRY(reco_steps_apply(ctx, &tok->json->steps, &part, &begins));
            RECO_TRY(encode_part(ctx, tok, &part, true, begins, ids));
        }
        if (found) reco_ids_push(ids, found->id);
    } while (found && !reco_ids_full(ids));
    return RECO_OK;
}

reco_status reco_json_tokens(reco_ctx *ctx, const reco_tokenizer *tok, reco_points *text, reco_ids *ids)
{
    return encode_part(ctx, tok, text, false, true, ids);
}
