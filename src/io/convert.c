#include "io/internal.h"

#define PIECE ((size_t)2048)

/* Half floats are widened by base/ from aligned memory, so foreign offsets go through a buffer. */
static void from_f16(float *out, const uint8_t *data, size_t n)
{
    if ((uintptr_t)data % sizeof(uint16_t) == 0) {
        reco_f16_to_f32_n(out, (const uint16_t *)(const void *)data, n);
        return;
    }
    uint16_t piece[PIECE];
    for (size_t i = 0; i < n; i += PIECE) {
        size_t m = reco_min(PIECE, n - i);
        memcpy(piece, data + 2 * i, 2 * m);
        reco_f16_to_f32_n(out + i, piece, m);
    }
}

void reco_io_to_f32(float *out, reco_dtype dtype, const void *data, size_t n)
{
    const uint8_t *from = data;
    if (n == 0) return;
    if (dtype == RECO_DTYPE_F32)
        memcpy(out, from, n * sizeof *out);
    else if (dtype == RECO_DTYPE_F16)
        from_f16(out, from, n);
    else if (dtype == RECO_DTYPE_BF16)
        for (size_t i = 0; i < n; i++) {
            uint16_t h;
            memcpy(&h, from + i * sizeof h, sizeof h);
            out[i] = reco_bf16_to_f32(h);
        }
    else
        for (size_t i = 0; i < n; i++) {
            double x;
            memcpy(&x, from + i * sizeof x, sizeof x);
            out[i] = (float)x;
        }
}
