/* What bodies are made of: JSON's members, texts, pictures, vectors. */
#include "internal.h"

#include <math.h>
#include <stdlib.h>

bool serve_get_text(serve_request *r, const json_t *object, const char *key, const char **out)
{
    const json_t *value = json_object_get(object, key);
    *out = json_string_value(value);
    bool whole = !*out || strlen(*out) == json_string_length(value);
    if (whole && (!value || json_is_null(value) || json_is_string(value))) return true;
    serve_fail(r, 400, whole ? "\"%s\" must be a string" : "\"%s\" contains a NUL character (U+0000)", key);
    return false;
}

bool serve_get_size(serve_request *r, const json_t *object, const char *key, size_t low, size_t high,
                    size_t *out)
{
    const json_t *value = json_object_get(object, key);
    if (!value || json_is_null(value)) return true;
    if (json_is_integer(value) && json_integer_value(value) >= (json_int_t)low &&
        json_integer_value(value) <= (json_int_t)high) {
        *out = (size_t)json_integer_value(value);
        return true;
    }
    serve_fail(r, 400, "\"%s\" must be a whole number from %zu to %zu", key, low, high);
    return false;
}

bool serve_get_number(serve_request *r, const json_t *object, const char *key, double low, double high,
                      double *out, bool *given)
{
    const json_t *value = json_object_get(object, key);
    *given = value && !json_is_null(value);
    if (!*given) return true;
    *out = json_number_value(value);
    if (json_is_number(value) && *out >= low && *out <= high) return true;
    serve_fail(r, 400, "\"%s\" must be a number from %g to %g", key, low, high);
    return false;
}

bool serve_get_bool(serve_request *r, const json_t *object, const char *key, int *out)
{
    const json_t *value = json_object_get(object, key);
    if (!value || json_is_null(value)) return true;
    *out = json_is_true(value);
    if (json_is_boolean(value)) return true;
    serve_fail(r, 400, "\"%s\" must be true or false", key);
    return false;
}

bool serve_get_recall(serve_request *r)
{
    int exact = 0;
    double recall = 0;
    bool given;
    if (!serve_get_bool(r, r->json, "exact", &exact) ||
        !serve_get_number(r, r->json, "recall", 0.5, 1, &recall, &given))
        return false;
    if (exact && given) serve_fail(r, 400, "\"recall\" cannot be combined with \"exact\"");
    r->ask.recall = exact ? 1 : (float)recall;
    return !r->status;
}

bool serve_room(serve_request *r, size_t n)
{
    r->items = calloc(n ? n : 1, sizeof *r->items);
    r->nitems = r->items ? n : 0;
    if (!r->items) serve_fail(r, 503, "out of memory");
    return r->items;
}

static bool has_model(serve *s, serve_request *r, reco_side side)
{
    if (s->model && (side == RECO_TEXT ? s->model_info.has_text && *s->model_info.tokenizer.kind
                                       : s->model_info.has_image))
        return true;
    serve_fail(r, 400,
               s->model ? "the model of this server cannot embed %s"
                        : "this server was started without a model, so it cannot embed %s; query with "
                          "vectors or row ids",
               side == RECO_TEXT ? "texts" : "pictures");
    return false;
}

bool serve_put_text(serve *s, serve_request *r, serve_item *item, const char *text)
{
    item->kind = SERVE_TEXT;
    item->own = RECO_TEXT;
    if (!has_model(s, r, RECO_TEXT)) return false;
    if (strlen(text) > RECO_CAPTION_MAX) {
        serve_fail(r, 400, "a text has %zu bytes; the limit is %d", strlen(text), RECO_CAPTION_MAX);
        return false;
    }
    item->text = strdup(text);
    if (!item->text) serve_fail(r, 503, "out of memory");
    return item->text;
}

bool serve_put_picture(serve *s, serve_request *r, serve_item *item, const char *base64)
{
    item->kind = SERVE_PICTURE;
    item->own = RECO_IMAGE;
    if (!has_model(s, r, RECO_IMAGE)) return false;
    item->bytes = serve_base64(base64, &item->nbytes);
    if (!item->bytes) serve_fail(r, 400, "a picture is not valid base64");
    return item->bytes;
}

bool serve_unit(float *x, size_t d)
{
    double sum = 0;
    for (size_t i = 0; i < d; i++) sum += (double)x[i] * (double)x[i];
    if (!(sum > 1e-30)) return false;
    for (size_t i = 0; i < d; i++) x[i] = (float)((double)x[i] / sqrt(sum));
    return true;
}

