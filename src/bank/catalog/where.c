#include "bank/catalog/sqlite.h"

#include <ctype.h>
#include <stdio.h>

/* A condition is a stranger's text. Four walls, each enough for most of what could be tried:
 *   - its tokens: one pair of parentheses goes around it, and nothing in it can close that;
 *   - the authorizer: it reads this snapshot's pairs and arrays of their JSON, and calls functions that compute;
 *   - limits on steps, time and the size of a value;
 *   - the connection: read-only, or with nothing pending but the writer's own notes.
 * Deleted rows are hidden by a common table expression that takes the place of the table, in subqueries too. */
static const char head[] = "WITH pair(id, caption, uri, meta) AS NOT MATERIALIZED "
                           "(SELECT id, caption, uri, meta FROM main.pair WHERE NOT deleted) "
                           "SELECT id FROM pair WHERE id >= ?1 AND (\n";
static const char tail[] = "\n) ORDER BY id";

#define MAX_TEXT ((size_t)512 << 10)
#define MAX_CALLS 1000 /* between two looks at the clock, in the worst case */
/* An honest condition takes some 10 to 1,000 of SQLite's steps a row; 10^8 of them are a second or two. */
#define STEPS 100000000u
#define STEPS_PER_ROW 2000u
#define SECONDS 10.0
#define SECONDS_PER_ROW 200e-6
#define STEPS_PER_CHECK 2048
#define SECONDS_PER_LOOK 0.05

/* SQLite's messages may quote the condition; ours are one line. */
static reco_status refuse(reco_ctx *ctx, const char *reason)
{
    char line[240];
    snprintf(line, sizeof line, "%s", reason);
    for (char *c = line; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f) *c = ' ';
    return reco_fail(ctx, RECO_E_ARG, "where: %s", line);
}

/* ---- tokens, as SQLite cuts them ---- */

#define MARK "\xef\xbb\xbf" /* a byte order mark is a blank where a token could begin */

static bool is_quote(char c) { return c && strchr("'\"`[", c); }

/* Behind the quoted text that begins at c; NULL when it has no end. */
static const char *skip_quoted(const char *c)
{
    char quote = *c == '[' ? ']' : *c;
    for (c++; *c; c++) {
        if (*c != quote) continue;
        if (quote == ']' || c[1] != quote) return c + 1;
        c++; /* doubled: stands for one */
    }
    return NULL;
}

/* Behind the token that begins at c; where only quotes and names matter, any other character is one. */
static const char *skip_token(const char *c)
{
    if (is_quote(*c)) return skip_quoted(c);
    if (strncmp(c, MARK, 3) == 0) return c + 3;
    const char *end = c;
    while (isalnum((unsigned char)*end) || *end == '_' || (unsigned char)*end >= 0x80) end++;
    return end > c ? end : c + 1;
}

/* Is this token a schema's name? "main.pair" would be the table itself, with the deleted rows. */
static bool is_schema(const char *token, const char *end)
{
    size_t quoted = is_quote(*token);
    if ((size_t)(end - token) != 4 + 2 * quoted || sqlite3_strnicmp(token + quoted, "main", 4) != 0)
        return false;
    return end[strspn(end, " \t\n\v\f\r" MARK)] == '.';
}

static reco_status check_tokens(reco_ctx *ctx, const char *where)
{
    size_t depth = 0, calls = 0, bytes = strnlen(where, MAX_TEXT + 1);
    if (bytes > MAX_TEXT) return reco_fail(ctx, RECO_E_ARG, "where: more than %zu bytes", MAX_TEXT);
    if (strspn(where, " \t\r\n\f") == bytes) return refuse(ctx, "empty, want an SQL condition");
    for (const char *c = where, *end; *c; c = end) {
        if (!(end = skip_token(c))) return refuse(ctx, "a quote is never closed");
        if (is_schema(c, end)) return refuse(ctx, "\"main.\" is not allowed, want pair by itself");
        if (is_quote(*c)) continue;
        if ((c[0] == '-' && c[1] == '-') || (c[0] == '/' && c[1] == '*'))
            return refuse(ctx, "comments are not allowed");
        if (*c == ';') return refuse(ctx, "\";\" is not allowed: want one condition, no statements");
        if (strchr("?$:@#", *c))
            return refuse(ctx, "parameters (? $ : @ #) are not allowed outside of quotes");
        if (*c == '(') depth++;
        calls += *c == '(' || (c[0] == '-' && c[1] == '>');
        if (*c == ')' && depth-- == 0) return refuse(ctx, "\")\" without \"(\"");
    }
    if (depth) return refuse(ctx, "\"(\" without \")\"");
    if (calls > MAX_CALLS)
        return reco_fail(ctx, RECO_E_ARG, "where: %zu of \"(\" and \"->\", want at most %d", calls,
                         MAX_CALLS);
    return RECO_OK;
}

