/* The log of a training: one JSON object per line. A resumed run keeps the lines up to its saved state and writes
 * the others again, so that each step is logged once. */
#include "train/train_internal.h"
#include "io/io.h"

#include <errno.h>
#include <math.h>

struct reco_train_log {
    FILE *out;
    const char *path;
    const reco_job *job;
    double began; /* as if the run had never been interrupted */
};

static json_t *real_or_null(double value) { return isfinite(value) ? json_real(value) : json_null(); }

static reco_status put_line(reco_train_log *log, json_t *line)
{
    reco_ctx *ctx = log->job->ctx;
    if (!line || json_object_set_new(line, "seconds", real_or_null(reco_now() - log->began)) != 0) {
        json_decref(line);
        return reco_fail_nomem(ctx, 0, "log");
    }
    char *text = json_dumps(line, JSON_COMPACT);
    json_decref(line);
    if (!text) return reco_fail_nomem(ctx, 0, "log");
    bool good = fprintf(log->out, "%s\n", text) > 0 && fflush(log->out) == 0;
    free(text);
    return good ? RECO_OK : reco_fail(ctx, RECO_E_IO, "%s: %s", log->path, strerror(errno));
}

/* ---- what an interrupted run has left ---- */

/* Is it a line of this job, of a step that the state holds? The first line says whose they are. */
static bool belongs(json_t *line, bool first, const reco_state *at)
{
    const char *job = json_string_value(json_object_get(line, "job"));
    if (first) return job && strcmp(job, at->key) == 0;
    const json_t *step = json_object_get(line, "step");
    return json_is_integer(step) && (size_t)json_integer_value(step) <= at->step;
}

/* Copy what belongs to a new file in its place; *kept says whether there was any, *seconds when the last was written. */
static reco_status keep_lines(reco_ctx *ctx, const char *path, const reco_state *at, bool *kept,
                              double *seconds)
{
    reco_status status = RECO_OK;
    reco_lines *lines = NULL;
    reco_file *file = NULL;
    const char *text;
    size_t bytes;
    *kept = false;
    if (!reco_path_exists(path)) return RECO_OK;
    RECO_GO(reco_lines_open(ctx, &lines, path));
    for (;;) {
        RECO_GO(reco_lines_next(ctx, lines, &text, &bytes));
        json_t *line = text ? json_loadb(text, bytes, JSON_REJECT_DUPLICATES, NULL) : NULL;
        bool good = line && belongs(line, !*kept, at);
        if (good) *seconds = json_number_value(json_object_get(line, "seconds"));
        json_decref(line);
        if (!good && !*kept) break; /* of another training */
        if (!good && text) continue;
        if (!*kept) RECO_GO(reco_file_begin(ctx, &file, path));
        *kept = true;
        if (!text) break;
        RECO_GO(reco_file_printf(ctx, file, "%.*s\n", (int)bytes, text));
    }
    if (file) {
        status = reco_file_commit(ctx, file);
        file = NULL;
    }
out:
    reco_file_abort(file);
    reco_lines_close(lines);
    return status;
}

/* ---- */

reco_status reco_train_log_open(reco_train_log **out, const reco_job *job, const reco_state *at,
                                bool resumed)
{
    reco_ctx *ctx = job->ctx;
    reco_status status = RECO_OK;
    bool kept = false;
    double seconds = 0;
    char data[33];
    *out = NULL;
    if (!job->o.log) return RECO_OK;
    reco_train_log *log = reco_alloc(ctx, 1, sizeof *log, "log");
    if (!log) return RECO_E_NOMEM;
    *log = (reco_train_log){.path = job->o.log, .job = job};
    if (resumed) RECO_GO(keep_lines(ctx, log->path, at, &kept, &seconds));
    log->began = reco_now() - seconds;
    if (!(log->out = fopen(log->path, kept ? "ae" : "we")))
        RECO_GO(reco_fail(ctx, RECO_E_IO, "%s: %s", log->path, strerror(errno)));
    RECO_GO(reco_job_data(job, data));
    if (!kept)
        RECO_GO(put_line(log, json_pack("{ss, ss, ss, sI, sI, ss, so, ss*}", "event", "start", "job",
                                        at->key, "reco", RECO_VERSION, "pairs", (json_int_t)job->trained,
                                        "validation_pairs", (json_int_t)job->nheld, "data", data, "options",
                                        reco_train_options(job), "command", job->o.command)));
    *out = log;
    log = NULL;
out:
    reco_train_log_close(log);
    return status;
}

void reco_train_log_close(reco_train_log *log)
{
    if (!log) return;
    if (log->out) fclose(log->out);
    reco_free(log);
}

reco_status reco_train_log_step(reco_train_log *log, const reco_state *s, size_t run,
                                const reco_step *taken)
{
    if (!log) return RECO_OK;
    return put_line(log,
                    json_pack("{ss, sI, sI, so, so, so, so}", "event", "step", "run", (json_int_t)run,
                              "step", (json_int_t)s->step, "loss", real_or_null(taken->loss), "lr",
                              real_or_null(taken->lr), "gradient_norm", real_or_null(taken->norm), "scale",
                              real_or_null(exp((double)s->vector[(run + 1) * s->total - 1]))));
}

static json_t *choices(const double value[RECO_CHOICES])
{
    return json_pack("{so, so, so, so}", "clip", real_or_null(value[0]), "image", real_or_null(value[1]),
                     "text", real_or_null(value[2]), "both", real_or_null(value[3]));
}

reco_status reco_train_log_validation(reco_train_log *log, const reco_state *s, size_t run,
                                      const reco_outcome *outcomes)
{
    if (!log) return RECO_OK;
    const reco_job *job = log->job;
    size_t first = job->held_start[run], n = job->held_start[run + 1] - first;
    double recall[RECO_CHOICES] = {0}, rank[RECO_CHOICES] = {0};
    for (size_t i = first; i < first + n; i++)
        for (int c = 0; c < RECO_CHOICES; c++) {
            recall[c] += 100 * (double)outcomes[i].hit[c] / (double)n;
            rank[c] += (double)outcomes[i].reciprocal[1][c] / (double)n;
        }
    return put_line(log, json_pack("{ss, sI, sI, sI, so, so}", "event", "validation", "run",
                                   (json_int_t)run, "step", (json_int_t)s->step, "pairs", (json_int_t)n,
                                   "recall_at_1", choices(recall), "reciprocal_rank", choices(rank)));
}

reco_status reco_train_log_end(reco_train_log *log, const reco_verdict *v, size_t best_step,
                               reco_sides sides, const reco_mixture *m)
{
    static const char *const sides_name[] = {"none", "image", "text", "both"};
    if (!log) return RECO_OK;
    return put_line(log, json_pack("{ss, sI, so, ss, s[oooooo]}", "event", "end", "best_step",
                                   (json_int_t)best_step, "recall_at_1", choices(v->recall), "refine",
                                   sides_name[sides], "mixture", real_or_null((double)m->clip),
                                   real_or_null((double)m->refined),
                                   real_or_null(1 - (double)m->clip - (double)m->refined),
                                   real_or_null((double)m->scale[0]), real_or_null((double)m->scale[1]),
                                   real_or_null((double)m->scale[2])));
}
