/* reco/train.h: learn a fusion layer from pairs and a bank; CLIP stays frozen. */
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

/* Raised by hand whenever the same pairs and options would come to another layer: what was trained or begun by another rule is then
 * not taken up, neither by `reco train` nor by a study. */
#define RECO_TRAIN_RULE 2

/* Pairs that are not the bank's own rows.
 *   image, text  [n][d] unit rows; not retained
 *   captions     [n] what each caption says, as a hash; 0: not known. NULL: none is known
 *   pictures     [n] which picture it is, as a hash of its name within this list; 0 and NULL likewise
 * Rows of equal embeddings (but for rounding) have the same caption, or picture, whatever the hashes say.
 * reco_pair_set_load makes all of it. */
typedef struct reco_train_pairs {
    size_t n;
    const float *image, *text;
    const uint64_t *captions, *pictures;
} reco_train_pairs;

/* RECO_TRAIN_OPTS_INIT sets the defaults. A number that is 0, or NaN where 0 has a meaning, is the default that stands beside it;
 * where two are given, they are of the relational layer and of the transformer; the layer mlp is trained as the transformer is.
 *
 *   layer              RECO_LAYER_AUTO: relational, weighted and transformer are trained in turn, and the one stays that none of the others is clearly better than on the
 *                      held-out pairs that both were judged on; each has its own log, LOG.LAYER, and state, PATH.LAYER.state. Vote, mean and weighted have
 *                      nothing to learn: their two numbers come from a small grid
 *   k                  of a bank that cannot give as many neighbours, as many as it can; a message says so
 *   neighbour_dropout  share of items that lose a random number of neighbours
 *   max_similarity     neighbours whose image is nearer than this to the pair's own do not count, since they are the
 *                      pair itself or its near-duplicate; above 1 = off
 *   min_similarity     neighbours that are farther do not count, in training and after: the checkpoint says so; -1 = all count
 *   rotate             every batch is turned by a random orthogonal matrix (transformer)
 *   search, fuse       which vectors of the memory are searched, and which of the rows found are fused: the paper's method is
 *                      uni-modal search and cross-modal fusion. Another way stands in the checkpoint, and is gone after it.
 *                      What is barred does not depend on it: the pair itself is, and its near-duplicates, by their pictures
 *   validation         fraction of captions held out at a time. With up to 5,000 pairs, and a layer other than the
 *                      transformer, every fraction is held out in turn, so that each pair is judged
 *   scale              exp(logit_scale) to start from; 0 = the bank's, else what suits the pairs best
 *   judged             pairs on which everything is judged and chosen instead of held-out captions, 10 or more, NULL for none; all of
 *                      the others are trained on then. They are not trained on, and not taken for rows of the bank
 *   log                file of one JSON object a line, NULL for none: every step, every validation. It is written while training
 *                      runs, and gone on with where an interrupted run is
 *   neighbours         file in which the neighbours of the pairs are kept, NULL for none: an interrupted search goes on there, and another training
 *                      with these pairs, this bank and these ways of searching finds them done. pairs * 12 max(3k, 100) + 36k bytes, mapped.
 *                      RECO_E_EXISTS: it is another file; RECO_E_UNSUPPORTED: the bank is no folder
 *   command            UTF-8 to be kept in the checkpoint beside the options, NULL for none
 *   sides              stored in the checkpoint; RECO_SIDES_DEFAULT: what validation finds best
 *   fresh              a training state that an interrupted run left is ignored */
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
    uint64_t reserved[RECO_RESERVED];
} reco_train_opts;
#define RECO_TRAIN_OPTS_INIT                                                                               \
    {                                                                                                      \
        .layer = RECO_LAYER_DEFAULT, .weight_decay = NAN, .warmup = NAN, .clip = NAN,                      \
        .neighbour_dropout = NAN, .min_similarity = -1, .sides = RECO_SIDES_DEFAULT                        \
    }

/* How a layer fared that was compared with others.
 *   pairs        that it was judged on
 *   clip, score  of CLIP and of the sides it refines, on these: what sides are chosen by
 *   common       pairs that both it and the best layer before it were judged on; 0 of the first, of which what follows means nothing
 *   against      that layer
 *   gain, error  of score against that layer's, on these, and its standard error */
typedef struct reco_train_layer {
    reco_layer layer, against;
    reco_sides sides;
    size_t pairs, common, best_step;
    double clip, score, gain, error;
    double seconds;
} reco_train_layer;

enum { RECO_TRAIN_LAYERS = 3 };

/* recall@1 in percent, mean of both ways, on the held-out captions. */
typedef struct reco_train_result {
    size_t pairs, validation_pairs, steps, best_step;
    reco_layer layer;
    double clip, image, text, both; /* what each choice of sides scores */
    reco_sides sides;               /* what was chosen */
    reco_mixture mixture;           /* the readout, chosen on the same pairs */
    float concat;                   /* and the weight of CLIP where cosines are mixed */
    double loss;                    /* of the last step */
    double seconds;
    int resumed;                                  /* went on from a state file */
    reco_train_layer compared[RECO_TRAIN_LAYERS]; /* [layers], in the order in which they were trained */
    size_t layers;                                /* 0: only one was trained */
    uint64_t reserved[RECO_RESERVED];
} reco_train_result;

/* Train on pairs and write the checkpoint to path (atomic; training state in path + ".state" while it runs).
 *
 *   pairs  NULL: the bank's own live rows
 * A pair retrieves neither itself, nor a row of its picture, nor one whose picture is above max_similarity to its own.
 * Captions that are right for a picture (those of any row of it) are not its negatives, and no wrong answers in recall@1.
 * A caption, and a picture, is on one side of the validation split; where so many are shared that nothing could be split,
 * the largest are left on both sides, and a message says so.
 * Same seed, same inputs: same bytes, with any number of threads. Another instruction set may round otherwise. An
 * interrupted run (kill -9 too) resumes when it is started again with the same inputs and options. Memory: pairs * (8d + 36k +
 * 13 max(3k, 100)) bytes, of which the 8d are the caller's where the pairs are (but not with judged pairs), and for the relational layer pairs * 36k^2 more where that is
 * 1 GiB at most, beside the map and a batch: 8B^2 bytes of logits, 8B(k + 3)d of vectors, and activations of the layer, of which
 * 256 MiB are kept and what is beyond is computed twice, to the same bytes.
 * Returns RECO_OK; RECO_E_ARG; RECO_E_MISMATCH (d); RECO_E_CANCELLED; RECO_E_IO. */
RECO_API reco_status reco_train(reco_ctx *ctx, const reco_bank *bank, const reco_train_pairs *pairs,
                                const char *path, const reco_train_opts *opts, reco_train_result *result);

#ifdef __cplusplus
}
#endif
#endif
