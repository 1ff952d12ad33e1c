/* Lists: the recall that is promised against the recall of other queries, whatever becomes of the bank; the file's bytes; damage. */
#include "bank_test.h"

#include "bank/write/cells.h"
#include "kernels/kernels.h"

#define D 32
#define N 10200
#define NQ 3000
#define K 10
#define CELLS 160

typedef enum kind { CLUSTERED, UNIFORM, DENSE, COPIES } kind;

static const char *const names[] = {"clustered", "uniform", "dense", "copies"};

/* Variance falls from one direction to the next as that of embeddings does. A row's text is near its image.
 *   dense   half of all rows in one narrow cone
 *   copies  each row 20 times */
static void make_pair(float *image, float *text, kind k, uint64_t number, uint64_t seed)
{
    reco_rng rng, centre;
    uint64_t own = k == COPIES && seed == 0 ? number / 20 : number;
    reco_rng_seed(&rng, own * 2654435761u + seed);
    uint64_t cluster = reco_rng_below(&rng, 300);
    reco_rng_seed(&centre, k == DENSE && cluster < 150 ? 7 : 1000 + cluster);
    float width = k == UNIFORM ? 1 : k == DENSE && cluster < 150 ? 0.1f : 0.6f;
    for (size_t j = 0; j < D; j++) {
        float scale = k == UNIFORM ? 1 : (float)(1 / sqrt(1 + (double)j / 3)),
              at = k == UNIFORM ? 0 : (float)reco_rng_normal(&centre);
        image[j] = scale * (at + width * (float)reco_rng_normal(&rng)) + (j == 0 ? 1 : 0);
        text[j] = image[j] + 0.3f * scale * (float)reco_rng_normal(&rng);
    }
    assert_true(reco_unit_row(image, D) && reco_unit_row(text, D));
}

static void append_rows(reco_bank_writer *w, kind k, uint64_t first, size_t n, uint64_t seed)
{
    float image[D], text[D];
    for (size_t i = 0; i < n; i++) {
        make_pair(image, text, k, first + i, seed);
        ok(reco_bank_append(ctx, w, image, text, &(reco_pair){.caption = "x"}, 1));
    }
}

static char kept[64]; /* the clustered bank, of which tests take copies */

static const char *make(kind k)
{
    static char path[100];
    char command[300];
    snprintf(path, sizeof path, "%s/%s", folder, names[k]);
    if (k == CLUSTERED && *kept) {
        snprintf(command, sizeof command, "cp -r %s %s", kept, path);
        assert_int_equal(system(command), 0);
        return path;
    }
    reco_bank_spec spec = {.d = D};
    reco_bank_writer *w;
    uint64_t next;
    int done;
    ok(reco_bank_writer_open(ctx, &w, path, &spec, "", &next, &done));
    for (size_t part = 0; part < 3; part++) {
        append_rows(w, k, part * N / 3, N / 3, 0);
        ok(reco_bank_commit(ctx, w, part, part == 2));
    }
    reco_bank_writer_close(w);
    ok(reco_bank_index_lists(ctx, path, &(reco_lists_opts){.cells = CELLS, .recall = 0.95f}, NULL));
    if (k == CLUSTERED) {
        strcpy(kept, "/tmp/reco-lists-XXXXXX");
        assert_non_null(mkdtemp(kept));
        snprintf(command, sizeof command, "cp -r %s/. %s", path, kept);
        assert_int_equal(system(command), 0);
    }
    return path;
}

static int remove_kept(void **state)
{
    (void)state;
    char command[100];
    snprintf(command, sizeof command, "rm -rf %s", kept);
    return *kept ? system(command) : 0;
}

static reco_bank *opened(const char *path)
{
    reco_bank *bank;
    ok(reco_bank_open(ctx, &bank, path));
    assert_non_null(bank->lists);
    return bank;
}

static float queries[2][NQ * D]; /* by side, of rows that the bank does not have */

static void make_queries(kind k)
{
    for (uint64_t q = 0; q < NQ; q++)
        make_pair(queries[RECO_IMAGE] + q * D, queries[RECO_TEXT] + q * D, k, q, 77);
}

typedef struct asking {
    const reco_bank *bank;
    reco_side side, asked;
    const reco_bank_filter *filter;
    reco_search_opts opts;
    int64_t ids[NQ * K];
    float scores[NQ * K];
} asking;
static asking a;

