/* The label vote and Tip-Adapter's cache against their formulas. */
#include "base/base.h"
#include "reco/eval.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

enum { N = 90, M = 70, C = 7, D = 12, K = 6 };

static int setup(void **state) { return (int)reco_ctx_create((reco_ctx **)state, NULL); }
static int teardown(void **state) { return reco_ctx_free(*state), 0; }

static void near(double got, double want) { assert_true(fabs(got - want) < 1e-6); }

static void unit_rows(float *x, size_t n, reco_rng *rng)
{
    for (size_t i = 0; i < n; i++) {
        double square = 0, v[D];
        for (size_t j = 0; j < D; j++) {
            v[j] = reco_rng_normal(rng);
            square += v[j] * v[j];
        }
        for (size_t j = 0; j < D; j++) x[i * D + j] = (float)(v[j] / sqrt(square));
    }
}

static double dot(const float *a, const float *b)
{
    double sum = 0;
    for (size_t j = 0; j < D; j++) sum += (double)a[j] * (double)b[j];
    return sum;
}

/* Five neighbours and an empty place: counts, weights, a tie, one of no class, a picture that nobody knows. */
static void test_knn(void **state)
{
    static const float s[] = {0.9f, 0.8f, 0.7f, 0.6f, 0.5f, 0, 0.9f, 0.5f, 0.5f, 0.1f, 0, 0,
                              0.9f, 0.8f, 0,    0,    0,    0, 0.9f, 0.8f, 0,    0,    0, 0};
    static const uint32_t none = RECO_NO_CANDIDATE;
    const uint32_t of[] = {2,    1,    1, 2, none, 5,  /* two each: 2 is nearer */
                           none, 3,    3, 4, 0,    0,  /* 3 by count and by weight */
                           1,    0,    0, 0, 0,    0,  /* one each, 1 nearer */
                           none, none, 0, 0, 0,    0}; /* nobody has a class */
    static const size_t counts[] = {5, 4, 2, 2};
    static const uint32_t labels[] = {2, 4, 1, 0};
    reco_votes votes = {.scores = s, .of = of, .counts = counts, .k = K};
    reco_class_scores scores;
    int64_t top[20];
    assert_int_equal(reco_eval_knn(*state, &scores, top, 0, &votes, 4, C, labels), RECO_OK);
    near(scores.acc1, 0.5), near(scores.acc5, 0.75), near(scores.mean_per_class, 0.5);
    assert_true(top[0] == 2 && top[1] == 1 && top[2] == -1);
    assert_true(top[5] == 3 && top[6] == 4 && top[7] == -1);
    assert_true(top[10] == 1 && top[11] == 0 && top[15] == -1);
    /* Said: 1/2 right, 2/3 wrong, 1/2 right, 0 wrong; bins of their own but for the two halves. */
    near(scores.calibration, (fabs(1.0 - 2) + 2.0 / 3 + 0) / 4);
    /* One neighbour of class 0, then three of class 1: a low scale counts them, at a high one the nearest decides. */
    const uint32_t split[] = {0, 1, 1, 1, none, none};
    static const size_t four[] = {4};
    reco_votes one = {.scores = s, .of = split, .counts = four, .k = K};
    assert_int_equal(reco_eval_knn(*state, &scores, top, 1, &one, 1, C, (uint32_t[]){1}), RECO_OK);
    assert_true(top[0] == 1 && scores.acc1 == 1);
    assert_int_equal(reco_eval_knn(*state, &scores, top, 50, &one, 1, C, (uint32_t[]){1}), RECO_OK);
    assert_true(top[0] == 0 && scores.acc1 == 0 && scores.acc5 == 1);
    assert_int_equal(reco_eval_knn(*state, &scores, NULL, 0, &votes, 0, C, labels), RECO_OK);
    assert_true(scores.n == 0 && isnan(scores.acc1));
    static const uint32_t bad[] = {C};
    assert_int_equal(reco_eval_knn(*state, &scores, NULL, 0, &one, 1, C, bad), RECO_E_ARG);
    assert_int_equal(reco_eval_knn(*state, &scores, NULL, -1, &one, 1, C, labels), RECO_E_ARG);
    assert_int_equal(reco_eval_knn(*state, &scores, NULL, NAN, &one, 1, C, labels), RECO_E_ARG);
    assert_int_equal(reco_eval_knn(*state, &scores, NULL, 0, &votes, 1, 2, (uint32_t[]){0}), RECO_E_ARG);
    static const size_t many[] = {K + 1};
    assert_int_equal(reco_eval_knn(*state, &scores, NULL, 0,
                                   &(reco_votes){.scores = s, .of = split, .counts = many, .k = K}, 1, C,
                                   labels),
                     RECO_E_ARG);
}

typedef struct world {
    float images[N * D], classes[C * D], rows[M * D];
    uint32_t labels[N], of[M];
} world;

