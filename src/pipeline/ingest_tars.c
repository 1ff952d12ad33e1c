#include "pipeline/shards.h"
#include "pipeline/sink.h"

#include <strings.h>

#define MAX_TEXT ((size_t)1 << 20)
#define MAX_PICTURE ((size_t)256 << 20)
#define MAX_PARTS 32                 /* of a sample, kept at a time */
#define MAX_HELD ((size_t)512 << 20) /* bytes of their pictures */

/* What a sample has under one name of its own: of a/1.left.jpg and a/1.left.txt it is "left", of a/1.jpg "". */
typedef struct part {
    char *sub, *name; /* name: of the picture, NULL: none */
    void *data;       /* the picture */
    size_t bytes;
    char *text;
    json_t *json;
    char *bad_picture, *bad_text; /* why there is none */
    bool second;                  /* there is another picture of the name */
} part;

/* Members of one key that follow one another. */
typedef struct sample {
    char *key; /* NULL: none begun */
    size_t key_bytes;
    part parts[MAX_PARTS]; /* in the order in which they came */
    size_t n, held, members;
    bool cut; /* the tar ended in the middle of a member */
} sample;

typedef struct ingest {
    reco_sink *sink;
    const char *tar;
    sample now;
    uint64_t number; /* of the sample that is being read */
    size_t max_picture;
    uint64_t *dropped;
    const reco_table_opts *table;
    size_t usual; /* members of the sample before, in the same tar */
    bool damaged; /* an error came from the tar and not from the bank */
} ingest;

static void clear_part(part *p)
{
    reco_free(p->sub);
    reco_free(p->name);
    reco_free(p->text);
    reco_free(p->bad_picture);
    reco_free(p->bad_text);
    reco_free(p->data);
    json_decref(p->json);
    *p = (part){0};
}

static void clear_tar_sample(sample *s)
{
    for (size_t i = 0; i < s->n; i++) clear_part(&s->parts[i]);
    reco_free(s->key);
    *s = (sample){0};
}

/* ---- from parts to pairs ---- */

static reco_status fail_member(reco_ctx *ctx, ingest *g, const char *name, const char *reason)
{
    char *item = reco_format(ctx, "%s/%s", g->tar, name ? name : g->now.key);
    if (!item) return RECO_E_NOMEM;
    reco_status status = reco_sink_fail(ctx, g->sink, item, reason, g->number);
    reco_free(item);
    return status;
}

/* The pair as a record of a pairs file: what the .txt says counts before the .json, but for a column that the user names. */
static reco_status make_record(reco_ctx *ctx, ingest *g, const char *name, const char *text,
                               const json_t *json, json_t **out)
{
    json_t *record = *out = json ? json_copy((json_t *)json) : json_object();
    char *uri = reco_format(ctx, "%s/%s", g->tar, name);
    if (!record || !uri) {
        reco_free(uri);
        return RECO_E_NOMEM;
    }
    int bad = json_object_set_new(record, "image", reco_json_text(uri, strlen(uri)));
    reco_free(uri);
    const char *given = g->table ? g->table->text_column : NULL, *key = "text";
    if (given) key = json_is_string(json_object_get(record, given)) ? "txt" : given;
    if (text) bad |= json_object_set_new(record, key, reco_json_text(text, strlen(text)));
    const char *caption = json_string_value(json_object_get(record, "caption"));
    if (text && !given && caption && strcmp(caption, text) == 0)
        json_object_del(record, "caption"); /* says it again */
    return bad ? reco_fail_nomem(ctx, 0, "JSON") : RECO_OK;
}

static reco_status emit_pair(reco_ctx *ctx, ingest *g, part *p, const part *words, const json_t *json)
{
    reco_status status = RECO_OK;
    json_t *record = NULL;
    reco_pair_row row = {0};
    reco_table_opts table = {.text_column = g->table ? g->table->text_column : NULL};
    const char *reason = p->bad_picture, *text = words ? words->text : NULL;
    if (!reason) {
        RECO_GO(make_record(ctx, g, p->name, text, json, &record));
        RECO_GO(reco_pair_row_read(ctx, &row, record, g->tar, &table, RECO_NEED_BOTH, &reason));
        if (reason && words && words->bad_text) reason = words->bad_text; /* the cause of "no text" */
    }
    if (reason) {
        status = fail_member(ctx, g, p->name, reason);
    } else {
        reco_free(row.path); /* for messages */
        if (!(row.path = reco_strdup(ctx, row.uri))) RECO_GO(RECO_E_NOMEM);
        row.data = p->data;
        row.bytes = p->bytes;
        p->data = NULL;
        g->now.held -= p->bytes;
        p->bytes = 0;
        status = reco_sink_take(ctx, g->sink, &row, g->number);
    }
    if (status == RECO_OK && p->second)
        status = fail_member(ctx, g, p->name, "a second picture has this name");
out:
    json_decref(record);
    reco_pair_row_free(&row);
    return status;
}

