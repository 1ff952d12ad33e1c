/* Find out what a server has: tables that reco made, or a table or view of another program with the same columns. */
#include "bank/postgres/pg.h"

#include <stdlib.h>

#define WANT_PGVECTOR "0.5.0"        /* the first with HNSW */
#define MOST_ROWS ((int64_t)1 << 53) /* of a server, so that all fit into a number */

static const char *const questions[] = {
    "SELECT (SELECT extversion FROM pg_extension WHERE extname = 'vector'), to_regclass('reco_pair') IS "
    "NOT NULL, "
    "to_regclass('reco_bank') IS NOT NULL, (SELECT reset_val::int8 FROM pg_settings WHERE name = "
    "'statement_timeout'), (SELECT relkind IN ('r', 'p') FROM pg_class WHERE oid = "
    "to_regclass('reco_pair')), "
    "to_regclass('reco_job') IS NOT NULL",
    "SELECT a.attname, t.typname, a.atttypmod FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid "
    "WHERE a.attrelid = to_regclass('reco_pair') AND a.attnum > 0 AND NOT a.attisdropped",
    "SELECT a.attname, substring(pg_get_indexdef(i.indexrelid) FROM ' USING (.*)$') FROM pg_index i JOIN "
    "pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam JOIN pg_attribute a ON "
    "a.attrelid = i.indrelid AND a.attnum = i.indkey[0] WHERE i.indrelid = to_regclass('reco_pair') AND "
    "m.amname IN "
    "('hnsw', 'ivfflat') AND i.indisvalid AND i.indpred IS NULL ORDER BY m.amname DESC, c.oid DESC",
};

typedef struct look {
    pg_set *set;
    bool *has_settings, *counts; /* [n] */
    int64_t *changes;
    pg_recalls *recalls; /* or NULL */
} look;

static reco_status ask_catalog(reco_ctx *ctx, void *arg, size_t shard, size_t i, pg_call *call)
{
    (void)ctx, (void)arg, (void)shard;
    call->sql = questions[i];
    return RECO_OK;
}

static reco_status take_tables(reco_ctx *ctx, look *l, size_t shard, const PGresult *rows)
{
    pg_shard *s = &l->set->shards[shard];
    const char *version = pg_get_text(rows, 0, 0);
    int have[2] = {0, 0}, want[2];
    sscanf(WANT_PGVECTOR, "%d.%d", &want[0], &want[1]);
    if (!version)
        return reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: has no pgvector; run CREATE EXTENSION vector there",
                         s->label);
    if (sscanf(version, "%d.%d", &have[0], &have[1]) != 2 || have[0] < want[0] ||
        (have[0] == want[0] && have[1] < want[1]))
        return reco_fail(ctx, RECO_E_UNSUPPORTED,
                         "%s: has pgvector %.20s, want " WANT_PGVECTOR
                         " or newer; install it and run ALTER EXTENSION vector UPDATE",
                         s->label, version);
    s->pgvector = have[0] * 1000 + have[1];
    if (!pg_get_bool(rows, 0, 1))
        return reco_fail(ctx, RECO_E_NOTFOUND,
                         "%s: is not a bank: it has no table or view reco_pair; reco bank build makes one",
                         s->label);
    l->has_settings[shard] = pg_get_bool(rows, 0, 2);
    int64_t limit = pg_get_int(rows, 0, 3);
    if (limit > 0)
        l->set->limit = l->set->limit ? (int64_t)reco_min((size_t)limit, (size_t)l->set->limit) : limit;
    s->is_ours = pg_get_bool(rows, 0, 4) && l->has_settings[shard] && pg_get_bool(rows, 0, 5);
    return RECO_OK;
}

static int side_of(const char *name)
{
    return strcmp(name, "image") == 0 ? RECO_IMAGE : strcmp(name, "text") == 0 ? RECO_TEXT : -1;
}

static reco_status take_columns(reco_ctx *ctx, look *l, size_t shard, const PGresult *rows)
{
    pg_shard *s = &l->set->shards[shard];
    int found = 0, origin = 0;
    for (int i = 0; i < PQntuples(rows); i++) {
        const char *name = PQgetvalue(rows, i, 0), *type = PQgetvalue(rows, i, 1);
        int64_t width = pg_get_int(rows, i, 2);
        int side = side_of(name);
        if (side >= 0) {
            s->half[side] = strcmp(type, "halfvec") == 0;
            if (!s->half[side] && strcmp(type, "vector") != 0)
                return reco_fail(ctx, RECO_E_FORMAT,
                                 "%s: reco_pair.%s is a %.60s, want a vector or halfvec", s->label, name,
                                 type);
            if (width < 1 || width > RECO_BANK_MAX_WIDTH)
                return reco_fail(
                    ctx, RECO_E_FORMAT,
                    "%s: reco_pair.%s is a %s without a width, want %s(512), with the width of its vectors",
                    s->label, name, type, type);
            if (s->info.d && s->info.d != (size_t)width)
                return reco_fail(ctx, RECO_E_FORMAT,
                                 "%s: reco_pair.%s has width %lld, the other side has %zu", s->label, name,
                                 (long long)width, s->info.d);
            s->info.d = (size_t)width;
            found++;
        }
        found += (strcmp(name, "id") == 0 && strcmp(type, "int8") == 0) || strcmp(name, "caption") == 0;
        s->has_uri |= strcmp(name, "uri") == 0;
        s->has_meta |= strcmp(name, "meta") == 0;
        origin += strcmp(name, "base") == 0 || strcmp(name, "place") == 0 || strcmp(name, "content") == 0;
    }
    s->has_origin = origin == 3 && s->has_uri && s->has_meta;
    if (found == 4) return RECO_OK;
    return reco_fail(
        ctx, RECO_E_FORMAT,
        "%s: reco_pair lacks a column, want id (bigint), caption, image and text (vector or halfvec)",
        s->label);
}

