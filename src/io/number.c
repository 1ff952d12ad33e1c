#include "io/internal.h"

#include <stdlib.h>

#define MOST 64 /* bytes that are worth a look */

/* Parts of a number: sign, digits, point, digits, exponent. */
typedef struct shape {
    const char *text;
    size_t bytes;
    bool real, lead; /* with a point or an exponent; with a zero before other digits, or a plus */
    bool bare;       /* no digit before the point, or none behind it */
    size_t digits;   /* that count: from the first to the last that is not zero */
    char significant[MOST];
    long exponent;
} shape;

static size_t skip_digits(const char *text, size_t at, size_t bytes)
{
    while (at < bytes && reco_is_digit(text[at])) at++;
    return at;
}

static bool parse_number(const char *text, size_t bytes, shape *s)
{
    while (bytes && (*text == ' ' || *text == '\t')) text++, bytes--;
    while (bytes && (text[bytes - 1] == ' ' || text[bytes - 1] == '\t')) bytes--;
    if (bytes == 0 || bytes > MOST ||
        !(reco_is_digit(*text) || *text == '-' || *text == '+' || *text == '.'))
        return false;
    *s = (shape){.text = text, .bytes = bytes, .lead = *text == '+'};
    size_t at = *text == '-' || *text == '+', whole = skip_digits(text, at, bytes), part = whole, from = at;
    s->lead |= whole > at + 1 && text[at] == '0';
    if (whole < bytes && text[whole] == '.') {
        part = skip_digits(text, whole + 1, bytes);
        s->real = true;
        s->bare = whole == at || part == whole + 1;
        if (part - at < 2) return false;
    } else if (whole == at)
        return false;
    at = part;
    if (at < bytes && (text[at] == 'e' || text[at] == 'E')) {
        size_t sign = at + 1 < bytes && (text[at + 1] == '-' || text[at + 1] == '+');
        size_t end = skip_digits(text, at + 1 + sign, bytes);
        if (end == at + 1 + sign || end - at > 8) return false;
        for (size_t i = at + 1 + sign; i < end; i++) s->exponent = 10 * s->exponent + (text[i] - '0');
        s->real = true;
        at = end;
    }
    if (at != bytes) return false;
    for (size_t i = from; i < part; i++)
        if (reco_is_digit(text[i]) && (s->digits || text[i] != '0')) s->significant[s->digits++] = text[i];
    while (s->digits && s->significant[s->digits - 1] == '0') s->digits--;
    return true;
}

/* Would the digits come back? */
static bool survives(const shape *s)
{
    if (!s->real) {
        if (s->bytes <= 18) return true;
        json_t *value = json_loadb(s->text, s->bytes, JSON_DECODE_ANY, NULL);
        json_decref(value);
        return value != NULL;
    }
    if (s->digits <= 15 && s->bytes < 40 && s->exponent < 200) return true;
    if (s->digits > 17) return false;
    json_t *value = json_loadb(s->text, s->bytes, JSON_DECODE_ANY, NULL);
    double x = json_real_value(value);
    bool is = json_is_real(value) && (x != 0 || s->digits == 0);
    json_decref(value);
    if (!is || s->digits == 0) return is;
    char again[64];
    snprintf(again, sizeof again, "%.*e", (int)s->digits - 1, x);
    size_t n = 0;
    for (const char *c = again; *c && *c != 'e' && n < s->digits; c++)
        if (reco_is_digit(*c) && *c != s->significant[n++]) return false;
    return n == s->digits;
}

bool reco_is_number(const char *text, size_t bytes)
{
    shape s;
    return parse_number(text, bytes, &s) && !s.lead && !s.bare && survives(&s);
}

json_t *reco_io_number(const char *text, size_t bytes, bool any)
{
    shape s;
    if (!parse_number(text, bytes, &s)) return NULL;
    if (!any && (s.lead || s.bare || !survives(&s))) return NULL;
    /* As JSON wants it, a point with digits on both sides. */
    char plain[MOST + 8];
    size_t n = 0, at = 0;
    if (s.text[at] == '-') plain[n++] = '-';
    if (s.text[at] == '-' || s.text[at] == '+') at++;
    while (at + 1 < s.bytes && s.text[at] == '0' && reco_is_digit(s.text[at + 1])) at++;
    if (s.text[at] == '.') plain[n++] = '0';
    for (; at < s.bytes; at++) {
        plain[n++] = s.text[at];
        if (s.text[at] == '.' && (at + 1 == s.bytes || !reco_is_digit(s.text[at + 1]))) plain[n++] = '0';
    }
    json_t *value = json_loadb(plain, n, JSON_DECODE_ANY, NULL);
    if (!value && any) value = json_loadb(plain, n, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, NULL);
    return value;
}
