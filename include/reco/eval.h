/* reco/eval.h: how good are embeddings: zero-shot accuracy, recall at K. Takes floats. */
#ifndef RECO_EVAL_H
#define RECO_EVAL_H

#include "reco/base.h"
#include "reco/fusion.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Fractions, 0..1; NaN of no pictures. */
typedef struct reco_class_scores {
    size_t n;              /* pictures counted */
    double acc1, acc5;     /* the label is first, is among the first five */
    double mean_per_class; /* mean over classes that have pictures of their accuracy */
    double calibration;    /* expected calibration error, in 15 bins of equal width; NaN where there are no
                              probabilities */
} reco_class_scores;

/* Predict for each picture the class of greatest cosine.
 *   top      [n][5] class indexes, best first, -1 past the number of classes; may be NULL
 *   images   [n][d], classes [c][d] unit rows
 *   labels   [n], below c
 * Equal cosines rank by smaller index. RECO_E_ARG for a label out of range. */
RECO_API reco_status reco_eval_classes(reco_ctx *ctx, reco_class_scores *scores, int64_t *top,
                                       const float *images, size_t n, const float *classes, size_t c,
                                       size_t d, const uint32_t *labels);

/* What a mixture reads: images [n][d] and classes [c][d], unit rows, plain and refined. */
typedef struct reco_readout_rows {
    const float *plain_images, *plain_classes, *refined_images, *refined_classes;
    size_t n, c, d;
} reco_readout_rows;

/* Predict for each picture the class of the greatest probability (reco_mixture_posterior). votes may be NULL; the rest is as
 * for reco_eval_classes. Memory: 16 MiB times 4, or rows of c. */
RECO_API reco_status reco_eval_mixture(reco_ctx *ctx, reco_class_scores *scores, int64_t *top,
                                       const reco_mixture *mixture, const reco_readout_rows *rows,
                                       const reco_votes *votes, const uint32_t *labels);

/* Image-text retrieval among n pairs: the share of a's rows whose own row of b is among the K nearest.
 *   recall   [nks], one for each of ks
 *   a, b     [n][d] unit rows */
RECO_API reco_status reco_eval_recall(reco_ctx *ctx, double *recall, const float *a, const float *b,
                                      size_t n, size_t d, const size_t *ks, size_t nks);

#ifdef __cplusplus
}
#endif
#endif
