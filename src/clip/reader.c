#include "clip/reader.h"

#include <stdio.h>

reco_status reco_guess(reco_ctx *ctx, reco_model *model, const char *format, ...)
{
    char line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    char **grown = reco_alloc(ctx, model->nguesses + 1, sizeof *grown, "guesses");
    if (!grown) return RECO_E_NOMEM;
    if (model->nguesses) memcpy(grown, model->guesses, model->nguesses * sizeof *grown);
    reco_free(model->guesses);
    model->guesses = grown;
    if (!(grown[model->nguesses] = reco_strdup(ctx, line))) return RECO_E_NOMEM;
    model->nguesses++;
    return RECO_OK;
}

static const char *dot(const reco_reader *r) { return *r->section ? "." : ""; }

void reco_read_fail(reco_reader *r, reco_status status, const char *key, const char *format, ...)
{
    char line[512];
    if (r->status != RECO_OK) return;
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    r->status = reco_fail(r->ctx, status, "%s: %s%s%s %s", r->path, r->section, dot(r), key, line);
}

const json_t *reco_read_value(const reco_reader *r, const char *key)
{
    const json_t *value = r->status == RECO_OK ? json_object_get(r->object, key) : NULL;
    return value && !json_is_null(value) ? value : NULL;
}

static const json_t *given(const reco_reader *r, const char *key)
{
    return r->nulls && r->status == RECO_OK ? json_object_get(r->object, key) : reco_read_value(r, key);
}

reco_reader reco_read_section(reco_reader *r, const char *key)
{
    reco_reader section = *r;
    section.section = key;
    section.object = reco_read_value(r, key);
    if (section.object && !json_is_object(section.object)) {
        reco_read_fail(r, RECO_E_FORMAT, key, "is not an object");
        section.status = r->status;
    }
    return section;
}

/* "file: section.key", without the folder, which the reader of the guess has named himself. */
static void guess_missing_key(reco_reader *r, const char *key, const char *assumed)
{
    const char *file = strrchr(r->path, '/');
    if (r->status == RECO_OK)
        r->status = reco_guess(r->ctx, r->model, "%s has no %s%s%s: %s", file ? file + 1 : r->path,
                               r->section, dot(r), key, assumed);
}

static void missing_size(reco_reader *r, const char *key, size_t assumed)
{
    char text[32];
    snprintf(text, sizeof text, "%zu", assumed);
    guess_missing_key(r, key, text);
}

static size_t size_of(reco_reader *r, const char *key, const json_t *value, size_t otherwise, size_t low,
                      size_t high)
{
    json_int_t n = json_integer_value(value);
    if (!json_is_integer(value))
        reco_read_fail(r, RECO_E_FORMAT, key, "is not a whole number, want %zu..%zu", low, high);
    else if (n < (json_int_t)low || (uint64_t)n > high)
        reco_read_fail(r, RECO_E_FORMAT, key, "= %lld, want %zu..%zu", (long long)n, low, high);
    return r->status == RECO_OK ? (size_t)n : otherwise;
}

size_t reco_read_size(reco_reader *r, const char *key, size_t otherwise, size_t low, size_t high)
{
    const json_t *value = given(r, key);
    if (value) return size_of(r, key, value, otherwise, low, high);
    missing_size(r, key, otherwise);
    return otherwise;
}

size_t reco_read_square(reco_reader *r, const char *key, size_t otherwise, size_t low, size_t high)
{
    const json_t *value = reco_read_value(r, key);
    if (!json_is_array(value)) return reco_read_size(r, key, otherwise, low, high);
    size_t side = size_of(r, key, json_array_get(value, 0), otherwise, low, high);
    if (json_array_size(value) != 2 ||
        size_of(r, key, json_array_get(value, 1), otherwise, low, high) != side)
        reco_read_fail(r, RECO_E_UNSUPPORTED, key, "is not a square");
    return side;
}

double reco_read_number(reco_reader *r, const char *key, double otherwise, double low, double high)
{
    const json_t *value = given(r, key);
    if (!value) {
        char text[32];
        snprintf(text, sizeof text, "%g", otherwise);
        guess_missing_key(r, key, text);
        return otherwise;
    }
    double n = json_number_value(value);
    if (!json_is_number(value))
        reco_read_fail(r, RECO_E_FORMAT, key, "is not a number, want %g..%g", low, high);
    else if (!(n >= low && n <= high))
        reco_read_fail(r, RECO_E_FORMAT, key, "= %g, want %g..%g", n, low, high);
    return r->status == RECO_OK ? n : otherwise;
}

bool reco_read_flag(reco_reader *r, const char *key, bool otherwise)
{
    const json_t *value = given(r, key);
    if (value && !json_is_boolean(value))
        reco_read_fail(r, RECO_E_FORMAT, key, "is neither true nor false");
    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

const char *reco_read_text(reco_reader *r, const char *key, const char *otherwise)
{
    const json_t *value = given(r, key);
    if (value && !json_is_string(value)) reco_read_fail(r, RECO_E_FORMAT, key, "is not a string");
    return json_is_string(value) ? json_string_value(value) : otherwise;
}

void reco_read_act(reco_reader *r, reco_act *out, char *act, const char *key, const char *otherwise)
{
    static const struct {
        const char *name;
        reco_act act;
    } known[] = {{"quick_gelu", RECO_ACT_QUICK_GELU},       {"gelu", RECO_ACT_GELU},
                 {"gelu_pytorch_tanh", RECO_ACT_GELU_TANH}, {"gelu_new", RECO_ACT_GELU_TANH},
                 {"gelu_fast", RECO_ACT_GELU_TANH},         {"gelu_python", RECO_ACT_GELU}};
    const char *name = reco_read_text(r, key, NULL);
    if (!name) guess_missing_key(r, key, otherwise);
    if (!name) name = otherwise;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(name, known[i].name) == 0) {
            *out = known[i].act;
            snprintf(act, 32, "%s", name);
            return;
        }
    reco_read_fail(r, RECO_E_UNSUPPORTED, key,
                   "= \"%.60s\", want quick_gelu or gelu (or gelu_pytorch_tanh)", name);
}
