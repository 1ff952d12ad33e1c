/* A table of the pictures that the bank may already have. A writer of many rows does not ask the servers about each
 * row, only about those that the table says may exist. */
#include "bank/postgres/write.h"

#define AFTER 500 /* records, for which asking is cheaper than looking at all rows */
#define MOST                                                                                               \
    ((size_t)1 << 24) /* rows that are noted, in 256 MiB at most; where there are more, each is asked for */
#define PAGE 20000

static uint64_t of_place(const unsigned char *place) { return reco_hash64(place, RECO_BANK_HASH, 1) | 1; }
static uint64_t of_uri(const char *uri) { return reco_hash64(uri, strlen(uri), 2) | 1; }

static size_t place_of(const pg_known *k, uint64_t hash)
{
    size_t at = (size_t)(hash >> 1) & (k->room - 1);
    while (k->hashes[at] && k->hashes[at] != hash) at = (at + 1) & (k->room - 1);
    return at;
}

static reco_status add(reco_ctx *ctx, pg_known *k, uint64_t hash)
{
    if (2 * (k->n + 1) > k->room) {
        pg_known wide = {.room = reco_max(1 << 14, 2 * k->room), .state = k->state, .n = k->n};
        wide.hashes = reco_alloc(ctx, wide.room, sizeof *wide.hashes, "pictures");
        if (!wide.hashes) return RECO_E_NOMEM;
        for (size_t i = 0; i < k->room; i++)
            if (k->hashes[i]) wide.hashes[place_of(&wide, k->hashes[i])] = k->hashes[i];
        reco_free(k->hashes);
        *k = wide;
    }
    size_t at = place_of(k, hash);
    k->n += !k->hashes[at];
    k->hashes[at] = hash;
    return RECO_OK;
}

static bool has(const pg_known *k, uint64_t hash) { return k->room && k->hashes[place_of(k, hash)]; }

reco_status pg_know(reco_ctx *ctx, pg_writer *p, const reco_pair *pair)
{
    pg_known *k = &p->known;
    if (k->state != PG_KNOWN_ALL) return RECO_OK;
    if (k->n >= MOST) {
        reco_free(k->hashes);
        *k = (pg_known){.state = PG_KNOWN_TOO_MANY};
        return RECO_OK;
    }
    if (pair->place) return add(ctx, k, of_place(pair->place));
    return pair->uri ? add(ctx, k, of_uri(pair->uri)) : RECO_OK;
}

/* ---- what was there before ---- */

typedef struct reading {
    pg_writer *p;
    int64_t *last; /* [shards] ids behind which to go on */
    size_t *calls; /* [shards] 1: there is more */
    int64_t number;
} reading;

static reco_status ask(reco_ctx *ctx, void *arg, size_t shard, size_t i, pg_call *call)
{
    reading *r = arg;
    (void)ctx, (void)i;
    call->sql = "SELECT id, place, CASE WHEN place IS NULL THEN uri END FROM reco_pair WHERE id > $1::int8 "
                "ORDER BY id LIMIT 20000";
    pg_int(call, &r->number, r->last[shard]);
    return RECO_OK;
}

static reco_status take(reco_ctx *ctx, void *arg, size_t shard, size_t i, const PGresult *rows)
{
    reading *r = arg;
    int n = PQntuples(rows);
    (void)i;
    r->calls[shard] = n == PAGE;
    if (n) r->last[shard] = pg_get_int(rows, n - 1, 0);
    for (int row = 0; row < n; row++) {
        reco_pair pair = {.uri = pg_get_text(rows, row, 2)};
        if (PQgetlength(rows, row, 1) == RECO_BANK_HASH)
            pair.place = (const unsigned char *)PQgetvalue(rows, row, 1);
        RECO_TRY(pg_know(ctx, r->p, &pair));
    }
    return RECO_OK;
}

static reco_status read_all(reco_ctx *ctx, pg_writer *p)
{
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status = RECO_E_NOMEM;
    size_t n = p->set.n;
    reading r = {.p = p,
                 .last = reco_scratch(ctx, n, sizeof *r.last, "servers"),
                 .calls = reco_scratch(ctx, n, sizeof *r.calls, "servers")};
    const pg_work work = {.per_shard = r.calls, .send = ask, .take = take, .arg = &r, .bare = true};
    if (!r.last || !r.calls) goto out;
    p->known.state = PG_KNOWN_ALL;
    for (size_t i = 0; i < n; i++) {
        r.last[i] = -1;
        r.calls[i] = 1;
    }
    for (size_t left = n; left && p->known.state == PG_KNOWN_ALL;) {
        RECO_GO(pg_run(ctx, &p->set, &work));
        left = 0;
        for (size_t i = 0; i < n; i++) left += r.calls[i];
    }
    status = RECO_OK;
out:
    reco_scratch_release(ctx, mark);
    return status;
}

reco_status pg_may_be_there(reco_ctx *ctx, pg_writer *p, const reco_pair *pair, const char *resolved,
                            bool *may)
{
    pg_known *k = &p->known;
    *may = true;
    if (k->state == PG_KNOWN_NONE) {
        if (++p->seeks < AFTER) return RECO_OK;
        if (p->w.next_id > (int64_t)MOST)
            k->state = PG_KNOWN_TOO_MANY;
        else
            RECO_TRY(read_all(ctx, p));
    }
    if (k->state == PG_KNOWN_ALL)
        *may = (pair->place && has(k, of_place(pair->place))) || (pair->uri && has(k, of_uri(pair->uri))) ||
               (pair->uri && resolved && has(k, of_uri(resolved)));
    return RECO_OK;
}
