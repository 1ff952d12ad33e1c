#include "pipeline/pipeline_internal.h"

#include <errno.h>
#include <unistd.h>

typedef struct check {
    reco_ctx *ctx;
    const reco_model *model;
    const reco_embed_opts *opts;
    reco_model_info info;
    const char *out;
    json_t *images, *texts, *failures; /* arrays of check.json */
    reco_check_result *result;
} check;

static reco_status add_failure(check *c, uint64_t row, const char *item, const char *reason)
{
    c->result->failures++;
    if (c->opts && c->opts->failure) c->opts->failure(c->opts->user, row, item, reason);
    json_t *entry =
        json_pack("{s:I, s:o, s:o}", "row", (json_int_t)row, "item", reco_json_text(item, strlen(item)),
                  "reason", reco_json_text(reason, strlen(reason)));
    return json_array_append_new(c->failures, entry) == 0 ? RECO_OK
                                                          : reco_fail_nomem(c->ctx, 0, "failures");
}

static reco_status append_name(check *c, json_t *array, const char *name)
{
    return json_array_append_new(array, reco_json_text(name, strlen(name))) == 0
               ? RECO_OK
               : reco_fail_nomem(c->ctx, 0, "names");
}

static reco_status begin_check_file(check *c, reco_npy_writer **writer, const char *name, reco_dtype dtype,
                                    size_t rank, const size_t *shape)
{
    char *path = reco_path_join(c->ctx, c->out, name);
    reco_status status =
        path ? reco_npy_begin_shape(c->ctx, writer, path, dtype, rank, shape) : RECO_E_NOMEM;
    reco_free(path);
    return status;
}

/* Both files of a side, or none. */
static reco_status commit_both(reco_ctx *ctx, reco_npy_writer **a, reco_npy_writer **b)
{
    reco_npy_writer *first = *a, *second = *b;
    *a = NULL;
    RECO_TRY(reco_npy_commit(ctx, first));
    *b = NULL;
    return reco_npy_commit(ctx, second);
}

static reco_status check_images(check *c, const char *path)
{
    reco_ctx *ctx = c->ctx;
    reco_status status = RECO_OK;
    reco_source *source = NULL;
    reco_decoder *decoder = NULL;
    reco_npy_writer *inputs = NULL, *outputs = NULL;
    size_t size = reco_batch(ctx, c->opts), side = c->info.image_size, pixels = 3 * side * side, n = 0;
    reco_source_item *items = reco_alloc(ctx, size, sizeof *items, "paths");
    const char **paths = reco_alloc(ctx, size, sizeof *paths, "paths");
    char **reasons = reco_alloc(ctx, size, sizeof *reasons, "reasons");
    float *x = reco_alloc(ctx, size * pixels, sizeof *x, "pixels"),
          *rows = reco_alloc(ctx, size * c->info.d, sizeof *rows, "embeddings");
    if (!items || !paths || !reasons || !x || !rows) RECO_GO(RECO_E_NOMEM);
    RECO_GO(reco_source_open(ctx, &source, path, c->out, (reco_shard){0}));
    RECO_GO(reco_decoder_create(ctx, &decoder, c->model, c->opts));
    RECO_GO(begin_check_file(c, &inputs, "pixels.npy", RECO_DTYPE_F32, 3, (size_t[]){3, side, side}));
    RECO_GO(begin_check_file(c, &outputs, "image.npy", RECO_DTYPE_F32, 1, &c->info.d));
    for (uint64_t first = 0;; first += n) {
        n = 0;
        do RECO_GO(reco_source_next(ctx, source, &items[n]));
        while (items[n].name && ++n < size);
        if (n == 0) break;
        size_t read = 0, good = 0, at = 0;
        for (size_t i = 0; i < n; i++)
            if (!items[i].reason) paths[read++] = items[i].path;
        RECO_GO(reco_decoder_run(ctx, decoder, paths, NULL, read, x, reasons));
        for (size_t i = 0; i < n; i++) {
            const char *reason = items[i].reason ? items[i].reason : reasons[at];
            if (reason) {
                RECO_GO(add_failure(c, first + i, items[i].name, reason));
            } else {
                if (good != at) memcpy(x + good * pixels, x + at * pixels, pixels * sizeof *x);
                good++;
                RECO_GO(append_name(c, c->images, items[i].name));
            }
            at += !items[i].reason;
        }
        RECO_GO(reco_model_embed_pixels(ctx, c->model, x, good, rows));
        RECO_GO(reco_npy_append(ctx, inputs, x, good));
        RECO_GO(reco_npy_append(ctx, outputs, rows, good));
        c->result->images += good;
        for (size_t i = 0; i < n; i++) {
            reco_source_item_free(&items[i]);
            reco_free(reasons[i]);
            reasons[i] = NULL;
        }
        RECO_GO(reco_progress(ctx, "pictures", first + n, reco_source_total(source)));
    }
    RECO_GO(commit_both(ctx, &inputs, &outputs));
out:
    for (size_t i = 0; i < size; i++) {
        if (items) reco_source_item_free(&items[i]);
        if (reasons) reco_free(reasons[i]);
    }
    reco_npy_abort(inputs);
    reco_npy_abort(outputs);
    reco_decoder_free(decoder);
    reco_source_close(source);
    reco_free(items);
    reco_free(paths);
    reco_free(reasons);
    reco_free(x);
    reco_free(rows);
    return status;
}

