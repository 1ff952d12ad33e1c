/* What a refined row is said to be made of is what it is made of. */
#include "fusion/fusion.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { N = 12, K = 5, D = 24 };

static float x[N * D], R[N * K * D], s[N * K];
static size_t valid[N];

static void unit(float *row, reco_rng *rng)
{
    double sum = 0;
    for (size_t q = 0; q < D; q++) row[q] = (float)reco_rng_normal(rng);
    for (size_t q = 0; q < D; q++) sum += (double)row[q] * (double)row[q];
    for (size_t q = 0; q < D; q++) row[q] = (float)((double)row[q] / sqrt(sum));
}

static int setup(void **state)
{
    (void)state;
    reco_rng rng;
    reco_rng_seed(&rng, 3);
    for (size_t i = 0; i < N; i++) unit(x + i * D, &rng);
    for (size_t i = 0; i < N * K; i++) unit(R + i * D, &rng);
    for (size_t i = 0; i < N * K; i++) s[i] = 0.9f - 0.1f * (float)(i % K);
    for (size_t i = 0; i < N; i++) valid[i] = i % 4 == 3 ? i % K : K;
    valid[0] = 0;
    return 0;
}

static reco_fusion *layer(reco_ctx *ctx, reco_layer kind)
{
    reco_fusion *f;
    size_t total;
    reco_fusion_config c = {
        .layer = kind, .d = D, .k = K, .heads = 4, .layers = 2, .scores = 1, .min_similarity = 0.55f};
    assert_int_equal(reco_fusion_create(ctx, &f, &c, 0, 5), RECO_OK);
    float *vector = reco_fusion_vector(f, &total);
    reco_rng rng;
    reco_rng_seed(&rng, 8);
    for (size_t i = 0; i < total; i++) vector[i] += 0.1f * (float)reco_rng_normal(&rng);
    return f;
}

static void parts(void **state)
{
    (void)state;
    reco_ctx *ctx;
    float w[N * (K + 1)], again[N * (K + 1)], refined[N * D];
    reco_fusion_input in = {.x = x, .retrieved = R, .scores = s, .valid = valid, .n = N, .k = K};
    assert_int_equal(reco_ctx_create(&ctx, NULL), RECO_OK);
    for (int kind = RECO_LAYER_NONE; kind <= RECO_LAYER_MLP; kind++) {
        reco_fusion *f = layer(ctx, (reco_layer)kind);
        bool blind = kind == RECO_LAYER_NONE || kind == RECO_LAYER_MLP;
        bool adds = kind != RECO_LAYER_TRANSFORMER && kind != RECO_LAYER_MLP;
        memcpy(refined, x, sizeof x);
        assert_int_equal(reco_fusion_refine(ctx, f, &in, &(reco_fused){.weights = w}), RECO_OK);
        assert_memory_equal(refined, x, sizeof x);
        in.x = refined; /* rows may take the place of x, and the weights are still those of x */
        assert_int_equal(reco_fusion_refine(ctx, f, &in, &(reco_fused){.rows = refined, .weights = again}),
                         RECO_OK);
        assert_memory_equal(again, w, sizeof w);
        in.x = x;
        for (size_t i = 0; i < N; i++) {
            double sum = 0, norm = 0, z[D];
            const float *own = w + i * (K + 1);
            size_t count = valid[i] < 4 ? valid[i] : 4; /* the fifth is too far: 0.5 */
            for (size_t j = 0; j <= K; j++) {
                assert_true(own[j] >= 0);
                assert_true(blind || j == 0 || (own[j] > 0) == (j <= count));
                sum += (double)own[j];
            }
            assert_true(fabs(sum - 1) < 1e-5);
            assert_true(own[0] == 1 || count > 0);
            for (size_t q = 0; q < D; q++) {
                z[q] = (double)own[0] * (double)x[i * D + q];
                for (size_t j = 0; j < K; j++) z[q] += (double)own[j + 1] * (double)R[(i * K + j) * D + q];
                norm += z[q] * z[q];
            }
            for (size_t q = 0; adds && q < D; q++)
                assert_true(fabs(z[q] / sqrt(norm) - (double)refined[i * D + q]) < 1e-5);
        }
        reco_fusion_free(f);
    }
    reco_fusion *f = layer(ctx, RECO_LAYER_MEAN);
    in.k = 0;
    assert_int_equal(reco_fusion_refine(ctx, f, &in, &(reco_fused){.weights = w}), RECO_E_ARG);
    reco_fusion_free(f);
    reco_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(parts)};
    return cmocka_run_group_tests(tests, setup, NULL);
}
