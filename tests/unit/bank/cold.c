/* Scans of banks that are larger than memory ask for rows before they look at them: what they find is what other scans find, bit for
 * bit. */
#include "bank_test.h"
#include "kinds.h"

#include <fcntl.h>

enum { D = 48, N = 7000, MOST = 300, K = 10, EXCLUDED = 3, SCANS = 9, DELETED = 200 };

static float queries[MOST * D];
static int64_t excluded[MOST * EXCLUDED];

typedef struct answer {
    float scores[MOST * K];
    int64_t ids[MOST * K];
    size_t counts[MOST];
} answer;

static void make_bank(const char *path)
{
    reco_rng rng;
    reco_rng_seed(&rng, 20261130);
    reco_bank_writer *w;
    uint64_t next;
    int done;
    float image[D], text[D];
    ok(reco_bank_writer_open(ctx, &w, path, &(reco_bank_spec){.d = D}, "", &next, &done));
    for (size_t i = 0; i < N; i++) {
        make_row(image, D, SPECTRUM, i, &rng);
        make_row(text, D, SPECTRUM, i, &rng);
        ok(reco_bank_append(ctx, w, image, text, &(reco_pair){.caption = "x"}, 1));
        if (i == N / 3 || i == N - 1) ok(reco_bank_commit(ctx, w, i, i == N - 1));
    }
    reco_bank_writer_close(w);
    for (size_t q = 0; q < MOST; q++) make_row(queries + q * D, D, SPECTRUM, q, &rng);
    for (size_t i = 0; i < MOST * EXCLUDED; i++) excluded[i] = (int64_t)reco_rng_below(&rng, N);
}

static reco_bank *opened(const char *path)
{
    reco_bank *bank;
    ok(reco_bank_open(ctx, &bank, path));
    return bank;
}

/* Among every n-th row. */
static reco_bank_filter *filter_every(const reco_bank *bank, size_t n)
{
    static int64_t ids[N];
    size_t found = 0;
    for (size_t i = 0; i < N; i += n) ids[found++] = (int64_t)i;
    reco_bank_filter *filter;
    ok(reco_bank_filter_ids(ctx, &filter, bank, ids, found));
    return filter;
}

/* cold: so many scans are to begin as of files that are not in memory. */
static void ask(reco_bank *bank, size_t nq, const reco_search_opts *opts, int cold, answer *out)
{
    memset(out, 0, sizeof *out);
    atomic_store(&bank->cold, cold);
    ok(reco_bank_search(ctx, bank, RECO_IMAGE, queries, nq, opts,
                        &(reco_hits){.ids = out->ids, .scores = out->scores, .counts = out->counts}));
}

static void check_same(reco_bank *bank, float recall)
{
    static answer want, got;
    static const size_t every[] = {0, 2, 40, 700}, asked[] = {1, MOST};
    reco_ctx *own = ctx;
    for (size_t i = 0; i < 32; i++) {
        reco_search_opts opts = {.k = K, .min_similarity = -1, .recall = recall, .exclude = excluded};
        size_t nq = asked[i & 1], among = every[i >> 3];
        opts.nexclude = i & 2 ? EXCLUDED : 0;
        opts.filter = among ? filter_every(bank, among) : NULL;
        if (!among) assert_true((reco_bank_expected_recall(bank, RECO_IMAGE, &opts) < 1) == (recall < 1));
        assert_int_equal(reco_ctx_create(&ctx, &(reco_ctx_opts){.threads = i & 4 ? 2 : 1}), RECO_OK);
        ask(bank, nq, &opts, 0, &want);
        ask(bank, nq, &opts, SCANS, &got);
        assert_int_equal(atomic_load(&bank->cold), SCANS - 1);
        assert_memory_equal(&got, &want, sizeof want);
        reco_ctx_free(ctx);
        ctx = own;
        reco_bank_filter_free((reco_bank_filter *)(uintptr_t)opts.filter);
    }
}

