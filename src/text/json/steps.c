#include "text/json/steps.h"
#include "text/pieces/charsmap.h"
#include "text/unicode/clean.h"
#include "text/unicode/unicode.h"

#define META 0x2581
#define MOST (16 * RECO_TEXT_MAX) /* characters of a caption, however it grows */

static reco_status room_for(reco_ctx *ctx, reco_points *out, size_t n)
{
    if (n > MOST) return reco_fail(ctx, RECO_E_NOMEM, "caption grows to more than %zu characters", MOST);
    *out = (reco_points){reco_scratch(ctx, n, sizeof *out->at, "caption"), 0};
    return out->at ? RECO_OK : RECO_E_NOMEM;
}

static void append_points(reco_points *out, const reco_points *more)
{
    if (more->n) memcpy(out->at + out->n, more->at, more->n * sizeof *more->at);
    out->n += more->n;
}

/* Characters at text->at[i] that are to be replaced; 0: none. */
static size_t match_step(const reco_step *step, const reco_points *text, size_t i)
{
    size_t left = text->n - i, n = 0;
    if (step->kind == RECO_STEP_REPLACE)
        return left >= step->from.n &&
                       memcmp(text->at + i, step->from.at, step->from.n * sizeof *text->at) == 0
                   ? step->from.n
                   : 0;
    for (; n < (step->single ? reco_min(left, 1) : left); n++) {
        bool member = step->white && reco_point_space(text->at[i + n]);
        for (size_t k = 0; k < step->from.n && !member; k++) member = step->from.at[k] == text->at[i + n];
        if (!member) break;
    }
    return n >= step->least ? n : 0;
}

/* What becomes shorter counts as come from its own end. */
static reco_status replace_matches(reco_ctx *ctx, const reco_step *step, reco_points *text, bool *first)
{
    size_t matches = 0, n, grown;
    for (size_t i = 0; i < text->n; i += n ? n : 1) matches += (n = match_step(step, text, i)) > 0;
    if (!matches) return RECO_OK;
    if (match_step(step, text, 0) > step->to.n) *first = false;
    reco_points out;
    if (!reco_mul(matches, step->to.n, &grown) || !reco_add(grown, text->n, &grown)) grown = SIZE_MAX;
    RECO_TRY(room_for(ctx, &out, grown));
    for (size_t i = 0; i < text->n; i += n ? n : 1) {
        if ((n = match_step(step, text, i)))
            append_points(&out, &step->to);
        else
            out.at[out.n++] = text->at[i];
    }
    *text = out;
    return RECO_OK;
}

static void strip_spaces(const reco_step *step, reco_points *text, bool *first)
{
    while (step->right && text->n && reco_point_space(text->at[text->n - 1])) text->n--;
    while (step->left && text->n && reco_point_space(*text->at)) {
        text->at++;
        text->n--;
        *first = false;
    }
}

static reco_status prepend(reco_ctx *ctx, const reco_points *before, reco_points *text)
{
    reco_points out;
    RECO_TRY(room_for(ctx, &out, before->n + text->n));
    append_points(&out, before);
    append_points(&out, text);
    *text = out;
    return RECO_OK;
}

static reco_status apply(reco_ctx *ctx, const reco_step *step, reco_points *text, bool *first)
{
    switch (step->kind) {
    case RECO_STEP_CHARSMAP:
        return reco_charsmap_apply(ctx, &step->map, text);
    case RECO_STEP_REPLACE:
    case RECO_STEP_RUNS:
        return replace_matches(ctx, step, text, first);
    case RECO_STEP_STRIP:
        strip_spaces(step, text, first);
        return RECO_OK;
    case RECO_STEP_LOWER:
    case RECO_STEP_LOWER_SIGMA:
        return reco_points_lower(ctx, text, step->kind == RECO_STEP_LOWER_SIGMA);
    case RECO_STEP_NFC:
        return reco_points_nfc(ctx, text);
    case RECO_STEP_PREPEND:
        return text->n ? prepend(ctx, &step->to, text) : RECO_OK;
    case RECO_STEP_PUNCTUATION:
        reco_clean_punctuation(text);
        return RECO_OK;
    case RECO_STEP_SPACES:
        reco_clean_spaces(text);
        return RECO_OK;
    }
    return reco_fail(ctx, RECO_E_INTERNAL, "normalizer: step %d", (int)step->kind);
}

reco_status reco_steps_apply(reco_ctx *ctx, const reco_steps *steps, reco_points *text, bool *first)
{
    bool unused;
    for (size_t i = 0; i < steps->n; i++)
        RECO_TRY(apply(ctx, &steps->at[i], text, first ? first : &unused));
    return RECO_OK;
}

/* The next piece between white space, or the whole text, as Metaspace leaves it. */
static reco_status next_piece(reco_ctx *ctx, const reco_steps *steps, reco_words *words)
{
    static const int32_t meta = META;
    const reco_points *text = &words->text;
    size_t begin = words->white, end = text->n;
    if (steps->split_white) {
        while (begin < text->n && reco_point_space(text->at[begin])) begin++;
        for (end = begin; end < text->n && !reco_point_space(text->at[end]);) end++;
    }
    words->white = end;
    words->at = 0;
    words->piece = (reco_points){text->at + begin, end - begin};
    if (!steps->metaspace || !words->piece.n) return RECO_OK;
    for (size_t i = begin; i < end; i++)
        if (text->at[i] == ' ') text->at[i] = META;
    if (*words->piece.at == META || steps->prepend == RECO_PREPEND_NEVER ||
        (steps->prepend == RECO_PREPEND_FIRST && !words->first))
        return RECO_OK;
    return prepend(ctx, &(reco_points){(int32_t *)(uintptr_t)&meta, 1}, &words->piece);
}

reco_status reco_words_next(reco_ctx *ctx, const reco_steps *steps, reco_words *words, reco_points *word)
{
    if (words->at == words->piece.n) RECO_TRY(next_piece(ctx, steps, words));
    const reco_points *piece = &words->piece;
    size_t begin = words->at, end = begin;
    while (end < piece->n) {
        end++;
        if (steps->split_meta && end < piece->n && piece->at[end] == META) break;
        if (steps->split_space && piece->at[end - 1] == ' ') break;
    }
    words->at = end;
    *word = (reco_points){piece->at + begin, end - begin};
    return RECO_OK;
}
