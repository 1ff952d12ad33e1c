/* Banks made or damaged by someone who means harm cost an error message, nothing else. */
#include "bank_test.h"

#include <sys/stat.h>

static const char *fresh(void)
{
    static char path[100];
    static int turn;
    char copy[300];
    if (!reco_path_exists(in("original"))) build_numbered(in("original"), 4, 6, 2);
    snprintf(path, sizeof path, "%s/bank-%d", folder, turn++);
    snprintf(copy, sizeof copy, "cp -r %s %s", in("original"), path);
    assert_int_equal(system(copy), 0);
    return path;
}

/* Of a bank on which `text` was run. */
static void assert_refused(const char *text, reco_status status, const char *part)
{
    reco_bank *bank;
    const char *path = fresh();
    char file[200];
    snprintf(file, sizeof file, "%s/bank.sqlite", path);
    sql(file, text);
    refused(status, part, reco_bank_open(ctx, &bank, path));
    assert_null(bank);
}

static void test_tables(void **state)
{
    (void)state;
    static const struct {
        const char *sql, *message;
    } bad[] = {
        {"PRAGMA application_id = 1", "not a reco database"},
        {"UPDATE bank SET format = 0", "bank.format = 0"},
        {"UPDATE bank SET d = 0", "bank.d = 0"},
        {"UPDATE bank SET d = 65537", "bank.d = 65537"},
        {"UPDATE bank SET d = 9223372036854775807", "bank.d = 9223372036854775807"},
        {"UPDATE bank SET d = 5", "want [3,5]"},
        {"UPDATE bank SET encoder = hex(zeroblob(200))", "bank.encoder"},
        {"UPDATE bank SET fingerprint = 'a' || char(0)", "bank.fingerprint"},
        {"UPDATE bank SET logit_scale = -1", "bank.logit_scale"},
        {"UPDATE bank SET logit_scale = 9e999", "bank.logit_scale"},
        {"UPDATE bank SET next_id = -1", "bank.next_id = -1"},
        {"UPDATE bank SET next_id = 5", "ends with id 5"},
        {"UPDATE bank SET next_id = 9223372036854775807", "bank.next_id"},
        {"UPDATE bank SET deleted = 1", "0 pairs are deleted"},
        {"UPDATE bank SET deleted = 7", "bank.deleted = 7"},
        {"UPDATE bank SET deleted = -1", "bank.deleted = -1"},
        {"UPDATE pair SET deleted = 1; UPDATE bank SET deleted = 1", "more than bank.deleted"},
        {"UPDATE job SET done = 2", "job.done = 2"},
        {"DELETE FROM bank", "bank is empty"},
        {"INSERT INTO bank SELECT * FROM bank", "several rows"},
        {"UPDATE segment SET number = -1 WHERE number = 0", "segment.number = -1"},
        {"UPDATE segment SET number = 7 WHERE number = 1", "want segment-000007"},
        {"UPDATE segment SET first = -3 WHERE number = 0", "segment.first = -3"},
        {"UPDATE segment SET first = 2 WHERE number = 1", "segment.first = 2"},
        {"UPDATE segment SET first = 9223372036854775807 WHERE number = 1", "segment.first"},
        {"UPDATE segment SET rows = 0", "segment.rows = 0"},
        {"UPDATE segment SET rows = 2", "want [2,4]"},
        {"UPDATE segment SET rows = 4611686018427387902 WHERE number = 1", "segment.rows"},
        {"UPDATE segment SET rows = 4611686018427387900 WHERE number = 1", "want [4611686018427387900,4]"},
        {"UPDATE segment SET file = '../../../etc/passwd'", "want segment-000000"},
        {"UPDATE segment SET file = '/etc/passwd'", "want segment-000000"},
        {"UPDATE segment SET file = hex(zeroblob(1000000))", "segment.file"},
        {"UPDATE segment SET bytes = bytes + 1", "bytes, want"},
        {"UPDATE segment SET bytes = -1", "segment.bytes"},
        {"DELETE FROM segment", "no vectors"},
        {"DELETE FROM segment WHERE number = 0", "vectors 3..5"},
        {"DELETE FROM segment WHERE number = 1", "vectors 0..2"},
        {"DELETE FROM pair", "no pairs"},
        {"DELETE FROM pair WHERE id = 0", "pairs 1..5"},
        {"DELETE FROM pair WHERE id = 5", "pairs 0..4"},
        {"UPDATE pair SET id = -7 WHERE id = 0", "pair.id = -7"},
        {"INSERT INTO pair VALUES(7, '', NULL, NULL, 1, 0, NULL, NULL, NULL); UPDATE bank SET deleted = 1",
         "pair 7"},
        {"DROP INDEX pair_deleted", "CREATE INDEX pair_deleted"},
        {"ALTER TABLE pair RENAME TO p; CREATE VIEW pair AS SELECT * FROM p", "CREATE TABLE pair"},
        {"DROP TABLE pair; CREATE VIRTUAL TABLE pair USING fts5(caption)", "CREATE TABLE pair"},
        {"DROP TABLE job; CREATE TABLE job(key TEXT, next INTEGER, done AS (hex(zeroblob(1e8))))",
         "CREATE TABLE job"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_refused(bad[i].sql, RECO_E_FORMAT, bad[i].message);
    assert_refused("PRAGMA user_version = 4", RECO_E_UNSUPPORTED, "format 4");
    assert_refused("PRAGMA user_version = 0", RECO_E_FORMAT, "format 0");
    assert_refused("PRAGMA user_version = 2", RECO_E_FORMAT, "CREATE TABLE pair");
}

static void test_pairs(void **state)
{
    (void)state;
    static const char *const damages[] = {
        "caption = 'other' WHERE id = 3",
        "uri = NULL WHERE id = 3",
        "meta = '{}' WHERE id = 3",
        "caption = caption || char(0) WHERE id = 3",
        "id = 6 WHERE id = 3",
        "sum = sum + 1 WHERE id = 3",
    };
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        const char *path = fresh();
        char text[300], file[200];
        snprintf(file, sizeof file, "%s/bank.sqlite", path);
        snprintf(text, sizeof text, "UPDATE pair SET %s", damages[i]);
        if (i == 4)
            snprintf(text, sizeof text,
                     "DELETE FROM pair WHERE id = 4; UPDATE pair SET id = 4 WHERE id = 3");
        sql(file, text);
        reco_bank *bank;
        reco_pair pair;
        ok(reco_bank_open(ctx, &bank, path));
        refused(RECO_E_FORMAT, "is damaged", reco_bank_get(ctx, bank, i == 4 ? 4 : 3, &pair));
        assert_null(pair.caption);
        if (i == 4) refused(RECO_E_NOTFOUND, "id 3", reco_bank_get(ctx, bank, 3, &pair));
        assert_numbered(bank, 2, 2);
        reco_bank_close(bank);
    }
}

static void write_text(const char *path, const char *name, const char *text)
{
    char file[300];
    snprintf(file, sizeof file, "%s/%s", path, name);
    unlink(file);
    ok(reco_write_file(ctx, file, text, strlen(text)));
}

static void test_files(void **state)
{
    (void)state;
    reco_bank *bank;
    char file[300];
    const char *path = fresh();
    write_text(path, "bank.sqlite",
               "This is no database, however long it may be and whatever it may claim to be.");
    refused(RECO_E_FORMAT, "not a database", reco_bank_open(ctx, &bank, path));
    write_text(path, "bank.sqlite", "");
    refused(RECO_E_FORMAT, "not a reco database", reco_bank_open(ctx, &bank, path));

    static const char *const sqlite_files[] = {"bank.sqlite", "bank.sqlite-wal", "bank.sqlite-shm"};
    for (size_t i = 0; i < 3; i++) {
        path = fresh();
        snprintf(file, sizeof file, "%s/%s", path, sqlite_files[i]);
        unlink(file);
        assert_int_equal(mkfifo(file, 0600), 0);
        refused(RECO_E_FORMAT, "not a regular file", reco_bank_open(ctx, &bank, path));
        unlink(file);
        assert_int_equal(symlink("/etc/passwd", file), 0);
        refused(RECO_E_FORMAT, "not a regular file", reco_bank_open(ctx, &bank, path));
    }
    path = fresh();
    write_text(path, "bank.sqlite-journal", "a journal");
    refused(RECO_E_FORMAT, "another program", reco_bank_open(ctx, &bank, path));

    path = fresh();
    snprintf(file, sizeof file, "%s/vectors/segment-000001.safetensors", path);
    assert_int_equal(truncate(file, 100), 0);
    refused(RECO_E_FORMAT, "100 bytes", reco_bank_open(ctx, &bank, path));
    unlink(file);
    refused(RECO_E_IO, "segment-000001", reco_bank_open(ctx, &bank, path));
    assert_int_equal(mkfifo(file, 0600), 0);
    refused(RECO_E_FORMAT, "0 bytes", reco_bank_open(ctx, &bank, path));

    /* A file of the right length that lacks a tensor, or has one of another type or shape. */
    uint16_t rows[3 * 4] = {0};
    for (int damage = 0; damage < 4; damage++) {
        path = fresh();
        snprintf(file, sizeof file, "%s/vectors/segment-000001.safetensors", path);
        reco_tensor tensors[] = {
            {.name = "image", .dtype = RECO_DTYPE_F16, .rank = 2, .shape = {3, 4}, .data = rows},
            {.name = "text", .dtype = RECO_DTYPE_F16, .rank = 2, .shape = {3, 4}, .data = rows},
        };
        if (damage == 0) tensors[1].name = "test";
        if (damage == 1) tensors[0].dtype = RECO_DTYPE_BF16;
        if (damage == 2) tensors[0].shape[0] = 4, tensors[0].shape[1] = 3;
        if (damage == 3) tensors[1].rank = 1, tensors[1].shape[0] = 12;
        ok(reco_safetensors_write(ctx, file, tensors, 2, NULL, 0));
        struct stat info;
        char text[100], database[300];
        assert_int_equal(stat(file, &info), 0);
        snprintf(text, sizeof text, "UPDATE segment SET bytes = %lld WHERE number = 1",
                 (long long)info.st_size);
        snprintf(database, sizeof database, "%s/bank.sqlite", path);
        sql(database, text);
        refused(RECO_E_FORMAT, "tensor", reco_bank_open(ctx, &bank, path));
    }
}

static void test_ids(void **state)
{
    (void)state;
    static const int64_t bad[][3] = {{1, 2, 3},  {0, 0, 1},         {0, 2, 1},
                                     {0, 1, -1}, {0, 1, INT64_MAX}, {0, 1, 3}};
    uint16_t rows[3 * 4] = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        reco_bank *bank;
        const char *path = fresh();
        char file[300], text[200];
        struct stat info;
        snprintf(file, sizeof file, "%s/vectors/segment-000000.safetensors", path);
        const reco_tensor tensors[] = {
            {.name = "id", .dtype = RECO_DTYPE_I64, .rank = 1, .shape = {3}, .data = bad[i]},
            {.name = "image", .dtype = RECO_DTYPE_F16, .rank = 2, .shape = {3, 4}, .data = rows},
            {.name = "text", .dtype = RECO_DTYPE_F16, .rank = 2, .shape = {3, 4}, .data = rows},
        };
        ok(reco_safetensors_write(ctx, file, tensors, 3, NULL, 0));
        assert_int_equal(stat(file, &info), 0);
        snprintf(text, sizeof text, "UPDATE segment SET bytes = %lld WHERE number = 0",
                 (long long)info.st_size);
        snprintf(file, sizeof file, "%s/bank.sqlite", path);
        sql(file, text);
        refused(RECO_E_FORMAT, "id", reco_bank_open(ctx, &bank, path));
    }
}

