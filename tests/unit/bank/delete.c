/* Deletions: picked by any means, looked at, made or left. */
#include "bank/write/deletion.h"
#include "bank_test.h"

enum { N = 3000, WIDTH = 8 };

static int64_t live(void)
{
    reco_bank *bank;
    ok(reco_bank_open(ctx, &bank, in("b")));
    int64_t rows = reco_bank_get_info(bank)->rows;
    reco_bank_close(bank);
    return rows;
}

static void test_picks(void **state)
{
    (void)state;
    reco_bank_deletion *d;
    uint64_t n;
    int64_t ids[20];
    size_t count;
    build_numbered(in("b"), WIDTH, N, 2);
    ok(reco_bank_deletion_open(ctx, &d, in("b"), false, false));
    ok(reco_bank_deletion_pick(ctx, d, (const int64_t[]){7}, 1, &n));
    assert_int_equal(n, 1);
    ok(reco_bank_deletion_pick(ctx, d, (const int64_t[]){7, N, 7, -5}, 4,
                               &n)); /* again: it is there still */
    assert_int_equal(n, 2);
    ok(reco_bank_deletion_uris(ctx, d, (const char *const[]){"file:///none.jpg", "file:///9.jpg"}, 2, &n));
    assert_int_equal(n, 1);
    ok(reco_bank_deletion_uris(ctx, d, NULL, 0, &n));
    assert_int_equal(n, 0);
    ok(reco_bank_deletion_where(ctx, d, "id BETWEEN 5 AND 8", &n));
    assert_int_equal(n, 4);
    refused(RECO_E_ARG, "table segment",
            reco_bank_deletion_where(ctx, d, "id IN (SELECT number FROM segment)", &n));
    refused(RECO_E_ARG, "table picked",
            reco_bank_deletion_where(ctx, d, "id IN (SELECT id FROM temp.picked)", &n));
    ok(reco_bank_deletion_ids(ctx, d, 6, 20, ids, &count));
    assert_int_equal(count, 4);
    assert_int_equal(ids[0], 6);
    assert_int_equal(ids[3], 9);
    ok(reco_bank_deletion_ids(ctx, d, 0, 2, ids, &count));
    assert_int_equal(count, 2);
    /* Another writer has to wait; readers see all until the commit. */
    refused(RECO_E_BUSY, "writing",
            reco_bank_delete(ctx, in("b"), &(reco_bank_rows){.ids = ids, .nids = 1}, NULL, NULL));
    assert_int_equal(live(), N);
    ok(reco_bank_deletion_commit(ctx, d, &n));
    assert_int_equal(n, 5);
    ok(reco_bank_deletion_ids(ctx, d, 0, 20, ids, &count));
    assert_int_equal(count, 0);
    ok(reco_bank_deletion_pick(ctx, d, (const int64_t[]){7}, 1, &n));
    assert_int_equal(n, 0);
    reco_bank_deletion_close(d);
    assert_int_equal(live(), N - 5);
    /* Left alone: nothing happens. */
    ok(reco_bank_deletion_open(ctx, &d, in("b"), false, false));
    ok(reco_bank_deletion_where(ctx, d, "1", &n));
    assert_int_equal(n, N - 5);
    reco_bank_deletion_close(d);
    assert_int_equal(live(), N - 5);
}

