#include "bank/postgres/pg.h"
#include "kernels/kernels.h"

typedef struct near {
    const pg_bank *bank;
    const reco_range *range;
    size_t d;
    char sql[224];
    unsigned char *vector;
    int64_t numbers[3];
    float *row;
    int64_t from, until; /* rows of these ids are settled; until: those behind it did not all come */
    int64_t *ids;
    float *scores; /* [max] each; in order of id */
    size_t n;
} near;

static reco_status ask_near(reco_ctx *ctx, void *arg, size_t shard, size_t i, pg_call *call)
{
    near *s = arg;
    bool half = s->bank->set.shards[shard].half[s->range->side];
    double least;
    (void)ctx, (void)i;
    snprintf(s->sql, sizeof s->sql,
             "SELECT id, %s FROM reco_pair WHERE id >= $1::int8 AND (%s <#> $2::%s) + 0 <= $3::float8 "
             "ORDER BY id LIMIT "
             "$4::int8",
             pg_side_names[s->range->side], pg_side_names[s->range->side], half ? "halfvec" : "vector");
    call->sql = s->sql;
    pg_int(call, &s->numbers[0], s->from);
    pg_bytes(call, s->vector, pg_put_vector(s->vector, s->range->query, half, s->d));
    least = -((double)s->range->least - 0x1p-10); /* both roundings, and more */
    uint64_t bits;
    memcpy(&bits, &least, sizeof bits);
    pg_int(call, &s->numbers[1], (int64_t)bits);
    pg_int(call, &s->numbers[2], (int64_t)s->range->max);
    return RECO_OK;
}

static void insert(near *s, int64_t id, float score)
{
    size_t at = s->n;
    while (at > 0 && s->ids[at - 1] > id) at--;
    if (at == s->range->max || (at > 0 && s->ids[at - 1] == id)) return;
    if (s->n < s->range->max) s->n++;
    memmove(s->ids + at + 1, s->ids + at, (s->n - at - 1) * sizeof *s->ids);
    memmove(s->scores + at + 1, s->scores + at, (s->n - at - 1) * sizeof *s->scores);
    s->ids[at] = id;
    s->scores[at] = score;
}

static reco_status take_near(reco_ctx *ctx, void *arg, size_t shard, size_t i, const PGresult *rows)
{
    near *s = arg;
    const pg_shard *from = &s->bank->set.shards[shard];
    int n = PQntuples(rows);
    (void)i;
    for (int row = 0; row < n; row++) {
        RECO_TRY(pg_get_vector(ctx, from, rows, row, 1, from->half[s->range->side], s->d, s->row));
        float score = (float)reco_dot(s->range->query, s->row, s->d);
        int64_t id = pg_get_int(rows, row, 0);
        if (score >= s->range->least) insert(s, id, score);
        if (row == n - 1 && (size_t)n == s->range->max && id < s->until) s->until = id;
    }
    return RECO_OK;
}

reco_status pg_within(reco_ctx *ctx, const reco_bank *bank, const reco_range *range, const reco_hits *hits)
{
    size_t max = range->max, *n = hits->counts;
    near s = {.bank = pg_of(bank), .range = range, .d = bank->info.d, .from = range->from};
    if (max == 0) return RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status = RECO_E_NOMEM;
    s.vector = reco_scratch(ctx, 4 + 4 * s.d, 1, "search");
    s.row = reco_scratch(ctx, s.d, sizeof *s.row, "search");
    s.ids = reco_scratch(ctx, max, sizeof *s.ids, "search");
    s.scores = reco_scratch(ctx, max, sizeof *s.scores, "search");
    if (!s.vector || !s.row || !s.ids || !s.scores) goto out;
    const pg_work work = {.calls = 1, .send = ask_near, .take = take_near, .arg = &s, .what = "searching"};
    for (;;) {
        s.n = 0;
        s.until = INT64_MAX;
        RECO_GO(pg_read(ctx, bank, &work));
        for (size_t i = 0; i < s.n && s.ids[i] <= s.until && *n < max; i++) {
            hits->ids[*n] = s.ids[i];
            if (hits->scores) hits->scores[*n] = s.scores[i];
            ++*n;
        }
        if (*n == max || s.until == INT64_MAX) break;
        s.from = s.until + 1;
    }
out:
    reco_scratch_release(ctx, mark);
    return status;
}
