#include "kernels/kernels_internal.h"

#define COLUMNS 64 /* of one thread */
#define ROWS 128   /* long sums in pieces, so that they round less */

typedef struct args {
    float *sums;
    const float *x;
    size_t m, n;
} args;

static void sum_columns(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const args *a = arg;
    for (size_t i = 0; i < a->m; i += ROWS) {
        float piece[COLUMNS] = {0};
        for (size_t r = i; r < reco_min(a->m, i + ROWS); r++) {
            const float *row = a->x + r * a->n;
            for (size_t q = begin; q < end; q++) piece[q - begin] += row[q];
        }
        for (size_t q = begin; q < end; q++) a->sums[q] += piece[q - begin];
    }
}

void reco_column_sums(reco_ctx *ctx, float *sums, const float *x, size_t m, size_t n)
{
    reco_parallel(ctx, n, COLUMNS, sum_columns, &(args){sums, x, m, n});
}
