#include "bank/catalog/sqlite.h"

static void bind_text(sqlite3_stmt *s, int i, const char *text)
{
    if (text) sqlite3_bind_text(s, i, text, -1, SQLITE_STATIC);
}

static void bind_hash(sqlite3_stmt *s, int i, const unsigned char *hash)
{
    if (hash) sqlite3_bind_blob(s, i, hash, RECO_BANK_HASH, SQLITE_STATIC);
}

reco_status reco_catalog_is_object(reco_ctx *ctx, reco_catalog *c, const char *text, bool *yes)
{
    sqlite3_stmt *s;
    bool row;
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_IS_OBJECT, &s));
    bind_text(s, 1, text);
    /* No JSON is an error of SQLite's; json_valid would say no when there is no memory, too. */
    reco_status status = reco_catalog_step(ctx, c, s, &row);
    *yes = status == RECO_OK && row && sqlite3_column_int(s, 0) == 1;
    sqlite3_reset(s);
    return status == RECO_E_FORMAT ? RECO_OK : status;
}

/* The number of a base folder, which may be a new one. */
static reco_status number_source(reco_ctx *ctx, reco_catalog *c, const char *base, int64_t *number)
{
    sqlite3_stmt *s;
    bool row = false;
    *number = -1;
    if (!base) return RECO_OK;
    if (c->base && strcmp(c->base, base) == 0) {
        *number = c->source;
        return RECO_OK;
    }
    for (int i = 0; i < 2 && !row; i++) {
        RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_SOURCE, &s));
        bind_text(s, 1, base);
        RECO_TRY(reco_catalog_step(ctx, c, s, &row));
        if (row) *number = sqlite3_column_int64(s, 0);
        sqlite3_reset(s);
        if (row) break;
        RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_STAGE_SOURCE, &s));
        bind_text(s, 1, base);
        RECO_TRY(reco_catalog_run(ctx, c, s));
    }
    reco_free(c->base);
    c->base = reco_strdup(ctx, base);
    c->source = *number;
    return c->base ? RECO_OK : RECO_E_NOMEM;
}

/* The i-th of the pairs of a statement. */
static void bind_pair(sqlite3_stmt *s, int i, const reco_pair *pair, int64_t source)
{
    const int at = i * RECO_PAIR_VALUES;
    sqlite3_bind_int64(s, at + 1, pair->id);
    bind_text(s, at + 2, pair->caption);
    bind_text(s, at + 3, pair->uri);
    bind_text(s, at + 4, pair->meta);
    sqlite3_bind_int64(s, at + 5, reco_catalog_sum(pair, source));
    if (source >= 0) sqlite3_bind_int64(s, at + 6, source);
    bind_hash(s, at + 7, pair->place);
    bind_hash(s, at + 8, pair->content);
}

/* n: how many the statement takes. */
static reco_status stage(reco_ctx *ctx, reco_catalog *c, reco_sql which, const reco_pair *pairs, int n)
{
    sqlite3_stmt *s;
    int64_t source[RECO_PUT_PAIRS];
    for (int i = 0; i < n; i++) RECO_TRY(number_source(ctx, c, pairs[i].base, &source[i]));
    RECO_TRY(reco_catalog_prepare(ctx, c, which, &s));
    for (int i = 0; i < n; i++) bind_pair(s, i, &pairs[i], source[i]);
    return reco_catalog_run(ctx, c, s);
}

/* The staging table is temporary: SQLite spills it to a file that vanishes with the process, and writing to it takes
 * no lock of the bank's. */
reco_status reco_catalog_stage(reco_ctx *ctx, reco_catalog *c, int64_t first, const reco_pair *pairs,
                               size_t n)
{
    RECO_TRY(reco_catalog_exec(ctx, c, "BEGIN"));
    reco_status status = RECO_OK;
    for (size_t i = 0; i < n && status == RECO_OK; i++) {
        reco_pair pair = pairs[i];
        pair.id = first + (int64_t)i;
        status = stage(ctx, c, RECO_SQL_STAGE, &pair, 1);
    }
    return reco_catalog_end(ctx, c, status);
}

