#include "bank/postgres/pg.h"
#include "bank/search/filter.h"

static const reco_bank_ops ops;

static void close_servers(reco_bank *bank)
{
    pg_bank *b = pg_of(bank);
    pg_set_end(&b->set);
    pthread_mutex_destroy(&b->turn);
    reco_free(b->urls);
    reco_free(b);
}

/* before: of the same servers, as they were found last; NULL: nobody looked. */
static reco_status open_servers(reco_ctx *ctx, reco_bank **out, const char *urls,
                                const reco_bank_open_opts *opts, pg_bank *before)
{
    *out = NULL;
    pg_bank *b = reco_alloc(ctx, 1, sizeof *b, "bank");
    if (!b) return RECO_E_NOMEM;
    b->bank.ops = &ops;
    b->opts = *opts;
    b->set.partial = opts->partial != 0;
    pthread_mutex_init(&b->turn, NULL);
    reco_status status = RECO_E_NOMEM;
    if ((b->urls = reco_strdup(ctx, urls))) status = pg_set_begin(ctx, &b->set, urls);
    if (before) pthread_mutex_lock(&before->turn);
    for (size_t i = 0; before && status == RECO_OK && i < b->set.n;
         i++) { /* nobody waits for what is away */
        const pg_shard *s = &before->set.shards[i];
        b->set.shards[i].failed = s->failed && !s->back;
    }
    if (before) pthread_mutex_unlock(&before->turn);
    if (status == RECO_OK) status = pg_look(ctx, &b->set, &b->bank.info, &b->changes, &b->recalls);
    b->bank.recall = (float)opts->recall;
    if (status == RECO_OK)
        *out = &b->bank;
    else
        close_servers(&b->bank);
    return status;
}

reco_status reco_pg_open(reco_ctx *ctx, reco_bank **out, const char *urls, const reco_bank_open_opts *opts)
{
    return open_servers(ctx, out, urls, opts, NULL);
}

static reco_status ask_changes(reco_ctx *ctx, void *arg, size_t shard, size_t i, pg_call *call)
{
    (void)ctx, (void)arg, (void)shard, (void)i;
    call->sql = "SELECT changes FROM reco_bank";
    return RECO_OK;
}

static reco_status take_changes(reco_ctx *ctx, void *arg, size_t shard, size_t i, const PGresult *rows)
{
    int64_t *changes = arg;
    (void)ctx, (void)shard, (void)i;
    if (PQntuples(rows) == 1) *changes = (int64_t)((uint64_t)*changes + (uint64_t)pg_get_int(rows, 0, 0));
    return RECO_OK;
}

/* Answers are of now anyway; what is known of the bank is looked up anew. Of another program's rows nobody counts the changes. */
static reco_status refresh(reco_ctx *ctx, const reco_bank *bank, reco_bank **out)
{
    pg_bank *b = pg_of(bank);
    int64_t changes = 0;
    const pg_work work = {.calls = 1, .send = ask_changes, .take = take_changes, .arg = &changes};
    bool counted = true, back = false;
    for (size_t i = 0; i < b->set.n; i++) counted &= b->set.shards[i].is_ours || !b->set.shards[i].looked;
    if (counted) RECO_TRY(pg_read(ctx, bank, &work));
    pthread_mutex_lock(&b->turn);
    for (size_t i = 0; i < b->set.n; i++) back |= b->set.shards[i].back;
    pthread_mutex_unlock(&b->turn);
    return back || (counted && changes != b->changes) ? open_servers(ctx, out, b->urls, &b->opts, b)
                                                      : RECO_OK;
}

static const char *missing_shard(const reco_bank *bank, size_t i)
{
    pg_bank *b = pg_of(bank);
    const char *label = NULL;
    pthread_mutex_lock(&b->turn);
    for (size_t s = 0; s < b->set.n && !label; s++)
        if (b->set.shards[s].failed && i-- == 0) label = b->set.shards[s].label;
    pthread_mutex_unlock(&b->turn);
    return label;
}

static const reco_segment_info *get_segment(const reco_bank *bank, size_t i)
{
    (void)bank, (void)i;
    return NULL;
}

static const reco_bank_ops ops = {
    .close = close_servers,
    .refresh = refresh,
    .missing_shard = missing_shard,
    .get_segment = get_segment,
    .filter_ids = pg_filter_ids,
    .filter_where = pg_filter_where,
    .look_up = pg_look_up,
    .within = pg_within,
    .expected = pg_expected,
    .table = pg_table,
    .gather = pg_gather,
    .select = pg_select,
    .get = pg_get,
    .get_many = pg_get_many,
};
