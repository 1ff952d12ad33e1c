#include "bank_test.h"

#include <sys/stat.h>

static reco_bank_writer *open_writer(const char *path, size_t d, const char *job, uint64_t want_next,
                                     int want_done)
{
    reco_bank_spec spec = {.d = d};
    reco_bank_writer *w;
    uint64_t next = 99;
    int done = 99;
    ok(reco_bank_writer_open(ctx, &w, path, d ? &spec : NULL, job, &next, &done));
    assert_int_equal(next, want_next);
    assert_int_equal(done, want_done);
    return w;
}

static void assert_rows(const char *path, int64_t rows, int complete)
{
    reco_bank *bank;
    ok(reco_bank_open(ctx, &bank, path));
    reco_bank_info info = *reco_bank_get_info(bank);
    assert_int_equal(info.rows, rows);
    assert_int_equal(info.complete, complete);
    reco_bank_close(bank);
}

static void test_round_trip(void **state)
{
    (void)state;
    reco_bank_spec spec = {.d = 20,
                           .encoder = "ViT-B/32",
                           .logit_scale = 100,
                           .fingerprint = "0123456789abcdef0123456789abcdef"};
    reco_bank_writer *w;
    uint64_t next;
    int done;
    ok(reco_bank_writer_open(ctx, &w, in("bank"), &spec, "job", &next, &done));
    append_numbered(w, 20, 0, 7);
    append_numbered(w, 20, 7, 3);
    ok(reco_bank_commit(ctx, w, 10, 0));
    assert_rows(in("bank"), 10, 0);
    append_numbered(w, 20, 10, 5);
    ok(reco_bank_commit(ctx, w, 15, 1));
    ok(reco_bank_commit(ctx, w, 15, 1)); /* nothing new: nothing happens */
    reco_bank_writer_close(w);

    reco_bank *bank;
    ok(reco_bank_open(ctx, &bank, in("bank")));
    reco_bank_info info = *reco_bank_get_info(bank);
    assert_int_equal(info.format, 3);
    assert_int_equal(info.d, 20);
    assert_int_equal(info.rows, 15);
    assert_int_equal(info.deleted, 0);
    assert_int_equal(info.next_id, 15);
    assert_int_equal(info.segments, 2);
    assert_int_equal(info.complete, 1);
    assert_string_equal(info.encoder, "ViT-B/32");
    assert_string_equal(info.fingerprint, "0123456789abcdef0123456789abcdef");
    assert_true(info.logit_scale == 100);
    assert_true(info.vector_bytes > 15 * 20 * 4);
    for (int i = 0; i < 15; i++) assert_numbered(bank, i, (uint64_t)i);
    reco_pair pair;
    refused(RECO_E_NOTFOUND, "id 15", reco_bank_get(ctx, bank, 15, &pair));
    refused(RECO_E_NOTFOUND, "id -2", reco_bank_get(ctx, bank, -2, &pair));

    int64_t ids[20];
    size_t n;
    ok(reco_bank_select(ctx, bank, NULL, 0, 20, ids, &n));
    assert_int_equal(n, 15);
    assert_int_equal(ids[14], 14);
    ok(reco_bank_select(ctx, bank, NULL, 9, 3, ids, &n));
    assert_int_equal(n, 3);
    assert_int_equal(ids[0], 9);
    ok(reco_bank_select(ctx, bank, NULL, 15, 3, ids, &n));
    assert_int_equal(n, 0);

    float rows[3][20];
    int64_t some[] = {12, -1, 3};
    ok(reco_bank_gather(ctx, bank, RECO_TEXT, some, 3, rows[0]));
    for (int i = 0; i < 20; i++) assert_true(rows[1][i] == 0);
    some[1] = 15;
    refused(RECO_E_NOTFOUND, "id 15", reco_bank_gather(ctx, bank, RECO_TEXT, some, 3, rows[0]));
    reco_bank_close(bank);
}

static void test_empty(void **state)
{
    (void)state;
    reco_bank_writer_close(open_writer(in("bank"), 4, "job", 0, 0));
    assert_rows(in("bank"), 0, 0);
    reco_bank *bank;
    ok(reco_bank_open(ctx, &bank, in("bank")));
    float query[] = {0, 1, 0, 0}, score;
    int64_t id;
    size_t count;
    reco_search_opts opts = {.k = 1, .min_similarity = -1};
    ok(reco_bank_search(ctx, bank, RECO_IMAGE, query, 1, &opts,
                        &(reco_hits){.ids = &id, .scores = &score, .counts = &count}));
    assert_int_equal(count, 0);
    assert_int_equal(id, -1);
    reco_bank_close(bank);
    reco_bank_writer *w = open_writer(in("bank"), 4, "job", 0, 0);
    ok(reco_bank_commit(ctx, w, 0, 1));
    reco_bank_writer_close(w);
    assert_rows(in("bank"), 0, 1);
}

