#include "io/toml.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#define MOST_BYTES ((size_t)1 << 20)
#define MOST_DEPTH 8
#define MOST_ENTRIES 4096

typedef struct parser {
    reco_ctx *ctx;
    const char *path, *p, *end;
    size_t line;
    char *table;
    char **tables; /* that were begun */
    size_t ntables;
} parser;

static reco_status fail_toml(const parser *s, const char *what)
{
    char shown[24] = "";
    size_t n = 0;
    while (s->p + n < s->end && n < sizeof shown - 4 && s->p[n] != '\n' && s->p[n] != '\r') n++;
    while (n > 0 && s->p + n < s->end && ((unsigned char)s->p[n] & 0xC0) == 0x80) n--;
    memcpy(shown, s->p, n);
    reco_text_clean(shown);
    if (*shown)
        return reco_fail(s->ctx, RECO_E_FORMAT, "%s:%zu: %s, at \"%s\"", s->path, s->line, what, shown);
    return reco_fail(s->ctx, RECO_E_FORMAT, "%s:%zu: %s, at the end of the %s", s->path, s->line, what,
                     s->p < s->end ? "line" : "file");
}

static void blanks(parser *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t')) s->p++;
}

/* Blanks and a comment up to the end of the line, which is not passed. */
static reco_status rest(parser *s)
{
    blanks(s);
    if (s->p < s->end && *s->p == '#')
        while (s->p < s->end && *s->p != '\n') {
            unsigned char c = (unsigned char)*s->p;
            if ((c < 32 && c != '\t' && c != '\r') || c == 127)
                return fail_toml(s, "a control character in a comment");
            s->p++;
        }
    if (s->p + 1 < s->end && s->p[0] == '\r' && s->p[1] == '\n') s->p++;
    return s->p == s->end || *s->p == '\n' ? RECO_OK : fail_toml(s, "want the end of the line");
}

static void next_line(parser *s)
{
    if (s->p == s->end) return;
    s->p++;
    s->line++;
}

/* ---- strings ---- */

static size_t put_utf8(char *out, uint32_t c)
{
    if (c < 0x80) return out[0] = (char)c, (size_t)1;
    if (c < 0x800) {
        out[0] = (char)(0xC0 | c >> 6);
        out[1] = (char)(0x80 | (c & 63));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 63));
        out[2] = (char)(0x80 | (c & 63));
        return 3;
    }
    out[0] = (char)(0xF0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 63));
    out[2] = (char)(0x80 | (c >> 6 & 63));
    out[3] = (char)(0x80 | (c & 63));
    return 4;
}

static reco_status read_toml_escape(parser *s, char *out, size_t *n)
{
    static const char from[] = "btnfr\"\\", to[] = "\b\t\n\f\r\"\\";
    const char *known = s->p < s->end && *s->p ? strchr(from, *s->p) : NULL;
    if (known) {
        out[(*n)++] = to[known - from];
        s->p++;
        return RECO_OK;
    }
    size_t digits = s->p < s->end && *s->p == 'u' ? 4 : s->p < s->end && *s->p == 'U' ? 8 : 0;
    uint32_t c = 0;
    if (!digits || (size_t)(s->end - s->p) <= digits) return fail_toml(s, "no such escape in a string");
    for (size_t i = 1; i <= digits; i++) {
        char h = s->p[i];
        int v = h >= '0' && h <= '9'   ? h - '0'
                : h >= 'a' && h <= 'f' ? h - 'a' + 10
                : h >= 'A' && h <= 'F' ? h - 'A' + 10
                                       : -1;
        if (v < 0) return fail_toml(s, "no such escape in a string");
        c = c << 4 | (uint32_t)v;
    }
    if (c == 0 || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000))
        return fail_toml(s, "an escape that is not a character");
    *n += put_utf8(out + *n, c);
    s->p += digits + 1;
    return RECO_OK;
}

/* A string of one line, which s->p begins with the quote of; free with reco_free. */
static reco_status string(parser *s, char **out)
{
    char quote = *s->p;
    if (s->end - s->p >= 3 && s->p[1] == quote && s->p[2] == quote)
        return fail_toml(s, "strings of several lines are not supported; want one line");
    const char *begin = s->p++;
    size_t n = 0;
    char *text = reco_alloc(s->ctx, (size_t)(s->end - begin) + 1, 1, "string");
    reco_status status = RECO_E_NOMEM;
    if (!text) goto out;
    for (;;) {
        unsigned char c = s->p < s->end ? (unsigned char)*s->p : '\n';
        if (c == '\n' || c == '\r') {
            s->p = begin;
            RECO_GO(fail_toml(s, "a string that does not end on its line"));
        }
        if ((c < 32 && c != '\t') || c == 127) RECO_GO(fail_toml(s, "a control character in a string"));
        s->p++;
        if (c == (unsigned char)quote) break;
        if (c == '\\' && quote == '"')
            RECO_GO(read_toml_escape(s, text, &n));
        else
            text[n++] = (char)c;
    }
    *out = text;
    return RECO_OK;
out:
    reco_free(text);
    return status;
}

