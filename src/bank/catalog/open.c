#include "bank/catalog/sqlite.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_VALUE (4 << 20)     /* bytes of one string or row; ours are smaller */
#define BUSY_MILLISECONDS 10000 /* of a reader */
#define LEAST_WAIT 2            /* seconds, of a writer */
#define WRITER_CACHE "65536"    /* KiB, of the bank and of what is staged: indexes are hit at random */

/* SQLite itself would wait for ever at a named pipe, and follow a link out of the folder. A rollback journal is never
 * ours (see create), and replaying a stranger's can delete files. Nothing but SQLite ever opens these files: closing
 * one would drop the locks that SQLite holds on it elsewhere in this process. */
reco_status reco_catalog_check_file(reco_ctx *ctx, const char *file, const char *ending, bool may_exist)
{
    struct stat info;
    char *path = reco_format(ctx, "%s%s", file, ending);
    if (!path) return RECO_E_NOMEM;
    reco_status status = RECO_OK;
    if (lstat(path, &info) != 0) {
        if (errno != ENOENT) status = reco_fail_errno(ctx, RECO_E_IO, "%s", path);
    } else if (!may_exist)
        status = reco_fail(ctx, RECO_E_FORMAT,
                           "%s: was left by another program, which must finish its work", path);
    else if (!S_ISREG(info.st_mode))
        status = reco_fail(ctx, RECO_E_FORMAT, "%s: is not a regular file", path);
    reco_free(path);
    return status;
}

/* Whoever made the bank gets no more than data into our process. */
static int harden(sqlite3 *db)
{
    int rc = sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    if (!rc) rc = sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    if (!rc) rc = sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0, NULL);
    if (!rc) rc = sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    if (!rc) rc = sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
    sqlite3_limit(db, SQLITE_LIMIT_LENGTH, MAX_VALUE);
    sqlite3_limit(db, SQLITE_LIMIT_ATTACHED, 0);
    sqlite3_limit(db, SQLITE_LIMIT_WORKER_THREADS, 0);
    if (!rc) rc = sqlite3_busy_timeout(db, BUSY_MILLISECONDS);
    return rc;
}

reco_status reco_catalog_connect(reco_ctx *ctx, reco_catalog *c, const char *name, int flags)
{
    int rc = sqlite3_open_v2(name, &c->db, flags | SQLITE_OPEN_NOMUTEX, NULL);
    if (!rc) rc = harden(c->db);
    return rc ? reco_catalog_fail(ctx, c) : RECO_OK;
}

void reco_catalog_disconnect(reco_catalog *c)
{
    sqlite3_finalize(c->version);
    sqlite3_close(c->watch);
    c->version = NULL;
    c->watch = NULL;
    for (size_t i = 0; i < RECO_SQL_COUNT; i++) {
        sqlite3_finalize(c->statements[i]);
        c->statements[i] = NULL;
    }
    sqlite3_close(c->db);
    c->db = NULL;
}

/* Begin the read transaction; SQLite touches the file here and not before. */
static reco_status pin(reco_ctx *ctx, reco_catalog *c)
{
    return reco_catalog_exec(ctx, c, "BEGIN; SELECT 1 FROM sqlite_schema");
}

/* SQLite's count of what others have committed, as the watch sees it. */
static bool read_version(reco_catalog *c, int64_t *version)
{
    bool row = sqlite3_step(c->version) == SQLITE_ROW;
    if (row) *version = sqlite3_column_int64(c->version, 0);
    return sqlite3_reset(c->version) == SQLITE_OK && row;
}

/* Before the transaction begins: what is committed in between then counts as news, and is found to be none. */
static bool begin_watch(reco_catalog *c)
{
    return sqlite3_open_v2(c->file, &c->watch, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL) ==
               SQLITE_OK &&
           harden(c->watch) == SQLITE_OK &&
           sqlite3_prepare_v2(c->watch, "PRAGMA data_version", -1, &c->version, NULL) == SQLITE_OK &&
           read_version(c, &c->seen);
}

reco_status reco_catalog_changed(reco_ctx *ctx, reco_catalog *c, bool *changed)
{
    int64_t version = 0;
    struct stat info;
    *changed = stat(c->place, &info) == 0 &&
               (info.st_dev != (dev_t)c->node[0] || info.st_ino != (ino_t)c->node[1]);
    if (*changed || !c->watch) return RECO_OK;
    pthread_mutex_lock(&c->turn);
    bool good = read_version(c, &version);
    reco_status status =
        good ? RECO_OK : reco_fail(ctx, RECO_E_IO, "%s: %s", c->file, sqlite3_errmsg(c->watch));
    pthread_mutex_unlock(&c->turn);
    *changed = version != c->seen;
    return status;
}

