/* Creation, refinement and checkpoints: what the header promises, and what a damaged file gets. */
#include "fusion/fusion.h"
#include "io/io.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

enum { N = 300, K = 3, D = 16 };

static reco_ctx *ctx;
static char *path;
static float x[N * D], R[N * K * D], s[N * K], out[N * D];

static int setup(void **state)
{
    (void)state;
    reco_rng rng;
    reco_rng_seed(&rng, 3);
    if (reco_ctx_create(&ctx, &(reco_ctx_opts){.threads = 2}) != RECO_OK) return -1;
    path = reco_format(ctx, "/tmp/reco-fusion-%d.safetensors", (int)getpid());
    float *rows[2] = {x, R};
    for (int a = 0; a < 2; a++)
        for (size_t i = 0; i < (a ? N * K : N); i++) {
            double square = 0;
            for (size_t j = 0; j < D; j++) {
                float v = (float)reco_rng_normal(&rng);
                rows[a][i * D + j] = v;
                square += (double)v * (double)v;
            }
            for (size_t j = 0; j < D; j++)
                rows[a][i * D + j] = (float)((double)rows[a][i * D + j] / sqrt(square));
        }
    for (size_t i = 0; i < N * K; i++) s[i] = 0.9f - 0.1f * (float)(i % K);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    reco_free(path);
    reco_ctx_free(ctx);
    return 0;
}

static reco_fusion *make(reco_layer layer, float min_similarity)
{
    reco_fusion *f;
    reco_fusion_config c = {
        .layer = layer, .d = D, .k = K, .heads = 4, .scores = 1, .min_similarity = min_similarity};
    assert_int_equal(reco_fusion_create(ctx, &f, &c, 0, 5), RECO_OK);
    return f;
}

static void refine(const reco_fusion *f, const size_t *valid)
{
    const reco_fusion_input in = {.x = x, .retrieved = R, .scores = s, .valid = valid, .n = N, .k = K};
    assert_int_equal(reco_fusion_refine(ctx, f, &in, &(reco_fused){.rows = out}), RECO_OK);
    for (size_t i = 0; i < N; i++) {
        double square = 0;
        for (size_t j = 0; j < D; j++) square += (double)out[i * D + j] * (double)out[i * D + j];
        assert_true(fabs(square - 1) < 1e-5);
    }
}

/* RECO starts as CLIP. */
static void untrained(void **state)
{
    (void)state;
    for (int layer = RECO_LAYER_RELATIONAL; layer <= RECO_LAYER_MLP; layer++) {
        reco_fusion *f = make((reco_layer)layer, -1);
        refine(f, NULL);
        float trace = layer != RECO_LAYER_RELATIONAL ? 1e-6f : 0.1f;
        for (size_t i = 0; i < N * D; i++) assert_true(fabsf(out[i] - x[i]) < trace);
        reco_fusion_free(f);
    }
}

/* Rows without neighbours come back bit for bit, whatever lies where the neighbours would be. */
static void nothing_known(void **state)
{
    (void)state;
    size_t valid[N];
    float *kept = reco_alloc(ctx, N * K * D, sizeof *kept, "test");
    memcpy(kept, R, sizeof R);
    for (size_t i = 0; i < N; i++) {
        valid[i] = i % (K + 1);
        for (size_t j = valid[i] * D; j < K * D; j++) R[i * K * D + j] = NAN;
    }
    for (int layer = RECO_LAYER_NONE; layer <= RECO_LAYER_TRANSFORMER; layer++) {
        reco_fusion *f = make((reco_layer)layer, -1);
        refine(f, valid);
        for (size_t i = 0; i < N; i++)
            if (valid[i] == 0) assert_memory_equal(out + i * D, x + i * D, D * sizeof *x);
        reco_fusion_free(f);
        f = make((reco_layer)layer, 0.95f); /* above every score */
        refine(f, NULL);
        assert_memory_equal(out, x, sizeof x);
        reco_fusion_free(f);
    }
    memcpy(R, kept, sizeof R);
    reco_free(kept);
}

