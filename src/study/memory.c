#include "study/study_internal.h"

#include <math.h>
#include <stdio.h>

#define BLOCK ((size_t)1024)

/* ---- tables to banks ---- */

reco_status study_is_bank(reco_ctx *ctx, const char *path, bool *bank)
{
    char *file = reco_path_join(ctx, path, "bank.sqlite");
    if (!file) return RECO_E_NOMEM;
    *bank = reco_path_exists(file);
    reco_free(file);
    return RECO_OK;
}

/* The bank that this is, or that its pairs become, once, below dir. */
static reco_status as_bank(reco_ctx *ctx, char **out, const char *path, const study_data *data,
                           const char *dir, const reco_stream_opts *stream)
{
    bool bank;
    char hash[33];
    RECO_TRY(study_is_bank(ctx, path, &bank));
    if (bank) return (*out = reco_strdup(ctx, path)) ? RECO_OK : RECO_E_NOMEM;
    if (reco_path_is_dir(path))
        return reco_fail(ctx, RECO_E_FORMAT, "%s: is no bank; want one, or a table of pairs", path);
    RECO_TRY(reco_hash_file(ctx, path, hash));
    char *whole = reco_place_resolve(ctx, NULL, path);
    if (!whole) return RECO_E_NOMEM;
    uint64_t place = reco_hash64(whole, strlen(whole), 0);
    reco_free(whole);
    *out = reco_format(ctx, "%s/banks/%.16s%016llx.bank", dir, hash, (unsigned long long)place);
    if (!*out) return RECO_E_NOMEM;
    reco_stream_result result;
    return reco_bank_ingest_pairs(ctx, data->model, path, *out, 1, stream, &result);
}

reco_status study_pairs_path(reco_ctx *ctx, char **path, const reco_study *study, const study_data *data,
                             const char *dir, const reco_stream_opts *stream)
{
    bool embeddings = reco_path_is_dir(study->pairs);
    if (embeddings) return (*path = reco_strdup(ctx, study->pairs)) ? RECO_OK : RECO_E_NOMEM;
    return as_bank(ctx, path, study->pairs, data, dir, stream);
}

/* ---- what a bank holds ---- */

static reco_status live_ids(reco_ctx *ctx, const reco_bank *bank, int64_t **ids, size_t *n)
{
    size_t most = (size_t)reco_bank_get_info(bank).rows;
    *ids = reco_alloc(ctx, most + 1, sizeof **ids, "ids");
    return *ids ? reco_bank_ids(ctx, bank, 0, most + 1, *ids, n) : RECO_E_NOMEM;
}

/* Vectors by the checksums of their files, captions by themselves. */
static reco_status key_of(reco_ctx *ctx, study_bank *b)
{
    reco_bank_info info = reco_bank_get_info(b->bank);
    reco_hash *h;
    RECO_TRY(reco_hash_new(ctx, &h));
    reco_status status = RECO_OK;
    for (size_t i = 0; i < info.segments; i++) {
        reco_segment_info segment = reco_bank_get_segment(b->bank, i);
        reco_hash_update(h, segment.xxh3, strlen(segment.xxh3));
    }
    reco_hash_update(h, b->ids, b->n * sizeof *b->ids);
    for (size_t i = 0; i < b->n && status == RECO_OK; i++) {
        reco_pair pair;
        status = reco_bank_get(ctx, b->bank, b->ids[i], &pair);
        if (status != RECO_OK) break;
        reco_hash_update(h, pair.caption, strlen(pair.caption) + 1);
        reco_pair_free(&pair);
    }
    reco_hash_hex(h, b->key);
    return status;
}

/* ---- derived banks: several joined, and captions that are another row's ---- */

typedef struct source {
    reco_bank *bank;
    int64_t *ids;
    size_t n;
} source;

typedef struct derivation {
    source *from;
    size_t nfrom, total, d;
    uint32_t *says; /* [total] the row whose caption and text vector each row gets */
} derivation;

static void row_of(const derivation *v, size_t i, reco_bank **bank, int64_t *id)
{
    size_t s = 0;
    for (; i >= v->from[s].n; s++) i -= v->from[s].n;
    *bank = v->from[s].bank;
    *id = v->from[s].ids[i];
}

/* Of a random n % each gets the caption of the next one. */
static reco_status mix_up(reco_ctx *ctx, derivation *v, double wrong)
{
    uint32_t *order = reco_alloc(ctx, v->total + 1, sizeof *order, "rows");
    v->says = reco_alloc(ctx, v->total + 1, sizeof *v->says, "rows");
    if (!order || !v->says) return reco_free(order), RECO_E_NOMEM;
    for (size_t i = 0; i < v->total; i++) order[i] = v->says[i] = (uint32_t)i;
    reco_rng rng;
    reco_rng_seed(&rng, 1);
    reco_rng_shuffle(&rng, order, v->total);
    size_t m = (size_t)llround(wrong / 100 * (double)v->total);
    for (size_t i = 0; i < m; i++) v->says[order[i]] = order[(i + 1) % m];
    reco_free(order);
    return RECO_OK;
}

static reco_status copy_row(reco_ctx *ctx, const derivation *v, reco_bank_writer *w, size_t i,
                            float *vectors)
{
    reco_bank *pictured, *told;
    int64_t picture, text;
    row_of(v, i, &pictured, &picture);
    row_of(v, v->says[i], &told, &text);
    RECO_TRY(reco_bank_gather(ctx, pictured, RECO_IMAGE, &picture, 1, vectors));
    RECO_TRY(reco_bank_gather(ctx, told, RECO_TEXT, &text, 1, vectors + v->d));
    reco_pair a = {0}, b = {0};
    reco_status status = reco_bank_get(ctx, pictured, picture, &a);
    if (status == RECO_OK) status = reco_bank_get(ctx, told, text, &b);
    if (status == RECO_OK) {
        reco_pair pair = {
            .caption = b.caption, .uri = a.uri, .base = a.base, .place = a.place, .content = a.content};
        status = reco_bank_append(ctx, w, vectors, vectors + v->d, &pair, 1);
    }
    reco_pair_free(&a);
    reco_pair_free(&b);
    return status;
}

