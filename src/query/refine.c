#include "kernels/kernels.h"
#include "query/query.h"

/* Items at a time, and floats of their neighbours' vectors. */
#define ITEMS 256
#define FLOATS ((size_t)1 << 24)

/* The first `want` of `have` places each. */
static void narrow(const reco_hits *to, size_t want, const reco_hits *from, size_t have, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (to->ids) memcpy(to->ids + i * want, from->ids + i * have, want * sizeof *to->ids);
        if (to->scores) memcpy(to->scores + i * want, from->scores + i * have, want * sizeof *to->scores);
        if (to->counts) to->counts[i] = reco_min(from->counts[i], want);
    }
}

/* Room for n items of k places; false without memory. */
static bool make_hits(reco_ctx *ctx, reco_hits *hits, size_t n, size_t k)
{
    *hits = (reco_hits){.ids = reco_scratch(ctx, n * k, sizeof *hits->ids, "hits"),
                        .scores = reco_scratch(ctx, n * k, sizeof *hits->scores, "hits"),
                        .counts = reco_scratch(ctx, n, sizeof *hits->counts, "hits")};
    return hits->ids && hits->scores && hits->counts;
}

/* The vectors [n][k][d] of the first k of `have` places each. */
static float *narrow_vectors(reco_ctx *ctx, const float *from, size_t have, size_t n, size_t k, size_t d)
{
    float *to = reco_scratch(ctx, n * k * d, sizeof *to, "retrieved");
    for (size_t i = 0; to && i < n; i++) memcpy(to + i * k * d, from + i * have * d, k * d * sizeof *to);
    return to;
}

/* Of n items and their neighbours the weights, and the refined rows. */
static reco_status fuse(reco_ctx *ctx, const reco_refining *w, const float *x, const reco_lookup *found,
                        size_t n, const reco_fused *out)
{
    const size_t k = w->s.k;
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    reco_hits near = found->hits;
    const float *retrieved = found->vectors[w->fused];
    if (w->fetch > k) {
        if (!make_hits(ctx, &near, n, k)) RECO_GO(RECO_E_NOMEM);
        narrow(&near, k, &found->hits, w->fetch, n);
        if (!(retrieved = narrow_vectors(ctx, retrieved, w->fetch, n, k, w->d))) RECO_GO(RECO_E_NOMEM);
    }
    const reco_fusion_input in = {.side = w->q->side,
                                  .x = x,
                                  .retrieved = retrieved,
                                  .scores = near.scores,
                                  .valid = near.counts,
                                  .n = n,
                                  .k = k};
    RECO_GO(reco_fusion_refine(ctx, w->memory->fusion, &in, out));
out:
    reco_scratch_release(ctx, mark);
    return status;
}

reco_status reco_refining_begin(reco_ctx *ctx, reco_refining *w, const reco_memory *memory,
                                const reco_question *question, const reco_refined *out)
{
    *w = (reco_refining){.memory = memory, .q = question, .searched = question->side};
    RECO_TRY(reco_reserved_of(ctx, "refine", out->reserved, RECO_RESERVED - 1));
    RECO_TRY(reco_reserved(ctx, "refine", out->hits.reserved));
    RECO_TRY(reco_check_question(ctx, memory, question));
    reco_memory_settle(memory, question->side, question->side, &w->s);
    w->d = reco_bank_get_info(memory->bank)->d;
    reco_fusion_config config = {0};
    if (memory->fusion) {
        config = *reco_fusion_get_config(memory->fusion);
        w->searched = reco_modality_side(config.search, question->side);
        w->fused = reco_modality_side(config.fuse, question->side);
    }
    bool lists = out->hits.ids || out->hits.scores || out->hits.counts || out->pairs;
    w->fuses = w->s.refines && (out->weights || (out->rows && config.layer != RECO_LAYER_MLP));
    w->reach = out->reach ? out->reach : w->s.k;
    w->fetch = reco_max(w->fuses ? w->s.k : 0, lists ? w->reach : 0);
    if (reco_max(w->s.k, w->reach) > RECO_BANK_MAX_K)
        return reco_fail(ctx, RECO_E_ARG, "bank: k = %zu, want 1..%d", reco_max(w->s.k, w->reach),
                         RECO_BANK_MAX_K);
    return RECO_OK;
}

