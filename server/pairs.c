/* Pairs come and go: POST, PUT and DELETE /v1/pairs, in the writer's thread. What was written is seen by every request that comes after
 * the answer. Pictures and the audit are files of the bank's folder, or, for a bank on servers, of a folder that is named after it. */
#include "routes.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { PAIRS = 4096, PAGE = 256 };

/* PUT changes the rows that the pairs name; POST only adds. */
static bool updates(const serve_request *r)
{
    return *r->route->method == 'P' && r->route->method[1] == 'U';
}

void serve_add_parse(serve *s, serve_request *r)
{
    const char *bank, *encoder, *key;
    if (!serve_put_own_json(r, updates(r) ? "bank encoder pairs key" : "bank encoder pairs") ||
        !serve_get_text(r, r->json, "bank", &bank) || !serve_get_text(r, r->json, "encoder", &encoder) ||
        !serve_get_text(r, r->json, "key", &key) || !serve_put_bank(s, r, bank))
        return;
    const json_t *pairs = json_object_get(r->json, "pairs");
    size_t n = json_is_array(pairs) ? json_array_size(pairs) : 0;
    for (size_t i = 0; i < n && n <= PAIRS; i++) {
        const json_t *pair = json_array_get(pairs, i);
        const char *text, *image;
        if (json_is_object(pair) &&
            (!serve_get_text(r, pair, "text", &text) || !serve_get_text(r, pair, "image", &image)))
            return;
        if (json_is_object(pair) && text && image) continue;
        serve_fail(r, 400, "pair %zu must be an object with the strings \"text\" and \"image\"", i);
        return;
    }
    pthread_mutex_lock(&s->lock);
    bool other = encoder && strcmp(encoder, r->bank->info.encoder) != 0 &&
                 strcmp(encoder, r->bank->info.fingerprint) != 0;
    pthread_mutex_unlock(&s->lock);
    if (n < 1 || n > PAIRS)
        serve_fail(r, 400, "\"pairs\" must be a list of 1 to %d pairs", PAIRS);
    else if (other)
        serve_fail(r, 409, "the encoder of the bank \"%s\" is not \"%s\"", r->bank->name, encoder);
    else if (!s->model)
        serve_fail(r, 400, "this server was started without a model, so it cannot embed pairs");
    else if (!r->bank->folder)
        serve_fail(r, 400, "the bank \"%s\" has no folder for pictures; start the server with --data DIR",
                   r->bank->name);
    else
        (void)serve_enqueue(s, &s->changes, r);
}

/* A picture of a request, kept in the bank's folder under a name made of its content. NULL: it is bad, for this reason, or without one it
 * can't be written. */
static char *keep_picture(const char *folder, const char *base64, const char **reason)
{
    size_t bytes = 0;
    unsigned char *data = serve_base64(base64, &bytes);
    char *name = NULL, *path = NULL, *temp = NULL;
    *reason = "\"image\" is not valid base64";
    if (!data) return NULL;
    *reason = "the image is in no format that reco can read";
    const char *kind = NULL;
    if (reco_image_sniff(data, bytes < RECO_IMAGE_SNIFF ? bytes : RECO_IMAGE_SNIFF, &kind) !=
        RECO_IMAGE_PICTURE)
        goto out;
    XXH128_hash_t hash = XXH3_128bits(data, bytes);
    *reason = NULL;
    if (asprintf(&name, "%016llx%016llx.img", (unsigned long long)hash.high64,
                 (unsigned long long)hash.low64) < 0)
        name = NULL;
    if (!name || asprintf(&path, "%s/%s", folder, name) < 0 || asprintf(&temp, "%s.part", path) < 0)
        goto bad;
    if (access(path, F_OK) == 0) goto out;
    FILE *out = fopen(temp, "wb");
    bool fine = out && fwrite(data, 1, bytes, out) == bytes && fflush(out) == 0 && fsync(fileno(out)) == 0;
    if (out) fine &= fclose(out) == 0;
    if (fine && rename(temp, path) == 0) goto out;
    int why = errno;
    unlink(temp);
    errno = why;
bad:
    free(name);
    name = NULL;
out:
    free(data);
    free(path);
    free(temp);
    return name;
}

/* A line of the pairs file that the bank is given; NULL: the pair is bad. */
static json_t *record(const char *folder, const json_t *pair, const char **reason)
{
    const char *image = json_string_value(json_object_get(pair, "image"));
    char *name = keep_picture(folder, image, reason);
    if (!name) return NULL;
    json_t *out = json_copy((json_t *)(uintptr_t)pair);
    json_object_set_new(out, "image", json_string(name));
    free(name);
    return out;
}

typedef struct job {
    serve_request *r;
    size_t *at; /* [n] which pair of the request each record is */
    size_t n;
    json_t *names; /* of the records' pictures */
    json_t *failures;
} job;

