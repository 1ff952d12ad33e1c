#include "emulated_tiles.h"
#include "kernels/kernels_internal.h"

static bool usable(void) { return true; }
#define reco_scan_amx reco_scan_amx_emulated
#define reco_amx_has_int8 usable
#include "../../../src/kernels/scan_amx.c"
