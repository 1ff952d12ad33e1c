#include "kernels/kernels_internal.h"

#include <math.h>

typedef struct args {
    const reco_vec *vec;
    float *y;
    const float *x, *dy;
    reco_act act;
} args;

static void activate(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const args *a = arg;
    if (a->act == RECO_ACT_GELU)
        a->vec->gelu(a->y + begin, a->x + begin, end - begin);
    else if (a->act == RECO_ACT_QUICK_GELU)
        a->vec->quick_gelu(a->y + begin, a->x + begin, end - begin);
    else if (a->act == RECO_ACT_GELU_TANH)
        a->vec->gelu_tanh(a->y + begin, a->x + begin, end - begin);
    else
        memmove(a->y + begin, a->x + begin, (end - begin) * sizeof(float));
}

void reco_activate(reco_ctx *ctx, float *y, const float *x, size_t n, reco_act act)
{
    args a = {reco_vec_of(ctx), y, x, NULL, act};
    reco_parallel(ctx, n, 1 << 16, activate, &a);
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

double reco_dot(const float *a, const float *b, size_t d)
{
    double s = 0;
    for (size_t i = 0; i < d; i++) s += (double)a[i] * (double)b[i];
    return s;
}

float reco_dot_fast(const reco_ctx *ctx, const float *a, const float *b, size_t d)
{
    return reco_vec_of(ctx)->dot(a, b, d);
}

void reco_normalize(reco_ctx *ctx, float *y, const float *x, size_t n, size_t d, float *norms)
{
    (void)ctx;
    for (size_t i = 0; i < n; i++) {
        double norm = sqrt(reco_dot(x + i * d, x + i * d, d));
        float inverse = norm > 0 ? (float)(1.0 / norm) : 0;
        for (size_t c = 0; c < d; c++) y[i * d + c] = x[i * d + c] * inverse;
        if (norms) norms[i] = (float)norm;
    }
}

void reco_softmax_row(const reco_ctx *ctx, float *x, size_t n)
{
    if (n) reco_vec_of(ctx)->softmax(x, n);
}
