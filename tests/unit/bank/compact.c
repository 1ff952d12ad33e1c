/* Compaction: rows keep their ids, readers keep their rows, deleted ones go. */
#include "bank_test.h"

#include <dirent.h>
#include <sys/stat.h>

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

/* The bank's live rows are those numbers for which live[number], each under its number as id. */
static void assert_live(const char *path, const unsigned char *live, size_t n)
{
    reco_bank *bank;
    ok(reco_bank_open(ctx, &bank, path));
    int64_t rows = 0;
    for (size_t i = 0; i < n; i++) {
        reco_pair pair;
        rows += live[i];
        if (live[i])
            assert_numbered(bank, (int64_t)i, i);
        else
            assert_int_equal(reco_bank_get(ctx, bank, (int64_t)i, &pair), RECO_E_NOTFOUND);
    }
    reco_bank_info info = *reco_bank_get_info(bank);
    assert_int_equal(info.rows, rows);
    assert_int_equal(info.next_id, n);
    for (size_t i = 0; i < n; i++) {
        float query[D], score;
        int64_t hit;
        reco_search_opts opts = {.k = 1, .min_similarity = -1};
        numbered_unit(query, D, RECO_TEXT, i);
        ok(reco_bank_search(ctx, bank, RECO_TEXT, query, 1, &opts,
                            &(reco_hits){.ids = &hit, .scores = &score}));
        assert_int_equal(hit == (int64_t)i, live[i]);
    }
    assert_int_equal(count_files(path), info.segments);
    reco_bank_close(bank);
}

static void delete_ids(const char *path, unsigned char *live, size_t n, const int64_t *ids)
{
    for (size_t i = 0; i < n; i++) live[ids[i]] = 0;
    ok(reco_bank_delete(ctx, path, &(reco_bank_rows){.ids = ids, .nids = n}, NULL, NULL));
}

static void add(const char *path, size_t from, size_t n)
{
    reco_bank_writer *w;
    uint64_t next;
    int done;
    ok(reco_bank_writer_open(ctx, &w, path, NULL, "", &next, &done));
    append_numbered(w, D, from, n);
    ok(reco_bank_commit(ctx, w, 0, 0));
    reco_bank_writer_close(w);
}

static void test_compact(void **state)
{
    (void)state;
    unsigned char live[220];
    memset(live, 1, sizeof live);
    build_numbered(in("bank"), D, 200, 20);
    reco_bank *all, *some;
    ok(reco_bank_open(ctx, &all, in("bank")));
    const int64_t gone[] = {0, 1, 57, 58, 60, 61, 62, 63, 64, 65, 66, 67, 68, 69, 120, 199};
    delete_ids(in("bank"), live, 16, gone);
    ok(reco_bank_open(ctx, &some, in("bank")));

    reco_compact_result r;
    ok(reco_bank_compact(ctx, in("bank"), NULL, &r));
    assert_int_equal(r.rows, 184);
    assert_int_equal(r.removed, 16);
    assert_int_equal(r.copied, 184);
    assert_int_equal(r.segments_before, 20);
    assert_int_equal(r.segments, 1);
    assert_true(r.bytes < r.bytes_before);
    assert_live(in("bank"), live, 200);
    ok(reco_bank_compact(ctx, in("bank"), NULL, &r)); /* nothing left to do */
    assert_int_equal(r.copied, 0);
    assert_int_equal(r.segments_before, 1);

    add(in("bank"), 200, 20); /* no id is given again, not even the last one's */
    assert_live(in("bank"), live, 220);
    const int64_t more[] = {2, 219};
    delete_ids(in("bank"), live, 2, more);
    ok(reco_bank_compact(ctx, in("bank"), &(reco_compact_opts){.rows = 50}, &r));
    assert_int_equal(r.segments, 5);
    assert_live(in("bank"), live, 220);

    for (int64_t i = 0; i < 200; i++) assert_numbered(all, i, (uint64_t)i);
    assert_int_equal(reco_bank_get_info(some)->rows, 184);
    for (int64_t i = 0; i < 200; i++)
        if (live[i]) assert_numbered(some, i, (uint64_t)i);
    assert_numbered(some, 2, 2);
    reco_bank_close(some);
    reco_bank_close(all);
}

