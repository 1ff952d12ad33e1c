/* A server ranks rows by its own arithmetic and returns more than k of them, with their vectors, which are scored
 * here as in a folder. The server gives a row that it did not return a score of at most the last one that it
 * returned. So once our k-th score exceeds that by more than the two arithmetics may differ, the answer is that of
 * a folder; until then more rows are fetched. */
#include "bank/postgres/pg.h"
#include "bank/search/filter.h"
#include "kernels/kernels.h"

#include <math.h>

#define MORE 4            /* times as many rows, where the margin was not enough */
#define MOST_ROWS 1000000 /* of one answer */

typedef struct search {
    const pg_bank *bank;
    reco_side side;
    const float *queries;
    const reco_search_opts *opts;
    reco_hits hits;        /* counts are there */
    float *const *vectors; /* [2] by side, of the hits, or NULL */
    size_t d, nq;
    int setting; /* of the index; 0: exact */
    const char *what;
    double slack; /* that a server's score of a row and ours may differ by */
    /* The queries of this round. */
    size_t *round; /* [nround] */
    size_t nround;
    int64_t limit;
    float *bounds; /* [nq][shards] best score that a row may have that did not come; -INFINITY: all came */
    /* of one row, of one statement */
    float *rows[2];        /* [d] by side */
    char **sql;            /* [shards] */
    unsigned char *vector; /* [4 + 4 d] */
    unsigned char *exclude;
    int64_t numbers[2];
} search;

/* Among the k best, unless k are better; equal scores by id. */
static void offer(const search *s, size_t q, int64_t id, float score)
{
    const size_t d = s->d;
    size_t k = s->opts->k, n = s->hits.counts[q], at = n;
    int64_t *ids = s->hits.ids + q * k;
    float *scores = s->hits.scores + q * k;
    while (at > 0 && (scores[at - 1] < score || (scores[at - 1] == score && ids[at - 1] > id))) at--;
    if (at == k || (at > 0 && ids[at - 1] == id)) return; /* on two servers */
    if (n < k) s->hits.counts[q] = ++n;
    memmove(ids + at + 1, ids + at, (n - at - 1) * sizeof *ids);
    memmove(scores + at + 1, scores + at, (n - at - 1) * sizeof *scores);
    ids[at] = id;
    scores[at] = score;
    for (int side = 0; side < 2; side++) {
        if (!s->vectors[side]) continue;
        float *rows = s->vectors[side] + q * k * d;
        memmove(rows + (at + 1) * d, rows + at * d, (n - at - 1) * d * sizeof *rows);
        memcpy(rows + at * d, s->rows[side], d * sizeof *rows);
    }
}

static reco_status ask(reco_ctx *ctx, void *arg, size_t shard, size_t i, pg_call *call)
{
    search *s = arg;
    const reco_search_opts *o = s->opts;
    size_t q = s->round[i];
    (void)ctx;
    call->sql = s->sql[shard];
    pg_bytes(
        call, s->vector,
        pg_put_vector(s->vector, s->queries + q * s->d, s->bank->set.shards[shard].half[s->side], s->d));
    pg_int(call, &s->numbers[0], s->limit);
    if (o->nexclude)
        pg_bytes(call, s->exclude, pg_put_ids(s->exclude, o->exclude + q * o->nexclude, o->nexclude));
    if (o->filter && o->filter->packed) pg_bytes(call, o->filter->packed, o->filter->packed_bytes);
    return RECO_OK;
}

static reco_status take(reco_ctx *ctx, void *arg, size_t shard, size_t i, const PGresult *rows)
{
    search *s = arg;
    const pg_shard *from = &s->bank->set.shards[shard];
    size_t q = s->round[i];
    float *bound = &s->bounds[q * s->bank->set.n + shard];
    int n = PQntuples(rows);
    *bound = -INFINITY;
    for (int row = 0; row < n; row++) {
        for (int side = 0; side < 2; side++)
            if (side == (int)s->side || s->vectors[side])
                RECO_TRY(pg_get_vector(ctx, from, rows, row, side == (int)s->side ? 1 : 2, from->half[side],
                                       s->d, s->rows[side]));
        float score = (float)reco_dot(s->queries + q * s->d, s->rows[s->side], s->d);
        if (score >= s->opts->min_similarity) offer(s, q, pg_get_int(rows, row, 0), score);
        if (row == n - 1 && n == s->limit) *bound = score + (float)(2 * s->slack);
    }
    return RECO_OK;
}

