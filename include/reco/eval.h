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

/* Count predictions.
 *   top     [n][5] what was said of each picture, best first, -1: nothing
 *   sure    [n][5] probabilities, of which the first counts; NULL: there are none
 *   labels  [n], below c
 *   which   [m] the pictures that are counted; NULL: the first m
 * RECO_E_ARG for a label out of range. */
RECO_API reco_status reco_eval_count(reco_ctx *ctx, reco_class_scores *scores, const int64_t *top,
                                     const float *sure, const uint32_t *labels, const size_t *which,
                                     size_t m, size_t c);

/* ---- baselines: what a memory gives without refining anything ---- */

/* The label vote of k nearest neighbours: predict for each picture the class that has the greatest share of them; of equal
 * shares the one whose neighbour is nearest. With scale 0 every neighbour has one vote (Fix and Hodges 1951, Cover and Hart
 * 1967); else neighbour i has exp(scale s_i), as Wu et al. (arXiv 1805.01978) and DINO (arXiv 2104.14294, scale 1/0.07) have it.
 *   votes   the neighbours, those of no class too: they have no say
 *   top     [n][5] as above, may be NULL; -1 past the classes that any neighbour has
 *   labels  [n], below c
 * Of a picture that no neighbour has a class for nothing is said, which is wrong. Calibration is that of the shares.
 * RECO_E_ARG as reco_mixture_posterior of votes, or scale is not 0 or more. */
RECO_API reco_status reco_eval_knn(reco_ctx *ctx, reco_class_scores *scores, int64_t *top, float scale,
                                   const reco_votes *votes, size_t n, size_t c, const uint32_t *labels);

/* Tip-Adapter's cache without training (Zhang et al., arXiv 2207.09519):
 *     logit_c = scale v.t_c + alpha sum over rows i of class c of exp(-beta (1 - v.V_i)) */
typedef struct reco_tip {
    float scale, alpha, beta; /* scale: CLIP's own; alpha, beta 0 or more */
} reco_tip;

/* The rows of the memory that are its cache.
 *   images  [m][d] unit rows
 *   of      [m] the class of each, or RECO_NO_CANDIDATE: it has no say */
typedef struct reco_tip_cache {
    const float *images;
    const uint32_t *of;
    size_t m;
} reco_tip_cache;

/* Predict for each picture the class of the greatest logit; the rest is as above, and calibration that of softmax of
 * the logits. Costs n m d multiply-adds; memory 32 MiB, or two rows of c. */
RECO_API reco_status reco_eval_tip(reco_ctx *ctx, reco_class_scores *scores, int64_t *top,
                                   const reco_tip *tip, const reco_tip_cache *cache, const float *images,
                                   size_t n, const float *classes, size_t c, size_t d,
                                   const uint32_t *labels);

/* The alpha and beta of a small grid that name most pictures right; of equals the least alpha, then the least beta. alpha 0,
 * which is CLIP, is one of them.
 *   tip     scale is read, alpha and beta are written
 *   images  [n][d] pictures to choose by, with labels; NULL (n, labels not looked at): the rows of the cache that have a class, each
 *           without itself and its near-duplicates, of which at most 2,048 are asked
 * RECO_E_ARG where there is nothing to choose by. */
RECO_API reco_status reco_eval_tip_choose(reco_ctx *ctx, reco_tip *tip, const reco_tip_cache *cache,
                                          const float *images, size_t n, const float *classes, size_t c,
                                          size_t d, const uint32_t *labels);

/* Image-text retrieval among n pairs: the share of a's rows whose own row of b is among the K nearest.
 *   recall   [nks], one for each of ks
 *   a, b     [n][d] unit rows */
RECO_API reco_status reco_eval_recall(reco_ctx *ctx, double *recall, const float *a, const float *b,
                                      size_t n, size_t d, const size_t *ks, size_t nks);

/* ---- retrieval with several captions a picture ---- */

enum { RECO_RECALLS = 3 };
#define RECO_RECALL_DEPTHS                                                                                 \
    {                                                                                                      \
        1, 5, 10                                                                                           \
    }
#define RECO_NO_RANK UINT32_MAX

/* Recall by reco_side of the queries: pictures ask for captions, captions for pictures. NaN where nothing was asked. */
typedef struct reco_retrieval_scores {
    size_t images, captions;
    double recall[2][RECO_RECALLS]; /* the share of queries with a right answer among the first 1, 5, 10 */
} reco_retrieval_scores;

/* Unit rows: what is compared, and the same before it was refined, which a mixture needs (else NULL). */
typedef struct reco_retrieval_rows {
    const float *images, *captions; /* [nimages][d], [ncaptions][d] */
    const float *plain_images, *plain_captions;
    const uint32_t *of; /* [ncaptions] the picture of each caption, below nimages */
    size_t nimages, ncaptions, d;
} reco_retrieval_rows;

/* Rank all captions for each picture, and all pictures for each caption. A picture finds what it should when one of its captions
 * comes, a caption when its picture does.
 *   ranks    by reco_side of the query: [nimages], [ncaptions] wrong answers before the first right one; equal ones order by
 *            index, cosines within 1e-6 being equal. RECO_NO_RANK: a picture without a caption, which is not counted. Either, or
 *            ranks itself, may be NULL
 *   mixture  scores are its probabilities; NULL: cosines
 *   votes    of the pictures, for captions; may be NULL
 * Memory: 16 MiB, with a mixture times 4, or rows of the candidates. RECO_E_ARG for a picture that is none. */
RECO_API reco_status reco_eval_retrieval(reco_ctx *ctx, reco_retrieval_scores *scores,
                                         uint32_t *const ranks[2], const reco_retrieval_rows *rows,
                                         const reco_mixture *mixture, const reco_votes *votes);

/* ---- how sure is a difference ---- */

typedef struct reco_interval {
    double mean, low, high;
} reco_interval;

/* The mean of a - b over n items, and its 95 % interval: percentiles of 1,000 resamples of the items (paired bootstrap).
 *   a, b  [n], of the same items: 1 where the one, the other method is right. b NULL: zeros
 * The same seed gives the same numbers with any number of threads. n = 0: all three are NaN. */
RECO_API reco_status reco_eval_interval(reco_ctx *ctx, reco_interval *out, const float *a, const float *b,
                                        size_t n, uint64_t seed);

#ifdef __cplusplus
}
#endif
#endif