static void ask_exactly(const reco_bank *bank, reco_side side, reco_side asked,
                        const reco_bank_filter *filter)
{
    a.bank = bank;
    a.side = side;
    a.asked = asked;
    a.opts = (reco_search_opts){
        .k = K, .min_similarity = -1, .filter = filter, .recall = 1, .asked = (reco_asked)(asked + 1)};
    assert_true(reco_bank_expected_recall(bank, side, &a.opts) == 1);
    ok(reco_bank_search(ctx, bank, side, queries[asked], NQ, &a.opts,
                        &(reco_hits){.ids = a.ids, .scores = a.scores}));
}

/* Share of the exact hits that a search finds; their scores are right. *promise: its recall. */
static double recall_of(float recall, double *promise)
{
    static int64_t ids[NQ * K];
    static float scores[NQ * K];
    size_t same = 0, all = 0;
    a.opts.recall = recall;
    *promise = (double)reco_bank_expected_recall(a.bank, a.side, &a.opts);
    ok(reco_bank_search(ctx, a.bank, a.side, queries[a.asked], NQ, &a.opts,
                        &(reco_hits){.ids = ids, .scores = scores}));
    for (size_t q = 0; q < NQ; q++)
        for (size_t i = 0; i < K && a.ids[q * K + i] >= 0; i++) {
            all++;
            for (size_t j = 0; j < K; j++)
                if (ids[q * K + j] == a.ids[q * K + i]) {
                    same++;
                    assert_true(scores[q * K + j] == a.scores[q * K + i]);
                }
        }
    return all ? (double)same / (double)all : 1;
}

/* more: by how much a recall may be above the promise, 1 where more is no fault. */
static void check_promise(const reco_bank *bank, const char *what, const reco_bank_filter *filter,
                          double more)
{
    static const float wanted[] = {0.9f, 0.95f, 0.99f};
    for (int both = 0; both < 4;
         both += more < 1 ? 1 : 3) { /* all four where nothing is added or missing */
        ask_exactly(bank, (reco_side)(both / 2), (reco_side)(both % 2), filter);
        for (size_t i = 0; i < 3; i++) {
            double promise, recall = recall_of(wanted[i], &promise);
            if (getenv("RECO_TEST_VERBOSE"))
                printf("%s: %d asked by %d: promised %.3f, got %.4f\n", what, both / 2, both % 2, promise,
                       recall);
            if (promise < (double)wanted[i] - 1e-6 || recall < promise - 0.005 || recall > promise + more)
                fail_msg("%s: side %d asked by %d: recall %.4f, promised %.4f", what, both / 2, both % 2,
                         recall, promise);
        }
    }
}

static void check_kind(kind k, double more)
{
    reco_bank *bank = opened(make(k));
    make_queries(k);
    reco_search_opts opts = {.min_similarity = -1};
    assert_true(fabsf(reco_bank_expected_recall(bank, RECO_IMAGE, &opts) - 0.95f) <
                1e-6f); /* as it was asked for */
    check_promise(bank, names[k], NULL, more);
    reco_bank_close(bank);
}

static void test_clustered(void **state)
{
    (void)state;
    check_kind(CLUSTERED, 0.01);
}

/* Nothing to find cells by: most rows are looked at, or all. */
static void test_uniform(void **state)
{
    (void)state;
    double promise;
    reco_bank *bank = opened(make(UNIFORM));
    make_queries(UNIFORM);
    ask_exactly(bank, RECO_IMAGE, RECO_IMAGE, NULL);
    for (int i = 0; i < 2; i++) {
        double recall = recall_of(i ? 0.9f : 0.5f, &promise);
        if (recall < promise - 0.005) fail_msg("recall %.4f, promised %.4f", recall, promise);
    }
    reco_bank_close(bank);
}

static reco_bank_filter *filter_of(const reco_bank *bank,
                                   bool (*passes)(int64_t id, const float *x, int64_t n), int64_t n)
{
    static int64_t ids[2 * N];
    size_t count = 0, segment = 0;
    float x[D];
    for (size_t p = 0; p < bank->positions; p++) {
        reco_f16_to_f32_n(x, reco_bank_row(bank, RECO_IMAGE, p, &segment), D);
        if (passes(reco_bank_id_at(bank, p), x, n)) ids[count++] = reco_bank_id_at(bank, p);
    }
    reco_bank_filter *filter;
    ok(reco_bank_filter_ids(ctx, &filter, bank, ids, count));
    return filter;
}

