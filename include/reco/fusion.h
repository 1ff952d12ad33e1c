/* reco/fusion.h: cross-modal fusion: small layers that fuse retrieved embeddings into an embedding.
 *
 *   transformer   the paper's layer (RECO, arXiv 2306.07196, section 3.2): one pre-norm encoder layer over
 *                 the original and its k retrieved. Heads, MLP width, norm placement and the score terms
 *                 are ours.
 *   relational    ours: it sees inner products only, so it cannot memorise.
 *   mlp           a control of the transformer's size that sees only the original: training without
 *                 retrieval.
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
    /* only in reco_train_opts: relational below 100,000 pairs, else transformer */
    RECO_LAYER_DEFAULT = -2,
    RECO_LAYER_AUTO = -1,    /* only in reco_train_opts: several are trained and compared */
    RECO_LAYER_NONE = 0,     /* returns the original */
    RECO_LAYER_VOTE = 1,     /* norm(sum_i softmax(beta s)_i R_i): the neighbours alone */
    RECO_LAYER_MEAN = 2,     /* norm(x_0 + sum_i R_i): mean fusion, no training */
    RECO_LAYER_WEIGHTED = 3, /* norm(x_0 + g sum_i softmax(beta s)_i R_i) */
    RECO_LAYER_RELATIONAL = 4,
    RECO_LAYER_TRANSFORMER = 5,
    RECO_LAYER_MLP = 6 /* norm(x_0 + W2 GELU(W1 LN(x_0))): no retrieval; neighbours are ignored */
} reco_layer;

/* Name of a layer in checkpoints and options; "?" for an unknown layer. */
RECO_API const char *reco_layer_name(reco_layer layer);

/* Uni: the embedding's own side; cross: the other side. */
typedef enum reco_modality { RECO_MODALITY_DEFAULT = 0, RECO_UNI = 1, RECO_CROSS = 2 } reco_modality;

/* The side that `modality` (not the default) means for an embedding of `side`. */
RECO_API reco_side reco_modality_side(reco_modality modality, reco_side side);

/* The readout over a closed set of candidates c: a mixture of the posteriors of three experts, in which a
 * confident expert prevails.
 *     p(c|q) = clip softmax_c(scale[0] v.t_c) + refined softmax_c(scale[1] v'.t'_c) + (1 - clip - refined)
 *     vote_c(q)
 * vote_c is the sum of softmax_i(scale[2] v.V_i) over the neighbours i with caption c, among the nearest
 * `voters`, which may be more than are fused. If training learned a metric, its similarity replaces v.V_i.
 * The weights are at least 0 and sum to at most 1; clip = 1 is CLIP. scale[0] = 0: there is no mixture, and
 * the greatest v'.t'_c is the answer. */
typedef struct reco_mixture {
    float clip, refined, scale[3];
    uint32_t voters; /* 0: as many as are fused; at most RECO_VOTES_MAX */
} reco_mixture;

#define RECO_MIXTURE_MAX_SCALE 10000.0f

/* Whether there is a mixture in which the vote has weight. */
static inline int reco_mixture_votes(const reco_mixture *m)
{
    return m->scale[0] > 0 && m->clip + m->refined < 1 - 1e-6f;
}

/* The widest hidden layer of the relational layer, and the widest MLP. */
#define RECO_FUSION_MAX_HIDDEN 4096
#define RECO_FUSION_MAX_MLP 1048576

/* All numbers that determine the layer's shape. They are stored in the checkpoint; none is a constant in
 * the code. */
typedef struct reco_fusion_config {
    reco_layer layer;
    size_t d;             /* width, 1..65536; transformer: a multiple of heads */
    size_t k;             /* neighbours per item, 1..1024 */
    size_t layers, heads; /* transformer; 0: 1 and 8 */
    size_t mlp; /* where 0, transformer: MLP width, 4d; mlp: 6d + 2, which has as many parameters as that */
    size_t hidden;        /* relational: width of u and w, 32 where 0 */
    float eps;            /* LayerNorm, 1e-5 where 0 */
    reco_modality search; /* vectors of the memory that an embedding is compared with; 0: uni */
    reco_modality fuse;   /* vectors of the retrieved rows that it is fused with; 0: cross */
    int scores; /* transformer: 1 = score_scale and self_bias exist (ours); 0 = the paper's layer */
    /* vote and weighted: softmax scale and g, by reco_side; 0: defaults */
    float beta[2], gain[2];
    float min_similarity; /* neighbours of smaller cosine are ignored; -1: none are */
    reco_sides sides;     /* which sides to refine by default, as training found */
    reco_mixture mixture; /* the readout, as training found */
} reco_fusion_config;

typedef struct reco_fusion reco_fusion;

/* Create an initialised layer. Transformer weights are drawn from seed (Wo, W2 and the score terms are
 * zero); in the relational layer, the last weights of both networks are zero and the gate is almost closed.
 * Until trained, both return almost exactly the original. logit_scale starts at ln(scale); 0 = ln 100. */
RECO_API reco_status reco_fusion_create(reco_ctx *ctx, reco_fusion **out, const reco_fusion_config *config,
                                        float scale, uint64_t seed);
