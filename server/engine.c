/* The engine: one thread that answers all that waits at once. While a batch is worked on, requests gather for the next one, so that
 * nothing waits for company; texts are embedded together, pictures too, and questions that differ in their vectors alone share one
 * reading of the bank. */
#include "internal.h"

#include <stdlib.h>

enum { REQUESTS = 256, ITEMS = 512 };
static const double LOOK_SECONDS = 1;

typedef struct batch {
    serve_request *requests[REQUESTS];
    size_t n;
    serve_item *items[ITEMS]; /* of one kind of work */
    size_t nitems;
    float *rows; /* [ITEMS][d] */
} batch;

/* Wait for requests; false: the server stops, and none is left. */
static bool gather_batch(serve *s, batch *b)
{
    size_t items = 0;
    b->n = 0;
    pthread_mutex_lock(&s->lock);
    while (!s->questions.first && !s->questions.closed) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 1;
        if (pthread_cond_timedwait(&s->questions.more, &s->lock, &until)) break;
    }
    bool stop = s->questions.closed && !s->questions.first;
    while (s->questions.first && b->n < REQUESTS) {
        serve_request *r = s->questions.first;
        if (b->n && items + r->nitems > ITEMS) break;
        items += r->nitems;
        s->questions.first = r->next;
        if (!r->next) s->questions.last = &s->questions.first;
        s->questions.n--;
        b->requests[b->n++] = r;
    }
    pthread_mutex_unlock(&s->lock);
    return !stop;
}

static void blame(serve_item *item, reco_ctx *ctx, reco_status status)
{
    item->status = status;
    free(item->error);
    item->error = strdup(*reco_ctx_error(ctx) ? reco_ctx_error(ctx) : reco_status_name(status));
}

static void collect_items(batch *b, serve_kind kind)
{
    b->nitems = 0;
    for (size_t i = 0; i < b->n; i++)
        for (size_t j = 0; j < b->requests[i]->nitems; j++) {
            serve_item *item = &b->requests[i]->items[j];
            if (item->kind == kind && item->status == RECO_OK && !b->requests[i]->cancelled &&
                b->nitems < ITEMS)
                b->items[b->nitems++] = item;
        }
}

/* What was embedded goes to its items. */
static void hand_out(serve *s, batch *b, reco_ctx *ctx, reco_status status)
{
    for (size_t i = 0; i < b->nitems; i++) {
        if (status == RECO_OK) b->items[i]->vector = malloc(s->d * sizeof(float));
        if (status == RECO_OK && b->items[i]->vector)
            memcpy(b->items[i]->vector, b->rows + i * s->d, s->d * sizeof(float));
        else
            blame(b->items[i], ctx, status == RECO_OK ? RECO_E_NOMEM : status);
    }
}

static void embed_texts(serve *s, batch *b, reco_ctx *ctx)
{
    const char *texts[ITEMS];
    unsigned char cut[ITEMS];
    collect_items(b, SERVE_TEXT);
    if (!b->nitems) return;
    for (size_t i = 0; i < b->nitems; i++) texts[i] = b->items[i]->text;
    reco_status status = reco_model_embed_texts(ctx, s->model, texts, b->nitems, b->rows, cut);
    for (size_t i = 0; i < b->nitems && status == RECO_OK; i++) b->items[i]->cut = cut[i];
    atomic_fetch_add(&s->metrics.texts, b->nitems);
    hand_out(s, b, ctx, status);
}

static void on_failure(void *user, uint64_t row, const char *item, const char *reason)
{
    (void)item;
    serve_item *bad = ((batch *)user)->items[row];
    bad->status = RECO_E_FORMAT;
    bad->error = strdup(reason);
}

static void embed_pictures(serve *s, batch *b, reco_ctx *ctx)
{
    reco_picture_input pictures[ITEMS];
    size_t rows[ITEMS], good = 0;
    reco_embed_opts opts = {.failure = on_failure, .user = b};
    collect_items(b, SERVE_PICTURE);
    if (!b->nitems) return;
    atomic_fetch_add(&s->metrics.pictures, b->nitems);
    for (size_t i = 0; i < b->nitems; i++)
        pictures[i] = (reco_picture_input){
            .name = "the picture", .data = b->items[i]->bytes, .bytes = b->items[i]->nbytes};
    reco_status status =
        reco_embed_pictures(ctx, s->model, pictures, b->nitems, &opts, b->rows, rows, &good);
    for (size_t i = 0; i < good; i++) b->items[i] = b->items[rows[i]];
    b->nitems = status == RECO_OK ? good : b->nitems;
    hand_out(s, b, ctx, status);
}

