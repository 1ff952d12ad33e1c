/* An open bank is for any number of threads: 8 readers ask everything of one handle while rows are added, deleted and compacted
 * away, and each answer is that of before. One reader follows with refresh. Contexts have one thread, which starts no other, so
 * that ThreadSanitizer, which does not know OpenMP's, has nothing to say of them. */
#include "bank_test.h"

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>

enum { READERS = 8, ROUNDS = 12, ROWS = 600, D = 24, K = 5 };

static reco_bank *bank;
static atomic_bool over;

/* All that one handle says, in one number. */
static uint64_t ask(reco_ctx *own, const reco_bank *of, unsigned round)
{
    int64_t ids[K], all[ROWS];
    float scores[K], rows[K * D], query[D];
    size_t count, n;
    uint64_t sum = 0;
    reco_pair pair, pairs[K];
    reco_bank_filter *filter;
    const reco_hits hits = {.ids = ids, .scores = scores, .counts = &count};
#define right(call)                                                                                        \
    do {                                                                                                   \
        if ((call) != RECO_OK) fail_msg("%s: %s", #call, reco_ctx_error(own));                             \
    } while (0)
    numbered_unit(query, D, RECO_TEXT, 1000 + round);
    right(reco_bank_filter_where(own, &filter, of, "json_extract(meta, '$.n') % 3 = 1"));
    for (int with = 0; with < 2; with++) {
        const reco_search_opts opts = {.k = K, .min_similarity = -1, .filter = with ? filter : NULL};
        right(reco_bank_search(own, of, RECO_IMAGE, query, 1, &opts, &hits));
        right(reco_bank_gather(own, of, RECO_TEXT, ids, K, rows));
        right(reco_bank_get_many(own, of, ids, K, pairs));
        sum = reco_hash64(scores, sizeof scores, sum + 1);
        sum = reco_hash64(rows, sizeof rows, sum);
        for (size_t i = 0; i < K; i++) {
            assert_int_equal(pairs[i].id, ids[i]);
            sum = reco_hash64(pairs[i].caption, strlen(pairs[i].caption), sum);
            reco_pair_free(&pairs[i]);
        }
    }
    sum += reco_bank_filter_count(filter);
    reco_bank_filter_free(filter);
    right(reco_bank_select(own, of, NULL, 0, ROWS, all, &n));
    sum = reco_hash64(all, n * sizeof *all, sum);
    right(reco_bank_get(own, of, all[round % n], &pair));
    sum = reco_hash64(pair.uri, strlen(pair.uri), sum);
    reco_pair_free(&pair);
    right(reco_bank_select(own, of, "id % 7 = 2", 10, ROWS, all, &n));
    sum = reco_hash64(all, n * sizeof *all, sum);
    const reco_range range = {.side = RECO_TEXT, .query = query, .least = 0.2f, .max = ROWS};
    right(reco_bank_within(own, of, &range, &(reco_hits){.ids = all, .counts = &n}));
    sum = reco_hash64(all, n * sizeof *all, sum);
    right(reco_bank_select_deleted(own, of, NULL, 0, ROWS, all, &n));
    sum = reco_hash64(all, n * sizeof *all, sum);
    if (n) {
        right(reco_bank_get_deleted(own, of, all[round % n], &pair));
        sum = reco_hash64(pair.caption, strlen(pair.caption), sum);
        reco_pair_free(&pair);
    }
    return sum;
#undef right
}

static uint64_t want[ROUNDS];

static reco_ctx *one_thread(void)
{
    reco_ctx *own;
    assert_int_equal(reco_ctx_create(&own, &(reco_ctx_opts){.threads = 1}), RECO_OK);
    return own;
}

static int set_up_one(void **state)
{
    if (set_up(state) != 0) return -1;
    reco_ctx_free(ctx);
    ctx = one_thread();
    return 0;
}

static void *read_all(void *arg)
{
    reco_ctx *own = one_thread();
    size_t different = 0;
    for (unsigned round = 0; round < ROUNDS || !atomic_load(&over); round++)
        different += ask(own, bank, round % ROUNDS) != want[round % ROUNDS];
    reco_ctx_free(own);
    *(size_t *)arg = different;
    return NULL;
}

/* Goes from snapshot to snapshot; each holds what its own info says. */
static void *follow(void *arg)
{
    reco_ctx *own = one_thread();
    reco_bank *now = NULL, *next;
    size_t news = 0;
    for (bool last = false; !last;) {
        last = atomic_load(&over);
        assert_int_equal(reco_bank_refresh(own, now ? now : bank, &next), RECO_OK);
        if (!next) continue;
        reco_bank_close(now);
        now = next;
        news++;
        ask(own, now, 0);
    }
    assert_int_equal(reco_bank_refresh(own, now, &next), RECO_OK);
    assert_null(next);
    reco_bank_close(now);
    reco_ctx_free(own);
    *(size_t *)arg = news;
    return NULL;
}

static void write_some(reco_ctx *own, const char *path, uint64_t from)
{
    reco_bank_writer *w;
    uint64_t next;
    reco_delete_result gone;
    int done;
    int64_t ids[20];
    ok(reco_bank_writer_open(own, &w, path, NULL, "", &next, &done));
    append_numbered(w, D, from, 40);
    ok(reco_bank_commit(own, w, 0, 0));
    reco_bank_writer_close(w);
    for (int64_t i = 0; i < 20; i++) ids[i] = (int64_t)from - 40 + 2 * i;
    ok(reco_bank_delete(own, path, &(reco_bank_rows){.ids = ids, .nids = 20}, NULL, &gone));
    assert_int_equal(gone.rows, 20);
}

static void test_shared(void **state)
{
    (void)state;
    reco_bank_spec spec = {.d = D};
    reco_bank_writer *w;
    uint64_t next;
    int done;
    char path[256];
    strcpy(path, in("bank"));
    ok(reco_bank_writer_open(ctx, &w, path, &spec, "", &next, &done));
    for (uint64_t i = 0; i < ROWS; i += 200) {
        append_numbered(w, D, i, 200);
        ok(reco_bank_commit(ctx, w, 0, 0));
    }
    reco_bank_writer_close(w);
    for (int64_t i = 3; i < ROWS; i += 50)
        ok(reco_bank_delete(ctx, path, &(reco_bank_rows){.ids = &i, .nids = 1}, NULL, NULL));
    ok(reco_bank_open(ctx, &bank, path));
    for (unsigned round = 0; round < ROUNDS; round++) want[round] = ask(ctx, bank, round);
    atomic_store(&bank->cold, 1000); /* searches as of files that are not in memory, then others */

    pthread_t readers[READERS], follower;
    size_t different[READERS], news;
    for (int i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, read_all, &different[i]), 0);
    assert_int_equal(pthread_create(&follower, NULL, follow, &news), 0);
    for (uint64_t i = 0; i < 4; i++) {
        write_some(ctx, path, ROWS + 40 * i);
        ok(reco_bank_compact(ctx, path, NULL, NULL));
    }
    atomic_store(&over, true);
    for (int i = 0; i < READERS; i++) {
        pthread_join(readers[i], NULL);
        assert_int_equal(different[i], 0);
    }
    pthread_join(follower, NULL);
    assert_true(news > 0);

    /* What is new is there, and what was made of the old is not taken. */
    reco_bank *fresh;
    reco_bank_filter *filter;
    int64_t id = ROWS + 1, ids[K];
    float query[D], scores[K];
    ok(reco_bank_refresh(ctx, bank, &fresh));
    assert_non_null(fresh);
    assert_int_equal(reco_bank_get_info(fresh)->next_id, ROWS + 160);
    assert_int_equal(reco_bank_get_info(bank)->next_id, ROWS);
    ok(reco_bank_filter_ids(ctx, &filter, bank, &id, 1));
    numbered_unit(query, D, RECO_TEXT, 1);
    refused(RECO_E_ARG, "filter",
            reco_bank_search(ctx, fresh, RECO_TEXT, query, 1,
                             &(reco_search_opts){.k = K, .min_similarity = -1, .filter = filter},
                             &(reco_hits){.ids = ids, .scores = scores}));
    reco_bank_filter_free(filter);
    reco_bank_close(bank);
    reco_bank_close(fresh);
}

