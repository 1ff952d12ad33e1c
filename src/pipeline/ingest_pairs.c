#include "pipeline/pipeline_internal.h"

/* Rows between commits: a kill costs at most this many embeddings, and a commit costs a few fsyncs. */
#define COMMIT_ROWS 2048

typedef struct ingest {
    const reco_model *model;
    const char *file;
    reco_decoder *decoder;
    reco_bank_writer *writer;
    reco_failures failures;
    reco_stream_result *result;
    reco_pair_row *rows; /* [size] */
    uint64_t *numbers;   /* [size] source record of each */
    char **reasons;
    float *pixels, *image, *text;
    size_t size, n, per, d, uncommitted;
} ingest;

/* A source and the encoder name a job: the same command run again goes on with it. */
static reco_status job_key(reco_ctx *ctx, char key[80], const char *file, const char *fingerprint)
{
    char content[33];
    RECO_TRY(reco_hash_file(ctx, file, content));
    snprintf(key, 80, "pairs:%s:%s", content, fingerprint);
    return RECO_OK;
}

static reco_status flush(reco_ctx *ctx, ingest *g)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    const char **strings = reco_scratch(ctx, g->size, sizeof *strings, "pairs");
    reco_pair *pairs = reco_scratch(ctx, g->size, sizeof *pairs, "pairs");
    if (!strings || !pairs) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < g->n; i++) strings[i] = g->rows[i].path;
    RECO_GO(reco_decoder_run(ctx, g->decoder, strings, g->n, g->pixels, g->reasons));
    size_t good = 0;
    for (size_t i = 0; i < g->n; i++) {
        if (g->reasons[i]) {
            RECO_GO(reco_failures_add(ctx, &g->failures, g->numbers[i], g->rows[i].uri, g->reasons[i]));
            continue;
        }
        if (good != i) memcpy(g->pixels + good * g->per, g->pixels + i * g->per, g->per * sizeof(float));
        strings[good] = g->rows[i].caption;
        pairs[good++] = (reco_pair){-1, g->rows[i].caption, g->rows[i].uri, g->rows[i].meta};
    }
    RECO_GO(reco_model_embed_pixels(ctx, g->model, g->pixels, good, g->image));
    RECO_GO(reco_model_embed_texts(ctx, g->model, strings, good, g->text));
    RECO_GO(reco_bank_append(ctx, g->writer, g->image, g->text, pairs, good));
    g->result->rows += good;
    g->uncommitted += good;
out:
    for (size_t i = 0; i < g->n; i++) {
        reco_pair_row_free(&g->rows[i]);
        reco_free(g->reasons[i]);
        g->reasons[i] = NULL;
    }
    g->n = 0;
    reco_scratch_release(ctx, mark);
    return status;
}

/* The batch in flight counts too: the bank only knows of what was appended. */
static bool in_batch(const ingest *g, const reco_pair_row *row)
{
    for (size_t i = 0; i < g->n; i++)
        if (strcmp(g->rows[i].uri, row->uri) == 0 && strcmp(g->rows[i].caption, row->caption) == 0)
            return true;
    return false;
}

static reco_status take(reco_ctx *ctx, ingest *g, json_t *record, uint64_t number, const char *bad)
{
    char item[64];
    snprintf(item, sizeof item, "record %llu", (unsigned long long)number);
    if (!record) return reco_failures_add(ctx, &g->failures, number, item, bad);
    reco_pair_row *row = &g->rows[g->n];
    const char *reason;
    int has = 0;
    reco_status status = reco_pair_row_read(ctx, row, record, g->file, true, &reason);
    if (status == RECO_OK && reason)
        status =
            reco_failures_add(ctx, &g->failures, number, row->uri && *row->uri ? row->uri : item, reason);
    else if (status == RECO_OK)
        status = reco_bank_has(ctx, g->writer, row->uri, row->caption, &has);
    if (status == RECO_OK && !reason && !has) has = in_batch(g, row);
    if (has) g->result->duplicates++;
    if (status != RECO_OK || reason || has) {
        reco_pair_row_free(row);
        return status;
    }
    g->numbers[g->n++] = number;
    return g->n == g->size ? flush(ctx, g) : RECO_OK;
}

