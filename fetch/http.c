#include "fetch/internal.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_HOPS 10

struct reco_fetch {
    CURL *curl;
    char *endpoint, *token, *proxy, *no_proxy;
    unsigned stall;
    reco_fetch_guard guard;
};

/* One transfer, redirects included. */
typedef struct transfer {
    reco_ctx *ctx;
    reco_fetch *f;
    const char *path; /* for messages and progress */
    reco_status status;
    reco_fetch_answer *answer;
    bool home; /* this hop is to the endpoint itself */
    bool begun;
    int fd;
    reco_fetch_begin begin;
    void *user;
    char *text; /* instead of fd */
    size_t room;
    uint64_t from, max_bytes;
    char weak;
    uint64_t linked_size, length;
    bool has_range;
    curl_off_t moved; /* bytes that had come when something came last */
    double moved_at;
    bool stalled, refused; /* refused: by the guard */
    uint64_t range_from, range_size;
} transfer;

static CURLU *parsed(const char *url)
{
    CURLU *u = curl_url();
    if (u && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK) return u;
    curl_url_cleanup(u);
    return NULL;
}

/* Scheme, host and port of two URLs; equal ones may share a secret. */
static bool same_origin(const char *a, const char *b)
{
    static const CURLUPart parts[] = {CURLUPART_SCHEME, CURLUPART_HOST, CURLUPART_PORT};
    CURLU *x = parsed(a), *y = parsed(b);
    bool same = x && y;
    for (size_t i = 0; same && i < 3; i++) {
        char *p = NULL, *q = NULL;
        same = curl_url_get(x, parts[i], &p, CURLU_DEFAULT_PORT) == CURLUE_OK &&
               curl_url_get(y, parts[i], &q, CURLU_DEFAULT_PORT) == CURLUE_OK && strcasecmp(p, q) == 0;
        curl_free(p);
        curl_free(q);
    }
    curl_url_cleanup(x);
    curl_url_cleanup(y);
    return same;
}

static bool has_scheme(const char *url, const char *scheme)
{
    size_t n = strlen(scheme);
    return strncasecmp(url, scheme, n) == 0 && strncmp(url + n, "://", 3) == 0;
}

reco_status reco_fetch_open(reco_ctx *ctx, reco_fetch **out, const reco_fetch_opts *opts)
{
    *out = NULL;
    CURLU *url = parsed(opts->endpoint);
    bool good = url && (has_scheme(opts->endpoint, "http") || has_scheme(opts->endpoint, "https")) &&
                !strpbrk(opts->endpoint, "?#@ ");
    curl_url_cleanup(url);
    if (!good)
        return reco_fail(ctx, RECO_E_ARG, "endpoint \"%.200s\", want http://HOST or https://HOST",
                         opts->endpoint);
    for (const char *c = opts->token; c && *c; c++)
        if (*c <= ' ' || *c > '~')
            return reco_fail(ctx, RECO_E_ARG, "the token contains a character that tokens can't contain");
    reco_status status = RECO_E_NOMEM;
    reco_fetch *f = reco_alloc(ctx, 1, sizeof *f, "connection");
    if (!f) return RECO_E_NOMEM;
    f->stall = opts->stall ? opts->stall : 30;
    f->guard = opts->guard;
    f->endpoint = reco_strdup(ctx, opts->endpoint);
    if (!f->endpoint) goto out;
    for (size_t n = strlen(f->endpoint); n && f->endpoint[n - 1] == '/';) f->endpoint[--n] = 0;
    if (opts->token && *opts->token && !(f->token = reco_strdup(ctx, opts->token))) goto out;
    if (opts->proxy && !(f->proxy = reco_strdup(ctx, opts->proxy))) goto out;
    if (opts->no_proxy && !(f->no_proxy = reco_strdup(ctx, opts->no_proxy))) goto out;
    if (!(f->curl = curl_easy_init())) RECO_GO(reco_fail(ctx, RECO_E_INTERNAL, "libcurl does not start"));
    *out = f;
    return RECO_OK;
out:
    reco_fetch_close(f);
    return status;
}

