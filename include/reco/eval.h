/* reco/eval.h: evaluation of embeddings: zero-shot accuracy, recall@K, baselines and confidence intervals. */
#ifndef RECO_EVAL_H
#define RECO_EVAL_H

#include "reco/base.h"
#include "reco/fusion.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Fractions, 0..1; NaN if there are no pictures. */
typedef struct reco_class_scores {
    size_t n;              /* pictures counted */
    double acc1, acc5;     /* the label is first, is among the first five */
    double mean_per_class; /* mean accuracy of the classes that have pictures */
    double calibration;    /* expected calibration error, in 15 bins of equal width; NaN where there are no
                              probabilities */
    uint64_t reserved[RECO_RESERVED];
} reco_class_scores;

/* Score predictions.
 *   top     [n][5] predicted classes of each picture, best first; -1: none
 *   sure    [n][5] probabilities, of which only the first is used; NULL: none
 *   labels  [n], below c
 *   which   [m] the pictures to count; NULL: the first m
 * RECO_E_ARG for a label out of range. */
RECO_API reco_status reco_eval_count(reco_ctx *ctx, reco_class_scores *scores, const int64_t *top,
                                     const float *sure, const uint32_t *labels, const size_t *which,
                                     size_t m, size_t c);

/* ---- baselines: a memory without refinement ---- */

/* The k-nearest-neighbour vote: predict for each picture the class with the greatest share of its
 * neighbours; ties go to the class of the nearest neighbour. With scale 0 every neighbour has one vote (Fix
 * and Hodges 1951, Cover and Hart 1967); else neighbour i has exp(scale s_i), as in Wu et al. (arXiv
 * 1805.01978) and DINO (arXiv 2104.14294, scale 1/0.07).
 *   votes   the neighbours; those without a class don't vote
 *   top     [n][5] as above, may be NULL; -1 past the classes that any neighbour has
 *   labels  [n], below c
 * A picture none of whose neighbours has a class gets no prediction and counts as wrong. Calibration is
 * computed from the shares. RECO_E_ARG as for the votes of reco_mixture_posterior, or if scale is below 0. */
RECO_API reco_status reco_eval_knn(reco_ctx *ctx, reco_class_scores *scores, int64_t *top, float scale,
                                   const reco_votes *votes, size_t n, size_t c, const uint32_t *labels);

/* Tip-Adapter's cache without training (Zhang et al., arXiv 2207.09519):
 *     logit_c = scale v.t_c + alpha sum over rows i of class c of exp(-beta (1 - v.V_i)) */
typedef struct reco_tip {
    float scale, alpha, beta; /* scale: CLIP's own; alpha, beta 0 or more */
} reco_tip;

/* The rows of the memory that form the cache.
 *   images  [m][d] unit rows
 *   of      [m] the class of each; RECO_NO_CANDIDATE: the row is ignored */
typedef struct reco_tip_cache {
    const float *images;
    const uint32_t *of;
    size_t m;
    uint64_t reserved[RECO_RESERVED];
} reco_tip_cache;

/* Pictures to predict the classes of. */
typedef struct reco_tip_pictures {
    const float *images;    /* [n][d] unit rows */
    const uint32_t *labels; /* [n], below c */
    size_t n;
    const float *classes; /* [c][d] unit rows */
    size_t c, d;
    uint64_t reserved[RECO_RESERVED];
} reco_tip_pictures;

/* Predict for each picture the class with the greatest logit; top as above. Calibration is computed
 * from the softmax of the logits. Costs n m d multiply-adds; memory 32 MiB, or two rows of c. */
RECO_API reco_status reco_eval_tip(reco_ctx *ctx, reco_class_scores *scores, int64_t *top,
                                   const reco_tip *tip, const reco_tip_cache *cache,
                                   const reco_tip_pictures *pictures);

/* Choose alpha and beta from a small grid by accuracy; ties go to the least alpha, then the least beta. The
 * grid includes alpha 0, which is CLIP.
 *   tip       scale is read, alpha and beta are written
 *   pictures  images NULL (n and labels are ignored): at most 2,048 rows of the cache that have a class,
 *             each compared with the cache without itself and its near-duplicates
 * RECO_E_ARG if there are no pictures to choose by. */
RECO_API reco_status reco_eval_tip_choose(reco_ctx *ctx, reco_tip *tip, const reco_tip_cache *cache,
                                          const reco_tip_pictures *pictures);

/* Image-text retrieval among n pairs: the share of a's rows whose own row of b is among the K nearest.
 *   recall   [nks], one for each of ks
 *   a, b     [n][d] unit rows */
RECO_API reco_status reco_eval_recall(reco_ctx *ctx, double *recall, const float *a, const float *b,
                                      size_t n, size_t d, const size_t *ks, size_t nks);

/* ---- retrieval with several captions per picture ---- */

enum { RECO_RECALLS = 3 };
#define RECO_RECALL_DEPTHS                                                                                 \
    {                                                                                                      \
        1, 5, 10                                                                                           \
    }
#define RECO_NO_RANK UINT32_MAX

/* Recall by reco_side of the queries: pictures retrieve captions, and captions retrieve pictures. NaN
 * without queries. */
typedef struct reco_retrieval_scores {
    size_t images, captions;
    double recall[2][RECO_RECALLS]; /* the share of queries with a right answer among the first 1, 5, 10 */
    uint64_t reserved[RECO_RESERVED];
} reco_retrieval_scores;

/* Unit rows to compare, and the same rows before refinement, which a mixture needs (else NULL). */
typedef struct reco_retrieval_rows {
    const float *images, *captions; /* [nimages][d], [ncaptions][d] */
    const float *plain_images, *plain_captions;
    const uint32_t *of; /* [ncaptions] the picture of each caption, below nimages */
    size_t nimages, ncaptions, d;
    uint64_t reserved[RECO_RESERVED];
} reco_retrieval_rows;

/* Rank all captions for each picture, and all pictures for each caption. Any caption of a picture is a
 * right answer for it; the picture is the right answer for each of its captions.
 *   ranks    by reco_side of the query: [nimages], [ncaptions] number of wrong answers before the first
 *            right one; ties (cosines within 1e-6) are ordered by index. RECO_NO_RANK: a picture without a
 *            caption, which is not counted. Either, or ranks itself, may be NULL
 *   mixture  rank by its probabilities; NULL: by cosines
 *   votes    of the pictures, for captions; may be NULL
 * Memory: 16 MiB, with a mixture times 4, or rows of the candidates. RECO_E_ARG for a picture index out of
 * range. */
RECO_API reco_status reco_eval_retrieval(reco_ctx *ctx, reco_retrieval_scores *scores,
                                         uint32_t *const ranks[2], const reco_retrieval_rows *rows,
                                         const reco_mixture *mixture, const reco_votes *votes);

/* ---- confidence intervals ---- */

typedef struct reco_interval {
    double mean, low, high;
} reco_interval;

/* The mean of a - b over n items, and its 95 % interval: percentiles of 1,000 resamples of the items
 * (paired bootstrap).
 *   a, b  [n], of the same items: 1 if the first or second method is right, else 0. b NULL: zeros
 * The same seed gives the same results with any number of threads. n = 0: all three are NaN. */
RECO_API reco_status reco_eval_interval(reco_ctx *ctx, reco_interval *out, const float *a, const float *b,
                                        size_t n, uint64_t seed);

#ifdef __cplusplus
}
#endif
#endif
