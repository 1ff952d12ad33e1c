#include "study/study_internal.h"

#include <math.h>
#include <stdio.h>

static const char *const top_keys[] = {
    "title",     "model",   "bank", "memory", "pairs",      "classes", "class_embeddings",
    "templates", "queries", "new",  "labels", "new_labels", "seeds",   "rows",
    "mixture",   "recall",  NULL};
static const char *const train_keys[] = {"layer",
                                         "k",
                                         "batch",
                                         "steps",
                                         "lr",
                                         "weight_decay",
                                         "heads",
                                         "validation",
                                         "min_similarity",
                                         "max_similarity",
                                         "neighbour_dropout",
                                         "rotate",
                                         NULL};
static const char *const table_names[] = {"train", "rows", "memories", NULL};

const reco_toml_entry *study_find(const study_reader *r, const char *table, const char *key)
{
    for (size_t i = 0; i < r->toml.n; i++)
        if (strcmp(r->toml.entries[i].table, table) == 0 && strcmp(r->toml.entries[i].key, key) == 0)
            return &r->toml.entries[i];
    return NULL;
}

reco_status study_bad(const study_reader *r, const reco_toml_entry *e, const char *want)
{
    char *met = reco_json_dump(r->ctx, e->value);
    if (!met) return RECO_E_NOMEM;
    if (strlen(met) > 60) memcpy(met + 57, "...", 4);
    reco_text_clean(met);
    reco_status status =
        reco_fail(r->ctx, RECO_E_FORMAT, "%s:%zu: %s = %s, want %s", r->path, e->line, e->key, met, want);
    reco_free(met);
    return status;
}

reco_status study_number(const study_reader *r, const reco_toml_entry *e, const json_t *v, double low,
                         double high, double *out)
{
    char want[64];
    *out = json_number_value(v);
    snprintf(want, sizeof want, "%g..%g", low, high);
    return json_is_number(v) && *out >= low && *out <= high ? RECO_OK : study_bad(r, e, want);
}

/* ---- keys ---- */

static size_t key_distance(const char *a, const char *b)
{
    size_t row[64], n = reco_min(strlen(b), 63), left, up;
    for (size_t j = 0; j <= n; j++) row[j] = j;
    for (size_t i = 1; *a; i++, a++) {
        left = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            up = row[j];
            row[j] = reco_min(reco_min(up, row[j - 1]) + 1, left + (*a != b[j - 1]));
            left = up;
        }
    }
    return row[n];
}

static reco_status known(const study_reader *r, size_t line, const char *what, const char *name,
                         const char *const *names)
{
    const char *near = names[0];
    for (size_t i = 0; names[i]; i++) {
        if (strcmp(names[i], name) == 0) return RECO_OK;
        if (key_distance(name, names[i]) < key_distance(name, near)) near = names[i];
    }
    char shown[64];
    snprintf(shown, sizeof shown, "%.60s", name);
    reco_text_clean(shown);
    return reco_fail(r->ctx, RECO_E_FORMAT, "%s:%zu: no %s \"%s\", the nearest is \"%s\"", r->path, line,
                     what, shown, near);
}

static reco_status check_keys(const study_reader *r)
{
    for (size_t i = 0; i < r->toml.n; i++) {
        const reco_toml_entry *e = &r->toml.entries[i];
        if (*e->table) RECO_TRY(known(r, e->line, "table", e->table, table_names));
        if (strcmp(e->table, "memories") == 0) continue;
        const char *const *keys = !*e->table                       ? top_keys
                                  : strcmp(e->table, "train") == 0 ? train_keys
                                                                   : study_groups;
        RECO_TRY(known(r, e->line, "key", e->key, keys));
    }
    return RECO_OK;
}

/* ---- values ---- */

static reco_status read_text(const study_reader *r, const char *key, char **out)
{
    const reco_toml_entry *e = study_find(r, "", key);
    if (!e) return RECO_OK;
    const char *s = json_string_value(e->value);
    if (!s || !*s) return study_bad(r, e, "a string");
    *out = reco_strdup(r->ctx, s);
    return *out ? RECO_OK : RECO_E_NOMEM;
}

