#include "pipeline/export.h"
#include "pipeline/provenance.h"
#include "pipeline/sink.h"

#include <strings.h>

#define ROWS 1024
#define WORTH_A_THREAD 65536 /* floats */

/* A job is named by what the files are, not by their content, which may be many gigabytes. */
static void job_content(char content[80], const reco_embeddings *e, const float *first, const float *last,
                        size_t d)
{
    uint64_t hash = reco_hash64(first, d * sizeof(float), reco_embeddings_rows(e));
    hash = reco_hash64(last, d * sizeof(float), hash);
    snprintf(content, 80, "%zu:%zu:%016llx", reco_embeddings_rows(e), d, (unsigned long long)hash);
}

typedef struct ingest {
    reco_embeddings *source;
    reco_sink *sink;
    float *image, *text; /* [ROWS][d] */
    bool *whole[2];      /* [ROWS] by reco_side: the row could be made of norm 1 */
    reco_ctx *beside;    /* of the thread that reads texts while images are read */
    size_t d;
    bool exported; /* from a bank: names and ids are to be undone */
    const reco_table_opts *table;
    const reco_model *model; /* embeds the side that is not there; NULL: both are */
    const char *inside;      /* a path within the folder: what the names of pictures are taken from */
} ingest;

/* Names in what a bank exports: others are the user's. */
static const reco_table_opts exported_table = {.image_column = "image_path", .text_column = "caption"};

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
        if (!reco_embeddings_has(g->source, (reco_side)side)) continue;
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
static const char *judge_row(const ingest *g, size_t i, const char *reason)
{
    bool image = reco_embeddings_has(g->source, RECO_IMAGE),
         text = reco_embeddings_has(g->source, RECO_TEXT);
    if (image && !g->whole[RECO_IMAGE][i]) return "the image embedding is zero or not finite";
    if (text && !g->whole[RECO_TEXT][i]) return "the text embedding is zero or not finite";
    return reason;
}

