/* Gradients of each layer that trains against finite differences, in every parameter, for masks of every kind. */
#include "fusion/fusion.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { N = 5, K = 4, D = 12 };

static void unit_rows(float *x, size_t n, size_t d, reco_rng *rng)
{
    for (size_t i = 0; i < n; i++) {
        double square = 0;
        for (size_t j = 0; j < d; j++) {
            x[i * d + j] = (float)reco_rng_normal(rng);
            square += (double)x[i * d + j] * (double)x[i * d + j];
        }
        for (size_t j = 0; j < d; j++) x[i * d + j] = (float)((double)x[i * d + j] / sqrt(square));
    }
}

static const size_t valid[N] = {0, 1, 4, 2, 3};

typedef struct setting {
    reco_ctx *ctx;
    reco_fusion *f;
    reco_tape *tape;
    float x[N * D], R[N * K * D], s[N * K], target[N * D], out[N * D];
} setting;

/* sum out . target: any smooth function of the output does. */
static double value(setting *c, reco_side side)
{
    double sum = 0;
    const reco_fusion_input in = {
        .side = side, .x = c->x, .retrieved = c->R, .scores = c->s, .valid = valid, .n = N, .k = K};
    assert_int_equal(reco_fusion_forward(c->ctx, c->f, &in, c->out, c->tape), RECO_OK);
    for (size_t i = 0; i < N * D; i++) sum += (double)c->out[i] * (double)c->target[i];
    return sum;
}

static void check(reco_fusion_config config)
{
    setting c;
    reco_rng rng;
    size_t total;
    reco_rng_seed(&rng, 7);
    config.d = D, config.k = K, config.min_similarity = -1;
    assert_int_equal(reco_ctx_create(&c.ctx, &(reco_ctx_opts){.threads = 2}), RECO_OK);
    assert_int_equal(reco_fusion_create(c.ctx, &c.f, &config, 0, 1), RECO_OK);
    assert_int_equal(reco_tape_create(c.ctx, &c.tape, c.f, N, K), RECO_OK);
    unit_rows(c.x, N, D, &rng);
    unit_rows(c.R, N * K, D, &rng);
    unit_rows(c.target, N, D, &rng);
    for (size_t i = 0; i < N * K; i++)
        c.s[i] = 0.9f - 0.07f * (float)(i % K) - 0.01f * (float)reco_rng_uniform(&rng);
    float *vector = reco_fusion_vector(c.f, &total);
    for (size_t i = 0; i < total; i++) vector[i] += 0.2f * (float)reco_rng_normal(&rng);
    for (int side = 0; side < 2; side++) {
        float *d = reco_alloc(c.ctx, total, sizeof *d, "test");
        value(&c, (reco_side)side);
        assert_int_equal(reco_fusion_backward(c.ctx, c.f, c.tape, c.target, d), RECO_OK);
        for (size_t i = 0; i < total; i++) {
            float kept = vector[i], h = 4e-3f;
            vector[i] = kept + h;
            double up = value(&c, (reco_side)side);
            vector[i] = kept - h;
            double slope = (up - value(&c, (reco_side)side)) / (2 * (double)h);
            vector[i] = kept;
            if (!(fabs(slope - (double)d[i]) <= 2e-3 + 1e-2 * fabs(slope)))
                fail_msg("side %d, parameter %zu: gradient %g, difference quotient %g", side, i,
                         (double)d[i], slope);
        }
        reco_free(d);
    }
    reco_tape_free(c.tape);
    reco_fusion_free(c.f);
    reco_ctx_free(c.ctx);
}

static void relational(void **state)
{
    (void)state;
    check((reco_fusion_config){.layer = RECO_LAYER_RELATIONAL, .hidden = 6});
}

static void transformer(void **state)
{
    (void)state;
    check((reco_fusion_config){.layer = RECO_LAYER_TRANSFORMER, .heads = 3, .mlp = 10, .scores = 1});
    check((reco_fusion_config){.layer = RECO_LAYER_TRANSFORMER, .heads = 2, .mlp = 10, .layers = 2});
}

static void mlp(void **state)
{
    (void)state;
    check((reco_fusion_config){.layer = RECO_LAYER_MLP, .mlp = 10});
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(relational), cmocka_unit_test(transformer),
                                       cmocka_unit_test(mlp)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
