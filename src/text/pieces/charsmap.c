/* The blob: bytes of the trie (u32, little-endian), the trie, the strings. A unit of the trie has the label of the edge
 * that leads to it in bits 0..7, a flag in bit 8 when a key ends there, and the place of its children in bits 10..30
 * (times 256 with bit 9); the unit of a key's end holds its value and bit 31. */
#include "text/pieces/charsmap.h"
#include "text/unicode/unicode.h"

#include <utf8proc.h>

static int sextet(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* With its padding and nothing else, as the reference wants it. out has room for 3 bytes to 4 letters. */
static bool base64_decode(uint8_t *out, size_t *bytes, const char *text)
{
    size_t n = strlen(text);
    *bytes = 0;
    if (n % 4) return false;
    for (size_t i = 0; i < n; i += 4) {
        uint32_t word = 0;
        int pads = i + 4 < n ? 0 : (text[i + 3] == '=') + (text[i + 3] == '=' && text[i + 2] == '=');
        for (int k = 0; k < 4; k++) {
            int value = k < 4 - pads ? sextet(text[i + (size_t)k]) : 0;
            if (value < 0) return false;
            word = word << 6 | (uint32_t)value;
        }
        for (int k = 0; k < 3 - pads; k++) out[(*bytes)++] = (uint8_t)(word >> (16 - 8 * k));
    }
    return true;
}

static uint32_t little(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

reco_status reco_charsmap_take(reco_ctx *ctx, reco_charsmap *map, const uint8_t *blob, size_t bytes,
                               const char *where)
{
    size_t trie = 0;
    *map = (reco_charsmap){0};
    if (bytes < 4 || (trie = little(blob)) % 4 || trie < 4 || trie > bytes - 4)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: precompiled_charsmap of %zu bytes says %zu are its trie",
                         where, bytes, trie);
    map->n = trie / 4;
    map->bytes = bytes - 4 - trie;
    map->units = reco_alloc_raw(ctx, map->n, sizeof *map->units, "precompiled_charsmap");
    map->text = reco_alloc_raw(ctx, map->bytes + 1, 1, "precompiled_charsmap");
    if (!map->units || !map->text) return RECO_E_NOMEM;
    for (size_t i = 0; i < map->n; i++) map->units[i] = little(blob + 4 + 4 * i);
    memcpy(map->text, blob + 4 + trie, map->bytes);
    map->text[map->bytes] = 0;
    if (reco_utf8_errors(map->text, map->bytes))
        return reco_fail(ctx, RECO_E_FORMAT, "%s: precompiled_charsmap's strings are not UTF-8", where);
    return RECO_OK;
}

reco_status reco_charsmap_read(reco_ctx *ctx, reco_charsmap *map, const char *base64, const char *where)
{
    size_t bytes = 0;
    uint8_t *blob = reco_alloc_raw(ctx, strlen(base64) / 4 * 3 + 4, 1, "precompiled_charsmap");
    *map = (reco_charsmap){0};
    if (!blob) return RECO_E_NOMEM;
    reco_status status =
        base64_decode(blob, &bytes, base64)
            ? reco_charsmap_take(ctx, map, blob, bytes, where)
            : reco_fail(ctx, RECO_E_FORMAT, "%s: precompiled_charsmap is not base64", where);
    reco_free(blob);
    return status;
}

void reco_charsmap_free(reco_charsmap *map)
{
    reco_free(map->units);
    reco_free(map->text);
    *map = (reco_charsmap){0};
}

static size_t offset(uint32_t unit) { return (size_t)(unit >> 10) << ((unit & 0x200) >> 6); }

/* What a key that begins here becomes, the shortest or the longest, and its bytes. NULL: there is none. */
static const char *look_up_key(const reco_charsmap *map, const uint8_t *key, size_t n, bool longest,
                               size_t *taken)
{
    const char *becomes = NULL;
    size_t node = map->n ? offset(map->units[0]) : 0;
    if (!map->n) return NULL;
    for (size_t i = 0; i < n && key[i]; i++) {
        node ^= key[i];
        if (node >= map->n) break;
        uint32_t unit = map->units[node];
        if ((unit & 0x800000ffu) != key[i]) break;
        node ^= offset(unit);
        if (!(unit & 0x100)) continue;
        size_t value = node < map->n ? map->units[node] & 0x7fffffffu : SIZE_MAX;
        if (value >= map->bytes) break;
        becomes = map->text + value;
        *taken = i + 1;
        if (!longest) break;
    }
    return becomes;
}

/* The shortest key: so does the tokenizers library. */
static const char *find_shortest_key(const reco_charsmap *map, const uint8_t *key, size_t n)
{
    size_t taken;
    return look_up_key(map, key, n, false, &taken);
}

const char *reco_charsmap_longest(const reco_charsmap *map, const char *text, size_t bytes, size_t *taken)
{
    return look_up_key(map, (const uint8_t *)text, bytes, true, taken);
}

typedef struct output {
    int32_t *at;
    size_t n, room;
} output;

/* Room for k more; twice the room when it is full, up to what a caption may take. */
static reco_status grow_points(reco_ctx *ctx, output *out, size_t k)
{
    if (k <= out->room - out->n) return RECO_OK;
    size_t room = reco_max(2 * out->room, out->n + k);
    if (room > 16 * RECO_TEXT_MAX)
        return reco_fail(ctx, RECO_E_NOMEM, "caption grows to more than %zu characters", out->room);
    int32_t *at = reco_scratch(ctx, room, sizeof *at, "caption");
    if (!at) return RECO_E_NOMEM;
    memcpy(at, out->at, out->n * sizeof *at);
    out->at = at;
    out->room = room;
    return RECO_OK;
}

static reco_status put_replacement(reco_ctx *ctx, output *out, const char *text)
{
    size_t bytes = strlen(text), n;
    RECO_TRY(grow_points(ctx, out, bytes));
    for (size_t i = 0; i < bytes; i += n) {
        int32_t point = reco_utf8_next((const uint8_t *)text + i, bytes - i, &n);
        out->at[out->n++] = point < 0 ? 0xfffd : point;
    }
    return RECO_OK;
}

/* Grapheme clusters below six bytes are looked up whole, of others each character. */
reco_status reco_charsmap_apply(reco_ctx *ctx, const reco_charsmap *map, reco_points *text)
{
    output out = {reco_scratch(ctx, text->n + 16, sizeof *out.at, "caption"), 0, text->n + 16};
    if (!out.at) return RECO_E_NOMEM;
    for (size_t begin = 0, end; begin < text->n; begin = end) {
        utf8proc_int32_t state = 0;
        uint8_t few[8];
        size_t bytes = reco_point_encode(few, text->at[begin]);
        for (end = begin + 1; end < text->n; end++) {
            if (utf8proc_grapheme_break_stateful(text->at[end - 1], text->at[end], &state)) break;
            uint8_t one[4];
            size_t k = reco_point_encode(one, text->at[end]);
            if (bytes + k < 6) memcpy(few + bytes, one, k);
            bytes += k;
        }
        const char *becomes = bytes < 6 ? find_shortest_key(map, few, bytes) : NULL;
        if (becomes) {
            RECO_TRY(put_replacement(ctx, &out, becomes));
            continue;
        }
        for (size_t i = begin; i < end; i++) {
            bytes = reco_point_encode(few, text->at[i]);
            becomes = find_shortest_key(map, few, bytes);
            RECO_TRY(grow_points(ctx, &out, 1));
            if (becomes)
                RECO_TRY(put_replacement(ctx, &out, becomes));
            else
                out.at[out.n++] = text->at[i];
        }
    }
    *text = (reco_points){out.at, out.n};
    return RECO_OK;
}
