#include "bank/catalog/sqlite.h"

/* Rows come in an order that has nothing to do with an index's. Each of many then changes a page of its own, and a page is written
 * twice, to the log and to the database: 8 KiB for an entry of 50 bytes. An index that is made anew, of sorted entries, writes each page
 * once, for which it reads all pairs. */

#define MANY 16384 /* entries, at least, */
#define PART 16    /* and one for so many rows that there are, for which an index is made anew */

enum { FOR_WRITERS = 1, INDEXES = 4 };
static const char *const names[INDEXES] = {"pair_uri", "pair_place", "pair_content", "pair_unplaced"};

static bool is_index(const char *sql, const char *name)
{
    static const char create[] = "CREATE INDEX ";
    const size_t n = sizeof create - 1, bytes = strlen(name);
    return strncmp(sql, create, n) == 0 && strncmp(sql + n, name, bytes) == 0 && sql[n + bytes] == ' ';
}

bool reco_catalog_is_for_writers(const char *sql)
{
    for (size_t i = FOR_WRITERS; i < INDEXES; i++)
        if (is_index(sql, names[i])) return true;
    return false;
}

reco_status reco_catalog_has(reco_ctx *ctx, reco_catalog *c, const char *sql, bool *has)
{
    sqlite3_stmt *s;
    bool row;
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_HAS, &s));
    sqlite3_bind_text(s, 1, sql, -1, SQLITE_STATIC);
    reco_status status = reco_catalog_step(ctx, c, s, &row);
    *has = status == RECO_OK && row && sqlite3_column_int64(s, 0) == 1;
    sqlite3_reset(s);
    return status;
}

static reco_status make_index(reco_ctx *ctx, reco_catalog *c, const char *sql)
{
    bool has;
    RECO_TRY(reco_catalog_has(ctx, c, sql, &has));
    if (has) return RECO_OK;
    RECO_TRY(reco_progress(ctx, "sorting pairs", 0, 0));
    return reco_catalog_exec(ctx, c, sql);
}

reco_status reco_catalog_index(reco_ctx *ctx, reco_catalog *c, const char *name)
{
    for (const reco_sql_text *t = reco_catalog_schema; t->sql; t++)
        if (t->last == RECO_CATALOG_FORMAT && is_index(t->sql, name)) return make_index(ctx, c, t->sql);
    return reco_fail(ctx, RECO_E_INTERNAL, "no index %s", name);
}

reco_status reco_catalog_index_for_writers(reco_ctx *ctx, reco_catalog *c)
{
    for (size_t i = FOR_WRITERS; i < INDEXES && !c->is_indexed; i++)
        RECO_TRY(reco_catalog_index(ctx, c, names[i]));
    c->is_indexed = true;
    return RECO_OK;
}

static reco_status run(reco_ctx *ctx, reco_catalog *c, reco_sql which)
{
    sqlite3_stmt *s;
    RECO_TRY(reco_catalog_prepare(ctx, c, which, &s));
    return reco_catalog_run(ctx, c, s);
}

static reco_status find_crowded(reco_ctx *ctx, reco_catalog *c, int64_t rows, bool crowded[INDEXES],
                                bool *any)
{
    sqlite3_stmt *s;
    bool row;
    *any = false;
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_COUNT_STAGED, &s));
    RECO_TRY(reco_catalog_step(ctx, c, s, &row));
    for (int i = 0; i < INDEXES; i++) {
        int64_t entries = row ? sqlite3_column_int64(s, i) : 0;
        crowded[i] = entries >= MANY && entries >= rows / PART;
        *any |= crowded[i];
    }
    sqlite3_reset(s);
    return RECO_OK;
}

reco_status reco_catalog_publish_pairs(reco_ctx *ctx, reco_catalog *c, int64_t rows)
{
    bool crowded[INDEXES], any;
    char sql[48];
    RECO_TRY(find_crowded(ctx, c, rows, crowded, &any));
    if (!any) return run(ctx, c, RECO_SQL_PUBLISH);
    /* SQLite would put pairs into the pages that the indexes leave, which it takes in descending order; a cold search by a
     * condition, which reads all pairs, would then take ten times as long. So the pairs take their places first. */
    RECO_TRY(run(ctx, c, RECO_SQL_RESERVE));
    for (size_t i = 0; i < INDEXES; i++) {
        snprintf(sql, sizeof sql, "DROP INDEX IF EXISTS %s", names[i]);
        if (crowded[i]) RECO_TRY(reco_catalog_exec(ctx, c, sql));
    }
    RECO_TRY(run(ctx, c, RECO_SQL_FILL));
    for (size_t i = 0; i < INDEXES; i++)
        if (crowded[i]) RECO_TRY(reco_catalog_index(ctx, c, names[i]));
    return RECO_OK;
}
