/* Some rows by a panel of columns, as one call of oneDNN's on one thread: how that adds up depends neither on the other rows, nor
 * on where among them a row lies, nor on the number of threads. oneDNN's kernels for AVX2 compute the last one to three rows of
 * a call in another order than the others: rows are given in sixes, the last of them filled up with zeros. With many rows at
 * once they also cut sums elsewhere. */
#include "kernels/kernels_internal.h"

#define SIX 6

size_t reco_tile_scratch(size_t in) { return SIX * (in + RECO_PANEL); }

bool reco_tile(float *y, size_t ldy, const float *x, size_t ldx, const float *panel, size_t m, size_t width,
               size_t in, float alpha, float beta, float *scratch)
{
    size_t whole = m / SIX * SIX, left = m - whole, ld = width + RECO_PANEL_SPARE;
    if (whole && !reco_dnnl_sgemm(y, ldy, x, ldx, false, panel, ld, false, whole, width, in, alpha, beta))
        return false;
    if (left == 0) return true;
    float *rows = scratch, *six = scratch + SIX * in;
    y += whole * ldy;
    x += whole * ldx;
    for (size_t i = 0; i < left; i++) memcpy(rows + i * in, x + i * ldx, in * sizeof *x);
    memset(rows + left * in, 0, (SIX - left) * in * sizeof *x);
    memset(six, 0, SIX * width * sizeof *six);
    for (size_t i = 0; i < left && beta != 0; i++)
        memcpy(six + i * width, y + i * ldy, width * sizeof *six);
    if (!reco_dnnl_sgemm(six, width, rows, in, false, panel, ld, false, SIX, width, in, alpha, beta))
        return false;
    for (size_t i = 0; i < left; i++) memcpy(y + i * ldy, six + i * width, width * sizeof *six);
    return true;
}
