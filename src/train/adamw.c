#include "train/train_internal.h"

#include <math.h>

enum { PIECE = 1 << 15 }; /* of one thread; sums of these are added in their order */

typedef struct job {
    float *value, *m, *v;
    const float *g;
    double *squares; /* [pieces] */
    float shrink, b1, b2, rate, unbias, eps, keep;
} job;

static void square(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const job *j = arg;
    double sum = 0;
    for (size_t i = begin; i < end; i++) sum += (double)j->g[i] * (double)j->g[i];
    j->squares[begin / PIECE] = sum;
}

static void update(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const job *j = arg;
    float *restrict value = j->value, *restrict m = j->m, *restrict v = j->v;
    const float *restrict gradient = j->g;
    float shrink = j->shrink, b1 = j->b1, b2 = j->b2, rate = j->rate, unbias = j->unbias, eps = j->eps,
          keep = j->keep;
    for (size_t i = begin; i < end; i++) {
        float g = shrink * gradient[i];
        m[i] = b1 * m[i] + (1 - b1) * g;
        v[i] = b2 * v[i] + (1 - b2) * g * g;
        value[i] = keep * value[i] - rate * m[i] / (sqrtf(v[i]) * unbias + eps);
    }
}

reco_status reco_adamw_step(reco_ctx *ctx, double *norm, reco_fusion *fusion, const float *dvector,
                            float *m, float *v, const reco_adamw *o, size_t step)
{
    const reco_param *params;
    size_t n = reco_fusion_params(fusion, &params), total;
    float *vector = reco_fusion_vector(fusion, &total);
    size_t pieces = (total + PIECE - 1) / PIECE;
    reco_mark mark = reco_scratch_mark(ctx);
    job j = {.g = dvector, .squares = reco_scratch(ctx, pieces, sizeof(double), "optimiser")};
    if (!j.squares) return RECO_E_NOMEM;
    reco_parallel(ctx, total, PIECE, square, &j);
    *norm = 0;
    for (size_t i = 0; i < pieces; i++) *norm += j.squares[i];
    *norm = sqrt(*norm);
    j.shrink = o->clip > 0 && *norm > o->clip ? (float)(o->clip / (*norm + 1e-6)) : 1.0f;
    j.b1 = (float)o->beta1;
    j.b2 = (float)o->beta2;
    j.eps = (float)o->eps;
    j.rate = (float)(o->lr / (1 - pow(o->beta1, (double)step)));
    j.unbias = (float)(1 / sqrt(1 - pow(o->beta2, (double)step)));
    for (size_t p = 0; p < n; p++) {
        size_t at = (size_t)(params[p].value - vector);
        j.keep = params[p].decay ? (float)(1 - o->lr * o->decay) : 1.0f;
        j.value = vector + at;
        j.m = m + at;
        j.v = v + at;
        j.g = dvector + at;
        reco_parallel(ctx, params[p].count, PIECE, update, &j);
    }
    reco_scratch_release(ctx, mark);
    return RECO_OK;
}

double reco_cosine(size_t step, size_t steps, double warmup)
{
    double at = (double)step / (double)steps;
    if (at < warmup) return at / warmup;
    if (warmup >= 1) return 1;
    return 0.5 * (1 + cos(3.14159265358979323846 * (at - warmup) / (1 - warmup)));
}