/* Segments that are at least half full and have lost nothing are left as they are. */
static void test_plan(void **state)
{
    (void)state;
    static const struct {
        size_t rows[6], most, copied, segments;
        int64_t gone;
    } cases[] = {
        {{10, 10, 10}, 20, 0, 3, -1}, {{10, 10, 10}, 20, 9, 3, 15},
        {{3, 10, 3}, 20, 0, 3, -1},   {{3, 3, 10, 3, 3}, 20, 12, 3, -1},
        {{9, 9, 9}, 20, 27, 2, -1},   {{9, 9, 9}, 4, 0, 3, -1},
        {{9, 9, 9}, 4, 8, 4, 9},      {{1, 20, 1, 1}, 20, 2, 3, -1},
        {{5}, 20, 0, 1, -1},          {{1}, 20, 0, 0, 0},
        {{20, 1, 20}, 20, 0, 2, 20},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[100];
        snprintf(path, sizeof path, "%s/%zu", folder, i);
        reco_bank_writer *w;
        uint64_t next;
        int done;
        unsigned char live[60];
        size_t n = 0;
        memset(live, 1, sizeof live);
        ok(reco_bank_writer_open(ctx, &w, path, &(reco_bank_spec){.d = D}, "", &next, &done));
        for (size_t k = 0; k < 6 && cases[i].rows[k]; n += cases[i].rows[k++]) {
            append_numbered(w, D, n, cases[i].rows[k]);
            ok(reco_bank_commit(ctx, w, 0, 0));
        }
        reco_bank_writer_close(w);
        if (cases[i].gone >= 0) delete_ids(path, live, 1, &cases[i].gone);
        reco_compact_result r;
        ok(reco_bank_compact(ctx, path, &(reco_compact_opts){.rows = cases[i].most}, &r));
        if ((size_t)r.copied != cases[i].copied || r.segments != cases[i].segments)
            fail_msg("case %zu: %lld copied, %zu segments", i, (long long)r.copied, r.segments);
        assert_live(path, live, n);
    }
}

static void test_random(void **state)
{
    (void)state;
    enum { MOST = 400, STEPS = 60 };
    unsigned char live[MOST];
    size_t n = 1;
    reco_rng rng;
    memset(live, 1, sizeof live);
    for (uint64_t seed = 0; seed < 3; seed++) {
        char path[100];
        snprintf(path, sizeof path, "%s/%d", folder, (int)seed);
        reco_rng_seed(&rng, seed);
        memset(live, 1, sizeof live);
        build_numbered(path, D, n = 1, 1);
        for (int step = 0; step < STEPS; step++) {
            size_t what = reco_rng_below(&rng, 4);
            if (what < 2 && n < MOST - 20) {
                size_t rows = 1 + reco_rng_below(&rng, 12);
                add(path, n, rows);
                n += rows;
            } else if (what == 2) {
                int64_t ids[20];
                size_t count = 1 + reco_rng_below(&rng, 20);
                for (size_t i = 0; i < count; i++) ids[i] = (int64_t)reco_rng_below(&rng, n);
                delete_ids(path, live, count, ids);
            } else {
                ok(reco_bank_compact(ctx, path, &(reco_compact_opts){.rows = 5 + reco_rng_below(&rng, 60)},
                                     NULL));
                assert_live(path, live, n);
            }
        }
        assert_live(path, live, n);
    }
}

