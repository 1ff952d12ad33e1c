#include "text/tokenizer.h"

#include <utf8proc.h>

/* Bytes of the sequence that starts at p, of which `left` are there: the point, or -1 and in *n how many bytes one
 * U+FFFD stands for, the longest start of a valid sequence (as Unicode recommends and Python does). */
static int32_t next_point(const uint8_t *p, size_t left, size_t *n)
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

reco_status reco_points_decode(reco_ctx *ctx, reco_points *out, const char *text, size_t bytes)
{
    *out = (reco_points){reco_scratch(ctx, bytes, sizeof *out->at, "caption"), 0};
    if (!out->at) return RECO_E_NOMEM;
    for (size_t i = 0, n; i < bytes; i += n) {
        int32_t point = next_point((const uint8_t *)text + i, bytes - i, &n);
        out->at[out->n++] = point < 0 ? 0xfffd : point;
    }
    return RECO_OK;
}

size_t reco_point_encode(uint8_t out[4], int32_t point) { return (size_t)utf8proc_encode_char(point, out); }

bool reco_point_space(int32_t c)
{
    return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
           c == 0x3000;
}

/* Decomposition needs up to four points for one (utf8proc's own bound), and orders combining marks; composing again
 * gives NFC. Below U+0300 everything is composed already. */
reco_status reco_points_nfc(reco_ctx *ctx, reco_points *text)
{
    size_t i = 0, room = 0;
    while (i < text->n && text->at[i] < 0x300) i++;
    if (i == text->n) return RECO_OK;
    uint8_t *utf8 = reco_scratch(ctx, text->n, 4, "caption");
    if (!utf8) return RECO_E_NOMEM;
    for (i = 0; i < text->n; i++) room += reco_point_encode(utf8 + room, text->at[i]);
    utf8proc_option_t decompose = UTF8PROC_DECOMPOSE | UTF8PROC_STABLE;
    utf8proc_ssize_t n = utf8proc_decompose(utf8, (utf8proc_ssize_t)room, NULL, 0, decompose);
    if (n < 0) return reco_fail(ctx, RECO_E_INTERNAL, "caption: %s", utf8proc_errmsg(n));
    int32_t *out = reco_scratch(ctx, (size_t)n, sizeof *out, "caption");
    if (!out) return RECO_E_NOMEM;
    n = utf8proc_decompose(utf8, (utf8proc_ssize_t)room, out, n, decompose);
    if (n >= 0) n = utf8proc_normalize_utf32(out, n, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    if (n < 0) return reco_fail(ctx, RECO_E_INTERNAL, "caption: %s", utf8proc_errmsg(n));
    *text = (reco_points){out, (size_t)n};
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
