#include "bank/write/writer.h"
#include "kernels/kernels.h"

#include <math.h>

#define NORM_TOLERANCE 1e-2
#define ROWS_PER_PIECE 64 /* of a batch, for one thread */

static const char *const side_names[] = {[RECO_IMAGE] = "image", [RECO_TEXT] = "text"};

/* ---- checks ---- */

static size_t utf8_length(const uint8_t *c)
{
    if (c[0] < 0x80) return 1;
    if (c[0] < 0xc2) return 0;
    if ((c[1] & 0xc0) != 0x80) return 0;
    if (c[0] < 0xe0) return 2;
    if ((c[2] & 0xc0) != 0x80) return 0;
    if (c[0] < 0xf0) /* no overlong forms, no surrogates */
        return (c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xed && c[1] > 0x9f) ? 0 : 3;
    if (c[0] > 0xf4 || (c[3] & 0xc0) != 0x80) return 0;
    return (c[0] == 0xf0 && c[1] < 0x90) || (c[0] == 0xf4 && c[1] > 0x8f) ? 0 : 4;
}

static bool is_utf8(const char *text)
{
    const uint8_t *c = (const uint8_t *)text;
    for (size_t n; *c; c += n)
        if ((n = utf8_length(c)) == 0) return false;
    return true;
}

static reco_status check_text(reco_ctx *ctx, const char *what, const char *text, size_t most)
{
    if (!text) return RECO_OK;
    size_t bytes = strnlen(text, most + 1);
    if (bytes > most) return reco_fail(ctx, RECO_E_ARG, "%s of more than %zu bytes", what, most);
    if (!is_utf8(text)) return reco_fail(ctx, RECO_E_ARG, "%s is not UTF-8", what);
    return RECO_OK;
}

static bool is_json_object(const char *text)
{
    json_t *value = NULL;
    bool yes = reco_json_parse_object(NULL, &value, text, strlen(text)) == RECO_OK;
    json_decref(value);
    return yes;
}

reco_status reco_bank_check_pair(reco_ctx *ctx, reco_bank_writer *w, const reco_pair *pair)
{
    if (!pair->caption) return reco_fail(ctx, RECO_E_ARG, "no caption");
    RECO_TRY(check_text(ctx, "caption", pair->caption, RECO_CAPTION_MAX));
    RECO_TRY(check_text(ctx, "uri", pair->uri, RECO_BANK_URI_MAX));
    RECO_TRY(check_text(ctx, "meta", pair->meta, RECO_BANK_META_MAX));
    bool is_object = true;
    if (pair->meta && w->ops)
        is_object = is_json_object(pair->meta);
    else if (pair->meta)
        RECO_TRY(reco_catalog_is_object(ctx, w->catalog, pair->meta, &is_object));
    return is_object ? RECO_OK : reco_fail(ctx, RECO_E_ARG, "meta is not a JSON object");
}

static reco_status check_pair(reco_ctx *ctx, reco_bank_writer *w, size_t row, const reco_pair *pair)
{
    char where[32];
    reco_status status = reco_bank_check_pair(ctx, w, pair);
    if (status != RECO_E_ARG) return status;
    snprintf(where, sizeof where, "row %zu", row);
    return reco_fail_prefix(ctx, status, where);
}

reco_status reco_bank_check_norm(reco_ctx *ctx, size_t row, reco_side side, const float *x, size_t d,
                                 double norm)
{
    if (fabs(norm - 1) <= NORM_TOLERANCE) return RECO_OK;
    for (size_t i = 0; i < d; i++)
        if (!isfinite(x[i]))
            return reco_fail(ctx, RECO_E_ARG, "row %zu: %s embedding is not finite at %zu", row,
                             side_names[side], i);
    return reco_fail(ctx, RECO_E_ARG, "row %zu: %s embedding has norm %g, want 1 within %g", row,
                     side_names[side], norm, NORM_TOLERANCE);
}

/* Rows on their way from the caller's floats, [n][d] by reco_side, to what the writer holds. */
typedef struct batch {
    const reco_ctx *ctx;
    const float *x[2];
    double *norms; /* [n][2] */
    uint16_t *to[2];
    size_t d;
} batch;

static void measure(void *arg, size_t begin, size_t end, int worker)
{
    const batch *b = arg;
    (void)worker;
    for (size_t i = begin; i < end; i++)
        for (size_t side = 0; side < 2; side++) {
            const float *x = b->x[side] + i * b->d;
            b->norms[2 * i + side] = sqrt(reco_dot_wide(b->ctx, x, x, b->d));
        }
}

/* ---- collecting ---- */

/* Room for `rows` rows in all; memory grows with what is held, so that small commits stay small. */
static reco_status reserve(reco_ctx *ctx, reco_bank_writer *w, size_t rows, size_t most)
{
    if (rows <= w->room) return RECO_OK;
    size_t room = reco_min(reco_max(rows, 2 * w->room), most);
    for (int side = 0; side < 2; side++) {
        uint16_t *grown = reco_alloc(ctx, room * w->d, sizeof *grown, "rows of a segment");
        if (!grown) return RECO_E_NOMEM;
        if (w->nheld) memcpy(grown, w->held[side], w->nheld * w->d * sizeof *grown);
        reco_free(w->held[side]);
        w->held[side] = grown;
    }
    w->room = room;
    return RECO_OK;
}

