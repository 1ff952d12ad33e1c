/* fusion/fusion.h: parameters, forward with memory for backward, gradients: what train/ needs beside reco/fusion.h. */
#ifndef RECO_SRC_FUSION_H
#define RECO_SRC_FUSION_H

#include "base/base.h"
#include "reco/fusion.h"

/* One parameter tensor. Names are those of the checkpoint: "image.layers.0.qkv.weight", "text.u.0.bias",
 * "logit_scale". Linear weights are [out][in]; qkv stacks q, k, v. */
typedef struct reco_param {
    const char *name;
    size_t rank, shape[2], count;
    bool decay;   /* weight decay applies: matrices only */
    float *value; /* [count] */
} reco_param;

/* All parameters of both sides and logit_scale (last), in checkpoint order; values live in one array so that the
 * optimiser sees a single vector. */
size_t reco_fusion_params(const reco_fusion *fusion, const reco_param **params);
/* The whole parameter vector [total]; offset of params[i] is params[i].value - vector. */
float *reco_fusion_vector(reco_fusion *fusion, size_t *total);
/* Multiply the relational layer's gate g; other layers are left alone. */
void reco_fusion_scale_gate(reco_fusion *fusion, float factor);

/* mixture.c: are all numbers in range? */
reco_status reco_mixture_check(reco_ctx *ctx, const reco_mixture *mixture);
/* softmax(scale scores) of n neighbours; returns the share of those that are of a candidate. */
float reco_vote_weights(const reco_ctx *ctx, float scale, const float *scores, const uint32_t *of, size_t n,
                        float *weights);

/* ---- metric.c: how near pictures are that vote ----
 *
 * Pictures of one caption differ in some directions more than in others, in all captions alike. The metric W whitens that: L^-1 of
 * the covariance L L^T of pictures about the means of their captions. Votes are then weighed by the cosine of W(v - m) and W(V - m)
 * in the place of v.V, m being the mean of all. (As a Gaussian discriminant does: Wang et al., 2024.) An array [d+1][d]: W, then m. */
#define RECO_METRIC_FLOATS(d) (((d) + 1) * (d))

/* Borrowed; NULL: cosines. */
const float *reco_fusion_metric(const reco_fusion *fusion);
/* Copied; NULL takes it away. */
reco_status reco_fusion_set_metric(reco_ctx *ctx, reco_fusion *fusion, const float *metric);
/* Rows, each once: rows [n] is overwritten with those of ids [n] that are not negative, and place [n] with where each is in it, or
 * RECO_NO_CANDIDATE. Returns how many. */
size_t reco_metric_rows(const int64_t *ids, size_t n, int64_t *rows, uint32_t *place);
/* scores [n][k] of x [n][d] against rows [m][d], of which each has k by place [n][k]; 0 where there is none. */
reco_status reco_metric_scores(reco_ctx *ctx, const float *metric, const float *x, size_t n,
                               const float *rows, size_t m, const uint32_t *place, size_t k, size_t d,
                               float *scores);

/* Activations of one forward pass that backward needs. */
typedef struct reco_tape reco_tape;
reco_status reco_tape_create(reco_ctx *ctx, reco_tape **out, const reco_fusion *fusion, size_t max_n,
                             size_t max_k);
void reco_tape_free(reco_tape *tape);
size_t reco_tape_bytes(const reco_tape *tape);

/* Inner products that forward of a relational layer then need not take: c [n][k] of each neighbour with x, a [n][k] the mean
 * of each with the others that count. They are looked at in every forward until they are NULL. */
void reco_tape_know(reco_tape *tape, const float *c, const float *a);
/* Where neighbours lie that forward, of a relational layer or a transformer, then takes from rows [][d] by place [n][k], in the
 * place of its `retrieved`, until they are NULL. */
void reco_tape_point(reco_tape *tape, const float *rows, const uint32_t *place);

/* n embeddings of the input, from the i-th. */
reco_fusion_input reco_fusion_part(const reco_fusion *fusion, const reco_fusion_input *in, size_t i,
                                   size_t n);
/* reco_fusion_refine that keeps what backward needs (trainable layers only). out [n][d]. */
reco_status reco_fusion_forward(reco_ctx *ctx, const reco_fusion *fusion, const reco_fusion_input *in,
                                float *out, reco_tape *tape);
/* Add the gradient of the parameters of `side` to dvector [total] (layout of reco_fusion_vector), given
 * dout [n][d] = dLoss/d(out). Inputs are frozen, so nothing flows to them. The number of threads
 * changes no bit of it. */
reco_status reco_fusion_backward(reco_ctx *ctx, const reco_fusion *fusion, reco_tape *tape,
                                 const float *dout, float *dvector);

#endif