/* Triggers of a stranger's do not run with our writes. */
static void test_trigger(void **state)
{
    (void)state;
    const char *path = fresh();
    char file[200];
    snprintf(file, sizeof file, "%s/bank.sqlite", path);
    sql(file, "CREATE TRIGGER t AFTER UPDATE ON pair BEGIN DELETE FROM pair; END");
    int64_t id = 2;
    ok(reco_bank_delete(ctx, path, &(reco_bank_rows){.ids = &id, .nids = 1}, NULL, NULL));
    reco_bank *bank;
    ok(reco_bank_open(ctx, &bank, path));
    assert_numbered(bank, 5, 5);
    reco_bank_close(bank);
}

/* All that a reader can do, and a delete; whatever comes back, it comes back. */
static void use(const char *path, bool write_too)
{
    reco_bank *bank;
    if (reco_bank_open(ctx, &bank, path) != RECO_OK) return;
    reco_bank_info info = *reco_bank_get_info(bank);
    if (info.d == 4) {
        float query[4] = {1, 0, 0, 0}, scores[10], x[4];
        int64_t ids[10];
        size_t n;
        (void)reco_bank_search(ctx, bank, RECO_TEXT, query, 1, NULL,
                               &(reco_hits){.ids = ids, .scores = scores});
        (void)reco_bank_select(ctx, bank, NULL, 0, 10, ids, &n);
        for (int64_t id = -1; id < 8; id++) {
            reco_pair pair;
            (void)reco_bank_gather(ctx, bank, RECO_IMAGE, &id, 1, x);
            if (reco_bank_get(ctx, bank, id, &pair) == RECO_OK) reco_pair_free(&pair);
        }
    }
    reco_bank_close(bank);
    int64_t id = 1;
    if (write_too) (void)reco_bank_delete(ctx, path, &(reco_bank_rows){.ids = &id, .nids = 1}, NULL, NULL);
}

