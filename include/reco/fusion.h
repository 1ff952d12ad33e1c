/* reco/fusion.h: cross-modal fusion, the small layer that mixes what was retrieved into an embedding.
 *
 *   transformer   the paper's layer (RECO, arXiv 2306.07196, section 3.2): one pre-norm encoder layer over the
 *                 original and its k retrieved. Heads, MLP width, norm placement, and the score terms are ours.
 *   relational    ours: sees inner products only, so it cannot memorise.
 *   mlp           a control of the transformer's size that sees the original alone: what training gives without retrieval.
 *   none, vote, mean, weighted   controls without training.
 *
 * Takes floats and knows nothing of CLIP or of banks. */
#ifndef RECO_FUSION_H
#define RECO_FUSION_H

#include "reco/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum reco_layer {
    RECO_LAYER_DEFAULT =
        -2,               /* in reco_train_opts alone: relational below 100,000 pairs, else transformer */
    RECO_LAYER_AUTO = -1, /* in reco_train_opts alone: several are trained and compared */
    RECO_LAYER_NONE = 0,  /* returns the original */
    RECO_LAYER_VOTE = 1,  /* norm(sum_i softmax(beta s)_i R_i): the neighbours alone */
    RECO_LAYER_MEAN = 2,  /* norm(x_0 + sum_i R_i): mean fusion, no training */
    RECO_LAYER_WEIGHTED = 3, /* norm(x_0 + g sum_i softmax(beta s)_i R_i) */
    RECO_LAYER_RELATIONAL = 4,
    RECO_LAYER_TRANSFORMER = 5,
    RECO_LAYER_MLP = 6 /* norm(x_0 + W2 GELU(W1 LN(x_0))): no retrieval; neighbours are not looked at */
} reco_layer;

/* Its name in checkpoints and options; "?" for what is none. */
RECO_API const char *reco_layer_name(reco_layer layer);

/* Uni: the side of the embedding itself; cross: the other one. */
typedef enum reco_modality { RECO_MODALITY_DEFAULT = 0, RECO_UNI = 1, RECO_CROSS = 2 } reco_modality;

/* The side that is `modality` (not the default) to an embedding of `side`. */
RECO_API reco_side reco_modality_side(reco_modality modality, reco_side side);

/* The readout over a closed set of candidates c: a mixture of the posteriors of three experts, so that the one that is
 * sure decides.
 *     p(c|q) = clip softmax_c(scale[0] v.t_c) + refined softmax_c(scale[1] v'.t'_c) + (1 - clip - refined) vote_c(q)
 * vote_c is the share of softmax_i(scale[2] v.V_i) that neighbours i of caption c have: of the nearest `voters`, which may be
 * more than are fused. Where training learned a metric, how near they are by that stands in the place of v.V_i. The weights are at least 0 and together at most 1; clip = 1 is CLIP. scale[0] = 0: there is no
 * mixture, and the greatest v'.t'_c is the answer. */
typedef struct reco_mixture {
    float clip, refined, scale[3];
    uint32_t voters; /* 0: as many as are fused; at most RECO_VOTES_MAX */
} reco_mixture;

#define RECO_MIXTURE_MAX_SCALE 10000.0f

/* Is there a mixture, and does the vote have weight in it? */
static inline int reco_mixture_votes(const reco_mixture *m)
{
    return m->scale[0] > 0 && m->clip + m->refined < 1 - 1e-6f;
}

/* The widest hidden layer of the relational layer, and the widest MLP. */
#define RECO_FUSION_MAX_HIDDEN 4096
#define RECO_FUSION_MAX_MLP 1048576

/* Every number that the layer's shape depends on; stored in the checkpoint, none a constant of the code. */
typedef struct reco_fusion_config {
    reco_layer layer;
    size_t d;             /* width, 1..65536; transformer: a multiple of heads */
    size_t k;             /* neighbours per item, 1..1024 */
    size_t layers, heads; /* transformer: 1 and 8 where 0 */
    size_t mlp; /* where 0, transformer: MLP width, 4d; mlp: 6d + 2, which has as many parameters as that */
    size_t hidden;        /* relational: width of u and w, 32 where 0 */
    float eps;            /* LayerNorm, 1e-5 where 0 */
    reco_modality search; /* which vectors of the memory an embedding is compared with; uni where 0 */
    reco_modality fuse;   /* which vectors of the rows found it is fused with; cross where 0 */
    int scores; /* transformer: 1 = score_scale and self_bias exist (ours); 0 = the paper's layer */
    float beta[2],
        gain[2]; /* vote and weighted: softmax scale and g, per side (reco_side); defaults where 0 */
    float min_similarity; /* neighbours below do not count; -1 = all do */
    reco_sides sides;     /* which sides to refine by default, as training found */
    reco_mixture mixture; /* the readout, as training found */
} reco_fusion_config;

typedef struct reco_fusion reco_fusion;

/* New layer, initialised: transformer weights drawn from seed (Wo, W2 and the score terms zero), of the relational layer
 * the last weights of both nets zero and the gate next to closed; both return the original (but for a trace) until
 * trained. logit_scale starts at ln(scale); 0 = ln 100. */
RECO_API reco_status reco_fusion_create(reco_ctx *ctx, reco_fusion **out, const reco_fusion_config *config,
                                        float scale, uint64_t seed);
