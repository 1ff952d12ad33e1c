/* A classifier against its definition, without a model. */
#include "fusion/fusion.h"
#include "io/io.h"
#include "kernels/kernels.h"
#include "query/query.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

enum { D = 16, N = 60, C = 7, M = 3, Q = 9, K = 4 };

static reco_ctx *ctx;
static char folder[64];
static reco_bank *bank;
static reco_fusion *fusion;
static float image[N * D], text[N * D], prompts[M * C * D], x[Q * D];
static const char *const names[C] = {"one", "two", "three", "four", "five", "six", "seven"};
static const char *const templates[M] = {"a {}", "the {} there", "{c}, a number"};

static void good(reco_status status)
{
    if (status != RECO_OK) fail_msg("%s: %s", reco_status_name(status), reco_ctx_error(ctx));
}

static void unit_rows(float *rows, size_t n, uint64_t seed)
{
    reco_rng rng;
    reco_rng_seed(&rng, seed);
    for (size_t i = 0; i < n * D; i++) rows[i] = (float)reco_rng_normal(&rng);
    reco_normalize(ctx, rows, rows, n, D, NULL);
}

/* Row i says class i % 10 where there is one: by name, by a prompt's words, or by a prompt's vector alone. */
static uint32_t said_by(int64_t id) { return id % 10 < C ? (uint32_t)(id % 10) : RECO_NO_CANDIDATE; }

static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/reco-classifier-XXXXXX");
    if (!mkdtemp(folder) || reco_ctx_create(&ctx, NULL) != RECO_OK) return 1;
    unit_rows(image, N, 1);
    unit_rows(text, N, 2);
    unit_rows(prompts, M * C, 3);
    unit_rows(x, Q, 4);
    char *path = reco_format(ctx, "%s/bank", folder), captions[N][64];
    reco_bank_writer *writer;
    reco_pair pairs[N];
    uint64_t next;
    int done;
    for (size_t i = 0; i < N; i++) {
        uint32_t of = said_by((int64_t)i);
        snprintf(captions[i], sizeof captions[i], "caption %zu", i);
        if (of != RECO_NO_CANDIDATE && i % 3 == 0)
            snprintf(captions[i], sizeof captions[i], " %s ", names[of]);
        if (of != RECO_NO_CANDIDATE && i % 3 == 1)
            snprintf(captions[i], sizeof captions[i], "THE %s  there", names[of]);
        if (of != RECO_NO_CANDIDATE && i % 3 == 2)
            memcpy(text + i * D, prompts + (C + of) * D, D * sizeof *text);
        pairs[i] = (reco_pair){.caption = captions[i]};
    }
    good(reco_bank_writer_open(ctx, &writer, path, &(reco_bank_spec){.d = D, .logit_scale = 25}, "test",
                               &next, &done));
    good(reco_bank_append(ctx, writer, image, text, pairs, N));
    good(reco_bank_commit(ctx, writer, N, 1));
    reco_bank_writer_close(writer);
    good(reco_bank_open(ctx, &bank, path));
    reco_free(path);
    good(reco_fusion_open(ctx, &fusion, "mean", D, K));
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

static reco_candidates candidates(void)
{
    return (reco_candidates){
        .n = C, .d = D, .names = names, .templates = templates, .m = M, .rows = prompts};
}

static reco_memory memory_of(const reco_mixture *mixture)
{
    reco_memory memory = RECO_MEMORY_INIT;
    memory.bank = bank;
    memory.fusion = fusion;
    memory.mixture = mixture;
    return memory;
}

/* Each prompt by itself, refined or not, averaged, and of norm 1. */
static void average(const reco_memory *memory, float *out)
{
    float rows[M * C * D];
    memcpy(rows, prompts, sizeof rows);
    for (size_t i = 0; memory && i < M * C; i++)
        good(reco_refine(ctx, memory, &(reco_question){.side = RECO_TEXT, .x = rows + i * D, .n = 1},
                         &(reco_refined){.rows = rows + i * D}));
    for (size_t i = 0; i < C * D; i++) out[i] = rows[i] + rows[C * D + i] + rows[2 * C * D + i];
    reco_normalize(ctx, out, out, C, D, NULL);
}

