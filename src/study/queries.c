/* Queries and classes of a study before anything is embedded or written. */
#include "study/study_internal.h"

#include <stdio.h>

void study_data_drop(const reco_study_opts *opts, study_data *data, size_t row, const char *what,
                     const char *reason)
{
    data->failures++;
    if (opts->failure) opts->failure(opts->user, row, what, reason);
}

/* ---- classes ---- */

static reco_status read_list(reco_ctx *ctx, study_data *data, const char *path)
{
    RECO_TRY(reco_class_list_read(ctx, &data->list, path));
    return reco_class_list_settle(ctx, data->list, data->model, 0);
}

/* Of embedded classes without a file: captions, or numbers. */
static reco_status name_list(reco_ctx *ctx, study_data *data, const char *path)
{
    const reco_query_set *set = &data->class_set;
    char **names = reco_alloc(ctx, set->n + 1, sizeof *names, "classes"), *text;
    reco_status status = names ? RECO_OK : RECO_E_NOMEM;
    bool said = true;
    for (size_t i = 0; i < set->n; i++) said = said && set->values[RECO_QUERY_TEXT][i];
    for (size_t i = 0; i < set->n && status == RECO_OK; i++) {
        text = said ? set->values[RECO_QUERY_TEXT][i] : NULL;
        names[i] = text ? reco_strdup(ctx, text) : reco_format(ctx, "%zu", i);
        if (!names[i]) status = RECO_E_NOMEM;
    }
    if (status == RECO_OK)
        status = reco_class_list_from(ctx, &data->list, (const char *const *)names, set->n, path);
    if (status == RECO_OK) status = reco_class_list_settle(ctx, data->list, data->model, 0);
    if (names) reco_lines_free(names, set->n);
    return status;
}

static reco_status embedded_classes(reco_ctx *ctx, study_data *data, const reco_study *study,
                                    const reco_study_opts *opts)
{
    const char *path = study->class_embeddings;
    reco_query_set *set = &data->class_set;
    RECO_TRY(reco_query_set_load(ctx, set, path, RECO_TEXT, &(reco_query_set_opts){.table = opts->table}));
    if (!set->rows[RECO_TEXT])
        return reco_fail(ctx, RECO_E_FORMAT, "%s: has no text_emb, want a row for each class", path);
    if (set->n != set->total)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: %zu of %zu classes are zero or not finite", path,
                         set->total - set->n, set->total);
    RECO_TRY(study->classes ? read_list(ctx, data, study->classes) : name_list(ctx, data, path));
    if (reco_class_list_count(data->list) != set->n)
        return reco_fail(ctx, RECO_E_MISMATCH, "%s: %zu classes, %s has %zu", study->classes,
                         reco_class_list_count(data->list), path, set->n);
    data->d = set->d;
    return RECO_OK;
}

static reco_status read_classes(reco_ctx *ctx, study_data *data, const reco_study *study,
                                const reco_study_opts *opts)
{
    if (study->class_embeddings) RECO_TRY(embedded_classes(ctx, data, study, opts));
    if (!data->list) RECO_TRY(read_list(ctx, data, study->classes));
    data->c = reco_class_list_count(data->list);
    if (!study->templates) return RECO_OK;
    RECO_TRY(reco_read_lines(ctx, study->templates, &data->templates, &data->ntemplates));
    for (size_t i = 0; i < data->ntemplates; i++)
        if (!strstr(data->templates[i], "{}") && !strstr(data->templates[i], "{c}"))
            return reco_fail(ctx, RECO_E_ARG, "%s: template \"%.100s\" has no {} for the class name",
                             study->templates, data->templates[i]);
    return RECO_OK;
}

/* ---- queries ---- */

/* What a file of queries says, row by row. A row has a reason where it is none. */
typedef struct labelled {
    char **images, **names, **reasons; /* [n]; image and name may be NULL with embeddings */
    uint64_t *lines;                   /* of tables */
    size_t n;
} labelled;

static void labelled_free(labelled *l)
{
    reco_free(l->lines);
    reco_lines_free(l->images, l->n);
    reco_lines_free(l->names, l->n);
    reco_lines_free(l->reasons, l->n);
}

/* The labels of embeddings by their rows: of the file, else of the column, else captions. */
static reco_status label_rows(reco_ctx *ctx, const reco_query_set *set, const char *path,
                              const char *labels, const reco_table_opts *table, labelled *l)
{
    char **all = NULL;
    size_t n = 0;
    reco_status status = RECO_OK;
    bool column = false, said = false;
    l->n = set->n;
    l->names = reco_alloc(ctx, set->n + 1, sizeof *l->names, "labels");
    if (!l->names) return RECO_E_NOMEM;
    if (labels) RECO_GO(reco_read_labels(ctx, labels, table, &all, &n));
    if (labels && n != set->total)
        RECO_GO(reco_fail(ctx, RECO_E_MISMATCH, "%s: %zu labels, %s has %zu rows", labels, n, path,
                          set->total));
    for (size_t i = 0; i < set->n; i++) column |= set->values[RECO_QUERY_LABEL][i] != NULL;
    for (size_t i = 0; i < set->n && status == RECO_OK; i++) {
        const char *name =
            labels ? all[set->at[i]] : set->values[column ? RECO_QUERY_LABEL : RECO_QUERY_TEXT][i];
        said |= name && *name;
        if (name && *name && !(l->names[i] = reco_strdup(ctx, name))) status = RECO_E_NOMEM;
    }
    if (status == RECO_OK && !said)
        status = reco_fail(ctx, RECO_E_FORMAT,
                           "%s: its metadata have neither labels nor captions; want labels = FILE", path);
out:
    reco_lines_free(all, n);
    return status;
}

