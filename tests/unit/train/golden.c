/* Refined embeddings, loss, every gradient and the steps of AdamW against PyTorch's, from files named
 * fusion-*.safetensors (tools/golden/make_fusion.py makes them): our own in tests/golden/fusion, and a larger set in
 * $RECO_GOLDEN or beside the repository. Sizes, heads, steps and the optimiser come from each file. */
#include "io/io.h"
#include "train/train_internal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define TOLERANCE 1e-4

typedef struct golden {
    reco_ctx *ctx;
    reco_safetensors *st;
    reco_fusion *f;
    size_t B, d, k, total;
    float *v, *t, *R[2], *s[2]; /* inputs; R and s by side */
    size_t *valid[2];           /* or NULL */
    float *refined[2], *drefined[2], *gradient;
    double worst;
} golden;

static void *array(size_t n, size_t size)
{
    void *a = reco_alloc(NULL, n, size, "test");
    assert_non_null(a);
    return a;
}

static float *load(const golden *g, const char *name, size_t n)
{
    float *x = array(n, sizeof *x);
    const reco_tensor *t = reco_safetensors_find(g->st, name);
    if (!t) return x; /* zero: scores of a layer that has no use for them */
    assert_int_equal(t->count, n);
    assert_int_equal(reco_tensor_f32(g->ctx, t, 0, n, x), RECO_OK);
    return x;
}

static size_t *load_valid(const golden *g, const char *name)
{
    const reco_tensor *t = reco_safetensors_find(g->st, name);
    if (!t) return NULL;
    assert_int_equal(t->dtype, RECO_DTYPE_I32);
    assert_int_equal(t->count, g->B);
    size_t *valid = array(g->B, sizeof *valid);
    for (size_t i = 0; i < g->B; i++) {
        int32_t n;
        memcpy(&n, (const char *)t->data + i * sizeof n, sizeof n);
        valid[i] = (size_t)n;
    }
    return valid;
}

/* The metadata is JSON: a list of numbers, the i-th of them. */
static double listed(const golden *g, const char *key, size_t i)
{
    json_t *list = json_loads(reco_safetensors_meta(g->st, key), 0, NULL);
    double value = json_number_value(json_array_get(list, i));
    assert_true(i < json_array_size(list));
    json_decref(list);
    return value;
}

/* A softmax does not see the last bias of u. Its gradient is zero in ours and rounding noise in PyTorch's, and AdamW
 * makes steps of noise as of anything; where it went is no part of the answer. */
static bool is_noise(const char *name)
{
    return strcmp(name, "final.image.u.2.bias") == 0 || strcmp(name, "final.text.u.2.bias") == 0;
}

static void compare(golden *g, const char *name, const float *got, size_t n)
{
    float *want = load(g, name, n);
    assert_non_null(reco_safetensors_find(g->st, name));
    if (is_noise(name)) n = 0;
    for (size_t i = 0; i < n; i++) {
        double error = fabs((double)got[i] - (double)want[i]) / fmax(1, fabs((double)want[i]));
        if (!(error <= TOLERANCE))
            fail_msg("%s[%zu]: %.8g, want %.8g", name, i, (double)got[i], (double)want[i]);
        g->worst = fmax(g->worst, error);
    }
    reco_free(want);
}

static void compare_number(const char *what, double got, double want)
{
    if (!(fabs(got - want) <= TOLERANCE * fmax(1, fabs(want))))
        fail_msg("%s: %.8g, want %.8g", what, got, want);
}

/* `prefix`NAME of every parameter against values laid out like the vector. */
static void compare_params(golden *g, const char *prefix, const float *values)
{
    const reco_param *params;
    size_t n = reco_fusion_params(g->f, &params), total;
    const float *vector = reco_fusion_vector(g->f, &total);
    for (size_t i = 0; i < n; i++) {
        char *name = reco_format(g->ctx, "%s%s", prefix, params[i].name);
        compare(g, name, values + (params[i].value - vector), params[i].count);
        reco_free(name);
    }
}

