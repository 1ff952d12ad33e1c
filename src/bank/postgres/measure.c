/* What share of the nearest rows the servers' indexes find: rows of the bank ask, each without itself and its copies, once exactly and
 * once at each setting. */
#include "bank/postgres/pg.h"
#include "kernels/kernels.h"

#include <math.h>
#include <stdlib.h>

#define K PG_DEPTH_MANY
#define BLOCK 64                 /* queries at a time */
#define NEAR 10                  /* neighbours of a row, two of which move it */
#define QUERIES 50               /* at least, */
#define MOST_QUERIES 200         /* and so many where rows are few: */
#define ROWS_READ ((int64_t)1e7) /* by the exact searches of one direction */
#define ENOUGH 0.9995f           /* no larger setting is tried */
#define DEFAULT_RECALL 0.99f
#define WHAT "measuring recall"

static const size_t depths[2] = {PG_DEPTH_FEW, PG_DEPTH_MANY};

/* ---- rows that ask ---- */

typedef struct picking {
    const reco_bank_info *info;
    size_t n;
    int64_t number;
    int64_t *ids; /* [n] */
} picking;

static reco_status ask_pick(reco_ctx *ctx, void *arg, size_t shard, size_t i, pg_call *call)
{
    picking *p = arg;
    (void)ctx, (void)shard;
    call->sql = "SELECT id FROM reco_pair WHERE id >= $1::int8 ORDER BY id LIMIT 1";
    pg_int(call, &p->number, (int64_t)((double)p->info->next_id * (double)i / (double)p->n));
    return RECO_OK;
}

static reco_status take_pick(reco_ctx *ctx, void *arg, size_t shard, size_t i, const PGresult *rows)
{
    const picking *p = arg;
    (void)ctx, (void)shard;
    if (PQntuples(rows) == 0) return RECO_OK;
    int64_t id = pg_get_int(rows, 0, 0);
    if (p->ids[i] < 0 || id < p->ids[i]) p->ids[i] = id;
    return RECO_OK;
}

/* Spread over all ids, each once. */
static reco_status pick(reco_ctx *ctx, const reco_bank *bank, int64_t *ids, size_t *n)
{
    picking p = {.info = &bank->info, .n = *n, .ids = ids};
    const pg_work work = {.calls = *n, .send = ask_pick, .take = take_pick, .arg = &p};
    for (size_t i = 0; i < p.n; i++) ids[i] = -1;
    RECO_TRY(pg_read(ctx, bank, &work));
    *n = 0;
    for (size_t i = 0; i < p.n; i++)
        if (ids[i] >= 0 && (*n == 0 || ids[i] != ids[*n - 1])) ids[(*n)++] = ids[i];
    return RECO_OK;
}

/* ---- one direction ---- */

typedef struct direction {
    const reco_bank *bank;
    reco_side side, asked;
    size_t n, d;
    const int64_t *rows; /* [n] that ask */
    float *x;            /* [n][d] */
    int64_t *best; /* [n][K] exactly: `counts` of them, and behind these the copies of the row that asks */
    size_t *counts, *copies; /* [n] */
    int64_t *found;          /* [n][K] by the index */
    float *scores, *vectors; /* [n][K], [BLOCK][K][d] */
} direction;

/* Rows that say or show the same as the one that asks: what asks in use is no copy of a row. */
static void set_copies_apart(direction *s, size_t q, const float *own, const float *vectors, size_t n)
{
    int64_t *ids = s->best + q * K, copies[K];
    size_t kept = 0, some = 0;
    for (size_t i = 0; i < n; i++)
        if (reco_is_same(own, vectors + i * s->d, s->d))
            copies[some++] = ids[i];
        else
            ids[kept++] = ids[i];
    memcpy(ids + kept, copies, some * sizeof *copies);
    s->counts[q] = kept;
    s->copies[q] = some;
}

/* Of n rows from q on the k best, with their vectors [n][k][d]. */
static reco_status find_exactly(reco_ctx *ctx, direction *s, size_t q, size_t n, size_t k)
{
    reco_lookup lookup = {
        .side = s->side,
        .queries = s->x + q * s->d,
        .nq = n,
        .opts = {.k = k, .min_similarity = -INFINITY, .exclude = s->rows + q, .nexclude = 1},
        .hits = {.ids = s->best + q * K, .scores = s->scores, .counts = s->counts + q}};
    lookup.vectors[s->side] = s->vectors;
    return pg_find(ctx, s->bank, &lookup, 0, WHAT);
}

/* A row is a node of the graph that an HNSW index searches among its own side, and finds its neighbours more easily than a query from
 * elsewhere. So there the rows that ask move by what lies between two of their neighbours. */
static reco_status move_away(reco_ctx *ctx, direction *s)
{
    const size_t d = s->d;
    reco_rng rng;
    reco_rng_seed(&rng, 1);
    for (size_t q = 0; q < s->n; q += BLOCK) {
        size_t n = reco_min(BLOCK, s->n - q);
        RECO_TRY(find_exactly(ctx, s, q, n, NEAR));
        for (size_t i = 0; i < n; i++) {
            size_t count = s->counts[q + i];
            if (count < 2) continue;
            size_t a = reco_rng_below(&rng, count), b = (a + 1 + reco_rng_below(&rng, count - 1)) % count;
            const float *near = s->vectors + i * NEAR * d;
            for (size_t j = 0; j < d; j++) s->x[(q + i) * d + j] += near[a * d + j] - near[b * d + j];
            reco_unit_row(s->x + (q + i) * d, d);
        }
    }
    return RECO_OK;
}

