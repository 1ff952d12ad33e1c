#include "train/train_internal.h"
#include "io/io.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

/* Seconds between two writes of the training state. */
#define STATE_EVERY 4.0
/* A relational layer is used, and judged, with this part of the gate it has learned. On held-out pairs three quarters
 * gained as much as the whole with two thirds of the changed answers wrong, so a small set loses by it less often. Not
 * where the memory holds the very captions: there what is retrieved is meant to overrule. */
#define CAUTION 0.75f

static const char *const sides_name[] = {"none", "image", "text", "both"};

typedef struct session {
    reco_job job;
    reco_fusion *fusion;
    reco_state state;
    reco_learner learner;
    reco_verdict verdict;
    reco_readout readout;
    float concat;   /* weight of CLIP where cosines are mixed */
    float *initial; /* [total] where each run starts */
    float *learned; /* [total] the parameters while a cautious copy is measured */
    reco_train_log *log;
    const char *path;
    char *state_path;
    double saved_at;
    size_t total_steps; /* of all runs, for progress */
} session;

static bool keeps_best(const session *s) { return reco_layer_memorises(s->job.o.layer); }

/* ---- runs ---- */

/* Write the state when it is time; always, before an error goes up that the user or the system caused. */
static reco_status keep_going(session *s)
{
    size_t done = s->state.run * s->job.o.steps + s->state.step;
    reco_status status = reco_progress(s->job.ctx, "train", reco_min(done, s->total_steps), s->total_steps);
    if (status == RECO_OK && reco_now() - s->saved_at < STATE_EVERY) return RECO_OK;
    reco_status saved = status == RECO_OK || status == RECO_E_CANCELLED
                            ? reco_state_save(&s->state, &s->job, s->state_path)
                            : RECO_OK;
    s->saved_at = reco_now();
    return status != RECO_OK ? status : saved;
}

static size_t checkpoint_step(const session *s, size_t checkpoint)
{
    return s->job.o.steps * (checkpoint + 1) / s->state.checkpoints;
}

static void be_cautious(session *s)
{
    if (!s->job.twins) reco_fusion_scale_gate(s->fusion, CAUTION);
}

static reco_status measure(session *s, reco_outcome *out)
{
    reco_state *st = &s->state;
    memcpy(s->learned, st->vector, st->total * sizeof *st->vector);
    be_cautious(s);
    reco_status status = reco_measure(&s->job, s->fusion, st->run, out);
    memcpy(st->vector, s->learned, st->total * sizeof *st->vector);
    return status;
}

/* The parameters of a run at one of its checkpoints. */
static float *kept(const session *s, size_t checkpoint, size_t run)
{
    return s->state.kept + (checkpoint * s->job.runs + run) * s->state.total;
}

static reco_status measure_if_due(session *s)
{
    reco_state *st = &s->state;
    for (size_t c = 0; c < st->checkpoints; c++) {
        if (checkpoint_step(s, c) != st->step) continue;
        reco_outcome *out = st->outcomes + c * s->job.nheld;
        RECO_TRY(measure(s, out));
        RECO_TRY(reco_train_log_validation(s->log, st, out));
        if (st->kept) memcpy(kept(s, c, st->run), st->vector, st->total * sizeof *st->kept);
        if (!keeps_best(s)) continue;
        reco_verdict v;
        RECO_TRY(reco_choose(&s->job, &v, out));
        if (v.merit > st->best_merit) {
            st->best_merit = v.merit;
            st->best_step = st->step;
            s->verdict = v;
            memcpy(st->best, st->vector, st->total * sizeof *st->best);
        }
    }
    return RECO_OK;
}

/* Go on with run state.run until `steps` are done. */
static reco_status run(session *s, size_t steps, bool measured)
{
    reco_state *st = &s->state;
    if (st->step == 0) {
        memcpy(st->vector, s->initial, st->total * sizeof *st->vector);
        memset(st->m, 0, st->total * sizeof *st->m);
        memset(st->v, 0, st->total * sizeof *st->v);
    }
    while (st->step < steps) {
        RECO_TRY(reco_learner_step(&s->learner));
        st->step++;
        RECO_TRY(reco_train_log_step(s->log, &s->learner));
        if (measured) RECO_TRY(measure_if_due(s));
        RECO_TRY(keep_going(s));
    }
    return RECO_OK;
}

/* The number of steps whose outcomes, over all runs, were best: all of them, unless stopping earlier was better by more
 * than the error. What is left is luck, and at the end of the schedule parameters have come to rest. */
static reco_status choose_step(session *s)
{
    reco_state *st = &s->state;
    st->best_merit = -INFINITY;
    for (size_t c = st->checkpoints; c-- > 0;) {
        reco_verdict v;
        RECO_TRY(reco_choose(&s->job, &v, st->outcomes + c * s->job.nheld));
        double margin = keeps_best(s) || c + 1 == st->checkpoints ? 0 : v.error[v.best];
        if (v.merit - margin < st->best_merit) continue;
        st->best_merit = v.merit;
        st->best_step = checkpoint_step(s, c);
        s->verdict = v;
    }
    return RECO_OK;
}

