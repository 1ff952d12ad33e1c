#include "text/json/steps.h"
#include "text/pieces/charsmap.h"
#include "text/unicode/unicode.h"

reco_status reco_json_only(reco_ctx *ctx, const json_t *object, const char *const *keys, const char *where)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value) /* jansson takes no const here */
    {
        size_t i = 0;
        while (keys[i] && strcmp(keys[i], key) != 0) i++;
        if (!keys[i] && !json_is_null(value))
            return reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: key '%.60s' is not supported", where, key);
    }
    return RECO_OK;
}

reco_step *reco_steps_add(reco_ctx *ctx, reco_steps *steps, reco_step_kind kind)
{
    reco_step *grown = reco_alloc(ctx, steps->n + 1, sizeof *grown, "normalizer");
    if (!grown) return NULL;
    if (steps->n) memcpy(grown, steps->at, steps->n * sizeof *grown);
    reco_free(steps->at);
    steps->at = grown;
    grown[steps->n].kind = kind;
    return &grown[steps->n++];
}

void reco_steps_free(reco_steps *steps)
{
    for (size_t i = 0; i < steps->n; i++) {
        reco_charsmap_free(&steps->at[i].map);
        reco_free(steps->at[i].from.at);
        reco_free(steps->at[i].to.at);
    }
    reco_free(steps->at);
    *steps = (reco_steps){0};
}

/* An owned copy of a string's characters. */
static reco_status points_of(reco_ctx *ctx, reco_points *out, const char *text)
{
    reco_mark mark = reco_scratch_mark(ctx);
    reco_points points;
    reco_status status = reco_points_decode(ctx, &points, text, strlen(text));
    if (status == RECO_OK && !(out->at = reco_alloc(ctx, points.n, sizeof *out->at, "normalizer")))
        status = RECO_E_NOMEM;
    if (status == RECO_OK) {
        memcpy(out->at, points.at, points.n * sizeof *out->at);
        out->n = points.n;
    }
    reco_scratch_release(ctx, mark);
    return status;
}

static bool ascii_punctuation(int32_t c)
{
    return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
}

/* The characters of a class of an expression, from behind "[" to "]": itself or, if punctuation, behind a backslash.
 * Ranges, classes in classes and negation are not read. In place; gives how much was read, 0: not such a class. */
static size_t read_class(reco_points *set)
{
    size_t i = 0, kept = 0;
    for (; i < set->n && set->at[i] != ']'; i++) {
        int32_t c = set->at[i];
        bool escaped = c == '\\' && i + 1 < set->n && ascii_punctuation(set->at[i + 1]);
        if (escaped) c = set->at[++i];
        if (!escaped && (c == '\\' || c == '[' || c == '-' || c == '^' ||
                         (c == '&' && i + 1 < set->n && set->at[i + 1] == '&')))
            return 0;
        set->at[kept++] = c;
    }
    if (i == set->n || !kept) return 0;
    set->n = kept;
    return i + 1;
}

/* Of all expressions those that such files have: " {2,}", " +", "\s+", and [characters] with or without a plus. */
static reco_status expression(reco_ctx *ctx, reco_step *step, const char *pattern, const char *where)
{
    step->kind = RECO_STEP_RUNS;
    step->least = 1;
    bool good = true;
    if (strcmp(pattern, " {2,}") == 0) {
        step->least = 2;
        RECO_TRY(points_of(ctx, &step->from, " "));
    } else if (strcmp(pattern, " +") == 0) {
        RECO_TRY(points_of(ctx, &step->from, " "));
    } else if (strcmp(pattern, "\\s+") == 0) {
        step->white = true;
    } else if (*pattern == '[') {
        RECO_TRY(points_of(ctx, &step->from, pattern + 1));
        size_t all = step->from.n, read = read_class(&step->from);
        step->single = read == all;
        good = read && (step->single || (read + 1 == all && pattern[strlen(pattern) - 1] == '+'));
    } else {
        good = false;
    }
    return good ? RECO_OK
                : reco_fail(ctx, RECO_E_UNSUPPORTED,
                            "%s: Replace of the expression '%.60s' is not supported", where, pattern);
}

