#include "bank/catalog/sqlite.h"

/* Bytes 18 and 19 of the file: both 2 in write-ahead mode, both 1 where a full disk kept a new database from it (the
 * next writer tries again). A greater first one makes SQLite refuse to write, and nothing else. Read through SQLite's
 * own handle: closing another would drop its locks. */
static bool has_versions(const reco_catalog *c)
{
    sqlite3_file *file = NULL;
    unsigned char versions[2] = {0};
    return sqlite3_file_control(c->db, "main", SQLITE_FCNTL_FILE_POINTER, &file) == SQLITE_OK &&
           file->pMethods->xRead(file, versions, 2, 18) == SQLITE_OK && versions[0] == versions[1] &&
           (versions[0] == 1 || versions[0] == 2);
}

reco_status reco_catalog_integrity(reco_ctx *ctx, reco_catalog *c,
                                   void (*visit)(void *arg, const char *message), void *arg)
{
    sqlite3_stmt *s;
    reco_status status;
    if (!has_versions(c))
        visit(arg, "the header's file format versions (bytes 18 and 19) are not both 1 or both 2");
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_INTEGRITY, &s));
    for (;;) {
        bool row;
        RECO_GO(reco_catalog_step(ctx, c, s, &row));
        if (!row) break;
        const char *text = (const char *)sqlite3_column_text(s, 0);
        if (!text) RECO_GO(reco_catalog_fail(ctx, c));
        if (strcmp(text, "ok") != 0) visit(arg, text);
    }
out:
    sqlite3_reset(s);
    return status;
}

/* What is wrong with the pair in the current row; NULL: nothing. */
static reco_status judge(reco_ctx *ctx, reco_catalog *c, sqlite3_stmt *s, int64_t id, int *deleted,
                         const char **bad)
{
    reco_pair pair = {.id = id};
    int64_t mark = sqlite3_column_int64(s, 6), sum = sqlite3_column_int64(s, 7), source = -1;
    *deleted = mark != 0;
    *bad = NULL;
    if (sqlite3_column_type(s, 8) != SQLITE_NULL) source = sqlite3_column_int64(s, 8);
    reco_status status = reco_catalog_copy_pair(ctx, c, s, &pair);
    if (status == RECO_E_FORMAT)
        *bad = "a field of the pair is not text";
    else if (status != RECO_OK)
        return status;
    else if (mark < 0 || mark > 1)
        *bad = "deleted is neither 0 nor 1";
    else if (sum != (mark ? ~reco_catalog_sum(&pair, source) : reco_catalog_sum(&pair, source)))
        *bad = "caption, uri, meta or deleted is damaged: the pair's checksum differs";
    reco_pair_free(&pair);
    return RECO_OK;
}

reco_status reco_catalog_pairs(reco_ctx *ctx, reco_catalog *c,
                               reco_status (*visit)(reco_ctx *ctx, void *arg, int64_t id, int deleted,
                                                    const char *bad),
                               void *arg)
{
    sqlite3_stmt *s;
    reco_status status;
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_PAIRS, &s));
    for (;;) {
        bool row;
        int deleted;
        const char *bad;
        RECO_GO(reco_catalog_step(ctx, c, s, &row));
        if (!row) break;
        int64_t id = sqlite3_column_int64(s, 9);
        RECO_GO(judge(ctx, c, s, id, &deleted, &bad));
        RECO_GO(visit(ctx, arg, id, deleted, bad));
    }
out:
    sqlite3_reset(s);
    return status;
}

reco_status reco_catalog_blocks(reco_ctx *ctx, reco_catalog *c, int64_t segment, size_t block,
                                uint64_t **sums, size_t *n)
{
    sqlite3_stmt *s;
    bool row;
    reco_status status;
    *sums = NULL;
    *n = 0;
    if (c->format < 2) return RECO_OK; /* had none */
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_BLOCK, &s));
    sqlite3_bind_int64(s, 1, segment);
    RECO_GO(reco_catalog_step(ctx, c, s, &row));
    if (!row || sqlite3_column_int64(s, 0) != (int64_t)block) goto out;
    const void *data = sqlite3_column_blob(s, 1);
    size_t bytes = (size_t)sqlite3_column_bytes(s, 1);
    if (!data || bytes > RECO_BLOCK_SUMS_MAX) goto out;
    *sums = reco_alloc(ctx, bytes / sizeof **sums, sizeof **sums, "checksums");
    if (!*sums) RECO_GO(RECO_E_NOMEM);
    *n = bytes / sizeof **sums;
    memcpy(*sums, data, *n * sizeof **sums);
out:
    sqlite3_reset(s);
    return status;
}
