#include "image/picture.h"

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

typedef uint8_t bytes4 __attribute__((vector_size(4)));
typedef int32_t ints4 __attribute__((vector_size(16)));

/* Three or four channels in one vector; of three, the fourth lane is the next pixel's first byte and ignored (buffers
 * have RECO_BUFFER_SPARE bytes past their end for the last one). */
INLINE void row8_vector(uint8_t *out, const uint8_t *in, const size_t channels, const reco_weights *w)
{
    for (size_t i = 0; i < w->n; i++, out += channels) {
        const uint8_t *p = in + (w->first[i] - w->first[0]) * channels;
        const int32_t *k = w->weight + i * w->taps;
        ints4 sum = {HALF, HALF, HALF, HALF};
        for (size_t t = 0; t < w->count[i]; t++, p += channels) {
            bytes4 pixel;
            memcpy(&pixel, p, 4);
            sum += __builtin_convertvector(pixel, ints4) * k[t];
        }
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
static AVX2 void row8_avx2(uint8_t *out, const uint8_t *in, size_t channels, const reco_weights *w)
{
    if (channels == 3)
        row8_vector(out, in, 3, w);
    else
        row8_vector(out, in, 4, w);
}

static AVX2 void columns8_avx2(uint8_t *out, const uint8_t *in, size_t stride, size_t row,
                               const reco_weights *w)
{
    columns8(out, in, stride, row, w);
}
#else
#define row8_avx2(out, in, channels, w) row8(out, in, channels, w)
#define columns8_avx2 columns8
#endif

void reco_resize_h8(uint8_t *out, const uint8_t *in, size_t stride, size_t rows, size_t channels,
                    const reco_weights *w)
{
    for (size_t y = 0; y < rows; y++, in += stride, out += w->n * channels) {
        if (w->avx2 && channels >= 3)
            row8_avx2(out, in, channels, w);
        else if (channels == 1)
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