static reco_status read_replace(reco_ctx *ctx, reco_steps *steps, const json_t *value, const char *where)
{
    static const char *const keys[] = {"type", "pattern", "content", NULL}, *const patterns[] = {
                                                                                "String", "Regex", NULL};
    RECO_TRY(reco_json_only(ctx, value, keys, where));
    const json_t *pattern = json_object_get(value, "pattern");
    const char *content = json_string_value(json_object_get(value, "content"));
    const char *plain = json_string_value(json_object_get(pattern, "String"));
    const char *regex = json_string_value(json_object_get(pattern, "Regex"));
    if (!json_is_object(pattern) || !content || !plain == !regex || (plain && !*plain))
        return reco_fail(ctx, RECO_E_FORMAT, "%s: Replace needs a pattern (String or Regex) and content",
                         where);
    RECO_TRY(reco_json_only(ctx, pattern, patterns, where));
    reco_step *step = reco_steps_add(ctx, steps, RECO_STEP_REPLACE);
    if (!step) return RECO_E_NOMEM;
    RECO_TRY(points_of(ctx, &step->to, content));
    return plain ? points_of(ctx, &step->from, plain) : expression(ctx, step, regex, where);
}

static reco_status read_strip(reco_ctx *ctx, reco_steps *steps, const json_t *value, const char *where)
{
    static const char *const keys[] = {"type", "strip_left", "strip_right", NULL};
    RECO_TRY(reco_json_only(ctx, value, keys, where));
    const json_t *left = json_object_get(value, "strip_left"),
                 *right = json_object_get(value, "strip_right");
    if (!json_is_boolean(left) || !json_is_boolean(right))
        return reco_fail(ctx, RECO_E_FORMAT, "%s: Strip needs strip_left and strip_right, true or false",
                         where);
    reco_step *step = reco_steps_add(ctx, steps, RECO_STEP_STRIP);
    if (!step) return RECO_E_NOMEM;
    step->left = json_is_true(left);
    step->right = json_is_true(right);
    return RECO_OK;
}

static reco_status precompiled(reco_ctx *ctx, reco_steps *steps, const json_t *value, const char *where)
{
    static const char *const keys[] = {"type", "precompiled_charsmap", NULL};
    RECO_TRY(reco_json_only(ctx, value, keys, where));
    const json_t *map = json_object_get(value, "precompiled_charsmap");
    if (!json_is_string(map))
        return reco_fail(ctx, RECO_E_FORMAT, "%s: Precompiled needs precompiled_charsmap, a string", where);
    reco_step *step = reco_steps_add(ctx, steps, RECO_STEP_CHARSMAP);
    return step ? reco_charsmap_read(ctx, &step->map, json_string_value(map), where) : RECO_E_NOMEM;
}

static reco_status prepend(reco_ctx *ctx, reco_steps *steps, const json_t *value, const char *where)
{
    static const char *const keys[] = {"type", "prepend", NULL};
    RECO_TRY(reco_json_only(ctx, value, keys, where));
    const char *text = json_string_value(json_object_get(value, "prepend"));
    if (!text) return reco_fail(ctx, RECO_E_FORMAT, "%s: Prepend needs prepend, a string", where);
    reco_step *step = reco_steps_add(ctx, steps, RECO_STEP_PREPEND);
    return step ? points_of(ctx, &step->to, text) : RECO_E_NOMEM;
}

static reco_status read_plain_step(reco_ctx *ctx, reco_steps *steps, const json_t *value,
                                   reco_step_kind kind, const char *where)
{
    static const char *const keys[] = {"type", NULL};
    RECO_TRY(reco_json_only(ctx, value, keys, where));
    return reco_steps_add(ctx, steps, kind) ? RECO_OK : RECO_E_NOMEM;
}

static reco_status normalizer(reco_ctx *ctx, reco_steps *steps, const json_t *value, const char *where)
{
    const char *type = json_string_value(json_object_get(value, "type"));
    if (!type) return reco_fail(ctx, RECO_E_FORMAT, "%s: want an object with a type", where);
    if (strcmp(type, "Replace") == 0) return read_replace(ctx, steps, value, where);
    if (strcmp(type, "Strip") == 0) return read_strip(ctx, steps, value, where);
    if (strcmp(type, "Precompiled") == 0) return precompiled(ctx, steps, value, where);
    if (strcmp(type, "Prepend") == 0) return prepend(ctx, steps, value, where);
    if (strcmp(type, "Lowercase") == 0) return read_plain_step(ctx, steps, value, RECO_STEP_LOWER, where);
    if (strcmp(type, "NFC") == 0) return read_plain_step(ctx, steps, value, RECO_STEP_NFC, where);
    return reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: type \"%.60s\" is not supported", where, type);
}

