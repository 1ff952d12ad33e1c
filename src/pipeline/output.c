#include "pipeline/pipeline_internal.h"

static const char *const layout[2][2] = {{"img_emb", "img_emb_0.npy"}, {"text_emb", "text_emb_0.npy"}};

char *reco_layout_path(reco_ctx *ctx, const char *dir, reco_side side)
{
    return reco_format(ctx, "%s/%s/%s", dir, layout[side][0], layout[side][1]);
}

static reco_status made(reco_ctx *ctx, const char *dir, const char *name)
{
    char *path = reco_path_join(ctx, dir, name);
    reco_status status = path ? reco_mkdirs(ctx, path) : RECO_E_NOMEM;
    reco_free(path);
    return status;
}

reco_status reco_output_begin(reco_ctx *ctx, reco_output *o, const char *dir, reco_side side, size_t d,
                              const reco_stream_opts *opts)
{
    reco_status status = RECO_OK;
    char *rows = NULL, *metadata = NULL;
    *o = (reco_output){0};
    RECO_GO(made(ctx, dir, layout[side][0]));
    RECO_GO(made(ctx, dir, "metadata"));
    if (!(rows = reco_layout_path(ctx, dir, side)) ||
        !(metadata = reco_format(ctx, "%s/metadata/metadata_0.jsonl", dir)))
        RECO_GO(RECO_E_NOMEM);
    RECO_GO(reco_failures_begin(ctx, &o->failures, dir, opts));
    RECO_GO(reco_npy_begin(ctx, &o->rows, rows, opts ? opts->dtype : RECO_DTYPE_F16, d));
    RECO_GO(reco_file_begin(ctx, &o->metadata, metadata));
out:
    reco_free(rows);
    reco_free(metadata);
    return status;
}

reco_status reco_output_commit(reco_ctx *ctx, reco_output *o)
{
    reco_npy_writer *rows = o->rows;
    reco_file *metadata = o->metadata;
    o->rows = NULL;
    RECO_TRY(reco_npy_commit(ctx, rows));
    o->metadata = NULL;
    RECO_TRY(reco_file_commit(ctx, metadata));
    return reco_failures_commit(ctx, &o->failures);
}

void reco_output_abort(reco_output *o)
{
    if (o->rows) reco_npy_abort(o->rows);
    reco_file_abort(o->metadata);
    reco_failures_abort(&o->failures);
    *o = (reco_output){0};
}
