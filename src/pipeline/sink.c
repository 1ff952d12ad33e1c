#include "pipeline/sink_internal.h"
#include "pipeline/provenance.h"

/* Records between commits: a kill costs at most this many embeddings, and a commit costs a few fsyncs. */
#define COMMIT_ROWS 2048
#define COMMIT_CHANGES 16384 /* of an update, which writes whole segments anew */
/* Where nothing is embedded, so many, or a share of the bank's rows: each commit writes all pages of the catalog's indexes. */
#define COMMIT_VECTORS 65536
#define COMMIT_SHARE 2
#define COMMIT_MOST ((size_t)1 << 20)
#define COMMIT_TEXT ((size_t)256 << 20) /* bytes, of temporary files */
#define RECENT_PICTURES 4096            /* whose vectors are kept, for rows that name them again */
#define ROWS_A_PICTURE 4                /* room in a batch for captions of one picture */
#define VECTORS 1024                    /* rows of a batch where nothing is embedded */
#define HELD_BYTES ((size_t)64 << 20)   /* of pictures in memory, or one */
#define HELD_FLOATS ((size_t)8 << 20)   /* of pictures that are compared with later ones */

void reco_sink_clear(reco_sink_entry *e)
{
    reco_pair_row_free(&e->row);
    reco_free(e->reason);
    reco_free(e->resolved);
    *e = (reco_sink_entry){0};
}

static reco_status buffers(reco_ctx *ctx, reco_sink *s)
{
    reco_sink_recent *r = &s->recent;
    s->entries = reco_alloc(ctx, s->size, sizeof *s->entries, "pairs");
    s->image = reco_alloc(ctx, s->size * s->d, sizeof(float), "embeddings");
    s->text = reco_alloc(ctx, s->size * s->d, sizeof(float), "embeddings");
    if (!s->entries || !s->image || !s->text) return RECO_E_NOMEM;
    if (!s->spec.model) return RECO_OK;
    r->room = RECENT_PICTURES;
    r->contents = reco_alloc(ctx, r->room, sizeof *r->contents, "pictures");
    r->vectors = reco_alloc_raw(ctx, r->room * s->d, sizeof *r->vectors, "pictures");
    return r->contents && r->vectors ? RECO_OK : RECO_E_NOMEM;
}

static reco_status locations(reco_ctx *ctx, reco_sink *s)
{
    char *dir = s->spec.source ? s->spec.is_folder ? reco_strdup(ctx, s->spec.source)
                                                   : reco_path_dir(ctx, s->spec.source)
                               : NULL;
    s->cwd = reco_place_folder(ctx, NULL);
    if (dir) s->folder = reco_place_folder(ctx, dir);
    reco_free(dir);
    return s->cwd && (s->folder || !s->spec.source) ? RECO_OK : RECO_E_NOMEM;
}

/* Is what is to be added of the encoder of the bank that is there? */
static reco_status check_bank(reco_ctx *ctx, const reco_sink_spec *spec, bool *known)
{
    reco_bank *bank;
    RECO_TRY(reco_bank_open(ctx, &bank, spec->bank));
    const reco_bank_spec *from = &spec->encoder;
    reco_bank_info to = *reco_bank_get_info(bank);
    *known = *to.fingerprint;
    reco_status status = spec->model ? reco_check_encoder(ctx, spec->model, bank, NULL) : RECO_OK;
    reco_bank_close(bank);
    if (spec->model) return status;
    if (to.d != from->d)
        return reco_fail(ctx, RECO_E_MISMATCH, "%s has vectors of width %zu, %s of width %zu", spec->bank,
                         to.d, spec->source, from->d);
    if (reco_encoder_matches(from->encoder, from->fingerprint, to.encoder, to.fingerprint)) return RECO_OK;
    return reco_fail(ctx, RECO_E_MISMATCH, "%s was made with encoder %s (%s), %s with %s (%s)", spec->bank,
                     to.encoder, to.fingerprint, spec->source, from->encoder, from->fingerprint);
}

