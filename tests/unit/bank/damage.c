/* Damage anywhere is reported by verify, or makes no difference to anything that can be read; it never makes reading
 * crash. Every byte of every file once, then ten thousand damages of several bytes. */
#include "bank_test.h"

#include <fcntl.h>
#include <sys/wait.h>

#define D 4

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

enum { FILES = 5, VECTORS = 2, QUERIES = 24 };

/* Builds that repeat the suite, and slow ones, take samples. */
static bool sampled;
static int random_damages(void) { return sampled ? 600 : 10000; }
static size_t step(void) { return sampled ? 23 : 1; }

static char files[FILES][300];
static char *good[FILES];
static size_t lengths[FILES];

/* Deleted rows, a file with ids of its own, rows without uri and meta, int8 codes. */
static void build(const char *path, const char *database_sql)
{
    reco_bank_spec spec = {.d = D,
                           .encoder = "an encoder",
                           .fingerprint = "0123456789abcdef0123456789abcdef",
                           .logit_scale = 100};
    reco_bank_writer *w;
    uint64_t next;
    int done;
    ok(reco_bank_writer_open(ctx, &w, path, &spec, "job", &next, &done));
    append_numbered(w, D, 0, 6);
    ok(reco_bank_commit(ctx, w, 6, 1));
    reco_bank_writer_close(w);
    const int64_t first[] = {0, 2}, second = 7;
    ok(reco_bank_delete(ctx, path, &(reco_bank_rows){.ids = first, .nids = 2}, NULL, NULL));
    ok(reco_bank_compact(ctx, path, NULL, NULL));
    ok(reco_bank_writer_open(ctx, &w, path, NULL, "", &next, &done));
    append_numbered(w, D, 6, 3);
    float x[D];
    numbered_unit(x, D, RECO_IMAGE, 9);
    ok(reco_bank_append(ctx, w, x, x, &(reco_pair){.caption = "bare"}, 1));
    ok(reco_bank_commit(ctx, w, 0, 0));
    reco_bank_writer_close(w);
    ok(reco_bank_delete(ctx, path, &(reco_bank_rows){.ids = &second, .nids = 1}, NULL, NULL));
    ok(reco_bank_index(ctx, path, RECO_SCAN_INT8, NULL));
    sql(in("bank/bank.sqlite"), database_sql);
    static const char *const names[FILES] = {
        "bank.sqlite",
        "vectors/segment-000001.safetensors",
        "vectors/segment-000002.safetensors",
        "vectors/segment-000001.scan-int8.safetensors",
        "vectors/segment-000002.scan-int8.safetensors",
    };
    for (int i = 0; i < FILES; i++) {
        snprintf(files[i], sizeof files[i], "%s/%s", path, names[i]);
        ok(reco_read_file(ctx, &good[i], &lengths[i], files[i], 1 << 20));
    }
}

static void add(uint64_t *h, const void *data, size_t bytes) { *h = reco_hash64(data, bytes, *h + 1); }

static void read_row(const reco_bank *bank, int64_t id, uint64_t *h)
{
    reco_pair pair;
    float x[D];
    for (int side = 0; side < 2; side++)
        if (reco_bank_gather(ctx, bank, (reco_side)side, &id, 1, x) == RECO_OK) add(h, x, sizeof x);
    if (reco_bank_get(ctx, bank, id, &pair) != RECO_OK) return;
    const char *texts[] = {pair.caption, pair.uri, pair.meta};
    add(h, &pair.id, sizeof pair.id);
    for (int i = 0; i < 3; i++) add(h, texts[i] ? texts[i] : "none", texts[i] ? strlen(texts[i]) + 1 : 4);
    reco_pair_free(&pair);
}

