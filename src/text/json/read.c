#include "text/bpe/bpe.h"
#include "text/files.h"
#include "text/json/json.h"
#include "text/json/steps.h"
#include "text/pieces/pieces.h"
#include "text/special/special.h"
#include "text/tokenizer.h"
#include "text/unicode/unicode.h"

#define META 0x2581 /* what SentencePiece writes for a space */

typedef enum role { BOS, EOS, UNK, PAD, MASK, ROLES } role;
static const char *const role_names[ROLES] = {"bos_token", "eos_token", "unk_token", "pad_token",
                                              "mask_token"};

/* The token that plays a part: the configuration's, or the class's own; "" where it has none. */
static const char *token_of(const reco_tokenizer *tok, const json_t *config, const json_t *map, role r)
{
    static const char *const standard[][ROLES] = {
        [RECO_CLASS_PLAIN] = {"", "", "", "", ""},
        [RECO_CLASS_SIGLIP] = {"", "</s>", "<unk>", "</s>", ""},
        [RECO_CLASS_T5] = {"", "</s>", "<unk>", "<pad>", ""},
        [RECO_CLASS_GEMMA] = {"<bos>", "<eos>", "<unk>", "<pad>", "<mask>"},
        [RECO_CLASS_SIGLIP2] = {"<bos>", "<eos>", "<unk>", "<pad>", "<mask>"},
        [RECO_CLASS_XLMR] = {"<s>", "</s>", "<unk>", "<pad>", "<mask>"}};
    const char *text = reco_special_text(config, role_names[r]);
    if (!text) text = reco_special_text(map, role_names[r]);
    return text ? text : standard[tok->class][r];
}

/* ---- added tokens ---- */

typedef struct added {
    json_t *ids; /* content to id, of those that are not pieces */
    int32_t most;
} added;

static int32_t id_of(const reco_tokenizer *tok, const added *more, const char *text)
{
    int32_t id = reco_pieces_id(&tok->json->vocab.pieces, text, strlen(text));
    return id >= 0 ? id : reco_vocab_id(more->ids, text);
}

/* The token is found in texts from then on; flags may be no object. */
static reco_status put_special(reco_ctx *ctx, reco_tokenizer *tok, const json_t *flags, bool normalized,
                               const char *content, int32_t id)
{
    reco_special special = {.id = id,
                            .normalized = normalized,
                            .lstrip = json_is_true(json_object_get(flags, "lstrip")),
                            .rstrip = json_is_true(json_object_get(flags, "rstrip"))};
    reco_points points;
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status = reco_points_decode(ctx, &points, content, strlen(content));
    if (status == RECO_OK && normalized) status = reco_steps_apply(ctx, &tok->json->steps, &points, NULL);
    if (status == RECO_OK) {
        special.points = points.at;
        special.n = points.n;
        status = reco_special_put(ctx, tok, &special);
    }
    reco_scratch_release(ctx, mark);
    return status;
}

/* An entry of added_tokens or added_tokens_decoder. */
static reco_status add_special(reco_ctx *ctx, reco_tokenizer *tok, const json_t *entry, const char *content,
                               int32_t id, const char *where)
{
    static const char *const keys[] = {"id",         "content", "single_word", "lstrip", "rstrip",
                                       "normalized", "special", "__type",      NULL};
    RECO_TRY(reco_json_only(ctx, entry, keys, where));
    if (json_is_true(json_object_get(entry, "single_word")))
        return reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: single_word is not supported", where);
    return put_special(ctx, tok, entry, json_is_true(json_object_get(entry, "normalized")), content, id);
}

