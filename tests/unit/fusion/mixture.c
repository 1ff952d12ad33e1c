/* The readout: posteriors by hand, who has a say when others have none, and what a checkpoint keeps of it. */
#include "base/base.h"
#include "reco/fusion.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

enum { C = 3, K = 2 };

static const float plain[2 * C] = {0.9f, 0.5f, 0.1f, 0.2f, 0.3f, 0.4f},
                             refined[2 * C] = {0, 1, 0, 0.6f, 0, 0};
static const float scores[2 * K] = {0.8f, 0.6f, 0.5f, 0.5f};
static const size_t counts[2] = {2, 1};

static int setup(void **state) { return (int)reco_ctx_create((reco_ctx **)state, NULL); }
static int teardown(void **state) { return reco_ctx_free(*state), 0; }

/* softmax(scale x)[j] */
static double share(const float *x, double scale, size_t n, size_t j)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += exp(scale * (double)x[i]);
    return exp(scale * (double)x[j]) / sum;
}

static void is_row(const float *p, const double want[C])
{
    for (int j = 0; j < C; j++) assert_true(fabs((double)p[j] - want[j]) < 1e-6);
}

static void by_hand(void **state)
{
    static const uint32_t of[2 * K] = {2, 2, 0, RECO_NO_CANDIDATE};
    const reco_mixture m = {0.5f, 0.3f, {3, 2, 5}, 0};
    const reco_votes votes = {.scores = scores, .of = of, .counts = counts, .k = K};
    float p[2 * C];
    assert_int_equal(reco_mixture_posterior(*state, &m, plain, refined, &votes, 2, C, p), RECO_OK);
    for (int i = 0; i < 2; i++) {
        double want[C];
        for (size_t j = 0; j < C; j++)
            want[j] = 0.5 * share(plain + i * C, 3, C, j) + 0.3 * share(refined + i * C, 2, C, j);
        want[i ? 0 : 2] += 0.2; /* all neighbours that count are of one caption */
        is_row(p + i * C, want);
    }
    /* Neighbours of two captions share the vote by their scores. */
    static const uint32_t two[2 * K] = {1, 0, 0, 0};
    const reco_mixture vote = {0, 0, {1, 1, 5}, 0};
    assert_int_equal(reco_mixture_posterior(
                         *state, &vote, plain, NULL,
                         &(reco_votes){.scores = scores, .of = two, .counts = counts, .k = K}, 2, C, p),
                     RECO_OK);
    is_row(p, (double[]){share(scores, 5, K, 1), share(scores, 5, K, 0), 0});
}

/* A vote for what is no candidate is nobody's; where nobody else is left, CLIP answers. */
static void without_a_say(void **state)
{
    static const uint32_t of[2 * K] = {RECO_NO_CANDIDATE, 0, RECO_NO_CANDIDATE, 1};
    const reco_votes votes = {.scores = scores, .of = of, .counts = counts, .k = K};
    float p[2 * C];
    const reco_mixture m = {0.25f, 0, {3, 2, 5}, 0};
    assert_int_equal(reco_mixture_posterior(*state, &m, plain, NULL, &votes, 2, C, p), RECO_OK);
    double heard = 0.75 * share(scores, 5, K, 1), want[C];
    for (size_t j = 0; j < C; j++)
        want[j] = (0.25 * share(plain, 3, C, j) + (j == 0 ? heard : 0)) / (0.25 + heard);
    is_row(p, want);
    for (size_t j = 0; j < C; j++) want[j] = share(plain + C, 3, C, j);
    is_row(p + C, want);
    const reco_mixture vote = {0, 0, {3, 2, 5}, 0};
    assert_int_equal(reco_mixture_posterior(*state, &vote, plain, NULL, &votes, 2, C, p), RECO_OK);
    is_row(p + C, want);
    assert_int_equal(reco_mixture_posterior(*state, &vote, plain, NULL, NULL, 2, C, p), RECO_OK);
    is_row(p + C, want);
}

