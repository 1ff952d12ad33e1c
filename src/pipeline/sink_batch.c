#include "kernels/kernels.h"
#include "pipeline/sink_internal.h"

reco_pair reco_sink_pair(const reco_sink_entry *e)
{
    return (reco_pair){.id = -1,
                       .caption = e->row.caption,
                       .uri = e->row.uri,
                       .meta = e->row.meta,
                       .base = e->base,
                       .place = reco_sink_has_place(e) ? e->place : NULL,
                       .content = e->has_content ? e->content : NULL};
}

reco_status reco_sink_refuse(reco_ctx *ctx, reco_sink_entry *e, const char *reason)
{
    e->fate = RECO_SINK_FAIL;
    if (!e->reason) e->reason = reco_strdup(ctx, reason);
    return e->reason ? RECO_OK : RECO_E_NOMEM;
}

/* ---- pictures ---- */

/* Entries that name one picture share what is read of it. */
static void find_leaders(reco_sink *s)
{
    for (size_t i = 0; i < s->n; i++) {
        reco_sink_entry *e = &s->entries[i];
        e->leader = i;
        if (e->fate == RECO_SINK_FAIL || !reco_sink_has_place(e)) continue;
        for (size_t j = i; j-- > 0 && e->leader == i;)
            if (s->entries[j].fate != RECO_SINK_FAIL && reco_sink_has_place(&s->entries[j]) &&
                memcmp(s->entries[j].place, e->place, RECO_BANK_HASH) == 0)
                e->leader = s->entries[j].leader;
    }
}

/* The hash of each picture's file. What can't be read is left to the decoder, which says why. */
static reco_status read_contents(reco_ctx *ctx, reco_sink *s)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    const char **paths = reco_scratch(ctx, s->size, sizeof *paths, "pairs");
    reco_picture_bytes *data = reco_scratch(ctx, s->size, sizeof *data, "pairs");
    unsigned char(*hashes)[RECO_BANK_HASH] = reco_scratch(ctx, s->size, sizeof *hashes, "pairs");
    bool *good = reco_scratch(ctx, s->size, sizeof *good, "pairs");
    size_t *at = reco_scratch(ctx, s->size, sizeof *at, "pairs"), n = 0;
    if (!paths || !data || !hashes || !good || !at) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < s->n; i++) {
        const reco_sink_entry *e = &s->entries[i];
        if (e->fate == RECO_SINK_FAIL || e->leader != i) continue;
        paths[n] = e->row.path;
        data[n] = (reco_picture_bytes){.data = e->row.data, .bytes = e->row.bytes};
        at[n++] = i;
    }
    reco_decoder_hash(ctx, s->decoder, paths, data, n, hashes, good);
    for (size_t i = 0; i < n; i++) {
        reco_sink_entry *e = &s->entries[at[i]];
        e->has_content = good[i];
        if (good[i]) memcpy(e->content, hashes[i], RECO_BANK_HASH);
    }
    for (size_t i = 0; i < s->n; i++) {
        reco_sink_entry *e = &s->entries[i];
        if (e->fate == RECO_SINK_FAIL || e->leader == i) continue;
        e->has_content = s->entries[e->leader].has_content;
        memcpy(e->content, s->entries[e->leader].content, RECO_BANK_HASH);
    }
out:
    reco_scratch_release(ctx, mark);
    return status;
}

static bool wants_image(const reco_sink_entry *e)
{
    return e->fate == RECO_SINK_ADD || e->fate == RECO_SINK_COMPARE || e->fate == RECO_SINK_COMPARE_TEXT ||
           (e->fate == RECO_SINK_CHANGE && e->new_image);
}

static float *vector_slot(const reco_sink *s, size_t i) { return s->image + i * s->d; }

static void remember_content(reco_sink *s, const unsigned char *content, const float *x)
{
    reco_sink_recent *r = &s->recent;
    memcpy(r->contents[r->next], content, RECO_BANK_HASH);
    memcpy(r->vectors + r->next * s->d, x, s->d * sizeof *x);
    r->next = (r->next + 1) % r->room;
    r->n = reco_min(r->n + 1, r->room);
}

/* A picture that was embedded before, in this run or an earlier one: its vector to slot i. */
static reco_status reuse(reco_ctx *ctx, reco_sink *s, size_t i, int *found)
{
    const reco_sink_entry *e = &s->entries[i];
    *found = 0;
    if (!e->has_content) return RECO_OK;
    for (size_t j = 0; j < s->recent.n; j++) {
        if (memcmp(s->recent.contents[j], e->content, RECO_BANK_HASH) != 0) continue;
        memcpy(vector_slot(s, i), s->recent.vectors + j * s->d, s->d * sizeof(float));
        *found = 1;
        return RECO_OK;
    }
    return s->shares ? reco_bank_seek_picture(ctx, s->writer, e->content, vector_slot(s, i), found)
                     : RECO_OK;
}