void reco_fetch_close(reco_fetch *f)
{
    if (!f) return;
    curl_easy_cleanup(f->curl);
    reco_free(f->endpoint);
    reco_free(f->token);
    reco_free(f->proxy);
    reco_free(f->no_proxy);
    reco_free(f);
}

char *reco_fetch_url(reco_ctx *ctx, const reco_fetch *f, const char *path)
{
    return reco_format(ctx, "%s%s", f->endpoint, path);
}

char *reco_fetch_escape(reco_ctx *ctx, const char *text)
{
    char *escaped = curl_easy_escape(NULL, text, 0);
    char *copy = escaped ? reco_strdup(ctx, escaped) : NULL;
    if (!escaped) reco_fail_nomem(ctx, strlen(text), "URL");
    curl_free(escaped);
    return copy;
}

/* ---- headers ---- */

static bool all_hex(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strchr("0123456789abcdef", text[i]) || !text[i]) return false;
    return text[n] == 0;
}

/* An ETag in quotes, perhaps weak: its inside, which is a checksum on a hub. */
static void learn_checksum(transfer *t, const char *value, bool linked)
{
    char inside[80] = "";
    if (strncmp(value, "W/", 2) == 0) value += 2;
    size_t n = strlen(value);
    if (n >= 2 && value[0] == '"' && value[n - 1] == '"') {
        value++;
        n -= 2;
    }
    if (n >= sizeof inside) return;
    memcpy(inside, value, n);
    inside[n] = 0;
    /* What the hub says of its file holds, whatever a server that it sends us to calls its copy. */
    if (all_hex(inside, 64) && (linked || !*t->answer->sha256)) memcpy(t->answer->sha256, inside, 65);
    if (all_hex(inside, 40) && t->home && (linked || !*t->answer->git)) memcpy(t->answer->git, inside, 41);
}

static bool number(const char *text, uint64_t *out)
{
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && !errno && end > text && (!*end || *end == '/' || *end == '-');
}

static void learn(transfer *t, const char *name, const char *value)
{
    uint64_t n;
    if (strcasecmp(name, "etag") == 0) {
        if (strncmp(value, "W/", 2) != 0 && strlen(value) < sizeof t->answer->etag)
            strcpy(t->answer->etag, value);
        learn_checksum(t, value, false);
    } else if (strcasecmp(name, "x-linked-etag") == 0 && t->home) {
        learn_checksum(t, value, true);
    } else if (strcasecmp(name, "x-linked-size") == 0 && t->home) {
        if (number(value, &n)) t->linked_size = n;
    } else if (strcasecmp(name, "x-repo-commit") == 0 && t->home) {
        if (strlen(value) < sizeof t->answer->commit) strcpy(t->answer->commit, value);
    } else if (strcasecmp(name, "content-length") == 0) {
        if (number(value, &n)) t->length = n;
    } else if (strcasecmp(name, "content-range") == 0 && strncasecmp(value, "bytes ", 6) == 0) {
        const char *slash = strchr(value, '/');
        t->has_range = number(value + 6, &t->range_from);
        if (!slash || !number(slash + 1, &t->range_size)) t->range_size = UINT64_MAX;
    }
}

static size_t on_header(char *line, size_t one, size_t bytes, void *user)
{
    transfer *t = user;
    char copy[1024];
    (void)one;
    size_t n = bytes;
    while (n && (line[n - 1] == '\r' || line[n - 1] == '\n' || line[n - 1] == ' ')) n--;
    if (n >= sizeof copy) return bytes;
    memcpy(copy, line, n);
    copy[n] = 0;
    if (strncasecmp(copy, "HTTP/", 5) == 0) { /* a new response, after 100 Continue say */
        t->length = t->range_size = UINT64_MAX;
        t->has_range = false;
        *t->answer->etag = 0;
        return bytes;
    }
    char *colon = strchr(copy, ':');
    if (!colon) return bytes;
    *colon++ = 0;
    while (*colon == ' ' || *colon == '\t') colon++;
    learn(t, copy, colon);
    return bytes;
}

/* ---- bodies ---- */

