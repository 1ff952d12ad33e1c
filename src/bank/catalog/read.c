#include "bank/catalog/sqlite.h"

#include <stdlib.h>

static reco_status read_info(reco_ctx *ctx, reco_catalog *c, sqlite3_stmt *s, reco_bank_info *info,
                             int64_t *next_segment)
{
    int64_t format, d, complete;
    RECO_TRY(reco_catalog_int(ctx, c, s, 0, "bank.format", c->format, c->format, &format));
    RECO_TRY(reco_catalog_int(ctx, c, s, 1, "bank.d", 1, RECO_BANK_MAX_WIDTH, &d));
    RECO_TRY(reco_catalog_text(ctx, c, s, 2, "bank.encoder", sizeof info->encoder, info->encoder));
    RECO_TRY(
        reco_catalog_text(ctx, c, s, 3, "bank.fingerprint", sizeof info->fingerprint, info->fingerprint));
    double scale = sqlite3_column_double(s, 4);
    if (!(scale >= 0) || !(scale <= 1e6))
        return reco_fail(ctx, RECO_E_FORMAT, "%s: bank.logit_scale = %g, want 0..1e6", c->file, scale);
    RECO_TRY(reco_catalog_int(ctx, c, s, 5, "bank.next_id", 0, RECO_BANK_MAX_ID, &info->next_id));
    RECO_TRY(reco_catalog_int(ctx, c, s, 6, "bank.next_segment", 0, RECO_BANK_MAX_ID, next_segment));
    RECO_TRY(reco_catalog_int(ctx, c, s, 7, "bank.deleted", 0, RECO_BANK_MAX_ID, &info->deleted));
    RECO_TRY(reco_catalog_int(ctx, c, s, 8, "job.done", 0, 1, &complete));
    info->format = (int)format;
    info->d = (size_t)d;
    info->logit_scale = (float)scale;
    info->complete = (int)complete;
    return RECO_OK;
}

reco_status reco_catalog_info(reco_ctx *ctx, reco_catalog *c, reco_bank_info *info, int64_t *next_segment)
{
    sqlite3_stmt *s;
    bool row;
    *info = (reco_bank_info){0};
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_INFO, &s));
    reco_status status;
    RECO_GO(reco_catalog_step(ctx, c, s, &row));
    if (!row) RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s: table bank is empty, want one row", c->file));
    RECO_GO(read_info(ctx, c, s, info, next_segment));
    RECO_GO(reco_catalog_step(ctx, c, s, &row));
    if (row) status = reco_fail(ctx, RECO_E_FORMAT, "%s: table bank has several rows, want one", c->file);
out:
    sqlite3_reset(s);
    return status;
}

reco_segment_entry *reco_segment_push(reco_ctx *ctx, reco_segment_list *list)
{
    reco_segment_entry *items =
        reco_grow(ctx, list->items, list->n, &list->room, 8, sizeof *items, "list of segments");
    if (!items) return NULL;
    list->items = items;
    list->items[list->n] = (reco_segment_entry){0};
    return &list->items[list->n++];
}

/* `last` is the entry before, or NULL. Exact names keep a path out of the database's hands. */
static reco_status read_segment(reco_ctx *ctx, reco_catalog *c, sqlite3_stmt *s, reco_segment_entry *e,
                                const reco_segment_entry *last)
{
    int64_t least = last ? last->first + last->rows : 0;
    RECO_TRY(reco_catalog_int(ctx, c, s, 0, "segment.number", 0, RECO_BANK_MAX_ID, &e->number));
    RECO_TRY(reco_catalog_int(ctx, c, s, 1, "segment.first", least, RECO_BANK_MAX_ID - 1, &e->first));
    RECO_TRY(reco_catalog_int(ctx, c, s, 2, "segment.rows", 1, RECO_BANK_MAX_ID - e->first, &e->rows));
    RECO_TRY(reco_catalog_text(ctx, c, s, 3, "segment.file", sizeof e->file, e->file));
    RECO_TRY(reco_catalog_int(ctx, c, s, 4, "segment.bytes", 1, INT64_MAX, &e->bytes));
    RECO_TRY(reco_catalog_text(ctx, c, s, 5, "segment.xxh3", sizeof e->xxh3, e->xxh3));
    char want[sizeof e->file];
    snprintf(want, sizeof want, RECO_SEGMENT_NAME, (long long)e->number);
    if (strcmp(e->file, want) != 0)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: segment %lld is in file %s, want %s", c->file,
                         (long long)e->number, e->file, want);
    return RECO_OK;
}

