#include "bank/catalog/sqlite.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* A merge fills a database that is not yet the bank's, so that it needs no fsync before the last, and makes the index when all
 * rows are in: sorting once is many times as fast as a place for each row. What is committed outlives a kill of the process, but not
 * one of the system: a system that was started since, or another one, begins anew. */

#define WORK "PRAGMA synchronous = OFF; PRAGMA cache_size = -65536; PRAGMA wal_autocheckpoint = 65536; "

/* ---- opening ---- */

/* What the system was given when it was started; NULL: not known. */
static char *read_boot(reco_ctx *ctx)
{
    char *boot;
    size_t bytes;
    if (reco_read_file(ctx, &boot, &bytes, "/proc/sys/kernel/random/boot_id", 64) != RECO_OK) return NULL;
    boot[strcspn(boot, "\n")] = 0;
    return boot;
}

static bool can_go_on(reco_ctx *ctx, reco_catalog *c, const char *job)
{
    sqlite3_stmt *s = NULL;
    bool same = false;
    char *boot = read_boot(ctx);
    if (boot && sqlite3_prepare_v2(c->db, "SELECT job = ?1 AND boot = ?2 FROM bank, merging", -1, &s,
                                   NULL) == SQLITE_OK) {
        sqlite3_bind_text(s, 1, job, -1, SQLITE_STATIC);
        sqlite3_bind_text(s, 2, boot, -1, SQLITE_STATIC);
        same = sqlite3_step(s) == SQLITE_ROW && sqlite3_column_int(s, 0) == 1;
    }
    sqlite3_finalize(s);
    reco_free(boot);
    return same;
}

/* What another merge left, or one that was killed while it began, is of no use. */
static reco_status go_on(reco_ctx *ctx, reco_catalog *c, const char *job, bool *good)
{
    reco_merge_state state;
    *good = false;
    if (!reco_path_exists(c->file)) return RECO_OK;
    RECO_TRY(reco_catalog_check_file(ctx, c->file, "", true));
    RECO_TRY(reco_catalog_check_file(ctx, c->file, "-wal", true));
    RECO_TRY(reco_catalog_check_file(ctx, c->file, "-shm", true));
    RECO_TRY(reco_catalog_connect(ctx, c, c->file, SQLITE_OPEN_READWRITE));
    reco_status status = RECO_OK;
    *good = can_go_on(ctx, c, job);
    if (*good) status = reco_catalog_merge_state(ctx, c, &state);
    *good &= status == RECO_OK;
    if (!*good) reco_catalog_disconnect(c);
    return status == RECO_E_NOMEM || status == RECO_E_IO ? status : RECO_OK;
}

static reco_status begin(reco_ctx *ctx, reco_catalog *c, const char *folder, const reco_bank_spec *spec,
                         const char *job)
{
    reco_free(c->file);
    RECO_TRY(reco_catalog_clear(ctx, folder, &c->file));
    RECO_TRY(reco_catalog_connect(ctx, c, c->file, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE));
    RECO_TRY(reco_catalog_fill(ctx, c, spec, job, false));
    RECO_TRY(reco_catalog_index(ctx, c, "pair_deleted")); /* stays empty */
    char sql[400], *boot = read_boot(ctx);
    sqlite3_snprintf(
        sizeof sql, sql,
        "BEGIN; CREATE TABLE merge_dropped(number INTEGER PRIMARY KEY, fate INTEGER, uri TEXT); "
        "CREATE TABLE merging(round INTEGER, taken INTEGER, met INTEGER, next_id INTEGER, boot TEXT); "
        "INSERT INTO merging VALUES(0, 0, 0, 0, '%q'); COMMIT",
        boot ? boot : "");
    reco_free(boot);
    return reco_catalog_exec(ctx, c, sql);
}