/* A path from the folder of the configuration; it must be there. */
static reco_status resolve_path(const study_reader *r, const reco_toml_entry *e, const json_t *v,
                                char **out)
{
    const char *s = json_string_value(v);
    if (!s || !*s) return study_bad(r, e, "a path, or paths in an array");
    char *dir = reco_path_dir(r->ctx, r->path);
    *out = dir ? reco_path_join(r->ctx, dir, s) : NULL;
    reco_free(dir);
    if (!*out) return RECO_E_NOMEM;
    if (!reco_path_exists(*out))
        return reco_fail(r->ctx, RECO_E_NOTFOUND, "%s:%zu: %s = %s: there is no %s", r->path, e->line,
                         e->key, s, *out);
    reco_study *study = r->study;
    if (study->ninputs < sizeof study->inputs / sizeof *study->inputs)
        study->inputs[study->ninputs++] = *out;
    return RECO_OK;
}

static reco_status read_path(const study_reader *r, const char *key, bool needed, char **out)
{
    const reco_toml_entry *e = study_find(r, "", key);
    if (e) return resolve_path(r, e, e->value, out);
    return needed ? reco_fail(r->ctx, RECO_E_FORMAT, "%s: %s is missing", r->path, key) : RECO_OK;
}

static reco_status memory(const study_reader *r, const reco_toml_entry *e, const char *name,
                          study_memory *m)
{
    m->name = reco_strdup(r->ctx, name);
    if (!m->name) return RECO_E_NOMEM;
    size_t n = json_is_array(e->value) ? json_array_size(e->value) : 1;
    if (n == 0 || n > STUDY_MOST_VALUES) return study_bad(r, e, "1..64 paths");
    for (; m->n < n; m->n++)
        RECO_TRY(resolve_path(r, e, json_is_array(e->value) ? json_array_get(e->value, m->n) : e->value,
                              &m->paths[m->n]));
    return RECO_OK;
}

static reco_status memories(study_reader *r)
{
    reco_study *s = r->study;
    const reco_toml_entry *bank = study_find(r, "", "bank"), *asked = study_find(r, "", "memory");
    if (!bank) return reco_fail(r->ctx, RECO_E_FORMAT, "%s: bank is missing", r->path);
    s->nmemories = 2;
    RECO_TRY(memory(r, asked ? asked : bank, "memory", &s->memories[0]));
    RECO_TRY(memory(r, bank, "bank", &s->memories[1]));
    for (size_t i = 0; i < r->toml.n; i++) {
        const reco_toml_entry *e = &r->toml.entries[i];
        if (strcmp(e->table, "memories") != 0) continue;
        if (s->nmemories == STUDY_MOST_MEMORIES) return study_bad(r, e, "30 memories at most");
        RECO_TRY(memory(r, e, e->key, &s->memories[s->nmemories++]));
    }
    return RECO_OK;
}

static reco_status seeds(study_reader *r)
{
    reco_study *s = r->study;
    const reco_toml_entry *e = study_find(r, "", "seeds");
    if (!e) {
        s->nseeds = 3;
        for (size_t i = 0; i < 3; i++) s->seeds[i] = i;
        return RECO_OK;
    }
    size_t n = json_array_size(e->value);
    if (n == 0 || n > STUDY_MOST_SEEDS) return study_bad(r, e, "an array of 1..64 whole numbers");
    for (; s->nseeds < n; s->nseeds++) {
        const json_t *v = json_array_get(e->value, s->nseeds);
        if (!json_is_integer(v) || json_integer_value(v) < 0)
            return study_bad(r, e, "whole numbers from 0");
        s->seeds[s->nseeds] = (uint64_t)json_integer_value(v);
        for (size_t i = 0; i < s->nseeds; i++)
            if (s->seeds[i] == s->seeds[s->nseeds]) return study_bad(r, e, "each seed once");
    }
    return RECO_OK;
}