static bool one_in(int64_t id, const float *x, int64_t n)
{
    (void)x;
    return id % n == 0;
}
/* All on one side of the space, far from most queries, and a few anywhere. */
static bool far_away(int64_t id, const float *x, int64_t n) { return x[0] < 0.25f || id % n == 0; }

/* Distances to the best few and to the next differ as much as they can, and a filter lets the next in. */
static void check_adversary(kind k)
{
    check_kind(k, 1);
    reco_bank *bank = opened(make(k));
    make_queries(k);
    for (int64_t share = 2; share < 5; share++) {
        char what[60];
        snprintf(what, sizeof what, "%s, one in %d", names[k], (int)share);
        reco_bank_filter *filter = filter_of(bank, one_in, share);
        check_promise(bank, what, filter, 1);
        reco_bank_filter_free(filter);
    }
    reco_bank_close(bank);
}

static void test_adversaries(void **state)
{
    (void)state;
    check_adversary(DENSE);
    check_adversary(COPIES);
}

static void test_filters(void **state)
{
    (void)state;
    static const int64_t shares[] = {2, 10, 100, 1000};
    reco_bank *bank = opened(make(CLUSTERED));
    make_queries(CLUSTERED);
    for (size_t i = 0; i < 4; i++) {
        char what[40];
        snprintf(what, sizeof what, "one in %d", (int)shares[i]);
        reco_bank_filter *filter = filter_of(bank, one_in, shares[i]);
        check_promise(bank, what, filter, 1);
        reco_bank_filter_free(filter);
    }
    reco_bank_filter *filter = filter_of(bank, far_away, 500);
    assert_in_range(reco_bank_filter_count(filter), N / 20, N / 2);
    check_promise(bank, "far away", filter, 1);
    reco_bank_filter_free(filter);
    reco_bank_close(bank);
}

/* A third of the rows is deleted: what is left is found as promised, at once, and nothing else. */
static void test_deleted(void **state)
{
    (void)state;
    static int64_t ids[N];
    size_t n = 0;
    const char *path = make(CLUSTERED);
    make_queries(CLUSTERED);
    for (int64_t id = 0; id < N; id++)
        if (id % 3 == 0 || (id / 100) % 11 == 0) ids[n++] = id;
    ok(reco_bank_delete(ctx, path, &(reco_bank_rows){.ids = ids, .nids = n}, NULL, NULL));
    reco_bank *bank = opened(path);
    assert_int_equal(bank->lists->found, N - n);
    check_promise(bank, "deleted", NULL, 1);
    reco_bank_close(bank);
    /* and found again once they are back */
    ok(reco_bank_delete(ctx, path, &(reco_bank_rows){.all = 1}, &(reco_delete_opts){.restore = 1}, NULL));
    bank = opened(path);
    check_promise(bank, "back", NULL, 0.01);
    reco_bank_close(bank);
}