static void test_jobs(void **state)
{
    (void)state;
    reco_bank_writer *w = open_writer(in("bank"), 8, "a", 0, 0);
    append_numbered(w, 8, 0, 5);
    ok(reco_bank_commit(ctx, w, 5, 0));
    append_numbered(w, 8, 90, 5);
    reco_bank_writer_close(w); /* not committed: gone */
    assert_rows(in("bank"), 5, 0);

    w = open_writer(in("bank"), 8, "a", 5, 0);
    append_numbered(w, 8, 5, 5);
    ok(reco_bank_commit(ctx, w, 10, 1));
    reco_bank_writer_close(w);
    assert_rows(in("bank"), 10, 1);
    reco_bank_writer_close(open_writer(in("bank"), 8, "a", 10, 1));

    uint64_t next;
    int done;
    reco_bank_spec spec = {.d = 8};
    refused(RECO_E_EXISTS, "add to it",
            reco_bank_writer_open(ctx, &w, in("bank"), &spec, "b", &next, &done));
    spec.d = 9;
    refused(RECO_E_MISMATCH, "width 8",
            reco_bank_writer_open(ctx, &w, in("bank"), &spec, "a", &next, &done));
    spec = (reco_bank_spec){.d = 8, .encoder = "E", .fingerprint = "00000000000000000000000000000000"};
    refused(RECO_E_MISMATCH, "not E", reco_bank_writer_open(ctx, &w, in("bank"), &spec, "a", &next, &done));
    assert_null(w);

    w = open_writer(in("bank"), 0, "b", 0, 0); /* add */
    append_numbered(w, 8, 10, 3);
    ok(reco_bank_commit(ctx, w, 3, 0));
    reco_bank_writer_close(w);
    w = open_writer(in("bank"), 0, "b", 3, 0);
    append_numbered(w, 8, 13, 3);
    ok(reco_bank_commit(ctx, w, 6, 1));
    reco_bank_writer_close(w);
    reco_bank_writer_close(open_writer(in("bank"), 0, "b", 6, 1));

    w = open_writer(in("bank"), 0, "", 0, 0); /* rows without a source are never resumed */
    append_numbered(w, 8, 16, 1);
    ok(reco_bank_commit(ctx, w, 7, 1));
    reco_bank_writer_close(w);
    reco_bank_writer_close(open_writer(in("bank"), 0, "", 0, 0));

    reco_bank *bank;
    ok(reco_bank_open(ctx, &bank, in("bank")));
    assert_int_equal(reco_bank_get_info(bank)->rows, 17);
    for (int i = 0; i < 17; i++) assert_numbered(bank, i, (uint64_t)i);
    reco_bank_close(bank);
}

static void test_folders(void **state)
{
    (void)state;
    reco_bank *bank;
    reco_bank_writer *w;
    uint64_t next;
    int done;
    reco_bank_spec spec = {.d = 8};
    refused(RECO_E_NOTFOUND, "no bank", reco_bank_open(ctx, &bank, in("absent")));
    assert_null(bank);
    refused(RECO_E_NOTFOUND, "no bank", reco_bank_open(ctx, &bank, folder));
    refused(RECO_E_NOTFOUND, "no bank",
            reco_bank_writer_open(ctx, &w, in("absent"), NULL, "", &next, &done));
    refused(RECO_E_NOTFOUND, "no bank", reco_bank_writer_open(ctx, &w, folder, NULL, "", &next, &done));
    refused(RECO_E_NOTFOUND, "no bank", reco_bank_delete(ctx, folder, &(reco_bank_rows){0}, NULL, NULL));
    assert_false(reco_path_exists(in("writer.lock")));
    assert_false(reco_path_exists(in("absent")));

    ok(reco_write_file(ctx, in("thesis.txt"), "x", 1));
    refused(RECO_E_EXISTS, "thesis.txt", reco_bank_writer_open(ctx, &w, folder, &spec, "", &next, &done));
    refused(RECO_E_EXISTS, "is a file",
            reco_bank_writer_open(ctx, &w, in("thesis.txt"), &spec, "", &next, &done));
    assert_false(reco_path_exists(in("writer.lock")));

    /* What a build leaves that was killed before its bank began. */
    ok(reco_mkdirs(ctx, in("a/deep/bank/vectors")));
    ok(reco_write_file(ctx, in("a/deep/bank/bank.sqlite.tmp"), "half a database", 15));
    ok(reco_write_file(ctx, in("a/deep/bank/bank.sqlite.tmp-journal"), "half a journal", 14));
    refused(RECO_E_NOTFOUND, "no bank", reco_bank_open(ctx, &bank, in("a/deep/bank")));
    build_numbered(in("a/deep/bank"), 8, 3, 1);
    assert_false(reco_path_exists(in("a/deep/bank/bank.sqlite.tmp-journal")));
    assert_rows(in("a/deep/bank"), 3, 1);

    /* Characters that mean something to SQLite's file names. */
    build_numbered(in("a?mode=memory#%41 b"), 8, 3, 1);
    assert_rows(in("a?mode=memory#%41 b"), 3, 1);
}