static reco_status train_value(study_reader *r, const reco_toml_entry *e)
{
    static const struct {
        const char *key;
        double low, high;
        bool whole;
    } known_values[] = {{"k", 1, RECO_BANK_MAX_K, true},
                        {"batch", 2, 65536, true},
                        {"steps", 1, 1e8, true},
                        {"lr", 1e-8, 1, false},
                        {"weight_decay", 0, 1, false},
                        {"heads", 1, 1024, true},
                        {"validation", RECO_VALIDATION_MIN, RECO_VALIDATION_MAX, false},
                        {"min_similarity", -1, 1, false},
                        {"max_similarity", 0.01, 2, false},
                        {"neighbour_dropout", 0, 1, false}};
    reco_train_opts *t = &r->study->train;
    if (strcmp(e->key, "rotate") == 0) {
        if (!json_is_boolean(e->value)) return study_bad(r, e, "true or false");
        t->rotate = json_is_true(e->value);
        return RECO_OK;
    }
    if (strcmp(e->key, "layer") == 0) {
        const char *s = json_string_value(e->value);
        if (s && strcmp(s, "auto") == 0) return t->layer = RECO_LAYER_AUTO, RECO_OK;
        for (int layer = RECO_LAYER_WEIGHTED; layer <= RECO_LAYER_TRANSFORMER; layer++)
            if (s && strcmp(s, reco_layer_name((reco_layer)layer)) == 0)
                return t->layer = (reco_layer)layer, RECO_OK;
        return study_bad(r, e, "\"relational\", \"transformer\", \"weighted\" or \"auto\"");
    }
    size_t i = 0;
    double v;
    while (strcmp(known_values[i].key, e->key) != 0) i++;
    RECO_TRY(study_number(r, e, e->value, known_values[i].low, known_values[i].high, &v));
    if (known_values[i].whole && v != floor(v)) return study_bad(r, e, "a whole number");
    switch (i) {
    case 0:
        t->k = (size_t)v;
        break;
    case 1:
        t->batch = (size_t)v;
        break;
    case 2:
        t->steps = (size_t)v;
        break;
    case 3:
        t->lr = v;
        break;
    case 4:
        t->weight_decay = v;
        break;
    case 5:
        t->heads = (int)v;
        break;
    case 6:
        t->validation = v;
        break;
    case 7:
        t->min_similarity = (float)v;
        break;
    case 8:
        t->max_similarity = (float)v;
        break;
    default:
        t->neighbour_dropout = v;
        break;
    }
    return RECO_OK;
}

bool study_is_embeddings(const char *path)
{
    size_t n = strlen(path);
    return reco_path_is_dir(path) || (n > 4 && strcmp(path + n - 4, ".npy") == 0);
}

/* What has to be embedded wants a model, and names of classes one that reads. */
static reco_status check_inputs(const study_reader *r)
{
    const reco_study *s = r->study;
    static const char *const labels[] = {"labels", "new_labels"}, *const queries[] = {"queries", "new"};
    const char *why = s->class_embeddings ? NULL : "classes";
    if (!s->classes && !s->class_embeddings)
        return reco_fail(r->ctx, RECO_E_FORMAT, "%s: classes is missing, or class_embeddings", r->path);
    if (s->templates && s->class_embeddings)
        return study_bad(r, study_find(r, "", "templates"),
                         "none, since class_embeddings are embedded already");
    for (int i = 0; i < 2; i++) {
        if (s->labels[i] && (!s->queries[i] || !study_is_embeddings(s->queries[i])))
            return study_bad(r, study_find(r, "", labels[i]),
                             "none, since the labels of pictures are in their table");
        if (s->queries[i] && !study_is_embeddings(s->queries[i])) why = queries[i];
    }
    if (s->pairs && !reco_path_is_dir(s->pairs)) why = "pairs";
    for (size_t m = 0; m < s->nmemories; m++)
        for (size_t i = 0; i < s->memories[m].n; i++)
            if (!reco_path_is_dir(s->memories[m].paths[i])) why = s->memories[m].name;
    return s->model || !why ? RECO_OK
                            : reco_fail(r->ctx, RECO_E_FORMAT,
                                        "%s: model is missing, but %s has to be embedded", r->path, why);
}

/* Lines of what is trained with, for the estimate; 1,000 where it is no table. */
static reco_status count_pairs(study_reader *r)
{
    reco_study *s = r->study;
    const char *path = s->pairs ? s->pairs : s->memories[1].paths[0];
    reco_lines *lines;
    s->pairs_known = 1000;
    if (reco_path_is_dir(path)) return RECO_OK;
    RECO_TRY(reco_lines_open(r->ctx, &lines, path));
    const char *line = "";
    size_t bytes, n = 0;
    reco_status status = RECO_OK;
    while (line && status == RECO_OK) {
        status = reco_lines_next(r->ctx, lines, &line, &bytes);
        n += line != NULL;
    }
    reco_lines_close(lines);
    s->pairs_known = (double)n;
    return status;
}

