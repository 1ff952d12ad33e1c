#include "bank/postgres/write.h"
#include "kernels/kernels.h"

#include <math.h>

/* Strings and hashes of a pair in one block, as reco_pair_free takes it. */
static reco_status copy(reco_ctx *ctx, const reco_pair *from, reco_pair *to)
{
    const void *parts[] = {from->caption, from->uri, from->meta, from->base, from->place, from->content};
    const void **places[] = {(const void **)&to->caption, (const void **)&to->uri,
                             (const void **)&to->meta,    (const void **)&to->base,
                             (const void **)&to->place,   (const void **)&to->content};
    size_t bytes[6], total = 0;
    for (int i = 0; i < 6; i++) {
        bytes[i] = !parts[i] ? 0 : i < 4 ? strlen(parts[i]) + 1 : RECO_BANK_HASH;
        total += bytes[i];
    }
    *to = (reco_pair){.id = from->id};
    char *block = reco_alloc(ctx, total, 1, "pair");
    if (!block) return RECO_E_NOMEM;
    for (int i = 0; i < 6; i++) {
        if (!parts[i]) continue;
        memcpy(block, parts[i], bytes[i]);
        *places[i] = block;
        block += bytes[i];
    }
    return RECO_OK;
}

reco_status pg_change_row(reco_ctx *ctx, reco_bank_writer *w, const reco_pair *pair, const float *image,
                          const float *text)
{
    pg_writer *p = pg_writer_of(w);
    const float *x[2] = {[RECO_IMAGE] = image, [RECO_TEXT] = text};
    pg_change *changes =
        reco_grow(ctx, p->changes, p->nchanges, &p->changes_room, 64, sizeof *changes, "changed rows");
    if (!changes) return RECO_E_NOMEM;
    p->changes = changes;
    pg_change *c = &p->changes[p->nchanges++];
    *c = (pg_change){0};
    RECO_TRY(copy(ctx, pair, &c->pair));
    RECO_TRY(pg_know(ctx, p, pair));
    for (int side = 0; side < 2; side++) {
        if (!x[side]) continue;
        if (!(c->vectors[side] = reco_alloc(ctx, w->d, sizeof(uint16_t), "changed rows")))
            return RECO_E_NOMEM;
        reco_bank_round(c->vectors[side], x[side], w->d, sqrt(reco_dot_wide(ctx, x[side], x[side], w->d)));
    }
    return RECO_OK;
}

void pg_drop_changes(pg_writer *p)
{
    for (size_t i = 0; i < p->nchanges; i++) {
        reco_pair_free(&p->changes[i].pair);
        for (int side = 0; side < 2; side++) reco_free(p->changes[i].vectors[side]);
    }
    p->nchanges = 0;
}

typedef struct sending {
    pg_writer *p;
    unsigned char *vectors[2]; /* [4 + 4 d] */
    int64_t id;
} sending;

/* Where a row lies its server knows; the others find none. */
static reco_status ask(reco_ctx *ctx, void *arg, size_t shard, size_t i, pg_call *call)
{
    sending *s = arg;
    const pg_change *c = &s->p->changes[i];
    const reco_pair *pair = &c->pair;
    bool half = s->p->set.shards[shard].half[0];
    (void)ctx;
    call->sql = half ? "UPDATE reco_pair SET caption = $2, uri = $3, meta = $4::jsonb, base = $5, place = "
                       "$6::bytea, content = "
                       "$7::bytea, image = coalesce($8::halfvec, image), text = coalesce($9::halfvec, "
                       "text) WHERE id = $1::int8"
                     : "UPDATE reco_pair SET caption = $2, uri = $3, meta = $4::jsonb, base = $5, place = "
                       "$6::bytea, content = "
                       "$7::bytea, image = coalesce($8::vector, image), text = coalesce($9::vector, text) "
                       "WHERE id = $1::int8";
    pg_int(call, &s->id, pair->id);
    pg_text(call, pair->caption);
    pg_text(call, pair->uri);
    pg_text(call, pair->meta);
    pg_text(call, pair->base);
    pg_bytes(call, pair->place, RECO_BANK_HASH);
    pg_bytes(call, pair->content, RECO_BANK_HASH);
    for (int side = 0; side < 2; side++)
        if (c->vectors[side])
            pg_bytes(call, s->vectors[side],
                     pg_put_halves(s->vectors[side], c->vectors[side], half, s->p->w.d));
        else
            pg_text(call, NULL);
    return RECO_OK;
}

reco_status pg_send_changes(reco_ctx *ctx, pg_writer *p)
{
    if (p->nchanges == 0) return RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    sending s = {.p = p};
    reco_status status = RECO_E_NOMEM;
    for (int side = 0; side < 2; side++)
        if (!(s.vectors[side] = reco_scratch(ctx, 4 + 4 * p->w.d, 1, "changed rows"))) goto out;
    const pg_work work = {.calls = p->nchanges, .send = ask, .arg = &s, .bare = true};
    RECO_GO(pg_run(ctx, &p->set, &work));
    pg_drop_changes(p);
out:
    reco_scratch_release(ctx, mark);
    return status;
}
