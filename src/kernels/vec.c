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
    const float shift = 0x1.8p23f; /* a sum with it has no room for fractions and is rounded */
    float t = x * 1.44269504088896341f + shift;
    float f = t - shift;
    float r = x - f * 0.693359375f + f * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    uint32_t bits;
    memcpy(&bits, &t, sizeof bits);
    bits = (bits << 23) + (127u << 23); /* the integer is in the low bits of t */
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

/* Rows are read from end to end, which processors foresee, and several at once: the sums pass through memory less often. */
static void weighted_sum(float *restrict y, const float *restrict x, size_t ldx,
                         const uint32_t *restrict at, const float *restrict p, size_t n, size_t d)
{
    size_t j = 0;
    for (; j + 4 <= n; j += 4) {
        const float *r0 = x + (at ? at[j] : j) * ldx, *r1 = x + (at ? at[j + 1] : j + 1) * ldx,
                    *r2 = x + (at ? at[j + 2] : j + 2) * ldx, *r3 = x + (at ? at[j + 3] : j + 3) * ldx;
        float p0 = p[j], p1 = p[j + 1], p2 = p[j + 2], p3 = p[j + 3];
#pragma omp simd
        for (size_t q = 0; q < d; q++)
            y[q] = (((y[q] + p0 * r0[q]) + p1 * r1[q]) + p2 * r2[q]) + p3 * r3[q];
    }
    for (; j < n; j++) {
        const float *row = x + (at ? at[j] : j) * ldx;
        float s = p[j];
#pragma omp simd
        for (size_t q = 0; q < d; q++) y[q] += s * row[q];
    }
}

static float dot(const float *a, const float *b, size_t d)
{
    float s = 0;
#pragma omp simd reduction(+ : s)
    for (size_t i = 0; i < d; i++) s += a[i] * b[i];
    return s;
}

/* Each sum waits for its own last term: of four at once, a processor computes four in the time of one. */
static void dots(float *y, const float *a, const float *x, size_t ldx, const uint32_t *at, size_t n,
                 size_t d)
{
    size_t j = 0;
    for (; j + 4 <= n; j += 4) {
        const float *r0 = x + (at ? at[j] : j) * ldx, *r1 = x + (at ? at[j + 1] : j + 1) * ldx,
                    *r2 = x + (at ? at[j + 2] : j + 2) * ldx, *r3 = x + (at ? at[j + 3] : j + 3) * ldx;
        float s0 = 0, s1 = 0, s2 = 0, s3 = 0;
#pragma omp simd reduction(+ : s0, s1, s2, s3)
        for (size_t i = 0; i < d; i++) {
            s0 += a[i] * r0[i];
            s1 += a[i] * r1[i];
            s2 += a[i] * r2[i];
            s3 += a[i] * r3[i];
        }
        y[j] = s0, y[j + 1] = s1, y[j + 2] = s2, y[j + 3] = s3;
    }
    for (; j < n; j++) y[j] = dot(a, x + (at ? at[j] : j) * ldx, d);
}

/* A product of two floats is exact in double, so that fusing it with the sum changes nothing; and the order of the
 * sums is spelled out. */
static double dot_wide(const float *a, const float *b, size_t d)
{
    double lanes[LANES] = {0}, s = 0;
    size_t whole = d / LANES * LANES;
    for (size_t i = 0; i < whole; i += LANES)
        for (size_t j = 0; j < LANES; j++) lanes[j] += (double)a[i + j] * (double)b[i + j];
    for (size_t i = whole; i < d; i++) lanes[i - whole] += (double)a[i] * (double)b[i];
    for (size_t j = 0; j < LANES; j++) s += lanes[j];
    return s;
}

/* The largest |x|. As integers: of floats, gcc makes a chain of branches. */
static float magnitude(const float *x, size_t n)
{
    uint32_t most = 0;
    float top;
#pragma omp simd reduction(max : most)
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, x + i, sizeof u);
        u &= 0x7fffffff;
        most = u > most ? u : most;
    }
    memcpy(&top, &most, sizeof top);
    return top;
}

