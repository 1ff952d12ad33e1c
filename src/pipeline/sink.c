#include "pipeline/sink.h"
#include "pipeline/provenance.h"

/* Records between commits: a kill costs at most this many embeddings, and a commit costs a few fsyncs. */
#define COMMIT_ROWS 2048
#define COMMIT_VECTORS 65536          /* the same where nothing is embedded */
#define VECTORS 1024                  /* rows of a batch where nothing is embedded */
#define HELD_BYTES ((size_t)64 << 20) /* of pictures in memory, or one */
#define HELD_FLOATS ((size_t)8 << 20) /* of pictures that are compared with later ones */

struct reco_sink {
    reco_sink_spec spec;
    reco_decoder *decoder;
    reco_bank_writer *writer;
    reco_dedup *dedup; /* NULL: near-duplicates are welcome */
    reco_failures failures;
    reco_stream_result *result;
    reco_pair_row *rows; /* [size] */
    uint64_t *numbers;   /* [size] source record of each */
    uint64_t *hashes;    /* [size] of its URI; 0: it has none */
    char **reasons;      /* [size] what is wrong with it; NULL: nothing so far */
    float *image, *text; /* [size][d] */
    bool several;        /* captions of one URI */
    size_t size, n, d;
    size_t commit, uncommitted; /* records between commits, and since the last one */
    size_t held;                /* bytes of pictures in the rows */
    uint64_t next;
    bool done;
};

static reco_status buffers(reco_ctx *ctx, reco_sink *s)
{
    s->rows = reco_alloc(ctx, s->size, sizeof *s->rows, "pairs");
    s->numbers = reco_alloc(ctx, s->size, sizeof *s->numbers, "pairs");
    s->hashes = reco_alloc(ctx, s->size, sizeof *s->hashes, "pairs");
    s->reasons = reco_alloc(ctx, s->size, sizeof *s->reasons, "pairs");
    s->image = reco_alloc(ctx, s->size * s->d, sizeof(float), "embeddings");
    s->text = reco_alloc(ctx, s->size * s->d, sizeof(float), "embeddings");
    bool all = s->rows && s->numbers && s->hashes && s->reasons && s->image && s->text;
    return all ? RECO_OK : RECO_E_NOMEM;
}

/* Is what is to be added of the encoder of the bank that is there? */
static reco_status check_bank(reco_ctx *ctx, const reco_sink_spec *spec)
{
    reco_bank *bank;
    RECO_TRY(reco_bank_open(ctx, &bank, spec->bank));
    const reco_bank_spec *from = &spec->encoder;
    reco_bank_info to = reco_bank_get_info(bank);
    reco_status status = spec->model ? reco_check_encoder(ctx, spec->model, bank, NULL) : RECO_OK;
    reco_bank_close(bank);
    if (spec->model) return status;
    if (to.d != from->d)
        return reco_fail(ctx, RECO_E_MISMATCH, "%s holds vectors of %zu, %s has vectors of %zu", spec->bank,
                         to.d, spec->source, from->d);
    if (reco_encoder_matches(from->encoder, from->fingerprint, to.encoder, to.fingerprint)) return RECO_OK;
    return reco_fail(ctx, RECO_E_MISMATCH, "%s is of encoder %s (%s), %s of %s (%s)", spec->bank,
                     to.encoder, to.fingerprint, spec->source, from->encoder, from->fingerprint);
}

/* Source, encoder and what chooses among the rows name a job: the same command run again goes on with it. */
static void job_key(char key[192], const reco_sink *s, const char *fingerprint,
                    const reco_stream_opts *opts)
{
    char table[32];
    int at = snprintf(key, 192, "%s:%s", s->spec.kind, s->spec.content);
    if (s->spec.model) {
        bool upright = reco_model_get_info(s->spec.model).preprocess.upright;
        at += snprintf(key + at, 192 - (size_t)at, ":%s%s", fingerprint, upright ? ":exif" : "");
    }
    if (opts && opts->dedup > 0)
        at += snprintf(key + at, 192 - (size_t)at, ":dedup=%.9g", (double)opts->dedup);
    reco_table_key(table, opts ? opts->table : NULL);
    snprintf(key + at, 192 - (size_t)at, "%s%s", table, s->several ? ":several" : "");
}

