/* A data set in CLIP_benchmark's layout: DIR/test/nshards.txt, DIR/test/0.tar, ...; members with the same key form
 * a sample. */
#include "pipeline/pipeline_internal.h"
#include "reco/query.h"

#include <stdlib.h>

#define MAX_TEXT ((size_t)1 << 20)
#define MAX_PICTURE ((size_t)256 << 20)
#define MAX_SHARDS 100000
enum { BATCH = 64 };

typedef struct sample {
    char *key, *place, *name; /* place: TAR/KEY for messages; name: of its picture, NULL: none */
    void *data;               /* the picture; NULL: none, or its row is kept */
    size_t bytes, at;         /* at: its place in the tar */
    bool pictured;
    char *text; /* its label, or its captions, one a line */
} sample;

typedef struct loader {
    reco_query_set *set;
    const reco_model *model;
    const reco_embed_opts *opts;
    reco_decoder *decoder;
    bool retrieval;
    const char *cache;
    reco_kept_tar kept;      /* rows of the tar that is being read */
    sample now, held[BATCH]; /* being read; complete, to be embedded */
    size_t nheld, room, seen, in_tar;
} loader;

static void clear_sample(sample *s)
{
    reco_free(s->key);
    reco_free(s->place);
    reco_free(s->name);
    reco_free(s->data);
    reco_free(s->text);
    *s = (sample){0};
}

static void *grow_array(reco_ctx *ctx, void *old, size_t n, size_t room, size_t size)
{
    void *out = reco_alloc(ctx, room, size, "pictures");
    if (out && n) memcpy(out, old, n * size);
    if (out) reco_free(old);
    return out;
}

/* Room for one more row. */
static reco_status reserve_row(reco_ctx *ctx, loader *l)
{
    reco_query_set *set = l->set;
    if (set->n < l->room) return RECO_OK;
    size_t room = l->room ? 2 * l->room : 256, n = set->n;
    void *next;
    if (!(next = grow_array(ctx, set->rows[RECO_IMAGE], n * set->d, room * set->d, sizeof(float))))
        return RECO_E_NOMEM;
    set->rows[RECO_IMAGE] = next;
    for (int v = 0; v < RECO_QUERY_VALUES; v++) {
        if (!(next = grow_array(ctx, set->values[v], n, room, sizeof(char *)))) return RECO_E_NOMEM;
        set->values[v] = next;
    }
    if (!(next = grow_array(ctx, set->at, n, room, sizeof *set->at))) return RECO_E_NOMEM;
    set->at = next;
    l->room = room;
    return RECO_OK;
}

/* Row n: it counts once it is whole. */
static reco_status add_row(reco_ctx *ctx, loader *l, const sample *s, const float *x, const char *text,
                           size_t bytes)
{
    reco_query_set *set = l->set;
    RECO_TRY(reserve_row(ctx, l));
    size_t i = set->n;
    memcpy(set->rows[RECO_IMAGE] + i * set->d, x, set->d * sizeof *x);
    set->at[i] = i;
    set->values[RECO_QUERY_IMAGE][i] = reco_strdup(ctx, s->place);
    char **value = set->values[l->retrieval ? RECO_QUERY_TEXT : RECO_QUERY_LABEL] + i;
    *value = reco_format(ctx, "%.*s", (int)bytes, text);
    set->total = ++set->n;
    return set->values[RECO_QUERY_IMAGE][i] && *value ? RECO_OK : RECO_E_NOMEM;
}

static void fail_sample(loader *l, const sample *s, const char *reason)
{
    l->set->skipped++;
    if (l->opts && l->opts->failure) l->opts->failure(l->opts->user, l->seen, s->place, reason);
}

/* Each line of the text is a caption, or the one a label. */
static reco_status add_sample(reco_ctx *ctx, loader *l, const sample *s, const float *x)
{
    size_t rows = 0;
    for (const char *c = s->text; *c;) {
        size_t n = strcspn(c, "\r\n"), blank = strspn(c, " \t");
        if (blank < n) {
            RECO_TRY(add_row(ctx, l, s, x, c + blank, n - blank));
            rows++;
            if (!l->retrieval) break;
        }
        c += n;
        c += strspn(c, "\r\n");
    }
    if (!rows) fail_sample(l, s, l->retrieval ? "has no caption" : "has no label");
    return RECO_OK;
}