static void test_spec(void **state)
{
    (void)state;
    static const struct {
        reco_bank_spec spec;
        const char *message;
    } bad[] = {
        {{.d = 0}, "d = 0"},
        {{.d = 65537}, "d = 65537"},
        {{.d = 4, .fingerprint = "abc"}, "fingerprint"},
        {{.d = 4, .fingerprint = "0123456789ABCDEF0123456789abcdef"}, "fingerprint"},
        {{.d = 4, .logit_scale = -1}, "logit_scale"},
        {{.d = 4, .logit_scale = NAN}, "logit_scale"},
    };
    reco_bank_writer *w;
    uint64_t next;
    int done;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refused(RECO_E_ARG, bad[i].message,
                reco_bank_writer_open(ctx, &w, in("bank"), &bad[i].spec, "", &next, &done));
    assert_false(reco_path_exists(in("bank")));
}

static void test_bad_rows(void **state)
{
    (void)state;
    reco_bank_writer *w = open_writer(in("bank"), 2, "job", 0, 0);
    float good[] = {1, 0, 0, 1}, bad[] = {1, 0, 0, 1};
    reco_pair pairs[] = {{.caption = "a"}, {.caption = "b"}};
    char *big = malloc(RECO_BANK_META_MAX + 2);
    memset(big, 'x', RECO_BANK_META_MAX + 1);
    big[RECO_BANK_META_MAX + 1] = 0;
#define BAD(part) refused(RECO_E_ARG, part, reco_bank_append(ctx, w, good, bad, pairs, 2))
    bad[2] = NAN;
    BAD("row 1: text embedding is not finite");
    bad[2] = 0, bad[3] = 0;
    BAD("row 1: text embedding has norm 0");
    bad[3] = 1.02f;
    BAD("norm 1.02");
    bad[3] = 1.005f;
    pairs[1].caption = NULL;
    BAD("row 1: no caption");
    pairs[1].caption = big;
    BAD("caption of more than 65536");
    pairs[1].caption = "caf\xe9";
    BAD("caption is not UTF-8");
    pairs[1].caption = "\xc3";
    BAD("caption is not UTF-8");
    pairs[1].caption = "\xed\xa0\x80";
    BAD("caption is not UTF-8");
    pairs[1].caption = "\xc3\xa9\xe2\x82\xac\xf0\x9f\x8c\xae";
    pairs[1].uri = big;
    BAD("uri of more than 65536");
    pairs[1].uri = NULL, pairs[1].meta = big;
    BAD("meta of more than 1048576");
    pairs[1].meta = "[1]";
    BAD("meta is not a JSON object");
    pairs[1].meta = "{";
    BAD("meta is not a JSON object");
    pairs[1].meta = "{\"a\": 1}";
    ok(reco_bank_append(ctx, w, good, bad, pairs, 2)); /* refusals left nothing behind */
    ok(reco_bank_commit(ctx, w, 2, 1));
    reco_bank_writer_close(w);
    free(big);

    reco_bank *bank;
    ok(reco_bank_open(ctx, &bank, in("bank")));
    assert_int_equal(reco_bank_get_info(bank)->rows, 2);
    int64_t id = 1;
    float x[2];
    ok(reco_bank_gather(ctx, bank, RECO_TEXT, &id, 1, x));
    assert_true(x[0] == 0 && x[1] == 1); /* renormalised */
    reco_pair pair;
    ok(reco_bank_get(ctx, bank, 1, &pair));
    assert_string_equal(pair.caption, "\xc3\xa9\xe2\x82\xac\xf0\x9f\x8c\xae");
    assert_null(pair.uri);
    assert_string_equal(pair.meta, "{\"a\": 1}");
    reco_pair_free(&pair);
    reco_bank_close(bank);
}

