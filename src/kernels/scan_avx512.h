/* kernels/scan_avx512.h: what the kernels that have AVX-512 share. */
#ifndef RECO_SRC_KERNELS_SCAN_AVX512_H
#define RECO_SRC_KERNELS_SCAN_AVX512_H

#include "kernels/scan_internal.h"

#include <immintrin.h>

/* Bit r: row r of 16 may reach the floor. */
static inline uint32_t reco_scan_test(__m512i dot, __m512 scale, __m512 slack, __m512 rest, __m512 along,
                                      float gain, float beyond, float ahead, float floor)
{
    __m512 score = _mm512_mul_ps(_mm512_cvtepi32_ps(dot), scale);
    score = _mm512_add_ps(score, _mm512_mul_ps(slack, _mm512_set1_ps(gain)));
    score = _mm512_add_ps(score, _mm512_mul_ps(rest, _mm512_set1_ps(beyond)));
    score = _mm512_add_ps(score, _mm512_mul_ps(along, _mm512_set1_ps(ahead)));
    return _mm512_cmp_ps_mask(score, _mm512_set1_ps(floor), _CMP_GE_OQ);
}

/* In the file that has VNNI. */
size_t reco_scan_pairs_vnni(uint32_t *names, size_t n, const reco_scan_pairs *q, const uint8_t *codes,
                            const float bound[4]);

static inline float reco_scan_dot_f16(const float *q, const uint16_t *x, size_t d)
{
    __m512 s0 = _mm512_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
    size_t i = 0;
    for (; i + 64 <= d; i += 64) {
        s0 = _mm512_fmadd_ps(_mm512_loadu_ps(q + i),
                             _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(x + i))), s0);
        s1 = _mm512_fmadd_ps(_mm512_loadu_ps(q + i + 16),
                             _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(x + i + 16))), s1);
        s2 = _mm512_fmadd_ps(_mm512_loadu_ps(q + i + 32),
                             _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(x + i + 32))), s2);
        s3 = _mm512_fmadd_ps(_mm512_loadu_ps(q + i + 48),
                             _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(x + i + 48))), s3);
    }
    for (; i < d; i += 16) {
        __mmask16 some = (__mmask16)(d - i < 16 ? (1u << (d - i)) - 1 : 0xffffu);
        __m512 v = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(some, x + i));
        s0 = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(some, q + i), v, s0);
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(s0, s1), _mm512_add_ps(s2, s3)));
}

#endif
