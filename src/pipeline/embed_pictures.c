#include "pipeline/pipeline_internal.h"

static const char *name_of_picture(const reco_picture_input *picture)
{
    return picture->name ? picture->name : "picture";
}

/* What the decoder is to read of each; one that is nothing at all is an empty file. */
static void sort_out(const reco_picture_input *pictures, size_t n, const char **paths,
                     reco_picture_bytes *data)
{
    for (size_t i = 0; i < n; i++) {
        const reco_picture_input *p = &pictures[i];
        paths[i] = name_of_picture(p);
        data[i] = p->pixels ? (reco_picture_bytes){p->pixels, 0, p->height, p->width}
                  : p->data ? (reco_picture_bytes){.data = p->data, .bytes = p->bytes}
                  : p->name ? (reco_picture_bytes){0}
                            : (reco_picture_bytes){.data = ""};
    }
}

reco_status reco_embed_pictures(reco_ctx *ctx, const reco_model *model, const reco_picture_input *pictures,
                                size_t n, const reco_embed_opts *opts, float *out, size_t *rows,
                                size_t *count)
{
    RECO_TRY(reco_reserved(ctx, "embed", opts ? opts->reserved : NULL));
    reco_decoder *decoder = NULL;
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    size_t d = reco_model_get_info(model)->d, batch = reco_min(reco_batch(ctx, opts), n), good = 0;
    RECO_GO(reco_decoder_create(ctx, &decoder, model, opts));
    char **reasons = reco_scratch(ctx, batch, sizeof *reasons, "reasons");
    const char **paths = reco_scratch(ctx, batch, sizeof *paths, "paths");
    reco_picture_bytes *data = reco_scratch(ctx, batch, sizeof *data, "pictures");
    if (!reasons || !paths || !data) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < n; i += batch) {
        size_t m = reco_min(batch, n - i);
        RECO_GO(reco_progress(ctx, "embedding", i, n));
        sort_out(pictures + i, m, paths, data);
        float *from = out + good * d; /* no row of a picture lies behind its place */
        status = reco_decoder_embed(ctx, decoder, paths, data, m, from, reasons);
        for (size_t j = 0, at = 0; j < m; j++) {
            if (!reasons[j]) {
                if (at != j) memmove(from + at * d, from + j * d, d * sizeof *from);
                at++;
                rows[good++] = i + j;
            } else if (opts && opts->failure) {
                opts->failure(opts->user, i + j, paths[j], reasons[j]);
            }
            reco_free(reasons[j]);
        }
        RECO_GO(status);
    }
    *count = good;
    RECO_GO(reco_progress(ctx, "embedding", n, n));
out:
    reco_scratch_release(ctx, mark);
    reco_decoder_free(decoder);
    return status;
}

reco_status reco_embed_files(reco_ctx *ctx, const reco_model *model, const char *const *paths, size_t n,
                             const reco_embed_opts *opts, float *out, unsigned char *good)
{
    reco_status status = RECO_E_NOMEM;
    size_t d = reco_model_get_info(model)->d, count = 0;
    reco_picture_input *pictures = reco_alloc(ctx, n, sizeof *pictures, "pictures");
    size_t *rows = reco_alloc(ctx, n, sizeof *rows, "rows");
    for (size_t i = 0; pictures && i < n; i++) pictures[i].name = paths[i];
    if (pictures && rows) status = reco_embed_pictures(ctx, model, pictures, n, opts, out, rows, &count);
    for (size_t i = n; status == RECO_OK && i-- > 0;) {
        good[i] = count > 0 && rows[count - 1] == i;
        if (!good[i])
            memset(out + i * d, 0, d * sizeof *out);
        else if (--count != i)
            memcpy(out + i * d, out + count * d, d * sizeof *out);
    }
    reco_free(pictures);
    reco_free(rows);
    return status;
}
