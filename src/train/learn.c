#include "train/train_internal.h"

#include <math.h>

reco_status reco_learner_create(reco_learner *l, const reco_job *job, reco_fusion *fusion,
                                reco_state *state)
{
    reco_ctx *ctx = job->ctx;
    size_t B = job->o.batch;
    *l = (reco_learner){.job = job, .fusion = fusion, .state = state};
    l->pool = reco_alloc(ctx, job->n, sizeof *l->pool, "training");
    RECO_TRY(reco_mask_create(job, &l->hidden));
    l->gradient = reco_alloc(ctx, state->total, sizeof *l->gradient, "training");
    if (!l->pool || !l->gradient) return RECO_E_NOMEM;
    RECO_TRY(reco_batch_create(job, &l->batch, B));
    return reco_gradients_create(ctx, &l->gradients, fusion, B, job->o.k, RECO_TAPES_BYTES);
}

size_t reco_learner_bytes(const reco_job *job)
{
    size_t B = job->o.batch, k = job->o.k;
    return 8 * B * (B + (k + 3) * job->d + 2 * k * (size_t)job->o.hidden);
}

void reco_learner_clear(reco_learner *l)
{
    reco_gradients_clear(&l->gradients);
    reco_batch_clear(&l->batch);
    reco_free(l->gradient);
    reco_mask_clear(&l->hidden);
    reco_free(l->pool);
}

/* The pairs of a run: all but fold `run`, or all; never those that are only judged on. */
static void begin_run(reco_learner *l, size_t run)
{
    const reco_job *job = l->job;
    l->npool = 0;
    for (size_t i = 0; i < job->trained; i++)
        if (run >= job->runs || job->fold[i] != run) l->pool[l->npool++] = (uint32_t)i;
    reco_mask_fold(job, &l->hidden, run, false);
}

/* Some pairs of the pool, none twice, to the front of it and into the batch; *swaps undo the disorder. */
static size_t draw(reco_learner *l, reco_rng *rng)
{
    const reco_job *job = l->job;
    /* Of rows of the bank at most half: the other half is the memory of this batch. */
    size_t B = reco_min(job->o.batch, job->inside ? l->npool / 2 : l->npool);
    for (size_t i = 0; i < B; i++) {
        size_t with = i + reco_rng_below(rng, l->npool - i);
        uint32_t item = l->pool[with];
        l->pool[with] = l->pool[i];
        l->pool[i] = item;
        l->batch.items[i] = item;
    }
    return B;
}

static uint64_t seed_of(const reco_job *job, size_t run, size_t step)
{
    return job->o.seed + 0x9E3779B97F4A7C15u * (run + 1) + 0xD1B54A32D192ED03u * (step + 1);
}

reco_status reco_learner_step(reco_learner *l, size_t run, reco_step *taken)
{
    const reco_job *job = l->job;
    const reco_train_opts *o = &job->o;
    reco_ctx *ctx = job->ctx;
    reco_batch *b = &l->batch;
    const reco_state *s = l->state;
    size_t at = run * s->total;
    float *vector = reco_fusion_vector(l->fusion, &(size_t){0}), *own = s->vector + at;
    reco_rng rng;
    reco_rng_seed(&rng, seed_of(job, run, s->step));
    if (vector != own) memcpy(vector, own, s->total * sizeof *vector);
    begin_run(l, run); /* the pool's order is part of what is random: start from the same */
    size_t B = draw(l, &rng);
    for (size_t i = 0; i < B; i++) l->hidden.picture[job->same.picture[b->items[i]]] = 1;
    RECO_TRY(reco_batch_fill(job, b, B, &l->hidden, false, &rng));
    if (o->rotate && o->layer == RECO_LAYER_TRANSFORMER) RECO_TRY(reco_batch_rotate(job, b, &rng));
    RECO_TRY(reco_gradients_take(ctx, &l->gradients, &taken->loss, l->gradient, b, &job->same));
    if (!isfinite(taken->loss))
        return reco_fail(ctx, RECO_E_ARG,
                         "train: the loss is %g at step %zu; lower the learning "
                         "rate",
                         taken->loss, s->step + 1);
    taken->lr = o->lr * reco_cosine(s->step + 1, o->steps, o->warmup);
    const reco_adamw adamw = {.lr = taken->lr,
                              .beta1 = 0.9,
                              .beta2 = 0.98,
                              .eps = 1e-6,
                              .decay = o->weight_decay,
                              .clip = o->clip};
    RECO_TRY(reco_adamw_step(ctx, &taken->norm, l->fusion, l->gradient, s->m + at, s->v + at, &adamw,
                             s->step + 1));
    float *logit_scale = vector + s->total - 1; /* the last parameter */
    *logit_scale = fminf(*logit_scale, logf(100));
    if (vector != own) memcpy(own, vector, s->total * sizeof *vector);
    return RECO_OK;
}
