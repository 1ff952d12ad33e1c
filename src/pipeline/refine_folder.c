#include "pipeline/provenance.h"

#include <math.h>
#include <unistd.h>

#define ROWS 1024

static bool is_unit(const float *row, size_t d) { return fabs(reco_dot(row, row, d) - 1) < 1e-3; }

static reco_status one_side(reco_ctx *ctx, const reco_bank *bank, const reco_fusion *fusion, bool refine,
                            reco_embeddings *e, reco_side side, const char *out,
                            const reco_refine_opts *opts, reco_dtype dtype, reco_failures *failures)
{
    size_t n = reco_embeddings_rows(e), d = reco_embeddings_width(e);
    reco_status status = RECO_OK;
    reco_npy_writer *writer = NULL;
    char *path = reco_layout_path(ctx, out, side), *dir = path ? reco_path_dir(ctx, path) : NULL;
    float *rows = reco_alloc(ctx, ROWS * d, sizeof(float), "embeddings");
    float *unit = reco_alloc(ctx, ROWS * d, sizeof(float), "embeddings");
    float *refined = reco_alloc(ctx, ROWS * d, sizeof(float), "embeddings");
    bool bad[ROWS];
    if (!path || !dir || !rows || !unit || !refined) RECO_GO(RECO_E_NOMEM);
    RECO_GO(reco_mkdirs(ctx, dir));
    RECO_GO(reco_npy_begin(ctx, &writer, path, dtype, d));
    for (size_t i = 0; i < n; i += ROWS) {
        size_t m = reco_min(ROWS, n - i);
        RECO_GO(reco_embeddings_read(ctx, e, side, i, m, rows));
        if (refine) {
            reco_normalize(ctx, unit, rows, m, d, NULL);
            for (size_t r = 0; r < m; r++)
                if (!is_unit(unit + r * d, d)) {
                    /* A row that is no embedding takes part as some unit vector and then keeps its own bytes. */
                    memset(unit + r * d, 0, d * sizeof(float));
                    unit[r * d] = 1;
                    char item[64];
                    snprintf(item, sizeof item, "%s row %zu", side == RECO_IMAGE ? "image" : "text", i + r);
                    RECO_GO(reco_failures_add(ctx, failures, i + r, item, "zero or not finite: copied"));
                    bad[r] = true;
                } else
                    bad[r] = false;
            RECO_GO(reco_refine(ctx, bank, fusion, side, unit, m, opts, refined, (reco_hits){0}));
            /* What no neighbour changed keeps its own bytes, too. */
            for (size_t r = 0; r < m; r++)
                if (!bad[r] && memcmp(refined + r * d, unit + r * d, d * sizeof(float)) != 0)
                    memcpy(rows + r * d, refined + r * d, d * sizeof(float));
        }
        RECO_GO(reco_npy_append(ctx, writer, rows, m));
        RECO_GO(reco_progress(ctx, "refining", i + m, n));
    }
    reco_npy_writer *full = writer;
    writer = NULL;
    RECO_GO(reco_npy_commit(ctx, full));
out:
    if (writer) reco_npy_abort(writer);
    reco_free(path);
    reco_free(dir);
    reco_free(rows);
    reco_free(unit);
    reco_free(refined);
    return status;
}

static reco_status copy_metadata(reco_ctx *ctx, reco_embeddings *e, const char *out)
{
    if (!reco_embeddings_has_metadata(e)) return RECO_OK;
    reco_status status = RECO_OK;
    reco_file *file = NULL;
    json_t *record = NULL;
    char *dir = reco_path_join(ctx, out, "metadata");
    char *path = dir ? reco_path_join(ctx, dir, "metadata_0.jsonl") : NULL;
    if (!path) RECO_GO(RECO_E_NOMEM);
    RECO_GO(reco_mkdirs(ctx, dir));
    RECO_GO(reco_file_begin(ctx, &file, path));
    RECO_GO(reco_embeddings_rewind(ctx, e));
    for (;;) {
        uint64_t number;
        const char *bad = NULL;
        RECO_GO(reco_embeddings_next(ctx, e, &record, &number, &bad));
        if (!record && !bad) break;
        json_t *row = record ? record : json_object(); /* a damaged record keeps its place */
        record = NULL;
        RECO_GO(reco_write_json_line(ctx, file, row));
    }
    reco_file *full = file;
    file = NULL;
    RECO_GO(reco_file_commit(ctx, full));
out:
    reco_file_abort(file);
    reco_free(dir);
    reco_free(path);
    return status;
}

