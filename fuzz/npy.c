/* An array is refused, or its first and last rows read within bounds. */
#include "io_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    reco_ctx *ctx = fuzz_ctx();
    reco_npy npy;
    float x[1024];
    if (reco_npy_open(ctx, &npy, fuzz_file(".npy", data, bytes)) != RECO_OK) return 0;
    if (npy.rows && npy.cols <= 1024) {
        reco_npy_rows(ctx, &npy, 0, 1, x);
        reco_npy_rows(ctx, &npy, npy.rows - 1, 1, x);
    }
    reco_npy_close(&npy);
    return 0;
}
