/* Queries of a writer about existing rows, including its own rows in the open transaction. */
#include "bank/postgres/write.h"

/* ---- by picture ---- */

typedef struct seeking {
    const reco_pair *pair;
    const char *resolved;
    bool any_caption;
    struct found {
        int64_t id, count;
        bool has_content, same;
        unsigned char content[RECO_BANK_HASH];
    } found[2]; /* of its place, of its uri */
} seeking;

static reco_status ask_picture(reco_ctx *ctx, void *arg, size_t shard, size_t i, pg_call *call)
{
    const seeking *s = arg;
    const reco_pair *pair = s->pair;
    (void)ctx, (void)shard;
    if (i == 0) {
        call->sql =
            "SELECT id, content, count(*) OVER (), content IS NOT DISTINCT FROM $3::bytea AS same FROM "
            "reco_pair "
            "WHERE place = $1::bytea AND ($2::text IS NULL OR caption = $2) ORDER BY same DESC, id LIMIT 1";
        pg_bytes(call, pair->place, RECO_BANK_HASH);
        pg_text(call, s->any_caption ? NULL : pair->caption);
        pg_bytes(call, pair->content, RECO_BANK_HASH);
    } else {
        call->sql =
            "SELECT id, NULL::bytea, 1::int8, false FROM reco_pair WHERE place IS NULL AND uri IN ($1, $3) "
            "AND "
            "md5(uri) IN (md5($1), md5($3)) AND ($2::text IS NULL OR caption = $2) ORDER BY id LIMIT 1";
        pg_text(call, pair->uri);
        pg_text(call, s->any_caption ? NULL : pair->caption);
        pg_text(call, s->resolved);
    }
    return RECO_OK;
}

static reco_status take_picture(reco_ctx *ctx, void *arg, size_t shard, size_t i, const PGresult *rows)
{
    seeking *s = arg;
    struct found *best = &s->found[i], one = {.id = -1};
    (void)ctx, (void)shard;
    if (PQntuples(rows) == 0) return RECO_OK;
    one.id = pg_get_int(rows, 0, 0);
    one.has_content = PQgetlength(rows, 0, 1) == RECO_BANK_HASH;
    if (one.has_content) memcpy(one.content, PQgetvalue(rows, 0, 1), RECO_BANK_HASH);
    one.same = pg_get_bool(rows, 0, 3);
    one.count = best->count + pg_get_int(rows, 0, 2);
    if (best->id < 0 || one.same > best->same || (one.same == best->same && one.id < best->id))
        *best = one;
    else
        best->count = one.count;
    return RECO_OK;
}

reco_status pg_seek(reco_ctx *ctx, reco_bank_writer *w, const reco_pair *pair, const char *resolved,
                    bool any_caption, int64_t *id, unsigned char content[RECO_BANK_HASH], bool *has_content,
                    bool *has_others)
{
    seeking s = {
        .pair = pair, .resolved = resolved, .any_caption = any_caption, .found = {{.id = -1}, {.id = -1}}};
    const pg_work work = {.calls = 2, .send = ask_picture, .take = take_picture, .arg = &s, .bare = true};
    bool may;
    RECO_TRY(pg_may_be_there(ctx, pg_writer_of(w), pair, resolved, &may));
    if (may) RECO_TRY(pg_run(ctx, &pg_writer_of(w)->set, &work));
    const struct found *f = &s.found[s.found[0].id < 0];
    *id = f->id;
    *has_content = f->id >= 0 && f->has_content;
    if (*has_content) memcpy(content, f->content, RECO_BANK_HASH);
    *has_others = any_caption && s.found[0].count > 1;
    return RECO_OK;
}

static reco_status ask_content(reco_ctx *ctx, void *arg, size_t shard, size_t i, pg_call *call)
{
    void **args = arg;
    const reco_bank_writer *w = args[0];
    (void)ctx, (void)shard, (void)i;
    call->sql = "SELECT coalesce(min(id), -1) FROM reco_pair WHERE content = $1::bytea AND id < $2::int8";
    pg_bytes(call, args[1], RECO_BANK_HASH);
    pg_int(call, args[3], w->committed);
    return RECO_OK;
}