static void mistakes(void **state)
{
    static const reco_mixture bad[] = {{-0.1f, 0, {1, 1, 1}, 0},
                                       {0.6f, 0.6f, {1, 1, 1}, 0},
                                       {NAN, 0, {1, 1, 1}, 0},
                                       {1, 0, {-1, 1, 1}, 0},
                                       {1, 0, {1, 0, 1}, 0},
                                       {1, 0, {1, 1, 1e30f}, 0},
                                       {1, 0, {1, 1, 1}, RECO_VOTES_MAX + 1}};
    reco_fusion *f;
    float p[C];
    assert_int_equal(reco_fusion_open(*state, &f, "mean", 4, 2), RECO_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(reco_mixture_posterior(*state, &bad[i], plain, refined, NULL, 1, C, p),
                         RECO_E_ARG);
        assert_int_equal(reco_fusion_set_mixture(*state, f, &bad[i]), RECO_E_ARG);
        assert_true(reco_fusion_get_config(f)->mixture.scale[0] == 0);
    }
    const reco_mixture good = {1, 0, {1, 1, 1}, 0};
    static const uint32_t of[K] = {C, 0};
    assert_int_equal(reco_mixture_posterior(
                         *state, &good, plain, refined,
                         &(reco_votes){.scores = scores, .of = of, .counts = counts, .k = K}, 1, C, p),
                     RECO_E_ARG);
    static const size_t many[1] = {K + 1};
    assert_int_equal(
        reco_mixture_posterior(*state, &good, plain, refined,
                               &(reco_votes){.scores = scores, .of = of, .counts = many, .k = K}, 1, C, p),
        RECO_E_ARG);
    reco_fusion_free(f);
}

static void in_a_checkpoint(void **state)
{
    char *path = reco_format(*state, "/tmp/reco-mixture-%d.safetensors", (int)getpid());
    const reco_mixture cases[] = {{0}, {0.7f, 0.2f, {20, 40, 31.7f}, 0}, {0.7f, 0.2f, {20, 40, 31.7f}, 64}};
    reco_fusion *f, *again;
    assert_int_equal(reco_fusion_open(*state, &f, "weighted", 4, 2), RECO_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(reco_fusion_set_mixture(*state, f, &cases[i]), RECO_OK);
        assert_int_equal(reco_fusion_save(*state, f, path), RECO_OK);
        assert_int_equal(reco_fusion_open(*state, &again, path, 4, 0), RECO_OK);
        reco_mixture got = reco_fusion_get_config(again)->mixture;
        assert_memory_equal(&got, &cases[i], sizeof got);
        reco_fusion_free(again);
    }
    reco_fusion_free(f);
    unlink(path);
    reco_free(path);
}

static void of_cosines(void **state)
{
    const float x[2] = {0.6f, 0.8f}, y[2] = {1, 0};
    float out[4], weight = -1;
    reco_fusion_concat(out, x, y, 0.25f, 1, 2);
    assert_true(fabsf(out[0] - 0.3f) < 1e-6f && fabsf(out[1] - 0.4f) < 1e-6f);
    assert_true(fabsf(out[2] - sqrtf(0.75f)) < 1e-6f && out[3] == 0);
    reco_fusion *f, *again;
    char *path = reco_format(*state, "/tmp/reco-concat-%d.safetensors", (int)getpid());
    assert_int_equal(reco_fusion_open(*state, &f, "weighted", 4, 2), RECO_OK);
    assert_int_equal(reco_fusion_get_concat(*state, f, &weight), RECO_E_ARG);
    /* Of a mixture of posteriors: by weights and scales. */
    assert_int_equal(reco_fusion_set_mixture(*state, f, &(reco_mixture){0.3f, 0.2f, {20, 90, 40}, 0}),
                     RECO_OK);
    assert_int_equal(reco_fusion_get_concat(*state, f, &weight), RECO_OK);
    assert_true(fabsf(weight - 6.0f / 24) < 1e-6f);
    assert_int_equal(reco_fusion_set_mixture(*state, f, &(reco_mixture){0, 0, {20, 90, 40}, 0}), RECO_OK);
    assert_int_equal(reco_fusion_get_concat(*state, f, &weight), RECO_E_ARG); /* the vote alone */
    const float bad[] = {-0.1f, 1.1f, NAN};
    for (int i = 0; i < 3; i++) assert_int_equal(reco_fusion_set_concat(*state, f, bad[i]), RECO_E_ARG);
    /* Of the checkpoint, 0 included. */
    for (int i = 0; i < 2; i++) {
        assert_int_equal(reco_fusion_set_concat(*state, f, i ? 0.4f : 0), RECO_OK);
        assert_int_equal(reco_fusion_save(*state, f, path), RECO_OK);
        assert_int_equal(reco_fusion_open(*state, &again, path, 4, 0), RECO_OK);
        assert_int_equal(reco_fusion_get_concat(*state, again, &weight), RECO_OK);
        assert_true(weight == (i ? 0.4f : 0));
        reco_fusion_free(again);
    }
    reco_fusion_free(f);
    unlink(path);
    reco_free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(by_hand), cmocka_unit_test(without_a_say),
                                       cmocka_unit_test(mistakes), cmocka_unit_test(in_a_checkpoint),
                                       cmocka_unit_test(of_cosines)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
