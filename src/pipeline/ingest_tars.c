#include "pipeline/sink.h"

#include <strings.h>
#include <sys/stat.h>

#define MAX_TEXT ((size_t)1 << 20)
#define MAX_PICTURE ((size_t)256 << 20)
#define MAX_TARS 1000000
#define IDENTIFYING ((size_t)64 << 10) /* bytes of a tar that name it, beside its length */

/* Members of one key. */
typedef struct sample {
    char *key; /* NULL: none begun */
    size_t key_bytes;
    char *name; /* of the picture */
    char *text;
    json_t *json;
    char *reason; /* the first thing wrong with it */
    void *data;
    size_t bytes;
} sample;

typedef struct ingest {
    reco_sink *sink;
    const char *tar;
    sample now;
    uint64_t number; /* of the sample that is being read */
    size_t max_picture;
    uint64_t *dropped;
} ingest;

static void clear(sample *s)
{
    reco_free(s->key);
    reco_free(s->name);
    reco_free(s->text);
    reco_free(s->reason);
    reco_free(s->data);
    json_decref(s->json);
    *s = (sample){0};
}

/* ---- one sample ---- */

static reco_status fail_sample(reco_ctx *ctx, ingest *g, const char *reason)
{
    const sample *s = &g->now;
    char *item = reco_format(ctx, "%s/%s", g->tar, s->name ? s->name : s->key);
    if (!item) return RECO_E_NOMEM;
    reco_status status = reco_sink_fail(ctx, g->sink, item, reason, g->number);
    reco_free(item);
    return status;
}

/* The sample as a record of a pairs file. */
static reco_status make_record(reco_ctx *ctx, ingest *g, json_t **out)
{
    sample *s = &g->now;
    json_t *record = *out = s->json ? json_incref(s->json) : json_object();
    char *uri = reco_format(ctx, "%s/%s", g->tar, s->name);
    if (!record || !uri) {
        reco_free(uri);
        return RECO_E_NOMEM;
    }
    int bad = json_object_set_new(record, "image", reco_json_text(uri, strlen(uri)));
    reco_free(uri);
    if (s->text) bad |= json_object_set_new(record, "text", reco_json_text(s->text, strlen(s->text)));
    const char *caption = json_string_value(json_object_get(record, "caption"));
    if (s->text && caption && strcmp(caption, s->text) == 0)
        json_object_del(record, "caption"); /* says it again */
    return bad ? reco_fail_nomem(ctx, 0, "JSON") : RECO_OK;
}

static reco_status finish(reco_ctx *ctx, ingest *g)
{
    sample *s = &g->now;
    if (!s->key) return RECO_OK;
    reco_status status = RECO_OK;
    json_t *record = NULL;
    reco_pair_row row = {0};
    const char *reason = s->reason ? s->reason : s->name ? NULL : "no image";
    if (g->number >= reco_sink_next(g->sink)) {
        if (!reason) {
            RECO_GO(make_record(ctx, g, &record));
            RECO_GO(reco_pair_row_read(ctx, &row, record, g->tar, RECO_NEED_BOTH, &reason));
        }
        if (reason)
            RECO_GO(fail_sample(ctx, g, reason));
        else {
            reco_free(row.path); /* for messages */
            if (!(row.path = reco_strdup(ctx, row.uri))) RECO_GO(RECO_E_NOMEM);
            row.data = s->data;
            row.bytes = s->bytes;
            s->data = NULL;
            RECO_GO(reco_sink_take(ctx, g->sink, &row, g->number));
        }
    }
    g->number++;
    status = reco_sink_seen(ctx, g->sink, g->number);
out:
    json_decref(record);
    reco_pair_row_free(&row);
    clear(s);
    return status;
}

/* ---- members ---- */

static void strip_end(char *text)
{
    size_t n = strlen(text);
    while (n && strchr(" \t\r\n", text[n - 1])) text[--n] = 0;
}

