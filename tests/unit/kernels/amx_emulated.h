/* scan_amx.c compiled with its tile instructions in C, so that the rest of it is tested where no CPU has them. */
#ifndef RECO_TEST_AMX_EMULATED_H
#define RECO_TEST_AMX_EMULATED_H

#include "kernels/scan.h"

extern const reco_scan_kernel reco_scan_plain;
#define reco_scan_plain_twin reco_scan_plain
#ifdef RECO_SCAN_AMX
extern const reco_scan_kernel reco_scan_amx_emulated;
#endif

#endif
