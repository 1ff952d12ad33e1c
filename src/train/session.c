#include "train/train_internal.h"

#include <math.h>

/* Seconds between two writes of the training state. */
#define STATE_EVERY 4.0

/* A run is measured at each eighth of its steps. */
enum { EIGHTHS = 8, FIRST = 3 };

static const char *const sides_name[] = {"none", "image", "text", "both"};

static bool keeps_best(const reco_session *s) { return reco_layer_memorises(s->job->o.layer); }

/* ---- runs ---- */

/* Write the state when it is time; always, before an error goes up that the user or the system caused. */
static reco_status keep_going(reco_session *s)
{
    size_t runs = s->state.runs, total = runs * s->job->o.steps;
    reco_status status = reco_progress(s->job->ctx, "train", runs * s->state.step, total);
    if (status == RECO_OK && reco_now() - s->saved_at < STATE_EVERY) return RECO_OK;
    reco_status saved = status == RECO_OK || status == RECO_E_CANCELLED
                            ? reco_state_save(&s->state, s->job, s->state_path)
                            : RECO_OK;
    s->saved_at = reco_now();
    return status != RECO_OK ? status : saved;
}

/* A layer that learns pairs by heart may have begun to within a few steps of few pairs: it is measured at doublings before its
 * first eighth. How many. */
static size_t early_checkpoints(const reco_session *s)
{
    size_t n = 0;
    while (keeps_best(s) && (size_t)FIRST << (n + 1) <= s->job->o.steps / EIGHTHS) n++;
    return n;
}

static size_t checkpoint_step(const reco_session *s, size_t checkpoint)
{
    size_t early = early_checkpoints(s);
    return checkpoint < early ? (size_t)FIRST << checkpoint
                              : s->job->o.steps * (checkpoint - early + 1) / (s->state.checkpoints - early);
}

/* Is there no more to hope for? The rate has long been at its height, and three doublings brought nothing better. */
static bool is_past_best(const reco_session *s)
{
    const reco_state *st = &s->state;
    return keeps_best(s) && st->best_step > 0 && st->step >= s->job->o.steps / 4 &&
           st->step >= 8 * st->best_step;
}

/* The parameters of a run at one of its checkpoints. */
static float *kept(const reco_session *s, size_t checkpoint, size_t run)
{
    return s->state.kept + (checkpoint * s->state.runs + run) * s->state.total;
}

static reco_status measure_if_due(reco_session *s)
{
    reco_state *st = &s->state;
    for (size_t c = 0; c < st->checkpoints; c++) {
        if (checkpoint_step(s, c) != st->step) continue;
        reco_outcome *out = st->outcomes + c * s->job->nheld;
        RECO_TRY(reco_crew_measure(&s->crew, out));
        for (size_t run = 0; run < s->job->runs; run++)
            RECO_TRY(reco_train_log_validation(s->log, st, run, out));
        if (st->kept) memcpy(kept(s, c, 0), st->vector, st->runs * st->total * sizeof *st->kept);
        if (!keeps_best(s)) continue;
        reco_verdict v;
        RECO_TRY(reco_choose(s->job, &v, out));
        if (v.merit > st->best_merit) {
            st->best_merit = v.merit;
            st->best_step = st->step;
            memcpy(st->best, st->vector, st->total * sizeof *st->best);
        }
    }
    return RECO_OK;
}

static reco_status take_steps(reco_session *s)
{
    reco_state *st = &s->state;
    while (st->step < s->job->o.steps && !is_past_best(s)) {
        RECO_TRY(reco_crew_step(&s->crew));
        st->step++;
        st->loss = s->crew.taken[st->runs - 1].loss;
        for (size_t run = 0; run < st->runs; run++)
            RECO_TRY(reco_train_log_step(s->log, st, run, &s->crew.taken[run]));
        RECO_TRY(measure_if_due(s));
        RECO_TRY(keep_going(s));
    }
    return RECO_OK;
}

/* The checkpoint that was best. */
static size_t best_checkpoint(const reco_session *s)
{
    size_t c = 0;
    while (c + 1 < s->state.checkpoints && checkpoint_step(s, c) != s->state.best_step) c++;
    return c;
}

/* The number of steps whose outcomes, over all runs, were best: all of them, unless stopping earlier was better by more
 * than the error. What is left is luck, and at the end of the schedule parameters have come to rest. */
