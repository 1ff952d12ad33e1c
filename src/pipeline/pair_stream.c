#include "pipeline/pair_stream.h"

/* Records between commits: a kill costs at most this many embeddings, and a commit costs a few fsyncs. */
#define COMMIT_ROWS 2048
#define HELD_BYTES ((size_t)64 << 20) /* of pictures in memory, or one */

static reco_status buffers(reco_ctx *ctx, reco_pair_stream *g)
{
    g->rows = reco_alloc(ctx, g->size, sizeof *g->rows, "pairs");
    g->numbers = reco_alloc(ctx, g->size, sizeof *g->numbers, "pairs");
    g->reasons = reco_alloc(ctx, g->size, sizeof *g->reasons, "pairs");
    g->image = reco_alloc(ctx, g->size * g->d, sizeof(float), "embeddings");
    g->text = reco_alloc(ctx, g->size * g->d, sizeof(float), "embeddings");
    bool all = g->rows && g->numbers && g->reasons && g->image && g->text;
    return all ? RECO_OK : RECO_E_NOMEM;
}

reco_status reco_pair_stream_open(reco_ctx *ctx, reco_pair_stream *g, const reco_model *model,
                                  const char *bank, int build, const char *kind, const char *content,
                                  const reco_stream_opts *opts, reco_stream_result *result)
{
    reco_model_info info = reco_model_get_info(model);
    *g = (reco_pair_stream){.model = model,
                            .result = result,
                            .size = reco_batch(ctx, opts),
                            .several = opts && opts->several_captions,
                            .commit = opts && opts->commit ? opts->commit : COMMIT_ROWS,
                            .d = info.d};
    reco_bank *existing = NULL;
    char key[192], table[32], fingerprint[33];
    int done = 0;
    float dedup = opts ? opts->dedup : 0;
    reco_status status;
    RECO_GO(reco_dedup_check(ctx, dedup));
    RECO_GO(reco_model_fingerprint(ctx, model, fingerprint));
    /* Source, encoder and what chooses among the rows name a job: the same command run again goes on with it. */
    int at = snprintf(key, sizeof key, "%s:%s:%s", kind, content, fingerprint);
    if (dedup > 0) at += snprintf(key + at, sizeof key - (size_t)at, ":dedup=%.9g", (double)dedup);
    reco_table_key(table, opts ? opts->table : NULL);
    snprintf(key + at, sizeof key - (size_t)at, "%s%s", table, g->several ? ":several" : "");
    if (!build) {
        RECO_GO(reco_bank_open(ctx, &existing, bank));
        RECO_GO(reco_check_encoder(ctx, model, existing, NULL));
    }
    reco_bank_spec spec = {info.d, info.name, fingerprint, info.logit_scale};
    RECO_GO(reco_bank_writer_open(ctx, &g->writer, bank, build ? &spec : NULL, key, &g->next, &done));
    if (build && done) {
        g->nothing = true;
        goto out;
    }
    if (done)
        g->next =
            0; /* adding once more what was added before: pairs that are still there are passed over */
    result->resumed = g->next;
    RECO_GO(buffers(ctx, g));
    RECO_GO(reco_decoder_create(ctx, &g->decoder, model, opts));
    if (dedup > 0) RECO_GO(reco_dedup_open(ctx, &g->dedup, bank, g->d, dedup));
    status = reco_failures_resume(ctx, &g->failures, bank, opts, g->next);
out:
    reco_bank_close(existing);
    return status;
}

void reco_pair_stream_close(reco_pair_stream *g)
{
    for (size_t i = 0; g->rows && i < g->n; i++) {
        reco_pair_row_free(&g->rows[i]);
        reco_free(g->reasons[i]);
    }
    reco_free(g->rows);
    reco_free(g->numbers);
    reco_free(g->reasons);
    reco_free(g->image);
    reco_free(g->text);
    reco_decoder_free(g->decoder);
    reco_dedup_close(g->dedup);
    reco_bank_writer_close(g->writer);
    reco_failures_abort(&g->failures);
}

/* Embed the pictures of what is not a failure already. image holds those that could be, side by side; at[] says which they
 * are. */
static reco_status embed_pictures(reco_ctx *ctx, reco_pair_stream *g, size_t *at, size_t *good)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    const char **paths = reco_scratch(ctx, g->size, sizeof *paths, "pairs");
    reco_picture_bytes *data = reco_scratch(ctx, g->size, sizeof *data, "pairs");
    char **reasons = reco_scratch(ctx, g->size, sizeof *reasons, "pairs");
    size_t n = 0;
    *good = 0;
    if (!paths || !data || !reasons) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < g->n; i++) {
        if (g->reasons[i]) continue;
        paths[n] = g->rows[i].path;
        data[n] = (reco_picture_bytes){g->rows[i].data, g->rows[i].bytes};
        at[n++] = i;
    }
    RECO_GO(reco_decoder_embed(ctx, g->decoder, paths, data, n, g->image, reasons));
    for (size_t i = 0; i < n; i++) {
        g->reasons[at[i]] = reasons[i];
        if (reasons[i]) continue;
        if (*good != i) memcpy(g->image + *good * g->d, g->image + i * g->d, g->d * sizeof(float));
        at[(*good)++] = at[i];
    }
out:
    reco_scratch_release(ctx, mark);
    return status;
}

