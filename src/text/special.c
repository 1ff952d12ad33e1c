#include "text/tokenizer.h"

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

const char *reco_special_text(const json_t *config, const char *key)
{
    const json_t *value = json_object_get(config, key);
    return json_string_value(json_is_object(value) ? json_object_get(value, "content") : value);
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

static reco_status find(reco_ctx *ctx, int32_t *id, reco_tokenizer *tok, const json_t *vocab,
                        const json_t *config, const json_t *map, const char *key, const char *standard,
                        const char *dir)
{
    const json_t *from = reco_special_text(map, key) ? map : config;
    const char *token = reco_special_text(from, key);
    if (!token) token = standard;
    if (!token || !*token) return RECO_OK;
    *id = reco_vocab_id(vocab, token);
    if (*id < 0)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: %s '%.60s' is not in the vocabulary", dir, key, token);
    /* open_clip finds none of these in a text. */
    return tok->rules == RECO_TEXT_HF ? reco_special_add(ctx, tok, json_object_get(from, key), token, *id)
                                      : RECO_OK;
}

/* The names that open_clip gives them, where a vocabulary of its own is spelled out. */
static const char *standard_name(const json_t *vocab, const char *hugging_face, const char *open_clip)
{
    return reco_vocab_id(vocab, hugging_face) < 0 && reco_vocab_id(vocab, open_clip) >= 0 ? open_clip
                                                                                          : hugging_face;
}

/* Of tokens that the vocabulary lacks the id is the key, and the vocabulary is told. */
static reco_status add_decoder(reco_ctx *ctx, reco_tokenizer *tok, json_t *vocab, const json_t *decoder,
                               const char *path)
{
    const char *key;
    json_t *entry;
    size_t entries = 0;
    json_object_foreach((json_t *)(uintptr_t)decoder, key, entry)
    {
        const char *token = reco_special_text(entry, "content");
        if (!token || !*token) continue;
        int32_t id = reco_vocab_id(vocab, token);
        if (id < 0) {
            id = reco_special_id(key);
            if (id < 0 || (size_t)id < tok->vocab)
                return reco_fail(ctx, RECO_E_FORMAT,
                                 "%s: added_tokens_decoder: '%.60s' has the id %.20s, want one after the "
                                 "vocabulary's %zu",
                                 path, token, key, tok->vocab);
            entries = reco_max(entries, (size_t)id + 1);
            if (json_object_set_new(vocab, token, json_integer(id)) != 0)
                return reco_fail_nomem(ctx, 0, "vocabulary");
        }
        RECO_TRY(reco_special_add(ctx, tok, entry, token, id));
    }
    tok->vocab = reco_max(tok->vocab, entries);
    return RECO_OK;
}

/* added_tokens of tokenizer.json, whose ids are in the vocabulary already. */
static reco_status add_list(reco_ctx *ctx, reco_tokenizer *tok, const json_t *added)
{
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *entry = json_array_get(added, i);
        RECO_TRY(reco_special_add(ctx, tok, entry, json_string_value(json_object_get(entry, "content")),
                                  (int32_t)json_integer_value(json_object_get(entry, "id"))));
    }
    return RECO_OK;
}

/* With an added_tokens_decoder transformers looks at no other list, and not at special_tokens_map.json, which goes before
 * the configuration otherwise. */
reco_status reco_special_open(reco_ctx *ctx, reco_tokenizer *tok, json_t *vocab, const json_t *added,
                              const json_t *config, const char *dir)
{
    reco_status status = RECO_OK;
    json_t *map = NULL;
    const json_t *decoder = json_object_get(config, "added_tokens_decoder");
    char *path = reco_format(ctx, "%s/tokenizer_config.json", dir);
    char *map_path = reco_format(ctx, "%s/special_tokens_map.json", dir);
    if (!path || !map_path) {
        status = RECO_E_NOMEM;
        goto out;
    }
    if (!json_is_object(decoder)) RECO_GO(reco_text_json(ctx, &map, map_path));
    const char *side = json_string_value(json_object_get(config, "padding_side"));
    if (tok->rules == RECO_TEXT_HF && side && strcmp(side, "left") == 0)
        RECO_GO(reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: padding_side = \"left\" is not supported for CLIP",
                          path));
    if (tok->rules == RECO_TEXT_HF) RECO_GO(reco_special_check(ctx, config, path));
    const char *bos = standard_name(vocab, "<|startoftext|>", "<start_of_text>");
    const char *eos = standard_name(vocab, "<|endoftext|>", "<end_of_text>");
    if (tok->rules == RECO_TEXT_HF) RECO_GO(add_decoder(ctx, tok, vocab, decoder, path));
    if (tok->rules == RECO_TEXT_HF && !json_is_object(decoder)) RECO_GO(add_list(ctx, tok, added));
    RECO_GO(find(ctx, &tok->bos, tok, vocab, config, map, "bos_token", bos, dir));
    /* CLIPTokenizer adds them in the other order, and the last to name a token says how it is found. */
    const char *standard = reco_vocab_id(vocab, eos) >= 0 ? eos : NULL;
    tok->unk = tok->pad = -1;
    if (tok->rules == RECO_TEXT_HF)
        RECO_GO(find(ctx, &tok->pad, tok, vocab, config, map, "pad_token", standard, dir));
    else
        tok->pad = 0; /* open_clip starts from an array of zeros */
    RECO_GO(find(ctx, &tok->unk, tok, vocab, config, map, "unk_token", standard, dir));
    RECO_GO(find(ctx, &tok->eos, tok, vocab, config, map, "eos_token", eos, dir));
    if (tok->pad < 0) tok->pad = tok->eos;
    if (tok->unk < 0) tok->unk = tok->eos;
out:
    json_decref(map);
    reco_free(map_path);
    reco_free(path);
    return status;
}