reco_status reco_catalog_segments(reco_ctx *ctx, reco_catalog *c, reco_segment_list *out)
{
    sqlite3_stmt *s;
    reco_segment_list list = {0};
    reco_status status;
    *out = (reco_segment_list){0};
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_SEGMENTS, &s));
    for (;;) {
        bool row;
        RECO_GO(reco_catalog_step(ctx, c, s, &row));
        if (!row) break;
        reco_segment_entry *entry = reco_segment_push(ctx, &list);
        if (!entry) RECO_GO(RECO_E_NOMEM);
        RECO_GO(read_segment(ctx, c, s, entry, list.n > 1 ? entry - 1 : NULL));
    }
    *out = list;
    list.items = NULL;
out:
    sqlite3_reset(s);
    reco_free(list.items);
    return status;
}

reco_status reco_catalog_deleted(reco_ctx *ctx, reco_catalog *c, int64_t most,
                                 reco_status (*visit)(reco_ctx *ctx, void *arg, int64_t id), void *arg)
{
    sqlite3_stmt *s;
    reco_status status;
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_DELETED, &s));
    for (int64_t n = 0, id, least = 0;; n++, least = id + 1) {
        bool row;
        RECO_GO(reco_catalog_step(ctx, c, s, &row));
        if (!row) break;
        if (n == most)
            RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s: more than bank.deleted = %lld pairs are deleted",
                              c->file, (long long)most));
        RECO_GO(reco_catalog_int(ctx, c, s, 0, "id of a deleted pair", least, RECO_BANK_MAX_ID - 1, &id));
        RECO_GO(visit(ctx, arg, id));
    }
out:
    sqlite3_reset(s);
    return status;
}

reco_status reco_catalog_range(reco_ctx *ctx, reco_catalog *c, bool *some, int64_t *least,
                               int64_t *greatest)
{
    sqlite3_stmt *s;
    bool row;
    reco_status status;
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_RANGE, &s));
    RECO_GO(reco_catalog_step(ctx, c, s, &row));
    *some = row && sqlite3_column_type(s, 0) != SQLITE_NULL;
    if (*some) {
        RECO_GO(reco_catalog_int(ctx, c, s, 0, "least pair.id", 0, RECO_BANK_MAX_ID - 1, least));
        RECO_GO(reco_catalog_int(ctx, c, s, 1, "greatest pair.id", *least, RECO_BANK_MAX_ID - 1, greatest));
    }
out:
    sqlite3_reset(s);
    return status;
}

/* The caption's block holds all three strings. */
void reco_pair_free(reco_pair *pair)
{
    if (!pair) return;
    reco_free((void *)(uintptr_t)pair->caption);
    *pair = (reco_pair){0};
}

/* Copy what the current row says into one block, which pair->caption owns. */
reco_status reco_catalog_copy_pair(reco_ctx *ctx, reco_catalog *c, sqlite3_stmt *s, reco_pair *pair)
{
    const void *field[6];
    size_t bytes[6], total = 0;
    for (int i = 0; i < 6; i++) {
        int type = sqlite3_column_type(s, i), want = i < 4 ? SQLITE_TEXT : SQLITE_BLOB;
        field[i] = type == SQLITE_NULL ? NULL
                   : i < 4             ? (const void *)sqlite3_column_text(s, i)
                                       : sqlite3_column_blob(s, i);
        bytes[i] = (size_t)sqlite3_column_bytes(s, i);
        bool good = type == want || (type == SQLITE_NULL && i > 0);
        if (good && type == want && !field[i] && bytes[i]) return reco_catalog_fail(ctx, c);
        if (!good || (i < 4 && field[i] && memchr(field[i], 0, bytes[i])))
            return reco_fail(ctx, RECO_E_FORMAT, "%s: pair %lld is damaged: a field is not text", c->file,
                             (long long)pair->id);
        if (i >= 4 && type == want && bytes[i] != RECO_BANK_HASH)
            return reco_fail(ctx, RECO_E_FORMAT, "%s: pair %lld is damaged: a hash has %zu bytes, want %d",
                             c->file, (long long)pair->id, bytes[i], RECO_BANK_HASH);
        total += bytes[i] + 1;
    }
    char *to = malloc(total); /* reco_alloc aligns, which is slow for so many */
    if (!to) return reco_fail_nomem(ctx, total, "pair");
    const char *copies[6] = {0};
    for (int i = 0; i < 6; i++) {
        if (!field[i]) continue;
        memcpy(to, field[i], bytes[i]);
        to[bytes[i]] = 0;
        copies[i] = to;
        to += bytes[i] + 1;
    }
    pair->caption = copies[0];
    pair->uri = copies[1];
    pair->meta = copies[2];
    pair->base = copies[3];
    pair->place = (const unsigned char *)copies[4];
    pair->content = (const unsigned char *)copies[5];
    return RECO_OK;
}

