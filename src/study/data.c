/* Queries and classes of a study, embedded. */
#include "study/study_internal.h"

/* ---- pictures, embedded once ---- */

/* The model and the content of every picture. */
static reco_status pictures_key(reco_ctx *ctx, const study_data *data, char *const *paths, size_t n,
                                char key[33])
{
    reco_hash *h;
    RECO_TRY(study_encoder_hash(ctx, data, &h));
    for (size_t i = 0; i < n; i++) study_hash_content(ctx, h, paths[i]);
    reco_hash_hex(h, key);
    return RECO_OK;
}

static reco_status see(reco_ctx *ctx, const study_data *data, char *const *paths, size_t n,
                       const char *file, float *rows)
{
    reco_npy npy;
    reco_status status;
    if (reco_path_exists(file)) {
        RECO_TRY(reco_npy_open(ctx, &npy, file));
        status = npy.rows == n && npy.cols == data->d
                     ? reco_npy_rows(ctx, &npy, 0, n, rows)
                     : reco_fail(ctx, RECO_E_FORMAT, "%s: has [%zu][%zu], want [%zu][%zu]; remove it", file,
                                 npy.rows, npy.cols, n, data->d);
        reco_npy_close(&npy);
        return status;
    }
    unsigned char *good = reco_alloc(ctx, n + 1, 1, "queries");
    const size_t shape[2] = {n, data->d};
    if (!good) return RECO_E_NOMEM;
    status = reco_embed_files(ctx, data->model, (const char *const *)paths, n, NULL, rows, good);
    if (status == RECO_OK) status = reco_npy_write(ctx, file, RECO_DTYPE_F32, 2, shape, rows);
    reco_free(good);
    return status;
}

/* rows [n][d] of the queries that are pictures, in their order; those that can't be read are zero. */
static reco_status see_all(reco_ctx *ctx, const study_data *data, const char *dir, float **rows)
{
    char key[33], *file = NULL, **paths = reco_alloc(ctx, data->nqueries + 1, sizeof *paths, "queries");
    size_t n = 0;
    reco_status status = RECO_E_NOMEM;
    if (!paths) goto out;
    for (size_t i = 0; i < data->nqueries; i++)
        if (data->queries[i].path) paths[n++] = data->queries[i].path;
    if (!(*rows = reco_alloc(ctx, n * data->d + 1, sizeof **rows, "queries"))) goto out;
    status = RECO_OK;
    if (n == 0) goto out;
    RECO_GO(pictures_key(ctx, data, paths, n, key));
    if (!(file = reco_format(ctx, "%s/queries/%s.npy", dir, key))) RECO_GO(RECO_E_NOMEM);
    RECO_GO(see(ctx, data, paths, n, file, *rows));
out:
    reco_free(file);
    reco_free(paths);
    return status;
}

static bool is_zero(const float *row, size_t d)
{
    for (size_t j = 0; j < d; j++)
        if (row[j] != 0) return false;
    return true;
}

static reco_status embed_queries(reco_ctx *ctx, study_data *data, const char *dir,
                                 const reco_study_opts *opts)
{
    const size_t n = data->nqueries, d = data->d;
    float *seen = NULL;
    data->rows = reco_alloc(ctx, n * d + 1, sizeof(float), "queries");
    data->labels = reco_alloc(ctx, n + 1, sizeof *data->labels, "queries");
    data->is_new = reco_alloc(ctx, n + 1, 1, "queries");
    if (!data->rows || !data->labels || !data->is_new) return RECO_E_NOMEM;
    reco_status status = see_all(ctx, data, dir, &seen);
    for (size_t i = 0, next = 0; i < n && status == RECO_OK; i++) {
        const study_query *x = &data->queries[i];
        const float *row = x->path ? seen + next++ * d : x->row;
        if (is_zero(row, d)) {
            study_data_drop(opts, data, i, x->path, "could not be read");
            continue;
        }
        memcpy(data->rows + data->n * d, row, d * sizeof(float));
        data->labels[data->n] = x->label;
        data->is_new[data->n++] = x->is_new;
    }
    if (status == RECO_OK && data->n == 0)
        status = reco_fail(ctx, RECO_E_NOTFOUND, "study: no query could be read");
    reco_free(seen);
    return status;
}

/* ---- classes ---- */

static reco_status embed_classes(reco_ctx *ctx, study_data *data)
{
    size_t all, m = data->ntemplates ? data->ntemplates : 1;
    reco_candidates *c = &data->among;
    *c = (reco_candidates){.n = data->c,
                           .d = data->d,
                           .list = data->list,
                           .model = data->model,
                           .templates = (const char *const *)data->templates,
                           .m = data->ntemplates,
                           .rows = data->class_set.rows[RECO_TEXT]};
    if (!c->rows) {
        if (!reco_mul(m, data->c * data->d, &all)) return reco_fail_nomem(ctx, SIZE_MAX, "prompts");
        if (!(data->prompts = reco_alloc(ctx, all, sizeof(float), "prompts"))) return RECO_E_NOMEM;
        RECO_TRY(reco_embed_prompts(ctx, c, data->prompts, NULL));
        c->rows = data->prompts;
    }
    return reco_classifier_create(ctx, &data->clip, NULL, c, NULL);
}

static reco_status make_key(reco_ctx *ctx, study_data *data)
{
    reco_hash *h;
    const char *const *names = reco_class_list_names(data->list);
    RECO_TRY(reco_hash_new(ctx, &h));
    size_t m = data->ntemplates ? data->ntemplates : 1;
    reco_hash_update(h, data->rows, data->n * data->d * sizeof(float));
    reco_hash_update(h, data->labels, data->n * sizeof *data->labels);
    reco_hash_update(h, data->is_new, data->n);
    reco_hash_update(h, data->among.rows, m * data->c * data->d * sizeof(float));
    for (size_t i = 0; i < data->c; i++) reco_hash_update(h, names[i], strlen(names[i]) + 1);
    for (size_t i = 0; i < data->ntemplates; i++)
        reco_hash_update(h, data->templates[i], strlen(data->templates[i]) + 1);
    reco_hash_hex(h, data->key);
    return RECO_OK;
}

reco_status study_data_embed(reco_ctx *ctx, study_data *data, const char *dir, const reco_study_opts *opts)
{
    RECO_TRY(embed_queries(ctx, data, dir, opts));
    RECO_TRY(embed_classes(ctx, data));
    return make_key(ctx, data);
}

void study_data_free(study_data *data)
{
    for (size_t i = 0; i < data->nqueries; i++) reco_free(data->queries[i].path);
    reco_free(data->queries);
    for (int i = 0; i < 2; i++) reco_query_set_free(&data->sets[i]);
    reco_query_set_free(&data->class_set);
    reco_lines_free(data->templates, data->ntemplates);
    reco_class_list_free(data->list);
    reco_model_close(data->model);
    reco_free(data->rows);
    reco_free(data->labels);
    reco_free(data->is_new);
    reco_free(data->prompts);
    reco_classifier_free(data->clip);
    *data = (study_data){0};
}
