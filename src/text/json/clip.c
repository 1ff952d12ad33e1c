#include "text/bpe/bpe.h"
#include "text/files.h"
#include "text/json/json.h"
#include "text/json/steps.h"
#include "text/tokenizer.h"

/* transformers 4 runs the file's normalizer; 5 gives CLIPTokenizer its own, whatever the file says. So it has to be that
 * one, or missing, or the one of files before 4.17; a class that is not CLIP's has only the file's. */
static reco_status check_normalizer(reco_ctx *ctx, const json_t *value, bool as_file, const char *path)
{
    reco_steps steps = {0};
    const char *type = json_string_value(json_object_get(value, "type"));
    bool none = !value || json_is_null(value) || (type && strcmp(type, "BertNormalizer") == 0);
    if (none && !as_file) return RECO_OK;
    reco_status status = reco_steps_normalizer(ctx, &steps, value, path);
    const reco_step *at = steps.at;
    if (status == RECO_OK &&
        (steps.n != 3 || at[0].kind != RECO_STEP_NFC || at[1].kind != RECO_STEP_RUNS || !at[1].white ||
         at[1].to.n != 1 || *at[1].to.at != ' ' || at[2].kind != RECO_STEP_LOWER))
        status = reco_fail(ctx, RECO_E_UNSUPPORTED,
                           "%s: normalizer: want CLIP's: NFC, Replace of \\s+ by a space, Lowercase", path);
    reco_steps_free(&steps);
    return status;
}

/* transformers takes the sides from the file. */
static reco_status check_sides(reco_ctx *ctx, const json_t *root, const char *path)
{
    static const char *const keys[] = {"truncation", "padding"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const char *side = json_string_value(json_object_get(json_object_get(root, keys[i]), "direction"));
        if (side && strcmp(side, "Left") == 0)
            return reco_fail(ctx, RECO_E_UNSUPPORTED,
                             "%s: %s.direction = \"Left\" is not supported for CLIP", path, keys[i]);
    }
    return RECO_OK;
}

/* A merge is "a b" or ["a", "b"], by the version that wrote the file. */
static reco_status add_merges(reco_ctx *ctx, reco_tokenizer *tok, const json_t *vocab, const json_t *merges,
                              const char *path)
{
    reco_status status = RECO_OK;
    size_t i;
    json_t *entry;
    char *where = NULL, *text = NULL;
    RECO_TRY(reco_merges_reserve(ctx, tok, json_array_size(merges)));
    json_array_foreach(merges, i, entry)
    {
        const char *left = json_string_value(json_array_get(entry, 0));
        const char *right = json_string_value(json_array_get(entry, 1));
        char *space = NULL;
        reco_free(where);
        reco_free(text);
        text = NULL;
        where = reco_format(ctx, "%s: model.merges[%zu]", path, i);
        if (json_is_string(entry)) text = reco_strdup(ctx, json_string_value(entry));
        if (!where || (json_is_string(entry) && !text)) {
            status = RECO_E_NOMEM;
            goto out;
        }
        if (text && (space = strchr(text, ' '))) {
            *space = 0;
            left = text;
            right = space + 1;
        }
        if (!left || !right || !*left || !*right || strchr(right, ' ') || json_array_size(entry) > 2) {
            status = reco_fail(ctx, RECO_E_FORMAT, "%s: want a pair of symbols", where);
            goto out;
        }
        RECO_GO(reco_merges_add(ctx, tok, vocab, left, right, (uint32_t)i, where));
    }
out:
    reco_free(text);
    reco_free(where);
    return status;
}

reco_status reco_tokenizer_json_open(reco_ctx *ctx, reco_tokenizer *tok, json_t **vocab, json_t **file,
                                     bool as_file, const char *dir)
{
    reco_status status;
    json_t *root = NULL;
    *vocab = *file = NULL;
    char *path = reco_format(ctx, "%s/tokenizer.json", dir);
    if (!path) return RECO_E_NOMEM;
    RECO_GO(reco_text_json(ctx, &root, path));
    if (!root) goto out;
    const json_t *model = json_object_get(root, "model");
    const json_t *merges = json_object_get(model, "merges");
    const char *type = json_string_value(json_object_get(model, "type"));
    const char *suffix = json_string_value(json_object_get(model, "end_of_word_suffix"));
    if (!json_is_object(json_object_get(model, "vocab")) || !json_is_array(merges) ||
        (type && strcmp(type, "BPE") != 0)) {
        status = reco_fail(ctx, RECO_E_FORMAT, "%s: want a BPE model with vocab and merges", path);
        goto out;
    }
    if (!suffix || strcmp(suffix, "</w>") != 0) {
        status =
            reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: end_of_word_suffix is '%s', want '</w>' as in CLIP",
                      path, suffix ? suffix : "");
        goto out;
    }
    if (tok->rules == RECO_TEXT_HF) RECO_GO(check_sides(ctx, root, path));
    if (tok->rules == RECO_TEXT_HF)
        RECO_GO(check_normalizer(ctx, json_object_get(root, "normalizer"), as_file, path));
    *vocab = json_incref(json_object_get(model, "vocab"));
    RECO_GO(reco_vocab_use(ctx, tok, *vocab, path));
    RECO_GO(add_merges(ctx, tok, *vocab, merges, path));
    *file = json_incref(root);
