/* Which sides are refined, chosen on outcomes made by hand. */
#include "train/train_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

enum { N = 200 };

static reco_outcome outcomes[N];
static uint32_t held[N], caption[N];

/* What each choice of sides makes of pair i. */
static void set(size_t i, float clip, float image, float text, float both)
{
    const float value[RECO_CHOICES] = {clip, image, text, both};
    outcomes[i] = (reco_outcome){0};
    for (int c = 0; c < RECO_CHOICES; c++)
        outcomes[i].reciprocal[0][c] = outcomes[i].reciprocal[1][c] = value[c];
}

/* captions: as many as there are, of as many pairs each, one after the other. */
static reco_verdict choose(reco_ctx *ctx, size_t captions)
{
    reco_verdict verdict;
    for (size_t i = 0; i < N; i++) {
        held[i] = (uint32_t)i;
        caption[i] = (uint32_t)(i * captions / N);
    }
    reco_job job = {
        .ctx = ctx, .n = N, .nheld = N, .held = held, .same = {.caption = caption, .captions = captions}};
    assert_int_equal(reco_choose(&job, &verdict, outcomes), RECO_OK);
    return verdict;
}

/* One caption of four gains, the others lose a little: as 200 captions that is a clear gain, as four it may be luck. */
static void errors_are_by_captions(void **state)
{
    reco_ctx *ctx = *state;
    for (size_t i = 0; i < N; i++) {
        float gain = i < N / 4 ? 0.3f : -0.03f;
        set(i, 0.5f, 0.5f + gain, 0.5f, 0.5f + gain);
    }
    reco_verdict apart = choose(ctx, N), together = choose(ctx, 4);
    assert_true(apart.sides == RECO_SIDES_BOTH && together.sides == RECO_SIDES_NONE);
    assert_true(together.gain[RECO_SIDES_BOTH] == apart.gain[RECO_SIDES_BOTH]);
    assert_true(together.error[RECO_SIDES_BOTH] > 4 * apart.error[RECO_SIDES_BOTH]);
    /* All four gain alike: four are enough. */
    for (size_t i = 0; i < N; i++) set(i, 0.5f, 0.5f, 0.5f, i % 2 ? 0.6f : 0.5f);
    assert_int_equal(choose(ctx, 4).sides, RECO_SIDES_BOTH);
}

/* Both sides, unless one is better alone by more than the error of its gain. */
static void ties_go_to_both(void **state)
{
    reco_ctx *ctx = *state;
    for (int lead = 0; lead < 2; lead++) {
        for (size_t i = 0; i < N; i++) {
            float gain = i % 4 ? 0 : 0.4f; /* 0.1 on average, with an error of 0.012 */
            set(i, 0.5f, 0.5f + gain, 0.4f, 0.5f + gain - (lead ? 0.05f : 0.005f));
        }
        assert_int_equal(choose(ctx, N).sides, lead ? RECO_SIDES_IMAGE : RECO_SIDES_BOTH);
    }
    for (size_t i = 0; i < N; i++) set(i, 0.5f, 0.4f, 0.3f, 0.2f);
    assert_int_equal(choose(ctx, N).sides, RECO_SIDES_NONE);
}

static int setup(void **state)
{
    reco_ctx *ctx;
    if (reco_ctx_create(&ctx, &(reco_ctx_opts){.threads = 1}) != RECO_OK) return -1;
    *state = ctx;
    return 0;
}

static int teardown(void **state)
{
    reco_ctx_free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(errors_are_by_captions),
                                       cmocka_unit_test(ties_go_to_both)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
