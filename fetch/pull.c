#include "fetch/pull.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAX_LIST ((size_t)16 << 20)
#define MAX_SMALL ((uint64_t)256 << 20)
#define MAX_WEIGHTS ((uint64_t)64 << 30)
#define MAX_TRIES 5

static bool name_is_good(const char *name)
{
    size_t slashes = 0, n = strlen(name);
    if (n == 0 || n > 200 || strstr(name, "..") || name[n - 1] == '/') return false;
    for (size_t i = 0; i < n; i++) {
        bool start = i == 0 || name[i - 1] == '/';
        if (name[i] == '/') slashes++;
        if (start && (name[i] == '.' || name[i] == '/' || name[i] == '-')) return false;
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/", name[i]))
            return false;
    }
    return slashes <= 1;
}

static reco_status refused(const reco_pull *p, const char *file, long http)
{
    const char *colon = file ? ": " : "";
    if (!file) file = "";
    if (http == 401 || http == 403)
        return reco_fail(p->ctx, RECO_E_IO,
                         "%s%s%s: HTTP %ld from %s: no such model, or one that needs a token with access "
                         "to it (HF_TOKEN)",
                         p->name, colon, file, http, p->endpoint);
    if (http == 404)
        return reco_fail(p->ctx, RECO_E_NOTFOUND, "%s%s%s: HTTP 404: not at %s in revision %s", p->name,
                         colon, file, p->endpoint, p->revision);
    return reco_fail(p->ctx, RECO_E_IO, "%s%s%s: HTTP %ld from %s", p->name, colon, file, http,
                     p->endpoint);
}

/* Of a file, or of the list where file is NULL. */
static char *url_of(const reco_pull *p, const char *file)
{
    char *revision = reco_fetch_escape(p->ctx, p->revision),
         *escaped = file ? reco_fetch_escape(p->ctx, file) : NULL;
    char *path = NULL, *url = NULL;
    if (revision && !file)
        path = reco_format(p->ctx, "/api/models/%s/revision/%s", p->name, revision);
    else if (revision && escaped)
        path = reco_format(p->ctx, "/%s/resolve/%s/%s", p->name, revision, escaped);
    if (path) url = reco_fetch_url(p->ctx, p->fetch, path);
    reco_free(path);
    reco_free(revision);
    reco_free(escaped);
    return url;
}

static reco_status list(reco_pull *p)
{
    reco_fetch_answer answer;
    char *url = url_of(p, NULL), *text = NULL;
    size_t bytes;
    json_error_t error;
    if (!url) return RECO_E_NOMEM;
    reco_status status = reco_fetch_text(p->ctx, p->fetch, url, &text, &bytes, MAX_LIST, &answer);
    if (status == RECO_OK && answer.http != 200) status = refused(p, NULL, answer.http);
    if (status == RECO_OK && !(p->list = json_loadb(text, bytes, 0, &error)))
        status = reco_fail(p->ctx, RECO_E_FORMAT, "%s: not a hub's JSON: %s", url, error.text);
    if (status == RECO_OK) status = reco_pull_check_list(p);
    const char *sha = json_string_value(json_object_get(p->list, "sha"));
    if (status == RECO_OK && sha &&
        (strlen(sha) >= sizeof p->result->commit ||
         strspn(sha, "0123456789abcdefghijklmnopqrstuvwxyz") != strlen(sha)))
        status = reco_fail(p->ctx, RECO_E_FORMAT, "%s: \"sha\" is not a commit", url);
    if (status == RECO_OK && sha) strcpy(p->result->commit, sha);
    reco_free(text);
    reco_free(url);
    return status;
}

/* ---- one file ---- */

typedef struct download {
    reco_pull *p;
    const char *file;
    json_t *entry;
    int fd;
    uint64_t held; /* bytes that an earlier try left */
} download;

/* The ETag is on disk before the first byte that it stands for. */
static reco_status begin(void *user, const reco_fetch_answer *a)
{
    download *d = user;
    reco_pull *p = d->p;
    if (*a->commit && *p->result->commit && strcmp(a->commit, p->result->commit) != 0)
        return reco_fail(p->ctx, RECO_E_MISMATCH,
                         "%s: %s moved from %.12s to %.12s during the pull; pull again", p->name,
                         p->revision, p->result->commit, a->commit);
    if (a->from) {
        p->result->resumed += d->held;
        return RECO_OK;
    }
    if (ftruncate(d->fd, 0) != 0) return reco_fail_errno(p->ctx, RECO_E_IO, "%s", d->file);
    if (json_object_set_new(d->entry, "etag", json_string(a->etag)) != 0)
        return reco_fail_nomem(p->ctx, 0, "JSON");
    return reco_pull_save(p);
}

