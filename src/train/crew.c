/* Runs don't need one another until the last step: with a thread to each, nothing waits within a step. */
#include "train/train_internal.h"

/* What the workers may take together, and threads to a run: where it would be more, there is one worker with all threads. */
#define MOST_BYTES ((size_t)1 << 30)
enum { MOST_THREADS = 4 };
/* A relational layer is used, and judged, with this part of the gate it has learned. On held-out pairs three quarters
 * gained as much as the whole with two thirds of the changed answers wrong, so a small set loses by it less often. Not
 * where the memory holds the very captions: there what is retrieved is meant to overrule. */
#define CAUTION 0.75f

void reco_train_temper(const reco_job *job, reco_fusion *fusion)
{
    if (!job->twins) reco_fusion_scale_gate(fusion, CAUTION);
}

static reco_status hire(reco_worker *w, const reco_job *job, reco_fusion *fusion, reco_state *state,
                        bool alone)
{
    w->job = *job;
    if (!alone) {
        RECO_TRY(reco_ctx_worker(job->ctx, &w->ctx));
        RECO_TRY(reco_fusion_create(w->ctx, &w->fusion, reco_fusion_get_config(fusion), 0, 0));
        w->job.ctx = w->ctx;
    }
    return reco_learner_create(&w->learner, &w->job, alone ? fusion : w->fusion, state);
}

reco_status reco_crew_create(reco_crew *crew, const reco_job *job, reco_fusion *fusion, reco_state *state)
{
    reco_ctx *ctx = job->ctx;
    *crew = (reco_crew){.job = job, .state = state};
    size_t threads = (size_t)reco_ctx_threads(ctx), n = reco_min(state->runs, threads);
    if (threads > MOST_THREADS * n || n > MOST_BYTES / reco_learner_bytes(job)) n = 1;
    crew->taken = reco_alloc(ctx, state->runs, sizeof *crew->taken, "training");
    crew->workers = reco_alloc(ctx, n, sizeof *crew->workers, "training");
    if (!crew->taken || !crew->workers) return RECO_E_NOMEM;
    for (; crew->n < n; crew->n++) {
        reco_worker *w = &crew->workers[crew->n];
        reco_status status = hire(w, job, fusion, state, n == 1);
        if (status == RECO_OK) continue;
        crew->n++;
        return w->ctx ? reco_fail(ctx, status, "%s", reco_ctx_error(w->ctx)) : status;
    }
    return RECO_OK;
}

void reco_crew_clear(reco_crew *crew)
{
    for (size_t i = 0; i < crew->n; i++) {
        reco_worker *w = &crew->workers[i];
        reco_learner_clear(&w->learner);
        reco_fusion_free(w->fusion);
        reco_ctx_free(w->ctx);
    }
    reco_free(crew->workers);
    reco_free(crew->taken);
}

static reco_status measure_run(reco_worker *w, const reco_state *s, size_t run, reco_outcome *out)
{
    float *vector = reco_fusion_vector(w->learner.fusion, &(size_t){0}), *own = s->vector + run * s->total;
    if (vector != own) memcpy(vector, own, s->total * sizeof *vector);
    reco_train_temper(&w->job, w->learner.fusion);
    return reco_measure(&w->job, w->learner.fusion, run, out);
}

static void work(void *arg, size_t begin, size_t end, int worker)
{
    reco_crew *c = arg;
    reco_worker *w = &c->workers[worker];
    for (size_t run = begin; run < end && w->status == RECO_OK; run++)
        w->status = c->out ? measure_run(w, c->state, run, c->out)
                           : reco_learner_step(&w->learner, run, &c->taken[run]);
}

static reco_status all(reco_crew *c, size_t runs)
{
    for (size_t i = 0; i < c->n; i++) c->workers[i].status = RECO_OK;
    if (c->n == 1)
        work(c, 0, runs, 0);
    else
        reco_parallel(c->job->ctx, runs, 1, work, c);
    for (size_t i = 0; i < c->n; i++)
        if (c->workers[i].status != RECO_OK)
            return c->n == 1 ? c->workers[i].status
                             : reco_fail(c->job->ctx, c->workers[i].status, "%s",
                                         reco_ctx_error(c->workers[i].ctx));
    return RECO_OK;
}

reco_status reco_crew_step(reco_crew *crew)
{
    crew->out = NULL;
    return all(crew, crew->state->runs);
}

reco_status reco_crew_measure(reco_crew *crew, reco_outcome *out)
{
    crew->out = out;
    return all(crew, crew->job->runs);
}