/* Source, encoder and what chooses among the rows name a job: the same command run again goes on with it. */
static void job_key(char key[288], const reco_sink *s, const char *fingerprint,
                    const reco_ingest_opts *opts)
{
    char table[32], part[48];
    int at = snprintf(key, 288, "%s:%s", s->spec.kind, s->spec.content);
    /* The same names in another folder are other pictures. */
    if (s->folder && !s->spec.is_folder)
        at += snprintf(key + at, 288 - (size_t)at, ":%016llx",
                       (unsigned long long)reco_hash64(s->folder, strlen(s->folder), 0));
    if (s->spec.model) {
        bool upright = reco_model_get_info(s->spec.model)->preprocess.upright;
        at += snprintf(key + at, 288 - (size_t)at, ":%s%s", fingerprint, upright ? ":exif" : "");
    }
    if (opts && opts->dedup > 0)
        at += snprintf(key + at, 288 - (size_t)at, ":dedup=%.9g", (double)opts->dedup);
    reco_table_key(table, opts ? opts->table : NULL);
    reco_part_key(part, opts ? opts->shard : (reco_shard){0});
    snprintf(key + at, 288 - (size_t)at, "%s%s%s", table, s->several ? ":several" : "", part);
}

static reco_status begin_sink(reco_ctx *ctx, reco_sink *s, const reco_ingest_opts *opts)
{
    reco_sink_spec *spec = &s->spec;
    const reco_embed_opts *embed = opts ? &opts->embed : NULL;
    float dedup = opts ? opts->dedup : 0;
    RECO_TRY(reco_reserved(ctx, "embed", embed ? embed->reserved : NULL));
    char key[288], fingerprint[33] = "";
    int done = 0;
    RECO_TRY(reco_dedup_check(ctx, dedup));
    reco_model_info info = {0};
    if (spec->model) {
        RECO_TRY(reco_model_fingerprint(ctx, spec->model, fingerprint));
        info = *reco_model_get_info(spec->model);
        spec->encoder = (reco_bank_spec){
            .d = info.d, .encoder = info.name, .fingerprint = fingerprint, .logit_scale = info.logit_scale};
    }
    s->d = spec->encoder.d;
    size_t usual = spec->update ? COMMIT_CHANGES : spec->model ? COMMIT_ROWS : COMMIT_VECTORS;
    s->commit = opts && opts->commit ? opts->commit : usual;
    s->grows = usual == COMMIT_VECTORS && !(opts && opts->commit) && !(dedup > 0);
    if (dedup > 0) s->commit = reco_min(s->commit, reco_max(VECTORS, HELD_FLOATS / s->d));
    s->most_pictures = spec->model ? reco_batch(ctx, embed) : reco_min(VECTORS, s->commit);
    s->size = spec->model ? ROWS_A_PICTURE * s->most_pictures : s->most_pictures;
    RECO_TRY(locations(ctx, s));
    job_key(key, s, fingerprint, opts);
    /* What a killed update has changed is found unchanged by the next: it needs no place to go on from. */
    if (spec->update) *key = 0;
    s->shares = spec->build;
    if (!spec->build) RECO_TRY(check_bank(ctx, spec, &s->shares));
    RECO_TRY(reco_bank_writer_open(ctx, &s->writer, spec->bank, spec->build ? &spec->encoder : NULL, key,
                                   &s->next, &done));
    if (spec->key) RECO_TRY(reco_bank_key_by(ctx, s->writer, spec->key));
    spec->encoder = (reco_bank_spec){0}; /* its strings end here */
    s->done = spec->build && done;
    if (s->done) return RECO_OK;
    if (done)
        s->next =
            0; /* what was added before is added once more: pairs that are still there are passed over */
    s->result->resumed = s->next - reco_min(s->next, spec->first);
    RECO_TRY(buffers(ctx, s));
    if (spec->model) RECO_TRY(reco_decoder_create(ctx, &s->decoder, spec->model, embed));
    if (dedup > 0) RECO_TRY(reco_dedup_open(ctx, &s->dedup, spec->bank, s->d, dedup));
    return reco_failures_resume(ctx, &s->failures, spec->bank, embed, s->next);
}