reco_status reco_catalog_merge_open(reco_ctx *ctx, reco_catalog **out, const char *dir,
                                    const reco_bank_spec *spec, const char *job)
{
    reco_catalog *c;
    reco_status status;
    bool good;
    *out = NULL;
    RECO_TRY(reco_catalog_new(ctx, &c));
    char *folder = realpath(dir, NULL);
    if (!folder) RECO_GO(reco_fail_errno(ctx, RECO_E_IO, "%s", dir));
    c->format = RECO_CATALOG_FORMAT;
    if (!(c->file = reco_path_join(ctx, folder, "bank.sqlite.tmp"))) RECO_GO(RECO_E_NOMEM);
    RECO_GO(go_on(ctx, c, job, &good));
    if (!good) RECO_GO(begin(ctx, c, folder, spec, job));
    RECO_GO(reco_catalog_prepare_to_write(ctx, c));
    RECO_GO(reco_catalog_exec(ctx, c, WORK));
    *out = c;
    c = NULL;
out:
    reco_catalog_close(c);
    free(folder);
    return status;
}

/* ---- taking pairs ---- */

reco_status reco_catalog_merge_state(reco_ctx *ctx, reco_catalog *c, reco_merge_state *state)
{
    sqlite3_stmt *s;
    bool row;
    int64_t round = 0;
    reco_status status;
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_MERGE_STATE, &s));
    RECO_GO(reco_catalog_step(ctx, c, s, &row));
    if (!row) RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s: table merging is empty", c->file));
    RECO_GO(reco_catalog_int(ctx, c, s, 0, "merging.round", 0, RECO_MERGE_ALL_IN, &round));
    RECO_GO(reco_catalog_int(ctx, c, s, 1, "merging.taken", 0, RECO_BANK_MAX_ID, &state->taken));
    RECO_GO(reco_catalog_int(ctx, c, s, 2, "merging.met", 0, RECO_BANK_MAX_ID, &state->met));
    RECO_GO(reco_catalog_int(ctx, c, s, 3, "merging.next_id", 0, RECO_BANK_MAX_ID, &state->next_id));
    state->round = (reco_merge_round)round;
out:
    sqlite3_reset(s);
    return status;
}

static reco_status save(reco_ctx *ctx, reco_catalog *c, const reco_merge_state *state)
{
    sqlite3_stmt *s;
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_MERGE_SAVE, &s));
    sqlite3_bind_int(s, 1, (int)state->round);
    sqlite3_bind_int64(s, 2, state->taken);
    sqlite3_bind_int64(s, 3, state->met);
    sqlite3_bind_int64(s, 4, state->next_id);
    return reco_catalog_run(ctx, c, s);
}

/* The least dropped number at or above `from`; -1: none. */
static reco_status next_dropped(reco_ctx *ctx, reco_catalog *c, int64_t from, int64_t *number)
{
    size_t n;
    RECO_TRY(reco_catalog_merge_dropped(ctx, c, from, 1, number, &n));
    if (n == 0) *number = -1;
    return RECO_OK;
}

static void note_place(reco_merge_seen *seen, const reco_pair *pair, int64_t catalog)
{
    uint64_t hash;
    if (!seen->places) return;
    if (!pair->place || seen->n == seen->room) {
        seen->unplaced |= pair->uri != NULL;
        return;
    }
    memcpy(&hash, pair->place, sizeof hash);
    seen->places[seen->n++] = hash << RECO_MERGE_CATALOG_BITS | (uint64_t)catalog;
}

static reco_status put_pairs(reco_ctx *ctx, reco_catalog *c, reco_pair_reader *reader,
                             reco_merge_state *state, reco_merge_seen *seen, int64_t total)
{
    int64_t dropped;
    RECO_TRY(next_dropped(ctx, c, state->met, &dropped));
    for (;;) {
        reco_pair *pairs;
        size_t n, from = 0;
        RECO_TRY(reco_pair_reader_next(ctx, reader, &pairs, &n));
        if (n == 0) return RECO_OK;
        for (size_t i = 0; i < n; i++) {
            if (state->met++ != dropped) {
                note_place(seen, &pairs[i], state->taken);
                pairs[i].id = state->next_id++;
                continue;
            }
            RECO_TRY(reco_catalog_put(ctx, c, pairs + from, i - from));
            from = i + 1;
            RECO_TRY(next_dropped(ctx, c, state->met, &dropped));
        }
        RECO_TRY(reco_catalog_put(ctx, c, pairs + from, n - from));
        RECO_TRY(reco_progress(ctx, "merging pairs", (uint64_t)state->met, (uint64_t)total));
    }
}

