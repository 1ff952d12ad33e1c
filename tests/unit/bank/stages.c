/* Scans in stages along the bank's directions: what they find is what scans of all dimensions do, bit for bit. */
#include "bank_test.h"
#include "kernels/kernels.h"
#include "kinds.h"

enum { NQ = 24, EXCLUDED = 3 };

static reco_bank *tested;

static const uint16_t *row_of(reco_side side, size_t i)
{
    size_t segment = reco_bank_segment_at(tested, i);
    return reco_bank_row(tested, side, i, &segment);
}
static const uint16_t *image_row(const void *arg, size_t i) { return (void)arg, row_of(RECO_IMAGE, i); }
static const uint16_t *text_row(const void *arg, size_t i) { return (void)arg, row_of(RECO_TEXT, i); }

/* A bank with scan files that have no stages. */
static reco_bank *make_bank(const char *path, size_t d, size_t n, kind k, size_t commits)
{
    reco_rng rng;
    reco_rng_seed(&rng, d * 1000 + n);
    reco_bank_spec spec = {.d = d};
    reco_bank_writer *w;
    uint64_t next;
    int done;
    float *image = malloc(d * sizeof *image), *text = malloc(d * sizeof *text);
    ok(reco_bank_writer_open(ctx, &w, path, &spec, "", &next, &done));
    for (size_t i = 0; i < n; i++) {
        make_row(image, d, k, i, &rng);
        make_row(text, d, SPECTRUM, i, &rng);
        ok(reco_bank_append(ctx, w, image, text, &(reco_pair){.caption = "x"}, 1));
        if (i % (n / commits + 1) == 0 || i == n - 1) ok(reco_bank_commit(ctx, w, i, i == n - 1));
    }
    reco_bank_writer_close(w);
    free(text);
    free(image);
    size_t files;
    reco_bank *bank;
    ok(reco_bank_index(ctx, path, RECO_SCAN_INT8, &files));
    ok(reco_bank_open(ctx, &bank, path));
    assert_null(bank->segments[0].source[RECO_IMAGE].stages.directions);
    return bank;
}

/* The same with stages. */
static reco_bank *give_stages(reco_bank *bank, const char *path, size_t first, size_t second)
{
    size_t files, d = bank->info.d;
    tested = bank;
    const reco_scan_rows rows[] = {{image_row, NULL, bank->positions, d},
                                   {text_row, NULL, bank->positions, d}};
    ok(reco_directions_make(ctx, path, rows, first, second));
    reco_bank_close(bank);
    ok(reco_bank_index(ctx, path, RECO_SCAN_INT8, &files));
    ok(reco_bank_open(ctx, &bank, path));
    assert_int_equal(files, bank->nsegments);
    for (size_t i = 0; i < bank->nsegments; i++)
        for (int side = 0; side < 2; side++)
            assert_ptr_equal(bank->segments[i].source[side].stages.directions,
                             &bank->directions.side[side]);
    ok(reco_bank_index(ctx, path, RECO_SCAN_INT8, &files));
    assert_int_equal(files, 0);
    return bank;
}

static reco_bank_filter *filter_some(const reco_bank *bank, size_t n, reco_rng *rng)
{
    int64_t *ids = malloc(n * sizeof *ids);
    for (size_t i = 0; i < n; i++) ids[i] = (int64_t)reco_rng_below(rng, bank->positions);
    reco_bank_filter *filter;
    ok(reco_bank_filter_ids(ctx, &filter, bank, ids, n));
    free(ids);
    return filter;
}

typedef struct answer {
    float scores[NQ * 20];
    int64_t ids[NQ * 20];
    size_t counts[NQ];
} answer;

typedef struct asked {
    float *queries;
    size_t nq;
    reco_side side;
    reco_search_opts opts;
    size_t filtered; /* 0: no filter, else of about so many rows */
    uint64_t seed;
} asked;

static void ask(reco_bank *bank, const asked *a, answer *out)
{
    reco_rng rng;
    reco_rng_seed(&rng, a->seed);
    reco_search_opts opts = a->opts;
    reco_bank_filter *filter = a->filtered ? filter_some(bank, a->filtered, &rng) : NULL;
    opts.filter = filter;
    memset(out, 0, sizeof *out);
    ok(reco_bank_search(ctx, bank, a->side, a->queries, a->nq, &opts,
                        &(reco_hits){.ids = out->ids, .scores = out->scores, .counts = out->counts}));
    reco_bank_filter_free(filter);
}