/* "file:///path?immutable=1" with what a URI reserves escaped. */
static char *immutable_uri(reco_ctx *ctx, const char *file)
{
    char *uri = reco_alloc(ctx, 3 * strlen(file) + 32, 1, "path"), *to = uri;
    if (!uri) return NULL;
    to = stpcpy(to, "file://");
    for (; *file; file++)
        if (strchr("%?#", *file))
            to += sprintf(to, "%%%02X", (unsigned char)*file);
        else
            *to++ = *file;
    strcpy(to, "?immutable=1");
    return uri;
}

/* SQLite wants to write an index of the log beside the database, even to read. Where nobody can write there, nobody
 * changes the file either, and it may be read as it is, provided that nothing is left in the log. */
static reco_status connect_read_only(reco_ctx *ctx, reco_catalog *c, const char *dir)
{
    bool watched = begin_watch(c);
    reco_status status = reco_catalog_connect(ctx, c, c->file, SQLITE_OPEN_READONLY);
    if (status == RECO_OK) status = pin(ctx, c);
    if (status == RECO_OK && !watched)
        return reco_fail(ctx, RECO_E_IO, "%s: %s", c->file, sqlite3_errmsg(c->watch));
    if (status != RECO_E_IO || access(dir, W_OK) == 0) return status;

    struct stat log;
    char *log_path = reco_format(ctx, "%s-wal", c->file), *uri = immutable_uri(ctx, c->file);
    if (!log_path || !uri)
        status = RECO_E_NOMEM;
    else if (stat(log_path, &log) == 0 && log.st_size > 0)
        status = reco_fail(
            ctx, RECO_E_IO,
            "%s: holds changes that can't be read because the folder can't be written to; copy the bank",
            log_path);
    else {
        reco_catalog_disconnect(c);
        status = reco_catalog_connect(ctx, c, uri, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI);
        if (status == RECO_OK) status = pin(ctx, c);
    }
    reco_free(log_path);
    reco_free(uri);
    return status;
}

static reco_status read_number(reco_ctx *ctx, reco_catalog *c, const char *sql, int64_t *out)
{
    sqlite3_stmt *s = NULL;
    bool row = false;
    reco_status status = RECO_OK;
    if (sqlite3_prepare_v2(c->db, sql, -1, &s, NULL) != SQLITE_OK) return reco_catalog_fail(ctx, c);
    status = reco_catalog_step(ctx, c, s, &row);
    *out = row ? sqlite3_column_int64(s, 0) : 0;
    sqlite3_finalize(s);
    return status;
}

static reco_status check_schema(reco_ctx *ctx, reco_catalog *c)
{
    int64_t application = 0, version = 0;
    RECO_TRY(read_number(ctx, c, "PRAGMA application_id", &application));
    if (application != RECO_SQLITE_APPLICATION)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: is not a reco database", c->file);
    RECO_TRY(read_number(ctx, c, "PRAGMA user_version", &version));
    if (version > RECO_CATALOG_FORMAT)
        return reco_fail(ctx, RECO_E_UNSUPPORTED,
                         "%s: has format %lld, this version of reco reads up to %d", c->file,
                         (long long)version, RECO_CATALOG_FORMAT);

    if (version < 1)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: has format %lld, want 1..%d", c->file, (long long)version,
                         RECO_CATALOG_FORMAT);
    c->format = (int)version;

    for (const reco_sql_text *t = reco_catalog_schema; t->sql; t++) {
        bool has = true;
        if (version >= t->first && version <= t->last && !reco_catalog_is_for_writers(t->sql))
            RECO_TRY(reco_catalog_has(ctx, c, t->sql, &has));
        if (!has)
            return reco_fail(ctx, RECO_E_FORMAT, "%s: lacks \"%.30s...\" of format %lld", c->file, t->sql,
                             (long long)version);
    }
    return RECO_OK;
}

#define STAGED                                                                                             \
    "id INTEGER PRIMARY KEY, caption TEXT, uri TEXT, meta TEXT, sum INTEGER, source INTEGER, place BLOB, " \
    "content BLOB"

/* Other writers of ours are kept out by a lock of their own (lock.c); this is for programs that use SQLite alone, and for
 * the moments in which SQLite itself locks. */
