#include "study/study_internal.h"

#include <stdio.h>

/* A query before it is embedded. */
typedef struct item {
    char *path;
    uint32_t label;
    unsigned char is_new;
} item;

typedef struct items {
    item *all;
    size_t n;
} items;

static void drop(const reco_stream_opts *stream, study_data *data, size_t row, const char *what,
                 const char *reason)
{
    data->failures++;
    if (stream && stream->failure) stream->failure(stream->user, row, what, reason);
}

/* ---- labels ---- */

static reco_status read_queries(reco_ctx *ctx, study_data *data, items *list, const char *file, bool is_new,
                                const reco_stream_opts *stream)
{
    char **images = NULL, **names = NULL, **reasons = NULL;
    uint64_t *lines = NULL;
    uint32_t *classes = NULL;
    const char **given = NULL, *how;
    size_t n = 0, good = 0;
    reco_status status = reco_read_columns(ctx, file, stream ? stream->table : NULL, "image", "label",
                                           &images, &names, &reasons, &lines, &n);
    if (status != RECO_OK) return status;
    item *more = reco_alloc(ctx, list->n + n + 1, sizeof *more, "queries");
    classes = reco_alloc(ctx, n + 1, sizeof *classes, "queries");
    given = reco_alloc(ctx, n + 1, sizeof *given, "queries");
    if (!more || !classes || !given) RECO_GO(RECO_E_NOMEM);
    if (list->n) memcpy(more, list->all, list->n * sizeof *more);
    reco_free(list->all);
    list->all = more;
    more = NULL;
    for (size_t i = 0; i < n; i++)
        if (!reasons[i]) given[good++] = names[i];
    if (good) RECO_GO(reco_class_list_match(ctx, data->list, data->model, given, good, 0, classes, &how));
    for (size_t i = 0, j = 0; i < n; i++) {
        uint32_t label = reasons[i] ? RECO_NO_CLASS : classes[j++];
        char reason[512];
        if (label == RECO_NO_CLASS) {
            if (reasons[i])
                snprintf(reason, sizeof reason, "%s:%llu: %s", file, (unsigned long long)lines[i],
                         reasons[i]);
            else
                snprintf(reason, sizeof reason,
                         "%s:%llu: label \"%.100s\" is no class, the nearest is \"%.100s\"", file,
                         (unsigned long long)lines[i], names[i],
                         reco_class_list_nearest(data->list, names[i]));
            reco_text_clean(reason);
            drop(stream, data, i, images[i], reason);
            continue;
        }
        item *x = &list->all[list->n];
        *x = (item){reco_resolve_path(ctx, file, images[i]), label, is_new};
        if (!x->path) RECO_GO(RECO_E_NOMEM);
        list->n++;
    }
out:
    reco_free(more);
    reco_free(classes);
    reco_free(given);
    reco_free(lines);
    reco_lines_free(images, n);
    reco_lines_free(names, n);
    reco_lines_free(reasons, n);
    return status;
}

/* ---- pictures, embedded once ---- */

typedef struct seeing {
    const reco_stream_opts *stream;
    study_data *data;
} seeing;

static void failed(void *user, uint64_t row, const char *what, const char *reason)
{
    const seeing *s = user;
    drop(s->stream, s->data, (size_t)row, what, reason);
}

/* The model and the content of every picture. */
static reco_status pictures_key(reco_ctx *ctx, const study_data *data, const items *list, char key[33])
{
    reco_hash *h;
    char fingerprint[33], content[33];
    RECO_TRY(reco_model_fingerprint(ctx, data->model, fingerprint));
    RECO_TRY(reco_hash_new(ctx, &h));
    reco_model_info info = reco_model_get_info(data->model);
    reco_hash_update(h, fingerprint, strlen(fingerprint));
    reco_hash_update(h, reco_precision_name(info.precision), strlen(reco_precision_name(info.precision)));
    reco_hash_update(h, &info.preprocess.upright, sizeof info.preprocess.upright);
    for (size_t i = 0; i < list->n; i++) {
        if (reco_hash_file(ctx, list->all[i].path, content) != RECO_OK) memset(content, '-', 32);
        reco_hash_update(h, content, 32);
    }
    reco_hash_hex(h, key);
    return RECO_OK;
}

static reco_status see(reco_ctx *ctx, study_data *data, const items *list, const char *file, float *rows)
{
    const char **paths = reco_alloc(ctx, list->n + 1, sizeof *paths, "queries");
    unsigned char *good = reco_alloc(ctx, list->n + 1, 1, "queries");
    reco_npy npy;
    reco_status status = paths && good ? RECO_OK : RECO_E_NOMEM;
    for (size_t i = 0; i < list->n && status == RECO_OK; i++) paths[i] = list->all[i].path;
    if (status != RECO_OK) goto out;
    if (reco_path_exists(file)) {
        RECO_GO(reco_npy_open(ctx, &npy, file));
        if (npy.rows != list->n || npy.cols != data->d)
            status = reco_fail(ctx, RECO_E_FORMAT, "%s: has [%zu][%zu], want [%zu][%zu]; remove it", file,
                               npy.rows, npy.cols, list->n, data->d);
        if (status == RECO_OK) status = reco_npy_rows(ctx, &npy, 0, list->n, rows);
        reco_npy_close(&npy);
        goto out;
    }
    reco_stream_opts opts = {0};
    RECO_GO(reco_embed_files(ctx, data->model, paths, list->n, &opts, rows, good));
    size_t shape[2] = {list->n, data->d};
    RECO_GO(reco_npy_write(ctx, file, RECO_DTYPE_F32, 2, shape, rows));
out:
    reco_free(paths);
    reco_free(good);
    return status;
}