/* Widths, stages, kinds, deletions, filters, exclusions, floors, kernels and threads as they fall. */
static void test_property(void **state)
{
    static const reco_isa sets[] = {RECO_ISA_PLAIN, RECO_ISA_AVX2, RECO_ISA_AUTO};
    (void)state;
    enum { ROUNDS = 48 };
    reco_rng rng;
    reco_rng_seed(&rng, 20261129);
    reco_ctx *own = ctx;
    static answer want, got;
    for (int round = 0; round < ROUNDS; round++) {
        size_t d = 2 + reco_rng_below(&rng, round % 4 ? 1099 : 70), n = 100 + reco_rng_below(&rng, 400);
        size_t second = 2 + reco_rng_below(&rng, reco_min(d, n / 3) - 1);
        second = reco_min(second, RECO_DIRECTIONS_MOST);
        size_t first = 1 + reco_rng_below(&rng, second - 1);
        const char *path = in("b");
        reco_bank *bank = make_bank(path, d, n, (kind)(round % KINDS), 1 + reco_rng_below(&rng, 3));
        if (reco_rng_below(&rng, 2)) {
            int64_t ids[5];
            for (size_t i = 0; i < 5; i++) ids[i] = (int64_t)reco_rng_below(&rng, n);
            reco_bank_close(bank);
            ok(reco_bank_delete(ctx, path, &(reco_bank_rows){.ids = ids, .nids = 5}, NULL, NULL));
            ok(reco_bank_open(ctx, &bank, path));
        }
        asked a = {.nq = 1 + reco_rng_below(&rng, NQ),
                   .side = reco_rng_below(&rng, 4) ? RECO_IMAGE : RECO_TEXT};
        int64_t exclude[NQ * EXCLUDED];
        a.queries = malloc(a.nq * d * sizeof *a.queries);
        for (size_t q = 0; q < a.nq; q++) {
            float *x = a.queries + q * d;
            int64_t id = (int64_t)reco_rng_below(&rng, n);
            if (q % 3 == 0) { /* a row */
                ok(reco_bank_gather(ctx, bank, a.side, &id, 1, x));
                assert_true(reco_unit_row(x, d));
            } else if (q % 3 == 1)
                random_unit(x, d, &rng);
            else { /* an axis: along no direction but one, perhaps */
                memset(x, 0, d * sizeof *x);
                x[reco_rng_below(&rng, d)] = 1;
            }
            for (size_t i = 0; i < EXCLUDED; i++)
                exclude[q * EXCLUDED + i] = i ? (int64_t)reco_rng_below(&rng, n) : id;
        }
        a.opts = (reco_search_opts){.k = 1 + reco_rng_below(&rng, 20), .exclude = exclude};
        a.opts.nexclude = reco_rng_below(&rng, 2) ? EXCLUDED : 0;
        a.opts.min_similarity = reco_rng_below(&rng, 2) ? 0.3f : -1;
        a.filtered = reco_rng_below(&rng, 2) ? 1 + reco_rng_below(&rng, 2 * n) : 0;
        a.seed = reco_rng_next(&rng);
        ask(bank, &a, &want);
        bank = give_stages(bank, path, first, second);
        for (size_t s = 0; s < 6; s++) {
            reco_ctx_opts opts = {.threads = 1 + (int)(s % 2), .max_isa = sets[s / 2]};
            assert_int_equal(reco_ctx_create(&ctx, &opts), RECO_OK);
            ask(bank, &a, &got);
            assert_memory_equal(got.counts, want.counts, sizeof want.counts);
            assert_memory_equal(got.ids, want.ids, sizeof want.ids);
            assert_memory_equal(got.scores, want.scores, sizeof want.scores);
            reco_ctx_free(ctx);
            ctx = own;
        }
        if (round % 8 == 0) {
            reco_bank_health health;
            ok(reco_bank_verify(ctx, path, NULL, NULL, &health));
            assert_int_equal(health.problems, 0);
        }
        free(a.queries);
        reco_bank_close(bank);
        tear_down(NULL);
        assert_int_equal(set_up(NULL), 0);
        own = ctx;
    }
}

/* One byte of a file, and its size. */
static long flip(const char *path, long at)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    long size = ftell(f);
    at %= size;
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    int c = fgetc(f) ^ 1 << at % 8;
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    assert_int_equal(fputc(c, f), c);
    assert_int_equal(fclose(f), 0);
    return size;
}

enum { D = 40, N = 160, K = 5 };

/* What a bank with this byte flipped finds is right, or verify says that something is wrong; the byte is flipped back. */
static void check_flip(const char *path, const char *file, long at, const answer *want,
                       const float *queries)
{
    const asked a = {.queries = (float *)queries, .nq = NQ, .opts = {.k = K, .min_similarity = -1}};
    static answer got;
    reco_bank *bank;
    flip(file, at);
    if (reco_bank_open(ctx, &bank, path) == RECO_OK) {
        ask(bank, &a, &got);
        reco_bank_close(bank);
    }
    reco_bank_health health;
    ok(reco_bank_verify(ctx, path, NULL, NULL, &health));
    if (memcmp(&got, want, sizeof got) != 0) assert_true(health.problems > 0);
    flip(file, at);
}