reco_status reco_catalog_prepare_to_write(reco_ctx *ctx, reco_catalog *c)
{
    double wait = reco_ctx_wait(ctx) < LEAST_WAIT ? LEAST_WAIT : reco_ctx_wait(ctx);
    sqlite3_busy_timeout(c->db, wait < INT_MAX / 1000 ? (int)(1000 * wait) : INT_MAX);
    RECO_TRY(reco_catalog_exec(ctx, c,
                               "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; "
                               "PRAGMA cache_size = -" WRITER_CACHE
                               "; PRAGMA temp.cache_size = -" WRITER_CACHE
                               "; PRAGMA temp.journal_mode = MEMORY"));
    RECO_TRY(
        reco_catalog_exec(ctx, c,
                          "CREATE TEMP TABLE staged(" STAGED "); CREATE TEMP TABLE changed(" STAGED "); "
                          "CREATE TEMP TABLE touched(id INTEGER PRIMARY KEY); "
                          "CREATE TEMP TABLE staged_source(number INTEGER PRIMARY KEY, base TEXT); "
                          "CREATE TEMP TABLE staged_block(segment INTEGER, bytes INTEGER, sums BLOB)"));
    return reco_catalog_upgrade(ctx, c);
}

reco_status reco_catalog_new(reco_ctx *ctx, reco_catalog **out)
{
    pthread_mutexattr_t recursive; /* a progress hook may ask for rows while a condition runs */
    reco_catalog *c = *out = reco_alloc(ctx, 1, sizeof *c, "bank");
    if (!c) return RECO_E_NOMEM;
    pthread_mutexattr_init(&recursive);
    pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&c->turn, &recursive);
    pthread_mutexattr_destroy(&recursive);
    return RECO_OK;
}

reco_status reco_catalog_open(reco_ctx *ctx, reco_catalog **out, const char *dir, bool write)
{
    reco_catalog *c;
    *out = NULL;
    RECO_TRY(reco_catalog_new(ctx, &c));
    /* An absolute path can't be taken for one of SQLite's "file:" names. */
    char *folder = realpath(dir, NULL);
    reco_status status = RECO_E_NOMEM;
    struct stat info;
    if (!folder)
        RECO_GO(
            reco_fail_errno(ctx, errno == ENOENT ? RECO_E_NOTFOUND : RECO_E_IO, "%s: no bank there", dir));
    c->file = reco_path_join(ctx, folder, "bank.sqlite");
    c->place = reco_path_join(ctx, dir, "bank.sqlite");
    if (!c->file || !c->place) goto out;
    if (lstat(c->file, &info) != 0) {
        if (errno != ENOENT && errno != ENOTDIR) RECO_GO(reco_fail_errno(ctx, RECO_E_IO, "%s", c->file));
        RECO_GO(reco_fail(ctx, RECO_E_NOTFOUND, "%s: is not a bank: it has no bank.sqlite", dir));
    }
    c->node[0] = (uint64_t)info.st_dev;
    c->node[1] = (uint64_t)info.st_ino;
    RECO_GO(reco_catalog_check_file(ctx, c->file, "", true));
    RECO_GO(reco_catalog_check_file(ctx, c->file, "-wal", true));
    RECO_GO(reco_catalog_check_file(ctx, c->file, "-shm", true));
    RECO_GO(reco_catalog_check_file(ctx, c->file, "-journal", false));
    RECO_GO(write ? reco_catalog_connect(ctx, c, c->file, SQLITE_OPEN_READWRITE)
                  : connect_read_only(ctx, c, folder));
    RECO_GO(check_schema(ctx, c));
    if (write) RECO_GO(reco_catalog_prepare_to_write(ctx, c));
    *out = c;
    c = NULL;
out:
    reco_catalog_close(c);
    free(folder);
    return status;
}

void reco_catalog_close(reco_catalog *c)
{
    if (!c) return;
    reco_catalog_disconnect(c);
    pthread_mutex_destroy(&c->turn);
    reco_free(c->file);
    reco_free(c->place);
    reco_free(c->base);
    reco_free(c);
}

uint64_t reco_catalog_bytes(const reco_catalog *c)
{
    struct stat info;
    char log[PATH_MAX + 8];
    uint64_t bytes = stat(c->file, &info) == 0 ? (uint64_t)info.st_size : 0;
    snprintf(log, sizeof log, "%s-wal", c->file);
    return bytes + (stat(log, &info) == 0 ? (uint64_t)info.st_size : 0);
}

/* ---- creating ---- */

