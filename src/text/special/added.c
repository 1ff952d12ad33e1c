/* The tokens that a folder has beside its vocabulary, and those with a part to play, by the rules of transformers 5. */
#include "text/bpe/bpe.h"
#include "text/files.h"
#include "text/special/special.h"
#include "text/tokenizer.h"

#define MOST 4096 /* tokens with a part to play: each is compared with the others */

enum { ROLES = 7 };
static const char *const roles[ROLES] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                         "pad_token", "cls_token", "mask_token"};

typedef struct added {
    reco_tokenizer *tok;
    json_t *vocab;         /* tokens that the model lacks join it */
    json_t *from, *map;    /* what holds of both files below; special_tokens_map.json */
    char *path, *map_path; /* of tokenizer_config.json and that */
    json_t *named;         /* tokens with a part to play, in transformers' order */
    json_t *bare;          /* tokens of added_tokens_decoder that say neither normalized nor special */
    size_t roles;          /* of them before the list of extra tokens */
    size_t n, end;         /* how many are added; behind the highest of their ids */
} added;

/* Sets from: the configuration, and over it special_tokens_map.json where there is no added_tokens_decoder. */
static reco_status settings(reco_ctx *ctx, added *a, const json_t *config)
{
    static const char new_key[] = "extra_special_tokens", old_key[] = "additional_special_tokens";
    bool fine = (a->from = config ? json_copy((json_t *)(uintptr_t)config) : json_object());
    json_t *extra = json_object_get(a->from, new_key), *old = json_object_get(a->from, old_key),
           *both = NULL;
    if (json_is_object(extra) && !json_object_size(extra)) {
        json_object_del(a->from, new_key);
        extra = NULL;
    }
    if (old && !json_array_size(extra) && !json_object_size(extra))
        fine = json_object_set(a->from, new_key, extra = old) == 0;
    if (!json_is_object(json_object_get(config, "added_tokens_decoder")))
        RECO_TRY(reco_text_json(ctx, &a->map, a->map_path));
    json_t *more = json_object_get(a->map, new_key);
    bool older = json_array_size(json_object_get(a->map, old_key));
    if ((json_is_object(extra) && (json_array_size(old) || more || older)) ||
        (json_is_object(more) && (extra || older)))
        return reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: %s is an object, and not alone",
                         json_is_object(more) ? a->map_path : a->path, new_key);
    json_object_del(a->from, old_key);
    if (json_is_array(extra) && json_is_array(more))
        fine = fine && (both = json_copy(extra)) && json_array_extend(both, more) == 0;
    if (a->map) fine = fine && json_object_update(a->from, a->map) == 0;
    if (both) fine = json_object_set_new(a->from, new_key, both) == 0 && fine;
    if (!fine) return reco_fail_nomem(ctx, 0, "tokenizer");
    for (int i = 0; i < 2 && a->tok->rules == RECO_TEXT_HF; i++) {
        const json_t *from = i ? a->map : config;
        const char *where = i ? a->map_path : a->path;
        const char *side = json_string_value(json_object_get(from, "padding_side"));
        if (side && strcmp(side, "left") == 0)
            return reco_fail(ctx, RECO_E_UNSUPPORTED,
                             "%s: padding_side = \"left\" is not supported for CLIP", where);
        RECO_TRY(reco_special_check(ctx, from, where));
    }
    return RECO_OK;
}

/* ---- tokens with ids: added_tokens_decoder, added_tokens of tokenizer.json, added_tokens.json ---- */

/* What has the same id already goes before it. */
static reco_status add_token(reco_ctx *ctx, added *a, const json_t *flags, const char *token, int32_t id,
                             const char *where)
{
    bool hugging_face = a->tok->rules == RECO_TEXT_HF, taken = false;
    int32_t known = reco_vocab_id(a->vocab, token);
    for (size_t i = 0; i < a->tok->nspecials; i++) taken = taken || a->tok->specials[i].id == id;
    if (known >= 0 && known != id)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: '%.60s' has another id in the vocabulary", where, token);
    if (known < 0 && (id < 0 || (size_t)id < a->tok->vocab || taken))
        return reco_fail(ctx, RECO_E_FORMAT,
                         "%s: '%.60s' has the id %d, want one of its own after the vocabulary's %zu", where,
                         token, (int)id, a->tok->vocab);
    if (known < 0) {
        if (json_object_set_new(a->vocab, token, json_integer(id)) != 0)
            return reco_fail_nomem(ctx, 0, "vocabulary");
        a->n++;
        a->end = reco_max(a->end, (size_t)id + 1);
    }
    /* open_clip finds none of these in a text. */
    return hugging_face ? reco_special_add(ctx, a->tok, flags, token, id) : RECO_OK;
}

