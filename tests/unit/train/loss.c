/* The loss against its definition in double, and its gradients against finite differences. */
#include "train/train_internal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { B = 7, D = 5 };

/* Row i of the batch is pair items[i] of a list whose first two are not in the batch. */
static const uint32_t items[B] = {8, 2, 3, 4, 5, 6, 7};

/* By the definition: is there a row of the picture with the caption? */
static bool right(const reco_answers *a, size_t image, size_t text)
{
    for (size_t row = 0; row < B + 2; row++)
        if (a->picture[row] == a->picture[items[image]] && a->caption[row] == a->caption[items[text]])
            return true;
    return false;
}

static double nce(const float *a, const float *b, double scale, const reco_answers *answers)
{
    double loss = 0;
    for (int way = 0; way < 2; way++)
        for (size_t i = 0; i < B; i++) {
            double sum = 0, own = 0;
            for (size_t j = 0; j < B; j++) {
                const float *p = way ? a + j * D : a + i * D, *q = way ? b + i * D : b + j * D;
                double s = 0;
                for (size_t c = 0; c < D; c++) s += scale * (double)p[c] * (double)q[c];
                if (i == j) own = s;
                if (i == j || !answers || !right(answers, way ? j : i, way ? i : j)) sum += exp(s);
            }
            loss += log(sum) - own;
        }
    return loss / (2 * B);
}

static double want(const float *v2, const float *t2, const float *v, const float *t, float logit_scale,
                   const reco_answers *answers)
{
    double s = exp(fmin((double)logit_scale, log(100)));
    return nce(v2, t2, s, answers) + nce(v2, t, s, answers) + nce(v, t2, s, answers);
}

static void check(reco_ctx *ctx, float logit_scale, const reco_answers *answers)
{
    float x[4][B * D], dv2[B * D], dt2[B * D], dscale;
    float *gradients[2] = {dv2, dt2};
    double loss;
    reco_rng rng;
    reco_rng_seed(&rng, 11);
    for (int a = 0; a < 4; a++)
        for (size_t i = 0; i < B * D; i++) x[a][i] = 0.4f * (float)reco_rng_normal(&rng);
    assert_int_equal(reco_train_loss(ctx, &loss, dv2, dt2, &dscale, x[0], x[1], x[2], x[3], logit_scale,
                                     answers, items, B, D),
                     RECO_OK);
    assert_true(fabs(loss - want(x[0], x[1], x[2], x[3], logit_scale, answers)) < 1e-4);
    for (int a = 0; a < 2; a++)
        for (size_t i = 0; i < B * D; i++) {
            float kept = x[a][i], h = 1e-3f;
            x[a][i] = kept + h;
            double up = want(x[0], x[1], x[2], x[3], logit_scale, answers), wide = (double)x[a][i];
            x[a][i] = kept - h;
            double down = want(x[0], x[1], x[2], x[3], logit_scale, answers);
            wide -= (double)x[a][i];
            x[a][i] = kept;
            assert_true(fabs((up - down) / wide - (double)gradients[a][i]) < 1e-3);
        }
    double slope = (want(x[0], x[1], x[2], x[3], logit_scale + 1e-3f, answers) -
                    want(x[0], x[1], x[2], x[3], logit_scale - 1e-3f, answers)) /
                   2e-3;
    assert_true(fabs(slope - (double)dscale) < 1e-2);
}

static void loss(void **state)
{
    (void)state;
    /* One caption of several pictures, several captions of one picture, and what follows from both: row 1, which is not in
     * the batch, says that picture 5 has caption 0. */
    reco_answers several = {.caption = (uint32_t[]){9, 0, 0, 1, 0, 2, 1, 3, 0},
                            .picture = (uint32_t[]){9, 5, 0, 0, 1, 5, 4, 3, 2},
                            .start = (uint32_t[]){0, 2, 3, 4, 5, 6, 8, 8, 8, 8, 9},
                            .of = (uint32_t[]){0, 1, 0, 0, 3, 1, 0, 2, 9}};
    reco_answers alone = {.caption = (uint32_t[]){0, 1, 2, 3, 4, 5, 6, 7, 8},
                          .picture = (uint32_t[]){0, 1, 2, 3, 4, 5, 6, 7, 8},
                          .start = (uint32_t[]){0, 1, 2, 3, 4, 5, 6, 7, 8, 9},
                          .of = (uint32_t[]){0, 1, 2, 3, 4, 5, 6, 7, 8}};
    reco_ctx *ctx;
    assert_int_equal(reco_ctx_create(&ctx, &(reco_ctx_opts){.threads = 2}), RECO_OK);
    check(ctx, 1.5f, NULL);
    check(ctx, 1.5f, &several);
    check(ctx, 1.5f, &alone);
    check(ctx, 7, NULL); /* above the cap: no slope */
    reco_ctx_free(ctx);
}

/* Logits that would underflow a plain softmax: a wrong pair at cosine 1, the right one at -1. */
static void extreme(void **state)
{
    (void)state;
    const float a[4] = {1, 0, -1, 0}, b[4] = {-1, 0, 1, 0};
    float dv2[4], dt2[4], dscale;
    double loss;
    reco_ctx *ctx;
    assert_int_equal(reco_ctx_create(&ctx, NULL), RECO_OK);
    assert_int_equal(
        reco_train_loss(ctx, &loss, dv2, dt2, &dscale, a, b, a, b, logf(100), NULL, NULL, 2, 2), RECO_OK);
    assert_true(fabs(loss - 600) < 1e-2);
    reco_ctx_free(ctx);
}

static void schedule(void **state)
{
    (void)state;
    assert_true(fabs(reco_cosine(5, 100, 0.1) - 0.5) < 1e-12);
    assert_true(fabs(reco_cosine(10, 100, 0.1) - 1) < 1e-12);
    assert_true(fabs(reco_cosine(55, 100, 0.1) - 0.5) < 1e-12);
    assert_true(fabs(reco_cosine(100, 100, 0.1)) < 1e-12);
    assert_true(reco_cosine(1, 1, 0) < 1e-12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(loss), cmocka_unit_test(extreme),
                                       cmocka_unit_test(schedule)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