static void fail_pair(job *j, size_t pair, const char *reason)
{
    json_array_append_new(j->failures, json_pack("{s:I, s:s}", "pair", (json_int_t)pair, "reason", reason));
}

static void on_failure(void *user, uint64_t row, const char *item, const char *reason)
{
    (void)item;
    job *j = user;
    fail_pair(j, row < j->n ? j->at[row] : (size_t)row, reason);
}

/* The pairs as a file, in the folder where its pictures are. */
static bool write_job(serve_request *r, char *path, job *j)
{
    char *folder = strndup(path, (size_t)(strrchr(path, '/') - path));
    const json_t *pairs = json_object_get(r->json, "pairs");
    size_t n = json_array_size(pairs);
    int fd = mkstemps(path, 6); /* servers of several machines may share the folder */
    FILE *out = fd >= 0 ? fdopen(fd, "w") : NULL;
    j->at = calloc(n, sizeof *j->at);
    bool fine = folder && out && j->at && j->names && j->failures;
    for (size_t i = 0; i < n && fine; i++) {
        const char *reason;
        json_t *line = record(folder, json_array_get(pairs, i), &reason);
        if (!line && !reason) {
            fine = false;
            break;
        }
        if (!line) {
            fail_pair(j, i, reason);
            continue;
        }
        j->at[j->n++] = i;
        fine = json_dumpf(line, out, JSON_COMPACT) == 0 && putc('\n', out) != EOF &&
               json_object_set_new(j->names, json_string_value(json_object_get(line, "image")),
                                   json_true()) == 0;
        json_decref(line);
    }
    if (out) fine &= fclose(out) == 0;
    free(folder);
    if (!fine) serve_fail(r, 507, "the bank cannot be written: %s", strerror(errno));
    return fine;
}

/* The rows from this id on that are of the job's pictures: another process may have added others. */
static json_t *new_ids(reco_ctx *ctx, const char *path, int64_t from, const job *j)
{
    reco_bank *bank = NULL;
    json_t *list = json_array();
    int64_t ids[PAGE];
    reco_pair rows[PAGE];
    size_t n = 0;
    if (reco_bank_open(ctx, &bank, path) == RECO_OK)
        while (reco_bank_select(ctx, bank, NULL, from, PAGE, ids, &n) == RECO_OK && n &&
               reco_bank_get_many(ctx, bank, ids, n, rows) == RECO_OK) {
            for (size_t i = 0; i < n; i++) {
                if (rows[i].uri && json_object_get(j->names, rows[i].uri))
                    json_array_append_new(list, json_integer(ids[i]));
                reco_pair_free(&rows[i]);
            }
            from = ids[n - 1] + 1;
        }
    reco_bank_close(bank);
    return list;
}

/* `name` in the folder of the bank's files, to be freed; NULL, and errno, where the folders above it can't be made. */
static char *in_folder(const serve_bank *bank, const char *name)
{
    char *path = NULL;
    if (asprintf(&path, "%s/%s", bank->folder, name) < 0) return NULL;
    /* A bank's own folder is there, or the bank is gone. */
    size_t from = reco_bank_is_server(bank->path) ? 1 : strlen(bank->folder) + 1;
    for (char *at = strchr(path + from, '/'); at; at = strchr(at + 1, '/')) {
        *at = 0;
        bool there = mkdir(path, 0777) == 0 || errno == EEXIST;
        *at = '/';
        if (there) continue;
        free(path);
        return NULL;
    }
    return path;
}

/* Who changed what and when, a line of audit.jsonl each, before the answer says that it is done. */
static void write_audit_line(serve *s, serve_request *r, const char *what, json_t *more)
{
    char at[32] = "";
    time_t now = time(NULL);
    struct tm tm;
    if (gmtime_r(&now, &tm)) strftime(at, sizeof at, "%FT%TZ", &tm);
    json_t *line = json_pack("{s:s, s:s, s:s}", "time", at, "who", r->who, "what", what);
    if (line && more) json_object_update(line, more);
    char *text = line ? json_dumps(line, JSON_COMPACT) : NULL,
         *path = r->bank->folder ? in_folder(r->bank, "audit.jsonl") : NULL;
    FILE *out = path ? fopen(path, "a") : NULL;
    bool fine =
        out && text && fprintf(out, "%s\n", text) > 0 && fflush(out) == 0 && fsync(fileno(out)) == 0;
    if (!fine) serve_tell(s, "a change is missing from the audit log", text);
    if (out) fclose(out);
    free(path);
    free(text);
    json_decref(line);
    json_decref(more);
}

