/* A refined row depends on that row alone: not on its batch, its place in it, or the number of threads. To the bit, at every
 * instruction set; ONEDNN_MAX_CPU_ISA lowers oneDNN's. */
#include "fusion/fusion.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { N = 64, K = 5, D = 72 };

static const size_t batches[] = {1, 2, 3, 5, 17, N};
static float x[N * D], R[N * K * D], s[N * K], want[N * D];
static size_t valid[N];

static int setup(void **state)
{
    (void)state;
    reco_rng rng;
    reco_rng_seed(&rng, 3);
    for (size_t i = 0; i < N * D; i++) x[i] = 0.1f * (float)reco_rng_normal(&rng);
    for (size_t i = 0; i < N * K * D; i++) R[i] = 0.1f * (float)reco_rng_normal(&rng);
    for (size_t i = 0; i < N * K; i++)
        s[i] = 0.9f - 0.1f * (float)(i % K) - 0.01f * (float)reco_rng_uniform(&rng);
    for (size_t i = 0; i < N; i++) valid[i] = i % 7 == 3 ? i % K : K;
    return 0;
}

/* The rows order[0..n) as one batch. */
static void batch(reco_ctx *ctx, const reco_fusion *f, const size_t *order, size_t n)
{
    static float bx[N * D], bR[N * K * D], bs[N * K], out[N * D];
    size_t bvalid[N] = {0};
    for (size_t q = 0; q < n; q++) {
        size_t i = order[q];
        memcpy(bx + q * D, x + i * D, D * sizeof *x);
        memcpy(bR + q * K * D, R + i * K * D, K * D * sizeof *R);
        memcpy(bs + q * K, s + i * K, K * sizeof *s);
        bvalid[q] = valid[i];
    }
    const reco_fusion_input in = {
        .side = RECO_TEXT, .x = bx, .retrieved = bR, .scores = bs, .valid = bvalid, .n = n, .k = K};
    assert_int_equal(reco_fusion_refine(ctx, f, &in, &(reco_fused){.rows = out}), RECO_OK);
    for (size_t q = 0; q < n; q++)
        if (memcmp(out + q * D, want + order[q] * D, D * sizeof *out) != 0)
            fail_msg("layer %d, instruction set %d, %d threads: row %zu is another at %zu of %zu",
                     reco_fusion_get_config(f)->layer, reco_ctx_isa(ctx), reco_ctx_threads(ctx), order[q],
                     q, n);
}

static void check(reco_isa isa, const reco_fusion_config *config)
{
    const reco_fusion_input all = {
        .side = RECO_TEXT, .x = x, .retrieved = R, .scores = s, .valid = valid, .n = N, .k = K};
    for (int threads = 1; threads <= 3; threads++) {
        reco_ctx *ctx;
        reco_fusion *f;
        size_t order[N], total;
        assert_int_equal(reco_ctx_create(&ctx, &(reco_ctx_opts){.threads = threads, .max_isa = isa}),
                         RECO_OK);
        assert_int_equal(reco_fusion_create(ctx, &f, config, 0, 5), RECO_OK);
        float *vector = reco_fusion_vector(f, &total);
        reco_rng rng;
        reco_rng_seed(&rng, 8);
        for (size_t i = 0; i < total; i++) vector[i] += 0.05f * (float)reco_rng_normal(&rng);
        if (threads == 1)
            assert_int_equal(reco_fusion_refine(ctx, f, &all, &(reco_fused){.rows = want}), RECO_OK);
        for (int permuted = 0; permuted < 2; permuted++) {
            for (size_t i = 0; i < N; i++) order[i] = permuted ? (i * 27 + 11) % N : i;
            for (size_t b = 0; b < sizeof batches / sizeof *batches; b++)
                for (size_t i = 0; i + batches[b] <= N; i += batches[b])
                    batch(ctx, f, order + i, batches[b]);
        }
        reco_fusion_free(f);
        reco_ctx_free(ctx);
    }
}

static void rows(void **state)
{
    (void)state;
    for (int isa = RECO_ISA_PLAIN; isa <= RECO_ISA_AVX512; isa++) {
        reco_ctx *ctx;
        assert_int_equal(reco_ctx_create(&ctx, &(reco_ctx_opts){.threads = 1, .max_isa = (reco_isa)isa}),
                         RECO_OK);
        bool has = (int)reco_ctx_isa(ctx) == isa;
        reco_ctx_free(ctx);
        if (!has) {
            print_message("[  SKIPPED ] this CPU has no instruction set %d\n", isa);
            continue;
        }
        for (int layer = RECO_LAYER_NONE; layer <= RECO_LAYER_MLP; layer++)
            /* widths that are multiples of a vector's, and not */
            for (size_t odd = 0; odd < 2; odd++)
                check((reco_isa)isa, &(reco_fusion_config){.layer = (reco_layer)layer,
                                                           .d = D,
                                                           .k = K,
                                                           .heads = 4,
                                                           .layers = 2,
                                                           .mlp = odd ? 149 : 288,
                                                           .hidden = odd ? 13 : 64,
                                                           .scores = 1,
                                                           .min_similarity = -1});
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows)};
    return cmocka_run_group_tests(tests, setup, NULL);
}
