/* A writer holds an advisory lock on every server and works in one transaction on each. A commit reaches all
 * servers or, if it is interrupted, only some. The next writer then resets those to the state of the slowest
 * server, so that no row is stored twice or missing. */
#include "bank/postgres/write.h"

#include <math.h>
#include <unistd.h>

#define LOCK "(hashtext('reco_bank'), hashtext(current_schema()))"

static const reco_writer_ops ops;

/* ---- statements for all ---- */

static reco_status ask_text(reco_ctx *ctx, void *arg, size_t shard, size_t i, pg_call *call)
{
    (void)ctx, (void)shard, (void)i;
    call->sql = arg;
    return RECO_OK;
}

reco_status pg_all(reco_ctx *ctx, pg_set *set, const char *sql)
{
    const pg_work work = {.calls = 1, .send = ask_text, .arg = (void *)(uintptr_t)sql, .bare = true};
    return pg_run(ctx, set, &work);
}

reco_status pg_begin(reco_ctx *ctx, pg_writer *p)
{
    if (p->begun) return RECO_OK;
    RECO_TRY(pg_all(ctx, &p->set, "BEGIN"));
    p->begun = true;
    return RECO_OK;
}

reco_status pg_commit_all(reco_ctx *ctx, pg_writer *p)
{
    RECO_TRY(pg_all(ctx, &p->set, "COMMIT"));
    p->begun = false;
    return RECO_OK;
}

/* ---- the lock ---- */

static reco_status take_lock(reco_ctx *ctx, void *arg, size_t shard, size_t i, const PGresult *rows)
{
    bool *got = arg;
    (void)ctx, (void)i;
    got[shard] = pg_get_bool(rows, 0, 0);
    return RECO_OK;
}

static reco_status ask_lock(reco_ctx *ctx, void *arg, size_t shard, size_t i, pg_call *call)
{
    (void)ctx, (void)arg, (void)shard, (void)i;
    call->sql = "SELECT pg_try_advisory_lock" LOCK;
    return RECO_OK;
}

/* All or none: two writers that hold some each would wait for one another. */
static reco_status lock(reco_ctx *ctx, pg_writer *p, bool *got)
{
    const pg_work work = {.calls = 1, .send = ask_lock, .take = take_lock, .arg = got, .bare = true};
    /* A server may notice only now that the writer before has gone. */
    for (double end = reco_now() + fmax(reco_ctx_wait(ctx), 2);;) {
        size_t busy = 0;
        RECO_TRY(pg_run(ctx, &p->set, &work));
        for (size_t i = 0; i < p->set.n; i++) busy += !got[i];
        if (busy == 0) return RECO_OK;
        RECO_TRY(pg_all(ctx, &p->set, "SELECT pg_advisory_unlock_all()"));
        if (reco_now() >= end)
            return reco_fail(ctx, RECO_E_BUSY, "%s: another process is writing to it", p->w.dir);
        RECO_TRY(reco_progress(ctx, "waiting for another writer", 0, 0));
        usleep(50000);
    }
}

/* ---- where the job stands ---- */

typedef struct standing {
    const char *job;
    struct {
        bool built, done, known;
        int64_t next, first, next_id;
        uint64_t bank; /* hash of what it was built of */
    } * at;            /* [shards] */
} standing;

static reco_status ask_standing(reco_ctx *ctx, void *arg, size_t shard, size_t i, pg_call *call)
{
    const standing *s = arg;
    (void)ctx, (void)shard, (void)i;
    call->sql = "SELECT b.job = $1, j.next, j.done, j.first, b.next_id, b.job FROM reco_bank b "
                "LEFT JOIN reco_job j ON j.key = $1";
    pg_text(call, s->job);
    return RECO_OK;
}

static reco_status take_standing(reco_ctx *ctx, void *arg, size_t shard, size_t i, const PGresult *rows)
{
    standing *s = arg;
    (void)ctx, (void)i;
    s->at[shard].built = pg_get_bool(rows, 0, 0);
    s->at[shard].known = !PQgetisnull(rows, 0, 1);
    s->at[shard].next = pg_get_int(rows, 0, 1);
    s->at[shard].done = pg_get_bool(rows, 0, 2);
    s->at[shard].first = PQgetisnull(rows, 0, 3) ? -1 : pg_get_int(rows, 0, 3);
    s->at[shard].next_id = pg_get_int(rows, 0, 4);
    s->at[shard].bank = reco_hash64(PQgetvalue(rows, 0, 5), (size_t)PQgetlength(rows, 0, 5), 0);
    return RECO_OK;
}