static reco_status read_embeddings(reco_ctx *ctx, study_data *data, const reco_study *study, int which,
                                   const reco_study_opts *opts, labelled *l)
{
    const char *path = study->queries[which];
    reco_query_set *set = &data->sets[which];
    const reco_query_set_opts how = {.table = opts->table, .failure = opts->failure, .user = opts->user};
    RECO_TRY(reco_query_set_load(ctx, set, path, RECO_IMAGE, &how));
    data->failures += set->total - set->n;
    if (!set->rows[RECO_IMAGE])
        return reco_fail(ctx, RECO_E_FORMAT, "%s: has no img_emb, want a row for each query", path);
    if (!data->d) data->d = set->d;
    if (set->d != data->d)
        return reco_fail(ctx, RECO_E_MISMATCH, "%s: embeddings of width %zu, want %zu", path, set->d,
                         data->d);
    return label_rows(ctx, set, path, study->labels[which], opts->table, l);
}

static const char *why_not(const labelled *l, size_t i)
{
    return l->reasons && l->reasons[i] ? l->reasons[i] : l->names[i] ? NULL : "no label";
}

/* The rows whose label is a class become queries; the others are told of. */
static reco_status take_queries(reco_ctx *ctx, study_data *data, const labelled *l, const char *file,
                                int which, const reco_study_opts *opts)
{
    const reco_query_set *set = &data->sets[which];
    size_t good = 0;
    const char *how;
    reco_status status = RECO_OK;
    study_query *more = reco_alloc(ctx, data->nqueries + l->n + 1, sizeof *more, "queries");
    uint32_t *classes = reco_alloc(ctx, l->n + 1, sizeof *classes, "queries");
    const char **given = reco_alloc(ctx, l->n + 1, sizeof *given, "queries");
    if (!more || !classes || !given) RECO_GO(RECO_E_NOMEM);
    if (data->nqueries) memcpy(more, data->queries, data->nqueries * sizeof *more);
    reco_free(data->queries);
    data->queries = more;
    more = NULL;
    for (size_t i = 0; i < l->n; i++)
        if (!why_not(l, i)) given[good++] = l->names[i];
    if (good) RECO_GO(reco_class_list_match(ctx, data->list, data->model, given, good, 0, classes, &how));
    for (size_t i = 0, j = 0; i < l->n; i++) {
        const char *why = why_not(l, i), *image = l->images ? l->images[i] : "";
        uint32_t label = why ? RECO_NO_CLASS : classes[j++];
        uint64_t line = l->lines ? l->lines[i] : set->at[i];
        char reason[512];
        if (label == RECO_NO_CLASS) {
            if (why)
                snprintf(reason, sizeof reason, "%s:%llu: %s", file, (unsigned long long)line, why);
            else
                snprintf(reason, sizeof reason,
                         "%s:%llu: label \"%.100s\" is not a class, the nearest is \"%.100s\"", file,
                         (unsigned long long)line, l->names[i],
                         reco_class_list_nearest(data->list, l->names[i]));
            reco_text_clean(reason);
            study_data_drop(opts, data, i, image, reason);
            continue;
        }
        study_query *x = &data->queries[data->nqueries];
        *x = (study_query){.label = label, .is_new = which == 1};
        if (set->n) x->row = set->rows[RECO_IMAGE] + i * set->d;
        if (!set->n && !(x->path = reco_resolve_path(ctx, file, image))) RECO_GO(RECO_E_NOMEM);
        data->nqueries++;
    }
out:
    reco_free(more);
    reco_free(classes);
    reco_free(given);
    return status;
}

static reco_status read_queries(reco_ctx *ctx, study_data *data, const reco_study *study, int which,
                                const reco_study_opts *opts)
{
    const char *file = study->queries[which];
    labelled l = {0};
    reco_status status = study_is_embeddings(file)
                             ? read_embeddings(ctx, data, study, which, opts, &l)
                             : reco_read_columns(ctx, file, opts->table, "image", "label", &l.images,
                                                 &l.names, &l.reasons, &l.lines, &l.n);
    if (status == RECO_OK) status = take_queries(ctx, data, &l, file, which, opts);
    labelled_free(&l);
    return status;
}

reco_status study_data_read(reco_ctx *ctx, study_data *data, const reco_study *study,
                            const reco_study_opts *opts)
{
    data->recall = study->recall;
    if (study->model) {
        RECO_TRY(reco_model_open(ctx, &data->model, study->model, &opts->model));
        data->d = reco_model_get_info(data->model)->d;
        data->scale = reco_model_get_info(data->model)->logit_scale;
    }
    size_t d = data->d;
    RECO_TRY(read_classes(ctx, data, study, opts));
    if (d && data->d != d)
        return reco_fail(ctx, RECO_E_MISMATCH, "%s: embeddings of width %zu, the model's have width %zu",
                         study->class_embeddings, data->d, d);
    for (int i = 0; i < 2; i++)
        if (study->queries[i]) RECO_TRY(read_queries(ctx, data, study, i, opts));
    if (data->nqueries == 0)
        return reco_fail(ctx, RECO_E_NOTFOUND, "%s: no label is a class", study->queries[0]);
    for (int i = 0; i < 2; i++)
        if (!(data->scale > 0)) data->scale = data->sets[i].logit_scale;
    if (!(data->scale > 0)) data->scale = data->class_set.logit_scale;
    if (!(data->scale > 0)) data->scale = 100;
    return RECO_OK;
}
