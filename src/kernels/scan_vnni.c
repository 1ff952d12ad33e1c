/* vpdpbusd: four products of a byte of a row and one of a query, summed into 32 bits, for 16 rows at once. 32 rows and
 * 12 queries fill the registers: 24 sums, two vectors of rows, a query. The rows of a tile stay in L1 while the
 * queries pass by, which come from L2. */
#include "kernels/scan_avx512.h"
#include "kernels/scan_pairs.h"

#define PANEL 12

static bool can_use_vnni(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}

static void pack_vnni_panels(int8_t *to, const int8_t *codes, size_t n, size_t width)
{
    reco_scan_pack_panels(to, codes, n, width, PANEL);
}

/* Named sums, so that every compiler keeps them in registers. */
#define R1(X) X(0)
#define R2(X) R1(X) X(1)
#define R3(X) R2(X) X(2)
#define R4(X) R3(X) X(3)
#define R5(X) R4(X) X(4)
#define R6(X) R5(X) X(5)
#define R7(X) R6(X) X(6)
#define R8(X) R7(X) X(7)
#define R9(X) R8(X) X(8)
#define R10(X) R9(X) X(9)
#define R11(X) R10(X) X(10)
#define R12(X) R11(X) X(11)

/* In place: gcc 12 gives each intrinsic's result a register of its own and then runs out of them. */
static inline __m512i dpbusd(__m512i sum, __m512i rows, __m512i query)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(rows), "v"(query));
    return sum;
}

#define INIT(i) __m512i low##i = _mm512_set1_epi32(q->start[first + i]), high##i = low##i;
#define STEP(i)                                                                                            \
    b = _mm512_set1_epi32(reco_scan_load32(a + 4 * i));                                                    \
    low##i = dpbusd(low##i, r0, b);                                                                        \
    high##i = dpbusd(high##i, r1, b);
#define TEST(i)                                                                                            \
    bits = reco_scan_test(low##i, scale0, slack0, rest0, along0, q->gain[first + i], q->beyond[first + i], \
                          q->ahead[first + i], t->floor[first + i]) |                                      \
           reco_scan_test(high##i, scale1, slack1, rest1, along1, q->gain[first + i],                      \
                          q->beyond[first + i], q->ahead[first + i], t->floor[first + i])                  \
               << 16;                                                                                      \
    hits[n] = (reco_scan_hit){(uint32_t)(first + i), bits & t->live};                                      \
    n += hits[n].rows != 0;

#define DEFINE_PANEL(m)                                                                                    \
    static size_t panel##m(reco_scan_hit *hits, const reco_scan_queries *q, const reco_scan_tile *t,       \
                           size_t first)                                                                   \
    {                                                                                                      \
        const int8_t *a = q->codes + first * q->width;                                                     \
        const uint8_t *rows0 = t->codes[0], *rows1 = t->codes[1];                                          \
        __m512i b;                                                                                         \
        R##m(INIT) for (size_t j = q->width / 4; j > 0; j--, rows0 += 64, rows1 += 64, a += 4 * m)         \
        {                                                                                                  \
            __m512i r0 = _mm512_loadu_si512(rows0), r1 = _mm512_loadu_si512(rows1);                        \
            R##m(STEP)                                                                                     \
        }                                                                                                  \
        __m512 scale0 = _mm512_loadu_ps(t->scale), scale1 = _mm512_loadu_ps(t->scale + 16);                \
        __m512 slack0 = _mm512_loadu_ps(t->slack), slack1 = _mm512_loadu_ps(t->slack + 16);                \
        __m512 rest0 = _mm512_loadu_ps(t->rest), rest1 = _mm512_loadu_ps(t->rest + 16);                    \
        __m512 along0 = _mm512_loadu_ps(t->along), along1 = _mm512_loadu_ps(t->along + 16);                \
        size_t n = 0;                                                                                      \
        uint32_t bits;                                                                                     \
        R##m(TEST) return n;                                                                               \
    }
DEFINE_PANEL(1)
DEFINE_PANEL(2)
DEFINE_PANEL(3)
DEFINE_PANEL(4)
DEFINE_PANEL(5)
DEFINE_PANEL(6)
DEFINE_PANEL(7)
DEFINE_PANEL(8)
DEFINE_PANEL(9)
DEFINE_PANEL(10)
DEFINE_PANEL(11)
DEFINE_PANEL(12)

static size_t scan_vnni(reco_scan_hit *hits, const reco_scan_queries *q, const reco_scan_tile *t)
{
    typedef size_t (*panel_fn)(reco_scan_hit *, const reco_scan_queries *, const reco_scan_tile *, size_t);
    static const panel_fn panels[PANEL] = {NULL,   panel1, panel2, panel3, panel4,  panel5,
                                           panel6, panel7, panel8, panel9, panel10, panel11};
    size_t n = 0, first = 0;
    for (; first + PANEL <= q->n; first += PANEL) n += panel12(hits + n, q, t, first);
    if (first < q->n) n += panels[q->n - first](hits + n, q, t, first);
    return n;
}

static inline __m128i quarter(__m512i sum)
{
    __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64(sum, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

/* Four queries at a time, so that their sums fold into one another. */
size_t reco_scan_pairs_vnni(uint32_t *names, size_t n, const reco_scan_pairs *q, const uint8_t *codes,
                            const float bound[4])
{
    _Alignas(64) int16_t row[RECO_SCAN_PAIR_MOST];
    size_t kept = 0, width = q->width;
    for (size_t k = 0; k < width; k += 32) {
        __m512i wide = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)(codes + k)));
        _mm512_store_si512(row + k, _mm512_sub_epi16(wide, _mm512_set1_epi16(128)));
    }
    for (size_t i = 0; i < n; i += 4) {
        uint32_t at[4];
        for (size_t j = 0; j < 4; j++) at[j] = names[reco_min(i + j, n - 1)];
        const int16_t *a0 = q->codes + at[0] * width, *a1 = q->codes + at[1] * width,
                      *a2 = q->codes + at[2] * width, *a3 = q->codes + at[3] * width;
        __m512i s0 = _mm512_setzero_si512(), s1 = s0, s2 = s0, s3 = s0;
        for (size_t k = 0; k < width; k += 32) {
            __m512i r = _mm512_load_si512(row + k);
            s0 = _mm512_dpwssd_epi32(s0, r, _mm512_loadu_si512(a0 + k));
            s1 = _mm512_dpwssd_epi32(s1, r, _mm512_loadu_si512(a1 + k));
            s2 = _mm512_dpwssd_epi32(s2, r, _mm512_loadu_si512(a2 + k));
            s3 = _mm512_dpwssd_epi32(s3, r, _mm512_loadu_si512(a3 + k));
        }
        uint32_t bits = reco_scan_test4(_mm_hadd_epi32(_mm_hadd_epi32(quarter(s0), quarter(s1)),
                                                       _mm_hadd_epi32(quarter(s2), quarter(s3))),
                                        q->queries, at, bound);
        if (n - i < 4) bits &= (1u << (n - i)) - 1;
        for (; bits; bits &= bits - 1) names[kept++] = at[__builtin_ctz(bits)];
    }
    return kept;
}

const reco_scan_kernel reco_scan_vnni = {
    .name = "avx512-vnni",
    .isa = RECO_ISA_AVX512,
    .levels = RECO_SCAN_MOST_LEVELS,
    .usable = can_use_vnni,
    .saves = 0.004,
    .pack = pack_vnni_panels,
    .scan = scan_vnni,
    .pairs = reco_scan_pairs_vnni,
    .dot_f16 = reco_scan_dot_f16,
};
