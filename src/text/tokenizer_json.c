#include "text/steps.h"

/* Tokens outside of model.vocab get their ids from added_tokens: one vocabulary of both. */
static reco_status join_added(reco_ctx *ctx, json_t *vocab, const json_t *added, const char *path)
{
    size_t i;
    json_t *entry;
    json_array_foreach(added, i, entry)
    {
        const char *token = json_string_value(json_object_get(entry, "content"));
        json_t *id = json_object_get(entry, "id");
        if (!token || !*token || !json_is_integer(id))
            return reco_fail(ctx, RECO_E_FORMAT, "%s: added_tokens[%zu] lacks content or id", path, i);
        json_t *known = json_object_get(vocab, token);
        if (known && json_integer_value(known) != json_integer_value(id))
            return reco_fail(ctx, RECO_E_FORMAT,
                             "%s: added_tokens[%zu] '%.60s' has another id in the vocabulary", path, i,
                             token);
        if (!known && json_object_set(vocab, token, id) != 0) return reco_fail_nomem(ctx, 0, "vocabulary");
    }
    return RECO_OK;
}

/* transformers 4 runs the file's normalizer; 5 gives CLIPTokenizer its own, whatever the file says. So it has to be that
 * one, or missing, or the one of files before 4.17; a class that is not CLIP's has only the file's. */
static reco_status check_normalizer(reco_ctx *ctx, const json_t *value, const json_t *config,
                                    const char *path)
{
    reco_steps steps = {0};
    const char *type = json_string_value(json_object_get(value, "type"));
    const char *class = json_string_value(json_object_get(config, "tokenizer_class"));
    bool none = !value || json_is_null(value) || (type && strcmp(type, "BertNormalizer") == 0);
    if (none && (!class || strncmp(class, "CLIPTokenizer", 13) == 0)) return RECO_OK;
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

reco_status reco_tokenizer_json_open(reco_ctx *ctx, reco_tokenizer *tok, json_t **vocab, json_t **added,
                                     const json_t *config, const char *dir)
{
    reco_status status;
    json_t *root = NULL;
    *vocab = NULL;
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
    if (tok->rules == RECO_TEXT_HF)
        RECO_GO(check_normalizer(ctx, json_object_get(root, "normalizer"), config, path));
    *vocab = json_incref(json_object_get(model, "vocab"));
    *added = json_incref(json_object_get(root, "added_tokens"));
    RECO_GO(join_added(ctx, *vocab, *added, path));
    RECO_GO(reco_vocab_use(ctx, tok, *vocab, path));
    RECO_GO(add_merges(ctx, tok, *vocab, merges, path));
out:
    json_decref(root);
    reco_free(path);
    return status;
}