/* Tokens that are no pieces get their ids here, behind the pieces and without holes. */
static reco_status read_added(reco_ctx *ctx, reco_tokenizer *tok, added *more, const json_t *list,
                              const char *path)
{
    reco_status status = RECO_OK;
    char *where = NULL;
    size_t pieces = tok->json->vocab.pieces.n, i;
    json_t *entry;
    if (list && !json_is_array(list))
        return reco_fail(ctx, RECO_E_FORMAT, "%s: added_tokens is not a list", path);
    json_array_foreach((json_t *)(uintptr_t)list, i, entry)
    {
        const char *content = json_string_value(json_object_get(entry, "content"));
        const json_t *number = json_object_get(entry, "id");
        json_int_t id = json_is_integer(number) ? json_integer_value(number) : -1;
        reco_free(where);
        if (!(where = reco_format(ctx, "%s: added_tokens[%zu]", path, i))) RECO_GO(RECO_E_NOMEM);
        if (!content || !*content || id < 0 || id > INT32_MAX)
            RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s lacks content or id", where));
        int32_t known = id_of(tok, more, content);
        if (known >= 0 ? known != id : (uintmax_t)id < pieces)
            RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s '%.60s' has %s", where, content,
                              known >= 0 ? "another id in the vocabulary" : "the id of another"));
        if (known < 0 && json_object_set_new(more->ids, content, json_integer(id)) != 0)
            RECO_GO(reco_fail_nomem(ctx, 0, "vocabulary"));
        if (id > more->most) more->most = (int32_t)id;
        RECO_GO(add_special(ctx, tok, entry, content, (int32_t)id, where));
    }
    tok->vocab = pieces + json_object_size(more->ids);
    if ((int64_t)more->most >= (int64_t)tok->vocab)
        status = reco_fail(ctx, RECO_E_FORMAT,
                           "%s: added_tokens has the id %d, which leaves a hole, want 0..%zu", path,
                           more->most, tok->vocab - 1);
out:
    reco_free(where);
    return status;
}

/* What the configuration adds: what it names an id for, and the tokens with a part to play. */
static reco_status read_config(reco_ctx *ctx, reco_tokenizer *tok, const added *more, const json_t *config,
                               const json_t *map, const char *path)
{
    const char *key;
    json_t *entry;
    json_object_foreach(json_object_get(config, "added_tokens_decoder"), key, entry)
    {
        const char *content = reco_special_text(entry, "content");
        int32_t id = content ? id_of(tok, more, content) : -1;
        if (id >= 0) RECO_TRY(add_special(ctx, tok, entry, content, id, path));
    }
    for (role r = 0; r < ROLES; r++) {
        const char *content = token_of(tok, config, map, r);
        const json_t *flags =
            json_object_get(reco_special_text(config, role_names[r]) ? config : map, role_names[r]);
        int32_t id = id_of(tok, more, content);
        if (id >= 0) RECO_TRY(put_special(ctx, tok, flags, false, content, id));
    }
    return RECO_OK;
}

/* ---- begin and end ---- */

/* A special token of a TemplateProcessing, whose ids lie beside the template. */
static int32_t template_id(const json_t *processor, const json_t *part)
{
    const char *name = json_string_value(json_object_get(json_object_get(part, "SpecialToken"), "id"));
    const json_t *token = name ? json_object_get(json_object_get(processor, "special_tokens"), name) : NULL;
    const json_t *ids = json_object_get(token, "ids"), *id = json_array_get(ids, 0);
    return json_array_size(ids) == 1 && json_is_integer(id) && json_integer_value(id) >= 0 &&
                   json_integer_value(id) <= INT32_MAX
               ? (int32_t)json_integer_value(id)
               : -1;
}

/* "single": the text, an end token, and perhaps a begin token. */
static reco_status read_template(reco_ctx *ctx, reco_tokenizer *tok, const json_t *processor,
                                 const char *path)
{
    static const char *const keys[] = {"type", "single", "pair", "special_tokens", NULL};
    const char *type = json_string_value(json_object_get(processor, "type"));
    const json_t *single = json_object_get(processor, "single");
    size_t n = json_array_size(single), text = 0;
    if (!processor || json_is_null(processor)) return RECO_OK;
    if (!type || strcmp(type, "TemplateProcessing") != 0)
        return reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: post_processor: type \"%.60s\" is not supported",
                         path, type ? type : "");
    RECO_TRY(reco_json_only(ctx, processor, keys, path));
    while (text < n && !json_object_get(json_array_get(single, text), "Sequence")) text++;
    if (n > 3 || text > 1 || text + 2 < n || text == n)
        return reco_fail(ctx, RECO_E_UNSUPPORTED,
                         "%s: post_processor.single: want a text and a token at its ends at most", path);
    if (text == 1) tok->bos = template_id(processor, json_array_get(single, 0));
    if (text + 1 < n) tok->eos = template_id(processor, json_array_get(single, n - 1));
    if ((text == 1 && tok->bos < 0) || (text + 1 < n && tok->eos < 0))
        return reco_fail(ctx, RECO_E_FORMAT,
                         "%s: post_processor.special_tokens: want one id for each token", path);
    return RECO_OK;
}