static void controls(void **state)
{
    (void)state;
    double want[D], norm = 0;
    reco_fusion *f;
    assert_int_equal(reco_fusion_open(ctx, &f, "mean", D, 0), RECO_OK);
    assert_int_equal(reco_fusion_get_config(f)->k, 10);
    refine(f, NULL);
    for (size_t j = 0; j < D; j++) {
        want[j] = (double)x[j] + (double)R[j] + (double)R[D + j] + (double)R[2 * D + j];
        norm += want[j] * want[j];
    }
    for (size_t j = 0; j < D; j++) assert_true(fabs((double)out[j] - want[j] / sqrt(norm)) < 1e-6);
    reco_fusion_free(f);
    assert_int_equal(reco_fusion_open(ctx, &f, "none", D, 4), RECO_OK);
    refine(f, NULL);
    assert_memory_equal(out, x, sizeof x);
    reco_fusion_free(f);
}

/* x + W2 GELU(W1 LN(x)), computed here by hand; of the transformer's size; blind to neighbours. */
static void mlp(void **state)
{
    (void)state;
    static float alone[N * D];
    const reco_param *p;
    size_t total, big;
    reco_fusion *f = make(RECO_LAYER_MLP, -1), *g = make(RECO_LAYER_TRANSFORMER, -1);
    reco_fusion_vector(g, &big);
    float *vector = reco_fusion_vector(f, &total);
    size_t m = reco_fusion_get_config(f)->mlp, scores = 2 * 2 * 4; /* two terms of four heads, each side */
    assert_int_equal(total - 4, big - scores); /* two parameters a side more than the paper's layer */
    for (size_t i = 0; i < total; i++) vector[i] += 0.01f * (float)(i % 7);
    refine(f, (size_t[N]){0});
    assert_int_equal(reco_fusion_refine(ctx, f, &(reco_fusion_input){.x = x, .n = N, .k = K},
                                        &(reco_fused){.rows = alone}),
                     RECO_OK);
    assert_memory_equal(alone, out, sizeof out);
    assert_int_equal(reco_fusion_params(f, &p), 13);
    assert_string_equal(reco_layer_name(RECO_LAYER_MLP), "mlp");
    assert_string_equal(reco_layer_name((reco_layer)7), "?");
    for (size_t i = 0; i < N; i += 37) {
        double mean = 0, var = 0, y[D], norm = 0;
        for (size_t j = 0; j < D; j++) mean += (double)x[i * D + j] / D;
        for (size_t j = 0; j < D; j++)
            var += ((double)x[i * D + j] - mean) * ((double)x[i * D + j] - mean) / D;
        for (size_t j = 0; j < D; j++) y[j] = (double)x[i * D + j] + (double)p[5].value[j];
        for (size_t h = 0; h < m; h++) {
            double a = (double)p[3].value[h];
            for (size_t j = 0; j < D; j++)
                a += (double)p[2].value[h * D + j] *
                     (((double)x[i * D + j] - mean) / sqrt(var + 1e-5) * (double)p[0].value[j] +
                      (double)p[1].value[j]);
            a = a / 2 * (1 + erf(a / sqrt(2)));
            for (size_t j = 0; j < D; j++) y[j] += a * (double)p[4].value[j * m + h];
        }
        for (size_t j = 0; j < D; j++) norm += y[j] * y[j];
        for (size_t j = 0; j < D; j++) assert_true(fabs((double)out[i * D + j] - y[j] / sqrt(norm)) < 1e-5);
    }
    reco_fusion_free(g);
    reco_fusion_free(f);
}

