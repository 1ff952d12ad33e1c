/* Which mixture training takes: one that a few held-out pairs prefer is luck, unless most of them do. */
#include "train/train_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

enum { N = 40, WIDTH = 3 };

/* Queries whose candidate 0 is right. The first `saved` are named by CLIP alone, the others by the refined cosines alone; in both
 * cases whoever is wrong is unsure, so that mixtures are right everywhere. */
static reco_readout read_out(reco_ctx *ctx, size_t saved)
{
    static const float sure[] = {0.6f, 0.1f, 0.1f}, unsure[] = {0.30f, 0.31f, 0.2f};
    static float plain[N * WIDTH], refined[N * WIDTH], near[N];
    static size_t count[N], valid[N];
    static uint32_t caption[N], of[N];
    for (uint32_t i = 0; i < N; i++) {
        memcpy(plain + i * WIDTH, i < saved ? sure : unsure, sizeof sure);
        memcpy(refined + i * WIDTH, i < saved ? unsure : sure, sizeof sure);
        count[i] = WIDTH;
        caption[i] = i;
        of[i] = RECO_NO_CANDIDATE;
    }
    const reco_queries q = {.n = N,
                            .width = WIDTH,
                            .count = count,
                            .plain = plain,
                            .refined = refined,
                            .voters = 1,
                            .crowd = 1,
                            .near = near,
                            .of = of,
                            .valid = valid,
                            .caption = caption};
    reco_job job = {.ctx = ctx};
    job.same.captions = N;
    reco_readout readout;
    assert_int_equal(reco_choose_mixture(&job, &q, RECO_SIDES_BOTH, &readout), RECO_OK);
    return readout;
}

static void test_luck(void **state)
{
    reco_readout r = read_out(*state, 2);
    assert_true(r.mixture.clip == 0 && r.mixture.refined == 1);
    assert_float_equal(r.mixed, 38.0 / N, 1e-9);
}

static void test_gain(void **state)
{
    reco_readout r = read_out(*state, 12);
    assert_true(r.mixture.clip > 0 && r.mixture.refined > 0);
    assert_float_equal(r.mixed, 1, 1e-9);
    assert_float_equal(r.cosines, 28.0 / N, 1e-9);
}

static int make_ctx(void **state)
{
    reco_ctx *ctx;
    if (reco_ctx_create(&ctx, NULL) != RECO_OK) return 1;
    *state = ctx;
    return 0;
}

static int drop_ctx(void **state)
{
    reco_ctx_free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_luck), cmocka_unit_test(test_gain)};
    return cmocka_run_group_tests(tests, make_ctx, drop_ctx);
}