reco_status reco_bank_writer_join(reco_ctx *ctx, reco_bank_writer *w)
{
    if (!w->behind.file) return RECO_OK;
    RECO_TRY(reco_segment_join(ctx, &w->behind, w->catalog));
    w->files.items[w->files.n - 1] = w->behind.entry;
    return RECO_OK;
}

/* Two segments' rows are held at most: those that are collected and those on their way to the disk. */
reco_status reco_bank_writer_flush(reco_ctx *ctx, reco_bank_writer *w)
{
    if (w->nheld == 0) return RECO_OK;
    RECO_TRY(reco_bank_writer_join(ctx, w));
    reco_segment_job *j = &w->behind;
    reco_segment_entry *entry = reco_segment_push(ctx, &w->files);
    if (!entry) return RECO_E_NOMEM;
    entry->number = w->next_segment;
    entry->first = w->next_id - (int64_t)w->nheld;
    for (int side = 0; side < 2; side++) {
        uint16_t *free_rows = j->vectors[side];
        j->vectors[side] = w->held[side];
        w->held[side] = free_rows;
    }
    size_t room = w->behind_room;
    w->behind_room = w->room;
    w->room = room;
    j->entry = *entry;
    j->rows = w->nheld;
    j->d = w->d;
    j->dir = w->dir;
    j->scan = reco_bank_wants_scan(ctx, w, w->committed);
    j->directions = w->committed < RECO_SCAN_DEFAULT_ROWS;
    w->nheld = 0;
    RECO_TRY(reco_segment_start(ctx, j));
    memcpy(entry->file, j->entry.file, sizeof entry->file); /* to be removed if the writer gives up */
    w->next_segment++;
    return RECO_OK;
}

/* Unit norm in f32 first: rounding to f16 then moves each component by its own half unit, and no more. */
void reco_bank_round(uint16_t *to, const float *x, size_t d, double norm)
{
    float scale = (float)(1 / norm), block[256];
    for (size_t i = 0; i < d; i += 256) {
        size_t n = reco_min(256, d - i);
        for (size_t j = 0; j < n; j++) block[j] = x[i + j] * scale;
        reco_f32_to_f16_n(to + i, block, n);
    }
}

static void round_rows(void *arg, size_t begin, size_t end, int worker)
{
    const batch *b = arg;
    (void)worker;
    for (size_t i = begin; i < end; i++)
        for (size_t side = 0; side < 2; side++)
            reco_bank_round(b->to[side] + i * b->d, b->x[side] + i * b->d, b->d, b->norms[2 * i + side]);
}

static reco_status keep(reco_ctx *ctx, reco_bank_writer *w, batch *b, const reco_pair *pairs, size_t n)
{
    size_t d = w->d, most = reco_segment_most(d), rows;
    RECO_TRY(reco_catalog_stage(ctx, w->catalog, w->next_id, pairs, n));
    for (; n; n -= rows) {
        if (w->nheld == most) RECO_TRY(reco_bank_writer_flush(ctx, w));
        rows = reco_min(n, most - w->nheld);
        RECO_TRY(reserve(ctx, w, w->nheld + rows, most));
        for (int side = 0; side < 2; side++) b->to[side] = w->held[side] + w->nheld * d;
        reco_parallel(ctx, rows, ROWS_PER_PIECE, round_rows, b);
        for (int side = 0; side < 2; side++) b->x[side] += rows * d;
        b->norms += 2 * rows;
        w->nheld += rows;
        w->next_id += (int64_t)rows;
    }
    return RECO_OK;
}

reco_status reco_bank_append(reco_ctx *ctx, reco_bank_writer *w, const float *image, const float *text,
                             const reco_pair *pairs, size_t n)
{
    RECO_TRY(reco_bank_writer_check(ctx, w));
    if (n > (size_t)(RECO_BANK_MAX_ID - w->next_id))
        return reco_fail(ctx, RECO_E_ARG, "%s: has no ids left", w->dir);
    reco_mark start = reco_scratch_mark(ctx);
    reco_status status = RECO_E_NOMEM;
    double *norms = reco_scratch(ctx, n, 2 * sizeof *norms, "norms"); /* [n][2] */
    if (!norms) goto out;
    batch b = {ctx, {[RECO_IMAGE] = image, [RECO_TEXT] = text}, norms, {NULL, NULL}, w->d};
    reco_parallel(ctx, n, ROWS_PER_PIECE, measure, &b);
    /* All checks come first: what the caller can mend leaves the writer as it was. */
    for (size_t i = 0; i < n; i++) {
        for (reco_side side = 0; side < 2; side++)
            RECO_GO(reco_bank_check_norm(ctx, i, side, b.x[side] + i * w->d, w->d, norms[2 * i + side]));
        RECO_GO(check_pair(ctx, w, i, &pairs[i]));
    }
    status = w->broken = w->ops ? w->ops->append(ctx, w, b.x, norms, pairs, n) : keep(ctx, w, &b, pairs, n);
out:
    reco_scratch_release(ctx, start);
    return status;
}
