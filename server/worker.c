/* Threads beside the engine: the writer, which changes banks, and the painter, which makes pictures small. */
#include "internal.h"

#include <stdlib.h>
#include <sys/stat.h>

serve_request *serve_dequeue(serve *s, serve_queue *q)
{
    pthread_mutex_lock(&s->lock);
    while (!q->first && !q->closed) pthread_cond_wait(&q->more, &s->lock);
    serve_request *r = q->first;
    if (r) {
        q->first = r->next;
        if (!r->next) q->last = &q->first;
        q->n--;
    }
    pthread_mutex_unlock(&s->lock);
    return r;
}

void *serve_writer(void *user)
{
    serve *s = user;
    for (serve_request *r; (r = serve_dequeue(s, &s->changes));) {
        r->route->finish(s, r, s->writer_ctx);
        serve_resume(r);
    }
    return NULL;
}

/* ---- the painter ---- */

enum { KEPT = 512 };
static const size_t KEPT_BYTES = 64 << 20;

typedef struct kept {
    char *key;
    unsigned char *jpeg;
    size_t bytes;
    uint64_t used;
} kept;

/* The painter's alone; one server a process. */
static kept cache[KEPT];
static size_t cached;
static uint64_t ticks;

static void drop_thumbnail(kept *k)
{
    cached -= k->bytes;
    free(k->key);
    free(k->jpeg);
    *k = (kept){0};
}

static kept *find_thumbnail(const char *key)
{
    for (size_t i = 0; i < KEPT; i++)
        if (cache[i].key && strcmp(cache[i].key, key) == 0) return &cache[i];
    return NULL;
}

static kept *oldest(void)
{
    kept *least = NULL;
    for (size_t i = 0; i < KEPT; i++) {
        if (!cache[i].key) continue;
        if (!least || cache[i].used < least->used) least = &cache[i];
    }
    return least;
}

static void remember_thumbnail(const char *key, const unsigned char *jpeg, size_t bytes)
{
    if (bytes > KEPT_BYTES / 4) return;
    kept *place = NULL;
    while (cached + bytes > KEPT_BYTES) drop_thumbnail(oldest());
    for (size_t i = 0; i < KEPT && !place; i++)
        if (!cache[i].key) place = &cache[i];
    if (!place) drop_thumbnail(place = oldest());
    *place = (kept){strdup(key), malloc(bytes), bytes, ++ticks};
    cached += bytes;
    if (place->key && place->jpeg)
        memcpy(place->jpeg, jpeg, bytes);
    else
        drop_thumbnail(place);
}

unsigned char *serve_thumbnail(serve *s, reco_ctx *ctx, const char *path, size_t edge, size_t *bytes)
{
    struct stat at;
    char *key = NULL;
    unsigned char *jpeg = NULL, *out = NULL;
    if (stat(path, &at) != 0 || !S_ISREG(at.st_mode)) return NULL;
    if (asprintf(&key, "%zu %lld.%ld %s", edge, (long long)at.st_mtim.tv_sec, at.st_mtim.tv_nsec, path) < 0)
        return NULL;
    kept *known = find_thumbnail(key);
    if (known) {
        known->used = ++ticks;
        out = malloc(known->bytes);
        if (out) memcpy(out, known->jpeg, known->bytes);
        *bytes = known->bytes;
    } else if (reco_image_thumbnail(ctx, path, NULL, edge, s->opts->exif, &jpeg, bytes) == RECO_OK) {
        remember_thumbnail(key, jpeg, *bytes);
        out = malloc(*bytes);
        if (out) memcpy(out, jpeg, *bytes);
        reco_free(jpeg);
    }
    free(key);
    return out;
}

void *serve_painter(void *user)
{
    serve *s = user;
    for (serve_request *r; (r = serve_dequeue(s, &s->pictures));) {
        r->route->late(s, r, s->picture_ctx);
        serve_resume(r);
    }
    while (oldest()) drop_thumbnail(oldest());
    return NULL;
}
