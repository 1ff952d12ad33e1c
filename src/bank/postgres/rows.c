#include "bank/postgres/pg.h"

#include <stdlib.h>

#define PIECE 4096 /* ids of one statement */

const char *pg_pair_columns(const pg_shard *s)
{
#define COLUMNS(uri, meta, origin) "caption, " uri ", " meta ", " origin
#define NO_ORIGIN "NULL::text, NULL::bytea, NULL::bytea"
    if (s->has_origin) return COLUMNS("uri", "meta::text", "base, place, content");
    return s->has_uri    ? s->has_meta ? COLUMNS("uri", "meta::text", NO_ORIGIN)
                                       : COLUMNS("uri", "NULL::text", NO_ORIGIN)
              : s->has_meta ? COLUMNS("NULL::text", "meta::text", NO_ORIGIN)
                         : COLUMNS("NULL::text", "NULL::text", NO_ORIGIN);
}

/* Rows by id: wanted in order, each once on its way. */
typedef struct fetch {
    const pg_bank *bank;
    reco_wanted *want; /* [n] */
    size_t n, unique;
    int64_t *ids;          /* [unique] */
    unsigned char *packed; /* [pg_ids_bytes(PIECE)] */
    bool *met;             /* [n] by place in want */
    reco_side side;
    float *vectors;   /* [..][d], or NULL */
    reco_pair *pairs; /* or NULL */
    char sql[256];
} fetch;

static reco_status ask(reco_ctx *ctx, void *arg, size_t shard, size_t i, pg_call *call)
{
    fetch *f = arg;
    const pg_shard *s = &f->bank->set.shards[shard];
    size_t n = reco_min(PIECE, f->unique - i * PIECE);
    (void)ctx;
    if (f->vectors)
        snprintf(f->sql, sizeof f->sql, "SELECT id, %s FROM reco_pair WHERE id = ANY($1::int8[])",
                 pg_side_names[f->side]);
    else
        snprintf(f->sql, sizeof f->sql, "SELECT id, %s FROM reco_pair WHERE id = ANY($1::int8[])",
                 pg_pair_columns(s));
    call->sql = f->sql;
    pg_bytes(call, f->packed, pg_put_ids(f->packed, f->ids + i * PIECE, n));
    return RECO_OK;
}

reco_status pg_get_pair(reco_ctx *ctx, const pg_shard *s, const PGresult *rows, int row, int first,
                        reco_pair *out)
{
    size_t total = 0;
    *out = (reco_pair){.id = pg_get_int(rows, row, 0)};
    for (int i = 0; i < 6; i++) total += (size_t)PQgetlength(rows, row, first + i) + 1;
    if (PQgetisnull(rows, row, first))
        return reco_fail(ctx, RECO_E_FORMAT, "%s: row %lld has no caption", s->label, (long long)out->id);
    char *block = reco_alloc(ctx, total, 1, "pair"); /* the caption's, which is freed */
    if (!block) return RECO_E_NOMEM;
    const char **texts[] = {&out->caption, &out->uri, &out->meta, &out->base};
    const unsigned char **hashes[] = {&out->place, &out->content};
    for (int i = 0; i < 6; i++) {
        size_t bytes = (size_t)PQgetlength(rows, row, first + i);
        if (PQgetisnull(rows, row, first + i) || (i > 3 && bytes != RECO_BANK_HASH)) continue;
        memcpy(block, PQgetvalue(rows, row, first + i), bytes);
        if (i <= 3)
            *texts[i] = block;
        else
            *hashes[i - 4] = (unsigned char *)block;
        block += bytes + 1;
    }
    return RECO_OK;
}