static size_t threads_of_process(void)
{
    size_t n = 0;
    DIR *dir = opendir("/proc/self/task");
    if (!dir) return 0;
    while (readdir(dir)) n++;
    closedir(dir);
    return n;
}

static void test_refresh(void **state)
{
    (void)state;
    reco_bank_spec spec = {.d = D};
    reco_bank_writer *w;
    reco_bank *now, *next;
    uint64_t from;
    int done;
    ok(reco_bank_writer_open(ctx, &w, in("bank"), &spec, "", &from, &done));
    append_numbered(w, D, 0, 5);
    ok(reco_bank_commit(ctx, w, 0, 0));
    ok(reco_bank_open(ctx, &now, in("bank")));
    ok(reco_bank_refresh(ctx, now, &next));
    assert_null(next);
    append_numbered(w, D, 5, 5);
    ok(reco_bank_refresh(ctx, now, &next));
    assert_null(next); /* appended, not committed */
    ok(reco_bank_commit(ctx, w, 0, 0));
    for (int twice = 0; twice < 2; twice++) {
        ok(reco_bank_refresh(ctx, now, &next));
        assert_non_null(next);
        assert_int_equal(reco_bank_get_info(next)->rows, 10);
        assert_int_equal(reco_bank_get_info(now)->rows, 5);
        if (twice) reco_bank_close(now);
        if (!twice) reco_bank_close(next);
    }
    now = next;
    ok(reco_bank_refresh(ctx, now, &next));
    assert_null(next);
    reco_bank_writer_close(w);
    reco_bank_close(now);
}