static void forget(sample *s, size_t i)
{
    s->held -= s->parts[i].bytes;
    clear_part(&s->parts[i]);
    memmove(s->parts + i, s->parts + i + 1, (s->n - i - 1) * sizeof *s->parts);
    s->parts[--s->n] = (part){0};
}

static part *find_part(sample *s, const char *sub, size_t bytes)
{
    for (size_t i = 0; i < s->n; i++)
        if (strlen(s->parts[i].sub) == bytes && strncasecmp(s->parts[i].sub, sub, bytes) == 0)
            return &s->parts[i];
    return NULL;
}

/* A picture that has a text of its own, or, where no picture has the key's plain name, a JSON, is a pair of its own. */
static bool is_own(const part *p, const part *plain)
{
    return p != plain && p->name && (p->text || (p->json && !(plain && plain->name)));
}

static const json_t *json_of(const sample *s, const part *plain)
{
    if (plain && plain->json) return plain->json;
    for (size_t i = 0; i < s->n; i++)
        if (!s->parts[i].name && s->parts[i].json) return s->parts[i].json;
    return NULL;
}

static bool has_caption(const json_t *json)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)json, key, value)
    {
        if (json_string_length(value) > 0 && reco_column_rank(RECO_COLUMN_TEXT, key) >= 0) return true;
    }
    return false;
}

/* The words of the whole sample: its .txt, else a caption of its JSON, else the first text that no picture has for itself. */
static const part *words_of(const sample *s, const part *plain, const json_t *json)
{
    if ((plain && plain->text) || has_caption(json)) return plain;
    for (size_t i = 0; i < s->n; i++)
        if (!s->parts[i].name && s->parts[i].text) return &s->parts[i];
    return plain;
}

static reco_status make_pairs(reco_ctx *ctx, ingest *g)
{
    sample *s = &g->now;
    part *plain = find_part(s, "", 0), *taken = plain && plain->name ? plain : NULL;
    const json_t *json = json_of(s, plain);
    const part *words = words_of(s, plain, json);
    bool pictures = false, useful = false;
    for (size_t i = 0; i < s->n; i++) {
        part *p = &s->parts[i];
        pictures |= p->name != NULL;
        useful |= p->name || p->text || p->json || p->bad_text;
        if (is_own(p, plain)) RECO_TRY(emit_pair(ctx, g, p, p, p->json ? p->json : json));
    }
    if (taken)
        return emit_pair(ctx, g, taken, words,
                         json); /* others without words are masks, depths and the like */
    for (size_t i = 0; i < s->n; i++) {
        part *p = &s->parts[i];
        if (!p->name || is_own(p, plain)) continue;
        if (taken)
            RECO_TRY(fail_member(
                ctx, g, p->name,
                "the caption of its key belongs to another picture, and it has none of its own"));
        else
            RECO_TRY(emit_pair(ctx, g, taken = p, words, json ? json : p->json));
    }
    return pictures || !useful ? RECO_OK : fail_member(ctx, g, NULL, "no image");
}

static reco_status finish_tar_sample(reco_ctx *ctx, ingest *g)
{
    if (!g->now.key) return RECO_OK;
    reco_status status = g->number >= reco_sink_next(g->sink) ? make_pairs(ctx, g) : RECO_OK;
    g->usual = g->now.members;
    clear_tar_sample(&g->now);
    RECO_TRY(status);
    return reco_sink_seen(ctx, g->sink, ++g->number);
}

/* One more part. Where all places are taken, one that is complete goes on its way; else the sample is no sample. */
static reco_status add_part(reco_ctx *ctx, ingest *g, const char *sub, size_t bytes, part **out)
{
    sample *s = &g->now;
    if ((*out = find_part(s, sub, bytes))) return RECO_OK;
    if (s->n == MAX_PARTS) {
        part *plain = find_part(s, "", 0);
        size_t i = 0, other = plain == &s->parts[0];
        while (i < s->n && !(s->parts[i].text && is_own(&s->parts[i], plain))) i++;
        if (i == s->n) i = other;
        part *p = &s->parts[i];
        if (is_own(p, plain))
            RECO_TRY(emit_pair(ctx, g, p, p, p->json ? p->json : plain ? plain->json : NULL));
        else if (p->name)
            RECO_TRY(fail_member(ctx, g, p->name, "its key has more members than fit in a sample"));
        forget(s, i);
    }
    part *p = &s->parts[s->n];
    if (!(p->sub = reco_format(ctx, "%.*s", (int)bytes, sub))) return RECO_E_NOMEM;
    s->n++;
    *out = p;
    return RECO_OK;
}

/* ---- members ---- */

