#include "emulated_tiles.h"
#include "kernels/kernels_internal.h"

#define reco_amx_rows reco_amx_rows_emulated
extern void reco_amx_rows_emulated(const reco_amx_product *p, size_t first, size_t n, size_t panel,
                                   size_t panels, uint16_t *scratch);
#include "../../../src/kernels/amx_bf16.c"
