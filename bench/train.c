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
    reco_tape *tapes[2];
    float *x[2], *R[2], *y[2], *dy[2], *scores, *vector, *gradient, *m, *v;
} trainer;

static double step(trainer *t)
{
    double loss, norm;
    float *logit_scale = t->vector + t->total - 1;
    memset(t->gradient, 0, t->total * sizeof *t->gradient);
    for (int side = 0; side < 2; side++)
        check(reco_fusion_forward(ctx, t->fusion, (reco_side)side, t->x[side], t->R[side], t->scores, NULL,
                                  t->B, t->k, t->y[side], t->tapes[side]));
    check(reco_train_loss(ctx, &loss, t->dy[0], t->dy[1], t->gradient + t->total - 1, t->y[0], t->y[1],
                          t->x[0], t->x[1], *logit_scale, NULL, NULL, t->B, t->d));
    for (int side = 0; side < 2; side++)
        check(reco_fusion_backward(ctx, t->fusion, t->tapes[side], t->dy[side], t->gradient));
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
    reco_isa isa = !cap                         ? RECO_ISA_AUTO
                   : strcmp(cap, "avx2") == 0   ? RECO_ISA_AVX2
                   : strcmp(cap, "avx512") == 0 ? RECO_ISA_AVX512
                                                : RECO_ISA_PLAIN;
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
    for (int side = 0; side < 2; side++) {
        t.x[side] = read_all(argv[1], "x", side, t.B * t.d);
        t.R[side] = read_all(argv[1], "r", side, t.B * t.k * t.d);
        t.y[side] = calloc(t.B * t.d, sizeof(float));
        t.dy[side] = calloc(t.B * t.d, sizeof(float));
        if (!t.y[side] || !t.dy[side]) return 1;
        check(reco_tape_create(ctx, &t.tapes[side], t.fusion, t.B, t.k));
    }
    printf("{\"reco\": \"%s\", \"threads\": %d, \"parameters\": %zu}\n", reco_version(), threads, t.total);
    fflush(stdout);
    for (char line[256]; fgets(line, sizeof line, stdin);) {
        double start = reco_now(), loss = step(&t);
        struct rusage usage;
        getrusage(RUSAGE_SELF, &usage);
        printf("{\"seconds\": %.6f, \"loss\": %.9g, \"mb\": %ld}\n", reco_now() - start, loss,
               usage.ru_maxrss / 1024);
        fflush(stdout);
    }
    for (int side = 0; side < 2; side++) {
        reco_tape_free(t.tapes[side]);
        free(t.x[side]), free(t.R[side]), free(t.y[side]), free(t.dy[side]);
    }
    free(t.scores), free(t.gradient), free(t.m), free(t.v);
    reco_fusion_free(t.fusion);
    reco_ctx_free(ctx);
    return 0;
}