static void strip_text(char *text)
{
    size_t n = strlen(text), mark = strncmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    memmove(text, text + mark, n - mark + 1);
    for (n -= mark; n && strchr(" \t\r\n", text[n - 1]);) text[--n] = 0;
}

static reco_status set_reason(reco_ctx *ctx, char **to, const char *reason)
{
    if (*to) return RECO_OK;
    return (*to = reco_strdup(ctx, reason)) ? RECO_OK : RECO_E_NOMEM;
}

static reco_status take_words(reco_ctx *ctx, ingest *g, part *p, char *data, size_t bytes, bool is_json)
{
    const char *reason = NULL;
    if (is_json) {
        reco_status status = reco_json_read_object(ctx, &p->json, data, bytes, g->dropped);
        if (status == RECO_E_NOMEM) return status;
        if (status != RECO_OK) reason = reco_ctx_error(ctx);
        if (reason) ++*g->dropped;
    } else if (memchr(data, 0, bytes))
        reason = ".txt holds a NUL byte";
    else if (reco_utf8_errors(data, bytes) > 0)
        reason = ".txt is not UTF-8";
    else {
        strip_text(data);
        if (!(p->text = reco_strdup(ctx, data))) return RECO_E_NOMEM;
    }
    return reason ? set_reason(ctx, &p->bad_text, reason) : RECO_OK;
}

/* The content of a member. One that is too large costs what it would have been; a tar that is damaged ends. */
static reco_status read_member(reco_ctx *ctx, ingest *g, reco_tar *tar, char **data, size_t *bytes,
                               size_t most, char **reason)
{
    reco_status status = reco_tar_read(ctx, tar, data, bytes, most);
    if (status == RECO_E_NOMEM) return set_reason(ctx, reason, reco_ctx_error(ctx));
    if (status != RECO_OK) g->damaged = g->now.cut = true;
    return status;
}

typedef enum member { OTHER, PICTURE, TEXT, JSON } member;

static bool is(const char *ending, size_t n, const char *word)
{
    return strlen(word) == n && strncasecmp(ending, word, n) == 0;
}

/* By the last part of its ending, and where that says nothing by its first bytes. */
static reco_status kind_of_member(reco_ctx *ctx, ingest *g, reco_tar *tar, const char *last, member *kind)
{
    size_t n = strlen(last);
    *kind = is(last, n, "json")                                                   ? JSON
            : is(last, n, "txt") || is(last, n, "text") || is(last, n, "caption") ? TEXT
            : reco_is_picture_ending(last, n)                                     ? PICTURE
                                                                                  : OTHER;
    if (*kind != OTHER) return RECO_OK;
    const char *head, *name;
    size_t bytes;
    reco_status status = reco_tar_peek(ctx, tar, &head, &bytes);
    if (status != RECO_OK) g->damaged = g->now.cut = true;
    RECO_TRY(status);
    if (reco_image_sniff(head, bytes, &name) == RECO_IMAGE_PICTURE && strcmp(name, "SVG") != 0 &&
        strcmp(name, "Netpbm") != 0)
        *kind = PICTURE;
    return RECO_OK;
}

static reco_status take_tar_member(reco_ctx *ctx, ingest *g, reco_tar *tar, const char *name,
                                   const char *ending)
{
    const char *dot = strrchr(ending, '.'), *last = dot ? dot + 1 : ending;
    member kind;
    part *p;
    char *data = NULL;
    size_t bytes = 0;
    RECO_TRY(kind_of_member(ctx, g, tar, last, &kind));
    if (kind == OTHER) return RECO_OK;
    RECO_TRY(add_part(ctx, g, ending, dot ? (size_t)(dot - ending) : 0, &p));
    if (kind == PICTURE) {
        if (p->name) {
            p->second = true;
            return RECO_OK;
        }
        if (!(p->name = reco_strdup(ctx, name))) return RECO_E_NOMEM;
        size_t most = reco_min(g->max_picture, MAX_HELD - g->now.held);
        RECO_TRY(read_member(ctx, g, tar, &data, &bytes, most, &p->bad_picture));
        p->data = data;
        p->bytes = bytes;
        g->now.held += bytes;
        return RECO_OK;
    }
    if (kind == JSON ? p->json != NULL : p->text != NULL) return RECO_OK;
    RECO_TRY(read_member(ctx, g, tar, &data, &bytes, MAX_TEXT, &p->bad_text));
    reco_status status = data ? take_words(ctx, g, p, data, bytes, kind == JSON) : RECO_OK;
    reco_free(data);
    return status;
}

/* As webdataset parts a name: "a.b/c.seg.png" is key "a.b/c", ending "seg.png". false: it belongs to no sample, as hidden files
 * and files without an ending, and what macOS and tar itself leave beside files ("__MACOSX/._c.png", "PaxHeaders/c.png"). */
