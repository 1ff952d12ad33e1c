#include "train/train_internal.h"

static const float betas[] = {10, 20, 40, 80};
static const float gains[] = {0.125f, 0.25f, 0.5f, 1, 2};

static reco_status judge_config(const reco_job *job, reco_fusion **fusion, const reco_fusion_config *config,
                                reco_outcome *outcomes, reco_verdict *verdict)
{
    reco_fusion_free(*fusion);
    RECO_TRY(reco_fusion_create(job->ctx, fusion, config, 0, 0));
    for (size_t run = 0; run < job->runs; run++) RECO_TRY(reco_measure(job, *fusion, run, outcomes));
    return reco_choose(job, verdict, outcomes);
}

reco_status reco_train_grid(const reco_job *job, reco_fusion **fusion, reco_outcome *outcomes,
                            reco_verdict *verdict)
{
    reco_fusion_config c = *reco_fusion_get_config(*fusion), best = c;
    double score[2] = {-1, -1};
    size_t nb = sizeof betas / sizeof *betas,
           ng = c.layer == RECO_LAYER_WEIGHTED ? sizeof gains / sizeof *gains : 1;
    /* Each side by itself: what refines one says nothing of the other. */
    for (size_t i = 0; i < (c.layer == RECO_LAYER_MEAN ? 0 : nb * ng); i++) {
        c.beta[0] = c.beta[1] = betas[i % nb];
        c.gain[0] = c.gain[1] = gains[i / nb];
        RECO_TRY(judge_config(job, fusion, &c, outcomes, verdict));
        for (int side = 0; side < 2; side++)
            if (verdict->score[side + 1] > score[side]) {
                score[side] = verdict->score[side + 1];
                best.beta[side] = c.beta[side];
                best.gain[side] = c.gain[side];
            }
        RECO_TRY(reco_progress(job->ctx, "grid", i + 1, nb * ng));
    }
    return judge_config(job, fusion, &best, outcomes, verdict);
}