static void add_pairs(serve *s, serve_request *r, reco_ctx *ctx, const char *path, job *j)
{
    reco_stream_result result = {0};
    const char *bank = r->bank->path, *key = json_string_value(json_object_get(r->json, "key"));
    /* A picture that gets another caption by an update keeps its row; one that is added with it gets one more. */
    reco_ingest_opts opts = {.embed = {.failure = on_failure, .user = j}, .several_captions = !updates(r)};
    reco_bank *before = NULL;
    reco_status status = reco_bank_open(ctx, &before, bank);
    int64_t from = status == RECO_OK ? reco_bank_get_info(before)->next_id : 0;
    reco_bank_close(before);
    if (status == RECO_OK && j->n)
        status = updates(r) ? reco_bank_update_pairs(ctx, s->model, path, bank, key, &opts, &result)
                            : reco_bank_ingest_pairs(ctx, s->model, path, bank, 0, &opts, &result);
    if (status == RECO_E_NOTFOUND) status = RECO_OK; /* not one was good: each has its reason */
    if (status == RECO_OK) status = serve_refresh(s, r->bank, ctx);
    if (status != RECO_OK) {
        serve_fail_status(r, ctx, status);
        return;
    }
    atomic_fetch_add(&s->metrics.added, result.rows);
    json_t *ids = result.rows ? new_ids(ctx, bank, from, j) : json_array();
    json_t *uris = json_array(), *is; /* by which rows that were changed are found */
    const char *name;
    json_object_foreach(j->names, name, is) json_array_append_new(uris, json_string(name));
    if (result.rows || result.changed)
        write_audit_line(
            s, r, updates(r) ? "update" : "add",
            json_pack("{s:O, s:I, s:O}", "ids", ids, "changed", (json_int_t)result.changed, "uris", uris));
    json_decref(uris);
    serve_reply(r, 200,
                json_pack("{s:I, s:I, s:I, s:o, s:O}", "added", (json_int_t)result.rows, "changed",
                          (json_int_t)result.changed, "unchanged", (json_int_t)result.duplicates, "ids",
                          ids, "failures", j->failures));
}

void serve_add_finish(serve *s, serve_request *r, reco_ctx *ctx)
{
    job j = {.r = r, .names = json_object(), .failures = json_array()};
    char *path = in_folder(r->bank, "pictures/.request-XXXXXX.jsonl");
    if (!path)
        serve_fail(r, 507, "%s/pictures: %s", r->bank->folder, strerror(errno));
    else if (write_job(r, path, &j))
        add_pairs(s, r, ctx, path, &j);
    if (path) unlink(path);
    json_decref(j.names);
    json_decref(j.failures);
    free(j.at);
    free(path);
}

void serve_delete_parse(serve *s, serve_request *r)
{
    const char *bank, *where;
    int yes;
    if (!serve_put_own_json(r, "bank ids where yes") || !serve_get_text(r, r->json, "bank", &bank) ||
        !serve_get_text(r, r->json, "where", &where) || !serve_get_bool(r, r->json, "yes", &yes) ||
        !serve_put_bank(s, r, bank))
        return;
    const json_t *ids = json_object_get(r->json, "ids");
    bool list = json_is_array(ids) && json_array_size(ids) > 0;
    for (size_t i = 0; list && i < json_array_size(ids); i++)
        list = json_is_integer(json_array_get(ids, i));
    if (!list == !where || (ids && !list))
        serve_fail(r, 400,
                   "the request must have either \"ids\", a list of row ids, or \"where\", a condition");
    else
        (void)serve_enqueue(s, &s->changes, r);
}

void serve_delete_finish(serve *s, serve_request *r, reco_ctx *ctx)
{
    const json_t *ids = json_object_get(r->json, "ids");
    const char *where = json_string_value(json_object_get(r->json, "where"));
    size_t n = json_array_size(ids);
    int64_t *list = malloc((n + 1) * sizeof *list);
    for (size_t i = 0; list && i < n; i++) list[i] = json_integer_value(json_array_get(ids, i));
    const reco_bank_rows rows = {.ids = list, .nids = n, .where = where};
    const reco_delete_opts opts = {.sure = json_is_true(json_object_get(r->json, "yes"))};
    reco_delete_result result = {0};
    reco_status status = list ? reco_bank_delete(ctx, r->bank->path, &rows, &opts, &result) : RECO_E_NOMEM;
    free(list);
    if (status == RECO_E_ARG && result.doubts && !opts.sure)
        serve_fail(r, 400,
                   "the condition compares a text with a number, which is probably a mistake; \"yes\": "
                   "true deletes the %llu rows anyway",
                   (unsigned long long)result.rows);
    else if (status != RECO_OK)
        serve_fail_status(r, ctx, status);
    const uint64_t deleted = result.rows, missing = result.missing;
    if (r->status) return;
    status = serve_refresh(s, r->bank, ctx);
    atomic_fetch_add(&s->metrics.deleted, deleted);
    if (deleted)
        write_audit_line(
            s, r, "delete",
            json_pack("{s:O?, s:s?, s:I}", "ids", ids, "where", where, "deleted", (json_int_t)deleted));
    if (status != RECO_OK)
        serve_fail_status(r, ctx, status);
    else
        serve_reply(
            r, 200,
            json_pack("{s:I, s:I}", "deleted", (json_int_t)deleted, "missing", (json_int_t)missing));
}
