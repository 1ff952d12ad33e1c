/* HTTP: bodies in, answers out. A request whose body is there is parsed here, suspended while the engine or the writer works on
 * it, and resumed with its answer. */
#include "connections.h"

#include <math.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>

enum { BODY = 32 << 20, BODIES = 16, IDLE_SECONDS = 30, FIELD = 1 << 20, WASTE = 64 << 20 };

double serve_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double serve_patience(const serve *s) { return s->opts->patience > 0 ? s->opts->patience : 60; }

double serve_idle_seconds(const serve *s)
{
    return serve_patience(s) < IDLE_SECONDS ? serve_patience(s) : IDLE_SECONDS;
}

const char *serve_header(const serve_request *r, const char *name)
{
    return MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, name);
}

const char *serve_parameter(const serve_request *r, const char *name)
{
    return MHD_lookup_connection_value(r->connection, MHD_GET_ARGUMENT_KIND, name);
}

bool serve_is_gone(const serve_request *r)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (!info) return false;
    struct pollfd p = {.fd = info->connect_fd, .events = POLLRDHUP};
    return poll(&p, 1, 0) > 0 && p.revents & (POLLRDHUP | POLLHUP | POLLERR);
}

void serve_resume(serve_request *r) { MHD_resume_connection(r->connection); }

static void release_item(serve_item *item)
{
    void *const all[] = {item->text, item->url,    item->bytes, item->vector, item->error,
                         item->ids,  item->scores, item->plain, item->refined};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    serve_free_pairs(item->pairs, item->n);
}

void serve_release(serve_request *r)
{
    for (size_t i = 0; i < r->nitems; i++) release_item(&r->items[i]);
    free(r->items);
    free(r->body);
    free(r->file);
    free(r->where);
    free(r->answer);
    for (size_t i = 0; i < r->npaths; i++) free(r->paths[i]);
    free(r->paths);
    json_decref(r->missing);
    json_decref(r->value);
    json_decref(r->json);
    json_decref(r->fields);
    if (r->form) MHD_destroy_post_processor(r->form);
    free(r);
}

/* The caller's address may be a proxy's; what it may say of others is not looked at. */
static void log_request(serve *s, const serve_request *r)
{
    if (!s->opts->log) return;
    char at[32] = "";
    time_t now = time(NULL);
    struct tm tm;
    if (gmtime_r(&now, &tm)) strftime(at, sizeof at, "%FT%TZ", &tm);
    json_t *line =
        json_pack("{s:s, s:s, s:s, s:i, s:f, s:I, s:I}", "time", at, "method", r->route->method, "path",
                  r->route->path, "status", r->status, "ms", 1e3 * (serve_now() - r->began), "bytes",
                  (json_int_t)r->bytes, "items", (json_int_t)r->nitems);
    if (!line) return;
    if (*r->who) json_object_set_new(line, "who", json_string(r->who));
    if (s->opts->show_content && r->nitems && r->items[0].text)
        json_object_set_new(line, "text", json_string(r->items[0].text));
    flockfile(s->opts->log);
    json_dumpf(line, s->opts->log, JSON_COMPACT | JSON_REAL_PRECISION(6));
    putc_unlocked('\n', s->opts->log);
    fflush(s->opts->log);
    funlockfile(s->opts->log);
    json_decref(line);
}

void serve_completed(void *user, struct MHD_Connection *connection, void **state,
                     enum MHD_RequestTerminationCode why)
{
    (void)why;
    serve *s = user;
    serve_request *r = *state;
    *state = NULL;
    serve_connection_is(s, connection, SERVE_IDLE);
    if (!r) return;
    atomic_fetch_sub(&s->held, r->held);
    atomic_fetch_add(&s->metrics.requests, 1);
    if (r->status >= 400) atomic_fetch_add(&s->metrics.errors, 1);
    if (r->route) log_request(s, r);
    serve_release(r);
}

void serve_reply(serve_request *r, int status, json_t *value)
{
    free(r->answer);
    r->fixed = NULL;
    r->type = NULL;
    r->status = status;
    r->retry = status == 503 ? 1 : 0;
    r->answer = serve_dump(value);
    if (!r->answer) {
        r->status = 500;
        r->answer = strdup("{\"error\":\"out of memory\"}");
    }
    r->answer_bytes = r->answer ? strlen(r->answer) : 0;
    json_decref(value);
}

