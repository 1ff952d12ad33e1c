#include "bank/postgres/write.h"

#include <stdlib.h>

#define PAGE 4096

/* Ids that are picked, ascending and each once up to `sorted`; those behind it came since. */
typedef struct picks {
    reco_id_list ids;
    size_t sorted;
} picks;

static const reco_deletion_ops ops;

static int by_id(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void sort(picks *p)
{
    int64_t *ids = p->ids.at;
    if (p->sorted == p->ids.n) return;
    qsort(ids, p->ids.n, sizeof *ids, by_id);
    size_t n = 0;
    for (size_t i = 0; i < p->ids.n; i++)
        if (i == 0 || ids[i] != ids[i - 1]) ids[n++] = ids[i];
    p->ids.n = p->sorted = n;
}

/* ---- picking ---- */

typedef struct picking {
    const pg_bank *bank;
    picks *picks;
    const int64_t *ids; /* or */
    const char *const *uris;
    size_t n;
    unsigned char *packed; /* [pg_ids_bytes(PAGE)] */
    unsigned char place[RECO_PLACE_BYTES];
    bool *met; /* [n] of the uris */
} picking;

static reco_status ask_ids(reco_ctx *ctx, void *arg, size_t shard, size_t i, pg_call *call)
{
    const picking *p = arg;
    (void)ctx, (void)shard;
    call->sql = "SELECT id FROM reco_pair WHERE id = ANY($1::int8[])";
    pg_bytes(call, p->packed, pg_put_ids(p->packed, p->ids + i * PAGE, reco_min(PAGE, p->n - i * PAGE)));
    return RECO_OK;
}

static reco_status ask_uri(reco_ctx *ctx, void *arg, size_t shard, size_t i, pg_call *call)
{
    picking *p = arg;
    const pg_shard *s = &p->bank->set.shards[shard];
    char *resolved = reco_place_resolve(ctx, NULL, p->uris[i]);
    if (!resolved) return RECO_E_NOMEM;
    reco_place_hash(resolved, p->place);
    reco_free(resolved);
    call->sql =
        s->has_origin
            ? "SELECT id FROM reco_pair WHERE (md5(uri) = md5($1) AND uri = $1) OR place = $2::bytea"
        : s->has_uri ? "SELECT id FROM reco_pair WHERE uri = $1 AND $2::bytea IS NOT NULL"
                     : "SELECT id FROM reco_pair WHERE $1::text IS NULL AND $2::bytea IS NULL";
    pg_text(call, p->uris[i]);
    pg_bytes(call, p->place, sizeof p->place);
    return RECO_OK;
}

static reco_status take_ids(reco_ctx *ctx, void *arg, size_t shard, size_t i, const PGresult *rows)
{
    const picking *p = arg;
    (void)shard;
    if (p->met && PQntuples(rows)) p->met[i] = true;
    for (int row = 0; row < PQntuples(rows); row++) {
        int64_t id = pg_get_int(rows, row, 0);
        RECO_TRY(reco_id_list_add(ctx, &p->picks->ids, &id, 1));
    }
    return RECO_OK;
}

static reco_status pick_ids(reco_ctx *ctx, reco_bank_deletion *d, const int64_t *ids, size_t n,
                            uint64_t *found)
{
    picks here = {0}, *all = d->own;
    picking p = {.picks = &here, .ids = ids, .n = n};
    const pg_work work = {.calls = (n + PAGE - 1) / PAGE, .send = ask_ids, .take = take_ids, .arg = &p};
    reco_status status = RECO_OK;
    if (n == 0) return RECO_OK;
    if (!(p.packed = reco_alloc(ctx, pg_ids_bytes(PAGE), 1, "picked rows"))) return RECO_E_NOMEM;
    RECO_GO(pg_read(ctx, d->bank, &work));
    sort(&here);
    for (size_t i = 0; i < n && here.ids.n; i++)
        *found += bsearch(&ids[i], here.ids.at, here.ids.n, sizeof *ids, by_id) != NULL;
    status = reco_id_list_add(ctx, &all->ids, here.ids.at, here.ids.n);
out:
    reco_free(here.ids.at);
    reco_free(p.packed);
    return status;
}

static reco_status pick_uris(reco_ctx *ctx, reco_bank_deletion *d, const char *const *uris, size_t n,
                             uint64_t *found)
{
    picking p = {.bank = pg_of(d->bank), .picks = d->own, .uris = uris, .n = n};
    const pg_work work = {.calls = n, .send = ask_uri, .take = take_ids, .arg = &p};
    if (n == 0) return RECO_OK;
    if (!(p.met = reco_alloc(ctx, n, sizeof *p.met, "picked rows"))) return RECO_E_NOMEM;
    reco_status status = pg_read(ctx, d->bank, &work);
    for (size_t i = 0; i < n; i++) *found += p.met[i];
    reco_free(p.met);
    return status;
}

static reco_status pick_where(reco_ctx *ctx, reco_bank_deletion *d, const char *where, uint64_t *n)
{
    int64_t ids[PAGE];
    size_t page;
    int64_t from = 0;
    do {
        RECO_TRY(reco_bank_select(ctx, d->bank, where, from, PAGE, ids, &page));
        RECO_TRY(reco_id_list_add(ctx, &((picks *)d->own)->ids, ids, page));
        *n += page;
        if (page) from = ids[page - 1] + 1;
    } while (page == PAGE);
    return RECO_OK;
}

static reco_status picked(reco_ctx *ctx, reco_bank_deletion *d, int64_t from, size_t max, int64_t *ids,
                          size_t *n)
{
    picks *p = d->own;
    size_t i = 0;
    (void)ctx;
    sort(p);
    while (i < p->ids.n && p->ids.at[i] < from) i++;
    *n = reco_min(max, p->ids.n - i);
    if (*n) memcpy(ids, p->ids.at + i, *n * sizeof *ids);
    return RECO_OK;
}

/* ---- deleting ---- */

typedef struct deleting {
    const picks *picks;
    unsigned char *packed;
    uint64_t deleted;
} deleting;

static reco_status ask_delete(reco_ctx *ctx, void *arg, size_t shard, size_t i, pg_call *call)
{
    deleting *d = arg;
    (void)ctx, (void)shard;
    call->sql =
        "WITH gone AS (DELETE FROM reco_pair WHERE id = ANY($1::int8[]) RETURNING 1), counted AS (UPDATE "
        "reco_bank "
        "SET rows = rows - (SELECT count(*) FROM gone), changes = changes + 1) SELECT count(*) FROM gone";
    pg_bytes(
        call, d->packed,
        pg_put_ids(d->packed, d->picks->ids.at + i * PAGE, reco_min(PAGE, d->picks->ids.n - i * PAGE)));
    return RECO_OK;
}

static reco_status take_delete(reco_ctx *ctx, void *arg, size_t shard, size_t i, const PGresult *rows)
{
    deleting *d = arg;
    (void)ctx, (void)shard, (void)i;
    d->deleted += (uint64_t)pg_get_int(rows, 0, 0);
    return RECO_OK;
}

static reco_status commit(reco_ctx *ctx, reco_bank_deletion *d, uint64_t *deleted)
{
    picks *p = d->own;
    pg_writer *w = pg_writer_of(d->writer);
    unsigned char *packed = reco_alloc(ctx, pg_ids_bytes(PAGE), 1, "picked rows");
    if (!packed) return RECO_E_NOMEM;
    sort(p);
    deleting x = {.picks = p, .packed = packed};
    const pg_work work = {.calls = (p->ids.n + PAGE - 1) / PAGE,
                          .send = ask_delete,
                          .take = take_delete,
                          .arg = &x,
                          .bare = true};
    reco_status status = pg_begin(ctx, w);
    if (status == RECO_OK) status = pg_run(ctx, &w->set, &work);
    if (status == RECO_OK) status = pg_commit_all(ctx, w);
    reco_free(packed);
    p->ids.n = p->sorted = 0;
    if (status == RECO_OK && deleted) *deleted = x.deleted;
    return status;
}

static void close_picks(reco_bank_deletion *d)
{
    picks *p = d->own;
    if (p) reco_free(p->ids.at);
    reco_free(p);
}

reco_status reco_pg_deletion_open(reco_ctx *ctx, reco_bank_deletion **out, const char *urls, bool preview)
{
    uint64_t next;
    int done;
    *out = NULL;
    reco_bank_deletion *d = reco_alloc(ctx, 1, sizeof *d, "deletion");
    if (!d) return RECO_E_NOMEM;
    d->ops = &ops;
    reco_status status = RECO_E_NOMEM;
    d->own = reco_alloc(ctx, 1, sizeof(picks), "deletion");
    d->dir = reco_strdup(ctx, urls);
    if (d->own && d->dir) status = RECO_OK;
    if (status == RECO_OK && !preview)
        status = reco_pg_writer_open(ctx, &d->writer, urls, NULL, "", &next, &done);
    if (status == RECO_OK) status = reco_bank_open(ctx, &d->bank, urls);
    if (status == RECO_OK)
        *out = d;
    else
        reco_bank_deletion_close(d);
    return status;
}

static const reco_deletion_ops ops = {
    .pick_ids = pick_ids,
    .pick_uris = pick_uris,
    .pick_where = pick_where,
    .picked = picked,
    .commit = commit,
    .close = close_picks,
};
