/* The banks of a study: making one from a path, its content, and parts of it. */
#include "io/embeddings.h"
#include "study/study_internal.h"

#include <math.h>
#include <stdio.h>

/* ---- paths to banks ---- */

static reco_status is_bank(reco_ctx *ctx, const char *path, bool *bank)
{
    char *file = reco_path_join(ctx, path, "bank.sqlite");
    if (!file) return RECO_E_NOMEM;
    *bank = reco_path_exists(file);
    reco_free(file);
    return RECO_OK;
}

/* Embeddings of both sides want none. */
static reco_status needs_model(reco_ctx *ctx, const char *path, const reco_model **model)
{
    reco_embeddings *e;
    RECO_TRY(reco_embeddings_open(ctx, &e, path));
    if (reco_embeddings_has(e, RECO_IMAGE) && reco_embeddings_has(e, RECO_TEXT)) *model = NULL;
    reco_embeddings_close(e);
    return RECO_OK;
}

reco_status study_as_bank(reco_ctx *ctx, char **out, const char *path, const study_data *data,
                          const char *dir, const reco_study_opts *opts)
{
    bool bank, folder = reco_path_is_dir(path);
    char key[33];
    RECO_TRY(is_bank(ctx, path, &bank));
    if (bank) return (*out = reco_strdup(ctx, path)) ? RECO_OK : RECO_E_NOMEM;
    RECO_TRY(folder ? study_folder_key(ctx, path, data, key)
                    : study_table_key(ctx, path, data, opts->table, key));
    if (!(*out = reco_format(ctx, "%s/banks/%s.bank", dir, key))) return RECO_E_NOMEM;
    reco_stream_result result;
    const reco_ingest_opts how = {.embed = {.failure = opts->failure, .user = opts->user},
                                  .table = opts->table};
    const reco_model *model = data->model;
    if (!folder) return reco_bank_ingest_pairs(ctx, model, path, *out, 1, &how, &result);
    RECO_TRY(needs_model(ctx, path, &model));
    return reco_bank_ingest_embeddings(ctx, model, path, *out, 1, &how, &result);
}

/* ---- what a bank holds ---- */

static reco_status live_ids(reco_ctx *ctx, const reco_bank *bank, int64_t **ids, size_t *n)
{
    size_t most = (size_t)reco_bank_get_info(bank)->rows;
    *ids = reco_alloc(ctx, most + 1, sizeof **ids, "ids");
    return *ids ? reco_bank_select(ctx, bank, NULL, 0, most + 1, *ids, n) : RECO_E_NOMEM;
}

static void hash_pair(reco_hash *h, const reco_pair *pair)
{
    const char *const texts[] = {pair->caption, pair->uri, pair->base};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (texts[i]) reco_hash_update(h, texts[i], strlen(texts[i]));
        reco_hash_update(h, "", 1);
    }
    if (pair->place) reco_hash_update(h, pair->place, RECO_BANK_HASH);
    if (pair->content) reco_hash_update(h, pair->content, RECO_BANK_HASH);
}

/* Live rows in their order: vectors, captions and pictures. Not the files, which are others after a build that was cut off. And how
 * well they are searched. */
static reco_status hash_live_rows(reco_ctx *ctx, study_bank *b)
{
    enum { BLOCK = 1024 };
    const size_t d = reco_bank_get_info(b->bank)->d;
    reco_hash *h = NULL;
    float *rows = reco_alloc(ctx, BLOCK * d, sizeof *rows, "rows");
    reco_status status = rows ? reco_hash_new(ctx, &h) : RECO_E_NOMEM;
    for (size_t i = 0; i < b->n && status == RECO_OK; i += BLOCK) {
        const size_t m = reco_min(BLOCK, b->n - i);
        for (int side = 0; side < 2 && status == RECO_OK; side++) {
            status = reco_bank_gather(ctx, b->bank, (reco_side)side, b->ids + i, m, rows);
            if (status == RECO_OK) reco_hash_update(h, rows, m * d * sizeof *rows);
        }
        for (size_t j = 0; j < m && status == RECO_OK; j++) {
            reco_pair pair = {0};
            status = reco_bank_get(ctx, b->bank, b->ids[i + j], &pair);
            if (status == RECO_OK) hash_pair(h, &pair);
            reco_pair_free(&pair);
        }
    }
    if (h && b->recall < 1) reco_hash_update(h, &b->recall, sizeof b->recall);
    if (h) reco_hash_hex(h, b->key);
    reco_free(rows);
    return status;
}