typedef struct retreat {
    int64_t next_id, numbers[2];
} retreat;

static reco_status ask_retreat(reco_ctx *ctx, void *arg, size_t shard, size_t i, pg_call *call)
{
    retreat *r = arg;
    (void)ctx, (void)shard, (void)i;
    call->sql = "WITH gone AS (DELETE FROM reco_pair WHERE id >= $1::int8 RETURNING 1) UPDATE reco_bank "
                "SET next_id = "
                "$1::int8, rows = rows - (SELECT count(*) FROM gone), changes = changes + 1";
    pg_int(call, r->numbers, r->next_id);
    return RECO_OK;
}

/* A commit that was cut off between two servers: back to the one that is least far. */
static reco_status reconcile(reco_ctx *ctx, pg_writer *p, standing *s, size_t *least)
{
    *least = 0;
    /* Else rows of the one would be taken back since the other has fewer. */
    for (size_t i = 1; i < p->set.n; i++)
        if (s->at[i].bank != s->at[0].bank)
            return reco_fail(ctx, RECO_E_MISMATCH,
                             "%s: was built from other pairs than %s; they belong to two banks",
                             p->set.shards[i].label, p->set.shards[0].label);
    reco_mark mark = reco_scratch_mark(ctx);
    size_t *calls = reco_scratch(ctx, p->set.n, sizeof *calls, "servers");
    if (!calls) return RECO_E_NOMEM;
    for (size_t i = 1; i < p->set.n; i++)
        if (s->at[i].next_id < s->at[*least].next_id ||
            (s->at[i].next_id == s->at[*least].next_id &&
             (s->at[i].next < s->at[*least].next || s->at[i].done < s->at[*least].done)))
            *least = i;
    retreat r = {.next_id = s->at[*least].next_id};
    bool any = false;
    for (size_t i = 0; i < p->set.n; i++) any |= (calls[i] = s->at[i].next_id > r.next_id) != 0;
    const pg_work work = {.per_shard = calls, .send = ask_retreat, .arg = &r, .bare = true};
    reco_status status = any ? pg_run(ctx, &p->set, &work) : RECO_OK;
    reco_scratch_release(ctx, mark);
    return status;
}

/* ---- open ---- */

static reco_status stand(reco_ctx *ctx, pg_writer *p, const reco_bank_spec *spec, const char *job,
                         const reco_bank_info *info, uint64_t *next, int *done)
{
    reco_bank_writer *w = &p->w;
    size_t least = 0;
    standing s = {.job = job, .at = reco_scratch(ctx, p->set.n, sizeof *s.at, "servers")};
    if (!s.at) return RECO_E_NOMEM;
    const pg_work work = {.calls = 1, .send = ask_standing, .take = take_standing, .arg = &s, .bare = true};
    RECO_TRY(pg_run(ctx, &p->set, &work));
    if (spec) RECO_TRY(reco_bank_check_same(ctx, w->dir, spec, info, s.at[0].built));
    RECO_TRY(reconcile(ctx, p, &s, &least));
    bool resumes = s.at[least].known && (spec || *job);
    *next = resumes ? (uint64_t)s.at[least].next : 0;
    *done = resumes && s.at[least].done;
    w->d = info->d;
    w->next_id = w->committed = w->first = s.at[least].next_id;
    if (!*done && resumes && s.at[least].first >= 0 && s.at[least].first <= w->next_id)
        w->first = s.at[least].first;
    else if (!*done && s.at[least].built)
        w->first = 0;
    w->keeps_first = w->first > 0 || !s.at[least].built;
    w->job = spec || *job ? reco_strdup(ctx, job) : NULL;
    p->builds = s.at[least].built;
    return w->job || !(spec || *job) ? RECO_OK : RECO_E_NOMEM;
}

static reco_status open_writer(reco_ctx *ctx, pg_writer *p, const char *urls, const reco_bank_spec *spec,
                               const char *job, uint64_t *next, int *done)
{
    reco_bank_info info;
    int64_t changes;
    RECO_TRY(pg_set_begin(ctx, &p->set, urls));
    p->added = reco_alloc(ctx, p->set.n, sizeof *p->added, "servers");
    bool *got = reco_scratch(ctx, p->set.n, sizeof *got, "servers");
    if (!p->added || !got) return RECO_E_NOMEM;
    RECO_TRY(pg_connect(ctx, &p->set));
    RECO_TRY(lock(ctx, p, got));
    reco_status status = pg_look(ctx, &p->set, &info, &changes, NULL);
    if (spec && (status == RECO_E_NOTFOUND || status == RECO_E_UNSUPPORTED)) {
        RECO_TRY(pg_create(ctx, &p->set, spec, job));
        status = pg_look(ctx, &p->set, &info, &changes, NULL);
    }
    RECO_TRY(status);
    for (size_t i = 0; i < p->set.n; i++)
        if (!p->set.shards[i].is_ours)
            return reco_fail(
                ctx, RECO_E_UNSUPPORTED,
                "%s: reco_pair belongs to another program, and reco only reads it; write with that program",
                p->set.shards[i].label);
    return stand(ctx, p, spec, job, &info, next, done);
}

