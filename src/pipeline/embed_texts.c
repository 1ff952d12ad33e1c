#include "pipeline/pipeline_internal.h"

static reco_status flush_text_batch(reco_ctx *ctx, const reco_model *model, char **texts, size_t n,
                                    float *rows, unsigned char *cut, reco_output *o)
{
    RECO_TRY(reco_model_embed_texts(ctx, model, (const char *const *)texts, n, rows, cut));
    for (size_t i = 0; i < n; i++) {
        RECO_TRY(reco_write_json_line(
            ctx, o->metadata, json_pack("{s:o}", "caption", reco_json_text(texts[i], strlen(texts[i])))));
        reco_free(texts[i]);
        texts[i] = NULL;
    }
    return reco_npy_append(ctx, o->rows, rows, n);
}

reco_status reco_embed_texts(reco_ctx *ctx, const reco_model *model, const char *path, const char *out,
                             const reco_folder_opts *opts, reco_stream_result *result)
{
    static const reco_folder_opts none;
    if (!opts) opts = &none;
    RECO_TRY(reco_reserved(ctx, "embed", opts->reserved));
    RECO_TRY(reco_reserved(ctx, "embed", opts->embed.reserved));
    RECO_TRY(reco_part_check(ctx, opts->shard));
    double start = reco_now();
    *result = (reco_stream_result){0};
    reco_status status = RECO_OK;
    reco_part_lines lines = {0};
    reco_output o = {0};
    const char *line = NULL;
    size_t bytes;
    /* Captions are small: several pictures' worth of them makes one batch. */
    size_t size = 8 * reco_batch(ctx, &opts->embed), n = 0, d = reco_model_get_info(model)->d;
    char **texts = reco_alloc(ctx, size, sizeof *texts, "captions");
    float *rows = reco_alloc(ctx, size * d, sizeof(float), "embeddings");
    unsigned char *cut = reco_alloc(ctx, size, 1, "captions");
    if (!texts || !rows || !cut) RECO_GO(RECO_E_NOMEM);
    RECO_GO(reco_part_open(ctx, &lines, path, opts->shard));
    RECO_GO(reco_output_begin(ctx, &o, out, RECO_TEXT, model, opts));
    reco_output_place at = {0};
    while (at.next < o.at.next) { /* what a killed run has done */
        RECO_GO(reco_part_next(ctx, &lines, &line, &bytes));
        if (!line) break;
        at.hash = reco_output_hash(at.hash, line, bytes);
        at.next++;
    }
    if (at.next != o.at.next || at.hash != o.at.hash) { /* other captions */
        at = (reco_output_place){0};
        RECO_GO(reco_part_open(ctx, &lines, path, opts->shard));
        RECO_GO(reco_output_restart(ctx, &o));
    } else
        at = o.at;
    result->resumed = at.next;
    do {
        RECO_GO(reco_part_next(ctx, &lines, &line, &bytes));
        const char *bad = !line                      ? NULL
                          : bytes > RECO_CAPTION_MAX ? "longer than 65536 bytes"
                          : memchr(line, 0, bytes)   ? "holds a NUL byte"
                                                     : NULL;
        if (bad) {
            RECO_GO(reco_failures_add(ctx, &o.failures, at.next, "caption", bad));
        } else if (line) {
            if (!(texts[n] = reco_strdup(ctx, line))) RECO_GO(RECO_E_NOMEM);
            n++;
            at.repaired += reco_utf8_errors(line, bytes) > 0;
        }
        if (line) {
            at.hash = reco_output_hash(at.hash, line, bytes);
            at.next++;
        }
        if (n == size || (!line && n > 0)) {
            RECO_GO(flush_text_batch(ctx, model, texts, n, rows, cut, &o));
            at.rows += n;
            at.truncated += reco_count_cut(cut, n);
            n = 0;
        }
        at.failures = o.failures.count;
        if (n == 0) RECO_GO(reco_output_checkpoint(ctx, &o, &at));
        RECO_GO(reco_progress(ctx, "embedding", at.next, line ? 0 : at.next));
    } while (line);
    result->rows = at.rows;
    result->repaired = at.repaired;
    result->truncated = at.truncated;
    result->failures = o.failures.count;
    RECO_GO(reco_output_commit(ctx, &o, &at));
    result->seconds = reco_now() - start;
out:
    for (size_t i = 0; texts && i < n; i++) reco_free(texts[i]);
    reco_free(texts);
    reco_free(rows);
    reco_free(cut);
    reco_part_close(&lines);
    reco_output_abort(&o);
    return status;
}
