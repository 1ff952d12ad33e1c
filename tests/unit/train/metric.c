/* The vote's metric: it whitens what differs within captions, and serves captions that it has not met. */
#include "fusion/fusion.h"
#include "io/io.h"
#include "kernels/kernels.h"
#include "train/train_internal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { CONCEPTS = 24, EACH = 8, N = CONCEPTS * EACH, D = 20, LOUD = 4 };

static float image[N * D], text[N * D];

/* Pictures show their concept, and in a few directions whatever there was beside it. */
static void make_world(reco_ctx *ctx)
{
    static float concept[CONCEPTS * D], caption[CONCEPTS * D];
    reco_rng rng;
    reco_rng_seed(&rng, 7);
    for (size_t i = 0; i < CONCEPTS * D; i++) {
        concept[i] = (float)reco_rng_normal(&rng);
        caption[i] = (float)reco_rng_normal(&rng);
    }
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < D; j++) {
            image[i * D + j] =
                concept[i / EACH * D + j] + (j < LOUD ? 4 : 0.6f) * (float)reco_rng_normal(&rng);
            text[i * D + j] = caption[i / EACH * D + j];
        }
    reco_normalize(ctx, image, image, N, D, NULL);
    reco_normalize(ctx, text, text, N, D, NULL);
}

static reco_bank *make_bank(reco_ctx *ctx, const char *path)
{
    static char captions[N][16];
    static reco_pair pairs[N];
    reco_bank_writer *writer;
    reco_bank *bank;
    uint64_t next;
    int done;
    for (size_t i = 0; i < N; i++) {
        snprintf(captions[i], sizeof captions[i], "concept %zu", i / EACH);
        pairs[i] = (reco_pair){.caption = captions[i]};
    }
    reco_bank_spec spec = {
        .d = D, .encoder = "toy", .fingerprint = "0123456789abcdef0123456789abcdef", .logit_scale = 20};
    assert_int_equal(reco_bank_writer_open(ctx, &writer, path, &spec, "test", &next, &done), RECO_OK);
    assert_int_equal(reco_bank_append(ctx, writer, image, text, pairs, N), RECO_OK);
    assert_int_equal(reco_bank_commit(ctx, writer, N, 1), RECO_OK);
    reco_bank_writer_close(writer);
    assert_int_equal(reco_bank_open(ctx, &bank, path), RECO_OK);
    return bank;
}

/* W M W^T of the covariance within captions, a part of it spread evenly, is the identity. */
static void check_whitening(const reco_job *job, const float *W)
{
    double M[D][D] = {0}, trace = 0, freedom = N - CONCEPTS, shrinkage = 0.3;
    for (size_t c = 0; c < CONCEPTS; c++)
        for (size_t a = 0; a < EACH; a++)
            for (size_t b = 0; b < EACH; b++) { /* pairs: twice EACH times the deviations' products */
                const float *x = job->rows[0] + (c * EACH + a) * D, *y = job->rows[0] + (c * EACH + b) * D;
                for (size_t i = 0; i < D; i++)
                    for (size_t j = 0; j < D; j++)
                        M[i][j] += (double)(x[i] - y[i]) * (double)(x[j] - y[j]) / (2 * EACH * freedom);
            }
    for (size_t i = 0; i < D; i++) {
        double mean = 0;
        for (size_t a = 0; a < N; a++) mean += (double)job->rows[0][a * D + i] / N;
        assert_true(fabs((double)W[D * D + i] - mean) < 1e-6);
        trace += M[i][i];
    }
    for (size_t i = 0; i < D; i++)
        for (size_t j = 0; j < D; j++)
            M[i][j] = (1 - shrinkage) * M[i][j] + (i == j) * shrinkage * trace / D;
    for (size_t i = 0; i < D; i++)
        for (size_t j = 0; j < D; j++) {
            double sum = 0;
            for (size_t p = 0; p < D; p++)
                for (size_t q = 0; q < D; q++) sum += (double)W[i * D + p] * M[p][q] * (double)W[j * D + q];
            assert_true(fabs(sum - (i == j)) < 1e-3);
        }
}

/* How many pictures from `first` on are nearest to another one of their caption, by the metric, or by cosines. */
static size_t served(reco_ctx *ctx, const reco_job *job, const float *metric, size_t first)
{
    static float S[N * N];
    static uint32_t place[N * N];
    size_t hits = 0;
    const float *x = job->rows[0];
    for (uint32_t i = 0; i < N * N; i++) place[i] = i % N;
    if (metric)
        assert_int_equal(reco_metric_scores(ctx, metric, x, N, x, N, place, N, D, S), RECO_OK);
    else
        assert_int_equal(reco_gemm(ctx, S, N, x, D, false, x, D, true, N, N, D, 1, 0), RECO_OK);
    for (size_t i = first; i < N; i++) {
        size_t best = i ? 0 : 1;
        for (size_t j = 0; j < N; j++)
            if (j != i && S[i * N + j] > S[i * N + best]) best = j;
        hits += best / EACH == i / EACH;
    }
    return hits;
}

static void learned(void **state)
{
    (void)state;
    reco_ctx *ctx;
    char folder[] = "/tmp/reco-metric-XXXXXX";
    float all[RECO_METRIC_FLOATS(D)], half[RECO_METRIC_FLOATS(D)], part[RECO_METRIC_FLOATS(D)];
    bool found;
    assert_non_null(mkdtemp(folder));
    assert_int_equal(reco_ctx_create(&ctx, &(reco_ctx_opts){.threads = 2}), RECO_OK);
    make_world(ctx);
    char *path = reco_path_join(ctx, folder, "bank");
    reco_bank *bank = make_bank(ctx, path);
    reco_job job = {.ctx = ctx, .bank = bank, .o = {.layer = RECO_LAYER_WEIGHTED}};
    reco_mask mask = {0};
    assert_int_equal(reco_job_load(&job, NULL), RECO_OK);
    assert_int_equal(reco_learn_metric(&job, NULL, RECO_METRICS, all, &found), RECO_OK);
    assert_true(found);
    check_whitening(&job, all);
    assert_int_equal(reco_learn_metric(&job, NULL, 2, part, &found), RECO_OK);
    assert_true(found && memcmp(part, all, sizeof all) != 0);

    /* Of half of the captions: the other half is served as well, far better than by cosines. */
    assert_int_equal(reco_mask_create(&job, &mask), RECO_OK);
    for (size_t i = N / 2; i < N; i++) mask.caption[job.same.caption[i]] = 1;
    assert_int_equal(reco_learn_metric(&job, &mask, RECO_METRICS, half, &found), RECO_OK);
    assert_true(found);
    size_t cosines = served(ctx, &job, NULL, N / 2), metric = served(ctx, &job, half, N / 2);
    assert_true(metric > cosines + N / 2 / 5);

    memset(mask.caption, 1, job.same.captions);
    assert_int_equal(reco_learn_metric(&job, &mask, RECO_METRICS, half, &found), RECO_OK);
    assert_false(found);
    reco_mask_clear(&mask);
    reco_job_clear(&job);
    reco_bank_close(bank);
    char *command = reco_format(ctx, "rm -rf '%s'", folder);
    assert_int_equal(system(command), 0);
    reco_free(command), reco_free(path);
    reco_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(learned)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
