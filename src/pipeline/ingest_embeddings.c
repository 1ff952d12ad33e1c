#include "pipeline/export.h"

#define ROWS 1024
#define COMMIT_ROWS 65536
#define HELD_FLOATS ((size_t)8 << 20)

/* A job is named by what the files are, not by their content, which may be many gigabytes. */
static void job_key(char key[80], const reco_embeddings *e, const float *first, const float *last, size_t d)
{
    uint64_t hash = reco_hash64(first, d * sizeof(float), reco_embeddings_rows(e));
    hash = reco_hash64(last, d * sizeof(float), hash);
    snprintf(key, 80, "embeddings:%zu:%zu:%016llx", reco_embeddings_rows(e), d, (unsigned long long)hash);
}

typedef struct ingest {
    reco_embeddings *source;
    reco_bank_writer *writer;
    reco_failures failures;
    reco_dedup *dedup; /* NULL: near-duplicates are welcome */
    unsigned char *twice;
    float *image, *text;
    reco_pair_row *rows;
    reco_pair *pairs;
    size_t d;
    bool exported; /* from a bank: names and ids are to be undone */
} ingest;

static reco_status drop_near(reco_ctx *ctx, ingest *g, size_t *n, reco_stream_result *result)
{
    size_t kept = 0, d = g->d;
    if (!g->dedup || *n == 0) return RECO_OK;
    RECO_TRY(reco_dedup_mark(ctx, g->dedup, g->image, *n, g->twice));
    for (size_t i = 0; i < *n; i++) {
        if (g->twice[i]) continue;
        if (kept != i) {
            memcpy(g->image + kept * d, g->image + i * d, d * sizeof(float));
            memcpy(g->text + kept * d, g->text + i * d, d * sizeof(float));
            g->pairs[kept] = g->pairs[i];
        }
        kept++;
    }
    result->near_duplicates += *n - kept;
    *n = kept;
    return RECO_OK;
}

/* Rows [from, from+n): vectors and metadata in step, bad ones out. */
static reco_status block(reco_ctx *ctx, ingest *g, uint64_t from, size_t n, bool skip,
                         reco_stream_result *result)
{
    reco_status status = RECO_OK;
    size_t good = 0;
    memset(g->rows, 0, n * sizeof *g->rows);
    RECO_GO(reco_embeddings_read(ctx, g->source, RECO_IMAGE, from, n, g->image));
    RECO_GO(reco_embeddings_read(ctx, g->source, RECO_TEXT, from, n, g->text));
    for (size_t i = 0; i < n; i++) {
        json_t *record = NULL;
        const char *bad = NULL, *reason = NULL;
        uint64_t number;
        if (reco_embeddings_has_metadata(g->source))
            RECO_GO(reco_embeddings_next(ctx, g->source, &record, &number, &bad));
        if (record) status = reco_pair_row_read(ctx, &g->rows[i], record, "", false, &reason);
        json_decref(record);
        if (status == RECO_OK && g->exported) status = reco_export_undo(ctx, &g->rows[i]);
        if (status != RECO_OK) goto out;
        if (skip) continue;
        if (bad) reason = bad;
        if (!reco_unit_row(g->image + i * g->d, g->d))
            reason = "the image embedding is zero or not finite";
        else if (!reco_unit_row(g->text + i * g->d, g->d))
            reason = "the text embedding is zero or not finite";
        if (reason) {
            char item[64];
            snprintf(item, sizeof item, "row %llu", (unsigned long long)(from + i));
            RECO_GO(reco_failures_add(ctx, &g->failures, from + i, item, reason));
            continue;
        }
        if (good < i) { /* libc copies a row onto itself, too */
            memcpy(g->image + good * g->d, g->image + i * g->d, g->d * sizeof(float));
            memcpy(g->text + good * g->d, g->text + i * g->d, g->d * sizeof(float));
        }
        const reco_pair_row *row = &g->rows[i];
        g->pairs[good++] = (reco_pair){-1, row->caption ? row->caption : "", row->uri, row->meta};
    }
    RECO_GO(drop_near(ctx, g, &good, result));
    if (good) RECO_GO(reco_bank_append(ctx, g->writer, g->image, g->text, g->pairs, good));
    result->rows += good;
out:
    for (size_t i = 0; i < n; i++) reco_pair_row_free(&g->rows[i]);
    return status;
}

static reco_status check_encoder(reco_ctx *ctx, const char *path, const char *embeddings,
                                 const reco_bank_info *from)
{
    reco_bank *bank;
    RECO_TRY(reco_bank_open(ctx, &bank, path));
    reco_bank_info to = reco_bank_get_info(bank);
    reco_bank_close(bank);
    if (!*to.fingerprint || strcmp(to.fingerprint, from->fingerprint) == 0) return RECO_OK;
    return reco_fail(ctx, RECO_E_MISMATCH, "%s is of encoder %s (%s), %s of %s (%s)", path, to.encoder,
                     to.fingerprint, embeddings, from->encoder, from->fingerprint);
}

