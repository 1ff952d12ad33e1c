#include "bank/catalog/where_text.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

/* A condition is a stranger's text. Four walls, each enough for most of what could be tried:
 *   - its tokens: one pair of parentheses goes around it, and nothing in it can close that (where_text.c);
 *   - the authorizer: it reads this snapshot's pairs and arrays of their JSON, and calls functions that compute;
 *   - limits on steps, time and the size of a value, and a look at the clock before each slow call (where_functions.c);
 *   - the connection: read-only, or with nothing pending but the writer's own notes.
 * Deleted rows (or the others) are hidden by a common table expression that takes the place of the table, in subqueries too. */
static const char query[] = "WITH pair(id, caption, uri, meta) AS NOT MATERIALIZED "
                            "(SELECT id, caption, uri, meta FROM main.pair WHERE %s deleted) "
                            "SELECT id FROM pair WHERE id >= ?1 AND (\n%s\n) ORDER BY id";

#define MAX_VALUE                                                                                          \
    (RECO_BANK_META_MAX + RECO_CAPTION_MAX + RECO_BANK_URI_MAX + 4096) /* bytes: a whole row, no more */
#define MAX_VALUES                                                                                         \
    ((size_t)128 << 20) /* bytes of all values that are held at once, so each may be smaller */
/* An honest condition takes some 10 to 1,000 of SQLite's steps a row; 10^8 of them are a second or two. */
#define STEPS 100000000u
#define STEPS_PER_ROW 2000u
#define SECONDS 10.0
#define SECONDS_PER_ROW 200e-6
#define STEPS_PER_CHECK 2048

/* SQLite's messages may quote the condition; ours are one line. */
static reco_status refuse(reco_ctx *ctx, const char *reason)
{
    char line[240];
    snprintf(line, sizeof line, "%s", reason);
    for (char *c = line; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f) *c = ' ';
    return reco_fail(ctx, RECO_E_ARG, "where: %s", line);
}

/* ---- what may be read and called ---- */

/* All that computes, and nothing that makes bytes from nothing (zeroblob), gathers more than a value may hold
 * (json_group_array) or takes quadratic time unguarded (json_patch, unhex). */
static const char functions[] =
    " -> ->> abs acos acosh asin asinh atan atan2 atanh avg ceil ceiling char coalesce "
    "cos cosh count current_date current_time current_timestamp date datetime degrees "
    "exp floor glob group_concat hex ifnull iif instr json json_array json_array_length "
    "json_error_position json_extract json_insert json_object json_quote json_remove "
    "json_replace json_set json_type json_valid julianday length like likelihood likely "
    "ln log log10 log2 lower ltrim max min mod nullif octet_length pi pow power quote "
    "radians random replace round rtrim sign sin sinh soundex sqrt strftime substr "
    "substring sum tan tanh time total trim trunc typeof unicode unixepoch unlikely "
    "upper reco_guard reco_note ";

