/* The names of embedded inputs, which depend on the encoder and on the content of every file. */
#include "study/study_internal.h"

#include <stdio.h>

reco_status study_encoder_hash(reco_ctx *ctx, const study_data *data, reco_hash **out)
{
    char fingerprint[33] = "";
    reco_model_info info = {0};
    if (data->model) {
        RECO_TRY(reco_model_fingerprint(ctx, data->model, fingerprint));
        info = *reco_model_get_info(data->model);
    }
    RECO_TRY(reco_hash_new(ctx, out));
    reco_hash_update(*out, RECO_VERSION, sizeof RECO_VERSION);
    reco_hash_update(*out, fingerprint, strlen(fingerprint));
    reco_hash_update(*out, reco_precision_name(info.precision),
                     strlen(reco_precision_name(info.precision)));
    reco_hash_update(*out, &info.preprocess.upright, sizeof info.preprocess.upright);
    return RECO_OK;
}

void study_hash_content(reco_ctx *ctx, reco_hash *h, const char *path)
{
    char content[33];
    if (reco_hash_file(ctx, path, content) != RECO_OK) memset(content, '-', 32);
    reco_hash_update(h, content, 32);
}

static void hash_text(reco_hash *h, const char *text)
{
    if (text) reco_hash_update(h, text, strlen(text));
    reco_hash_update(h, "", 1);
}

/* Pictures are found beside the table, and the bank remembers where. */
static reco_status hash_place(reco_ctx *ctx, reco_hash *h, const char *path)
{
    char *whole = reco_place_resolve(ctx, NULL, path);
    if (!whole) return RECO_E_NOMEM;
    hash_text(h, whole);
    reco_free(whole);
    return RECO_OK;
}

static reco_status hash_pictures(reco_ctx *ctx, reco_hash *h, const char *path,
                                 const reco_table_opts *table)
{
    char **images = NULL, **texts = NULL, **reasons = NULL;
    size_t n = 0;
    reco_status status =
        reco_read_columns(ctx, path, table, "image", "text", &images, &texts, &reasons, NULL, &n);
    for (size_t i = 0; i < n && status == RECO_OK; i++) {
        if (!*images[i]) continue;
        char *picture = reco_resolve_path(ctx, path, images[i]);
        if (picture)
            study_hash_content(ctx, h, picture);
        else
            status = RECO_E_NOMEM;
        reco_free(picture);
        if (status == RECO_OK) status = reco_progress(ctx, "looking for changes", i + 1, n);
    }
    reco_lines_free(images, n);
    reco_lines_free(texts, n);
    reco_lines_free(reasons, n);
    return status;
}

reco_status study_table_key(reco_ctx *ctx, const char *path, const study_data *data,
                            const reco_table_opts *table, char key[33])
{
    reco_hash *h;
    const reco_table_opts t = table ? *table : (reco_table_opts){0};
    RECO_TRY(study_encoder_hash(ctx, data, &h));
    study_hash_content(ctx, h, path);
    hash_text(h, t.image_column);
    hash_text(h, t.text_column);
    hash_text(h, t.types);
    hash_text(h, t.encoding);
    const size_t rest[] = {(size_t)t.separator, (size_t)t.quote, t.max_lines};
    reco_hash_update(h, rest, sizeof rest);
    reco_status status = hash_place(ctx, h, path);
    if (status == RECO_OK) status = hash_pictures(ctx, h, path, table);
    reco_hash_hex(h, key);
    return status;
}

reco_status study_folder_key(reco_ctx *ctx, const char *path, const study_data *data, char key[33])
{
    reco_hash *h;
    char **files = NULL;
    size_t n = 0, skip = strlen(path);
    RECO_TRY(study_encoder_hash(ctx, data, &h));
    reco_status status = hash_place(ctx, h, path);
    if (status == RECO_OK) status = reco_list_files(ctx, &files, &n, path, true, NULL);
    for (size_t i = 0; i < n && status == RECO_OK; i++) {
        hash_text(h, files[i] + skip);
        study_hash_content(ctx, h, files[i]);
    }
    reco_lines_free(files, n);
    reco_hash_hex(h, key);
    return status;
}
