/* reco/train.h: learn a fusion layer from pairs and a bank; CLIP stays frozen. */
#ifndef RECO_TRAIN_H
#define RECO_TRAIN_H

#include "reco/bank.h"
#include "reco/base.h"
#include "reco/fusion.h"

#ifdef __cplusplus
extern "C" {
#endif

/* All zero = defaults. Where "auto", the choice depends on the layer and the number of pairs, see docs/train.md. */
typedef struct reco_train_opts {
    reco_layer layer;         /* NONE = auto: relational below 100,000 pairs, else transformer */
    size_t k;                 /* 0 = 10 */
    size_t batch;             /* 0 = 512, cut to the number of pairs */
    size_t steps;             /* 0 = auto: relational 400, transformer 10 epochs, at least 400 */
    double lr;                /* 0 = auto: relational 4e-3, transformer 1e-3 */
    double weight_decay;      /* 0 = 0.1; negative = none */
    double warmup;            /* fraction of steps; 0 = 0.05 */
    double clip;              /* global gradient norm; 0 = 1 */
    double neighbour_dropout; /* 0 = auto; negative = none */
    float
        max_similarity; /* 0 = 0.999: neighbours whose image is nearer to the pair's own do not count, since they
                                  are the pair itself or its near-duplicate; above 1 = off */
    float
        min_similarity; /* with use_min_similarity: neighbours below do not count; stored in the checkpoint */
    int use_min_similarity;
    int no_scores;     /* transformer: the paper's layer */
    int rotate;        /* transformer: every batch turned by a random orthogonal matrix */
    int heads, layers; /* transformer: 0 = 8 and 1 */
    size_t mlp;        /* transformer: 0 = 4d */
    double validation; /* fraction of captions held out, 0 = 0.2 */
    float scale;       /* exp(logit_scale) to start from; 0 = the bank's, else 100 */
    uint64_t seed;
    int force_sides; /* 1: `sides` is stored instead of what validation finds */
    reco_sides sides;
    int fresh; /* 1: ignore a training state that an interrupted run left */
} reco_train_opts;

/* recall@1 in percent, mean of both ways, on the held-out captions. */
typedef struct reco_train_result {
    size_t pairs, validation_pairs, steps, best_step;
    reco_layer layer;
    double clip, image, text, both; /* what each choice of sides scores */
    reco_sides sides;               /* what was chosen */
    double loss;                    /* of the last step */
    double seconds;
    int resumed; /* went on from a state file */
} reco_train_result;

/* Train on pairs and write the checkpoint to path (atomic; training state in path + ".state" while it runs).
 *
 *   image, text   [n][d] unit rows of the training pairs, or both NULL: the bank's own live rows, each barred from
 *                 retrieving itself
 *   captions      [n] hash of each caption, so that no caption is on both sides of the validation split; NULL = each
 *                 row its own (with the bank's own rows: taken from the bank)
 * Same seed, same inputs, same threads: same bytes. An interrupted run (kill -9 too) resumes when it is started again
 * with the same inputs and options. Memory: pairs * (2d + 6k) * 4 bytes, beside the map.
 * Returns RECO_OK; RECO_E_ARG; RECO_E_MISMATCH (d); RECO_E_CANCELLED; RECO_E_IO. */
RECO_API reco_status reco_train(reco_ctx *ctx, const reco_bank *bank, const float *image, const float *text,
                                const uint64_t *captions, size_t n, const char *path,
                                const reco_train_opts *opts, reco_train_result *result);

#ifdef __cplusplus
}
#endif
#endif