/* Bounds are rounded up by more than f32 sums of d terms can lose. */
static void encode_row(uint8_t *code, float bound[3], const float *x, const float *mean, float *y, size_t d)
{
    float error = 0, square = 0, odd = 0;
    float loose = 1.0f + 1e-6f + (float)d * 0x1p-24f;
#pragma omp simd reduction(+ : odd)
    for (size_t i = 0; i < d; i++) {
        y[i] = x[i] - mean[i];
        odd += y[i] * 0.0f; /* NaN when any is not finite */
    }
    float most = magnitude(y, d);
    if (odd != 0.0f ||
        most < 1e-30f) { /* no number: always looked at; or nothing that 127 steps could tell apart */
        for (size_t i = 0; i < d; i++) code[i] = 128;
        bound[0] = bound[2] = 0;
        bound[1] = odd != 0.0f ? INFINITY : most * sqrtf((float)d) * loose;
        return;
    }
    float scale = most / 127.0f, inverse = 127.0f / most;
#pragma omp simd reduction(+ : error, square)
    for (size_t i = 0; i < d; i++) {
        float t = y[i] * inverse;
        int32_t c = (int32_t)(t + (t < 0 ? -0.5f : 0.5f));
        float f = (float)c, e = y[i] - scale * f;
        error += e * e;
        square += f * f;
        code[i] = (uint8_t)(c + 128);
    }
    bound[0] = scale;
    bound[2] = scale * sqrtf(square) * loose;
    bound[1] = sqrtf(error) * loose + 4e-7f * (bound[2] + sqrtf(error));
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

static inline float gelu_of(float x) { return 0.5f * x * (1.0f + erf_fast(x * 0.70710678118654752f)); }
static inline float quick_gelu_of(float x) { return x / (1.0f + exp_fast(-1.702f * x)); }
/* (1 + tanh(u)) / 2 is the sigmoid of 2u. */
static inline float gelu_tanh_of(float x)
{
    return x / (1.0f + exp_fast(-1.5957691216057308f * (x + 0.044715f * x * x * x)));
}

/* An activation, and the same of an int8 layer's sums. */
#define ACTIVATION(name)                                                                                   \
    static void name(float *y, const float *x, size_t n)                                                   \
    {                                                                                                      \
        PRAGMA_SIMD                                                                                        \
        for (size_t i = 0; i < n; i++) y[i] = name##_of(x[i]);                                             \
    }                                                                                                      \
    static void rescale_##name(float *y, const int32_t *sums, float row, const float *scales,              \
                               const float *bias, int add, size_t n)                                       \
    {                                                                                                      \
        (void)add;                                                                                         \
        PRAGMA_SIMD                                                                                        \
        for (size_t i = 0; i < n; i++) y[i] = name##_of((float)sums[i] * (row * scales[i]) + bias[i]);     \
    }
#define PRAGMA_SIMD _Pragma("omp simd")
ACTIVATION(gelu)
ACTIVATION(quick_gelu)
ACTIVATION(gelu_tanh)

static void gelu_backward(float *dx, const float *dy, const float *x, size_t n)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        float cdf = 0.5f * (1.0f + erf_fast(x[i] * 0.70710678118654752f));
        float pdf = 0.39894228040143268f * exp_fast(-0.5f * x[i] * x[i]);
        dx[i] = dy[i] * (cdf + x[i] * pdf);
    }
}

/* Of floats too: integers in the same order. */
static float largest(const float *x, size_t n)
{
    int32_t most = INT32_MIN;
    float top;
#pragma omp simd reduction(max : most)
    for (size_t i = 0; i < n; i++) {
        int32_t v;
        memcpy(&v, x + i, sizeof v);
        v ^= v >> 31 & 0x7fffffff;
        most = v > most ? v : most;
    }
    most ^= most >> 31 & 0x7fffffff;
    memcpy(&top, &most, sizeof top);
    return top;
}

static float softmax(float *x, size_t n, float *most)
{
    float top = largest(x, n), sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) {
        x[i] = exp_fast(x[i] - top);
        sum += x[i];
    }
    float inverse = 1.0f / sum;
    for (size_t i = 0; i < n; i++) x[i] *= inverse;
    if (most) *most = top;
    return inverse; /* exp(0) is 1 */
}

