#include "pipeline/export.h"

#define ROWS 1024
#define COMMIT_ROWS 65536
#define WORTH_A_THREAD 65536 /* floats */
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
    float *image, *text;
    bool *whole[2];   /* [ROWS] by reco_side: the row could be made of norm 1 */
    reco_ctx *beside; /* of the thread that reads texts while images are read */
    reco_pair_row *rows;
    reco_pair *pairs;
    uint64_t *hashes; /* [ROWS] of the uri of each of pairs that has one */
    size_t d;
    bool several;  /* captions of one URI */
    bool exported; /* from a bank: names and ids are to be undone */
} ingest;

typedef struct reading {
    ingest *g;
    reco_ctx *ctx[2];
    uint64_t from;
    size_t n;
    reco_status status[2];
} reading;

static void read_sides(void *arg, size_t begin, size_t end, int worker)
{
    reading *r = arg;
    ingest *g = r->g;
    (void)worker;
    for (size_t side = begin; side < end; side++) {
        float *x = side == RECO_IMAGE ? g->image : g->text;
        r->status[side] = reco_embeddings_read(r->ctx[side], g->source, (reco_side)side, r->from, r->n, x);
        for (size_t i = 0; i < r->n && r->status[side] == RECO_OK; i++)
            g->whole[side][i] = reco_unit_row(x + i * g->d, g->d);
    }
}

/* Rows [from, from+n) of both sides, made of norm 1. */
static reco_status read_vectors(reco_ctx *ctx, ingest *g, uint64_t from, size_t n)
{
    reading r = {g, {[RECO_IMAGE] = ctx, [RECO_TEXT] = g->beside}, from, n, {RECO_OK, RECO_OK}};
    reco_parallel(ctx, 2, n * g->d < WORTH_A_THREAD ? 2 : 1, read_sides, &r);
    RECO_TRY(r.status[RECO_IMAGE]);
    if (r.status[RECO_TEXT] == RECO_OK) return RECO_OK;
    return reco_fail(ctx, r.status[RECO_TEXT], "%s", reco_ctx_error(g->beside));
}

/* What is wrong with row i of the block, whose record was read; NULL: nothing. */
static const char *judge(const ingest *g, size_t i, const char *reason)
{
    if (!g->whole[RECO_IMAGE][i]) return "the image embedding is zero or not finite";
    if (!g->whole[RECO_TEXT][i]) return "the text embedding is zero or not finite";
    return reason;
}

/* The row's own record; bad holds what is wrong with that. */
static reco_status read_record(reco_ctx *ctx, ingest *g, reco_pair_row *row, const char **bad)
{
    json_t *record = NULL;
    uint64_t number;
    const char *reason = NULL;
    *bad = NULL;
    if (!reco_embeddings_has_metadata(g->source)) return RECO_OK;
    RECO_TRY(reco_embeddings_next(ctx, g->source, &record, &number, bad));
    if (!record) {
        if (!*bad) *bad = "no record in metadata/";
        return RECO_OK;
    }
    reco_status status = reco_pair_row_read(ctx, row, record, "",
                                            g->exported ? RECO_NEED_NOTHING : RECO_NEED_CAPTION, &reason);
    json_decref(record);
    *bad = reason;
    if (status == RECO_OK && !reason && g->exported) status = reco_export_undo(ctx, row);
    return status;
}

/* Is it there already, in the bank or earlier in this block? *reason: what is wrong with another row of this URI. */
static reco_status find_twin(reco_ctx *ctx, const ingest *g, const reco_pair *pair, size_t good,
                             bool *before, const char **reason)
{
    reco_bank_held has, other = RECO_HELD_NOT;
    g->hashes[good] = 0;
    if (!pair->uri || !*pair->uri) return RECO_OK; /* who can tell */
    RECO_TRY(reco_bank_has(ctx, g->writer, pair->uri, pair->caption, &has));
    *before = has == RECO_HELD_BEFORE;
    uint64_t hash = g->hashes[good] = reco_hash64(pair->uri, strlen(pair->uri), 1);
    if (*before || g->exported) return RECO_OK; /* a bank's own doubles are its own */
    if (has == RECO_HELD_NOT && !g->several)
        RECO_TRY(reco_bank_has(ctx, g->writer, pair->uri, NULL, &other));
    *reason = has != RECO_HELD_NOT ? RECO_REPEATS : other != RECO_HELD_NOT ? RECO_OTHER_TEXT : NULL;
    for (size_t i = 0; !*reason && i < good; i++) {
        const reco_pair *earlier = &g->pairs[i];
        if (g->hashes[i] != hash || !earlier->uri || strcmp(earlier->uri, pair->uri) != 0) continue;
        if (strcmp(earlier->caption, pair->caption) == 0)
            *reason = RECO_REPEATS;
        else if (!g->several)
            *reason = RECO_OTHER_TEXT;
    }
    return RECO_OK;
}