static reco_status take_content(reco_ctx *ctx, void *arg, size_t shard, size_t i, const PGresult *rows)
{
    int64_t *id = ((void **)arg)[2], one = pg_get_int(rows, 0, 0);
    (void)ctx, (void)shard, (void)i;
    if (one >= 0 && (*id < 0 || one < *id)) *id = one;
    return RECO_OK;
}

reco_status pg_seek_content(reco_ctx *ctx, reco_bank_writer *w, const unsigned char content[RECO_BANK_HASH],
                            int64_t *id)
{
    int64_t number;
    void *args[] = {w, (void *)(uintptr_t)content, id, &number};
    const pg_work work = {.calls = 1, .send = ask_content, .take = take_content, .arg = args, .bare = true};
    *id = -1;
    return pg_run(ctx, &pg_writer_of(w)->set, &work);
}

/* ---- rows that were met ---- */

static void add_touched(int64_t *table, size_t room, int64_t id)
{
    size_t at = pg_shard_of(id, room);
    while (table[at] && table[at] != id + 1) at = (at + 1) % room;
    table[at] = id + 1;
}

reco_status pg_touch(reco_ctx *ctx, reco_bank_writer *w, int64_t id, bool *before)
{
    pg_writer *p = pg_writer_of(w);
    if (2 * (p->ntouched + 1) > p->touched_room) {
        size_t room = reco_max(1024, 4 * p->touched_room);
        int64_t *table = reco_alloc(ctx, room, sizeof *table, "rows met");
        if (!table) return RECO_E_NOMEM;
        for (size_t i = 0; i < p->touched_room; i++)
            if (p->touched[i]) add_touched(table, room, p->touched[i] - 1);
        reco_free(p->touched);
        p->touched = table;
        p->touched_room = room;
    }
    size_t at = pg_shard_of(id, p->touched_room);
    while (p->touched[at] && p->touched[at] != id + 1) at = (at + 1) % p->touched_room;
    *before = p->touched[at] != 0;
    p->touched[at] = id + 1;
    p->ntouched += !*before;
    return RECO_OK;
}

/* ---- by a column of the user's ---- */

/* The value of column $1 in a row's JSON; case and blanks around a name don't matter, the name as it is comes first. */
#define KEY_OF(meta)                                                                                       \
    "(SELECT e.value FROM jsonb_each_text(" meta ") e WHERE lower(btrim(e.key)) = lower(btrim($1)) AND "   \
    "e.value IS NOT NULL ORDER BY e.key <> $1 LIMIT 1)"

typedef struct keyed {
    const char *sql, *column, *meta;
    bool has;
    int64_t id, count;
} keyed;

static reco_status ask_key(reco_ctx *ctx, void *arg, size_t shard, size_t i, pg_call *call)
{
    const keyed *k = arg;
    (void)ctx, (void)shard, (void)i;
    call->sql = k->sql;
    pg_text(call, k->column);
    if (k->meta) pg_text(call, k->meta);
    return RECO_OK;
}

static reco_status take_key(reco_ctx *ctx, void *arg, size_t shard, size_t i, const PGresult *rows)
{
    keyed *k = arg;
    (void)ctx, (void)shard, (void)i;
    if (PQntuples(rows) != 1 || PQnfields(rows) != 3) return RECO_OK;
    k->has |= pg_get_bool(rows, 0, 0);
    int64_t count = pg_get_int(rows, 0, 2), id = pg_get_int(rows, 0, 1);
    if (count && (k->count == 0 || id < k->id)) k->id = id;
    k->count += count;
    return RECO_OK;
}

static reco_status run_key(reco_ctx *ctx, reco_bank_writer *w, keyed *k, size_t shards)
{
    pg_set *set = &pg_writer_of(w)->set;
    reco_mark mark = reco_scratch_mark(ctx);
    size_t *calls = reco_scratch(ctx, set->n, sizeof *calls, "servers");
    if (!calls) return RECO_E_NOMEM;
    for (size_t i = 0; i < set->n; i++) calls[i] = i < shards;
    k->column = w->key;
    const pg_work work = {
        .per_shard = calls, .send = ask_key, .take = take_key, .arg = k, .bare = true, .timeout = 600000};
    reco_status status = pg_run(ctx, set, &work);
    reco_scratch_release(ctx, mark);
    return status;
}

