/* SigLIP's tokenizers: a SentencePiece model behind the cleaning of transformers' SiglipTokenizer, or as T5's and Gemma's
 * classes use it. */
#include "text/spm/classes.h"
#include "text/files.h"
#include "text/ids.h"
#include "text/special/special.h"
#include "text/spm/spm.h"
#include "text/tokenizer.h"
#include "text/unicode/clean.h"
#include "text/unicode/unicode.h"

#include <stdio.h>

#define META 0x2581 /* what SentencePiece writes for a space */

/* What a folder says of its special tokens. */
typedef struct named {
    const json_t *config,
        *map;         /* tokenizer_config.json, and special_tokens_map.json for what is not there */
    const char *path; /* of the first */
} named;

static const char *content(const named *from, const char *key, const char *otherwise)
{
    const char *text = reco_special_text(from->config, key);
    if (!text) text = reco_special_text(from->map, key);
    return text ? text : otherwise;
}

static reco_status special(reco_ctx *ctx, reco_tokenizer *tok, int32_t *id, const named *from,
                           const char *key, const char *otherwise)
{
    const char *name = content(from, key, otherwise);
    *id = reco_spm_id(tok->spm, name, strlen(name));
    if (*id < 0 || (*id == tok->spm->unk && strcmp(name, content(from, "unk_token", "<unk>")) != 0))
        return reco_fail(ctx, RECO_E_FORMAT, "%s: %s '%.60s' is not a piece of the model", from->path, key,
                         name);
    return reco_special_add(ctx, tok, NULL, name, *id);
}

/* Tokens that were added to SiglipTokenizer, which it finds in a text as it finds its end token. */
static reco_status added(reco_ctx *ctx, reco_tokenizer *tok, const named *from)
{
    const char *key;
    json_t *entry;
    if (content(from, "bos_token", NULL)) {
        int32_t unused;
        RECO_TRY(special(ctx, tok, &unused, from, "bos_token", NULL));
    }
    if (json_object_size(json_object_get(from->config, "sp_model_kwargs")))
        return reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: sp_model_kwargs is not supported", from->path);
    json_object_foreach(json_object_get(from->config, "added_tokens_decoder"), key, entry)
    {
        const char *name = reco_special_text(entry, "content");
        int32_t id = reco_special_id(key);
        if (!name || id < 0 || (size_t)id >= tok->vocab)
            return reco_fail(
                ctx, RECO_E_UNSUPPORTED,
                "%s: added_tokens_decoder: \"%.20s\" is not an id of the %zu pieces, or has no content",
                from->path, key, tok->vocab);
        if (json_is_true(json_object_get(entry, "single_word")))
            return reco_fail(ctx, RECO_E_UNSUPPORTED,
                             "%s: added_tokens_decoder: single_word of \"%.20s\" is not supported",
                             from->path, key);
        size_t known = tok->nspecials;
        RECO_TRY(reco_special_add(ctx, tok, NULL, name, id));
        if (tok->nspecials > known) tok->specials[known].plain = true;
    }
    return RECO_OK;
}

/* The pieces of "<unk>", which goes before every text (SiglipTokenizer) and is cut off again: without it
 * SentencePiece would drop a leading space of its own. */
static reco_status measure_unk(reco_ctx *ctx, reco_tokenizer *tok, const named *from)
{
    int32_t all[4 * sizeof tok->unk_text];
    reco_ids ids = {all, 0, sizeof all / sizeof *all};
    const char *unk = content(from, "unk_token", "<unk>");
    if (strlen(unk) >= sizeof tok->unk_text)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: unk_token '%.60s' is too long", from->path, unk);
    RECO_TRY(reco_spm_encode(ctx, tok->spm, unk, strlen(unk), &ids));
    snprintf(tok->unk_text, sizeof tok->unk_text, "%s", unk);
    tok->unk_pieces = ids.n;
    return RECO_OK;
}

/* Gemma's begin and end are the configuration's to ask for; the others end every text. */
static reco_status ends(reco_ctx *ctx, reco_tokenizer *tok, const named *from)
{
    bool gemma = tok->class == RECO_CLASS_GEMMA || tok->class == RECO_CLASS_SIGLIP2;
    tok->bos = -1;
    if (gemma && json_is_true(json_object_get(from->config, "add_bos_token")))
        RECO_TRY(special(ctx, tok, &tok->bos, from, "bos_token", "<bos>"));
    if (gemma && !json_is_true(json_object_get(from->config, "add_eos_token")))
        return reco_fail(ctx, RECO_E_UNSUPPORTED,
                         "%s: add_eos_token is not true, and a text needs an end token", from->path);
    RECO_TRY(special(ctx, tok, &tok->eos, from, "eos_token", gemma ? "<eos>" : "</s>"));
    RECO_TRY(special(ctx, tok, &tok->unk, from, "unk_token", "<unk>"));
    return special(ctx, tok, &tok->pad, from, "pad_token",
                   tok->class == RECO_CLASS_SIGLIP ? "</s>" : "<pad>");
}

