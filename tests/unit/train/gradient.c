/* The gradient of a batch is the same to the last bit however many tapes there are and however many threads, and what one tape of the
 * whole batch comes to; and it is the loss's gradient. */
#include "kernels/kernels.h"
#include "train/train_internal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

enum { B = 1100, D = 32, K = 3 }; /* a block and a part */

static float x[2][B * D], R[2][B * K * D], s[2][B * K];
static size_t valid[2][B];

static int setup(void **state)
{
    (void)state;
    reco_rng rng;
    reco_rng_seed(&rng, 5);
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < B * D; i++) x[side][i] = (float)reco_rng_normal(&rng) + (side ? x[0][i] : 0);
        reco_normalize(NULL, x[side], x[side], B, D, NULL);
    }
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < B * K * D; i++)
            R[side][i] = (float)reco_rng_normal(&rng) + 4 * x[1 - side][i / (K * D) * D + i % D];
        reco_normalize(NULL, R[side], R[side], B * K, D, NULL);
        for (size_t i = 0; i < B * K; i++) s[side][i] = (float)reco_rng_uniform(&rng);
        for (size_t i = 0; i < B; i++) valid[side][i] = reco_rng_below(&rng, K + 1);
    }
    return 0;
}

static reco_batch make_batch(void)
{
    return (reco_batch){
        .n = B, .x = {x[0], x[1]}, .R = {R[0], R[1]}, .s = {s[0], s[1]}, .valid = {valid[0], valid[1]}};
}

static reco_fusion *make_fusion(reco_ctx *ctx, reco_fusion_config c)
{
    reco_fusion *f;
    reco_rng rng;
    size_t total;
    c.d = D, c.k = K, c.min_similarity = -1;
    assert_int_equal(reco_fusion_create(ctx, &f, &c, 10, 1), RECO_OK);
    float *vector = reco_fusion_vector(f, &total);
    reco_rng_seed(&rng, 6);
    for (size_t i = 0; i + 1 < total; i++) vector[i] += 0.1f * (float)reco_rng_normal(&rng);
    return f;
}

/* As it was before there were blocks. */
static double take_whole(reco_ctx *ctx, reco_fusion *f, float *gradient)
{
    static float y[2][B * D], dy[2][B * D];
    reco_tape *tapes[2];
    size_t total;
    double loss;
    const float *vector = reco_fusion_vector(f, &total);
    memset(gradient, 0, total * sizeof *gradient);
    for (int side = 0; side < 2; side++) {
        assert_int_equal(reco_tape_create(ctx, &tapes[side], f, B, K), RECO_OK);
        const reco_fusion_input in = {.side = (reco_side)side,
                                      .x = x[side],
                                      .retrieved = R[side],
                                      .scores = s[side],
                                      .valid = valid[side],
                                      .n = B,
                                      .k = K};
        assert_int_equal(reco_fusion_forward(ctx, f, &in, y[side], tapes[side]), RECO_OK);
    }
    assert_int_equal(reco_train_loss(ctx, &loss, dy[0], dy[1], gradient + total - 1, y[0], y[1], x[0], x[1],
                                     vector[total - 1], NULL, NULL, B, D),
                     RECO_OK);
    for (int side = 0; side < 2; side++) {
        assert_int_equal(reco_fusion_backward(ctx, f, tapes[side], dy[side], gradient), RECO_OK);
        reco_tape_free(tapes[side]);
    }
    return loss;
}

static double take(reco_ctx *ctx, reco_fusion *f, size_t bytes, size_t tapes, float *gradient)
{
    reco_gradients g;
    reco_batch b = make_batch();
    double loss;
    size_t total;
    reco_fusion_vector(f, &total);
    assert_int_equal(reco_gradients_create(ctx, &g, f, B, K, bytes), RECO_OK);
    if (tapes) assert_int_equal(g.n, tapes);
    for (size_t i = 0; i < total; i++) gradient[i] = NAN;
    assert_int_equal(reco_gradients_take(ctx, &g, &loss, gradient, &b, NULL), RECO_OK);
    reco_gradients_clear(&g);
    return loss;
}

static const reco_fusion_config layers[] = {
    {.layer = RECO_LAYER_RELATIONAL},
    {.layer = RECO_LAYER_TRANSFORMER, .heads = 4, .mlp = 48, .scores = 1},
    {.layer = RECO_LAYER_TRANSFORMER, .heads = 2, .mlp = 48, .layers = 2},
    {.layer = RECO_LAYER_MLP, .mlp = 48},
};
enum { LAYERS = sizeof layers / sizeof *layers };