static reco_status write_bank(reco_ctx *ctx, const derivation *v, const char *path, const char *job)
{
    reco_bank_info info = reco_bank_get_info(v->from[0].bank);
    reco_bank_spec spec = {info.d, *info.encoder ? info.encoder : NULL,
                           *info.fingerprint ? info.fingerprint : NULL, info.logit_scale};
    reco_bank_writer *w = NULL;
    uint64_t next = 0;
    int done = 0;
    float *vectors = reco_alloc(ctx, 2 * v->d, sizeof *vectors, "row");
    reco_status status = vectors ? RECO_OK : RECO_E_NOMEM;
    if (status == RECO_OK) status = reco_bank_writer_open(ctx, &w, path, &spec, job, &next, &done);
    for (size_t i = (size_t)next; i < v->total && !done && status == RECO_OK; i++) {
        status = copy_row(ctx, v, w, i, vectors);
        if (status == RECO_OK && (i + 1) % 65536 == 0) status = reco_bank_commit(ctx, w, i + 1, 0);
    }
    if (status == RECO_OK && !done) status = reco_bank_commit(ctx, w, v->total, 1);
    reco_bank_writer_close(w);
    reco_free(vectors);
    return status;
}

static reco_status derive(reco_ctx *ctx, derivation *v, char *const *paths, const study_data *data,
                          double wrong, const char *dir, char **out)
{
    char hash[33];
    reco_hash *h;
    study_bank b;
    RECO_TRY(reco_hash_new(ctx, &h));
    reco_hash_update(h, &wrong, sizeof wrong);
    reco_status status = RECO_OK;
    for (size_t i = 0; i < v->nfrom && status == RECO_OK; i++) {
        source *s = &v->from[i];
        status = reco_bank_open(ctx, &s->bank, paths[i]);
        if (status == RECO_OK) status = reco_check_encoder(ctx, data->model, s->bank, NULL);
        if (status == RECO_OK) status = live_ids(ctx, s->bank, &s->ids, &s->n);
        b = (study_bank){.bank = s->bank, .ids = s->ids, .n = s->n};
        if (status == RECO_OK) status = key_of(ctx, &b);
        if (status != RECO_OK) break;
        reco_hash_update(h, b.key, 32);
        v->total += s->n;
    }
    reco_hash_hex(h, hash);
    if (status != RECO_OK) return status;
    v->d = reco_bank_get_info(v->from[0].bank).d;
    if (v->total > UINT32_MAX)
        return reco_fail(ctx, RECO_E_UNSUPPORTED, "study: %zu rows are too many to derive from", v->total);
    RECO_TRY(mix_up(ctx, v, wrong));
    *out = reco_format(ctx, "%s/banks/%s.bank", dir, hash);
    return *out ? write_bank(ctx, v, *out, hash) : RECO_E_NOMEM;
}

/* The folder of the memory's bank. */
static reco_status find(reco_ctx *ctx, char **out, const study_memory *m, const study_data *data,
                        double wrong, const char *dir, const reco_stream_opts *stream)
{
    char *paths[STUDY_MOST_VALUES] = {0};
    source from[STUDY_MOST_VALUES] = {{0}};
    derivation v = {.from = from, .nfrom = m->n};
    reco_status status = RECO_OK;
    for (size_t i = 0; i < m->n && status == RECO_OK; i++)
        status = as_bank(ctx, &paths[i], m->paths[i], data, dir, stream);
    if (status == RECO_OK && m->n == 1 && wrong <= 0) {
        *out = paths[0];
        paths[0] = NULL;
    } else if (status == RECO_OK)
        status = derive(ctx, &v, paths, data, wrong, dir, out);
    for (size_t i = 0; i < m->n; i++) {
        reco_bank_close(from[i].bank);
        reco_free(from[i].ids);
        reco_free(paths[i]);
    }
    reco_free(v.says);
    return status;
}

reco_status study_bank_at(reco_ctx *ctx, study_bank *b, const char *path, const study_data *data)
{
    *b = (study_bank){0};
    RECO_TRY(reco_bank_open(ctx, &b->bank, path));
    RECO_TRY(reco_check_encoder(ctx, data->model, b->bank, NULL));
    RECO_TRY(live_ids(ctx, b->bank, &b->ids, &b->n));
    return key_of(ctx, b);
}

reco_status study_bank_open(reco_ctx *ctx, study_bank *b, const reco_study *study, const study_data *data,
                            size_t memory, double wrong, const char *dir, const reco_stream_opts *stream)
{
    char *path = NULL;
    *b = (study_bank){0};
    reco_status status = find(ctx, &path, &study->memories[memory], data, wrong, dir, stream);
    if (status == RECO_OK) status = study_bank_at(ctx, b, path, data);
    reco_free(path);
    return status;
}

reco_status study_bank_classes(reco_ctx *ctx, study_bank *b, const study_data *data)
{
    if (b->of) return RECO_OK;
    b->of = reco_alloc(ctx, b->n + 1, sizeof *b->of, "classes of rows");
    return b->of ? study_votes(ctx, data, b->bank, b->ids, b->n, b->of) : RECO_E_NOMEM;
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
