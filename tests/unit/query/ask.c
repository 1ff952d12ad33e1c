/* Which mixture a question is read out with, and what it refuses; what it finds is tested against the definition in
 * tests/cli/test_search.py. */
#include "fusion/fusion.h"
#include "kernels/kernels.h"
#include "query/query.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

enum { D = 16, N = 40 };

static reco_ctx *ctx;
static char folder[64];
static reco_bank *bank;
static reco_fusion *fusion;
static const reco_mixture trained = {0.5f, 0.3f, {20, 40, 30}, 0};
static float image[N * D], text[N * D];

static void good(reco_status status)
{
    if (status != RECO_OK) fail_msg("%s: %s", reco_status_name(status), reco_ctx_error(ctx));
}

static void unit_rows(float *x, size_t n, uint64_t seed)
{
    reco_rng rng;
    reco_rng_seed(&rng, seed);
    for (size_t i = 0; i < n * D; i++) x[i] = (float)reco_rng_normal(&rng);
    reco_normalize(ctx, x, x, n, D, NULL);
}

static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/reco-ask-XXXXXX");
    if (!mkdtemp(folder) || reco_ctx_create(&ctx, NULL) != RECO_OK) return 1;
    unit_rows(image, N, 1);
    unit_rows(text, N, 2);
    char *path = reco_format(ctx, "%s/bank", folder);
    reco_bank_writer *writer;
    reco_pair pairs[N];
    uint64_t next;
    int done;
    for (size_t i = 0; i < N; i++) pairs[i] = (reco_pair){.caption = "a caption"};
    good(reco_bank_writer_open(ctx, &writer, path, &(reco_bank_spec){.d = D}, "test", &next, &done));
    good(reco_bank_append(ctx, writer, image, text, pairs, N));
    good(reco_bank_commit(ctx, writer, N, 1));
    reco_bank_writer_close(writer);
    good(reco_bank_open(ctx, &bank, path));
    reco_free(path);
    good(reco_fusion_open(ctx, &fusion, "mean", D, 4));
    good(reco_fusion_set_mixture(ctx, fusion, &trained));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    reco_fusion_free(fusion);
    reco_bank_close(bank);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    reco_ctx_free(ctx);
    return system(command);
}

static reco_memory memory_of(const reco_mixture *mixture)
{
    reco_memory memory = RECO_MEMORY_INIT;
    memory.bank = bank;
    memory.fusion = fusion;
    memory.mixture = mixture;
    return memory;
}

static reco_mixture mixture_of(const reco_memory *memory, reco_side own, reco_side in)
{
    reco_settings settings;
    reco_memory_settle(memory, own, in, &settings);
    return settings.mixture;
}

/* What training found holds across the sides, for the sides that it refined; what is given holds everywhere. */
static void test_which_mixture(void **state)
{
    (void)state;
    const reco_mixture off = {0}, given = {1, 0, {9, 9, 9}, 0};
    reco_memory memory = memory_of(NULL);
    assert_true(mixture_of(&memory, RECO_IMAGE, RECO_TEXT).scale[0] == 20);
    assert_true(mixture_of(&memory, RECO_TEXT, RECO_IMAGE).clip == 0.5f);
    assert_true(mixture_of(&memory, RECO_IMAGE, RECO_IMAGE).scale[0] == 0);
    assert_true(mixture_of(&memory, RECO_TEXT, RECO_TEXT).scale[0] == 0);
    memory.sides = RECO_SIDES_BOTH; /* those of `mean` */
    assert_true(mixture_of(&memory, RECO_IMAGE, RECO_TEXT).scale[0] == 20);
    memory.sides = RECO_SIDES_TEXT;
    assert_true(mixture_of(&memory, RECO_IMAGE, RECO_TEXT).scale[0] == 0);
    memory.mixture = &given;
    assert_true(mixture_of(&memory, RECO_IMAGE, RECO_IMAGE).scale[0] == 9);
    memory.mixture = &off;
    assert_true(mixture_of(&memory, RECO_IMAGE, RECO_TEXT).scale[0] == 0);
    memory.fusion = NULL;
    assert_true(mixture_of(&memory, RECO_IMAGE, RECO_TEXT).scale[0] == 0);
}