static void same_bits(void **state)
{
    (void)state;
    for (int isa = RECO_ISA_PLAIN; isa <= RECO_ISA_AVX512; isa++)
        for (size_t l = 0; l < (isa == RECO_ISA_PLAIN ? 2 : LAYERS); l++) { /* plain C is slow */
            reco_ctx *ctx[2];
            for (int t = 0; t < 2; t++)
                assert_int_equal(
                    reco_ctx_create(&ctx[t], &(reco_ctx_opts){.threads = t + 1, .max_isa = (reco_isa)isa}),
                    RECO_OK);
            reco_fusion *f = make_fusion(ctx[0], layers[l]);
            size_t total;
            reco_fusion_vector(f, &total);
            float *want = reco_alloc(NULL, total, sizeof *want, "test"),
                  *got = reco_alloc(NULL, total, sizeof *got, "test");
            double loss = (int)reco_ctx_isa(ctx[0]) == isa ? take(ctx[0], f, SIZE_MAX, 4, want) : 0;
            for (int t = 0; t < 2 && (int)reco_ctx_isa(ctx[0]) == isa; t++) {
                static const size_t bytes[] = {0, 3 << 20, SIZE_MAX}; /* one tape, some, all */
                for (int n = 0; n < 3; n++) {
                    assert_true(take(ctx[t], f, bytes[n], n ? 0 : 1, got) == loss);
                    assert_memory_equal(got, want, total * sizeof *got);
                }
                /* Plain C sums whole columns in double, and so rounds once where blocks round several times. */
                assert_true(take_whole(ctx[t], f, got) == loss);
                for (size_t i = 0; i < total && isa == RECO_ISA_PLAIN; i++)
                    assert_true(fabsf(got[i] - want[i]) <= 1e-6f + 1e-5f * fabsf(want[i]));
                if (isa != RECO_ISA_PLAIN) assert_memory_equal(got, want, total * sizeof *got);
            }
            reco_free(want), reco_free(got);
            reco_fusion_free(f);
            reco_ctx_free(ctx[0]), reco_ctx_free(ctx[1]);
        }
}

/* Along the gradient, and along a random direction, the loss changes as the gradient says. */
static void finite_differences(void **state)
{
    (void)state;
    reco_ctx *ctx;
    assert_int_equal(reco_ctx_create(&ctx, &(reco_ctx_opts){.threads = 2}), RECO_OK);
    for (size_t l = 0; l < LAYERS; l++) {
        reco_fusion *f = make_fusion(ctx, layers[l]);
        size_t total;
        float *vector = reco_fusion_vector(f, &total), *at = reco_alloc(NULL, total, sizeof *at, "test"),
              *gradient = reco_alloc(NULL, total, sizeof *at, "test"),
              *other = reco_alloc(NULL, total, sizeof *at, "test"),
              *direction = reco_alloc(NULL, total, sizeof *at, "test");
        reco_rng rng;
        reco_rng_seed(&rng, 7);
        memcpy(at, vector, total * sizeof *at);
        take(ctx, f, 0, 1, gradient);
        double steepest = 0; /* the gradient's length */
        for (int way = 0; way < 2; way++) {
            double length = 0, want = 0, loss[2];
            for (size_t i = 0; i < total; i++) {
                double step = (double)gradient[i];
                direction[i] = (float)(way ? fabs(step) * reco_rng_normal(&rng) : step);
                length += (double)direction[i] * (double)direction[i];
                want += (double)direction[i] * step;
            }
            if (way == 0) steepest = sqrt(length);
            double h = 2e-3 / sqrt(length);
            for (int sign = 0; sign < 2; sign++) {
                for (size_t i = 0; i < total; i++)
                    vector[i] = (float)((double)at[i] + (sign ? h : -h) * (double)direction[i]);
                loss[sign] = take(ctx, f, 0, 1, other);
            }
            memcpy(vector, at, total * sizeof *at);
            double got = (loss[1] - loss[0]) / (2 * h);
            print_message("layer %d: %g, want %g\n", layers[l].layer, got, want);
            assert_true(fabs(got - want) <= 0.01 * sqrt(length) * steepest);
        }
        reco_free(at), reco_free(gradient), reco_free(other), reco_free(direction);
        reco_fusion_free(f);
    }
    reco_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_bits), cmocka_unit_test(finite_differences)};
    return cmocka_run_group_tests(tests, setup, NULL);
}