static reco_status check_text(check *c, const char *line, size_t bytes, reco_npy_writer *inputs,
                              int32_t *ids, int64_t *padded, float *row, reco_npy_writer *outputs)
{
    size_t n, context = c->info.context;
    RECO_TRY(reco_model_tokens(c->ctx, c->model, line, bytes, ids, &n));
    for (size_t i = 0; i < context; i++) padded[i] = i < n ? ids[i] : reco_model_pad(c->model);
    RECO_TRY(reco_npy_append(c->ctx, inputs, padded, 1));
    unsigned char cut;
    RECO_TRY(reco_model_embed_texts(c->ctx, c->model, &line, 1, row, &cut));
    c->result->texts++;
    c->result->truncated += cut;
    c->result->repaired += reco_utf8_errors(line, bytes) > 0;
    RECO_TRY(append_name(c, c->texts, line));
    return reco_npy_append(c->ctx, outputs, row, 1);
}

static reco_status check_texts(check *c, const char *path)
{
    reco_ctx *ctx = c->ctx;
    reco_status status = RECO_OK;
    reco_lines *lines = NULL;
    reco_npy_writer *inputs = NULL, *outputs = NULL;
    size_t context = c->info.context, bytes;
    int32_t *ids = reco_alloc(ctx, context, sizeof *ids, "token ids");
    int64_t *padded = reco_alloc(ctx, context, sizeof *padded, "token ids");
    float *row = reco_alloc(ctx, c->info.d, sizeof *row, "embedding");
    if (!ids || !padded || !row) RECO_GO(RECO_E_NOMEM);
    RECO_GO(reco_lines_open(ctx, &lines, path));
    RECO_GO(begin_check_file(c, &inputs, "ids.npy", RECO_DTYPE_I64, 1, &context));
    RECO_GO(begin_check_file(c, &outputs, "text.npy", RECO_DTYPE_F32, 1, &c->info.d));
    for (uint64_t number = 0;; number++) {
        const char *line;
        RECO_GO(reco_lines_next(ctx, lines, &line, &bytes));
        if (!line) break;
        if (bytes > RECO_CAPTION_MAX)
            RECO_GO(add_failure(c, number, "caption", "longer than 65536 bytes"));
        else if (memchr(line, 0, bytes))
            RECO_GO(add_failure(c, number, "caption", "holds a NUL byte"));
        else
            RECO_GO(check_text(c, line, bytes, inputs, ids, padded, row, outputs));
        RECO_GO(reco_progress(ctx, "captions", number + 1, 0));
    }
    RECO_GO(commit_both(ctx, &inputs, &outputs));
out:
    reco_npy_abort(inputs);
    reco_npy_abort(outputs);
    reco_lines_close(lines);
    reco_free(ids);
    reco_free(padded);
    reco_free(row);
    return status;
}

static reco_status write_summary(check *c, const char *path)
{
    char print[33];
    RECO_TRY(reco_model_fingerprint(c->ctx, c->model, print));
    json_t *model =
        json_pack("{s:o, s:s, s:s, s:I, s:I, s:I, s:i, s:s}", "name",
                  reco_json_text(c->info.name, strlen(c->info.name)), "family", c->info.family, "precision",
                  reco_precision_name(c->info.precision), "dimensions", (json_int_t)c->info.d, "image_size",
                  (json_int_t)c->info.image_size, "context", (json_int_t)c->info.context, "pad",
                  (int)reco_model_pad(c->model), "fingerprint", print);
    json_t *root = json_pack("{s:o, s:O, s:O, s:O}", "model", model, "images", c->images, "texts", c->texts,
                             "failures", c->failures);
    char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    reco_status status =
        text ? reco_write_file(c->ctx, path, text, strlen(text)) : reco_fail_nomem(c->ctx, 0, path);
    reco_free(text);
    json_decref(root);
    return status;
}

reco_status reco_check_model(reco_ctx *ctx, const reco_model *model, const char *images, const char *texts,
                             const char *out, const reco_embed_opts *opts, reco_check_result *result)
{
    RECO_TRY(reco_reserved(ctx, "embed", opts ? opts->reserved : NULL));
    double start = reco_now();
    *result = (reco_check_result){0};
    check c = {ctx,          model,        opts,  *reco_model_get_info(model), out, json_array(),
               json_array(), json_array(), result};
    reco_status status = RECO_OK;
    char *summary = reco_path_join(ctx, out, "check.json");
    if (!images && !texts) RECO_GO(reco_fail(ctx, RECO_E_ARG, "check: neither pictures nor captions"));
    if (!summary || !c.images || !c.texts || !c.failures) RECO_GO(RECO_E_NOMEM);
    RECO_GO(reco_mkdirs(ctx, out));
    if (unlink(summary) != 0 && errno != ENOENT) RECO_GO(reco_fail_errno(ctx, RECO_E_IO, "%s", summary));
    if (images) RECO_GO(check_images(&c, images));
    if (texts) RECO_GO(check_texts(&c, texts));
    RECO_GO(write_summary(&c, summary));
    result->seconds = reco_now() - start;
out:
    reco_free(summary);
    json_decref(c.images);
    json_decref(c.texts);
    json_decref(c.failures);
    return status;
}