static reco_status add_decoder(reco_ctx *ctx, added *a, const json_t *decoder)
{
    reco_status status = RECO_OK;
    const char *key;
    json_t *entry;
    char *where = reco_format(ctx, "%s: added_tokens_decoder", a->path);
    if (!where) return RECO_E_NOMEM;
    json_object_foreach((json_t *)(uintptr_t)decoder, key, entry)
    {
        const char *token = reco_special_text(entry, "content");
        if (token && *token) RECO_GO(add_token(ctx, a, entry, token, reco_special_id(key), where));
        if (token && !json_object_get(entry, "normalized") &&
            !json_is_true(json_object_get(entry, "special")) &&
            json_object_set(a->bare, token, json_true()) != 0)
            RECO_GO(reco_fail_nomem(ctx, 0, "tokenizer"));
    }
out:
    reco_free(where);
    return status;
}

/* transformers counts the ids on from the vocabulary's, whatever the list says. */
static reco_status add_list(reco_ctx *ctx, added *a, const json_t *list, const char *dir)
{
    reco_status status = RECO_OK;
    size_t next = a->tok->vocab, i;
    json_t *entry;
    char *where = NULL;
    json_array_foreach((json_t *)(uintptr_t)list, i, entry)
    {
        const char *token = json_string_value(json_object_get(entry, "content"));
        const json_t *number = json_object_get(entry, "id");
        json_int_t id = json_is_integer(number) ? json_integer_value(number) : -1;
        reco_free(where);
        if (!(where = reco_format(ctx, "%s/tokenizer.json: added_tokens[%zu]", dir, i)))
            RECO_GO(RECO_E_NOMEM);
        if (!token || !*token || id < 0 || id > INT32_MAX)
            RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s lacks content or id", where));
        RECO_GO(add_token(ctx, a, entry, token, (int32_t)id, where));
        if ((size_t)id >= a->tok->vocab && (size_t)id != next++)
            RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s: '%.60s' has the id %lld, want %zu", where, token,
                              (long long)id, next - 1));
    }
out:
    reco_free(where);
    return status;
}

/* Whether a role or the list of extra tokens names it, as transformers sees it: not in an object with a "__type". */
static bool is_named(const json_t *from, const char *token)
{
    const json_t *extra = json_object_get(from, "extra_special_tokens");
    for (size_t i = 0; i < ROLES + json_array_size(extra); i++) {
        const json_t *value =
            i < ROLES ? json_object_get(from, roles[i]) : json_array_get(extra, i - ROLES);
        const char *text = json_object_get(value, "__type") ? NULL : reco_token_text(value);
        if (text && strcmp(text, token) == 0) return true;
    }
    return false;
}

/* added_tokens.json: {"token": id}, of transformers before 4.34. */
static reco_status add_old(reco_ctx *ctx, added *a, const char *dir)
{
    reco_status status = RECO_OK;
    const char *token;
    json_t *old = NULL, *id;
    char *path = reco_format(ctx, "%s/added_tokens.json", dir);
    if (!path) return RECO_E_NOMEM;
    RECO_GO(reco_text_json(ctx, &old, path));
    json_object_foreach(old, token, id)
    {
        json_int_t number = json_is_integer(id) ? json_integer_value(id) : -1;
        json_t *flags = json_pack("{s:b}", "normalized", !is_named(a->from, token));
        if (!flags) RECO_GO(reco_fail_nomem(ctx, 0, "tokenizer"));
        if (*token)
            status = add_token(ctx, a, flags, token, number < INT32_MAX ? (int32_t)number : -1, path);
        json_decref(flags);
        if (status != RECO_OK) goto out;
    }
out:
    json_decref(old);
    reco_free(path);
    return status;
}

