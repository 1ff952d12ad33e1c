/* Embeddings cached on disk, named by what they depend on. If a cache is missing, unwritable or damaged, everything
 * is embedded as without it. */
#include "pipeline/pipeline_internal.h"

typedef struct kept {
    char *path;  /* CACHE/HASH.safetensors; NULL: nothing is kept */
    float *rows; /* [n][d]; NULL: allocated when they are loaded, as many as there are */
    size_t n, d;
    uint64_t number; /* kept beside them */
} kept;

static void hash_text(reco_hash *h, const char *text) { reco_hash_update(h, text, strlen(text) + 1); }

static reco_status hash_encoder(reco_ctx *ctx, reco_hash *h, const reco_model *model)
{
    char print[33];
    reco_model_info info = *reco_model_get_info(model);
    RECO_TRY(reco_model_fingerprint(ctx, model, print));
    hash_text(h, reco_version());
    hash_text(h, print);
    hash_text(h, reco_precision_name(info.precision));
    reco_hash_update(h, &info.preprocess.upright, sizeof info.preprocess.upright);
    return RECO_OK;
}

/* Ends the hash. */
static reco_status name_file(reco_ctx *ctx, kept *k, const char *cache, reco_hash *h)
{
    char hex[33];
    reco_hash_hex(h, hex);
    k->path = reco_format(ctx, "%s/%s.safetensors", cache, hex);
    return k->path ? RECO_OK : RECO_E_NOMEM;
}

static void sum_of(const kept *k, char hex[33])
{
    unsigned char sum[16];
    reco_hash128(k->rows, k->n * k->d * sizeof *k->rows, sum);
    for (int i = 0; i < 16; i++) snprintf(hex + 2 * i, 3, "%02x", sum[i]);
}

/* Are the rows there, whole? */
static bool load(reco_ctx *ctx, kept *k)
{
    reco_safetensors *file = NULL;
    const reco_tensor *rows;
    char sum[33];
    if (!k->path || !reco_path_exists(k->path)) return false;
    bool good = reco_safetensors_open(ctx, &file, k->path) == RECO_OK &&
                reco_safetensors_need(ctx, file, &rows, "rows", 2, (const size_t[]){k->n, k->d}) == RECO_OK;
    if (good && !k->rows) {
        k->n = rows->shape[0];
        good = (k->rows = reco_alloc(ctx, k->n * k->d, sizeof *k->rows, "embeddings")) != NULL;
    }
    good = good && reco_tensor_f32(ctx, rows, 0, k->n * k->d, k->rows) == RECO_OK;
    const char *said = good ? reco_safetensors_meta(file, "xxh3") : NULL,
               *number = good ? reco_safetensors_meta(file, "truncated") : NULL;
    if (good) sum_of(k, sum);
    good = said && number && strcmp(said, sum) == 0;
    if (good) k->number = strtoull(number, NULL, 10);
    reco_safetensors_close(file);
    if (!good) reco_log(ctx, RECO_LOG_WARN, "%s: is damaged and is written anew", k->path);
    return good;
}

static void store_embeddings(reco_ctx *ctx, const kept *k, const char *cache)
{
    char sum[33], number[24];
    if (!k->path) return;
    sum_of(k, sum);
    snprintf(number, sizeof number, "%llu", (unsigned long long)k->number);
    const reco_meta meta[] = {{"xxh3", sum}, {"truncated", number}};
    const reco_tensor rows = {
        .name = "rows", .dtype = RECO_DTYPE_F32, .rank = 2, .shape = {k->n, k->d}, .data = k->rows};
    if (reco_mkdirs(ctx, cache) != RECO_OK ||
        reco_safetensors_write(ctx, k->path, &rows, 1, meta, 2) != RECO_OK)
        reco_log(ctx, RECO_LOG_WARN, "embeddings are not cached: %s", reco_ctx_error(ctx));
}

/* ---- pictures ---- */

static bool is_zero(const float *row, size_t d)
{
    for (size_t i = 0; i < d; i++)
        if (row[i] != 0) return false;
    return true;
}

typedef struct retrying {
    const reco_embed_opts *opts;
    const size_t *which;
} retrying;

static void report_retried(void *user, uint64_t row, const char *item, const char *reason)
{
    const retrying *r = user;
    r->opts->failure(r->opts->user, r->which[row], item, reason);
}

/* Those of the pictures that have no rows. */
static reco_status embed_missing(reco_ctx *ctx, const reco_model *model, const char *const *paths,
                                 const reco_embed_opts *opts, kept *k, unsigned char *good, bool *changed)
{
    size_t missing = 0, *which = reco_alloc(ctx, k->n, sizeof *which, "pictures");
    const char **some = reco_alloc(ctx, k->n, sizeof *some, "pictures");
    unsigned char *fine = reco_alloc(ctx, k->n, 1, "pictures");
    float *rows = NULL;
    reco_status status = RECO_OK;
    if (!which || !some || !fine) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < k->n; i++) {
        good[i] = !is_zero(k->rows + i * k->d, k->d);
        if (good[i]) continue;
        some[missing] = paths[i];
        which[missing++] = i;
    }
    if (!missing) goto out;
    if (!(rows = reco_alloc(ctx, missing * k->d, sizeof *rows, "pictures"))) RECO_GO(RECO_E_NOMEM);
    reco_embed_opts again = opts ? *opts : (reco_embed_opts){0};
    retrying r = {opts, which};
    if (again.failure) again.failure = report_retried;
    again.user = &r;
    RECO_GO(reco_embed_files(ctx, model, some, missing, &again, rows, fine));
    for (size_t i = 0; i < missing; i++) {
        good[which[i]] = fine[i];
        *changed |= fine[i];
        memcpy(k->rows + which[i] * k->d, rows + i * k->d, k->d * sizeof *rows);
    }