static reco_fusion_config config_of(const golden *g)
{
    reco_fusion_config c = {.d = g->d, .k = g->k, .min_similarity = -1, .layer = RECO_LAYER_RELATIONAL};
    const reco_tensor *t = reco_safetensors_find(g->st, "param.image.u.0.weight");
    if (t) {
        c.hidden = t->shape[0];
        return c;
    }
    c.layer = RECO_LAYER_TRANSFORMER;
    c.heads = (size_t)atoi(reco_safetensors_meta(g->st, "heads"));
    c.scores = reco_safetensors_find(g->st, "param.image.layers.0.score_scale") != NULL;
    t = reco_safetensors_find(g->st, "param.image.layers.0.fc.weight");
    assert_non_null(t);
    c.mlp = t->shape[0];
    for (bool more = true; more;) {
        char *name = reco_format(NULL, "param.image.layers.%zu.fc.weight", ++c.layers);
        more = reco_safetensors_find(g->st, name) != NULL;
        reco_free(name);
    }
    return c;
}

static void open_golden(golden *g, const char *path)
{
    assert_int_equal(reco_safetensors_open(g->ctx, &g->st, path), RECO_OK);
    const reco_tensor *R = reco_safetensors_find(g->st, "retrieved_texts");
    assert_non_null(R);
    g->B = R->shape[0], g->k = R->shape[1], g->d = R->shape[2];
    g->v = load(g, "v", g->B * g->d);
    g->t = load(g, "t", g->B * g->d);
    g->R[RECO_IMAGE] = load(g, "retrieved_texts", g->B * g->k * g->d);
    g->R[RECO_TEXT] = load(g, "retrieved_images", g->B * g->k * g->d);
    g->s[RECO_IMAGE] = load(g, "scores_image", g->B * g->k);
    g->s[RECO_TEXT] = load(g, "scores_text", g->B * g->k);
    g->valid[RECO_IMAGE] = load_valid(g, "valid_texts");
    g->valid[RECO_TEXT] = load_valid(g, "valid_images");
    reco_fusion_config c = config_of(g);
    assert_int_equal(reco_fusion_create(g->ctx, &g->f, &c, 0, 1), RECO_OK);
    reco_fusion_vector(g->f, &g->total);
    g->gradient = array(g->total, sizeof(float));
    const reco_param *params;
    for (size_t i = 0, n = reco_fusion_params(g->f, &params); i < n; i++) {
        char *name = reco_format(NULL, "param.%s", params[i].name);
        assert_non_null(reco_safetensors_find(g->st, name));
        float *value = load(g, name, params[i].count);
        memcpy(params[i].value, value, params[i].count * sizeof *value);
        reco_free(value);
        reco_free(name);
    }
}

static void close_golden(golden *g)
{
    for (int side = 0; side < 2; side++) {
        reco_free(g->R[side]), reco_free(g->s[side]), reco_free(g->valid[side]);
        reco_free(g->refined[side]), reco_free(g->drefined[side]);
    }
    reco_free(g->v), reco_free(g->t), reco_free(g->gradient);
    reco_fusion_free(g->f);
    reco_safetensors_close(g->st);
}

static reco_fusion_input input(const golden *g, int side, const float *x)
{
    return (reco_fusion_input){.side = (reco_side)side,
                               .x = x,
                               .retrieved = g->R[side],
                               .scores = g->s[side],
                               .valid = g->valid[side],
                               .n = g->B,
                               .k = g->k};
}

/* Loss of the present parameters, gradient into g->gradient. */
static double pass(golden *g, reco_tape *tapes[2])
{
    const reco_param *params;
    size_t n = reco_fusion_params(g->f, &params);
    const float *x[2] = {g->v, g->t};
    double loss;
    memset(g->gradient, 0, g->total * sizeof *g->gradient);
    for (int side = 0; side < 2; side++) {
        const reco_fusion_input in = input(g, side, x[side]);
        assert_int_equal(reco_fusion_forward(g->ctx, g->f, &in, g->refined[side], tapes[side]), RECO_OK);
    }
    assert_int_equal(reco_train_loss(g->ctx, &loss, g->drefined[0], g->drefined[1],
                                     g->gradient + g->total - 1, g->refined[0], g->refined[1], g->v, g->t,
                                     *params[n - 1].value, NULL, NULL, g->B, g->d),
                     RECO_OK);
    for (int side = 0; side < 2; side++)
        assert_int_equal(reco_fusion_backward(g->ctx, g->f, tapes[side], g->drefined[side], g->gradient),
                         RECO_OK);
    return loss;
}

