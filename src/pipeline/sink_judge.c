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

reco_status reco_sink_judge(reco_ctx *ctx, reco_sink *s, size_t i)
{
    reco_sink_entry *e = &s->entries[i];
    if (e->fate == RECO_SINK_FAIL || !reco_sink_has_place(e)) return RECO_OK;
    return judge_added(ctx, s, i);
}

/* Does the bank's row show the picture whose vector is in the slot? */
static reco_status is_same(reco_ctx *ctx, reco_sink *s, size_t i, bool *same)
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
    RECO_TRY(is_same(ctx, s, i, &same));
    if (e->fate == RECO_SINK_COMPARE_TEXT) {
        e->fate = RECO_SINK_ADD;
        return same ? reco_sink_refuse(ctx, e, RECO_OTHER_TEXT) : RECO_OK;
    }
    if (same) {
        e->fate = RECO_SINK_PASS;
        return RECO_OK;
    }
    /* A row of an older bank may bear this name and be a picture of another folder. */
    reco_pair old;
    RECO_TRY(reco_bank_writer_get(ctx, s->writer, e->id, &old));
    e->fate = old.place || strcmp(old.uri, e->resolved) == 0 ? RECO_SINK_CHANGE : RECO_SINK_ADD;
    e->new_image = true;
    reco_pair_free(&old);
    return RECO_OK;
}