static void test_rows(void **state)
{
    (void)state;
    float want[C * D];
    reco_classifier *c;
    reco_memory memory = memory_of(NULL);
    reco_candidates among = candidates();
    reco_settings s;
    good(reco_classifier_create(ctx, &c, &memory, &among, NULL));
    average(NULL, want);
    assert_memory_equal(reco_classifier_plain(c), want, sizeof want);
    average(&memory, want);
    assert_memory_equal(reco_classifier_refined(c), want, sizeof want);
    char *path = reco_format(ctx, "%s/classes.npy", folder);
    reco_npy npy;
    float saved[C * D];
    good(reco_classifier_save(ctx, c, path));
    good(reco_npy_open(ctx, &npy, path));
    assert_true(npy.rows == C && npy.cols == D);
    good(reco_npy_rows(ctx, &npy, 0, C, saved));
    assert_memory_equal(saved, want, sizeof want);
    reco_npy_close(&npy);
    reco_free(path);
    reco_classifier_settings(c, &s);
    assert_true(s.k == K && s.refines && s.voters == 0);
    reco_classifier_free(c);
    /* A side that is not refined, and CLIP alone. */
    memory.sides = RECO_SIDES_IMAGE;
    good(reco_classifier_create(ctx, &c, &memory, &among, NULL));
    assert_memory_equal(reco_classifier_refined(c), reco_classifier_plain(c), sizeof want);
    reco_classifier_free(c);
    good(reco_classifier_create(ctx, &c, NULL, &among, NULL));
    assert_memory_equal(reco_classifier_refined(c), reco_classifier_plain(c), sizeof want);
    reco_classifier_free(c);
    /* One prompt is what it is, to the bit. */
    among.m = 1;
    good(reco_classifier_create(ctx, &c, NULL, &among, NULL));
    assert_memory_equal(reco_classifier_plain(c), prompts, sizeof want);
    reco_classifier_free(c);
    among.d = D + 1;
    assert_int_equal(reco_classifier_create(ctx, &c, &memory, &among, NULL), RECO_E_MISMATCH);
    among = (reco_candidates){.n = C, .d = D, .names = names};
    assert_int_equal(reco_classifier_create(ctx, &c, NULL, &among, NULL), RECO_E_ARG);
}

static void test_votes(void **state)
{
    (void)state;
    int64_t ids[N + 2];
    uint32_t of[N + 2];
    reco_classifier *c;
    reco_candidates among = candidates();
    for (size_t i = 0; i < N; i++) ids[i] = (int64_t)((i * 7) % N);
    ids[N] = -1;
    ids[N + 1] = ids[0];
    good(reco_classifier_create(ctx, &c, NULL, &among, NULL));
    good(reco_classifier_votes(ctx, c, bank, ids, N + 2, of));
    for (size_t i = 0; i < N + 2; i++)
        assert_int_equal(of[i], ids[i] < 0 ? RECO_NO_CANDIDATE : said_by(ids[i]));
    reco_classifier_free(c);
    among.names = NULL; /* nobody says what they are called: vectors alone tell */
    good(reco_classifier_create(ctx, &c, NULL, &among, NULL));
    good(reco_classifier_votes(ctx, c, bank, ids, N, of));
    for (size_t i = 0; i < N; i++)
        assert_int_equal(of[i], ids[i] % 3 == 2 ? said_by(ids[i]) : RECO_NO_CANDIDATE);
    reco_classifier_free(c);
}

/* By a plain loop: which comes first, with what probability and cosine. */
static void check_ranking(const reco_classifier *c, const reco_findings *f, const reco_mixture *by,
                          bool clip, const float *p)
{
    enum { TOP = C + 2 };
    int64_t of[Q * TOP];
    float listed[Q * TOP], score[Q * TOP], all[Q * C];
    good(reco_classifier_rank(
        ctx, c, f, by, &(reco_ranking){.top = TOP, .of = of, .p = listed, .score = score, .all = all}));
    for (size_t i = 0; i < Q; i++) {
        const float *row = (clip ? f->plain : f->refined) + i * D,
                    *rows = clip ? reco_classifier_plain(c) : reco_classifier_refined(c);
        for (size_t t = 0; t < C; t++) {
            size_t at = (size_t)of[i * TOP + t];
            assert_true(fabsf(listed[i * TOP + t] - p[i * C + at]) < 1e-5f);
            assert_true(listed[i * TOP + t] == all[i * C + at]);
            assert_true(t == 0 || listed[i * TOP + t] <= listed[i * TOP + t - 1]);
            assert_true(fabs((double)score[i * TOP + t] - reco_dot(row, rows + at * D, D)) < 1e-5);
        }
        for (size_t t = C; t < TOP; t++) assert_true(of[i * TOP + t] == -1 && listed[i * TOP + t] == 0);
    }
}