/* What else is left to the layer, and who votes. */
static void test_settings(void **state)
{
    (void)state;
    const reco_mixture many = {0.5f, 0.2f, {9, 9, 9}, 30}, silent = {0.5f, 0.5f, {9, 9, 9}, 30};
    reco_memory memory = memory_of(NULL);
    reco_settings s;
    reco_memory_settle(&memory, RECO_IMAGE, RECO_TEXT, &s);
    assert_true(s.refines && s.sides == RECO_SIDES_BOTH && s.k == 4 && s.voters == 4);
    assert_true(s.min_similarity == -1);
    memory.k = 7;
    memory.min_similarity = 0.5f;
    memory.sides = RECO_SIDES_TEXT;
    memory.mixture = &many;
    reco_memory_settle(&memory, RECO_IMAGE, RECO_TEXT, &s);
    assert_true(!s.refines && s.k == 7 && s.voters == 30 && s.min_similarity == 0.5f);
    reco_memory_settle(&memory, RECO_TEXT, RECO_IMAGE, &s);
    assert_true(s.refines && s.voters == 0); /* captions are voted for by neighbours of pictures */
    memory.mixture = &silent;
    reco_memory_settle(&memory, RECO_IMAGE, RECO_TEXT, &s);
    assert_int_equal(s.voters, 0);
    reco_mixture m;
    reco_mixture_of(&m, fusion, 0.25f, 0.5f, 77);
    assert_true(m.clip == 0.25f && m.refined == 0.5f && m.scale[1] == 40); /* training found scales */
    reco_fusion *other;
    good(reco_fusion_open(ctx, &other, "mean", D, 4));
    reco_mixture_of(&m, other, 0.25f, 0.5f, 77);
    assert_true(m.scale[0] == 77 && m.scale[1] == 77 && m.scale[2] == 40);
    reco_mixture_of(&m, other, 0.25f, 0.5f, 0);
    assert_true(m.scale[0] == 100);
    reco_fusion_free(other);
}

/* Probabilities of all there is sum to 1, rows that a query leaves out are nowhere, and places without an answer are empty. */
static void test_answers(void **state)
{
    (void)state;
    enum { LEFT_OUT = 2, FOUND = N - LEFT_OUT };
    int64_t ids[2 * 64], exclude[2 * LEFT_OUT] = {5, 9, 11, 5};
    float scores[2 * 64], plain[2 * 64], refined[2 * 64], x[2 * D];
    size_t counts[2];
    reco_memory memory = memory_of(NULL);
    reco_question question = {.x = x, .n = 2, .exclude = exclude, .nexclude = LEFT_OUT};
    reco_find_opts opts = {.in = RECO_TEXT, .k = 64, .min_similarity = -1};
    unit_rows(x, 2, 3);
    good(reco_ask(ctx, &memory, &question, &opts,
                  &(reco_answer){
                      .ids = ids, .scores = scores, .plain = plain, .refined = refined, .counts = counts}));
    for (size_t q = 0; q < 2; q++) {
        double sum = 0;
        assert_int_equal(counts[q], FOUND);
        for (size_t j = 0; j < FOUND; j++) {
            sum += (double)scores[q * 64 + j];
            for (size_t i = 0; i < LEFT_OUT; i++)
                assert_int_not_equal(ids[q * 64 + j], exclude[q * LEFT_OUT + i]);
            assert_true(j == 0 || scores[q * 64 + j] <= scores[q * 64 + j - 1]);
            assert_true(plain[q * 64 + j] != refined[q * 64 + j]);
        }
        assert_true(sum > 0.9999 && sum < 1.0001);
        assert_int_equal(ids[q * 64 + FOUND], -1);
        assert_true(scores[q * 64 + FOUND] == 0 && refined[q * 64 + 63] == 0);
    }
    /* Each query's answer is its own. */
    float alone[64];
    int64_t own[64];
    question = (reco_question){.x = x + D, .n = 1, .exclude = exclude + LEFT_OUT, .nexclude = LEFT_OUT};
    good(reco_ask(ctx, &memory, &question, &opts, &(reco_answer){.ids = own, .scores = alone}));
    assert_memory_equal(own, ids + 64, sizeof own);
    assert_memory_equal(alone, scores + 64, sizeof alone);
    /* A metric that stretches all directions alike weighs the votes as cosines do, for unit rows; another does not. */
    float metric[RECO_METRIC_FLOATS(D)] = {0}, other[64];
    for (int even = 1; even >= 0; even--) {
        for (size_t j = 0; j < D; j++) metric[j * D + j] = even || j % 2 ? 3 : 0.1f;
        good(reco_fusion_set_metric(ctx, fusion, metric));
        good(reco_ask(ctx, &memory, &question, &opts, &(reco_answer){.ids = own, .scores = other}));
        float off = 0;
        for (size_t j = 0; j < FOUND; j++) off = fmaxf(off, fabsf(other[j] - alone[j]));
        assert_true(even ? off < 0.002f : off > 0.01f);
    }
    good(reco_fusion_set_metric(ctx, fusion, NULL));
}

