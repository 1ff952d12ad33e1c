/* What a checkpoint records about its training, and what a training state belongs to. */
#include "train/train_internal.h"
#include "io/io.h"

#include <stdio.h>

static const char *const sides_name[] = {"none", "image", "text", "both", "auto"};

/* A float by its shortest name: 0.999, not 0.99900001287460327. */
static json_t *single(float value)
{
    char text[32];
    snprintf(text, sizeof text, "%.9g", (double)value);
    for (int digits = 6; digits < 9; digits++) {
        char shorter[32];
        snprintf(shorter, sizeof shorter, "%.*g", digits, (double)value);
        if (strtof(shorter, NULL) != value) continue;
        memcpy(text, shorter, sizeof text);
        break;
    }
    return json_real(strtod(text, NULL));
}

json_t *reco_train_options(const reco_job *job)
{
    const reco_train_opts *o = &job->o;
    static const char *const modality[] = {"", "uni", "cross"};
    return json_pack(
        "{ss, sI, sI, sI, sf, sf, sf, sf, sf, so, so, sb, sb, sI, sI, sI, sI, ss, ss, sf, so, so, ss}",
        "layer", reco_layer_name(o->layer), "k", (json_int_t)o->k, "batch", (json_int_t)o->batch, "steps",
        (json_int_t)o->steps, "lr", o->lr, "weight_decay", o->weight_decay, "warmup", o->warmup, "clip",
        o->clip, "neighbour_dropout", o->neighbour_dropout, "max_similarity", single(o->max_similarity),
        "min_similarity", single(o->min_similarity), "scores", !o->no_scores, "rotate", o->rotate, "layers",
        (json_int_t)o->layers, "heads", (json_int_t)o->heads, "mlp", (json_int_t)o->mlp, "hidden",
        (json_int_t)o->hidden, "search", modality[o->search], "fuse", modality[o->fuse], "validation",
        o->validation, "scale", single(o->scale), "seed", json_sprintf("%llu", (unsigned long long)o->seed),
        "refine", sides_name[o->sides]);
}

/* The options as text, for json_decref's sake alone a copy; free with free(). */
static char *options_text(const reco_job *job)
{
    json_t *options = reco_train_options(job);
    char *text = options ? json_dumps(options, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    json_decref(options);
    if (!text) reco_fail_nomem(job->ctx, 0, "options");
    return text;
}

reco_status reco_job_data(const reco_job *job, char hex[33])
{
    reco_hash *h;
    RECO_TRY(reco_hash_new(job->ctx, &h));
    uint64_t counts[] = {job->trained, job->n - job->trained, job->d};
    reco_hash_update(h, counts, sizeof counts);
    for (int side = 0; side < 2; side++)
        reco_hash_update(h, job->rows[side], job->n * job->d * sizeof(float));
    reco_hash_hex(h, hex);
    return RECO_OK;
}

reco_status reco_job_key(const reco_job *job, char hex[33])
{
    reco_hash *h;
    char data[33];
    RECO_TRY(reco_job_data(job, data));
    char *text = options_text(job);
    if (!text) return RECO_E_NOMEM;
    reco_status status = reco_hash_new(job->ctx, &h);
    if (status == RECO_OK) {
        const uint64_t rule = RECO_TRAIN_RULE;
        reco_hash_update(h, RECO_VERSION, sizeof RECO_VERSION);
        reco_hash_update(h, &rule, sizeof rule);
        reco_hash_update(h, text, strlen(text));
        reco_hash_update(h, data, sizeof data);
        reco_hash_update(h, &job->runs, sizeof job->runs);
        for (size_t list = 0; list < job->lists; list++) {
            reco_hash_update(h, job->near[list], job->n * job->reach[list] * sizeof(uint32_t));
            reco_hash_update(h, job->scores[list], job->n * job->reach[list] * sizeof(float));
        }
        reco_hash_update(h, job->id, job->total * sizeof *job->id);
        reco_hash_update(h, job->same.picture, job->total * sizeof(uint32_t));
        reco_hash_update(h, job->same.caption, job->total * sizeof(uint32_t));
        reco_hash_hex(h, hex);
    }
    free(text);
    return status;
}

static reco_status set(const reco_job *job, reco_fusion *fusion, const char *key, size_t value)
{
    char number[32];
    snprintf(number, sizeof number, "%zu", value);
    return reco_fusion_set_meta(job->ctx, fusion, key, number);
}

static reco_status describe_inputs(const reco_job *job, reco_fusion *fusion)
{
    reco_ctx *ctx = job->ctx;
    reco_bank_info info = *reco_bank_get_info(job->bank);
    char data[33];
    RECO_TRY(reco_fusion_set_meta(ctx, fusion, "encoder", info.encoder));
    RECO_TRY(reco_fusion_set_meta(ctx, fusion, "fingerprint", info.fingerprint));
    RECO_TRY(reco_fusion_set_meta(ctx, fusion, "reco", RECO_VERSION));
    RECO_TRY(reco_job_data(job, data));
    RECO_TRY(reco_fusion_set_meta(ctx, fusion, "data", data));
    if (job->o.command) RECO_TRY(reco_fusion_set_meta(ctx, fusion, "command", job->o.command));
    char *options = options_text(job);
    if (!options) return RECO_E_NOMEM;
    reco_status status = reco_fusion_set_meta(ctx, fusion, "options", options);
    free(options);
    return status;
}

reco_status reco_train_describe(const reco_job *job, reco_fusion *fusion, const reco_verdict *v,
                                size_t steps)
{
    RECO_TRY(describe_inputs(job, fusion));
    RECO_TRY(set(job, fusion, "pairs", job->trained));
    RECO_TRY(set(job, fusion, "steps", steps));
    RECO_TRY(set(job, fusion, "seed", job->o.seed));
    char *text =
        reco_format(job->ctx, "recall@1 of %zu %s pairs: CLIP %.2f, image %.2f, text %.2f, both %.2f",
                    v->pairs, job->trained < job->n ? "validation" : "held-out", v->recall[0], v->recall[1],
                    v->recall[2], v->recall[3]);
    if (!text) return RECO_E_NOMEM;
    reco_status status = reco_fusion_set_meta(job->ctx, fusion, "validation", text);
    reco_free(text);
    return status;
}