static reco_status take_pairs(reco_ctx *ctx, reco_catalog *c, reco_catalog *from, reco_merge_state *state,
                              reco_merge_seen *seen, int64_t total)
{
    reco_pair_reader *reader;
    RECO_TRY(reco_pair_reader_open(ctx, &reader, from));
    reco_status status = put_pairs(ctx, c, reader, state, seen, total);
    reco_pair_reader_close(reader);
    return status;
}

reco_status reco_catalog_merge_jobs(reco_ctx *ctx, reco_catalog *from,
                                    reco_status (*visit)(reco_ctx *ctx, void *arg, const char *job,
                                                         int64_t next),
                                    void *arg)
{
    sqlite3_stmt *s;
    reco_status status;
    RECO_TRY(reco_catalog_prepare(ctx, from, RECO_SQL_MERGE_JOBS, &s));
    for (;;) {
        bool row;
        RECO_GO(reco_catalog_step(ctx, from, s, &row));
        if (!row) break;
        RECO_GO(visit(ctx, arg, (const char *)sqlite3_column_text(s, 0), sqlite3_column_int64(s, 1)));
    }
out:
    sqlite3_reset(s);
    return status;
}

reco_status reco_catalog_merge_nameless(reco_ctx *ctx, reco_catalog *from, bool *nameless)
{
    sqlite3_stmt *s;
    bool row;
    RECO_TRY(reco_catalog_prepare(ctx, from, RECO_SQL_MERGE_NAMELESS, &s));
    reco_status status = reco_catalog_step(ctx, from, s, &row);
    *nameless = status == RECO_OK && row && sqlite3_column_int(s, 0);
    sqlite3_reset(s);
    return status;
}

static reco_status add_job(reco_ctx *ctx, void *arg, const char *job, int64_t next)
{
    reco_catalog *c = arg;
    sqlite3_stmt *s;
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_MERGE_ADD_JOB, &s));
    sqlite3_bind_text(s, 1, job, -1, SQLITE_TRANSIENT);
    sqlite3_bind_int64(s, 2, next);
    return reco_catalog_run(ctx, c, s);
}

static reco_status take(reco_ctx *ctx, reco_catalog *c, reco_catalog *from, reco_merge_state *state,
                        reco_merge_seen *seen, int64_t total)
{
    sqlite3_stmt *s;
    RECO_TRY(take_pairs(ctx, c, from, state, seen, total));
    RECO_TRY(reco_catalog_merge_jobs(ctx, from, add_job, c));
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_PUBLISH_SOURCES, &s));
    RECO_TRY(reco_catalog_run(ctx, c, s));
    RECO_TRY(reco_catalog_exec(ctx, c, "DELETE FROM temp.staged_source"));
    state->taken++;
    return save(ctx, c, state);
}

reco_status reco_catalog_merge_take(reco_ctx *ctx, reco_catalog *c, reco_catalog *from,
                                    reco_merge_state *state, reco_merge_seen *seen, int64_t total)
{
    RECO_TRY(reco_catalog_exec(ctx, c, "BEGIN IMMEDIATE"));
    return reco_catalog_end(ctx, c, take(ctx, c, from, state, seen, total));
}

/* ---- from one round to the next ---- */

static reco_status next_round(reco_ctx *ctx, reco_catalog *c, reco_merge_state *state)
{
    if (state->round == RECO_MERGE_ALL_IN) return save(ctx, c, state);
    RECO_TRY(reco_catalog_exec(ctx, c,
                               "DROP INDEX IF EXISTS pair_place; DROP INDEX IF EXISTS pair_unplaced; "
                               "DROP INDEX IF EXISTS pair_uri; DELETE FROM pair"));
    *state = (reco_merge_state){.round = RECO_MERGE_WITHOUT};
    return save(ctx, c, state);
}

