#include "image/picture.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

static inline uint8_t clip8(int32_t sum)
{
    sum >>= RECO_WEIGHT_BITS;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

#define HALF (1 << (RECO_WEIGHT_BITS - 1))

#define INLINE static inline __attribute__((always_inline))

/* Inlined for each channel count, so that the sums stay in registers. */
INLINE void row8(uint8_t *out, const uint8_t *in, const size_t channels, const reco_weights *w)
{
    for (size_t i = 0; i < w->n; i++, out += channels) {
        const uint8_t *p = in + (w->first[i] - w->first[0]) * channels;
        const int32_t *k = w->weight + i * w->taps;
        int32_t sum[4] = {HALF, HALF, HALF, HALF};
        for (size_t t = 0; t < w->count[i]; t++, p += channels)
            for (size_t c = 0; c < channels; c++) sum[c] += p[c] * k[t];
        for (size_t c = 0; c < channels; c++) out[c] = clip8(sum[c]);
    }
}

/* Blocks of columns, so that a block's sums stay in vector registers over all taps. */
INLINE void columns8(uint8_t *out, const uint8_t *in, size_t stride, size_t row, const reco_weights *w)
{
    enum { BLOCK = 32 };
    for (size_t i = 0; i < w->n; i++, out += row) {
        const uint8_t *p = in + (w->first[i] - w->first[0]) * stride;
        const int32_t *k = w->weight + i * w->taps;
        size_t x = 0;
        for (; x + BLOCK <= row; x += BLOCK) {
            int32_t sum[BLOCK];
            for (size_t b = 0; b < BLOCK; b++) sum[b] = HALF;
            for (size_t t = 0; t < w->count[i]; t++)
                for (size_t b = 0; b < BLOCK; b++) sum[b] += p[t * stride + x + b] * k[t];
            for (size_t b = 0; b < BLOCK; b++) out[x + b] = clip8(sum[b]);
        }
        for (; x < row; x++) {
            int32_t sum = HALF;
            for (size_t t = 0; t < w->count[i]; t++) sum += p[t * stride + x] * k[t];
            out[x] = clip8(sum);
        }
    }
}

/* Plain x86-64 has no 32-bit vector product, so the loops are compiled a second time. */
#if defined(__x86_64__)
#define AVX2 __attribute__((target("avx2")))
#define AVX2_INLINE static inline __attribute__((always_inline, target("avx2")))

/* A pixel of three or four channels; of three, the fourth lane is the next pixel's first byte and ignored (buffers have
 * RECO_BUFFER_SPARE bytes past their end for the last one). */
AVX2_INLINE __m128i pixel(const uint8_t *p)
{
    int32_t bytes;
    memcpy(&bytes, p, sizeof bytes);
    return _mm_cvtepu8_epi32(_mm_cvtsi32_si128(bytes));
}

AVX2_INLINE void put(uint8_t *out, __m128i sum, size_t bytes)
{
    sum = _mm_srai_epi32(sum, RECO_WEIGHT_BITS);
    sum = _mm_packs_epi32(sum, sum);
    int32_t clipped = _mm_cvtsi128_si32(_mm_packus_epi16(sum, sum));
    memcpy(out, &clipped, bytes);
}

/* Several rows at a time share the weights and the end of the loop over them, which is hard to foresee. */
AVX2_INLINE void across_avx2(uint8_t *out, size_t row, const uint8_t *in, size_t stride, const size_t rows,
                             const size_t channels, const reco_weights *w)
{
    for (size_t i = 0; i < w->n; i++, out += channels) {
        const uint8_t *p = in + (w->first[i] - w->first[0]) * channels;
        const int32_t *k = w->weight + i * w->taps;
        __m128i sum[4];
        for (size_t r = 0; r < rows; r++) sum[r] = _mm_set1_epi32(HALF);
        for (size_t t = 0; t < w->count[i]; t++, p += channels)
            for (size_t r = 0; r < rows; r++)
                sum[r] =
                    _mm_add_epi32(sum[r], _mm_mullo_epi32(pixel(p + r * stride), _mm_set1_epi32(k[t])));
        /* The fourth byte is the next pixel's, which comes later; the last pixel has none. */
        size_t bytes = i + 1 < w->n ? 4 : channels;
        for (size_t r = 0; r < rows; r++) put(out + r * row, sum[r], bytes);
    }
}

static AVX2 void rows8_avx2(uint8_t *out, const uint8_t *in, size_t stride, size_t rows, size_t channels,
                            const reco_weights *w)
{
    size_t row = w->n * channels;
    for (; rows >= 4; rows -= 4, in += 4 * stride, out += 4 * row)
        if (channels == 3)
            across_avx2(out, row, in, stride, 4, 3, w);
        else
            across_avx2(out, row, in, stride, 4, 4, w);
    for (; rows; rows--, in += stride, out += row)
        if (channels == 3)
            across_avx2(out, row, in, stride, 1, 3, w);
        else
            across_avx2(out, row, in, stride, 1, 4, w);
}

static AVX2 void columns8_avx2(uint8_t *out, const uint8_t *in, size_t stride, size_t row,
                               const reco_weights *w)
{
    columns8(out, in, stride, row, w);
}
#else
#define columns8_avx2 columns8
#endif

void reco_resize_h8(uint8_t *out, const uint8_t *in, size_t stride, size_t rows, size_t channels,
                    const reco_weights *w)
{
#if defined(__x86_64__)
    if (w->avx2 && channels >= 3) {
        rows8_avx2(out, in, stride, rows, channels, w);
        return;
    }
#endif
    for (size_t y = 0; y < rows; y++, in += stride, out += w->n * channels) {
        if (channels == 1)
            row8(out, in, 1, w);
        else if (channels == 2)
            row8(out, in, 2, w);
        else if (channels == 3)
            row8(out, in, 3, w);
        else
            row8(out, in, 4, w);
    }
}

void reco_resize_v8(uint8_t *out, const uint8_t *in, size_t stride, size_t row, const reco_weights *w)
{
    if (w->avx2)
        columns8_avx2(out, in, stride, row, w);
    else
        columns8(out, in, stride, row, w);
}

static inline uint16_t clip16(double sum)
{
    int v = (int)(sum >= 0.0 ? sum + 0.5 : sum - 0.5);
    return (uint16_t)(v < 0 ? 0 : v > 65535 ? 65535 : v);
}

void reco_resize_h16(uint16_t *out, const uint16_t *in, size_t stride, size_t rows, const reco_weights *w)
{
    for (size_t y = 0; y < rows; y++, in += stride / 2)
        for (size_t i = 0; i < w->n; i++) {
            double sum = 0.0;
            for (size_t t = 0; t < w->count[i]; t++)
                sum += in[w->first[i] - w->first[0] + t] * w->exact[i * w->taps + t];
            *out++ = clip16(sum);
        }
}

void reco_resize_v16(uint16_t *out, const uint16_t *in, size_t stride, size_t row, const reco_weights *w)
{
    for (size_t i = 0; i < w->n; i++)
        for (size_t x = 0; x < row / 2; x++) {
            const uint16_t *p = in + (w->first[i] - w->first[0]) * (stride / 2) + x;
            double sum = 0.0;
            for (size_t t = 0; t < w->count[i]; t++) sum += p[t * (stride / 2)] * w->exact[i * w->taps + t];
            *out++ = clip16(sum);
        }
}