/* All that is within a cosine, by brute force. */
static void test_near(void **state)
{
    (void)state;
    reco_bank_deletion *d;
    reco_bank *bank;
    uint64_t n, want = 0;
    float query[WIDTH], row[WIDTH];
    const int64_t gone = 17;
    build_numbered(in("b"), WIDTH, N, 2);
    ok(reco_bank_delete(ctx, in("b"), &(reco_bank_rows){.ids = &gone, .nids = 1}, NULL, NULL));
    ok(reco_bank_open(ctx, &bank, in("b")));
    numbered_unit(query, WIDTH, RECO_TEXT, 17);
    static int64_t ids[N], all[N];
    static float scores[N];
    size_t found, total = 0;
    for (int64_t id = 0; id < N; id++) {
        double sum = 0;
        ok(reco_bank_gather(ctx, bank, RECO_TEXT, &id, 1, row));
        for (size_t i = 0; i < WIDTH; i++) sum += (double)row[i] * (double)query[i];
        if (id != gone && (float)sum >= 0.2f) all[want++] = id;
    }
    assert_true(want > 100);
    reco_range range = {.side = RECO_TEXT, .query = query, .least = 0.2f, .max = 37};
    for (;; range.from = ids[total - 1] + 1) { /* in pages */
        const reco_hits page = {.ids = ids + total, .scores = scores + total, .counts = &found};
        ok(reco_bank_within(ctx, bank, &range, &page));
        total += found;
        if (found < 37) break;
    }
    assert_int_equal(total, want);
    assert_memory_equal(ids, all, want * sizeof *all);
    for (size_t i = 0; i < total; i++) assert_true(scores[i] >= 0.2f);
    const reco_hits hits = {.ids = ids, .counts = &found};
    range = (reco_range){.side = RECO_TEXT, .query = query, .least = 0.2f, .max = N};
    reco_range wrong[] = {range, range, range, range};
    wrong[0].query = (float[WIDTH]){0};
    wrong[1].least = NAN;
    wrong[2].side = (reco_side)2;
    wrong[3].reserved[0] = 1;
    static const char *const why[] = {"norm", "min_similarity", "side", "reserved"};
    for (size_t i = 0; i < 4; i++)
        refused(RECO_E_ARG, why[i], reco_bank_within(ctx, bank, &wrong[i], &hits));
    reco_bank_close(bank);
    ok(reco_bank_deletion_open(ctx, &d, in("b"), false, true));
    ok(reco_bank_deletion_near(ctx, d, RECO_TEXT, query, 0.2f, &n));
    assert_int_equal(n, want);
    refused(RECO_E_ARG, "preview", reco_bank_deletion_commit(ctx, d, &n));
    reco_bank_deletion_close(d);
    assert_int_equal(live(), N - 1);
    ok(reco_bank_deletion_open(ctx, &d, in("b"), false, false));
    ok(reco_bank_deletion_near(ctx, d, RECO_TEXT, query, 0.2f, &n));
    assert_int_equal(n, want);
    ok(reco_bank_deletion_commit(ctx, d, &n));
    assert_int_equal(n, want);
    reco_bank_deletion_close(d);
    assert_int_equal(live(), N - 1 - (int64_t)want);
    ok(reco_bank_open(ctx, &bank, in("b")));
    ok(reco_bank_within(ctx, bank, &range, &hits));
    assert_int_equal(found, 0);
    reco_bank_close(bank);
}

static void test_segments(void **state)
{
    (void)state;
    reco_bank *bank;
    build_numbered(in("b"), WIDTH, 10, 3);
    ok(reco_bank_open(ctx, &bank, in("b")));
    reco_bank_info info = *reco_bank_get_info(bank);
    assert_int_equal(info.segments, 3);
    assert_true(info.database_bytes > 4096);
    uint64_t bytes = 0;
    int64_t next = 0;
    for (size_t i = 0; i < 3; i++) {
        reco_segment_info s = *reco_bank_get_segment(bank, i);
        char want[48];
        snprintf(want, sizeof want, "segment-%06zu.safetensors", i);
        assert_string_equal(s.file, want);
        assert_int_equal(s.first, next);
        next += s.rows;
        bytes += (uint64_t)s.bytes;
        assert_int_equal(strlen(s.xxh3), 32);
    }
    assert_int_equal(next, 10);
    assert_int_equal(bytes, info.vector_bytes);
    assert_null(reco_bank_get_segment(bank, 3));
    reco_bank_close(bank);
}