/* ---- values ---- */

static bool bare(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
}

static size_t digits_at(const char *text) { return strspn(text, "0123456789"); }

/* TOML's decimal numbers, underscores gone: no 0 in front, digits to either side of the point. */
static bool is_decimal(const char *text)
{
    size_t n;
    text += *text == '+' || *text == '-';
    if ((n = digits_at(text)) == 0 || (*text == '0' && n > 1)) return false;
    text += n;
    if (*text == '.') {
        if ((n = digits_at(++text)) == 0) return false;
        text += n;
    }
    if (*text == 'e' || *text == 'E') {
        text++;
        text += *text == '+' || *text == '-';
        if ((n = digits_at(text)) == 0) return false;
        text += n;
    }
    return !*text;
}

/* Underscores stand between digits. */
static reco_status read_toml_number(parser *s, json_t **out)
{
    char text[64];
    size_t n = 0, taken = 0;
    bool whole = true, good = true;
    while (s->p + taken < s->end && (bare(s->p[taken]) || strchr("+.:", s->p[taken])) && s->p[taken])
        taken++;
    for (size_t i = 0; i < taken && good; i++) {
        char c = s->p[i];
        if (c == '_') {
            good = i > 0 && i + 1 < taken && s->p[i - 1] >= '0' && s->p[i - 1] <= '9' &&
                   s->p[i + 1] >= '0' && s->p[i + 1] <= '9';
            continue;
        }
        if (n + 1 == sizeof text) return fail_toml(s, "a number of too many digits");
        whole = whole && c != '.' && c != 'e' && c != 'E';
        text[n++] = c;
    }
    text[n] = 0;
    if (!good || !is_decimal(text))
        return fail_toml(s, "want a string in quotes, a number, true, false or an array");
    errno = 0;
    if (whole) {
        long long v = strtoll(text, NULL, 10);
        if (errno) return fail_toml(s, "a number out of range");
        *out = json_integer(v);
    } else {
        double v = strtod(text, NULL);
        if (!isfinite(v)) return fail_toml(s, "a number out of range");
        *out = json_real(v);
    }
    s->p += taken;
    return *out ? RECO_OK : reco_fail_nomem(s->ctx, 64, "number");
}

static bool word(parser *s, const char *text)
{
    size_t n = strlen(text);
    if ((size_t)(s->end - s->p) < n || memcmp(s->p, text, n) != 0) return false;
    if ((size_t)(s->end - s->p) > n && bare(s->p[n])) return false;
    s->p += n;
    return true;
}

/* Blanks, comments and ends of lines within an array. */
static reco_status space(parser *s)
{
    for (;;) {
        blanks(s);
        bool ends = s->p < s->end && (*s->p == '\n' || *s->p == '\r' || *s->p == '#');
        if (!ends) return RECO_OK;
        RECO_TRY(rest(s));
        next_line(s);
    }
}

static reco_status value(parser *s, json_t **out, int depth);

static reco_status array(parser *s, json_t **out, int depth)
{
    if (depth == MOST_DEPTH) return fail_toml(s, "arrays nested too deeply");
    reco_status status = RECO_OK;
    json_t *list = json_array(), *item = NULL;
    if (!list) return reco_fail_nomem(s->ctx, 64, "array");
    s->p++;
    for (;;) {
        RECO_GO(space(s));
        if (s->p < s->end && *s->p == ']') break;
        RECO_GO(value(s, &item, depth + 1));
        if (json_array_append_new(list, item) != 0) RECO_GO(reco_fail_nomem(s->ctx, 64, "array"));
        RECO_GO(space(s));
        if (s->p < s->end && *s->p == ']') break;
        if (s->p == s->end || *s->p != ',') RECO_GO(fail_toml(s, "want , or ] in an array"));
        s->p++;
    }
    s->p++;
    *out = list;
    return RECO_OK;
out:
    json_decref(list);
    return status;
}

static reco_status value(parser *s, json_t **out, int depth)
{
    if (s->p < s->end && (*s->p == '"' || *s->p == '\'')) {
        char *text = NULL;
        RECO_TRY(string(s, &text));
        *out = json_string(text);
        reco_free(text);
        return *out ? RECO_OK : reco_fail_nomem(s->ctx, 64, "string");
    }
    if (s->p < s->end && *s->p == '[') return array(s, out, depth);
    if (s->p < s->end && *s->p == '{') return fail_toml(s, "inline tables are not supported; want [TABLE]");
    if (word(s, "true")) return *out = json_true(), RECO_OK;
    if (word(s, "false")) return *out = json_false(), RECO_OK;
    return read_toml_number(s, out);
}