reco_status reco_catalog_merge_next(reco_ctx *ctx, reco_catalog *c, reco_merge_state *state)
{
    int64_t dropped;
    RECO_TRY(next_dropped(ctx, c, 0, &dropped));
    if (state->round == RECO_MERGE_WITHOUT || dropped < 0) {
        RECO_TRY(reco_catalog_index(ctx, c, "pair_uri")); /* those for writers wait until there is one */
        state->round = RECO_MERGE_ALL_IN;
    }
    RECO_TRY(reco_catalog_exec(ctx, c, "BEGIN IMMEDIATE"));
    return reco_catalog_end(ctx, c, next_round(ctx, c, state));
}

/* ---- what was dropped ---- */

reco_status reco_catalog_merge_dropped(reco_ctx *ctx, reco_catalog *c, int64_t from, size_t max,
                                       int64_t *numbers, size_t *n)
{
    return reco_catalog_list(ctx, c, RECO_SQL_MERGE_DROPPED, from, max, numbers, n);
}

reco_status reco_catalog_merge_refused(reco_ctx *ctx, reco_catalog *c,
                                       reco_status (*visit)(reco_ctx *ctx, void *arg, int64_t number,
                                                            const char *uri),
                                       void *arg)
{
    sqlite3_stmt *s;
    reco_status status;
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_MERGE_REFUSED, &s));
    for (;;) {
        bool row;
        RECO_GO(reco_catalog_step(ctx, c, s, &row));
        if (!row) break;
        RECO_GO(visit(ctx, arg, sqlite3_column_int64(s, 0), (const char *)sqlite3_column_text(s, 1)));
    }
out:
    sqlite3_reset(s);
    return status;
}

reco_status reco_catalog_merge_counts(reco_ctx *ctx, reco_catalog *c, int64_t counts[4])
{
    sqlite3_stmt *s;
    reco_status status;
    memset(counts, 0, 4 * sizeof *counts);
    RECO_TRY(reco_catalog_prepare(ctx, c, RECO_SQL_MERGE_COUNTS, &s));
    for (;;) {
        bool row;
        RECO_GO(reco_catalog_step(ctx, c, s, &row));
        if (!row) break;
        counts[sqlite3_column_int64(s, 0) & 3] = sqlite3_column_int64(s, 1);
    }
out:
    sqlite3_reset(s);
    return status;
}

/* ---- the end ---- */

/* All is in the file and nothing in the log, which a rename would leave behind. What a merge that is killed here goes on with goes
 * last, when there is little left to be written. */
static reco_status settle(reco_ctx *ctx, reco_catalog *c)
{
    RECO_TRY(reco_catalog_exec(ctx, c,
                               "PRAGMA wal_checkpoint(TRUNCATE); DROP TABLE IF EXISTS merge_dropped; "
                               "DROP TABLE IF EXISTS merging; PRAGMA wal_checkpoint(TRUNCATE)"));
    char *log = reco_format(ctx, "%s-wal", c->file);
    if (!log) return RECO_E_NOMEM;
    reco_catalog_disconnect(c); /* the log goes with the last connection */
    bool left = reco_path_exists(log);
    reco_free(log);
    if (left) return reco_fail(ctx, RECO_E_BUSY, "%s: another program has it open", c->file);
    return reco_sync_file(ctx, c->file);
}

reco_status reco_catalog_merge_publish(reco_ctx *ctx, reco_catalog *c, const char *dir)
{
    reco_status status = settle(ctx, c);
    char *final = NULL;
    RECO_GO(status);
    if (!(final = reco_path_join(ctx, dir, "bank.sqlite"))) RECO_GO(RECO_E_NOMEM);
    if (rename(c->file, final) != 0) RECO_GO(reco_fail_errno(ctx, RECO_E_IO, "%s", final));
    status = reco_sync_dir(ctx, dir);
out:
    reco_free(final);
    reco_catalog_close(c);
    return status;
}