static void damage(const char *path, const char *name, int rounds, size_t most_bytes)
{
    char file[300], *good;
    size_t bytes;
    snprintf(file, sizeof file, "%s/%s", path, name);
    ok(reco_read_file(ctx, &good, &bytes, file, 1 << 20));
    char *bad = malloc(bytes);
    reco_rng rng;
    reco_rng_seed(&rng, 7);
    for (int i = 0; i < rounds; i++) {
        memcpy(bad, good, bytes);
        for (size_t k = 1 + reco_rng_below(&rng, most_bytes); k; k--)
            bad[reco_rng_below(&rng, bytes)] ^= (char)(1 + reco_rng_below(&rng, 255));
        FILE *f = fopen(file, "r+");
        assert_non_null(f);
        assert_int_equal(fwrite(bad, 1, bytes, f), bytes);
        fclose(f);
        use(path, i % 5 == 0);
    }
    free(bad);
    reco_free(good);
}

static void test_flipped_bytes(void **state)
{
    (void)state;
    const char *path = fresh();
    damage(path, "vectors/segment-000000.safetensors", 300, 3);
    damage(fresh(), "bank.sqlite", 300, 1);
    damage(fresh(), "bank.sqlite", 100, 300);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_tables), TEST(test_pairs),   TEST(test_files),
        TEST(test_ids),    TEST(test_trigger), TEST(test_flipped_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