/* ---- tokens with a part to play, which need no id ---- */

static reco_status missing_token(reco_ctx *ctx, reco_status status, const added *a, const char *key,
                                 const char *token)
{
    return reco_fail(ctx, status, "%s: %s '%.60s' is not in the vocabulary",
                     json_object_get(a->map, key) ? a->map_path : a->path, key, token);
}

/* value NULL: by itself. A token that the vocabulary lacks gets the next id. */
static reco_status name(reco_ctx *ctx, added *a, const json_t *value, const char *token, bool special)
{
    if (special && json_object_get(a->bare, token)) /* transformers makes it special first */
        return reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: added_tokens_decoder: '%.60s' lacks normalized",
                         a->path, token);
    if (reco_vocab_id(a->vocab, token) < 0 &&
        json_object_set_new(a->vocab, token, json_integer((json_int_t)a->tok->vocab++)) != 0)
        return reco_fail_nomem(ctx, 0, "vocabulary");
    if (json_array_size(a->named) == MOST)
        return reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: more than %d special tokens", a->path, MOST);
    for (size_t i = 0; i < json_array_size(a->named); i++) {
        const json_t *other = json_array_get(a->named, i);
        if (strcmp(reco_token_text(other), token) != 0) continue;
        if (!json_is_object(value) && json_is_string(other)) return RECO_OK;
        special = special || i < a->roles;
    }
    json_t *own = json_is_object(value) ? json_copy((json_t *)(uintptr_t)value) : json_string(token);
    if (own && json_is_object(own) && special) json_object_set_new(own, "special", json_true());
    return json_array_append_new(a->named, own) == 0 ? RECO_OK : reco_fail_nomem(ctx, 0, "tokenizer");
}

/* Of other keys, as "image_token": the order is not followed in which transformers gives them ids. */
static reco_status name_known(reco_ctx *ctx, added *a, const json_t *value, const char *key)
{
    const char *token = reco_token_text(value);
    if (!token || !*token) return RECO_OK;
    if (reco_vocab_id(a->vocab, token) < 0) return missing_token(ctx, RECO_E_UNSUPPORTED, a, key, token);
    return name(ctx, a, value, token, true);
}

static reco_status name_others(reco_ctx *ctx, added *a)
{
    const char *key;
    json_t *value;
    json_t *extra = json_object_get(a->from, "extra_special_tokens");
    if (!extra) extra = json_object_get(a->from, "additional_special_tokens");
    json_object_foreach(a->from, key, value)
    {
        size_t n = strlen(key), r = 0;
        while (r < ROLES && strcmp(roles[r], key) != 0) r++;
        if (r == ROLES && n > 6 && strcmp(key + n - 6, "_token") == 0)
            RECO_TRY(name_known(ctx, a, value, key));
    }
    if (json_is_object(extra))
        json_object_foreach(extra, key, value) RECO_TRY(name_known(ctx, a, value, key));
    a->roles = json_array_size(a->named);
    for (size_t i = 0; i < json_array_size(extra); i++) {
        value = json_array_get(extra, i);
        const char *token = reco_token_text(value);
        if (token && *token) RECO_TRY(name(ctx, a, value, token, !json_object_get(value, "__type")));
    }
    return RECO_OK;
}

/* The names that open_clip gives them, where a vocabulary of its own is spelled out. */
static const char *standard_name(const json_t *vocab, const char *hugging_face, const char *open_clip)
{
    return reco_vocab_id(vocab, hugging_face) < 0 && reco_vocab_id(vocab, open_clip) >= 0 ? open_clip
                                                                                          : hugging_face;
}

