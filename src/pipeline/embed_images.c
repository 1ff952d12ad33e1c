#include "pipeline/pipeline_internal.h"

typedef struct batch {
    reco_source_item *items;
    const char **paths; /* of those items that there is something to read of */
    char **reasons;     /* of these */
    float *rows;        /* [size][d] */
    size_t n;
    reco_output_place at; /* at.next: input row of items[0] */
} batch;

/* Set the good rows side by side, write them and their metadata in step. */
static reco_status write_rows(reco_ctx *ctx, batch *b, size_t d, reco_output *o)
{
    size_t good = 0, at = 0; /* at: among those that were read */
    for (size_t i = 0; i < b->n; i++) {
        const reco_source_item *item = &b->items[i];
        const char *reason = item->reason ? item->reason : b->reasons[at];
        if (reason) {
            RECO_TRY(reco_failures_add(ctx, &o->failures, b->at.next + i, item->name, reason));
        } else {
            if (good != at) memcpy(b->rows + good * d, b->rows + at * d, d * sizeof(float));
            good++;
            RECO_TRY(reco_write_json_line(
                ctx, o->metadata,
                json_pack("{s:o}", "image_path", reco_json_text(item->name, strlen(item->name)))));
        }
        at += !item->reason;
    }
    b->at.rows += good;
    return reco_npy_append(ctx, o->rows, b->rows, good);
}

static reco_status flush_image_batch(reco_ctx *ctx, reco_decoder *decoder, batch *b, size_t d,
                                     reco_output *o)
{
    size_t n = 0;
    for (size_t i = 0; i < b->n; i++)
        if (!b->items[i].reason) b->paths[n++] = b->items[i].path;
    reco_status status = reco_decoder_embed(ctx, decoder, b->paths, NULL, n, b->rows, b->reasons);
    if (status == RECO_OK) status = write_rows(ctx, b, d, o);
    for (size_t i = 0; i < b->n; i++) {
        b->at.hash = reco_output_hash(b->at.hash, b->items[i].name, strlen(b->items[i].name));
        reco_source_item_free(&b->items[i]);
    }
    for (size_t i = 0; i < n; i++) reco_free(b->reasons[i]);
    b->at.next += b->n;
    b->at.failures = o->failures.count;
    b->n = 0;
    return status == RECO_OK ? reco_output_checkpoint(ctx, o, &b->at) : status;
}

/* Pass over what a killed run has done, or begin anew when that were other pictures. */
static reco_status resume_images(reco_ctx *ctx, reco_source **source, const char *path, const char *out,
                                 reco_shard shard, reco_output *o, reco_output_place *at)
{
    while (at->next < o->at.next) {
        reco_source_item item;
        reco_status status = reco_source_next(ctx, *source, &item);
        bool end = !item.name;
        if (status == RECO_OK && !end) {
            at->hash = reco_output_hash(at->hash, item.name, strlen(item.name));
            at->next++;
        }
        reco_source_item_free(&item);
        RECO_TRY(status);
        if (end) break;
    }
    if (at->next == o->at.next && at->hash == o->at.hash) {
        *at = o->at;
        return RECO_OK;
    }
    *at = (reco_output_place){0};
    reco_source_close(*source);
    RECO_TRY(reco_source_open(ctx, source, path, out, shard));
    return reco_output_restart(ctx, o);
}

reco_status reco_embed_images(reco_ctx *ctx, const reco_model *model, const char *path, const char *out,
                              const reco_folder_opts *opts, reco_stream_result *result)
{
    static const reco_folder_opts none;
    if (!opts) opts = &none;
    RECO_TRY(reco_reserved(ctx, "embed", opts->reserved));
    RECO_TRY(reco_reserved(ctx, "embed", opts->embed.reserved));
    RECO_TRY(reco_part_check(ctx, opts->shard));
    RECO_TRY(
        reco_model_embed_pixels(ctx, model, NULL, 0, NULL)); /* has it an image tower? before OUT is made */
    double start = reco_now();
    *result = (reco_stream_result){0};
    reco_status status = RECO_OK;
    reco_source *source = NULL;
    reco_decoder *decoder = NULL;
    reco_output o = {0};
    batch b = {0};
    reco_model_info info = *reco_model_get_info(model);
    size_t size = reco_batch(ctx, &opts->embed);
    RECO_GO(reco_source_open(ctx, &source, path, out, opts->shard));
    RECO_GO(reco_output_begin(ctx, &o, out, RECO_IMAGE, model, opts));
    RECO_GO(resume_images(ctx, &source, path, out, opts->shard, &o, &b.at));
    result->resumed = b.at.next;
    RECO_GO(reco_decoder_create(ctx, &decoder, model, &opts->embed));
    b.items = reco_alloc(ctx, size, sizeof *b.items, "paths");
    b.paths = reco_alloc(ctx, size, sizeof *b.paths, "paths");
    b.reasons = reco_alloc(ctx, size, sizeof(char *), "reasons");
    b.rows = reco_alloc(ctx, size * info.d, sizeof(float), "embeddings");
    if (!b.items || !b.paths || !b.reasons || !b.rows) RECO_GO(RECO_E_NOMEM);
    for (;;) {
        RECO_GO(reco_source_next(ctx, source, &b.items[b.n]));
        bool end = !b.items[b.n].name;
        if (!end) b.n++;
        if (b.n == size || (end && b.n > 0)) RECO_GO(flush_image_batch(ctx, decoder, &b, info.d, &o));
        RECO_GO(reco_progress(ctx, "embedding", b.at.next, end ? b.at.next : reco_source_total(source)));
        if (end) break;
    }
    result->rows = b.at.rows;
    result->failures = o.failures.count;
    result->others = reco_source_get_others(source).files;
    result->hidden = reco_source_get_others(source).hidden;
    RECO_GO(reco_output_commit(ctx, &o, &b.at));
    result->seconds = reco_now() - start;
out:
    for (size_t i = 0; b.items && i < size; i++) reco_source_item_free(&b.items[i]);
    reco_free(b.items);
    reco_free(b.paths);
    reco_free(b.reasons);
    reco_free(b.rows);
    reco_decoder_free(decoder);
    reco_output_abort(&o);
    reco_source_close(source);
    return status;
}