/* More records than rows: which of them are whose can't be told. */
static reco_status check_end(reco_ctx *ctx, ingest *g)
{
    json_t *record = NULL;
    uint64_t number;
    const char *bad;
    if (!reco_embeddings_has_metadata(g->source)) return RECO_OK;
    reco_status status = reco_embeddings_next(ctx, g->source, &record, &number, &bad);
    json_decref(record);
    return status;
}

/* Row `from + i` to place *good of the block, if it is one to be kept. */
static reco_status keep(reco_ctx *ctx, ingest *g, uint64_t from, size_t i, const char *reason, size_t *good,
                        reco_stream_result *result)
{
    const reco_pair_row *row = &g->rows[i];
    reco_pair pair = {-1, row->caption ? row->caption : "", row->uri, row->meta};
    bool before = false;
    reason = judge(g, i, reason);
    if (!reason) {
        reco_status status = reco_bank_check_pair(ctx, g->writer, &pair);
        if (status == RECO_E_ARG)
            reason = reco_ctx_error(ctx);
        else
            RECO_TRY(status);
    }
    if (!reason) RECO_TRY(find_twin(ctx, g, &pair, *good, &before, &reason));
    if (reason) {
        char item[64];
        snprintf(item, sizeof item, "row %llu", (unsigned long long)(from + i));
        return reco_failures_add(ctx, &g->failures, from + i, row->uri && *row->uri ? row->uri : item,
                                 reason);
    }
    if (before) {
        result->duplicates++;
        return RECO_OK;
    }
    if (*good < i) { /* libc copies a row onto itself, too */
        memcpy(g->image + *good * g->d, g->image + i * g->d, g->d * sizeof(float));
        memcpy(g->text + *good * g->d, g->text + i * g->d, g->d * sizeof(float));
    }
    g->pairs[(*good)++] = pair;
    return RECO_OK;
}

/* Rows [from, from+n): vectors and metadata in step, bad ones out. */
static reco_status block(reco_ctx *ctx, ingest *g, uint64_t from, size_t n, bool skip,
                         reco_stream_result *result)
{
    reco_status status = RECO_OK;
    size_t good = 0;
    memset(g->rows, 0, n * sizeof *g->rows);
    RECO_GO(read_vectors(ctx, g, from, n));
    for (size_t i = 0; i < n; i++) {
        const char *bad;
        RECO_GO(read_record(ctx, g, &g->rows[i], &bad));
        if (!skip) RECO_GO(keep(ctx, g, from, i, bad, &good, result));
    }
    RECO_GO(reco_dedup_drop(ctx, g->dedup, g->image, g->text, g->pairs, &good, &result->near_duplicates));
    if (good) RECO_GO(reco_bank_append(ctx, g->writer, g->image, g->text, g->pairs, good));
    result->rows += good;
out:
    for (size_t i = 0; i < n; i++) reco_pair_row_free(&g->rows[i]);
    return status;
}

