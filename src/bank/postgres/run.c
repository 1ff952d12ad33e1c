/* Statements are sent to all servers at once, and results are taken as they arrive: a query costs one round trip
 * and the time of the slowest server. */
#include "bank/postgres/pg.h"

#include <errno.h>
#include <poll.h>

#define WINDOW 64 /* statements of one server whose answers are not there yet */

/* One server's part of the work. */
typedef struct turn {
    const char *before[3];        /* statements that come first */
    size_t nbefore, calls, total; /* of the work; of all */
    size_t sent, got;
    bool ends;   /* a result was taken, and the NULL behind it was not */
    bool synced; /* asked for what ends it */
    bool over;
    double heard;
    reco_status status; /* what went wrong, */
    char error[512];    /* and what the server says of it; "": ctx has it */
} turn;

typedef struct run {
    pg_set *set;
    const pg_work *work;
    turn *turns;        /* [n] */
    struct pollfd *fds; /* [n] */
    double silence;     /* seconds without an answer after which a server is given up */
    char settings[160];
} run;

static void note(turn *t, reco_status status, const char *message)
{
    if (t->status != RECO_OK) return;
    t->status = status;
    snprintf(t->error, sizeof t->error, "%s", message);
}

/* The connection is of no more use. */
static void lose(pg_shard *s, turn *t, const char *message)
{
    note(t, RECO_E_IO, message);
    pg_disconnect(s);
    t->over = true;
}

static void plan(run *r, size_t i)
{
    const pg_shard *s = &r->set->shards[i];
    const pg_work *w = r->work;
    turn *t = &r->turns[i];
    *t = (turn){.calls = w->per_shard ? w->per_shard[i] : w->calls, .heard = reco_now()};
    t->over = !s->conn || t->calls == 0;
    if (!w->bare) {
        if (!t->over && PQtransactionStatus(s->conn) == PQTRANS_INERROR)
            t->before[t->nbefore++] = "ROLLBACK";
        t->before[t->nbefore++] = "BEGIN READ ONLY";
        t->before[t->nbefore++] = r->settings;
    }
    t->total = t->nbefore + t->calls + !w->bare;
}

static reco_status send_next(reco_ctx *ctx, const run *r, size_t i)
{
    pg_shard *s = &r->set->shards[i];
    turn *t = &r->turns[i];
    pg_call call = {0};
    if (t->sent < t->nbefore)
        call.sql = t->before[t->sent];
    else if (t->sent < t->nbefore + t->calls)
        RECO_TRY(r->work->send(ctx, r->work->arg, i, t->sent - t->nbefore, &call));
    else
        call.sql = "COMMIT";
    if (!PQsendQueryParams(s->conn, call.sql, call.n, NULL, call.values, call.lengths, call.formats, 1))
        lose(s, t, PQerrorMessage(s->conn));
    else
        PQsendFlushRequest(s->conn); /* else the answer waits for that of the last one */
    t->sent++;
    return RECO_OK;
}

/* As much as the window lets through. */
static reco_status push(reco_ctx *ctx, const run *r, size_t i, bool *blocked)
{
    pg_shard *s = &r->set->shards[i];
    turn *t = &r->turns[i];
    while (!t->over && t->sent < t->total && t->sent - t->got < WINDOW) {
        reco_status status = send_next(ctx, r, i);
        if (status == RECO_OK) continue;
        note(t, status, "");
        lose(s, t, "");
    }
    if (t->over) return RECO_OK;
    if (t->sent == t->total && !t->synced) t->synced = PQpipelineSync(s->conn) == 1;
    int left = PQflush(s->conn);
    *blocked = left > 0;
    if (left < 0) lose(s, t, PQerrorMessage(s->conn));
    return RECO_OK;
}

/* Is it SQL that is wrong, as a user wrote it, or took too long? */
static bool is_users(const PGresult *rows)
{
    const char *state = PQresultErrorField(rows, PG_DIAG_SQLSTATE);
    return state &&
           (strncmp(state, "42", 2) == 0 || strncmp(state, "22", 2) == 0 || strcmp(state, "57014") == 0 ||
            strncmp(state, "25", 2) == 0 || strncmp(state, "0A", 2) == 0 || strncmp(state, "21", 2) == 0);
}