/* Deleted rows are picked, and none but deleted ones; a preview and what was committed change nothing more. */
static void test_undelete(void **state)
{
    (void)state;
    const int64_t gone[] = {2, 3, 7};
    reco_bank_deletion *d;
    reco_bank *bank;
    uint64_t n;
    int64_t ids[8];
    size_t found;
    float query[WIDTH] = {1};
    build_numbered(in("b"), WIDTH, 10, 2);
    ok(reco_bank_delete(ctx, in("b"), &(reco_bank_rows){.ids = gone, .nids = 3}, NULL, NULL));
    ok(reco_bank_deletion_open(ctx, &d, in("b"), true, true));
    ok(reco_bank_deletion_pick(ctx, d, (const int64_t[]){4}, 1, &n));
    assert_int_equal(n, 0);
    ok(reco_bank_deletion_uris(ctx, d, (const char *const[]){"file:///3.jpg"}, 1, &n));
    assert_int_equal(n, 1);
    ok(reco_bank_deletion_where(ctx, d, "json_extract(meta, '$.n') > 5", &n));
    assert_int_equal(n, 1);
    ok(reco_bank_deletion_ids(ctx, d, 0, 8, ids, &found));
    assert_int_equal(found, 2);
    assert_int_equal(ids[1], 7);
    ok(reco_bank_deletion_all(ctx, d, &n));
    assert_int_equal(n, 3);
    refused(RECO_E_ARG, "cannot be searched", reco_bank_deletion_near(ctx, d, RECO_IMAGE, query, 0, &n));
    refused(RECO_E_ARG, "preview", reco_bank_deletion_commit(ctx, d, &n));
    reco_bank_deletion_close(d);
    ok(reco_bank_deletion_open(ctx, &d, in("b"), false, true));
    ok(reco_bank_deletion_all(ctx, d, &n));
    assert_int_equal(n, 7); /* of the live ones */
    reco_bank_deletion_close(d);
    ok(reco_bank_deletion_open(ctx, &d, in("b"), true, false));
    ok(reco_bank_deletion_all(ctx, d, NULL));
    ok(reco_bank_deletion_doubles(ctx, d, 0, 8, ids, &found));
    assert_int_equal(found, 0);
    ok(reco_bank_deletion_commit(ctx, d, &n));
    assert_int_equal(n, 3);
    ok(reco_bank_deletion_commit(ctx, d, &n));
    assert_int_equal(n, 0);
    reco_bank_deletion_close(d);
    ok(reco_bank_open(ctx, &bank, in("b")));
    assert_int_equal(reco_bank_get_info(bank)->deleted, 0);
    assert_int_equal(reco_bank_get_info(bank)->rows, 10);
    for (int64_t id = 0; id < 10; id++) assert_numbered(bank, id, (uint64_t)id);
    reco_bank_close(bank);
}

static void count(void *user, const reco_pair *row)
{
    int64_t *sum = user;
    *sum += 100 + row->id;
}

/* All of it by one call: each field adds rows. */
static void test_rows(void **state)
{
    (void)state;
    reco_delete_result r;
    float near[WIDTH];
    const reco_side side = RECO_TEXT;
    const int64_t ids[] = {1, 50};
    const char *uri = "file:///2.jpg";
    int64_t sum = 0, doubles[2];
    build_numbered(in("b"), WIDTH, 10, 3);
    numbered_unit(near, WIDTH, RECO_TEXT, 5);
    char list[300];
    snprintf(list, sizeof list, "%s/ids", folder);
    ok(reco_write_file(ctx, list, "3\n\n60\n", 6));
    ok(reco_write_file(ctx, in("bad"), "3\nx\n", 4));
    const reco_bank_rows rows = {.ids = ids,
                                 .nids = 2,
                                 .uris = &uri,
                                 .nuris = 1,
                                 .ids_file = list,
                                 .where = "id = 4",
                                 .near = near,
                                 .sides = &side,
                                 .nnear = 1,
                                 .least = 0.999f};
    reco_delete_opts opts = {.preview = 1, .row = count, .user = &sum};
    ok(reco_bank_delete(ctx, in("b"), &rows, &opts, &r));
    assert_true(r.rows == 5 && r.missing == 2 && r.doubts == 0 && sum == 500 + 1 + 2 + 3 + 4 + 5);
    assert_int_equal(live(), 10);
    ok(reco_bank_delete(ctx, in("b"), &rows, NULL, &r));
    assert_true(r.rows == 5 && live() == 5);
    refused(RECO_E_FORMAT, "\"x\" is not an id",
            reco_bank_delete(ctx, in("b"), &(reco_bank_rows){.ids_file = in("bad")}, NULL, NULL));
    const reco_bank_rows unsure = {.where = "json_extract(meta, '$.n') < 8 AND caption > 7"};
    refused(RECO_E_ARG, "text with a number", reco_bank_delete(ctx, in("b"), &unsure, NULL, &r));
    assert_true(r.doubts == 1 && r.rows > 0 && live() == 5);
    const uint64_t would = r.rows;
    ok(reco_bank_delete(ctx, in("b"), &unsure, &(reco_delete_opts){.sure = 1}, &r));
    assert_true(r.rows == would && live() == 5 - (int64_t)would);
    const reco_bank_rows all = {.all = 1};
    ok(reco_bank_delete(ctx, in("b"), &all, NULL, &r));
    assert_int_equal(live(), 0);
    opts = (reco_delete_opts){.restore = 1, .doubles = doubles, .max_doubles = 2};
    ok(reco_bank_delete(ctx, in("b"), &all, &opts, &r));
    assert_true(r.rows == 10 && r.doubles == 0 && live() == 10);
    refused(RECO_E_ARG, "cannot be searched",
            reco_bank_delete(ctx, in("b"), &(reco_bank_rows){.near = near, .sides = &side, .nnear = 1},
                             &opts, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_picks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_near, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_undelete, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_rows, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_segments, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