static reco_status begin(reco_ctx *ctx, reco_sink *s, const reco_stream_opts *opts)
{
    reco_sink_spec *spec = &s->spec;
    float dedup = opts ? opts->dedup : 0;
    char key[192], fingerprint[33] = "";
    int done = 0;
    RECO_TRY(reco_dedup_check(ctx, dedup));
    reco_model_info info = {0};
    if (spec->model) {
        RECO_TRY(reco_model_fingerprint(ctx, spec->model, fingerprint));
        info = reco_model_get_info(spec->model);
        spec->encoder = (reco_bank_spec){info.d, info.name, fingerprint, info.logit_scale};
    }
    s->d = spec->encoder.d;
    size_t usual = spec->model ? COMMIT_ROWS : COMMIT_VECTORS;
    s->commit = opts && opts->commit ? opts->commit : usual;
    if (dedup > 0) s->commit = reco_min(s->commit, reco_max(VECTORS, HELD_FLOATS / s->d));
    s->size = spec->model ? reco_batch(ctx, opts) : reco_min(VECTORS, s->commit);
    job_key(key, s, fingerprint, opts);
    if (!spec->build) RECO_TRY(check_bank(ctx, spec));
    RECO_TRY(reco_bank_writer_open(ctx, &s->writer, spec->bank, spec->build ? &spec->encoder : NULL, key,
                                   &s->next, &done));
    spec->encoder = (reco_bank_spec){0}; /* its strings end here */
    s->done = spec->build && done;
    if (s->done) return RECO_OK;
    if (done)
        s->next =
            0; /* what was added before is added once more: pairs that are still there are passed over */
    s->result->resumed = s->next;
    RECO_TRY(buffers(ctx, s));
    if (spec->model) RECO_TRY(reco_decoder_create(ctx, &s->decoder, spec->model, opts));
    if (dedup > 0) RECO_TRY(reco_dedup_open(ctx, &s->dedup, spec->bank, s->d, dedup));
    return reco_failures_resume(ctx, &s->failures, spec->bank, opts, s->next);
}

reco_status reco_sink_open(reco_ctx *ctx, reco_sink **out, const reco_sink_spec *spec,
                           const reco_stream_opts *opts, reco_stream_result *result)
{
    *out = NULL;
    reco_sink *s = reco_alloc(ctx, 1, sizeof *s, "pairs");
    if (!s) return RECO_E_NOMEM;
    s->spec = *spec;
    s->result = result;
    s->several = opts && opts->several_captions;
    reco_status status = begin(ctx, s, opts);
    if (status == RECO_OK)
        *out = s;
    else
        reco_sink_close(s);
    return status;
}

void reco_sink_close(reco_sink *s)
{
    if (!s) return;
    for (size_t i = 0; s->rows && i < s->n; i++) {
        reco_pair_row_free(&s->rows[i]);
        reco_free(s->reasons[i]);
    }
    reco_free(s->rows);
    reco_free(s->numbers);
    reco_free(s->hashes);
    reco_free(s->reasons);
    reco_free(s->image);
    reco_free(s->text);
    reco_decoder_free(s->decoder);
    reco_dedup_close(s->dedup);
    reco_bank_writer_close(s->writer);
    reco_failures_abort(&s->failures);
    reco_free(s);
}

bool reco_sink_is_done(const reco_sink *s) { return s->done; }
uint64_t reco_sink_next(const reco_sink *s) { return s->next; }

/* ---- a batch ---- */

/* Embed the pictures of what is not a failure already. image holds those that could be, side by side; at[] says which they
 * are. */
static reco_status embed_pictures(reco_ctx *ctx, reco_sink *s, size_t *at, size_t *good)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    const char **paths = reco_scratch(ctx, s->size, sizeof *paths, "pairs");
    reco_picture_bytes *data = reco_scratch(ctx, s->size, sizeof *data, "pairs");
    char **reasons = reco_scratch(ctx, s->size, sizeof *reasons, "pairs");
    size_t n = 0;
    *good = 0;
    if (!paths || !data || !reasons) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < s->n; i++) {
        if (s->reasons[i]) continue;
        paths[n] = s->rows[i].path;
        data[n] = (reco_picture_bytes){s->rows[i].data, s->rows[i].bytes};
        at[n++] = i;
    }
    RECO_GO(reco_decoder_embed(ctx, s->decoder, paths, data, n, s->image, reasons));
    for (size_t i = 0; i < n; i++) {
        s->reasons[at[i]] = reasons[i];
        if (reasons[i]) continue;
        if (*good != i) memcpy(s->image + *good * s->d, s->image + i * s->d, s->d * sizeof(float));
        at[(*good)++] = at[i];
    }
