#include "kernels/kernels_internal.h"

#include <math.h>

typedef struct args {
    const reco_vec *vec;
    float *y;
    const float *x, *dy;
    reco_act act;
} args;

void reco_vec_activate(const reco_vec *vec, float *y, const float *x, size_t n, reco_act act)
{
    switch (act) {
    case RECO_ACT_GELU:
        vec->gelu(y, x, n);
        break;
    case RECO_ACT_QUICK_GELU:
        vec->quick_gelu(y, x, n);
        break;
    case RECO_ACT_GELU_TANH:
        vec->gelu_tanh(y, x, n);
        break;
    case RECO_ACT_NONE:
        if (y != x) memmove(y, x, n * sizeof(float));
    }
}

static void activate(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const args *a = arg;
    reco_vec_activate(a->vec, a->y + begin, a->x + begin, end - begin, a->act);
}

void reco_activate(reco_ctx *ctx, float *y, const float *x, size_t n, reco_act act)
{
    args a = {reco_vec_of(ctx), y, x, NULL, act};
    reco_parallel(ctx, n, 1 << 16, activate, &a);
}

void reco_store(const reco_ctx *ctx, void *y, reco_dtype yt, const float *x, size_t n)
{
    if (yt == RECO_DTYPE_BF16)
        reco_vec_of(ctx)->to_bf16(y, x, n);
    else
        memcpy(y, x, n * sizeof(float));
}

static void gelu_backward(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const args *a = arg;
    a->vec->gelu_backward(a->y + begin, a->dy + begin, a->x + begin, end - begin);
}

void reco_gelu_backward(reco_ctx *ctx, float *dx, const float *dy, const float *x, size_t n)
{
    args a = {reco_vec_of(ctx), dx, x, dy, RECO_ACT_GELU};
    reco_parallel(ctx, n, 1 << 16, gelu_backward, &a);
}

double reco_dot(const float *a, const float *b, size_t d) { return reco_vec_plain.dot_wide(a, b, d); }

double reco_dot_wide(const reco_ctx *ctx, const float *a, const float *b, size_t d)
{
    return reco_vec_of(ctx)->dot_wide(a, b, d);
}

void reco_mix(const reco_ctx *ctx, float *y, const float *x, size_t ldx, const uint32_t *at, const float *p,
              size_t n, size_t d)
{
    reco_vec_of(ctx)->mix(y, x, ldx, at, p, n, d);
}

float reco_dot_fast(const reco_ctx *ctx, const float *a, const float *b, size_t d)
{
    return reco_vec_of(ctx)->dot(a, b, d);
}

void reco_dots(const reco_ctx *ctx, float *y, const float *a, const float *x, size_t ldx,
               const uint32_t *at, size_t n, size_t d)
{
    reco_vec_of(ctx)->dots(y, a, x, ldx, at, n, d);
}

bool reco_unit_row(float *row, size_t d)
{
    double norm = sqrt(reco_dot(row, row, d));
    if (!(norm > 1e-6) || !isfinite(norm)) return false;
    double inverse = 1 / norm;
    for (size_t i = 0; i < d; i++) row[i] = (float)((double)row[i] * inverse);
    return true;
}

void reco_normalize(reco_ctx *ctx, float *y, const float *x, size_t n, size_t d, float *norms)
{
    for (size_t i = 0; i < n; i++) {
        const float *row = x + i * d;
        double norm = sqrt(ctx ? reco_dot_wide(ctx, row, row, d) : reco_dot(row, row, d));
        float inverse = norm > 0 ? (float)(1.0 / norm) : 0;
        for (size_t c = 0; c < d; c++) y[i * d + c] = x[i * d + c] * inverse;
        if (norms) norms[i] = (float)norm;
    }
}

void reco_softmax_row(const reco_ctx *ctx, float *x, size_t n)
{
    if (n) reco_vec_of(ctx)->softmax(x, n, NULL);
}

float reco_softmax_top(const reco_ctx *ctx, float *x, size_t n, float *top)
{
    return reco_vec_of(ctx)->softmax(x, n, top);
}

bool reco_is_same(const float *x, const float *y, size_t d)
{
    double square = 0;
    for (size_t i = 0; i < d && square <= RECO_SAME * RECO_SAME; i++) {
        double off = (double)x[i] - (double)y[i];
        square += off * off;
    }
    return square <= RECO_SAME * RECO_SAME;
}
