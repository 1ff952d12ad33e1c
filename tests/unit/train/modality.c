/* Uni- and cross-modal search and fusion: what each pair retrieves, by hand, and what it never does. */
#include "kernels/kernels.h"
#include "train/train_internal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { N = 90, D = 20, K = 4, EACH = 3 };

static reco_ctx *ctx;
static reco_bank *bank;
static char folder[] = "/tmp/reco-modality-XXXXXX";
static float rows[2][N * D]; /* as the bank holds them */

/* Three pictures of each caption; of every third caption two of them are nearly one, and of every fifth two are one. */
static int setup(void **state)
{
    (void)state;
    static reco_pair pairs[N];
    static char captions[N][16];
    int64_t ids[N];
    reco_bank_writer *w;
    uint64_t next;
    int done;
    reco_rng rng;
    reco_rng_seed(&rng, 3);
    for (size_t i = 0; i < N; i++) {
        size_t c = i / EACH, first = c * EACH;
        for (size_t j = 0; j < D; j++) {
            rows[0][i * D + j] = (float)reco_rng_normal(&rng);
            rows[1][i * D + j] = i == first ? (float)reco_rng_normal(&rng) : rows[1][first * D + j];
            if (i == first + 1 && c % 3 == 0)
                rows[0][i * D + j] = rows[0][first * D + j] + 0.01f * (float)reco_rng_normal(&rng);
            if (i == first + 2 && c % 5 == 0) rows[0][i * D + j] = rows[0][first * D + j];
        }
        snprintf(captions[i], sizeof captions[i], "caption %zu", c);
        pairs[i].caption = captions[i];
        ids[i] = (int64_t)i;
    }
    if (!mkdtemp(folder) || reco_ctx_create(&ctx, &(reco_ctx_opts){.threads = 2}) != RECO_OK) return 1;
    for (int side = 0; side < 2; side++) reco_normalize(ctx, rows[side], rows[side], N, D, NULL);
    if (reco_bank_writer_open(ctx, &w, folder, &(reco_bank_spec){.d = D}, "test", &next, &done) !=
            RECO_OK ||
        reco_bank_append(ctx, w, rows[0], rows[1], pairs, N) != RECO_OK ||
        reco_bank_commit(ctx, w, N, 1) != RECO_OK)
        return 1;
    reco_bank_writer_close(w);
    if (reco_bank_open(ctx, &bank, folder) != RECO_OK) return 1;
    for (int side = 0; side < 2; side++)
        if (reco_bank_gather(ctx, bank, (reco_side)side, ids, N, rows[side]) != RECO_OK) return 1;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char *command = reco_format(NULL, "rm -rf '%s'", folder);
    int rc = system(command);
    reco_free(command);
    reco_bank_close(bank);
    reco_ctx_free(ctx);
    return rc;
}

static double cosine(int a, size_t i, int b, size_t j)
{
    return reco_dot(rows[a] + i * D, rows[b] + j * D, D);
}

/* Is row j the pair i itself, or its picture, or nearly that? */
static bool is_barred(size_t i, size_t j) { return i == j || cosine(0, i, 0, j) > 0.999; }

/* Row i's neighbours on `side` are the rows nearest in the vectors searched, of those that are not barred. */
static void check_list(const reco_job *job, int side, size_t list, int searched)
{
    for (size_t i = 0; i < N; i++) {
        bool used[N] = {false};
        for (size_t h = 0; h < job->depth; h++) {
            uint32_t found = job->near[list][i * job->reach[list] + h];
            assert_int_not_equal(found, RECO_NOTHING);
            size_t j = (size_t)job->id[found];
            double best = -2;
            for (size_t r = 0; r < N; r++)
                if (!used[r] && !is_barred(i, r) && cosine(side, i, searched, r) > best)
                    best = cosine(side, i, searched, r);
            assert_false(is_barred(i, j) || used[j]);
            assert_true(cosine(side, i, searched, j) > best - 1e-6);
            assert_true(fabs((double)job->scores[list][i * job->reach[list] + h] - best) < 1e-5);
            used[j] = true;
        }
    }
}