static reco_status name_roles(reco_ctx *ctx, added *a)
{
    reco_tokenizer *tok = a->tok;
    bool hugging_face = tok->rules == RECO_TEXT_HF;
    const char *bos = standard_name(a->vocab, "<|startoftext|>", "<start_of_text>");
    const char *eos = standard_name(a->vocab, "<|endoftext|>", "<end_of_text>");
    const char *other = reco_vocab_id(a->vocab, eos) >= 0 ? eos : NULL;
    const char *standard[ROLES] = {bos, eos, other, NULL, other, NULL, NULL};
    int32_t *ids[ROLES] = {&tok->bos, &tok->eos, &tok->unk, NULL, hugging_face ? &tok->pad : NULL};
    tok->unk = -1;
    tok->pad = hugging_face ? -1 : 0; /* open_clip starts from an array of zeros */
    for (size_t r = 0; r < ROLES; r++) {
        const json_t *value = json_object_get(a->from, roles[r]);
        const char *token = reco_token_text(value);
        if (!token) value = NULL;
        if (!token) token = standard[r];
        if (!token || (!ids[r] && (!*token || !hugging_face))) continue;
        if (ids[r] && (*ids[r] = reco_vocab_id(a->vocab, token)) < 0)
            return missing_token(ctx, RECO_E_FORMAT, a, roles[r], token);
        RECO_TRY(name(ctx, a, value, token, true));
    }
    if (tok->pad < 0) tok->pad = tok->eos;
    if (tok->unk < 0) tok->unk = tok->eos;
    return RECO_OK;
}

/* Found in texts as it says; the last to name a token goes before the others. */
static reco_status put_named(reco_ctx *ctx, const added *a)
{
    for (size_t i = json_array_size(a->named); i-- > 0;) {
        const json_t *value = json_array_get(a->named, i);
        const char *token = reco_token_text(value);
        RECO_TRY(reco_special_add(ctx, a->tok, value, token, reco_vocab_id(a->vocab, token)));
    }
    return RECO_OK;
}

/* Which of two would be found is chance in the tokenizers library. */
static reco_status check_twins(reco_ctx *ctx, const added *a, const char *dir)
{
    const reco_special *all = a->tok->specials;
    for (size_t i = 0; i < a->tok->nspecials; i++)
        for (size_t k = 0; k < i && all[i].normalized; k++)
            if (all[k].normalized && all[k].n == all[i].n &&
                memcmp(all[k].points, all[i].points, all[i].n * sizeof *all[i].points) == 0)
                return reco_fail(ctx, RECO_E_UNSUPPORTED,
                                 "%s: added tokens %d and %d become one text when normalised", dir,
                                 (int)all[k].id, (int)all[i].id);
    return RECO_OK;
}

reco_status reco_special_open(reco_ctx *ctx, reco_tokenizer *tok, json_t *vocab, const json_t *file,
                              bool as_file, const json_t *config, const char *dir)
{
    reco_status status = RECO_OK;
    bool hugging_face = tok->rules == RECO_TEXT_HF;
    const json_t *decoder = hugging_face ? json_object_get(config, "added_tokens_decoder") : NULL;
    bool decodes = json_is_object(decoder);
    added a = {.tok = tok, .vocab = vocab, .named = json_array(), .bare = json_object()};
    a.path = reco_format(ctx, "%s/tokenizer_config.json", dir);
    a.map_path = reco_format(ctx, "%s/special_tokens_map.json", dir);
    if (!a.path || !a.map_path) RECO_GO(RECO_E_NOMEM);
    RECO_GO(settings(ctx, &a, config));
    if (decodes) RECO_GO(add_decoder(ctx, &a, decoder));
    /* CLIPTokenizer is made anew from the vocabulary; another class keeps what its file adds. */
    if (!decodes || as_file) RECO_GO(add_list(ctx, &a, json_object_get(file, "added_tokens"), dir));
    if (!decodes && hugging_face) RECO_GO(add_old(ctx, &a, dir));
    if (a.n && a.end != tok->vocab + a.n)
        RECO_GO(reco_fail(ctx, RECO_E_FORMAT,
                          "%s/%s has ids up to %zu, which leaves a hole, want up to %zu", dir,
                          decodes ? "tokenizer_config.json: added_tokens_decoder" : "added_tokens.json",
                          a.end - 1, tok->vocab + a.n - 1));
    tok->vocab += a.n;
    RECO_GO(name_roles(ctx, &a));
    if (hugging_face) RECO_GO(name_others(ctx, &a));
    if (hugging_face) RECO_GO(put_named(ctx, &a));
    if (hugging_face) RECO_GO(check_twins(ctx, &a, dir));
out:
    json_decref(a.named);
    json_decref(a.bare);
    json_decref(a.from);
    json_decref(a.map);
    reco_free(a.path);
    reco_free(a.map_path);
    return status;
}