void serve_fail(serve_request *r, int status, const char *format, ...)
{
    char *message;
    va_list args;
    va_start(args, format);
    int n = vasprintf(&message, format, args);
    va_end(args);
    if (n < 0) message = NULL;
    if (message) reco_text_clean(message);
    const char *text = message ? message : "out of memory";
    json_t *said = json_string(text);
    if (!said) said = json_string("the request is not valid UTF-8");
    if (r->route && r->route->errors == SERVE_ERRORS_OPENAI)
        serve_reply(r, status,
                    json_pack("{s:{s:o, s:s, s:n, s:n}}", "error", "message", said, "type",
                              status >= 500 ? "server_error" : "invalid_request_error", "param", "code"));
    else if (r->route && r->route->errors == SERVE_ERRORS_PLAIN)
        serve_reply(r, status, json_pack("{s:o}", "detail", said));
    else
        serve_reply(r, status, json_pack("{s:o}", "error", said));
    free(message);
}

int serve_http_status(const serve_request *r, reco_status status)
{
    switch (status) {
    case RECO_OK:
        return 200;
    case RECO_E_NOTFOUND:
        return 404;
    case RECO_E_MISMATCH:
    case RECO_E_EXISTS:
        return 409;
    case RECO_E_BUSY:
        return 503;
    case RECO_E_ARG:
    case RECO_E_FORMAT:
    case RECO_E_UNSUPPORTED:
        return 400;
    case RECO_E_IO: /* a server of the bank, or a disk */
        return r->bank && reco_bank_is_server(r->bank->path) ? 503 : r->route->writes ? 507 : 500;
    default:
        return 500;
    }
}

void serve_fail_status(serve_request *r, reco_ctx *ctx, reco_status status)
{
    serve_fail(r, serve_http_status(r, status), "%s",
               *reco_ctx_error(ctx) ? reco_ctx_error(ctx) : reco_status_name(status));
}

bool serve_enqueue(serve *s, serve_queue *q, serve_request *r)
{
    size_t most = s->opts->queue ? s->opts->queue : 1024;
    pthread_mutex_lock(&s->lock);
    bool ok = r->suspended || (!s->stopping && q->n < most); /* what is under way goes on */
    if (ok) {
        if (!r->suspended) {
            MHD_suspend_connection(r->connection);
            r->suspended = true; /* for good: HTTP's thread looks at it without the lock */
        }
        r->next = NULL;
        *q->last = r;
        q->last = &r->next;
        q->n++;
        pthread_cond_signal(&q->more);
    }
    pthread_mutex_unlock(&s->lock);
    if (ok) return true;
    atomic_fetch_add(&s->metrics.rejected, 1);
    serve_fail(r, 503, "%s", s->stopping ? "the server is stopping" : "too many requests are waiting");
    return false;
}

/* Is the request of a page of this server, or of no page at all? A page of another origin could otherwise write with the rights of
 * who looks at it; and by a name of its own that leads to this machine (DNS rebinding) it could read, too. */
static bool same_origin(const serve_request *r)
{
    const char *origin = serve_header(r, "Origin"), *host = serve_header(r, "Host");
    if (!origin) return true;
    const char *name = strstr(origin, "://");
    return name && host && strcasecmp(name + 3, host) == 0;
}

static bool is_loopback(const char *host)
{
    static const char *const names[] = {"localhost", "127.0.0.1", "[::1]"};
    for (size_t i = 0; i < 3; i++) {
        size_t n = strlen(names[i]);
        if (strncasecmp(host, names[i], n) == 0 && (host[n] == 0 || host[n] == ':')) return true;
    }
    return false;
}

static bool admit(serve *s, serve_request *r)
{
    const char *token = serve_header(r, "Authorization"), *host = serve_header(r, "Host");
    if (token && strncasecmp(token, "Bearer ", 7) == 0) token += 7;
    double wait = 0;
    bool known = serve_who(s, token, r->who, r->route->guest ? NULL : &wait);
    if (!known && !r->route->guest) {
        serve_fail(r, 401, "this server requires a token; send the header \"Authorization: Bearer TOKEN\"");
        return false;
    }
    if (wait > 0) {
        serve_fail(r, 429, "too many requests; try again in %.0f s", ceil(wait));
        r->retry = ceil(wait);
        return false;
    }
    if (!s->opts->token_file && host && !is_loopback(host) && !r->route->guest) {
        serve_fail(r, 403, "a server without tokens accepts only requests to localhost, not to \"%s\"",
                   host);
        return false;
    }
    if (r->route->writes && s->opts->read_only) {
        serve_fail(r, 403, "this server is read-only");
        return false;
    }
    if (!same_origin(r) && (r->route->writes || !r->route->shared)) {
        serve_fail(r, 403, "pages of other origins are not allowed to do this");
        return false;
    }
    return true;
}

