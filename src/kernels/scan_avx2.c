/* vpmaddubsw saturates at 32767, so query codes have 7 bits: 2 * 255 * 63 stays below. */
#include "kernels/scan_pairs.h"

#include <immintrin.h>

#define PANEL 4

static bool can_use_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

static void pack_avx2_panels(int8_t *to, const int8_t *codes, size_t n, size_t width)
{
    reco_scan_pack_panels(to, codes, n, width, PANEL);
}

static inline uint32_t test8(__m256i dot, __m256 scale, __m256 slack, __m256 rest, __m256 along, float gain,
                             float beyond, float ahead, float floor)
{
    __m256 score = _mm256_mul_ps(_mm256_cvtepi32_ps(dot), scale);
    score = _mm256_add_ps(score, _mm256_mul_ps(slack, _mm256_set1_ps(gain)));
    score = _mm256_add_ps(score, _mm256_mul_ps(rest, _mm256_set1_ps(beyond)));
    score = _mm256_add_ps(score, _mm256_mul_ps(along, _mm256_set1_ps(ahead)));
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(score, _mm256_set1_ps(floor), _CMP_GE_OQ));
}

/* One group against m queries, m a constant where this is inlined. Rows' bits into masks[]. */
static inline __attribute__((always_inline)) void group(uint32_t *masks, const reco_scan_queries *q,
                                                        const reco_scan_tile *t, size_t first, size_t g,
                                                        const size_t m)
{
    const int8_t *a = q->codes + first * q->width;
    const uint8_t *codes = t->codes[g];
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i sum[PANEL][2];
#pragma GCC unroll 4
    for (size_t i = 0; i < m; i++) sum[i][0] = sum[i][1] = _mm256_set1_epi32(q->start[first + i]);
    for (size_t j = 0; j < q->width / 4; j++, codes += 64, a += 4 * m) {
        __m256i lo = _mm256_loadu_si256((const __m256i *)(const void *)codes);
        __m256i hi = _mm256_loadu_si256((const __m256i *)(const void *)(codes + 32));
#pragma GCC unroll 4
        for (size_t i = 0; i < m; i++) {
            __m256i b = _mm256_set1_epi32(reco_scan_load32(a + 4 * i));
            sum[i][0] = _mm256_add_epi32(sum[i][0], _mm256_madd_epi16(_mm256_maddubs_epi16(lo, b), ones));
            sum[i][1] = _mm256_add_epi32(sum[i][1], _mm256_madd_epi16(_mm256_maddubs_epi16(hi, b), ones));
        }
    }
#pragma GCC unroll 4
    for (size_t i = 0; i < m; i++)
#pragma GCC unroll 2
        for (size_t h = 0; h < 2; h++) {
            size_t row = 16 * g + 8 * h;
            uint32_t bits =
                test8(sum[i][h], _mm256_loadu_ps(t->scale + row), _mm256_loadu_ps(t->slack + row),
                      _mm256_loadu_ps(t->rest + row), _mm256_loadu_ps(t->along + row), q->gain[first + i],
                      q->beyond[first + i], q->ahead[first + i], t->floor[first + i]);
            masks[i] |= bits << row;
        }
}

static size_t scan_avx2(reco_scan_hit *hits, const reco_scan_queries *q, const reco_scan_tile *t)
{
    size_t n = 0;
    for (size_t first = 0; first < q->n; first += PANEL) {
        uint32_t masks[PANEL] = {0};
        size_t m = reco_min(PANEL, q->n - first);
        for (size_t g = 0; g < 2; g++) {
            if (!(t->live >> 16 * g & 0xffff)) continue;
            if (m == 4)
                group(masks, q, t, first, g, 4);
            else if (m == 3)
                group(masks, q, t, first, g, 3);
            else if (m == 2)
                group(masks, q, t, first, g, 2);
            else
                group(masks, q, t, first, g, 1);
        }
        for (size_t i = 0; i < m; i++) {
            hits[n] = (reco_scan_hit){(uint32_t)(first + i), masks[i] & t->live};
            n += hits[n].rows != 0;
        }
    }
    return n;
}

static inline __m128i half(__m256i sum)
{
    return _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
}

/* Four queries at a time, so that their sums fold into one another. */
static size_t pairs(uint32_t *names, size_t n, const reco_scan_pairs *q, const uint8_t *codes,
                    const float bound[4])
{
    _Alignas(32) int16_t row[RECO_SCAN_PAIR_MOST];
    size_t kept = 0, width = q->width;
    for (size_t k = 0; k < width; k += 16) {
        __m256i wide = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(codes + k)));
        _mm256_store_si256((__m256i *)(void *)(row + k), _mm256_sub_epi16(wide, _mm256_set1_epi16(128)));
    }
    for (size_t i = 0; i < n; i += 4) {
        uint32_t at[4];
        for (size_t j = 0; j < 4; j++) at[j] = names[reco_min(i + j, n - 1)];
        const __m256i *a0 = (const __m256i *)(const void *)(q->codes + at[0] * width),
                      *a1 = (const __m256i *)(const void *)(q->codes + at[1] * width),
                      *a2 = (const __m256i *)(const void *)(q->codes + at[2] * width),
                      *a3 = (const __m256i *)(const void *)(q->codes + at[3] * width);
        __m256i s0 = _mm256_setzero_si256(), s1 = s0, s2 = s0, s3 = s0;
        for (size_t k = 0; k < width / 16; k++) {
            __m256i r = _mm256_load_si256((const __m256i *)(const void *)(row + 16 * k));
            s0 = _mm256_add_epi32(s0, _mm256_madd_epi16(r, _mm256_loadu_si256(a0 + k)));
            s1 = _mm256_add_epi32(s1, _mm256_madd_epi16(r, _mm256_loadu_si256(a1 + k)));
            s2 = _mm256_add_epi32(s2, _mm256_madd_epi16(r, _mm256_loadu_si256(a2 + k)));
            s3 = _mm256_add_epi32(s3, _mm256_madd_epi16(r, _mm256_loadu_si256(a3 + k)));
        }
        uint32_t bits = reco_scan_test4(
            _mm_hadd_epi32(_mm_hadd_epi32(half(s0), half(s1)), _mm_hadd_epi32(half(s2), half(s3))),
            q->queries, at, bound);
        if (n - i < 4) bits &= (1u << (n - i)) - 1;
        for (; bits; bits &= bits - 1) names[kept++] = at[__builtin_ctz(bits)];
    }
    return kept;
}

static float dot_f16(const float *q, const uint16_t *x, size_t d)
{
    __m256 sum[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
    size_t i = 0;
    for (; i + 32 <= d; i += 32)
#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++) {
            __m256 v = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(x + i + 8 * j)));
            sum[j] = _mm256_fmadd_ps(_mm256_loadu_ps(q + i + 8 * j), v, sum[j]);
        }
    float lanes[8], s = 0;
    _mm256_storeu_ps(lanes, _mm256_add_ps(_mm256_add_ps(sum[0], sum[1]), _mm256_add_ps(sum[2], sum[3])));
    for (size_t j = 0; j < 8; j++) s += lanes[j];
    for (; i < d; i++) s += q[i] * reco_f16_to_f32(x[i]);
    return s;
}

const reco_scan_kernel reco_scan_avx2 = {
    .name = "avx2",
    .isa = RECO_ISA_AVX2,
    .levels = 63,
    .usable = can_use_avx2,
    .saves = 0.011,
    .pack = pack_avx2_panels,
    .scan = scan_avx2,
    .pairs = pairs,
    .dot_f16 = dot_f16,
};
