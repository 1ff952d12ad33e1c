/* kernels/scan_internal.h: the kernels of scan.h, one file each, compiled for their instruction set. */
#ifndef RECO_SRC_KERNELS_SCAN_INTERNAL_H
#define RECO_SRC_KERNELS_SCAN_INTERNAL_H

#include "kernels/scan.h"

extern const reco_scan_kernel reco_scan_plain;
#ifdef RECO_VEC_X86
extern const reco_scan_kernel reco_scan_avx2;
#endif
#ifdef RECO_SCAN_VNNI
extern const reco_scan_kernel reco_scan_vnni;
#endif
#ifdef RECO_AMX
extern const reco_scan_kernel reco_scan_amx;
#endif

/* Panels of `most` queries, the last of what is left: panel p at byte p * most * width, [width/4][queries][4]. */
static inline void reco_scan_pack_panels(int8_t *to, const int8_t *codes, size_t n, size_t width,
                                         size_t most)
{
    for (size_t q = 0; q < n; q += most) {
        size_t m = reco_min(most, n - q);
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < width / 4; j++)
                memcpy(to + q * width + (j * m + i) * 4, codes + (q + i) * width + 4 * j, 4);
    }
}

static inline int32_t reco_scan_load32(const int8_t *p)
{
    int32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

#endif
