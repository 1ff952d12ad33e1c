/* The metric that votes are weighed by: its scores, its place in a checkpoint, and what a damaged one gets. */
#include "fusion/fusion.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>
#include <cmocka.h>

enum { N = 5, M = 9, K = 4, D = 12 };

static reco_ctx *ctx;
static float metric[RECO_METRIC_FLOATS(D)], x[N * D], rows[M * D];

static int setup(void **state)
{
    (void)state;
    reco_rng rng;
    reco_rng_seed(&rng, 11);
    float *all[] = {metric, x, rows};
    const size_t count[] = {RECO_METRIC_FLOATS(D), N * D, M * D};
    for (int a = 0; a < 3; a++)
        for (size_t i = 0; i < count[a]; i++) all[a][i] = (float)reco_rng_normal(&rng);
    return reco_ctx_create(&ctx, &(reco_ctx_opts){.threads = 2}) != RECO_OK;
}

static int teardown(void **state)
{
    (void)state;
    reco_ctx_free(ctx);
    return 0;
}

static void rows_once(void **state)
{
    (void)state;
    const int64_t ids[] = {7, -1, 3, 7, 900, 3, -1};
    int64_t unique[7];
    uint32_t place[7];
    assert_int_equal(reco_metric_rows(ids, 7, unique, place), 3);
    assert_true(unique[0] == 3 && unique[1] == 7 && unique[2] == 900);
    for (size_t i = 0; i < 7; i++)
        if (ids[i] < 0)
            assert_int_equal(place[i], RECO_NO_CANDIDATE);
        else
            assert_int_equal(unique[place[i]], ids[i]);
    assert_int_equal(reco_metric_rows(ids + 1, 1, unique, place), 0);
}

static void scores(void **state)
{
    (void)state;
    uint32_t place[N * K];
    float got[N * K];
    for (uint32_t i = 0; i < N * K; i++) place[i] = i % 6 == 5 ? RECO_NO_CANDIDATE : i * 7 % M;
    assert_int_equal(reco_metric_scores(ctx, metric, x, N, rows, M, place, K, D, got), RECO_OK);
    for (size_t i = 0; i < N * K; i++) {
        double xx = 0, yy = 0, xy = 0, want = 0;
        for (size_t r = 0; r < D && place[i] != RECO_NO_CANDIDATE; r++) {
            double p = 0, q = 0;
            for (size_t j = 0; j < D; j++) {
                double w = (double)metric[r * D + j], centre = (double)metric[D * D + j];
                p += w * ((double)x[i / K * D + j] - centre);
                q += w * ((double)rows[place[i] * D + j] - centre);
            }
            xx += p * p, yy += q * q, xy += p * q;
            want = xy / sqrt(xx * yy);
        }
        assert_true(fabs((double)got[i] - want) < 1e-5 * (1 + fabs(want)));
    }
}

static void in_a_checkpoint(void **state)
{
    (void)state;
    reco_fusion *f, *g;
    reco_fusion_config c = {.layer = RECO_LAYER_RELATIONAL, .d = D, .k = 3, .min_similarity = -1};
    char *path = reco_format(ctx, "/tmp/reco-metric-%d.safetensors", (int)getpid());
    assert_int_equal(reco_fusion_create(ctx, &f, &c, 0, 5), RECO_OK);
    assert_null(reco_fusion_metric(f));
    assert_int_equal(reco_fusion_set_metric(ctx, f, metric), RECO_OK);
    assert_int_equal(reco_fusion_save(ctx, f, path), RECO_OK);
    assert_int_equal(reco_fusion_open(ctx, &g, path, D, 0), RECO_OK);
    assert_memory_equal(reco_fusion_metric(g), metric, sizeof metric);
    reco_fusion_free(g);
    metric[D + 3] = NAN;
    assert_int_equal(reco_fusion_set_metric(ctx, f, metric), RECO_OK);
    assert_int_equal(reco_fusion_save(ctx, f, path), RECO_OK);
    assert_int_equal(reco_fusion_open(ctx, &g, path, D, 0), RECO_E_FORMAT);
    assert_non_null(strstr(reco_ctx_error(ctx), "vote.metric holds nan at 15"));
    assert_int_equal(reco_fusion_set_metric(ctx, f, NULL), RECO_OK);
    assert_int_equal(reco_fusion_save(ctx, f, path), RECO_OK);
    assert_int_equal(reco_fusion_open(ctx, &g, path, D, 0), RECO_OK);
    assert_null(reco_fusion_metric(g));
    reco_fusion_free(g), reco_fusion_free(f);
    unlink(path);
    reco_free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows_once), cmocka_unit_test(scores),
                                       cmocka_unit_test(in_a_checkpoint)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
