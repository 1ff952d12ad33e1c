/* Embeddings that serve as queries, and what their metadata say about them. */
#include "io/embeddings.h"
#include "pipeline/provenance.h"
#include "reco/query.h"

#include <inttypes.h>

static reco_status alloc_queries(reco_ctx *ctx, reco_query_set *set, size_t n, size_t d, const bool has[2])
{
    size_t count;
    if (!reco_mul(n, d, &count)) return reco_fail_nomem(ctx, SIZE_MAX, "embeddings");
    set->total = n;
    set->d = d;
    for (int side = 0; side < 2; side++)
        if (has[side] && !(set->rows[side] = reco_alloc(ctx, count, sizeof(float), "embeddings")))
            return RECO_E_NOMEM;
    for (int v = 0; v < RECO_QUERY_VALUES; v++)
        if (!(set->values[v] = reco_alloc(ctx, n, sizeof(char *), "metadata"))) return RECO_E_NOMEM;
    set->at = reco_alloc(ctx, n, sizeof *set->at, "embeddings");
    return set->at ? RECO_OK : RECO_E_NOMEM;
}

/* Row `at` is in place n of all sides that are there: it stays, unless one of them is no embedding, which is noted at the end. */
static void take_row(reco_query_set *set, size_t at, size_t *bad)
{
    bool good = true;
    for (int side = 0; side < 2; side++)
        if (set->rows[side]) good = reco_unit_row(set->rows[side] + set->n * set->d, set->d) && good;
    if (good) {
        set->at[set->n++] = at;
        return;
    }
    for (int v = 0; v < RECO_QUERY_VALUES; v++) {
        reco_free(set->values[v][set->n]);
        set->values[v][set->n] = NULL;
    }
    set->at[set->total - ++*bad] = at;
}

/* Where some rows are good, the others are told of one by one. */
static reco_status finish_query_set(reco_ctx *ctx, reco_query_set *set, const char *path,
                                    const reco_query_set_opts *opts, size_t bad)
{
    if (set->total == 0) return reco_fail(ctx, RECO_E_FORMAT, "%s: no rows", path);
    if (set->n == 0)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: no row is an embedding: all %zu are zero or not finite",
                         path, set->total);
    for (size_t i = 1; i <= bad && opts->failure; i++)
        opts->failure(opts->user, set->at[set->total - i], "", "is zero or not finite");
    return RECO_OK;
}

static reco_status from_array(reco_ctx *ctx, reco_query_set *set, const char *path, reco_side side,
                              const reco_query_set_opts *opts)
{
    reco_npy npy;
    RECO_TRY(reco_npy_open(ctx, &npy, path));
    reco_status status = RECO_OK;
    size_t skipped = 0;
    if (npy.rank != 2) RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s: has one dimension, want [n][d]", path));
    RECO_GO(
        alloc_queries(ctx, set, npy.rows, npy.cols, (const bool[]){side == RECO_IMAGE, side == RECO_TEXT}));
    for (size_t i = 0; i < npy.rows; i++) {
        RECO_GO(reco_npy_rows(ctx, &npy, i, 1, set->rows[side] + set->n * set->d));
        take_row(set, i, &skipped);
    }
    status = finish_query_set(ctx, set, path, opts, skipped);
out:
    reco_npy_close(&npy);
    return status;
}

static reco_status read_values(reco_ctx *ctx, reco_query_set *set, const json_t *record, const char *group,
                               const reco_table_opts *table)
{
    const char *const names[RECO_QUERY_VALUES] = {"image", "text", "label", group};
    for (int v = 0; v < RECO_QUERY_VALUES; v++)
        if (names[v]) RECO_TRY(reco_row_value(ctx, record, names[v], table, &set->values[v][set->n]));
    return RECO_OK;
}