/* ---- what may be read and called ---- */

/* All that computes, and nothing that makes bytes from nothing or takes quadratic time (json_patch). Sorted. */
static const char *const functions[] = {"->",
                                        "->>",
                                        "abs",
                                        "acos",
                                        "acosh",
                                        "asin",
                                        "asinh",
                                        "atan",
                                        "atan2",
                                        "atanh",
                                        "avg",
                                        "ceil",
                                        "ceiling",
                                        "char",
                                        "coalesce",
                                        "cos",
                                        "cosh",
                                        "count",
                                        "current_date",
                                        "current_time",
                                        "current_timestamp",
                                        "date",
                                        "datetime",
                                        "degrees",
                                        "exp",
                                        "floor",

                                        "glob",
                                        "group_concat",
                                        "hex",
                                        "ifnull",
                                        "iif",
                                        "instr",
                                        "json",
                                        "json_array",
                                        "json_array_length",
                                        "json_error_position",
                                        "json_extract",
                                        "json_group_array",
                                        "json_group_object",
                                        "json_insert",
                                        "json_object",
                                        "json_quote",
                                        "json_remove",
                                        "json_replace",
                                        "json_set",
                                        "json_type",
                                        "json_valid",
                                        "julianday",
                                        "length",
                                        "like",
                                        "likelihood",
                                        "likely",
                                        "ln",
                                        "log",
                                        "log10",
                                        "log2",
                                        "lower",
                                        "ltrim",
                                        "max",
                                        "min",
                                        "mod",
                                        "nullif",
                                        "octet_length",
                                        "pi",
                                        "pow",
                                        "power",

                                        "quote",
                                        "radians",
                                        "random",
                                        "replace",
                                        "round",
                                        "rtrim",
                                        "sign",
                                        "sin",
                                        "sinh",
                                        "soundex",
                                        "sqrt",
                                        "strftime",
                                        "substr",
                                        "substring",
                                        "sum",
                                        "tan",
                                        "tanh",
                                        "time",
                                        "total",
                                        "trim",
                                        "trunc",
                                        "typeof",
                                        "unhex",
                                        "unicode",
                                        "unixepoch",
                                        "unlikely",
                                        "upper"};

