#include "kernels/kernels.h"

/* Insertion, not a heap: k is small and nearly every offer fails the first comparison. Equal scores rank by id, a total
 * order, so the order of scanning cannot change the result. */
void reco_topk_offer(float *score, int64_t *id, size_t *count, size_t k, float s, int64_t i)
{
    size_t n = *count;
    if (n == k) {
        if (!(s > score[k - 1] || (s == score[k - 1] && i < id[k - 1]))) return;
        n--;
    } else {
        *count = n + 1;
    }
    while (n > 0 && (s > score[n - 1] || (s == score[n - 1] && i < id[n - 1]))) {
        score[n] = score[n - 1];
        id[n] = id[n - 1];
        n--;
    }
    score[n] = s;
    id[n] = i;
}