static bool split_member_name(const char *name, size_t *key, const char **ending)
{
    const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;
    size_t n = strcspn(base, ".");
    if (n == 0 || !base[n] || !base[n + 1]) return false;
    if (strncmp(name, "__MACOSX/", 9) == 0 || strstr(name, "/__MACOSX/") ||
        strncmp(name, "PaxHeaders", 10) == 0 || strstr(name, "/PaxHeaders"))
        return false;
    *key = (size_t)(base - name) + n;
    *ending = base + n + 1;
    return true;
}

static reco_status read_members(reco_ctx *ctx, ingest *g, reco_tar *tar)
{
    sample *s = &g->now;
    for (;;) {
        const char *name, *ending;
        size_t n;
        reco_status status = reco_tar_next(ctx, tar, &name);
        if (status != RECO_OK) g->damaged = true;
        RECO_TRY(status);
        if (!name) return finish_tar_sample(ctx, g);
        if (!split_member_name(name, &n, &ending)) continue;
        if (!s->key || s->key_bytes != n || memcmp(s->key, name, n) != 0) {
            RECO_TRY(finish_tar_sample(ctx, g));
            if (!(s->key = reco_format(ctx, "%.*s", (int)n, name))) return RECO_E_NOMEM;
            s->key_bytes = n;
        }
        s->members++;
        if (g->number >= reco_sink_next(g->sink)) RECO_TRY(take_tar_member(ctx, g, tar, name, ending));
    }
}

/* The tar broke off after this sample: does it have all that a pair needs, and as many members as the one before? */
static bool is_whole_sample(const ingest *g)
{
    const sample *s = &g->now;
    bool picture = false, words = false;
    for (size_t i = 0; i < s->n; i++) {
        picture |= s->parts[i].data != NULL;
        words |= s->parts[i].text || s->parts[i].json;
    }
    return picture && words && !s->cut && s->members >= g->usual;
}

static reco_status read_tar(reco_ctx *ctx, ingest *g, const char *path)
{
    reco_tar *tar = NULL;
    g->tar = path;
    g->damaged = false;
    g->usual = 0;
    reco_status status = reco_tar_open(ctx, &tar, path);
    if (status != RECO_OK) g->damaged = true;
    if (status == RECO_OK) status = read_members(ctx, g, tar);
    reco_tar_close(tar);
    if (status == RECO_OK || !g->damaged || status == RECO_E_NOMEM || status == RECO_E_CANCELLED)
        return status;
    /* Missing, or damaged from here on: what came before is kept, and the next is read. The job that goes on after a kill must count
     * alike, though it passed over the members. */
    char *reason = reco_strdup(ctx, reco_ctx_error(ctx));
    if (!reason) return RECO_E_NOMEM;
    status = RECO_OK;
    if (g->now.key && is_whole_sample(g)) status = make_pairs(ctx, g);
    clear_tar_sample(&g->now);
    if (status == RECO_OK && g->number >= reco_sink_next(g->sink))
        status = reco_sink_fail(ctx, g->sink, path, reason, g->number);
    reco_free(reason);
    RECO_TRY(status);
    return reco_sink_seen(ctx, g->sink, ++g->number);
}

reco_status reco_bank_ingest_tars(reco_ctx *ctx, const reco_model *model, const char *const *tars, size_t n,
                                  const char *bank, int build, const reco_ingest_opts *opts,
                                  reco_stream_result *result)
{
    const reco_shard shard = opts ? opts->shard : (reco_shard){0};
    RECO_TRY(reco_reserved(ctx, "ingest", opts ? opts->reserved : NULL));
    RECO_TRY(reco_part_check(ctx, shard));
    double start = reco_now();
    *result = (reco_stream_result){0};
    ingest g = {.dropped = &result->dropped,
                .table = opts ? opts->table : NULL,
                .max_picture =
                    opts && opts->embed.limits.max_bytes ? opts->embed.limits.max_bytes : MAX_PICTURE};
    reco_shards shards;
    RECO_TRY(reco_shards_find(ctx, &shards, tars, n, shard));
    reco_status status = RECO_OK;
    const reco_sink_spec spec = {
        .bank = bank, .build = build != 0, .kind = "tars", .content = shards.content, .model = model};
    RECO_GO(reco_sink_open(ctx, &g.sink, &spec, opts, result));
    if (reco_sink_is_done(g.sink)) goto out;
    for (size_t i = 0; i < shards.n; i++) RECO_GO(read_tar(ctx, &g, shards.paths[i]));
    status = reco_sink_finish(ctx, g.sink, g.number);
out:
    result->seconds = reco_now() - start;
    clear_tar_sample(&g.now);
    reco_shards_free(&shards);
    reco_sink_close(g.sink);
    return status;
}
