/* Writers that die, writers that meet, folders that can't be written. */
#include "bank_test.h"

#include <dirent.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define D 8

static size_t count_files(const char *path)
{
    char vectors[300];
    snprintf(vectors, sizeof vectors, "%s/vectors", path);
    DIR *stream = opendir(vectors);
    assert_non_null(stream);
    size_t n = 0;
    while (readdir(stream)) n++;
    closedir(stream);
    return n - 2; /* "." and ".." */
}

/* Every committed row is whole and in its place; sweep done: no file beside those of the bank. Returns its rows. */
static int64_t verify(const char *path, bool swept)
{
    reco_bank *bank;
    ok(reco_bank_open(ctx, &bank, path));
    reco_bank_info info = *reco_bank_get_info(bank);
    assert_int_equal(info.next_id, info.rows);
    for (int64_t id = 0; id < info.rows; id++) assert_numbered(bank, id, (uint64_t)id);
    reco_bank_close(bank);
    if (swept) assert_int_equal(count_files(path), info.segments);
    return info.rows;
}

/* Go on with the job until `total` rows are in, a few rows a commit. */
static void build(const char *path, uint64_t total, uint64_t seed)
{
    reco_bank_spec spec = {.d = D};
    reco_bank_writer *w;
    uint64_t next;
    int done;
    reco_rng rng;
    reco_rng_seed(&rng, seed);
    ok(reco_bank_writer_open(ctx, &w, path, &spec, "job", &next, &done));
    while (next < total) {
        size_t n = reco_min(1 + reco_rng_below(&rng, 9), total - next), half = n / 2;
        if (half) append_numbered(w, D, next, half);
        append_numbered(w, D, next + half, n - half);
        next += n;
        ok(reco_bank_commit(ctx, w, next, next == total));
    }
    reco_bank_writer_close(w);
}

static void wait_for(pid_t child, int want_signal)
{
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status))
        assert_int_equal(WTERMSIG(status), want_signal);
    else
        assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_kill(void **state)
{
    (void)state;
    enum { TOTAL = 800, KILLS = 20 };
    char path[100], database[120];
    snprintf(path, sizeof path, "%s/bank", folder);
    snprintf(database, sizeof database, "%s/bank.sqlite", path);
    reco_rng rng;
    reco_rng_seed(&rng, 1);
    int64_t last = 0;
    for (int i = 0; i < KILLS; i++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            build(path, TOTAL, (uint64_t)i);
            _exit(0);
        }
        usleep((useconds_t)(1000 + reco_rng_below(&rng, i < 8 ? 20000 : 100000)));
        kill(child, SIGKILL);
        wait_for(child, SIGKILL);
        if (!reco_path_exists(database)) continue; /* killed before it began */
        int64_t rows = verify(path, false);
        assert_true(rows >= last);
        last = rows;
    }
    build(path, TOTAL, 99);
    assert_int_equal(verify(path, true), TOTAL);
}

#define CROWD 17000 /* rows in one commit, for which indexes are made anew */