static reco_status choose_step(reco_session *s)
{
    reco_state *st = &s->state;
    if (!keeps_best(s)) {
        st->best_merit = -INFINITY;
        for (size_t c = st->checkpoints; c-- > 0;) {
            reco_verdict v;
            RECO_TRY(reco_choose(s->job, &v, st->outcomes + c * s->job->nheld));
            double margin = c + 1 == st->checkpoints ? 0 : v.error[v.best];
            if (v.merit - margin < st->best_merit) continue;
            st->best_merit = v.merit;
            st->best_step = checkpoint_step(s, c);
        }
    }
    memcpy(s->outcomes, st->outcomes + best_checkpoint(s) * s->job->nheld,
           s->job->nheld * sizeof *s->outcomes);
    return reco_choose(s->job, &s->verdict, s->outcomes);
}

static reco_status learn(reco_session *s)
{
    reco_state *st = &s->state;
    reco_job *job = s->job;
    reco_ctx *ctx = job->ctx;
    RECO_TRY(reco_state_create(st, job, s->fusion, early_checkpoints(s) + reco_min(EIGHTHS, job->o.steps)));
    RECO_TRY(reco_crew_create(&s->crew, job, s->fusion, st));
    RECO_TRY(reco_job_key(job, st->key));
    if (!job->o.fresh) RECO_TRY(reco_state_load(st, job, s->state_path, &s->resumed));
    RECO_TRY(reco_train_log_open(&s->log, job, st, s->resumed));
    s->saved_at = reco_now();
    RECO_TRY(take_steps(s));
    if (s->keep_state) RECO_TRY(reco_state_save(st, job, s->state_path));
    RECO_TRY(choose_step(s));
    memcpy(reco_fusion_vector(s->fusion, &(size_t){0}),
           keeps_best(s) ? st->best : kept(s, best_checkpoint(s), st->runs - 1),
           st->total * sizeof *st->vector);
    reco_train_temper(job, s->fusion);
    size_t total = st->runs * job->o.steps;
    return reco_progress(ctx, "train", total, total);
}

/* Of a layer without training. */
static reco_status choose_numbers(reco_session *s)
{
    RECO_TRY(reco_job_key(s->job, s->state.key));
    RECO_TRY(reco_train_log_open(&s->log, s->job, &s->state, false));
    return reco_train_grid(s->job, &s->fusion, s->outcomes, &s->verdict);
}

/* ---- the readout ---- */

/* Each run's pairs with the layer that has not met them. */
static reco_status ask_runs(reco_session *s, reco_queries *q)
{
    const reco_state *st = &s->state;
    float *vector = reco_fusion_vector(s->fusion, &(size_t){0});
    for (size_t run = 0; run < s->job->runs; run++) {
        if (st->kept) {
            memcpy(vector, kept(s, best_checkpoint(s), run), st->total * sizeof *vector);
            reco_train_temper(s->job, s->fusion);
        }
        RECO_TRY(reco_queries_add(s->job, s->fusion, run, s->sides, q));
    }
    return RECO_OK;
}

/* The vote's metric, of all captions; where no vote is heard, none, and the scale that cosines have without one. */
static reco_status keep_metric(reco_session *s, const reco_queries *q)
{
    const reco_job *job = s->job;
    reco_mixture *m = &s->readout.mixture;
    bool found = q->metric && reco_mixture_votes(m);
    if (q->metric && !found) m->scale[2] = 40;
    if (!found) return RECO_OK;
    reco_mark mark = reco_scratch_mark(job->ctx);
    float *metric = reco_scratch(job->ctx, RECO_METRIC_FLOATS(job->d), sizeof *metric, "metric");
    reco_status status = metric ? reco_learn_metric(job, NULL, RECO_METRICS, metric, &found) : RECO_E_NOMEM;
    if (status == RECO_OK) status = reco_fusion_set_metric(job->ctx, s->fusion, metric);
    reco_scratch_release(job->ctx, mark);
    return status;
}

static reco_status choose_readout(reco_session *s)
{
    reco_queries q = {0};
    reco_mark mark = reco_scratch_mark(s->job->ctx);
    size_t total;
    float *vector = reco_fusion_vector(s->fusion, &total),
          *learned = reco_scratch(s->job->ctx, total, sizeof *learned, "readout");
    if (!learned) {
        reco_scratch_release(s->job->ctx, mark);
        return RECO_E_NOMEM;
    }
    memcpy(learned, vector, total * sizeof *learned);
    reco_status status = reco_queries_create(s->job, &q);
    if (status == RECO_OK) status = ask_runs(s, &q);
    memcpy(vector, learned, total * sizeof *learned);
    if (status == RECO_OK) status = reco_choose_mixture(s->job, &q, s->sides, &s->readout);
    if (status == RECO_OK) status = keep_metric(s, &q);
    if (status == RECO_OK) status = reco_fusion_set_mixture(s->job->ctx, s->fusion, &s->readout.mixture);
    if (status == RECO_OK) status = reco_choose_concat(s->job, &q, &s->concat);
    if (status == RECO_OK) status = reco_fusion_set_concat(s->job->ctx, s->fusion, s->concat);
    reco_queries_clear(&q);
    reco_scratch_release(s->job->ctx, mark);
    return status;
}

