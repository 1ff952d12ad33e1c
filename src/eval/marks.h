/* eval/marks.h: counting predictions as they arrive. */
#ifndef RECO_SRC_EVAL_MARKS_H
#define RECO_SRC_EVAL_MARKS_H

#include "base/base.h"
#include "reco/eval.h"

enum { RECO_TOP = 5, RECO_BINS = 15 };

typedef struct reco_marks {
    const uint32_t *labels; /* [n] */
    int64_t *top;           /* [n][RECO_TOP] the caller's or scratch */
    uint32_t *hits, *seen;  /* [c] pictures of a class that were named right, and all */
    size_t n, c, first, five;
    double sure[RECO_BINS]; /* sum of the probabilities of what was said */
    size_t right[RECO_BINS];
    bool probable; /* there are probabilities */
} reco_marks;

/* Scratch of ctx until the caller releases it. top NULL: nobody wants it. RECO_E_ARG for a label that is not below c. */
reco_status reco_marks_begin(reco_ctx *ctx, reco_marks *m, int64_t *top, const uint32_t *labels, size_t n,
                             size_t c);
/* The classes of the five greatest of p [c] become top of picture i; equal ones rank by smaller index. */
void reco_marks_rank(reco_marks *m, size_t i, const float *p);
/* Count a picture of which this top was said. sure: the probability of the first, or NaN. */
void reco_marks_count(reco_marks *m, const int64_t *top, uint32_t label, float sure);
/* The same of picture i, whose top is there. */
static inline void reco_marks_add(reco_marks *m, size_t i, float sure)
{
    reco_marks_count(m, m->top + i * RECO_TOP, m->labels[i], sure);
}
void reco_marks_end(const reco_marks *m, reco_class_scores *scores);

#endif