/* The folder of the memory's bank. */
static reco_status find_memory_bank(reco_ctx *ctx, char **out, const study_memory *m,
                                    const study_data *data, double wrong, uint64_t seed, const char *dir,
                                    const reco_study_opts *opts)
{
    char *paths[STUDY_MOST_VALUES] = {0};
    reco_status status = RECO_OK;
    for (size_t i = 0; i < m->n && status == RECO_OK; i++)
        status = study_as_bank(ctx, &paths[i], m->paths[i], data, dir, opts);
    if (status == RECO_OK && m->n == 1 && wrong <= 0) {
        *out = paths[0];
        paths[0] = NULL;
    } else if (status == RECO_OK)
        status = study_derive(ctx, out, paths, m->n, data, wrong, seed, dir);
    for (size_t i = 0; i < m->n; i++) reco_free(paths[i]);
    return status;
}

reco_status study_bank_at(reco_ctx *ctx, study_bank *b, const char *path, const study_data *data)
{
    *b = (study_bank){0};
    RECO_TRY(
        reco_bank_open_with(ctx, &b->bank, path, &(reco_bank_open_opts){.recall = (double)data->recall}));
    b->recall = fminf(reco_bank_expected_recall(b->bank, RECO_IMAGE, NULL),
                      reco_bank_expected_recall(b->bank, RECO_TEXT, NULL));
    RECO_TRY(reco_check_encoder(ctx, data->model, b->bank, NULL));
    if (reco_bank_get_info(b->bank)->d != data->d)
        return reco_fail(ctx, RECO_E_MISMATCH, "%s: vectors of width %zu, the queries have width %zu", path,
                         reco_bank_get_info(b->bank)->d, data->d);
    RECO_TRY(live_ids(ctx, b->bank, &b->ids, &b->n));
    return hash_live_rows(ctx, b);
}

reco_status study_bank_open(reco_ctx *ctx, study_bank *b, const reco_study *study, const study_data *data,
                            size_t memory, double wrong, uint64_t seed, const char *dir,
                            const reco_study_opts *opts)
{
    char *path = NULL;
    *b = (study_bank){0};
    reco_status status =
        find_memory_bank(ctx, &path, &study->memories[memory], data, wrong, seed, dir, opts);
    if (status == RECO_OK) status = study_bank_at(ctx, b, path, data);
    reco_free(path);
    return status;
}

reco_status study_bank_classes(reco_ctx *ctx, study_bank *b, const study_data *data)
{
    if (b->of) return RECO_OK;
    b->of = reco_alloc(ctx, b->n + 1, sizeof *b->of, "classes of rows");
    return b->of ? reco_classifier_votes(ctx, data->clip, b->bank, b->ids, b->n, b->of) : RECO_E_NOMEM;
}

void study_bank_close(study_bank *b)
{
    reco_bank_close(b->bank);
    reco_free(b->ids);
    reco_free(b->of);
    *b = (study_bank){0};
}

/* ---- parts of a memory ---- */

static reco_status drop_concepts(reco_ctx *ctx, const study_bank *b, const study_spec *spec,
                                 const study_data *data, int64_t *keep, size_t *n)
{
    unsigned char *asked = reco_alloc(ctx, data->c, 1, "classes");
    if (!asked) return RECO_E_NOMEM;
    for (size_t i = 0; i < data->n; i++)
        if (spec->without == STUDY_WITHOUT_EVALUATED || data->is_new[i]) asked[data->labels[i]] = 1;
    for (size_t i = 0; i < b->n; i++)
        if (b->of[i] == RECO_NO_CLASS || !asked[b->of[i]]) keep[(*n)++] = b->ids[i];
    reco_free(asked);
    return RECO_OK;
}

static reco_status draw_share(reco_ctx *ctx, const study_bank *b, double share, uint64_t seed,
                              int64_t *keep, size_t *n)
{
    uint32_t *order = reco_alloc(ctx, b->n + 1, sizeof *order, "rows");
    if (!order) return RECO_E_NOMEM;
    reco_rng rng;
    reco_rng_seed(&rng, seed + 1);
    for (size_t i = 0; i < b->n; i++) order[i] = (uint32_t)i;
    reco_rng_shuffle(&rng, order, b->n);
    *n = (size_t)llround(share / 100 * (double)b->n); /* a smaller share is part of a greater one */
    for (size_t i = 0; i < *n; i++) keep[i] = b->ids[order[i]];
    reco_free(order);
    return RECO_OK;
}

reco_status study_bank_filter(reco_ctx *ctx, reco_bank_filter **out, const study_bank *b,
                              const study_spec *spec, const study_data *data, uint64_t seed)
{
    *out = NULL;
    if (spec->without == STUDY_WITH_ALL && spec->share >= 100) return RECO_OK;
    size_t n = 0;
    int64_t *keep = reco_alloc(ctx, b->n + 1, sizeof *keep, "rows");
    if (!keep) return RECO_E_NOMEM;
    reco_status status = spec->without != STUDY_WITH_ALL ? drop_concepts(ctx, b, spec, data, keep, &n)
                                                         : draw_share(ctx, b, spec->share, seed, keep, &n);
    if (status == RECO_OK) status = reco_bank_filter_ids(ctx, out, b->bank, keep, n);
    reco_free(keep);
    return status;
}