static reco_status flush_pictures(reco_ctx *ctx, loader *l)
{
    const char *paths[BATCH];
    reco_picture_bytes data[BATCH];
    char *reasons[BATCH] = {0};
    reco_status status = RECO_OK;
    size_t d = l->set->d, n = 0;
    reco_mark mark = reco_scratch_mark(ctx);
    float *rows = reco_scratch(ctx, BATCH * d, sizeof *rows, "pictures");
    if (!rows) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < l->nheld; i++) {
        if (!l->held[i].data) continue;
        paths[n] = l->held[i].place;
        data[n++] = (reco_picture_bytes){.data = l->held[i].data, .bytes = l->held[i].bytes};
    }
    if (n) RECO_GO(reco_decoder_embed(ctx, l->decoder, paths, data, n, rows, reasons));
    for (size_t i = 0, j = 0; i < l->nheld; i++) {
        const sample *s = &l->held[i];
        const char *reason = s->data ? reasons[j] : NULL;
        const float *x = s->data ? rows + j++ * d : reco_kept_tar_row(&l->kept, s->at, d);
        if (reason) {
            fail_sample(l, s, reason);
            continue;
        }
        RECO_GO(add_sample(ctx, l, s, x));
        if (s->data) RECO_GO(reco_kept_tar_set(ctx, &l->kept, s->at, d, x));
    }
    RECO_GO(reco_progress(ctx, "embedding", l->seen, 0));
out:
    for (size_t i = 0; i < l->nheld; i++) {
        reco_free(reasons[i]);
        clear_sample(&l->held[i]);
    }
    l->nheld = 0;
    reco_scratch_release(ctx, mark);
    return status;
}

static reco_status finish_sample(reco_ctx *ctx, loader *l)
{
    sample *s = &l->now;
    if (!s->key) return RECO_OK;
    const char *missing = !s->pictured   ? "has no picture"
                          : s->text      ? NULL
                          : l->retrieval ? "has no .txt"
                                         : "has no .cls";
    l->seen++;
    l->in_tar++;
    if (missing) {
        fail_sample(l, s, missing);
        clear_sample(s);
        return RECO_OK;
    }
    l->held[l->nheld++] = *s;
    *s = (sample){0};
    return l->nheld == BATCH ? flush_pictures(ctx, l) : RECO_OK;
}

static reco_status take_member(reco_ctx *ctx, loader *l, reco_tar *tar, const char *ending)
{
    sample *s = &l->now;
    char *data = NULL;
    size_t bytes;
    bool words = strcasecmp(ending, l->retrieval ? "txt" : "cls") == 0;
    if (words && !s->text) {
        RECO_TRY(reco_tar_read(ctx, tar, &data, &bytes, MAX_TEXT));
        s->text = data;
        if (memchr(data, 0, bytes))
            return reco_fail(ctx, RECO_E_FORMAT, "%s.%s: holds a NUL byte", s->place, ending);
    } else if (!words && !s->pictured && reco_is_picture_ending(ending, strlen(ending))) {
        s->pictured = true;
        if (reco_kept_tar_row(&l->kept, s->at, l->set->d)) return RECO_OK;
        RECO_TRY(reco_tar_read(ctx, tar, &data, &bytes, MAX_PICTURE));
        s->data = data;
        s->bytes = bytes;
    }
    return RECO_OK;
}

