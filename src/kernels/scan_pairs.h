/* kernels/scan_pairs.h: four queries' sums with a row against their floors. */
#ifndef RECO_SRC_KERNELS_SCAN_PAIRS_H
#define RECO_SRC_KERNELS_SCAN_PAIRS_H

#include "kernels/scan_internal.h"

#include <immintrin.h>

/* Bit j: the row may reach query at[j]. */
static inline uint32_t reco_scan_test4(__m128i dot, const reco_scan_pair_query *queries,
                                       const uint32_t at[4], const float bound[4])
{
    __m128 gain = _mm_loadu_ps(&queries[at[0]].gain), beyond = _mm_loadu_ps(&queries[at[1]].gain),
           ahead = _mm_loadu_ps(&queries[at[2]].gain), floor = _mm_loadu_ps(&queries[at[3]].gain);
    _MM_TRANSPOSE4_PS(gain, beyond, ahead, floor);
    __m128 score = _mm_mul_ps(_mm_cvtepi32_ps(dot), _mm_set1_ps(bound[0]));
    score = _mm_add_ps(score, _mm_mul_ps(_mm_set1_ps(bound[1]), gain));
    score = _mm_add_ps(score, _mm_mul_ps(_mm_set1_ps(bound[2]), beyond));
    score = _mm_add_ps(score, _mm_mul_ps(_mm_set1_ps(bound[3]), ahead));
    return (uint32_t)_mm_movemask_ps(_mm_cmpge_ps(score, floor));
}

#endif
