/* AMX: a tile holds 16 queries' or 16 rows' 64 bytes; one instruction multiplies two tiles into 16 x 16 sums of 32
 * bits. A group of rows is such a tile as it lies in the file. Two tiles of queries by two of rows make each load
 * serve twice. */
#include "kernels/kernels_internal.h"
#include "kernels/scan_avx512.h"

#define TILE 16
#define DIMS 64

/* Tiles of 16 queries by 64 dimensions, a query's bytes together: queries q..q+15, dimensions 64 j.. at byte
 * (q * width + 16 * 64 * j). */
static void pack_query_tiles(int8_t *to, const int8_t *codes, size_t n, size_t width)
{
    for (size_t q = 0; q < n; q += TILE)
        for (size_t j = 0; j < width; j += DIMS)
            for (size_t i = 0; i < TILE; i++) {
                int8_t *row = to + q * width + TILE * j + i * DIMS;
                if (q + i < n)
                    memcpy(row, codes + (q + i) * width + j, DIMS);
                else
                    memset(row, 0, DIMS);
            }
}

typedef struct config {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} config;

/* Sums of 2 x 16 queries and 2 x 16 rows: sums[i][g][query][row]. Tiles 0..3 sum, 4 and 5 are queries, 6 and 7 rows. */
static void product(int32_t sums[2][2][TILE][TILE], const int8_t *a0, const int8_t *a1, const uint8_t *b0,
                    const uint8_t *b1, size_t width)
{
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (size_t j = 0; j < width; j += DIMS) {
        _tile_loadd(4, a0 + TILE * j, DIMS);
        _tile_loadd(6, b0 + TILE * j, DIMS);
        _tile_loadd(7, b1 + TILE * j, DIMS);
        _tile_dpbsud(0, 4, 6);
        _tile_dpbsud(1, 4, 7);
        _tile_loadd(5, a1 + TILE * j, DIMS);
        _tile_dpbsud(2, 5, 6);
        _tile_dpbsud(3, 5, 7);
    }
    _tile_stored(0, sums[0][0], TILE * sizeof(int32_t));
    _tile_stored(1, sums[0][1], TILE * sizeof(int32_t));
    _tile_stored(2, sums[1][0], TILE * sizeof(int32_t));
    _tile_stored(3, sums[1][1], TILE * sizeof(int32_t));
}

static size_t scan_amx(reco_scan_hit *hits, const reco_scan_queries *q, const reco_scan_tile *t)
{
    config c = {.palette = 1};
    for (size_t i = 0; i < 8; i++) {
        c.bytes[i] = DIMS;
        c.rows[i] = TILE;
    }
    _tile_loadconfig(&c);
    _Alignas(64) int32_t sums[2][2][TILE][TILE];
    const __m512 scale0 = _mm512_loadu_ps(t->scale), scale1 = _mm512_loadu_ps(t->scale + 16);
    const __m512 slack0 = _mm512_loadu_ps(t->slack), slack1 = _mm512_loadu_ps(t->slack + 16);
    const __m512 rest0 = _mm512_loadu_ps(t->rest), rest1 = _mm512_loadu_ps(t->rest + 16);
    const __m512 along0 = _mm512_loadu_ps(t->along), along1 = _mm512_loadu_ps(t->along + 16);
    size_t n = 0;
    for (size_t first = 0; first < q->n; first += 2 * TILE) {
        const int8_t *a0 = q->codes + first * q->width;
        bool two = first + TILE < q->n; /* else the same queries twice, the second time unread */
        product(sums, a0, two ? a0 + TILE * q->width : a0, t->codes[0], t->codes[1], q->width);
        size_t m = reco_min(2 * TILE, q->n - first);
        for (size_t i = 0; i < m; i++) {
            size_t query = first + i;
            __m512i start = _mm512_set1_epi32(q->start[query]);
            __m512i dot0 = _mm512_add_epi32(_mm512_load_si512(sums[i / TILE][0][i % TILE]), start);
            __m512i dot1 = _mm512_add_epi32(_mm512_load_si512(sums[i / TILE][1][i % TILE]), start);
            float gain = q->gain[query], beyond = q->beyond[query], ahead = q->ahead[query],
                  floor = t->floor[query];
            uint32_t bits =
                reco_scan_test(dot0, scale0, slack0, rest0, along0, gain, beyond, ahead, floor) |
                reco_scan_test(dot1, scale1, slack1, rest1, along1, gain, beyond, ahead, floor) << 16;
            hits[n] = (reco_scan_hit){(uint32_t)query, bits & t->live};
            n += hits[n].rows != 0;
        }
    }
    _tile_release();
    return n;
}

const reco_scan_kernel reco_scan_amx = {
    .name = "amx-int8",
    .isa = RECO_ISA_AVX512,
    .levels = RECO_SCAN_MOST_LEVELS,
    .usable = reco_amx_has_int8,
    .saves = 0.0005,
    .pack = pack_query_tiles,
    .scan = scan_amx,
    .pairs = reco_scan_pairs_vnni,
    .dot_f16 = reco_scan_dot_f16,
};
