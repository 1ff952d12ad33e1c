/* Banks derived from others: several joined into one, and rows whose captions are another row's. */
#include "study/study_internal.h"

#include <math.h>

typedef struct derivation {
    study_bank *from;
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

/* ---- wrong captions ---- */

/* What each row says [total], as a hash: its caption but for case and blanks, or without one its text vector. */
static reco_status caption_keys(reco_ctx *ctx, const derivation *v, uint64_t *keys)
{
    float *x = reco_alloc(ctx, v->d, sizeof *x, "row");
    reco_status status = x ? RECO_OK : RECO_E_NOMEM;
    for (size_t i = 0; i < v->total && status == RECO_OK; i++) {
        reco_bank *bank;
        int64_t id;
        reco_pair pair;
        row_of(v, i, &bank, &id);
        RECO_GO(reco_bank_get(ctx, bank, id, &pair));
        status = reco_caption_key(ctx, &keys[i], pair.caption);
        reco_pair_free(&pair);
        if (status != RECO_OK || keys[i]) continue;
        RECO_GO(reco_bank_gather(ctx, bank, RECO_TEXT, &id, 1, x));
        keys[i] = reco_hash64(x, v->d * sizeof *x, 1);
    }
out:
    reco_free(x);
    return status;
}

/* For the i-th of m rows `at`, whose drawn row `from` says what it says itself: trade with another of them, so that both are
 * wrong, or where there is none take what any row says. */
static bool amend(reco_rng *rng, const uint64_t *keys, const uint32_t *at, uint32_t *from, size_t m,
                  size_t i, size_t total)
{
    const uint64_t own = keys[at[i]];
    for (size_t t = 0, j = reco_rng_below(rng, m); t < m; t++, j = (j + 1) % m) {
        if (keys[from[j]] == own || keys[from[i]] == keys[at[j]]) continue;
        uint32_t kept = from[i];
        from[i] = from[j];
        from[j] = kept;
        return true;
    }
    for (size_t t = 0, j = reco_rng_below(rng, total); t < total; t++, j = (j + 1) % total)
        if (keys[j] != own) {
            from[i] = (uint32_t)j;
            return true;
        }
    return false;
}

/* Of a random n % each gets a caption that is drawn among theirs and is never the one it has. What is wrong at n % is part
 * of what is wrong at more. */
static reco_status mix_up(reco_ctx *ctx, derivation *v, double wrong, uint64_t seed)
{
    const size_t m = (size_t)llround(wrong / 100 * (double)v->total);
    uint32_t *order = reco_alloc(ctx, v->total + 1, sizeof *order, "rows"),
             *from = reco_alloc(ctx, m + 1, sizeof *from, "rows");
    uint64_t *keys = reco_alloc(ctx, v->total + 1, sizeof *keys, "captions");
    v->says = reco_alloc(ctx, v->total + 1, sizeof *v->says, "rows");
    reco_status status = order && from && keys && v->says ? RECO_OK : RECO_E_NOMEM;
    reco_rng rng;
    if (status != RECO_OK) goto out;
    for (size_t i = 0; i < v->total; i++) order[i] = v->says[i] = (uint32_t)i;
    if (m == 0) goto out;
    RECO_GO(caption_keys(ctx, v, keys));
    reco_rng_seed(&rng, seed);
    reco_rng_shuffle(&rng, order, v->total);
    memcpy(from, order, m * sizeof *from);
    reco_rng_shuffle(&rng, from, m);
    for (size_t i = 0; i < m; i++)
        if (keys[order[i]] == keys[from[i]] && !amend(&rng, keys, order, from, m, i, v->total))
            RECO_GO(reco_fail(ctx, RECO_E_ARG, "study: no caption can be wrong, since all %zu are the same",
                              v->total));
    for (size_t i = 0; i < m; i++) v->says[order[i]] = from[i];
out:
    reco_free(order);
    reco_free(from);
    reco_free(keys);
    return status;
}

/* ---- writing ---- */

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
    reco_bank_info info = *reco_bank_get_info(v->from[0].bank);
    reco_bank_spec spec = {.d = info.d,
                           .encoder = *info.encoder ? info.encoder : NULL,
                           .fingerprint = *info.fingerprint ? info.fingerprint : NULL,
                           .logit_scale = info.logit_scale};
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

static reco_status open_sources(reco_ctx *ctx, derivation *v, char *const *paths, const study_data *data,
                                reco_hash *h)
{
    for (size_t i = 0; i < v->nfrom; i++) {
        RECO_TRY(study_bank_at(ctx, &v->from[i], paths[i], data));
        reco_hash_update(h, v->from[i].key, 32);
        v->total += v->from[i].n;
    }
    return RECO_OK;
}

reco_status study_derive(reco_ctx *ctx, char **out, char *const *paths, size_t n, const study_data *data,
                         double wrong, uint64_t seed, const char *dir)
{
    study_bank from[STUDY_MOST_VALUES] = {{0}};
    derivation v = {.from = from, .nfrom = n, .d = data->d};
    const uint64_t drawn = wrong > 0 ? seed : 0;
    char key[33];
    reco_hash *h;
    RECO_TRY(reco_hash_new(ctx, &h));
    reco_hash_update(h, RECO_VERSION, sizeof RECO_VERSION);
    reco_hash_update(h, &wrong, sizeof wrong);
    reco_hash_update(h, &drawn, sizeof drawn);
    reco_status status = open_sources(ctx, &v, paths, data, h);
    reco_hash_hex(h, key);
    if (status != RECO_OK) goto out;
    if (v.total > UINT32_MAX)
        RECO_GO(reco_fail(ctx, RECO_E_UNSUPPORTED, "study: %zu rows are too many to derive from", v.total));
    RECO_GO(mix_up(ctx, &v, wrong, seed));
    if (!(*out = reco_format(ctx, "%s/banks/%s.bank", dir, key))) RECO_GO(RECO_E_NOMEM);
    RECO_GO(write_bank(ctx, &v, *out, key));
out:
    for (size_t i = 0; i < n; i++) study_bank_close(&from[i]);
    reco_free(v.says);
    return status;
}
