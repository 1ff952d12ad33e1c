#include "bank/bank_internal.h"
#include "bank/write/writer.h"
#include "kernels/kernels.h"

#include <math.h>
#include <stdlib.h>

/* Segments don't change: a row that gets other vectors keeps its id, and the segment that holds it is written anew, in the
 * place of the old one, by the commit. */

reco_status reco_bank_seek(reco_ctx *ctx, reco_bank_writer *w, const reco_pair *pair, const char *resolved,
                           int any_caption, reco_bank_found *out)
{
    unsigned char content[RECO_BANK_HASH];
    bool has_content, has_others;
    *out = (reco_bank_found){.id = -1};
    RECO_TRY(reco_bank_writer_check(ctx, w));
    RECO_TRY(w->ops ? w->ops->seek(ctx, w, pair, resolved, any_caption != 0, &out->id, content,
                                   &has_content, &has_others)
                    : reco_catalog_seek(ctx, w->catalog, pair, resolved, any_caption != 0, &out->id,
                                        content, &has_content, &has_others));
    if (out->id < 0) return RECO_OK;
    out->others = has_others;
    out->held = out->id < w->first ? RECO_HELD_BEFORE : RECO_HELD_BY_JOB;
    if (has_content && pair->content)
        out->same =
            memcmp(content, pair->content, RECO_BANK_HASH) == 0 ? RECO_PICTURE_SAME : RECO_PICTURE_OTHER;
    return RECO_OK;
}

reco_status reco_bank_touch(reco_ctx *ctx, reco_bank_writer *w, int64_t id, int *before)
{
    bool was;
    RECO_TRY(reco_bank_writer_check(ctx, w));
    RECO_TRY(w->ops ? w->ops->touch(ctx, w, id, &was) : reco_catalog_touch(ctx, w->catalog, id, &was));
    *before = was;
    return RECO_OK;
}

reco_status reco_bank_key_by(reco_ctx *ctx, reco_bank_writer *w, const char *column)
{
    if (!*column || strlen(column) > 1000)
        return reco_fail(ctx, RECO_E_ARG, "key \"%s\": want the name of a column", column);
    reco_free(w->key);
    w->key = reco_strdup(ctx, column);
    if (!w->key) return RECO_E_NOMEM;
    return w->ops ? w->ops->key_by(ctx, w) : reco_catalog_key_by(ctx, w->catalog, w->key);
}

reco_status reco_bank_seek_key(reco_ctx *ctx, reco_bank_writer *w, const char *meta, int64_t *id,
                               int64_t *rows)
{
    bool has = false;
    RECO_TRY(reco_bank_writer_check(ctx, w));
    *rows = -1;
    if (meta)
        RECO_TRY(w->ops ? w->ops->seek_key(ctx, w, meta, &has, id, rows)
                        : reco_catalog_seek_key(ctx, w->catalog, w->key, meta, &has, id, rows));
    if (!has) *rows = -1;
    if (*rows != 0) return RECO_OK;
    return w->ops ? w->ops->add_key(ctx, w, meta) : reco_catalog_add_key(ctx, w->catalog, w->key, meta);
}

/* The bank as of the last commit. */
static reco_status snapshot(reco_ctx *ctx, reco_bank_writer *w)
{
    return w->bank ? RECO_OK : reco_bank_open(ctx, &w->bank, w->dir);
}

reco_status reco_bank_seek_picture(reco_ctx *ctx, reco_bank_writer *w, const unsigned char *content,
                                   float *image, int *found)
{
    int64_t id;
    *found = 0;
    RECO_TRY(reco_bank_writer_check(ctx, w));
    RECO_TRY(w->ops ? w->ops->seek_content(ctx, w, content, &id)
                    : reco_catalog_seek_content(ctx, w->catalog, content, &id));
    if (id < 0) return RECO_OK;
    RECO_TRY(reco_bank_writer_gather(ctx, w, RECO_IMAGE, id, image));
    *found = 1;
    return RECO_OK;
}