reco_status reco_catalog_put(reco_ctx *ctx, reco_catalog *c, const reco_pair *pairs, size_t n)
{
    for (; n >= RECO_PUT_PAIRS; n -= RECO_PUT_PAIRS, pairs += RECO_PUT_PAIRS)
        RECO_TRY(stage(ctx, c, RECO_SQL_PUT_MANY, pairs, RECO_PUT_PAIRS));
    for (; n; n--, pairs++) RECO_TRY(stage(ctx, c, RECO_SQL_PUT, pairs, 1));
    return RECO_OK;
}

reco_status reco_catalog_stage_change(reco_ctx *ctx, reco_catalog *c, const reco_pair *pair)
{
    return stage(ctx, c, RECO_SQL_STAGE_CHANGE, pair, 1);
}

reco_status reco_catalog_stage_blocks(reco_ctx *ctx, reco_catalog *c, int64_t segment, size_t block,
                                      const uint64_t *sums, size_t n)
{
    sqlite3_stmt *s;
    if (n * sizeof *sums > RECO_BLOCK_SUMS_MAX) return RECO_OK; /* a segment may do without */
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_STAGE_BLOCK, &s));
    sqlite3_bind_int64(s, 1, segment);
    sqlite3_bind_int64(s, 2, (int64_t)block);
    sqlite3_bind_blob(s, 3, sums, (int)(n * sizeof *sums), SQLITE_STATIC);
    reco_status status = reco_catalog_run(ctx, c, s);
    sqlite3_clear_bindings(s);
    return status;
}

static reco_status first_of(reco_ctx *ctx, reco_catalog *c, sqlite3_stmt *s, int64_t *id,
                            unsigned char content[RECO_BANK_HASH], bool *has_content, bool *has_others)
{
    bool row;
    RECO_TRY(reco_catalog_step(ctx, c, s, &row));
    *id = row && sqlite3_column_type(s, 0) == SQLITE_INTEGER ? sqlite3_column_int64(s, 0) : -1;
    *has_content =
        row && sqlite3_column_type(s, 1) == SQLITE_BLOB && sqlite3_column_bytes(s, 1) == RECO_BANK_HASH;
    if (*has_content) memcpy(content, sqlite3_column_blob(s, 1), RECO_BANK_HASH);
    if (has_others) *has_others = row && sqlite3_column_int64(s, 2) > 1;
    sqlite3_reset(s);
    sqlite3_clear_bindings(s);
    return RECO_OK;
}

reco_status reco_catalog_seek(reco_ctx *ctx, reco_catalog *c, const reco_pair *pair, const char *resolved,
                              bool any_caption, int64_t *id, unsigned char content[RECO_BANK_HASH],
                              bool *has_content, bool *has_others)
{
    sqlite3_stmt *s;
    *has_others = false;
    RECO_TRY(reco_catalog_index_for_writers(ctx, c));
    if (!c->has_indexed) /* who never asks does not pay for it */
        RECO_TRY(reco_catalog_exec(
            ctx, c,
            "CREATE INDEX temp.staged_unplaced ON staged(uri) WHERE place IS NULL AND uri IS NOT NULL; "
            "CREATE INDEX temp.staged_place ON staged(place, length(caption), substr(caption, -16)) "
            "WHERE place IS NOT NULL"));
    c->has_indexed = true;
    *id = -1;
    *has_content = false;
    if (pair->place) {
        RECO_TRY(reco_catalog_prepare(ctx, c, any_caption ? RECO_SQL_SEEK_PICTURE : RECO_SQL_SEEK, &s));
        bind_hash(s, 1, pair->place);
        if (!any_caption) bind_text(s, 2, pair->caption);
        bind_hash(s, 3, pair->content);
        RECO_TRY(first_of(ctx, c, s, id, content, has_content, any_caption ? has_others : NULL));
    }
    if (*id >= 0 || !pair->uri) return RECO_OK;
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_SEEK_UNPLACED, &s));
    bind_text(s, 1, pair->uri);
    if (!any_caption) bind_text(s, 2, pair->caption);
    bind_text(s, 3, resolved);
    return first_of(ctx, c, s, id, content, has_content, NULL);
}