/* The value where it is a hash of so many hexadecimal digits. */
static const char *hash_in(const json_t *value, size_t digits)
{
    const char *text = json_string_value(value);
    return text && strlen(text) == digits && strspn(text, "0123456789abcdef") == digits ? text : "";
}

/* By what came with the file, else by what the hub's list says of it. */
static reco_status verify(download *d, const char *partial, const reco_fetch_answer *a)
{
    reco_ctx *ctx = d->p->ctx;
    struct stat info;
    char sha256[65] = "", git[41] = "";
    const json_t *listed = reco_pull_listed(d->p, d->file), *lfs = json_object_get(listed, "lfs"),
                 *bytes = json_object_get(listed, "size");
    const char *want_sha = *a->sha256 ? a->sha256 : hash_in(json_object_get(lfs, "sha256"), 64);
    /* Of a large file the list has the hash of the pointer to it. */
    const char *want_git = *a->git ? a->git : lfs ? "" : hash_in(json_object_get(listed, "blobId"), 40);
    bool use_git = !*want_sha && *want_git;
    if (fstat(d->fd, &info) != 0) return reco_fail_errno(ctx, RECO_E_IO, "%s", partial);
    if (a->size != UINT64_MAX && (uint64_t)info.st_size != a->size)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: %s: received %llu bytes, want %llu", d->p->name, d->file,
                         (unsigned long long)info.st_size, (unsigned long long)a->size);
    if (json_is_integer(bytes) && (json_int_t)info.st_size != json_integer_value(bytes))
        return reco_fail(ctx, RECO_E_FORMAT, "%s: %s: received %llu bytes, the hub lists %lld", d->p->name,
                         d->file, (unsigned long long)info.st_size, (long long)json_integer_value(bytes));
    if (*want_sha || use_git)
        RECO_TRY(reco_digest_file(ctx, partial, use_git ? NULL : sha256, use_git ? git : NULL));
    const char *want = use_git ? want_git : want_sha, *is = use_git ? git : sha256;
    if (strcmp(want, is) != 0)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: %s: its %s is %s, the hub says %s", d->p->name, d->file,
                         use_git ? "git hash" : "sha256", is, want);
    json_object_set_new(d->entry, "size", json_integer((json_int_t)info.st_size));
    if (*want) json_object_set_new(d->entry, use_git ? "git" : "sha256", json_string(want));
    return RECO_OK;
}

/* Try until it is whole; a cut connection goes on where it was as long as something comes. */
static reco_status fetch(download *d, const char *url, const char *partial, uint64_t max,
                         reco_fetch_answer *a)
{
    reco_pull *p = d->p;
    for (int tries = 1;; tries++) {
        struct stat info;
        const char *etag = json_string_value(json_object_get(d->entry, "etag"));
        if (fstat(d->fd, &info) != 0) return reco_fail_errno(p->ctx, RECO_E_IO, "%s", partial);
        d->held = etag && *etag ? (uint64_t)info.st_size : 0;
        char *known = reco_strdup(p->ctx, etag ? etag : "");
        if (!known) return RECO_E_NOMEM;
        reco_status status =
            reco_fetch_file(p->ctx, p->fetch, url, d->fd, d->file, d->held, known, max, begin, d, a);
        reco_free(known);
        p->result->received += a->bytes;
        if (status == RECO_OK && (a->http == 200 || a->http == 206)) return RECO_OK;
        bool restart = status == RECO_OK && a->http == 416 && d->held > 0;
        bool again = restart || (status == RECO_E_IO && a->cut && a->bytes > 0) ||
                     (status == RECO_OK && (a->http == 429 || a->http >= 500));
        if (!again || tries == MAX_TRIES) return status != RECO_OK ? status : refused(p, d->file, a->http);
        if (restart && ftruncate(d->fd, 0) != 0) return reco_fail_errno(p->ctx, RECO_E_IO, "%s", partial);
        reco_log(p->ctx, RECO_LOG_INFO, "%s: trying again", d->file);
        nanosleep(&(struct timespec){.tv_nsec = 250000000L * tries}, NULL);
    }
}

