/* reco/train.h: training of a fusion layer from pairs and a bank; CLIP stays frozen. */
#ifndef RECO_TRAIN_H
#define RECO_TRAIN_H

#include "reco/bank.h"
#include "reco/base.h"
#include "reco/fusion.h"

#include <math.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Fraction of captions that may be held out at a time. */
#define RECO_VALIDATION_MIN 0.01
#define RECO_VALIDATION_MAX 0.5
/* Fewest pairs that are trained on, or judged by. */
#define RECO_TRAIN_MIN_PAIRS 10

/* Must be raised whenever the same pairs and options would give another layer: neither `reco train` nor a
 * study reuses or resumes what was trained under another rule. */
#define RECO_TRAIN_RULE 3

/* Pairs that are not the bank's own rows.
 *   image, text  [n][d] unit rows; not retained
 *   captions     [n] hash of each caption; 0: unknown. NULL: all are unknown
 *   pictures     [n] hash of the name of each picture within this list; 0 and NULL likewise
 * Rows of equal embeddings (but for rounding) have the same caption, or picture, whatever the hashes say.
 * reco_pair_set_load fills in all of it. */
typedef struct reco_train_pairs {
    size_t n;
    const float *image, *text;
    const uint64_t *captions, *pictures;
    uint64_t reserved[RECO_RESERVED];
} reco_train_pairs;

/* RECO_TRAIN_OPTS_INIT sets the defaults. A number that is 0, or NaN if 0 has a meaning, takes the default
 * given beside it; two defaults are for the relational layer and for the transformer. The layer mlp is
 * trained like the transformer.
 *
 *   layer              RECO_LAYER_AUTO: relational, weighted and transformer are trained in turn, and the
 *                      result is the one that no other clearly beats on the held-out pairs on which both
 *                      were validated; each has its own log, LOG.LAYER, and state, PATH.LAYER.state. Vote,
 *                      mean and weighted are not trained: their two numbers come from a small grid
 *   k                  lowered, with a message, if the bank cannot supply as many neighbours

 *   neighbour_dropout  share of items that lose a random number of neighbours
 *   max_similarity     neighbours whose image has a greater cosine than this to the pair's own are dropped
 *                      as the pair itself or a near-duplicate; above 1: off
 *   min_similarity     neighbours of smaller cosine are ignored, in training and afterwards, since the
 *                      checkpoint stores it; -1: none are
 *   rotate             every batch is rotated by a random orthogonal matrix (transformer)
 *   search, fuse       vectors of the memory that are searched, and vectors of the retrieved rows that are
 *                      fused. The paper's method is uni-modal search and cross-modal fusion. The checkpoint
 *                      stores the choice, and its users follow it. The pair itself and its near-duplicates,
 *                      by their pictures, are excluded in any case
 *   validation         fraction of captions held out at a time. With up to 5,000 pairs, and a layer other
 *                      than the transformer, every fraction is held out in turn, so that each pair is
 *                      validated
 *   scale              exp(logit_scale) to start from; 0: the bank's, else the one that fits the pairs best
 *   judged             pairs for validation and model selection instead of held-out captions, 10 or more,
 *                      NULL for none; training then uses all of the other pairs. Judged pairs are not
 *                      trained on, and not taken for rows of the bank
 *   log                file with one JSON object per line for every step and every validation, NULL for
 *                      none. It is written while training runs, and a resumed run appends to it
 *   neighbours         file that caches the neighbours of the pairs, NULL for none: an interrupted search
 *                      resumes from it, and another training run with the same pairs, bank and search
 *                      settings reuses it. It has pairs * 12 (max(3k, 100) + 3k) bytes and is mapped.
 *                      RECO_E_EXISTS: it is some other file; RECO_E_UNSUPPORTED: the bank is not a folder
 *   recall             expected recall of the searches for neighbours, as in reco_search_opts; 0: the default
 *                      of the open bank; 1: exact
 *   command            UTF-8 text to store in the checkpoint beside the options, NULL for none
 *   sides              stored in the checkpoint; RECO_SIDES_DEFAULT: the best in validation
 *   fresh              1: ignore the training state that an interrupted run left */