static void test_delete(void **state)
{
    (void)state;
    build_numbered(in("bank"), 16, 200, 3);
    reco_bank *before, *after;
    ok(reco_bank_open(ctx, &before, in("bank")));
    int64_t ids[] = {3, 64, 199, 200, -1, 64};
    const char *uris[] = {"file:///65.jpg", "file:///3.jpg", "nowhere"};
    reco_delete_result gone;
    ok(reco_bank_delete(ctx, in("bank"), &(reco_bank_rows){.ids = ids, .nids = 6, .uris = uris, .nuris = 3},
                        NULL, &gone));
    assert_true(gone.rows == 4 && gone.missing == 3);
    ok(reco_bank_open(ctx, &after, in("bank")));
    assert_int_equal(reco_bank_get_info(before)->rows, 200);
    assert_int_equal(reco_bank_get_info(after)->rows, 196);
    assert_int_equal(reco_bank_get_info(after)->deleted, 4);
    for (int64_t i = 0; i < 200; i++) assert_numbered(before, i, (uint64_t)i);
    reco_pair pair;
    refused(RECO_E_NOTFOUND, "64 is deleted", reco_bank_get(ctx, after, 64, &pair));
    float x[16];
    ok(reco_bank_gather(ctx, after, RECO_IMAGE, ids, 1, x));

    int64_t live[200];
    size_t n;
    ok(reco_bank_select(ctx, after, NULL, 0, 200, live, &n));
    assert_int_equal(n, 196);
    for (size_t i = 0; i < n; i++)
        assert_true(live[i] != 3 && live[i] != 64 && live[i] != 65 && live[i] != 199);
    for (int64_t i = 0; i < 200; i++) { /* each live row finds itself, no dead one is found */
        float query[16], score;
        int64_t hit;
        reco_search_opts opts = {.k = 1, .min_similarity = -1};
        numbered_unit(query, 16, RECO_TEXT, (uint64_t)i);
        ok(reco_bank_search(ctx, after, RECO_TEXT, query, 1, &opts,
                            &(reco_hits){.ids = &hit, .scores = &score}));
        if (i == 3 || i == 64 || i == 65 || i == 199)
            assert_int_not_equal(hit, i);
        else
            assert_int_equal(hit, i);
    }
    reco_bank_close(after);

    /* Ids are never given again. */
    reco_bank_writer *w = open_writer(in("bank"), 0, "", 0, 0);
    append_numbered(w, 16, 200, 1);
    ok(reco_bank_commit(ctx, w, 0, 0));
    reco_bank_writer_close(w);
    ok(reco_bank_open(ctx, &after, in("bank")));
    assert_numbered(after, 200, 200);
    reco_bank_close(after);
    reco_bank_close(before);
}

/* A reader sees the rows it opened through later adds and deletes, captions too. */
static void test_snapshot(void **state)
{
    (void)state;
    build_numbered(in("bank"), 8, 50, 1);
    reco_bank *old, *new;
    ok(reco_bank_open(ctx, &old, in("bank")));
    for (uint64_t i = 0; i < 100; i++) {
        reco_bank_writer *w = open_writer(in("bank"), 0, "more", i, 0);
        append_numbered(w, 8, 50 + i, 1);
        ok(reco_bank_commit(ctx, w, i + 1, 0));
        reco_bank_writer_close(w);
    }
    const int64_t ids[] = {0, 7};
    ok(reco_bank_delete(ctx, in("bank"), &(reco_bank_rows){.ids = ids, .nids = 2}, NULL, NULL));
    for (int64_t i = 0; i < 50; i++) assert_numbered(old, i, (uint64_t)i);
    reco_pair pair;
    refused(RECO_E_NOTFOUND, "id 50", reco_bank_get(ctx, old, 50, &pair));
    ok(reco_bank_open(ctx, &new, in("bank")));
    assert_int_equal(reco_bank_get_info(new)->rows, 148);
    for (int64_t i = 8; i < 150; i++) assert_numbered(new, i, (uint64_t)i);
    reco_bank_close(new);
    reco_bank_close(old);
}

