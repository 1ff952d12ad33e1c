#include "reco/eval.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static int setup(void **state) { return (int)reco_ctx_create((reco_ctx **)state, NULL); }
static int teardown(void **state) { return reco_ctx_free(*state), 0; }

static void near(double got, double want) { assert_true(fabs(got - want) < 1e-12); }

static void test_classes(void **state)
{
    /* Three classes on the axes; two pictures of class 0 (one taken for 1), one of class 2; class 1 has none. */
    static const float classes[] = {1, 0, 0, 0, 1, 0, 0, 0, 1},
                       images[] = {0.8f, 0.6f, 0, 0.6f, 0.8f, 0, 0, 0, 1};
    static const uint32_t labels[] = {0, 0, 2};
    reco_class_scores scores;
    int64_t top[15];
    assert_int_equal(reco_eval_classes(*state, &scores, top, images, 3, classes, 3, 3, labels), RECO_OK);
    near(scores.acc1, 2.0 / 3);
    near(scores.acc5, 1);
    near(scores.mean_per_class, 0.75);
    assert_int_equal(top[0], 0), assert_int_equal(top[1], 1), assert_int_equal(top[3], -1);
    assert_int_equal(top[5], 1), assert_int_equal(top[10], 2);
    reco_class_scores none;
    assert_int_equal(reco_eval_classes(*state, &none, NULL, images, 0, classes, 3, 3, labels), RECO_OK);
    assert_true(none.n == 0 && isnan(none.acc1) && isnan(none.acc5) && isnan(none.mean_per_class));
    static const uint32_t bad[] = {0, 0, 3};
    assert_int_equal(reco_eval_classes(*state, &scores, NULL, images, 3, classes, 3, 3, bad), RECO_E_ARG);
}

/* Two pictures of four are right; both that are named 0 are so with 0.9, the others with 0.6. */
static void test_mixture(void **state)
{
    static const float classes[] = {1, 0, 0, 1};
    float high = (float)(log(9.0) / 2), low = (float)(log(1.5) / 2); /* softmax of x, -x at scale 1 */
    const float images[] = {high, -high, high, -high, -low, low, -low, low};
    static const uint32_t labels[] = {0, 1, 1, 0};
    const reco_mixture clip = {1, 0, {1, 1, 1}}, vote = {0, 0, {1, 1, 1}};
    const reco_readout_rows rows = {images, classes, images, classes, 4, 2, 2};
    reco_class_scores scores;
    int64_t top[20];
    assert_int_equal(reco_eval_mixture(*state, &scores, top, &clip, &rows, NULL, labels), RECO_OK);
    near(scores.acc1, 0.5), near(scores.acc5, 1), near(scores.mean_per_class, 0.5);
    assert_true(fabs(scores.calibration - (0.5 * 0.4 + 0.5 * 0.1)) < 1e-6);
    assert_int_equal(top[0], 0), assert_int_equal(top[1], 1), assert_int_equal(top[2], -1),
        assert_int_equal(top[10], 1);
    /* One neighbour each, of the right class. */
    static const float sure[] = {1, 1, 1, 1};
    static const size_t counts[] = {1, 1, 1, 1};
    assert_int_equal(reco_eval_mixture(*state, &scores, NULL, &vote, &rows,
                                       &(reco_votes){sure, labels, counts, 1}, labels),
                     RECO_OK);
    near(scores.acc1, 1), near(scores.calibration, 0);
    const reco_readout_rows none = {images, classes, images, classes, 0, 2, 2};
    assert_int_equal(reco_eval_mixture(*state, &scores, NULL, &clip, &none, NULL, labels), RECO_OK);
    assert_true(scores.n == 0 && isnan(scores.acc1) && isnan(scores.calibration));
    static const uint32_t bad[] = {0, 0, 2, 0};
    assert_int_equal(reco_eval_mixture(*state, &scores, NULL, &clip, &rows, NULL, bad), RECO_E_ARG);
}

static void test_recall(void **state)
{
    static const float a[] = {1, 0, 0, 1, 0.6f, 0.8f}, b[] = {1, 0, 0.6f, 0.8f, 0, 1};
    static const size_t ks[] = {1, 2, 3};
    double recall[3];
    assert_int_equal(reco_eval_recall(*state, recall, a, b, 3, 2, ks, 3), RECO_OK);
    near(recall[0], 1.0 / 3), near(recall[1], 1), near(recall[2], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_classes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mixture, setup, teardown),
        cmocka_unit_test_setup_teardown(test_recall, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