/* Queries whose answer a row that did not come may yet change. */
static size_t unsettled(search *s)
{
    size_t n = 0, k = s->opts->k;
    for (size_t i = 0; i < s->nround; i++) {
        size_t q = s->round[i];
        float reached = s->hits.counts[q] == k ? s->hits.scores[q * k + k - 1] : -INFINITY;
        if (reached < s->opts->min_similarity) reached = nextafterf(s->opts->min_similarity, -INFINITY);
        bool open = false;
        for (size_t shard = 0; shard < s->bank->set.n; shard++)
            open |= s->bounds[q * s->bank->set.n + shard] >= reached &&
                    s->bounds[q * s->bank->set.n + shard] != -INFINITY;
        if (open) s->round[n++] = q;
    }
    return n;
}

/* Is the query's own rounding, of a halfvec, what counts most? */
static double find_slack(const search *s)
{
    double most = 0;
    bool half = false, rounds = false;
    for (size_t i = 0; i < s->bank->set.n; i++) {
        half |= s->bank->set.shards[i].half[s->side];
        rounds |= !s->bank->set.shards[i].half[s->side] && !s->bank->set.shards[i].is_ours;
    }
    for (size_t q = 0; half && q < s->nq; q++) {
        double sum = 0;
        for (size_t i = 0; i < s->d; i++) {
            float x = s->queries[q * s->d + i];
            double gap = (double)x - (double)reco_f16_to_f32(reco_f32_to_f16(x));
            sum += gap * gap;
        }
        most = fmax(most, sqrt(sum));
    }
    /* Vectors that another program keeps in floats are rounded to halves here. */
    return 1.02 * (most + (rounds ? 0x1p-11 : 0) + (double)(s->d + 4) * 0x1p-24);
}

/* What is added to a distance keeps every index out: the answer is to be exact. */
static char *write_sql(reco_ctx *ctx, const search *s, const pg_shard *shard)
{
    const reco_search_opts *o = s->opts;
    const char *side = pg_side_names[s->side], *type = shard->half[s->side] ? "halfvec" : "vector";
    const char *where = o->filter ? o->filter->where : NULL;
    int next = 3 + (o->nexclude > 0);
    char ids[48] = "", excluded[48] = "";
    if (o->nexclude) snprintf(excluded, sizeof excluded, " AND id <> ALL($3::int8[])");
    if (o->filter && !where) snprintf(ids, sizeof ids, " AND id = ANY($%d::int8[])", next);
    const char *index = s->setting ? shard->index[s->side] : "";
    return reco_format(
        ctx, "SELECT id, %s%s FROM reco_pair WHERE true%s%s%s%s%s ORDER BY %s%s %s $1::%s%s LIMIT $2::int8",
        side,
        !s->vectors[!s->side]   ? ""
        : s->side == RECO_IMAGE ? ", text"
                                : ", image",
        excluded, ids, where ? " AND (" : "", where ? where : "", where ? "\n)" : "", *index ? "" : "(",
        side, strstr(index, "_cosine_ops") ? "<=>" : "<#>", type, *index ? "" : ") + 0");
}

static reco_status make_room(reco_ctx *ctx, search *s)
{
    size_t shards = s->bank->set.n;
    s->round = reco_scratch(ctx, s->nq, sizeof *s->round, "search");
    s->bounds = reco_scratch(ctx, s->nq, shards * sizeof *s->bounds, "search");
    for (int side = 0; side < 2; side++)
        s->rows[side] = reco_scratch(ctx, s->d, sizeof *s->rows[side], "search");
    s->vector = reco_scratch(ctx, 4 + 4 * s->d, 1, "search");
    s->exclude = reco_scratch(ctx, pg_ids_bytes(s->opts->nexclude), 1, "search");
    s->sql = reco_scratch(ctx, shards, sizeof *s->sql, "search");
    if (!s->hits.counts) s->hits.counts = reco_scratch(ctx, s->nq, sizeof *s->hits.counts, "search");
    if (!s->round || !s->bounds || !s->rows[0] || !s->rows[1] || !s->vector || !s->exclude || !s->sql ||
        !s->hits.counts)
        return RECO_E_NOMEM;
    memset(s->sql, 0, shards * sizeof *s->sql);
    for (size_t i = 0; i < s->nq * shards; i++) s->bounds[i] = -INFINITY;
    return RECO_OK;
}