/* What a bank without the excluded rows would say: of refining, of a plain search, and of one for pictures. */
static void test_excluded(void **state)
{
    (void)state;
    enum { Q = 3, K = 5 };
    int64_t exclude[Q * 2] = {0, -1, 1, 7, 30, 2}, ids[Q * K], want_ids[K];
    float x[Q * D], scores[Q * K], want_scores[K], rows[Q * D], want[D], weights[Q * (4 + 1)], alone[4 + 1];
    size_t counts[Q], count;
    reco_memory memory = memory_of(NULL);
    memcpy(x, image, sizeof x); /* rows 0, 1 and 2 */
    reco_question question = {.x = x, .n = Q, .exclude = exclude, .nexclude = 2};
    reco_refined out = {.rows = rows,
                        .reach = K,
                        .hits = {.ids = ids, .scores = scores, .counts = counts},
                        .weights = weights};
    good(reco_refine(ctx, &memory, &question, &out));
    for (size_t q = 0; q < Q; q++) {
        int64_t rest[N];
        size_t n = 0;
        for (int64_t i = 0; i < N; i++)
            if (i != exclude[2 * q] && i != exclude[2 * q + 1]) rest[n++] = i;
        reco_bank_filter *filter;
        reco_memory less = memory_of(NULL);
        good(reco_bank_filter_ids(ctx, &filter, bank, rest, n));
        less.filter = filter;
        out = (reco_refined){.rows = want,
                             .reach = K,
                             .hits = {.ids = want_ids, .scores = want_scores, .counts = &count},
                             .weights = alone};
        good(reco_refine(ctx, &less, &(reco_question){.x = x + q * D, .n = 1}, &out));
        assert_int_equal(count, counts[q]);
        assert_memory_equal(want_ids, ids + q * K, sizeof want_ids);
        assert_memory_equal(want_scores, scores + q * K, sizeof want_scores);
        assert_memory_equal(want, rows + q * D, sizeof want);
        assert_memory_equal(alone, weights + q * (4 + 1), sizeof alone);
        for (int distinct = 0; distinct < 2; distinct++) {
            reco_find_opts opts = {.k = K, .min_similarity = -1, .distinct = distinct};
            int64_t found[K], same[K];
            float found_scores[K], same_scores[K];
            reco_question one = {.x = x + q * D, .n = 1, .exclude = exclude + 2 * q, .nexclude = 2};
            memory.fusion = less.fusion = NULL;
            good(reco_ask(ctx, &memory, &one, &opts, &(reco_answer){.ids = found, .scores = found_scores}));
            one.nexclude = 0;
            good(reco_ask(ctx, &less, &one, &opts, &(reco_answer){.ids = same, .scores = same_scores}));
            assert_memory_equal(found, same, sizeof same);
            assert_memory_equal(found_scores, same_scores, sizeof same_scores);
        }
        memory.fusion = fusion;
        reco_bank_filter_free(filter);
    }
}