/* Another bank takes the place of the one that is open, as a folder or by a link; where none is, the open one stays. */
static void test_replaced(void **state)
{
    (void)state;
    reco_bank_spec spec = {.d = D};
    reco_bank *now, *next;
    char paths[3][PATH_MAX];
    const char *const names[] = {"one", "two", "link"};
    for (uint64_t i = 0; i < 2; i++) {
        reco_bank_writer *w;
        uint64_t from;
        int done;
        ok(reco_bank_writer_open(ctx, &w, in(names[i]), &spec, "", &from, &done));
        append_numbered(w, D, 0, 3 + i);
        ok(reco_bank_commit(ctx, w, 0, 0));
        reco_bank_writer_close(w);
    }
    for (int i = 0; i < 3; i++) snprintf(paths[i], PATH_MAX, "%s", in(names[i]));
    assert_int_equal(symlink(paths[0], paths[2]), 0);
    ok(reco_bank_open(ctx, &now, paths[2]));
    assert_int_equal(unlink(paths[2]), 0);
    ok(reco_bank_refresh(ctx, now, &next));
    assert_null(next);
    assert_int_equal(symlink(paths[1], paths[2]), 0);
    ok(reco_bank_refresh(ctx, now, &next));
    assert_non_null(next);
    assert_int_equal(reco_bank_get_info(next)->rows, 4);
    reco_bank_close(now);
    ok(reco_bank_refresh(ctx, next, &now));
    assert_null(now);
    reco_bank_close(next);

    ok(reco_bank_open(ctx, &now, paths[1]));
    assert_int_equal(rename(paths[1], in("away")), 0);
    assert_int_equal(rename(paths[0], paths[1]), 0);
    ok(reco_bank_refresh(ctx, now, &next));
    assert_non_null(next);
    assert_int_equal(reco_bank_get_info(next)->rows, 3);
    assert_int_equal(reco_bank_get_info(now)->rows, 4);
    reco_bank_close(now);
    reco_bank_close(next);
}

static void test_many(void **state)
{
    (void)state;
    reco_bank_spec spec = {.d = D};
    reco_bank_writer *w;
    uint64_t next;
    int done;
    ok(reco_bank_writer_open(ctx, &w, in("bank"), &spec, "", &next, &done));
    append_numbered(w, D, 0, 9);
    ok(reco_bank_commit(ctx, w, 0, 0));
    reco_bank_writer_close(w);
    ok(reco_bank_open(ctx, &bank, in("bank")));
    const int64_t ids[] = {7, -1, 2, 7}, bad[] = {1, 2, 9, 3};
    reco_pair pairs[4];
    ok(reco_bank_get_many(ctx, bank, ids, 4, pairs));
    for (size_t i = 0; i < 4; i++) {
        char caption[32];
        snprintf(caption, sizeof caption, "caption %lld", (long long)ids[i]);
        assert_int_equal(pairs[i].id, ids[i]);
        if (ids[i] < 0)
            assert_null(pairs[i].caption);
        else
            assert_string_equal(pairs[i].caption, caption);
        reco_pair_free(&pairs[i]);
    }
    refused(RECO_E_NOTFOUND, "id 9", reco_bank_get_many(ctx, bank, bad, 4, pairs));
    ok(reco_bank_get_many(ctx, bank, NULL, 0, NULL));
    reco_bank_close(bank);
}

