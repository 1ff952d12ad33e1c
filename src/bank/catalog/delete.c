#include "bank/catalog/sqlite.h"

/* Like what is staged, what is picked lies in a temporary table: SQLite spills it to a file that vanishes with the
 * process. */
reco_status reco_catalog_pick_none(reco_ctx *ctx, reco_catalog *c)
{
    return reco_catalog_exec(ctx, c,
                             "CREATE TEMP TABLE IF NOT EXISTS picked(id INTEGER PRIMARY KEY); "
                             "CREATE TEMP TABLE IF NOT EXISTS doubled(id INTEGER PRIMARY KEY); "
                             "DELETE FROM temp.picked; DELETE FROM temp.doubled");
}

static reco_status run(reco_ctx *ctx, reco_catalog *c, sqlite3_stmt *s, uint64_t *picked)
{
    RECO_TRY(reco_catalog_run(ctx, c, s));
    *picked = (uint64_t)sqlite3_changes(c->db);
    return RECO_OK;
}

reco_status reco_catalog_pick_id(reco_ctx *ctx, reco_catalog *c, int64_t id, bool deleted, uint64_t *picked)
{
    sqlite3_stmt *s;
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_PICK_ID, &s));
    sqlite3_bind_int64(s, 1, id);
    sqlite3_bind_int(s, 2, deleted);
    return run(ctx, c, s, picked);
}

reco_status reco_catalog_pick_uri(reco_ctx *ctx, reco_catalog *c, const char *uri, bool deleted,
                                  uint64_t *picked)
{
    sqlite3_stmt *s;
    RECO_TRY(reco_catalog_index_for_writers(ctx, c));
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_PICK_URI, &s));
    char *resolved = reco_place_resolve(ctx, NULL, uri);
    unsigned char place[RECO_PLACE_BYTES];
    if (!resolved) return RECO_E_NOMEM;
    reco_place_hash(resolved, place);
    reco_free(resolved);
    sqlite3_bind_text(s, 1, uri, -1, SQLITE_STATIC);
    sqlite3_bind_int(s, 2, deleted);
    sqlite3_bind_blob(s, 3, place, sizeof place, SQLITE_TRANSIENT);
    return run(ctx, c, s, picked);
}

reco_status reco_catalog_pick_deleted(reco_ctx *ctx, reco_catalog *c, uint64_t *picked)
{
    sqlite3_stmt *s;
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_PICK_DELETED, &s));
    return run(ctx, c, s, picked);
}

reco_status reco_catalog_list(reco_ctx *ctx, reco_catalog *c, reco_sql which, int64_t from, size_t max,
                              int64_t *ids, size_t *n)
{
    sqlite3_stmt *s;
    reco_status status;
    *n = 0;
    RECO_TRY(reco_catalog_prepare(ctx, c, which, &s));
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

reco_status reco_catalog_picked(reco_ctx *ctx, reco_catalog *c, int64_t from, size_t max, int64_t *ids,
                                size_t *n)
{
    return reco_catalog_list(ctx, c, RECO_SQL_PICKED, from, max, ids, n);
}

reco_status reco_catalog_doubles(reco_ctx *ctx, reco_catalog *c, int64_t from, size_t max, int64_t *ids,
                                 size_t *n)
{
    return reco_catalog_list(ctx, c, RECO_SQL_DOUBLED, from, max, ids, n);
}

reco_status reco_catalog_drop_doubles(reco_ctx *ctx, reco_catalog *c)
{
    sqlite3_stmt *s;
    RECO_TRY(reco_catalog_index_for_writers(ctx, c));
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_FIND_DOUBLES, &s));
    RECO_TRY(reco_catalog_run(ctx, c, s));
    return reco_catalog_exec(ctx, c, "DELETE FROM temp.picked WHERE id IN (SELECT id FROM temp.doubled)");
}

static reco_status mark(reco_ctx *ctx, reco_catalog *c, bool deleted, uint64_t *marked)
{
    sqlite3_stmt *s;
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_MARK_PICKED, &s));
    sqlite3_bind_int(s, 1, deleted);
    RECO_TRY(reco_catalog_run(ctx, c, s));
    int64_t n = sqlite3_changes64(c->db);
    *marked = (uint64_t)n;
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_COUNT_DELETED, &s));
    sqlite3_bind_int64(s, 1, deleted ? n : -n);
    RECO_TRY(reco_catalog_run(ctx, c, s));
    return reco_catalog_exec(ctx, c, "DELETE FROM temp.picked");
}

reco_status reco_catalog_mark_picked(reco_ctx *ctx, reco_catalog *c, bool deleted, uint64_t *marked)
{
    RECO_TRY(reco_catalog_exec(ctx, c, "BEGIN IMMEDIATE"));
    return reco_catalog_end(ctx, c, mark(ctx, c, deleted, marked));
}