out:
    json_decref(root);
    reco_free(path);
    return status;
}

static bool is_text(const json_t *object, const char *key, const char *want)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text && strcmp(text, want) == 0;
}

/* What transformers writes: 5 with the begin and the end token before the rest of the expression, 4 without. */
static bool is_clip_split(const json_t *steps, bool *few_pieces)
{
    static const char full[] = "<\\|startoftext\\|>|<\\|endoftext\\|>|"
                               "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+";
    const json_t *list = json_object_get(steps, "pretokenizers"), *split = json_array_get(list, 0),
                 *bytes = json_array_get(list, 1), *pattern = json_object_get(split, "pattern"),
                 *regex = json_object_get(bytes, "use_regex");
    *few_pieces = is_text(pattern, "Regex", strstr(full, "'s"));
    return is_text(steps, "type", "Sequence") && json_array_size(list) == 2 &&
           is_text(split, "type", "Split") && (*few_pieces || is_text(pattern, "Regex", full)) &&
           is_text(split, "behavior", "Removed") && json_is_true(json_object_get(split, "invert")) &&
           is_text(bytes, "type", "ByteLevel") &&
           json_is_false(json_object_get(bytes, "add_prefix_space")) && (!regex || json_is_true(regex));
}

static bool off(const json_t *value)
{
    return !value || json_is_null(value) || json_is_false(value) ||
           (json_is_string(value) && !*json_string_value(value)) ||
           (json_is_number(value) && !(json_number_value(value) > 0));
}

/* ["token", id] of a RobertaProcessing. */
static bool has_id(const json_t *pair, int32_t id)
{
    const json_t *number = json_array_get(pair, 1);
    return json_is_integer(number) && json_integer_value(number) == id;
}

static bool is_listed(const json_t *file, int32_t id)
{
    const json_t *list = json_object_get(file, "added_tokens");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (json_integer_value(json_object_get(json_array_get(list, i), "id")) == id) return true;
    return false;
}

reco_status reco_tokenizer_json_check(reco_ctx *ctx, reco_tokenizer *tok, const json_t *vocab,
                                      const json_t *file, const char *dir)
{
    static const char *const keys[] = {"model.dropout", "model.continuing_subword_prefix", "model.fuse_unk",
                                       "model.byte_fallback", "model.ignore_merges"};
    const json_t *model = json_object_get(file, "model"), *post = json_object_get(file, "post_processor");
    const char *unk = json_string_value(json_object_get(model, "unk_token")), *bad = NULL;
    if (!file)
        return reco_fail(ctx, RECO_E_UNSUPPORTED,
                         "%s/tokenizer_config.json: its tokenizer_class needs a tokenizer.json", dir);
    if (!is_listed(file, tok->bos) || !is_listed(file, tok->eos)) bad = "added_tokens";
    if (!is_text(post, "type", "RobertaProcessing") || !has_id(json_object_get(post, "cls"), tok->bos) ||
        !has_id(json_object_get(post, "sep"), tok->eos))
        bad = "post_processor";
    if (!is_clip_split(json_object_get(file, "pre_tokenizer"), &tok->few_pieces)) bad = "pre_tokenizer";
    if (!unk || reco_vocab_id(vocab, unk) != tok->unk) bad = "model.unk_token";
    for (size_t i = 0; i < sizeof keys / sizeof *keys && !bad; i++)
        if (!off(json_object_get(model, strchr(keys[i], '.') + 1))) bad = keys[i];
    return bad ? reco_fail(ctx, RECO_E_UNSUPPORTED,
                           "%s/tokenizer.json: %s: want CLIP's, or tokenizer_class CLIPTokenizer", dir, bad)
               : RECO_OK;
}