static enum MHD_Result field(void *user, enum MHD_ValueKind kind, const char *key, const char *filename,
                             const char *type, const char *encoding, const char *data, uint64_t offset,
                             size_t size)
{
    (void)kind;
    (void)type;
    (void)encoding;
    serve_request *r = user;
    if (filename || strcmp(key, "image") == 0) {
        if (offset != r->file_bytes) return MHD_YES; /* one picture; of another nothing is kept */
        unsigned char *grown = realloc(r->file, r->file_bytes + size + 1);
        if (!grown) return MHD_NO;
        memcpy(grown + r->file_bytes, data, size);
        r->file = grown;
        r->file_bytes += size;
        return MHD_YES;
    }
    const char *before = json_string_value(json_object_get(r->fields, key));
    size_t n = before && offset ? strlen(before) : 0;
    if (n + size > FIELD) return MHD_NO;
    char *text = malloc(n + size + 1);
    if (!text) return MHD_NO;
    if (n) memcpy(text, before, n);
    memcpy(text + n, data, size);
    json_t *value = json_stringn_nocheck(text, n + size);
    free(text);
    return value && json_object_set_new_nocheck(r->fields, key, value) == 0 ? MHD_YES : MHD_NO;
}

static void let_go(serve *s, serve_request *r)
{
    atomic_fetch_sub(&s->held, r->held);
    r->held = 0;
    free(r->body);
    r->body = NULL;
    r->room = 0;
}

/* Another piece of the body. */
static void append_body(serve *s, serve_request *r, const char *data, size_t size)
{
    size_t most = s->opts->body ? s->opts->body : BODY;
    if (r->status) return; /* it has its answer */
    if (size > most - r->bytes) {
        serve_fail(r, 413, "the request body has more than %zu bytes, which is the limit", most);
        let_go(s, r);
        return;
    }
    if (atomic_fetch_add(&s->held, size) + size > BODIES * most) {
        atomic_fetch_sub(&s->held, size);
        serve_fail(r, 503, "too many large requests are in progress");
        let_go(s, r);
        return;
    }
    r->held += size;
    r->bytes += size;
    if (r->form) {
        if (MHD_post_process(r->form, data, size) != MHD_YES) serve_fail(r, 400, "the form cannot be read");
        return;
    }
    if (r->bytes > r->room) {
        size_t room = r->room ? 2 * r->room : 16384;
        while (room < r->bytes) room *= 2;
        char *grown = realloc(r->body, room + 1);
        if (!grown) {
            serve_fail(r, 503, "out of memory");
            return;
        }
        r->body = grown;
        r->room = room;
    }
    memcpy(r->body + r->bytes - size, data, size);
}

static void cross_origin(const serve *s, const serve_request *r, struct MHD_Response *response)
{
    const char *origin = s->opts->origin ? s->opts->origin : "*";
    if (!r->route || !r->route->shared || !*origin) return;
    MHD_add_response_header(response, "Access-Control-Allow-Origin", origin);
    MHD_add_response_header(response, "Access-Control-Allow-Headers", "Content-Type, Authorization");
    MHD_add_response_header(response, "Access-Control-Allow-Methods", "GET, POST, OPTIONS");
}

static enum MHD_Result send_answer(serve *s, serve_request *r)
{
    const char *seen = serve_header(r, "If-None-Match");
    bool same = r->etag && r->status == 200 && seen && strcmp(seen, r->etag) == 0;
    size_t n = same ? 0 : r->answer_bytes;
    struct MHD_Response *response =
        r->fixed
            ? MHD_create_response_from_buffer(n, (void *)(uintptr_t)r->fixed, MHD_RESPMEM_PERSISTENT)
            : MHD_create_response_from_buffer(n, r->answer ? r->answer : "",
                                              r->answer ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
    if (!response) return MHD_NO;
    if (!r->fixed) r->answer = NULL;
    const char *const headers[][2] = {{"Content-Type", r->type ? r->type : "application/json"},
                                      {"X-Content-Type-Options", "nosniff"},
                                      {"Referrer-Policy", "no-referrer"},
                                      {"Content-Security-Policy",
                                       "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; "
                                       "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"},
                                      {"Cache-Control", r->etag ? "no-cache" : "no-store"}};
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++)
        MHD_add_response_header(response, headers[i][0], headers[i][1]);
    if (r->etag) MHD_add_response_header(response, "ETag", r->etag);
    if (r->status == 405) MHD_add_response_header(response, "Allow", r->allowed);
    if (r->retry > 0) {
        char seconds[16];
        snprintf(seconds, sizeof seconds, "%.0f", r->retry);
        MHD_add_response_header(response, "Retry-After", seconds);
    }
    if (r->status == 401) MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
    if (r->status == 413) MHD_add_response_header(response, "Connection", "close");
    char *missing = serve_missing(r); /* clients whose protocol has no place for it see it here */
    if (missing) MHD_add_response_header(response, "X-Reco-Missing-Servers", missing);
    free(missing);
    cross_origin(s, r, response);
    enum MHD_Result done = MHD_queue_response(r->connection, same ? 304U : (unsigned)r->status, response);
    MHD_destroy_response(response);
    return done;
}