reco_status reco_refining_seek(reco_ctx *ctx, const reco_refining *w, size_t from, size_t n,
                               const bool also[2], reco_lookup *lookup)
{
    *lookup =
        (reco_lookup){.side = w->searched,
                      .queries = w->q->x + from * w->d,
                      .nq = n,
                      .opts = {.k = w->fetch,
                               .min_similarity = w->s.min_similarity,
                               .filter = w->memory->filter,
                               .exclude = w->q->exclude ? w->q->exclude + from * w->q->nexclude : NULL,
                               .nexclude = w->q->nexclude,
                               .recall = w->memory->recall,
                               .asked = (reco_asked)(w->q->side + 1)}};
    if (!make_hits(ctx, &lookup->hits, n, w->fetch)) return RECO_E_NOMEM;
    for (reco_side side = 0; side < 2; side++) {
        if (!(w->fuses && side == w->fused) && !also[side]) continue;
        lookup->vectors[side] = reco_scratch(ctx, n * w->fetch * w->d, sizeof(float), "retrieved");
        if (!lookup->vectors[side]) return RECO_E_NOMEM;
    }
    return RECO_OK;
}

reco_status reco_refining_end(reco_ctx *ctx, const reco_refining *w, size_t from, size_t n,
                              const reco_lookup *found, const reco_refined *out)
{
    const float *x = w->q->x + from * w->d;
    const reco_fused fused = {.rows = out->rows ? out->rows + from * w->d : NULL,
                              .weights = out->weights ? out->weights + from * (w->s.k + 1) : NULL};
    const reco_hits listed = {.ids = out->hits.ids ? out->hits.ids + from * w->reach : NULL,
                              .scores = out->hits.scores ? out->hits.scores + from * w->reach : NULL,
                              .counts = out->hits.counts ? out->hits.counts + from : NULL};
    if (w->fuses)
        RECO_TRY(fuse(ctx, w, x, found, n, &fused));
    else if (w->s.refines && fused.rows) /* a layer that looks at no neighbours */
        RECO_TRY(reco_fusion_refine(ctx, w->memory->fusion,
                                    &(reco_fusion_input){.side = w->q->side, .x = x, .n = n, .k = w->s.k},
                                    &fused));
    else {
        if (fused.rows && fused.rows != x) memcpy(fused.rows, x, n * w->d * sizeof *x);
        for (size_t i = 0; fused.weights && i < n * (w->s.k + 1); i++)
            fused.weights[i] = i % (w->s.k + 1) == 0;
    }
    narrow(&listed, w->reach, &found->hits, w->fetch, n);
    return RECO_OK;
}

/* Of n items the pairs of the neighbours that are listed; the others go. */
static void hand_out(const reco_refining *w, reco_lookup *found, size_t n, reco_pair *to)
{
    for (size_t i = 0; i < n * w->fetch; i++) {
        reco_pair *pair = &found->pairs[i];
        size_t h = i % w->fetch;
        if (h < w->reach)
            to[i / w->fetch * w->reach + h] = *pair;
        else
            reco_pair_free(pair);
    }
}

reco_status reco_refine(reco_ctx *ctx, const reco_memory *memory, const reco_question *question,
                        const reco_refined *out)
{
    reco_refining w;
    RECO_TRY(reco_refining_begin(ctx, &w, memory, question, out));
    size_t places = out->pairs ? question->n * w.reach : 0;
    for (size_t i = 0; i < places; i++) out->pairs[i] = (reco_pair){.id = -1};
    size_t most = w.fuses ? reco_max(1, reco_min(ITEMS, FLOATS / (w.fetch * w.d))) : ITEMS;
    for (size_t i = 0, n; i < question->n; i += n) {
        reco_status status = RECO_OK;
        reco_mark mark = reco_scratch_mark(ctx);
        reco_lookup found;
        n = reco_min(most, question->n - i);
        RECO_GO(reco_refining_seek(ctx, &w, i, n, (const bool[2]){false, false}, &found));
        if (out->pairs) {
            found.pairs = reco_scratch(ctx, n * w.fetch, sizeof *found.pairs, "neighbours");
            if (!found.pairs) RECO_GO(RECO_E_NOMEM);
        }
        if (w.fetch) RECO_GO(reco_bank_look_up(ctx, memory->bank, &found, 1));
        if (out->pairs) hand_out(&w, &found, n, out->pairs + i * w.reach);
        RECO_GO(reco_refining_end(ctx, &w, i, n, &found, out));
    out:
        for (size_t j = 0; status != RECO_OK && j < places; j++) reco_pair_free(&out->pairs[j]);
        reco_scratch_release(ctx, mark);
        if (status != RECO_OK) return status;
    }
    return RECO_OK;
}
