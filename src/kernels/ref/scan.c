#include "kernels/scan_internal.h"

static bool is_always_usable(void) { return true; }

static void copy_codes(int8_t *to, const int8_t *codes, size_t n, size_t width)
{
    memcpy(to, codes, n * width);
}

static size_t scan_ref(reco_scan_hit *hits, const reco_scan_queries *q, const reco_scan_tile *t)
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
                      slack = t->slack[16 * g + r] * q->gain[i], rest = t->rest[16 * g + r] * q->beyond[i],
                      along = t->along[16 * g + r] * q->ahead[i];
                rows |= (uint32_t)(score + slack + rest + along >= t->floor[i]) << (16 * g + r);
            }
        }
        hits[n] = (reco_scan_hit){(uint32_t)i, rows & t->live};
        n += hits[n].rows != 0;
    }
    return n;
}

static size_t pairs(uint32_t *names, size_t n, const reco_scan_pairs *q, const uint8_t *codes,
                    const float bound[4])
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        const reco_scan_pair_query *query = &q->queries[names[i]];
        const int16_t *a = q->codes + names[i] * q->width;
        int32_t dot = 0;
        for (size_t j = 0; j < q->width; j++) dot += (codes[j] - 128) * a[j];
        float score = (float)dot * bound[0], slack = bound[1] * query->gain,
              rest = bound[2] * query->beyond, along = bound[3] * query->ahead;
        names[kept] = names[i];
        kept += score + slack + rest + along >= query->floor;
    }
    return kept;
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
    .usable = is_always_usable,
    .saves = 0.3,
    .pack = copy_codes,
    .scan = scan_ref,
    .pairs = pairs,
    .dot_f16 = dot_f16,
};