static reco_status buffers(reco_ctx *ctx, ingest *g)
{
    g->rows = reco_alloc(ctx, g->size, sizeof *g->rows, "pairs");
    g->numbers = reco_alloc(ctx, g->size, sizeof *g->numbers, "pairs");
    g->reasons = reco_alloc(ctx, g->size, sizeof *g->reasons, "pairs");
    g->pixels = reco_alloc(ctx, g->size * g->per, sizeof(float), "pixels");
    g->image = reco_alloc(ctx, g->size * g->d, sizeof(float), "embeddings");
    g->text = reco_alloc(ctx, g->size * g->d, sizeof(float), "embeddings");
    return g->rows && g->numbers && g->reasons && g->pixels && g->image && g->text ? RECO_OK : RECO_E_NOMEM;
}

static void release(ingest *g)
{
    for (size_t i = 0; g->rows && i < g->n; i++) reco_pair_row_free(&g->rows[i]);
    reco_free(g->rows);
    reco_free(g->numbers);
    reco_free(g->reasons);
    reco_free(g->pixels);
    reco_free(g->image);
    reco_free(g->text);
    reco_decoder_free(g->decoder);
    reco_bank_writer_close(g->writer);
    reco_failures_abort(&g->failures);
}

reco_status reco_bank_ingest_pairs(reco_ctx *ctx, const reco_model *model, const char *pairs,
                                   const char *bank, int build, const reco_stream_opts *opts,
                                   reco_stream_result *result)
{
    RECO_TRY(reco_model_embed_pixels(ctx, model, NULL, 0, NULL)); /* has it both towers? */
    RECO_TRY(reco_model_embed_texts(ctx, model, NULL, 0, NULL));
    double start = reco_now();
    *result = (reco_stream_result){0};
    reco_model_info info = reco_model_get_info(model);
    ingest g = {.model = model,
                .file = pairs,
                .result = result,
                .size = reco_batch(opts),
                .d = info.d,
                .per = 3 * info.image_size * info.image_size};
    reco_status status = RECO_OK;
    reco_records *records = NULL;
    reco_bank *existing = NULL;
    json_t *record = NULL;
    char key[80], fingerprint[33];
    uint64_t next = 0, number = 0, seen = 0;
    int done = 0;
    RECO_GO(reco_model_fingerprint(ctx, model, fingerprint));
    RECO_GO(job_key(ctx, key, pairs, fingerprint));
    RECO_GO(reco_records_open(ctx, &records, pairs));
    if (!build) {
        RECO_GO(reco_bank_open(ctx, &existing, bank));
        RECO_GO(reco_check_encoder(ctx, model, existing, NULL));
    }
    reco_bank_spec spec = {info.d, info.name, fingerprint, info.logit_scale};
    RECO_GO(reco_bank_writer_open(ctx, &g.writer, bank, build ? &spec : NULL, key, &next, &done));
    if (build && done) goto out;
    if (done)
        next = 0; /* adding once more what was added before: pairs that are still there are passed over */
    result->resumed = next;
    RECO_GO(buffers(ctx, &g));
    RECO_GO(reco_decoder_create(ctx, &g.decoder, model, opts));
    RECO_GO(reco_failures_resume(ctx, &g.failures, bank, opts, next));
    for (;;) {
        const char *bad = NULL;
        RECO_GO(reco_records_next(ctx, records, &record, &number, &bad));
        if (!record && !bad) break;
        seen = number + 1;
        if (number >= next) RECO_GO(take(ctx, &g, record, number, bad));
        json_decref(record);
        record = NULL;
        RECO_GO(reco_progress(ctx, "embedding pairs", seen, 0));
        if (g.n == 0 && g.uncommitted >= COMMIT_ROWS) {
            RECO_GO(reco_bank_commit(ctx, g.writer, seen, 0));
            g.uncommitted = 0;
        }
    }
    RECO_GO(flush(ctx, &g));
    RECO_GO(reco_bank_commit(ctx, g.writer, seen, 1));
    RECO_GO(reco_progress(ctx, "embedding pairs", seen, seen));
    RECO_GO(reco_failures_commit(ctx, &g.failures));
out:
    result->failures = g.failures.count;
    result->seconds = reco_now() - start;
    json_decref(record);
    reco_records_close(records);
    reco_bank_close(existing);
    release(&g);
    return status;
}
