#include "text/bpe/bpe.h"
#include "text/ids.h"
#include "text/json/json.h"
#include "text/special/special.h"
#include "text/spm/classes.h"
#include "text/tokenizer.h"
#include "text/unicode/clean.h"
#include "text/unicode/unicode.h"

static reco_status encode_word(reco_ctx *ctx, const reco_tokenizer *tok, const int32_t *points, size_t n,
                               reco_ids *ids)
{
    uint8_t few[256], *bytes = few;
    size_t size = 0;
    reco_mark mark = reco_scratch_mark(ctx);
    if (4 * n > sizeof few && !(bytes = reco_scratch(ctx, n, 4, "word"))) return RECO_E_NOMEM;
    for (size_t i = 0; i < n; i++) size += reco_point_encode(bytes + size, points[i]);
    reco_status status = reco_bpe(ctx, tok, bytes, size, ids);
    reco_scratch_release(ctx, mark);
    return status;
}

/* Text that has been cleaned: split into words, then into tokens. */
static reco_status encode_clean(reco_ctx *ctx, const reco_tokenizer *tok, const reco_points *text,
                                reco_ids *ids)
{
    reco_piece piece;
    size_t at = 0;
    while (!reco_ids_full(ids) && reco_split_next(&piece, &at, text, tok)) {
        const int32_t *p = text->at + piece.begin;
        size_t n = piece.end - piece.begin;
        if (!piece.special) {
            RECO_TRY(encode_word(ctx, tok, p, n, ids));
        } else if (tok->rules == RECO_TEXT_OPENCLIP) {
            reco_ids_push(ids, piece.special == 1 ? tok->bos : tok->eos);
        } else { /* Hugging Face's byte-level step splits the piece once more, by GPT-2's expression */
            RECO_TRY(encode_word(ctx, tok, p, 2, ids));
            RECO_TRY(encode_word(ctx, tok, p + 2, n - 4, ids));
            RECO_TRY(encode_word(ctx, tok, p + n - 2, 2, ids));
        }
    }
    return RECO_OK;
}

/* Special tokens are cut out first, those marked `normalized` from what the rest became. */
static reco_status encode_hf(reco_ctx *ctx, const reco_tokenizer *tok, const reco_points *text,
                             bool normalized, reco_ids *ids)
{
    const reco_special *special;
    reco_place place = {0};
    do {
        reco_points part;
        special = reco_special_next(tok, text, normalized, &place, &part);
        if (part.n && normalized) {
            RECO_TRY(encode_clean(ctx, tok, &part, ids));
        } else if (part.n) {
            RECO_TRY(reco_clip_normalize(ctx, &part));
            RECO_TRY(encode_hf(ctx, tok, &part, true, ids));
        }
        if (special) reco_ids_push(ids, special->id);
    } while (special && !reco_ids_full(ids));
    return RECO_OK;
}

static bool ends(const reco_tokenizer *tok, const reco_ids *ids)
{
    return tok->class == RECO_CLASS_SIGLIP && ids->n && ids->at[ids->n - 1] == tok->eos;
}

reco_status reco_tokenizer_encode(reco_ctx *ctx, const reco_tokenizer *tok, const char *text, size_t bytes,
                                  int32_t *ids, size_t max, size_t *n, bool *cut)
{
    reco_points points;
    reco_status status;
    *n = 0;
    if (cut) *cut = false;
    if (max < 2 || max > 65536)
        return reco_fail(ctx, RECO_E_ARG, "tokenizer: max = %zu ids, want 2..65536", max);
    if (bytes > RECO_TEXT_MAX)
        return reco_fail(ctx, RECO_E_NOMEM, "caption of %zu bytes, want at most %zu", bytes, RECO_TEXT_MAX);
    reco_mark mark = reco_scratch_mark(ctx);
    /* Room for two more tells whether there is more. */
    reco_ids out = {reco_scratch(ctx, max + 2, sizeof *ids, "token ids"), 0, max + 2};
    if (!out.at) return RECO_E_NOMEM;
    if (tok->bos >= 0) reco_ids_push(&out, tok->bos);
    RECO_GO(reco_points_decode(ctx, &points, text, bytes));
    if (tok->wash) RECO_GO(reco_clean_openclip(ctx, &points, tok->clean));
    if (tok->json) {
        RECO_GO(reco_json_tokens(ctx, tok, &points, &out));
    } else if (tok->spm) {
        RECO_GO(reco_spm_tokens(ctx, tok, &points, &out));
    } else if (tok->rules == RECO_TEXT_HF) {
        RECO_GO(encode_hf(ctx, tok, &points, false, &out));
    } else {
        RECO_GO(encode_clean(ctx, tok, &points, &out));
    }
    bool spelled = ends(tok, &out); /* an end that is spelled out is enough */
    if (out.n <= max && spelled) out.n--;
    if (cut) *cut = out.n > max - 1;
    if (out.n > max - 1) {
        out.n = max - 1;
        if (ends(tok, &out)) out.n--;
    }
    memcpy(ids, out.at, out.n * sizeof *ids);
    ids[out.n++] = tok->eos;
    *n = out.n;
out:
    reco_scratch_release(ctx, mark);
    return status;
}