static void to_bf16(uint16_t *y, const float *x, size_t n)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, x + i, sizeof u);
        uint32_t rounded = (u + 0x7fff + (u >> 16 & 1)) >> 16, quiet = u >> 16 | 0x40;
        y[i] = (uint16_t)((u & 0x7fffffff) > 0x7f800000 ? quiet : rounded);
    }
}

static void from_bf16(float *y, const uint16_t *x, size_t n)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        uint32_t u = (uint32_t)x[i] << 16;
        memcpy(y + i, &u, sizeof u);
    }
}

/* Halves away from zero: adding and cutting, which is one instruction each. */
static int8_t to_code(float v) { return (int8_t)(int32_t)(v + (v < 0 ? -0.5f : 0.5f)); }

/* 127 / top; 0 where that may not be finite. */
static float codes_per_unit(float top) { return top > 1e-30f ? 127.0f / top : 0; }

static float quantize(int8_t *y, const float *x, size_t n)
{
    float top = magnitude(x, n), inverse = codes_per_unit(top);
    for (size_t i = 0; i < n; i++) y[i] = to_code(x[i] * inverse);
    return top / 127.0f;
}

static float quantize_bf16(int8_t *y, const uint16_t *x, size_t n)
{
    uint16_t most = 0;
    float top;
#pragma omp simd reduction(max : most)
    for (size_t i = 0; i < n; i++) {
        uint16_t u = x[i] & 0x7fff;
        most = u > most ? u : most;
    }
    from_bf16(&top, &most, 1);
    float inverse = codes_per_unit(top);
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        uint32_t u = (uint32_t)x[i] << 16;
        float v;
        memcpy(&v, &u, sizeof v);
        y[i] = to_code(v * inverse);
    }
    return top / 127.0f;
}

static void rescale(float *y, const int32_t *sums, float row, const float *scales, const float *bias,
                    int add, size_t n)
{
    if (add) {
#pragma omp simd
        for (size_t i = 0; i < n; i++) y[i] += (float)sums[i] * (row * scales[i]) + bias[i];
        return;
    }
#pragma omp simd
    for (size_t i = 0; i < n; i++) y[i] = (float)sums[i] * (row * scales[i]) + bias[i];
}

#define QUERIES 4

/* Scores of four queries against all keys go dimension by dimension over transposed keys: unit stride, no horizontal
 * sum, and what is loaded serves four queries. */
static void scores(float *restrict s, size_t lds, const float *const q[QUERIES], const float *restrict kt,
                   size_t ldk, size_t n, size_t w, float scale)
{
    float *restrict s0 = s, *restrict s1 = s + lds, *restrict s2 = s + 2 * lds, *restrict s3 = s + 3 * lds;
    for (size_t j = 0; j < n; j++) s0[j] = s1[j] = s2[j] = s3[j] = 0;
    size_t c = 0;
    for (; c + 4 <= w; c += 4) {
        const float *k = kt + c * ldk;
        float q0[4], q1[4], q2[4], q3[4];
        for (size_t i = 0; i < 4; i++) {
            q0[i] = q[0][c + i] * scale, q1[i] = q[1][c + i] * scale;
            q2[i] = q[2][c + i] * scale, q3[i] = q[3][c + i] * scale;
        }
#pragma omp simd
        for (size_t j = 0; j < n; j++) {
            float k0 = k[j], k1 = k[ldk + j], k2 = k[2 * ldk + j], k3 = k[3 * ldk + j];
            s0[j] += q0[0] * k0 + q0[1] * k1 + q0[2] * k2 + q0[3] * k3;
            s1[j] += q1[0] * k0 + q1[1] * k1 + q1[2] * k2 + q1[3] * k3;
            s2[j] += q2[0] * k0 + q2[1] * k1 + q2[2] * k2 + q2[3] * k3;
            s3[j] += q3[0] * k0 + q3[1] * k1 + q3[2] * k2 + q3[3] * k3;
        }
    }
    for (; c < w; c++)
        for (size_t j = 0; j < n; j++) {
            float k = kt[c * ldk + j] * scale;
            s0[j] += q[0][c] * k, s1[j] += q[1][c] * k, s2[j] += q[2][c] * k, s3[j] += q[3][c] * k;
        }
}

