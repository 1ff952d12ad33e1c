#include "kernels/kernels_internal.h"

typedef struct args {
    const reco_vec *vec;
    float *y, *mean, *rstd;
    const float *x, *weight, *bias;
    size_t d;
    float eps;
} args;

static void forward(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const args *a = arg;
    for (size_t i = begin; i < end; i++)
        a->vec->layernorm(a->y + i * a->d, a->x + i * a->d, a->weight, a->bias, a->d, a->eps,
                          a->mean ? a->mean + i : NULL, a->rstd ? a->rstd + i : NULL);
}

void reco_layernorm(reco_ctx *ctx, float *y, const float *x, const float *weight, const float *bias,
                    size_t n, size_t d, float eps, float *mean, float *rstd)
{
    args a = {reco_vec_of(ctx), y, mean, rstd, x, weight, bias, d, eps};
    reco_parallel(ctx, n, 1 + 65536 / (d + 1), forward, &a);
}

/* Rows in order on one thread: dweight and dbias are sums over rows, and their order must not depend on threads. */
void reco_layernorm_backward(reco_ctx *ctx, float *dx, float *dweight, float *dbias, const float *dy,
                             const float *x, const float *weight, const float *mean, const float *rstd,
                             size_t n, size_t d)
{
    const reco_vec *vec = reco_vec_of(ctx);
    for (size_t i = 0; i < n; i++)
        vec->layernorm_backward(dx + i * d, dweight, dbias, dy + i * d, x + i * d, weight, mean[i], rstd[i],
                                d);
}