/* Before the first byte: is this what was asked for? */
static reco_status begin(transfer *t, long http)
{
    reco_fetch_answer *a = t->answer;
    a->from = http == 206 ? t->from : 0;
    if (http == 206 && (!t->has_range || t->range_from != t->from))
        return reco_fail(t->ctx, RECO_E_FORMAT, "%s: the server sent a different range than requested",
                         t->path);
    a->size = http == 206 ? t->range_size : t->length;
    if (a->size == UINT64_MAX && http == 206 && t->length != UINT64_MAX) a->size = t->from + t->length;
    if (a->size != UINT64_MAX && t->linked_size != UINT64_MAX && a->size != t->linked_size)
        return reco_fail(t->ctx, RECO_E_FORMAT, "%s: the server sends %llu bytes, the hub promised %llu",
                         t->path, (unsigned long long)a->size, (unsigned long long)t->linked_size);
    if (a->size == UINT64_MAX) a->size = t->linked_size;
    if (a->size != UINT64_MAX && a->size > t->max_bytes)
        return reco_fail(t->ctx, RECO_E_NOMEM, "%s: is %llu bytes, want at most %llu", t->path,
                         (unsigned long long)a->size, (unsigned long long)t->max_bytes);
    t->begun = true;
    return t->begin ? t->begin(t->user, a) : RECO_OK;
}

static reco_status keep(transfer *t, const char *data, size_t bytes)
{
    reco_fetch_answer *a = t->answer;
    if (a->from + a->bytes + bytes > t->max_bytes)
        return reco_fail(t->ctx, RECO_E_NOMEM, "%s: is larger than %llu bytes", t->path,
                         (unsigned long long)t->max_bytes);
    if (t->fd >= 0) {
        for (size_t done = 0; done < bytes;) {
            ssize_t n = write(t->fd, data + done, bytes - done);
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) return reco_fail_errno(t->ctx, RECO_E_IO, "%s", t->path);
            done += (size_t)n;
        }
    } else {
        if (a->bytes + bytes + 1 > t->room) {
            size_t room = 2 * (size_t)a->bytes + bytes + 4096;
            char *grown = realloc(t->text, room);
            if (!grown) return reco_fail_nomem(t->ctx, room, t->path);
            t->text = grown;
            t->room = room;
        }
        memcpy(t->text + a->bytes, data, bytes);
    }
    a->bytes += bytes;
    return RECO_OK;
}

static bool wanted(transfer *t)
{
    long http = 0;
    curl_easy_getinfo(t->f->curl, CURLINFO_RESPONSE_CODE, &http);
    return http == 200 || (http == 206 && t->from > 0);
}

static size_t on_body(char *data, size_t one, size_t bytes, void *user)
{
    transfer *t = user;
    (void)one;
    if (!wanted(t)) return bytes; /* the page that goes with an error */
    long http = 0;
    curl_easy_getinfo(t->f->curl, CURLINFO_RESPONSE_CODE, &http);
    if (!t->begun) t->status = begin(t, http);
    if (t->status == RECO_OK) t->status = keep(t, data, bytes);
    return t->status == RECO_OK ? bytes : 0;
}

static int on_progress(void *user, curl_off_t total, curl_off_t now, curl_off_t up_total, curl_off_t up)
{
    transfer *t = user;
    (void)total, (void)up_total, (void)up;
    /* curl's own limit is of a mean speed, which outlives the last byte by seconds. */
    if (now != t->moved || t->moved_at == 0) {
        t->moved = now;
        t->moved_at = reco_now();
    } else if (reco_now() - t->moved_at > (double)t->f->stall)
        t->stalled = true;
    if (t->stalled) return 1;
    const reco_fetch_answer *a = t->answer;
    uint64_t done = a->from + a->bytes, size = t->begun && a->size != UINT64_MAX ? a->size : 0;
    /* The end is told when the file is whole. */
    if (t->status == RECO_OK && t->begun && done != size)
        t->status = reco_progress(t->ctx, t->path, done, size);
    return t->status != RECO_OK;
}

