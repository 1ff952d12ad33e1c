#include "bank/catalog/sqlite.h"

#include <stdio.h>

/* Each call takes at most a second or two: linear time, or bytes of a value times those of a pattern. */

static bool is_null(sqlite3_value *v) { return sqlite3_value_type(v) == SQLITE_NULL; }

/* True when the call ends here: no time left, or an argument is NULL and so is the answer. */
static bool ends(sqlite3_context *f, int n, sqlite3_value **v)
{
    const reco_catalog *c = sqlite3_user_data(f);
    if (c->guard && reco_where_late(c->guard)) {
        sqlite3_result_error(f, "takes too long", -1);
        return true;
    }
    for (int i = 0; i < n; i++)
        if (is_null(v[i])) return true;
    return false;
}

/* An argument as text, with a NUL behind it; NULL (and the error is set) when there is no memory for it. */
static const char *text_of(sqlite3_context *f, sqlite3_value *v, size_t *bytes)
{
    const char *text = (const char *)sqlite3_value_text(v);
    *bytes = (size_t)sqlite3_value_bytes(v);
    if (!text) sqlite3_result_error_nomem(f);
    return text;
}

static bool is_tail(char c) { return ((unsigned char)c & 0xc0) == 0x80; }

static void instr(sqlite3_context *f, int n, sqlite3_value **v)
{
    if (ends(f, n, v)) return;
    bool blobs = sqlite3_value_type(v[0]) == SQLITE_BLOB && sqlite3_value_type(v[1]) == SQLITE_BLOB;
    size_t bytes = 0, want = 0;
    const char *hay = blobs ? sqlite3_value_blob(v[0]) : text_of(f, v[0], &bytes),
               *needle = blobs ? sqlite3_value_blob(v[1]) : text_of(f, v[1], &want);
    if (blobs) { /* an empty one is NULL */
        bytes = (size_t)sqlite3_value_bytes(v[0]);
        want = (size_t)sqlite3_value_bytes(v[1]);
    } else if (!hay || !needle)
        return;
    if (want == 0 || bytes < want) {
        sqlite3_result_int(f, want == 0);
        return;
    }
    const char *at = memmem(hay, bytes, needle, want);
    sqlite3_int64 place = at ? 1 : 0;
    for (const char *c = hay; at && c < at; c++) place += blobs || !is_tail(*c);
    sqlite3_result_int64(f, place);
}

static void replace(sqlite3_context *f, int n, sqlite3_value **v)
{
    (void)n;
    if (ends(f, 2, v)) return;
    size_t bytes, want, with;
    const char *text = text_of(f, v[0], &bytes), *old = text_of(f, v[1], &want);
    if (!text || !old) return;
    if (want == 0) {
        sqlite3_result_text64(f, text, bytes, SQLITE_TRANSIENT, SQLITE_UTF8);
        return;
    }
    if (is_null(v[2])) return;
    const char *new = text_of(f, v[2], &with);
    if (!new) return;
    size_t count = 0;
    const char *end = text + bytes, *at;
    for (const char *c = text; (at = memmem(c, (size_t)(end - c), old, want)); c = at + want) count++;
    size_t size = bytes - count * want + count * with; /* each below 2^32 */
    if (size > RECO_WHERE_VALUE) {
        sqlite3_result_error_toobig(f);
        return;
    }
    char *out = sqlite3_malloc64(size + 1), *to = out;
    if (!out) {
        sqlite3_result_error_nomem(f);
        return;
    }
    for (const char *c = text; c; c = at ? at + want : NULL) {
        at = memmem(c, (size_t)(end - c), old, want);
        size_t keep = (size_t)((at ? at : end) - c);
        memcpy(to, c, keep);
        to += keep;
        if (at) {
            memcpy(to, new, with);
            to += with;
        }
    }
    sqlite3_result_text64(f, out, size, sqlite3_free, SQLITE_UTF8);
}