/* ---- the checkpoint ---- */

static void log_verdict(const reco_session *s)
{
    const reco_verdict *v = &s->verdict;
    reco_log(s->job->ctx, RECO_LOG_INFO,
             "%s: recall@1 on %zu held-out pairs: CLIP %.1f, image refined %.1f, text %.1f, both %.1f; "
             "refining: %s",
             reco_layer_name(s->layer), v->pairs, v->recall[0], v->recall[1], v->recall[2], v->recall[3],
             sides_name[s->sides]);
    for (int kind = 0; kind < 2; kind++)
        reco_log(s->job->ctx, RECO_LOG_INFO,
                 "mean 1/rank, captions %s the memory: CLIP %.4f, image %.4f, text %.4f, both %.4f",
                 kind ? "in" : "not in", v->kinds[kind][0], v->kinds[kind][1], v->kinds[kind][2],
                 v->kinds[kind][3]);
    for (int c = 1; c < RECO_CHOICES; c++)
        reco_log(s->job->ctx, RECO_LOG_INFO, "%s refined: score %.4f, %+.4f against CLIP, error %.4f",
                 sides_name[c], v->score[c], v->gain[c], v->error[c]);
}

static void report_readout(const reco_session *s)
{
    const reco_readout *r = &s->readout;
    const reco_mixture *m = &r->mixture;
    reco_log(s->job->ctx, RECO_LOG_INFO,
             "mixture: CLIP %.1f at scale %.3g, refined %.1f at %.3g, vote %.1f at %.3g; score %.4f, "
             "refined cosines %.4f, CLIP %.4f, error %.4f",
             (double)m->clip, (double)m->scale[0], (double)m->refined, (double)m->scale[1],
             fabs(1 - (double)m->clip - (double)m->refined), (double)m->scale[2], r->mixed, r->cosines,
             r->clip, r->error);
}

static reco_status create_layer(reco_session *s)
{
    const reco_train_opts *o = &s->job->o;
    reco_fusion_config c = {.layer = o->layer,
                            .d = s->job->d,
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
    if (scale == 0) scale = reco_bank_get_info(s->job->bank)->logit_scale;
    if (scale == 0) RECO_TRY(reco_train_fit_scale(s->job, &scale));
    return reco_fusion_create(s->job->ctx, &s->fusion, &c, scale, o->seed);
}

reco_status reco_session_learn(reco_session *s)
{
    reco_job *job = s->job;
    reco_ctx *ctx = job->ctx;
    double start = reco_now();
    s->layer = job->o.layer;
    s->steps = job->o.steps;
    s->pairs = job->nheld;
    s->held = reco_alloc(ctx, s->pairs, sizeof *s->held, "validation");
    s->outcomes = reco_alloc(ctx, s->pairs, sizeof *s->outcomes, "validation");
    if (!s->held || !s->outcomes) return RECO_E_NOMEM;
    memcpy(s->held, job->held, s->pairs * sizeof *s->held);
    RECO_TRY(create_layer(s));
    RECO_TRY(job->o.layer >= RECO_LAYER_RELATIONAL ? learn(s) : choose_numbers(s));
    s->sides = job->o.sides == RECO_SIDES_DEFAULT ? s->verdict.sides : job->o.sides;
    s->best_step = s->state.best_step;
    s->loss = s->state.loss;
    s->seconds = reco_now() - start;
    log_verdict(s);
    return RECO_OK;
}

reco_status reco_session_finish(reco_session *s)
{
    if (s->verdict.sides == RECO_SIDES_NONE)
        reco_log(s->job->ctx, RECO_LOG_WARN,
                 "no refinement was clearly better than CLIP on held-out pairs%s",
                 s->sides == RECO_SIDES_NONE ? "; the checkpoint says not to refine" : "");
    reco_fusion_set_sides(s->fusion, s->sides);
    RECO_TRY(choose_readout(s));
    report_readout(s);
    RECO_TRY(reco_train_describe(s->job, s->fusion, &s->verdict, s->best_step));
    return reco_train_log_end(s->log, &s->verdict, s->best_step, s->sides, &s->readout.mixture);
}

void reco_session_rest(reco_session *s)
{
    reco_train_log_close(s->log);
    reco_crew_clear(&s->crew);
    reco_state_clear(&s->state);
    s->log = NULL;
    s->crew = (reco_crew){0};
    s->state = (reco_state){0};
}

void reco_session_clear(reco_session *s)
{
    reco_session_rest(s);
    reco_fusion_free(s->fusion);
    reco_free(s->outcomes);
    reco_free(s->held);
    reco_free(s->log_path);
    reco_free(s->state_path);
}
