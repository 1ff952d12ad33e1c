#include "text/unicode/html.h"
#include "text/unicode/entities.h"
#include "text/unicode/unicode.h"

#include <utf8proc.h>

/* Text of a name of n > 0 characters, NULL if there is none: a scan of those with its first letter. */
static const char *lookup(const char *name, size_t n)
{
    const char *p = entities + entity_starts[name[0] & 127];
    while (p < entities + sizeof entities - 1 && *p == name[0]) {
        size_t length = strlen(p);
        if (length == n && memcmp(p, name, n) == 0) return p + length + 1;
        p += length + 1;
        p += strlen(p) + 1;
    }
    return NULL;
}

int32_t reco_windows_1252(int32_t c)
{
    static const uint16_t table[32] = {0x20ac, 0x81,   0x201a, 0x192,  0x201e, 0x2026, 0x2020, 0x2021,
                                       0x2c6,  0x2030, 0x160,  0x2039, 0x152,  0x8d,   0x17d,  0x8f,
                                       0x90,   0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014,
                                       0x2dc,  0x2122, 0x161,  0x203a, 0x153,  0x9d,   0x17e,  0x178};
    return c >= 0x80 && c <= 0x9f ? table[c - 0x80] : c;
}

static int digit_in_base(int32_t c, int base)
{
    int d = c >= '0' && c <= '9'   ? (int)c - '0'
            : c >= 'a' && c <= 'f' ? (int)c - 'a' + 10
            : c >= 'A' && c <= 'F' ? (int)c - 'A' + 10
                                   : 99;
    return d < base ? d : -1;
}

/* &#123; or &#x7b;, semicolon optional: points eaten, 0 if it is none; *out the character, -1 for nothing. */
static size_t numeric(int32_t *out, const int32_t *p, size_t n)
{
    size_t i = 2;
    int base = 10, d;
    int32_t value = 0;
    if (n < 3 || p[1] != '#') return 0;
    if (p[2] == 'x' || p[2] == 'X') base = 16, i = 3;
    size_t first = i;
    for (; i < n && (d = digit_in_base(p[i], base)) >= 0; i++)
        if (value <= 0x10ffff) value = value * base + d;
    if (i == first) return 0;
    if (i < n && p[i] == ';') i++;
    *out = value;
    if (value == 0 || (value >= 0xd800 && value <= 0xdfff) || value > 0x10ffff)
        *out = 0xfffd;
    else if (value >= 0x80 && value <= 0x9f)
        *out = reco_windows_1252(value);
    else if (value < 9 || value == 11 || (value >= 14 && value < 32) || value == 127 ||
             (value >= 0xfdd0 && value <= 0xfdef) || (value & 0xfffe) == 0xfffe)
        *out = -1;
    return i;
}

/* Longest known name of p[1..]: points eaten, 0 if none. Exact ones may end in a semicolon; of others a start will do,
 * as in &notit. */
static size_t match_entity(const char **out, const int32_t *p, size_t n)
{
    char name[34];
    size_t length = 0;
    while (length < 32 && length + 1 < n) {
        int32_t c = p[1 + length];
        if (c == '\t' || c == '\n' || c == '\f' || c == ' ' || c == '<' || c == '&' || c == '#' || c == ';')
            break;
        name[length++] = c < 128 ? (char)c : '\1'; /* no name has it */
    }
    if (length == 0) return 0;
    if (1 + length < n && p[1 + length] == ';') name[length++] = ';';
    for (size_t k = length; k > 1; k--)
        if ((*out = lookup(name, k))) return 1 + k;
    return 0;
}

static void append_utf8(reco_points *out, const char *text)
{
    const uint8_t *p = (const uint8_t *)text;
    size_t left = strlen(text);
    utf8proc_int32_t c;
    for (utf8proc_ssize_t n; left && (n = utf8proc_iterate(p, (utf8proc_ssize_t)left, &c)) > 0;
         p += n, left -= (size_t)n)
        out->at[out->n++] = c;
}