RECO_API void reco_fusion_free(reco_fusion *fusion);
/* Borrowed from the layer, without a default left. */
RECO_API const reco_fusion_config *reco_fusion_get_config(const reco_fusion *fusion);
RECO_API void reco_fusion_set_sides(reco_fusion *fusion, reco_sides sides);
/* RECO_E_ARG for numbers out of range; all zero takes the mixture away. */
RECO_API reco_status reco_fusion_set_mixture(reco_ctx *ctx, reco_fusion *fusion,
                                             const reco_mixture *mixture);

/* The mixture of cosines, a v.t + (1-a) v'.t', is the inner product of [sqrt(a) v; sqrt(1-a) v'] and [sqrt(a) t; sqrt(1-a) t'].
 * The weight a, 0..1: what training found, or what its mixture of posteriors comes to; RECO_E_ARG where there is neither. */
RECO_API reco_status reco_fusion_get_concat(reco_ctx *ctx, const reco_fusion *fusion, float *weight);
RECO_API reco_status reco_fusion_set_concat(reco_ctx *ctx, reco_fusion *fusion, float weight);
/* out [n][2d] of x and refined [n][d]. */
RECO_API void reco_fusion_concat(float *out, const float *x, const float *refined, float weight, size_t n,
                                 size_t d);

/* A checkpoint, or one of the controls by name ("none", "vote", "mean", "weighted"; these need d and take k,
 * 0 = 10). A control searches and fuses as its name goes on to say, "mean:SEARCH-FUSE" with uni or cross for each: "mean" is
 * "mean:uni-cross". Everything in the file is checked; d != 0 must match it (RECO_E_MISMATCH). */
RECO_API reco_status reco_fusion_open(reco_ctx *ctx, reco_fusion **out, const char *path_or_name, size_t d,
                                      size_t k);

/* Provenance strings that training wrote into the checkpoint's __metadata__; NULL when absent. Borrowed. */
RECO_API const char *reco_fusion_meta(const reco_fusion *fusion, const char *key);
RECO_API reco_status reco_fusion_set_meta(reco_ctx *ctx, reco_fusion *fusion, const char *key,
                                          const char *value);
/* Atomic write of configuration, parameters, provenance. */
RECO_API reco_status reco_fusion_save(reco_ctx *ctx, const reco_fusion *fusion, const char *path);

/* Refine n embeddings of one side.
 *   out         [n][d] unit rows; may alias x
 *   x           [n][d] the originals
 *   retrieved   [n][k][d] vectors of the rows found, of the side that config.fuse says (texts for images, images for texts,
 *               unless it says uni), best first
 *   scores      [n][k] cosines they were retrieved with, best first
 *   valid       [n] how many of the first neighbours count, 0..k; NULL = all. 0: the row is copied bit for bit
 * Neighbours with scores below the layer's min_similarity do not count either. The layer mlp looks at x alone: retrieved, scores
 * and valid may then be NULL, and rows without neighbours are changed like others.
 * k may be anything from 1 to 1024, whatever the layer was trained with.
 * A row depends on its x, neighbours, scores and valid alone, to the bit: not on n, its place, or the number of threads. The
 * instruction set may change last bits.
 * Returns RECO_OK, RECO_E_ARG, RECO_E_NOMEM. */
RECO_API reco_status reco_fusion_refine(reco_ctx *ctx, const reco_fusion *fusion, reco_side side,
                                        const float *x, const float *retrieved, const float *scores,
                                        const size_t *valid, size_t n, size_t k, float *out);

/* What the refined rows are made of; arguments as of reco_fusion_refine.
 *   weights  [n][k+1] of the original, then of each neighbour; they sum to 1. Of layers that add: the shares in the sum before it is
 *            normalised. Of the transformer: attention of the original's token in the last layer, the mean of its heads.
 *            Neighbours that do not count have 0 */
RECO_API reco_status reco_fusion_weights(reco_ctx *ctx, const reco_fusion *fusion, reco_side side,
                                         const float *x, const float *retrieved, const float *scores,
                                         const size_t *valid, size_t n, size_t k, float *weights);

#define RECO_NO_CANDIDATE UINT32_MAX
#define RECO_VOTES_MAX 1024

/* The neighbours of n queries.
 *   scores  [n][k] cosines
 *   of      [n][k] whose caption it is: a candidate, or RECO_NO_CANDIDATE
 *   counts  [n] how many of the first count, at most k, which is at most RECO_VOTES_MAX */
typedef struct reco_votes {
    const float *scores;
    const uint32_t *of;
    const size_t *counts;
    size_t k;
} reco_votes;

/* Posteriors of n queries over c candidates, which sum to 1: neighbours of no candidate have no say, and the other
 * experts share what is left of the vote's weight. Nobody but CLIP has, where none of weight has anything to say.
 *   p        [n][c] overwritten
 *   plain    [n][c] v.t_c
 *   refined  [n][c] v'.t'_c; may be NULL where mixture->refined is 0
 *   votes    NULL: there are no neighbours
 * Memory: 4nc bytes of scratch. Returns RECO_OK, RECO_E_ARG, RECO_E_NOMEM. */
RECO_API reco_status reco_mixture_posterior(reco_ctx *ctx, const reco_mixture *mixture, const float *plain,
                                            const float *refined, const reco_votes *votes, size_t n,
                                            size_t c, float *p);

#ifdef __cplusplus
}
#endif
#endif