/* All that the bank gives: its description, ids, captions, vectors, what is found. 0: it does not open. */
static uint64_t reading(const char *path)
{
    reco_bank *bank;
    uint64_t h = 7;
    if (reco_bank_open(ctx, &bank, path) != RECO_OK) return 0;
    reco_bank_info info = *reco_bank_get_info(bank);
    const int64_t numbers[] = {
        info.format,  (int64_t)info.d,        info.rows,     info.deleted,
        info.next_id, (int64_t)info.segments, info.complete, (int64_t)info.logit_scale};
    add(&h, numbers, sizeof numbers);
    add(&h, info.encoder, strlen(info.encoder));
    add(&h, info.fingerprint, strlen(info.fingerprint));
    int64_t ids[64];
    size_t n = 0;
    if (reco_bank_select(ctx, bank, NULL, 0, 64, ids, &n) == RECO_OK) add(&h, ids, n * sizeof *ids);
    for (int64_t id = 0; info.d == D && id < 12; id++) read_row(bank, id, &h);
    for (size_t nq = 1; info.d == D && nq <= QUERIES;
         nq *= QUERIES) { /* one alone is searched in its own way */
        float queries[QUERIES][D], scores[QUERIES][3];
        int64_t hits[QUERIES][3];
        for (size_t q = 0; q < nq; q++) numbered_unit(queries[q], D, RECO_IMAGE, q);
        for (int side = 0; side < 2; side++) {
            if (reco_bank_search(ctx, bank, (reco_side)side, queries[0], nq,
                                 &(reco_search_opts){.k = 3, .min_similarity = -1},
                                 &(reco_hits){.ids = hits[0], .scores = scores[0]}) != RECO_OK)
                continue;
            add(&h, hits, nq * sizeof *hits);
            add(&h, scores, nq * sizeof *scores);
        }
    }
    reco_bank_close(bank);
    return h ? h : 1;
}

static uint64_t whole; /* the reading of the bank as it was built */
static size_t reported, harmless;

static void put(int file, const char *data, size_t bytes)
{
    char path[320];
    int fd = open(files[file], O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, bytes), bytes);
    close(fd);
    snprintf(path, sizeof path, "%s-wal", files[0]); /* what the last reader left */
    unlink(path);
    snprintf(path, sizeof path, "%s-shm", files[0]);
    unlink(path);
}

static void judge(const char *path, int file, size_t at, const char *what)
{
    reco_bank_health health;
    reco_status status = reco_bank_verify(ctx, path, NULL, NULL, &health);
    uint64_t now = reading(path);
    if (status != RECO_OK || health.problems) {
        reported++;
    } else {
        harmless++;
        if (now != whole) fail_msg("%s at %zu of %s: not reported", what, at, files[file]);
    }
}

static void test_every_byte(void **state)
{
    (void)state;
    /* Small pages: fewer bytes between the rows. */
    build(in("bank"),
          "PRAGMA journal_mode = DELETE; PRAGMA page_size = 1024; VACUUM; PRAGMA journal_mode = WAL");
    whole = reading(in("bank"));
    assert_int_not_equal(whole, 0);
    reco_rng rng;
    reco_rng_seed(&rng, 5);
    reported = harmless = 0;
    for (int file = 0; file < FILES; file++) {
        for (size_t at = 0; at < lengths[file]; at += step()) {
            char kept = good[file][at];
            good[file][at] = (char)(kept ^ (char)(1 + reco_rng_below(&rng, 255)));
            put(file, good[file], lengths[file]);
            judge(in("bank"), file, at, "a byte");
            good[file][at] = kept;
        }
        put(file, good[file], lengths[file]);
        if (file >= 1 && file <= VECTORS) assert_int_equal(harmless, 0); /* no byte of a vector file is */
        print_message("%s: %zu reported, %zu harmless\n", strrchr(files[file], '/') + 1, reported,
                      harmless);
        reported = harmless = 0;
    }
    assert_true(reading(in("bank")) == whole);
    for (int i = 0; i < FILES; i++) reco_free(good[i]);
}

/* Bytes here and there, a stretch of noise or zeros, a cut, a tail, a piece of one place at another. */
static size_t damage(char *data, size_t bytes, size_t room, size_t *at, reco_rng *rng)
{
    size_t n = 2 + reco_rng_below(rng, 30);
    *at = reco_rng_below(rng, bytes - n);
    switch (reco_rng_below(rng, 6)) {
    case 0:
        for (size_t i = 0; i < n; i++)
            data[reco_rng_below(rng, bytes)] ^= (char)(1 + reco_rng_below(rng, 255));
        return bytes;
    case 1:
        for (size_t i = 0; i < n; i++) data[*at + i] = (char)reco_rng_next(rng);
        return bytes;
    case 2:
        memset(data + *at, 0, reco_min(bytes - *at, 64 * n));
        return bytes;
    case 3:
        return *at;
    case 4:
        n = reco_min(n, room - bytes);
        for (size_t i = 0; i < n; i++) data[bytes + i] = (char)reco_rng_next(rng);
        return bytes + n;
    default:
        memmove(data + *at, data + reco_rng_below(rng, bytes - n), n);
        return bytes;
    }
}