typedef struct hook {
    int calls, stop_at;
    uint64_t done, total;
} hook;

static int count(void *user, const char *what, uint64_t done, uint64_t total)
{
    hook *h = user;
    assert_string_equal(what, "searching");
    assert_true(done > h->done && done < total && (h->total == 0 || total == h->total));
    h->done = done;
    h->total = total;
    return ++h->calls == h->stop_at;
}

/* A search that is long calls the hook, which can end it; a short one doesn't call it. */
static void test_cancel(void **state)
{
    (void)state;
    enum { WIDE = 256, N = 30000, NQ = 800 };
    reco_bank_spec spec = {.d = WIDE};
    reco_bank_writer *w;
    uint64_t next;
    int done;
    ok(reco_bank_writer_open(ctx, &w, in("bank"), &spec, "", &next, &done));
    for (uint64_t i = 0; i < N; i += 2000) append_numbered(w, WIDE, i, 2000);
    ok(reco_bank_commit(ctx, w, 0, 0));
    reco_bank_writer_close(w);
    float *queries = malloc(NQ * WIDE * sizeof *queries), *scores = malloc(NQ * K * sizeof *scores);
    int64_t *ids = malloc(NQ * K * sizeof *ids);
    for (size_t i = 0; i < NQ; i++) numbered_unit(queries + i * WIDE, WIDE, RECO_TEXT, 3 * i);
    for (int stop = 0; stop < 2; stop++) {
        hook h = {.stop_at = stop};
        reco_ctx *own;
        reco_ctx_opts opts = {.threads = 1, .progress = count, .user = &h};
        assert_int_equal(reco_ctx_create(&own, &opts), RECO_OK);
        ok(reco_bank_open(own, &bank, in("bank")));
        const reco_search_opts search = {.k = K, .min_similarity = -1};
        assert_int_equal(reco_bank_search(own, bank, RECO_TEXT, queries, 1, &search,
                                          &(reco_hits){.ids = ids, .scores = scores}),
                         RECO_OK);
        assert_int_equal(h.calls, 0);
        reco_status status = reco_bank_search(own, bank, RECO_TEXT, queries, NQ, &search,
                                              &(reco_hits){.ids = ids, .scores = scores});
        assert_int_equal(status, stop ? RECO_E_CANCELLED : RECO_OK);
        assert_true(h.calls > 0 && (!stop || h.calls == 1));
        if (!stop) assert_int_equal(ids[7 * K], 21); /* its own row */
        reco_bank_close(bank);
        reco_ctx_free(own);
    }
    free(ids), free(scores), free(queries);
}

/* First, while nothing has started a thread: a context of one works alone. */
static void test_alone(void **state)
{
    (void)state;
    size_t before = threads_of_process();
    reco_bank_spec spec = {.d = D};
    reco_bank_writer *w;
    uint64_t next;
    int done;
    ok(reco_bank_writer_open(ctx, &w, in("bank"), &spec, "", &next, &done));
    for (uint64_t i = 0; i < 3000; i += 500) append_numbered(w, D, i, 500);
    ok(reco_bank_commit(ctx, w, 0, 0));
    reco_bank_writer_close(w);
    ok(reco_bank_index(ctx, in("bank"), RECO_SCAN_INT8, NULL));
    ok(reco_bank_compact(ctx, in("bank"), NULL, NULL));
    ok(reco_bank_open(ctx, &bank, in("bank")));
    ask(ctx, bank, 1);
    ok(reco_bank_verify(ctx, in("bank"), NULL, NULL, NULL));
    reco_bank_close(bank);
    assert_int_equal(threads_of_process(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_alone, set_up_one, tear_down),
        cmocka_unit_test_setup_teardown(test_shared, set_up_one, tear_down),
        cmocka_unit_test_setup_teardown(test_refresh, set_up_one, tear_down),
        cmocka_unit_test_setup_teardown(test_replaced, set_up_one, tear_down),
        cmocka_unit_test_setup_teardown(test_many, set_up_one, tear_down),
        cmocka_unit_test_setup_teardown(test_cancel, set_up_one, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