/* Another entry of the batch before i whose vector is that of this picture. */
static size_t find_same_before(const reco_sink *s, size_t i, const bool *has)
{
    const reco_sink_entry *e = &s->entries[i];
    for (size_t j = 0; j < i; j++)
        if (has[j] && (s->entries[j].leader == e->leader ||
                       (e->has_content && s->entries[j].has_content &&
                        memcmp(s->entries[j].content, e->content, RECO_BANK_HASH) == 0)))
            return j;
    return i;
}

static reco_status embed_entries(reco_ctx *ctx, reco_sink *s, const size_t *at, size_t n, float *rows)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    const char **paths = reco_scratch(ctx, s->size, sizeof *paths, "pairs");
    reco_picture_bytes *data = reco_scratch(ctx, s->size, sizeof *data, "pairs");
    char **reasons = reco_scratch(ctx, s->size, sizeof *reasons, "pairs");
    if (!paths || !data || !reasons) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < n; i++) {
        const reco_sink_entry *e = &s->entries[s->entries[at[i]].leader];
        paths[i] = e->row.path;
        data[i] = (reco_picture_bytes){.data = e->row.data, .bytes = e->row.bytes};
    }
    status = reco_decoder_embed(ctx, s->decoder, paths, data, n, rows, reasons);
    for (size_t i = 0; i < n; i++) {
        reco_sink_entry *e = &s->entries[at[i]];
        if (status == RECO_OK && reasons[i]) status = reco_sink_refuse(ctx, e, reasons[i]);
        if (status == RECO_OK && !reasons[i]) {
            s->result->pictures++;
            memcpy(vector_slot(s, at[i]), rows + i * s->d, s->d * sizeof(float));
            if (e->has_content) remember_content(s, e->content, vector_slot(s, at[i]));
        }
        reco_free(reasons[i]);
    }
out:
    reco_scratch_release(ctx, mark);
    return status;
}

/* The vector of each entry that needs one, into its slot; each picture is decoded and embedded once. */
static reco_status embed_pictures(reco_ctx *ctx, reco_sink *s)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    size_t *at = reco_scratch(ctx, s->size, sizeof *at, "pairs"), n = 0;
    bool *has = reco_scratch(ctx, s->size, sizeof *has, "pairs");
    float *rows = reco_scratch(ctx, s->size * s->d, sizeof *rows, "embeddings");
    if (!at || !has || !rows) RECO_GO(RECO_E_NOMEM);
    memset(has, 0, s->size * sizeof *has);
    for (size_t i = 0; i < s->n; i++) {
        int found = 0;
        if (!wants_image(&s->entries[i]) || find_same_before(s, i, has) != i) continue;
        has[i] = true;
        RECO_GO(reuse(ctx, s, i, &found));
        if (!found) at[n++] = i;
    }
    if (n) RECO_GO(embed_entries(ctx, s, at, n, rows));
    for (size_t i = 0; i < s->n; i++) {
        if (!wants_image(&s->entries[i])) continue;
        size_t j = find_same_before(s, i, has);
        if (j == i) continue;
        if (s->entries[j].fate == RECO_SINK_FAIL)
            RECO_GO(reco_sink_refuse(ctx, &s->entries[i], s->entries[j].reason));
        else
            memcpy(vector_slot(s, i), vector_slot(s, j), s->d * sizeof(float));
    }
out:
    reco_scratch_release(ctx, mark);
    return status;
}

/* ---- texts ---- */

static bool wants_text(const reco_sink_entry *e)
{
    return e->fate == RECO_SINK_ADD || (e->fate == RECO_SINK_CHANGE && e->new_text);
}

/* Side by side, in the order of the entries. */
static reco_status embed_texts(reco_ctx *ctx, reco_sink *s)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    const char **captions = reco_scratch(ctx, s->size, sizeof *captions, "pairs");
    unsigned char *cut = reco_scratch(ctx, s->size, 1, "pairs");
    size_t n = 0;
    if (!captions || !cut) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < s->n; i++) {
        if (!wants_text(&s->entries[i])) continue;
        captions[n] = s->entries[i].row.caption;
        s->entries[i].at = n++;
    }
    if (n) RECO_GO(reco_model_embed_texts(ctx, s->spec.model, captions, n, s->text, cut));
    s->result->texts += n;
    s->result->truncated += reco_count_cut(cut, n);
out:
    reco_scratch_release(ctx, mark);
    return status;
}

/* ---- into the bank ---- */

