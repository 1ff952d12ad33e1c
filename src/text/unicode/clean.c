#include "text/unicode/clean.h"
#include "text/text.h"
#include "text/unicode/html.h"
#include "text/unicode/unicode.h"

#include <utf8proc.h>

/* ftfy's table of Latin ligatures and digraphs; -1 ends a row. */
static const int32_t ligatures[][4] = {
    {0x132, 'I', 'J', -1},    {0x133, 'i', 'j', -1},  {0x149, 0x2bc, 'n', -1}, {0x1f1, 'D', 'Z', -1},
    {0x1f2, 'D', 'z', -1},    {0x1f3, 'd', 'z', -1},  {0x1c4, 'D', 0x17d, -1}, {0x1c5, 'D', 0x17e, -1},
    {0x1c6, 'd', 0x17e, -1},  {0x1c7, 'L', 'J', -1},  {0x1c8, 'L', 'j', -1},   {0x1c9, 'l', 'j', -1},
    {0x1ca, 'N', 'J', -1},    {0x1cb, 'N', 'j', -1},  {0x1cc, 'n', 'j', -1},   {0xfb00, 'f', 'f', -1},
    {0xfb01, 'f', 'i', -1},   {0xfb02, 'f', 'l', -1}, {0xfb03, 'f', 'f', 'i'}, {0xfb04, 'f', 'f', 'l'},
    {0xfb05, 0x17f, 't', -1}, {0xfb06, 's', 't', -1}};

static bool control(int32_t c)
{
    return c < 9 || c == 11 || (c >= 14 && c < 32) || c == 127 || (c >= 0x206a && c <= 0x206f) ||
           c == 0xfeff || (c >= 0xfff9 && c <= 0xfffc);
}

static bool digit_or_semicolon(int32_t c)
{
    return c == ';' || (c < 128 ? c >= '0' && c <= '9' : utf8proc_category(c) == UTF8PROC_CATEGORY_ND);
}

/* Points of the terminal escape (ESC [ numbers letter) at p; 0 if there is none. */
static size_t measure_escape(const int32_t *p, size_t n)
{
    size_t i = 2;
    if (n < 3 || p[0] != 27 || p[1] != '[') return 0;
    while (i < n && digit_or_semicolon(p[i])) i++;
    return i < n && ((p[i] >= 'a' && p[i] <= 'z') || (p[i] >= 'A' && p[i] <= 'Z')) ? i + 1 : 0;
}

/* A character's replacements, one ftfy step after the other. At most 4 (U+FFA0 and the like are one to one). */
static size_t replace_point(int32_t out[4], int32_t c)
{
    c = reco_windows_1252(c);
    for (size_t i = 0; c >= 0x132 && i < sizeof ligatures / sizeof *ligatures; i++)
        if (ligatures[i][0] == c) {
            size_t n = 0;
            for (; n < 3 && ligatures[i][n + 1] >= 0; n++) out[n] = ligatures[i][n + 1];
            if (out[0] == 0x2bc) out[0] = '\'';
            return n;
        }
    if (c == 0x3000) c = ' ';
    if (c >= 0xff01 && c < 0xfff0) {
        int last = 0;
        utf8proc_ssize_t n = utf8proc_decompose_char(c, out, 4, UTF8PROC_COMPAT | UTF8PROC_COMPOSE, &last);
        if (n > 1 && n <= 4) return (size_t)n;
        if (n == 1) c = out[0];
    }
    if (c == 0x2bc || (c >= 0x2018 && c <= 0x201b)) c = '\'';
    if (c >= 0x201c && c <= 0x201f) c = '"';
    if (c == '\r' || c == 0x2028 || c == 0x2029) c = '\n';
    out[0] = c;
    return 1;
}

/* One round of ftfy's fixes, in its order but without its guesses at wrongly decoded text. */
static reco_status fix_round(reco_ctx *ctx, reco_points *text, bool unescape)
{
    if (unescape) RECO_TRY(reco_html_unescape_strict(ctx, text));
    reco_points out = {reco_scratch(ctx, text->n, 4 * sizeof *out.at, "caption"), 0};
    if (!out.at) return RECO_E_NOMEM;
    for (size_t i = 0; i < text->n; i++) {
        if (text->at[i] == '\r' && i + 1 < text->n && text->at[i + 1] == '\n') continue;
        out.n += replace_point(out.at + out.n, text->at[i]);
    }
    *text = out;
    size_t kept = 0;
    for (size_t i = 0, n; i < text->n;) {
        if ((n = measure_escape(text->at + i, text->n - i))) {
            i += n;
            continue;
        }
        if (!control(text->at[i])) text->at[kept++] = text->at[i];
        i++;
    }
    text->n = kept;
    return reco_points_nfc(ctx, text);
}