static reco_status take_catalog(reco_ctx *ctx, void *arg, size_t shard, size_t i, const PGresult *rows)
{
    look *l = arg;
    if (i == 0) return take_tables(ctx, l, shard, rows);
    if (i == 1) return take_columns(ctx, l, shard, rows);
    for (int row = 0; row < PQntuples(rows); row++) {
        int side = side_of(PQgetvalue(rows, row, 0));
        const char *index = PQgetvalue(rows, row, 1);
        if (side >= 0 && (strstr(index, "_ip_ops") || strstr(index, "_cosine_ops")))
            snprintf(l->set->shards[shard].index[side], PG_INDEX, "%s", index);
    }
    return RECO_OK;
}

/* ---- settings ---- */

static reco_status ask_settings(reco_ctx *ctx, void *arg, size_t shard, size_t i, pg_call *call)
{
    (void)ctx, (void)shard, (void)i, (void)arg;
    call->sql = "SELECT to_jsonb(b)::text, pg_total_relation_size('reco_pair') FROM reco_bank b LIMIT 2";
    return RECO_OK;
}

static void copy_text(char *to, size_t room, const json_t *settings, const char *key)
{
    const char *text = json_string_value(json_object_get(settings, key));
    snprintf(to, room, "%s", text ? text : "");
    reco_text_clean(to);
}

static reco_status take_settings(reco_ctx *ctx, void *arg, size_t shard, size_t i, const PGresult *rows)
{
    look *l = arg;
    pg_shard *s = &l->set->shards[shard];
    json_t *settings = NULL, *rows_there;
    (void)i;
    if (PQntuples(rows) != 1)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: reco_bank has %d rows, want 1", s->label,
                         PQntuples(rows));
    if (reco_json_parse_object(ctx, &settings, PQgetvalue(rows, 0, 0), strlen(PQgetvalue(rows, 0, 0))) !=
        RECO_OK)
        return reco_fail_prefix(ctx, RECO_E_FORMAT, s->label);
    json_int_t d = json_integer_value(json_object_get(settings, "d"));
    reco_status status = RECO_OK;
    if (d && (size_t)d != s->info.d)
        status = reco_fail(ctx, RECO_E_FORMAT,
                           "%s: reco_pair has vectors of width %zu, but reco_bank says d = %lld", s->label,
                           s->info.d, (long long)d);
    copy_text(s->info.encoder, sizeof s->info.encoder, settings, "encoder");
    copy_text(s->info.fingerprint, sizeof s->info.fingerprint, settings, "fingerprint");
    const json_t *recall = json_object_get(settings, "recall");
    s->keeps_recall = recall != NULL;
    if (l->recalls && !l->recalls->rows && json_is_object(recall)) pg_read_recalls(recall, l->recalls);
    double scale = json_number_value(json_object_get(settings, "logit_scale"));
    s->info.logit_scale = scale >= 0 && scale <= 1e6 ? (float)scale : 0;
    s->info.next_id = json_integer_value(json_object_get(settings, "next_id"));
    s->info.complete = !json_is_false(json_object_get(settings, "complete"));
    s->info.vector_bytes = (uint64_t)pg_get_int(rows, 0, 1);
    rows_there = json_object_get(settings, "rows");
    s->info.rows = json_integer_value(rows_there);
    l->counts[shard] = !json_is_integer(rows_there);
    if (status == RECO_OK && (s->info.rows < 0 || s->info.rows > MOST_ROWS || s->info.next_id < 0 ||
                              s->info.next_id > RECO_BANK_MAX_ID))
        status = reco_fail(
            ctx, RECO_E_FORMAT,
            "%s: reco_bank says rows = %lld, next_id = %lld, want 0 or more, at most 2^53 and 2^62",
            s->label, (long long)s->info.rows, (long long)s->info.next_id);
    s->is_ours &= json_is_integer(rows_there) && json_object_get(settings, "next_id") != NULL;
    *l->changes = (int64_t)((uint64_t)*l->changes +
                            (uint64_t)json_integer_value(json_object_get(settings, "changes")));
    json_decref(settings);
    return status;
}

