#include "bank_test.h"
#include "kernels/kernels.h"

#include <pthread.h>

typedef enum kind { RANDOM, ONE_ROW, TEN_ROWS, NARROW_CONE, NEAR_TIES, KINDS } kind;

/* Rows that make a careless search wrong: copies, and scores that differ by less than f32 sums can tell. */
static void make_row(float *x, size_t d, kind k, size_t i, reco_rng *rng)
{
    reco_rng fixed;
    reco_rng_seed(&fixed, k == TEN_ROWS ? i % 10 : 0);
    if (k == RANDOM) {
        random_unit(x, d, rng);
        return;
    }
    random_unit(x, d, &fixed);
    if (k == NARROW_CONE || k == NEAR_TIES) {
        double sum = 0, width = k == NARROW_CONE ? 1e-2 : 1e-3;
        for (size_t j = 0; j < d; j++) {
            x[j] += (float)(width * reco_rng_normal(rng) / sqrt((double)d));
            sum += (double)x[j] * (double)x[j];
        }
        for (size_t j = 0; j < d; j++) x[j] = (float)(x[j] / sqrt(sum));
    }
}

static const char *bank_path(size_t d, size_t n, kind k)
{
    static char path[100];
    snprintf(path, sizeof path, "%s/%zu-%zu-%d", folder, d, n, (int)k);
    return path;
}

static reco_bank *make_bank(size_t d, size_t n, kind k, size_t commits)
{
    reco_rng rng;
    reco_rng_seed(&rng, d * 1000 + n);
    reco_bank_spec spec = {.d = d};
    reco_bank_writer *w;
    uint64_t next;
    int done;
    float *image = malloc(d * sizeof *image), *text = malloc(d * sizeof *text);
    ok(reco_bank_writer_open(ctx, &w, bank_path(d, n, k), &spec, "", &next, &done));
    for (size_t i = 0; i < n; i++) {
        make_row(image, d, k, i, &rng);
        random_unit(text, d, &rng);
        ok(reco_bank_append(ctx, w, image, text, &(reco_pair){.caption = "x"}, 1));
        if (i % (n / commits + 1) == 0 || i == n - 1) ok(reco_bank_commit(ctx, w, i, i == n - 1));
    }
    reco_bank_writer_close(w);
    reco_bank *bank;
    ok(reco_bank_open(ctx, &bank, bank_path(d, n, k)));
    free(text);
    free(image);
    return bank;
}

/* The same bank without some of its rows. */
static reco_bank *delete_some(reco_bank *bank, kind k)
{
    size_t d = bank->info.d, n = bank->positions;
    int64_t ids[5];
    reco_rng rng;
    reco_rng_seed(&rng, n);
    for (size_t i = 0; i < 5; i++) ids[i] = (int64_t)reco_rng_below(&rng, n);
    reco_bank_close(bank);
    ok(reco_bank_delete(ctx, bank_path(d, n, k), ids, 5, NULL, 0, NULL, NULL));
    ok(reco_bank_open(ctx, &bank, bank_path(d, n, k)));
    return bank;
}

/* Of about n rows drawn with replacement, some deleted, and ids that nobody has. */
static reco_bank_filter *filter_some(const reco_bank *bank, size_t n)
{
    int64_t *ids = malloc((n + 3) * sizeof *ids);
    reco_rng rng;
    reco_rng_seed(&rng, n);
    for (size_t i = 0; i < n; i++) ids[i] = (int64_t)reco_rng_below(&rng, bank->positions);
    ids[n] = -1;
    ids[n + 1] = bank->info.next_id;
    ids[n + 2] = INT64_MAX;
    reco_bank_filter *filter;
    ok(reco_bank_filter_ids(ctx, &filter, bank, ids, n + 3));
    size_t count = 0;
    for (size_t p = 0; p < bank->positions; p++) {
        bool drawn = false;
        for (size_t i = 0; i < n; i++) drawn |= ids[i] == reco_bank_id_at(bank, p);
        drawn &= !reco_bank_is_deleted(bank, p);
        assert_int_equal(filter->bits[p / 64] >> p % 64 & 1, drawn);
        count += drawn;
    }
    assert_int_equal(reco_bank_filter_count(filter), count);
    free(ids);
    return filter;
}

