/* Attention of token 0 without keys and values against that with them: outputs, weights and every gradient. */
#include "fusion/tape.h"
#include "kernels/kernels.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

enum { N = 5, T = 4, D = 48, H = 6 };

typedef struct inputs {
    float tokens[N * T * D], q[N * D], w[2 * D * D], b[2 * D], scores[N * (T - 1)], terms[2][H],
        dout[N * D];
} inputs;

typedef struct outputs {
    float o[N * D], p[N * H * T], dq[N * D], da[N * T * D], dw[2 * D * D], db[2 * D], dscore[H], dself[H];
} outputs;

static const reco_fusion none; /* no copies of the weights */
static const size_t valid[N] = {3, 0, 1, 2, 3};

static void with_keys(reco_ctx *ctx, outputs *out, const inputs *in, reco_attn a)
{
    static float kv[N * T * 2 * D], dkv[N * T * 2 * D];
    assert_int_equal(reco_affine(ctx, &none, kv, in->tokens, D, in->w, in->b, N * T, 2 * D, D), RECO_OK);
    a.kv = kv;
    reco_set_attention(ctx, out->o, out->p, &a);
    assert_int_equal(reco_set_attention_backward(ctx, out->dq, dkv, a.score_scale ? out->dscore : NULL,
                                                 a.score_scale ? out->dself : NULL, in->dout, out->p, &a),
                     RECO_OK);
    assert_int_equal(reco_affine_backward(ctx, out->da, false, out->dw, out->db, dkv, in->tokens, D, in->w,
                                          N * T, 2 * D, D),
                     RECO_OK);
}

static void without(reco_ctx *ctx, outputs *out, const inputs *in, reco_attn a)
{
    static float r[N * H * D], sums[N * H * D];
    const float *wv = in->w + D * D;
    assert_int_equal(
        reco_pooled_attention(ctx, &none, out->o, out->p, r, sums, in->tokens, in->w, wv, in->b + D, &a),
        RECO_OK);
    reco_pooled_grads g = {.dq = out->dq,
                           .da = out->da,
                           .dwk = out->dw,
                           .dwv = out->dw + D * D,
                           .dbv = out->db + D,
                           .dscore = a.score_scale ? out->dscore : NULL,
                           .dself = a.score_scale ? out->dself : NULL};
    assert_int_equal(
        reco_pooled_attention_backward(ctx, &g, in->dout, out->p, r, sums, in->tokens, in->w, wv, &a),
        RECO_OK);
}

static void compare(const char *what, const float *a, const float *b, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++)
        if (fabs((double)b[i]) > most) most = fabs((double)b[i]); /* gcc 12 breaks on fmax here for arm64 */
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)a[i] - (double)b[i]) <= 1e-5 * fmax(1, most)))
            fail_msg("%s[%zu] = %g, want %g", what, i, (double)a[i], (double)b[i]);
}

static void equal(void **state)
{
    (void)state;
    static inputs in;
    reco_rng rng;
    reco_ctx *ctx;
    reco_rng_seed(&rng, 5);
    float *all = in.tokens;
    for (size_t i = 0; i < sizeof in / sizeof(float); i++) all[i] = (float)reco_rng_normal(&rng) / 3;
    assert_int_equal(reco_ctx_create(&ctx, &(reco_ctx_opts){.threads = 2}), RECO_OK);
    for (int terms = 0; terms < 2; terms++) {
        outputs *a = calloc(1, sizeof *a), *b = calloc(1, sizeof *b);
        reco_attn attn = {
            .n = N, .tq = 1, .T = T, .d = D, .H = H, .q = in.q, .scores = in.scores, .valid = valid};
        if (terms) attn.score_scale = in.terms[0], attn.self_bias = in.terms[1];
        assert_true(a && b);
        with_keys(ctx, a, &in, attn);
        without(ctx, b, &in, attn);
        compare("o", b->o, a->o, N * D);
        compare("p", b->p, a->p, N * H * T);
        compare("dq", b->dq, a->dq, N * D);
        compare("da", b->da, a->da, N * T * D);
        compare("dw", b->dw, a->dw, 2 * D * D);
        compare("db", b->db, a->db, 2 * D); /* of keys: zero but for rounding */
        compare("dscore", b->dscore, a->dscore, H);
        compare("dself", b->dself, a->dself, H);
        free(a), free(b);
    }
    reco_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(equal)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
