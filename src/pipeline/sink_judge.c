#include "pipeline/sink_internal.h"

#include <math.h>

#define SAME                                                                                               \
    0.9995 /* what a picture may come to when it is embedded twice, since rows are rounded to halves */

static bool same_place(const reco_sink_entry *a, const reco_sink_entry *b)
{
    return reco_sink_has_place(a) && reco_sink_has_place(b) &&
           memcmp(a->place, b->place, RECO_BANK_HASH) == 0;
}

/* What is wrong with another record of this picture earlier in the batch; NULL: nothing. */
static const char *twin(const reco_sink *s, size_t i)
{
    const reco_sink_entry *e = &s->entries[i];
    for (size_t j = 0; j < i; j++) {
        const reco_sink_entry *other = &s->entries[j];
        if (other->fate == RECO_SINK_FAIL || !same_place(e, other)) continue;
        if (strcmp(other->row.caption, e->row.caption) == 0) return RECO_REPEATS;
        if (!s->several) return RECO_OTHER_TEXT;
    }
    return NULL;
}

/* Another picture is never there already; the row of a picture that was replaced under its name gets the new one's vector. */
static reco_status judge_added(reco_ctx *ctx, reco_sink *s, size_t i)
{
    reco_sink_entry *e = &s->entries[i];
    reco_pair pair = reco_sink_pair(e);
    reco_bank_found found;
    RECO_TRY(reco_bank_seek(ctx, s->writer, &pair, e->resolved, 0, &found));
    e->id = found.id;
    if (found.held == RECO_HELD_BEFORE) {
        int met; /* by an earlier record of this run */
        RECO_TRY(reco_bank_touch(ctx, s->writer, found.id, &met));
        e->fate = met || found.same == RECO_PICTURE_SAME ? RECO_SINK_PASS
                  : found.same == RECO_PICTURE_OTHER     ? RECO_SINK_CHANGE
                                                         : RECO_SINK_COMPARE;
        e->new_image = e->fate == RECO_SINK_CHANGE;
        return RECO_OK;
    }
    if (s->spec.exported) return RECO_OK;
    const char *reason = found.held == RECO_HELD_BY_JOB ? RECO_REPEATS : twin(s, i);
    if (!reason && !s->several) {
        RECO_TRY(reco_bank_seek(ctx, s->writer, &pair, e->resolved, 1, &found));
        e->id = found.id;
        if (found.held == RECO_HELD_BY_JOB || found.same == RECO_PICTURE_SAME)
            reason = RECO_OTHER_TEXT;
        else if (found.id >= 0 && found.same == RECO_PICTURE_UNKNOWN)
            e->fate = RECO_SINK_COMPARE_TEXT;
        if (found.id < 0) reason = NULL;
    }
    return reason ? reco_sink_refuse(ctx, e, reason) : RECO_OK;
}

/* ---- update ---- */

#define REPEATS_KEY "an earlier row has this key"
#define SEVERAL_ROWS "several rows of the bank have this key"
#define NO_KEY "no value of the key"
#define SEVERAL_CAPTIONS                                                                                   \
    "several rows of the bank show this picture, with other captions: --several-captions adds one, --key " \
    "says which row it is"

/* Which row the record is of: e->id, -1 for a new one. */
static reco_status find_row(reco_ctx *ctx, reco_sink *s, size_t i, const reco_pair *pair)
{
    reco_sink_entry *e = &s->entries[i];
    reco_bank_found found;
    e->id = -1;
    if (s->spec.key) {
        int64_t rows, id = -1;
        RECO_TRY(reco_bank_seek_key(ctx, s->writer, pair->meta, &id, &rows));
        if (rows < 0) return reco_sink_refuse(ctx, e, NO_KEY);
        s->keyed = true;
        if (rows > 0 && id < 0) return reco_sink_refuse(ctx, e, REPEATS_KEY);
        if (rows > 1) return reco_sink_refuse(ctx, e, SEVERAL_ROWS);
        if (rows == 1) e->id = id;
        return RECO_OK;
    }
    RECO_TRY(reco_bank_seek(ctx, s->writer, pair, e->resolved, 0, &found));
    if (found.id < 0 && !s->several) RECO_TRY(reco_bank_seek(ctx, s->writer, pair, e->resolved, 1, &found));
    if (found.others) return reco_sink_refuse(ctx, e, SEVERAL_CAPTIONS);
    const char *reason = found.held == RECO_HELD_BY_JOB ? RECO_REPEATS : found.id < 0 ? twin(s, i) : NULL;
    if (reason) return reco_sink_refuse(ctx, e, reason);
    e->id = found.id;
    return RECO_OK;
}

/* What is wrong with a record whose row an earlier one was of. */
static const char *met_twice(const reco_sink *s, size_t i)
{
    const char *reason = twin(s, i);
    return reason ? reason : RECO_REPEATS;
}