static void test_random(void **state)
{
    (void)state;
    build(in("bank"), "");
    whole = reading(in("bank"));
    reco_rng rng;
    reco_rng_seed(&rng, 6);
    reported = harmless = 0;
    for (int i = 0; i < random_damages(); i++) {
        int file = reco_rng_below(&rng, 2) ? 0 : 1 + (int)reco_rng_below(&rng, FILES - 1);
        size_t room = lengths[file] + 64, at, bytes;
        char *bad = malloc(room);
        memcpy(bad, good[file], lengths[file]);
        bytes = damage(bad, lengths[file], room, &at, &rng);
        put(file, bad, bytes);
        judge(in("bank"), file, at, "damage");
        put(file, good[file], lengths[file]);
        free(bad);
    }
    print_message("%d damages: %zu reported, %zu harmless\n", random_damages(), reported, harmless);
    assert_true(reading(in("bank")) == whole);
    for (int i = 0; i < FILES; i++) reco_free(good[i]);
}

/* ---- the write-ahead log ---- */

/* A writer that died after three commits, and left them in the log. */
static void leave_log(const char *path)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        uint64_t next;
        int done;
        reco_bank_writer *w;
        ok(reco_bank_writer_open(ctx, &w, path, NULL, "log", &next, &done));
        for (uint64_t i = 0; i < 3; i++) {
            append_numbered(w, D, 10 + i, 1);
            ok(reco_bank_commit(ctx, w, i + 1, i == 2));
        }
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void put_log(const char *database, size_t database_bytes, const char *log, size_t bytes)
{
    char path[320];
    put(0, database, database_bytes);
    snprintf(path, sizeof path, "%s-wal", files[0]);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0 && write(fd, log, bytes) == (ssize_t)bytes);
    close(fd);
}

/* A byte of the log takes back commits, which SQLite does not tell from one that a crash cut short. */
static void test_log(void **state)
{
    (void)state;
    build(in("bank"),
          "PRAGMA journal_mode = DELETE; PRAGMA page_size = 1024; VACUUM; PRAGMA journal_mode = WAL");
    uint64_t before = reading(in("bank"));
    leave_log(in("bank"));
    char path[320], *database, *log;
    size_t database_bytes, bytes;
    reco_bank_health health;
    snprintf(path, sizeof path, "%s-wal", files[0]);
    ok(reco_read_file(ctx, &log, &bytes, path, 1 << 20));
    ok(reco_read_file(ctx, &database, &database_bytes, files[0], 1 << 20));
    assert_true(bytes > 8 * 1048);
    put_log(database, database_bytes, log, bytes);
    ok(reco_bank_verify(ctx, in("bank"), NULL, NULL, &health));
    assert_int_equal(health.problems, 0);
    whole = reading(in("bank"));
    assert_true(whole && whole != before);
    reco_rng rng;
    reco_rng_seed(&rng, 8);
    reported = harmless = 0;
    /* Every byte of the headers, of the log and of its frames, and every third of the pages: it is one checksum. */
    for (size_t at = 0; at < bytes; at += at < 32 || (at - 32) % 1048 < 24 ? step() : 3 * step()) {
        char kept = log[at];
        log[at] = (char)(kept ^ (char)(1 + reco_rng_below(&rng, 255)));
        put_log(database, database_bytes, log, bytes);
        judge(in("bank"), 0, at, "a byte of the log");
        log[at] = kept;
    }
    print_message("bank.sqlite-wal: %zu reported, %zu harmless\n", reported, harmless);
    assert_int_equal(harmless, 0);

    /* What a crash leaves is no damage: a log that ends anywhere in its last frames, with the bank of an earlier commit. */
    for (size_t end = 0; end < bytes; end += sampled ? 2096 : 131) {
        put_log(database, database_bytes, log, end);
        ok(reco_bank_verify(ctx, in("bank"), NULL, NULL, &health));
        if (health.problems) fail_msg("a log of %zu bytes: reported", end);
        assert_true(reading(in("bank")) != 0);
    }
    reco_free(log);
    reco_free(database);
    for (int i = 0; i < FILES; i++) reco_free(good[i]);
}

/* The folder in memory, where there is such a place: a hundred thousand files are written. */
static int set_up_in_memory(void **state)
{
    (void)state;
    strcpy(folder, access("/dev/shm", W_OK) == 0 ? "/dev/shm/reco-bank-XXXXXX" : "/tmp/reco-bank-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    return reco_ctx_create(&ctx, &(reco_ctx_opts){.threads = 1}) == RECO_OK ? 0 : -1;
}

int main(void)
{
    sampled = SANITIZED || getenv("RECO_TEST_MOMENTS");
    if (sampled) print_message("SKIPPED: all but every %zuth byte\n", step());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every_byte, set_up_in_memory, tear_down),
        cmocka_unit_test_setup_teardown(test_random, set_up_in_memory, tear_down),
        cmocka_unit_test_setup_teardown(test_log, set_up_in_memory, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
