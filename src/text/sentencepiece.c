/* SigLIP's tokenizers: a SentencePiece model behind the cleaning of transformers' SiglipTokenizer, or of open_clip
 * before a T5 tokenizer. */
#include "text/sentencepiece.h"

#include <stdio.h>

#define META 0x2581 /* what SentencePiece writes for a space */

#ifdef RECO_SENTENCEPIECE

/* "text" or {"content": "text"}; `otherwise` where neither is there. */
static const char *content(const json_t *config, const char *key, const char *otherwise)
{
    const json_t *value = json_object_get(config, key);
    if (json_is_object(value)) value = json_object_get(value, "content");
    return json_is_string(value) ? json_string_value(value) : otherwise;
}

static reco_status special(reco_ctx *ctx, reco_tokenizer *tok, int32_t *id, const json_t *config,
                           const char *key, const char *otherwise, const char *path)
{
    const char *name = content(config, key, otherwise);
    *id = reco_spm_id(tok->spm, name);
    if (*id < 0 || (*id == reco_spm_unk(tok->spm) && strcmp(key, "unk_token") != 0))
        return reco_fail(ctx, RECO_E_FORMAT, "%s: %s '%.60s' is no piece of the model", path, key, name);
    return reco_special_add(ctx, tok, name, *id, false);
}

/* The pieces of "<unk>", which goes before every text (SiglipTokenizer) and is cut off again: without it
 * SentencePiece would drop a leading space of its own. */
static reco_status measure(reco_ctx *ctx, reco_tokenizer *tok, const json_t *config, const char *path)
{
    int32_t unused[1];
    const char *unk = content(config, "unk_token", "<unk>");
    long n = reco_spm_encode(tok->spm, unk, strlen(unk), unused, 1);
    if (n < 0 || strlen(unk) >= sizeof tok->unk_text)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: unk_token '%.60s' cannot be encoded", path, unk);
    snprintf(tok->unk_text, sizeof tok->unk_text, "%s", unk);
    tok->unk_pieces = (size_t)n;
    return RECO_OK;
}

static reco_status read_model(reco_ctx *ctx, reco_tokenizer *tok, const char *dir)
{
    static const char *const names[] = {"spiece.model", "tokenizer.model", "sentencepiece.model"};
    char *data = NULL, *path = NULL, error[256];
    size_t bytes = 0;
    reco_status status = RECO_OK;
    for (size_t i = 0; i < 3 && !data; i++) {
        reco_free(path);
        if (!(path = reco_format(ctx, "%s/%s", dir, names[i]))) RECO_GO(RECO_E_NOMEM);
        RECO_GO(reco_text_read(ctx, &data, &bytes, path));
    }
    if (!data)
        RECO_GO(
            reco_fail(ctx, RECO_E_UNSUPPORTED,
                      "%s: no tokenizer: want spiece.model or tokenizer.model (tokenizer.json alone is not "
                      "supported for SigLIP)",
                      dir));
    if (!(tok->spm = reco_spm_load(data, bytes, error, sizeof error)))
        RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s: not a SentencePiece model: %.200s", path, error));
out:
    reco_free(data);
    reco_free(path);
    return status;
}

reco_status reco_tokenizer_sentencepiece(reco_ctx *ctx, reco_tokenizer **out, const char *dir,
                                         reco_text_rules rules)
{
    json_t *config = NULL;
    char *path = NULL;
    reco_status status = RECO_OK;
    *out = NULL;
    reco_tokenizer *tok = reco_alloc(ctx, 1, sizeof *tok, "tokenizer");
    if (!tok) return RECO_E_NOMEM;
    tok->rules = rules;
    if (!(path = reco_format(ctx, "%s/tokenizer_config.json", dir))) RECO_GO(RECO_E_NOMEM);
    RECO_GO(reco_text_json(ctx, &config, path));
    const char *class = content(config, "tokenizer_class", "SiglipTokenizer");
    if (strncmp(class, "SiglipTokenizer", 15) != 0 && strncmp(class, "T5Tokenizer", 11) != 0)
        RECO_GO(reco_fail(ctx, RECO_E_UNSUPPORTED,
                          "%s: tokenizer_class \"%.60s\", want SiglipTokenizer or T5Tokenizer", path,
                          class));
    bool t5 = class[0] == 'T';
    const json_t *lower = json_object_get(config, "do_lower_case");
    tok->keep_case = json_is_false(lower) || t5;
    tok->t5 = t5;
    RECO_GO(read_model(ctx, tok, dir));
    tok->vocab = reco_spm_size(tok->spm);
    tok->bos = -1;
    RECO_GO(special(ctx, tok, &tok->eos, config, "eos_token", "</s>", path));
    RECO_GO(special(ctx, tok, &tok->unk, config, "unk_token", "<unk>", path));
    RECO_GO(special(ctx, tok, &tok->pad, config, "pad_token", t5 ? "<pad>" : "</s>", path));
    RECO_GO(measure(ctx, tok, config, path));
    *out = tok;
    tok = NULL;
out:
    json_decref(config);
    reco_free(path);
    reco_tokenizer_close(tok);
    return status;
}

