/* The weight of CLIP in the mixture of cosines, chosen on cosines made by hand. */
#include "train/train_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

enum { N = 200, C = 3 };

static float plain[N * C], refined[N * C];
static size_t count[N];
static uint32_t caption[N]; /* each its own */

/* Query i is of kind i % 10: below `clip` CLIP alone is right, by a wide margin; below `memory` the refined alone; else neither. */
static reco_queries make(int clip, int memory, float sure)
{
    for (size_t i = 0; i < N; i++) {
        int kind = (int)(i % 10);
        float *p = plain + i * C, *r = refined + i * C;
        count[i] = C;
        caption[i] = (uint32_t)i;
        p[0] = kind < clip ? 0.3f : 0.2f;
        p[1] = p[2] = kind < clip ? 0.3f - sure : 0.25f;
        r[0] = kind >= clip && kind < memory ? 0.9f : 0.2f;
        r[1] = r[2] = kind >= clip && kind < memory ? 0.3f : 0.3f;
    }
    return (reco_queries){.n = N,
                          .room = N,
                          .width = C,
                          .count = count,
                          .caption = caption,
                          .plain = plain,
                          .refined = refined};
}

static void chooses(void **state)
{
    (void)state;
    reco_ctx *ctx;
    assert_int_equal(reco_ctx_create(&ctx, &(reco_ctx_opts){.threads = 1}), RECO_OK);
    reco_job job = {.ctx = ctx, .same = {.captions = N}};
    float weight = -1;
    /* Nothing is won: CLIP. */
    reco_queries q = make(5, 5, 0.2f);
    assert_int_equal(reco_choose_concat(&job, &q, &weight), RECO_OK);
    assert_true(weight == 1);
    /* CLIP knows nothing: a weight at which all that the memory knows is right. */
    q = make(0, 6, 0.2f);
    assert_int_equal(reco_choose_concat(&job, &q, &weight), RECO_OK);
    assert_true(weight < 1);
    for (int twins = 0; twins < 2; twins++) {
        job.twins = twins;
        /* Both know something. CLIP is right where a * 0.2 > (1 - a) * 0.1, a above 1/3; the memory where
         * (1 - a) * 0.6 > a * 0.05, a below 0.92. */
        q = make(4, 8, 0.2f);
        assert_int_equal(reco_choose_concat(&job, &q, &weight), RECO_OK);
        assert_true(weight > 1 / 3.0f && weight < 0.92f);
        /* CLIP is sure by 0.01 alone, so a > 0.91 keeps it, and 0.9 loses it for what the memory wins. */
        q = make(4, 8, 0.01f);
        assert_int_equal(reco_choose_concat(&job, &q, &weight), RECO_OK);
        assert_true(weight == 1);
    }
    q.n = 0;
    assert_int_equal(reco_choose_concat(&job, &q, &weight), RECO_OK);
    assert_true(weight == 1);
    reco_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(chooses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
