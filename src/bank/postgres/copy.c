/* Rows are written by binary COPY, to all servers at once, within the open transaction. */
#include "bank/postgres/write.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <poll.h>

#define COLUMNS 9

static const char copy_sql[] =
    "COPY reco_pair(id, caption, uri, meta, base, place, content, image, text) FROM STDIN (FORMAT binary)";
static const unsigned char copy_begin[19] = "PGCOPY\n\377\r\n\0"; /* no flags, no header extension */
static const unsigned char copy_end[2] = {0xff, 0xff};

/* What one server gets. */
typedef struct load {
    unsigned char *data;
    size_t bytes, room;
    size_t rows;
} load;

size_t pg_shard_of(int64_t id, size_t n)
{
    uint64_t h = (uint64_t)id + 0x9e3779b97f4a7c15; /* splitmix64 */
    h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9;
    h = (h ^ h >> 27) * 0x94d049bb133111eb;
    return (size_t)((h ^ h >> 31) % n);
}

static unsigned char *room(reco_ctx *ctx, load *l, size_t more)
{
    if (more > INT_MAX / 4 || l->bytes > INT_MAX / 4) {
        reco_fail(ctx, RECO_E_NOMEM, "rows of more than 512 MiB at once");
        return NULL;
    }
    if (l->bytes + more > l->room) {
        size_t wide = reco_max(1 << 16, 2 * (l->bytes + more));
        unsigned char *data = reco_alloc_raw(ctx, wide, 1, "rows");
        if (!data) return NULL;
        if (l->bytes) memcpy(data, l->data, l->bytes);
        reco_free(l->data);
        l->data = data;
        l->room = wide;
    }
    return l->data + l->bytes;
}

/* A field; NULL for NULL. With a version byte before it, as jsonb has. */
static reco_status put(reco_ctx *ctx, load *l, const void *data, size_t n, bool json)
{
    unsigned char *to = room(ctx, l, 5 + n);
    if (!to) return RECO_E_NOMEM;
    pg_put32(to, data ? (uint32_t)(n + json) : UINT32_MAX);
    if (data && json) to[4] = 1;
    if (data) memcpy(to + 4 + json, data, n);
    l->bytes += data ? 4 + json + n : 4;
    return RECO_OK;
}

static reco_status put_text(reco_ctx *ctx, load *l, const char *text)
{
    return put(ctx, l, text, text ? strlen(text) : 0, false);
}

static reco_status put_row(reco_ctx *ctx, load *l, const pg_shard *s, int64_t id, const reco_pair *pair,
                           uint16_t *const halves[2], size_t d)
{
    unsigned char number[8], *to = room(ctx, l, 2);
    if (!to) return RECO_E_NOMEM;
    pg_put16(to, COLUMNS);
    l->bytes += 2;
    pg_put64(number, (uint64_t)id);
    RECO_TRY(put(ctx, l, number, sizeof number, false));
    RECO_TRY(put_text(ctx, l, pair->caption));
    RECO_TRY(put_text(ctx, l, pair->uri));
    RECO_TRY(put(ctx, l, pair->meta, pair->meta ? strlen(pair->meta) : 0, true));
    RECO_TRY(put_text(ctx, l, pair->base));
    RECO_TRY(put(ctx, l, pair->place, RECO_BANK_HASH, false));
    RECO_TRY(put(ctx, l, pair->content, RECO_BANK_HASH, false));
    for (int side = 0; side < 2; side++) {
        if (!(to = room(ctx, l, 8 + 4 * d))) return RECO_E_NOMEM;
        size_t n = pg_put_halves(to + 4, halves[side], s->half[side], d);
        pg_put32(to, (uint32_t)n);
        l->bytes += 4 + n;
    }
    l->rows++;
    return RECO_OK;
}

/* ---- on the wire ---- */

/* Until each server has taken what was sent and, where asked for, answers. */
static reco_status settle(reco_ctx *ctx, pg_writer *p, const load *loads, bool answers)
{
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status = RECO_E_NOMEM;
    struct pollfd *fds = reco_scratch(ctx, p->set.n, sizeof *fds, "servers");
    double limit = p->set.connect + 600, heard = reco_now();
    if (!fds) goto out;
    for (;;) {
        size_t left = 0;
        for (size_t i = 0; i < p->set.n; i++) {
            pg_shard *s = &p->set.shards[i];
            fds[i] = (struct pollfd){.fd = -1};
            if (!loads[i].rows) continue;
            int blocked = PQflush(s->conn);
            if (blocked < 0 || PQstatus(s->conn) != CONNECTION_OK)
                RECO_GO(pg_fail(ctx, &p->set, s, RECO_E_IO, PQerrorMessage(s->conn)));
            if (!blocked && !(answers && PQisBusy(s->conn))) continue;
            fds[i] =
                (struct pollfd){.fd = PQsocket(s->conn), .events = blocked ? POLLIN | POLLOUT : POLLIN};
            left++;
        }
        if (left == 0) break;
        int ready = poll(fds, (nfds_t)p->set.n, 100);
        if (ready < 0 && errno != EINTR) RECO_GO(reco_fail_errno(ctx, RECO_E_IO, "poll"));
        if (ready > 0) heard = reco_now();
        for (size_t i = 0; i < p->set.n; i++) {
            pg_shard *s = &p->set.shards[i];
            if (fds[i].fd < 0) continue;
            if (reco_now() - heard > limit)
                RECO_GO(pg_fail(ctx, &p->set, s, RECO_E_IO, "no answer; is the server still up?"));
            if (fds[i].revents && !PQconsumeInput(s->conn))
                RECO_GO(pg_fail(ctx, &p->set, s, RECO_E_IO, PQerrorMessage(s->conn)));
        }
        RECO_GO(reco_progress(ctx, "adding pairs", 0, 0));
    }
    status = RECO_OK;
out:
    reco_scratch_release(ctx, mark);
    return status;
}

