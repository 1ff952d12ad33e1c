#include "bank/catalog/sqlite.h"

int64_t reco_catalog_sum(const reco_pair *pair, int64_t source)
{
    const char *uri = pair->uri ? pair->uri : "", *meta = pair->meta ? pair->meta : "";
    uint64_t h = reco_hash64(pair->caption, strlen(pair->caption), (uint64_t)pair->id);
    h = reco_hash64(uri, strlen(uri), h + (pair->uri != NULL));
    h = reco_hash64(meta, strlen(meta), h + (pair->meta != NULL));
    /* What older formats had not, so that their sums stay as they are. */
    if (source >= 0) h = reco_hash64(&source, sizeof source, h + 1);
    if (pair->place) h = reco_hash64(pair->place, RECO_BANK_HASH, h + 2);
    if (pair->content) h = reco_hash64(pair->content, RECO_BANK_HASH, h + 3);
    int64_t sum;
    memcpy(&sum, &h, sizeof sum);
    return sum;
}

/* The rows of bank, segment and job bear no checksum of their own, as pairs and files do. One for all of them is
 * enough: they are few, and a writer that changes some has read all. */

static reco_status chain_value(reco_ctx *ctx, reco_catalog *c, sqlite3_stmt *s, int column, uint64_t *h)
{
    int type = sqlite3_column_type(s, column);
    int64_t integer = sqlite3_column_int64(s, column);
    double real = sqlite3_column_double(s, column);
    const void *from = "";
    size_t bytes = 0;
    if (type == SQLITE_INTEGER)
        from = &integer, bytes = sizeof integer;
    else if (type == SQLITE_FLOAT)
        from = &real, bytes = sizeof real;
    else if (type != SQLITE_NULL) {
        from = sqlite3_column_blob(s, column);
        bytes = (size_t)sqlite3_column_bytes(s, column);
        if (!from && bytes) return reco_catalog_fail(ctx, c);
    }
    *h = reco_hash64(from, bytes, *h + (uint64_t)type);
    return RECO_OK;
}

static reco_status chain_table(reco_ctx *ctx, reco_catalog *c, reco_sql which, uint64_t *h)
{
    sqlite3_stmt *s;
    reco_status status;
    uint64_t rows = 0;
    RECO_TRY(reco_catalog_prepare(ctx, c, which, &s));
    for (;; rows++) {
        bool row;
        RECO_GO(reco_catalog_step(ctx, c, s, &row));
        if (!row) break;
        for (int i = 0; i < sqlite3_column_count(s); i++) RECO_GO(chain_value(ctx, c, s, i, h));
    }
    *h = reco_hash64(&rows, sizeof rows, *h);
out:
    sqlite3_reset(s);
    return status;
}

static reco_status compute(reco_ctx *ctx, reco_catalog *c, int64_t *sum)
{
    uint64_t h = 0;
    RECO_TRY(chain_table(ctx, c, RECO_SQL_SEALED_BANK, &h));
    RECO_TRY(chain_table(ctx, c, RECO_SQL_SEALED_SEGMENTS, &h));
    RECO_TRY(chain_table(ctx, c, RECO_SQL_SEALED_JOBS, &h));
    if (c->format >= 3) RECO_TRY(chain_table(ctx, c, RECO_SQL_SEALED_SOURCES, &h));
    memcpy(sum, &h, sizeof *sum);
    return RECO_OK;
}

reco_status reco_catalog_reseal(reco_ctx *ctx, reco_catalog *c)
{
    sqlite3_stmt *s;
    int64_t sum;
    RECO_TRY(compute(ctx, c, &sum));
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_RESEAL, &s));
    sqlite3_bind_int64(s, 1, sum);
    RECO_TRY(reco_catalog_run(ctx, c, s));
    if (sqlite3_changes(c->db) == 1) return RECO_OK;
    return reco_fail(ctx, RECO_E_FORMAT, "%s: table seal has %d rows, want one", c->file,
                     sqlite3_changes(c->db));
}

reco_status reco_catalog_check_seal(reco_ctx *ctx, reco_catalog *c)
{
    sqlite3_stmt *s;
    int64_t sum, stored = 0;
    bool row;
    if (c->format < 2) return RECO_OK; /* had none */
    RECO_TRY(compute(ctx, c, &sum));
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_SEAL, &s));
    RECO_TRY(reco_catalog_step(ctx, c, s, &row));
    if (row) stored = sqlite3_column_int64(s, 0);
    bool good = row && stored == sum;
    sqlite3_reset(s);
    return good ? RECO_OK
                : reco_fail(ctx, RECO_E_FORMAT,
                            "%s: table bank, segment or job is damaged: their checksum differs", c->file);
}

reco_status reco_catalog_end(reco_ctx *ctx, reco_catalog *c, reco_status status)
{
    bool changed = sqlite3_txn_state(c->db, "main") == SQLITE_TXN_WRITE; /* else the staging tables alone */
    if (status == RECO_OK && changed) status = reco_catalog_reseal(ctx, c);
    /* Where memory ran out, SQLite may have taken all back by itself. */
    if (status == RECO_OK && sqlite3_get_autocommit(c->db)) status = reco_fail_nomem(ctx, 0, c->file);
    if (status == RECO_OK) status = reco_catalog_exec(ctx, c, "COMMIT");
    if (status != RECO_OK && !sqlite3_get_autocommit(c->db))
        sqlite3_exec(c->db, "ROLLBACK", NULL, NULL, NULL);
    return status;
}

/* An older bank becomes one of this format when something is about to be written to it. Its pairs keep their sums: what is
 * added to them is NULL. */
static reco_status upgrade(reco_ctx *ctx, reco_catalog *c)
{
    RECO_TRY(reco_catalog_exec(ctx, c,
                               "ALTER TABLE pair ADD COLUMN source INTEGER; "
                               "ALTER TABLE pair ADD COLUMN place BLOB; "
                               "ALTER TABLE pair ADD COLUMN content BLOB"));
    for (const reco_sql_text *t = reco_catalog_schema; t->sql; t++)
        if (t->first > c->format && strncmp(t->sql, "CREATE TABLE pair(", 18) != 0)
            RECO_TRY(reco_catalog_exec(ctx, c, t->sql));
    if (c->format < 2) RECO_TRY(reco_catalog_exec(ctx, c, "INSERT INTO seal VALUES(0)"));
    RECO_TRY(reco_catalog_exec(ctx, c, "UPDATE bank SET format = 3; PRAGMA user_version = 3"));
    c->format = RECO_CATALOG_FORMAT; /* the seal is that of the new one */
    return RECO_OK;
}

reco_status reco_catalog_upgrade(reco_ctx *ctx, reco_catalog *c)
{
    if (c->format == RECO_CATALOG_FORMAT) return RECO_OK;
    RECO_TRY(reco_catalog_exec(ctx, c, "BEGIN IMMEDIATE"));
    int before = c->format;
    reco_status status = reco_catalog_end(ctx, c, upgrade(ctx, c));
    if (status != RECO_OK) c->format = before;
    return status;
}
