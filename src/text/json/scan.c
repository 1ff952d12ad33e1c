#include "text/json/scan.h"
#include "text/unicode/unicode.h"

#include <locale.h>
#include <math.h>
#include <stdlib.h>

static bool white(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

static const char *skip_white(const char *p, const char *end)
{
    while (p < end && white(*p)) p++;
    return p;
}

/* Past the string whose opening quote is at p. */
static const char *skip_string(const char *p, const char *end)
{
    for (p++; p < end && *p != '"'; p++)
        if (*p == '\\' && p + 1 < end) p++;
    return p < end ? p + 1 : end;
}

/* Past the value at p: to the bracket that closes it, or for a value without brackets to what follows it. */
static const char *skip_value(const char *p, const char *end)
{
    size_t depth = 0;
    while (p < end) {
        if (*p == '"') {
            p = skip_string(p, end);
        } else {
            if (!depth && (*p == ',' || *p == '}' || *p == ']')) return p;
            depth += *p == '[' || *p == '{';
            depth -= *p == ']' || *p == '}';
            p++;
        }
        if (!depth && (p[-1] == ']' || p[-1] == '}' || p[-1] == '"')) return p;
    }
    return end;
}

static bool is_key(const char *key, const char *end, const char *name)
{
    size_t n = strlen(name);
    return (size_t)(end - key) == n + 2 && memcmp(key + 1, name, n) == 0;
}

static void find_lists(reco_span *vocab, reco_span *merges, const char *p, const char *end)
{
    size_t depth = 0;
    bool in_model = false;
    while (p < end) {
        if (*p == '"') {
            const char *key = p, *after = skip_string(p, end), *value = skip_white(after, end);
            p = after;
            if (value == end || *value != ':') continue;
            p = value = skip_white(value + 1, end);
            if (depth == 1) in_model = is_key(key, after, "model");
            reco_span *span = depth != 2 || !in_model        ? NULL
                              : is_key(key, after, "vocab")  ? vocab
                              : is_key(key, after, "merges") ? merges
                                                             : NULL;
            if (span && !span->begin && value < end && (*value == '[' || *value == '{')) {
                *span = (reco_span){value, skip_value(value, end)};
                p = span->end;
            }
            continue;
        }
        depth += *p == '[' || *p == '{';
        depth -= depth && (*p == ']' || *p == '}');
        p++;
    }
}

static char *copy_span(char *to, const char *from, const char *end)
{
    memcpy(to, from, (size_t)(end - from));
    return to + (end - from);
}

static char *copy_null(char *to, const reco_span *span)
{
    to = copy_span(to, "null", &"null"[4]);
    for (const char *p = span->begin; p < span->end && (p = memchr(p, '\n', (size_t)(span->end - p))); p++)
        *to++ = '\n';
    return to;
}

reco_status reco_scan_cut(reco_ctx *ctx, char **rest, reco_span *vocab, reco_span *merges, const char *text,
                          size_t bytes)
{
    *vocab = *merges = (reco_span){0};
    char *to = *rest = reco_alloc_raw(ctx, bytes + 9, 1, "tokenizer.json");
    if (!to) return RECO_E_NOMEM;
    const char *from = text;
    find_lists(vocab, merges, text, text + bytes);
    const reco_span *first = vocab, *second = merges;
    if (merges->begin && (!vocab->begin || merges->begin < vocab->begin)) first = merges, second = vocab;
    for (int i = 0; i < 2; i++, first = second)
        if (first->begin) {
            to = copy_span(to, from, first->begin);
            to = copy_null(to, first);
            from = first->end;
        }
    to = copy_span(to, from, text + bytes);
    *to = 0;
    return RECO_OK;
}

bool reco_scan_take(reco_span *span, char c)
{
    span->begin = skip_white(span->begin, span->end);
    if (span->begin == span->end || *span->begin != c) return false;
    span->begin++;
    return true;
}

bool reco_scan_end(reco_span *span)
{
    span->begin = skip_white(span->begin, span->end);
    return span->begin == span->end;
}

/* Four hexadecimal digits at p; -1: they are not. */
static int32_t hex4(const char *p, const char *end)
{
    int32_t value = 0;
    if (end - p < 4) return -1;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* The code point of the escape whose backslash is before *p; -1: none. */
static int32_t read_json_escape(const char **p, const char *end)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    if (*p == end) return -1;
    char c = *(*p)++;
    const char *known = c ? strchr(names, c) : NULL;
    if (known) return values[known - names];
    if (c != 'u') return -1;
    int32_t point = hex4(*p, end);
    if (point < 0 || (point >= 0xdc00 && point < 0xe000)) return -1;
    *p += 4;
    if (point < 0xd800 || point >= 0xe000) return point;
    if (end - *p < 6 || (*p)[0] != '\\' || (*p)[1] != 'u') return -1;
    int32_t low = hex4(*p + 2, end);
    if (low < 0xdc00 || low >= 0xe000) return -1;
    *p += 6;
    return 0x10000 + (point - 0xd800) * 0x400 + (low - 0xdc00);
}

bool reco_scan_string(reco_span *span, char *out, size_t *bytes)
{
    *bytes = 0;
    if (!reco_scan_take(span, '"')) return false;
    const char *p = span->begin, *end = span->end;
    while (p < end && *p != '"') {
        size_t n = 1;
        if (*p == '\\') {
            p++;
            int32_t point = read_json_escape(&p, end);
            if (point < 0) return false;
            *bytes += reco_point_encode((uint8_t *)out + *bytes, point);
            continue;
        }
        if ((uint8_t)*p < 0x20) return false;
        if ((uint8_t)*p >= 0x80 && reco_utf8_next((const uint8_t *)p, (size_t)(end - p), &n) < 0)
            return false;
        for (size_t i = 0; i < n; i++) out[(*bytes)++] = p[i];
        p += n;
    }
    if (p == end) return false;
    span->begin = p + 1;
    return true;
}

static const char *digits(const char *p, const char *end)
{
    while (p < end && *p >= '0' && *p <= '9') p++;
    return p;
}

/* JSON's grammar, then strtod, which wants the locale's decimal point. */
bool reco_scan_number(reco_span *span, double *out)
{
    char text[64];
    const char *p = span->begin = skip_white(span->begin, span->end), *end = span->end, *start;
    p += p < end && *p == '-';
    start = p;
    p = digits(p, end);
    if (p == start || (*start == '0' && p > start + 1)) return false;
    if (p < end && *p == '.') {
        start = ++p;
        if ((p = digits(p, end)) == start) return false;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        p += p < end && (*p == '+' || *p == '-');
        start = p;
        if ((p = digits(p, end)) == start) return false;
    }
    size_t n = (size_t)(p - span->begin);
    if (n >= sizeof text) return false;
    memcpy(text, span->begin, n);
    text[n] = 0;
    char *point = strchr(text, '.');
    if (point) *point = *localeconv()->decimal_point;
    *out = strtod(text, NULL);
    span->begin = p;
    return isfinite(*out);
}
