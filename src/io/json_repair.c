#include "io/internal.h"

#include <stdlib.h>

/* Stands for a value that JSON has not, until the tree is there. */
#define NOT_JSON "\\u0001NaN"
#define NOT_JSON_TEXT "\001NaN"
#define REPLACEMENT "\xef\xbf\xbd"

typedef struct rewrite {
    const char *text;
    size_t bytes, at;
    char *out;
    size_t n, room;
    bool full; /* no memory */
    reco_io_json_losses *losses;
} rewrite;

static void put_bytes(rewrite *r, const char *data, size_t bytes)
{
    if (r->full) return;
    if (bytes > r->room - r->n) {
        size_t room = 2 * (r->n + bytes) + r->bytes;
        char *grown = realloc(r->out, room);
        r->full = !grown;
        if (!grown) return;
        r->out = grown;
        r->room = room;
    }
    memcpy(r->out + r->n, data, bytes);
    r->n += bytes;
}

/* The code unit of "\uXXXX" here, -1: none. */
static long unit(const rewrite *r, size_t at)
{
    if (at + 6 > r->bytes || r->text[at] != '\\' || r->text[at + 1] != 'u') return -1;
    long value = 0;
    for (size_t i = at + 2; i < at + 6; i++) {
        char c = r->text[i];
        int digit = reco_is_digit(c)                     ? c - '0'
                    : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                         : -1;
        if (digit < 0) return -1;
        value = 16 * value + digit;
    }
    return value;
}

static void repair_escape(rewrite *r)
{
    long first = unit(r, r->at), second = unit(r, r->at + 6);
    bool pair = first >= 0xd800 && first < 0xdc00 && second >= 0xdc00 && second < 0xe000;
    size_t n = first < 0 ? reco_min(2, r->bytes - r->at) : pair ? 12 : 6;
    bool alone = first == 0 || (!pair && first >= 0xd800 && first < 0xe000);
    if (alone)
        put_bytes(r, REPLACEMENT, 3);
    else
        put_bytes(r, r->text + r->at, n);
    r->losses->repaired += alone;
    r->at += n;
}

/* From the opening quote to behind the closing one. */
static void string(rewrite *r)
{
    put_bytes(r, "\"", 1);
    r->at++;
    while (r->at < r->bytes && r->text[r->at] != '"') {
        const unsigned char c = (unsigned char)r->text[r->at];
        size_t n = 1;
        if (c == '\\') {
            repair_escape(r);
            continue;
        }
        if (c < 32 && c) { /* a tab as it is, which strict readers refuse */
            char shown[8];
            put_bytes(r, shown, (size_t)snprintf(shown, sizeof shown, "\\u%04x", c));
        } else if (c == 0) {
            put_bytes(r, REPLACEMENT, 3);
            r->losses->repaired++;
        } else if (c < 0x80)
            put_bytes(r, r->text + r->at, 1);
        else if (reco_utf8_next((const uint8_t *)r->text + r->at, r->bytes - r->at, &n) >= 0)
            put_bytes(r, r->text + r->at, n);
        else {
            put_bytes(r, REPLACEMENT, 3);
            r->losses->not_utf8 = true;
        }
        r->at += n;
    }
    if (r->at < r->bytes) put_bytes(r, "\"", 1);
    r->at += r->at < r->bytes;
}

/* A number that jansson would not take, in quotes; others as they are. */
static void repair_number(rewrite *r)
{
    size_t end = r->at;
    while (end < r->bytes && (reco_is_digit(r->text[end]) || strchr("+-.eE", r->text[end])) && r->text[end])
        end++;
    const char *text = r->text + r->at;
    size_t n = end - r->at;
    json_error_t met;
    json_t *value = json_loadb(text, n, JSON_DECODE_ANY, &met);
    bool large = !value && json_error_code(&met) == json_error_numeric_overflow;
    json_decref(value);
    if (large) put_bytes(r, "\"", 1);
    put_bytes(r, text, n);
    if (large) put_bytes(r, "\"", 1);
    r->at = end;
}

static bool take_word(rewrite *r, const char *word)
{
    size_t n = strlen(word);
    if (n > r->bytes - r->at || memcmp(r->text + r->at, word, n) != 0) return false;
    put_bytes(r, "\"" NOT_JSON "\"", sizeof NOT_JSON + 1);
    r->at += n;
    return true;
}

static void repair_text(rewrite *r)
{
    while (r->at < r->bytes && !r->full) {
        char c = r->text[r->at];
        if (c == '"')
            string(r);
        else if (take_word(r, "NaN") || take_word(r, "nan") || take_word(r, "-Infinity") ||
                 take_word(r, "Infinity"))
            continue;
        else if (reco_is_digit(c) || c == '-')
            repair_number(r);
        else {
            put_bytes(r, &c, 1);
            r->at++;
        }
    }
}

static bool is_gone(const json_t *value)
{
    return json_is_string(value) && strcmp(json_string_value(value), NOT_JSON_TEXT) == 0;
}

/* Keys without a value go; in an array, where places count, null stands for it. */
static void drop_gone_members(json_t *value, reco_io_json_losses *losses)
{
    const char *key;
    json_t *member;
    void *next;
    size_t i;
    json_object_foreach_safe(value, next, key, member)
    {
        losses->dropped += is_gone(member);
        if (is_gone(member))
            json_object_del(value, key);
        else
            drop_gone_members(member, losses);
    }
    json_array_foreach(value, i, member)
    {
        losses->dropped += is_gone(member);
        if (is_gone(member))
            json_array_set_new(value, i, json_null());
        else
            drop_gone_members(member, losses);
    }
}

reco_status reco_io_json_read(json_t **out, const char *text, size_t bytes, reco_io_json_losses *losses,
                              reco_io_json_error *error)
{
    *losses = (reco_io_json_losses){0};
    reco_status status = reco_io_json_parse(out, text, bytes, error); /* nearly always */
    if (status != RECO_E_FORMAT || reco_json_excess(text, bytes, &error->line, &error->byte)) return status;

    rewrite r = {.text = text, .bytes = bytes, .losses = losses};
    repair_text(&r);
    if (r.full) {
        free(r.out);
        return RECO_E_NOMEM;
    }
    json_error_t met;
    status = reco_io_json_parse(out, r.n ? r.out : "", r.n, error);
    if (status == RECO_E_FORMAT && (*out = json_loadb(r.n ? r.out : "", r.n, 0, &met))) {
        losses->dropped++; /* the same key again: the last counts, as everywhere */
        status = RECO_OK;
    }
    free(r.out);
    if (status == RECO_OK) drop_gone_members(*out, losses);
    return status;
}

reco_status reco_json_read_object(reco_ctx *ctx, json_t **out, const char *text, size_t bytes,
                                  uint64_t *dropped)
{
    reco_io_json_error error;
    reco_io_json_losses losses;
    size_t mark = bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    reco_status status = reco_io_json_read(out, text + mark, bytes - mark, &losses, &error);
    if (status == RECO_E_NOMEM) return reco_fail_nomem(ctx, bytes, "JSON");
    if (status != RECO_OK) return reco_fail(ctx, status, "line %zu of .json: %s", error.line, error.reason);
    if (dropped) *dropped += losses.dropped;
    if (json_is_object(*out)) return RECO_OK;
    json_decref(*out);
    *out = NULL;
    return reco_fail(ctx, RECO_E_FORMAT, ".json: want a JSON object");
}
