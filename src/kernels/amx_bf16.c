/* Rows of bf16 by weights in tiles: 32 rows by 32 columns at a time, in four tiles of sums. */
#include "kernels/kernels_internal.h"

#include <immintrin.h>

#define BLOCK RECO_AMX_BLOCK
#define PANEL RECO_AMX_PANEL
#define ROWS RECO_AMX_ROWS
#define TILE ((size_t)16)

typedef struct config {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} config;

/* Tiles 0..3 sum, 4 and 5 are rows, 6 and 7 columns. Blocks of rows are `step` numbers apart, rows `stride` bytes. */
static void products(float sums[ROWS][PANEL], const uint16_t *a0, const uint16_t *a1, size_t step,
                     size_t stride, const uint16_t *b, size_t blocks)
{
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (size_t j = 0; j < blocks; j++, a0 += step, a1 += step, b += PANEL * BLOCK) {
        _tile_loadd(4, a0, (long)stride);
        _tile_loadd(6, b, BLOCK * sizeof *b);
        _tile_loadd(7, b + TILE * BLOCK, BLOCK * sizeof *b);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a1, (long)stride);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, sums[0], PANEL * sizeof(float));
    _tile_stored(1, sums[0] + TILE, PANEL * sizeof(float));
    _tile_stored(2, sums[TILE], PANEL * sizeof(float));
    _tile_stored(3, sums[TILE] + TILE, PANEL * sizeof(float));
}

/* The same of the first 16 rows alone. */
static void products_few(float sums[ROWS][PANEL], const uint16_t *a, size_t step, size_t stride,
                         const uint16_t *b, size_t blocks)
{
    _tile_zero(0);
    _tile_zero(1);
    for (size_t j = 0; j < blocks; j++, a += step, b += PANEL * BLOCK) {
        _tile_loadd(4, a, (long)stride);
        _tile_loadd(6, b, BLOCK * sizeof *b);
        _tile_loadd(7, b + TILE * BLOCK, BLOCK * sizeof *b);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
    }
    _tile_stored(0, sums[0], PANEL * sizeof(float));
    _tile_stored(1, sums[0] + TILE, PANEL * sizeof(float));
}

static void store_sums(const reco_amx_product *p, size_t at, __mmask16 there, __m512 v)
{
    if (p->yt == RECO_DTYPE_F32)
        _mm512_mask_storeu_ps((float *)p->y + at, there, v);
    else
        _mm256_mask_storeu_epi16((uint16_t *)p->y + at, there, (__m256i)_mm512_cvtneps_pbh(v));
}

static void finish_panel(const reco_amx_product *p, float sums[PANEL], size_t row, size_t column)
{
    size_t at = row * p->w->out + column;
    uint32_t width = (uint32_t)reco_min(PANEL, p->w->out - column),
             there = width == PANEL ? 0xffffffff : (1u << width) - 1;
    for (size_t i = 0; i < PANEL; i += TILE) {
        __mmask16 here = (__mmask16)(there >> i);
        __m512 v = _mm512_loadu_ps(sums + i);
        if (p->bias) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(here, p->bias + column + i));
        if (p->add) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(here, (const float *)p->y + at + i));
        if (p->act == RECO_ACT_NONE)
            store_sums(p, at + i, here, v);
        else
            _mm512_storeu_ps(sums + i, v);
    }
    if (p->act == RECO_ACT_NONE) return;
    reco_vec_activate(p->vec, sums, sums, PANEL, p->act);
    for (size_t i = 0; i < PANEL; i += TILE)
        store_sums(p, at + i, (__mmask16)(there >> i), _mm512_loadu_ps(sums + i));
}

/* Rows as tiles: block j of rows 16 i.. at (i * blocks + j) * 16 * BLOCK. */
static void pack_row_tiles(uint16_t *to, const uint16_t *x, size_t n, size_t in, size_t blocks)
{
    for (size_t i = 0; i < (n + TILE - 1) / TILE * TILE; i++)
        for (size_t j = 0; j < blocks; j++) {
            uint16_t *row = to + (i / TILE * blocks + j) * TILE * BLOCK + i % TILE * BLOCK;
            size_t here = i < n ? reco_min(BLOCK, in - j * BLOCK) : 0;
            __mmask32 there = (__mmask32)(here == BLOCK ? 0xffffffff : (1u << here) - 1);
            _mm512_storeu_si512(row, _mm512_maskz_loadu_epi16(there, x + i * in + j * BLOCK));
        }
}

void reco_amx_rows(const reco_amx_product *p, size_t first, size_t n, size_t panel, size_t panels,
                   uint16_t *scratch)
{
    const reco_amx_weight *w = p->w;
    config c = {.palette = 1};
    for (size_t i = 0; i < 8; i++) {
        c.bytes[i] = BLOCK * sizeof *p->x;
        c.rows[i] = TILE;
    }
    _tile_loadconfig(&c);
    _Alignas(64) float sums[ROWS][PANEL];
    bool direct = w->in % BLOCK == 0;
    size_t rest = direct ? n % ROWS : n; /* rows that are packed */
    const uint16_t *x = p->x + first * w->in;
    for (size_t i = n - rest; i < n; i += ROWS)
        pack_row_tiles(scratch + (i - (n - rest)) * w->blocks * BLOCK, x + i * w->in, reco_min(ROWS, n - i),
                       w->in, w->blocks);
    for (size_t q = panel; q < panel + panels; q++) {
        const uint16_t *b = w->data + q * w->blocks * PANEL * BLOCK;
        for (size_t i = 0; i < n; i += ROWS) {
            size_t here = reco_min(ROWS, n - i);
            bool packed = i >= n - rest;
            const uint16_t *a = packed ? scratch + (i - (n - rest)) * w->blocks * BLOCK : x + i * w->in;
            size_t step = packed ? TILE * BLOCK : BLOCK, stride = (packed ? BLOCK : w->in) * sizeof *a;
            if (here > TILE)
                products(sums, a, a + TILE * (packed ? w->blocks * BLOCK : w->in), step, stride, b,
                         w->blocks);
            else
                products_few(sums, a, step, stride, b, w->blocks);
            for (size_t r = 0; r < here; r++) finish_panel(p, sums[r], first + i + r, q * PANEL);
        }
    }
    _tile_release();
}
