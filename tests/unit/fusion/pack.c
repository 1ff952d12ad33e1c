/* A layer that was opened has packed weights: it refines to the same bits as one that has none, and its parameters, once they are
 * changed, are those that count. */
#include "fusion/params.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

enum { N = 9, K = 3, D = 320 }; /* more columns than a panel has */

static float x[N * D], R[N * K * D], scores[N * K];

static void refine(reco_ctx *ctx, float *y, const reco_fusion *f, reco_side side, size_t n)
{
    const reco_fusion_input in = {.side = side, .x = x, .retrieved = R, .scores = scores, .n = n, .k = K};
    assert_int_equal(reco_fusion_refine(ctx, f, &in, &(reco_fused){.rows = y}), RECO_OK);
}

static void same(reco_ctx *ctx, const reco_fusion *a, const reco_fusion *b)
{
    static float y[2][N * D];
    for (int side = 0; side < 2; side++)
        for (size_t n = 1; n <= N; n += N - 1) {
            refine(ctx, y[0], a, (reco_side)side, n);
            refine(ctx, y[1], b, (reco_side)side, n);
            assert_memory_equal(y[0], y[1], n * D * sizeof(float));
            assert_memory_not_equal(y[0], x, n * D * sizeof(float));
        }
}

static void check(reco_ctx *ctx, reco_fusion_config config)
{
    char path[] = "/tmp/reco-pack-XXXXXX";
    int file = mkstemp(path);
    reco_fusion *made, *opened;
    reco_rng rng;
    size_t total;
    config.d = D, config.k = K, config.min_similarity = -1;
    assert_true(file >= 0);
    close(file);
    assert_int_equal(reco_fusion_create(ctx, &made, &config, 0, 1), RECO_OK);
    float *vector = reco_fusion_vector(made, &total);
    reco_rng_seed(&rng, 3);
    for (size_t i = 0; i < total; i++) vector[i] += 0.05f * (float)reco_rng_normal(&rng);
    assert_int_equal(reco_fusion_save(ctx, made, path), RECO_OK);
    assert_int_equal(reco_fusion_open(ctx, &opened, path, D, 0), RECO_OK);
    assert_true(made->ncopies == 0 && opened->ncopies > 0);
    same(ctx, made, opened);
    float *changed = reco_fusion_vector(opened, &total);
    assert_int_equal(opened->ncopies, 0);
    for (size_t i = 0; i < total; i++) changed[i] = vector[i] *= 0.9f;
    same(ctx, made, opened);
    reco_fusion_free(opened);
    reco_fusion_free(made);
    unlink(path);
}

static void packed(void **state)
{
    (void)state;
    reco_rng rng;
    reco_ctx *ctx;
    reco_rng_seed(&rng, 5);
    for (size_t i = 0; i < N * D; i++) x[i] = (float)(reco_rng_normal(&rng) / sqrt(D));
    for (size_t i = 0; i < N * K * D; i++) R[i] = (float)(reco_rng_normal(&rng) / sqrt(D));
    for (size_t i = 0; i < N * K; i++) scores[i] = 0.9f - 0.1f * (float)(i % K);
    for (int plain = 0; plain < 2; plain++) {
        reco_ctx_opts opts = {.threads = 2, .max_isa = plain ? RECO_ISA_PLAIN : RECO_ISA_AUTO};
        assert_int_equal(reco_ctx_create(&ctx, &opts), RECO_OK);
        check(ctx, (reco_fusion_config){.layer = RECO_LAYER_TRANSFORMER, .mlp = 1100, .scores = 1});
        check(ctx,
              (reco_fusion_config){.layer = RECO_LAYER_TRANSFORMER, .mlp = 60, .layers = 2, .heads = 64});
        check(ctx, (reco_fusion_config){.layer = RECO_LAYER_MLP});
        reco_ctx_free(ctx);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(packed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