bool serve_put_vector(serve *s, serve_request *r, serve_item *item, const json_t *numbers)
{
    item->kind = SERVE_VECTOR;
    if (!json_is_array(numbers) || json_array_size(numbers) != s->d) {
        serve_fail(r, 400, "a vector has %zu numbers; it must have %zu", json_array_size(numbers), s->d);
        return false;
    }
    item->vector = malloc(s->d * sizeof *item->vector);
    if (!item->vector) {
        serve_fail(r, 503, "out of memory");
        return false;
    }
    bool fine = true;
    for (size_t i = 0; i < s->d; i++) {
        const json_t *x = json_array_get(numbers, i);
        item->vector[i] = (float)json_number_value(x);
        fine &= json_is_number(x) && fabs(json_number_value(x)) < 1e18;
    }
    if (fine && serve_unit(item->vector, s->d)) return true;
    serve_fail(r, 400,
               fine ? "a vector is zero, so it has no direction"
                    : "a vector must contain only numbers below 1e18");
    return false;
}

bool serve_put_bank(serve *s, serve_request *r, const char *name)
{
    r->bank = serve_find_bank(s, name);
    if (r->bank) return true;
    if (name)
        serve_fail(r, 404, "there is no bank named \"%s\"", name);
    else
        serve_fail(r, 404, "this server was started without a bank");
    return false;
}

bool serve_put_json(serve_request *r)
{
    json_error_t error;
    r->json =
        r->body ? json_loadb(r->body, r->bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error) : NULL;
    if (json_is_object(r->json)) return true;
    if (r->json || !r->body)
        serve_fail(r, 400, "the request body must be a JSON object");
    else
        serve_fail(r, 400, "the request body is not valid JSON: %s (at byte %d)", error.text,
                   error.position);
    return false;
}

static bool is_among(const char *names, const char *key)
{
    size_t n = strlen(key);
    for (const char *at = names; n && (at = strstr(at, key)); at += n)
        if ((at == names || at[-1] == ' ') && (at[n] == ' ' || !at[n])) return true;
    return false;
}

bool serve_put_own_json(serve_request *r, const char *names)
{
    return serve_put_json(r) && serve_has_only(r, r->json, names);
}

bool serve_has_only(serve_request *r, const json_t *object, const char *names)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        if (is_among(names, key) && !json_is_null(value)) continue;
        serve_fail(r, 400,
                   json_is_null(value) ? "\"%.100s\" is null; omit it instead"
                                       : "\"%.100s\" is not a known member; known members are: %s",
                   key, names);
        return false;
    }
    return true;
}

static int base64_digit(unsigned char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    if (c == '+' || c == '-') return 62; /* the second of each: the alphabet for URLs */
    return c == '/' || c == '_' ? 63 : -1;
}

unsigned char *serve_base64(const char *text, size_t *bytes)
{
    const char *comma = strncmp(text, "data:", 5) == 0 ? strstr(text, ";base64,") : NULL;
    if (comma) text = comma + 8;
    size_t n = strlen(text), m = 0, digits = 0;
    unsigned char *out = malloc(n / 4 * 3 + 4);
    uint32_t bits = 0;
    bool ended = false;
    for (size_t i = 0; i < n && out; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '\n' || c == '\r' || c == ' ') continue;
        int value = base64_digit(c);
        if (c == '=') ended = true;
        if (c != '=' && (value < 0 || ended)) {
            free(out);
            return NULL;
        }
        if (c == '=') continue;
        bits = bits << 6 | (uint32_t)value;
        if (++digits % 4 == 0)
            for (int shift = 16; shift >= 0; shift -= 8) out[m++] = (unsigned char)(bits >> shift);
    }
    if (!out) return NULL;
    if (digits % 4 >= 2) out[m++] = (unsigned char)(bits >> (digits % 4 == 2 ? 4 : 10));
    if (digits % 4 == 3) out[m++] = (unsigned char)(bits >> 2);
    if (m == 0 || digits % 4 == 1) {
        free(out);
        return NULL;
    }
    *bytes = m;
    return out;
}

char *serve_to_base64(const void *data, size_t bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *in = data;
    char *out = malloc((bytes + 2) / 3 * 4 + 1), *at = out;
    if (!out) return NULL;
    for (size_t i = 0; i < bytes; i += 3) {
        size_t left = bytes - i;
        uint32_t bits = (uint32_t)in[i] << 16 | (left > 1 ? (uint32_t)in[i + 1] << 8 : 0U) |
                        (left > 2 ? (uint32_t)in[i + 2] : 0U);
        *at++ = digits[bits >> 18];
        *at++ = digits[bits >> 12 & 63];
        *at++ = left > 1 ? digits[bits >> 6 & 63] : '=';
        *at++ = left > 2 ? digits[bits & 63] : '=';
    }
    *at = 0;
    return out;
}