/* sums[4][w] of the values, weighted. */
static void mix(float *restrict o, const float *restrict s, size_t lds, const float *restrict v, size_t n,
                size_t w)
{
    float *restrict o0 = o, *restrict o1 = o + w, *restrict o2 = o + 2 * w, *restrict o3 = o + 3 * w;
    const float *s0 = s, *s1 = s + lds, *s2 = s + 2 * lds, *s3 = s + 3 * lds;
    for (size_t c = 0; c < w; c++) o0[c] = o1[c] = o2[c] = o3[c] = 0;
    size_t j = 0;
    for (; j + 4 <= n; j += 4) {
        const float *r = v + j * w;
#pragma omp simd
        for (size_t c = 0; c < w; c++) {
            float v0 = r[c], v1 = r[w + c], v2 = r[2 * w + c], v3 = r[3 * w + c];
            o0[c] += s0[j] * v0 + s0[j + 1] * v1 + s0[j + 2] * v2 + s0[j + 3] * v3;
            o1[c] += s1[j] * v0 + s1[j + 1] * v1 + s1[j + 2] * v2 + s1[j + 3] * v3;
            o2[c] += s2[j] * v0 + s2[j + 1] * v1 + s2[j + 2] * v2 + s2[j + 3] * v3;
            o3[c] += s3[j] * v0 + s3[j + 1] * v1 + s3[j + 2] * v2 + s3[j + 3] * v3;
        }
    }
    for (; j < n; j++)
        for (size_t c = 0; c < w; c++) {
            float r = v[j * w + c];
            o0[c] += s0[j] * r, o1[c] += s1[j] * r, o2[c] += s2[j] * r, o3[c] += s3[j] * r;
        }
}

static void attend_queries(float *out, size_t ldo, const float *q, size_t ldq, const float *kt, size_t ldk,
                           const float *v, size_t nq, size_t keys, size_t w, int causal, float *restrict s)
{
    float scale = 1.0f / sqrtf((float)w), *sums = s + QUERIES * ldk;
    for (size_t i = 0; i < nq; i += QUERIES) {
        /* The last four may be fewer: then some are done twice and written once. */
        size_t here = nq - i < QUERIES ? nq - i : QUERIES, n = causal ? i + here : keys;
        const float *rows[QUERIES];
        for (size_t r = 0; r < QUERIES; r++) rows[r] = q + (i + (r < here ? r : here - 1)) * ldq;
        scores(s, ldk, rows, kt, ldk, n, w, scale);
        for (size_t r = 0; r < QUERIES; r++) {
            size_t seen = causal && i + r + 1 < n ? i + r + 1 : n;
            softmax(s + r * ldk, seen, NULL);
            for (size_t j = seen; j < n; j++) s[r * ldk + j] = 0;
        }
        mix(sums, s, ldk, v, n, w);
        for (size_t r = 0; r < here; r++) memcpy(out + (i + r) * ldo, sums + r * w, w * sizeof(float));
    }
}

extern const reco_vec PASTE(reco_vec_, RECO_VEC);
const reco_vec PASTE(reco_vec_, RECO_VEC) = {
    .dot = dot,
    .dots = dots,
    .mix = weighted_sum,
    .dot_wide = dot_wide,
    .encode = encode_row,
    .layernorm = layernorm,
    .layernorm_backward = layernorm_backward,
    .gelu = gelu,
    .quick_gelu = quick_gelu,
    .gelu_tanh = gelu_tanh,
    .gelu_backward = gelu_backward,
    .softmax = softmax,
    .to_bf16 = to_bf16,
    .from_bf16 = from_bf16,
    .quantize = quantize,
    .quantize_bf16 = quantize_bf16,
    .rescale = {rescale, rescale_gelu, rescale_quick_gelu, rescale_gelu_tanh},
    .attend = attend_queries,
};