/* Until nothing changes, since a repair may lay bare another; hostile text can nest references without end, and eight
 * rounds are enough for what people write. The line lives in out, which has room for `room` points, so that each
 * round's scratch can go. */
static reco_status fix_line(reco_ctx *ctx, reco_points *out, size_t room, reco_points line, bool unescape)
{
    if (line.n > room)
        return reco_fail(ctx, RECO_E_NOMEM, "caption grows to more than four times its length");
    memcpy(out->at, line.at, line.n * sizeof *line.at);
    out->n = line.n;
    for (int round = 0; round < 8; round++) {
        reco_mark mark = reco_scratch_mark(ctx);
        reco_points fixed = *out;
        RECO_TRY(fix_round(ctx, &fixed, unescape));
        if (fixed.n == out->n && memcmp(fixed.at, out->at, fixed.n * sizeof *fixed.at) == 0) round = 8;
        if (fixed.n > room)
            return reco_fail(ctx, RECO_E_NOMEM, "caption grows to more than four times its length");
        memcpy(out->at, fixed.at, fixed.n * sizeof *fixed.at);
        out->n = fixed.n;
        reco_scratch_release(ctx, mark);
    }
    return RECO_OK;
}

/* Python's str.isspace */
static bool space(int32_t c) { return reco_point_space(c) || (c >= 28 && c <= 31); }

void reco_clean_spaces(reco_points *text)
{
    size_t kept = 0;
    for (size_t i = 0; i < text->n; i++) {
        if (!space(text->at[i]))
            text->at[kept++] = text->at[i];
        else if (kept && text->at[kept - 1] != ' ')
            text->at[kept++] = ' ';
    }
    if (kept && text->at[kept - 1] == ' ') kept--;
    text->n = kept;
}

void reco_clean_punctuation(reco_points *text)
{
    size_t kept = 0;
    for (size_t i = 0; i < text->n; i++) {
        int32_t c = text->at[i];
        bool punctuation =
            (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
        if (!punctuation) text->at[kept++] = c;
    }
    text->n = kept;
}

/* ftfy and html.unescape. It leaves references alone from the first line on that has a "<": it takes it for HTML. */
static reco_status repair(reco_ctx *ctx, reco_points *text)
{
    bool plain = true, unescape = true;
    for (size_t i = 0; i < text->n && plain; i++)
        plain = text->at[i] >= 32 && text->at[i] < 127 && text->at[i] != '&';
    if (plain) return RECO_OK;
    reco_points out = {reco_scratch(ctx, text->n, 4 * sizeof *out.at, "caption"), 0};
    if (!out.at) return RECO_E_NOMEM;
    size_t room = 4 * text->n;
    for (size_t begin = 0, end; begin < text->n; begin = end) {
        for (end = begin; end < text->n && text->at[end] != '\n'; end++)
            if (text->at[end] == '<') unescape = false;
        if (end < text->n) end++;
        reco_points line = {text->at + begin, end - begin}, fixed = {out.at + out.n, 0};
        RECO_TRY(fix_line(ctx, &fixed, room - out.n, line, unescape));
        out.n += fixed.n;
    }
    *text = out;
    RECO_TRY(reco_html_unescape(ctx, text));
    return reco_html_unescape(ctx, text);
}

reco_status reco_clean_openclip(reco_ctx *ctx, reco_points *text, reco_clean clean)
{
    RECO_TRY(repair(ctx, text));
    if (clean == RECO_CLEAN_CANONICALIZE) {
        for (size_t i = 0; i < text->n; i++)
            if (text->at[i] == '_') text->at[i] = ' ';
        reco_clean_punctuation(text);
    }
    reco_clean_spaces(text);
    return clean == RECO_CLEAN_WHITESPACE ? RECO_OK : reco_points_lower(ctx, text, true);
}
