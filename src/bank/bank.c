/* The operations of a bank. Arguments are checked here; what a kind of bank (folder or servers) does with them is
 * in its table of operations. */
#include "bank/bank_internal.h"
#include "bank/postgres/postgres.h"
#include "bank/search/filter.h"
#include "kernels/kernels.h"

#include <math.h>

#define NORM_TOLERANCE 1e-3

static reco_status check_side(reco_ctx *ctx, reco_side side)
{
    if (side == RECO_IMAGE || side == RECO_TEXT) return RECO_OK;
    return reco_fail(ctx, RECO_E_ARG, "bank: side = %d, want 0 (image) or 1 (text)", (int)side);
}

reco_status reco_bank_open(reco_ctx *ctx, reco_bank **out, const char *path)
{
    return reco_bank_open_with(ctx, out, path, NULL);
}

reco_status reco_bank_open_with(reco_ctx *ctx, reco_bank **out, const char *path,
                                const reco_bank_open_opts *opts)
{
    RECO_TRY(reco_reserved_of(ctx, "bank", opts ? opts->reserved : NULL, RECO_RESERVED - 1));
    if (opts && !(opts->recall >= 0 && opts->recall <= 1))
        return reco_fail(ctx, RECO_E_ARG, "bank: recall = %g, want 0..1", opts->recall);
    if (reco_bank_is_server(path))
        return reco_pg_open(ctx, out, path, opts ? opts : &(reco_bank_open_opts){0});
    RECO_TRY(reco_folder_open(ctx, out, path));
    if (opts) (*out)->recall = (float)opts->recall;
    return RECO_OK;
}

void reco_bank_close(reco_bank *bank)
{
    if (bank) bank->ops->close(bank);
}

reco_status reco_bank_refresh(reco_ctx *ctx, const reco_bank *bank, reco_bank **out)
{
    *out = NULL;
    reco_status status = bank->ops->refresh(ctx, bank, out);
    if (status == RECO_OK && *out) (*out)->recall = bank->recall;
    return status;
}

const reco_bank_info *reco_bank_get_info(const reco_bank *bank) { return &bank->info; }

const char *reco_bank_missing_shard(const reco_bank *bank, size_t i)
{
    return bank->ops->missing_shard ? bank->ops->missing_shard(bank, i) : NULL;
}

size_t reco_bank_shards_failed(const reco_bank *bank)
{
    size_t n = 0;
    while (reco_bank_missing_shard(bank, n)) n++;
    return n;
}

const reco_segment_info *reco_bank_get_segment(const reco_bank *bank, size_t i)
{
    return bank->ops->get_segment(bank, i);
}

reco_status reco_bank_filter_ids(reco_ctx *ctx, reco_bank_filter **out, const reco_bank *bank,
                                 const int64_t *ids, size_t n)
{
    *out = NULL;
    return bank->ops->filter_ids(ctx, out, bank, ids, n);
}

reco_status reco_bank_filter_where(reco_ctx *ctx, reco_bank_filter **out, const reco_bank *bank,
                                   const char *where)
{
    *out = NULL;
    return bank->ops->filter_where(ctx, out, bank, where);
}

static reco_status check_queries(reco_ctx *ctx, const float *queries, size_t nq, size_t d)
{
    for (size_t q = 0; q < nq; q++) {
        double norm = sqrt(reco_dot_wide(ctx, queries + q * d, queries + q * d, d));
        if (!(fabs(norm - 1) <= NORM_TOLERANCE))
            return reco_fail(ctx, RECO_E_ARG, "query %zu has norm %g, want 1 within %g", q, norm,
                             NORM_TOLERANCE);
    }
    return RECO_OK;
}

reco_status reco_bank_search(reco_ctx *ctx, const reco_bank *bank, reco_side side, const float *queries,
                             size_t nq, const reco_search_opts *opts, const reco_hits *hits)
{
    return reco_bank_retrieve(ctx, bank, side, queries, nq, opts, hits, (float *const[2]){NULL, NULL});
}

reco_status reco_bank_retrieve(reco_ctx *ctx, const reco_bank *bank, reco_side side, const float *queries,
                               size_t nq, const reco_search_opts *opts, const reco_hits *hits,
                               float *const vectors[2])
{
    reco_lookup lookup = {.side = side,
                          .queries = queries,
                          .nq = nq,
                          .opts = opts ? *opts : (reco_search_opts)RECO_SEARCH_OPTS_INIT,
                          .hits = *hits,
                          .vectors = {vectors[0], vectors[1]}};
    return reco_bank_look_up(ctx, bank, &lookup, 1);
}