/* Rows of one vector are one picture, of which the best answers; one that is left out takes the others with it. */
static void test_distinct(void **state)
{
    (void)state;
    enum { SAME = 6, OTHERS = 3, ROWS = SAME + OTHERS };
    float rows[ROWS * D], said[ROWS * D], scores[ROWS];
    int64_t ids[ROWS], exclude = 2;
    size_t count;
    unit_rows(rows, ROWS, 7);
    unit_rows(said, ROWS, 8);
    for (size_t i = 1; i < SAME; i++) memcpy(rows + i * D, rows, D * sizeof *rows);
    char *path = reco_format(ctx, "%s/same", folder);
    reco_bank_writer *writer;
    reco_bank *same;
    reco_pair pairs[ROWS];
    uint64_t next;
    int done;
    for (size_t i = 0; i < ROWS; i++) pairs[i] = (reco_pair){.caption = "a caption"};
    good(reco_bank_writer_open(ctx, &writer, path, &(reco_bank_spec){.d = D}, "test", &next, &done));
    good(reco_bank_append(ctx, writer, rows, said, pairs, ROWS));
    good(reco_bank_commit(ctx, writer, ROWS, 1));
    reco_bank_writer_close(writer);
    good(reco_bank_open(ctx, &same, path));
    reco_hits hits = {.ids = ids, .scores = scores, .counts = &count};
    reco_search_opts opts = {.k = ROWS, .min_similarity = -1};
    good(reco_search_distinct(ctx, same, RECO_IMAGE, rows, 1, &opts, &hits));
    assert_int_equal(count, 1 + OTHERS);
    assert_true(ids[0] == 0 && scores[0] > 0.999f && ids[count] == -1 && scores[count] == 0);
    opts.k = 1; /* found behind five rows that show the same */
    good(reco_search_distinct(ctx, same, RECO_IMAGE, rows + SAME * D, 1, &opts, &hits));
    assert_int_equal(ids[0], SAME);
    opts = (reco_search_opts){.k = 2, .min_similarity = -1, .exclude = &exclude, .nexclude = 1};
    good(reco_search_distinct(ctx, same, RECO_IMAGE, rows, 1, &opts, &hits));
    assert_int_equal(count, 2);
    assert_true(ids[0] >= SAME && ids[1] >= SAME);
    reco_bank_close(same);
    reco_free(path);
}

/* What the rows say comes with them, however they were found. */
static void test_pairs(void **state)
{
    (void)state;
    enum { K = N + 2 };
    int64_t ids[2 * K], exclude[2] = {3, -1};
    float scores[2 * K];
    reco_pair pairs[2 * K];
    reco_answer answer = {.ids = ids, .scores = scores, .pairs = pairs};
    reco_question question = {.x = image, .n = 2, .exclude = exclude, .nexclude = 1};
    for (int how = 0; how < 4; how++) {
        reco_memory memory = memory_of(NULL);
        reco_find_opts opts = {
            .in = how & 1 ? RECO_TEXT : RECO_IMAGE, .k = K, .min_similarity = -1, .distinct = how == 3};
        if (how < 2) memory.fusion = NULL;
        good(reco_ask(ctx, &memory, &question, &opts, &answer));
        assert_true(ids[N - 2] >= 0 && ids[N] == -1 && ids[K + N - 1] >= 0);
        for (size_t i = 0; i < 2 * K; i++) {
            assert_int_equal(pairs[i].id, ids[i]);
            assert_true((pairs[i].caption != NULL) == (ids[i] >= 0));
            if (pairs[i].caption) assert_string_equal(pairs[i].caption, "a caption");
            reco_pair_free(&pairs[i]);
        }
    }
    for (size_t reach = 2; reach <= 6; reach += 4) { /* fewer than are fused, and more */
        float rows[2 * D];
        reco_memory memory = memory_of(NULL);
        good(reco_refine(
            ctx, &memory, &question,
            &(reco_refined){.rows = rows, .reach = reach, .hits = {.ids = ids}, .pairs = pairs}));
        for (size_t i = 0; i < 2 * reach; i++) {
            assert_int_equal(pairs[i].id, ids[i]);
            assert_string_equal(pairs[i].caption, "a caption");
            reco_pair_free(&pairs[i]);
        }
    }
    const float zeros[2 * D] = {0};
    question.x = zeros;
    reco_find_opts opts = {.k = K, .min_similarity = -1};
    assert_int_equal(reco_ask(ctx, &(reco_memory){.bank = bank}, &question, &opts, &answer), RECO_E_ARG);
    assert_null(pairs[0].caption);
}