static reco_status read_all(study_reader *r)
{
    reco_study *s = r->study;
    RECO_TRY(reco_toml_read(r->ctx, &r->toml, r->path));
    RECO_TRY(check_keys(r));
    RECO_TRY(read_text(r, "title", &s->title));
    if (!s->title && !(s->title = reco_strdup(r->ctx, "Study"))) return RECO_E_NOMEM;
    RECO_TRY(read_path(r, "model", false, &s->model));
    RECO_TRY(memories(r));
    RECO_TRY(read_path(r, "pairs", false, &s->pairs));
    RECO_TRY(read_path(r, "classes", false, &s->classes));
    RECO_TRY(read_path(r, "class_embeddings", false, &s->class_embeddings));
    RECO_TRY(read_path(r, "templates", false, &s->templates));
    RECO_TRY(read_path(r, "queries", true, &s->queries[0]));
    RECO_TRY(read_path(r, "new", false, &s->queries[1]));
    RECO_TRY(read_path(r, "labels", false, &s->labels[0]));
    RECO_TRY(read_path(r, "new_labels", false, &s->labels[1]));
    RECO_TRY(check_inputs(r));
    RECO_TRY(seeds(r));
    const reco_toml_entry *mixture = study_find(r, "", "mixture");
    if (mixture && !json_is_boolean(mixture->value)) return study_bad(r, mixture, "true or false");
    s->mixture = mixture && json_is_true(mixture->value);
    double recall = 0;
    const reco_toml_entry *wanted = study_find(r, "", "recall");
    if (wanted) RECO_TRY(study_number(r, wanted, wanted->value, 0.5, 1, &recall));
    s->recall = (float)recall;
    s->train = (reco_train_opts)RECO_TRAIN_OPTS_INIT;
    s->train.layer = RECO_LAYER_RELATIONAL;
    s->train.k = 10;
    for (size_t i = 0; i < r->toml.n; i++)
        if (strcmp(r->toml.entries[i].table, "train") == 0) RECO_TRY(train_value(r, &r->toml.entries[i]));
    RECO_TRY(study_plan(r));
    RECO_TRY(count_pairs(r));
    study_cost(s);
    return RECO_OK;
}

reco_status reco_study_open(reco_ctx *ctx, reco_study **out, const char *config)
{
    *out = NULL;
    reco_study *s = reco_alloc(ctx, 1, sizeof *s, "study");
    if (!s) return RECO_E_NOMEM;
    study_reader r = {.ctx = ctx, .study = s, .path = config};
    s->inputs[s->ninputs++] = config;
    reco_status status = (s->path = reco_strdup(ctx, config)) ? RECO_OK : RECO_E_NOMEM;
    if (status == RECO_OK) {
        s->inputs[0] = s->path;
        status = read_all(&r);
    }
    reco_toml_free(&r.toml);
    if (status == RECO_OK)
        *out = s;
    else
        reco_study_close(s);
    return status;
}

void reco_study_close(reco_study *s)
{
    if (!s) return;
    char *const texts[] = {
        s->path,      s->title,      s->model,      s->pairs,     s->classes,  s->class_embeddings,
        s->templates, s->queries[0], s->queries[1], s->labels[0], s->labels[1]};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) reco_free(texts[i]);
    for (size_t i = 0; i < s->nmemories; i++) {
        reco_free(s->memories[i].name);
        for (size_t j = 0; j <= s->memories[i].n && j < STUDY_MOST_VALUES; j++)
            reco_free(s->memories[i].paths[j]);
    }
    for (size_t i = 0; i < s->nrows; i++) reco_free(s->specs[i].name);
    reco_free(s->specs);
    reco_free(s->rows);
    reco_free(s);
}

const char *reco_study_title(const reco_study *s) { return s->title; }

const char *const *reco_study_inputs(const reco_study *s, size_t *n)
{
    *n = s->ninputs;
    return s->inputs;
}

const reco_study_row *reco_study_get_row(const reco_study *s, size_t i)
{
    return i < s->nrows ? &s->rows[i] : NULL;
}