reco_status pg_key_by(reco_ctx *ctx, reco_bank_writer *w)
{
    keyed k = {.sql = "INSERT INTO pg_temp.reco_key SELECT k.value, k.id FROM (SELECT " KEY_OF(
                   "p.meta") " AS value, p.id FROM reco_pair p WHERE p.meta IS NOT NULL) k WHERE k.value "
                             "IS NOT NULL"};
    pg_set *set = &pg_writer_of(w)->set;
    RECO_TRY(pg_all(ctx, set, "CREATE TEMP TABLE reco_key(value text, id int8)"));
    RECO_TRY(run_key(ctx, w, &k, SIZE_MAX));
    return pg_all(ctx, set, "CREATE INDEX ON pg_temp.reco_key(md5(value))");
}

reco_status pg_seek_key(reco_ctx *ctx, reco_bank_writer *w, const char *meta, bool *has, int64_t *id,
                        int64_t *count)
{
    keyed k = {.sql = "SELECT k.value IS NOT NULL, (SELECT min(id) FROM pg_temp.reco_key t WHERE "
                      "md5(t.value) = md5(k.value) "
                      "AND t.value = k.value), (SELECT count(*) FROM pg_temp.reco_key t WHERE md5(t.value) "
                      "= md5(k.value) AND "
                      "t.value = k.value) FROM (SELECT nullif(" KEY_OF("$2::jsonb") ", '') AS value) k",
               .meta = meta,
               .id = -1};
    RECO_TRY(run_key(ctx, w, &k, SIZE_MAX));
    *has = k.has;
    *id = k.id;
    *count = k.count;
    return RECO_OK;
}

reco_status pg_add_key(reco_ctx *ctx, reco_bank_writer *w, const char *meta)
{
    keyed k = {.sql = "INSERT INTO pg_temp.reco_key VALUES(" KEY_OF("$2::jsonb") ", -1)", .meta = meta};
    return run_key(ctx, w, &k, 1); /* on one of them */
}

/* ---- a row ---- */

typedef struct row {
    const pg_writer *p;
    int64_t id, number;
    reco_side side;
    float *vector;
    reco_pair *pair;
    bool found;
    char sql[160];
} row;

static reco_status ask_row(reco_ctx *ctx, void *arg, size_t shard, size_t i, pg_call *call)
{
    row *r = arg;
    (void)ctx, (void)i;
    snprintf(r->sql, sizeof r->sql, "SELECT id, %s FROM reco_pair WHERE id = $1::int8",
             r->vector ? pg_side_names[r->side] : pg_pair_columns(&r->p->set.shards[shard]));
    call->sql = r->sql;
    pg_int(call, &r->number, r->id);
    return RECO_OK;
}

static reco_status take_row(reco_ctx *ctx, void *arg, size_t shard, size_t i, const PGresult *rows)
{
    row *r = arg;
    const pg_shard *s = &r->p->set.shards[shard];
    (void)i;
    if (PQntuples(rows) == 0 || r->found) return RECO_OK;
    r->found = true;
    return r->vector ? pg_get_vector(ctx, s, rows, 0, 1, s->half[r->side], r->p->w.d, r->vector)
                     : pg_get_pair(ctx, s, rows, 0, 1, r->pair);
}

static reco_status get_row(reco_ctx *ctx, row *r)
{
    const pg_work work = {.calls = 1, .send = ask_row, .take = take_row, .arg = r, .bare = true};
    RECO_TRY(pg_run(ctx, (pg_set *)(uintptr_t)&r->p->set, &work));
    return r->found
               ? RECO_OK
               : reco_fail(ctx, RECO_E_NOTFOUND, "%s: no row with id %lld", r->p->w.dir, (long long)r->id);
}

reco_status pg_writer_gather(reco_ctx *ctx, reco_bank_writer *w, reco_side side, int64_t id, float *out)
{
    row r = {.p = pg_writer_of(w), .id = id, .side = side, .vector = out};
    return get_row(ctx, &r);
}

reco_status pg_writer_get(reco_ctx *ctx, reco_bank_writer *w, int64_t id, reco_pair *out)
{
    row r = {.p = pg_writer_of(w), .id = id, .pair = out};
    return get_row(ctx, &r);
}