static reco_status explain(transfer *t, CURLcode code, const char *detail)
{
    if (t->status != RECO_OK) return t->status;
    if (t->refused) return reco_fail(t->ctx, RECO_E_ARG, "%s: resolves to a private address", t->path);
    if (t->stalled) code = CURLE_OPERATION_TIMEDOUT;
    if (code == CURLE_OPERATION_TIMEDOUT && t->f->guard.on)
        return reco_fail(t->ctx, RECO_E_IO, "%s: did not arrive in time", t->path);
    t->answer->cut = code == CURLE_OPERATION_TIMEDOUT || code == CURLE_PARTIAL_FILE ||
                     code == CURLE_RECV_ERROR || code == CURLE_HTTP2_STREAM || code == CURLE_HTTP2 ||
                     code == CURLE_GOT_NOTHING;
    if (code == CURLE_OPERATION_TIMEDOUT)
        return reco_fail(t->ctx, RECO_E_IO, "%s: no data for %u seconds", t->path, t->f->stall);
    if (code == CURLE_PARTIAL_FILE)
        return reco_fail(t->ctx, RECO_E_IO, "%s: the connection was cut after %llu bytes", t->path,
                         (unsigned long long)(t->answer->from + t->answer->bytes));
    return reco_fail(t->ctx, RECO_E_IO, "%s: %s", t->path,
                     detail && *detail ? detail : curl_easy_strerror(code));
}

/* ---- where strangers' URLs may lead ---- */

static bool is_allowed(const reco_fetch_guard *guard, const char *url)
{
    CURLU *u = parsed(url);
    char *host = NULL, *port = NULL, *scheme = NULL, *user = NULL;
    bool allowed = false, whole = u && curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
                                  curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
                                  curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
                                  curl_url_get(u, CURLUPART_USER, &user, 0) != CURLUE_OK;
    bool usual = whole && strcmp(port, strcasecmp(scheme, "https") == 0 ? "443" : "80") == 0;
    for (size_t i = 0; whole && i < guard->nhosts && !allowed; i++) {
        const char *want = guard->hosts[i];
        size_t n = strlen(host);
        if (strncasecmp(want, host, n) != 0) continue;
        allowed = want[n] ? want[n] == ':' && strcmp(want + n + 1, port) == 0 : usual;
    }
    curl_free(host);
    curl_free(port);
    curl_free(scheme);
    curl_free(user);
    curl_url_cleanup(u);
    return allowed;
}

/* The last moment before a connection is made: names are resolved, and no other address is used afterwards. */
static curl_socket_t open_socket(void *user, curlsocktype purpose, struct curl_sockaddr *to)
{
    transfer *t = user;
    (void)purpose;
    if (t->f->guard.nearby || reco_address_is_public(&to->addr))
        return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
    t->refused = true;
    return CURL_SOCKET_BAD;
}

static reco_status guard(transfer *t, const char *url)
{
    const reco_fetch_guard *g = &t->f->guard;
    double left = g->until - reco_now();
    if (!is_allowed(g, url))
        return reco_fail(t->ctx, RECO_E_ARG, "%.200s: fetching from its host is not allowed", url);
    if (left <= 0) return reco_fail(t->ctx, RECO_E_IO, "%s: did not arrive in time", t->path);
    curl_easy_setopt(t->f->curl, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(t->f->curl, CURLOPT_OPENSOCKETDATA, t);
    curl_easy_setopt(t->f->curl, CURLOPT_TIMEOUT_MS, (long)(1000 * left) + 1);
    return RECO_OK;
}

/* One request; *next is where it redirects to, NULL: nowhere. */
static reco_status hop(transfer *t, const char *url, struct curl_slist *range, char **next)
{
    CURL *c = t->f->curl;
    char detail[CURL_ERROR_SIZE] = "", *location = NULL;
    long http = 0;
    *next = NULL;
    t->home = same_origin(url, t->f->endpoint);
    curl_easy_reset(c);
    t->moved = 0;
    t->moved_at = 0;
    t->stalled = false;
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_PROXY, t->f->proxy ? t->f->proxy : "");
    if (t->f->no_proxy) curl_easy_setopt(c, CURLOPT_NOPROXY, t->f->no_proxy);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "reco/" RECO_VERSION);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, (long)t->f->stall);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, detail);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, range);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(c, CURLOPT_XFERINFODATA, t);
    if (t->home && t->f->token) {
        curl_easy_setopt(c, CURLOPT_HTTPAUTH, CURLAUTH_BEARER);
        curl_easy_setopt(c, CURLOPT_XOAUTH2_BEARER, t->f->token);
    }
    if (t->f->guard.on) RECO_TRY(guard(t, url));
    CURLcode code = curl_easy_perform(c);
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &http);
    t->answer->http = http;
    /* An empty file has no body that could begin. */
    if (code == CURLE_OK && wanted(t) && !t->begun && t->status == RECO_OK) t->status = begin(t, http);
    if (code != CURLE_OK || t->status != RECO_OK) return explain(t, code, detail);
    if (http < 300 || http > 399 || http == 304) return RECO_OK;
    curl_easy_getinfo(c, CURLINFO_REDIRECT_URL, &location);
    if (!location)
        return reco_fail(t->ctx, RECO_E_FORMAT, "%s: HTTP %ld without a Location", t->path, http);
    if (!has_scheme(location, "https") && !(has_scheme(location, "http") && has_scheme(url, "http")))
        return reco_fail(t->ctx, RECO_E_FORMAT, "%s: redirected to %.100s, want https", t->path, location);
    *next = reco_strdup(t->ctx, location);
    return *next ? RECO_OK : RECO_E_NOMEM;
}