static reco_status metaspace(reco_ctx *ctx, reco_steps *steps, const json_t *value, const char *where)
{
    static const char *const keys[] = {
        "type", "replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep", NULL};
    static const char *const schemes[] = {"always", "first", "never"};
    RECO_TRY(reco_json_only(ctx, value, keys, where));
    const char *replacement = json_string_value(json_object_get(value, "replacement"));
    const json_t *scheme = json_object_get(value, "prepend_scheme"),
                 *old = json_object_get(value, "add_prefix_space");
    const char *name = json_is_string(scheme) ? json_string_value(scheme)
                       : json_is_false(old)   ? "never"
                                              : "always";
    if (!replacement || strcmp(replacement, "\xe2\x96\x81") != 0)
        return reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: Metaspace of the replacement '%.20s', want U+2581",
                         where, replacement ? replacement : "");
    size_t i = 0;
    while (i < 3 && strcmp(schemes[i], name) != 0) i++;
    if (i == 3 || (scheme && !json_is_string(scheme) && !json_is_null(scheme)))
        return reco_fail(ctx, RECO_E_FORMAT, "%s: prepend_scheme \"%.60s\", want always, first or never",
                         where, name);
    if (steps->metaspace || (steps->split_white && i == RECO_PREPEND_FIRST))
        return reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: Metaspace %s is not supported", where,
                         steps->metaspace ? "twice"
                                          : "with prepend_scheme \"first\" after WhitespaceSplit");
    steps->metaspace = true;
    steps->prepend = (reco_prepend)i;
    steps->split_meta = !json_is_false(json_object_get(value, "split"));
    return RECO_OK;
}

static reco_status read_split(reco_ctx *ctx, reco_steps *steps, const json_t *value, const char *where)
{
    static const char *const keys[] = {"type", "pattern", "behavior", "invert", NULL};
    RECO_TRY(reco_json_only(ctx, value, keys, where));
    const json_t *pattern = json_object_get(value, "pattern");
    const char *plain_text = json_string_value(json_object_get(pattern, "String"));
    const char *behavior = json_string_value(json_object_get(value, "behavior"));
    if (json_object_size(pattern) != 1 || !plain_text || strcmp(plain_text, " ") != 0 || !behavior ||
        strcmp(behavior, "MergedWithPrevious") != 0 || json_is_true(json_object_get(value, "invert")) ||
        steps->metaspace)
        return reco_fail(ctx, RECO_E_UNSUPPORTED,
                         "%s: Split other than at \" \", MergedWithPrevious, is not supported", where);
    steps->split_space = true;
    return RECO_OK;
}

static reco_status pre_tokenizer(reco_ctx *ctx, reco_steps *steps, const json_t *value, const char *where)
{
    const char *type = json_string_value(json_object_get(value, "type"));
    if (!type) return reco_fail(ctx, RECO_E_FORMAT, "%s: want an object with a type", where);
    if (strcmp(type, "Metaspace") == 0) return metaspace(ctx, steps, value, where);
    if (strcmp(type, "Split") == 0) return read_split(ctx, steps, value, where);
    if (strcmp(type, "WhitespaceSplit") == 0 && !steps->metaspace) {
        steps->split_white = true;
        return RECO_OK;
    }
    return reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: type \"%.60s\" is not supported%s", where, type,
                     strcmp(type, "WhitespaceSplit") == 0 ? " after Metaspace" : "");
}

typedef reco_status reader(reco_ctx *ctx, reco_steps *steps, const json_t *value, const char *where);

/* One step, or a Sequence of them under the key `list`; no sequences in sequences. */
static reco_status each(reco_ctx *ctx, reco_steps *steps, const json_t *value, const char *path,
                        const char *name, const char *list, reader *read)
{
    const char *const keys[] = {"type", list, NULL};
    if (!value || json_is_null(value)) return RECO_OK;
    char *where = reco_format(ctx, "%s: %s", path, name);
    if (!where) return RECO_E_NOMEM;
    reco_status status = RECO_OK;
    const char *type = json_string_value(json_object_get(value, "type"));
    if (!type || strcmp(type, "Sequence") != 0) {
        status = read(ctx, steps, value, where);
        goto out;
    }
    const json_t *all = json_object_get(value, list);
    RECO_GO(reco_json_only(ctx, value, keys, where));
    if (!json_is_array(all))
        RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s: Sequence needs %s, a list", where, list));
    for (size_t i = 0; i < json_array_size(all); i++) {
        reco_free(where);
        if (!(where = reco_format(ctx, "%s: %s[%zu]", path, name, i))) RECO_GO(RECO_E_NOMEM);
        RECO_GO(read(ctx, steps, json_array_get(all, i), where));
    }
out:
    reco_free(where);
    return status;
}

reco_status reco_steps_normalizer(reco_ctx *ctx, reco_steps *steps, const json_t *value, const char *path)
{
    return each(ctx, steps, value, path, "normalizer", "normalizers", normalizer);
}

reco_status reco_steps_pre_tokenizer(reco_ctx *ctx, reco_steps *steps, const json_t *value,
                                     const char *path)
{
    return each(ctx, steps, value, path, "pre_tokenizer", "pretokenizers", pre_tokenizer);
}