static const char *pattern_of(sqlite3_context *f, sqlite3_value *v, size_t *bytes)
{
    const char *pattern = text_of(f, v, bytes);
    if (!pattern || *bytes <= RECO_WHERE_PATTERN) return pattern;
    char error[64];
    snprintf(error, sizeof error, "a pattern of more than %d bytes", RECO_WHERE_PATTERN);
    sqlite3_result_error(f, error, -1);
    return NULL;
}

/* like(PATTERN, TEXT, ESCAPE) is TEXT LIKE PATTERN ESCAPE ESCAPE */
static void like(sqlite3_context *f, int n, sqlite3_value **v)
{
    if (ends(f, n, v)) return;
    size_t bytes, unused;
    const char *pattern = pattern_of(f, v[0], &bytes), *text = pattern ? text_of(f, v[1], &unused) : NULL;
    if (!text) return;
    unsigned escape = 0;
    if (n == 3) {
        const char *e = text_of(f, v[2], &bytes);
        if (!e) return;
        if (bytes != 1 || *e == '%') { /* sqlite3_strlike takes % for a wildcard first */
            sqlite3_result_error(f, "ESCAPE expression must be a single ASCII character, and not %", -1);
            return;
        }
        escape = (unsigned char)*e;
    }
    sqlite3_result_int(f, sqlite3_strlike(pattern, text, escape) == 0);
}

static void glob(sqlite3_context *f, int n, sqlite3_value **v)
{
    if (ends(f, n, v)) return;
    size_t bytes;
    const char *pattern = pattern_of(f, v[0], &bytes), *text = pattern ? text_of(f, v[1], &bytes) : NULL;
    if (text) sqlite3_result_int(f, sqlite3_strglob(pattern, text) == 0);
}

/* Bytes of the character of `set` that stands at the start or the end of text; 0: none does. */
static size_t edge(const char *text, size_t bytes, const char *set, size_t set_bytes, bool at_end)
{
    for (size_t i = 0, n; i < set_bytes; i += n) {
        for (n = 1; i + n < set_bytes && is_tail(set[i + n]);) n++;
        if (n <= bytes && memcmp(text + (at_end ? bytes - n : 0), set + i, n) == 0) return n;
    }
    return 0;
}

static void trim_ends(sqlite3_context *f, sqlite3_value **v, bool left, bool right)
{
    if (ends(f, 2, v)) return;
    size_t set_bytes, bytes, n;
    const char *set = pattern_of(f, v[1], &set_bytes), *text = set ? text_of(f, v[0], &bytes) : NULL;
    if (!text) return;
    while (left && (n = edge(text, bytes, set, set_bytes, false))) {
        text += n;
        bytes -= n;
    }
    while (right && (n = edge(text, bytes, set, set_bytes, true))) bytes -= n;
    sqlite3_result_text64(f, text, bytes, SQLITE_TRANSIENT, SQLITE_UTF8);
}

static void trim(sqlite3_context *f, int n, sqlite3_value **v)
{
    (void)n;
    trim_ends(f, v, true, true);
}

static void ltrim(sqlite3_context *f, int n, sqlite3_value **v)
{
    (void)n;
    trim_ends(f, v, true, false);
}

static void rtrim(sqlite3_context *f, int n, sqlite3_value **v)
{
    (void)n;
    trim_ends(f, v, false, true);
}

reco_status reco_where_functions(reco_ctx *ctx, reco_catalog *c)
{
    static const struct {
        const char *name;
        int arguments;
        void (*call)(sqlite3_context *f, int n, sqlite3_value **v);
    } functions[] = {{"instr", 2, instr}, {"replace", 3, replace}, {"like", 2, like},
                     {"like", 3, like},   {"glob", 2, glob},       {"trim", 2, trim},
                     {"ltrim", 2, ltrim}, {"rtrim", 2, rtrim}};
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (sqlite3_create_function(c->db, functions[i].name, functions[i].arguments,
                                    SQLITE_UTF8 | SQLITE_DETERMINISTIC, c, functions[i].call, NULL,
                                    NULL) != SQLITE_OK)
            return reco_catalog_fail(ctx, c);
    c->has_where = true;
    return RECO_OK;
}
