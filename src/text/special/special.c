#include "text/special/special.h"
#include "text/tokenizer.h"
#include "text/unicode/unicode.h"

#include <stdlib.h>

#define ADDED_MOST (1L << 24) /* ids of added tokens */
#define MOST 16384            /* special tokens: each is looked for at every place of a text */

reco_status reco_special_put(reco_ctx *ctx, reco_tokenizer *tok, const reco_special *special)
{
    for (size_t i = 0; i < tok->nspecials; i++)
        if (tok->specials[i].id == special->id) return RECO_OK;
    if (tok->nspecials == MOST)
        return reco_fail(ctx, RECO_E_UNSUPPORTED, "tokenizer: more than %d added tokens", MOST);
    size_t room = 8;
    while (room <= tok->nspecials) room *= 2;
    bool full = tok->nspecials == 0 || room == tok->nspecials * 2;
    reco_special *grown = full ? reco_alloc(ctx, room, sizeof *grown, "special tokens") : tok->specials;
    int32_t *copy = reco_alloc(ctx, special->n, sizeof *copy, "special tokens");
    if (!grown || !copy) {
        if (full) reco_free(grown);
        reco_free(copy);
        return RECO_E_NOMEM;
    }
    if (special->n) memcpy(copy, special->points, special->n * sizeof *copy);
    if (full) {
        if (tok->nspecials) memcpy(grown, tok->specials, tok->nspecials * sizeof *grown);
        reco_free(tok->specials);
        tok->specials = grown;
    }
    grown[tok->nspecials] = *special;
    grown[tok->nspecials++].points = copy;
    if (special->n) tok->starts[*copy & 255] = true;
    return RECO_OK;
}

reco_status reco_special_add(reco_ctx *ctx, reco_tokenizer *tok, const json_t *flags, const char *token,
                             int32_t id)
{
    reco_status status = RECO_OK;
    const json_t *normalized = json_object_get(flags, "normalized");
    reco_special special = {.id = id,
                            .lstrip = json_is_true(json_object_get(flags, "lstrip")),
                            .rstrip = json_is_true(json_object_get(flags, "rstrip")),
                            .single_word = json_is_true(json_object_get(flags, "single_word"))};
    special.normalized = json_is_true(normalized) || (!normalized && json_is_object(flags) &&
                                                      !json_is_true(json_object_get(flags, "special")));
    reco_mark mark = reco_scratch_mark(ctx);
    reco_points points;
    RECO_GO(reco_points_decode(ctx, &points, token, strlen(token)));
    if (special.normalized) RECO_GO(reco_clip_normalize(ctx, &points)); /* as the text will be */
    special.points = points.at;
    special.n = points.n;
    RECO_GO(reco_special_put(ctx, tok, &special));
out:
    reco_scratch_release(ctx, mark);
    return status;
}

/* A token that is part of a longer word is passed over whole: the reference does not look for shorter ones in it. */
static bool stands_alone(const reco_special *special, const reco_points *text, size_t at)
{
    size_t end = at + special->n;
    return !special->single_word || ((at == 0 || !reco_point_word(text->at[at - 1])) &&
                                     (end == text->n || !reco_point_word(text->at[end])));
}

const reco_special *reco_special_find(const reco_tokenizer *tok, const reco_points *text, size_t *at,
                                      bool normalized)
{
    while (*at < text->n) {
        const reco_special *best = NULL;
        for (size_t s = 0; s < tok->nspecials && tok->starts[text->at[*at] & 255]; s++) {
            const reco_special *special = &tok->specials[s];
            if (special->normalized == normalized && special->n && special->n <= text->n - *at &&
                special->points[0] == text->at[*at] &&
                memcmp(special->points, text->at + *at, special->n * sizeof *special->points) == 0 &&
                (!best || special->n > best->n))
                best = special;
        }
        if (best && stands_alone(best, text, *at)) return best;
        *at += best ? best->n : 1;
    }
    return NULL;
}

const reco_special *reco_special_next(const reco_tokenizer *tok, const reco_points *text, bool normalized,
                                      reco_place *place, reco_points *part)
{
    size_t begin = place->begin, at = place->look, end;
    const reco_special *found = reco_special_find(tok, text, &at, normalized);
    /* The next token may lie in the white space that this one takes along. */
    end = place->look = at + (found ? found->n : 0);
    while (found && found->lstrip && at > begin && reco_point_space(text->at[at - 1])) at--;
    while (found && found->rstrip && end < text->n && reco_point_space(text->at[end])) end++;
    *part = (reco_points){text->at + begin, at > begin ? at - begin : 0};
    place->begin = end;
    return found;
}

const char *reco_token_text(const json_t *value)
{
    return json_string_value(json_is_object(value) ? json_object_get(value, "content") : value);
}

const char *reco_special_text(const json_t *config, const char *key)
{
    return reco_token_text(json_object_get(config, key));
}

int32_t reco_special_id(const char *key)
{
    char *end;
    long id = strtol(key, &end, 10);
    return *end || end == key || id < 0 || id >= ADDED_MOST ? -1 : (int32_t)id;
}

reco_status reco_special_check(reco_ctx *ctx, const json_t *config, const char *path)
{
    const char *side = json_string_value(json_object_get(config, "truncation_side"));
    if (side && strcmp(side, "left") == 0)
        return reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: truncation_side = \"left\" is not supported", path);
    if (json_is_true(json_object_get(config, "split_special_tokens")))
        return reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: split_special_tokens is not supported", path);
    return RECO_OK;
}