RECO_API void reco_fusion_free(reco_fusion *fusion);
/* Borrowed from the layer, with all defaults filled in. */
RECO_API const reco_fusion_config *reco_fusion_get_config(const reco_fusion *fusion);
RECO_API void reco_fusion_set_sides(reco_fusion *fusion, reco_sides sides);
/* RECO_E_ARG for numbers out of range; all zero removes the mixture. */
RECO_API reco_status reco_fusion_set_mixture(reco_ctx *ctx, reco_fusion *fusion,
                                             const reco_mixture *mixture);

/* The mixture of cosines, a v.t + (1-a) v'.t', is the inner product of [sqrt(a) v; sqrt(1-a) v'] and
 * [sqrt(a) t; sqrt(1-a) t']. The weight a, 0..1, is the one that training found or that follows from its
 * mixture of posteriors; RECO_E_ARG if there is neither. */
RECO_API reco_status reco_fusion_get_concat(reco_ctx *ctx, const reco_fusion *fusion, float *weight);
RECO_API reco_status reco_fusion_set_concat(reco_ctx *ctx, reco_fusion *fusion, float weight);
/* out [n][2d] of x and refined [n][d]. */
RECO_API void reco_fusion_concat(float *out, const float *x, const float *refined, float weight, size_t n,
                                 size_t d);

/* A checkpoint, or one of the controls by name ("none", "vote", "mean", "weighted"; these need d and take
 * k, 0 = 10). A suffix of a control's name, "mean:SEARCH-FUSE" with uni or cross for each, sets the sides
 * to search and to fuse: "mean" is "mean:uni-cross". Everything in the file is checked; d != 0 must match
 * it (RECO_E_MISMATCH). */
RECO_API reco_status reco_fusion_open(reco_ctx *ctx, reco_fusion **out, const char *path_or_name, size_t d,
                                      size_t k);

/* Provenance strings that training wrote into the checkpoint's __metadata__; NULL when absent. Borrowed. */
RECO_API const char *reco_fusion_meta(const reco_fusion *fusion, const char *key);
RECO_API reco_status reco_fusion_set_meta(reco_ctx *ctx, reco_fusion *fusion, const char *key,
                                          const char *value);
/* Atomic write of configuration, parameters, provenance. */
RECO_API reco_status reco_fusion_save(reco_ctx *ctx, const reco_fusion *fusion, const char *path);

/* n embeddings of one side, and what was retrieved for each. The layer mlp reads only x: retrieved, scores
 * and valid may then be NULL, and rows without neighbours change like others. */
typedef struct reco_fusion_input {
    reco_side side;
    const float *x; /* [n][d] the originals */
    /* [n][k][d] vectors of the rows found, of the side given by config.fuse (the other side, unless it is
     * uni), best first */
    const float *retrieved;
    const float *scores; /* [n][k] cosines they were retrieved with, best first */
    /* [n] how many of the first neighbours are used, 0..k; NULL: all. 0: the row is copied bit for bit */
    const size_t *valid;
    size_t n, k; /* k: 1..1024, whatever the layer was trained with */
    uint64_t reserved[RECO_RESERVED];
} reco_fusion_input;

/* Results: arrays of the caller, NULL if not wanted. */
typedef struct reco_fused {
    float *rows; /* [n][d] unit rows; may be the input's x */
    /* [n][k+1] contributions of the original, then of each neighbour; they sum to 1. For layers that add:
     * the shares of the sum before it is normalised. For the transformer: attention of the original's token
     * in the last layer, averaged over heads. Ignored neighbours have 0 */
    float *weights;
    uint64_t reserved[RECO_RESERVED];
} reco_fused;

/* Refine embeddings. Neighbours with scores below the layer's min_similarity are ignored too. The bits of a
 * row depend only on its x, neighbours, scores and valid, not on n, its position or the number of threads.
 * The instruction set may change the last bits.
 * Returns RECO_OK, RECO_E_ARG, RECO_E_NOMEM. */
RECO_API reco_status reco_fusion_refine(reco_ctx *ctx, const reco_fusion *fusion,
                                        const reco_fusion_input *in, const reco_fused *out);

#define RECO_NO_CANDIDATE UINT32_MAX
#define RECO_VOTES_MAX 1024

/* The neighbours of n queries.
 *   scores  [n][k] cosines
 *   of      [n][k] the candidate whose caption the neighbour has, or RECO_NO_CANDIDATE
 *   counts  [n] how many of the first are used, at most k; k is at most RECO_VOTES_MAX */
typedef struct reco_votes {
    const float *scores;
    const uint32_t *of;
    const size_t *counts;
    size_t k;
    uint64_t reserved[RECO_RESERVED];
} reco_votes;

/* Posteriors of n queries over c candidates, which sum to 1. Neighbours without a candidate don't vote, and
 * the other experts share the unused weight of the vote. If no expert with weight can answer, the result is
 * CLIP's.
 *   p        [n][c] overwritten
 *   plain    [n][c] v.t_c
 *   refined  [n][c] v'.t'_c; may be NULL where mixture->refined is 0
 *   votes    NULL: there are no neighbours
 * Memory: 4nc bytes of scratch.
 * Returns RECO_OK, RECO_E_ARG, RECO_E_NOMEM. */
RECO_API reco_status reco_mixture_posterior(reco_ctx *ctx, const reco_mixture *mixture, const float *plain,
                                            const float *refined, const reco_votes *votes, size_t n,
                                            size_t c, float *p);

#ifdef __cplusplus
}
#endif
#endif
