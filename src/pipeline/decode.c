#include "pipeline/pipeline_internal.h"

/* Each worker has a context of its own, since errors and scratch live there. */
struct reco_decoder {
    const reco_model *model;
    reco_image_limits limits;
    reco_ctx **workers;
    size_t n, pixels;
};

reco_status reco_decoder_create(reco_ctx *ctx, reco_decoder **out, const reco_model *model,
                                const reco_stream_opts *opts)
{
    /* Before any input is read: a model without that tower says so once. */
    RECO_TRY(reco_model_embed_pixels(ctx, model, NULL, 0, NULL));
    *out = NULL;
    reco_status status = RECO_OK;
    reco_decoder *d = reco_alloc(ctx, 1, sizeof *d, "decoder");
    if (!d) return RECO_E_NOMEM;
    size_t side = reco_model_get_info(model).image_size;
    d->model = model;
    if (opts) d->limits = opts->limits;
    d->n = (size_t)reco_ctx_threads(ctx);
    d->pixels = 3 * side * side;
    if (!(d->workers = reco_alloc(ctx, d->n, sizeof(reco_ctx *), "decoder"))) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < d->n; i++) RECO_GO(reco_ctx_worker(ctx, &d->workers[i]));
    *out = d;
    d = NULL;
out:
    reco_decoder_free(d);
    return status;
}

void reco_decoder_free(reco_decoder *d)
{
    if (!d) return;
    for (size_t i = 0; d->workers && i < d->n; i++) reco_ctx_free(d->workers[i]);
    reco_free(d->workers);
    reco_free(d);
}

typedef struct args {
    reco_decoder *decoder;
    const char *const *paths;
    const reco_picture_bytes *data; /* NULL: all from files */
    float *pixels;
    char **reasons;
} args;

static void decode(void *arg, size_t begin, size_t end, int worker)
{
    const args *a = arg;
    reco_ctx *ctx = a->decoder->workers[worker];
    const reco_decoder *d = a->decoder;
    for (size_t i = begin; i < end; i++) {
        float *to = a->pixels + i * d->pixels;
        reco_status status = a->data && a->data[i].data
                                 ? reco_model_pixels_of(ctx, d->model, a->paths[i], a->data[i].data,
                                                        a->data[i].bytes, &d->limits, to)
                                 : reco_model_pixels(ctx, d->model, a->paths[i], &d->limits, to);
        if (status != RECO_OK) a->reasons[i] = reco_strdup(ctx, reco_ctx_error(ctx));
    }
}

reco_status reco_decoder_run(reco_ctx *ctx, reco_decoder *decoder, const char *const *paths,
                             const reco_picture_bytes *data, size_t n, float *pixels, char **reasons)
{
    args a = {decoder, paths, data, pixels, reasons};
    memset(reasons, 0, n * sizeof *reasons);
    for (size_t i = 0; i < n;
         i++) /* a disk that is asked for many files at once is faster than one asked for each in turn */
        if (!data || !data[i].data) reco_read_ahead(paths[i]);
    reco_parallel(ctx, n, 1, decode, &a);
    return RECO_OK;
}

reco_status reco_embed_files(reco_ctx *ctx, const reco_model *model, const char *const *paths, size_t n,
                             const reco_stream_opts *opts, float *out, unsigned char *good)
{
    reco_decoder *decoder = NULL;
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    size_t d = reco_model_get_info(model).d, batch = reco_min(reco_batch(opts), n);
    RECO_GO(reco_decoder_create(ctx, &decoder, model, opts));
    float *pixels = reco_scratch(ctx, batch * decoder->pixels, sizeof(float), "pixels");
    char **reasons = reco_scratch(ctx, batch, sizeof *reasons, "reasons");
    if (!pixels || !reasons) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < n; i += batch) {
        size_t m = reco_min(batch, n - i);
        RECO_GO(reco_progress(ctx, "embedding", i, n));
        RECO_GO(reco_decoder_run(ctx, decoder, paths + i, NULL, m, pixels, reasons));
        for (size_t j = 0; j < m; j++) {
            good[i + j] = !reasons[j];
            if (reasons[j]) memset(pixels + j * decoder->pixels, 0, decoder->pixels * sizeof(float));
            if (reasons[j] && opts && opts->failure)
                opts->failure(opts->user, i + j, paths[i + j], reasons[j]);
            reco_free(reasons[j]);
        }
        RECO_GO(reco_model_embed_pixels(ctx, model, pixels, m, out + i * d));
        for (size_t j = 0; j < m; j++)
            if (!good[i + j]) memset(out + (i + j) * d, 0, d * sizeof(float));
    }
    RECO_GO(reco_progress(ctx, "embedding", n, n));
out:
    reco_scratch_release(ctx, mark);
    reco_decoder_free(decoder);
    return status;
}