reco_status reco_pg_writer_open(reco_ctx *ctx, reco_bank_writer **out, const char *urls,
                                const reco_bank_spec *spec, const char *job, uint64_t *next, int *done)
{
    *out = NULL;
    pg_writer *p = reco_alloc(ctx, 1, sizeof *p, "bank writer");
    if (!p) return RECO_E_NOMEM;
    p->w.ops = &ops;
    p->w.lock = -1;
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status = RECO_E_NOMEM;
    if ((p->w.dir = reco_strdup(ctx, urls))) /* messages hide what is in it */
        status = open_writer(ctx, p, urls, spec, job, next, done);
    reco_scratch_release(ctx, mark);
    if (status == RECO_OK)
        *out = &p->w;
    else
        reco_bank_writer_close(&p->w);
    return status;
}

static void close_writer(reco_bank_writer *w)
{
    pg_writer *p = pg_writer_of(w);
    pg_set_end(&p->set); /* which rolls back, and unlocks */
    pg_drop_changes(p);
    reco_free(p->changes);
    reco_free(p->touched);
    reco_free(p->known.hashes);
    reco_free(p->added);
    reco_free(w->job);
    reco_free(w->key);
    reco_free(w->dir);
    reco_free(p);
}

/* ---- commit ---- */

typedef struct committing {
    pg_writer *p;
    uint64_t next;
    bool done;
    int64_t numbers[4];
} committing;

static reco_status ask_commit(reco_ctx *ctx, void *arg, size_t shard, size_t i, pg_call *call)
{
    committing *c = arg;
    const reco_bank_writer *w = &c->p->w;
    (void)ctx;
    if (i == 0) {
        call->sql = "UPDATE reco_bank SET next_id = $1::int8, rows = rows + $2::int8, changes = changes + "
                    "1, complete = "
                    "complete OR $3::bool";
        pg_int(call, &c->numbers[0], w->next_id);
        pg_int(call, &c->numbers[1], c->p->added[shard]);
        pg_text(call, c->done && c->p->builds ? "t" : "f");
        return RECO_OK;
    }
    call->sql = "INSERT INTO reco_job(key, next, done, first) VALUES($1, $2::int8, $3::bool, $4::int8) ON "
                "CONFLICT(key) DO "
                "UPDATE SET next = excluded.next, done = excluded.done, first = excluded.first";
    pg_text(call, w->job);
    pg_int(call, &c->numbers[2], (int64_t)c->next);
    pg_text(call, c->done ? "t" : "f");
    if (w->keeps_first && !c->done)
        pg_int(call, &c->numbers[3], w->first);
    else
        pg_text(call, NULL);
    return RECO_OK;
}

static reco_status commit(reco_ctx *ctx, reco_bank_writer *w, uint64_t next, bool done)
{
    pg_writer *p = pg_writer_of(w);
    committing c = {.p = p, .next = next, .done = done};
    const pg_work work = {.calls = w->job ? 2 : 1, .send = ask_commit, .arg = &c, .bare = true};
    RECO_TRY(pg_begin(ctx, p));
    RECO_TRY(pg_send_changes(ctx, p));
    RECO_TRY(pg_run(ctx, &p->set, &work));
    RECO_TRY(pg_commit_all(ctx, p));
    memset(p->added, 0, p->set.n * sizeof *p->added);
    w->committed = w->next_id;
    w->changed = false;
    return RECO_OK;
}

static reco_status discard(reco_ctx *ctx, reco_bank_writer *w)
{
    return pg_all(ctx, &pg_writer_of(w)->set, "DROP TABLE reco_pair, reco_bank, reco_job");
}

static const reco_writer_ops ops = {
    .append = pg_append,
    .change = pg_change_row,
    .seek = pg_seek,
    .touch = pg_touch,
    .key_by = pg_key_by,
    .seek_key = pg_seek_key,
    .add_key = pg_add_key,
    .seek_content = pg_seek_content,
    .gather = pg_writer_gather,
    .get = pg_writer_get,
    .commit = commit,
    .discard = discard,
    .close = close_writer,
};
