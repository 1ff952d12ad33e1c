/* Pictures taken together: a readout that is chosen on rows of the memory serves pictures that come from elsewhere. */
#include "io/io.h"
#include "kernels/kernels.h"
#include "train/train_internal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { CONCEPTS = 30, SHOOTS = 4, EACH = 6, N = CONCEPTS * SHOOTS * EACH, FRESH = CONCEPTS * 10, D = 48 };

static float image[N * D], text[N * D], fresh_image[FRESH * D], fresh_text[FRESH * D];

static void draw(reco_rng *rng, float *x, float size)
{
    for (size_t j = 0; j < D; j++) x[j] += size * (float)reco_rng_normal(rng);
}

/* A picture shows its concept, what was around it in its shoot, and noise. Texts share nothing with pictures. */
static void make_world(float shoot_size)
{
    static float concept[CONCEPTS * D], caption[CONCEPTS * D], shoot[D];
    reco_rng rng;
    reco_rng_seed(&rng, 7);
    memset(concept, 0, sizeof concept);
    memset(caption, 0, sizeof caption);
    memset(image, 0, sizeof image);
    memset(fresh_image, 0, sizeof fresh_image);
    for (size_t c = 0; c < CONCEPTS; c++) {
        draw(&rng, concept + c * D, 0.5f);
        draw(&rng, caption + c * D, 1);
    }
    for (size_t i = 0; i < N + FRESH; i++) {
        bool fresh = i >= N;
        size_t at = fresh ? i - N : i, c = fresh ? at / 10 : at / (SHOOTS * EACH);
        float *x = (fresh ? fresh_image : image) + at * D;
        if (fresh || at % EACH == 0) {
            memset(shoot, 0, sizeof shoot);
            draw(&rng, shoot, shoot_size);
        }
        for (size_t j = 0; j < D; j++) x[j] = concept[c * D + j] + shoot[j];
        draw(&rng, x, 0.25f);
        memcpy((fresh ? fresh_text : text) + at * D, caption + c * D, D * sizeof *text);
    }
    reco_normalize(NULL, image, image, N, D, NULL);
    reco_normalize(NULL, text, text, N, D, NULL);
    reco_normalize(NULL, fresh_image, fresh_image, FRESH, D, NULL);
    reco_normalize(NULL, fresh_text, fresh_text, FRESH, D, NULL);
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
        snprintf(captions[i], sizeof captions[i], "concept %zu", i / (SHOOTS * EACH));
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

static void ask(const reco_job *job, const reco_fusion *fusion, reco_queries *q)
{
    *q = (reco_queries){0};
    assert_int_equal(reco_queries_create(job, q), RECO_OK);
    q->metric = false; /* by cosines, which kin misleads most */
    for (size_t run = 0; run < job->runs; run++)
        assert_int_equal(reco_queries_add(job, fusion, run, RECO_SIDES_IMAGE, q), RECO_OK);
}

/* How often the mixture is right. */
static double share(const reco_ctx *ctx, const reco_queries *q, const reco_mixture *m)
{
    double hits = 0;
    float *p = malloc(q->width * sizeof *p), *e = malloc(q->width * sizeof *e),
          *votes = malloc(q->voters * sizeof *votes);
    for (size_t i = 0; i < q->n; i++) {
        size_t n = q->count[i], voters = reco_min(m->voters, q->valid[i]);
        memset(p, 0, n * sizeof *p);
        for (int expert = 0; expert < 2; expert++) {
            for (size_t j = 0; j < n; j++)
                e[j] = m->scale[expert] * (expert ? q->refined : q->plain)[i * q->width + j];
            reco_softmax_row(ctx, e, n);
            for (size_t j = 0; j < n; j++) p[j] += (expert ? m->refined : m->clip) * e[j];
        }
        reco_vote_weights(ctx, m->scale[2], q->near + i * q->voters, q->of + i * q->voters, voters, votes);
        for (size_t h = 0; h < voters; h++)
            if (q->of[i * q->voters + h] != RECO_NO_CANDIDATE)
                p[q->of[i * q->voters + h]] += (1 - m->clip - m->refined) * votes[h];
        bool hit = true;
        for (size_t j = 1; j < n; j++) hit = hit && p[j] < p[0];
        hits += hit;
    }
    free(votes), free(e), free(p);
    return hits / (double)q->n;
}

static void serves_other_shoots(void **state)
{
    (void)state;
    reco_ctx *ctx;
    reco_fusion *fusion;
    reco_queries held, fresh;
    reco_readout with, without;
    char folder[] = "/tmp/reco-kin-XXXXXX";
    assert_non_null(mkdtemp(folder));
    assert_int_equal(reco_ctx_create(&ctx, &(reco_ctx_opts){.threads = 1}), RECO_OK);
    make_world(0.8f);
    char *path = reco_path_join(ctx, folder, "bank");
    reco_bank *bank = make_bank(ctx, path);
    reco_fusion_config config = {.layer = RECO_LAYER_WEIGHTED,
                                 .d = D,
                                 .k = 10,
                                 .beta = {80, 80},
                                 .gain = {2, 2},
                                 .min_similarity = -1};
    assert_int_equal(reco_fusion_create(ctx, &fusion, &config, 20, 0), RECO_OK);

    reco_train_pairs others = {.n = FRESH, .image = fresh_image, .text = fresh_text};
    reco_train_opts o = RECO_TRAIN_OPTS_INIT;
    o.layer = RECO_LAYER_WEIGHTED;
    reco_job job = {.ctx = ctx, .bank = bank, .o = o}, use = job;
    use.o.judged = &others;
    assert_int_equal(reco_job_load(&job, NULL), RECO_OK);
    assert_int_equal(reco_job_load(&use, NULL), RECO_OK);
    assert_true(job.apart && !use.apart); /* pairs to judge on come from elsewhere as it is */
    ask(&use, fusion, &fresh);
    assert_int_equal(fresh.n, FRESH);
    ask(&job, fusion, &held);
    assert_int_equal(reco_choose_mixture(&job, &held, RECO_SIDES_IMAGE, &with), RECO_OK);
    reco_queries_clear(&held);
    job.apart = false; /* as if no two pictures had been taken together */
    ask(&job, fusion, &held);
    assert_int_equal(reco_choose_mixture(&job, &held, RECO_SIDES_IMAGE, &without), RECO_OK);
    double right = share(ctx, &fresh, &with.mixture), wrong = share(ctx, &fresh, &without.mixture);
    reco_queries_clear(&held), reco_queries_clear(&fresh);
    reco_job_clear(&use), reco_job_clear(&job);
    reco_fusion_free(fusion);
    reco_bank_close(bank);
    char *command = reco_format(ctx, "rm -rf '%s'", folder);
    assert_int_equal(system(command), 0);
    reco_free(command), reco_free(path);
    reco_ctx_free(ctx);
    assert_true(right > wrong + 0.05 && with.mixed < without.mixed - 0.02);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(serves_other_shoots)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