reco_status reco_sink_open(reco_ctx *ctx, reco_sink **out, const reco_sink_spec *spec,
                           const reco_ingest_opts *opts, reco_stream_result *result)
{
    *out = NULL;
    reco_sink *s = reco_alloc(ctx, 1, sizeof *s, "pairs");
    if (!s) return RECO_E_NOMEM;
    s->spec = *spec;
    s->result = result;
    s->several = opts && opts->several_captions;
    s->is_part = opts && reco_is_part(opts->shard);
    reco_status status = begin_sink(ctx, s, opts);
    if (status == RECO_OK)
        *out = s;
    else
        reco_sink_close(s);
    return status;
}

void reco_sink_close(reco_sink *s)
{
    if (!s) return;
    for (size_t i = 0; s->entries && i < s->n; i++) reco_sink_clear(&s->entries[i]);
    reco_free(s->entries);
    reco_free(s->image);
    reco_free(s->text);
    reco_free(s->recent.contents);
    reco_free(s->recent.vectors);
    reco_free(s->folder);
    reco_free(s->cwd);
    reco_decoder_free(s->decoder);
    reco_dedup_close(s->dedup);
    reco_bank_writer_close(s->writer);
    reco_failures_abort(&s->failures);
    reco_free(s);
}

bool reco_sink_is_done(const reco_sink *s) { return s->done; }
uint64_t reco_sink_next(const reco_sink *s) { return s->next; }

/* ---- what comes in ---- */

/* Does the batch have another entry of this picture? */
static bool is_picture_in_batch(const reco_sink *s, const reco_sink_entry *e)
{
    for (size_t i = s->n; i-- > 0 && reco_sink_has_place(e);)
        if (reco_sink_has_place(&s->entries[i]) &&
            memcmp(s->entries[i].place, e->place, RECO_BANK_HASH) == 0)
            return true;
    return false;
}

/* Into the batch; with a reason it is a failure. */
static reco_status put_entry(reco_ctx *ctx, reco_sink *s, reco_pair_row *row, uint64_t number,
                             const char *reason)
{
    reco_sink_entry *e = &s->entries[s->n];
    size_t at = s->n;
    *e = (reco_sink_entry){.row = *row, .number = number, .fate = RECO_SINK_ADD, .id = -1};
    *row = (reco_pair_row){0};
    reco_status status = reason ? reco_sink_refuse(ctx, e, reason) : reco_sink_locate(ctx, s, e);
    s->pictures += s->spec.model && !reason && !is_picture_in_batch(s, e);
    s->n++; /* it is freed with the batch */
    RECO_TRY(status);
    if (e->row.has_content) memcpy(e->content, e->row.content, RECO_BANK_HASH);
    e->has_content = e->row.has_content;
    for (int side = 0; side < 2 && !reason; side++)
        if (!reco_sink_embeds(s, (reco_side)side))
            memcpy((side == RECO_IMAGE ? s->image : s->text) + at * s->d, e->row.vectors[side],
                   s->d * sizeof(float));
    s->held += e->row.bytes;
    bool full = s->n == s->size || s->pictures == s->most_pictures || s->held >= HELD_BYTES;
    return full ? reco_sink_flush(ctx, s) : RECO_OK;
}

reco_status reco_sink_fail(reco_ctx *ctx, reco_sink *s, const char *item, const char *reason,
                           uint64_t number)
{
    reco_pair_row row = {.uri = reco_strdup(ctx, item ? item : "")};
    reco_status status = row.uri ? put_entry(ctx, s, &row, number, reason) : RECO_E_NOMEM;
    reco_pair_row_free(&row);
    return status;
}

