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

typedef struct typed {
    args a;
    reco_rows y;
    float *spare; /* [threads][d] */
} typed;

static void forward_typed(void *arg, size_t begin, size_t end, int worker)
{
    const typed *t = arg;
    size_t d = t->a.d;
    float *row = t->spare + (size_t)worker * d;
    for (size_t i = begin; i < end; i++) {
        t->a.vec->layernorm(row, t->a.x + i * d, t->a.weight, t->a.bias, d, t->a.eps, NULL, NULL);
        if (t->y.scales)
            t->y.scales[i] = t->a.vec->quantize((int8_t *)t->y.at + i * d, row, d);
        else
            t->a.vec->to_bf16((uint16_t *)t->y.at + i * d, row, d);
    }
}

reco_status reco_layernorm_as(reco_ctx *ctx, reco_rows y, const float *x, const float *weight,
                              const float *bias, size_t n, size_t d, float eps)
{
    if (!y.scales && y.type == RECO_DTYPE_F32) {
        reco_layernorm(ctx, y.at, x, weight, bias, n, d, eps, NULL, NULL);
        return RECO_OK;
    }
    reco_mark mark = reco_scratch_mark(ctx);
    typed t = {{reco_vec_of(ctx), NULL, NULL, NULL, x, weight, bias, d, eps}, y, NULL};
    t.spare = reco_scratch(ctx, (size_t)reco_ctx_threads(ctx) * d, sizeof(float), "layer norm");
    if (!t.spare) return RECO_E_NOMEM;
    reco_parallel(ctx, n, 1 + 32768 / (d + 1), forward_typed, &t);
    reco_scratch_release(ctx, mark);
    return RECO_OK;
}

enum { COLUMNS = 64, ROWS = 128 }; /* of one thread; of a sum, so that long ones round less */

typedef struct sums {
    float *dweight, *dbias;
    const float *dy, *x, *mean, *rstd;
    size_t n, d;
} sums;

static void sum_gradients(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const sums *a = arg;
    size_t width = end - begin;
    for (size_t i = 0; i < a->n; i += ROWS) {
        float by_x[COLUMNS] = {0}, plain[COLUMNS] = {0};
        for (size_t r = i; r < reco_min(a->n, i + ROWS); r++) {
            const float *dy = a->dy + r * a->d + begin, *x = a->x + r * a->d + begin;
            float mean = a->mean[r], rstd = a->rstd[r];
            for (size_t q = 0; q < width; q++) {
                by_x[q] += dy[q] * ((x[q] - mean) * rstd);
                plain[q] += dy[q];
            }
        }
        for (size_t q = 0; q < width; q++) {
            a->dweight[begin + q] += by_x[q];
            a->dbias[begin + q] += plain[q];
        }
    }
}

typedef struct rows {
    const reco_vec *vec;
    float *dx;
    const float *dy, *x, *weight, *mean, *rstd;
    size_t d;
} rows;

static void backward(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const rows *a = arg;
    for (size_t i = begin; i < end; i++)
        a->vec->layernorm_backward(a->dx + i * a->d, NULL, NULL, a->dy + i * a->d, a->x + i * a->d,
                                   a->weight, a->mean[i], a->rstd[i], a->d);
}

/* Sums over rows by columns, so that their order does not depend on threads. */
void reco_layernorm_backward(reco_ctx *ctx, float *dx, float *dweight, float *dbias, const float *dy,
                             const float *x, const float *weight, const float *mean, const float *rstd,
                             size_t n, size_t d)
{
    if (dweight)
        reco_parallel(ctx, d, COLUMNS, sum_gradients, &(sums){dweight, dbias, dy, x, mean, rstd, n, d});
    if (dx)
        reco_parallel(ctx, n, 1 + 32768 / (d + 1), backward,
                      &(rows){reco_vec_of(ctx), dx, dy, x, weight, mean, rstd, d});
}
