/* Training steps of the paper's layer on pairs in memory, one timed step per line of standard input, so that bench/train.py can
 * take turns between this process and a peer's while both are warm.
 *
 *     build/bench/train DATA B K D THREADS
 *
 * DATA is a folder of raw f32: x0, x1 [B][D] and r0, r1 [B][K][D] of images and texts. First it writes its initial parameters there,
 * as start.safetensors, and prints what it is. Then "step" is answered with {"seconds": ..., "loss": ...}: forward of both sides, loss,
 * backward, AdamW. Uses what is inside the library, as reco train does. */
#include "train/train_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

static reco_ctx *ctx;
static const char *const isa_name[] = {
    [RECO_ISA_PLAIN] = "plain", [RECO_ISA_AVX2] = "avx2", [RECO_ISA_AVX512] = "avx512"};

static void check(reco_status status)
{
    if (status == RECO_OK) return;
    fprintf(stderr, "bench/train: %s\n", reco_ctx_error(ctx));
    exit(1);
}

static float *read_all(const char *folder, const char *name, int side, size_t floats)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s%d", folder, name, side);
    float *data = malloc(floats * sizeof *data);
    FILE *f = fopen(path, "rb");
    if (!data || !f || fread(data, sizeof *data, floats, f) != floats) {
        fprintf(stderr, "bench/train: can't read %zu floats of %s\n", floats, path);
        exit(1);
    }
    fclose(f);
    return data;
}

typedef struct trainer {
    size_t B, k, d, total, step;
    reco_fusion *fusion;
    reco_gradients gradients;
    reco_batch batch; /* borrows nothing from a job: items stay NULL */
    float *scores, *vector, *gradient, *m, *v;
} trainer;

static double step(trainer *t)
{
    double loss, norm;
    float *logit_scale = t->vector + t->total - 1;
    check(reco_gradients_take(ctx, &t->gradients, &loss, t->gradient, &t->batch, NULL));
    const reco_adamw adamw = {
        .lr = 1e-3, .beta1 = 0.9, .beta2 = 0.98, .eps = 1e-6, .decay = 0.1, .clip = 1};
    check(reco_adamw_step(ctx, &norm, t->fusion, t->gradient, t->m, t->v, &adamw, ++t->step));
    *logit_scale = fminf(*logit_scale, logf(100));
    return loss;
}

int main(int argc, char **argv)
{
    if (argc < 6) {
        fprintf(stderr, "usage: train DATA B K D THREADS\n");
        return 2;
    }
    trainer t = {
        .B = strtoul(argv[2], NULL, 10), .k = strtoul(argv[3], NULL, 10), .d = strtoul(argv[4], NULL, 10)};
    int threads = atoi(argv[5]);
    const char *cap = getenv("RECO_MAX_ISA"); /* as the command line's */
    reco_isa isa = RECO_ISA_AUTO;
    if (cap && strcmp(cap, "avx2") == 0) isa = RECO_ISA_AVX2;
    if (cap && strcmp(cap, "plain") == 0) isa = RECO_ISA_PLAIN;
    if (reco_ctx_create(&ctx, &(reco_ctx_opts){.threads = threads, .max_isa = isa}) != RECO_OK) return 1;
    reco_fusion_config config = {.layer = RECO_LAYER_TRANSFORMER, .d = t.d, .k = t.k, .min_similarity = -1};
    check(reco_fusion_create(ctx, &t.fusion, &config, 30, 1));
    t.vector = reco_fusion_vector(t.fusion, &t.total);
    /* Wo and W2 start at zero, which would leave next to nothing to compute with in the first steps: not here. */
    const reco_param *params;
    size_t n = reco_fusion_params(t.fusion, &params);
    reco_rng rng;
    reco_rng_seed(&rng, 2);
    for (size_t i = 0; i < n; i++)
        for (size_t q = 0; q < params[i].count && params[i].rank == 2; q++)
            params[i].value[q] += (float)(0.02 * reco_rng_normal(&rng));
    char path[4096];
    snprintf(path, sizeof path, "%s/start.safetensors", argv[1]);
    check(reco_fusion_save(ctx, t.fusion, path));
    float **const arrays[] = {&t.gradient, &t.m, &t.v};
    for (int i = 0; i < 3; i++)
        if (!(*arrays[i] = calloc(t.total, sizeof(float)))) return 1;
    if (!(t.scores = calloc(t.B * t.k, sizeof(float)))) return 1;
    t.batch.n = t.B;
    for (int side = 0; side < 2; side++) {
        t.batch.x[side] = read_all(argv[1], "x", side, t.B * t.d);
        t.batch.R[side] = read_all(argv[1], "r", side, t.B * t.k * t.d);
        t.batch.s[side] = t.scores;
    }
    check(reco_gradients_create(ctx, &t.gradients, t.fusion, t.B, t.k, RECO_TAPES_BYTES));
    printf("{\"reco\": \"%s\", \"threads\": %d, \"isa\": \"%s\", \"parameters\": %zu}\n", reco_version(),
           threads, isa_name[reco_ctx_isa(ctx)], t.total);
    fflush(stdout);
    for (char line[256]; fgets(line, sizeof line, stdin);) {
        double start = reco_now(), loss = step(&t);
        struct rusage usage;
        getrusage(RUSAGE_SELF, &usage);
        printf("{\"seconds\": %.6f, \"loss\": %.9g, \"mb\": %ld}\n", reco_now() - start, loss,
               usage.ru_maxrss / 1024);
        fflush(stdout);
    }
    for (int side = 0; side < 2; side++) free(t.batch.x[side]), free(t.batch.R[side]);
    reco_gradients_clear(&t.gradients);
    free(t.scores), free(t.gradient), free(t.m), free(t.v);
    reco_fusion_free(t.fusion);
    reco_ctx_free(ctx);
    return 0;
}