/* The checkpoint that was best. */
static size_t best_checkpoint(const session *s)
{
    size_t c = 0;
    while (c + 1 < s->state.checkpoints && checkpoint_step(s, c) != s->state.best_step) c++;
    return c;
}

static reco_status learn(session *s, bool *resumed)
{
    reco_state *st = &s->state;
    reco_job *job = &s->job;
    reco_ctx *ctx = job->ctx;
    RECO_TRY(reco_state_create(st, job, s->fusion, reco_min(8, job->o.steps)));
    s->initial = reco_alloc(ctx, st->total, sizeof *s->initial, "training");
    s->learned = reco_alloc(ctx, st->total, sizeof *s->learned, "training");
    if (!s->initial || !s->learned) return RECO_E_NOMEM;
    memcpy(s->initial, st->vector, st->total * sizeof *s->initial);
    RECO_TRY(reco_learner_create(&s->learner, job, s->fusion, st));
    RECO_TRY(reco_job_key(job, st->key));
    if (!job->o.fresh) RECO_TRY(reco_state_load(st, job, s->state_path, resumed));
    RECO_TRY(reco_train_log_open(&s->log, job, st, *resumed));
    bool again = !keeps_best(s) && job->trained == job->n;
    s->total_steps = job->o.steps * (job->runs + again);
    s->saved_at = reco_now();
    for (; st->run < job->runs; st->run++, st->step = 0) RECO_TRY(run(s, job->o.steps, true));
    RECO_TRY(choose_step(s));
    /* A layer that can learn its pairs by heart stays as it was when the held-out pairs were served best. One that
     * cannot is trained once more, with all pairs, for as many steps as were best; where others are judged on, it has
     * met all already. */
    if (again)
        RECO_TRY(run(s, st->best_step, false));
    else
        memcpy(st->vector, keeps_best(s) ? st->best : kept(s, best_checkpoint(s), 0),
               st->total * sizeof *st->vector);
    be_cautious(s);
    return reco_progress(ctx, "train", s->total_steps, s->total_steps);
}

/* Of a layer without training. */
static reco_status choose_numbers(session *s)
{
    RECO_TRY(reco_job_key(&s->job, s->state.key));
    RECO_TRY(reco_train_log_open(&s->log, &s->job, &s->state, false));
    return reco_train_grid(&s->job, &s->fusion, &s->verdict);
}

/* ---- the readout ---- */

/* Each run's pairs with the layer that has not met them. */
static reco_status ask(session *s, reco_sides sides, reco_queries *q)
{
    reco_state *st = &s->state;
    size_t checkpoint = best_checkpoint(s);
    for (size_t run = 0; run < s->job.runs; run++) {
        if (st->kept) {
            memcpy(st->vector, kept(s, checkpoint, run), st->total * sizeof *st->vector);
            be_cautious(s);
        }
        RECO_TRY(reco_queries_add(&s->job, s->fusion, run, sides, q));
    }
    return RECO_OK;
}

static reco_status choose_readout(session *s, reco_sides sides)
{
    reco_state *st = &s->state;
    reco_queries q = {0};
    if (st->kept) memcpy(s->learned, st->vector, st->total * sizeof *st->vector);
    reco_status status = reco_queries_create(&s->job, &q);
    if (status == RECO_OK) status = ask(s, sides, &q);
    if (st->kept) memcpy(st->vector, s->learned, st->total * sizeof *st->vector);
    if (status == RECO_OK) status = reco_choose_mixture(&s->job, &q, sides, &s->readout);
    if (status == RECO_OK) status = reco_fusion_set_mixture(s->job.ctx, s->fusion, &s->readout.mixture);
    if (status == RECO_OK) status = reco_choose_concat(&s->job, &q, &s->concat);
    if (status == RECO_OK) status = reco_fusion_set_concat(s->job.ctx, s->fusion, s->concat);
    reco_queries_clear(&q);
    return status;
}

/* ---- the checkpoint ---- */