/* RECO_E_FORMAT where no row of any side can be refined; the first that can be ends the search. */
static reco_status check_usable(reco_ctx *ctx, reco_embeddings *e, const char *in, size_t d)
{
    reco_status status = RECO_OK;
    bool found = false;
    float *row = reco_alloc(ctx, d, sizeof *row, "embeddings");
    if (!row) return RECO_E_NOMEM;
    for (int side = RECO_IMAGE; side <= RECO_TEXT; side++)
        for (size_t i = 0; reco_embeddings_has(e, (reco_side)side) && i < reco_embeddings_rows(e) && !found;
             i++) {
            RECO_GO(reco_embeddings_read(ctx, e, (reco_side)side, i, 1, row));
            found = reco_unit_row(row, d);
        }
    if (!found)
        status = reco_fail(ctx, RECO_E_FORMAT, "%s: no row can be refined: each is zero or not finite", in);
out:
    reco_free(row);
    return status;
}

reco_status reco_refine_folder(reco_ctx *ctx, const reco_bank *bank, const reco_fusion *fusion,
                               reco_sides sides, const char *in, const char *out,
                               const reco_refine_opts *opts, const reco_stream_opts *stream,
                               reco_stream_result *result)
{
    double start = reco_now();
    *result = (reco_stream_result){0};
    reco_status status = RECO_OK;
    reco_failures failures = {0};
    reco_embeddings *e = NULL;
    reco_provenance p, none = {0};
    reco_fusion_config config = reco_fusion_get_config(fusion);
    if (sides == RECO_SIDES_DEFAULT) sides = config.sides;
    RECO_GO(reco_check_output(ctx, out, RECO_OUT_FOLDER, &in, 1));
    RECO_GO(reco_embeddings_open(ctx, &e, in));
    if (reco_embeddings_width(e) != config.d)
        RECO_GO(reco_fail(ctx, RECO_E_MISMATCH, "%s: embeddings of %zu, the fusion layer takes %zu", in,
                          reco_embeddings_width(e), config.d));
    RECO_GO(reco_provenance_of(ctx, in, stream ? stream->encoder : NULL, &p));
    RECO_GO(reco_provenance_check(ctx, &p, in, bank, fusion));
    if (p.refined & (int)sides)
        reco_log(ctx, RECO_LOG_WARN, "%s: has been refined already, and is refined once more", in);
    RECO_GO(check_usable(ctx, e, in, config.d));
    RECO_GO(reco_mkdirs(ctx, out));
    RECO_GO(reco_provenance_write(ctx, out, &none)); /* of what was there before */
    RECO_GO(reco_failures_begin(ctx, &failures, out, stream));
    bool keep = !stream || stream->keep_dtype;
    p.sides = 0;
    p.d = config.d;
    p.rows = reco_embeddings_rows(e);
    for (int side = RECO_IMAGE; side <= RECO_TEXT; side++)
        if (reco_embeddings_has(e, (reco_side)side)) {
            RECO_GO(one_side(ctx, bank, fusion, (int)sides >> side & 1, e, (reco_side)side, out, opts,
                             keep ? reco_embeddings_side_dtype(e, (reco_side)side) : stream->dtype,
                             &failures));
            p.sides |= 1 << side;
        }
    p.refined |= config.layer == RECO_LAYER_NONE ? 0 : p.sides & (int)sides;
    RECO_GO(copy_metadata(ctx, e, out));
    RECO_GO(reco_provenance_write(ctx, out, &p));
    RECO_GO(reco_failures_commit(ctx, &failures));
    result->rows = reco_embeddings_rows(e);
    result->failures = failures.count;
    result->seconds = reco_now() - start;
out:
    reco_failures_abort(&failures);
    reco_embeddings_close(e);
    return status;
}
