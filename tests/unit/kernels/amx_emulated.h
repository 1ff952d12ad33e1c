/* scan_amx.c and amx_bf16.c compiled with its tile instructions in C, so that the rest of them is tested where no CPU has them. */
#ifndef RECO_TEST_AMX_EMULATED_H
#define RECO_TEST_AMX_EMULATED_H

#include "kernels/kernels_internal.h"
#include "kernels/scan.h"

extern const reco_scan_kernel reco_scan_plain;
#define reco_scan_plain_twin reco_scan_plain
#ifdef RECO_AMX
extern const reco_scan_kernel reco_scan_amx_emulated;
void reco_amx_rows_emulated(const reco_amx_product *p, size_t first, size_t n, size_t panel, size_t panels,
                            uint16_t *scratch);
#endif

#endif