/* The definition: every live row scored in double, sorted by score in f32, then id. */
static size_t brute_force(const reco_bank *bank, reco_side side, const reco_bank_filter *filter,
                          const float *query, size_t k, int64_t *ids, float *scores)
{
    size_t d = bank->info.d, found = 0;
    float *x = malloc(d * sizeof *x);
    for (int64_t id = 0; id < bank->info.next_id; id++) {
        size_t p;
        assert_true(reco_bank_find(bank, id, &p));
        if (reco_bank_is_deleted(bank, p)) continue;
        if (filter && !(filter->bits[p / 64] >> p % 64 & 1)) continue;
        ok(reco_bank_gather(ctx, bank, side, &id, 1, x));
        float score = (float)reco_dot(query, x, d);
        long double sum = 0;
        for (size_t i = 0; i < d; i++) sum += (long double)query[i] * (long double)x[i];
        assert_true(fabsl(sum - (long double)score) < 1e-7L);
        size_t at = found < k ? found++ : k;
        for (; at > 0 && score > scores[at - 1]; at--)
            if (at < k) scores[at] = scores[at - 1], ids[at] = ids[at - 1];
        if (at < k) scores[at] = score, ids[at] = id;
    }
    free(x);
    return found;
}

static void check_search(const reco_bank *bank, reco_side side, const reco_bank_filter *filter, size_t k,
                         size_t nq, reco_rng *rng)
{
    size_t d = bank->info.d;
    float *queries = calloc(nq * d, sizeof *queries), *scores = malloc(nq * k * sizeof *scores);
    float *want_scores = malloc(k * sizeof *want_scores);
    int64_t *ids = malloc(nq * k * sizeof *ids), *want = malloc(k * sizeof *want);
    size_t *counts = malloc(nq * sizeof *counts);
    for (size_t q = 0; q < nq; q++)
        if (q % 2) { /* near a row */
            int64_t id = (int64_t)reco_rng_below(rng, (size_t)bank->info.next_id);
            ok(reco_bank_gather(ctx, bank, side, &id, 1, queries + q * d));
            double norm = sqrt(reco_dot(queries + q * d, queries + q * d, d));
            for (size_t i = 0; i < d; i++) queries[q * d + i] /= (float)norm;
        } else
            random_unit(queries + q * d, d, rng);

    reco_search_opts opts = {.k = k, .filter = filter};
    ok(reco_bank_search(ctx, bank, side, queries, nq, &opts, (reco_hits){ids, scores, counts}));
    for (size_t q = 0; q < nq; q++) {
        size_t n = brute_force(bank, side, filter, queries + q * d, k, want, want_scores);
        assert_int_equal(counts[q], n);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(ids[q * k + i], want[i]);
            assert_true(scores[q * k + i] == want_scores[i]);
        }
        for (size_t i = n; i < k; i++) assert_true(ids[q * k + i] == -1 && scores[q * k + i] == 0);
    }
    free(counts);
    free(want);
    free(ids);
    free(want_scores);
    free(scores);
    free(queries);
}

