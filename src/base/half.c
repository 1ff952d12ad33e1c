#include "base/base.h"

static uint32_t bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* The exponent is rebased by a multiplication, which also normalises subnormals. */
float reco_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = (uint32_t)(h & 0x7fff) << 13;
    float f = from_bits(rest) * 0x1p112f;
    if ((h & 0x7c00) == 0x7c00) f = from_bits(rest | 0x7f800000u);
    return from_bits(bits(f) | sign);
}

uint16_t reco_f32_to_f16(float f)
{
    uint32_t u = bits(f), sign = u >> 16 & 0x8000, rest = u & 0x7fffffff;
    if (rest > 0x7f800000u) return (uint16_t)(sign | 0x7e00);
    if (rest >= 0x477ff000u) return (uint16_t)(sign | 0x7c00); /* rounds to infinity */
    if (rest < 0x38800000u)                                    /* subnormal: let the FPU round at 2^-24 */
        return (uint16_t)(sign | (bits(from_bits(rest) + 0.5f) - bits(0.5f)));
    return (uint16_t)(sign | ((rest - 0x38000000u + 0xfff + (rest >> 13 & 1)) >> 13));
}

uint16_t reco_f32_to_bf16(float f)
{
    uint32_t u = bits(f);
    if ((u & 0x7fffffff) > 0x7f800000u) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
__attribute__((target("f16c,avx"))) static void to_f32_f16c(float *out, const uint16_t *in, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(out + i,
                         _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(in + i))));
    for (; i < n; i++) out[i] = reco_f16_to_f32(in[i]);
}
__attribute__((target("f16c,avx"))) static void to_f16_f16c(uint16_t *out, const float *in, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(void *)(out + i), _mm256_cvtps_ph(_mm256_loadu_ps(in + i), 0));
    for (; i < n; i++) out[i] = reco_f32_to_f16(in[i]);
}
#endif

/* Exact in both forms, so it needs no cap for tests. */
void reco_f16_to_f32_n(float *out, const uint16_t *in, size_t n)
{
#if defined(__x86_64__) && defined(__GNUC__)
    if (__builtin_cpu_supports("avx2")) {
        to_f32_f16c(out, in, n);
        return;
    }
#endif
    for (size_t i = 0; i < n; i++) out[i] = reco_f16_to_f32(in[i]);
}

void reco_f32_to_f16_n(uint16_t *out, const float *in, size_t n)
{
#if defined(__x86_64__) && defined(__GNUC__)
    if (__builtin_cpu_supports("avx2")) {
        to_f16_f16c(out, in, n);
        return;
    }
#endif
    for (size_t i = 0; i < n; i++) out[i] = reco_f32_to_f16(in[i]);
}

size_t reco_dtype_size(reco_dtype dtype)
{
    static const size_t sizes[] = {4, 2, 2, 8, 4, 1, 8};
    return sizes[dtype];
}

const char *reco_dtype_name(reco_dtype dtype)
{
    static const char *const names[] = {"F32", "F16", "BF16", "I64", "I32", "U8", "F64"};
    return names[dtype];
}
