#include "bank/postgres/pg.h"

#include <math.h>

#define K 10

/* Of both lists of n queries, in no order. */
static size_t common(const int64_t *a, const int64_t *b, size_t n)
{
    size_t same = 0;
    for (size_t q = 0; q < n; q++)
        for (size_t i = 0; i < K; i++)
            for (size_t j = 0; j < K; j++) same += a[q * K + i] == b[q * K + j] && a[q * K + i] >= 0;
    return same;
}

static size_t found(const int64_t *ids, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n * K; i++) count += ids[i] >= 0;
    return count;
}

static reco_status compare(reco_ctx *ctx, const reco_bank *bank, reco_side own, reco_side in,
                           const int64_t *rows, size_t n, float *recall)
{
    const reco_search_opts opts = {.k = K, .min_similarity = -INFINITY, .exclude = rows, .nexclude = 1};
    size_t d = bank->info.d;
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status = RECO_E_NOMEM;
    float *x = reco_scratch(ctx, n * d, sizeof *x, "queries"),
          *scores = reco_scratch(ctx, n * K, sizeof *scores, "hits");
    int64_t *ids[2] = {reco_scratch(ctx, n * K, sizeof(int64_t), "hits"),
                       reco_scratch(ctx, n * K, sizeof(int64_t), "hits")};
    if (!x || !scores || !ids[0] || !ids[1]) goto out;
    RECO_GO(reco_bank_gather(ctx, bank, own, rows, n, x));
    for (int by_index = 0; by_index < 2; by_index++)
        RECO_GO(pg_find(ctx, bank, in, x, n, &opts, &(reco_hits){.ids = ids[by_index], .scores = scores},
                        (float *const[2]){NULL, NULL}, by_index));
    size_t there = found(ids[0], n);
    *recall = there ? (float)common(ids[0], ids[1], n) / (float)there : 1;
out:
    reco_scratch_release(ctx, mark);
    return status;
}

/* Rows spread over all ids. */
static reco_status sample(reco_ctx *ctx, const reco_bank *bank, int64_t *rows, size_t most, size_t *n)
{
    size_t got;
    *n = 0;
    for (size_t i = 0; i < most; i++) {
        int64_t from = (int64_t)((double)bank->info.next_id * (double)i / (double)most);
        RECO_TRY(reco_bank_select(ctx, bank, NULL, from, 1, rows + *n, &got));
        *n += got && (*n == 0 || rows[*n] != rows[*n - 1]);
    }
    return RECO_OK;
}

static reco_status ask_note(reco_ctx *ctx, void *arg, size_t shard, size_t i, pg_call *call)
{
    (void)ctx, (void)shard, (void)i;
    call->sql = "UPDATE reco_bank SET recall = $1";
    pg_text(call, arg);
    return RECO_OK;
}

/* So that who searches by the index is told; where that is not allowed, nobody is. */
static void note(reco_ctx *ctx, pg_bank *b, float recall[2][2])
{
    char text[160];
    int at = 0;
    for (int own = 0; own < 2; own++)
        for (int in = 0; in < 2; in++)
            if (!isnan(recall[own][in]))
                at += snprintf(text + at, sizeof text - (size_t)at, "%s%s to %s %.3f", at ? ", " : "",
                               pg_side_names[own], pg_side_names[in], (double)recall[own][in]);
    const pg_work work = {.calls = 1, .send = ask_note, .arg = text, .bare = true};
    bool ours = at > 0;
    for (size_t i = 0; i < b->set.n; i++) ours &= b->set.shards[i].is_ours && !b->set.shards[i].failed;
    pthread_mutex_lock(&b->turn);
    if (ours && pg_connect(ctx, &b->set) == RECO_OK) (void)pg_run(ctx, &b->set, &work);
    pthread_mutex_unlock(&b->turn);
}

reco_status pg_measure(reco_ctx *ctx, const reco_bank *bank, size_t n, float recall[2][2])
{
    pg_bank *b = pg_of(bank);
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status = RECO_E_NOMEM;
    int64_t *rows = reco_scratch(ctx, n + 1, sizeof *rows, "rows");
    if (!rows) goto out;
    RECO_GO(sample(ctx, bank, rows, n, &n));
    for (reco_side own = 0; own < 2; own++)
        for (reco_side in = 0; in < 2; in++) {
            bool has = n > 0;
            for (size_t i = 0; i < b->set.n; i++) has &= *b->set.shards[i].index[in] != 0;
            recall[own][in] = NAN;
            if (has) RECO_GO(compare(ctx, bank, own, in, rows, n, &recall[own][in]));
        }
    note(ctx, b, recall);
out:
    reco_scratch_release(ctx, mark);
    return status;
}