reco_status reco_spm_open(reco_ctx *ctx, reco_tokenizer *tok, const json_t *config, const char *model,
                          const char *dir)
{
    char *data = NULL, *path = NULL, *map_path = NULL;
    json_t *map = NULL;
    size_t bytes = 0;
    reco_status status = RECO_OK;
    RECO_GO(reco_text_read(ctx, &data, &bytes, model));
    if (!data) RECO_GO(reco_fail(ctx, RECO_E_IO, "%s: no such file", model));
    RECO_GO(reco_spm_read(ctx, &tok->spm, data, bytes, model));
    path = reco_format(ctx, "%s/tokenizer_config.json", dir);
    map_path = reco_format(ctx, "%s/special_tokens_map.json", dir);
    if (!path || !map_path) RECO_GO(RECO_E_NOMEM);
    RECO_GO(reco_text_json(ctx, &map, map_path));
    const named from = {config, map, path};
    tok->keep_case = json_is_false(json_object_get(config, "do_lower_case"));
    tok->vocab = tok->spm->size;
    RECO_GO(ends(ctx, tok, &from));
    const char *side = content(&from, "padding_side", "");
    bool gemma = tok->class == RECO_CLASS_GEMMA || tok->class == RECO_CLASS_SIGLIP2;
    tok->pad_left = *side ? strcmp(side, "left") == 0 : gemma;
    if (tok->class == RECO_CLASS_SIGLIP) {
        RECO_GO(measure_unk(ctx, tok, &from));
        status = added(ctx, tok, &from);
    }
out:
    json_decref(map);
    reco_free(map_path);
    reco_free(data);
    reco_free(path);
    return status;
}

/* Ids of one part of a caption, after the first `skip`. */
static reco_status encode_part(reco_ctx *ctx, const reco_tokenizer *tok, const char *before,
                               const reco_points *part, size_t skip, reco_ids *ids)
{
    size_t n = strlen(before), room = ids->max + skip;
    char *text = reco_scratch(ctx, n + 4 * part->n, 1, "caption");
    reco_ids all = {reco_scratch(ctx, room, sizeof *all.at, "caption"), 0, room};
    if (!text || !all.at) return RECO_E_NOMEM;
    memcpy(text, before, n);
    for (size_t i = 0; i < part->n; i++) n += reco_point_encode((uint8_t *)text + n, part->at[i]);
    RECO_TRY(reco_spm_encode(ctx, tok->spm, text, n, &all));
    for (size_t i = all.n >= skip ? skip : 0; i < all.n; i++) reco_ids_push(ids, all.at[i]);
    return RECO_OK;
}

/* As SiglipTokenizer: a space before, special tokens cut out together with the white space around them, the rest in
 * lower case and without punctuation. */
static reco_status encode_siglip(reco_ctx *ctx, const reco_tokenizer *tok, const reco_points *caption,
                                 reco_ids *ids)
{
    reco_points text = {reco_scratch(ctx, caption->n + 1, sizeof *text.at, "caption"), caption->n + 1};
    if (!text.at) return RECO_E_NOMEM;
    const int32_t meta = reco_spm_id(tok->spm, "\xe2\x96\x81", 3);
    text.at[0] = META;
    for (size_t i = 0; i < caption->n; i++) text.at[i + 1] = caption->at[i] == META ? ' ' : caption->at[i];
    for (size_t begin = 0; begin < text.n && !reco_ids_full(ids);) {
        size_t at = begin;
        const reco_special *found = reco_special_find(tok, &text, &at, false);
        reco_points part = {text.at + begin, at - begin};
        if (part.n) {
            if (!tok->keep_case) RECO_TRY(reco_points_lower(ctx, &part, true));
            reco_clean_punctuation(&part);
            reco_clean_spaces(&part);
            RECO_TRY(encode_part(ctx, tok, tok->unk_text, &part, tok->unk_pieces, ids));
        }
        /* The space before goes where a special token is all that it stands before. */
        if (found && !found->plain && begin == 0 && ids->n == 1 && ids->at[0] == meta &&
            meta != tok->spm->unk)
            ids->n = 0;
        if (found) reco_ids_push(ids, found->id);
        begin = at + (found ? found->n : 0);
    }
    return RECO_OK;
}

/* As Gemma's: special tokens cut out, the rest as it is, or in lower case. */
static reco_status encode_gemma(reco_ctx *ctx, const reco_tokenizer *tok, const reco_points *text,
                                reco_ids *ids)
{
    for (size_t begin = 0; begin < text->n && !reco_ids_full(ids);) {
        size_t at = begin;
        const reco_special *found = reco_special_find(tok, text, &at, false);
        reco_points part = {text->at + begin, at - begin};
        if (part.n && tok->class == RECO_CLASS_SIGLIP2) RECO_TRY(reco_points_lower(ctx, &part, false));
        if (part.n) RECO_TRY(encode_part(ctx, tok, "", &part, 0, ids));
        if (found) reco_ids_push(ids, found->id);
        begin = at + (found ? found->n : 0);
    }
    return RECO_OK;
}

reco_status reco_spm_tokens(reco_ctx *ctx, const reco_tokenizer *tok, reco_points *text, reco_ids *ids)
{
    if (tok->class == RECO_CLASS_T5) return encode_part(ctx, tok, "", text, 0, ids);
    return tok->class == RECO_CLASS_SIGLIP ? encode_siglip(ctx, tok, text, ids)
                                           : encode_gemma(ctx, tok, text, ids);
}