static reco_status ask_count(reco_ctx *ctx, void *arg, size_t shard, size_t i, pg_call *call)
{
    (void)ctx, (void)shard, (void)i, (void)arg;
    call->sql = "SELECT count(*), coalesce(max(id), -1) + 1, coalesce(min(id), 0) FROM reco_pair";
    return RECO_OK;
}

static reco_status take_count(reco_ctx *ctx, void *arg, size_t shard, size_t i, const PGresult *rows)
{
    const look *l = arg;
    pg_shard *s = &l->set->shards[shard];
    (void)i;
    s->info.rows = pg_get_int(rows, 0, 0);
    s->info.next_id = pg_get_int(rows, 0, 1);
    if (pg_get_int(rows, 0, 2) < 0)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: a row has id %lld, want 0 or more", s->label,
                         (long long)pg_get_int(rows, 0, 2));
    return RECO_OK;
}

/* One bank of all its shards, of which the first that answers says what the others must be. */
static reco_status add_up(reco_ctx *ctx, const pg_set *set, reco_bank_info *info)
{
    const pg_shard *first = NULL;
    *info = (reco_bank_info){0};
    for (size_t i = 0; i < set->n; i++) {
        const pg_shard *s = &set->shards[i];
        if (s->failed) continue;
        if (!first) {
            first = s;
            *info = s->info;
            continue;
        }
        if (s->info.d != info->d)
            return reco_fail(ctx, RECO_E_MISMATCH,
                             "%s: has vectors of width %zu, %s of width %zu; they belong to two banks",
                             s->label, s->info.d, first->label, info->d);
        if (strcmp(s->info.fingerprint, info->fingerprint) != 0 ||
            strcmp(s->info.encoder, info->encoder) != 0)
            return reco_fail(ctx, RECO_E_MISMATCH,
                             "%s: was made with encoder %s (%s), %s with %s (%s); they belong to two banks",
                             s->label, s->info.encoder, s->info.fingerprint, first->label, info->encoder,
                             info->fingerprint);
        info->rows += s->info.rows;
        info->next_id = s->info.next_id > info->next_id ? s->info.next_id : info->next_id;
        info->vector_bytes += s->info.vector_bytes;
        info->complete &= s->info.complete;
    }
    info->format = RECO_CATALOG_FORMAT;
    info->shards = set->n;
    return RECO_OK;
}

static int64_t time_for(const pg_set *set, int64_t rows)
{
    int64_t limit = 10000 + rows / 5;
    return set->limit && set->limit < limit ? set->limit : limit;
}

reco_status pg_look(reco_ctx *ctx, pg_set *set, reco_bank_info *info, int64_t *changes, pg_recalls *recalls)
{
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status = RECO_E_NOMEM;
    look l = {.set = set,
              .has_settings = reco_scratch(ctx, set->n, sizeof(bool), "servers"),
              .counts = reco_scratch(ctx, set->n, sizeof(bool), "servers"),
              .changes = changes,
              .recalls = recalls};
    size_t *calls = reco_scratch(ctx, set->n, sizeof *calls, "servers");
    if (!l.has_settings || !l.counts || !calls) goto out;
    *changes = 0;
    if (recalls) *recalls = (pg_recalls){0};
    set->limit = 0;
    for (size_t i = 0; i < set->n; i++) {
        set->shards[i].info = (reco_bank_info){.complete = 1};
        l.has_settings[i] = false;
        l.counts[i] = true;
    }
    const pg_work catalog = {.calls = 3, .send = ask_catalog, .take = take_catalog, .arg = &l};
    set->looking = true; /* one that connects later comes too late */
    status = pg_run(ctx, set, &catalog);
    set->looking = false;
    if (status != RECO_OK) goto out;
    const pg_work settings = {.per_shard = calls, .send = ask_settings, .take = take_settings, .arg = &l};
    for (size_t i = 0; i < set->n; i++) calls[i] = l.has_settings[i];
    RECO_GO(pg_run(ctx, set, &settings));
    const pg_work count = {
        .per_shard = calls, .send = ask_count, .take = take_count, .arg = &l, .timeout = 600000};
    bool any = false;
    for (size_t i = 0; i < set->n; i++) any |= (calls[i] = l.counts[i] && !set->shards[i].failed) != 0;
    if (any) RECO_GO(pg_run(ctx, set, &count));
    status = add_up(ctx, set, info);
    set->timeout = time_for(set, info->rows);
    if (status == RECO_OK && recalls) pg_settle_recalls(ctx, set, recalls, info);
    for (size_t i = 0; i < set->n; i++) set->shards[i].looked = !set->shards[i].failed;
out:
    reco_scratch_release(ctx, mark);
    return status;
}
