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
    const reco_study_opts *opts;
    reco_study_result *result;
    study_data data;
    study_bank pairs;          /* what is trained on; empty: the memory's own rows */
    study_bank trained, asked; /* asked: of the memory and share of wrong captions below */
    size_t memory;
    double wrong;
    uint64_t drawn; /* by which seed captions are wrong */
    bool ready;     /* asked is open */
    reco_pair_set set;
    char checkpoints[STUDY_MOST_ROWS][33]; /* that were used, each once */
    size_t ncheckpoints;
    int lock;
    size_t at, total;
    double cost[3]; /* estimates: of all cells, of those that are there, of those that were done now */
    double worked;  /* seconds that the last took */
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

static reco_status open_pair_bank(running *r)
{
    char *path = NULL;
    if (!r->study->pairs) return RECO_OK;
    reco_status status = study_as_bank(r->ctx, &path, r->study->pairs, &r->data, r->dir, r->opts);
    if (status == RECO_OK) status = study_bank_at(r->ctx, &r->pairs, path, &r->data);
    if (status == RECO_OK) status = study_bank_classes(r->ctx, &r->pairs, &r->data);
    if (status == RECO_OK) status = reco_pair_set_load(r->ctx, &r->set, path);
    reco_free(path);
    return status;
}

static reco_status train_key(const running *r, const study_spec *spec, uint64_t seed, char key[33])
{
    const reco_train_opts *t = &spec->train;
    reco_hash *h;
    char text[512];
    int n =
        snprintf(text, sizeof text,
                 "%s %d %s %s %d %zu %zu %zu %.17g %.17g %.17g %.9g %.9g %d %d %d %d %d %d %.17g %llu",
                 RECO_VERSION, RECO_TRAIN_RULE, r->trained.key, r->pairs.key, (int)t->layer, t->k, t->batch,
                 t->steps, t->lr, t->weight_decay, t->neighbour_dropout, (double)t->max_similarity,
                 (double)t->min_similarity, t->no_scores, t->rotate, t->heads, t->layers, (int)t->search,
                 (int)t->fuse, t->validation, (unsigned long long)seed);
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
    reco_train_pairs pairs = {.n = r->set.n,
                              .image = r->set.image,
                              .text = r->set.text,
                              .captions = r->set.captions,
                              .pictures = r->set.pictures};
    reco_train_result result;
    RECO_TRY(reco_train(r->ctx, r->trained.bank, r->set.n ? &pairs : NULL, *path, &opts, &result));
    r->result->trained++;
    return RECO_OK;
}

/* ---- cells ---- */

static reco_status need_bank(running *r, const study_spec *spec, uint64_t seed)
{
    const uint64_t drawn = spec->wrong > 0 ? seed : 0;
    if (r->ready && r->memory == spec->memory && r->wrong == spec->wrong && r->drawn == drawn)
        return study_bank_classes(r->ctx, &r->asked, &r->data);
    study_bank_close(&r->asked);
    r->ready = false;
    RECO_TRY(study_bank_open(r->ctx, &r->asked, r->study, &r->data, spec->memory, spec->wrong, drawn,
                             r->dir, r->opts));
    r->result->recall = fminf(r->result->recall, r->asked.recall);
    r->memory = spec->memory;
    r->wrong = spec->wrong;
    r->drawn = drawn;
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
        snprintf(chosen, sizeof chosen, "%s %s", r->trained.key, r->pairs.key);
        layer = chosen;
    }
    int n = snprintf(text, sizeof text, "%s cell %s %s %d %s %s %zu %zu %d %d %.9g %.17g %d %llu",
                     RECO_VERSION, r->data.key, spec->kind == STUDY_CLIP ? "" : r->asked.key,
                     (int)spec->kind, spec->control ? spec->control : "", layer, spec->train.k, spec->k,
                     (int)spec->sides, spec->mixture, (double)spec->min_similarity, spec->share,
                     (int)spec->without, (unsigned long long)(drawn ? seed : 0));
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

static reco_status find_cell(running *r, study_cell *cell, const study_spec *spec, uint64_t seed,
                             bool *reused)
{
    char layer[33] = "", key[33];
    RECO_TRY(need_bank(r, spec, seed));
    if (spec->kind == STUDY_LAYER && !spec->control) {
        RECO_TRY(train_key(r, spec, seed, layer));
        note_checkpoint(r, layer);
    }
    RECO_TRY(cell_key(r, spec, layer, seed, key));
    char *file = reco_format(r->ctx, "%s/cells/%s.json", r->dir, key);
    if (!file) return RECO_E_NOMEM;
    *reused = reco_path_exists(file);
    reco_status status =
        *reused ? study_cell_load(r->ctx, cell, file, r->data.n) : fill(r, cell, spec, layer, seed, file);
    reco_free(file);
    return status;
}

static reco_status report_step(const running *r, const reco_study_step *step)
{
    if (!r->opts->step || !r->opts->step(r->opts->user, step)) return RECO_OK;
    return reco_fail(r->ctx, RECO_E_CANCELLED, "study: interrupted at cell %zu of %zu", step->at,
                     step->cells);
}