/* Vectors of rows that are asked with. */
static void gather_rows(serve *s, batch *b, reco_ctx *ctx)
{
    for (size_t i = 0; i < b->n; i++)
        for (size_t j = 0; j < b->requests[i]->nitems; j++) {
            serve_request *r = b->requests[i];
            serve_item *item = &r->items[j];
            if (item->kind != SERVE_ROW || r->cancelled || r->ask.only_rows) continue;
            reco_pair pair; /* gathering from a folder would find deleted rows, too */
            reco_status status = RECO_OK;
            if (!reco_bank_get_info(r->bank->now)->shards) {
                status = reco_bank_get(ctx, r->bank->now, item->row, &pair);
                if (status == RECO_OK) reco_pair_free(&pair);
            }
            item->vector = malloc(s->d * sizeof(float));
            if (status == RECO_OK && !item->vector) status = RECO_E_NOMEM;
            if (status == RECO_OK)
                status = reco_bank_gather(ctx, r->bank->now, item->own, &item->row, 1, item->vector);
            if (status == RECO_OK) (void)serve_unit(item->vector, s->d); /* it is stored in halves */
            if (status == RECO_E_NOTFOUND && reco_bank_missing_shard(r->bank->now, 0)) {
                serve_note_missing(r, r->bank->now);
                status = RECO_E_IO; /* it may be there */
            }
            if (status != RECO_OK) blame(item, ctx, status);
        }
}

/* Do items of these requests differ in their vectors alone? */
static bool alike(const serve_request *a, const serve_item *x, const serve_request *b, const serve_item *y)
{
    const serve_ask *p = &a->ask, *q = &b->ask;
    return a->bank == b->bank && x->own == y->own && p->refine == q->refine && p->pairs == q->pairs &&
           p->side == q->side && p->k == q->k && !(p->recall < q->recall) && !(p->recall > q->recall) &&
           p->distinct == q->distinct && !(p->least < q->least) && !(p->least > q->least) &&
           (a->where == b->where || (a->where && b->where && strcmp(a->where, b->where) == 0));
}

reco_memory serve_memory(const serve *s, const serve_request *r, bool refine)
{
    reco_memory m = RECO_MEMORY_INIT;
    m.bank = r->bank->now;
    m.recall = r->ask.recall;
    if (refine) m.fusion = s->fusion;
    return m;
}

static void keep_hits(serve_item *item, size_t k, const reco_answer *list, size_t at, size_t n, bool mixed)
{
    item->ids = malloc((n ? n : 1) * sizeof *item->ids);
    float **const to[] = {&item->scores, &item->plain, &item->refined};
    const float *const from[] = {list->scores, list->plain, list->refined};
    for (int i = 0; i < (mixed ? 3 : 1); i++) {
        *to[i] = malloc((n ? n : 1) * sizeof **to[i]);
        if (*to[i]) memcpy(*to[i], from[i] + at * k, n * sizeof **to[i]);
    }
    if (!item->ids || !item->scores || (mixed && (!item->plain || !item->refined))) {
        item->status = RECO_E_NOMEM;
        return;
    }
    if (list->pairs && !(item->pairs = malloc((n ? n : 1) * sizeof *item->pairs))) {
        item->status = RECO_E_NOMEM;
        return;
    }
    item->n = n;
    memcpy(item->ids, list->ids + at * k, n * sizeof *item->ids);
    for (size_t i = 0; list->pairs && i < n; i++) {
        item->pairs[i] = list->pairs[at * k + i];
        list->pairs[at * k + i] = (reco_pair){0};
    }
}