out:
    reco_scratch_release(ctx, mark);
    return status;
}

/* The same of vectors that came with the rows. */
static void close_up(reco_sink *s, size_t *at, size_t *good)
{
    *good = 0;
    for (size_t i = 0; i < s->n; i++) {
        if (s->reasons[i]) continue;
        if (*good != i) {
            memcpy(s->image + *good * s->d, s->image + i * s->d, s->d * sizeof(float));
            memcpy(s->text + *good * s->d, s->text + i * s->d, s->d * sizeof(float));
        }
        at[(*good)++] = i;
    }
}

static reco_status append(reco_ctx *ctx, reco_sink *s, const size_t *at, size_t good)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    const char **captions = reco_scratch(ctx, s->size, sizeof *captions, "pairs");
    reco_pair *pairs = reco_scratch(ctx, s->size, sizeof *pairs, "pairs");
    unsigned char *cut = reco_scratch(ctx, s->size, 1, "pairs");
    if (!captions || !pairs || !cut) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < good; i++) {
        const reco_pair_row *row = &s->rows[at[i]];
        captions[i] = row->caption;
        pairs[i] = (reco_pair){-1, row->caption, row->uri, row->meta};
    }
    if (s->spec.model) {
        RECO_GO(reco_model_embed_texts(ctx, s->spec.model, captions, good, s->text, cut));
        s->result->embedded += good;
        s->result->truncated += reco_count_cut(cut, good);
    }
    RECO_GO(reco_dedup_drop(ctx, s->dedup, s->image, s->text, pairs, &good, &s->result->near_duplicates));
    RECO_GO(reco_bank_append(ctx, s->writer, s->image, s->text, pairs, good));
    s->result->rows += good;
out:
    reco_scratch_release(ctx, mark);
    return status;
}

static reco_status report(reco_ctx *ctx, reco_sink *s, size_t i)
{
    const char *uri = s->rows[i].uri;
    char item[32];
    snprintf(item, sizeof item, "row %llu", (unsigned long long)s->numbers[i]);
    return reco_failures_add(ctx, &s->failures, s->numbers[i], uri && *uri ? uri : item, s->reasons[i]);
}

static reco_status flush(reco_ctx *ctx, reco_sink *s)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    size_t good, *at = reco_scratch(ctx, s->size, sizeof *at, "pairs");
    if (!at) RECO_GO(RECO_E_NOMEM);
    if (s->spec.model)
        RECO_GO(embed_pictures(ctx, s, at, &good));
    else
        close_up(s, at, &good);
    for (size_t i = 0; i < s->n; i++)
        if (s->reasons[i]) RECO_GO(report(ctx, s, i));
    if (good) RECO_GO(append(ctx, s, at, good));
    s->uncommitted += s->n;
out:
    for (size_t i = 0; i < s->n; i++) {
        reco_pair_row_free(&s->rows[i]);
        reco_free(s->reasons[i]);
        s->reasons[i] = NULL;
    }
    s->n = 0;
    s->held = 0;
    reco_scratch_release(ctx, mark);
    return status;
}

/* ---- what comes in ---- */

/* What is wrong with another row of this URI, NULL: nothing. The batch in flight counts too: the bank only knows of what was
 * appended. */
static const char *twin(const reco_sink *s, const reco_pair_row *row, uint64_t hash)
{
    for (size_t i = 0; i < s->n; i++) {
        if (s->hashes[i] != hash || s->reasons[i] || strcmp(s->rows[i].uri, row->uri) != 0) continue;
        if (strcmp(s->rows[i].caption, row->caption) == 0) return RECO_REPEATS;
        if (!s->several) return RECO_OTHER_TEXT;
    }
    return NULL;
}