static reco_status get_cell(running *r, study_cell *cell, size_t row, uint64_t seed)
{
    const double begin = reco_now(), cost = study_seconds(r->study, row);
    bool reused = false;
    reco_study_step step = {.row = &r->study->rows[row], .seed = seed, .at = ++r->at, .cells = r->total};
    RECO_TRY(report_step(r, &step));
    RECO_TRY(find_cell(r, cell, &r->study->specs[row], seed, &reused));
    step.seconds = reco_now() - begin;
    step.done = 1;
    step.reused = reused;
    step.top1 = cell->acc1;
    r->cost[1] += cost;
    r->cost[2] += reused ? 0 : cost;
    r->worked += reused ? 0 : step.seconds;
    step.left = (r->cost[0] - r->cost[1]) * (r->cost[2] > 0 ? r->worked / r->cost[2] : 1);
    r->result->cells++;
    r->result->reused += reused;
    return report_step(r, &step);
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

/* One of a few names, for rows outlive the cells; old: of the seeds before, NULL for none. */
static const char *side_text(const char *sides, const char *old)
{
    static const char *const names[] = {"", "none", "image", "text", "both"};
    const char *name = "?";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], sides) == 0) name = names[i];
    return old && strcmp(old, name) != 0 ? "varies" : name;
}

/* One query's score is its mean over the seeds. */
static reco_status run_row(running *r, size_t at, float *score, const float *clip)
{
    reco_study_row *row = &r->study->rows[at];
    double values[STUDY_MOST_SEEDS][RECO_STUDY_METRICS];
    memset(score, 0, r->data.n * sizeof *score);
    row->sides = row->chosen = NULL;
    for (size_t i = 0; i < row->seeds; i++) {
        study_cell cell = {0};
        reco_status status = get_cell(r, &cell, at, r->study->seeds[i]);
        if (status == RECO_OK) {
            metrics(r, &cell, values[i]);
            row->sides = side_text(cell.sides, row->sides);
            row->chosen = side_text(cell.chosen, row->chosen);
            for (size_t q = 0; q < r->data.n; q++)
                score[q] += (float)(cell.right[q] == '1') / (float)row->seeds;
        }
        study_cell_free(&cell);
        if (status != RECO_OK) return status;
    }
    summarise(row, values);
    return reco_eval_interval(r->ctx, &row->gain, score, clip ? clip : score, r->data.n, 0);
}

static reco_status check_embeddings(const running *r)
{
    const reco_study *s = r->study;
    const char *const paths[] = {s->queries[0], s->queries[1], s->class_embeddings};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        if (paths[i] && study_is_embeddings(paths[i]))
            RECO_TRY(reco_check_embeddings(r->ctx, paths[i], NULL, r->trained.bank, NULL));
    return RECO_OK;
}

static reco_status begin_study(running *r)
{
    static const char *const folders[] = {"cells", "checkpoints", "banks", "queries"};
    reco_study *s = r->study;
    RECO_TRY(study_data_read(r->ctx, &r->data, s, r->opts));
    RECO_TRY(folder(r, NULL));
    RECO_TRY(reco_dir_lock(r->ctx, &r->lock, r->dir));
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) RECO_TRY(folder(r, folders[i]));
    RECO_TRY(study_data_embed(r->ctx, &r->data, r->dir, r->opts));
    RECO_TRY(study_bank_open(r->ctx, &r->trained, s, &r->data, 1, 0, 0, r->dir, r->opts));
    r->result->recall = r->trained.recall;
    RECO_TRY(study_bank_classes(r->ctx, &r->trained, &r->data));
    RECO_TRY(check_embeddings(r));
    return open_pair_bank(r);
}

static reco_status run_all(running *r)
{
    reco_study *s = r->study;
    RECO_TRY(begin_study(r));
    float *clip = reco_alloc(r->ctx, r->data.n, sizeof *clip, "scores");
    float *score = reco_alloc(r->ctx, r->data.n, sizeof *score, "scores");
    reco_status status = clip && score ? RECO_OK : RECO_E_NOMEM;
    for (size_t i = 0; i < s->nrows; i++) {
        r->total += s->rows[i].seeds;
        r->cost[0] += (double)s->rows[i].seeds * study_seconds(s, i);
    }
    for (size_t i = 0; i < s->nrows && status == RECO_OK; i++)
        status = i ? run_row(r, i, score, clip) : run_row(r, i, clip, NULL);
    reco_free(clip);
    reco_free(score);
    return status;
}

reco_status reco_study_run(reco_ctx *ctx, reco_study *study, const char *out, const reco_study_opts *opts,
                           reco_study_result *result)
{
    static const reco_study_opts none;
    reco_study_result own = {0};
    double start = reco_now();
    RECO_TRY(reco_reserved(ctx, "study", opts ? opts->reserved : NULL));
    running *r = reco_alloc(ctx, 1, sizeof *r, "study");
    if (!r) return RECO_E_NOMEM;
    *r = (running){
        .ctx = ctx, .study = study, .dir = out, .opts = opts ? opts : &none, .result = &own, .lock = -1};
    reco_status status = run_all(r);
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
    reco_dir_unlock(r->lock);
    reco_free(r);
    return status;
}