reco_status reco_bank_ingest_embeddings(reco_ctx *ctx, const char *embeddings, const char *bank, int build,
                                        const reco_stream_opts *opts, reco_stream_result *result)
{
    double start = reco_now();
    *result = (reco_stream_result){0};
    ingest g = {0};
    reco_status status = RECO_OK;
    uint64_t next = 0;
    int done = 0;
    char key[128];
    float dedup = opts ? opts->dedup : 0;
    RECO_GO(reco_dedup_check(ctx, dedup));
    RECO_GO(reco_embeddings_open(ctx, &g.source, embeddings));
    size_t n = reco_embeddings_rows(g.source);
    g.d = reco_embeddings_width(g.source);
    if (!reco_embeddings_has(g.source, RECO_IMAGE) || !reco_embeddings_has(g.source, RECO_TEXT))
        RECO_GO(reco_fail(ctx, RECO_E_NOTFOUND, "%s: no %s, want img_emb and text_emb", embeddings,
                          reco_embeddings_has(g.source, RECO_IMAGE) ? "text_emb" : "img_emb"));
    RECO_GO(reco_embeddings_need_metadata(ctx, g.source));
    if (n == 0) RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s: no rows", embeddings));
    g.image = reco_alloc(ctx, ROWS * g.d, sizeof(float), "embeddings");
    g.text = reco_alloc(ctx, ROWS * g.d, sizeof(float), "embeddings");
    g.rows = reco_alloc(ctx, ROWS, sizeof *g.rows, "pairs");
    g.pairs = reco_alloc(ctx, ROWS, sizeof *g.pairs, "pairs");
    g.twice = reco_alloc(ctx, ROWS, 1, "pairs");
    if (!g.image || !g.text || !g.rows || !g.pairs || !g.twice) RECO_GO(RECO_E_NOMEM);
    RECO_GO(reco_embeddings_read(ctx, g.source, RECO_IMAGE, 0, 1, g.image));
    RECO_GO(reco_embeddings_read(ctx, g.source, RECO_TEXT, n - 1, 1, g.text));
    job_key(key, g.source, g.image, g.text, g.d);
    if (dedup > 0) snprintf(key + strlen(key), sizeof key - strlen(key), ":dedup=%.9g", (double)dedup);
    size_t commit_rows = COMMIT_ROWS;
    if (dedup > 0) /* what is not committed is held in memory */
        commit_rows = reco_max(1, reco_min(COMMIT_ROWS / ROWS, HELD_FLOATS / g.d / ROWS)) * ROWS;
    reco_bank_info from;
    RECO_GO(reco_export_read(ctx, embeddings, &from, &g.exported));
    if (!build && *from.fingerprint) RECO_GO(check_encoder(ctx, bank, embeddings, &from));
    reco_bank_spec spec = {g.d, from.encoder, from.fingerprint, from.logit_scale};
    RECO_GO(reco_bank_writer_open(ctx, &g.writer, bank, build ? &spec : NULL, key, &next, &done));
    if (build && done) goto out;
    if (done) next = 0;
    result->resumed = next;
    RECO_GO(reco_failures_resume(ctx, &g.failures, bank, opts, next));
    if (dedup > 0) RECO_GO(reco_dedup_open(ctx, &g.dedup, bank, g.d, dedup));
    if (reco_embeddings_has_metadata(g.source)) RECO_GO(reco_embeddings_rewind(ctx, g.source));
    for (uint64_t i = 0; i < n; i += ROWS) {
        /* Commits fall on multiples of ROWS, so a block is wholly done or not at all. */
        size_t rows = reco_min(ROWS, n - i);
        RECO_GO(block(ctx, &g, i, rows, i < next, result));
        if (i >= next && (i + rows) % commit_rows == 0) {
            RECO_GO(reco_bank_commit(ctx, g.writer, i + rows, 0));
            if (g.dedup) RECO_GO(reco_dedup_committed(ctx, g.dedup));
        }
        RECO_GO(reco_progress(ctx, "adding pairs", i + rows, n));
    }
    RECO_GO(reco_bank_commit(ctx, g.writer, n, 1));
    RECO_GO(reco_failures_commit(ctx, &g.failures));
out:
    result->failures = g.failures.count;
    result->seconds = reco_now() - start;
    reco_embeddings_close(g.source);
    reco_bank_writer_close(g.writer);
    reco_failures_abort(&g.failures);
    reco_free(g.image);
    reco_free(g.text);
    reco_free(g.rows);
    reco_free(g.pairs);
    reco_free(g.twice);
    reco_dedup_close(g.dedup);
    return status;
}