static const uint16_t *row_of(const void *arg, size_t i, reco_side side)
{
    const reco_bank *bank = arg;
    size_t segment = reco_bank_segment_at(bank, i);
    return reco_bank_row(bank, side, i, &segment);
}
static const uint16_t *image_row(const void *arg, size_t i) { return row_of(arg, i, RECO_IMAGE); }
static const uint16_t *text_row(const void *arg, size_t i) { return row_of(arg, i, RECO_TEXT); }

/* What the system has of these files in memory, it may forget. */
static void forget(const char *path)
{
    char **files;
    size_t n;
    ok(reco_list_files(ctx, &files, &n, path, true, NULL));
    for (size_t i = 0; i < n; i++) {
        int fd = open(files[i], O_RDONLY);
        assert_true(fd >= 0);
        assert_int_equal(fsync(fd), 0);
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        close(fd);
        reco_free(files[i]);
    }
    reco_free(files);
}

/* Some rows in an order of their own, one twice, and one that is not there. */
static void check_gather(reco_bank *bank)
{
    static float want[MOST * D], got[MOST * D];
    int64_t ids[MOST];
    for (size_t i = 0; i < MOST; i++) ids[i] = (int64_t)(i * 6007 % N);
    ids[7] = ids[200];
    ids[8] = -1;
    atomic_store(&bank->cold, 0);
    ok(reco_bank_gather(ctx, bank, RECO_TEXT, ids, MOST, want));
    atomic_store(&bank->cold, SCANS);
    ok(reco_bank_gather(ctx, bank, RECO_TEXT, ids, MOST, got));
    assert_memory_equal(got, want, sizeof want);
    ids[9] = N;
    refused(RECO_E_NOTFOUND, "no row with id", reco_bank_gather(ctx, bank, RECO_TEXT, ids, MOST, got));
}

static void test_same(void **state)
{
    (void)state;
    static answer want, got;
    const reco_search_opts exact = {.k = K, .min_similarity = -1, .recall = 1};
    const char *path = in("b");
    size_t files;
    make_bank(path);
    reco_bank *bank = opened(path);
    assert_null(bank->segments[0].source[RECO_IMAGE].codes);
    check_same(bank, 1);
    check_gather(bank);
    ask(bank, MOST, &exact, 0, &want);
    reco_bank_close(bank);

    ok(reco_bank_index(ctx, path, RECO_SCAN_INT8, &files));
    bank = opened(path);
    assert_non_null(bank->segments[0].source[RECO_IMAGE].codes);
    assert_null(bank->segments[0].source[RECO_IMAGE].stages.directions);
    check_same(bank, 1);

    const reco_scan_rows rows[] = {{image_row, bank, N, D}, {text_row, bank, N, D}};
    ok(reco_directions_make(ctx, path, rows, 8, 24));
    reco_bank_close(bank);
    ok(reco_bank_index(ctx, path, RECO_SCAN_INT8, &files));
    bank = opened(path);
    assert_non_null(bank->segments[0].source[RECO_IMAGE].stages.directions);
    check_same(bank, 1);
    reco_bank_close(bank);

    /* A scan that finds out on its way, if the system did forget. */
    forget(path);
    bank = opened(path);
    ask(bank, MOST, &exact, 0, &got);
    assert_memory_equal(&got, &want, sizeof want);
    reco_bank_close(bank);

    ok(reco_bank_index_lists(ctx, path, &(reco_lists_opts){.cells = 60, .recall = 0.9f}, NULL));
    bank = opened(path);
    check_same(bank, 0.8f);
    reco_bank_close(bank);

    int64_t ids[DELETED];
    for (size_t i = 0; i < DELETED; i++) ids[i] = (int64_t)(i * 31 % N);
    ok(reco_bank_delete(ctx, path, &(reco_bank_rows){.ids = ids, .nids = DELETED}, NULL, NULL));
    bank = opened(path);
    check_same(bank, 0.8f);
    check_same(bank, 1);
    reco_bank_close(bank);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_same, set_up, tear_down)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