static int64_t ask(const char *path, const char *sql)
{
    sqlite3 *db;
    sqlite3_stmt *s;
    char database[300];
    snprintf(database, sizeof database, "%s/bank.sqlite", path);
    assert_int_equal(sqlite3_open_v2(database, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &s, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    int64_t value = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    sqlite3_close(db);
    return value;
}

/* All of a place and a content, each fourth without a uri, so that indexes differ in length. */
static void append_crowd(reco_bank_writer *w, uint64_t from, size_t n)
{
    static float x[CROWD][D];
    static reco_pair pairs[CROWD];
    static char uris[CROWD][32];
    static unsigned char places[CROWD][RECO_BANK_HASH];
    for (size_t i = 0; i < n; i++) {
        uint64_t hash = reco_hash64(&(uint64_t){from + i}, 8, 0);
        memset(x[i], 0, sizeof x[i]);
        x[i][i % D] = 1;
        memset(places[i], 0, RECO_BANK_HASH);
        memcpy(places[i], &hash, sizeof hash);
        snprintf(uris[i], sizeof uris[i], "%016llx.jpg", (unsigned long long)hash);
        pairs[i] = (reco_pair){.caption = uris[i],
                               .uri = i % 4 ? uris[i] : NULL,
                               .place = i % 4 ? places[i] : NULL,
                               .content = places[i]};
    }
    ok(reco_bank_append(ctx, w, x[0], x[0], pairs, n));
}

static void build_crowd(const char *path, uint64_t total)
{
    reco_bank_spec spec = {.d = D};
    reco_bank_writer *w;
    uint64_t next;
    int done;
    ok(reco_bank_writer_open(ctx, &w, path, &spec, "crowd", &next, &done));
    for (; next < total; next += CROWD) {
        append_crowd(w, next, CROWD);
        ok(reco_bank_commit(ctx, w, next + CROWD, next + CROWD == total));
    }
    reco_bank_writer_close(w);
}

/* Whole, with all entries of all indexes. Returns the rows. */
static int64_t verify_crowd(const char *path)
{
    reco_bank *bank;
    ok(reco_bank_open(ctx, &bank, path)); /* which looks for every index */
    int64_t rows = reco_bank_get_info(bank)->rows;
    reco_bank_close(bank);
    assert_int_equal(rows % CROWD, 0);
    assert_int_equal(ask(path, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'"),
                     0);
    assert_int_equal(
        ask(path, "SELECT count(*) FROM pair INDEXED BY pair_content WHERE content IS NOT NULL"), rows);
    assert_int_equal(ask(path, "SELECT count(*) FROM pair INDEXED BY pair_place WHERE place IS NOT NULL"),
                     rows / 4 * 3);
    assert_int_equal(ask(path, "SELECT count(*) FROM pair INDEXED BY pair_uri WHERE uri IS NOT NULL"),
                     rows / 4 * 3);
    return rows;
}

static void test_kill_sorting(void **state)
{
    (void)state;
    enum { TOTAL = 5 * CROWD, KILLS = 10 };
    reco_rng rng;
    reco_rng_seed(&rng, 2);
    int64_t last = 0;
    for (int i = 0; i < KILLS; i++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            build_crowd(in("bank"), TOTAL);
            _exit(0);
        }
        usleep((useconds_t)(1000 + reco_rng_below(&rng, 200000)));
        kill(child, SIGKILL);
        wait_for(child, SIGKILL);
        if (!reco_path_exists(in("bank/bank.sqlite"))) continue;
        int64_t rows = verify_crowd(in("bank"));
        assert_true(rows >= last);
        last = rows;
    }
    build_crowd(in("bank"), TOTAL);
    assert_int_equal(verify_crowd(in("bank")), TOTAL);
}

/* Many rows make their indexes anew; few among many do not. */
static void test_sorting(void **state)
{
    (void)state;
    build_crowd(in("bank"), CROWD);
    int64_t first = ask(in("bank"), "PRAGMA schema_version"), second;
    reco_bank_writer *w;
    uint64_t next;
    int done;
    ok(reco_bank_writer_open(ctx, &w, in("bank"), NULL, "more", &next, &done));
    append_crowd(w, CROWD, CROWD);
    ok(reco_bank_commit(ctx, w, CROWD, 0));
    second = ask(in("bank"), "PRAGMA schema_version");
    assert_true(second > first);
    append_crowd(w, 2 * CROWD, 1000);
    ok(reco_bank_commit(ctx, w, CROWD + 1000, 1));
    reco_bank_writer_close(w);
    assert_int_equal(ask(in("bank"), "PRAGMA schema_version"), second);
    reco_bank_health health;
    ok(reco_bank_verify(ctx, in("bank"), NULL, NULL, &health));
    assert_int_equal(health.problems, 0);
}

typedef enum moment { OPENED, APPENDED, FLUSHED, COMMITTED, APPENDED_AGAIN, CLOSED, MOMENTS } moment;

/* _exit at a known moment: the bank is that of the last commit. */
static void test_exit(void **state)
{
    (void)state;
    for (int m = OPENED; m < MOMENTS; m++) {
        char path[100];
        snprintf(path, sizeof path, "%s/%d", folder, m);
        pid_t child = fork();
        if (child == 0) {
            reco_bank_spec spec = {.d = D};
            reco_bank_writer *w;
            uint64_t next;
            int done;
            ok(reco_bank_writer_open(ctx, &w, path, &spec, "job", &next, &done));
            if (m == OPENED) _exit(0);
            append_numbered(w, D, 0, 20);
            if (m == APPENDED) _exit(0);
            ok(reco_bank_writer_flush(ctx, w));
            if (m == FLUSHED) _exit(0);
            ok(reco_bank_commit(ctx, w, 20, 0));
            if (m == COMMITTED) _exit(0);
            append_numbered(w, D, 20, 20);
            ok(reco_bank_writer_flush(ctx, w));
            if (m == APPENDED_AGAIN) _exit(0);
            reco_bank_writer_close(w);
            _exit(0);
        }
        wait_for(child, 0);
        assert_int_equal(verify(path, m == COMMITTED || m == CLOSED), m >= COMMITTED ? 20 : 0);
        build(path, 50, 3);
        assert_int_equal(verify(path, true), 50);
    }
}

static void test_sweep(void **state)
{
    (void)state;
    build(in("bank"), 10, 1);
    reco_bank *reader; /* keeps the log alive */
    ok(reco_bank_open(ctx, &reader, in("bank")));
    ok(reco_write_file(ctx, in("bank/vectors/segment-000099.safetensors"), "x", 1));
    ok(reco_write_file(ctx, in("bank/vectors/segment-000000.safetensors.bak"), "x", 1));
    ok(reco_write_file(ctx, in("bank/vectors/.segment-000000.safetensors.tmp-1-0"), "x", 1));
    ok(reco_write_file(ctx, in("bank/vectors/notes.txt"), "x", 1));
    ok(reco_bank_delete(ctx, in("bank"), &(reco_bank_rows){0}, NULL, NULL));
    assert_false(reco_path_exists(in("bank/vectors/segment-000099.safetensors")));
    assert_false(reco_path_exists(in("bank/vectors/segment-000000.safetensors.bak")));
    assert_false(reco_path_exists(in("bank/vectors/.segment-000000.safetensors.tmp-1-0")));
    assert_true(reco_path_exists(in("bank/vectors/notes.txt")));
    assert_int_equal(verify(in("bank"), false), 10);
    reco_bank_close(reader);
}

static void test_busy(void **state)
{
    (void)state;
    build(in("bank"), 10, 1);
    int started[2], finish[2];
    assert_int_equal(pipe(started), 0);
    assert_int_equal(pipe(finish), 0);
    pid_t child = fork();
    if (child == 0) {
        reco_bank_writer *w;
        uint64_t next;
        int done;
        char c = 0;
        ok(reco_bank_writer_open(ctx, &w, in("bank"), NULL, "more", &next, &done));
        assert_int_equal(write(started[1], &c, 1), 1);
        assert_int_equal(read(finish[0], &c, 1), 1);
        _exit(0);
    }
    char c, who[40];
    reco_bank_writer *w;
    uint64_t next;
    int done;
    int64_t id = 1;
    snprintf(who, sizeof who, "process %ld ", (long)child);
    assert_int_equal(read(started[0], &c, 1), 1);
    refused(RECO_E_BUSY, who, reco_bank_writer_open(ctx, &w, in("bank"), NULL, "more", &next, &done));
    refused(RECO_E_BUSY, who,
            reco_bank_delete(ctx, in("bank"), &(reco_bank_rows){.ids = &id, .nids = 1}, NULL, NULL));
    assert_int_equal(verify(in("bank"), true), 10); /* readers don't mind */
    assert_int_equal(write(finish[1], &c, 1), 1);
    wait_for(child, 0);

    ok(reco_bank_writer_open(ctx, &w, in("bank"), NULL, "more", &next, &done));
    reco_bank_writer *second; /* the same process may not write twice either */
    refused(RECO_E_BUSY, "process",
            reco_bank_writer_open(ctx, &second, in("bank"), NULL, "b", &next, &done));
    reco_bank_writer_close(w);
    for (int i = 0; i < 2; i++) close(started[i]), close(finish[i]);
}

/* Root may write anywhere, so the reader is nobody. */
static void as_nobody(void (*body)(void))
{
    pid_t child = fork();
    if (child == 0) {
        if (geteuid() == 0 && setuid(65534) != 0) _exit(1);
        body();
        _exit(0);
    }
    wait_for(child, 0);
}

static void read_10(void) { assert_int_equal(verify(in("bank"), true), 10); }
static void read_15(void) { assert_int_equal(verify(in("bank"), true), 15); }

static void fail_to_write(void)
{
    reco_bank_writer *w;
    uint64_t next;
    int done;
    int64_t id = 1;
    refused(RECO_E_IO, "writer.lock: Permission denied",
            reco_bank_writer_open(ctx, &w, in("bank"), NULL, "more", &next, &done));
    refused(RECO_E_IO, "Permission denied",
            reco_bank_delete(ctx, in("bank"), &(reco_bank_rows){.ids = &id, .nids = 1}, NULL, NULL));
    reco_bank_spec spec = {.d = D};
    refused(RECO_E_IO, "Permission denied",
            reco_bank_writer_open(ctx, &w, in("bank/new"), &spec, "more", &next, &done));
}

static void fail_to_read(void)
{
    reco_bank *bank;
    refused(RECO_E_IO, "copy the bank", reco_bank_open(ctx, &bank, in("bank")));
}

static void test_read_only(void **state)
{
    (void)state;
    build(in("bank"), 10, 1);
    assert_int_equal(chmod(folder, 0755), 0);
    assert_int_equal(chmod(in("bank"), 0555), 0);
    as_nobody(read_10);
    as_nobody(fail_to_write);

    /* What a crash left in the log is part of the bank, and can't be read without its index. */
    assert_int_equal(chmod(in("bank"), 0755), 0);
    pid_t child = fork();
    if (child == 0) {
        reco_bank_writer *w;
        uint64_t next;
        int done;
        ok(reco_bank_writer_open(ctx, &w, in("bank"), NULL, "more", &next, &done));
        append_numbered(w, D, 10, 5);
        ok(reco_bank_commit(ctx, w, 5, 1));
        _exit(0);
    }
    wait_for(child, 0);
    unlink(in("bank/bank.sqlite-shm"));
    assert_int_equal(chmod(in("bank"), 0555), 0);
    as_nobody(fail_to_read);
    assert_int_equal(chmod(in("bank"), 0755), 0);
    assert_int_equal(verify(in("bank"), true), 15);
    assert_int_equal(chmod(in("bank"), 0555),
                     0); /* now with the log's index, which nobody may read but not write */
    as_nobody(read_15);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_kill),  TEST(test_exit), TEST(test_kill_sorting), TEST(test_sorting),
        TEST(test_sweep), TEST(test_busy), TEST(test_read_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