static void test_ranking(void **state)
{
    (void)state;
    const reco_mixture mixture = {0.3f, 0.4f, {20, 30, 10}, 6}, vote = {0, 0, {20, 30, 10}, 6},
                       clip = {.clip = 1}, cosines = {.refined = 1};
    float S[2][Q * C], p[Q * C];
    reco_memory memory = memory_of(&mixture);
    reco_candidates among = candidates();
    reco_classifier *c;
    reco_findings f;
    good(reco_classifier_create(ctx, &c, &memory, &among, NULL));
    good(reco_classifier_ask(ctx, c, &(reco_question){.side = RECO_IMAGE, .x = x, .n = Q}, NULL, &f));
    assert_true(f.plain == x && f.reach == 6);
    for (size_t i = 0; i < Q; i++) {
        float refined[D];
        good(reco_refine(ctx, &memory, &(reco_question){.side = RECO_IMAGE, .x = x + i * D, .n = 1},
                         &(reco_refined){.rows = refined}));
        assert_memory_equal(refined, f.refined + i * D, sizeof refined);
        assert_int_equal(f.voters[i], 6);
        for (size_t h = 0; h < 6; h++) assert_int_equal(f.of[i * 6 + h], said_by(f.ids[i * 6 + h]));
        for (size_t j = 0; j < C; j++) {
            S[0][i * C + j] = (float)reco_dot(x + i * D, reco_classifier_plain(c) + j * D, D);
            S[1][i * C + j] = (float)reco_dot(f.refined + i * D, reco_classifier_refined(c) + j * D, D);
        }
    }
    reco_votes votes = {.scores = f.scores, .of = f.of, .counts = f.voters, .k = f.reach};
    good(reco_mixture_posterior(ctx, &mixture, S[0], S[1], &votes, Q, C, p));
    check_ranking(c, &f, NULL, false, p);
    good(reco_mixture_posterior(ctx, &vote, S[0], S[1], &votes, Q, C, p));
    check_ranking(c, &f, &vote, false, p);
    /* By one expert: cosines, at the bank's scale. */
    for (int r = 0; r < 2; r++) {
        for (size_t i = 0; i < Q; i++) {
            for (size_t j = 0; j < C; j++) p[i * C + j] = 25 * S[r][i * C + j];
            reco_softmax_row(ctx, p + i * C, C);
        }
        check_ranking(c, &f, r ? &cosines : &clip, r == 0, p);
    }
    const reco_mixture bad = {0.7f, 0.7f, {1, 1, 1}, 0};
    int64_t of[Q];
    assert_int_equal(reco_classifier_rank(ctx, c, &f, &bad, &(reco_ranking){.top = 1, .of = of}),
                     RECO_E_ARG);
    assert_int_equal(reco_classifier_rank(ctx, c, &f, NULL, &(reco_ranking){.top = 1, .p = p}), RECO_E_ARG);
    assert_null(f.near);
    reco_findings_free(&f);

    /* By a metric that stretches all directions alike the vote is that of cosines, for unit rows; else it is not. */
    float metric[RECO_METRIC_FLOATS(D)] = {0}, other[Q * C];
    for (int even = 1; even >= 0; even--) {
        for (size_t j = 0; j < D; j++) metric[j * D + j] = even || j % 2 ? 3 : 0.1f;
        good(reco_fusion_set_metric(ctx, fusion, metric));
        good(reco_classifier_ask(ctx, c, &(reco_question){.side = RECO_IMAGE, .x = x, .n = Q}, NULL, &f));
        votes = (reco_votes){.scores = f.scores, .of = f.of, .counts = f.voters, .k = f.reach};
        good(reco_mixture_posterior(ctx, &vote, S[0], S[1], &votes, Q, C, other));
        votes.scores = f.near;
        good(reco_mixture_posterior(ctx, &vote, S[0], S[1], &votes, Q, C, p));
        check_ranking(c, &f, &vote, false, p);
        float off = 0;
        for (size_t i = 0; i < Q * C; i++) off = fmaxf(off, fabsf(p[i] - other[i]));
        assert_true(even ? off < 0.01f : off > 0.05f);
        reco_findings_free(&f);
    }
    good(reco_fusion_set_metric(ctx, fusion, NULL));
    reco_classifier_free(c);
}

/* As OVEN asks: a text beside each picture, a picture beside each candidate, each refined by its own side and added. */
static void test_joint(void **state)
{
    (void)state;
    float texts[Q * D], pictures[C * D], want[C * D], beside[C * D], rows[Q * D];
    unit_rows(texts, Q, 5);
    unit_rows(pictures, C, 6);
    reco_memory memory = memory_of(NULL);
    reco_candidates among = candidates();
    among.pictures = pictures;
    reco_classifier *c;
    reco_findings f;
    good(reco_classifier_create(ctx, &c, &memory, &among, NULL));
    average(&memory, want);
    good(reco_refine(ctx, &memory, &(reco_question){.side = RECO_IMAGE, .x = pictures, .n = C},
                     &(reco_refined){.rows = beside}));
    for (size_t i = 0; i < C * D; i++) want[i] += beside[i];
    reco_normalize(ctx, want, want, C, D, NULL);
    assert_memory_equal(reco_classifier_refined(c), want, sizeof want);
    good(reco_classifier_ask(ctx, c, &(reco_question){.side = RECO_IMAGE, .x = x, .n = Q}, texts, &f));
    for (size_t i = 0; i < Q * D; i++) rows[i] = x[i] + texts[i];
    reco_normalize(ctx, rows, rows, Q, D, NULL);
    assert_memory_equal(f.plain, rows, sizeof rows);
    assert_true(memcmp(f.refined, rows, sizeof rows) != 0);
    reco_findings_free(&f);
    reco_classifier_free(c);
    /* Nothing refined: plain and refined are the same sum. */
    memory.sides = RECO_SIDES_NONE;
    good(reco_classifier_create(ctx, &c, &memory, &among, NULL));
    good(reco_classifier_ask(ctx, c, &(reco_question){.side = RECO_IMAGE, .x = x, .n = Q}, texts, &f));
    assert_memory_equal(f.plain, f.refined, sizeof rows);
    assert_int_equal(f.reach, 0);
    reco_findings_free(&f);
    reco_classifier_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows), cmocka_unit_test(test_votes),
                                       cmocka_unit_test(test_ranking), cmocka_unit_test(test_joint)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
