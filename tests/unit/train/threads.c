/* Training comes to the same bytes with any number of threads, at every instruction set; ONEDNN_MAX_CPU_ISA lowers oneDNN's. */
#include "io/io.h"
#include "kernels/kernels.h"
#include "train/train_internal.h"
#include "defaults.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

enum { N = 260, D = 72 };

static char folder[] = "/tmp/reco-threads-XXXXXX";
static char *bank_path, *out;
static float image[N * D], text[N * D];

static reco_ctx *new_ctx(int threads, reco_isa isa)
{
    reco_ctx *ctx;
    assert_int_equal(reco_ctx_create(&ctx, &(reco_ctx_opts){.threads = threads, .max_isa = isa}), RECO_OK);
    return ctx;
}

static int setup(void **state)
{
    (void)state;
    static reco_pair pairs[N];
    static char captions[N][16];
    if (!mkdtemp(folder)) return -1;
    bank_path = reco_path_join(NULL, folder, "bank");
    out = reco_path_join(NULL, folder, "fusion.safetensors");
    reco_rng rng;
    reco_rng_seed(&rng, 1);
    for (size_t i = 0; i < N; i++) {
        snprintf(captions[i], sizeof captions[i], "caption %zu", i);
        pairs[i] = (reco_pair){.caption = captions[i]};
    }
    for (size_t i = 0; i < N * D; i++) {
        image[i] = (float)reco_rng_normal(&rng) + (i < 4 * D ? 0 : image[i - 4 * D]);
        text[i] = 0.5f * image[i] + (float)reco_rng_normal(&rng);
    }
    reco_normalize(NULL, image, image, N, D, NULL);
    reco_normalize(NULL, text, text, N, D, NULL);
    reco_ctx *ctx = new_ctx(1, RECO_ISA_AVX512);
    reco_bank_writer *writer;
    uint64_t next;
    int done;
    reco_bank_spec spec = {
        .d = D, .encoder = "toy", .fingerprint = "0123456789abcdef0123456789abcdef", .logit_scale = 20};
    assert_int_equal(reco_bank_writer_open(ctx, &writer, bank_path, &spec, "test", &next, &done), RECO_OK);
    assert_int_equal(reco_bank_append(ctx, writer, image, text, pairs, N), RECO_OK);
    assert_int_equal(reco_bank_commit(ctx, writer, N, 1), RECO_OK);
    reco_bank_writer_close(writer);
    reco_ctx_free(ctx);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char *command = reco_format(NULL, "rm -rf '%s'", folder);
    int rc = system(command);
    reco_free(command), reco_free(bank_path), reco_free(out);
    return rc;
}

static char *train(reco_ctx *ctx, const reco_train_opts *o, size_t *n)
{
    reco_bank *bank;
    reco_train_result r;
    char *data;
    assert_int_equal(reco_bank_open(ctx, &bank, bank_path), RECO_OK);
    assert_int_equal(reco_train(ctx, bank, NULL, out, o, &r), RECO_OK);
    assert_int_equal(reco_read_file(ctx, &data, n, out, 1 << 26), RECO_OK);
    reco_bank_close(bank);
    unlink(out);
    return data;
}

static void threads(void **state)
{
    (void)state;
    static const reco_train_opts each[] = {
        {DEFAULTS, .steps = 12, .batch = 100, .seed = 3, .layer = RECO_LAYER_RELATIONAL},
        {DEFAULTS, .steps = 6, .batch = 100, .seed = 3, .layer = RECO_LAYER_TRANSFORMER, .heads = 2,
         .rotate = 1},
        {DEFAULTS, .steps = 6, .batch = 100, .seed = 3, .layer = RECO_LAYER_WEIGHTED},
    };
    for (int isa = RECO_ISA_PLAIN; isa <= RECO_ISA_AVX512; isa++) {
        reco_ctx *ctx = new_ctx(1, (reco_isa)isa);
        bool has = (int)reco_ctx_isa(ctx) == isa;
        if (!has) print_message("[  SKIPPED ] this CPU has no instruction set %d\n", isa);
        for (size_t e = 0; has && e < sizeof each / sizeof *each; e++) {
            if (isa == RECO_ISA_PLAIN && each[e].layer == RECO_LAYER_TRANSFORMER)
                continue; /* slow, and its products are of one thread */
            size_t n, m;
            char *want = train(ctx, &each[e], &n);
            for (int t = 2; t <= 3; t++) {
                reco_ctx *more = new_ctx(t, (reco_isa)isa);
                char *got = train(more, &each[e], &m);
                assert_int_equal(n, m);
                if (memcmp(got, want, n) != 0)
                    fail_msg("layer %d, instruction set %d: %d threads train another", each[e].layer, isa,
                             t);
                reco_free(got);
                reco_ctx_free(more);
            }
            reco_free(want);
        }
        reco_ctx_free(ctx);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(threads)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