static reco_status check_lookup(reco_ctx *ctx, const reco_bank *bank, reco_lookup *l)
{
    reco_search_opts *o = &l->opts;
    if (!o->k) o->k = RECO_DEFAULT_K;
    if (o->min_similarity <= -1) o->min_similarity = -INFINITY; /* sums round */
    RECO_TRY(reco_reserved_of(ctx, "search", o->reserved, RECO_RESERVED - 1));
    RECO_TRY(reco_reserved(ctx, "search", l->hits.reserved));
    if (o->k > RECO_BANK_MAX_K)
        return reco_fail(ctx, RECO_E_ARG, "bank: k = %zu, want 1..%d", o->k, RECO_BANK_MAX_K);
    if (!(o->recall >= 0 && o->recall <= 1))
        return reco_fail(ctx, RECO_E_ARG, "bank: recall = %g, want 0..1", (double)o->recall);
    RECO_TRY(check_side(ctx, l->side));
    if (o->filter && o->filter->bank != bank)
        return reco_fail(ctx, RECO_E_ARG, "bank: the filter belongs to another open bank");
    return check_queries(ctx, l->queries, l->nq, bank->info.d);
}

static reco_status look_up_one(reco_ctx *ctx, const reco_bank *bank, const reco_lookup *l)
{
    size_t places = l->nq * l->opts.k;
    RECO_TRY(bank->ops->search(ctx, bank, l->side, l->queries, l->nq, &l->opts, &l->hits));
    for (reco_side of = 0; of < 2; of++)
        if (l->vectors[of]) RECO_TRY(bank->ops->gather(ctx, bank, of, l->hits.ids, places, l->vectors[of]));
    return l->pairs ? reco_bank_get_many(ctx, bank, l->hits.ids, places, l->pairs) : RECO_OK;
}

static void free_pairs(const reco_lookup *l)
{
    for (size_t i = 0; l->pairs && i < l->nq * l->opts.k; i++) reco_pair_free(&l->pairs[i]);
}

reco_status reco_bank_look_up(reco_ctx *ctx, const reco_bank *bank, reco_lookup *lookups, size_t n)
{
    for (size_t i = 0; i < n; i++) RECO_TRY(check_lookup(ctx, bank, &lookups[i]));
    if (bank->ops->look_up) return bank->ops->look_up(ctx, bank, lookups, n);
    for (size_t i = 0; i < n; i++) {
        reco_status status = look_up_one(ctx, bank, &lookups[i]);
        if (status == RECO_OK) continue;
        while (i-- > 0) free_pairs(&lookups[i]);
        return status;
    }
    return RECO_OK;
}

reco_status reco_bank_within(reco_ctx *ctx, const reco_bank *bank, const reco_range *range,
                             const reco_hits *hits)
{
    *hits->counts = 0;
    RECO_TRY(reco_reserved(ctx, "search", range->reserved));
    RECO_TRY(reco_reserved(ctx, "search", hits->reserved));
    RECO_TRY(check_side(ctx, range->side));
    double norm = sqrt(reco_dot(range->query, range->query, bank->info.d));
    if (!(fabs(norm - 1) <= NORM_TOLERANCE))
        return reco_fail(ctx, RECO_E_ARG, "query has norm %g, want 1 within %g", norm, NORM_TOLERANCE);
    if (!(range->least >= -2 && range->least <= 2))
        return reco_fail(ctx, RECO_E_ARG, "min_similarity = %g, want -1..1", (double)range->least);
    return bank->ops->within(ctx, bank, range, hits);
}

float reco_bank_expected_recall(const reco_bank *bank, reco_side side, const reco_search_opts *opts)
{
    reco_search_opts settled = opts ? *opts : (reco_search_opts){0};
    if (!settled.k) settled.k = RECO_DEFAULT_K;
    return side == RECO_IMAGE || side == RECO_TEXT ? bank->ops->expected(bank, side, &settled) : 1;
}

size_t reco_bank_recall_table(const reco_bank *bank, reco_side side, reco_asked asked,
                              reco_recall_point *points, size_t max)
{
    if ((side != RECO_IMAGE && side != RECO_TEXT) || (unsigned)asked > RECO_ASKED_TEXT) return 0;
    return bank->ops->table(bank, side, asked, points, max);
}

