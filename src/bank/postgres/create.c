#include "bank/postgres/write.h"

#include <stdlib.h>

#define INLINE_BYTES 6000 /* of both vectors of a row, that fit into its page */

static const char *const statements[] = {
    "BEGIN",
    "CREATE EXTENSION IF NOT EXISTS vector",
    "CREATE TABLE IF NOT EXISTS reco_bank(format int NOT NULL, d int NOT NULL, encoder text NOT NULL, "
    "fingerprint text NOT NULL, logit_scale float8 NOT NULL, job text NOT NULL, next_id int8 NOT NULL, "
    "rows int8 NOT NULL, changes int8 NOT NULL, complete bool NOT NULL, recall jsonb)",
    "CREATE TABLE IF NOT EXISTS reco_job(key text PRIMARY KEY, next int8 NOT NULL, done bool NOT NULL, "
    "first int8)",
    /* The vectors' type is known to the server alone: DO has no parameters, so they are in its text. */
    "DO $do$DECLARE type text := CASE WHEN to_regtype('halfvec') IS NULL THEN 'vector' ELSE 'halfvec' END; "
    "BEGIN IF to_regclass('reco_pair') IS NULL THEN EXECUTE format('CREATE TABLE reco_pair(id int8 PRIMARY "
    "KEY, "
    "caption text NOT NULL, uri text, meta jsonb, base text, place bytea, content bytea, "
    "image %%s(%%s) NOT NULL, text %%s(%%s) NOT NULL)', type, %zu, type, %zu); "
    "IF (%zu * CASE type WHEN 'vector' THEN 8 ELSE 4 END <= %d) THEN "
    "ALTER TABLE reco_pair ALTER image SET STORAGE PLAIN, ALTER text SET STORAGE PLAIN; END IF; "
    "CREATE INDEX ON reco_pair(place) WHERE place IS NOT NULL; "
    "CREATE INDEX ON reco_pair(content) WHERE content IS NOT NULL; "
    "CREATE INDEX ON reco_pair(md5(uri)) WHERE uri IS NOT NULL; END IF; END$do$",
    "INSERT INTO reco_bank SELECT 1, $1::int8, $2, $3, $4::float8, $5, 0, 0, 0, false, NULL "
    "WHERE NOT EXISTS (SELECT 1 FROM reco_bank)",
    "COMMIT",
};
enum { STATEMENTS = sizeof statements / sizeof *statements, TABLE = 4, SETTINGS = 5 };

typedef struct creation {
    const reco_bank_spec *spec;
    const char *job;
    char *table, scale[32];
    int64_t d;
} creation;

static reco_status ask(reco_ctx *ctx, void *arg, size_t shard, size_t i, pg_call *call)
{
    creation *c = arg;
    (void)ctx, (void)shard;
    call->sql = i == TABLE ? c->table : statements[i];
    if (i != SETTINGS) return RECO_OK;
    pg_int(call, &c->d, (int64_t)c->spec->d);
    pg_text(call, c->spec->encoder ? c->spec->encoder : "");
    pg_text(call, c->spec->fingerprint ? c->spec->fingerprint : "");
    pg_text(call, c->scale);
    pg_text(call, c->job);
    return RECO_OK;
}

/* A name that is not there is no error within DO, which is planned when it runs. */
static reco_status ask_next(reco_ctx *ctx, void *arg, size_t shard, size_t i, pg_call *call)
{
    (void)ctx, (void)arg, (void)shard;
    call->sql = i == 0
                    ? "DO $do$BEGIN PERFORM set_config('reco.next', CASE WHEN to_regclass('reco_bank') IS "
                      "NULL THEN '-1' ELSE '0' END, false); IF to_regclass('reco_bank') IS NOT NULL THEN "
                      "PERFORM set_config('reco.next', (SELECT max(next_id)::text FROM reco_bank), false); "
                      "END IF; END$do$"
                    : "SELECT coalesce(nullif(current_setting('reco.next'), ''), '0')::int8";
    return RECO_OK;
}

static reco_status take_next(reco_ctx *ctx, void *arg, size_t shard, size_t i, const PGresult *rows)
{
    (void)ctx;
    if (i == 1) ((int64_t *)arg)[shard] = pg_get_int(rows, 0, 0);
    return RECO_OK;
}

/* Rows are committed only once every server has its tables. A server without tables beside one with rows has lost its own, and
 * the writer would take the rows of the others for a commit that was cut off. */
static reco_status check_none_lost(reco_ctx *ctx, pg_set *set)
{
    int64_t *next = reco_scratch(ctx, set->n, sizeof *next, "servers");
    if (!next) return RECO_E_NOMEM;
    const pg_work work = {.calls = 2, .send = ask_next, .take = take_next, .arg = next, .bare = true};
    RECO_TRY(pg_run(ctx, set, &work));
    for (size_t i = 0; i < set->n; i++)
        for (size_t j = 0; j < set->n; j++)
            if (next[i] < 0 && next[j] > 0)
                return reco_fail(
                    ctx, RECO_E_MISMATCH,
                    "%s: has no tables of a bank, but %s has rows of one; restore the former, or "
                    "build into databases without tables",
                    set->shards[i].label, set->shards[j].label);
    return RECO_OK;
}

reco_status pg_create(reco_ctx *ctx, pg_set *set, const reco_bank_spec *spec, const char *job)
{
    creation c = {.spec = spec, .job = job};
    if (spec->d > 16000)
        return reco_fail(ctx, RECO_E_UNSUPPORTED, "bank: d = %zu, want at most 16000 on a server", spec->d);
    RECO_TRY(check_none_lost(ctx, set));
    snprintf(c.scale, sizeof c.scale, "%.9g", (double)spec->logit_scale);
    c.table = reco_format(ctx, statements[TABLE], spec->d, spec->d, spec->d, INLINE_BYTES);
    if (!c.table) return RECO_E_NOMEM;
    const pg_work work = {.calls = STATEMENTS, .send = ask, .arg = &c, .bare = true};
    reco_status status = pg_run(ctx, set, &work);
    reco_free(c.table);
    return status;
}