reco_status reco_catalog_copy_checked(reco_ctx *ctx, reco_catalog *c, sqlite3_stmt *s, bool deleted,
                                      reco_pair *pair)
{
    const long long id = pair->id;
    RECO_TRY(reco_catalog_copy_pair(ctx, c, s, pair));
    bool none = sqlite3_column_type(s, 8) == SQLITE_NULL;
    int64_t sum = reco_catalog_sum(pair, none ? -1 : sqlite3_column_int64(s, 8));
    if (sqlite3_column_int64(s, 7) == (deleted ? ~sum : sum)) return RECO_OK;
    reco_pair_free(pair);
    return reco_fail(ctx, RECO_E_FORMAT, "%s: pair %lld is damaged: its checksum differs", c->file, id);
}

static reco_status read_pair(reco_ctx *ctx, reco_catalog *c, int64_t id, bool deleted, reco_pair *out)
{
    sqlite3_stmt *s;
    bool row;
    reco_status status;
    *out = (reco_pair){.id = id};
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_PAIR, &s));
    sqlite3_bind_int64(s, 1, id);
    RECO_GO(reco_catalog_step(ctx, c, s, &row));
    if (!row) RECO_GO(reco_fail(ctx, RECO_E_NOTFOUND, "%s: no pair with id %lld", c->file, (long long)id));
    if ((sqlite3_column_int(s, 6) != 0) != deleted)
        RECO_GO(reco_fail(ctx, RECO_E_NOTFOUND, "%s: pair %lld is %s", c->file, (long long)id,
                          deleted ? "not deleted" : "deleted"));
    status = reco_catalog_copy_checked(ctx, c, s, deleted, out);
out:
    sqlite3_reset(s);
    if (status != RECO_OK) reco_pair_free(out);
    return status;
}

reco_status reco_catalog_pair(reco_ctx *ctx, reco_catalog *c, int64_t id, bool deleted, reco_pair *out)
{
    pthread_mutex_lock(&c->turn);
    reco_status status = read_pair(ctx, c, id, deleted, out);
    pthread_mutex_unlock(&c->turn);
    return status;
}

reco_status reco_catalog_job(reco_ctx *ctx, reco_catalog *c, const char *job, reco_catalog_job_state *out)
{
    sqlite3_stmt *s;
    bool row;
    int64_t next = 0, done = 0;
    reco_status status;
    *out = (reco_catalog_job_state){.first = -1};
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_JOB, &s));
    sqlite3_bind_text(s, 1, job, -1, SQLITE_STATIC);
    RECO_GO(reco_catalog_step(ctx, c, s, &row));
    out->built = row && sqlite3_column_int(s, 0) == 1;
    if (row && sqlite3_column_type(s, 1) != SQLITE_NULL) {
        RECO_GO(reco_catalog_int(ctx, c, s, 1, "job.next", 0, INT64_MAX, &next));
        RECO_GO(reco_catalog_int(ctx, c, s, 2, "job.done", 0, 1, &done));
    }
    if (row && sqlite3_column_type(s, 3) != SQLITE_NULL)
        RECO_GO(reco_catalog_int(ctx, c, s, 3, "job.next", 0, RECO_BANK_MAX_ID, &out->first));
    out->next = (uint64_t)next;
    out->done = done == 1;
out:
    sqlite3_reset(s);
    return status;
}
