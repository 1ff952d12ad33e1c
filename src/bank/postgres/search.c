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
    const reco_lookup *l;
    reco_hits hits; /* the lookup's; counts are there */
    size_t d;
    int setting;     /* of the index; 0: exact */
    char *configure; /* the statement that sets it, before the queries */
    double slack;    /* that a server's score of a row and ours may differ by */
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

/* All that are sent together: the exact ones first, since what the others set holds until the transaction ends. */
typedef struct searches {
    search *at; /* [n] */
    size_t n;
} searches;

/* Among the k best, unless k are better; equal scores by id. Of a row that came from `from`. */
static reco_status offer(reco_ctx *ctx, const search *s, const pg_shard *from, size_t q,
                         const PGresult *rows, int row, float score)
{
    const size_t d = s->d, k = s->l->opts.k, n = s->hits.counts[q];
    const int64_t id = pg_get_int(rows, row, 0);
    size_t at = n;
    int64_t *ids = s->hits.ids + q * k;
    float *scores = s->hits.scores + q * k;
    reco_pair pair = {0}, *pairs = s->l->pairs ? s->l->pairs + q * k : NULL;
    while (at > 0 && (scores[at - 1] < score || (scores[at - 1] == score && ids[at - 1] > id))) at--;
    if (at == k || (at > 0 && ids[at - 1] == id)) return RECO_OK; /* on two servers */
    if (pairs) RECO_TRY(pg_get_pair(ctx, from, rows, row, 2 + (s->l->vectors[!s->l->side] != NULL), &pair));
    size_t moved = (n < k ? n : k - 1) - at;
    if (n < k) s->hits.counts[q] = n + 1;
    memmove(ids + at + 1, ids + at, moved * sizeof *ids);
    memmove(scores + at + 1, scores + at, moved * sizeof *scores);
    ids[at] = id;
    scores[at] = score;
    for (int side = 0; side < 2; side++) {
        if (!s->l->vectors[side]) continue;
        float *to = s->l->vectors[side] + q * k * d;
        memmove(to + (at + 1) * d, to + at * d, moved * d * sizeof *to);
        memcpy(to + at * d, s->rows[side], d * sizeof *to);
    }
    if (pairs) {
        if (n == k) reco_pair_free(&pairs[k - 1]);
        memmove(pairs + at + 1, pairs + at, moved * sizeof *pairs);
        pairs[at] = pair;
    }
    return RECO_OK;
}

/* Which of them statement i of this round belongs to; *i becomes that of its own. */
static search *which(const searches *all, size_t *i)
{
    search *s = all->at;
    for (;; s++) {
        size_t calls = s->nround ? s->nround + (s->configure != NULL) : 0;
        if (*i < calls) return s;
        *i -= calls;
    }
}

static reco_status ask(reco_ctx *ctx, void *arg, size_t shard, size_t i, pg_call *call)
{
    search *s = which(arg, &i);
    const reco_search_opts *o = &s->l->opts;
    (void)ctx;
    if (s->configure && i-- == 0) {
        call->sql = s->configure;
        return RECO_OK;
    }
    size_t q = s->round[i];
    call->sql = s->sql[shard];
    pg_bytes(call, s->vector,
             pg_put_vector(s->vector, s->l->queries + q * s->d, s->bank->set.shards[shard].half[s->l->side],
                           s->d));
    pg_int(call, &s->numbers[0], s->limit);
    if (o->nexclude)
        pg_bytes(call, s->exclude, pg_put_ids(s->exclude, o->exclude + q * o->nexclude, o->nexclude));
    if (o->filter && o->filter->packed) pg_bytes(call, o->filter->packed, o->filter->packed_bytes);
    return RECO_OK;
}

static reco_status take(reco_ctx *ctx, void *arg, size_t shard, size_t i, const PGresult *rows)
{
    search *s = which(arg, &i);
    const pg_shard *from = &s->bank->set.shards[shard];
    const reco_side own = s->l->side;
    if (s->configure && i-- == 0) return RECO_OK;
    size_t q = s->round[i];
    float *bound = &s->bounds[q * s->bank->set.n + shard];
    int n = PQntuples(rows);
    *bound = -INFINITY;
    for (int row = 0; row < n; row++) {
        for (reco_side side = 0; side < 2; side++)
            if (side == own || s->l->vectors[side])
                RECO_TRY(pg_get_vector(ctx, from, rows, row, side == own ? 1 : 2, from->half[side], s->d,
                                       s->rows[side]));
        float score = (float)reco_dot(s->l->queries + q * s->d, s->rows[own], s->d);
        if (score >= s->l->opts.min_similarity) RECO_TRY(offer(ctx, s, from, q, rows, row, score));
        if (row == n - 1 && n == s->limit) *bound = score + (float)(2 * s->slack);
    }
    return RECO_OK;
}