out:
    reco_free(which);
    reco_free(some);
    reco_free(fine);
    reco_free(rows);
    return status;
}

reco_status reco_embed_files_cached(reco_ctx *ctx, const reco_model *model, const char *const *paths,
                                    size_t n, const char *cache, const reco_embed_opts *opts, float *out,
                                    unsigned char *good)
{
    kept k = {.rows = out, .n = n, .d = reco_model_get_info(model)->d};
    reco_hash *h = NULL;
    bool changed = false;
    if (!cache || n == 0) return reco_embed_files(ctx, model, paths, n, opts, out, good);
    RECO_TRY(reco_hash_new(ctx, &h));
    reco_status status = hash_encoder(ctx, h, model);
    for (size_t i = 0; i < n && status == RECO_OK; i++) {
        char content[33];
        hash_text(h, reco_hash_file(ctx, paths[i], content) == RECO_OK ? content : "");
        status = reco_progress(ctx, "looking for changes", i + 1, n);
    }
    if (status == RECO_OK)
        status = name_file(ctx, &k, cache, h);
    else
        reco_hash_hex(h, (char[33]){0});
    if (status == RECO_OK && !load(ctx, &k)) memset(out, 0, n * k.d * sizeof *out);
    if (status == RECO_OK) status = embed_missing(ctx, model, paths, opts, &k, good, &changed);
    if (status == RECO_OK && changed) store_embeddings(ctx, &k, cache);
    reco_free(k.path);
    return status;
}

/* ---- prompts ---- */

reco_status reco_embed_prompts_cached(reco_ctx *ctx, const reco_candidates *c, const char *cache,
                                      float *rows, uint64_t *truncated)
{
    kept k = {.rows = rows, .n = c->n * reco_max(c->m, 1), .d = c->d};
    const char *const *texts = c->list ? reco_class_list_texts(c->list) : c->names;
    reco_hash *h = NULL;
    if (!cache || !c->model || !texts) return reco_embed_prompts(ctx, c, rows, truncated);
    RECO_TRY(reco_hash_new(ctx, &h));
    reco_status status = hash_encoder(ctx, h, c->model);
    reco_hash_update(h, &c->n, sizeof c->n);
    for (size_t i = 0; i < c->n && status == RECO_OK; i++) hash_text(h, texts[i]);
    for (size_t i = 0; i < c->m && status == RECO_OK; i++) hash_text(h, c->templates[i]);
    if (status == RECO_OK)
        status = name_file(ctx, &k, cache, h);
    else
        reco_hash_hex(h, (char[33]){0});
    if (status == RECO_OK && !load(ctx, &k)) {
        status = reco_embed_prompts(ctx, c, rows, &k.number);
        if (status == RECO_OK) store_embeddings(ctx, &k, cache);
    }
    if (truncated) *truncated = k.number;
    reco_free(k.path);
    return status;
}

/* ---- the pictures of a tar ---- */

reco_status reco_kept_tar_open(reco_ctx *ctx, reco_kept_tar *t, const reco_model *model, const char *cache,
                               const char *tar)
{
    kept k = {.d = reco_model_get_info(model)->d};
    reco_hash *h = NULL;
    char content[33];
    if (!cache || reco_hash_file(ctx, tar, content) != RECO_OK) return RECO_OK;
    if (!t->encoder[0]) {
        RECO_TRY(reco_hash_new(ctx, &h));
        reco_status status = hash_encoder(ctx, h, model);
        reco_hash_hex(h, t->encoder);
        RECO_TRY(status);
    }
    RECO_TRY(reco_hash_new(ctx, &h));
    hash_text(h, t->encoder);
    hash_text(h, content);
    RECO_TRY(name_file(ctx, &k, cache, h));
    if (load(ctx, &k)) {
        t->n = k.n;
        t->rows = k.rows;
    } else
        reco_free(k.rows);
    t->path = k.path;
    return RECO_OK;
}

const float *reco_kept_tar_row(const reco_kept_tar *t, size_t i, size_t d)
{
    return i < t->n && !is_zero(t->rows + i * d, d) ? t->rows + i * d : NULL;
}

reco_status reco_kept_tar_set(reco_ctx *ctx, reco_kept_tar *t, size_t i, size_t d, const float *row)
{
    if (!t->path) return RECO_OK;
    if (i >= t->n) {
        if (i >= t->room) {
            size_t room = reco_max(2 * i, 256);
            float *rows = reco_alloc(ctx, room * d, sizeof *rows, "embeddings");
            if (!rows) return RECO_E_NOMEM;
            if (t->n) memcpy(rows, t->rows, t->n * d * sizeof *rows);
            reco_free(t->rows);
            t->rows = rows;
            t->room = room;
        }
        memset(t->rows + t->n * d, 0, (i + 1 - t->n) * d * sizeof *t->rows);
        t->n = i + 1;
    }
    memcpy(t->rows + i * d, row, d * sizeof *row);
    t->changed = true;
    return RECO_OK;
}

void reco_kept_tar_close(reco_ctx *ctx, reco_kept_tar *t, const char *cache, size_t d)
{
    kept k = {.path = t->path, .rows = t->rows, .n = t->n, .d = d};
    if (t->changed) store_embeddings(ctx, &k, cache);
    reco_free(t->path);
    reco_free(t->rows);
    t->path = NULL;
    t->rows = NULL;
    t->n = t->room = 0;
    t->changed = false;
}