/* What is to be embedded of the row must be there. */
static reco_status find_missing(reco_ctx *ctx, const ingest *g, reco_pair_row *row, const char **bad)
{
    if (!reco_embeddings_has(g->source, RECO_TEXT)) {
        if (!row->caption || !*row->caption) *bad = "no text";
        return RECO_OK;
    }
    if (reco_embeddings_has(g->source, RECO_IMAGE)) return RECO_OK;
    if (!row->uri || !*row->uri)
        *bad = "no image";
    else if (strncasecmp(row->uri, "http://", 7) == 0 || strncasecmp(row->uri, "https://", 8) == 0)
        *bad = "the image is a URL, which reco does not fetch";
    else if (!(row->path = reco_resolve_path(ctx, g->inside, row->uri)))
        return RECO_E_NOMEM;
    return RECO_OK;
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
    reco_status status = reco_pair_row_read(ctx, row, record, "", g->table, RECO_NEED_NOTHING, &reason);
    json_decref(record);
    *bad = reason;
    if (status == RECO_OK && !reason && g->exported) status = reco_export_undo(ctx, row);
    if (status == RECO_OK && !reason) status = find_missing(ctx, g, row, bad);
    return status;
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

/* Rows [from, from+n): vectors and metadata in step. */
static reco_status ingest_block(reco_ctx *ctx, ingest *g, uint64_t from, size_t n, bool skip)
{
    reco_pair_row row = {0};
    reco_status status;
    if (!skip) RECO_TRY(read_vectors(ctx, g, from, n));
    for (size_t i = 0; i < n; i++) {
        const char *bad;
        RECO_GO(read_record(ctx, g, &row, &bad));
        if (!skip) {
            bad = judge_row(g, i, bad);
            if (!row.caption && !(row.caption = reco_strdup(ctx, ""))) RECO_GO(RECO_E_NOMEM);
            row.vectors[RECO_IMAGE] = g->image + i * g->d;
            row.vectors[RECO_TEXT] = g->text + i * g->d;
            RECO_GO(bad ? reco_sink_fail(ctx, g->sink, row.uri, bad, from + i)
                        : reco_sink_take(ctx, g->sink, &row, from + i));
            RECO_GO(reco_sink_seen(ctx, g->sink, from + i + 1));
        }
        reco_pair_row_free(&row);
    }
    status = RECO_OK;
out:
    reco_pair_row_free(&row);
    return status;
}

/* A bank is searched from both sides. */
static reco_status refuse_one_side(reco_ctx *ctx, const char *dir, bool image)
{
    if (image)
        return reco_fail(
            ctx, RECO_E_NOTFOUND,
            "%s: no text_emb, want img_emb and text_emb; with --model the captions of the metadata are "
            "embedded; or write the captions to a file, one a line in the order of the rows, then: reco "
            "embed "
            "--model MODEL --texts FILE --out %s",
            dir, dir);
    return reco_fail(
        ctx, RECO_E_NOTFOUND,
        "%s: no img_emb, want img_emb and text_emb; with --model the pictures that the metadata name are "
        "embedded; or write their paths to a file, one a line in the order of the rows, then: reco embed "
        "--model MODEL --images FILE --out %s",
        dir, dir);
}

/* Can the model embed the side that is not there? */
static reco_status check_model(reco_ctx *ctx, const ingest *g, const char *dir, const reco_provenance *from)
{
    if (!g->model) return RECO_OK;
    char fingerprint[33];
    reco_model_info info = *reco_model_get_info(g->model);
    if (!reco_embeddings_has(g->source, RECO_IMAGE))
        RECO_TRY(reco_model_embed_pixels(ctx, g->model, NULL, 0, NULL)); /* has it that tower? */
    else
        RECO_TRY(reco_model_embed_texts(ctx, g->model, NULL, 0, NULL, NULL));
    if (info.d != g->d)
        return reco_fail(ctx, RECO_E_MISMATCH, "%s has vectors of width %zu, %s makes vectors of width %zu",
                         dir, g->d, info.name, info.d);
    RECO_TRY(reco_model_fingerprint(ctx, g->model, fingerprint));
    if (!*from->fingerprint || strcmp(from->fingerprint, fingerprint) == 0) return RECO_OK;
    return reco_fail(ctx, RECO_E_MISMATCH, "%s was made with encoder %s (%s), the model is %s (%s)", dir,
                     *from->encoder ? from->encoder : "unnamed", from->fingerprint, info.name, fingerprint);
}

/* What is missing of the parts, as failures behind the last row. */
static reco_status report_holes(reco_ctx *ctx, ingest *g, uint64_t *seen)
{
    const char *const *holes;
    size_t n = reco_embeddings_holes(g->source, &holes);
    uint64_t next = reco_sink_next(g->sink);
    for (size_t i = 0; i < n; i++, ++*seen)
        if (*seen >= next) RECO_TRY(reco_sink_fail(ctx, g->sink, "missing part", holes[i], *seen));
    return RECO_OK;
}

static reco_status open_source(reco_ctx *ctx, ingest *g, const char *embeddings, char content[80])
{
    RECO_TRY(reco_embeddings_open(ctx, &g->source, embeddings));
    size_t n = reco_embeddings_rows(g->source);
    g->d = reco_embeddings_width(g->source);
    const bool image = reco_embeddings_has(g->source, RECO_IMAGE),
               text = reco_embeddings_has(g->source, RECO_TEXT);
    if (image && text && g->model)
        return reco_fail(ctx, RECO_E_ARG,
                         "%s: has both sides, so there is nothing to embed; leave out --model, and name "
                         "the encoder with --encoder",
                         embeddings);
    if (!g->model && !(image && text)) return refuse_one_side(ctx, embeddings, image);
    RECO_TRY(reco_embeddings_need_metadata(ctx, g->source));
    if (g->model && !reco_embeddings_has_metadata(g->source))
        return reco_fail(ctx, RECO_E_NOTFOUND, "%s: no metadata, want metadata/ with %s to embed",
                         embeddings, image ? "captions" : "paths of pictures");
    if (n == 0) return reco_fail(ctx, RECO_E_FORMAT, "%s: no rows", embeddings);
    g->image = reco_alloc(ctx, ROWS * g->d, sizeof(float), "embeddings");
    g->text = reco_alloc(ctx, ROWS * g->d, sizeof(float), "embeddings");
    for (int side = 0; side < 2; side++) g->whole[side] = reco_alloc(ctx, ROWS, sizeof(bool), "pairs");
    RECO_TRY(reco_ctx_worker(ctx, &g->beside));
    if (!g->image || !g->text || !g->whole[0] || !g->whole[1]) return RECO_E_NOMEM;
    RECO_TRY(reco_embeddings_read(ctx, g->source, image ? RECO_IMAGE : RECO_TEXT, 0, 1, g->image));
    RECO_TRY(reco_embeddings_read(ctx, g->source, text ? RECO_TEXT : RECO_IMAGE, n - 1, 1, g->text));
    job_content(content, g->source, g->image, g->text, g->d);
    return RECO_OK;
}

reco_status reco_bank_ingest_embeddings(reco_ctx *ctx, const reco_model *model, const char *embeddings,
                                        const char *bank, int build, const reco_ingest_opts *opts,
                                        reco_stream_result *result)
{
    const reco_shard shard = opts ? opts->shard : (reco_shard){0};
    RECO_TRY(reco_reserved(ctx, "ingest", opts ? opts->reserved : NULL));
    RECO_TRY(reco_part_check(ctx, shard));
    double start = reco_now();
    *result = (reco_stream_result){0};
    ingest g = {.model = model};
    reco_records_counts before = {0}; /* of what is not this shard's */
    reco_status status;
    char *inside = NULL, content[80];
    reco_provenance from;
    RECO_GO(reco_dedup_check(ctx, opts ? opts->dedup : 0));
    RECO_GO(open_source(ctx, &g, embeddings, content));
    RECO_GO(reco_provenance_of(ctx, embeddings, opts ? opts->encoder : NULL, &from));
    RECO_GO(check_model(ctx, &g, embeddings, &from));
    if (from.refined)
        reco_log(ctx, RECO_LOG_WARN,
                 "%s: was refined; a bank needs the embeddings as the encoder made them", embeddings);
    if (!(g.inside = inside = reco_path_join(ctx, embeddings, "metadata"))) RECO_GO(RECO_E_NOMEM);
    g.exported = from.exported;
    uint64_t n = reco_embeddings_rows(g.source);
    reco_part part = reco_part_of(shard, n);
    uint64_t seen = part.end = reco_min(n, part.end);
    g.table = g.exported ? &exported_table : opts ? opts->table : NULL;
    reco_embeddings_read_as(g.source, g.table);
    const reco_sink_spec spec = {.bank = bank,
                                 .build = build != 0,
                                 .kind = "embeddings",
                                 .content = content,
                                 .source = embeddings,
                                 .is_folder = true,
                                 .model = model,
                                 .brings = {[RECO_IMAGE] = reco_embeddings_has(g.source, RECO_IMAGE),
                                            [RECO_TEXT] = reco_embeddings_has(g.source, RECO_TEXT)},
                                 .encoder = {.d = g.d,
                                             .encoder = from.encoder,
                                             .fingerprint = from.fingerprint,
                                             .logit_scale = from.logit_scale},
                                 .exported = g.exported,
                                 .first = part.begin,
                                 .total = n};
    RECO_GO(reco_sink_open(ctx, &g.sink, &spec, opts, result));
    if (reco_sink_is_done(g.sink)) goto out;
    if (reco_embeddings_has_metadata(g.source)) RECO_GO(reco_embeddings_rewind(ctx, g.source));
    uint64_t next = reco_max(part.begin, reco_sink_next(g.sink));
    for (uint64_t i = reco_embeddings_skip(g.source, part.begin), rows; i < part.end; i += rows) {
        bool skip = i < next; /* then no row of a block is to be looked at again, else all */
        rows = reco_min(ROWS, (i < part.begin ? part.begin : skip ? next : part.end) - i);
        RECO_GO(ingest_block(ctx, &g, i, rows, skip));
        if (i + rows <= part.begin) before = reco_embeddings_count(g.source);
    }
    if (part.end == n) { /* what is behind the last row is the last shard's */
        RECO_GO(check_end(ctx, &g));
        RECO_GO(report_holes(ctx, &g, &seen));
    }
    status = reco_sink_finish(ctx, g.sink, seen);
out:
    if (g.source) {
        reco_records_counts counts = reco_embeddings_count(g.source);
        result->dropped = counts.dropped - before.dropped;
        result->repaired = counts.repaired - before.repaired;
        result->joined = counts.joined - before.joined;
    }
    result->seconds = reco_now() - start;
    reco_embeddings_close(g.source);
    reco_free(g.image);
    reco_free(g.text);
    reco_free(g.whole[0]);
    reco_free(g.whole[1]);
    reco_free(inside);
    reco_ctx_free(g.beside);
    reco_sink_close(g.sink);
    return status;
}