/* More rows than a segment holds, in one commit. */
static void test_many_segments(void **state)
{
    (void)state;
    size_t d = 32768, n = 400; /* 160 rows fit */
    reco_bank_writer *w = open_writer(in("bank"), d, "job", 0, 0);
    for (size_t i = 0; i < n; i += 100) append_numbered(w, d, i, 100);
    ok(reco_bank_commit(ctx, w, n, 1));
    reco_bank_writer_close(w);
    reco_bank *bank;
    ok(reco_bank_open(ctx, &bank, in("bank")));
    assert_int_equal(reco_bank_get_info(bank)->segments, 3);
    for (int64_t i = 0; i < 400; i += 57) assert_numbered(bank, i, (uint64_t)i);
    assert_numbered(bank, 159, 159);
    assert_numbered(bank, 160, 160);
    reco_bank_close(bank);
}

/* Segments with holes, as compaction will write them. */
static void test_id_tensor(void **state)
{
    (void)state;
    build_numbered(in("bank"), 4, 6, 2);
    const int64_t gone[] = {1, 3, 5};
    ok(reco_bank_delete(ctx, in("bank"), &(reco_bank_rows){.ids = gone, .nids = 3}, NULL, NULL));
    uint16_t image[3 * 4], text[3 * 4];
    int64_t ids[] = {0, 2, 4};
    for (size_t i = 0; i < 3; i++) {
        float x[4];
        numbered_unit(x, 4, RECO_IMAGE, (uint64_t)ids[i]);
        reco_f32_to_f16_n(image + 4 * i, x, 4);
        numbered_unit(x, 4, RECO_TEXT, (uint64_t)ids[i]);
        reco_f32_to_f16_n(text + 4 * i, x, 4);
    }
    const reco_tensor tensors[] = {
        {.name = "id", .dtype = RECO_DTYPE_I64, .rank = 1, .shape = {3}, .data = ids},
        {.name = "image", .dtype = RECO_DTYPE_F16, .rank = 2, .shape = {3, 4}, .data = image},
        {.name = "text", .dtype = RECO_DTYPE_F16, .rank = 2, .shape = {3, 4}, .data = text},
    };
    ok(reco_safetensors_write(ctx, in("bank/vectors/segment-000002.safetensors"), tensors, 3, NULL, 0));
    char text_sql[400];
    struct stat info;
    assert_int_equal(stat(in("bank/vectors/segment-000002.safetensors"), &info), 0);
    snprintf(text_sql, sizeof text_sql,
             "DELETE FROM segment; DELETE FROM pair WHERE deleted; UPDATE bank SET deleted = 0, "
             "next_segment = 3;"
             "INSERT INTO segment VALUES(2, 0, 3, 'segment-000002.safetensors', %lld, '')",
             (long long)info.st_size);
    sql(in("bank/bank.sqlite"), text_sql);
    reseal(in("bank"));
    reco_bank *bank;
    ok(reco_bank_open(ctx, &bank, in("bank")));
    assert_int_equal(reco_bank_get_info(bank)->rows, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_numbered(bank, ids[i], (uint64_t)ids[i]);
        float x[4], score;
        int64_t hit;
        reco_search_opts opts = {.k = 1, .min_similarity = -1};
        numbered_unit(x, 4, RECO_IMAGE, (uint64_t)ids[i]);
        ok(reco_bank_search(ctx, bank, RECO_IMAGE, x, 1, &opts,
                            &(reco_hits){.ids = &hit, .scores = &score}));
        assert_int_equal(hit, ids[i]);
        refused(RECO_E_NOTFOUND, "no row", reco_bank_gather(ctx, bank, RECO_IMAGE, &gone[i], 1, x));
    }
    int64_t live[4];
    size_t n;
    ok(reco_bank_select(ctx, bank, NULL, 1, 4, live, &n));
    assert_int_equal(n, 2);
    assert_int_equal(live[0], 2);
    reco_bank_close(bank);

    reco_bank_writer *w = open_writer(in("bank"), 0, "", 0, 0); /* and it goes on */
    append_numbered(w, 4, 6, 1);
    ok(reco_bank_commit(ctx, w, 0, 0));
    reco_bank_writer_close(w);
    ok(reco_bank_open(ctx, &bank, in("bank")));
    assert_numbered(bank, 6, 6);
    reco_bank_close(bank);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_round_trip), TEST(test_empty),         TEST(test_jobs),   TEST(test_folders),
        TEST(test_spec),       TEST(test_bad_rows),      TEST(test_delete), TEST(test_snapshot),
        TEST(test_id_tensor),  TEST(test_many_segments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
