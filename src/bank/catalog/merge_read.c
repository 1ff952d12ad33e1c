#include "bank/catalog/sqlite.h"

/* Reading and checking pairs takes about as long as inserting them, so one thread reads ahead while another inserts. */

#define BATCH 1024 /* pairs */
#define BATCHES 4  /* read and not yet asked for, at most, with the one in use */

typedef struct batch {
    reco_pair pairs[BATCH];
    size_t n;
} batch;

struct reco_pair_reader {
    reco_catalog *from;
    reco_ctx *ctx; /* of the thread that reads */
    sqlite3_stmt *s;
    pthread_t thread;
    bool runs; /* else batches are read when they are asked for */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Under the lock: */
    size_t filled, emptied; /* batches */
    bool ended, stopped;
    reco_status status;
    batch *now; /* the caller has it; NULL: none */
    batch batches[BATCHES];
};

static reco_status read_batch(reco_pair_reader *r, batch *b, bool *end)
{
    for (*end = false; b->n < BATCH;) {
        bool row;
        RECO_TRY(reco_catalog_step(r->ctx, r->from, r->s, &row));
        *end = !row;
        if (!row) break;
        if (sqlite3_column_int64(r->s, 6) != 0) continue; /* deleted */
        reco_pair *pair = &b->pairs[b->n];
        pair->id = sqlite3_column_int64(r->s, 9);
        /* Its bytes get a new checksum, so that they must be those that the old one is of. */
        RECO_TRY(reco_catalog_copy_checked(r->ctx, r->from, r->s, false, pair));
        b->n++;
    }
    return RECO_OK;
}

static void empty_batch(batch *b)
{
    for (size_t i = 0; i < b->n; i++) reco_pair_free(&b->pairs[i]);
    b->n = 0;
}

/* The next batch; false: there is none, or nobody wants it. */
static bool fill_next(reco_pair_reader *r)
{
    bool end;
    pthread_mutex_lock(&r->lock);
    while (r->runs && r->filled - r->emptied == BATCHES && !r->stopped)
        pthread_cond_wait(&r->changed, &r->lock);
    bool stopped = r->stopped;
    batch *b = &r->batches[r->filled % BATCHES];
    pthread_mutex_unlock(&r->lock);
    if (stopped) return false;
    reco_status status = read_batch(r, b, &end);
    pthread_mutex_lock(&r->lock);
    r->filled++;
    r->status = status;
    r->ended = end || status != RECO_OK;
    bool ended = r->ended;
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->lock);
    return !ended;
}

static void *read_ahead(void *arg)
{
    while (fill_next(arg)) continue;
    return NULL;
}

reco_status reco_pair_reader_open(reco_ctx *ctx, reco_pair_reader **out, reco_catalog *from)
{
    reco_pair_reader *r = *out = reco_alloc(ctx, 1, sizeof *r, "pairs");
    if (!r) return RECO_E_NOMEM;
    r->from = from;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
    reco_status status = reco_ctx_worker(ctx, &r->ctx);
    if (status == RECO_OK) status = reco_catalog_prepare(ctx, from, RECO_SQL_PAIRS, &r->s);
    if (status == RECO_OK && reco_ctx_threads(ctx) > 1) {
        r->runs = true; /* the thread looks at it */
        bool made = pthread_create(&r->thread, NULL, read_ahead, r) == 0;
        if (!made) r->runs = false;
    }
    if (status != RECO_OK) reco_pair_reader_close(r), *out = NULL;
    return status;
}

reco_status reco_pair_reader_next(reco_ctx *ctx, reco_pair_reader *r, reco_pair **pairs, size_t *n)
{
    if (r->now) empty_batch(r->now);
    if (!r->runs && !r->ended) fill_next(r);
    pthread_mutex_lock(&r->lock);
    r->emptied += r->now != NULL;
    pthread_cond_signal(&r->changed);
    while (r->filled == r->emptied && !r->ended) pthread_cond_wait(&r->changed, &r->lock);
    bool some = r->filled > r->emptied;
    reco_status status = r->status;
    pthread_mutex_unlock(&r->lock);
    r->now = some ? &r->batches[r->emptied % BATCHES] : NULL;
    *pairs = some ? r->now->pairs : NULL;
    *n = some ? r->now->n : 0;
    return *n || status == RECO_OK ? RECO_OK : reco_fail(ctx, status, "%s", reco_ctx_error(r->ctx));
}

void reco_pair_reader_close(reco_pair_reader *r)
{
    if (!r) return;
    pthread_mutex_lock(&r->lock);
    r->stopped = true;
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->lock);
    if (r->runs) pthread_join(r->thread, NULL);
    if (r->s) sqlite3_reset(r->s);
    for (size_t i = 0; i < BATCHES; i++) empty_batch(&r->batches[i]);
    pthread_cond_destroy(&r->changed);
    pthread_mutex_destroy(&r->lock);
    reco_ctx_free(r->ctx);
    reco_free(r);
}
