#include "reco/eval.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static int setup(void **state) { return (int)reco_ctx_create((reco_ctx **)state, NULL); }
static int teardown(void **state) { return reco_ctx_free(*state), 0; }

static void near(double got, double want) { assert_true(fabs(got - want) < 1e-12); }

/* Of some pictures alone, and of what an unknown answer is worth. */
static void test_count(void **state)
{
    enum { PICTURES = 4, CLASSES = 7 };
    static const int64_t top[PICTURES * 5] = {2,  1,  0,  3,  4, /* right */
                                              0,  1,  2,  3,  4, /* second */
                                              -1, -1, -1, -1, -1, 3, 0, 1, 2, 4};
    static const float sure[PICTURES * 5] = {[0] = 0.9f, [5] = 0.5f, [10] = 0, [15] = 1};
    static const uint32_t labels[PICTURES] = {2, 1, 2, 6};
    static const size_t some[] = {3, 0};
    reco_class_scores s;
    assert_int_equal(reco_eval_count(*state, &s, top, sure, labels, NULL, PICTURES, CLASSES), RECO_OK);
    assert_true(s.n == 4 && s.acc1 == 0.25 && s.acc5 == 0.5);
    assert_true(fabs(s.mean_per_class - 0.5 / 3) < 1e-9); /* of class 2 one of two; of 1 and 6 none */
    assert_true(fabs(s.calibration - (0.1 + 0.5 + 0 + 1) / 4) < 1e-6);
    assert_int_equal(reco_eval_count(*state, &s, top, NULL, labels, some, 2, CLASSES), RECO_OK);
    assert_true(s.n == 2 && s.acc1 == 0.5 && isnan(s.calibration));
    assert_int_equal(reco_eval_count(*state, &s, top, NULL, labels, some, 0, CLASSES), RECO_OK);
    assert_true(s.n == 0 && isnan(s.acc1));
    assert_int_equal(reco_eval_count(*state, &s, top, NULL, labels, NULL, PICTURES, 6), RECO_E_ARG);
}

static void test_recall(void **state)
{
    static const float a[] = {1, 0, 0, 1, 0.6f, 0.8f}, b[] = {1, 0, 0.6f, 0.8f, 0, 1};
    static const size_t ks[] = {1, 2, 3};
    double recall[3];
    assert_int_equal(reco_eval_recall(*state, recall, a, b, 3, 2, ks, 3), RECO_OK);
    near(recall[0], 1.0 / 3), near(recall[1], 1), near(recall[2], 1);
}

