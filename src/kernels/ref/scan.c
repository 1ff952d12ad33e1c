#include "kernels/scan_internal.h"

static bool usable(void) { return true; }

static void pack(int8_t *to, const int8_t *codes, size_t n, size_t width) { memcpy(to, codes, n * width); }

static size_t scan(reco_scan_hit *hits, const reco_scan_queries *q, const reco_scan_tile *t)
{
    size_t n = 0;
    for (size_t i = 0; i < q->n; i++) {
        const int8_t *a = q->codes + i * q->width;
        uint32_t rows = 0;
        for (size_t g = 0; g < 2; g++) {
            int32_t dot[RECO_SCAN_GROUP];
            for (size_t r = 0; r < RECO_SCAN_GROUP; r++) dot[r] = q->start[i];
            for (size_t j = 0; j < q->width; j += 4)
                for (size_t r = 0; r < RECO_SCAN_GROUP; r++) {
                    const uint8_t *c = t->codes[g] + j * RECO_SCAN_GROUP + 4 * r;
                    dot[r] += c[0] * a[j] + c[1] * a[j + 1] + c[2] * a[j + 2] + c[3] * a[j + 3];
                }
            for (size_t r = 0; r < RECO_SCAN_GROUP; r++) {
                float score = (float)dot[r] * t->scale[16 * g + r],
                      slack = t->slack[16 * g + r] * q->gain[i];
                rows |= (uint32_t)(score + slack >= t->floor[i]) << (16 * g + r);
            }
        }
        hits[n] = (reco_scan_hit){(uint32_t)i, rows & t->live};
        n += hits[n].rows != 0;
    }
    return n;
}

static float dot_f16(const float *q, const uint16_t *x, size_t d)
{
    float s = 0;
    for (size_t i = 0; i < d; i++) s += q[i] * reco_f16_to_f32(x[i]);
    return s;
}

const reco_scan_kernel reco_scan_plain = {
    .name = "plain",
    .isa = RECO_ISA_PLAIN,
    .levels = RECO_SCAN_MOST_LEVELS,
    .usable = usable,
    .pack = pack,
    .scan = scan,
    .dot_f16 = dot_f16,
};
