#include "base/base.h"

/* The error's length is the longest start of a valid sequence, as Unicode recommends and Python replaces. */
int32_t reco_utf8_next(const uint8_t *p, size_t left, size_t *n)
{
    uint8_t lead = p[0];
    size_t want = lead < 0x80                   ? 1
                  : lead >= 0xc2 && lead < 0xe0 ? 2
                  : lead >= 0xe0 && lead < 0xf0 ? 3
                  : lead >= 0xf0 && lead < 0xf5 ? 4
                                                : 0;
    *n = 1;
    if (want == 0) return -1;
    if (want == 1) return lead;
    int32_t point = lead & (0x7f >> want);
    for (size_t i = 1; i < want; i++) {
        if (i >= left || (p[i] & 0xc0) != 0x80) return -1;
        /* overlong, surrogate or above U+10FFFF: the second byte tells */
        if (i == 1 && ((lead == 0xe0 && p[1] < 0xa0) || (lead == 0xed && p[1] > 0x9f) ||
                       (lead == 0xf0 && p[1] < 0x90) || (lead == 0xf4 && p[1] > 0x8f)))
            return -1;
        point = point << 6 | (p[i] & 0x3f);
        *n = i + 1;
    }
    return point;
}

bool reco_point_space(int32_t point)
{
    return (point >= 9 && point <= 13) || point == ' ' || point == 0x85 || point == 0xa0 ||
           point == 0x1680 || (point >= 0x2000 && point <= 0x200a) || point == 0x2028 || point == 0x2029 ||
           point == 0x202f || point == 0x205f || point == 0x3000;
}

size_t reco_utf8_errors(const char *text, size_t bytes)
{
    size_t errors = 0;
    for (size_t i = 0, n; i < bytes; i += n)
        errors += reco_utf8_next((const uint8_t *)text + i, bytes - i, &n) < 0;
    return errors;
}

/* C0 and C1 controls, the marks and separators that turn or break a line, and tags, which nobody sees. */
static bool obeyed(int32_t point)
{
    return point < 0x20 || (point >= 0x7f && point < 0xa0) || point == 0x61c || point == 0x200e ||
           point == 0x200f || (point >= 0x2028 && point <= 0x202e) ||
           (point >= 0x2060 && point <= 0x206f) || point == 0xfeff ||
           (point >= 0xfff9 && point <= 0xfffb) || (point >= 0xe0000 && point < 0xe0020);
}

size_t reco_text_next(const char *text, size_t bytes, int *control)
{
    size_t n;
    int32_t point = reco_utf8_next((const uint8_t *)text, bytes, &n);
    /* what is no UTF-8 may be a C1 control of an eight-bit terminal */
    *control = point < 0 ? (uint8_t)*text >= 0x80 && (uint8_t)*text < 0xa0 : obeyed(point);
    return n;
}

/* The next postgres:// or postgresql:// and what is behind it; NULL: none. */
static char *next_url(char *text, char **behind)
{
    for (char *at = text; (at = strstr(at, "postgres")) != NULL; at++) {
        char *end = at + 8;
        if (strncmp(end, "ql", 2) == 0) end += 2;
        if (strncmp(end, "://", 3) != 0) continue;
        *behind = end + 3;
        return at;
    }
    return NULL;
}

/* Out of postgresql://USER:PASSWORD@HOST/DATABASE?PARAMETERS go those that let in. A password may hold anything that should have
 * been escaped, so that in doubt more is hidden: user and password end with the last @ before ": ", which ends a URL in messages, a
 * line's end or the next URL; and where a ? stands before it, nobody knows which part is what. */
static void hide_secrets(char *text)
{
    for (char *at, *next; next_url(text, &at); text = next) {
        char *most = at + strcspn(at, "\n"), *behind, *colon = strstr(at, ": "), *host = at, *out = at;
        next = next_url(at, &behind);
        if (next && next < most) most = next;
        if (colon && colon < most) most = colon;
        for (char *c = at; c < most; c++)
            if (*c == '@') host = c + 1;
        char *end = host + strcspn(host, " \t\n\"'");
        if (next && next > at && next[-1] == ',') next--;
        if (next && next < end) end = next;
        if (colon && colon < end) end = colon;
        if (memchr(at, '?', (size_t)(host - at))) host = end;
        while (host < end && *host != '?') *out++ = *host++;
        memmove(out, end, strlen(end) + 1);
        next = out;
    }
}

void reco_text_clean(char *text)
{
    hide_secrets(text);
    char *out = text;
    int control;
    for (size_t left = strlen(text), n; left; text += n, left -= n) {
        n = reco_text_next(text, left, &control);
        if (control)
            *out++ = '?';
        else
            for (size_t i = 0; i < n; i++) *out++ = text[i];
    }
    *out = 0;
}