/* What a checkpoint, or a control's name, says of search and fusion; nothing: the method's own way. */
static void modalities(void **state)
{
    (void)state;
    static const char *const names[] = {"mean:uni-uni", "mean:uni-cross", "vote:cross-uni",
                                        "weighted:cross-cross"};
    reco_fusion *f;
    for (int way = 0; way < 4; way++) {
        reco_modality search = way & 2 ? RECO_CROSS : RECO_UNI, fuse = way & 1 ? RECO_CROSS : RECO_UNI;
        assert_int_equal(reco_fusion_open(ctx, &f, names[way], D, K), RECO_OK);
        reco_fusion_config c = *reco_fusion_get_config(f);
        assert_true(c.search == search && c.fuse == fuse);
        assert_int_equal(reco_fusion_save(ctx, f, path), RECO_OK);
        reco_fusion_free(f);
        assert_int_equal(reco_fusion_open(ctx, &f, path, D, 0), RECO_OK);
        c = *reco_fusion_get_config(f);
        assert_true(c.search == search && c.fuse == fuse);
        reco_fusion_free(f);
        /* Of the method's own way nothing is written, as before there was another. */
        char *data;
        size_t bytes;
        assert_int_equal(reco_read_file(ctx, &data, &bytes, path, 1 << 20), RECO_OK);
        assert_true((memmem(data, bytes, "search", 6) == NULL) == (way == 1));
        char *value = memmem(data, bytes, "cross", 5);
        if (way != 1 && value) {
            *value = 'k';
            assert_int_equal(reco_write_file(ctx, path, data, bytes), RECO_OK);
            assert_int_equal(reco_fusion_open(ctx, &f, path, D, 0), RECO_E_FORMAT);
        }
        reco_free(data);
    }
    assert_int_equal(reco_fusion_open(ctx, &f, "mean", D, K), RECO_OK);
    reco_fusion_config c = *reco_fusion_get_config(f);
    assert_true(c.search == RECO_UNI && c.fuse == RECO_CROSS);
    reco_fusion_free(f);
    assert_int_equal(reco_fusion_open(ctx, &f, "mean:uni", D, K), RECO_E_IO); /* a file that is not there */
    assert_int_equal(reco_fusion_open(ctx, &f, "meany", D, K), RECO_E_IO);
    assert_true(reco_modality_side(RECO_UNI, RECO_TEXT) == RECO_TEXT &&
                reco_modality_side(RECO_CROSS, RECO_TEXT) == RECO_IMAGE &&
                reco_modality_side(RECO_CROSS, RECO_IMAGE) == RECO_TEXT);
}

static void round_trip(void **state)
{
    (void)state;
    static float again[N * D];
    for (int layer = RECO_LAYER_VOTE; layer <= RECO_LAYER_MLP; layer++) {
        reco_fusion *f = make((reco_layer)layer, 0.2f), *g;
        size_t total;
        float *vector = reco_fusion_vector(f, &total);
        for (size_t i = 0; i < total; i++) vector[i] += 0.01f * (float)(i % 7);
        reco_fusion_set_sides(f, RECO_SIDES_TEXT);
        assert_int_equal(reco_fusion_set_meta(ctx, f, "encoder", "caf\xc3\xa9 \"quoted\""), RECO_OK);
        assert_int_equal(reco_fusion_save(ctx, f, path), RECO_OK);
        assert_int_equal(reco_fusion_open(ctx, &g, path, D, 0), RECO_OK);
        assert_string_equal(reco_fusion_meta(g, "encoder"), "caf\xc3\xa9 \"quoted\"");
        assert_null(reco_fusion_meta(g, "fingerprint"));
        assert_int_equal(reco_fusion_get_config(g)->sides, RECO_SIDES_TEXT);
        refine(f, NULL);
        memcpy(again, out, sizeof out);
        refine(g, NULL);
        assert_memory_equal(again, out, sizeof out);
        reco_fusion_free(g);
        assert_int_equal(reco_fusion_open(ctx, &g, path, D + 1, 0), RECO_E_MISMATCH);
        assert_null(g);
        reco_fusion_free(f);
    }
}

