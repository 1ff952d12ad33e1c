/* vpdpbusd: four products of a byte of a row and one of a query, summed into 32 bits, for 16 rows at once. 32 rows and
 * 12 queries fill the registers: 24 sums, two vectors of rows, a query. The rows of a tile stay in L1 while the
 * queries pass by, which come from L2. */
#include "kernels/scan_avx512.h"

#define PANEL 12

static bool usable(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}

static void pack(int8_t *to, const int8_t *codes, size_t n, size_t width)
{
    reco_scan_pack_panels(to, codes, n, width, PANEL);
}

/* m is a constant where this is inlined. */
static inline __attribute__((always_inline)) size_t panel(reco_scan_hit *hits, const reco_scan_queries *q,
                                                          const reco_scan_tile *t, size_t first,
                                                          const size_t m)
{
    const int8_t *a = q->codes + first * q->width;
    const uint8_t *rows0 = t->codes[0], *rows1 = t->codes[1];
    __m512i sum[2][PANEL];
#pragma GCC unroll 12
    for (size_t i = 0; i < m; i++) sum[0][i] = sum[1][i] = _mm512_set1_epi32(q->start[first + i]);
    for (size_t j = q->width / 4; j > 0; j--, rows0 += 64, rows1 += 64, a += 4 * m) {
        __m512i r0 = _mm512_loadu_si512(rows0), r1 = _mm512_loadu_si512(rows1);
#pragma GCC unroll 12
        for (size_t i = 0; i < m; i++) {
            __m512i b = _mm512_set1_epi32(reco_scan_load32(a + 4 * i));
            sum[0][i] = _mm512_dpbusd_epi32(sum[0][i], r0, b);
            sum[1][i] = _mm512_dpbusd_epi32(sum[1][i], r1, b);
        }
    }
    __m512 scale0 = _mm512_loadu_ps(t->scale), scale1 = _mm512_loadu_ps(t->scale + 16);
    __m512 slack0 = _mm512_loadu_ps(t->slack), slack1 = _mm512_loadu_ps(t->slack + 16);
    size_t n = 0;
#pragma GCC unroll 12
    for (size_t i = 0; i < m; i++) {
        uint32_t bits = reco_scan_test(sum[0][i], scale0, slack0, q->gain[first + i], t->floor[first + i]) |
                        reco_scan_test(sum[1][i], scale1, slack1, q->gain[first + i], t->floor[first + i])
                            << 16;
        hits[n] = (reco_scan_hit){(uint32_t)(first + i), bits & t->live};
        n += hits[n].rows != 0;
    }
    return n;
}

static size_t rest(reco_scan_hit *hits, const reco_scan_queries *q, const reco_scan_tile *t, size_t first)
{
    switch (q->n - first) {
#define CASE(m)                                                                                            \
    case m:                                                                                                \
        return panel(hits, q, t, first, m)
        CASE(1);
        CASE(2);
        CASE(3);
        CASE(4);
        CASE(5);
        CASE(6);
        CASE(7);
        CASE(8);
        CASE(9);
        CASE(10);
        CASE(11);
    default:
        return 0;
    }
}

static size_t scan(reco_scan_hit *hits, const reco_scan_queries *q, const reco_scan_tile *t)
{
    size_t n = 0, first = 0;
    for (; first + PANEL <= q->n; first += PANEL) n += panel(hits + n, q, t, first, PANEL);
    return n + rest(hits + n, q, t, first);
}

const reco_scan_kernel reco_scan_vnni = {
    .name = "avx512-vnni",
    .isa = RECO_ISA_AVX512,
    .levels = RECO_SCAN_MOST_LEVELS,
    .usable = usable,
    .pack = pack,
    .scan = scan,
    .dot_f16 = reco_scan_dot_f16,
};
