/* Linked in the place of reco_cpu_isa: $RECO_MAX_ISA makes the processor of a test smaller, as it does the command line's. */
#include "base/context.h"

#include <stdlib.h>

reco_isa __real_reco_cpu_isa(void);
reco_isa __wrap_reco_cpu_isa(void);

reco_isa __wrap_reco_cpu_isa(void)
{
    static const char *const names[] = {
        [RECO_ISA_PLAIN] = "plain", [RECO_ISA_AVX2] = "avx2", [RECO_ISA_AVX512] = "avx512"};
    const char *cap = getenv("RECO_MAX_ISA");
    reco_isa isa = __real_reco_cpu_isa();
    for (int i = RECO_ISA_PLAIN; cap && i < (int)isa; i++)
        if (strcmp(cap, names[i]) == 0) return (reco_isa)i;
    return isa;
}
