#include "pipeline/provenance.h"

#include <math.h>
#include <unistd.h>

#define ROWS 1024

static bool is_unit(const float *row, size_t d) { return fabs(reco_dot(row, row, d) - 1) < 1e-3; }

typedef struct folder {
    const reco_memory *memory;
    const float *concat;
    reco_embeddings *e;
    reco_failures failures;
    size_t d;
    float *rows, *unit, *refined, *wide; /* [ROWS][d], wide [ROWS][2d] where rows are concatenated */
} folder;

/* Rows that are no embeddings take part as some unit vector, and then keep their own bytes. */
static reco_status mend(reco_ctx *ctx, folder *f, reco_side side, size_t first, size_t n, bool *bad)
{
    size_t d = f->d;
    reco_normalize(ctx, f->unit, f->rows, n, d, NULL);
    for (size_t r = 0; r < n; r++) {
        bad[r] = !is_unit(f->unit + r * d, d);
        if (!bad[r]) continue;
        memset(f->unit + r * d, 0, d * sizeof(float));
        f->unit[r * d] = 1;
        char item[64];
        snprintf(item, sizeof item, "%s row %zu", side == RECO_IMAGE ? "image" : "text", first + r);
        RECO_TRY(reco_failures_add(ctx, &f->failures, first + r, item, "zero or not finite: copied"));
    }
    return RECO_OK;
}

/* n rows from `first`: *out is what is written of them. */
static reco_status refine_block(reco_ctx *ctx, folder *f, reco_side side, bool refine, size_t first,
                                size_t n, const float **out)
{
    size_t d = f->d;
    bool bad[ROWS];
    RECO_TRY(reco_embeddings_read(ctx, f->e, side, first, n, f->rows));
    *out = f->rows;
    if (!refine && !f->concat) return RECO_OK;
    RECO_TRY(mend(ctx, f, side, first, n, bad));
    const float *refined = f->unit;
    if (refine) {
        RECO_TRY(reco_refine(ctx, f->memory, &(reco_question){.side = side, .x = f->unit, .n = n},
                             &(reco_refined){.rows = f->refined}));
        refined = f->refined;
    }
    if (f->concat) {
        reco_fusion_concat(f->wide, f->unit, refined, *f->concat, n, d);
        for (size_t r = 0; r < n; r++)
            if (bad[r])
                reco_fusion_concat(f->wide + 2 * r * d, f->rows + r * d, f->rows + r * d, *f->concat, 1, d);
        *out = f->wide;
        return RECO_OK;
    }
    /* What no neighbour changed keeps its own bytes, too. */
    for (size_t r = 0; r < n; r++)
        if (!bad[r] && memcmp(refined + r * d, f->unit + r * d, d * sizeof(float)) != 0)
            memcpy(f->rows + r * d, refined + r * d, d * sizeof(float));
    return RECO_OK;
}

