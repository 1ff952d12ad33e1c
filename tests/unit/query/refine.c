/* Refinement against the formula. */
#include "fusion/fusion.h"
#include "kernels/kernels.h"
#include "query/query.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

enum { D = 24, N = 50, K = 4 };

static reco_ctx *ctx;
static char folder[64];

static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/reco-refine-XXXXXX");
    return mkdtemp(folder) && reco_ctx_create(&ctx, NULL) == RECO_OK ? 0 : 1;
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    reco_ctx_free(ctx);
    return system(command);
}

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

static reco_bank *bank_of(const float *image, const float *text, const char *fingerprint)
{
    char *path = reco_format(ctx, "%s/%s.bank", folder, fingerprint);
    reco_bank_writer *writer;
    reco_bank *bank;
    uint64_t next;
    int done;
    reco_pair pairs[N];
    for (size_t i = 0; i < N; i++) pairs[i] = (reco_pair){.caption = "a caption"};
    reco_bank_spec spec = {.d = D, .encoder = "encoder", .fingerprint = fingerprint};
    good(reco_bank_writer_open(ctx, &writer, path, &spec, "test", &next, &done));
    good(reco_bank_append(ctx, writer, image, text, pairs, N));
    good(reco_bank_commit(ctx, writer, N, 1));
    reco_bank_writer_close(writer);
    good(reco_bank_open(ctx, &bank, path));
    reco_free(path);
    return bank;
}

/* All of the bank that this filter lets through, by this layer. */
static reco_memory memory_of(const reco_bank *bank, const reco_fusion *fusion,
                             const reco_bank_filter *filter)
{
    reco_memory memory = RECO_MEMORY_INIT;
    memory.bank = bank;
    memory.fusion = fusion;
    memory.filter = filter;
    return memory;
}

static reco_status refine(const reco_memory *memory, reco_side side, const float *x, size_t n, float *out,
                          const reco_hits *hits)
{
    reco_question question = {.side = side, .x = x, .n = n};
    return reco_refine(ctx, memory, &question, &(reco_refined){.rows = out, .hits = *hits});
}

/* mean fusion: norm(x + sum of the partners of the K nearest), computed here by hand. */
static void test_refine(void **state)
{
    (void)state;
    static float image[N * D], text[N * D], x[3 * D], out[3 * D], want[D], scores[3 * K];
    static int64_t ids[3 * K];
    static size_t counts[3];
    unit_rows(image, N, 1);
    unit_rows(text, N, 2);
    unit_rows(x, 3, 3);
    reco_bank *bank = bank_of(image, text, "11111111111111111111111111111111");
    reco_fusion *fusion;
    good(reco_fusion_open(ctx, &fusion, "mean", D, K));
    reco_memory memory = memory_of(bank, fusion, NULL);
    good(refine(&memory, RECO_TEXT, x, 3, out,
                &(reco_hits){.ids = ids, .scores = scores, .counts = counts}));
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(counts[i], K);
        memcpy(want, x + i * D, sizeof want);
        for (size_t j = 0; j < K; j++) {
            const float *found = text + ids[i * K + j] * D;
            assert_true(fabs(reco_dot(x + i * D, found, D) - (double)scores[i * K + j]) < 1e-3);
            for (size_t c = 0; c < D; c++) want[c] += image[ids[i * K + j] * D + (int64_t)c];
        }
        reco_normalize(ctx, want, want, 1, D, NULL);
        assert_true(reco_dot(want, out + i * D, D) > 0.99999);
    }
    /* Nothing near enough: unchanged, bit for bit. */
    memory.min_similarity = 0.999f;
    good(refine(&memory, RECO_TEXT, x, 3, out, &(reco_hits){.counts = counts}));
    assert_memory_equal(out, x, sizeof x);
    assert_int_equal(counts[0] + counts[1] + counts[2], 0);
    /* Some rows alone are found; with none left, the same. */
    const int64_t some[] = {7, 30};
    reco_bank_filter *filter;
    good(reco_bank_filter_ids(ctx, &filter, bank, some, 2));
    memory = memory_of(bank, fusion, filter);
    good(refine(&memory, RECO_TEXT, x, 3, out,
                &(reco_hits){.ids = ids, .scores = scores, .counts = counts}));
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(counts[i], 2);
        assert_int_equal(ids[i * K] + ids[i * K + 1], 37);
    }
    reco_bank_filter_free(filter);
    good(reco_bank_filter_ids(ctx, &filter, bank, NULL, 0));
    memory = memory_of(bank, fusion, filter);
    good(refine(&memory, RECO_TEXT, x, 3, out, &(reco_hits){0}));
    assert_memory_equal(out, x, sizeof x);
    reco_bank *other = bank_of(image, text, "44444444444444444444444444444444");
    memory = memory_of(other, fusion, filter);
    assert_int_equal(refine(&memory, RECO_TEXT, x, 3, out, &(reco_hits){0}), RECO_E_ARG);
    reco_bank_close(other);
    reco_bank_filter_free(filter);
    reco_fusion_free(fusion);
    good(reco_fusion_open(ctx, &fusion, "mean", D + 1, K));
    memory = memory_of(bank, fusion, NULL);
    assert_int_equal(refine(&memory, RECO_TEXT, x, 3, out, &(reco_hits){0}), RECO_E_MISMATCH);
    reco_fusion_free(fusion);
    reco_bank_close(bank);
}