static reco_status take_text(reco_ctx *ctx, ingest *g, char *data, size_t bytes, bool is_json)
{
    sample *s = &g->now;
    const char *reason = NULL;
    if (is_json) {
        reco_status status = reco_json_read_object(ctx, &s->json, data, bytes, g->dropped);
        if (status == RECO_E_NOMEM) return status;
        if (status != RECO_OK) reason = reco_ctx_error(ctx);
    } else if (memchr(data, 0, bytes))
        reason = ".txt holds a NUL byte";
    else if (reco_utf8_errors(data, bytes) > 0)
        reason = ".txt is not UTF-8";
    else {
        strip_end(data);
        if (!(s->text = reco_strdup(ctx, data))) return RECO_E_NOMEM;
    }
    if (reason && !s->reason && !(s->reason = reco_strdup(ctx, reason))) return RECO_E_NOMEM;
    return RECO_OK;
}

static bool is_picture(const char *ending)
{
    static const char *const endings[] = {"jpg", "jpeg", "png", "webp"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (strcasecmp(ending, endings[i]) == 0) return true;
    return false;
}

/* Content that is too large costs the sample; a tar that is damaged ends. */
static reco_status take(reco_ctx *ctx, ingest *g, reco_tar *tar, const char *name, const char *ending)
{
    sample *s = &g->now;
    bool picture = is_picture(ending), is_json = strcasecmp(ending, "json") == 0;
    if (!picture && !is_json && strcasecmp(ending, "txt") != 0) return RECO_OK;
    if ((picture && s->name) || (is_json && s->json) || (!picture && !is_json && s->text)) return RECO_OK;
    if (picture && !(s->name = reco_strdup(ctx, name))) return RECO_E_NOMEM;
    char *data;
    size_t bytes;
    reco_status status = reco_tar_read(ctx, tar, &data, &bytes, picture ? g->max_picture : MAX_TEXT);
    if (status == RECO_E_NOMEM) {
        if (!s->reason && !(s->reason = reco_strdup(ctx, reco_ctx_error(ctx)))) return RECO_E_NOMEM;
        return RECO_OK;
    }
    RECO_TRY(status);
    if (picture) {
        s->data = data;
        s->bytes = bytes;
        return RECO_OK;
    }
    status = take_text(ctx, g, data, bytes, is_json);
    reco_free(data);
    return status;
}

/* "a/b.seg.png": key "a/b", ending "seg.png". */
static size_t key_of(const char *name, const char **ending)
{
    const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;
    size_t n = (size_t)(base - name) + strcspn(base, ".");
    *ending = name[n] ? name + n + 1 : "";
    return n;
}

static reco_status read_members(reco_ctx *ctx, ingest *g, reco_tar *tar)
{
    sample *s = &g->now;
    for (;;) {
        const char *name, *ending;
        RECO_TRY(reco_tar_next(ctx, tar, &name));
        if (!name) return finish(ctx, g);
        size_t n = key_of(name, &ending);
        if (!s->key || s->key_bytes != n || memcmp(s->key, name, n) != 0) {
            RECO_TRY(finish(ctx, g));
            if (!(s->key = reco_strdup(ctx, name))) return RECO_E_NOMEM;
            s->key[n] = 0;
            s->key_bytes = n;
        }
        if (g->number >= reco_sink_next(g->sink)) RECO_TRY(take(ctx, g, tar, name, ending));
    }
}

static reco_status read_tar(reco_ctx *ctx, ingest *g, const char *path)
{
    reco_tar *tar = NULL;
    g->tar = path;
    reco_status status = reco_tar_open(ctx, &tar, path);
    if (status == RECO_OK) status = read_members(ctx, g, tar);
    reco_tar_close(tar);
    if (status != RECO_E_FORMAT) return status;
    /* Damaged from here on: what came before is kept, the sample that was begun is not. */
    clear(&g->now);
    if (g->number >= reco_sink_next(g->sink))
        RECO_TRY(reco_sink_fail(ctx, g->sink, path, reco_ctx_error(ctx), g->number));
    g->number++;
    return reco_sink_seen(ctx, g->sink, g->number);
}

/* ---- which tars ---- */

typedef struct list {
    char **paths;
    size_t n, room;
} list;

static reco_status push(reco_ctx *ctx, list *l, char *path)
{
    if (!path) return RECO_E_NOMEM;
    if (l->n == MAX_TARS) {
        reco_free(path);
        return reco_fail(ctx, RECO_E_ARG, "tars: more than %d", MAX_TARS);
    }
    if (l->n == l->room) {
        size_t room = l->room ? 2 * l->room : 16;
        char **grown = reco_alloc(ctx, room, sizeof *grown, "list of tars");
        if (!grown) {
            reco_free(path);
            return RECO_E_NOMEM;
        }
        if (l->n) memcpy(grown, l->paths, l->n * sizeof *grown);
        reco_free(l->paths);
        l->paths = grown;
        l->room = room;
    }
    l->paths[l->n++] = path;
    return RECO_OK;
}

/* x-{000..009}.tar: one name for each number, as wide as the first is written. */
static reco_status expand(reco_ctx *ctx, list *l, const char *pattern)
{
    unsigned long long from, to;
    int first = 0, after = 0, end = 0;
    const char *brace = strchr(pattern, '{');
    while (brace &&
           (sscanf(brace, "{%9llu%n..%n%9llu}%n", &from, &first, &after, &to, &end) != 2 || end == 0 ||
            brace[1] < '0' || brace[1] > '9' || brace[after] < '0' || brace[after] > '9'))
        brace = strchr(brace + 1, '{');
    if (!brace || reco_path_exists(pattern)) return push(ctx, l, reco_strdup(ctx, pattern));
    if (from > to || to - from >= MAX_TARS)
        return reco_fail(ctx, RECO_E_ARG, "%s: range %llu..%llu, want ascending and less than %d", pattern,
                         from, to, MAX_TARS);
    for (unsigned long long i = from; i <= to; i++) {
        char *name =
            reco_format(ctx, "%.*s%0*llu%s", (int)(brace - pattern), pattern, first - 1, i, brace + end);
        if (!name) return RECO_E_NOMEM;
        reco_status status = expand(ctx, l, name);
        reco_free(name);
        RECO_TRY(status);
    }
    return RECO_OK;
}

/* A job is named by what the tars are, not by all of their content, which may be terabytes. */
static reco_status identify(reco_ctx *ctx, const list *l, char hex[33])
{
    reco_hash *hash;
    RECO_TRY(reco_hash_new(ctx, &hash));
    reco_status status = RECO_OK;
    for (size_t i = 0; i < l->n && status == RECO_OK; i++) {
        reco_map map;
        status = reco_map_open(ctx, &map, l->paths[i]);
        if (status != RECO_OK) break;
        uint64_t bytes = map.bytes;
        size_t part = reco_min(map.bytes, IDENTIFYING);
        reco_hash_update(hash, &bytes, sizeof bytes);
        if (part) reco_hash_update(hash, map.data, part);
        if (part) reco_hash_update(hash, map.data + (map.bytes - part), part);
        reco_map_close(&map);
    }
    reco_hash_hex(hash, hex);
    return status;
}

reco_status reco_bank_ingest_tars(reco_ctx *ctx, const reco_model *model, const char *const *tars, size_t n,
                                  const char *bank, int build, const reco_stream_opts *opts,
                                  reco_stream_result *result)
{
    double start = reco_now();
    *result = (reco_stream_result){0};
    ingest g = {.dropped = &result->dropped,
                .max_picture = opts && opts->limits.max_bytes ? opts->limits.max_bytes : MAX_PICTURE};
    list l = {0};
    char content[33];
    reco_status status = RECO_OK;
    for (size_t i = 0; i < n; i++) RECO_GO(expand(ctx, &l, tars[i]));
    if (l.n == 0) RECO_GO(reco_fail(ctx, RECO_E_ARG, "tars: none given"));
    RECO_GO(identify(ctx, &l, content));
    const reco_sink_spec spec = {.bank = bank,
                                 .build = build != 0,
                                 .kind = "tars",
                                 .content = content,
                                 .source = l.paths[0],
                                 .model = model};
    RECO_GO(reco_sink_open(ctx, &g.sink, &spec, opts, result));
    if (reco_sink_is_done(g.sink)) goto out;
    for (size_t i = 0; i < l.n; i++) RECO_GO(read_tar(ctx, &g, l.paths[i]));
    status = reco_sink_finish(ctx, g.sink, g.number);
out:
    result->seconds = reco_now() - start;
    clear(&g.now);
    for (size_t i = 0; i < l.n; i++) reco_free(l.paths[i]);
    reco_free(l.paths);
    reco_sink_close(g.sink);
    return status;
}
