#include "study/study_internal.h"

#include <math.h>
#include <stdio.h>

static const char *const metric_names[] = {"all", "old", "new", "harmonic", "acc5", "mean_per_class"};

const char *reco_study_metric_name(reco_study_metric metric)
{
    return (unsigned)metric < RECO_STUDY_METRICS ? metric_names[metric] : "?";
}

typedef struct running {
    reco_ctx *ctx;
    reco_study *study;
    const char *dir;
    const reco_stream_opts *stream;
    reco_study_result *result;
    study_data data;
    study_bank pairs;          /* what is trained on, where it is a bank */
    study_bank trained, asked; /* asked: of the memory and share of wrong captions below */
    size_t memory;
    double wrong;
    bool ready; /* asked is open */
    reco_pair_set set;
    bool loaded;
    char pairs_key[33];
    char checkpoints[STUDY_MOST_ROWS][33]; /* that were used, each once */
    size_t ncheckpoints;
    size_t done, total;
} running;

static reco_status folder(const running *r, const char *name)
{
    char *path = name ? reco_path_join(r->ctx, r->dir, name) : reco_strdup(r->ctx, r->dir);
    if (!path) return RECO_E_NOMEM;
    reco_status status = reco_mkdirs(r->ctx, path);
    reco_free(path);
    return status;
}

/* ---- training ---- */

static reco_status load_pairs(running *r)
{
    if (r->loaded) return RECO_OK;
    char *path = NULL;
    reco_hash *h;
    if (r->study->pairs) {
        RECO_TRY(study_pairs_path(r->ctx, &path, r->study, &r->data, r->dir, r->stream));
        reco_status status = reco_pair_set_load(r->ctx, &r->set, path);
        bool bank = false;
        if (status == RECO_OK) status = study_is_bank(r->ctx, path, &bank);
        if (status == RECO_OK && bank) status = study_bank_at(r->ctx, &r->pairs, path, &r->data);
        if (status == RECO_OK && bank) status = study_bank_classes(r->ctx, &r->pairs, &r->data);
        reco_free(path);
        if (status != RECO_OK) return status;
        if (r->set.d != r->data.d)
            return reco_fail(r->ctx, RECO_E_MISMATCH, "%s: vectors of %zu, want the model's %zu",
                             r->study->pairs, r->set.d, r->data.d);
    }
    RECO_TRY(reco_hash_new(r->ctx, &h));
    size_t n = r->set.n, d = r->set.d;
    if (n) {
        reco_hash_update(h, r->set.image, n * d * sizeof(float));
        reco_hash_update(h, r->set.text, n * d * sizeof(float));
        reco_hash_update(h, r->set.captions, n * sizeof *r->set.captions);
        reco_hash_update(h, r->set.pictures, n * sizeof *r->set.pictures);
    }
    reco_hash_hex(h, r->pairs_key);
    r->loaded = true;
    return RECO_OK;
}

static reco_status train_key(const running *r, const study_spec *spec, uint64_t seed, char key[33])
{
    const reco_train_opts *t = &spec->train;
    reco_hash *h;
    char text[512];
    int n = snprintf(text, sizeof text,
                     "%s %s %s %d %zu %zu %zu %.17g %.17g %.17g %.9g %.9g %d %d %d %d %d %d %d %.17g %llu",
                     RECO_VERSION, r->trained.key, r->pairs_key, (int)t->layer, t->k, t->batch, t->steps,
                     t->lr, t->weight_decay, t->neighbour_dropout, (double)t->max_similarity,
                     (double)t->min_similarity, t->use_min_similarity, t->no_scores, t->rotate, t->heads,
                     t->layers, (int)t->search, (int)t->fuse, t->validation, (unsigned long long)seed);
    RECO_TRY(reco_hash_new(r->ctx, &h));
    reco_hash_update(h, text, (size_t)n);
    reco_hash_hex(h, key);
    return RECO_OK;
}

static void note_checkpoint(running *r, const char *key)
{
    for (size_t i = 0; i < r->ncheckpoints; i++)
        if (strcmp(r->checkpoints[i], key) == 0) return;
    if (r->ncheckpoints < STUDY_MOST_ROWS) memcpy(r->checkpoints[r->ncheckpoints++], key, 33);
}

