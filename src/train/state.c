#include "train/train_internal.h"
#include "io/io.h"

#include <math.h>
#include <stdio.h>

reco_status reco_state_create(reco_state *s, const reco_job *job, reco_fusion *fusion, size_t checkpoints)
{
    reco_ctx *ctx = job->ctx;
    bool keeps_best = reco_layer_memorises(job->o.layer);
    *s = (reco_state){.checkpoints = checkpoints, .best_merit = -INFINITY};
    /* A layer that can learn its pairs by heart stays as it was when the held-out pairs were served best. One that cannot is
     * trained with all pairs, too; where others are judged on, it meets all anyway. */
    s->runs = job->runs + (!keeps_best && job->trained == job->n);
    s->vector = reco_fusion_vector(fusion, &s->total);
    s->m = reco_alloc(ctx, s->runs * s->total, sizeof *s->m, "training state");
    s->v = reco_alloc(ctx, s->runs * s->total, sizeof *s->v, "training state");
    s->best = reco_alloc(ctx, s->total, sizeof *s->best, "training state");
    s->outcomes = reco_alloc(ctx, checkpoints * job->nheld, sizeof *s->outcomes, "training state");
    if (!s->m || !s->v || !s->best || !s->outcomes) return RECO_E_NOMEM;
    if (keeps_best) return RECO_OK;
    const float *initial = s->vector;
    s->vector = reco_alloc(ctx, s->runs * s->total, sizeof *s->vector, "training state");
    s->kept = reco_alloc(ctx, checkpoints * s->runs * s->total, sizeof *s->kept, "training state");
    if (!s->vector || !s->kept) {
        reco_free(s->vector);
        s->vector = NULL;
        return RECO_E_NOMEM;
    }
    for (size_t run = 0; run < s->runs; run++)
        memcpy(s->vector + run * s->total, initial, s->total * sizeof *s->vector);
    return RECO_OK;
}

void reco_state_clear(reco_state *s)
{
    if (s->kept) reco_free(s->vector);
    reco_free(s->kept);
    reco_free(s->outcomes);
    reco_free(s->best);
    reco_free(s->v);
    reco_free(s->m);
}

enum { PARTS = 6, OUTCOME = sizeof(reco_outcome) / sizeof(float) };

/* The arrays of a state, as tensors. */
static void parts_of(reco_tensor parts[PARTS], const reco_state *s, const reco_job *job)
{
    const char *const names[PARTS] = {"vector", "m", "v", "best", "kept", "outcomes"};
    const float *const data[PARTS] = {s->vector, s->m, s->v, s->best, s->kept, (const float *)s->outcomes};
    for (int p = 0; p < PARTS; p++) {
        size_t n = p < PARTS - 3    ? s->runs * s->total
                   : p == PARTS - 3 ? s->total
                   : p == PARTS - 2 ? (s->kept ? s->checkpoints * s->runs * s->total : 0)
                                    : s->checkpoints * job->nheld * OUTCOME;
        parts[p] = (reco_tensor){.name = names[p],
                                 .dtype = RECO_DTYPE_F32,
                                 .rank = 1,
                                 .shape = {n},
                                 .count = n,
                                 .bytes = n * sizeof(float),
                                 .data = data[p]};
    }
}

reco_status reco_state_save(const reco_state *s, const reco_job *job, const char *path)
{
    reco_tensor parts[PARTS];
    char at[200];
    parts_of(parts, s, job);
    snprintf(at, sizeof at, "%zu %zu %.17g %.17g", s->step, s->best_step, s->best_merit, s->loss);
    const reco_meta meta[] = {{"format", "reco-train-state-2"}, {"job", s->key}, {"at", at}};
    return reco_safetensors_write(job->ctx, path, parts, PARTS, meta, 3);
}

/* Everything is checked before anything is taken: a state is either whole, or as if it were not there. */
static reco_status check_state(reco_ctx *ctx, const reco_safetensors *st, const reco_state *s,
                               const reco_job *job, reco_state *at, const reco_tensor *found[PARTS])
{
    const char *path = reco_safetensors_path(st), *key = reco_safetensors_meta(st, "job");
    const char *where = reco_safetensors_meta(st, "at");
    if (!key || strcmp(key, s->key) != 0)
        return reco_fail(ctx, RECO_E_MISMATCH, "%s: belongs to a training with other options or data",
                         path);
    if (!where ||
        sscanf(where, "%zu %zu %lf %lf", &at->step, &at->best_step, &at->best_merit, &at->loss) != 4 ||
        at->step > job->o.steps || at->best_step > job->o.steps)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: damaged", path);
    reco_tensor parts[PARTS];
    parts_of(parts, s, job);
    for (int p = 0; p < PARTS; p++) {
        RECO_TRY(reco_safetensors_need(ctx, st, &found[p], parts[p].name, 1, parts[p].shape));
        if (found[p]->dtype != RECO_DTYPE_F32) return reco_fail(ctx, RECO_E_FORMAT, "%s: damaged", path);
    }
    for (size_t i = OUTCOME - 1; i < found[PARTS - 1]->count; i += OUTCOME) {
        float twin; /* the only number that is used as an index */
        RECO_TRY(reco_tensor_f32(ctx, found[PARTS - 1], i, 1, &twin));
        if (twin != (float)RECO_TWIN_NONE && twin != (float)RECO_TWIN_UNKNOWN &&
            twin != (float)RECO_TWIN_KNOWN)
            return reco_fail(ctx, RECO_E_FORMAT, "%s: damaged", path);
    }
    return RECO_OK;
}

reco_status reco_state_load(reco_state *s, const reco_job *job, const char *path, bool *found)
{
    reco_ctx *ctx = job->ctx;
    reco_safetensors *st = NULL;
    const reco_tensor *tensors[PARTS];
    reco_tensor parts[PARTS];
    reco_state at;
    *found = false;
    if (!reco_path_exists(path)) return RECO_OK;
    reco_status status = reco_safetensors_open(ctx, &st, path);
    if (status == RECO_OK) status = check_state(ctx, st, s, job, &at, tensors);
    parts_of(parts, s, job);
    for (int p = 0; p < PARTS && status == RECO_OK; p++)
        status = reco_tensor_f32(ctx, tensors[p], 0, parts[p].count, (float *)parts[p].data);
    if (status == RECO_OK) {
        s->step = at.step;
        s->best_step = at.best_step;
        s->best_merit = at.best_merit;
        s->loss = at.loss;
        *found = true;
    }
    reco_safetensors_close(st);
    if (status == RECO_OK || status == RECO_E_NOMEM) return status;
    reco_log(ctx, RECO_LOG_WARN, "training begins anew: %s", reco_ctx_error(ctx));
    return RECO_OK;
}