static void test_all_deleted(void **state)
{
    (void)state;
    unsigned char live[12] = {0};
    build_numbered(in("bank"), D, 10, 2);
    const int64_t ids[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    delete_ids(in("bank"), live, 10, ids);
    reco_compact_result r;
    ok(reco_bank_compact(ctx, in("bank"), NULL, &r));
    assert_int_equal(r.segments, 0);
    assert_live(in("bank"), live, 10);
    add(in("bank"), 10, 2);
    live[10] = live[11] = 1;
    assert_live(in("bank"), live, 12);
}

static void test_refusals(void **state)
{
    (void)state;
    refused(RECO_E_NOTFOUND, "no bank", reco_bank_compact(ctx, in("absent"), NULL, NULL));
    build_numbered(in("bank"), D, 10, 2);
    reco_bank_writer *w;
    uint64_t next;
    int done;
    ok(reco_bank_writer_open(ctx, &w, in("bank"), NULL, "", &next, &done));
    refused(RECO_E_BUSY, "process", reco_bank_compact(ctx, in("bank"), NULL, NULL));
    reco_bank_writer_close(w);

    /* A flipped bit of a vector must not be copied into a file whose checksum is right. */
    FILE *f = fopen(in("bank/vectors/segment-000001.safetensors"), "r+");
    assert_int_equal(fseek(f, -1, SEEK_END), 0);
    int c = fgetc(f);
    assert_int_equal(fseek(f, -1, SEEK_END), 0);
    assert_int_equal(fputc(c ^ 1, f), c ^ 1);
    fclose(f);
    refused(RECO_E_FORMAT, "segment-000001.safetensors: is damaged",
            reco_bank_compact(ctx, in("bank"), NULL, NULL));
    assert_int_equal(count_files(in("bank")), 2);
}

/* A reader that opened before a thousand adds and a compaction sees its own rows to the end. */
static void test_reader(void **state)
{
    (void)state;
    enum { OWN = 30, ADDS = 1000 };
    unsigned char live[OWN + ADDS];
    memset(live, 1, sizeof live);
    build_numbered(in("bank"), D, OWN, 3);
    reco_bank *reader;
    ok(reco_bank_open(ctx, &reader, in("bank")));
    for (size_t i = 0; i < ADDS; i++) {
        add(in("bank"), OWN + i, 1);
        if (i % 100 == 0) assert_numbered(reader, (int64_t)(i / 100), i / 100);
    }
    const int64_t gone[] = {0, 7, 29, 500, 1029};
    delete_ids(in("bank"), live, 5, gone);
    reco_compact_result r;
    ok(reco_bank_compact(ctx, in("bank"), NULL, &r));
    assert_int_equal(r.segments_before, 1003);
    assert_int_equal(r.segments, 1);
    assert_int_equal(reco_bank_get_info(reader)->rows, OWN);
    for (int64_t i = 0; i < OWN; i++) {
        assert_numbered(reader, i, (uint64_t)i);
        float query[D], score;
        int64_t hit;
        reco_search_opts opts = {.k = 1, .min_similarity = -1};
        numbered_unit(query, D, RECO_IMAGE, (uint64_t)i);
        ok(reco_bank_search(ctx, reader, RECO_IMAGE, query, 1, &opts,
                            &(reco_hits){.ids = &hit, .scores = &score}));
        assert_int_equal(hit, i);
    }
    reco_pair pair;
    refused(RECO_E_NOTFOUND, "id 30", reco_bank_get(ctx, reader, 30, &pair));
    reco_bank_close(reader);
    assert_live(in("bank"), live, OWN + ADDS);
}

static int64_t database_size(const char *path)
{
    struct stat info;
    char file[300];
    snprintf(file, sizeof file, "%s/bank.sqlite", path);
    assert_int_equal(stat(file, &info), 0);
    return info.st_size;
}

/* 200 KB of captions that go leave a database without them; a reader that saw them sees them to its end. */
static void test_shrink(void **state)
{
    (void)state;
    enum { LONG = 10, BYTES = 20000 };
    static char caption[BYTES + 1];
    unsigned char live[20 + LONG];
    int64_t ids[LONG];
    float x[D];
    build_numbered(in("bank"), D, 20, 1);
    int64_t small = database_size(in("bank"));
    uint64_t next;
    int done;
    reco_bank_writer *w;
    ok(reco_bank_writer_open(ctx, &w, in("bank"), NULL, "", &next, &done));
    for (int i = 0; i < LONG; i++) {
        memset(caption, 'a' + i, BYTES);
        numbered_unit(x, D, RECO_IMAGE, (uint64_t)i);
        ok(reco_bank_append(ctx, w, x, x, &(reco_pair){.caption = caption}, 1));
        ids[i] = 20 + i;
    }
    ok(reco_bank_commit(ctx, w, 0, 0));
    reco_bank_writer_close(w);
    int64_t large = database_size(in("bank"));
    assert_true(large > small + LONG * BYTES);
    reco_bank *reader;
    ok(reco_bank_open(ctx, &reader, in("bank")));
    ok(reco_bank_delete(ctx, in("bank"), &(reco_bank_rows){.ids = ids, .nids = LONG}, NULL, NULL));
    ok(reco_bank_compact(ctx, in("bank"), NULL, NULL));
    ok(reco_bank_compact(ctx, in("bank"), NULL, NULL));
    for (int i = 0; i < LONG; i++) {
        reco_pair pair;
        ok(reco_bank_get(ctx, reader, ids[i], &pair));
        assert_int_equal(strlen(pair.caption), BYTES);
        assert_int_equal(pair.caption[BYTES - 1], 'a' + i);
        reco_pair_free(&pair);
    }
    for (int64_t id = 0; id < 20; id++) assert_numbered(reader, id, (uint64_t)id);
    reco_bank_close(reader);
    memset(live, 1, 20);
    memset(live + 20, 0, LONG);
    assert_live(in("bank"), live, 20 + LONG);
    ok(reco_bank_compact(ctx, in("bank"), NULL, NULL)); /* whose end empties the log */
    assert_true(database_size(in("bank")) <= small + 8192);
    assert_live(in("bank"), live, 20 + LONG);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_compact),  TEST(test_plan),   TEST(test_random), TEST(test_all_deleted),
        TEST(test_refusals), TEST(test_reader), TEST(test_shrink),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
