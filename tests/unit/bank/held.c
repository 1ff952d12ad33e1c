/* What a writer knows of pairs before it takes them: whether they are there already, and what is wrong with them. */
#include "bank_test.h"

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

static reco_bank_held has(reco_bank_writer *w, const char *uri, const char *caption)
{
    reco_bank_found found = {.held = (reco_bank_held)9};
    const reco_pair pair = {.uri = uri, .caption = caption};
    ok(reco_bank_seek(ctx, w, &pair, NULL, caption == NULL, &found));
    return found.held;
}

static void test_has(void **state)
{
    (void)state;
    reco_bank_writer *w = open_writer(in("bank"), 8, "job", 0, 0);
    append_numbered(w, 8, 0, 2);
    assert_int_equal(has(w, "file:///1.jpg", "caption 1"), RECO_HELD_BY_JOB);
    assert_int_equal(has(w, "file:///1.jpg", "caption 0"), RECO_HELD_NOT);
    assert_int_equal(has(w, NULL, "caption 1"), RECO_HELD_NOT);
    assert_int_equal(has(w, "file:///1.jpg", NULL), RECO_HELD_BY_JOB);
    assert_int_equal(has(w, "file:///2.jpg", NULL), RECO_HELD_NOT);
    ok(reco_bank_commit(ctx, w, 2, 0));
    append_numbered(w, 8, 2, 1);
    assert_int_equal(has(w, "file:///1.jpg", "caption 1"), RECO_HELD_BY_JOB);
    assert_int_equal(has(w, "file:///2.jpg", "caption 2"), RECO_HELD_BY_JOB);
    assert_int_equal(has(w, "file:///3.jpg", "caption 3"), RECO_HELD_NOT);
    reco_bank_writer_close(w);
    const char *uri = "file:///1.jpg";
    ok(reco_bank_delete(ctx, in("bank"), &(reco_bank_rows){.uris = &uri, .nuris = 1}, NULL, NULL));
    w = open_writer(in("bank"), 8, "job", 2, 0);
    assert_int_equal(has(w, "file:///0.jpg", "caption 0"), RECO_HELD_BY_JOB); /* of the run before */
    assert_int_equal(has(w, "file:///1.jpg", "caption 1"), RECO_HELD_NOT);
    assert_int_equal(has(w, "file:///2.jpg", "caption 2"), RECO_HELD_NOT); /* never committed */
    append_numbered(w, 8, 2, 1);
    ok(reco_bank_commit(ctx, w, 3, 1));
    reco_bank_writer_close(w);

    /* Another job tells its rows from those before it, in its first run, after an interruption, and when done. */
    uint64_t next;
    int done;
    for (int run = 0; run < 3; run++) {
        ok(reco_bank_writer_open(ctx, &w, in("bank"), NULL, "more", &next, &done));
        assert_int_equal(next, run);
        assert_int_equal(done, run == 2);
        assert_int_equal(has(w, "file:///0.jpg", "caption 0"), RECO_HELD_BEFORE);
        assert_int_equal(has(w, "file:///0.jpg", NULL), RECO_HELD_BEFORE);
        assert_int_equal(has(w, "file:///0.jpg", "caption 9"), RECO_HELD_NOT);
        assert_int_equal(has(w, "file:///2.jpg", "caption 2"), RECO_HELD_BEFORE);
        if (run)
            assert_int_equal(has(w, "file:///3.jpg", "caption 3"),
                             run == 1 ? RECO_HELD_BY_JOB : RECO_HELD_BEFORE);
        append_numbered(w, 8, (uint64_t)(3 + run), 1);
        assert_int_equal(has(w, run ? "file:///4.jpg" : "file:///3.jpg", run ? "caption 4" : "caption 3"),
                         run == 2 ? RECO_HELD_BEFORE : RECO_HELD_BY_JOB);
        if (run < 2) ok(reco_bank_commit(ctx, w, (uint64_t)run + 1, run == 1));
        reco_bank_writer_close(w);
    }
}

static void test_check_pair(void **state)
{
    (void)state;
    reco_bank_writer *w = open_writer(in("bank"), 8, "job", 0, 0);
    ok(reco_bank_check_pair(ctx, w, &(reco_pair){.caption = "", .meta = "{}"}));
    refused(RECO_E_ARG, "no caption", reco_bank_check_pair(ctx, w, &(reco_pair){0}));
    refused(RECO_E_ARG, "uri is not UTF-8",
            reco_bank_check_pair(ctx, w, &(reco_pair){.caption = "a", .uri = "\xff"}));
    refused(RECO_E_ARG, "meta is not a JSON object",
            reco_bank_check_pair(ctx, w, &(reco_pair){.caption = "a", .meta = "[]"}));
    ok(reco_bank_commit(ctx, w, 0, 1)); /* nothing of it was taken */
    reco_bank_writer_close(w);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {TEST(test_has), TEST(test_check_pair)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