reco_status reco_sink_take(reco_ctx *ctx, reco_sink *s, reco_pair_row *row, uint64_t number)
{
    const reco_pair pair = {.id = -1, .caption = row->caption, .uri = row->uri, .meta = row->meta};
    reco_status status = reco_bank_check_pair(ctx, s->writer, &pair);
    if (status == RECO_OK || status == RECO_E_ARG)
        status = put_entry(ctx, s, row, number, status == RECO_OK ? NULL : reco_ctx_error(ctx));
    reco_pair_row_free(row);
    return status;
}

static reco_status commit_sink(reco_ctx *ctx, reco_sink *s, uint64_t seen, int done)
{
    RECO_TRY(done ? reco_failures_commit(ctx, &s->failures) : reco_failures_sync(ctx, &s->failures));
    RECO_TRY(reco_bank_commit(ctx, s->writer, seen, done));
    s->uncommitted = s->bytes = 0;
    return s->dedup && !done ? reco_dedup_committed(ctx, s->dedup) : RECO_OK;
}

static reco_status report_progress(reco_ctx *ctx, const reco_sink *s, uint64_t seen, uint64_t total)
{
    return reco_progress(ctx, s->spec.model ? "embedding pairs" : "adding pairs", seen, total);
}

static bool is_due(const reco_sink *s)
{
    if (s->n || s->uncommitted < s->commit) return false;
    size_t rows = s->grows ? (size_t)reco_bank_writer_rows(s->writer) : 0;
    return s->uncommitted >= reco_min(COMMIT_MOST, rows / COMMIT_SHARE) || s->bytes >= COMMIT_TEXT;
}

reco_status reco_sink_seen(reco_ctx *ctx, reco_sink *s, uint64_t seen)
{
    RECO_TRY(report_progress(ctx, s, seen, s->spec.total));
    return is_due(s) ? commit_sink(ctx, s, seen, 0) : RECO_OK;
}

/* No record became a row, or was one: whoever looks at the exit code must not take that for success. A build leaves no bank. */
static reco_status nothing(reco_ctx *ctx, reco_sink *s, uint64_t seen)
{
    const char *source = s->spec.source ? s->spec.source : s->spec.kind;
    s->result->failures = s->failures.count;
    if (s->spec.build) {
        reco_bank_writer *w = s->writer;
        s->writer = NULL;
        reco_dedup_close(s->dedup);
        s->dedup = NULL;
        reco_failures_abort(&s->failures);
        RECO_TRY(reco_bank_writer_discard(ctx, w));
    }
    if (seen == 0) return reco_fail(ctx, RECO_E_NOTFOUND, "%s: no records; nothing was written", source);
    if (s->spec.key && !s->keyed)
        return reco_fail(ctx, RECO_E_NOTFOUND,
                         "%s: no record has a value of the key \"%s\" (want a column other than those of "
                         "pictures and captions); nothing was written",
                         source, s->spec.key);
    return reco_fail(ctx, RECO_E_NOTFOUND, "%s: none of %llu record%s became a row; nothing was written",
                     source, (unsigned long long)seen, seen == 1 ? "" : "s");
}

reco_status reco_sink_finish(reco_ctx *ctx, reco_sink *s, uint64_t seen)
{
    const reco_stream_result *r = s->result;
    RECO_TRY(reco_sink_flush(ctx, s));
    if (!s->is_part && r->rows + r->duplicates + r->near_duplicates + r->changed == 0 &&
        reco_bank_writer_added(s->writer) == 0)
        return nothing(ctx, s, seen);
    RECO_TRY(commit_sink(ctx, s, seen, 1));
    s->result->failures = s->failures.count;
    return report_progress(ctx, s, seen, seen);
}