/* What came after the lists is always looked at; segments that are written anew leave them, and the rest stays. */
static void test_added(void **state)
{
    (void)state;
    const char *path = make(CLUSTERED);
    make_queries(CLUSTERED);
    reco_bank_writer *w;
    uint64_t next;
    int done;
    float image[D], text[D], score;
    ok(reco_bank_writer_open(ctx, &w, path, NULL, "more", &next, &done));
    append_rows(w, CLUSTERED, N, 2000, 1);
    ok(reco_bank_commit(ctx, w, 1, 1));
    reco_bank_writer_close(w);
    reco_bank *bank = opened(path);
    assert_int_equal(bank->lists->found, N);
    check_promise(bank, "added", NULL, 1);
    for (uint64_t i = 0; i < 2000; i += 7) {
        int64_t id;
        make_pair(image, text, CLUSTERED, N + i, 1);
        ok(reco_bank_search(ctx, bank, RECO_TEXT, text, 1,
                            &(reco_search_opts){.k = 1, .min_similarity = -1, .recall = 0.5f},
                            &(reco_hits){.ids = &id, .scores = &score}));
        assert_int_equal(id, N + (int64_t)i);
    }
    reco_bank_close(bank);
    ok(reco_bank_writer_open(ctx, &w, path, NULL, "", &next,
                             &done)); /* a row of the second segment changes */
    make_pair(image, text, CLUSTERED, 99999, 5);
    ok(reco_bank_change(ctx, w, &(reco_pair){.id = N / 3 + 5, .caption = "x"}, image, text));
    ok(reco_bank_commit(ctx, w, 0, 0));
    reco_bank_writer_close(w);
    bank = opened(path);
    assert_int_equal(bank->lists->found, N - N / 3);
    assert_non_null(bank->lists->positions[0]);
    check_promise(bank, "changed", NULL, 1);
    reco_bank_close(bank);
    const int64_t gone[] = {3}; /* the first segment is written anew, and those behind it move */
    ok(reco_bank_delete(ctx, path, &(reco_bank_rows){.ids = gone, .nids = 1}, NULL, NULL));
    ok(reco_bank_compact(ctx, path, &(reco_compact_opts){.rows = N / 3}, NULL));
    ok(reco_bank_open(ctx, &bank, path));
    if (bank->lists) check_promise(bank, "compacted", NULL, 1);
    reco_bank_close(bank);
    ok(reco_bank_index_lists(ctx, path, &(reco_lists_opts){.cells = CELLS}, NULL));
    bank = opened(path);
    assert_int_equal(bank->lists->found, N + 2000 - 1);
    reco_bank_close(bank);
}

/* Threads change no byte, and a second time neither. */
static void test_bytes(void **state)
{
    (void)state;
    char *data[3];
    size_t bytes[3];
    const char *path = make(CLUSTERED);
    reco_ctx *first = ctx, *one;
    char file[200];
    snprintf(file, sizeof file, "%s/vectors/" RECO_LISTS_NAME, path);
    ok(reco_ctx_create(&one, &(reco_ctx_opts){.threads = 1}));
    for (int i = 0; i < 3; i++) {
        ctx = i == 1 ? one : first;
        if (i)
            ok(reco_bank_index_lists(ctx, path, &(reco_lists_opts){.cells = CELLS, .recall = 0.95f}, NULL));
        ok(reco_read_file(ctx, &data[i], &bytes[i], file, 1 << 26));
    }
    ctx = first;
    for (int i = 1; i < 3; i++) {
        assert_int_equal(bytes[i], bytes[0]);
        assert_memory_equal(data[i], data[0], bytes[0]);
    }
    for (int i = 0; i < 3; i++) reco_free(data[i]);
    reco_ctx_free(one);
}

static size_t told;
static void tell(void *user, const reco_bank_problem *problem)
{
    (void)user;
    assert_string_equal(problem->file, "vectors/" RECO_LISTS_NAME);
    told++;
}

/* Every kind of damage: a search ends with an answer, and verify names the file. */
static void test_damage(void **state)
{
    (void)state;
    const char *path = make(CLUSTERED);
    make_queries(CLUSTERED);
    char file[200], *good;
    size_t bytes;
    snprintf(file, sizeof file, "%s/vectors/" RECO_LISTS_NAME, path);
    ok(reco_read_file(ctx, &good, &bytes, file, 1 << 26));
    ok(reco_bank_verify(ctx, path, tell, NULL, NULL));
    assert_int_equal(told, 0);
    char *bad = malloc(bytes);
    reco_rng rng;
    reco_rng_seed(&rng, 3);
    reco_bank *bank;
    for (int i = 0; i < 30; i++) {
        size_t at = i < 12 ? reco_rng_below(&rng, 3000) : reco_rng_below(&rng, bytes),
               size = i % 10 == 9 ? at : bytes;
        memcpy(bad, good, bytes);
        if (size == bytes)
            for (int j = 0; j < 1 + i % 3 * 4; j++)
                bad[reco_min(bytes - 1, at + (size_t)j)] ^= (char)(1 << i % 8);
        ok(reco_write_file(ctx, file, bad, size));
        told = 0;
        ok(reco_bank_verify(ctx, path, tell, NULL, NULL));
        assert_int_equal(told, 1);
        ok(reco_bank_open(ctx, &bank, path));
        int64_t ids[8 * K];
        float scores[8 * K];
        ok(reco_bank_search(ctx, bank, RECO_IMAGE, queries[0], 8, NULL,
                            &(reco_hits){.ids = ids, .scores = scores}));
        reco_bank_close(bank);
    }
    ok(reco_bank_index_lists(ctx, path, &(reco_lists_opts){.cells = CELLS, .recall = 0.95f}, NULL));
    free(bad);
    reco_free(good);
    told = 0;
    ok(reco_bank_verify(ctx, path, tell, NULL, NULL));
    assert_int_equal(told, 0);
    reco_lists_result r;
    ok(reco_bank_index_lists(ctx, path, &(reco_lists_opts){.kind = RECO_LISTS_NONE}, &r));
    assert_int_equal(r.files, 1);
    assert_false(reco_path_exists(file));
}