/* transformers goes by the file's template; its version 4 went by the configuration's flags for Gemma's classes, and we do
 * where the template has no end. */
static reco_status read_ends(reco_ctx *ctx, reco_tokenizer *tok, const added *more,
                             const reco_json_file *file, const json_t *config, const json_t *map,
                             const char *dir)
{
    bool xlmr = tok->class == RECO_CLASS_XLMR;
    bool always = xlmr || tok->class == RECO_CLASS_T5 || tok->class == RECO_CLASS_SIGLIP;
    const char *end = token_of(tok, config, map, EOS), *begin = token_of(tok, config, map, BOS);
    tok->bos = tok->eos = -1;
    if (!always)
        RECO_TRY(read_template(ctx, tok, json_object_get(file->root, "post_processor"), file->path));
    bool begins = xlmr || json_is_true(json_object_get(config, "add_bos_token"));
    if (tok->eos < 0) {
        if (!always && !json_is_true(json_object_get(config, "add_eos_token")))
            return reco_fail(ctx, RECO_E_UNSUPPORTED,
                             "%s: post_processor adds no end token, which a text needs", file->path);
        if ((!always || xlmr) && begins && (tok->bos = id_of(tok, more, begin)) < 0)
            return reco_fail(ctx, RECO_E_FORMAT, "%s: bos_token '%.60s' is not in the vocabulary", dir,
                             begin);
    }
    if (tok->eos < 0 && (tok->eos = id_of(tok, more, end)) < 0)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: eos_token '%.60s' is not in the vocabulary", dir, end);
    if ((size_t)tok->eos >= tok->vocab || (tok->bos >= 0 && (size_t)tok->bos >= tok->vocab))
        return reco_fail(ctx, RECO_E_FORMAT, "%s: post_processor has an id that is not in the vocabulary",
                         file->path);
    return RECO_OK;
}

static reco_status read_pad(reco_ctx *ctx, reco_tokenizer *tok, const added *more,
                            const reco_json_file *file, const json_t *config, const json_t *map,
                            const char *dir)
{
    const json_t *padding = json_object_get(file->root, "padding");
    const char *named = json_string_value(json_object_get(padding, "pad_token"));
    const char *pad = token_of(tok, config, map, PAD);
    if (!*pad && named) pad = named;
    tok->pad = id_of(tok, more, pad);
    if (tok->pad < 0)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: pad_token '%.60s' is not in the vocabulary", dir, pad);
    const char *side = json_string_value(json_object_get(config, "padding_side"));
    if (!side) side = json_string_value(json_object_get(padding, "direction"));
    bool gemma = tok->class == RECO_CLASS_GEMMA || tok->class == RECO_CLASS_SIGLIP2;
    tok->pad_left = side ? *side == 'l' || *side == 'L' : gemma;
    return RECO_OK;
}

/* ---- the classes ---- */

/* A character by another. */
static reco_status exchange(reco_ctx *ctx, reco_steps *steps, int32_t from, int32_t to)
{
    reco_step *step = reco_steps_add(ctx, steps, RECO_STEP_REPLACE);
    if (!step) return RECO_E_NOMEM;
    step->from.at = reco_alloc(ctx, 1, sizeof *step->from.at, "normalizer");
    step->to.at = reco_alloc(ctx, 1, sizeof *step->to.at, "normalizer");
    if (!step->from.at || !step->to.at) return RECO_E_NOMEM;
    step->from.n = step->to.n = 1;
    *step->from.at = from;
    *step->to.at = to;
    return RECO_OK;
}

/* transformers (5.24) builds these classes anew around the file's vocabulary and takes of its normalizer the charsmap
 * alone; SiglipTokenizer cleans the text before. */