static void check_batch(const reco_job *job, reco_modality fuse)
{
    reco_batch b;
    assert_int_equal(reco_batch_create(job, &b, N), RECO_OK);
    for (size_t i = 0; i < N; i++) b.items[i] = (uint32_t)i;
    assert_int_equal(reco_batch_fill(job, &b, N, NULL, false, NULL), RECO_OK);
    for (int side = 0; side < 2; side++) {
        int partner = fuse == RECO_CROSS ? !side : side;
        for (size_t i = 0; i < N; i++)
            for (size_t h = 0; h < K; h++) {
                size_t j = (size_t)job->id[job->near[side][i * job->reach[side] + h]];
                const float *R = b.rows[side] + b.place[side][i * K + h] * D;
                assert_memory_equal(R, rows[partner] + j * D, D * sizeof *R);
                double c = reco_dot(b.x[side] + i * D, R, D);
                assert_true(fabs((double)b.c[side][i * K + h] - c) < 1e-5); /* the products that are kept */
            }
    }
    reco_batch_clear(&b);
}

static void retrieves(void **state)
{
    (void)state;
    reco_train_pairs again = {.n = N, .image = rows[0], .text = rows[1]};
    for (int own = 0; own < 2; own++)
        for (int way = 0; way < 4; way++) {
            reco_modality search = way & 1 ? RECO_CROSS : RECO_UNI, fuse = way & 2 ? RECO_CROSS : RECO_UNI;
            reco_job job = {.ctx = ctx, .bank = bank, .o = RECO_TRAIN_OPTS_INIT};
            job.o.k = K;
            job.o.search = search;
            job.o.fuse = fuse;
            assert_int_equal(reco_job_load(&job, own ? NULL : &again), RECO_OK);
            assert_true(job.inside && job.twins); /* a matter of the data, whatever is searched */
            for (int side = 0; side < 2; side++)
                check_list(&job, side, (size_t)side, search == RECO_CROSS ? !side : side);
            check_list(&job, RECO_TEXT, reco_job_told(&job), RECO_TEXT);
            check_batch(&job, fuse);
            reco_job_clear(&job);
        }
}

/* The checkpoint says what it was trained with, and another way gives another layer. */
static void trains(void **state)
{
    (void)state;
    char *out = reco_format(ctx, "%s/fusion", folder);
    double loss[4];
    for (int way = 0; way < 4; way++) {
        reco_train_opts o = RECO_TRAIN_OPTS_INIT;
        o.steps = 5;
        o.k = K;
        o.search = way & 1 ? RECO_CROSS : RECO_UNI;
        o.fuse = way & 2 ? RECO_CROSS : RECO_UNI;
        reco_train_result r;
        reco_fusion *f;
        assert_int_equal(reco_train(ctx, bank, NULL, out, &o, &r), RECO_OK);
        assert_int_equal(reco_fusion_open(ctx, &f, out, D, 0), RECO_OK);
        assert_int_equal(reco_fusion_get_config(f)->search, o.search);
        assert_int_equal(reco_fusion_get_config(f)->fuse, o.fuse);
        reco_fusion_free(f);
        loss[way] = r.loss;
        for (int before = 0; before < way; before++) assert_true(loss[before] != loss[way]);
    }
    reco_free(out);
}

static void mistakes(void **state)
{
    (void)state;
    for (int i = 0; i < 11; i++) {
        reco_train_opts bad = RECO_TRAIN_OPTS_INIT;
        if (i == 0) bad.k = 2000;
        if (i == 1) bad.lr = -1;
        if (i == 2) bad.validation = 0.9;
        if (i == 3) bad.neighbour_dropout = 2;
        if (i == 4) bad.layer = (reco_layer)17;
        if (i == 5) bad.warmup = -1;
        if (i == 6) bad.batch = 1;
        if (i == 7) bad.search = (reco_modality)3;
        if (i == 8) bad.fuse = (reco_modality)7;
        if (i == 9) bad.sides = (reco_sides)5;
        if (i == 10) bad = (reco_train_opts){0}; /* RECO_TRAIN_OPTS_INIT was forgotten */
        assert_int_equal(reco_train(ctx, bank, NULL, "/nonexistent/f", &bad, NULL), RECO_E_ARG);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(retrieves), cmocka_unit_test(trains),
                                       cmocka_unit_test(mistakes)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