static bool is_zero(const float *row, size_t d)
{
    for (size_t j = 0; j < d; j++)
        if (row[j] != 0) return false;
    return true;
}

static reco_status embed_queries(reco_ctx *ctx, study_data *data, const items *list, const char *dir,
                                 const reco_stream_opts *stream)
{
    char key[33];
    RECO_TRY(pictures_key(ctx, data, list, key));
    data->rows = reco_alloc(ctx, list->n * data->d + 1, sizeof(float), "queries");
    data->labels = reco_alloc(ctx, list->n + 1, sizeof *data->labels, "queries");
    data->is_new = reco_alloc(ctx, list->n + 1, 1, "queries");
    char *file = reco_format(ctx, "%s/queries/%s.npy", dir, key);
    if (!data->rows || !data->labels || !data->is_new || !file) return reco_free(file), RECO_E_NOMEM;
    reco_status status = see(ctx, data, list, file, data->rows);
    reco_free(file);
    const seeing s = {stream, data};
    for (size_t i = 0; i < list->n && status == RECO_OK; i++) {
        const item *x = &list->all[i];
        if (is_zero(data->rows + i * data->d, data->d)) {
            failed((void *)(uintptr_t)&s, i, x->path, "could not be read");
            continue;
        }
        if (i != data->n)
            memcpy(data->rows + data->n * data->d, data->rows + i * data->d, data->d * sizeof(float));
        data->labels[data->n] = x->label;
        data->is_new[data->n++] = x->is_new;
    }
    if (status == RECO_OK && data->n == 0)
        status = reco_fail(ctx, RECO_E_NOTFOUND, "study: not one query could be read");
    return status;
}

/* ---- classes ---- */

static reco_status embed_classes(reco_ctx *ctx, study_data *data)
{
    const size_t m = data->ntemplates ? data->ntemplates : 1, row = data->c * data->d;
    const char *const *texts = reco_class_list_texts(data->list), *const *templates =
                                                                      (const char *const *)data->templates;
    size_t all;
    if (!reco_mul(m, row, &all)) return reco_fail_nomem(ctx, SIZE_MAX, "prompts");
    data->plain = reco_alloc(ctx, row, sizeof(float), "classes");
    data->prompts = reco_alloc(ctx, all, sizeof(float), "prompts");
    if (!data->plain || !data->prompts) return RECO_E_NOMEM;
    RECO_TRY(reco_class_list_embed(ctx, data->list, data->model, NULL, templates, data->ntemplates,
                                   data->plain, NULL, NULL));
    if (m == 1) memcpy(data->prompts, data->plain, row * sizeof(float));
    for (size_t t = 0; t < m && m > 1; t++)
        RECO_TRY(reco_embed_classes(ctx, data->model, NULL, texts, data->c, templates + t, 1,
                                    data->prompts + t * row, NULL, NULL));
    return RECO_OK;
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
    reco_hash_update(h, data->prompts, m * data->c * data->d * sizeof(float));
    for (size_t i = 0; i < data->c; i++) reco_hash_update(h, names[i], strlen(names[i]) + 1);
    for (size_t i = 0; i < data->ntemplates; i++)
        reco_hash_update(h, data->templates[i], strlen(data->templates[i]) + 1);
    reco_hash_hex(h, data->key);
    return RECO_OK;
}

reco_status study_data_load(reco_ctx *ctx, study_data *data, const reco_study *study, const char *dir,
                            const reco_model_opts *model, const reco_stream_opts *stream)
{
    items list = {0};
    reco_status status;
    RECO_GO(reco_model_open(ctx, &data->model, study->model, model));
    data->d = reco_model_get_info(data->model).d;
    RECO_GO(reco_class_list_read(ctx, &data->list, study->classes));
    RECO_GO(reco_class_list_settle(ctx, data->list, data->model, 0));
    data->c = reco_class_list_count(data->list);
    if (study->templates)
        RECO_GO(reco_read_lines(ctx, study->templates, &data->templates, &data->ntemplates));
    for (size_t i = 0; i < data->ntemplates; i++)
        if (!strstr(data->templates[i], "{}"))
            RECO_GO(reco_fail(ctx, RECO_E_ARG, "%s: template \"%.100s\" has no {} for the class name",
                              study->templates, data->templates[i]));
    for (int i = 0; i < 2; i++)
        if (study->queries[i]) RECO_GO(read_queries(ctx, data, &list, study->queries[i], i == 1, stream));
    if (list.n == 0)
        RECO_GO(reco_fail(ctx, RECO_E_NOTFOUND, "%s: not one label is a class", study->queries[0]));
    char *folder = reco_format(ctx, "%s/queries", dir);
    status = folder ? reco_mkdirs(ctx, folder) : RECO_E_NOMEM;
    reco_free(folder);
    if (status != RECO_OK) goto out;
    RECO_GO(embed_queries(ctx, data, &list, dir, stream));
    RECO_GO(embed_classes(ctx, data));
    RECO_GO(make_key(ctx, data));
out:
    for (size_t i = 0; i < list.n; i++) reco_free(list.all[i].path);
    reco_free(list.all);
    return status;
}

void study_data_free(study_data *data)
{
    reco_lines_free(data->templates, data->ntemplates);
    reco_class_list_free(data->list);
    reco_model_close(data->model);
    reco_free(data->rows);
    reco_free(data->labels);
    reco_free(data->is_new);
    reco_free(data->prompts);
    reco_free(data->plain);
    *data = (study_data){0};
}