/* Look up the items that b has collected, which are all like the first, of request r. */
static void look_up_items(serve *s, batch *b, const serve_request *r, reco_ctx *ctx)
{
    const serve_ask *ask = &r->ask;
    size_t n = b->nitems, k = ask->k;
    reco_memory memory = serve_memory(s, r, ask->refine);
    reco_find_opts find = {
        .in = ask->side, .k = k, .min_similarity = ask->least, .distinct = ask->distinct};
    int64_t *ids = malloc(n * (k + 1) * sizeof *ids), *exclude = ids ? ids + n * k : NULL;
    float *scores = malloc(3 * n * k * sizeof *scores);
    size_t *counts = malloc(n * sizeof *counts);
    reco_pair *pairs = ask->pairs ? calloc(n * k, sizeof *pairs) : NULL;
    reco_status status = ids && scores && counts && (pairs || !ask->pairs) ? RECO_OK : RECO_E_NOMEM;
    reco_question question = {
        .side = b->items[0]->own, .x = b->rows, .n = n, .exclude = exclude, .nexclude = 1};
    for (size_t i = 0; i < n && status == RECO_OK; i++) {
        memcpy(b->rows + i * s->d, b->items[i]->vector, s->d * sizeof(float));
        exclude[i] = b->items[i]->kind == SERVE_ROW ? b->items[i]->row : -1;
    }
    if (status == RECO_OK) status = serve_where(r->bank, ctx, r->where, &memory.filter);
    reco_settings settings;
    reco_memory_settle(&memory, question.side, ask->side, &settings);
    bool mixed = settings.mixture.scale[0] > 0;
    reco_answer list = {.ids = ids, .scores = scores, .counts = counts, .pairs = pairs};
    if (mixed) list.plain = scores + n * k;
    if (mixed) list.refined = scores + 2 * n * k;
    if (status == RECO_OK) status = reco_ask(ctx, &memory, &question, &find, &list);
    for (size_t i = 0; i < b->n; i++)
        if (b->requests[i]->bank == r->bank) serve_note_missing(b->requests[i], r->bank->now);
    for (size_t i = 0; i < n; i++)
        if (status == RECO_OK)
            keep_hits(b->items[i], k, &list, i, counts[i], mixed);
        else
            blame(b->items[i], ctx, status);
    atomic_fetch_add(&s->metrics.searches, n);
    serve_free_pairs(pairs, n * k);
    free(ids);
    free(scores);
    free(counts);
}

static bool wants(const serve_request *r, const serve_item *item)
{
    return r->ask.search && !r->cancelled && item->status == RECO_OK && item->vector && !item->ids;
}

static void search_all(serve *s, batch *b, reco_ctx *ctx)
{
    for (size_t i = 0; i < b->n; i++)
        for (size_t j = 0; j < b->requests[i]->nitems; j++) {
            const serve_request *r = b->requests[i];
            if (!wants(r, &r->items[j])) continue;
            b->nitems = 0;
            b->items[b->nitems++] = &r->items[j];
            for (size_t p = i; p < b->n; p++)
                for (size_t q = p == i ? j + 1 : 0; q < b->requests[p]->nitems && b->nitems < ITEMS; q++) {
                    serve_item *item = &b->requests[p]->items[q];
                    if (wants(b->requests[p], item) && alike(r, &r->items[j], b->requests[p], item))
                        b->items[b->nitems++] = item;
                }
            look_up_items(s, b, r, ctx);
        }
}

static void answer_request(serve *s, serve_request *r, reco_ctx *ctx)
{
    double took = serve_now() - r->began;
    if (r->cancelled && took > serve_patience(s))
        serve_fail(r, 503, "the request timed out after %.0f s", took);
    else if (r->cancelled)
        serve_fail(r, 499, "the client disconnected");
    else
        r->route->finish(s, r, ctx);
    if (!r->status && r->route->late && serve_enqueue(s, &s->pictures, r)) return;
    atomic_fetch_add(&s->metrics.answered, 1);
    atomic_fetch_add(&s->metrics.micros, (uint64_t)(1e6 * (serve_now() - r->began)));
    serve_resume(r);
}

void *serve_engine(void *user)
{
    serve *s = user;
    reco_ctx *ctx = s->engine_ctx;
    batch *b = s->batch;
    double looked = serve_now();
    while (gather_batch(s, b)) {
        double now = serve_now();
        bool look = now - looked > LOOK_SECONDS;
        if (look) looked = now;
        serve_adopt(s, ctx, look);
        if (!b->n) continue;
        for (size_t i = 0; i < b->n; i++) {
            b->requests[i]->batch = b->n;
            b->requests[i]->cancelled =
                now - b->requests[i]->began > serve_patience(s) || serve_is_gone(b->requests[i]);
        }
        atomic_fetch_add(&s->metrics.batches, 1);
        atomic_fetch_add(&s->metrics.batched, b->n);
        if (s->model) embed_texts(s, b, ctx);
        if (s->model) embed_pictures(s, b, ctx);
        gather_rows(s, b, ctx);
        search_all(s, b, ctx);
        for (size_t i = 0; i < b->n; i++) answer_request(s, b->requests[i], ctx);
    }
    return NULL;
}

bool serve_engine_create(serve *s)
{
    batch *b = s->batch = calloc(1, sizeof *b);
    if (b) b->rows = malloc(ITEMS * s->d * sizeof(float));
    return b && b->rows;
}

void serve_engine_free(serve *s)
{
    batch *b = s->batch;
    if (b) free(b->rows);
    free(b);
}
