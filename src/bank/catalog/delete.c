#include "bank/catalog/sqlite.h"

/* Like what is staged, what is picked lies in a temporary table: SQLite spills it to a file that vanishes with the
 * process. */
reco_status reco_catalog_pick_none(reco_ctx *ctx, reco_catalog *c)
{
    return reco_catalog_exec(ctx, c,
                             "CREATE TEMP TABLE IF NOT EXISTS picked(id INTEGER PRIMARY KEY); "
                             "DELETE FROM temp.picked");
}

static reco_status run(reco_ctx *ctx, reco_catalog *c, sqlite3_stmt *s, uint64_t *picked)
{
    RECO_TRY(reco_catalog_run(ctx, c, s));
    *picked = (uint64_t)sqlite3_changes(c->db);
    return RECO_OK;
}

reco_status reco_catalog_pick_id(reco_ctx *ctx, reco_catalog *c, int64_t id, uint64_t *picked)
{
    sqlite3_stmt *s;
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_PICK_ID, &s));
    sqlite3_bind_int64(s, 1, id);
    return run(ctx, c, s, picked);
}

reco_status reco_catalog_pick_uri(reco_ctx *ctx, reco_catalog *c, const char *uri, uint64_t *picked)
{
    sqlite3_stmt *s;
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_PICK_URI, &s));
    sqlite3_bind_text(s, 1, uri, -1, SQLITE_STATIC);
    return run(ctx, c, s, picked);
}

reco_status reco_catalog_picked(reco_ctx *ctx, reco_catalog *c, int64_t from, size_t max, int64_t *ids,
                                size_t *n)
{
    sqlite3_stmt *s;
    reco_status status;
    *n = 0;
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_PICKED, &s));
    sqlite3_bind_int64(s, 1, from);
    sqlite3_bind_int64(s, 2, (int64_t)reco_min(max, INT64_MAX));
    for (;;) {
        bool row;
        RECO_GO(reco_catalog_step(ctx, c, s, &row));
        if (!row || *n == max) break;
        ids[(*n)++] = sqlite3_column_int64(s, 0);
    }
out:
    sqlite3_reset(s);
    return status;
}

static reco_status mark(reco_ctx *ctx, reco_catalog *c, uint64_t *deleted)
{
    sqlite3_stmt *s;
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_DELETE_PICKED, &s));
    RECO_TRY(reco_catalog_run(ctx, c, s));
    *deleted = (uint64_t)sqlite3_changes(c->db);
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_COUNT_DELETED, &s));
    sqlite3_bind_int64(s, 1, (int64_t)*deleted);
    RECO_TRY(reco_catalog_run(ctx, c, s));
    return reco_catalog_exec(ctx, c, "DELETE FROM temp.picked");
}

reco_status reco_catalog_delete_picked(reco_ctx *ctx, reco_catalog *c, uint64_t *deleted)
{
    RECO_TRY(reco_catalog_exec(ctx, c, "BEGIN IMMEDIATE"));
    return reco_catalog_end(ctx, c, mark(ctx, c, deleted));
}