/* No reference is shorter than what it stands for. */
reco_status reco_html_unescape(reco_ctx *ctx, reco_points *text)
{
    size_t i = 0;
    while (i < text->n && text->at[i] != '&') i++;
    if (i == text->n) return RECO_OK;
    reco_points out = {reco_scratch(ctx, text->n, sizeof *out.at, "caption"), 0};
    if (!out.at) return RECO_E_NOMEM;
    for (i = 0; i < text->n;) {
        const int32_t *p = text->at + i;
        const char *expansion;
        int32_t point;
        size_t n = 0;
        if (*p == '&' && (n = numeric(&point, p, text->n - i))) {
            if (point >= 0) out.at[out.n++] = point;
        } else if (*p == '&' && (n = match_entity(&expansion, p, text->n - i))) {
            append_utf8(&out, expansion);
        } else {
            out.at[out.n++] = *p;
            n = 1;
        }
        i += n;
    }
    *text = out;
    return RECO_OK;
}

/* str.upper() of the few that are more than one letter then; their small forms are how ftfy's readers meant them. */
static void append_upper(reco_points *out, const char *text)
{
    size_t first = out->n;
    append_utf8(out, text);
    for (size_t i = first, n = out->n; i < n; i++) {
        int32_t c = out->at[i];
        const char *two = c == 0xdf     ? "SS"
                          : c == 0x149  ? "\u02bcN"
                          : c == 0xfb00 ? "FF"
                          : c == 0xfb01 ? "FI"
                          : c == 0xfb02 ? "FL"
                          : c == 0xfb03 ? "FFI"
                          : c == 0xfb04 ? "FFL"
                                        : NULL;
        if (two) { /* these stand alone in their entities */
            out->n = first;
            append_utf8(out, two);
            return;
        }
        out->at[i] = utf8proc_toupper(c);
    }
}

/* ftfy's: only with a semicolon, and &NAME; in capitals for small &name; where that is unambiguous. */
static size_t strict(reco_points *out, const int32_t *p, size_t n)
{
    char name[26], small[26];
    size_t length = 0;
    bool hash = n > 1 && p[1] == '#', capitals = true;
    const char *expansion;
    for (size_t i = hash ? 2 : 1; i < n && length < 25; i++) {
        int32_t c = p[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'), number = c >= '0' && c <= '9';
        if (c != ';' && !letter && !number) return 0;
        if (c >= 'a' && c <= 'z') capitals = false;
        name[length] = (char)c;
        small[length++] = (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
        if (c == ';') break;
    }
    if (length < 2 || name[length - 1] != ';') return 0;
    if (hash) {
        int32_t point;
        size_t used = numeric(&point, p, length + 2);
        if (used != length + 2 || point == ';') return 0;
        if (point >= 0) out->at[out->n++] = point;
        return used;
    }
    if ((expansion = lookup(name, length))) {
        append_utf8(out, expansion);
        return length + 1;
    }
    if (!capitals || !(expansion = lookup(small, length))) return 0;
    const char *prefix;
    if (match_entity(&prefix, p, length + 1)) return 0;
    append_upper(out, expansion);
    return length + 1;
}

reco_status reco_html_unescape_strict(reco_ctx *ctx, reco_points *text)
{
    size_t i = 0;
    while (i < text->n && text->at[i] != '&') i++;
    if (i == text->n) return RECO_OK;
    reco_points out = {reco_scratch(ctx, text->n, sizeof *out.at, "caption"), 0};
    if (!out.at) return RECO_E_NOMEM;
    for (i = 0; i < text->n;) {
        size_t n = text->at[i] == '&' ? strict(&out, text->at + i, text->n - i) : 0;
        if (n == 0) {
            out.at[out.n++] = text->at[i];
            n = 1;
        }
        i += n;
    }
    *text = out;
    return RECO_OK;
}
