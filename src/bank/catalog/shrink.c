#include "bank/catalog/sqlite.h"

#define FREE_PART 4   /* of the pages, that must be free to be worth copying the rest */
#define FREE_PAGES 16 /* at least */

static reco_status pragma(reco_ctx *ctx, reco_catalog *c, const char *sql, int64_t *out)
{
    sqlite3_stmt *s = NULL;
    bool row = false;
    if (sqlite3_prepare_v2(c->db, sql, -1, &s, NULL) != SQLITE_OK) return reco_catalog_fail(ctx, c);
    reco_status status = reco_catalog_step(ctx, c, s, &row);
    *out = row ? sqlite3_column_int64(s, 0) : 0;
    sqlite3_finalize(s);
    return status;
}

/* One transaction like any other: the pages go to the log, readers keep the snapshot that they opened, and the file is
 * cut when the log is emptied. */
reco_status reco_catalog_shrink(reco_ctx *ctx, reco_catalog *c)
{
    int64_t pages = 0, unused = 0;
    RECO_TRY(pragma(ctx, c, "PRAGMA page_count", &pages));
    RECO_TRY(pragma(ctx, c, "PRAGMA freelist_count", &unused));
    if (unused < FREE_PAGES || unused < pages / FREE_PART) return RECO_OK;
    int attached = sqlite3_limit(c->db, SQLITE_LIMIT_ATTACHED, 1); /* SQLite's own copy */
    reco_status status = reco_catalog_exec(ctx, c, "VACUUM");
    sqlite3_limit(c->db, SQLITE_LIMIT_ATTACHED, attached);
    return status;
}