static void take(reco_ctx *ctx, const run *r, size_t i, PGresult *rows)
{
    turn *t = &r->turns[i];
    const pg_work *w = r->work;
    size_t at = t->got;
    ExecStatusType kind = PQresultStatus(rows);
    if (kind == PGRES_PIPELINE_SYNC) {
        t->over = true;
        return;
    }
    t->got++;
    t->ends = true;
    if (kind == PGRES_TUPLES_OK || kind == PGRES_COMMAND_OK) {
        if (at < t->nbefore || at >= t->nbefore + t->calls || !w->take || t->status != RECO_OK) return;
        reco_status status = w->take(ctx, w->arg, i, at - t->nbefore, rows);
        if (status != RECO_OK) note(t, status, "");
    } else if (kind != PGRES_PIPELINE_ABORTED) {
        const char *text = PQresultErrorField(rows, PG_DIAG_MESSAGE_PRIMARY);
        note(t, w->wrong != RECO_OK && is_users(rows) ? w->wrong : RECO_E_IO,
             text ? text : PQresultErrorMessage(rows));
    }
}

static void pull(reco_ctx *ctx, const run *r, size_t i)
{
    pg_shard *s = &r->set->shards[i];
    turn *t = &r->turns[i];
    t->heard = reco_now();
    if (!PQconsumeInput(s->conn)) {
        lose(s, t, PQerrorMessage(s->conn));
        return;
    }
    while (!t->over && !PQisBusy(s->conn)) {
        PGresult *rows = PQgetResult(s->conn);
        if (rows) {
            take(ctx, r, i, rows);
            PQclear(rows);
        } else if (t->ends)
            t->ends = false;
        else
            break;
    }
    if (!t->over && PQstatus(s->conn) == CONNECTION_BAD) lose(s, t, PQerrorMessage(s->conn));
}

static reco_status rounds(reco_ctx *ctx, const run *r)
{
    char message[80];
    for (;;) {
        size_t left = 0, got = 0, total = 0;
        for (size_t i = 0; i < r->set->n; i++) {
            turn *t = &r->turns[i];
            bool blocked = false;
            if (!t->over) RECO_TRY(push(ctx, r, i, &blocked));
            got += t->got;
            total += t->total;
            left += !t->over;
            r->fds[i] = (struct pollfd){.fd = t->over ? -1 : PQsocket(r->set->shards[i].conn),
                                        .events = blocked ? POLLIN | POLLOUT : POLLIN};
        }
        if (left == 0) return RECO_OK;
        if (poll(r->fds, (nfds_t)r->set->n, 100) < 0 && errno != EINTR)
            return reco_fail_errno(ctx, RECO_E_IO, "poll");
        for (size_t i = 0; i < r->set->n; i++) {
            turn *t = &r->turns[i];
            if (t->over) continue;
            if (r->fds[i].revents & (POLLIN | POLLHUP | POLLERR))
                pull(ctx, r, i);
            else if (reco_now() - t->heard > r->silence) {
                snprintf(message, sizeof message, "no answer for %.3g s; is the server still up?",
                         r->silence);
                lose(&r->set->shards[i], t, message);
            }
        }
        if (r->work->what) RECO_TRY(reco_progress(ctx, r->work->what, got, total + 1));
    }
}

/* The first server's error that counts. */
static reco_status settle(reco_ctx *ctx, const run *r)
{
    for (size_t i = 0; i < r->set->n; i++) {
        turn *t = &r->turns[i];
        if (t->status == RECO_OK) continue;
        if (!*t->error) return t->status; /* ours: the message is there */
        RECO_TRY(pg_fail(ctx, r->set, &r->set->shards[i], t->status, t->error));
    }
    return RECO_OK;
}

reco_status pg_run(reco_ctx *ctx, pg_set *set, const pg_work *work)
{
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status = RECO_E_NOMEM;
    run r = {.set = set, .work = work};
    if (!work->bare) RECO_TRY(pg_connect(ctx, set));
    r.turns = reco_scratch(ctx, set->n, sizeof *r.turns, "servers");
    r.fds = reco_scratch(ctx, set->n, sizeof *r.fds, "servers");
    if (!r.turns || !r.fds) goto out;
    int64_t timeout = work->timeout ? work->timeout : set->timeout;
    r.silence = set->connect + (double)timeout / 1000;
    snprintf(r.settings, sizeof r.settings,
             "SELECT set_config('statement_timeout', '%lld', true), "
             "set_config('standard_conforming_strings', 'on', true)",
             (long long)timeout);
    for (size_t i = 0; i < set->n; i++) plan(&r, i);
    status = rounds(ctx, &r);
    for (size_t i = 0; i < set->n; i++) /* cut short: what it would still say nobody reads */
        if (!r.turns[i].over) pg_disconnect(&set->shards[i]);
    if (status == RECO_OK) status = settle(ctx, &r);
out:
    reco_scratch_release(ctx, mark);
    return status;
}

reco_status pg_read(reco_ctx *ctx, const reco_bank *bank, const pg_work *work)
{
    pg_bank *b = pg_of(bank);
    pthread_mutex_lock(&b->turn);
    reco_status status = pg_run(ctx, &b->set, work);
    pthread_mutex_unlock(&b->turn);
    return status;
}