static reco_status as_class(reco_ctx *ctx, reco_tokenizer *tok, const json_t *config, const char *path)
{
    reco_json_model *model = tok->json;
    reco_steps *steps = &model->steps, old = *steps;
    reco_class class = tok->class;
    reco_status status = RECO_OK;
    bool gemma = class == RECO_CLASS_GEMMA || class == RECO_CLASS_SIGLIP2;
    bool t5 = class == RECO_CLASS_T5 || class == RECO_CLASS_XLMR;
    if (class == RECO_CLASS_PLAIN) return RECO_OK;
    if (model->unigram == gemma)
        return reco_fail(ctx, RECO_E_UNSUPPORTED,
                         "%s: model.type is %s, which does not fit tokenizer_class", path,
                         gemma ? "Unigram" : "BPE");
    *steps = (reco_steps){0};
    if (class == RECO_CLASS_SIGLIP) {
        RECO_GO(exchange(ctx, steps, META, ' '));
        if (!json_is_false(json_object_get(config, "do_lower_case")) &&
            !reco_steps_add(ctx, steps, RECO_STEP_LOWER_SIGMA))
            RECO_GO(RECO_E_NOMEM);
        if (!reco_steps_add(ctx, steps, RECO_STEP_PUNCTUATION) ||
            !reco_steps_add(ctx, steps, RECO_STEP_SPACES))
            RECO_GO(RECO_E_NOMEM);
    }
    if (class == RECO_CLASS_SIGLIP2 && !reco_steps_add(ctx, steps, RECO_STEP_LOWER)) RECO_GO(RECO_E_NOMEM);
    if (gemma) {
        steps->split_space = model->vocab.fuse_unk = model->vocab.byte_fallback = true;
        status = exchange(ctx, steps, ' ', META);
        goto out;
    }
    for (size_t i = 0; i < old.n; i++) {
        if (t5 && old.at[i].kind != RECO_STEP_CHARSMAP) continue;
        reco_step *step = reco_steps_add(ctx, steps, old.at[i].kind);
        if (!step) RECO_GO(RECO_E_NOMEM);
        *step = old.at[i];
        old.at[i] = (reco_step){0};
        if (t5) break;
    }
    if (t5) {
        steps->split_white = steps->metaspace = steps->split_meta = true;
        bool bare = class == RECO_CLASS_XLMR && json_is_false(json_object_get(config, "add_prefix_space"));
        steps->prepend = bare ? RECO_PREPEND_NEVER : RECO_PREPEND_ALWAYS;
    } else {
        steps->split_white = old.split_white;
        steps->metaspace = old.metaspace;
        steps->prepend = old.prepend;
        steps->split_meta = old.split_meta;
        steps->split_space = old.split_space;
    }
out:
    reco_steps_free(&old);
    return status;
}

reco_status reco_json_tokenizer_read(reco_ctx *ctx, reco_tokenizer *tok, const reco_json_file *file,
                                     const json_t *config, const char *dir)
{
    static const char *const keys[] = {
        "version",       "truncation",     "padding", "added_tokens", "normalizer",
        "pre_tokenizer", "post_processor", "decoder", "model",        NULL};
    reco_status status = RECO_OK;
    json_t *map = NULL;
    added more = {json_object(), -1};
    char *map_path = reco_format(ctx, "%s/special_tokens_map.json", dir);
    tok->json = reco_alloc(ctx, 1, sizeof *tok->json, "tokenizer");
    if (!map_path || !tok->json || !more.ids) RECO_GO(RECO_E_NOMEM);
    tok->unk = -1;
    RECO_GO(reco_text_json(ctx, &map, map_path));
    RECO_GO(reco_json_only(ctx, file->root, keys, file->path));
    RECO_GO(reco_json_model_read(ctx, tok, file));
    RECO_GO(reco_steps_normalizer(ctx, &tok->json->steps, json_object_get(file->root, "normalizer"),
                                  file->path));
    RECO_GO(reco_steps_pre_tokenizer(ctx, &tok->json->steps, json_object_get(file->root, "pre_tokenizer"),
                                     file->path));
    RECO_GO(as_class(ctx, tok, config, file->path));
    RECO_GO(read_added(ctx, tok, &more, json_object_get(file->root, "added_tokens"), file->path));
    RECO_GO(read_config(ctx, tok, &more, config, map, file->path));
    RECO_GO(read_ends(ctx, tok, &more, file, config, map, dir));
    RECO_GO(read_pad(ctx, tok, &more, file, config, map, dir));
out:
    json_decref(map);
    json_decref(more.ids);
    reco_free(map_path);
    return status;
}
