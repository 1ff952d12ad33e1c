/* train/train_internal.h: the parts of training; used by train/ and its tests. */
#ifndef RECO_SRC_TRAIN_H
#define RECO_SRC_TRAIN_H

#include "fusion/fusion_internal.h"
#include "reco/train.h"

/* ---- loss.c ---- */

/* L = NCE(v',t') + NCE(v',t) + NCE(v,t'), scale exp(min(logit_scale, ln 100)), and its gradients.
 *   dv2, dt2      [B][d] overwritten with dL/dv', dL/dt'
 *   dlogit_scale  overwritten
 *   v2, t2, v, t  [B][d] refined and original
 *   group         [B] or NULL: pairs of one group are not each other's negatives (one caption, several pictures) */
reco_status reco_train_loss(reco_ctx *ctx, double *loss, float *dv2, float *dt2, float *dlogit_scale,
                            const float *v2, const float *t2, const float *v, const float *t,
                            float logit_scale, const uint32_t *group, size_t B, size_t d);

/* ---- adamw.c ---- */

typedef struct reco_adamw {
    double lr, beta1, beta2, eps, decay; /* decay: of parameters that say so */
    double clip;                         /* global gradient norm; 0 = none */
} reco_adamw;

/* One step: clip dvector's norm, update moments and parameters. step counts from 1. Returns the norm before. */
double reco_adamw_step(reco_fusion *fusion, float *dvector, float *m, float *v, const reco_adamw *opts,
                       size_t step);
/* Factor of the learning rate at step (from 1) of steps: linear warm-up, then half a cosine to 0. */
double reco_cosine(size_t step, size_t steps, double warmup);

#endif
