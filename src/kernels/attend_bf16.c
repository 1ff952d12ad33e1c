/* Attention of one head over rows of bf16, with AVX512-BF16: products of pairs, summed in f32. Weights are rounded to bf16
 * before they are multiplied with the values, as in PyTorch. */
#include "kernels/kernels_internal.h"

#include <immintrin.h>
#include <math.h>

#define QUERIES ((size_t)4) /* what is loaded of keys and values serves four queries */
#define LANES ((size_t)16)
#define BLOCKS ((size_t)2) /* of lanes: eight sums in flight hide the latency of a product */
#define INLINE static inline __attribute__((always_inline))

/* sums[q] = the pairs a[q][n], each times its row of b [n][ld]; that many blocks of columns. */
INLINE void products(__m512 sums[QUERIES][BLOCKS], const uint16_t *const a[QUERIES], const uint32_t *b,
                     size_t ld, size_t n, const size_t blocks)
{
    for (size_t q = 0; q < QUERIES; q++)
        for (size_t c = 0; c < blocks; c++) sums[q][c] = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i++, b += ld) {
        __m512i row[BLOCKS];
        for (size_t c = 0; c < blocks; c++) row[c] = _mm512_loadu_si512(b + c * LANES);
        for (size_t q = 0; q < QUERIES; q++) {
            int32_t pair;
            memcpy(&pair, a[q] + 2 * i, sizeof pair);
            __m512i both = _mm512_set1_epi32(pair);
            for (size_t c = 0; c < blocks; c++)
                sums[q][c] = _mm512_dpbf16_ps(sums[q][c], (__m512bh)both, (__m512bh)row[c]);
        }
    }
}

INLINE void scores(float *s, size_t ld, const uint16_t *const q[QUERIES], const uint32_t *keys, size_t at,
                   size_t w, float scale)
{
    __m512 sums[QUERIES][BLOCKS];
    products(sums, q, keys + at, ld, w / 2, BLOCKS);
    for (size_t r = 0; r < QUERIES; r++)
        for (size_t c = 0; c < BLOCKS; c++)
            _mm512_storeu_ps(s + r * ld + at + c * LANES, _mm512_mul_ps(sums[r][c], _mm512_set1_ps(scale)));
}

INLINE void mix(uint16_t *out, size_t ldo, size_t here, const uint16_t *const p[QUERIES],
                const uint32_t *values, size_t at, size_t pairs, size_t w, const size_t blocks)
{
    __m512 sums[QUERIES][BLOCKS];
    products(sums, p, values + at, w, pairs, blocks);
    for (size_t r = 0; r < here; r++)
        for (size_t c = 0; c < blocks; c++)
            _mm256_storeu_si256((__m256i *)(void *)(out + r * ldo + at + c * LANES),
                                (__m256i)_mm512_cvtneps_pbh(sums[r][c]));
}

/* A square of pairs, of which `rows` and `columns` are there; the other rows are zeros, the other columns not written. */
static void transpose_pairs(uint32_t *to, size_t ld, const uint16_t *from, size_t row, size_t rows,
                            size_t columns)
{
    __mmask16 there = (__mmask16)((1u << reco_min(columns, LANES)) - 1);
    __m512i a[LANES], b[LANES];
    for (size_t i = 0; i < LANES; i++)
        a[i] = i < rows ? _mm512_maskz_loadu_epi32(there, from + i * row) : _mm512_setzero_si512();
    for (size_t i = 0; i < LANES; i += 2) {
        b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
    }
    for (size_t i = 0; i < LANES; i += 4) /* a[i + c]: columns c, 4 + c, 8 + c and 12 + c of four rows */
        for (size_t c = 0; c < 4; c++)
            a[i + c] = c % 2 ? _mm512_unpackhi_epi64(b[i + c / 2], b[i + c / 2 + 2])
                             : _mm512_unpacklo_epi64(b[i + c / 2], b[i + c / 2 + 2]);
    for (size_t c = 0; c < 4; c++) {
        __m512i even0 = _mm512_shuffle_i32x4(a[c], a[4 + c], 0x88),
                even1 = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0x88),
                odd0 = _mm512_shuffle_i32x4(a[c], a[4 + c], 0xdd),
                odd1 = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0xdd);
        b[c] = _mm512_shuffle_i32x4(even0, even1, 0x88);
        b[4 + c] = _mm512_shuffle_i32x4(odd0, odd1, 0x88);
        b[8 + c] = _mm512_shuffle_i32x4(even0, even1, 0xdd);
        b[12 + c] = _mm512_shuffle_i32x4(odd0, odd1, 0xdd);
    }
    for (size_t c = 0; c < reco_min(columns, LANES); c++) _mm512_storeu_si512(to + c * ld, b[c]);
}

/* keys [w / 2][ld]: pair c of each key; values [ld / 2][w]: column c of two of them. */
static void pack_keys_values(uint32_t *keys, uint32_t *values, const uint16_t *k, const uint16_t *v,
                             size_t row, size_t t, size_t w, size_t ld)
{
    for (size_t j = 0; j < ld; j += LANES)
        for (size_t c = 0; c < w / 2; c += LANES)
            transpose_pairs(keys + c * ld + j, ld, k + (j < t ? j : 0) * row + 2 * c, row,
                            j < t ? t - j : 0, w / 2 - c);
    for (size_t j = 0; j < t; j += 2) {
        const uint16_t *one = v + j * row, *two = j + 1 < t ? one + row : NULL;
        for (size_t c = 0; c < w; c++) values[j / 2 * w + c] = one[c] | (two ? (uint32_t)two[c] << 16 : 0);
    }
}

void reco_attend_bf16(const reco_vec *vec, uint16_t *out, size_t ldo, const uint16_t *q, const uint16_t *k,
                      const uint16_t *v, size_t row, size_t t, size_t w, bool causal, float *scratch)
{
    size_t ld = reco_attend_bf16_ld(t);
    float scale = 1.0f / sqrtf((float)w), *s = scratch;
    uint32_t *keys = (uint32_t *)(void *)(s + QUERIES * ld), *values = keys + w / 2 * ld;
    uint16_t *p = (uint16_t *)(values + ld / 2 * w);
    pack_keys_values(keys, values, k, v, row, t, w, ld);
    for (size_t i = 0; i < t; i += QUERIES) {
        /* The last four may be fewer: then some are done twice and written once. */
        size_t here = reco_min(t - i, QUERIES), n = causal ? i + here : t, at = 0;
        const uint16_t *rows[QUERIES], *weights[QUERIES];
        for (size_t r = 0; r < QUERIES; r++) {
            rows[r] = q + (i + reco_min(r, here - 1)) * row;
            weights[r] = p + r * ld;
        }
        for (; at < n; at += BLOCKS * LANES) scores(s, ld, rows, keys, at, w, scale);
        for (size_t r = 0; r < QUERIES; r++) {
            float *one = s + r * ld;
            size_t seen = causal ? reco_min(i + r + 1, n) : n;
            vec->softmax(one, seen, NULL);
            memset(one + seen, 0, (ld - seen) * sizeof *one);
            for (size_t j = 0; j < n; j += LANES)
                _mm256_storeu_si256((__m256i *)(void *)(p + r * ld + j),
                                    (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(one + j)));
        }
        uint16_t *to = out + i * ldo;
        for (at = 0; at + BLOCKS * LANES <= w; at += BLOCKS * LANES)
            mix(to, ldo, here, weights, values, at, (n + 1) / 2, w, BLOCKS);
        if (at < w) mix(to, ldo, here, weights, values, at, (n + 1) / 2, w, 1);
    }
}
