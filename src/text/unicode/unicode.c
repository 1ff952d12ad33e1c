#include "text/unicode/unicode.h"

#include <utf8proc.h>

reco_status reco_points_decode(reco_ctx *ctx, reco_points *out, const char *text, size_t bytes)
{
    *out = (reco_points){reco_scratch(ctx, bytes, sizeof *out->at, "caption"), 0};
    if (!out->at) return RECO_E_NOMEM;
    for (size_t i = 0, n; i < bytes; i += n) {
        int32_t point = reco_utf8_next((const uint8_t *)text + i, bytes - i, &n);
        out->at[out->n++] = point < 0 ? 0xfffd : point;
    }
    return RECO_OK;
}

size_t reco_point_encode(uint8_t out[4], int32_t point) { return (size_t)utf8proc_encode_char(point, out); }

bool reco_point_letter(int32_t c)
{
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return true;
    default:
        return false;
    }
}

/* Alphabetic, marks, decimal numbers, connectors and joiners; beyond its categories, Alphabetic has letters in circles
 * and squares. */
bool reco_point_word(int32_t c)
{
    if (reco_point_letter(c)) return true;
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        return c == 0x200c || c == 0x200d || (c >= 0x24b6 && c <= 0x24e9) ||
               (c >= 0x1f130 && c <= 0x1f149) || (c >= 0x1f150 && c <= 0x1f169) ||
               (c >= 0x1f170 && c <= 0x1f189);
    }
}

static unsigned mark_class(int32_t c) { return (unsigned)utf8proc_get_property(c)->combining_class; }

/* Put a run of combining marks in order of their classes, stably, by counting: utf8proc's own way takes time with the
 * square of the run, and a hostile caption is one run. */
static void order_marks(int32_t *at, size_t n, int32_t *spare)
{
    size_t starts[257] = {0};
    for (size_t i = 0; i < n; i++) starts[mark_class(at[i]) + 1]++;
    for (size_t k = 1; k < 257; k++) starts[k] += starts[k - 1];
    for (size_t i = 0; i < n; i++) spare[starts[mark_class(at[i])]++] = at[i];
    memcpy(at, spare, n * sizeof *at);
}

/* Below U+0300 everything is composed already. No canonical decomposition is longer than four. */
reco_status reco_points_nfc(reco_ctx *ctx, reco_points *text)
{
    size_t i = 0, n = 0;
    while (i < text->n && text->at[i] < 0x300) i++;
    if (i == text->n) return RECO_OK;
    int32_t *out = reco_scratch(ctx, text->n, 4 * sizeof *out, "caption");
    int32_t *spare = reco_scratch(ctx, text->n, 4 * sizeof *spare, "caption");
    if (!out || !spare) return RECO_E_NOMEM;
    for (i = 0; i < text->n; i++) {
        int unused = 0;
        utf8proc_ssize_t k = utf8proc_decompose_char(text->at[i], out + n, 4, UTF8PROC_DECOMPOSE, &unused);
        if (k < 0 || k > 4)
            return reco_fail(ctx, RECO_E_INTERNAL, "caption: cannot decompose U+%04X",
                             (unsigned)text->at[i]);
        n += (size_t)k;
    }
    for (size_t begin = 0, end; begin < n; begin = end + 1) {
        for (end = begin; end < n && mark_class(out[end]) != 0;) end++;
        if (end - begin > 1) order_marks(out + begin, end - begin, spare);
    }
    utf8proc_ssize_t composed =
        utf8proc_normalize_utf32(out, (utf8proc_ssize_t)n, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    if (composed < 0) return reco_fail(ctx, RECO_E_INTERNAL, "caption: %s", utf8proc_errmsg(composed));
    *text = (reco_points){out, (size_t)composed};
    return RECO_OK;
}

/* Unicode's Final_Sigma: a cased letter before, none after, looking through what is case-ignorable. */
static bool cased(int32_t c)
{
    utf8proc_category_t k = utf8proc_category(c);
    return k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT ||
           c == 0xaa || c == 0xba || (c >= 0x2160 && c <= 0x217f) || (c >= 0x24b6 && c <= 0x24e9);
}

static bool ignorable(int32_t c)
{
    utf8proc_category_t k = utf8proc_category(c);
    return k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_ME || k == UTF8PROC_CATEGORY_CF ||
           k == UTF8PROC_CATEGORY_LM || k == UTF8PROC_CATEGORY_SK || c == '\'' || c == '.' || c == ':' ||
           c == 0xb7 || c == 0x387 || c == 0x55f || c == 0x5f4 || c == 0x2018 || c == 0x2019 ||
           c == 0x2024 || c == 0x2027 || c == 0xfe13 || c == 0xfe52 || c == 0xfe55 || c == 0xff07 ||
           c == 0xff0e || c == 0xff1a;
}

static bool ends_word(const reco_points *text, size_t at)
{
    size_t before = at, after = at + 1;
    while (before > 0 && ignorable(text->at[before - 1])) before--;
    while (after < text->n && ignorable(text->at[after])) after++;
    return before > 0 && cased(text->at[before - 1]) && !(after < text->n && cased(text->at[after]));
}

reco_status reco_points_lower(reco_ctx *ctx, reco_points *text, bool final_sigma)
{
    int32_t *out = reco_scratch(ctx, text->n, 2 * sizeof *out, "caption");
    if (!out) return RECO_E_NOMEM;
    size_t n = 0;
    for (size_t i = 0; i < text->n; i++) {
        int32_t c = text->at[i];
        if (c < 0x80) {
            out[n++] = c >= 'A' && c <= 'Z' ? c + 32 : c;
        } else if (c == 0x130) { /* the only letter that becomes two */
            out[n++] = 'i';
            out[n++] = 0x307;
        } else if (c == 0x3a3 && final_sigma && ends_word(text, i)) {
            out[n++] = 0x3c2;
        } else {
            out[n++] = utf8proc_tolower(c);
        }
    }
    *text = (reco_points){out, n};
    return RECO_OK;
}

reco_status reco_clip_normalize(reco_ctx *ctx, reco_points *text)
{
    size_t kept = 0;
    RECO_TRY(reco_points_nfc(ctx, text));
    for (size_t i = 0; i < text->n; i++) {
        bool space = reco_point_space(text->at[i]);
        if (!space || !kept || text->at[kept - 1] != ' ') text->at[kept++] = space ? ' ' : text->at[i];
    }
    text->n = kept;
    return reco_points_lower(ctx, text, false);
}