/* What rows find does not depend on how much of the bank they ask of at once, and has no copies of them. */
static void test_slices(void **state)
{
    (void)state;
    enum { WIDE = 16, ROWS = 600, ALL = 3 * ROWS, ASK = 40 };
    reco_bank_spec spec = {.d = WIDE};
    reco_bank_writer *w;
    uint64_t next;
    int done;
    ok(reco_bank_writer_open(ctx, &w, in("slices"), &spec, "job", &next, &done));
    for (uint64_t i = 0; i < 3; i++) { /* the third repeats the first */
        append_numbered(w, WIDE, i % 2 * ROWS, ROWS);
        ok(reco_bank_commit(ctx, w, (i + 1) * ROWS, i == 2));
    }
    reco_bank_writer_close(w);
    reco_bank *bank;
    ok(reco_bank_open(ctx, &bank, in("slices")));
    assert_int_equal(bank->nsegments, 3);
    size_t positions[ASK];
    for (size_t q = 0; q < ASK; q++) positions[q] = q * (ALL / ASK);
    reco_cells_asked asked[2] = {{.positions = positions, .n = ASK}, {.positions = positions, .n = ASK}};
    ok(reco_cells_ask(ctx, &asked[0], bank, 1));
    ok(reco_cells_ask(ctx, &asked[1], bank, SIZE_MAX));
    for (int i = 0; i < 4; i++)
        for (size_t q = 0; q < ASK; q++) {
            size_t n = asked[0].counts[i / 2][i % 2][q];
            const int64_t *found = asked[0].found[i / 2][i % 2] + q * asked[0].k;
            assert_int_equal(asked[1].counts[i / 2][i % 2][q], n);
            assert_memory_equal(asked[1].found[i / 2][i % 2] + q * asked[1].k, found, n * sizeof *found);
            bool twice = positions[q] / ROWS != 1; /* one that asks its own side finds its copy at once */
            if (i == 0 || i == 3) assert_int_equal(n, asked[0].k - twice);
            for (size_t j = 0; j < n; j++)
                assert_true((uint64_t)found[j] % (2 * ROWS) != positions[q] % (2 * ROWS));
        }
    for (int i = 0; i < 2; i++) reco_cells_asked_free(&asked[i]);
    reco_bank_close(bank);
}

static void test_refused(void **state)
{
    (void)state;
    const char *path = make(COPIES);
    reco_lists_result r;
    refused(RECO_E_ARG, "cells = 5101",
            reco_bank_index_lists(ctx, path, &(reco_lists_opts){.cells = N / 2 + 1}, NULL));
    refused(RECO_E_ARG, "recall = 0.3",
            reco_bank_index_lists(ctx, path, &(reco_lists_opts){.recall = 0.3f}, NULL));
    refused(RECO_E_NOTFOUND, "nothing", reco_bank_index_lists(ctx, in("nothing"), NULL, NULL));
    reco_bank *bank = opened(path);
    float scores[K];
    int64_t ids[K];
    refused(RECO_E_ARG, "recall = 2",
            reco_bank_search(ctx, bank, RECO_IMAGE, queries[0], 1, &(reco_search_opts){.recall = 2},
                             &(reco_hits){.ids = ids, .scores = scores}));
    reco_bank_close(bank);
    ok(reco_bank_index_lists(ctx, path, NULL, &r)); /* large enough for `auto` */
    assert_true(r.cells > 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_clustered), TEST(test_adversaries), TEST(test_uniform), TEST(test_filters),
        TEST(test_deleted),   TEST(test_added),       TEST(test_bytes),   TEST(test_damage),
        TEST(test_slices),    TEST(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, remove_kept);
}
