/* Long because the definition, its banks and what is compared with it belong together. */
#include "bank_test.h"
#include "kinds.h"
#include "kernels/kernels.h"

#include <pthread.h>

static bool with_scan; /* give banks scan files */

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
    size_t files;
    ok(reco_bank_index(ctx, bank_path(d, n, k), with_scan ? RECO_SCAN_INT8 : RECO_SCAN_NONE, &files));
    ok(reco_bank_open(ctx, &bank, bank_path(d, n, k)));
    assert_int_equal(files, with_scan ? bank->nsegments : 0);
    assert_int_equal(bank->info.scan_rows, with_scan ? n : 0);
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
    ok(reco_bank_delete(ctx, bank_path(d, n, k), &(reco_bank_rows){.ids = ids, .nids = 5}, NULL, NULL));
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
                          const int64_t *exclude, size_t nexclude, const float *query, size_t k,
                          int64_t *ids, float *scores)
{
    size_t d = bank->info.d, found = 0;
    float *x = malloc(d * sizeof *x);
    for (int64_t id = 0; id < bank->info.next_id; id++) {
        size_t p;
        assert_true(reco_bank_find(bank, id, &p));
        if (reco_bank_is_deleted(bank, p)) continue;
        if (filter && !(filter->bits[p / 64] >> p % 64 & 1)) continue;
        bool excluded = false;
        for (size_t i = 0; i < nexclude; i++) excluded |= exclude[i] == id;
        if (excluded) continue;
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
    /* Half of the time without some rows, among them the one that a query is near, and ids that may be anything. */
    enum { EXCLUDED = 4 };
    int64_t *exclude = malloc(nq * EXCLUDED * sizeof *exclude);
    size_t nexclude = reco_rng_below(rng, 2) ? EXCLUDED : 0;
    for (size_t q = 0; q < nq; q++) {
        int64_t id = (int64_t)reco_rng_below(rng, (size_t)bank->info.next_id);
        const int64_t some[EXCLUDED] = {id, INT64_MAX, -1,
                                        (int64_t)reco_rng_below(rng, (size_t)bank->info.next_id)};
        memcpy(exclude + q * EXCLUDED, some, sizeof some);
        if (q % 2) { /* near a row */
            ok(reco_bank_gather(ctx, bank, side, &id, 1, queries + q * d));
            double norm = sqrt(reco_dot(queries + q * d, queries + q * d, d));
            for (size_t i = 0; i < d; i++) queries[q * d + i] /= (float)norm;
        } else
            random_unit(queries + q * d, d, rng);
    }

    reco_search_opts opts = {
        .k = k, .min_similarity = -1, .filter = filter, .exclude = exclude, .nexclude = nexclude};
    ok(reco_bank_search(ctx, bank, side, queries, nq, &opts,
                        &(reco_hits){.ids = ids, .scores = scores, .counts = counts}));
    for (size_t q = 0; q < nq; q++) {
        size_t n = brute_force(bank, side, filter, exclude + q * EXCLUDED, nexclude, queries + q * d, k,
                               want, want_scores);
        assert_int_equal(counts[q], n);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(ids[q * k + i], want[i]);
            assert_true(scores[q * k + i] == want_scores[i]);
        }
        for (size_t i = n; i < k; i++) assert_true(ids[q * k + i] == -1 && scores[q * k + i] == 0);
    }
    free(exclude);
    free(counts);
    free(want);
    free(ids);
    free(want_scores);
    free(scores);
    free(queries);
}