/* Queries whose answer a row that did not come may yet change. */
static size_t unsettled(search *s)
{
    const reco_search_opts *o = &s->l->opts;
    size_t n = 0, k = o->k;
    for (size_t i = 0; i < s->nround; i++) {
        size_t q = s->round[i];
        float reached = s->hits.counts[q] == k ? s->hits.scores[q * k + k - 1] : -INFINITY;
        if (reached < o->min_similarity) reached = nextafterf(o->min_similarity, -INFINITY);
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
        half |= s->bank->set.shards[i].half[s->l->side];
        rounds |= !s->bank->set.shards[i].half[s->l->side] && !s->bank->set.shards[i].is_ours;
    }
    for (size_t q = 0; half && q < s->l->nq; q++) {
        double sum = 0;
        for (size_t i = 0; i < s->d; i++) {
            float x = s->l->queries[q * s->d + i];
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
    const reco_search_opts *o = &s->l->opts;
    const reco_side own = s->l->side;
    const char *side = pg_side_names[own], *type = shard->half[own] ? "halfvec" : "vector";
    const char *where = o->filter ? o->filter->where : NULL;
    int next = 3 + (o->nexclude > 0);
    char ids[48] = "", excluded[48] = "";
    if (o->nexclude) snprintf(excluded, sizeof excluded, " AND id <> ALL($3::int8[])");
    if (o->filter && !where) snprintf(ids, sizeof ids, " AND id = ANY($%d::int8[])", next);
    const char *index = s->setting ? shard->index[own] : "";
    return reco_format(ctx,
                       "SELECT id, %s%s%s%s%s FROM reco_pair WHERE true%s%s%s%s%s ORDER BY %s%s %s "
                       "$1::%s%s LIMIT $2::int8",
                       side, s->l->vectors[!own] ? ", " : "",
                       s->l->vectors[!own] ? pg_side_names[!own] : "", s->l->pairs ? ", " : "",
                       s->l->pairs ? pg_pair_columns(shard) : "", excluded, ids, where ? " AND (" : "",
                       where ? where : "", where ? "\n)" : "", *index ? "" : "(", side,
                       strstr(index, "_cosine_ops") ? "<=>" : "<#>", type, *index ? "" : ") + 0");
}

/* The index as it was measured, whatever the planner or the server would rather do. */
static char *write_configure(reco_ctx *ctx, const search *s)
{
    const pg_shard *shard = s->bank->set.shards;
    while (!*shard->index[s->l->side]) shard++; /* one that failed has none */
    const char *index = shard->index[s->l->side];
    int name = (int)strcspn(index, " ");
    return reco_format(
        ctx,
        "SELECT set_config('%.*s.%s', '%d', true), set_config('enable_sort', 'off', true), CASE "
        "WHEN current_setting('%.*s.iterative_scan', true) IS NOT NULL THEN "
        "set_config('%.*s.iterative_scan', 'off', true) END",
        name, index, pg_setting_name(index), s->setting, name, index, name, index);
}

static reco_status begin(reco_ctx *ctx, search *s, const pg_bank *bank, const reco_lookup *l, int setting)
{
    const size_t shards = bank->set.n, d = bank->bank.info.d;
    *s = (search){.bank = bank, .l = l, .hits = l->hits, .d = d, .setting = setting, .nround = l->nq};
    s->limit = (int64_t)l->opts.k + PG_MARGIN;
    if (!s->hits.counts) s->hits.counts = reco_scratch(ctx, l->nq, sizeof *s->hits.counts, "search");
    s->sql = reco_scratch(ctx, shards, sizeof *s->sql, "search");
    if (s->hits.counts) memset(s->hits.counts, 0, l->nq * sizeof *s->hits.counts);
    if (s->sql) memset(s->sql, 0, shards * sizeof *s->sql);
    if (!s->hits.counts || !s->sql) return RECO_E_NOMEM;
    s->round = reco_scratch(ctx, l->nq, sizeof *s->round, "search");
    s->bounds = reco_scratch(ctx, l->nq, shards * sizeof *s->bounds, "search");
    for (int side = 0; side < 2; side++)
        s->rows[side] = reco_scratch(ctx, d, sizeof *s->rows[side], "search");
    s->vector = reco_scratch(ctx, 4 + 4 * d, 1, "search");
    s->exclude = reco_scratch(ctx, pg_ids_bytes(l->opts.nexclude), 1, "search");
    if (!s->round || !s->bounds || !s->rows[0] || !s->rows[1] || !s->vector || !s->exclude)
        return RECO_E_NOMEM;
    for (size_t i = 0; i < l->nq * shards; i++) s->bounds[i] = -INFINITY;
    for (size_t q = 0; q < l->nq; q++) s->round[q] = q;
    for (size_t i = 0; i < shards; i++)
        if (!(s->sql[i] = write_sql(ctx, s, &bank->set.shards[i]))) return RECO_E_NOMEM;
    if (setting && !(s->configure = write_configure(ctx, s))) return RECO_E_NOMEM;
    s->slack = find_slack(s);
    return RECO_OK;
}

/* Those of a query, which may be found anew. */
static void drop_pairs(const search *s, size_t q)
{
    const size_t k = s->l->opts.k;
    for (size_t i = 0; s->l->pairs && i < s->hits.counts[q]; i++) reco_pair_free(&s->l->pairs[q * k + i]);
}

static void end(search *s, bool keeps)
{
    for (size_t i = 0; s->sql && i < s->bank->set.n; i++) reco_free(s->sql[i]);
    reco_free(s->configure);
    for (size_t q = 0; q < s->l->nq && !keeps && s->hits.counts; q++) drop_pairs(s, q);
}

static reco_status run_rounds(reco_ctx *ctx, const searches *all, const char *what)
{
    pg_work work = {.send = ask, .take = take, .arg = (void *)(uintptr_t)all, .what = what};
    for (;;) {
        work.calls = 0;
        for (size_t i = 0; i < all->n; i++) {
            search *s = &all->at[i];
            const reco_bank_filter *filter = s->l->opts.filter;
            if (s->nround) work.calls += s->nround + (s->configure != NULL);
            for (size_t j = 0; j < s->nround; j++) {
                drop_pairs(s, s->round[j]);
                s->hits.counts[s->round[j]] = 0;
            }
            if (filter && filter->where) work.wrong = RECO_E_ARG;
        }
        if (!work.calls) return RECO_OK;
        RECO_TRY(pg_read(ctx, &all->at->bank->bank, &work));
        for (size_t i = 0; i < all->n; i++) {
            search *s = &all->at[i];
            s->nround = s->setting ? 0 : unsettled(s);
            if (s->nround && s->limit > MOST_ROWS)
                return reco_fail(ctx, RECO_E_UNSUPPORTED,
                                 "bank: more than %d rows are as near to a query as the %zu nearest; too "
                                 "many equal vectors",
                                 MOST_ROWS, s->l->opts.k);
            s->limit *= MORE;
        }
    }
}

/* Places without a hit. */
static void clear(const search *s)
{
    const size_t k = s->l->opts.k;
    for (size_t q = 0; q < s->l->nq; q++)
        for (size_t i = q * k + s->hits.counts[q]; i < (q + 1) * k; i++) {
            s->hits.ids[i] = -1;
            s->hits.scores[i] = 0;
            for (int side = 0; side < 2; side++)
                if (s->l->vectors[side]) memset(s->l->vectors[side] + i * s->d, 0, s->d * sizeof(float));
            if (s->l->pairs) s->l->pairs[i] = (reco_pair){.id = -1};
        }
}

static reco_status find(reco_ctx *ctx, const pg_bank *bank, const reco_lookup *lookups, const int *settings,
                        size_t n, const char *what)
{
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status = RECO_OK;
    searches all = {.at = reco_scratch(ctx, n, sizeof *all.at, "search")};
    if (!all.at) return RECO_E_NOMEM;
    for (int indexed = 0; indexed < 2; indexed++)
        for (size_t i = 0; i < n; i++) {
            if ((settings[i] != 0) != indexed || !lookups[i].nq) continue;
            RECO_GO(begin(ctx, &all.at[all.n++], bank, &lookups[i], settings[i]));
        }
    RECO_GO(run_rounds(ctx, &all, what));
    for (size_t i = 0; i < all.n; i++) clear(&all.at[i]);
out:
    for (size_t i = 0; i < all.n; i++) end(&all.at[i], status == RECO_OK);
    reco_scratch_release(ctx, mark);
    return status;
}

reco_status pg_find(reco_ctx *ctx, const reco_bank *bank, const reco_lookup *lookup, int setting,
                    const char *what)
{
    return find(ctx, pg_of(bank), lookup, &setting, 1, what);
}

reco_status pg_look_up(reco_ctx *ctx, const reco_bank *bank, const reco_lookup *lookups, size_t n)
{
    reco_mark mark = reco_scratch_mark(ctx);
    int *settings = reco_scratch(ctx, n, sizeof *settings, "search");
    if (!settings) return RECO_E_NOMEM;
    float reached;
    for (size_t i = 0; i < n; i++) settings[i] = pg_plan(bank, lookups[i].side, &lookups[i].opts, &reached);
    reco_status status = find(ctx, pg_of(bank), lookups, settings, n, "searching");
    reco_scratch_release(ctx, mark);
    return status;
}