reco_status reco_bank_writer_gather(reco_ctx *ctx, reco_bank_writer *w, reco_side side, int64_t id,
                                    float *out)
{
    if (w->ops) return w->ops->gather(ctx, w, side, id, out);
    RECO_TRY(snapshot(ctx, w));
    return reco_bank_gather(ctx, w->bank, side, &id, 1, out);
}

reco_status reco_bank_writer_get(reco_ctx *ctx, reco_bank_writer *w, int64_t id, reco_pair *out)
{
    if (w->ops) return w->ops->get(ctx, w, id, out);
    RECO_TRY(snapshot(ctx, w));
    return reco_bank_get(ctx, w->bank, id, out);
}

static reco_status reserve(reco_ctx *ctx, reco_bank_writer *w)
{
    if (w->npatches < w->patch_room) return RECO_OK;
    size_t room = reco_max(64, 2 * w->patch_room);
    reco_bank_patch *patches = reco_alloc(ctx, room, sizeof *patches, "changed rows");
    uint16_t *vectors = reco_alloc(ctx, room * w->d, sizeof *vectors, "changed rows");
    if (!patches || !vectors) {
        reco_free(patches);
        reco_free(vectors);
        return RECO_E_NOMEM;
    }
    if (w->npatches) memcpy(patches, w->patches, w->npatches * sizeof *patches);
    if (w->npatches) memcpy(vectors, w->patch_vectors, w->npatches * w->d * sizeof *vectors);
    reco_free(w->patches);
    reco_free(w->patch_vectors);
    w->patches = patches;
    w->patch_vectors = vectors;
    w->patch_room = room;
    return RECO_OK;
}

static reco_status add_patch(reco_ctx *ctx, reco_bank_writer *w, int64_t id, reco_side side, const float *x)
{
    RECO_TRY(reserve(ctx, w));
    w->patches[w->npatches] = (reco_bank_patch){id, side, w->npatches};
    reco_bank_round(w->patch_vectors + w->npatches * w->d, x, w->d, sqrt(reco_dot_wide(ctx, x, x, w->d)));
    w->npatches++;
    return RECO_OK;
}

reco_status reco_bank_change(reco_ctx *ctx, reco_bank_writer *w, const reco_pair *pair, const float *image,
                             const float *text)
{
    RECO_TRY(reco_bank_writer_check(ctx, w));
    if (pair->id < 0 || pair->id >= w->committed)
        return reco_fail(ctx, RECO_E_ARG, "%s: pair %lld is not in the bank", w->dir, (long long)pair->id);
    const float *x[2] = {[RECO_IMAGE] = image, [RECO_TEXT] = text};
    for (reco_side side = 0; side < 2; side++)
        if (x[side])
            RECO_TRY(reco_bank_check_norm(ctx, 0, side, x[side], w->d,
                                          sqrt(reco_dot_wide(ctx, x[side], x[side], w->d))));
    RECO_TRY(reco_bank_check_pair(ctx, w, pair));
    if (w->ops) return w->broken = w->ops->change(ctx, w, pair, image, text);
    w->broken = reco_catalog_stage_change(ctx, w->catalog, pair);
    for (reco_side side = 0; side < 2 && w->broken == RECO_OK; side++)
        if (x[side]) w->broken = add_patch(ctx, w, pair->id, side, x[side]);
    w->changed = true;
    return w->broken;
}

/* ---- at the commit ---- */

