/* Kinds of rows that a search must get right. */
#ifndef RECO_BANK_KINDS_H
#define RECO_BANK_KINDS_H

#include "bank_test.h"

typedef enum kind { RANDOM, ONE_ROW, TEN_ROWS, NARROW_CONE, NEAR_TIES, CONSTANT, SPECTRUM, KINDS } kind;

/* Rows that make a careless search wrong: copies, and scores that differ by less than f32 sums can tell. */
static inline void make_row(float *x, size_t d, kind k, size_t i, reco_rng *rng)
{
    reco_rng fixed;
    reco_rng_seed(&fixed, k == TEN_ROWS ? i % 10 : 0);
    if (k == RANDOM) {
        random_unit(x, d, rng);
        return;
    }
    if (k == CONSTANT) { /* one value, one sign flipped */
        for (size_t j = 0; j < d; j++) x[j] = (float)((j == i % d ? -1 : 1) / sqrt((double)d));
        return;
    }
    if (k == SPECTRUM) { /* near a mean, most of the variance along few axes */
        double sum = 0;
        for (size_t j = 0; j < d; j++) {
            x[j] = (float)(reco_rng_normal(rng) / (1 + (double)j / 4) + (j % 3 ? 0 : 0.5));
            sum += (double)x[j] * (double)x[j];
        }
        for (size_t j = 0; j < d; j++) x[j] = (float)(x[j] / sqrt(sum));
        return;
    }
    random_unit(x, d, &fixed);
    if (k == NARROW_CONE || k == NEAR_TIES) {
        double sum = 0, width = k == NARROW_CONE ? 1e-2 : 1e-3;
        for (size_t j = 0; j < d; j++) {
            x[j] += (float)(width * reco_rng_normal(rng) / sqrt((double)d));
            sum += (double)x[j] * (double)x[j];
        }
        for (size_t j = 0; j < d; j++) x[j] = (float)(x[j] / sqrt(sum));
    }
}

#endif