static bool is_function(const char *name)
{
    char key[40];
    int n = snprintf(key, sizeof key, " %s ", name);
    for (char *c = key; *c; c++) *c = (char)tolower((unsigned char)*c);
    return n < (int)sizeof key && !strpbrk(name, " ") && strstr(functions, key);
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

static reco_status fail(reco_ctx *ctx, reco_catalog *c, reco_where_guard *g)
{
    if (g->stopped != RECO_OK) return g->stopped;
    if (g->refused[0]) return refuse(ctx, g->refused);
    switch (sqlite3_errcode(c->db) & 0xff) {
    case SQLITE_TOOBIG:
        return reco_fail(ctx, RECO_E_ARG, "where: a value of more than %d bytes", g->most_bytes);
    case SQLITE_ERROR:
        reco_where_missing(g, sqlite3_errmsg(c->db));
        return refuse(ctx, sqlite3_errmsg(c->db));
    case SQLITE_AUTH:
    case SQLITE_MISMATCH:
    case SQLITE_CONSTRAINT:
        return refuse(ctx, sqlite3_errmsg(c->db));
    default:
        return reco_catalog_fail(ctx, c);
    }
}

static reco_status prepare(reco_ctx *ctx, reco_catalog *c, reco_where_guard *g, const reco_where_query *q,
                           bool notes, sqlite3_stmt **out)
{
    const char *rest = NULL;
    char *condition = reco_where_rewrite(g->text, notes);
    char *text = condition ? reco_format(ctx, query, q->deleted ? "" : "NOT", condition) : NULL;
    free(condition);
    if (!text) return RECO_E_NOMEM;
    g->refused[0] = g->missing[0] = 0;
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

typedef struct visitor {
    reco_status (*visit)(reco_ctx *ctx, void *arg, int64_t id, bool *enough);
    void *arg;
    int64_t from; /* rows before it are done */
    bool failed;  /* in visit, not in the condition */
} visitor;

static reco_status run(reco_ctx *ctx, reco_catalog *c, reco_where_guard *g, const reco_where_query *q,
                       bool notes, visitor *v)
{
    sqlite3_stmt *s = NULL;
    reco_status status;
    RECO_GO(prepare(ctx, c, g, q, notes, &s));
    sqlite3_bind_int64(s, 1, v->from);
    for (bool enough = false; !enough;) {
        int rc = sqlite3_step(s);
        if (rc == SQLITE_DONE) break;
        if (rc != SQLITE_ROW) RECO_GO(fail(ctx, c, g));
        int64_t id = sqlite3_column_int64(s, 0);
        status = v->visit(ctx, v->arg, id, &enough);
        v->failed = status != RECO_OK;
        if (v->failed) goto out;
        v->from = id + 1;
    }
out:
    sqlite3_finalize(s);
    return status;
}

/* With notes first. Where SQLite will not have it so, since it has become too deep or a note looks at what the condition never
 * does, without them from there on: what is said then is of the condition as it was written. */
static reco_status run_both(reco_ctx *ctx, reco_catalog *c, reco_where_guard *g, const reco_where_query *q,
                            visitor *v)
{
    /* Met before the authorizer is there, these two are known to the connection for good. */
    RECO_TRY(reco_catalog_exec(ctx, c, "SELECT 1 FROM json_each('[]'), json_tree('[]')"));
    if (!c->has_where) RECO_TRY(reco_where_functions(ctx, c));
    reco_status status = run(ctx, c, g, q, true, v);
    if (status != RECO_OK && !v->failed && g->stopped == RECO_OK && !g->missing[0])
        status = run(ctx, c, g, q, false, v);
    if (g->missing[0]) {
        bool is;
        char message[240];
        snprintf(message, sizeof message, "%s", reco_ctx_error(ctx));
        RECO_TRY(reco_where_is_column(ctx, c, g->missing, &is));
        if (is) return RECO_E_ARG;
        g->missing[0] = 0;
        return reco_fail(ctx, RECO_E_ARG, "%s, and no row has a value with this name", message);
    }
    if (status != RECO_OK) return status;
    uint64_t said = reco_hash64(q->where, strlen(q->where), 1);
    size_t doubts =
        reco_where_doubts(said == c->said ? NULL : ctx, g->text); /* of a listing in pages, once */
    if (doubts) c->said = said;
    if (q->doubts) *q->doubts += doubts;
    return RECO_OK;
}

static reco_status run_guarded(reco_ctx *ctx, reco_catalog *c, reco_where_guard *g,
                               const reco_where_query *q, visitor *v)
{
    if (c->guard) return reco_fail(ctx, RECO_E_ARG, "where: a hook may not run a condition inside another");
    limit limits[] = {{SQLITE_LIMIT_LENGTH, g->most_bytes},
                      {SQLITE_LIMIT_COMPOUND_SELECT, 10},
                      {SQLITE_LIMIT_EXPR_DEPTH, 500}};
    c->guard = g;
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        limits[i].value = sqlite3_limit(c->db, limits[i].which, limits[i].value);
    sqlite3_progress_handler(c->db, STEPS_PER_CHECK, watch, g);
    reco_status status = run_both(ctx, c, g, q, v);
    sqlite3_progress_handler(c->db, 0, NULL, NULL);
    c->guard = NULL;
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        sqlite3_limit(c->db, limits[i].which, limits[i].value);
    return status;
}

static reco_status run_text(reco_ctx *ctx, reco_catalog *c, reco_where_guard *g, const char *where,
                            const reco_where_query *q, visitor *v)
{
    reco_status status = reco_where_cut(ctx, g->text, where);
    if (status == RECO_OK) status = reco_where_compare(ctx, g->text);
    if (status != RECO_OK) return status;
    g->most_bytes = (int)reco_min(MAX_VALUE, MAX_VALUES / reco_max(g->text->values, 1));
    pthread_mutex_lock(&c->turn);
    g->deadline = reco_now() + SECONDS + (double)q->rows * SECONDS_PER_ROW;
    status = run_guarded(ctx, c, g, q, v);
    pthread_mutex_unlock(&c->turn);
    return status;
}

reco_status reco_catalog_where(reco_ctx *ctx, reco_catalog *c, const reco_where_query *q,
                               reco_status (*visit)(reco_ctx *ctx, void *arg, int64_t id, bool *enough),
                               void *arg)
{
    visitor v = {.visit = visit, .arg = arg, .from = q->from};
    char *where = NULL, *longer;
    reco_status status;
    for (;;) {
        reco_where_text text;
        reco_where_guard g = {.ctx = ctx, .text = &text, .most_steps = STEPS + q->rows * STEPS_PER_ROW};
        status = run_text(ctx, c, &g, where ? where : q->where, q, &v);
        /* It ends: each name goes wherever it stands. */
        longer = g.missing[0] ? reco_where_extract(ctx, &text, g.missing) : NULL;
        reco_where_free(&text);
        if (!longer) break;
        reco_free(where);
        where = longer;
    }
    reco_free(where);
    return status;
}