/* ---- keys and tables ---- */

static reco_status key(parser *s, char **out)
{
    if (s->p < s->end && (*s->p == '"' || *s->p == '\'')) return string(s, out);
    size_t n = 0;
    while (s->p + n < s->end && bare(s->p[n])) n++;
    if (!n) return fail_toml(s, "want a key");
    *out = reco_format(s->ctx, "%.*s", (int)n, s->p);
    s->p += n;
    return *out ? RECO_OK : RECO_E_NOMEM;
}

static reco_status header(parser *s)
{
    reco_free(s->table);
    s->table = NULL;
    s->p++;
    if (s->p < s->end && *s->p == '[')
        return fail_toml(s, "arrays of tables are not supported; want [TABLE]");
    blanks(s);
    RECO_TRY(key(s, &s->table));
    blanks(s);
    if (s->p < s->end && *s->p == '.')
        return fail_toml(s, "tables within tables are not supported; want [TABLE]");
    if (s->p == s->end || *s->p != ']') return fail_toml(s, "want ] after the name of a table");
    s->p++;
    for (size_t i = 0; i < s->ntables; i++)
        if (strcmp(s->tables[i], s->table) == 0)
            return reco_fail(s->ctx, RECO_E_FORMAT, "%s:%zu: table [%s] occurs twice", s->path, s->line,
                             s->table);
    if (s->ntables == MOST_ENTRIES) return fail_toml(s, "too many tables");
    s->tables[s->ntables] = reco_strdup(s->ctx, s->table);
    return s->tables[s->ntables++] ? RECO_OK : RECO_E_NOMEM;
}

static reco_status pair(parser *s, reco_toml *toml)
{
    if (toml->n == MOST_ENTRIES) return fail_toml(s, "too many keys");
    reco_toml_entry *e = &toml->entries[toml->n];
    e->line = s->line;
    e->table = reco_strdup(s->ctx, s->table ? s->table : "");
    toml->n++; /* freed with the others from here on */
    if (!e->table) return RECO_E_NOMEM;
    RECO_TRY(key(s, &e->key));
    blanks(s);
    if (s->p < s->end && *s->p == '.') return fail_toml(s, "dotted keys are not supported; want [TABLE]");
    if (s->p == s->end || *s->p != '=') return fail_toml(s, "want = after a key");
    s->p++;
    blanks(s);
    for (size_t i = 0; i + 1 < toml->n; i++)
        if (strcmp(toml->entries[i].table, e->table) == 0 && strcmp(toml->entries[i].key, e->key) == 0)
            return reco_fail(s->ctx, RECO_E_FORMAT, "%s:%zu: key \"%s\" occurs twice, first in line %zu",
                             s->path, s->line, e->key, toml->entries[i].line);
    return value(s, &e->value, 0);
}

reco_status reco_toml_read(reco_ctx *ctx, reco_toml *toml, const char *path)
{
    *toml = (reco_toml){0};
    char *text = NULL;
    size_t bytes = 0;
    parser s = {.ctx = ctx, .path = path, .line = 1};
    reco_status status = reco_read_file(ctx, &text, &bytes, path, MOST_BYTES);
    if (status != RECO_OK) goto out;
    if (reco_utf8_errors(text, bytes)) RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s: is not UTF-8", path));
    toml->entries = reco_alloc(ctx, MOST_ENTRIES, sizeof *toml->entries, "configuration");
    s.tables = reco_alloc(ctx, MOST_ENTRIES, sizeof *s.tables, "configuration");
    if (!toml->entries || !s.tables) RECO_GO(RECO_E_NOMEM);
    s.p = text;
    s.end = text + bytes;
    if (bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) s.p += 3;
    while (s.p < s.end) {
        blanks(&s);
        bool empty = s.p == s.end || *s.p == '\n' || *s.p == '\r' || *s.p == '#';
        if (!empty && *s.p == '[')
            RECO_GO(header(&s));
        else if (!empty)
            RECO_GO(pair(&s, toml));
        RECO_GO(rest(&s));
        next_line(&s);
    }
out:
    for (size_t i = 0; i < s.ntables; i++) reco_free(s.tables[i]);
    reco_free(s.tables);
    reco_free(s.table);
    reco_free(text);
    return status;
}

void reco_toml_free(reco_toml *toml)
{
    for (size_t i = 0; i < toml->n; i++) {
        reco_free(toml->entries[i].table);
        reco_free(toml->entries[i].key);
        json_decref(toml->entries[i].value);
    }
    reco_free(toml->entries);
    *toml = (reco_toml){0};
}