static reco_status read_query_folder(reco_ctx *ctx, reco_query_set *set, const char *path,
                                     const reco_query_set_opts *opts)
{
    reco_embeddings *e = NULL;
    reco_provenance p;
    json_t *record = NULL;
    size_t skipped = 0;
    reco_status status = RECO_OK;
    RECO_GO(reco_embeddings_open(ctx, &e, path));
    RECO_GO(reco_embeddings_need_metadata(ctx, e));
    RECO_GO(reco_provenance_of(ctx, path, opts->encoder, &p));
    set->logit_scale = p.logit_scale;
    const bool has[2] = {reco_embeddings_has(e, RECO_IMAGE), reco_embeddings_has(e, RECO_TEXT)};
    size_t n = reco_embeddings_rows(e);
    bool metadata = reco_embeddings_has_metadata(e);
    RECO_GO(alloc_queries(ctx, set, n, reco_embeddings_width(e), has));
    reco_embeddings_read_as(e, opts->table);
    if (metadata) RECO_GO(reco_embeddings_rewind(ctx, e));
    for (size_t i = 0; i < n; i++) {
        const char *bad = NULL;
        uint64_t number;
        for (int side = 0; side < 2; side++)
            if (has[side])
                RECO_GO(
                    reco_embeddings_read(ctx, e, (reco_side)side, i, 1, set->rows[side] + set->n * set->d));
        if (metadata) RECO_GO(reco_embeddings_next(ctx, e, &record, &number, &bad));
        if (record) status = read_values(ctx, set, record, opts->group, opts->table);
        json_decref(record);
        record = NULL;
        if (status != RECO_OK) goto out;
        take_row(set, i, &skipped);
    }
    status = finish_query_set(ctx, set, path, opts, skipped);
out:
    reco_embeddings_close(e);
    return status;
}

reco_status reco_query_set_load(reco_ctx *ctx, reco_query_set *set, const char *path, reco_side side,
                                const reco_query_set_opts *opts)
{
    const reco_query_set_opts none = {0};
    *set = (reco_query_set){0};
    if (!opts) opts = &none;
    RECO_TRY(reco_reserved(ctx, "queries", opts->reserved));
    reco_status status = reco_path_is_dir(path) ? read_query_folder(ctx, set, path, opts)
                                                : from_array(ctx, set, path, side, opts);
    if (status != RECO_OK) reco_query_set_free(set);
    return status;
}

void reco_query_set_free(reco_query_set *set)
{
    reco_free(set->rows[0]);
    reco_free(set->rows[1]);
    for (int v = 0; v < RECO_QUERY_VALUES; v++) reco_lines_free(set->values[v], set->total);
    reco_free(set->at);
    *set = (reco_query_set){0};
}

/* ---- labels in the order of the rows ---- */

static bool has_file_ending(const char *path, const char *ending)
{
    size_t n = strlen(path), m = strlen(ending);
    return n > m && strcmp(path + n - m, ending) == 0;
}

static reco_status from_numbers(reco_ctx *ctx, const char *path, char ***labels, size_t *n)
{
    reco_npy npy;
    RECO_TRY(reco_npy_open(ctx, &npy, path));
    reco_status status = RECO_OK;
    char **out = NULL;
    if (npy.cols != 1 ||
        (npy.dtype != RECO_DTYPE_I64 && npy.dtype != RECO_DTYPE_I32 && npy.dtype != RECO_DTYPE_U8))
        RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s: want one whole number a row, of type <i8, <i4 or |u1",
                          path));
    if (!(out = reco_alloc(ctx, npy.rows, sizeof *out, "labels"))) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < npy.rows; i++) {
        int64_t value = ((const uint8_t *)npy.data)[i];
        int32_t half;
        if (npy.dtype == RECO_DTYPE_I32)
            memcpy(&half, (const char *)npy.data + i * sizeof half, sizeof half), value = half;
        if (npy.dtype == RECO_DTYPE_I64)
            memcpy(&value, (const char *)npy.data + i * sizeof value, sizeof value);
        if (!(out[i] = reco_format(ctx, "%" PRId64, value))) RECO_GO(RECO_E_NOMEM);
    }
    *labels = out;
    *n = npy.rows;
out:
    if (status != RECO_OK) reco_lines_free(out, npy.rows);
    reco_npy_close(&npy);
    return status;
}

reco_status reco_read_labels(reco_ctx *ctx, const char *path, const reco_table_opts *table, char ***labels,
                             size_t *n)
{
    static const char *const tables[] = {".csv", ".tsv", ".jsonl", ".json", ".ndjson"};
    *labels = NULL;
    *n = 0;
    if (has_file_ending(path, ".npy")) return from_numbers(ctx, path, labels, n);
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        if (has_file_ending(path, tables[i])) {
            char **again = NULL, **reasons = NULL;
            reco_status status =
                reco_read_columns(ctx, path, table, "label", "label", labels, &again, &reasons, NULL, n);
            reco_lines_free(again, *n);
            reco_lines_free(reasons, *n);
            return status;
        }
    return reco_read_lines(ctx, path, labels, n);
}
