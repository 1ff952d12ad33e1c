/* In a file of its own, so that tests can be linked with a processor that has fewer instruction sets. */
#include "base/context.h"

reco_isa reco_cpu_isa(void)
{
#if defined(__x86_64__) && defined(__GNUC__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return RECO_ISA_AVX512;
    /* Every CPU with AVX2 and FMA also converts half floats (F16C). */
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return RECO_ISA_AVX2;
#endif
    return RECO_ISA_PLAIN;
}
