#include "train/train_internal.h"

#include <stdio.h>
#include <unistd.h>

/* In this order: each takes the place of the best before it when it is clearly better. */
static const reco_layer layers[RECO_TRAIN_LAYERS] = {RECO_LAYER_RELATIONAL, RECO_LAYER_WEIGHTED,
                                                     RECO_LAYER_TRANSFORMER};

static char *state_path(reco_ctx *ctx, const char *path, reco_layer layer)
{
    return reco_format(ctx, "%s.%s.state", path, reco_layer_name(layer));
}

/* b against a, on the pairs that both were judged on, by the score that sides are chosen by: in the verdict's place of CLIP stands
 * a, with the sides that it refines, and in the place of both sides b with its own. */
static reco_status compare_sessions(const reco_session *a, const reco_session *b, reco_verdict *verdict)
{
    reco_ctx *ctx = a->job->ctx;
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    reco_job common = *a->job;
    uint32_t *place = reco_scratch(ctx, common.n, sizeof *place, "validation");
    reco_outcome *outcomes = reco_scratch(ctx, b->pairs, sizeof *outcomes, "validation");
    common.held = reco_scratch(ctx, b->pairs, sizeof *common.held, "validation");
    common.nheld = 0;
    if (!place || !outcomes || !common.held) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < common.n; i++) place[i] = RECO_NOTHING;
    for (size_t i = 0; i < a->pairs; i++) place[a->held[i]] = (uint32_t)i;
    for (size_t i = 0; i < b->pairs; i++) {
        if (place[b->held[i]] == RECO_NOTHING) continue;
        const reco_outcome *x = &a->outcomes[place[b->held[i]]], *y = &b->outcomes[i];
        reco_outcome *to = &outcomes[common.nheld];
        *to = (reco_outcome){.twin = x->twin};
        for (int choice = 0; choice < RECO_CHOICES; choice++) {
            const reco_outcome *from = choice ? y : x;
            int sides = (int)(choice ? b->sides : a->sides);
            to->hit[choice] = from->hit[sides];
            for (int known = 0; known < 2; known++)
                to->reciprocal[known][choice] = from->reciprocal[known][sides];
        }
        common.held[common.nheld++] = b->held[i];
    }
    RECO_GO(reco_choose(&common, verdict, outcomes));
out:
    reco_scratch_release(ctx, mark);
    return status;
}

static void note_layer(reco_train_layer *to, const reco_session *s)
{
    const reco_verdict *v = &s->verdict;
    *to = (reco_train_layer){.layer = s->layer,
                             .sides = s->sides,
                             .pairs = s->pairs,
                             .best_step = s->best_step,
                             .clip = v->score[0],
                             .score = v->score[s->sides],
                             .seconds = s->seconds};
}

/* Does b take a's place? */
static reco_status challenge(const reco_session *a, const reco_session *b, reco_train_layer *row,
                             bool *wins)
{
    reco_verdict v;
    RECO_TRY(compare_sessions(a, b, &v));
    row->against = a->layer;
    row->common = v.pairs;
    row->gain = v.gain[RECO_SIDES_BOTH];
    row->error = v.error[RECO_SIDES_BOTH];
    *wins = b->sides != RECO_SIDES_NONE && row->gain > row->error && row->gain >= RECO_LEAST_GAIN;
    return RECO_OK;
}

static reco_status train_one(reco_job *job, const reco_train_opts *asked, const char *path,
                             reco_layer layer, reco_session *s)
{
    *s = (reco_session){.job = job, .keep_state = true};
    if (job->o.layer != layer) RECO_TRY(reco_job_turn(job, asked, layer));
    s->state_path = state_path(job->ctx, path, layer);
    if (asked->log) s->log_path = reco_format(job->ctx, "%s.%s", asked->log, reco_layer_name(layer));
    if (!s->state_path || (asked->log && !s->log_path)) return RECO_E_NOMEM;
    job->o.log = s->log_path;
    return reco_session_learn(s);
}

reco_status reco_train_compare(reco_job *job, const reco_train_opts *asked, const char *path,
                               reco_session *best, reco_train_result *result)
{
    reco_status status = RECO_OK;
    reco_session next = {0};
    for (size_t i = 0; i < RECO_TRAIN_LAYERS; i++) {
        reco_train_layer *row = &result->compared[i];
        bool wins = true;
        RECO_GO(train_one(job, asked, path, layers[i], &next));
        note_layer(row, &next);
        if (i > 0) RECO_GO(challenge(best, &next, row, &wins));
        if (wins) {
            RECO_GO(reco_session_finish(&next));
            reco_session_rest(&next);
            reco_session_clear(best);
            *best = next;
            next = (reco_session){0};
        }
        reco_session_clear(&next);
        next = (reco_session){0};
    }
    result->layers = RECO_TRAIN_LAYERS;
out:
    reco_session_clear(&next);
    return status;
}

void reco_train_compared(reco_ctx *ctx, const char *path)
{
    for (size_t i = 0; i < RECO_TRAIN_LAYERS; i++) {
        char *state = state_path(ctx, path, layers[i]);
        if (state) unlink(state);
        reco_free(state);
    }
}
