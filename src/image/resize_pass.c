#include "image/picture.h"

static inline uint8_t clip8(int32_t sum)
{
    sum >>= RECO_WEIGHT_BITS;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

#define HALF (1 << (RECO_WEIGHT_BITS - 1))

/* Inlined for each channel count, so that the sums stay in registers. */
static inline __attribute__((always_inline)) void row8(uint8_t *out, const uint8_t *in,
                                                       const size_t channels, const reco_weights *w)
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

void reco_resize_h8(uint8_t *out, const uint8_t *in, size_t stride, size_t rows, size_t channels,
                    const reco_weights *w)
{
    for (size_t y = 0; y < rows; y++, in += stride, out += w->n * channels) switch (channels) {
        case 1:
            row8(out, in, 1, w);
            break;
        case 2:
            row8(out, in, 2, w);
            break;
        case 3:
            row8(out, in, 3, w);
            break;
        default:
            row8(out, in, 4, w);
            break;
        }
}

/* Blocks of columns, so that a block's sums stay in vector registers over all taps. */
void reco_resize_v8(uint8_t *out, const uint8_t *in, size_t stride, size_t row, const reco_weights *w)
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
