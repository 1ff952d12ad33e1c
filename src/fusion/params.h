/* fusion/params.h: every parameter of the trainable layers, listed once; and what a fusion layer is made of.
 *
 * X(id, name, rows, cols, init, decay). cols 0 is a vector of `rows`, rows 0 a scalar. c is the configuration
 * with no defaults left. Everything else (checkpoint, initialisation, optimiser, offsets) is derived. */
#ifndef RECO_SRC_FUSION_PARAMS_H
#define RECO_SRC_FUSION_PARAMS_H

#include "fusion/fusion.h"

#include <jansson.h>

/* FAN_IN: normal, variance 1/cols. LINEAR: uniform within 1/sqrt of the layer's inputs, bias too. */
#define RECO_BLOCK_PARAMS(X, c)                                                                            \
    X(LN1_W, "ln_1.weight", (c)->d, 0, ONE, false)                                                         \
    X(LN1_B, "ln_1.bias", (c)->d, 0, ZERO, false)                                                          \
    X(QKV_W, "qkv.weight", 3 * (c)->d, (c)->d, FAN_IN, true)                                               \
    X(QKV_B, "qkv.bias", 3 * (c)->d, 0, ZERO, false)                                                       \
    X(OUT_W, "out.weight", (c)->d, (c)->d, ZERO, true)                                                     \
    X(OUT_B, "out.bias", (c)->d, 0, ZERO, false)                                                           \
    X(LN2_W, "ln_2.weight", (c)->d, 0, ONE, false)                                                         \
    X(LN2_B, "ln_2.bias", (c)->d, 0, ZERO, false)                                                          \
    X(FC_W, "fc.weight", (c)->mlp, (c)->d, FAN_IN, true)                                                   \
    X(FC_B, "fc.bias", (c)->mlp, 0, ZERO, false)                                                           \
    X(PROJ_W, "proj.weight", (c)->d, (c)->mlp, ZERO, true)                                                 \
    X(PROJ_B, "proj.bias", (c)->d, 0, ZERO, false)

/* After the block's own where config.scores. */
#define RECO_SCORE_PARAMS(X, c)                                                                            \
    X(SCORE_SCALE, "score_scale", (c)->heads, 0, ZERO, false)                                              \
    X(SELF_BIAS, "self_bias", (c)->heads, 0, ZERO, false)

#define RECO_FEATURES 5 /* of u and of w */

#define RECO_RELATIONAL_PARAMS(X, c)                                                                       \
    X(REL_B, "b", 0, 0, THREE, false)                                                                      \
    X(REL_GAMMA, "gamma", 0, 0, TRACE, false)                                                              \
    X(U0_W, "u.0.weight", (c)->hidden, RECO_FEATURES, LINEAR, true)                                        \
    X(U0_B, "u.0.bias", (c)->hidden, 0, LINEAR, false)                                                     \
    X(U2_W, "u.2.weight", 1, (c)->hidden, ZERO, true)                                                      \
    X(U2_B, "u.2.bias", 1, 0, ZERO, false)                                                                 \
    X(W0_W, "w.0.weight", (c)->hidden, RECO_FEATURES, LINEAR, true)                                        \
    X(W0_B, "w.0.bias", (c)->hidden, 0, LINEAR, false)                                                     \
    X(W2_W, "w.2.weight", 1, (c)->hidden, ZERO, true)                                                      \
    X(W2_B, "w.2.bias", 1, 0, ZERO, false)

#define RECO_MLP_PARAMS(X, c)                                                                              \
    X(MLP_LN_W, "ln.weight", (c)->d, 0, ONE, false)                                                        \
    X(MLP_LN_B, "ln.bias", (c)->d, 0, ZERO, false)                                                         \
    X(MLP_FC_W, "fc.weight", (c)->mlp, (c)->d, FAN_IN, true)                                               \
    X(MLP_FC_B, "fc.bias", (c)->mlp, 0, ZERO, false)                                                       \
    X(MLP_PROJ_W, "proj.weight", (c)->d, (c)->mlp, ZERO, true)                                             \
    X(MLP_PROJ_B, "proj.bias", (c)->d, 0, ZERO, false)

#define RECO_PARAM_ID(id, ...) P_##id,
enum { RECO_BLOCK_PARAMS(RECO_PARAM_ID, ) RECO_SCORE_PARAMS(RECO_PARAM_ID, ) P_BLOCK_COUNT };
enum { RECO_RELATIONAL_PARAMS(RECO_PARAM_ID, ) P_RELATIONAL_COUNT };
enum { RECO_MLP_PARAMS(RECO_PARAM_ID, ) P_MLP_COUNT };

enum {
    RECO_MAX_LAYERS = 64,
    RECO_MAX_HEADS = 1024,
    RECO_MAX_HIDDEN = RECO_FUSION_MAX_HIDDEN,
    RECO_MAX_MLP = RECO_FUSION_MAX_MLP
};

typedef enum reco_init { INIT_ZERO, INIT_ONE, INIT_FAN_IN, INIT_LINEAR, INIT_THREE, INIT_TRACE } reco_init;

struct reco_fusion {
    reco_fusion_config config; /* no defaults left */
    reco_param *params;        /* [nparams]: image's, text's, logit_scale */
    reco_init *inits;          /* [nparams] */
    size_t nparams, per_side;  /* nparams == 2 * per_side + 1 */
    size_t per_layer;          /* transformer: tensors of one layer */
    float *vector;             /* [total] */
    size_t total;
    struct reco_packed *copies; /* [ncopies] of pack.c: none where the vector may change */
    size_t ncopies;
    float *panels; /* what they have packed */
    float *metric; /* [d+1][d] or NULL */
    json_t *meta;  /* provenance, an object of strings */
    float concat;  /* weight of the original in reco_fusion_concat; NaN: training said none */
};

/* Fill in defaults and check every field. */
reco_status reco_fusion_resolve(reco_ctx *ctx, reco_fusion_config *config);
/* Names and shapes, no values yet; then room for values. */
reco_status reco_fusion_layout(reco_ctx *ctx, reco_fusion **out, const reco_fusion_config *config);
reco_status reco_fusion_allocate(reco_ctx *ctx, reco_fusion *fusion);

static inline bool reco_layer_trains(reco_layer layer) { return layer >= RECO_LAYER_RELATIONAL; }

/* Parameter `id` of a side (and of layer `l` of a transformer). */
static inline const float *reco_fusion_at(const reco_fusion *f, reco_side side, size_t l, size_t id)
{
    return f->params[(size_t)side * f->per_side + l * f->per_layer + id].value;
}

/* The same place in a gradient laid out like the vector. */
static inline float *reco_fusion_grad(const reco_fusion *f, float *dvector, reco_side side, size_t l,
                                      size_t id)
{
    return dvector + (reco_fusion_at(f, side, l, id) - f->vector);
}

#endif