reco_status reco_bank_gather(reco_ctx *ctx, const reco_bank *bank, reco_side side, const int64_t *ids,
                             size_t n, float *out)
{
    RECO_TRY(check_side(ctx, side));
    return bank->ops->gather(ctx, bank, side, ids, n, out);
}

reco_status reco_bank_select(reco_ctx *ctx, const reco_bank *bank, const char *where, int64_t from,
                             size_t max, int64_t *ids, size_t *n)
{
    const reco_bank_choice choice = {.where = where, .from = from};
    *n = 0;
    return bank->ops->select(ctx, bank, &choice, max, ids, n);
}

reco_status reco_bank_select_deleted(reco_ctx *ctx, const reco_bank *bank, const char *where, int64_t from,
                                     size_t max, int64_t *ids, size_t *n)
{
    const reco_bank_choice choice = {.where = where, .deleted = true, .from = from};
    *n = 0;
    return bank->ops->select(ctx, bank, &choice, max, ids, n);
}

reco_status reco_bank_get(reco_ctx *ctx, const reco_bank *bank, int64_t id, reco_pair *out)
{
    return bank->ops->get(ctx, bank, id, false, out);
}

reco_status reco_bank_get_deleted(reco_ctx *ctx, const reco_bank *bank, int64_t id, reco_pair *out)
{
    return bank->ops->get(ctx, bank, id, true, out);
}

reco_status reco_bank_get_many(reco_ctx *ctx, const reco_bank *bank, const int64_t *ids, size_t n,
                               reco_pair *out)
{
    if (bank->ops->get_many) return bank->ops->get_many(ctx, bank, ids, n, out);
    for (size_t i = 0; i < n; i++) {
        out[i] = (reco_pair){.id = -1};
        reco_status status = ids[i] == -1 ? RECO_OK : reco_bank_get(ctx, bank, ids[i], &out[i]);
        if (status == RECO_OK) continue;
        while (i-- > 0) reco_pair_free(&out[i]);
        return status;
    }
    return RECO_OK;
}

reco_status reco_bank_each_pair(reco_ctx *ctx, const reco_bank *bank, const int64_t *ids, size_t n,
                                reco_pair_fn fn, void *arg)
{
    reco_status status = RECO_OK;
    const size_t page = bank->info.shards ? 1024 : 1;
    reco_pair *pairs = reco_alloc(ctx, reco_min(page, n), sizeof *pairs, "rows");
    if (!pairs) return RECO_E_NOMEM;
    for (size_t i = 0; i < n && status == RECO_OK; i += page) {
        const size_t some = reco_min(page, n - i);
        RECO_GO(reco_bank_get_many(ctx, bank, ids + i, some, pairs));
        for (size_t j = 0; j < some; j++) {
            if (status == RECO_OK) status = fn(ctx, arg, i + j, &pairs[j]);
            reco_pair_free(&pairs[j]);
        }
    }
out:
    reco_free(pairs);
    return status;
}

/* ---- writing ---- */

reco_status reco_bank_writer_open(reco_ctx *ctx, reco_bank_writer **out, const char *path,
                                  const reco_bank_spec *spec, const char *job, uint64_t *next, int *done)
{
    *out = NULL;
    if (strlen(job) > RECO_BANK_JOB_MAX)
        return reco_fail(ctx, RECO_E_ARG, "bank: the job's key has %zu bytes, want at most %d", strlen(job),
                         RECO_BANK_JOB_MAX);
    RECO_TRY(reco_reserved(ctx, "bank", spec ? spec->reserved : NULL));
    if (spec) RECO_TRY(reco_bank_check_spec(ctx, spec));
    return reco_bank_is_server(path) ? reco_pg_writer_open(ctx, out, path, spec, job, next, done)
                                     : reco_folder_writer_open(ctx, out, path, spec, job, next, done);
}

reco_status reco_bank_deletion_open(reco_ctx *ctx, reco_bank_deletion **out, const char *path, bool back,
                                    bool preview)
{
    *out = NULL;
    if (back) RECO_TRY(reco_bank_check_folder(ctx, path, "rows deleted on a server cannot be restored"));
    return reco_bank_is_server(path) ? reco_pg_deletion_open(ctx, out, path, preview)
                                     : reco_folder_deletion_open(ctx, out, path, back, preview);
}

reco_status reco_bank_check_folder(reco_ctx *ctx, const char *path, const char *why)
{
    return reco_bank_is_server(path) ? reco_fail(ctx, RECO_E_UNSUPPORTED, "%s: %s", path, why) : RECO_OK;
}