/* Is it there already, in the bank or earlier in this batch? *reason: what is wrong with another row of this URI. */
static reco_status find_twin(reco_ctx *ctx, reco_sink *s, const reco_pair_row *row, uint64_t hash,
                             bool *before, const char **reason)
{
    reco_bank_held has;
    RECO_TRY(reco_bank_has(ctx, s->writer, row->uri, row->caption, &has));
    *before = has == RECO_HELD_BEFORE;
    if (*before || s->spec.exported) return RECO_OK;
    *reason = has == RECO_HELD_BY_JOB ? RECO_REPEATS : twin(s, row, hash);
    if (*reason || s->several) return RECO_OK;
    RECO_TRY(reco_bank_has(ctx, s->writer, row->uri, NULL, &has));
    if (has != RECO_HELD_NOT) *reason = RECO_OTHER_TEXT;
    return RECO_OK;
}

/* Into the batch, taken over; with a reason it is a failure. */
static reco_status put(reco_ctx *ctx, reco_sink *s, reco_pair_row *row, uint64_t number, uint64_t hash,
                       const char *reason)
{
    char *copy = reason ? reco_strdup(ctx, reason) : NULL;
    if (reason && !copy) return RECO_E_NOMEM;
    if (!s->spec.model && !reason) {
        memcpy(s->image + s->n * s->d, row->vectors[RECO_IMAGE], s->d * sizeof(float));
        memcpy(s->text + s->n * s->d, row->vectors[RECO_TEXT], s->d * sizeof(float));
    }
    s->held += row->bytes;
    s->rows[s->n] = *row;
    *row = (reco_pair_row){0};
    s->reasons[s->n] = copy;
    s->hashes[s->n] = hash;
    s->numbers[s->n++] = number;
    return s->n == s->size || s->held >= HELD_BYTES ? flush(ctx, s) : RECO_OK;
}

reco_status reco_sink_fail(reco_ctx *ctx, reco_sink *s, const char *item, const char *reason,
                           uint64_t number)
{
    reco_pair_row row = {.uri = reco_strdup(ctx, item ? item : "")};
    reco_status status = row.uri ? put(ctx, s, &row, number, 0, reason) : RECO_E_NOMEM;
    reco_pair_row_free(&row);
    return status;
}

static reco_status take(reco_ctx *ctx, reco_sink *s, reco_pair_row *row, uint64_t number)
{
    reco_status status =
        reco_bank_check_pair(ctx, s->writer, &(reco_pair){-1, row->caption, row->uri, row->meta});
    if (status == RECO_E_ARG) return put(ctx, s, row, number, 0, reco_ctx_error(ctx));
    RECO_TRY(status);
    bool before = false;
    const char *reason = NULL;
    uint64_t hash = 0;
    if (row->uri && *row->uri) { /* else nobody can tell */
        hash = reco_hash64(row->uri, strlen(row->uri), 1);
        RECO_TRY(find_twin(ctx, s, row, hash, &before, &reason));
    }
    if (!before) return put(ctx, s, row, number, hash, reason);
    s->result->duplicates++;
    return RECO_OK;
}

reco_status reco_sink_take(reco_ctx *ctx, reco_sink *s, reco_pair_row *row, uint64_t number)
{
    reco_status status = take(ctx, s, row, number);
    reco_pair_row_free(row);
    return status;
}

static reco_status commit(reco_ctx *ctx, reco_sink *s, uint64_t seen, int done)
{
    RECO_TRY(done ? reco_failures_commit(ctx, &s->failures) : reco_failures_sync(ctx, &s->failures));
    RECO_TRY(reco_bank_commit(ctx, s->writer, seen, done));
    s->uncommitted = 0;
    return s->dedup && !done ? reco_dedup_committed(ctx, s->dedup) : RECO_OK;
}

static reco_status tell(reco_ctx *ctx, const reco_sink *s, uint64_t seen, uint64_t total)
{
    return reco_progress(ctx, s->spec.model ? "embedding pairs" : "adding pairs", seen, total);
}

reco_status reco_sink_seen(reco_ctx *ctx, reco_sink *s, uint64_t seen)
{
    RECO_TRY(tell(ctx, s, seen, s->spec.total));
    return s->n == 0 && s->uncommitted >= s->commit ? commit(ctx, s, seen, 0) : RECO_OK;
}

reco_status reco_sink_finish(reco_ctx *ctx, reco_sink *s, uint64_t seen)
{
    RECO_TRY(flush(ctx, s));
    RECO_TRY(commit(ctx, s, seen, 1));
    s->result->failures = s->failures.count;
    return tell(ctx, s, seen, seen);
}
