/* The loops of kernels/ that want vector instructions, compiled once per set with RECO_VEC naming it. Sums say
 * `omp simd reduction`, which allows the compiler to reorder that one sum and nothing else. */
#include "kernels/vec.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define LANES 16
#define PASTE2(a, b) a##b
#define PASTE(a, b) PASTE2(a, b)

/* exp(x) to 2 ulp: 2^n times a polynomial on +-ln2/2 (Cephes' coefficients). Inlined so that loops vectorise; below
 * -87 it gives about 1e-38, which is zero enough for softmax and sigmoid. */
static inline float exp_fast(float x)
{
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float t = x * 1.44269504088896341f;
    int32_t n = (int32_t)(t + (t < 0 ? -0.5f : 0.5f));
    float f = (float)n;
    float r = x - f * 0.693359375f + f * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    uint32_t bits = (uint32_t)(n + 127) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

/* erf(x) as a ratio of polynomials in x^2 on [-4, 4], beyond which it is 1 in f32; error below 4e-7. */
static inline float erf_fast(float x)
{
    x = x < -4.0f ? -4.0f : x;
    x = x > 4.0f ? 4.0f : x;
    float z = x * x;
    float a = -2.72614225801306e-10f;
    a = a * z + 2.77068142495902e-08f;
    a = a * z - 2.10102402082508e-06f;
    a = a * z - 5.69250639462346e-05f;
    a = a * z - 7.34990630326855e-04f;
    a = a * z - 2.95459980854025e-03f;
    a = a * z - 1.60960333262415e-02f;
    float b = -1.45660718464996e-05f;
    b = b * z - 2.13374055278905e-04f;
    b = b * z - 1.68282697438203e-03f;
    b = b * z - 7.37332916720468e-03f;
    b = b * z - 1.42647390514189e-02f;
    return x * a / b;
}

static float dot(const float *a, const float *b, size_t d)
{
    float s = 0;
#pragma omp simd reduction(+ : s)
    for (size_t i = 0; i < d; i++) s += a[i] * b[i];
    return s;
}

static void layernorm(float *y, const float *x, const float *weight, const float *bias, size_t d, float eps,
                      float *mean, float *rstd)
{
    float sum = 0, square = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < d; i++) sum += x[i];
    float m = sum / (float)d;
    /* Two passes: the one-pass variance cancels when the mean is large, which ViT residuals have. */
#pragma omp simd reduction(+ : square)
    for (size_t i = 0; i < d; i++) square += (x[i] - m) * (x[i] - m);
    float r = 1.0f / sqrtf(square / (float)d + eps);
    for (size_t i = 0; i < d; i++) y[i] = (x[i] - m) * r * weight[i] + bias[i];
    if (mean) *mean = m;
    if (rstd) *rstd = r;
}

static void layernorm_backward(float *dx, float *dweight, float *dbias, const float *dy, const float *x,
                               const float *weight, float mean, float rstd, size_t d)
{
    float sum = 0, sumx = 0;
#pragma omp simd reduction(+ : sum, sumx)
    for (size_t i = 0; i < d; i++) {
        float g = dy[i] * weight[i];
        sum += g;
        sumx += g * (x[i] - mean) * rstd;
    }
    sum /= (float)d;
    sumx /= (float)d;
    for (size_t i = 0; i < d; i++) dx[i] += rstd * (dy[i] * weight[i] - sum - (x[i] - mean) * rstd * sumx);
    if (!dweight) return;
    for (size_t i = 0; i < d; i++) {
        dweight[i] += dy[i] * (x[i] - mean) * rstd;
        dbias[i] += dy[i];
    }
}

static void gelu(float *y, const float *x, size_t n)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) y[i] = 0.5f * x[i] * (1.0f + erf_fast(x[i] * 0.70710678118654752f));
}

static void quick_gelu(float *y, const float *x, size_t n)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) y[i] = x[i] / (1.0f + exp_fast(-1.702f * x[i]));
}