/* A side that is not refined comes back as it is, and so do its neighbours where they are asked for. */
static void test_other_side(void **state)
{
    (void)state;
    int64_t ids[12];
    float rows[D], weights[4 + 1], refined[D];
    size_t count = 0;
    reco_memory memory = memory_of(NULL);
    memory.sides = RECO_SIDES_TEXT;
    reco_question question = {.side = RECO_IMAGE, .x = image, .n = 1};
    reco_refined out = {
        .rows = rows, .reach = 12, .hits = {.ids = ids, .counts = &count}, .weights = weights};
    good(reco_refine(ctx, &memory, &question, &out));
    assert_memory_equal(rows, image, sizeof rows);
    assert_true(count == 12 && ids[0] == 0 && weights[0] == 1 && weights[1] == 0);
    memory.sides = RECO_SIDES_IMAGE; /* as many neighbours as are listed: no more are fused for it */
    good(reco_refine(ctx, &memory, &question, &out));
    good(reco_refine(ctx, &memory, &question, &(reco_refined){.rows = refined}));
    assert_memory_equal(rows, refined, sizeof rows);
    assert_true(memcmp(rows, image, sizeof rows) != 0);
}

static void test_refused(void **state)
{
    (void)state;
    int64_t ids[1];
    float scores[1], row[D];
    reco_answer answer = {.ids = ids, .scores = scores};
    reco_question question = {.side = RECO_IMAGE, .x = image, .n = 1};
    const reco_mixture bad = {0.7f, 0.7f, {1, 1, 1}, 0};
    reco_memory memory = memory_of(NULL);
    reco_find_opts opts = {.in = RECO_TEXT, .k = RECO_BANK_MAX_K + 1, .min_similarity = -1};
    assert_int_equal(reco_ask(ctx, &memory, &question, &opts, &answer), RECO_E_ARG);
    opts.k = 1;
    memory.k = RECO_BANK_MAX_K + 1;
    assert_int_equal(reco_ask(ctx, &memory, &question, &opts, &answer), RECO_E_ARG);
    assert_int_equal(reco_refine(ctx, &memory, &question, &(reco_refined){.rows = row}), RECO_E_ARG);
    memory = memory_of(&bad);
    assert_int_equal(reco_ask(ctx, &memory, &question, &opts, &answer), RECO_E_ARG);
    assert_non_null(strstr(reco_ctx_error(ctx), "0.7"));
    /* A picture that is to be left out has to be there. */
    const int64_t nobody = N;
    question.exclude = &nobody;
    question.nexclude = 1;
    opts.distinct = 1;
    assert_int_equal(reco_ask(ctx, &memory, &question, &opts, &answer), RECO_E_NOTFOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_which_mixture), cmocka_unit_test(test_settings),
        cmocka_unit_test(test_answers),       cmocka_unit_test(test_excluded),
        cmocka_unit_test(test_other_side),    cmocka_unit_test(test_distinct),
        cmocka_unit_test(test_pairs),         cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
