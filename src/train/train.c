#include "train/train_internal.h"
#include "io/io.h"

#include <unistd.h>

static reco_status train(reco_job *job, const char *path, reco_session *s)
{
    s->job = job;
    s->state_path = reco_format(job->ctx, "%s.state", path);
    if (!s->state_path) return RECO_E_NOMEM;
    RECO_TRY(reco_session_learn(s));
    return reco_session_finish(s);
}

static void fill_train_result(const reco_session *s, reco_train_result *r)
{
    const double *recall = s->verdict.recall;
    r->pairs = s->job->trained;
    r->validation_pairs = s->pairs;
    r->steps = s->steps;
    r->best_step = s->best_step;
    r->layer = s->layer;
    r->clip = recall[RECO_SIDES_NONE];
    r->image = recall[RECO_SIDES_IMAGE];
    r->text = recall[RECO_SIDES_TEXT];
    r->both = recall[RECO_SIDES_BOTH];
    r->sides = s->sides;
    r->mixture = s->readout.mixture;
    r->concat = s->concat;
    r->loss = s->loss;
    r->resumed |= s->resumed;
}

reco_status reco_train(reco_ctx *ctx, const reco_bank *bank, const reco_train_pairs *pairs,
                       const char *path, const reco_train_opts *opts, reco_train_result *result)
{
    reco_status status = RECO_OK;
    double start = reco_now();
    reco_job job = {.ctx = ctx, .bank = bank, .o = RECO_TRAIN_OPTS_INIT};
    reco_session s = {0};
    reco_train_result r = {0};
    if (opts) job.o = *opts;
    reco_train_opts asked = job.o;
    bool compare = asked.layer == RECO_LAYER_AUTO;
    if (compare) job.o.layer = RECO_LAYER_RELATIONAL;
    if (asked.command && reco_utf8_errors(asked.command, strlen(asked.command)))
        RECO_GO(reco_fail(ctx, RECO_E_ARG, "train: the command is not UTF-8"));
    RECO_GO(reco_job_load(&job, pairs));
    RECO_GO(compare ? reco_train_compare(&job, &asked, path, &s, &r) : train(&job, path, &s));
    RECO_GO(reco_fusion_save(ctx, s.fusion, path));
    if (compare)
        reco_train_compared(ctx, path);
    else
        unlink(s.state_path);
    fill_train_result(&s, &r);
    r.seconds = reco_now() - start;
    if (result) *result = r;
out:
    reco_session_clear(&s);
    reco_job_clear(&job);
    return status;
}