/* Redirects are followed here and not by libcurl, so that it is plain who gets the token. */
static reco_status perform(transfer *t, const char *url, const char *etag)
{
    *t->answer = (reco_fetch_answer){.size = UINT64_MAX};
    t->linked_size = t->length = t->range_size = UINT64_MAX;
    reco_status status = RECO_OK;
    struct curl_slist *range = NULL;
    char *at = reco_strdup(t->ctx, url), *next = NULL, line[300];
    if (!at) return RECO_E_NOMEM;
    if (t->from) {
        snprintf(line, sizeof line, "Range: bytes=%llu-", (unsigned long long)t->from);
        range = curl_slist_append(NULL, line);
        snprintf(line, sizeof line, "If-Range: %.256s", etag);
        struct curl_slist *both = range ? curl_slist_append(range, line) : NULL;
        if (!both) RECO_GO(reco_fail_nomem(t->ctx, 0, "headers"));
        range = both;
    }
    for (int hops = 0;; hops++) {
        if (hops > MAX_HOPS)
            RECO_GO(
                reco_fail(t->ctx, RECO_E_FORMAT, "%s: redirected more than %d times", t->path, MAX_HOPS));
        RECO_GO(hop(t, at, range, &next));
        if (!next) break;
        reco_free(at);
        at = next;
    }
out:
    curl_slist_free_all(range);
    reco_free(at);
    return status;
}

reco_status reco_fetch_text(reco_ctx *ctx, reco_fetch *f, const char *url, char **out, size_t *bytes,
                            size_t max_bytes, reco_fetch_answer *answer)
{
    transfer t = {.ctx = ctx, .f = f, .path = url, .answer = answer, .fd = -1, .max_bytes = max_bytes};
    *out = NULL;
    *bytes = 0;
    reco_status status = perform(&t, url, "");
    if (status == RECO_OK && answer->http == 200) {
        if (!t.text && !(t.text = reco_alloc(ctx, 1, 1, "document"))) return RECO_E_NOMEM;
        t.text[answer->bytes] = 0;
        *out = t.text;
        *bytes = (size_t)answer->bytes;
        return RECO_OK;
    }
    free(t.text);
    return status;
}

reco_status reco_fetch_file(reco_ctx *ctx, reco_fetch *f, const char *url, int fd, const char *path,
                            uint64_t from, const char *etag, uint64_t max_bytes,
                            reco_fetch_begin begin_with, void *user, reco_fetch_answer *answer)
{
    transfer t = {.ctx = ctx,
                  .f = f,
                  .path = path,
                  .answer = answer,
                  .fd = fd,
                  .begin = begin_with,
                  .user = user,
                  .from = from,
                  .max_bytes = max_bytes};
    return perform(&t, url, etag);
}