static void report(const session *s, reco_sides sides)
{
    const reco_verdict *v = &s->verdict;
    reco_log(
        s->job.ctx, RECO_LOG_INFO,
        "recall@1 on %zu held-out pairs: CLIP %.1f, image refined %.1f, text %.1f, both %.1f; refining: %s",
        v->pairs, v->recall[0], v->recall[1], v->recall[2], v->recall[3], sides_name[sides]);
    for (int kind = 0; kind < 2; kind++)
        reco_log(s->job.ctx, RECO_LOG_INFO,
                 "1/rank, caption %s the memory: CLIP %.4f, image %.4f, text %.4f, both %.4f",
                 kind ? "in" : "not in", v->kinds[kind][0], v->kinds[kind][1], v->kinds[kind][2],
                 v->kinds[kind][3]);
    for (int c = 1; c < RECO_CHOICES; c++)
        reco_log(s->job.ctx, RECO_LOG_INFO, "%s refined: score %.4f, %+.4f against CLIP, error %.4f",
                 sides_name[c], v->score[c], v->gain[c], v->error[c]);
    if (v->sides == RECO_SIDES_NONE)
        reco_log(s->job.ctx, RECO_LOG_WARN,
                 "no refinement was clearly better than CLIP on held-out pairs%s",
                 sides == RECO_SIDES_NONE ? "; the checkpoint says not to refine" : "");
}

static void report_readout(const session *s)
{
    const reco_readout *r = &s->readout;
    const reco_mixture *m = &r->mixture;
    reco_log(s->job.ctx, RECO_LOG_INFO,
             "mixture: CLIP %.1f at scale %.3g, refined %.1f at %.3g, vote %.1f at %.3g; score %.4f, the "
             "refined "
             "cosines %.4f, CLIP %.4f, error %.4f",
             (double)m->clip, (double)m->scale[0], (double)m->refined, (double)m->scale[1],
             1 - (double)m->clip - (double)m->refined, (double)m->scale[2], r->mixed, r->cosines, r->clip,
             r->error);
}

static reco_status create(session *s)
{
    const reco_train_opts *o = &s->job.o;
    reco_fusion_config c = {.layer = o->layer,
                            .d = s->job.d,
                            .k = o->k,
                            .layers = (size_t)o->layers,
                            .heads = (size_t)o->heads,
                            .mlp = o->mlp,
                            .hidden = o->hidden,
                            .search = o->search,
                            .fuse = o->fuse,
                            .scores = !o->no_scores,
                            .min_similarity = o->min_similarity};
    float scale = o->scale;
    if (scale == 0) scale = reco_bank_get_info(s->job.bank).logit_scale;
    if (scale == 0) RECO_TRY(reco_train_fit_scale(&s->job, &scale));
    return reco_fusion_create(s->job.ctx, &s->fusion, &c, scale, o->seed);
}

reco_status reco_train(reco_ctx *ctx, const reco_bank *bank, const reco_train_pairs *pairs,
                       const char *path, const reco_train_opts *opts, reco_train_result *result)
{
    reco_status status = RECO_OK;
    double start = reco_now();
    bool resumed = false;
    session s = {.job = {.ctx = ctx, .bank = bank}, .path = path};
    if (opts) s.job.o = *opts;
    s.state_path = reco_format(ctx, "%s.state", path);
    if (!s.state_path) RECO_GO(RECO_E_NOMEM);
    if (s.job.o.command && reco_utf8_errors(s.job.o.command, strlen(s.job.o.command)))
        RECO_GO(reco_fail(ctx, RECO_E_ARG, "train: the command is not UTF-8"));
    RECO_GO(reco_job_load(&s.job, pairs));
    RECO_GO(create(&s));
    if (s.job.o.layer >= RECO_LAYER_RELATIONAL)
        RECO_GO(learn(&s, &resumed));
    else
        RECO_GO(choose_numbers(&s));
    reco_sides sides = s.job.o.force_sides ? s.job.o.sides : s.verdict.sides;
    report(&s, sides);
    reco_fusion_set_sides(s.fusion, sides);
    RECO_GO(choose_readout(&s, sides));
    report_readout(&s);
    RECO_GO(reco_train_describe(&s.job, s.fusion, &s.verdict, s.state.best_step));
    RECO_GO(reco_train_log_end(s.log, &s.verdict, s.state.best_step, sides, &s.readout.mixture));
    RECO_GO(reco_fusion_save(ctx, s.fusion, path));
    unlink(s.state_path);
    if (result)
        *result = (reco_train_result){.pairs = s.job.trained,
                                      .validation_pairs = s.job.nheld,
                                      .steps = s.job.o.steps,
                                      .best_step = s.state.best_step,
                                      .layer = s.job.o.layer,
                                      .clip = s.verdict.recall[0],
                                      .image = s.verdict.recall[1],
                                      .text = s.verdict.recall[2],
                                      .both = s.verdict.recall[3],
                                      .sides = sides,
                                      .mixture = s.readout.mixture,
                                      .concat = s.concat,
                                      .loss = s.state.loss,
                                      .seconds = reco_now() - start,
                                      .resumed = resumed};
out:
    reco_train_log_close(s.log);
    reco_learner_clear(&s.learner);
    reco_state_clear(&s.state);
    reco_free(s.learned);
    reco_free(s.initial);
    reco_fusion_free(s.fusion);
    reco_job_clear(&s.job);
    reco_free(s.state_path);
    return status;
}