static bool same_text(const char *a, const char *b) { return a == b || (a && b && strcmp(a, b) == 0); }

static reco_status same_meta(reco_ctx *ctx, const char *a, const char *b, bool *same)
{
    json_t *x = NULL, *y = NULL;
    *same = same_text(a, b);
    if (*same || !a || !b) return RECO_OK;
    reco_status status = reco_json_parse_object(ctx, &x, a, strlen(a));
    if (status == RECO_OK) status = reco_json_parse_object(ctx, &y, b, strlen(b));
    *same = status == RECO_OK && json_equal(x, y);
    json_decref(x);
    json_decref(y);
    return status == RECO_E_NOMEM ? status : RECO_OK;
}

static bool same_hash(const unsigned char *a, const unsigned char *b)
{
    return a && b && memcmp(a, b, RECO_BANK_HASH) == 0;
}

/* What of the row differs decides what is embedded again. */
static reco_status judge_updated(reco_ctx *ctx, reco_sink *s, size_t i)
{
    reco_sink_entry *e = &s->entries[i];
    const reco_pair pair = reco_sink_pair(e);
    int met;
    RECO_TRY(find_row(ctx, s, i, &pair));
    if (e->fate == RECO_SINK_FAIL || e->id < 0) return RECO_OK;
    RECO_TRY(reco_bank_touch(ctx, s->writer, e->id, &met));
    if (met) return reco_sink_refuse(ctx, e, s->spec.key ? REPEATS_KEY : met_twice(s, i));
    reco_pair old;
    bool meta;
    RECO_TRY(reco_bank_writer_get(ctx, s->writer, e->id, &old));
    reco_status status = same_meta(ctx, old.meta, pair.meta, &meta);
    e->new_text = strcmp(old.caption, pair.caption) != 0;
    e->new_image = !same_hash(old.content, pair.content);
    bool seen = meta && !e->new_text && same_text(old.uri, pair.uri) && same_text(old.base, pair.base);
    if (old.content || !pair.content) { /* one that can't be read fails when it is embedded */
        e->quiet = false;
        e->fate =
            seen && !e->new_image && same_hash(old.place, pair.place) ? RECO_SINK_PASS : RECO_SINK_CHANGE;
    } else {
        /* A row of an older bank, or of embeddings: whether it shows this picture, its vector tells. */
        e->fate = RECO_SINK_COMPARE;
        e->new_image = false;
        e->quiet = meta && !e->new_text && same_text(old.uri, pair.uri);
    }
    reco_pair_free(&old);
    return status;
}

reco_status reco_sink_judge(reco_ctx *ctx, reco_sink *s, size_t i)
{
    reco_sink_entry *e = &s->entries[i];
    if (e->fate == RECO_SINK_FAIL || !reco_sink_has_place(e)) return RECO_OK;
    return s->spec.update ? judge_updated(ctx, s, i) : judge_added(ctx, s, i);
}

/* Does the bank's row show the picture whose vector is in the slot? */
static reco_status is_same_picture(reco_ctx *ctx, reco_sink *s, size_t i, bool *same)
{
    reco_mark mark = reco_scratch_mark(ctx);
    float *stored = reco_scratch(ctx, s->d, sizeof *stored, "pairs"), *x = s->image + i * s->d;
    reco_status status = RECO_E_NOMEM;
    if (stored) status = reco_bank_writer_gather(ctx, s->writer, RECO_IMAGE, s->entries[i].id, stored);
    if (status == RECO_OK)
        *same =
            reco_dot(x, stored, s->d) >= SAME * sqrt(reco_dot(x, x, s->d) * reco_dot(stored, stored, s->d));
    reco_scratch_release(ctx, mark);
    return status;
}

reco_status reco_sink_compare(reco_ctx *ctx, reco_sink *s, size_t i)
{
    reco_sink_entry *e = &s->entries[i];
    bool same;
    RECO_TRY(is_same_picture(ctx, s, i, &same));
    if (e->fate == RECO_SINK_COMPARE_TEXT) {
        e->fate = RECO_SINK_ADD;
        return same ? reco_sink_refuse(ctx, e, RECO_OTHER_TEXT) : RECO_OK;
    }
    if (same && s->spec.update) {
        e->fate = RECO_SINK_CHANGE;
        return RECO_OK;
    }
    if (same) {
        e->fate = RECO_SINK_PASS;
        return RECO_OK;
    }
    /* A row of an older bank may bear this name and be a picture of another folder. */
    reco_pair old;
    RECO_TRY(reco_bank_writer_get(ctx, s->writer, e->id, &old));
    bool known = s->spec.key || old.place || (old.uri && strcmp(old.uri, e->resolved) == 0);
    e->fate = known ? RECO_SINK_CHANGE : RECO_SINK_ADD;
    e->new_image = true;
    e->quiet = false;
    reco_pair_free(&old);
    return RECO_OK;
}