/* By side and id, the latest of a row last. */
static int order(const void *a, const void *b)
{
    const reco_bank_patch *x = a, *y = b;
    if (x->side != y->side) return x->side < y->side ? -1 : 1;
    if (x->id != y->id) return x->id < y->id ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* The first patch of this side at or after id. */
static size_t first_patch(const reco_bank_writer *w, reco_side side, int64_t id)
{
    size_t lo = 0, hi = w->npatches;
    const reco_bank_patch want = {id, side, 0};
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (order(&w->patches[mid], &want) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static bool is_patched(const reco_bank_writer *w, const reco_segment *s)
{
    int64_t first = reco_segment_id(s, 0), last = reco_segment_id(s, s->rows - 1);
    for (reco_side side = 0; side < 2; side++) {
        size_t i = first_patch(w, side, first);
        if (i < w->npatches && w->patches[i].side == side && w->patches[i].id <= last) return true;
    }
    return false;
}

static reco_status put_side(reco_ctx *ctx, const reco_bank_writer *w, reco_segment_file *file,
                            const reco_segment *s, reco_side side)
{
    size_t i = first_patch(w, side, reco_segment_id(s, 0)), bytes = w->d * sizeof(uint16_t);
    for (size_t row = 0; row < s->rows; row++) {
        const uint16_t *data = s->vectors[side] + row * w->d;
        int64_t id = reco_segment_id(s, row);
        for (; i < w->npatches && w->patches[i].side == side && w->patches[i].id <= id; i++)
            if (w->patches[i].id == id) data = w->patch_vectors + w->patches[i].at * w->d;
        RECO_TRY(reco_segment_put(ctx, file, data, bytes));
    }
    return RECO_OK;
}

static reco_status rewrite(reco_ctx *ctx, reco_bank_writer *w, const reco_segment *s,
                           const reco_segment_entry *old)
{
    RECO_TRY(reco_segment_check_sum(ctx, s, old)); /* damage must not get a new, right checksum */
    reco_segment_entry *gone = reco_segment_push(ctx, &w->old), *entry = reco_segment_push(ctx, &w->files);
    if (!gone || !entry) return RECO_E_NOMEM;
    *gone = *old;
    entry->number = w->next_segment++;
    entry->first = old->first;
    reco_segment_file *file;
    reco_status status;
    RECO_TRY(reco_segment_begin(ctx, &file, entry, w->dir, s->rows, w->d, s->ids != NULL));
    for (reco_side side = 0; side < 2; side++) RECO_GO(put_side(ctx, w, file, s, side));
    if (s->ids) RECO_GO(reco_segment_put(ctx, file, s->ids, s->rows * sizeof(int64_t)));
    return reco_segment_commit(ctx, file, w->catalog, entry);
out:
    reco_segment_abort(file);
    return status;
}

reco_status reco_bank_rewrite_changed(reco_ctx *ctx, reco_bank_writer *w)
{
    if (w->npatches == 0) return RECO_OK;
    qsort(w->patches, w->npatches, sizeof *w->patches, order);
    RECO_TRY(snapshot(ctx, w));
    for (size_t i = 0; i < w->bank->nsegments; i++)
        if (is_patched(w, &w->bank->segments[i]))
            RECO_TRY(rewrite(ctx, w, &w->bank->segments[i], &w->bank->entries[i]));
    return RECO_OK;
}

/* After the commit: the old files are of no use any more to anyone who opens the bank. */
void reco_bank_changes_committed(reco_ctx *ctx, reco_bank_writer *w)
{
    bool had_scan = w->bank && w->bank->info.scan_rows > 0;
    size_t made = 0;
    reco_bank_close(w->bank); /* it shows what was there before, and else the log can't be emptied */
    w->bank = NULL;
    w->npatches = 0;
    w->changed = false;
    if (w->old.n == 0) return;
    w->old.n = 0;
    reco_segment_list named;
    reco_status status = reco_catalog_segments(ctx, w->catalog, &named);
    if (status == RECO_OK) status = reco_segment_sweep(ctx, w->catalog, w->dir, &named);
    reco_free(named.items);
    if (status == RECO_OK && had_scan) status = reco_bank_index_all(ctx, w, &made);
    if (status != RECO_OK) reco_log(ctx, RECO_LOG_WARN, "%s", reco_ctx_error(ctx));
}