/* The answers of one step; all are read, so that the connections can go on. */
static reco_status answers(reco_ctx *ctx, pg_writer *p, const load *loads, ExecStatusType want)
{
    reco_status status = RECO_OK;
    for (size_t i = 0; i < p->set.n; i++) {
        pg_shard *s = &p->set.shards[i];
        if (!loads[i].rows) continue;
        for (PGresult *rows; (rows = PQgetResult(s->conn)) != NULL; PQclear(rows)) {
            ExecStatusType got = PQresultStatus(rows);
            const char *text = PQresultErrorField(rows, PG_DIAG_MESSAGE_PRIMARY);
            if (got != want && status == RECO_OK)
                status = pg_fail(ctx, &p->set, s, RECO_E_IO, text ? text : PQresultErrorMessage(rows));
            if (got == PGRES_COPY_IN) {
                PQclear(rows);
                break; /* it goes on */
            }
        }
    }
    return status;
}

static reco_status send_all(reco_ctx *ctx, pg_writer *p, const load *loads)
{
    for (size_t i = 0; i < p->set.n; i++) {
        pg_shard *s = &p->set.shards[i];
        if (loads[i].rows && (!PQexitPipelineMode(s->conn) || !PQsendQuery(s->conn, copy_sql)))
            return pg_fail(ctx, &p->set, s, RECO_E_IO, PQerrorMessage(s->conn));
    }
    RECO_TRY(settle(ctx, p, loads, true));
    RECO_TRY(answers(ctx, p, loads, PGRES_COPY_IN));
    for (size_t i = 0; i < p->set.n; i++) {
        pg_shard *s = &p->set.shards[i];
        const load *l = &loads[i];
        if (l->rows && (PQputCopyData(s->conn, (const char *)l->data, (int)l->bytes) != 1 ||
                        PQputCopyEnd(s->conn, NULL) != 1))
            return pg_fail(ctx, &p->set, s, RECO_E_IO, PQerrorMessage(s->conn));
    }
    RECO_TRY(settle(ctx, p, loads, true));
    RECO_TRY(answers(ctx, p, loads, PGRES_COMMAND_OK));
    for (size_t i = 0; i < p->set.n; i++)
        if (loads[i].rows && !PQenterPipelineMode(p->set.shards[i].conn))
            return pg_fail(ctx, &p->set, &p->set.shards[i], RECO_E_IO,
                           PQerrorMessage(p->set.shards[i].conn));
    return RECO_OK;
}

reco_status pg_append(reco_ctx *ctx, reco_bank_writer *w, const float *const x[2], const double *norms,
                      const reco_pair *pairs, size_t n)
{
    pg_writer *p = pg_writer_of(w);
    if (n == 0) return RECO_OK;
    RECO_TRY(pg_begin(ctx, p));
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status = RECO_E_NOMEM;
    size_t shards = p->set.n;
    load *loads = reco_scratch(ctx, shards, sizeof *loads, "rows");
    uint16_t *halves[2] = {reco_scratch(ctx, w->d, sizeof(uint16_t), "rows"),
                           reco_scratch(ctx, w->d, sizeof(uint16_t), "rows")};
    if (!loads || !halves[0] || !halves[1]) {
        reco_scratch_release(ctx, mark);
        return RECO_E_NOMEM;
    }
    memset(loads, 0, shards * sizeof *loads);
    for (size_t i = 0; i < n; i++) {
        int64_t id = w->next_id + (int64_t)i;
        size_t to = pg_shard_of(id, shards);
        load *l = &loads[to];
        if (l->rows == 0) {
            unsigned char *at = room(ctx, l, sizeof copy_begin);
            if (!at) goto out;
            memcpy(at, copy_begin, sizeof copy_begin);
            l->bytes += sizeof copy_begin;
        }
        for (size_t side = 0; side < 2; side++)
            reco_bank_round(halves[side], x[side] + i * w->d, w->d, norms[2 * i + side]);
        RECO_GO(put_row(ctx, l, &p->set.shards[to], id, &pairs[i], halves, w->d));
    }
    status = RECO_E_NOMEM;
    for (size_t i = 0; i < shards; i++) {
        unsigned char *at = loads[i].rows ? room(ctx, &loads[i], sizeof copy_end) : NULL;
        if (!loads[i].rows) continue;
        if (!at) goto out;
        memcpy(at, copy_end, sizeof copy_end);
        loads[i].bytes += sizeof copy_end;
    }
    RECO_GO(send_all(ctx, p, loads));
    w->next_id += (int64_t)n;
    for (size_t i = 0; i < shards; i++) p->added[i] += (int64_t)loads[i].rows;
    for (size_t i = 0; i < n; i++) RECO_GO(pg_know(ctx, p, &pairs[i]));
out:
    for (size_t i = 0; i < shards; i++) reco_free(loads[i].data);
    reco_scratch_release(ctx, mark);
    return status;
}
