/* The inner products and the rows that training keeps give the same bits as products that the layer takes itself and rows that are
 * gathered, whatever is masked, dropped or too far. */
#include "kernels/kernels.h"
#include "train/train_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

enum { N = 80, D = 40, K = 6 };

static void fill(reco_ctx *ctx, const char *path)
{
    static float rows[2][N * D];
    static reco_pair pairs[N];
    reco_bank_writer *w;
    uint64_t next;
    int done;
    reco_rng rng;
    reco_rng_seed(&rng, 3);
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < N * D; i++) rows[side][i] = 1 + (float)reco_rng_normal(&rng);
        reco_normalize(ctx, rows[side], rows[side], N, D, NULL);
    }
    for (size_t i = 0; i < N; i++) pairs[i].caption = "";
    reco_bank_spec spec = {.d = D};
    assert_int_equal(reco_bank_writer_open(ctx, &w, path, &spec, "test", &next, &done), RECO_OK);
    assert_int_equal(reco_bank_append(ctx, w, rows[0], rows[1], pairs, N), RECO_OK);
    assert_int_equal(reco_bank_commit(ctx, w, N, 1), RECO_OK);
    reco_bank_writer_close(w);
}

static void same_bits(void **state)
{
    (void)state;
    char folder[] = "/tmp/reco-products-XXXXXX";
    assert_non_null(mkdtemp(folder));
    reco_ctx *ctx;
    reco_bank *bank;
    reco_batch b;
    reco_mask mask;
    reco_fusion *f;
    reco_tape *tape;
    static float known[N * D], taken[N * D], gathered[N * K * D];
    static int64_t ids[N * K];
    reco_rng rng;
    size_t counts = 0;
    reco_rng_seed(&rng, 4);
    assert_int_equal(reco_ctx_create(&ctx, &(reco_ctx_opts){.threads = 2}), RECO_OK);
    fill(ctx, folder);
    assert_int_equal(reco_bank_open(ctx, &bank, folder), RECO_OK);
    reco_job job = {.ctx = ctx, .bank = bank, .o = RECO_TRAIN_OPTS_INIT};
    job.o.k = K;
    job.o.min_similarity = 0.55f;
    job.o.neighbour_dropout = 0.5;
    assert_int_equal(reco_job_load(&job, NULL), RECO_OK);
    reco_fusion_config c = {
        .layer = RECO_LAYER_RELATIONAL, .d = D, .k = K, .min_similarity = job.o.min_similarity};
    assert_int_equal(reco_fusion_create(ctx, &f, &c, 20, 1), RECO_OK);
    assert_int_equal(reco_tape_create(ctx, &tape, f, N, K), RECO_OK);
    assert_int_equal(reco_batch_create(&job, &b, N), RECO_OK);
    assert_int_equal(reco_mask_create(&job, &mask), RECO_OK);
    reco_mask_fold(&job, &mask, 1, true);
    for (size_t i = 0; i < N; i++) b.items[i] = (uint32_t)i;
    assert_int_equal(reco_batch_fill(&job, &b, N, &mask, false, &rng), RECO_OK);
    for (int side = 0; side < 2; side++) {
        assert_non_null(job.products[side]);
        assert_non_null(b.rows[side]);
        for (size_t h = 0; h < N * K; h++)
            ids[h] = h % K < b.valid[side][h / K] ? job.id[b.place[side][h]] : -1;
        assert_int_equal(reco_bank_gather(ctx, bank, side ? RECO_IMAGE : RECO_TEXT, ids, N * K, gathered),
                         RECO_OK);
        reco_tape_know(tape, NULL, NULL);
        reco_tape_point(tape, NULL, NULL);
        reco_fusion_input in = reco_batch_input(&b, side, K);
        in.retrieved = gathered;
        assert_int_equal(reco_fusion_forward(ctx, f, &in, taken, tape), RECO_OK);
        assert_int_equal(reco_batch_forward(ctx, &b, f, (reco_side)side, 0, N, K, known, tape), RECO_OK);
        assert_memory_equal(known, taken, sizeof known);
        assert_true(memcmp(known, b.x[side], sizeof known) != 0);
        for (size_t i = 0; i < N; i++) counts |= (size_t)1 << b.valid[side][i];
    }
    assert_int_equal(counts, (1 << (K + 1)) - 1); /* every count of neighbours was met */
    reco_mask_clear(&mask), reco_batch_clear(&b), reco_job_clear(&job);
    reco_tape_free(tape), reco_fusion_free(f);
    reco_bank_close(bank), reco_ctx_free(ctx);
    char *command = reco_format(NULL, "rm -rf '%s'", folder);
    assert_int_equal(system(command), 0);
    reco_free(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_bits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