static reco_status get(reco_pull *p, const char *file, bool weights)
{
    if (json_object_get(p->seen, file)) return RECO_OK;
    reco_ctx *ctx = p->ctx;
    reco_status status = RECO_OK;
    reco_fetch_answer answer;
    download d = {.p = p, .file = file, .entry = reco_pull_entry(p, file), .fd = -1};
    char *path = reco_path_join(ctx, p->work, file),
         *partial = path ? reco_format(ctx, "%s.partial", path) : NULL;
    char *url = url_of(p, file);
    if (!d.entry || !partial || !url) RECO_GO(RECO_E_NOMEM);
    bool was = json_is_true(json_object_get(d.entry, "done")) && reco_path_exists(path);
    if (!was) {
        d.fd = open(partial, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (d.fd < 0) RECO_GO(reco_fail_errno(ctx, RECO_E_IO, "%s", partial));
        status =
            fetch(&d, url, partial, weights ? p->max_bytes : reco_min(MAX_SMALL, p->max_bytes), &answer);
        if (status == RECO_OK && (status = verify(&d, partial, &answer)) == RECO_E_FORMAT) unlink(partial);
        if (status != RECO_OK) goto out;
        if (fsync(d.fd) != 0 || rename(partial, path) != 0)
            RECO_GO(reco_fail_errno(ctx, RECO_E_IO, "%s", path));
        RECO_GO(reco_sync_dir(ctx, p->work));
        json_object_set_new(d.entry, "done", json_true());
        RECO_GO(reco_pull_save(p));
    }
    uint64_t size = (uint64_t)json_integer_value(json_object_get(d.entry, "size"));
    RECO_GO(reco_progress(ctx, file, size, size));
    if (json_object_set_new(p->seen, file, json_true()) != 0) RECO_GO(reco_fail_nomem(ctx, 0, "JSON"));
    p->result->files++;
    p->result->kept += was;
    p->result->bytes += size;
    p->result->verified += json_object_get(d.entry, "sha256") || json_object_get(d.entry, "git");
out:
    if (d.fd >= 0) close(d.fd);
    reco_free(path);
    reco_free(partial);
    reco_free(url);
    return status;
}

reco_status reco_pull_model(reco_ctx *ctx, const char *name, const char *out, const reco_pull_opts *opts,
                            reco_pull_result *result)
{
    double start = reco_now();
    static const reco_pull_opts none = {0};
    if (!opts) opts = &none;
    *result = (reco_pull_result){0};
    RECO_TRY(reco_reserved(ctx, "pull", opts->reserved));
    reco_status status = RECO_OK;
    bool done = false;
    reco_pull p = {.ctx = ctx,
                   .endpoint =
                       opts->endpoint && *opts->endpoint ? opts->endpoint : "https://huggingface.co",
                   .name = name,
                   .revision = opts->revision ? opts->revision : "main",
                   .lock = -1,
                   .seen = json_object(),
                   .max_bytes = opts->max_bytes ? opts->max_bytes : MAX_WEIGHTS,
                   .result = result};
    reco_fetch_opts fetch_opts = {.endpoint = p.endpoint,
                                  .token = opts->token,
                                  .proxy = opts->proxy,
                                  .no_proxy = opts->no_proxy,
                                  .stall = opts->stall};
    size_t length = strlen(out);
    while (length > 1 && out[length - 1] == '/') length--;
    if (!name_is_good(name)) RECO_GO(reco_fail(ctx, RECO_E_ARG, "model \"%.200s\", want ORG/NAME", name));
    if (!*p.revision || strlen(p.revision) > 200 || strstr(p.revision, ".."))
        RECO_GO(
            reco_fail(ctx, RECO_E_ARG, "revision \"%.200s\", want a branch, tag or commit", p.revision));
    if (length == 0) RECO_GO(reco_fail(ctx, RECO_E_ARG, "\"\": want a folder to pull to"));
    if (!(p.out = reco_format(ctx, "%.*s", (int)length, out)) ||
        !(p.work = reco_format(ctx, "%s.partial", p.out)) ||
        !(p.state_path = reco_path_join(ctx, p.work, "reco-pull.json")))
        RECO_GO(RECO_E_NOMEM);
    RECO_GO(reco_fetch_open(ctx, &p.fetch, &fetch_opts));
    RECO_GO(list(&p));
    RECO_GO(reco_pull_prepare(&p, &done));
    if (!done) {
        RECO_GO(reco_pull_choose(&p, get));
        RECO_GO(reco_pull_finish(&p));
    }
    result->already = done;
    result->seconds = reco_now() - start;
out:
    if (p.lock >= 0) close(p.lock);
    reco_fetch_close(p.fetch);
    json_decref(p.list);
    json_decref(p.state);
    json_decref(p.seen);
    reco_free(p.out);
    reco_free(p.work);
    reco_free(p.state_path);
    return status;
}