static reco_status read_tar(reco_ctx *ctx, loader *l, const char *path)
{
    reco_tar *tar = NULL;
    const char *name;
    reco_status status = RECO_OK;
    l->in_tar = 0;
    RECO_GO(reco_kept_tar_open(ctx, &l->kept, l->model, l->cache, path));
    RECO_GO(reco_tar_open(ctx, &tar, path));
    for (;;) {
        RECO_GO(reco_tar_next(ctx, tar, &name));
        if (!name) break;
        const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name, *dot = strchr(base, '.');
        if (!dot || dot == base) continue;
        size_t n = (size_t)(dot - name);
        sample *s = &l->now;
        if (!s->key || strlen(s->key) != n || memcmp(s->key, name, n) != 0) {
            RECO_GO(finish_sample(ctx, l));
            s->key = reco_format(ctx, "%.*s", (int)n, name);
            s->place = reco_format(ctx, "%s/%.*s", path, (int)n, name);
            s->at = l->in_tar;
            if (!s->key || !s->place) RECO_GO(RECO_E_NOMEM);
        }
        RECO_GO(take_member(ctx, l, tar, dot + 1));
    }
    RECO_GO(finish_sample(ctx, l));
    if (l->kept.path) status = flush_pictures(ctx, l);
out:
    reco_kept_tar_close(ctx, &l->kept, l->cache, l->set->d);
    reco_tar_close(tar);
    return status;
}

/* Captions as the model has them. */
static reco_status embed_captions(reco_ctx *ctx, loader *l)
{
    reco_query_set *set = l->set;
    size_t count;
    if (!reco_mul(set->n, set->d, &count)) return reco_fail_nomem(ctx, SIZE_MAX, "captions");
    if (!(set->rows[RECO_TEXT] = reco_alloc(ctx, count, sizeof(float), "captions"))) return RECO_E_NOMEM;
    reco_candidates captions = {.n = set->n,
                                .d = set->d,
                                .names = (const char *const *)set->values[RECO_QUERY_TEXT],
                                .model = l->model};
    return reco_embed_prompts_cached(ctx, &captions, l->cache, set->rows[RECO_TEXT], &set->truncated);
}

static reco_status count_shards(reco_ctx *ctx, const char *dir, size_t *n)
{
    char *path = reco_format(ctx, "%s/test/nshards.txt", dir), *text = NULL, *end;
    size_t bytes;
    if (!path) return RECO_E_NOMEM;
    reco_status status = reco_read_file(ctx, &text, &bytes, path, 64);
    if (status == RECO_OK) {
        unsigned long long value = strtoull(text, &end, 10);
        *n = (size_t)value;
        if (end == text || end[strspn(end, " \t\r\n")] || value == 0 || value > MAX_SHARDS)
            status =
                reco_fail(ctx, RECO_E_FORMAT, "%s: want the number of tars, 1 to %d", path, MAX_SHARDS);
    }
    reco_free(text);
    reco_free(path);
    return status;
}

reco_status reco_query_set_read(reco_ctx *ctx, reco_query_set *set, const reco_model *model,
                                const char *dir, int retrieval, const char *cache,
                                const reco_embed_opts *opts)
{
    *set = (reco_query_set){.d = reco_model_get_info(model)->d,
                            .logit_scale = reco_model_get_info(model)->logit_scale};
    loader l = {.set = set, .model = model, .opts = opts, .retrieval = retrieval != 0, .cache = cache};
    size_t n;
    reco_status status = RECO_OK;
    RECO_GO(count_shards(ctx, dir, &n));
    RECO_GO(reco_decoder_create(ctx, &l.decoder, model, opts));
    for (size_t i = 0; i < n; i++) {
        char *path = reco_format(ctx, "%s/test/%zu.tar", dir, i);
        status = path ? read_tar(ctx, &l, path) : RECO_E_NOMEM;
        reco_free(path);
        if (status != RECO_OK) goto out;
    }
    RECO_GO(flush_pictures(ctx, &l));
    if (set->n == 0) RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s/test: no picture could be used", dir));
    if (retrieval) status = embed_captions(ctx, &l);
out:
    clear_sample(&l.now);
    for (size_t i = 0; i < l.nheld; i++) clear_sample(&l.held[i]);
    reco_decoder_free(l.decoder);
    if (status != RECO_OK) reco_query_set_free(set);
    return status;
}