static reco_status append(reco_ctx *ctx, reco_pair_stream *g, const size_t *at, size_t good)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    const char **captions = reco_scratch(ctx, g->size, sizeof *captions, "pairs");
    reco_pair *pairs = reco_scratch(ctx, g->size, sizeof *pairs, "pairs");
    unsigned char *cut = reco_scratch(ctx, g->size, 1, "pairs");
    if (!captions || !pairs || !cut) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < good; i++) {
        const reco_pair_row *row = &g->rows[at[i]];
        captions[i] = row->caption;
        pairs[i] = (reco_pair){-1, row->caption, row->uri, row->meta};
    }
    RECO_GO(reco_model_embed_texts(ctx, g->model, captions, good, g->text, cut));
    g->result->embedded += good;
    g->result->truncated += reco_count_cut(cut, good);
    RECO_GO(reco_dedup_drop(ctx, g->dedup, g->image, g->text, pairs, &good, &g->result->near_duplicates));
    RECO_GO(reco_bank_append(ctx, g->writer, g->image, g->text, pairs, good));
    g->result->rows += good;
out:
    reco_scratch_release(ctx, mark);
    return status;
}

static reco_status flush(reco_ctx *ctx, reco_pair_stream *g)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    size_t good, *at = reco_scratch(ctx, g->size, sizeof *at, "pairs");
    if (!at) RECO_GO(RECO_E_NOMEM);
    RECO_GO(embed_pictures(ctx, g, at, &good));
    for (size_t i = 0; i < g->n; i++)
        if (g->reasons[i])
            RECO_GO(reco_failures_add(ctx, &g->failures, g->numbers[i], g->rows[i].uri, g->reasons[i]));
    RECO_GO(append(ctx, g, at, good));
    g->uncommitted += g->n;
out:
    for (size_t i = 0; i < g->n; i++) {
        reco_pair_row_free(&g->rows[i]);
        reco_free(g->reasons[i]);
        g->reasons[i] = NULL;
    }
    g->n = 0;
    g->held = 0;
    reco_scratch_release(ctx, mark);
    return status;
}

/* What is wrong with another row of this URI, NULL: nothing. The batch in flight counts too: the bank only knows of what was
 * appended. */
static const char *twin(const reco_pair_stream *g, const reco_pair_row *row)
{
    for (size_t i = 0; i < g->n; i++) {
        if (g->reasons[i] || strcmp(g->rows[i].uri, row->uri) != 0) continue;
        if (strcmp(g->rows[i].caption, row->caption) == 0) return RECO_REPEATS;
        if (!g->several) return RECO_OTHER_TEXT;
    }
    return NULL;
}

/* Into the batch, taken over; with a reason it is a failure. */
static reco_status put(reco_ctx *ctx, reco_pair_stream *g, reco_pair_row *row, uint64_t number,
                       const char *reason)
{
    char *copy = reason ? reco_strdup(ctx, reason) : NULL;
    if (reason && !copy) return RECO_E_NOMEM;
    g->held += row->bytes;
    g->rows[g->n] = *row;
    *row = (reco_pair_row){0};
    g->reasons[g->n] = copy;
    g->numbers[g->n++] = number;
    return g->n == g->size || g->held >= HELD_BYTES ? flush(ctx, g) : RECO_OK;
}

reco_status reco_pair_stream_fail(reco_ctx *ctx, reco_pair_stream *g, const char *item, const char *reason,
                                  uint64_t number)
{
    reco_pair_row row = {.uri = reco_strdup(ctx, item)};
    reco_status status = row.uri ? put(ctx, g, &row, number, reason) : RECO_E_NOMEM;
    reco_pair_row_free(&row);
    return status;
}

static reco_status take(reco_ctx *ctx, reco_pair_stream *g, reco_pair_row *row, uint64_t number)
{
    reco_bank_held has;
    reco_status status =
        reco_bank_check_pair(ctx, g->writer, &(reco_pair){-1, row->caption, row->uri, row->meta});
    if (status == RECO_E_ARG) return put(ctx, g, row, number, reco_ctx_error(ctx));
    RECO_TRY(status);
    RECO_TRY(reco_bank_has(ctx, g->writer, row->uri, row->caption, &has));
    if (has == RECO_HELD_BEFORE) {
        g->result->duplicates++;
        return RECO_OK;
    }
    const char *reason = has == RECO_HELD_BY_JOB ? RECO_REPEATS : twin(g, row);
    if (!reason && !g->several) {
        RECO_TRY(reco_bank_has(ctx, g->writer, row->uri, NULL, &has));
        if (has != RECO_HELD_NOT) reason = RECO_OTHER_TEXT;
    }
    return put(ctx, g, row, number, reason);
}

reco_status reco_pair_stream_take(reco_ctx *ctx, reco_pair_stream *g, reco_pair_row *row, uint64_t number)
{
    reco_status status = take(ctx, g, row, number);
    reco_pair_row_free(row);
    return status;
}

static reco_status commit(reco_ctx *ctx, reco_pair_stream *g, uint64_t seen, int done)
{
    RECO_TRY(done ? reco_failures_commit(ctx, &g->failures) : reco_failures_sync(ctx, &g->failures));
    RECO_TRY(reco_bank_commit(ctx, g->writer, seen, done));
    g->uncommitted = 0;
    return g->dedup && !done ? reco_dedup_committed(ctx, g->dedup) : RECO_OK;
}

reco_status reco_pair_stream_seen(reco_ctx *ctx, reco_pair_stream *g, uint64_t seen)
{
    RECO_TRY(reco_progress(ctx, "embedding pairs", seen, 0));
    return g->n == 0 && g->uncommitted >= g->commit ? commit(ctx, g, seen, 0) : RECO_OK;
}

reco_status reco_pair_stream_finish(reco_ctx *ctx, reco_pair_stream *g, uint64_t seen)
{
    RECO_TRY(flush(ctx, g));
    RECO_TRY(commit(ctx, g, seen, 1));
    return reco_progress(ctx, "embedding pairs", seen, seen);
}