static reco_status find_best(reco_ctx *ctx, direction *s, const float *own)
{
    for (size_t q = 0; q < s->n; q += BLOCK) {
        size_t n = reco_min(BLOCK, s->n - q);
        RECO_TRY(find_exactly(ctx, s, q, n, K));
        for (size_t i = 0; i < n; i++)
            set_copies_apart(s, q + i, own + (q + i) * s->d, s->vectors + i * K * s->d, s->counts[q + i]);
    }
    return RECO_OK;
}

static bool is_among(const int64_t *ids, size_t n, int64_t id)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] == id) return true;
    return false;
}

/* Of the first `depth` of query q, how many were found as such. */
static size_t common(const direction *s, size_t q, size_t depth)
{
    const int64_t *best = s->best + q * K, *found = s->found + q * K;
    size_t same = 0;
    for (size_t i = 0, at = 0; i < K && found[i] >= 0 && at < depth; i++) {
        if (is_among(best + s->counts[q], s->copies[q], found[i])) continue;
        same += is_among(best, reco_min(depth, s->counts[q]), found[i]);
        at++;
    }
    return same;
}

/* Share that is found, less a standard error, since other queries will ask. */
static float recall_of(const direction *s, size_t depth)
{
    size_t all = 0, same = 0;
    double sum = 0;
    for (size_t q = 0; q < s->n; q++) {
        all += reco_min(depth, s->counts[q]);
        same += common(s, q, depth);
    }
    if (all == 0) return 1;
    double share = (double)same / (double)all;
    for (size_t q = 0; q < s->n; q++) {
        double gap = (double)common(s, q, depth) - share * (double)reco_min(depth, s->counts[q]);
        sum += gap * gap;
    }
    return (float)fmax(0, share - sqrt(sum) / (double)all);
}

static int next_setting(const char *index, int setting)
{
    const char *lists = strstr(index, "lists='");
    if (strncmp(index, "hnsw", 4) == 0) /* fewer than k and a margin would be no answer */
        return setting == 0     ? PG_DEPTH_FEW + PG_MARGIN
               : setting < 1000 ? (int)reco_min(1000, (size_t)lrint(setting * 1.6))
                                : 0;
    int most = lists ? atoi(lists + 7) : 100;
    if (setting >= most) return 0;
    return (int)reco_min((size_t)most, (size_t)reco_max((size_t)setting + 1, (size_t)(setting * 1.5)));
}

static reco_status measure(reco_ctx *ctx, direction *s, const char *index, pg_points *points)
{
    const reco_lookup lookup = {
        .side = s->side,
        .queries = s->x,
        .nq = s->n,
        .opts = {.k = K, .min_similarity = -INFINITY, .exclude = s->rows, .nexclude = 1},
        .hits = {.ids = s->found, .scores = s->scores}};
    points->n = 0;
    for (int setting = next_setting(index, 0); setting && points->n < PG_POINTS;
         setting = next_setting(index, setting)) {
        pg_point *point = &points->at[points->n++];
        RECO_TRY(pg_find(ctx, s->bank, &lookup, setting, WHAT));
        point->setting = setting;
        for (size_t i = 0; i < 2; i++) point->recall[i] = recall_of(s, depths[i]);
        if (point->recall[0] >= ENOUGH && point->recall[1] >= ENOUGH) break;
    }
    return RECO_OK;
}

static reco_status measure_side(reco_ctx *ctx, const reco_bank *bank, reco_side side, const int64_t *rows,
                                size_t n, const char *index, pg_points points[2])
{
    size_t d = bank->info.d;
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status = RECO_E_NOMEM;
    float *own = reco_scratch(ctx, n * d, sizeof *own, "recall");
    direction s = {.bank = bank,
                   .side = side,
                   .n = n,
                   .d = d,
                   .rows = rows,
                   .x = reco_scratch(ctx, n * d, sizeof *s.x, "recall"),
                   .best = reco_scratch(ctx, n, K * sizeof *s.best, "recall"),
                   .counts = reco_scratch(ctx, n, sizeof *s.counts, "recall"),
                   .copies = reco_scratch(ctx, n, sizeof *s.copies, "recall"),
                   .found = reco_scratch(ctx, n, K * sizeof *s.found, "recall"),
                   .scores = reco_scratch(ctx, n, K * sizeof *s.scores, "recall"),
                   .vectors = reco_scratch(ctx, BLOCK * K, d * sizeof *s.vectors, "recall")};
    if (!own || !s.x || !s.best || !s.counts || !s.copies || !s.found || !s.scores || !s.vectors) goto out;
    RECO_GO(reco_bank_gather(ctx, bank, side, rows, n, own));
    for (s.asked = 0; s.asked < 2; s.asked++) {
        RECO_GO(reco_bank_gather(ctx, bank, s.asked, rows, n, s.x));
        for (size_t i = 0; i < n; i++) reco_unit_row(s.x + i * d, d);
        if (s.asked == side) RECO_GO(move_away(ctx, &s));
        RECO_GO(find_best(ctx, &s, own));
        RECO_GO(measure(ctx, &s, index, &points[s.asked]));
    }
    status = RECO_OK;
out:
    reco_scratch_release(ctx, mark);
    return status;
}