/* The route, or NULL and 404, or 405 and what the path does want. */
static const serve_route *find_route(const char *method, const char *path, int *status, char allowed[64])
{
    *status = 404;
    *allowed = 0;
    for (size_t i = 0; i < serve_nroutes; i++) {
        const serve_route *route = &serve_routes[i];
        size_t n = strlen(route->path);
        bool tail = n && route->path[n - 1] == '*'; /* what follows is the route's business */
        if (tail ? strncmp(route->path, path, n - 1) != 0 : strcmp(route->path, path) != 0) continue;
        if (strcmp(strcmp(method, "HEAD") == 0 ? "GET" : method, route->method) == 0) return route;
        *status = 405;
        size_t at = strlen(allowed);
        snprintf(allowed + at, 64 - at, "%s%s", at ? ", " : "", route->method);
    }
    return NULL;
}

static const serve_route unknown_route = {.method = "?", .path = "?", .guest = true};
static const serve_route preflight = {.method = "OPTIONS", .path = "?", .guest = true, .shared = true};

/* libmicrohttpd's strings end where a "%00" was. */
static enum MHD_Result check_whole_string(void *user, enum MHD_ValueKind kind, const char *key,
                                          size_t key_bytes, const char *value, size_t bytes)
{
    bool *whole = user;
    (void)kind;
    *whole &= strlen(key) == key_bytes && (!value || strlen(value) == bytes);
    return MHD_YES;
}

/* The headers are there. */
static serve_request *begin_request(serve *s, struct MHD_Connection *connection, const char *method,
                                    const char *path)
{
    serve_request *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    r->connection = connection;
    r->began = serve_now();
    snprintf(r->path, sizeof r->path, "%s", path);
    int status;
    const char *length, *type;
    r->route = find_route(method, path, &status, r->allowed);
    if (!r->route) {
        bool asks = strcmp(method, "OPTIONS") == 0 && status == 405;
        r->route = asks ? &preflight : &unknown_route;
        if (asks)
            serve_reply(r, 200, json_object());
        else if (status == 405)
            serve_fail(r, 405, "%s supports %s, not %s", path, r->allowed, method);
        else
            serve_fail(r, 404, "there is no endpoint %s", path);
        return r;
    }
    if (!admit(s, r)) return r;
    bool whole = true;
    MHD_get_connection_values_n(connection, MHD_GET_ARGUMENT_KIND, check_whole_string, &whole);
    if (!whole) {
        serve_fail(r, 400, "a parameter contains a NUL character (U+0000)");
        return r;
    }
    length = serve_header(r, "Content-Length");
    type = serve_header(r, "Content-Type");
    size_t most = s->opts->body ? s->opts->body : BODY;
    if (length && strtoull(length, NULL, 10) > most) {
        serve_fail(r, 413, "the request body has %s bytes; the limit is %zu", length, most);
        return r;
    }
    if (type && strncasecmp(type, "multipart/form-data", 19) == 0) {
        r->fields = json_object();
        r->form = MHD_create_post_processor(connection, 65536, field, r);
        if (!r->form || !r->fields) serve_fail(r, 400, "the form has no boundary");
    }
    return r;
}

/* Most clients listen only when they have sent all: what is refused is read, and thrown away, unless the client waits for leave to
 * send it, or it is so much that reading it would be what an enemy wants. */
static bool ends_early(const serve_request *r)
{
    const char *length = serve_header(r, "Content-Length");
    return serve_header(r, "Expect") || (length && strtoull(length, NULL, 10) > WASTE);
}

enum MHD_Result serve_handle(void *user, struct MHD_Connection *connection, const char *path,
                             const char *method, const char *version, const char *data, size_t *size,
                             void **state)
{
    (void)version;
    serve *s = user;
    serve_request *r = *state;
    if (!r) {
        *state = r = begin_request(s, connection, method, path);
        if (!r) return MHD_NO;
        serve_connection_is(s, connection, SERVE_READING);
        return r->status && ends_early(r) ? send_answer(s, r) : MHD_YES;
    }
    if (*size) {
        if (r->status && (r->wasted += *size) > WASTE) return MHD_NO;
        append_body(s, r, data, *size);
        *size = 0;
        return MHD_YES;
    }
    serve_connection_is(s, connection, SERVE_BUSY);
    if (!r->status && !r->suspended) {
        if (r->form) MHD_destroy_post_processor(r->form);
        r->form = NULL;
        if (r->body) r->body[r->bytes] = 0;
        r->route->parse(s, r);
        if (r->suspended) return MHD_YES;
        if (!r->status) serve_fail(r, 500, "the request produced no answer");
    }
    return send_answer(s, r);
}