reco_status reco_catalog_touch(reco_ctx *ctx, reco_catalog *c, int64_t id, bool *before)
{
    sqlite3_stmt *s;
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_TOUCH, &s));
    sqlite3_bind_int64(s, 1, id);
    RECO_TRY(reco_catalog_run(ctx, c, s));
    *before = sqlite3_changes(c->db) == 0;
    return RECO_OK;
}

reco_status reco_catalog_key_by(reco_ctx *ctx, reco_catalog *c, const char *column)
{
    sqlite3_stmt *s;
    RECO_TRY(reco_catalog_exec(ctx, c,
                               "CREATE TEMP TABLE keyed(value TEXT, id INTEGER); "
                               "CREATE INDEX temp.keyed_value ON keyed(value)"));
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_KEY_ROWS, &s));
    bind_text(s, 1, column);
    return reco_catalog_run(ctx, c, s);
}

reco_status reco_catalog_seek_key(reco_ctx *ctx, reco_catalog *c, const char *column, const char *meta,
                                  bool *has, int64_t *id, int64_t *count)
{
    sqlite3_stmt *s;
    bool row;
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_SEEK_KEY, &s));
    bind_text(s, 1, column);
    bind_text(s, 2, meta);
    RECO_TRY(reco_catalog_step(ctx, c, s, &row));
    *has = row && sqlite3_column_type(s, 0) != SQLITE_NULL;
    *id = row ? sqlite3_column_int64(s, 1) : -1;
    *count = row ? sqlite3_column_int64(s, 2) : 0;
    sqlite3_reset(s);
    return RECO_OK;
}

reco_status reco_catalog_add_key(reco_ctx *ctx, reco_catalog *c, const char *column, const char *meta)
{
    sqlite3_stmt *s;
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_ADD_KEY, &s));
    bind_text(s, 1, column);
    bind_text(s, 2, meta);
    return reco_catalog_run(ctx, c, s);
}

reco_status reco_catalog_seek_content(reco_ctx *ctx, reco_catalog *c,
                                      const unsigned char content[RECO_BANK_HASH], int64_t *id)
{
    sqlite3_stmt *s;
    unsigned char unused[RECO_BANK_HASH];
    bool none;
    RECO_TRY(reco_catalog_index_for_writers(ctx, c));
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_SEEK_CONTENT, &s));
    bind_hash(s, 1, content);
    return first_of(ctx, c, s, id, unused, &none, NULL);
}

/* Blocks whose sums were staged are of these segments. */
static reco_status add_segments(reco_ctx *ctx, reco_catalog *c, const reco_segment_list *list)
{
    sqlite3_stmt *s;
    for (size_t i = 0; i < list->n; i++) {
        const reco_segment_entry *e = &list->items[i];
        RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_ADD_SEGMENT, &s));
        sqlite3_bind_int64(s, 1, e->number);
        sqlite3_bind_int64(s, 2, e->first);
        sqlite3_bind_int64(s, 3, e->rows);
        bind_text(s, 4, e->file);
        sqlite3_bind_int64(s, 5, e->bytes);
        bind_text(s, 6, e->xxh3);
        RECO_TRY(reco_catalog_run(ctx, c, s));
    }
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_PUBLISH_BLOCKS, &s));
    return reco_catalog_run(ctx, c, s);
}

static reco_status put_job(reco_ctx *ctx, reco_catalog *c, const char *key, uint64_t next, bool done)
{
    sqlite3_stmt *s;
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_SAVE_JOB, &s));
    bind_text(s, 1, key);
    sqlite3_bind_int64(s, 2, (int64_t)next);
    sqlite3_bind_int(s, 3, done);
    return reco_catalog_run(ctx, c, s);
}

/* With the id of its first row beside it, until it is done: who resumes it can then tell its rows from older ones. */
static reco_status save_job(reco_ctx *ctx, reco_catalog *c, const reco_catalog_change *change)
{
    sqlite3_stmt *s;
    RECO_TRY(put_job(ctx, c, change->job, change->next, change->done));
    if (change->first < 0) return RECO_OK;
    char *key = reco_format(ctx, "%s" RECO_JOB_FIRST, change->job);
    if (!key) return RECO_E_NOMEM;
    reco_status status;
    if (!change->done)
        status = put_job(ctx, c, key, (uint64_t)change->first, false);
    else if ((status = reco_catalog_prepare(ctx, c, RECO_SQL_DROP_JOB, &s)) == RECO_OK) {
        bind_text(s, 1, key);
        status = reco_catalog_run(ctx, c, s);
        sqlite3_clear_bindings(s);
    }
    reco_free(key);
    return status;
}