/* The k rows whose `searched` vectors are nearest to x, by hand. */
static void nearest(int64_t ids[K], float scores[K], const float *x, const float *vectors)
{
    bool used[N] = {false};
    for (size_t h = 0; h < K; h++) {
        size_t best = N;
        for (size_t i = 0; i < N; i++)
            if (!used[i] &&
                (best == N || reco_dot(x, vectors + i * D, D) > reco_dot(x, vectors + best * D, D)))
                best = i;
        used[best] = true;
        ids[h] = (int64_t)best;
        scores[h] = (float)reco_dot(x, vectors + best * D, D);
    }
}

/* Each of uni- and cross-modal search and fusion, on both sides: a control against its formula, the transformer and its gradients'
 * forward pass against the same layer given what was found by hand, and the mlp, which looks at nothing. */
static void test_modalities(void **state)
{
    (void)state;
    enum { Q = 5 };
    static float rows[2][N * D], x[Q * D], out[Q * D], want[Q * D], R[Q * K * D], scores[Q * K],
        weights[K + 1], same[Q * (K + 1)];
    static int64_t all[N], ids[Q * K], found[Q * K];
    size_t counts[Q];
    for (size_t i = 0; i < N; i++) all[i] = (int64_t)i;
    unit_rows(rows[0], N, 1);
    unit_rows(rows[1], N, 2);
    unit_rows(x, Q, 3);
    reco_bank *bank = bank_of(rows[0], rows[1], "55555555555555555555555555555555");
    for (int side = 0; side < 2; side++)
        good(reco_bank_gather(ctx, bank, (reco_side)side, all, N, rows[side])); /* as they are stored */
    for (int way = 0; way < 8; way++) {
        reco_side side = way & 4 ? RECO_TEXT : RECO_IMAGE;
        bool cross_search = way & 2, cross_fuse = way & 1;
        const float *searched = rows[cross_search ? !side : (int)side],
                    *fused = rows[cross_fuse ? !side : (int)side];
        for (size_t i = 0; i < Q; i++) {
            nearest(ids + i * K, scores + i * K, x + i * D, searched);
            for (size_t h = 0; h < K; h++)
                memcpy(R + (i * K + h) * D, fused + ids[i * K + h] * D, D * sizeof *R);
        }
        const reco_layer layers[] = {RECO_LAYER_WEIGHTED, RECO_LAYER_TRANSFORMER, RECO_LAYER_MLP};
        for (int l = 0; l < 3; l++) {
            reco_fusion *f;
            reco_fusion_config c = {.layer = layers[l],
                                    .d = D,
                                    .k = K,
                                    .min_similarity = -1,
                                    .sides = RECO_SIDES_BOTH,
                                    .scores = 1,
                                    .beta = {3, 5},
                                    .gain = {0.5f, 2},
                                    .search = cross_search ? RECO_CROSS : RECO_UNI,
                                    .fuse = cross_fuse ? RECO_CROSS : RECO_UNI};
            good(reco_fusion_create(ctx, &f, &c, 0, 1));
            size_t total;
            float *vector = reco_fusion_vector(f, &total);
            for (size_t i = 0; i < total; i++) vector[i] += 0.02f * (float)(i % 11);
            reco_memory memory = memory_of(bank, f, NULL);
            good(refine(&memory, side, x, Q, out, &(reco_hits){.ids = found, .counts = counts}));
            assert_memory_equal(found, ids, sizeof ids);
            const reco_fusion_input in = {
                .side = side, .x = x, .retrieved = R, .scores = scores, .n = Q, .k = K};
            good(reco_fusion_refine(ctx, f, &in, &(reco_fused){.rows = want, .weights = same}));
            for (size_t i = 0; i < Q; i++) {
                assert_int_equal(counts[i], K);
                assert_true(reco_dot(want + i * D, out + i * D, D) > 0.999999);
                if (layers[l] != RECO_LAYER_WEIGHTED) continue;
                double p[K], sum = 0, z[D], norm = 0;
                for (size_t h = 0; h < K; h++)
                    sum += p[h] = exp((double)c.beta[side] * (double)scores[i * K + h]);
                for (size_t j = 0; j < D; j++) {
                    z[j] = (double)x[i * D + j];
                    for (size_t h = 0; h < K; h++)
                        z[j] += (double)c.gain[side] * p[h] / sum * (double)R[(i * K + h) * D + j];
                    norm += z[j] * z[j];
                }
                for (size_t j = 0; j < D; j++)
                    assert_true(fabs((double)out[i * D + j] - z[j] / sqrt(norm)) < 1e-5);
            }
            good(
                reco_refine(ctx, &memory, &(reco_question){.side = side, .x = x, .n = 1},
                            &(reco_refined){.hits = {.ids = found, .scores = scores}, .weights = weights}));
            assert_memory_equal(found, ids, K * sizeof *ids);
            for (size_t h = 0; h <= K; h++) assert_true(fabsf(weights[h] - same[h]) < 1e-6f);
            good(reco_refine(ctx, &memory, &(reco_question){.side = side, .x = x, .n = Q},
                             &(reco_refined){.rows = want, .reach = 1, .hits = {.ids = found}}));
            assert_memory_equal(want, out, sizeof out); /* however many are listed */
            for (size_t i = 0; i < Q; i++) assert_int_equal(found[i], ids[i * K]);
            good(refine(&memory, side, x, Q, want, &(reco_hits){0}));
            assert_memory_equal(want, out, sizeof out); /* whether or not hits are wanted */
            reco_fusion_free(f);
        }
    }
    reco_bank_close(bank);
}

static void test_encoder(void **state)
{
    (void)state;
    static float rows[N * D];
    unit_rows(rows, N, 4);
    reco_bank *bank = bank_of(rows, rows, "22222222222222222222222222222222");
    reco_fusion *fusion;
    good(reco_fusion_open(ctx, &fusion, "mean", D, K));
    good(reco_check_encoder(ctx, NULL, bank, fusion));
    good(reco_fusion_set_meta(ctx, fusion, "fingerprint", "33333333333333333333333333333333"));
    good(reco_fusion_set_meta(ctx, fusion, "encoder", "another"));
    assert_int_equal(reco_check_encoder(ctx, NULL, bank, fusion), RECO_E_MISMATCH);
    assert_non_null(strstr(reco_ctx_error(ctx), "another"));
    reco_fusion_free(fusion);
    reco_bank_close(bank);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_refine), cmocka_unit_test(test_modalities),
                                       cmocka_unit_test(test_encoder)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