/* The checkpoint, trained where it is not there. */
static reco_status trained(running *r, const study_spec *spec, uint64_t seed, const char *key, char **path)
{
    *path = reco_format(r->ctx, "%s/checkpoints/%s.safetensors", r->dir, key);
    if (!*path) return RECO_E_NOMEM;
    if (reco_path_exists(*path)) return RECO_OK;
    reco_train_opts opts = spec->train;
    opts.seed = seed;
    reco_train_pairs pairs = {r->set.n, r->set.image, r->set.text, r->set.captions, r->set.pictures};
    reco_train_result result;
    RECO_TRY(reco_train(r->ctx, r->trained.bank, r->set.n ? &pairs : NULL, *path, &opts, &result));
    r->result->trained++;
    return RECO_OK;
}

/* ---- cells ---- */

static reco_status need_bank(running *r, const study_spec *spec)
{
    if (r->ready && r->memory == spec->memory && r->wrong == spec->wrong)
        return study_bank_classes(r->ctx, &r->asked, &r->data);
    study_bank_close(&r->asked);
    r->ready = false;
    RECO_TRY(study_bank_open(r->ctx, &r->asked, r->study, &r->data, spec->memory, spec->wrong, r->dir,
                             r->stream));
    r->memory = spec->memory;
    r->wrong = spec->wrong;
    r->ready = true;
    return study_bank_classes(r->ctx, &r->asked, &r->data);
}

/* All that the cell depends on. The memory's key says what it holds; a share is drawn by the seed. */
static reco_status cell_key(const running *r, const study_spec *spec, const char *layer, uint64_t seed,
                            char key[33])
{
    reco_hash *h;
    char text[512];
    bool drawn = spec->share > 0 && spec->share < 100;
    char chosen[80] = "";
    if (spec->kind == STUDY_TIP) { /* what it is chosen by counts, as for a layer what it is trained with */
        snprintf(chosen, sizeof chosen, "%s %s", r->trained.key, r->pairs_key);
        layer = chosen;
    }
    int n = snprintf(text, sizeof text, "%s cell %s %s %d %s %s %zu %zu %d %d %.9g %d %.17g %d %llu",
                     RECO_VERSION, r->data.key, spec->kind == STUDY_CLIP ? "" : r->asked.key,
                     (int)spec->kind, spec->control ? spec->control : "", layer, spec->train.k, spec->k,
                     (int)spec->sides, spec->mixture, (double)spec->min_similarity, spec->use_min,
                     spec->share, (int)spec->without, (unsigned long long)(drawn ? seed : 0));
    RECO_TRY(reco_hash_new(r->ctx, &h));
    reco_hash_update(h, text, (size_t)n);
    reco_hash_hex(h, key);
    return RECO_OK;
}

static reco_status fill(running *r, study_cell *cell, const study_spec *spec, const char *layer,
                        uint64_t seed, const char *file)
{
    char *fusion = NULL;
    reco_bank_filter *filter = NULL;
    reco_status status;
    if (*layer) RECO_GO(trained(r, spec, seed, layer, &fusion));
    RECO_GO(study_bank_filter(r->ctx, &filter, &r->asked, spec, &r->data, seed));
    RECO_GO(
        study_evaluate(r->ctx, cell, spec, &r->data, &r->asked, &r->trained, &r->pairs, filter, fusion));
    RECO_GO(study_cell_save(r->ctx, cell, file));
out:
    reco_bank_filter_free(filter);
    reco_free(fusion);
    return status;
}

static reco_status get_cell(running *r, study_cell *cell, const study_spec *spec, uint64_t seed)
{
    char layer[33] = "", key[33];
    RECO_TRY(need_bank(r, spec));
    if (spec->kind == STUDY_LAYER && !spec->control) {
        RECO_TRY(train_key(r, spec, seed, layer));
        note_checkpoint(r, layer);
    }
    RECO_TRY(cell_key(r, spec, layer, seed, key));
    char *file = reco_format(r->ctx, "%s/cells/%s.json", r->dir, key);
    if (!file) return RECO_E_NOMEM;
    r->result->cells++;
    reco_status status;
    if (reco_path_exists(file)) {
        r->result->reused++;
        status = study_cell_load(r->ctx, cell, file, r->data.n);
    } else
        status = fill(r, cell, spec, layer, seed, file);
    reco_free(file);
    if (status == RECO_OK) status = reco_progress(r->ctx, "study", ++r->done, r->total);
    return status;
}

/* ---- rows ---- */

