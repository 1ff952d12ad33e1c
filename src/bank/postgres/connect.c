#include "bank/postgres/pg.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#define CONNECT_SECONDS 10 /* where the URL has no connect_timeout */
#define RETRY_SECONDS 5    /* after a failure, in a partial bank, */
#define PATIENCE_MS 100    /* and so long the others wait for each such attempt */
#define MOST_SHARDS 256

/* ---- what may be said ---- */

/* Without a password, wherever a message has one. */
static void scrub(char *text, const char *secret)
{
    size_t n = secret ? strlen(secret) : 0;
    if (n == 0) return;
    for (char *at = text; (at = strstr(at, secret)) != NULL;) {
        memmove(at + 1, at + n, strlen(at + n) + 1);
        *at++ = '*';
    }
}

/* What to do about it; NULL: the message says enough. */
static const char *advice(const char *message)
{
    static const struct {
        const char *part, *advice;
    } known[] = {
        {"password authentication failed", "give the right password in ~/.pgpass, PGPASSWORD or the URL"},
        {"no password supplied", "give the password in ~/.pgpass, PGPASSWORD or the URL"},
        {"type \"vector\" does not exist", "run CREATE EXTENSION vector there"},
        {"extension \"vector\" is not available",
         "install pgvector on the server (postgresql-NN-pgvector)"},
        {"permission denied to create extension",
         "have an administrator run CREATE EXTENSION vector there"},
        {"statement timeout", "raise the limit with statement_timeout in the URL's options"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strstr(message, known[i].part)) return known[i].advice;
    return NULL;
}

reco_status pg_fail(reco_ctx *ctx, pg_set *set, pg_shard *s, reco_status status, const char *message)
{
    char line[768];
    size_t n = 0;
    if (strncmp(message, "ERROR:  ", 8) == 0) message += 8;
    for (; *message && n < sizeof line - 1; message++)
        if (*message != '\n')
            line[n++] = *message;
        else if (message[1] && n < sizeof line - 2) {
            line[n++] = ';';
            line[n++] = ' ';
            while (message[1] == '\t' || message[1] == ' ') message++;
        }
    line[n] = 0;
    scrub(line, s->password);
    const char *help = advice(line);
    if (set->partial && status == RECO_E_IO) {
        s->failed = true;
        s->again = reco_now() + RETRY_SECONDS;
        reco_log(ctx, RECO_LOG_WARN, "%s: %s; answers lack its rows", s->label, line);
        return RECO_OK;
    }
    return reco_fail(ctx, status, "%s: %s%s%s", s->label, line, help ? "; " : "", help ? help : "");
}

/* ---- URLs ---- */

static const char *option(const PQconninfoOption *options, const char *name)
{
    for (; options->keyword; options++)
        if (strcmp(options->keyword, name) == 0) return options->val;
    return NULL;
}

static reco_status take_apart(reco_ctx *ctx, pg_set *set, pg_shard *s)
{
    const char *user = strstr(s->url, "://") + 3, *at = user + strcspn(user, "@?");
    /* Its message would repeat the URL; and of a password with an @ or a / it would take a part for the host or the database. */
    bool unclear =
        *at == '@' && (memchr(user, '/', (size_t)(at - user)) || memchr(at + 1, '@', strcspn(at + 1, "?")));
    PQconninfoOption *options = unclear ? NULL : PQconninfoParse(s->url, NULL);
    if (!options)
        return reco_fail(ctx, RECO_E_ARG,
                         "bank: libpq can't read URL %zu, want postgresql://USER@HOST:PORT/DATABASE with "
                         "%%-escapes in names and passwords",
                         (size_t)(s - set->shards) + 1);
    const char *host = option(options, "host"), *port = option(options, "port"),
               *database = option(options, "dbname"), *password = option(options, "password"),
               *seconds = option(options, "connect_timeout");
    snprintf(s->label, sizeof s->label, "%s%s%s/%s", host ? host : "", port ? ":" : "", port ? port : "",
             database ? database : "");
    reco_text_clean(s->label);
    double wait = seconds ? atof(seconds) : 0;
    if (wait > set->connect && wait < 86400) set->connect = wait;
    reco_status status = RECO_OK;
    if (password && !(s->password = reco_strdup(ctx, password))) status = RECO_E_NOMEM;
    PQconninfoFree(options);
    return status;
}

reco_status pg_set_begin(reco_ctx *ctx, pg_set *set, const char *urls)
{
    size_t most = 0;
    for (const char *url = urls; *url; url = reco_pg_url_end(url + 1)) most++;
    if (most > MOST_SHARDS)
        return reco_fail(ctx, RECO_E_ARG, "bank: %zu URLs, want at most %d", most, MOST_SHARDS);
    set->shards = reco_alloc(ctx, most, sizeof *set->shards, "servers");
    if (!set->shards) return RECO_E_NOMEM;
    for (const char *url = urls, *end; *url; url = *end ? end + 1 : end) {
        pg_shard *s = &set->shards[set->n++];
        end = reco_pg_url_end(url);
        if (!(s->url = reco_format(ctx, "%.*s", (int)(end - url), url))) return RECO_E_NOMEM;
        RECO_TRY(take_apart(ctx, set, s));
    }
    if (set->connect <= 0) set->connect = CONNECT_SECONDS;
    set->timeout = 10000;
    return RECO_OK;
}

void pg_disconnect(pg_shard *s)
{
    PQfinish(s->conn);
    s->conn = NULL;
}

void pg_set_end(pg_set *set)
{
    for (size_t i = 0; i < set->n; i++) {
        pg_shard *s = &set->shards[i];
        pg_disconnect(s);
        PQfinish(s->coming);
        reco_free(s->url);
        reco_free(s->password);
    }
    reco_free(set->shards);
}

/* ---- connecting ---- */

static PGconn *start(const pg_shard *s)
{
    static const char *const names[] = {"dbname", "client_encoding", "fallback_application_name", NULL};
    const char *const values[] = {s->url, "UTF8", "reco", NULL};
    return PQconnectStartParams(names, values, 1);
}

/* A server that closed an idle connection has said so by now. */
static void look_alive(pg_shard *s)
{
    struct pollfd fd = {.fd = PQsocket(s->conn), .events = POLLIN};
    if (poll(&fd, 1, 0) > 0) (void)PQconsumeInput(s->conn);
    if (PQstatus(s->conn) != CONNECTION_OK) pg_disconnect(s);
}

static void ignore(void *arg, const char *message) { (void)arg, (void)message; }

static reco_status connected(reco_ctx *ctx, pg_set *set, pg_shard *s)
{
    const char *database = PQdb(s->conn), *host = PQhost(s->conn), *port = PQport(s->conn);
    snprintf(s->label, sizeof s->label, "%s:%s/%s", host && *host ? host : "local", port, database);
    reco_text_clean(s->label);
    if (!s->password && PQpass(s->conn) && *PQpass(s->conn) &&
        !(s->password = reco_strdup(ctx, PQpass(s->conn))))
        return RECO_E_NOMEM;
    PQsetNoticeProcessor(s->conn, ignore, NULL); /* which else goes to stderr */
    if (PQserverVersion(s->conn) < 120000)
        return pg_fail(ctx, set, s, RECO_E_UNSUPPORTED, "the server is older than PostgreSQL 12");
    if (PQsetnonblocking(s->conn, 1) != 0 || !PQenterPipelineMode(s->conn))
        return pg_fail(ctx, set, s, RECO_E_IO, PQerrorMessage(s->conn));
    return RECO_OK;
}

/* One step of those that are on their way; *left: how many go on. */
static reco_status step(reco_ctx *ctx, pg_set *set, struct pollfd *fds, size_t *left)
{
    *left = 0;
    for (size_t i = 0; i < set->n; i++) {
        pg_shard *s = &set->shards[i];
        if (fds[i].fd < 0) continue;
        PostgresPollingStatusType next = fds[i].revents || fds[i].events == 0 ? PQconnectPoll(s->conn)
                                         : fds[i].events == POLLIN            ? PGRES_POLLING_READING
                                                                              : PGRES_POLLING_WRITING;
        if (next == PGRES_POLLING_OK || next == PGRES_POLLING_FAILED) {
            fds[i].fd = -1;
            reco_status status = next == PGRES_POLLING_OK
                                     ? connected(ctx, set, s)
                                     : pg_fail(ctx, set, s, RECO_E_IO, PQerrorMessage(s->conn));
            if (next == PGRES_POLLING_FAILED) pg_disconnect(s);
            RECO_TRY(status);
            continue;
        }
        fds[i].fd = PQsocket(s->conn);
        fds[i].events = next == PGRES_POLLING_READING ? POLLIN : POLLOUT;
        ++*left;
    }
    return RECO_OK;
}

static reco_status fail_late(reco_ctx *ctx, pg_set *set, pg_shard *s)
{
    char message[96];
    snprintf(message, sizeof message, "no connection within %g s; is the server up and the address right?",
             set->connect);
    return pg_fail(ctx, set, s, RECO_E_IO, message);
}

static reco_status give_up(reco_ctx *ctx, pg_set *set, const struct pollfd *fds)
{
    for (size_t i = 0; i < set->n; i++) {
        if (fds[i].fd < 0) continue;
        pg_disconnect(&set->shards[i]);
        RECO_TRY(fail_late(ctx, set, &set->shards[i]));
    }
    return RECO_OK;
}

static reco_status wait_for(reco_ctx *ctx, pg_set *set, struct pollfd *fds)
{
    double end = reco_now() + set->connect;
    size_t left;
    RECO_TRY(step(ctx, set, fds, &left));
    while (left) {
        if (reco_now() > end) return give_up(ctx, set, fds);
        if (poll(fds, (nfds_t)set->n, 100) < 0 && errno != EINTR)
            return reco_fail_errno(ctx, RECO_E_IO, "poll");
        RECO_TRY(reco_progress(ctx, "connecting", 0, 0));
        RECO_TRY(step(ctx, set, fds, &left));
    }
    return RECO_OK;
}

/* ---- connecting again, those that failed ---- */

/* As far as it gets without waiting, or within `patience` ms. */
static PostgresPollingStatusType go_on(pg_shard *s, int patience)
{
    const double end = reco_now() + patience / 1000.0;
    for (;;) {
        struct pollfd fd = {.fd = PQsocket(s->coming), .events = (short)s->waits};
        int left = patience ? (int)(1000 * (end - reco_now())) : 0;
        if (poll(&fd, 1, left > 0 ? left : 0) <= 0) return PGRES_POLLING_READING;
        PostgresPollingStatusType next = PQconnectPoll(s->coming);
        if (next == PGRES_POLLING_OK || next == PGRES_POLLING_FAILED) return next;
        s->waits = next == PGRES_POLLING_READING ? POLLIN : POLLOUT;
    }
}

static reco_status try_again(reco_ctx *ctx, pg_set *set, pg_shard *s)
{
    const bool first = !s->coming;
    if (first) {
        if (s->back || reco_now() < s->again) return RECO_OK;
        s->coming = start(s);
        s->until = reco_now() + set->connect;
        s->waits = POLLOUT;
    }
    const bool bad = !s->coming || PQstatus(s->coming) == CONNECTION_BAD;
    PostgresPollingStatusType next = bad ? PGRES_POLLING_FAILED : go_on(s, first ? PATIENCE_MS : 0);
    reco_status status = RECO_OK;
    if (next == PGRES_POLLING_OK && (s->looked || set->looking)) {
        s->conn = s->coming;
        s->failed = false;
        s->coming = NULL;
        return connected(ctx, set, s);
    }
    if (next == PGRES_POLLING_FAILED)
        status = pg_fail(ctx, set, s, RECO_E_IO, s->coming ? PQerrorMessage(s->coming) : "no memory");
    else if (next != PGRES_POLLING_OK && reco_now() > s->until)
        status = fail_late(ctx, set, s);
    else if (next != PGRES_POLLING_OK)
        return RECO_OK;
    else
        s->back = true;
    PQfinish(s->coming);
    s->coming = NULL;
    return status;
}

reco_status pg_connect(reco_ctx *ctx, pg_set *set)
{
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status = RECO_OK;
    struct pollfd *fds = reco_scratch(ctx, set->n, sizeof *fds, "servers");
    size_t up = 0;
    if (!fds) return RECO_E_NOMEM;
    for (size_t i = 0; i < set->n; i++) {
        pg_shard *s = &set->shards[i];
        fds[i] = (struct pollfd){.fd = -1};
        if (s->failed) {
            if ((status = try_again(ctx, set, s)) != RECO_OK) break;
            continue;
        }
        if (s->conn) look_alive(s);
        if (s->conn) continue;
        s->conn = start(s);
        if (s->conn && PQstatus(s->conn) != CONNECTION_BAD) {
            fds[i].fd = PQsocket(s->conn);
            fds[i].events = POLLOUT;
        } else {
            status = pg_fail(ctx, set, s, RECO_E_IO, s->conn ? PQerrorMessage(s->conn) : "no memory");
            pg_disconnect(s);
            if (status != RECO_OK) break;
        }
    }
    if (status == RECO_OK) status = wait_for(ctx, set, fds);
    for (size_t i = 0; i < set->n; i++) {
        pg_shard *s = &set->shards[i];
        if (s->conn && (fds[i].fd >= 0 || s->failed)) pg_disconnect(s); /* cut short */
        up += s->conn != NULL;
    }
    if (status == RECO_OK && up == 0) status = reco_fail(ctx, RECO_E_IO, "bank: no server answers");
    reco_scratch_release(ctx, mark);
    return status;
}