static reco_status run_rounds(reco_ctx *ctx, search *s)
{
    char setting[400];
    const pg_work work = {.send = ask,
                          .take = take,
                          .arg = s,
                          .what = s->what,
                          .wrong = s->opts->filter && s->opts->filter->where ? RECO_E_ARG : RECO_OK};
    s->nround = s->nq;
    for (size_t q = 0; q < s->nq; q++) s->round[q] = q;
    for (s->limit = (int64_t)s->opts->k + PG_MARGIN; s->nround; s->limit *= MORE) {
        pg_work now = work;
        now.calls = s->nround;
        for (size_t i = 0; i < s->nround; i++) s->hits.counts[s->round[i]] = 0;
        if (s->setting) { /* the index as it was measured, whatever the planner or the server would rather do */
            const pg_shard *shard = s->bank->set.shards;
            while (!*shard->index[s->side]) shard++; /* one that failed has none */
            const char *index = shard->index[s->side];
            snprintf(
                setting, sizeof setting,
                "SELECT set_config('%.*s.%s', '%d', true), set_config('enable_sort', 'off', true), CASE "
                "WHEN current_setting('%.*s.iterative_scan', true) IS NOT NULL THEN "
                "set_config('%.*s.iterative_scan', 'off', true) END",
                (int)strcspn(index, " "), index, pg_setting_name(index), s->setting,
                (int)strcspn(index, " "), index, (int)strcspn(index, " "), index);
            now.setting = setting;
        }
        RECO_TRY(pg_read(ctx, &s->bank->bank, &now));
        if (s->setting) break;
        s->nround = unsettled(s);
        if (s->nround && s->limit > MOST_ROWS)
            return reco_fail(
                ctx, RECO_E_UNSUPPORTED,
                "bank: more than %d rows are as near to a query as the %zu nearest; too many equal vectors",
                MOST_ROWS, s->opts->k);
    }
    return RECO_OK;
}

reco_status pg_find(reco_ctx *ctx, const reco_bank *bank, reco_side side, const float *queries, size_t nq,
                    const reco_search_opts *opts, const reco_hits *hits, float *const vectors[2],
                    int setting, const char *what)
{
    reco_mark mark = reco_scratch_mark(ctx);
    search s = {.bank = pg_of(bank),
                .side = side,
                .queries = queries,
                .opts = opts,
                .hits = *hits,
                .vectors = vectors,
                .d = bank->info.d,
                .nq = nq,
                .setting = setting,
                .what = what};
    reco_status status = make_room(ctx, &s);
    if (status != RECO_OK) goto out;
    for (size_t i = 0; i < s.bank->set.n; i++)
        if (!(s.sql[i] = write_sql(ctx, &s, &s.bank->set.shards[i]))) RECO_GO(RECO_E_NOMEM);
    s.slack = find_slack(&s);
    if (nq) RECO_GO(run_rounds(ctx, &s));
    for (size_t q = 0; q < nq; q++)
        for (size_t i = s.hits.counts[q]; i < opts->k; i++) {
            hits->ids[q * opts->k + i] = -1;
            hits->scores[q * opts->k + i] = 0;
            for (int other = 0; other < 2; other++)
                if (vectors[other])
                    memset(vectors[other] + (q * opts->k + i) * s.d, 0, s.d * sizeof(float));
        }
out:
    for (size_t i = 0; s.sql && i < s.bank->set.n; i++) reco_free(s.sql[i]);
    reco_scratch_release(ctx, mark);
    return status;
}

reco_status pg_retrieve(reco_ctx *ctx, const reco_bank *bank, reco_side side, const float *queries,
                        size_t nq, const reco_search_opts *opts, const reco_hits *hits,
                        float *const vectors[2])
{
    float reached;
    return pg_find(ctx, bank, side, queries, nq, opts, hits, vectors, pg_plan(bank, side, opts, &reached),
                   "searching");
}