static size_t find(const fetch *f, int64_t id)
{
    size_t lo = 0, hi = f->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (f->want[mid].id < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static reco_status take(reco_ctx *ctx, void *arg, size_t shard, size_t i, const PGresult *rows)
{
    fetch *f = arg;
    const pg_shard *s = &f->bank->set.shards[shard];
    size_t d = f->bank->bank.info.d;
    (void)i;
    for (int row = 0; row < PQntuples(rows); row++) {
        int64_t id = pg_get_int(rows, row, 0);
        size_t first = find(f, id);
        for (size_t w = first; w < f->n && f->want[w].id == id && !f->met[w]; w++) {
            size_t at = f->want[w].at;
            if (f->vectors && w == first)
                RECO_TRY(pg_get_vector(ctx, s, rows, row, 1, s->half[f->side], d, f->vectors + at * d));
            else if (f->vectors)
                memcpy(f->vectors + at * d, f->vectors + f->want[first].at * d, d * sizeof(float));
            else
                RECO_TRY(pg_get_pair(ctx, s, rows, row, 1, &f->pairs[at]));
            f->met[w] = true;
        }
    }
    return RECO_OK;
}

/* Those of -1 are passed over. */
static reco_status fetch_rows(reco_ctx *ctx, fetch *f, const int64_t *ids, size_t n)
{
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status = RECO_E_NOMEM;
    f->want = reco_scratch(ctx, n, sizeof *f->want, "rows");
    f->ids = reco_scratch(ctx, n, sizeof *f->ids, "rows");
    f->met = reco_scratch(ctx, n, sizeof *f->met, "rows");
    f->packed = reco_scratch(ctx, pg_ids_bytes(reco_min(n, PIECE)), 1, "rows");
    if (!f->want || !f->ids || !f->met || !f->packed) goto out;
    f->n = f->unique = 0;
    for (size_t i = 0; i < n; i++)
        if (ids[i] != -1) f->want[f->n++] = (reco_wanted){ids[i], i};
    qsort(f->want, f->n, sizeof *f->want, reco_by_wanted);
    for (size_t i = 0; i < f->n; i++) {
        f->met[i] = false;
        if (i == 0 || f->want[i].id != f->want[i - 1].id) f->ids[f->unique++] = f->want[i].id;
    }
    status = RECO_OK;
    if (f->n == 0) goto out;
    const pg_work work = {.calls = (f->unique + PIECE - 1) / PIECE, .send = ask, .take = take, .arg = f};
    RECO_GO(pg_read(ctx, &f->bank->bank, &work));
    for (size_t i = 0; i < f->n; i++)
        if (!f->met[i])
            RECO_GO(reco_fail(ctx, RECO_E_NOTFOUND, "bank: no row with id %lld", (long long)f->want[i].id));
out:
    reco_scratch_release(ctx, mark);
    return status;
}

reco_status pg_gather(reco_ctx *ctx, const reco_bank *bank, reco_side side, const int64_t *ids, size_t n,
                      float *out)
{
    fetch f = {.bank = pg_of(bank), .side = side, .vectors = out};
    for (size_t i = 0; i < n; i++)
        if (ids[i] == -1) memset(out + i * bank->info.d, 0, bank->info.d * sizeof *out);
    return fetch_rows(ctx, &f, ids, n);
}

reco_status pg_get_many(reco_ctx *ctx, const reco_bank *bank, const int64_t *ids, size_t n, reco_pair *out)
{
    fetch f = {.bank = pg_of(bank), .pairs = out};
    for (size_t i = 0; i < n; i++) out[i] = (reco_pair){.id = -1};
    reco_status status = fetch_rows(ctx, &f, ids, n);
    for (size_t i = 0; i < n && status != RECO_OK; i++) reco_pair_free(&out[i]);
    return status;
}

reco_status pg_get(reco_ctx *ctx, const reco_bank *bank, int64_t id, bool deleted, reco_pair *out)
{
    if (id < 0 || deleted)
        return reco_fail(ctx, RECO_E_NOTFOUND,
                         deleted ? "bank: no row with id %lld: rows deleted on a server cannot be restored"
                                 : "bank: no row with id %lld",
                         (long long)id);
    return pg_get_many(ctx, bank, &id, 1, out);
}

/* ---- lists ---- */

typedef struct listing {
    const pg_bank *bank;
    const reco_bank_choice *choice;
    size_t max;
    char *sql;
    int64_t numbers[2];
    int64_t *ids; /* [shards][max] */
    size_t *n;    /* [shards] */
} listing;

static reco_status ask_list(reco_ctx *ctx, void *arg, size_t shard, size_t i, pg_call *call)
{
    listing *l = arg;
    (void)ctx, (void)shard, (void)i;
    call->sql = l->sql;
    pg_int(call, &l->numbers[0], l->choice->from);
    pg_int(call, &l->numbers[1], (int64_t)l->max);
    return RECO_OK;
}

static reco_status take_list(reco_ctx *ctx, void *arg, size_t shard, size_t i, const PGresult *rows)
{
    listing *l = arg;
    (void)ctx, (void)i;
    l->n[shard] = reco_min((size_t)PQntuples(rows), l->max);
    for (size_t row = 0; row < l->n[shard]; row++)
        l->ids[shard * l->max + row] = pg_get_int(rows, (int)row, 0);
    return RECO_OK;
}

reco_status pg_select(reco_ctx *ctx, const reco_bank *bank, const reco_bank_choice *choice, size_t max,
                      int64_t *ids, size_t *n)
{
    listing l = {.bank = pg_of(bank), .choice = choice, .max = max};
    size_t shards = l.bank->set.n;
    if (choice->where) RECO_TRY(pg_check_where(ctx, choice->where));
    if (max == 0 || choice->deleted) return RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status = RECO_E_NOMEM;
    l.ids = reco_scratch(ctx, shards * max, sizeof *l.ids, "rows");
    l.n = reco_scratch(ctx, shards, 2 * sizeof *l.n, "rows");
    l.sql = reco_format(
        ctx, "SELECT id FROM reco_pair WHERE id >= $1::int8%s%s%s ORDER BY id LIMIT $2::int8",
        choice->where ? " AND (" : "", choice->where ? choice->where : "", choice->where ? "\n)" : "");
    if (!l.ids || !l.n || !l.sql) goto out;
    size_t *at = l.n + shards;
    memset(l.n, 0, 2 * shards * sizeof *l.n);
    const pg_work work = {.calls = 1,
                          .send = ask_list,
                          .take = take_list,
                          .arg = &l,
                          .wrong = choice->where ? RECO_E_ARG : RECO_OK};
    RECO_GO(pg_read(ctx, bank, &work));
    while (*n < max) {
        size_t least = shards;
        for (size_t s = 0; s < shards; s++)
            if (at[s] < l.n[s] &&
                (least == shards || l.ids[s * max + at[s]] < l.ids[least * max + at[least]]))
                least = s;
        if (least == shards) break;
        ids[(*n)++] = l.ids[least * max + at[least]++];
    }
out:
    reco_free(l.sql);
    reco_scratch_release(ctx, mark);
    return status;
}