static reco_status drop(reco_ctx *ctx, reco_catalog *c, reco_sql which, const reco_segment_list *list)
{
    sqlite3_stmt *s;
    for (size_t i = 0; i < list->n; i++) {
        RECO_TRY(reco_catalog_prepare(ctx, c, which, &s));
        sqlite3_bind_int64(s, 1, list->items[i].number);
        RECO_TRY(reco_catalog_run(ctx, c, s));
    }
    return RECO_OK;
}

static reco_status publish(reco_ctx *ctx, reco_catalog *c, const reco_catalog_change *change)
{
    sqlite3_stmt *s;
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_PUBLISH_SOURCES, &s));
    RECO_TRY(reco_catalog_run(ctx, c, s));
    RECO_TRY(reco_catalog_publish_pairs(ctx, c, change->next_id));
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_PUBLISH_CHANGES, &s));
    RECO_TRY(reco_catalog_run(ctx, c, s));
    if (change->old) RECO_TRY(drop(ctx, c, RECO_SQL_DROP_SEGMENT, change->old));
    if (change->old) RECO_TRY(drop(ctx, c, RECO_SQL_DROP_BLOCK, change->old));
    RECO_TRY(add_segments(ctx, c, change->segments));
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_ADVANCE, &s));
    sqlite3_bind_int64(s, 1, change->next_id);
    sqlite3_bind_int64(s, 2, change->next_segment);
    RECO_TRY(reco_catalog_run(ctx, c, s));
    return change->job ? save_job(ctx, c, change) : RECO_OK;
}

reco_status reco_catalog_commit(reco_ctx *ctx, reco_catalog *c, const reco_catalog_change *change)
{
    RECO_TRY(reco_catalog_exec(ctx, c, "BEGIN IMMEDIATE"));
    RECO_TRY(reco_catalog_end(ctx, c, publish(ctx, c, change)));
    return reco_catalog_exec(ctx, c,
                             "DELETE FROM temp.staged; DELETE FROM temp.changed; "
                             "DELETE FROM temp.staged_source; DELETE FROM temp.staged_block");
}

static reco_status replace(reco_ctx *ctx, reco_catalog *c, const reco_segment_list *old,
                           const reco_segment_list *new, int64_t next_segment, int64_t deleted)
{
    sqlite3_stmt *s;
    RECO_TRY(drop(ctx, c, RECO_SQL_DROP_SEGMENT, old));
    RECO_TRY(drop(ctx, c, RECO_SQL_DROP_BLOCK, old));
    RECO_TRY(add_segments(ctx, c, new));
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_DROP_DELETED, &s));
    RECO_TRY(reco_catalog_run(ctx, c, s));
    if (sqlite3_changes64(c->db) != deleted)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: %lld pairs are deleted, want %lld", c->file,
                         (long long)sqlite3_changes64(c->db), (long long)deleted);
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_NONE_DELETED, &s));
    sqlite3_bind_int64(s, 1, next_segment);
    return reco_catalog_run(ctx, c, s);
}

reco_status reco_catalog_replace(reco_ctx *ctx, reco_catalog *c, const reco_segment_list *old,
                                 const reco_segment_list *new, int64_t next_segment, int64_t deleted)
{
    /* What was deleted is to be gone: its pages are overwritten, not only given back. */
    RECO_TRY(reco_catalog_exec(ctx, c, "PRAGMA secure_delete = ON; BEGIN IMMEDIATE"));
    return reco_catalog_end(ctx, c, replace(ctx, c, old, new, next_segment, deleted));
}

/* A commit whose fsync failed may lie whole in the log, and be found there after a crash. Any later commit is written
 * over it. */
reco_status reco_catalog_settle(reco_ctx *ctx, reco_catalog *c)
{
    RECO_TRY(reco_catalog_exec(ctx, c, "BEGIN IMMEDIATE"));
    return reco_catalog_end(ctx, c,
                            reco_catalog_exec(ctx, c, "UPDATE bank SET next_segment = next_segment"));
}
