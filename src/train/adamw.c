#include "train/train_internal.h"

#include <math.h>

double reco_adamw_step(reco_fusion *fusion, float *dvector, float *m, float *v, const reco_adamw *o,
                       size_t step)
{
    const reco_param *params;
    size_t n = reco_fusion_params(fusion, &params), total;
    const float *vector = reco_fusion_vector(fusion, &total);
    double square = 0;
    for (size_t i = 0; i < total; i++) square += (double)dvector[i] * (double)dvector[i];
    double norm = sqrt(square);
    float shrink = o->clip > 0 && norm > o->clip ? (float)(o->clip / (norm + 1e-6)) : 1.0f;
    float b1 = (float)o->beta1, b2 = (float)o->beta2, eps = (float)o->eps;
    float rate = (float)(o->lr / (1 - pow(o->beta1, (double)step)));
    float unbias = (float)(1 / sqrt(1 - pow(o->beta2, (double)step)));
    for (size_t p = 0; p < n; p++) {
        size_t at = (size_t)(params[p].value - vector);
        float keep = params[p].decay ? (float)(1 - o->lr * o->decay) : 1.0f;
        for (size_t i = at; i < at + params[p].count; i++) {
            float g = shrink * dvector[i], *value = params[p].value + (i - at);
            m[i] = b1 * m[i] + (1 - b1) * g;
            v[i] = b2 * v[i] + (1 - b2) * g * g;
            *value = keep * *value - rate * m[i] / (sqrtf(v[i]) * unbias + eps);
        }
    }
    return norm;
}

double reco_cosine(size_t step, size_t steps, double warmup)
{
    double at = (double)step / (double)steps;
    if (at < warmup) return at / warmup;
    if (warmup >= 1) return 1;
    return 0.5 * (1 + cos(3.14159265358979323846 * (at - warmup) / (1 - warmup)));
}