static void test_damage(void **state)
{
    (void)state;
    const char *path = in("b");
    char directions[300], scan[300];
    snprintf(directions, sizeof directions, "%s/vectors/" RECO_DIRECTIONS_FILE, path);
    snprintf(scan, sizeof scan, "%s/vectors/segment-000001" RECO_SCAN_ENDING, path);
    reco_bank *bank = make_bank(path, D, N, SPECTRUM, 1);
    float queries[NQ * D];
    for (uint64_t q = 0; q < NQ; q++) numbered_unit(queries + q * D, D, RECO_IMAGE, q);
    const asked a = {.queries = queries, .nq = NQ, .opts = {.k = K, .min_similarity = -1}};
    static answer want, got;
    ask(bank, &a, &want);
    bank = give_stages(bank, path, 9, 20);
    ask(bank, &a, &got);
    reco_bank_close(bank);
    assert_memory_equal(&got, &want, sizeof want);
    reco_rng rng;
    reco_rng_seed(&rng, 9);
    for (size_t i = 0; i < 60; i++)
        check_flip(path, directions, (long)reco_rng_below(&rng, 1 << 20), &want, queries);
    for (size_t i = 0; i < 200; i++)
        check_flip(path, scan, (long)reco_rng_below(&rng, 1 << 20), &want, queries);

    /* Directions that are damaged, or others, are no reason to find less; index makes what is wanted. */
    size_t files;
    long size = flip(directions, -1 + 4096);
    ok(reco_bank_open(ctx, &bank, path));
    assert_null(bank->directions.file);
    assert_non_null(bank->segments[0].source[RECO_IMAGE].codes);
    assert_null(bank->segments[0].source[RECO_IMAGE].stages.directions);
    ask(bank, &a, &got);
    assert_memory_equal(&got, &want, sizeof want);
    reco_bank_close(bank);
    reco_bank_health health;
    ok(reco_bank_verify(ctx, path, NULL, NULL, &health));
    assert_int_equal(health.problems, 1);
    assert_int_equal(truncate(directions, size / 2), 0);
    ok(reco_bank_open(ctx, &bank, path));
    bank = give_stages(bank, path, 4, 30);
    ask(bank, &a, &got);
    assert_memory_equal(&got, &want, sizeof want);
    reco_bank_close(bank);

    /* What a killed writer left of one is removed; --scan none leaves none. */
    char left[320];
    snprintf(left, sizeof left, "%s/vectors/." RECO_DIRECTIONS_FILE ".tmp-abc", path);
    FILE *f = fopen(left, "w");
    assert_non_null(f);
    fclose(f);
    ok(reco_bank_index(ctx, path, RECO_SCAN_NONE, &files));
    assert_int_equal(files, 2);
    assert_int_equal(access(directions, F_OK), -1);
    assert_int_equal(access(left, F_OK), -1);
}

/* Rows enough for directions that are chosen by themselves: some for those that lie along few, none for the others; the same bytes
 * with one thread and two. */
static void test_choice(void **state)
{
    (void)state;
    enum { WIDTH = 192, ROWS = RECO_SCAN_DEFAULT_ROWS };
    char hash[2][33];
    float *x[2] = {malloc(ROWS * WIDTH * sizeof(float)), malloc(ROWS * WIDTH * sizeof(float))};
    reco_pair *pairs = calloc(ROWS, sizeof *pairs);
    reco_rng rng;
    reco_rng_seed(&rng, 6);
    for (size_t i = 0; i < ROWS; i++) {
        make_row(x[0] + i * WIDTH, WIDTH, SPECTRUM, i, &rng);
        make_row(x[1] + i * WIDTH, WIDTH, RANDOM, i, &rng);
        pairs[i].caption = "x";
    }
    for (int threads = 1; threads <= 2; threads++) {
        reco_ctx *own = ctx;
        const reco_ctx_opts opts = {.threads = threads};
        assert_int_equal(reco_ctx_create(&ctx, &opts), RECO_OK);
        const char *path = in(threads == 1 ? "one" : "two");
        reco_bank_spec spec = {.d = WIDTH};
        reco_bank_writer *w;
        uint64_t next;
        int done;
        ok(reco_bank_writer_open(ctx, &w, path, &spec, "", &next, &done));
        ok(reco_bank_append(ctx, w, x[0], x[1], pairs, ROWS));
        ok(reco_bank_commit(ctx, w, ROWS, 1));
        reco_bank_writer_close(w);
        reco_bank *bank;
        ok(reco_bank_open(ctx, &bank, path));
        assert_int_equal(bank->info.scan_rows, ROWS);
        assert_non_null(bank->directions.side[RECO_IMAGE].rows);
        assert_ptr_equal(bank->segments[0].source[RECO_IMAGE].stages.directions,
                         &bank->directions.side[RECO_IMAGE]);
        assert_null(bank->directions.side[RECO_TEXT].rows);
        assert_null(bank->segments[0].source[RECO_TEXT].stages.directions);
        char file[300];
        snprintf(file, sizeof file, "%s/vectors/segment-000000" RECO_SCAN_ENDING, path);
        ok(reco_hash_file(ctx, file, hash[threads - 1]));
        reco_bank_close(bank);
        reco_ctx_free(ctx);
        ctx = own;
    }
    assert_string_equal(hash[0], hash[1]);
    free(pairs);
    free(x[1]);
    free(x[0]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_property),
        TEST(test_damage),
        TEST(test_choice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