/* (1 + tanh(u)) / 2 is the sigmoid of 2u. */
static void gelu_tanh(float *y, const float *x, size_t n)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] / (1.0f + exp_fast(-1.5957691216057308f * (x[i] + 0.044715f * x[i] * x[i] * x[i])));
}

static void gelu_backward(float *dx, const float *dy, const float *x, size_t n)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        float cdf = 0.5f * (1.0f + erf_fast(x[i] * 0.70710678118654752f));
        float pdf = 0.39894228040143268f * exp_fast(-0.5f * x[i] * x[i]);
        dx[i] = dy[i] * (cdf + x[i] * pdf);
    }
}

static void softmax(float *x, size_t n)
{
    float top = x[0], sum = 0, lanes[LANES];
    size_t whole = n / LANES * LANES;
    /* In lanes: a maximum that compilers may not reorder by themselves, since NaN would make it differ. */
    for (size_t j = 0; j < LANES; j++) lanes[j] = top;
    for (size_t i = 0; i < whole; i += LANES)
        for (size_t j = 0; j < LANES; j++) lanes[j] = x[i + j] > lanes[j] ? x[i + j] : lanes[j];
    for (size_t j = 0; j < LANES; j++) top = lanes[j] > top ? lanes[j] : top;
    for (size_t i = whole; i < n; i++) top = x[i] > top ? x[i] : top;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) {
        x[i] = exp_fast(x[i] - top);
        sum += x[i];
    }
    float inverse = 1.0f / sum;
    for (size_t i = 0; i < n; i++) x[i] *= inverse;
}

/* Scores of one query against all keys go dimension by dimension over transposed keys: unit stride, and no
 * horizontal sum. */
static void attend(float *out, size_t ldo, const float *q, size_t ldq, const float *kt, size_t ldk,
                   const float *v, size_t nq, size_t keys, size_t w, int causal, float *restrict s)
{
    float scale = 1.0f / sqrtf((float)w);
    for (size_t i = 0; i < nq; i++, out += ldo, q += ldq) {
        size_t n = causal ? i + 1 : keys;
        for (size_t j = 0; j < n; j++) s[j] = 0;
        size_t c = 0;
        for (; c + 4 <= w; c += 4) {
            const float *k = kt + c * ldk;
            float q0 = q[c] * scale, q1 = q[c + 1] * scale, q2 = q[c + 2] * scale, q3 = q[c + 3] * scale;
            for (size_t j = 0; j < n; j++)
                s[j] += q0 * k[j] + q1 * k[ldk + j] + q2 * k[2 * ldk + j] + q3 * k[3 * ldk + j];
        }
        for (; c < w; c++)
            for (size_t j = 0; j < n; j++) s[j] += q[c] * scale * kt[c * ldk + j];
        softmax(s, n);
        for (c = 0; c < w; c++) out[c] = 0;
        size_t j = 0;
        for (; j + 4 <= n; j += 4) {
            const float *r = v + j * w;
            float p0 = s[j], p1 = s[j + 1], p2 = s[j + 2], p3 = s[j + 3];
            for (c = 0; c < w; c++)
                out[c] += p0 * r[c] + p1 * r[w + c] + p2 * r[2 * w + c] + p3 * r[3 * w + c];
        }
        for (; j < n; j++)
            for (c = 0; c < w; c++) out[c] += s[j] * v[j * w + c];
    }
}

extern const reco_vec PASTE(reco_vec_, RECO_VEC);
const reco_vec PASTE(reco_vec_, RECO_VEC) = {
    .dot = dot,
    .layernorm = layernorm,
    .layernorm_backward = layernorm_backward,
    .gelu = gelu,
    .quick_gelu = quick_gelu,
    .gelu_tanh = gelu_tanh,
    .gelu_backward = gelu_backward,
    .softmax = softmax,
    .attend = attend,
};