/* Two pictures, the first of two captions; the third caption is of a picture that is nearer to the first one's. */
static void test_retrieval(void **state)
{
    static const float images[] = {1, 0, 0.8f, 0.6f, 0, 1},
                       captions[] = {0.6f, 0.8f, 1, 0, 0.96f, 0.28f, 0, 1};
    static const uint32_t of[] = {0, 0, 1, 1}, bad[] = {0, 0, 1, 3};
    uint32_t pictures[3], texts[4], *const ranks[2] = {pictures, texts};
    reco_retrieval_rows rows = {
        .images = images, .captions = captions, .of = of, .nimages = 3, .ncaptions = 4, .d = 2};
    reco_retrieval_scores s;
    assert_int_equal(reco_eval_retrieval(*state, &s, ranks, &rows, NULL, NULL), RECO_OK);
    assert_int_equal(pictures[0], 0); /* its second caption */
    assert_int_equal(pictures[1], 1); /* 0.96 of the first caption, 0.936 of its own; 0.8 of the second */
    assert_int_equal(pictures[2], RECO_NO_RANK);
    assert_int_equal(texts[0], 2), assert_int_equal(texts[1], 0), assert_int_equal(texts[2], 1),
        assert_int_equal(texts[3], 1);
    near(s.recall[RECO_IMAGE][0], 0.5), near(s.recall[RECO_IMAGE][1], 1);
    near(s.recall[RECO_TEXT][0], 0.25), near(s.recall[RECO_TEXT][1], 1), near(s.recall[RECO_TEXT][2], 1);
    /* CLIP's share alone orders as its cosines do, whatever was refined. */
    const float turned[] = {0, 1, 0, 1, 0, 1};
    const reco_mixture clip = {1, 0, {20, 20, 20}, 0}, vote = {0, 0, {20, 20, 20}, 0};
    uint32_t mixed[3], *const of_pictures[2] = {mixed, NULL};
    reco_retrieval_rows both = rows;
    both.images = turned, both.plain_images = images, both.plain_captions = captions;
    assert_int_equal(reco_eval_retrieval(*state, &s, of_pictures, &both, &clip, NULL), RECO_OK);
    assert_memory_equal(mixed, pictures, sizeof mixed);
    near(s.recall[RECO_TEXT][0], 0.25);
    /* Each picture's neighbour says its last caption. */
    static const float sure[] = {1, 1, 1};
    static const uint32_t said[] = {1, 3, 0};
    static const size_t counts[] = {1, 1, 1};
    assert_int_equal(
        reco_eval_retrieval(*state, &s, of_pictures, &both, &vote,
                            &(reco_votes){.scores = sure, .of = said, .counts = counts, .k = 1}),
        RECO_OK);
    near(s.recall[RECO_IMAGE][0], 1);
    assert_int_equal(reco_eval_retrieval(*state, &s, NULL, &rows, &clip, NULL), RECO_E_ARG);
    rows.of = bad;
    assert_int_equal(reco_eval_retrieval(*state, &s, NULL, &rows, NULL, NULL), RECO_E_ARG);
    rows.nimages = rows.ncaptions = 0;
    assert_int_equal(reco_eval_retrieval(*state, &s, NULL, &rows, NULL, NULL), RECO_OK);
    assert_true(isnan(s.recall[0][0]) && isnan(s.recall[1][2]));
}

/* Of differences with a known deviation the interval is about 1.96 standard errors wide on each side. */
static void test_interval(void **state)
{
    enum { N = 2000 };
    static float a[N], b[N];
    for (int i = 0; i < N; i++) {
        a[i] = i % 10 < 6; /* right in 60 and in 50 of 100, in 30 together */
        b[i] = i % 10 < 3 || i % 10 > 7;
    }
    reco_interval some, again, none, alone;
    assert_int_equal(reco_eval_interval(*state, &some, a, b, N, 7), RECO_OK);
    near(some.mean, 0.1);
    double error = sqrt((0.3 + 0.2 - 0.01) / N) * 1.96;
    assert_true(fabs(some.low - (0.1 - error)) < 0.15 * error &&
                fabs(some.high - (0.1 + error)) < 0.15 * error);
    reco_ctx *one;
    assert_int_equal(reco_ctx_create(&one, &(reco_ctx_opts){.threads = 1}), RECO_OK);
    assert_int_equal(reco_eval_interval(one, &again, a, b, N, 7), RECO_OK);
    assert_memory_equal(&again, &some, sizeof some);
    assert_int_equal(reco_eval_interval(one, &again, a, b, N, 8), RECO_OK);
    assert_true(again.low != some.low);
    reco_ctx_free(one);
    assert_int_equal(reco_eval_interval(*state, &alone, a, NULL, N, 7), RECO_OK);
    near(alone.mean, 0.6);
    assert_int_equal(reco_eval_interval(*state, &none, a, b, 0, 7), RECO_OK);
    assert_true(isnan(none.mean) && isnan(none.low) && isnan(none.high));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_count, setup, teardown),
        cmocka_unit_test_setup_teardown(test_recall, setup, teardown),
        cmocka_unit_test_setup_teardown(test_retrieval, setup, teardown),
        cmocka_unit_test_setup_teardown(test_interval, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
