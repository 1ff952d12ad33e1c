#include "pipeline/pipeline_internal.h"

typedef struct batch {
    char **paths, **reasons;
    float *rows; /* [size][d] */
    size_t n;
    reco_output_place at; /* at.next: input row of paths[0] */
} batch;

/* Embed, set the good ones side by side, write rows and metadata in step. */
static reco_status flush(reco_ctx *ctx, reco_decoder *decoder, batch *b, size_t d, reco_output *o)
{
    reco_status status =
        reco_decoder_embed(ctx, decoder, (const char *const *)b->paths, NULL, b->n, b->rows, b->reasons);
    size_t good = 0;
    for (size_t i = 0; i < b->n && status == RECO_OK; i++) {
        if (b->reasons[i]) {
            status = reco_failures_add(ctx, &o->failures, b->at.next + i, b->paths[i], b->reasons[i]);
            continue;
        }
        if (good != i) memcpy(b->rows + good * d, b->rows + i * d, d * sizeof(float));
        good++;
        status = reco_write_json_line(
            ctx, o->metadata,
            json_pack("{s:o}", "image_path", reco_json_text(b->paths[i], strlen(b->paths[i]))));
    }
    if (status == RECO_OK) status = reco_npy_append(ctx, o->rows, b->rows, good);
    b->at.rows += good;
    for (size_t i = 0; i < b->n; i++) {
        b->at.hash = reco_output_hash(b->at.hash, b->paths[i], strlen(b->paths[i]));
        reco_free(b->paths[i]);
        reco_free(b->reasons[i]);
        b->paths[i] = b->reasons[i] = NULL;
    }
    b->at.next += b->n;
    b->at.failures = o->failures.count;
    b->n = 0;
    return status == RECO_OK ? reco_output_checkpoint(ctx, o, &b->at) : status;
}

/* Pass over what a killed run has done, or begin anew when that were other pictures. */
static reco_status go_on(reco_ctx *ctx, reco_source **source, const char *path, reco_output *o,
                         reco_output_place *at)
{
    while (at->next < o->at.next) {
        char *item;
        RECO_TRY(reco_source_next(ctx, *source, &item));
        if (!item) break;
        at->hash = reco_output_hash(at->hash, item, strlen(item));
        at->next++;
        reco_free(item);
    }
    if (at->next == o->at.next && at->hash == o->at.hash) {
        *at = o->at;
        return RECO_OK;
    }
    *at = (reco_output_place){0};
    reco_source_close(*source);
    RECO_TRY(reco_source_open(ctx, source, path));
    return reco_output_restart(ctx, o);
}

reco_status reco_embed_images(reco_ctx *ctx, const reco_model *model, const char *path, const char *out,
                              const reco_stream_opts *opts, reco_stream_result *result)
{
    RECO_TRY(
        reco_model_embed_pixels(ctx, model, NULL, 0, NULL)); /* has it an image tower? before OUT is made */
    double start = reco_now();
    *result = (reco_stream_result){0};
    reco_status status = RECO_OK;
    reco_source *source = NULL;
    reco_decoder *decoder = NULL;
    reco_output o = {0};
    batch b = {0};
    reco_model_info info = reco_model_get_info(model);
    size_t size = reco_batch(ctx, opts);
    RECO_GO(reco_source_open(ctx, &source, path));
    RECO_GO(reco_output_begin(ctx, &o, out, RECO_IMAGE, model, opts));
    RECO_GO(go_on(ctx, &source, path, &o, &b.at));
    result->resumed = b.at.next;
    RECO_GO(reco_decoder_create(ctx, &decoder, model, opts));
    b.paths = reco_alloc(ctx, size, sizeof(char *), "paths");
    b.reasons = reco_alloc(ctx, size, sizeof(char *), "reasons");
    b.rows = reco_alloc(ctx, size * info.d, sizeof(float), "embeddings");
    if (!b.paths || !b.reasons || !b.rows) RECO_GO(RECO_E_NOMEM);
    for (;;) {
        RECO_GO(reco_source_next(ctx, source, &b.paths[b.n]));
        bool end = !b.paths[b.n];
        if (!end) b.n++;
        if (b.n == size || (end && b.n > 0)) RECO_GO(flush(ctx, decoder, &b, info.d, &o));
        RECO_GO(reco_progress(ctx, "embedding", b.at.next, end ? b.at.next : reco_source_total(source)));
        if (end) break;
    }
    result->rows = b.at.rows;
    result->failures = o.failures.count;
    RECO_GO(reco_output_commit(ctx, &o, &b.at));
    result->seconds = reco_now() - start;
out:
    for (size_t i = 0; b.paths && i < b.n; i++) reco_free(b.paths[i]);
    reco_free(b.paths);
    reco_free(b.reasons);
    reco_free(b.rows);
    reco_decoder_free(decoder);
    reco_output_abort(&o);
    reco_source_close(source);
    return status;
}
