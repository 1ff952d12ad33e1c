/* Tile instructions in C, as Intel's manual has them (TDPBSUD: signed bytes of the first, unsigned of the second; TDPBF16PS:
 * sums of the even and of the odd numbers, then both). */
#ifndef RECO_TEST_EMULATED_TILES_H
#define RECO_TEST_EMULATED_TILES_H

#include "base/base.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static struct {
    uint16_t bytes;
    uint8_t rows;
    uint8_t data[16][64];
} tiles[8];

static void emulated_load_config(const void *config)
{
    const uint8_t *c = config;
    for (int i = 0; i < 8; i++) {
        memcpy(&tiles[i].bytes, c + 16 + 2 * i, 2);
        tiles[i].rows = c[48 + i];
        memset(tiles[i].data, 0, sizeof tiles[i].data);
    }
}

static void emulated_load(int t, const void *base, long stride)
{
    for (int r = 0; r < tiles[t].rows; r++)
        memcpy(tiles[t].data[r], (const char *)base + r * stride, tiles[t].bytes);
}

static void emulated_store(int t, void *base, long stride)
{
    for (int r = 0; r < tiles[t].rows; r++)
        memcpy((char *)base + r * stride, tiles[t].data[r], tiles[t].bytes);
}

static inline void emulated_dpbsud(int c, int a, int b)
{
    for (int m = 0; m < tiles[c].rows; m++)
        for (int k = 0; k < tiles[a].bytes / 4; k++)
            for (int n = 0; n < tiles[c].bytes / 4; n++) {
                int32_t sum;
                memcpy(&sum, tiles[c].data[m] + 4 * n, 4);
                for (int i = 0; i < 4; i++)
                    sum += (int8_t)tiles[a].data[m][4 * k + i] * (int32_t)tiles[b].data[k][4 * n + i];
                memcpy(tiles[c].data[m] + 4 * n, &sum, 4);
            }
}

static inline float emulated_number(const uint8_t *at)
{
    uint16_t half;
    memcpy(&half, at, 2);
    return reco_bf16_to_f32(half);
}

static inline void emulated_dpbf16ps(int c, int a, int b)
{
    for (int m = 0; m < tiles[c].rows; m++)
        for (int n = 0; n < tiles[c].bytes / 4; n++) {
            float sums[2] = {0}, sum;
            for (int k = 0; k < tiles[a].bytes / 4; k++)
                for (int i = 0; i < 2; i++)
                    sums[i] += emulated_number(tiles[a].data[m] + 4 * k + 2 * i) *
                               emulated_number(tiles[b].data[k] + 4 * n + 2 * i);
            memcpy(&sum, tiles[c].data[m] + 4 * n, 4);
            sum += sums[0] + sums[1];
            memcpy(tiles[c].data[m] + 4 * n, &sum, 4);
        }
}

#include <immintrin.h>
#undef _tile_loadconfig
#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbsud
#undef _tile_dpbf16ps
#undef _tile_release
#define _tile_loadconfig(c) emulated_load_config(c)
#define _tile_loadd(t, base, stride) emulated_load(t, base, stride)
#define _tile_stored(t, base, stride) emulated_store(t, base, stride)
#define _tile_zero(t) memset(tiles[t].data, 0, sizeof tiles[t].data)
#define _tile_dpbsud(c, a, b) emulated_dpbsud(c, a, b)
#define _tile_dpbf16ps(c, a, b) emulated_dpbf16ps(c, a, b)
#define _tile_release() ((void)0)

#endif
