#include "bank/catalog/sqlite.h"

#include <errno.h>

/* ---- errors ---- */

static reco_status status_of(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_NOMEM:
        return RECO_E_NOMEM;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return RECO_E_BUSY;
    case SQLITE_CANTOPEN:
    case SQLITE_IOERR:
    case SQLITE_FULL:
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_PROTOCOL:
        return RECO_E_IO;
    case SQLITE_MISUSE:
    case SQLITE_RANGE:
    case SQLITE_INTERNAL:
        return RECO_E_INTERNAL;
    default:
        return RECO_E_FORMAT; /* damage, or a schema that is not ours */
    }
}

reco_status reco_catalog_fail(reco_ctx *ctx, reco_catalog *c)
{
    int rc = c->db ? sqlite3_errcode(c->db) : SQLITE_NOMEM, error = c->db ? sqlite3_system_errno(c->db) : 0;
    reco_status status = status_of(rc);
    const char *text = c->db ? sqlite3_errmsg(c->db) : sqlite3_errstr(rc);
    if ((rc & 0xff) == SQLITE_FULL) error = ENOSPC;
    if (status != RECO_E_IO || error == 0) return reco_fail(ctx, status, "%s: %s", c->file, text);
    errno = error;
    return reco_fail_errno(ctx, status, "%s: %s", c->file, text);
}

/* ---- statements ---- */

reco_status reco_catalog_prepare(reco_ctx *ctx, reco_catalog *c, reco_sql which, sqlite3_stmt **out)
{
    sqlite3_stmt **s = &c->statements[which];
    const char *sql = reco_catalog_sql[which];
    *out = NULL;
    for (const reco_sql_text *t = reco_catalog_old_sql; c->format < 3 && t->sql; t++)
        if (t->first == (int)which) sql = t->sql;
    if (!*s && sqlite3_prepare_v3(c->db, sql, -1, SQLITE_PREPARE_PERSISTENT, s, NULL) != 0)
        return reco_catalog_fail(ctx, c);
    sqlite3_reset(*s);
    sqlite3_clear_bindings(*s);
    *out = *s;
    return RECO_OK;
}

reco_status reco_catalog_step(reco_ctx *ctx, reco_catalog *c, sqlite3_stmt *s, bool *row)
{
    int rc = sqlite3_step(s);
    *row = rc == SQLITE_ROW;
    if (*row) return RECO_OK;
    reco_status status = rc == SQLITE_DONE ? RECO_OK : reco_catalog_fail(ctx, c);
    sqlite3_reset(s);
    return status;
}

reco_status reco_catalog_run(reco_ctx *ctx, reco_catalog *c, sqlite3_stmt *s)
{
    bool row;
    reco_status status = reco_catalog_step(ctx, c, s, &row);
    if (row) sqlite3_reset(s);
    return status;
}

reco_status reco_catalog_exec(reco_ctx *ctx, reco_catalog *c, const char *sql)
{
    return sqlite3_exec(c->db, sql, NULL, NULL, NULL) == SQLITE_OK ? RECO_OK : reco_catalog_fail(ctx, c);
}

reco_status reco_catalog_int(reco_ctx *ctx, reco_catalog *c, sqlite3_stmt *s, int column, const char *what,
                             int64_t lo, int64_t hi, int64_t *out)
{
    *out = sqlite3_column_int64(s, column);
    if (sqlite3_column_type(s, column) == SQLITE_INTEGER && *out >= lo && *out <= hi) return RECO_OK;
    return reco_fail(ctx, RECO_E_FORMAT, "%s: %s = %lld, want %lld..%lld", c->file, what, (long long)*out,
                     (long long)lo, (long long)hi);
}

reco_status reco_catalog_text(reco_ctx *ctx, reco_catalog *c, sqlite3_stmt *s, int column, const char *what,
                              size_t room, char *out)
{
    bool is_text = sqlite3_column_type(s, column) == SQLITE_TEXT;
    const void *text = is_text ? sqlite3_column_text(s, column) : NULL;
    if (is_text && !text) return reco_catalog_fail(ctx, c);
    size_t bytes = (size_t)sqlite3_column_bytes(s, column);
    if (!is_text || bytes >= room || memchr(text, 0, bytes))
        return reco_fail(ctx, RECO_E_FORMAT, "%s: %s is not a text of less than %zu bytes", c->file, what,
                         room);
    memcpy(out, text, bytes);
    out[bytes] = 0;
    return RECO_OK;
}