static reco_status check_bank(reco_ctx *ctx, const char *path, const char *embeddings, size_t d,
                              const reco_bank_info *from)
{
    reco_bank *bank;
    RECO_TRY(reco_bank_open(ctx, &bank, path));
    reco_bank_info to = reco_bank_get_info(bank);
    reco_bank_close(bank);
    if (to.d != d)
        return reco_fail(ctx, RECO_E_MISMATCH, "%s holds vectors of %zu, %s has vectors of %zu", path, to.d,
                         embeddings, d);
    if (!*to.fingerprint || !*from->fingerprint || strcmp(to.fingerprint, from->fingerprint) == 0)
        return RECO_OK;
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
    char key[160], table[32];
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
    for (int side = 0; side < 2; side++) g.whole[side] = reco_alloc(ctx, ROWS, sizeof(bool), "pairs");
    RECO_GO(reco_ctx_worker(ctx, &g.beside));
    g.rows = reco_alloc(ctx, ROWS, sizeof *g.rows, "pairs");
    g.pairs = reco_alloc(ctx, ROWS, sizeof *g.pairs, "pairs");
    g.hashes = reco_alloc(ctx, ROWS, sizeof *g.hashes, "pairs");
    if (!g.image || !g.text || !g.whole[0] || !g.whole[1] || !g.rows || !g.pairs || !g.hashes)
        RECO_GO(RECO_E_NOMEM);
    RECO_GO(reco_embeddings_read(ctx, g.source, RECO_IMAGE, 0, 1, g.image));
    RECO_GO(reco_embeddings_read(ctx, g.source, RECO_TEXT, n - 1, 1, g.text));
    job_key(key, g.source, g.image, g.text, g.d);
    if (dedup > 0) snprintf(key + strlen(key), sizeof key - strlen(key), ":dedup=%.9g", (double)dedup);
    g.several = opts && opts->several_captions;
    reco_table_key(table, opts ? opts->table : NULL);
    snprintf(key + strlen(key), sizeof key - strlen(key), "%s%s", table, g.several ? ":several" : "");
    size_t commit_rows = opts && opts->commit ? opts->commit : COMMIT_ROWS, uncommitted = 0;
    if (dedup > 0) /* what is not committed is held in memory */
        commit_rows = reco_min(commit_rows, reco_max(ROWS, HELD_FLOATS / g.d / ROWS * ROWS));
    reco_bank_info from;
    RECO_GO(reco_export_read(ctx, embeddings, &from, &g.exported));
    if (!build) RECO_GO(check_bank(ctx, bank, embeddings, g.d, &from));
    reco_bank_spec spec = {g.d, from.encoder, from.fingerprint, from.logit_scale};
    RECO_GO(reco_bank_writer_open(ctx, &g.writer, bank, build ? &spec : NULL, key, &next, &done));
    if (build && done) goto out;
    if (done) next = 0;
    result->resumed = next;
    RECO_GO(reco_failures_resume(ctx, &g.failures, bank, opts, next));
    if (dedup > 0) RECO_GO(reco_dedup_open(ctx, &g.dedup, bank, g.d, dedup));
    if (reco_embeddings_has_metadata(g.source)) RECO_GO(reco_embeddings_rewind(ctx, g.source));
    for (uint64_t i = 0, rows; i < n; i += rows) {
        bool skip = i < next; /* then no row of a block is to be looked at again, else all */
        rows = reco_min(reco_min(ROWS, commit_rows), (skip ? next : n) - i);
        RECO_GO(block(ctx, &g, i, rows, skip, result));
        if (!skip) uncommitted += rows;
        if (uncommitted >= commit_rows && i + rows < n) {
            RECO_GO(reco_failures_sync(ctx, &g.failures));
            RECO_GO(reco_bank_commit(ctx, g.writer, i + rows, 0));
            if (g.dedup) RECO_GO(reco_dedup_committed(ctx, g.dedup));
            uncommitted = 0;
        }
        RECO_GO(reco_progress(ctx, "adding pairs", i + rows, n));
    }
    RECO_GO(check_end(ctx, &g));
    RECO_GO(reco_failures_commit(ctx, &g.failures));
    status = reco_bank_commit(ctx, g.writer, n, 1);
out:
    result->failures = g.failures.count;
    result->seconds = reco_now() - start;
    reco_embeddings_close(g.source);
    reco_bank_writer_close(g.writer);
    reco_failures_abort(&g.failures);
    reco_free(g.image);
    reco_free(g.text);
    reco_free(g.whole[0]);
    reco_free(g.whole[1]);
    reco_ctx_free(g.beside);
    reco_free(g.rows);
    reco_free(g.pairs);
    reco_free(g.hashes);
    reco_dedup_close(g.dedup);
    return status;
}