/* Every byte of the header, flipped, and every truncation: refused or harmless, never a crash. */
static void damaged(void **state)
{
    (void)state;
    size_t bytes, header;
    char *data;
    reco_fusion *f = make(RECO_LAYER_RELATIONAL, -1), *g;
    assert_int_equal(reco_fusion_save(ctx, f, path), RECO_OK);
    assert_int_equal(reco_read_file(ctx, &data, &bytes, path, 1 << 20), RECO_OK);
    uint64_t length;
    memcpy(&length, data, sizeof length);
    header = (size_t)length + 8;
    for (size_t i = 0; i < header; i++) {
        data[i] ^= 1;
        assert_int_equal(reco_write_file(ctx, path, data, bytes), RECO_OK);
        if (reco_fusion_open(ctx, &g, path, 0, 0) == RECO_OK) {
            reco_fusion_config c = *reco_fusion_get_config(g);
            if (c.d == D) refine(g, NULL);
            reco_fusion_free(g);
        }
        data[i] ^= 1;
    }
    for (size_t cut = 0; cut < bytes; cut += 97) {
        assert_int_equal(reco_write_file(ctx, path, data, cut), RECO_OK);
        assert_int_not_equal(reco_fusion_open(ctx, &g, path, 0, 0), RECO_OK);
    }
    const float nan = NAN;
    memcpy(data + bytes - sizeof nan, &nan, sizeof nan);
    assert_int_equal(reco_write_file(ctx, path, data, bytes), RECO_OK);
    assert_int_equal(reco_fusion_open(ctx, &g, path, 0, 0), RECO_E_FORMAT);
    assert_non_null(strstr(reco_ctx_error(ctx), "logit_scale"));
    reco_free(data);
    reco_fusion_free(f);
}

static void mistakes(void **state)
{
    (void)state;
    reco_fusion *f;
    const reco_fusion_config bad[] = {{.layer = (reco_layer)9, .d = 8, .k = 1},
                                      {.d = 0, .k = 1},
                                      {.d = 8, .k = 1025},
                                      {.d = 10, .k = 1, .layer = RECO_LAYER_TRANSFORMER},
                                      {.d = 8, .k = 1, .eps = NAN},
                                      {.d = 8, .k = 1, .beta = {INFINITY}},
                                      {.d = 8, .k = 1, .min_similarity = NAN},
                                      {.d = 8, .k = 1, .search = (reco_modality)3},
                                      {.d = 8, .k = 1, .fuse = (reco_modality)-1},
                                      {.d = 8, .k = 1, .sides = RECO_SIDES_DEFAULT}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(reco_fusion_create(ctx, &f, &bad[i], 0, 0), RECO_E_ARG);
    f = make(RECO_LAYER_RELATIONAL, -1);
    const reco_fusion_input good = {.x = x, .retrieved = R, .scores = s, .n = 1, .k = K};
    reco_fusion_input wrong[] = {good, good, good, good, good};
    wrong[0].k = 0;
    wrong[1].k = 1025;
    wrong[2].valid = (size_t[]){K + 1};
    wrong[3].scores = (float[K]){NAN};
    wrong[4].reserved[RECO_RESERVED - 1] = 1;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(reco_fusion_refine(ctx, f, &wrong[i], &(reco_fused){.rows = out}), RECO_E_ARG);
    assert_int_equal(reco_fusion_refine(ctx, f, &good, &(reco_fused){.rows = out, .reserved = {1}}),
                     RECO_E_ARG);
    assert_int_equal(reco_fusion_refine(ctx, f, &good, &(reco_fused){.rows = out}), RECO_OK);
    assert_int_equal(reco_fusion_set_meta(ctx, f, "encoder", "\xff"), RECO_E_ARG);
    reco_fusion_free(f);
    assert_int_equal(reco_fusion_open(ctx, &f, "/nonexistent/fusion", 0, 0), RECO_E_IO);
    reco_fusion_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(untrained), cmocka_unit_test(nothing_known),
                                       cmocka_unit_test(controls),  cmocka_unit_test(round_trip),
                                       cmocka_unit_test(damaged),   cmocka_unit_test(mistakes),
                                       cmocka_unit_test(mlp),       cmocka_unit_test(modalities)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