static bool is_function(const char *name)
{
    size_t lo = 0, hi = sizeof functions / sizeof *functions;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int order = sqlite3_stricmp(name, functions[mid]);
        if (order == 0) return true;
        if (order < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return false;
}

static bool is_column(const char *name)
{
    /* "deleted" is asked for by our own part of the statement; "" by count(*). */
    static const char *const columns[] = {"id", "caption", "uri", "meta", "deleted", "rowid", ""};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        if (sqlite3_stricmp(name, columns[i]) == 0) return true;
    return false;
}

static const char *action_name(int action)
{
    switch (action) {
    case SQLITE_RECURSIVE:
        return "recursion";
    case SQLITE_UPDATE: /* SQLite asks this when it first meets one */
        return "a table-valued function other than json_each and json_tree";
    case SQLITE_PRAGMA:
        return "PRAGMA";
    case SQLITE_ATTACH:
    case SQLITE_DETACH:
        return "ATTACH";
    case SQLITE_TRANSACTION:
    case SQLITE_SAVEPOINT:
        return "a transaction";
    default:
        return "anything but reading";
    }
}

static int authorize(void *arg, int action, const char *a, const char *b, const char *database,
                     const char *trigger)
{
    reco_where_guard *g = arg;
    (void)trigger;
    const char *table = a ? a : "", *name = b ? b : "";
    if (action == SQLITE_SELECT) return SQLITE_OK;
    if (action == SQLITE_FUNCTION) {
        if (is_function(name)) return SQLITE_OK;
        snprintf(g->refused, sizeof g->refused, "function %.60s is not allowed", name);
        return SQLITE_DENY;
    }
    if (action == SQLITE_READ) {
        bool ours = database && strcmp(database, "main") == 0 && sqlite3_stricmp(table, "pair") == 0;
        if (sqlite3_stricmp(table, "json_each") == 0 || sqlite3_stricmp(table, "json_tree") == 0)
            return SQLITE_OK;
        if (ours && is_column(name)) return SQLITE_OK;
        snprintf(
            g->refused, sizeof g->refused,
            ours ? "column %.60s is not allowed, want id, caption, uri or meta"
                 : "table %.60s is not allowed, want pair (id, caption, uri, meta), json_each or json_tree",
            ours ? name : table);
        return SQLITE_DENY;
    }
    snprintf(g->refused, sizeof g->refused, "%s is not allowed", action_name(action));
    return SQLITE_DENY;
}

bool reco_where_late(reco_where_guard *g)
{
    double now = reco_now();
    if (now > g->deadline || g->steps > g->most_steps) {
        snprintf(g->refused, sizeof g->refused, "takes too long: stopped after %llu steps of SQLite's",
                 (unsigned long long)g->steps);
        return true;
    }
    if (now - g->asked >= SECONDS_PER_LOOK) {
        g->asked = now;
        g->stopped = reco_progress(g->ctx, "filtering", g->steps, 0);
    }
    return g->stopped != RECO_OK;
}

static int watch(void *arg)
{
    reco_where_guard *g = arg;
    g->steps += STEPS_PER_CHECK;
    return reco_where_late(g);
}

/* ---- the query ---- */

typedef struct limit {
    int which, value;
} limit;

static reco_status fail(reco_ctx *ctx, reco_catalog *c, const reco_where_guard *g)
{
    if (g->stopped != RECO_OK) return g->stopped;
    if (g->refused[0]) return refuse(ctx, g->refused);
    switch (sqlite3_errcode(c->db) & 0xff) {
    case SQLITE_TOOBIG:
        return reco_fail(ctx, RECO_E_ARG, "where: a value of more than %d bytes", RECO_WHERE_VALUE);
    case SQLITE_ERROR:
    case SQLITE_AUTH:
    case SQLITE_MISMATCH:
    case SQLITE_CONSTRAINT:
        return refuse(ctx, sqlite3_errmsg(c->db));
    default:
        return reco_catalog_fail(ctx, c);
    }
}

static reco_status prepare(reco_ctx *ctx, reco_catalog *c, reco_where_guard *g, const char *where,
                           sqlite3_stmt **out)
{
    const char *rest = NULL;
    /* Met before the authorizer is there, these two are known to the connection for good. */
    RECO_TRY(reco_catalog_exec(ctx, c, "SELECT 1 FROM json_each('[]'), json_tree('[]')"));
    char *text = reco_format(ctx, "%s%s%s", head, where, tail);
    if (!text) return RECO_E_NOMEM;
    sqlite3_set_authorizer(c->db, authorize, g);
    int rc = sqlite3_prepare_v2(c->db, text, -1, out, &rest);
    sqlite3_set_authorizer(c->db, NULL, NULL);
    reco_status status = rc == SQLITE_OK ? RECO_OK : fail(ctx, c, g);
    /* The tokens say that this can't be. */
    if (status == RECO_OK && (!*out || *rest || !sqlite3_stmt_readonly(*out)))
        status = refuse(ctx, "want one condition");
    reco_free(text);
    return status;
}

reco_status reco_catalog_where(reco_ctx *ctx, reco_catalog *c, const char *where, int64_t from,
                               uint64_t rows,
                               reco_status (*visit)(reco_ctx *ctx, void *arg, int64_t id, bool *enough),
                               void *arg)
{
    limit limits[] = {{SQLITE_LIMIT_LENGTH, RECO_WHERE_VALUE},
                      {SQLITE_LIMIT_COMPOUND_SELECT, 10},
                      {SQLITE_LIMIT_EXPR_DEPTH, 500}};
    reco_where_guard g = {.ctx = ctx,
                          .most_steps = STEPS + rows * STEPS_PER_ROW,
                          .deadline = reco_now() + SECONDS + (double)rows * SECONDS_PER_ROW};
    sqlite3_stmt *s = NULL;
    RECO_TRY(check_tokens(ctx, where));
    if (!c->has_where) RECO_TRY(reco_where_functions(ctx, c));
    reco_status status;
    c->guard = &g;
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        limits[i].value = sqlite3_limit(c->db, limits[i].which, limits[i].value);
    sqlite3_progress_handler(c->db, STEPS_PER_CHECK, watch, &g);
    RECO_GO(prepare(ctx, c, &g, where, &s));
    sqlite3_bind_int64(s, 1, from);
    for (bool enough = false; !enough;) {
        int rc = sqlite3_step(s);
        if (rc == SQLITE_DONE) break;
        if (rc != SQLITE_ROW) RECO_GO(fail(ctx, c, &g));
        RECO_GO(visit(ctx, arg, sqlite3_column_int64(s, 0), &enough));
    }
out:
    sqlite3_finalize(s);
    sqlite3_progress_handler(c->db, 0, NULL, NULL);
    c->guard = NULL;
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        sqlite3_limit(c->db, limits[i].which, limits[i].value);
    return status;
}