reco_status reco_catalog_fill(reco_ctx *ctx, reco_catalog *c, const reco_bank_spec *spec, const char *job,
                              bool indexes)
{
    char pragmas[200];
    snprintf(pragmas, sizeof pragmas,
             "PRAGMA journal_mode = MEMORY; BEGIN; PRAGMA application_id = %d; "
             "PRAGMA user_version = %d",
             RECO_SQLITE_APPLICATION, RECO_CATALOG_FORMAT);
    RECO_TRY(reco_catalog_exec(ctx, c, pragmas));
    c->format = RECO_CATALOG_FORMAT;
    for (const reco_sql_text *t = reco_catalog_schema; t->sql; t++)
        if (t->last == RECO_CATALOG_FORMAT && (indexes || strncmp(t->sql, "CREATE INDEX ", 13) != 0))
            RECO_TRY(reco_catalog_exec(ctx, c, t->sql));

    sqlite3_stmt *s = NULL;
    if (sqlite3_prepare_v2(c->db, "INSERT INTO bank VALUES(?1, ?2, ?3, ?4, ?5, ?6, 0, 0, 0)", -1, &s,
                           NULL) != 0)
        return reco_catalog_fail(ctx, c);
    sqlite3_bind_int(s, 1, RECO_CATALOG_FORMAT);
    sqlite3_bind_int64(s, 2, (int64_t)spec->d);
    sqlite3_bind_text(s, 3, spec->encoder ? spec->encoder : "", -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 4, spec->fingerprint ? spec->fingerprint : "", -1, SQLITE_STATIC);
    sqlite3_bind_double(s, 5, (double)spec->logit_scale);
    sqlite3_bind_text(s, 6, job, -1, SQLITE_STATIC);
    reco_status status = reco_catalog_run(ctx, c, s);
    sqlite3_finalize(s);
    RECO_TRY(status);
    RECO_TRY(reco_catalog_exec(ctx, c, "INSERT INTO seal VALUES(0)"));
    RECO_TRY(reco_catalog_reseal(ctx, c));
    RECO_TRY(reco_catalog_exec(ctx, c, "COMMIT"));

    if (sqlite3_prepare_v2(c->db, "PRAGMA journal_mode = WAL", -1, &s, NULL) != 0)
        return reco_catalog_fail(ctx, c);
    bool row;
    status = reco_catalog_step(ctx, c, s, &row);
    bool wal = row && sqlite3_stricmp((const char *)sqlite3_column_text(s, 0), "wal") == 0;
    sqlite3_finalize(s);
    if (status == RECO_OK && !wal)
        status =
            reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: SQLite can't keep a write-ahead log there", c->file);
    return status;
}

reco_status reco_catalog_clear(reco_ctx *ctx, const char *folder, char **file)
{
    static const char *const remains[] = {"", "-journal", "-wal", "-shm"};
    if (!(*file = reco_path_join(ctx, folder, "bank.sqlite.tmp"))) return RECO_E_NOMEM;
    for (size_t i = 0; i < sizeof remains / sizeof *remains; i++) {
        char *path = reco_format(ctx, "%s%s", *file, remains[i]);
        if (!path) return RECO_E_NOMEM;
        int rc = unlink(path);
        reco_free(path);
        if (rc != 0 && errno != ENOENT) return reco_fail_errno(ctx, RECO_E_IO, "%s", *file);
    }
    return RECO_OK;
}

/* The database is made whole under another name, so that there is no moment at which it is half one. */
reco_status reco_catalog_create(reco_ctx *ctx, const char *dir, const reco_bank_spec *spec, const char *job)
{
    reco_catalog c = {0};
    reco_status status = RECO_E_NOMEM;
    char *folder = realpath(dir, NULL), *final = NULL;
    if (!folder) RECO_GO(reco_fail_errno(ctx, RECO_E_IO, "%s", dir));
    if (!(final = reco_path_join(ctx, folder, "bank.sqlite"))) goto out;
    RECO_GO(reco_catalog_clear(ctx, folder, &c.file));
    RECO_GO(reco_catalog_connect(ctx, &c, c.file, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE));
    RECO_GO(reco_catalog_fill(ctx, &c, spec, job, true));
    reco_catalog_disconnect(&c);
    if (rename(c.file, final) != 0) RECO_GO(reco_fail_errno(ctx, RECO_E_IO, "%s", final));
    RECO_GO(reco_sync_dir(ctx, folder));
out:
    reco_catalog_disconnect(&c);
    reco_free(final);
    reco_free(c.file);
    free(folder);
    return status;
}
