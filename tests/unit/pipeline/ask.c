/* Which mixture a question is read out with, and what it refuses; what it finds is tested against the definition in
 * tests/cli/test_search.py. */
#include "pipeline/pipeline_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

enum { D = 16, N = 40 };

static reco_ctx *ctx;
static char folder[64];
static reco_bank *bank;
static reco_fusion *fusion;
static const reco_mixture trained = {0.5f, 0.3f, {20, 40, 30}, 0};
static float image[N * D], text[N * D];

static void good(reco_status status)
{
    if (status != RECO_OK) fail_msg("%s: %s", reco_status_name(status), reco_ctx_error(ctx));
}

static void unit_rows(float *x, size_t n, uint64_t seed)
{
    reco_rng rng;
    reco_rng_seed(&rng, seed);
    for (size_t i = 0; i < n * D; i++) x[i] = (float)reco_rng_normal(&rng);
    reco_normalize(ctx, x, x, n, D, NULL);
}

static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/reco-ask-XXXXXX");
    if (!mkdtemp(folder) || reco_ctx_create(&ctx, NULL) != RECO_OK) return 1;
    unit_rows(image, N, 1);
    unit_rows(text, N, 2);
    char *path = reco_format(ctx, "%s/bank", folder);
    reco_bank_writer *writer;
    reco_pair pairs[N];
    uint64_t next;
    int done;
    for (size_t i = 0; i < N; i++) pairs[i] = (reco_pair){.caption = "a caption"};
    good(reco_bank_writer_open(ctx, &writer, path, &(reco_bank_spec){D, "", "", 0}, "test", &next, &done));
    good(reco_bank_append(ctx, writer, image, text, pairs, N));
    good(reco_bank_commit(ctx, writer, N, 1));
    reco_bank_writer_close(writer);
    good(reco_bank_open(ctx, &bank, path));
    reco_free(path);
    good(reco_fusion_open(ctx, &fusion, "mean", D, 4));
    good(reco_fusion_set_mixture(ctx, fusion, &trained));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    reco_fusion_free(fusion);
    reco_bank_close(bank);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    reco_ctx_free(ctx);
    return system(command);
}

/* What training found holds across the sides, for the sides that it refined; what is given holds everywhere. */
static void test_which_mixture(void **state)
{
    (void)state;
    const reco_mixture off = {0}, given = {1, 0, {9, 9, 9}, 0};
    reco_ask_opts opts = {.fusion = fusion, .sides = RECO_SIDES_DEFAULT};
    assert_true(reco_ask_mixture(&opts, RECO_IMAGE, RECO_TEXT).scale[0] == 20);
    assert_true(reco_ask_mixture(&opts, RECO_TEXT, RECO_IMAGE).clip == 0.5f);
    assert_true(reco_ask_mixture(&opts, RECO_IMAGE, RECO_IMAGE).scale[0] == 0);
    assert_true(reco_ask_mixture(&opts, RECO_TEXT, RECO_TEXT).scale[0] == 0);
    opts.sides = RECO_SIDES_BOTH; /* those of `mean` */
    assert_true(reco_ask_mixture(&opts, RECO_IMAGE, RECO_TEXT).scale[0] == 20);
    opts.sides = RECO_SIDES_TEXT;
    assert_true(reco_ask_mixture(&opts, RECO_IMAGE, RECO_TEXT).scale[0] == 0);
    opts.mixture = &given;
    assert_true(reco_ask_mixture(&opts, RECO_IMAGE, RECO_IMAGE).scale[0] == 9);
    opts.mixture = &off;
    assert_true(reco_ask_mixture(&opts, RECO_IMAGE, RECO_TEXT).scale[0] == 0);
    assert_true(reco_ask_mixture(NULL, RECO_IMAGE, RECO_TEXT).scale[0] == 0);
}

/* Probabilities of all there is sum to 1, a row that is left out is nowhere, and places without an answer are empty. */
static void test_answers(void **state)
{
    (void)state;
    int64_t ids[2 * 64];
    float scores[2 * 64], plain[2 * 64], refined[2 * 64], x[2 * D];
    size_t counts[2];
    reco_answer_list list = {ids, scores, plain, refined, counts};
    reco_ask_opts opts = {.search = {.k = 64}, .fusion = fusion, .sides = RECO_SIDES_DEFAULT};
    unit_rows(x, 2, 3);
    good(reco_ask(ctx, bank, RECO_IMAGE, RECO_TEXT, x, 2, &opts, 5, list));
    for (size_t q = 0; q < 2; q++) {
        double sum = 0;
        assert_int_equal(counts[q], N - 1);
        for (size_t j = 0; j < N - 1; j++) {
            sum += (double)scores[q * 64 + j];
            assert_int_not_equal(ids[q * 64 + j], 5);
            assert_true(j == 0 || scores[q * 64 + j] <= scores[q * 64 + j - 1]);
            assert_true(plain[q * 64 + j] != refined[q * 64 + j]);
        }
        assert_true(sum > 0.9999 && sum < 1.0001);
        assert_int_equal(ids[q * 64 + N - 1], -1);
        assert_true(scores[q * 64 + N - 1] == 0 && refined[q * 64 + 63] == 0);
    }
    /* Each query's answer is its own. */
    float alone[64];
    int64_t own[64];
    good(reco_ask(ctx, bank, RECO_IMAGE, RECO_TEXT, x + D, 1, &opts, 5,
                  (reco_answer_list){.ids = own, .scores = alone}));
    assert_memory_equal(own, ids + 64, sizeof own);
    assert_memory_equal(alone, scores + 64, sizeof alone);
}

static void test_refused(void **state)
{
    (void)state;
    int64_t ids[1];
    float scores[1];
    reco_answer_list list = {.ids = ids, .scores = scores};
    const reco_mixture bad = {0.7f, 0.7f, {1, 1, 1}, 0};
    reco_ask_opts opts = {.search = {.k = RECO_BANK_MAX_K + 1}};
    assert_int_equal(reco_ask(ctx, bank, RECO_IMAGE, RECO_TEXT, image, 1, &opts, -1, list), RECO_E_ARG);
    opts = (reco_ask_opts){.search = {.k = 1}, .fusion = fusion, .neighbours = RECO_BANK_MAX_K + 1};
    assert_int_equal(reco_ask(ctx, bank, RECO_IMAGE, RECO_TEXT, image, 1, &opts, -1, list), RECO_E_ARG);
    opts = (reco_ask_opts){.search = {.k = 1}, .fusion = fusion, .mixture = &bad};
    assert_int_equal(reco_ask(ctx, bank, RECO_IMAGE, RECO_TEXT, image, 1, &opts, -1, list), RECO_E_ARG);
    assert_non_null(strstr(reco_ctx_error(ctx), "0.7"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_which_mixture), cmocka_unit_test(test_answers),
                                       cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