static void test_exact(void **state)
{
    (void)state;
    static const struct {
        size_t d, n, k, nq;
    } cases[] = {
        {1, 1, 1, 1},    {1, 40, 10, 5},   {2, 300, 10, 3},   {3, 50, 64, 7},    {17, 1500, 10, 4},
        {64, 900, 5, 1}, {64, 901, 5, 40}, {100, 77, 100, 6}, {513, 700, 10, 9}, {32, 2600, 1024, 5},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (int k = 0; k < KINDS; k++) {
            reco_bank *bank = make_bank(cases[c].d, cases[c].n, (kind)k, 3);
            reco_rng rng;
            reco_rng_seed(&rng, c);
            check_search(bank, RECO_IMAGE, NULL, cases[c].k, cases[c].nq, &rng);
            bank = delete_some(bank, (kind)k);
            check_search(bank, RECO_IMAGE, NULL, cases[c].k, cases[c].nq, &rng);
            check_search(bank, RECO_TEXT, NULL, cases[c].k, cases[c].nq, &rng);
            reco_bank_filter *filter = filter_some(bank, cases[c].n / (1 + 4 * (size_t)k));
            check_search(bank, RECO_IMAGE, filter, cases[c].k, cases[c].nq, &rng);
            reco_bank_filter_free(filter);
            reco_bank_close(bank);
        }
}

/* Same bits whatever the threads, the instruction set and the number of queries asked at once. */
static void test_independent(void **state)
{
    (void)state;
    enum { D = 48, N = 5000, NQ = 40, K = 10 };
    for (int k = 0; k < KINDS; k++) {
        reco_bank *bank = delete_some(make_bank(D, N, (kind)k, 7), (kind)k);
        float queries[NQ * D], scores[2][NQ * K];
        int64_t ids[2][NQ * K];
        for (uint64_t q = 0; q < NQ; q++) numbered_unit(queries + q * D, D, RECO_IMAGE, q);
        reco_search_opts opts = {.k = K};
        ok(reco_bank_search(ctx, bank, RECO_IMAGE, queries, NQ, &opts,
                            (reco_hits){ids[0], scores[0], NULL}));
        static const reco_isa sets[] = {RECO_ISA_PLAIN, RECO_ISA_AVX2, RECO_ISA_AUTO};
        for (int threads = 1; threads <= 5; threads += 2)
            for (size_t s = 0; s < 3; s++)
                for (size_t step = 1; step <= NQ; step += 13) {
                    reco_ctx *other;
                    reco_ctx_opts ctx_opts = {.threads = threads, .max_isa = sets[s]};
                    ok(reco_ctx_create(&other, &ctx_opts));
                    for (size_t q = 0; q < NQ; q += step)
                        assert_int_equal(
                            reco_bank_search(other, bank, RECO_IMAGE, queries + q * D,
                                             reco_min(step, NQ - q), &opts,
                                             (reco_hits){ids[1] + q * K, scores[1] + q * K, NULL}),
                            RECO_OK);
                    reco_ctx_free(other);
                    assert_memory_equal(ids[0], ids[1], sizeof ids[0]);
                    assert_memory_equal(scores[0], scores[1], sizeof scores[0]);
                }
        reco_bank_close(bank);
    }
}

static void test_options(void **state)
{
    (void)state;
    reco_bank *bank = make_bank(16, 100, RANDOM, 1);
    float queries[2 * 16], scores[2 * 20];
    int64_t ids[2 * 20];
    size_t counts[2];
    for (uint64_t q = 0; q < 2; q++) numbered_unit(queries + 16 * q, 16, RECO_IMAGE, q);
    reco_hits hits = {ids, scores, counts};
    ok(reco_bank_search(ctx, bank, RECO_IMAGE, queries, 2, NULL, hits)); /* k = 10 */
    assert_int_equal(counts[1], 10);
    float fifth = scores[10 + 4];
    reco_search_opts opts = {.k = 20, .min_similarity = fifth, .use_min = 1};
    ok(reco_bank_search(ctx, bank, RECO_IMAGE, queries, 2, &opts, hits));
    assert_int_equal(counts[1], 5);
    assert_true(scores[20 + 4] == fifth && ids[20 + 5] == -1 && scores[20 + 5] == 0);
    opts = (reco_search_opts){.k = 20, .min_similarity = 0, .use_min = 1};
    ok(reco_bank_search(ctx, bank, RECO_IMAGE, queries, 2, &opts, hits));
    for (size_t i = 0; i < counts[0]; i++) assert_true(scores[i] >= 0);
    opts.min_similarity = 2;
    ok(reco_bank_search(ctx, bank, RECO_IMAGE, queries, 2, &opts, hits));
    assert_int_equal(counts[0], 0);
    ok(reco_bank_search(ctx, bank, RECO_IMAGE, queries, 0, &opts, hits));

    opts = (reco_search_opts){.k = 1025};
    refused(RECO_E_ARG, "k = 1025", reco_bank_search(ctx, bank, RECO_IMAGE, queries, 2, &opts, hits));
    refused(RECO_E_ARG, "side = 2", reco_bank_search(ctx, bank, (reco_side)2, queries, 2, NULL, hits));
    reco_bank_filter *filter;
    reco_bank *same;
    ok(reco_bank_filter_ids(ctx, &filter, bank, NULL, 0));
    opts = (reco_search_opts){.filter = filter};
    ok(reco_bank_search(ctx, bank, RECO_IMAGE, queries, 2, &opts, hits));
    assert_int_equal(counts[0], 0);
    ok(reco_bank_open(ctx, &same, bank_path(16, 100, RANDOM)));
    refused(RECO_E_ARG, "filter", reco_bank_search(ctx, same, RECO_IMAGE, queries, 2, &opts, hits));
    reco_bank_close(same);
    reco_bank_filter_free(filter);
    queries[17] += 0.1f;
    refused(RECO_E_ARG, "query 1", reco_bank_search(ctx, bank, RECO_IMAGE, queries, 2, NULL, hits));
    queries[17] = NAN;
    refused(RECO_E_ARG, "query 1", reco_bank_search(ctx, bank, RECO_IMAGE, queries, 2, NULL, hits));
    memset(queries, 0, sizeof queries);
    refused(RECO_E_ARG, "query 0", reco_bank_search(ctx, bank, RECO_IMAGE, queries, 2, NULL, hits));
    reco_bank_close(bank);
}

/* Rows that are not numbers, as damage makes them, are never found and hide nothing. */
static void test_damaged_rows(void **state)
{
    (void)state;
    reco_bank *bank = make_bank(8, 200, RANDOM, 1);
    char path[160];
    snprintf(path, sizeof path, "%s/vectors/segment-000001.safetensors", bank_path(8, 200, RANDOM));
    reco_bank_close(bank);
    FILE *f = fopen(path, "r+");
    assert_non_null(f);
    const uint16_t infinite = 0x7c00, nan = 0x7e01;
    fseek(f, -(long)(199 * 8 * 2 * 2), SEEK_END); /* where the images begin: segment 0 has one row */
    for (size_t i = 0; i < 60 * 8; i++) fwrite(i % 3 ? &infinite : &nan, 2, 1, f);
    for (size_t i = 0; i < 60 * 8; i++) fwrite(&infinite, 2, 1, f);
    fclose(f);
    ok(reco_bank_open(ctx, &bank, bank_path(8, 200, RANDOM)));
    float queries[5 * 8], scores[5 * 10];
    int64_t ids[5 * 10];
    size_t counts[5];
    for (uint64_t q = 0; q < 5; q++) numbered_unit(queries + 8 * q, 8, RECO_IMAGE, q);
    for (size_t nq = 1; nq <= 5; nq += 4) {
        ok(reco_bank_search(ctx, bank, RECO_IMAGE, queries, nq, NULL, (reco_hits){ids, scores, counts}));
        for (size_t i = 0; i < nq * 10; i++)
            assert_true(isfinite(scores[i]) && (ids[i] == 0 || ids[i] > 120));
        assert_int_equal(counts[0], 10);
    }
    reco_bank_close(bank);
}

typedef struct errand {
    const reco_bank *bank;
    const float *queries;
    int64_t ids[8 * 10];
    float scores[8 * 10];
    reco_status status;
} errand;

static void *run_errand(void *arg)
{
    errand *e = arg;
    reco_ctx *own;
    reco_ctx_opts opts = {.threads = 1};
    e->status = reco_ctx_create(&own, &opts);
    for (int i = 0; i < 20 && e->status == RECO_OK; i++) {
        e->status = reco_bank_search(own, e->bank, RECO_TEXT, e->queries, i % 2 ? 8 : 1, NULL,
                                     (reco_hits){e->ids, e->scores, NULL});
        float x[24];
        if (e->status == RECO_OK) e->status = reco_bank_gather(own, e->bank, RECO_TEXT, e->ids, 1, x);
    }
    reco_ctx_free(own);
    return NULL;
}

static void test_threads_share_a_bank(void **state)
{
    (void)state;
    reco_bank *bank = make_bank(24, 3000, RANDOM, 2);
    float queries[8 * 24];
    for (uint64_t q = 0; q < 8; q++) numbered_unit(queries + 24 * q, 24, RECO_IMAGE, q);
    errand errands[4];
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++) {
        errands[i] = (errand){.bank = bank, .queries = queries};
        assert_int_equal(pthread_create(&threads[i], NULL, run_errand, &errands[i]), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(errands[i].status, RECO_OK);
        assert_memory_equal(errands[i].ids, errands[0].ids, sizeof errands[0].ids);
    }
    reco_bank_close(bank);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_exact),        TEST(test_independent),          TEST(test_options),
        TEST(test_damaged_rows), TEST(test_threads_share_a_bank),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