static reco_status refine_side(reco_ctx *ctx, folder *f, reco_side side, bool refine, const char *out,
                               reco_dtype dtype)
{
    size_t n = reco_embeddings_rows(f->e);
    reco_status status = RECO_OK;
    reco_npy_writer *writer = NULL;
    const float *rows;
    char *path = reco_layout_path(ctx, out, side), *dir = path ? reco_path_dir(ctx, path) : NULL;
    if (!path || !dir) RECO_GO(RECO_E_NOMEM);
    RECO_GO(reco_mkdirs(ctx, dir));
    RECO_GO(reco_npy_begin(ctx, &writer, path, dtype, f->concat ? 2 * f->d : f->d));
    for (size_t i = 0; i < n; i += ROWS) {
        size_t m = reco_min(ROWS, n - i);
        RECO_GO(refine_block(ctx, f, side, refine, i, m, &rows));
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
    return status;
}

static reco_status alloc_blocks(reco_ctx *ctx, folder *f)
{
    f->rows = reco_alloc(ctx, ROWS * f->d, sizeof(float), "embeddings");
    f->unit = reco_alloc(ctx, ROWS * f->d, sizeof(float), "embeddings");
    f->refined = reco_alloc(ctx, ROWS * f->d, sizeof(float), "embeddings");
    if (f->concat) f->wide = reco_alloc(ctx, ROWS * 2 * f->d, sizeof(float), "embeddings");
    return f->rows && f->unit && f->refined && (!f->concat || f->wide) ? RECO_OK : RECO_E_NOMEM;
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

reco_status reco_refine_folder(reco_ctx *ctx, const reco_memory *memory, const char *in, const char *out,
                               const reco_refine_opts *opts, reco_stream_result *result)
{
    const reco_refine_opts defaults = RECO_REFINE_OPTS_INIT;
    if (!opts) opts = &defaults;
    RECO_TRY(reco_reserved(ctx, "refine", opts->reserved));
    double start = reco_now();
    *result = (reco_stream_result){0};
    reco_status status = RECO_OK;
    reco_provenance p, none = {0};
    reco_fusion_config config = *reco_fusion_get_config(memory->fusion);
    reco_sides sides = memory->sides == RECO_SIDES_DEFAULT ? config.sides : memory->sides;
    folder f = {.memory = memory, .d = config.d};
    if (!isnan(opts->concat)) f.concat = &opts->concat;
    if (f.concat && !(*f.concat >= 0 && *f.concat <= 1))
        RECO_GO(reco_fail(ctx, RECO_E_ARG, "refine: concat = %g, want 0..1", (double)*f.concat));
    RECO_GO(reco_check_output(ctx, out, RECO_OUT_FOLDER, &in, 1));
    RECO_GO(reco_embeddings_open(ctx, &f.e, in));
    RECO_GO(reco_provenance_of(ctx, in, opts->encoder, &p));
    if (reco_embeddings_width(f.e) != config.d)
        RECO_GO(reco_fail(ctx, RECO_E_MISMATCH, "%s: embeddings of width %zu, the fusion layer takes %zu",
                          in, reco_embeddings_width(f.e), config.d));
    RECO_GO(reco_provenance_check(ctx, &p, in, memory->bank, memory->fusion));
    if (p.refined & (int)sides)
        reco_log(ctx, RECO_LOG_WARN, "%s: was already refined, and is refined again", in);
    RECO_GO(check_usable(ctx, f.e, in, config.d));
    RECO_GO(alloc_blocks(ctx, &f));
    RECO_GO(reco_mkdirs(ctx, out));
    RECO_GO(reco_provenance_write(ctx, out, &none)); /* of what was there before */
    RECO_GO(reco_failures_begin(ctx, &f.failures, out, opts->failure, opts->user));
    p.sides = 0;
    p.d = config.d;
    p.rows = reco_embeddings_rows(f.e);
    for (int side = RECO_IMAGE; side <= RECO_TEXT; side++)
        if (reco_embeddings_has(f.e, (reco_side)side)) {
            RECO_GO(refine_side(ctx, &f, (reco_side)side, (int)sides >> side & 1, out,
                                opts->dtype == RECO_DTYPE_KEEP
                                    ? reco_embeddings_side_dtype(f.e, (reco_side)side)
                                    : opts->dtype));
            p.sides |= 1 << side;
        }
    p.refined |= config.layer == RECO_LAYER_NONE ? 0 : p.sides & (int)sides;
    if (f.concat) {
        p.found = p.concat = true; /* a reader must be told, whoever the encoder is */
        p.weight = *f.concat;
        p.d = 2 * config.d;
    }
    RECO_GO(copy_metadata(ctx, f.e, out));
    RECO_GO(reco_provenance_write(ctx, out, &p));
    RECO_GO(reco_failures_commit(ctx, &f.failures));
    result->rows = reco_embeddings_rows(f.e);
    result->failures = f.failures.count;
    result->seconds = reco_now() - start;
out:
    reco_failures_abort(&f.failures);
    reco_embeddings_close(f.e);
    reco_free(f.rows);
    reco_free(f.unit);
    reco_free(f.refined);
    reco_free(f.wide);
    return status;
}