static void make(world *w)
{
    reco_rng rng;
    reco_rng_seed(&rng, 5);
    unit_rows(w->images, N, &rng);
    unit_rows(w->classes, C, &rng);
    unit_rows(w->rows, M, &rng);
    for (size_t i = 0; i < N; i++) w->labels[i] = (uint32_t)reco_rng_below(&rng, C);
    for (size_t i = 0; i < M; i++)
        w->of[i] = i % 9 == 0 ? RECO_NO_CANDIDATE : (uint32_t)reco_rng_below(&rng, C);
    /* The last two rows are one picture, of two classes maybe. */
    for (size_t j = 0; j < D; j++) w->rows[(M - 1) * D + j] = w->rows[(M - 2) * D + j];
}

/* Of picture x, logits by hand; rows nearer than bar are passed over. */
static void logits(const world *w, const float *x, const reco_tip *tip, double bar, double p[C])
{
    for (size_t c = 0; c < C; c++) p[c] = (double)tip->scale * dot(x, w->classes + c * D);
    for (size_t i = 0; i < M; i++) {
        double s = dot(x, w->rows + i * D);
        if (w->of[i] != RECO_NO_CANDIDATE && s <= bar)
            p[w->of[i]] += (double)tip->alpha * exp(-(double)tip->beta * (1 - s));
    }
}

static size_t greatest(const double p[C])
{
    size_t best = 0;
    for (size_t c = 1; c < C; c++)
        if (p[c] > p[best]) best = c;
    return best;
}

static reco_tip_pictures pictures_of(const world *w)
{
    return (reco_tip_pictures){
        .images = w->images, .labels = w->labels, .n = N, .classes = w->classes, .c = C, .d = D};
}

static void test_tip(void **state)
{
    static world w;
    make(&w);
    const reco_tip_cache cache = {.images = w.rows, .of = w.of, .m = M};
    const reco_tip_pictures pictures = pictures_of(&w);
    static const reco_tip tips[] = {{10, 0, 5.5f}, {10, 1, 5.5f}, {20, 3, 1}, {5, 30, 40}};
    reco_class_scores scores;
    int64_t top[N * 5];
    for (size_t t = 0; t < 4; t++) {
        size_t right = 0;
        assert_int_equal(reco_eval_tip(*state, &scores, top, &tips[t], &cache, &pictures), RECO_OK);
        for (size_t i = 0; i < N; i++) {
            double p[C];
            logits(&w, w.images + i * D, &tips[t], 2, p);
            assert_int_equal(top[i * 5], greatest(p));
            right += greatest(p) == w.labels[i];
        }
        near(scores.acc1, (double)right / N);
        assert_true(scores.calibration > 0 && scores.calibration < 1);
    }
    static const reco_tip bad[] = {{0, 1, 1}, {NAN, 1, 1}, {1, -1, 1}, {1, 1, INFINITY}};
    for (size_t t = 0; t < 4; t++)
        assert_int_equal(reco_eval_tip(*state, &scores, top, &bad[t], &cache, &pictures), RECO_E_ARG);
    w.of[3] = C;
    assert_int_equal(reco_eval_tip(*state, &scores, top, &tips[1], &cache, &pictures), RECO_E_ARG);
}

/* The choice is right as often as any of a finer look at the grid's own values; its own rows do not see themselves. */
static void test_choose(void **state)
{
    static world w;
    make(&w);
    const reco_tip_cache cache = {.images = w.rows, .of = w.of, .m = M};
    const reco_tip_pictures pictures = pictures_of(&w);
    const reco_tip_pictures none = {.classes = w.classes, .c = C, .d = D};
    static const float alphas[] = {0, 0.1f, 0.3f, 1, 3, 10, 30, 100, 300},
                       betas[] = {0.5f, 1, 2, 5.5f, 10, 20, 40, 80};
    for (int own = 0; own < 2; own++) {
        reco_tip tip = {.scale = 10}, best = {10, 0, 0.5f};
        size_t most = 0;
        assert_int_equal(reco_eval_tip_choose(*state, &tip, &cache, own ? &none : &pictures), RECO_OK);
        for (size_t a = 0; a < 9; a++)
            for (size_t b = 0; b < 8; b++) {
                reco_tip at = {10, alphas[a], betas[b]};
                size_t right = 0;
                for (size_t i = 0; i < (own ? (size_t)M : (size_t)N); i++) {
                    double p[C];
                    if (own && w.of[i] == RECO_NO_CANDIDATE) continue;
                    logits(&w, (own ? w.rows : w.images) + i * D, &at, own ? 0.999 : 2, p);
                    right += greatest(p) == (own ? w.of[i] : w.labels[i]);
                }
                if (right > most) most = right, best = at;
            }
        assert_true(tip.alpha == best.alpha && tip.beta == best.beta);
    }
    reco_tip tip = {.scale = 10};
    for (size_t i = 0; i < M; i++) w.of[i] = RECO_NO_CANDIDATE;
    assert_int_equal(reco_eval_tip_choose(*state, &tip, &cache, &none), RECO_E_ARG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_knn, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tip, setup, teardown),
        cmocka_unit_test_setup_teardown(test_choose, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