static void metrics(const running *r, const study_cell *cell, double out[RECO_STUDY_METRICS])
{
    size_t n[2] = {0}, right[2] = {0};
    for (size_t i = 0; i < r->data.n; i++) {
        n[r->data.is_new[i]]++;
        right[r->data.is_new[i]] += cell->right[i] == '1';
    }
    double old = n[0] ? (double)right[0] / (double)n[0] : NAN,
           new = n[1] ? (double)right[1] / (double)n[1] : NAN;
    out[RECO_STUDY_ALL] = cell->acc1;
    out[RECO_STUDY_OLD] = n[1] ? old : NAN;
    out[RECO_STUDY_NEW] = new;
    out[RECO_STUDY_HARMONIC] = !n[1] ? NAN : old + new > 0 ? 2 * old *new / (old + new) : 0;
    out[RECO_STUDY_ACC5] = cell->acc5;
    out[RECO_STUDY_PER_CLASS] = cell->per_class;
}

static void summarise(reco_study_row *row, double (*values)[RECO_STUDY_METRICS])
{
    for (int m = 0; m < RECO_STUDY_METRICS; m++) {
        double sum = 0, squares = 0;
        for (size_t i = 0; i < row->seeds; i++) sum += values[i][m];
        row->mean[m] = sum / (double)row->seeds;
        for (size_t i = 0; i < row->seeds; i++)
            squares += (values[i][m] - row->mean[m]) * (values[i][m] - row->mean[m]);
        row->deviation[m] = row->seeds > 1 ? sqrt(squares / (double)(row->seeds - 1)) : NAN;
    }
}

static const char *side_text(const char *sides)
{
    static const char *const names[] = {"none", "image", "text", "both"};
    for (int i = 0; i < 4; i++)
        if (strcmp(names[i], sides) == 0) return names[i];
    return "?";
}

/* One query's score is its mean over the seeds. */
static reco_status run_row(running *r, size_t at, float *score, const float *clip)
{
    reco_study_row *row = &r->study->rows[at];
    double values[STUDY_MOST_SEEDS][RECO_STUDY_METRICS];
    memset(score, 0, r->data.n * sizeof *score);
    for (size_t i = 0; i < row->seeds; i++) {
        study_cell cell = {0};
        reco_status status = get_cell(r, &cell, &r->study->specs[at], r->study->seeds[i]);
        if (status == RECO_OK) {
            metrics(r, &cell, values[i]);
            if (i == 0) row->sides = side_text(cell.sides);
            for (size_t q = 0; q < r->data.n; q++)
                score[q] += (float)(cell.right[q] == '1') / (float)row->seeds;
        }
        study_cell_free(&cell);
        if (status != RECO_OK) return status;
    }
    summarise(row, values);
    return reco_eval_interval(r->ctx, &row->gain, score, clip ? clip : score, r->data.n, 0);
}

static reco_status run_all(running *r, const reco_model_opts *model)
{
    static const char *const folders[] = {NULL, "cells", "checkpoints", "banks"};
    reco_study *s = r->study;
    for (size_t i = 0; i < 4; i++) RECO_TRY(folder(r, folders[i]));
    RECO_TRY(study_data_load(r->ctx, &r->data, s, r->dir, model, r->stream));
    RECO_TRY(study_bank_open(r->ctx, &r->trained, s, &r->data, 1, 0, r->dir, r->stream));
    RECO_TRY(study_bank_classes(r->ctx, &r->trained, &r->data));
    RECO_TRY(load_pairs(r));
    float *clip = reco_alloc(r->ctx, r->data.n, sizeof *clip, "scores");
    float *score = reco_alloc(r->ctx, r->data.n, sizeof *score, "scores");
    reco_status status = clip && score ? RECO_OK : RECO_E_NOMEM;
    for (size_t i = 0; i < s->nrows; i++) r->total += s->rows[i].seeds;
    for (size_t i = 0; i < s->nrows && status == RECO_OK; i++)
        status = i ? run_row(r, i, score, clip) : run_row(r, i, clip, NULL);
    reco_free(clip);
    reco_free(score);
    return status;
}

reco_status reco_study_run(reco_ctx *ctx, reco_study *study, const char *out, const reco_model_opts *model,
                           const reco_stream_opts *stream, reco_study_result *result)
{
    reco_study_result own = {0};
    double start = reco_now();
    running *r = reco_alloc(ctx, 1, sizeof *r, "study");
    if (!r) return RECO_E_NOMEM;
    *r = (running){.ctx = ctx, .study = study, .dir = out, .stream = stream, .result = &own};
    reco_status status = run_all(r, model);
    own.queries = r->data.n;
    own.failures = r->data.failures;
    own.classes = r->data.c;
    own.checkpoints = r->ncheckpoints;
    own.seconds = reco_now() - start;
    if (result) *result = own;
    reco_pair_set_free(&r->set);
    study_bank_close(&r->pairs);
    study_bank_close(&r->trained);
    study_bank_close(&r->asked);
    study_data_free(&r->data);
    reco_free(r);
    return status;
}
