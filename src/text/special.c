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

reco_status reco_special_add(reco_ctx *ctx, reco_tokenizer *tok, const char *token, int32_t id,
                             bool normalized)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    reco_points points;
    RECO_GO(reco_points_decode(ctx, &points, token, strlen(token)));
    if (normalized) { /* as the text will be when the token is looked for */
        RECO_GO(reco_points_nfc(ctx, &points));
        RECO_GO(reco_points_lower(ctx, &points, false));
    }
    RECO_GO(reco_special_put(ctx, tok, &(reco_special){.points = points.at, points.n, id, normalized}));
out:
    reco_scratch_release(ctx, mark);
    return status;
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
    const char *token = reco_special_text(config, key);
    if (!token) token = reco_special_text(map, key);
    if (!token) token = standard;
    if (!token || !*token) return RECO_OK;
    *id = reco_vocab_id(vocab, token);
    if (*id < 0)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: %s '%.60s' is not in the vocabulary", dir, key, token);
    /* open_clip finds none of these in a text. */
    return tok->rules == RECO_TEXT_HF ? reco_special_add(ctx, tok, token, *id, false) : RECO_OK;
}

/* The names that open_clip gives them, where a vocabulary of its own is spelled out. */
static const char *standard_name(const json_t *vocab, const char *hugging_face, const char *open_clip)
{
    return reco_vocab_id(vocab, hugging_face) < 0 && reco_vocab_id(vocab, open_clip) >= 0 ? open_clip
                                                                                          : hugging_face;
}

/* Of tokens that vocab.json lacks the id is the key, and the vocabulary is told. */
static reco_status add_decoder(reco_ctx *ctx, reco_tokenizer *tok, json_t *vocab, const json_t *config,
                               const char *path)
{
    const char *key;
    json_t *entry;
    size_t entries = 0;
    json_object_foreach(json_object_get(config, "added_tokens_decoder"), key, entry)
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
        RECO_TRY(reco_special_add(ctx, tok, token, id, json_is_true(json_object_get(entry, "normalized"))));
    }
    tok->vocab = reco_max(tok->vocab, entries);
    return RECO_OK;
}

reco_status reco_special_open(reco_ctx *ctx, reco_tokenizer *tok, json_t *vocab, const char *dir)
{
    reco_status status;
    json_t *config = NULL, *map = NULL;
    char *path = reco_format(ctx, "%s/tokenizer_config.json", dir);
    char *map_path = reco_format(ctx, "%s/special_tokens_map.json", dir);
    if (!path || !map_path) {
        status = RECO_E_NOMEM;
        goto out;
    }
    RECO_GO(reco_text_json(ctx, &config, path));
    RECO_GO(reco_text_json(ctx, &map, map_path));
    const char *side = json_string_value(json_object_get(config, "padding_side"));
    if (tok->rules == RECO_TEXT_HF && side && strcmp(side, "left") == 0)
        RECO_GO(reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: padding_side = \"left\" is not supported for CLIP",
                          path));
    if (tok->rules == RECO_TEXT_HF) RECO_GO(reco_special_check(ctx, config, path));
    const char *bos = standard_name(vocab, "<|startoftext|>", "<start_of_text>");
    const char *eos = standard_name(vocab, "<|endoftext|>", "<end_of_text>");
    if (tok->rules == RECO_TEXT_HF) RECO_GO(add_decoder(ctx, tok, vocab, config, path));
    RECO_GO(find(ctx, &tok->bos, tok, vocab, config, map, "bos_token", bos, dir));
    RECO_GO(find(ctx, &tok->eos, tok, vocab, config, map, "eos_token", eos, dir));
    tok->unk = tok->pad = tok->eos;
    RECO_GO(find(ctx, &tok->unk, tok, vocab, config, map, "unk_token", NULL, dir));
    if (tok->rules == RECO_TEXT_HF)
        RECO_GO(find(ctx, &tok->pad, tok, vocab, config, map, "pad_token", NULL, dir));
    else
        tok->pad = 0; /* open_clip starts from an array of zeros */
out:
    json_decref(map);
    json_decref(config);
    reco_free(map_path);
    reco_free(path);
    return status;
}