/* An older bank's row of this very picture is given its place and content; what it says stays. */
static reco_status adopt(reco_ctx *ctx, reco_sink *s, const reco_sink_entry *e)
{
    reco_pair old, pair;
    RECO_TRY(reco_bank_writer_get(ctx, s->writer, e->id, &old));
    pair = old;
    reco_status status = RECO_OK;
    if (!old.place) {
        pair.place = e->place;
        pair.content = e->has_content ? e->content : NULL;
        pair.base = e->base && strcmp(old.uri, e->row.uri) == 0 ? e->base : NULL;
        status = reco_bank_change(ctx, s->writer, &pair, NULL, NULL);
    }
    reco_pair_free(&old);
    return status;
}

static reco_status change(reco_ctx *ctx, reco_sink *s, size_t i)
{
    const reco_sink_entry *e = &s->entries[i];
    reco_pair pair = reco_sink_pair(e);
    pair.id = e->id;
    const float *text = e->new_text ? s->text + e->at * s->d : NULL;
    RECO_TRY(reco_bank_change(ctx, s->writer, &pair, e->new_image ? vector_slot(s, i) : NULL, text));
    if (e->quiet)
        s->result->duplicates++;
    else
        s->result->changed++;
    s->result->embedded += s->spec.model && (e->new_image || e->new_text);
    return RECO_OK;
}

static reco_status append_entries(reco_ctx *ctx, reco_sink *s)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    reco_pair *pairs = reco_scratch(ctx, s->size, sizeof *pairs, "pairs");
    size_t n = 0, bytes = s->d * sizeof(float);
    if (!pairs) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < s->n; i++) {
        const reco_sink_entry *e = &s->entries[i];
        if (e->fate != RECO_SINK_ADD) continue;
        if (n != i) memcpy(vector_slot(s, n), vector_slot(s, i), bytes);
        if (n != e->at) memcpy(s->text + n * s->d, s->text + e->at * s->d, bytes);
        pairs[n++] = reco_sink_pair(e);
    }
    if (n == 0) goto out;
    if (s->spec.model) s->result->embedded += n;
    RECO_GO(reco_dedup_drop(ctx, s->dedup, s->image, s->text, pairs, &n, &s->result->near_duplicates));
    RECO_GO(reco_bank_append(ctx, s->writer, s->image, s->text, pairs, n));
    s->result->rows += n;
out:
    reco_scratch_release(ctx, mark);
    return status;
}

static reco_status report_refused(reco_ctx *ctx, reco_sink *s, const reco_sink_entry *e)
{
    const char *uri = e->row.uri;
    char item[32];
    snprintf(item, sizeof item, "row %llu", (unsigned long long)e->number);
    return reco_failures_add(ctx, &s->failures, e->number, uri && *uri ? uri : item, e->reason);
}

static reco_status flush_batch(reco_ctx *ctx, reco_sink *s)
{
    if (reco_sink_embeds(s, RECO_IMAGE)) {
        find_leaders(s);
        RECO_TRY(read_contents(ctx, s));
    }
    for (size_t i = 0; i < s->n; i++) {
        s->entries[i].at = i;
        RECO_TRY(reco_sink_judge(ctx, s, i));
    }
    if (reco_sink_embeds(s, RECO_IMAGE)) RECO_TRY(embed_pictures(ctx, s));
    for (size_t i = 0; i < s->n; i++) {
        reco_sink_fate fate = s->entries[i].fate;
        if (fate == RECO_SINK_COMPARE || fate == RECO_SINK_COMPARE_TEXT)
            RECO_TRY(reco_sink_compare(ctx, s, i));
    }
    if (reco_sink_embeds(s, RECO_TEXT)) RECO_TRY(embed_texts(ctx, s));
    for (size_t i = 0; i < s->n; i++) {
        const reco_sink_entry *e = &s->entries[i];
        if (e->fate == RECO_SINK_FAIL) RECO_TRY(report_refused(ctx, s, e));
        if (e->fate == RECO_SINK_PASS) {
            RECO_TRY(adopt(ctx, s, e));
            s->result->duplicates++;
        }
        if (e->fate == RECO_SINK_CHANGE) RECO_TRY(change(ctx, s, i));
    }
    return append_entries(ctx, s);
}

static size_t text_of(const reco_pair_row *row)
{
    const char *const texts[] = {row->caption, row->uri, row->meta};
    size_t bytes = 0;
    for (size_t i = 0; i < 3; i++) bytes += texts[i] ? strlen(texts[i]) : 0;
    return bytes;
}

reco_status reco_sink_flush(reco_ctx *ctx, reco_sink *s)
{
    reco_status status = s->n ? flush_batch(ctx, s) : RECO_OK;
    s->uncommitted += s->n;
    for (size_t i = 0; i < s->n; i++) {
        s->bytes += text_of(&s->entries[i].row);
        reco_sink_clear(&s->entries[i]);
    }
    s->n = s->pictures = 0;
    s->held = 0;
    return status;
}