static void test_exact(void **state)
{
    with_scan = *state != NULL;
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

/* Widths, kinds, deletions, filters, kernels and threads as they fall. */
static void test_property(void **state)
{
    static const reco_isa sets[] = {RECO_ISA_PLAIN, RECO_ISA_AVX2, RECO_ISA_AUTO};
    (void)state;
    reco_rng rng;
    reco_rng_seed(&rng, 20261124);
    reco_ctx *own = ctx;
    for (int round = 0; round < 60; round++) {
        size_t d = 1 + reco_rng_below(&rng, round % 3 ? 1100 : 70), n = 6 + reco_rng_below(&rng, 400);
        kind k = (kind)(round % KINDS);
        size_t top = 1 + reco_rng_below(&rng, 20), nq = 1 + reco_rng_below(&rng, 40);
        with_scan = reco_rng_below(&rng, 3) != 0;
        reco_bank *bank = make_bank(d, n, k, 1 + reco_rng_below(&rng, 3));
        if (reco_rng_below(&rng, 2)) bank = delete_some(bank, k);
        reco_bank_filter *filter =
            reco_rng_below(&rng, 2) ? filter_some(bank, reco_rng_below(&rng, 2 * n)) : NULL;
        for (size_t s = 0; s < 3; s++) {
            reco_ctx_opts opts = {.threads = 1 + (int)reco_rng_below(&rng, 2), .max_isa = sets[s]};
            assert_int_equal(reco_ctx_create(&ctx, &opts), RECO_OK);
            check_search(bank, reco_rng_below(&rng, 2) ? RECO_IMAGE : RECO_TEXT, filter, top, nq, &rng);
            reco_ctx_free(ctx);
            ctx = own;
        }
        reco_bank_filter_free(filter);
        reco_bank_close(bank);
        tear_down(NULL);
        assert_int_equal(set_up(NULL), 0);
        own = ctx;
    }
}

/* A scan over some blocks finds the best of those. */
static void test_blocks(void **state)
{
    (void)state;
    enum { D = 32, N = 3000, NQ = 20, K = 5 };
    with_scan = true;
    reco_bank *bank = make_bank(D, N, RANDOM, 2);
    float queries[NQ * D], scores[2][NQ * K];
    int64_t found[NQ * K], ids[NQ * K];
    size_t counts[NQ];
    for (uint64_t q = 0; q < NQ; q++) numbered_unit(queries + q * D, D, RECO_IMAGE, q);
    const reco_scan_block blocks[] = {{.source = &bank->segments[1].source[0], .first = 32, .rows = 200},
                                      {.source = &bank->segments[1].source[0], .first = 1024, .rows = 1},
                                      {.source = &bank->segments[2].source[0], .rows = 777}};
    reco_scan_opts opts = {.k = K, .least = -INFINITY, .blocks = blocks, .nblocks = 3};
    ok(reco_bank_scan(ctx, bank, &opts, queries, NQ, scores[0], found, counts));
    int64_t *among = malloc(N * sizeof *among);
    size_t n = 0;
    for (size_t b = 0; b < 3; b++)
        for (size_t r = 0; r < blocks[b].rows; r++)
            among[n++] = reco_bank_id_at(bank, blocks[b].source->base + blocks[b].first + r);
    reco_bank_filter *filter;
    ok(reco_bank_filter_ids(ctx, &filter, bank, among, n));
    assert_int_equal(reco_bank_filter_count(filter), 978);
    reco_search_opts search = {.k = K, .min_similarity = -1, .filter = filter};
    ok(reco_bank_search(ctx, bank, RECO_IMAGE, queries, NQ, &search,
                        &(reco_hits){.ids = ids, .scores = scores[1]}));
    for (size_t i = 0; i < NQ * K; i++) assert_int_equal(reco_bank_id_at(bank, (size_t)found[i]), ids[i]);
    assert_memory_equal(scores[0], scores[1], sizeof scores[0]);
    free(among);
    reco_bank_filter_free(filter);
    reco_bank_close(bank);
}

static const reco_bank *tested;

static const uint16_t *row_at(const void *arg, size_t i)
{
    static const uint16_t zeros[32];
    const reco_scan_source *source = arg;
    size_t segment = 0, p = source->positions[i];
    return p == UINT32_MAX ? zeros : reco_bank_row(tested, RECO_IMAGE, p, &segment);
}

/* Sources of any rows in any order, with and without codes, find what the segments' own do. */
static void test_sources(void **state)
{
    (void)state;
    enum { D = 32, N = 3000, NQ = 20, K = 5, SOURCES = 5, ROOM = 640 };
    with_scan = true;
    reco_bank *bank = make_bank(D, N, NEAR_TIES, 2);
    static float queries[NQ * D], scores[2][NQ * K], mean[SOURCES][D], row[D], bounds[SOURCES][ROOM * 3];
    static uint8_t codes[SOURCES][ROOM * 64];
    static uint32_t order[N], places[SOURCES][ROOM];
    int64_t found[2][NQ * K];
    size_t counts[2][NQ];
    reco_rng rng;
    reco_rng_seed(&rng, 1);
    for (uint32_t r = 0; r < N; r++) {
        size_t at = reco_rng_below(&rng, r + 1);
        order[r] = order[at];
        order[at] = r;
    }
    reco_scan_source sources[SOURCES];
    reco_scan_block blocks[SOURCES];
    tested = bank;
    for (size_t i = 0; i < SOURCES; i++) {
        memset(places[i], 0xff, sizeof places[i]);
        memcpy(places[i] + i, order + i * (N / SOURCES), N / SOURCES * sizeof *order);
        sources[i] = (reco_scan_source){.positions = places[i], .rows = ROOM};
        const reco_scan_rows rows = {row_at, &sources[i], ROOM, D};
        if (i > 0) {
            reco_scan_find_mean(mean[i], row, &rows);
            ok(reco_scan_encode(ctx, codes[i], bounds[i], &rows, mean[i]));
            sources[i].codes = codes[i];
            sources[i].bounds = bounds[i];
            sources[i].mean = mean[i];
        }
        blocks[i] = (reco_scan_block){.source = &sources[i], .rows = ROOM};
    }
    for (uint64_t q = 0; q < NQ; q++) numbered_unit(queries + q * D, D, RECO_IMAGE, q);
    reco_scan_opts opts = {.k = K, .least = -INFINITY};
    ok(reco_bank_scan(ctx, bank, &opts, queries, NQ, scores[0], found[0], counts[0]));
    opts.blocks = blocks;
    opts.nblocks = SOURCES;
    ok(reco_bank_scan(ctx, bank, &opts, queries, NQ, scores[1], found[1], counts[1]));
    assert_memory_equal(scores[0], scores[1], sizeof scores[0]);
    assert_memory_equal(found[0], found[1], sizeof found[0]);
    /* Each source twice, for even queries and for odd ones, whose centres are given. */
    static float centre[SOURCES][NQ];
    static uint32_t names[2][NQ];
    reco_scan_block halves[2 * SOURCES];
    for (uint32_t q = 0; q < NQ; q++) names[q % 2][q / 2] = q;
    for (size_t i = 0; i < SOURCES; i++)
        for (size_t odd = 0; odd < 2; odd++) {
            halves[2 * i + odd] = blocks[i];
            halves[2 * i + odd].queries = names[odd];
            halves[2 * i + odd].nqueries = NQ / 2;
            if (!odd || i == 0) continue;
            halves[2 * i + odd].centre = centre[i];
            for (size_t q = 0; q < NQ / 2; q++)
                centre[i][q] = (float)reco_dot(queries + (2 * q + 1) * D, mean[i], D);
        }
    opts.blocks = halves;
    opts.nblocks = 2 * SOURCES;
    ok(reco_bank_scan(ctx, bank, &opts, queries, NQ, scores[1], found[1], counts[1]));
    assert_memory_equal(scores[0], scores[1], sizeof scores[0]);
    assert_memory_equal(found[0], found[1], sizeof found[0]);
    reco_bank_close(bank);
}

static char *scan_file(const char *path, int number)
{
    static char file[200];
    snprintf(file, sizeof file, "%s/vectors/segment-%06d" RECO_SCAN_ENDING, path, number);
    return file;
}

static bool is_file(const char *path) { return access(path, F_OK) == 0; }

static void add_rows(const char *path, size_t n)
{
    uint64_t next;
    int done;
    reco_bank_writer *w;
    ok(reco_bank_writer_open(ctx, &w, path, NULL, "", &next, &done));
    append_numbered(w, 4, 0, n);
    ok(reco_bank_commit(ctx, w, 0, 0));
    reco_bank_writer_close(w);
}

/* Large banks get scan files by themselves, and keep without what was taken away. */
static void test_index_by_itself(void **state)
{
    (void)state;
    const char *path = in("bank");
    size_t files;
    build_numbered(path, 4, 9999, 2);
    assert_false(is_file(scan_file(path, 0)));
    add_rows(path, 1);
    for (int i = 0; i < 3; i++) assert_true(is_file(scan_file(path, i)));
    add_rows(path, 40);
    assert_true(is_file(scan_file(path, 3)));
    ok(reco_bank_index(ctx, path, RECO_SCAN_NONE, &files));
    assert_int_equal(files, 4);
    add_rows(path, 40);
    for (int i = 0; i < 5; i++) assert_false(is_file(scan_file(path, i)));
    ok(reco_bank_index(ctx, path, RECO_SCAN_INT8, &files));
    assert_int_equal(files, 5);
    ok(reco_bank_index(ctx, path, RECO_SCAN_INT8, &files));
    assert_int_equal(files, 0);
    refused(RECO_E_ARG, "scan = 2", reco_bank_index(ctx, path, (reco_scan_kind)2, NULL));

    /* Compaction takes the old ones away and makes new ones. */
    int64_t id = 3;
    ok(reco_bank_delete(ctx, path, &(reco_bank_rows){.ids = &id, .nids = 1}, NULL, NULL));
    ok(reco_bank_compact(ctx, path, NULL, NULL));
    assert_false(is_file(scan_file(path, 0)));
    reco_bank *bank;
    ok(reco_bank_open(ctx, &bank, path));
    assert_int_equal(bank->info.scan_rows, bank->positions);
    reco_bank_close(bank);
    reco_bank_health health;
    ok(reco_bank_verify(ctx, path, NULL, NULL, &health));
    assert_int_equal(health.problems, 0);
    assert_int_equal(health.orphans, 0);
}

/* Any flipped byte of a scan file is reported, or no search can go wrong by it. */
static void test_damaged_scan_file(void **state)
{
    (void)state;
    enum { D = 5, N = 40, K = 10 };
    const char *path = in("bank");
    build_numbered(path, D, N, 1);
    ok(reco_bank_index(ctx, path, RECO_SCAN_INT8, NULL));
    float queries[12 * D], scores[2][12 * K];
    int64_t ids[2][12 * K];
    for (uint64_t q = 0; q < 12; q++) numbered_unit(queries + q * D, D, RECO_IMAGE, 100 + q);
    FILE *f = fopen(scan_file(path, 0), "r+");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    long bytes = ftell(f), reported = 0;
    for (long i = -1; i < bytes; i += i < 1000 ? 1 : 7) {
        int was = 0;
        if (i >= 0) {
            fseek(f, i, SEEK_SET);
            was = fgetc(f);
            fseek(f, i, SEEK_SET);
            fputc(was ^ 1 << i % 8, f);
            fflush(f);
        }
        reco_bank *bank;
        reco_bank_health health;
        ok(reco_bank_open(ctx, &bank, path));
        ok(reco_bank_search(ctx, bank, RECO_IMAGE, queries, 12, NULL,
                            &(reco_hits){.ids = ids[i >= 0], .scores = scores[i >= 0]}));
        reco_bank_close(bank);
        ok(reco_bank_verify(ctx, path, NULL, NULL, &health));
        if (health.problems == 0 && i >= 0) {
            assert_memory_equal(ids[0], ids[1], sizeof ids[0]);
            assert_memory_equal(scores[0], scores[1], sizeof scores[0]);
        }
        reported += health.problems > 0;
        if (i >= 0) {
            fseek(f, i, SEEK_SET);
            fputc(was, f);
            fflush(f);
        }
    }
    fclose(f);
    assert_true(reported > 300);
    /* Made anew when it is not good; cut off, it is not used. */
    assert_int_equal(truncate(scan_file(path, 0), bytes / 2), 0);
    reco_bank *bank;
    size_t files;
    ok(reco_bank_open(ctx, &bank, path));
    assert_int_equal(bank->info.scan_rows, 0);
    reco_bank_close(bank);
    ok(reco_bank_index(ctx, path, RECO_SCAN_INT8, &files));
    assert_int_equal(files, 1);
    ok(reco_bank_open(ctx, &bank, path));
    assert_int_equal(bank->info.scan_rows, N);
    reco_bank_close(bank);
}

/* Same bits whatever the threads, the instruction set and the number of queries asked at once. */
static void test_independent(void **state)
{
    (void)state;
    enum { D = 48, N = 5000, NQ = 40, K = 10 };
    for (int k = 0; k < KINDS; k++) {
        with_scan = k % 2;
        reco_bank *bank = delete_some(make_bank(D, N, (kind)k, 7), (kind)k);
        float queries[NQ * D], scores[2][NQ * K];
        int64_t ids[2][NQ * K];
        for (uint64_t q = 0; q < NQ; q++) numbered_unit(queries + q * D, D, RECO_IMAGE, q);
        reco_search_opts opts = {.k = K, .min_similarity = -1};
        ok(reco_bank_search(ctx, bank, RECO_IMAGE, queries, NQ, &opts,
                            &(reco_hits){.ids = ids[0], .scores = scores[0]}));
        static const reco_isa sets[] = {RECO_ISA_PLAIN, RECO_ISA_AVX2, RECO_ISA_AUTO};
        for (int threads = 1; threads <= 5; threads += 2)
            for (size_t s = 0; s < 3; s++)
                for (size_t step = 1; step <= NQ; step += 13) {
                    reco_ctx *other;
                    reco_ctx_opts ctx_opts = {.threads = threads, .max_isa = sets[s]};
                    ok(reco_ctx_create(&other, &ctx_opts));
                    for (size_t q = 0; q < NQ; q += step)
                        assert_int_equal(reco_bank_search(other, bank, RECO_IMAGE, queries + q * D,
                                                          reco_min(step, NQ - q), &opts,
                                                          &(reco_hits){.ids = ids[1] + q * K,
                                                                       .scores = scores[1] + q * K}),
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
    with_scan = true;
    reco_bank *bank = make_bank(16, 100, RANDOM, 1);
    float queries[2 * 16], scores[2 * 20];
    int64_t ids[2 * 20];
    size_t counts[2];
    for (uint64_t q = 0; q < 2; q++) numbered_unit(queries + 16 * q, 16, RECO_IMAGE, q);
    reco_hits hits = {.ids = ids, .scores = scores, .counts = counts};
    ok(reco_bank_search(ctx, bank, RECO_IMAGE, queries, 2, NULL, &hits)); /* k = 10 */
    assert_int_equal(counts[1], 10);
    float fifth = scores[10 + 4];
    reco_search_opts opts = {.k = 20, .min_similarity = fifth};
    ok(reco_bank_search(ctx, bank, RECO_IMAGE, queries, 2, &opts, &hits));
    assert_int_equal(counts[1], 5);
    assert_true(scores[20 + 4] == fifth && ids[20 + 5] == -1 && scores[20 + 5] == 0);
    opts = (reco_search_opts){.k = 20, .min_similarity = 0};
    ok(reco_bank_search(ctx, bank, RECO_IMAGE, queries, 2, &opts, &hits));
    for (size_t i = 0; i < counts[0]; i++) assert_true(scores[i] >= 0);
    opts.min_similarity = 2;
    ok(reco_bank_search(ctx, bank, RECO_IMAGE, queries, 2, &opts, &hits));
    assert_int_equal(counts[0], 0);
    ok(reco_bank_search(ctx, bank, RECO_IMAGE, queries, 0, &opts, &hits));

    opts = (reco_search_opts){.k = 1025};
    refused(RECO_E_ARG, "k = 1025", reco_bank_search(ctx, bank, RECO_IMAGE, queries, 2, &opts, &hits));
    refused(RECO_E_ARG, "side = 2", reco_bank_search(ctx, bank, (reco_side)2, queries, 2, NULL, &hits));
    reco_bank_filter *filter;
    reco_bank *same;
    ok(reco_bank_filter_ids(ctx, &filter, bank, NULL, 0));
    opts = (reco_search_opts){.filter = filter};
    ok(reco_bank_search(ctx, bank, RECO_IMAGE, queries, 2, &opts, &hits));
    assert_int_equal(counts[0], 0);
    ok(reco_bank_open(ctx, &same, bank_path(16, 100, RANDOM)));
    refused(RECO_E_ARG, "filter", reco_bank_search(ctx, same, RECO_IMAGE, queries, 2, &opts, &hits));
    reco_bank_close(same);
    reco_bank_filter_free(filter);
    queries[17] += 0.1f;
    refused(RECO_E_ARG, "query 1", reco_bank_search(ctx, bank, RECO_IMAGE, queries, 2, NULL, &hits));
    queries[17] = NAN;
    refused(RECO_E_ARG, "query 1", reco_bank_search(ctx, bank, RECO_IMAGE, queries, 2, NULL, &hits));
    memset(queries, 0, sizeof queries);
    refused(RECO_E_ARG, "query 0", reco_bank_search(ctx, bank, RECO_IMAGE, queries, 2, NULL, &hits));
    reco_bank_close(bank);
}

/* Rows that are not numbers, as damage makes them, are never found and hide nothing. */
static void test_damaged_rows(void **state)
{
    (void)state;
    with_scan = false; /* damage after scan files were made is what verify finds */
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
        ok(reco_bank_search(ctx, bank, RECO_IMAGE, queries, nq, NULL,
                            &(reco_hits){.ids = ids, .scores = scores, .counts = counts}));
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
                                     &(reco_hits){.ids = e->ids, .scores = e->scores});
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

static int set_up_scan(void **state)
{
    *state = &with_scan;
    return set_up(state);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_exact),
        {"test_exact with scan files", test_exact, set_up_scan, tear_down, NULL},
        TEST(test_property),
        TEST(test_blocks),
        TEST(test_sources),
        TEST(test_index_by_itself),
        TEST(test_damaged_scan_file),
        TEST(test_independent),
        TEST(test_options),
        TEST(test_damaged_rows),
        TEST(test_threads_share_a_bank),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