/* Inference must agree with the training pass to the last bit, alias or not. */
static void check_refine(golden *g, int side)
{
    const float *x[2] = {g->v, g->t};
    float *out = array(g->B * g->d, sizeof *out);
    memcpy(out, x[side], g->B * g->d * sizeof *out);
    const reco_fusion_input in = input(g, side, out);
    assert_int_equal(reco_fusion_refine(g->ctx, g->f, &in, &(reco_fused){.rows = out}), RECO_OK);
    assert_memory_equal(out, g->refined[side], g->B * g->d * sizeof *out);
    for (size_t i = 0; g->valid[side] && i < g->B; i++)
        if (g->valid[side][i] == 0)
            assert_memory_equal(out + i * g->d, x[side] + i * g->d, g->d * sizeof *out);
    reco_free(out);
}

static void check_file(reco_ctx *ctx, const char *path)
{
    golden g = {.ctx = ctx};
    open_golden(&g, path);
    reco_adamw o;
    assert_int_equal(
        sscanf(reco_safetensors_meta(g.st, "optimiser"),
               "AdamW lr %lf constant, betas %lf %lf, eps %lf, decay %lf on matrices, clip %lf", &o.lr,
               &o.beta1, &o.beta2, &o.eps, &o.decay, &o.clip),
        6);
    size_t steps = (size_t)atoi(reco_safetensors_meta(g.st, "steps"));
    float *m = array(g.total, sizeof *m), *v = array(g.total, sizeof *v);
    reco_tape *tapes[2];
    for (int side = 0; side < 2; side++) {
        assert_int_equal(reco_tape_create(ctx, &tapes[side], g.f, g.B, g.k), RECO_OK);
        g.refined[side] = array(g.B * g.d, sizeof(float));
        g.drefined[side] = array(g.B * g.d, sizeof(float));
    }
    for (size_t step = 1; step <= steps; step++) {
        double loss = pass(&g, tapes);
        compare_number("loss", loss, listed(&g, "losses", step - 1));
        if (step == 1) {
            compare(&g, "refined_image", g.refined[RECO_IMAGE], g.B * g.d);
            compare(&g, "refined_text", g.refined[RECO_TEXT], g.B * g.d);
            compare_params(&g, "grad.", g.gradient);
            check_refine(&g, 0);
            check_refine(&g, 1);
        }
        double norm;
        assert_int_equal(reco_adamw_step(ctx, &norm, g.f, g.gradient, m, v, &o, step), RECO_OK);
        compare_number("gradient norm", norm, listed(&g, "grad_norms", step - 1));
    }
    size_t total;
    compare_params(&g, "final.", reco_fusion_vector(g.f, &total));
    print_message("%s: %zu steps, worst error %.1e\n", path, steps, g.worst);
    reco_tape_free(tapes[0]), reco_tape_free(tapes[1]);
    reco_free(m), reco_free(v);
    close_golden(&g);
}

static bool is_golden(const char *name)
{
    size_t n = strlen(name);
    return strncmp(name, "fusion-", 7) == 0 && n > 12 && strcmp(name + n - 12, ".safetensors") == 0;
}

static void check_folder(const char *folder)
{
    for (int isa = RECO_ISA_PLAIN; isa <= RECO_ISA_AVX512; isa++) {
        reco_ctx *ctx;
        reco_ctx_opts opts = {.threads = 2, .max_isa = (reco_isa)isa};
        char **paths;
        size_t n;
        assert_int_equal(reco_ctx_create(&ctx, &opts), RECO_OK);
        if ((int)reco_ctx_isa(ctx) == isa) {
            assert_int_equal(reco_list_files(ctx, &paths, &n, folder, false, is_golden), RECO_OK);
            assert_true(n > 0);
            for (size_t i = 0; i < n; i++) {
                check_file(ctx, paths[i]);
                reco_free(paths[i]);
            }
            reco_free(paths);
        }
        reco_ctx_free(ctx);
    }
}

static void own(void **state)
{
    (void)state;
    const char *source = getenv("RECO_TEST_SOURCE");
    if (!source) skip();
    char *folder = reco_format(NULL, "%s/tests/golden/fusion", source);
    check_folder(folder);
    reco_free(folder);
}

static void shared(void **state)
{
    (void)state;
    const char *given = getenv("RECO_GOLDEN"), *source = getenv("RECO_TEST_SOURCE");
    char *folder =
        given ? reco_strdup(NULL, given) : reco_format(NULL, "%s/../shared/golden", source ? source : ".");
    if (!reco_path_is_dir(folder)) {
        print_message("[  SKIPPED ] no folder %s; set RECO_GOLDEN\n", folder);
        reco_free(folder);
        skip();
    }
    check_folder(folder);
    reco_free(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(own), cmocka_unit_test(shared)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