typedef struct reco_train_opts {
    reco_layer layer;
    size_t k;                 /* 10 */
    size_t batch;             /* 256, 512; at most the number of pairs */
    size_t steps;             /* 300; 10 epochs, at least 400 */
    double lr;                /* 1e-2, 1e-3 */
    double weight_decay;      /* NaN = 0.1 */
    double warmup;            /* fraction of steps, NaN = 0.05 */
    double clip;              /* global gradient norm, NaN = 1; 0: gradients are not clipped */
    double neighbour_dropout; /* NaN = 0, 0.1 */
    float max_similarity;     /* 0.999 */
    float min_similarity;
    int no_scores; /* the paper's transformer */
    int rotate;
    int heads, layers;          /* transformer: 8 and 1 */
    size_t hidden;              /* relational: 32 */
    size_t mlp;                 /* transformer: 4d; mlp: 6d + 2, as many parameters */
    reco_modality search, fuse; /* RECO_UNI, RECO_CROSS */
    double validation;          /* 0.2 */
    float scale;
    uint64_t seed;
    reco_sides sides;
    int fresh;
    const reco_train_pairs *judged;
    const char *log, *command;
    const char *neighbours;
    float recall;
    uint64_t reserved[RECO_RESERVED - 1];
} reco_train_opts;
#define RECO_TRAIN_OPTS_INIT                                                                               \
    {                                                                                                      \
        .layer = RECO_LAYER_DEFAULT, .weight_decay = NAN, .warmup = NAN, .clip = NAN,                      \
        .neighbour_dropout = NAN, .min_similarity = -1, .sides = RECO_SIDES_DEFAULT                        \
    }

/* Results of a layer that was compared with others.
 *   pairs        on which it was validated
 *   clip, score  validation scores of CLIP and of the sides it refines, by which sides are chosen
 *   common       pairs on which both it and the best layer before it were validated; 0 for the first layer,
 *                for which the next three have no meaning
 *   against      that earlier layer
 *   gain, error  gain in score over that layer on the common pairs, and its standard error */
typedef struct reco_train_layer {
    reco_layer layer, against;
    reco_sides sides;
    size_t pairs, common, best_step;
    double clip, score, gain, error;
    double seconds;
} reco_train_layer;

enum { RECO_TRAIN_LAYERS = 3 };

/* recall@1 in percent, averaged over both directions, on the held-out captions. */
typedef struct reco_train_result {
    size_t pairs, validation_pairs, steps, best_step;
    reco_layer layer;
    double clip, image, text, both; /* score of each choice of sides */
    reco_sides sides;               /* the choice made */
    reco_mixture mixture;           /* the readout, chosen on the same pairs */
    float concat;                   /* weight of CLIP in a mixture of cosines */
    double loss;                    /* of the last step */
    double seconds;
    int resumed;                                  /* 1: resumed from a state file */
    reco_train_layer compared[RECO_TRAIN_LAYERS]; /* [layers], in the order in which they were trained */
    size_t layers;                                /* 0: only one was trained */
    uint64_t reserved[RECO_RESERVED];
} reco_train_result;

/* Train on pairs and write the checkpoint to path (atomic; training state in path + ".state" while it
 * runs).
 *
 *   pairs  NULL: the bank's own live rows
 * A pair retrieves neither itself, nor a row of its picture, nor a row whose picture has a cosine above
 * max_similarity to its own. Right captions of a picture (those of any row of it) are neither negatives for
 * it nor wrong answers in recall@1. Each caption and each picture is on only one side of the validation
 * split; if too many are shared for a split, those shared most are left on both sides, with a message. The
 * same seed and inputs give the same bytes with any number of threads; another instruction set may round
 * differently. An interrupted run (even by kill -9) resumes when it is started again with the same inputs
 * and options. Memory: pairs * (8d + 36k + 13 max(3k, 100)) bytes, of which the 8d are the caller's if
 * pairs are given (but not with judged pairs); for the relational layer, pairs * 36k^2 more if that is at
 * most 1 GiB; beside these, the mapped files and a batch: 8B^2 bytes of logits, 8B(k + 3)d of vectors, and
 * activations of the layer, of which 256 MiB are kept and the rest is recomputed, with the same bytes.
 * Returns RECO_OK; RECO_E_ARG; RECO_E_MISMATCH (d); RECO_E_CANCELLED; RECO_E_IO. */
RECO_API reco_status reco_train(reco_ctx *ctx, const reco_bank *bank, const reco_train_pairs *pairs,
                                const char *path, const reco_train_opts *opts, reco_train_result *result);

#ifdef __cplusplus
}
#endif
#endif