/* Ids of one part of a caption, after the first `skip`. */
static reco_status encode_part(reco_ctx *ctx, const reco_tokenizer *tok, const char *before,
                               const reco_points *part, size_t skip, reco_ids *ids)
{
    size_t n = strlen(before), room = ids->max + skip;
    char *text = reco_scratch(ctx, n + 4 * part->n, 1, "caption");
    int32_t *all = reco_scratch(ctx, room, sizeof *all, "caption");
    if (!text || !all) return RECO_E_NOMEM;
    memcpy(text, before, n);
    for (size_t i = 0; i < part->n; i++) n += reco_point_encode((uint8_t *)text + n, part->at[i]);
    long count = reco_spm_encode(tok->spm, text, n, all, room);
    if (count < 0) return reco_fail(ctx, RECO_E_NOMEM, "caption: refused by sentencepiece");
    for (size_t i = (size_t)count >= skip ? skip : 0; i < (size_t)count && i < room; i++)
        reco_ids_push(ids, all[i]);
    return RECO_OK;
}

/* As SiglipTokenizer: a space before, special tokens cut out together with the white space around them, the rest in
 * lower case and without punctuation. */
static reco_status encode_siglip(reco_ctx *ctx, const reco_tokenizer *tok, const reco_points *caption,
                                 reco_ids *ids)
{
    reco_points text = {reco_scratch(ctx, caption->n + 1, sizeof *text.at, "caption"), caption->n + 1};
    if (!text.at) return RECO_E_NOMEM;
    text.at[0] = META;
    for (size_t i = 0; i < caption->n; i++) text.at[i + 1] = caption->at[i] == META ? ' ' : caption->at[i];
    for (size_t begin = 0; begin < text.n && !reco_ids_full(ids);) {
        size_t at = begin;
        const reco_special *found = reco_special_find(tok, &text, &at, false);
        reco_points part = {text.at + begin, at - begin};
        if (part.n) {
            if (!tok->keep_case) RECO_TRY(reco_points_lower(ctx, &part, false));
            reco_clean_punctuation(&part);
            reco_clean_spaces(&part);
            RECO_TRY(encode_part(ctx, tok, tok->unk_text, &part, tok->unk_pieces, ids));
        }
        if (found) reco_ids_push(ids, found->id);
        begin = at + (found ? found->n : 0);
    }
    return RECO_OK;
}

reco_status reco_spm_tokens(reco_ctx *ctx, const reco_tokenizer *tok, reco_points *text, reco_ids *ids)
{
    if (tok->rules == RECO_TEXT_OPENCLIP) RECO_TRY(reco_clean_openclip(ctx, text, tok->clean));
    if (tok->t5)
        RECO_TRY(encode_part(ctx, tok, "", text, 0, ids));
    else
        RECO_TRY(encode_siglip(ctx, tok, text, ids));
    if (ids->n && ids->at[ids->n - 1] == tok->eos && !tok->t5)
        ids->n--; /* an end that is spelled out is enough */
    return RECO_OK;
}

#else

reco_status reco_tokenizer_sentencepiece(reco_ctx *ctx, reco_tokenizer **out, const char *dir,
                                         reco_text_rules rules)
{
    (void)rules;
    *out = NULL;
    return reco_fail(ctx, RECO_E_UNSUPPORTED,
                     "%s: its tokenizer needs the sentencepiece library, which reco was built without",
                     dir);
}

#endif