/* ---- all of them ---- */

static reco_status measure_all(reco_ctx *ctx, const pg_bank *b, pg_recalls *r)
{
    const reco_bank *bank = &b->bank;
    int64_t most = ROWS_READ / (bank->info.rows + 1);
    size_t n = most < QUERIES ? QUERIES : reco_min(MOST_QUERIES, (size_t)most);
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status = RECO_E_NOMEM;
    int64_t *rows = reco_scratch(ctx, n, sizeof *rows, "rows");
    if (!rows) goto out;
    RECO_GO(pick(ctx, bank, rows, &n));
    if (n == 0) RECO_GO(reco_fail(ctx, RECO_E_ARG, "bank: has no rows, whose recall could be measured"));
    for (reco_side side = 0; side < 2; side++) {
        const char *index = b->set.shards[0].index[side];
        if (!*index || !pg_is_index(&b->set, side, index)) continue;
        memcpy(r->index[side], index, sizeof r->index[side]);
        RECO_GO(measure_side(ctx, bank, side, rows, n, index, r->points[side]));
    }
out:
    reco_scratch_release(ctx, mark);
    return status;
}

static reco_status ask_keep(reco_ctx *ctx, void *arg, size_t shard, size_t i, pg_call *call)
{
    void **args = arg;
    const pg_set *set = args[0];
    (void)ctx, (void)i;
    call->sql = set->shards[shard].is_ours
                    ? "UPDATE reco_bank SET recall = $1::text::jsonb, changes = changes + 1"
                    : "UPDATE reco_bank SET recall = $1::text::jsonb";
    pg_text(call, args[1]);
    return RECO_OK;
}

static reco_status keep(reco_ctx *ctx, pg_bank *b, char *text)
{
    void *args[] = {&b->set, text};
    const pg_work work = {.calls = 1, .send = ask_keep, .arg = args, .bare = true};
    RECO_TRY(pg_connect(ctx, &b->set));
    return pg_run(ctx, &b->set, &work);
}

static reco_status check(reco_ctx *ctx, const pg_bank *b, const reco_lists_opts *o)
{
    bool any = false;
    if (o->cells)
        return reco_fail(
            ctx, RECO_E_UNSUPPORTED,
            "lists: cells = %zu: servers have no lists, but indexes: CREATE INDEX ON reco_pair "
            "USING hnsw (image halfvec_ip_ops)",
            o->cells);
    for (size_t i = 0; i < b->set.n; i++) {
        const pg_shard *s = &b->set.shards[i];
        if (!s->keeps_recall)
            return reco_fail(
                ctx, RECO_E_UNSUPPORTED,
                "%s: reco_bank has no column to keep the recall in; run ALTER TABLE reco_bank ADD "
                "recall jsonb there",
                s->label);
    }
    for (reco_side side = 0; side < 2; side++) {
        const char *index = b->set.shards[0].index[side];
        any |= *index && pg_is_index(&b->set, side, index);
    }
    if (o->kind == RECO_LISTS_NONE || any) return RECO_OK;
    return reco_fail(
        ctx, RECO_E_NOTFOUND,
        "%s: reco_pair has no HNSW or IVFFlat index that is the same on every server; run CREATE "
        "INDEX ON reco_pair USING hnsw (image %s_ip_ops), and likewise for text",
        b->set.shards[0].label, b->set.shards[0].half[RECO_IMAGE] ? "halfvec" : "vector");
}

reco_status reco_pg_index(reco_ctx *ctx, const char *urls, const reco_lists_opts *o,
                          reco_lists_result *result)
{
    reco_bank *bank;
    pg_recalls r = {.wanted = o->recall > 0 ? o->recall : DEFAULT_RECALL};
    json_t *json = NULL;
    char *text = NULL;
    RECO_TRY(reco_pg_open(ctx, &bank, urls, &(reco_bank_open_opts){.recall = 1}));
    pg_bank *b = pg_of(bank);
    r.rows = bank->info.rows;
    reco_status status;
    RECO_GO(check(ctx, b, o));
    if (o->kind != RECO_LISTS_NONE) {
        RECO_GO(measure_all(ctx, b, &r));
        json = pg_pack_recalls(&r);
        if (!json || !(text = reco_json_dump(ctx, json))) RECO_GO(reco_fail_nomem(ctx, 0, "JSON"));
    }
    RECO_GO(keep(ctx, b, text));
    result->cells = r.points[0][0].n + r.points[0][1].n + r.points[1][0].n + r.points[1][1].n;
out:
    json_decref(json);
    reco_free(text);
    reco_bank_close(bank);
    return status;
}
