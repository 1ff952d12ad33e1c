#include "kernels/kernels.h"
#include "query/query.h"

/* Items at a time: k vectors are gathered for each. */
#define ITEMS 256

typedef struct work {
    const reco_memory *memory;
    const reco_question *q;
    reco_settings s;
    reco_fusion_config config;
    reco_side searched, fused;
    size_t d, reach, fetch; /* neighbours that are listed, that are looked for */
    bool fuses;             /* neighbours take part */
} work;

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

/* Of n items and their neighbours the weights, and the refined rows. retrieved [n][k][d] has what is fused, where no more than k
 * were looked for. */
static reco_status fuse(reco_ctx *ctx, const work *w, const float *x, const reco_hits *found,
                        float *retrieved, size_t n, const reco_fused *out)
{
    const size_t k = w->s.k;
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    reco_hits near = *found;
    if (w->fetch > k) {
        if (!make_hits(ctx, &near, n, k)) RECO_GO(RECO_E_NOMEM);
        narrow(&near, k, found, w->fetch, n);
        RECO_GO(reco_bank_gather(ctx, w->memory->bank, w->fused, near.ids, n * k, retrieved));
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

static reco_status block(reco_ctx *ctx, const work *w, size_t from, size_t n, const reco_refined *out)
{
    const float *x = w->q->x + from * w->d;
    const reco_fused fused = {.rows = out->rows ? out->rows + from * w->d : NULL,
                              .weights = out->weights ? out->weights + from * (w->s.k + 1) : NULL};
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    reco_search_opts search = {.k = w->fetch,
                               .min_similarity = w->s.min_similarity,
                               .filter = w->memory->filter,
                               .exclude = w->q->exclude ? w->q->exclude + from * w->q->nexclude : NULL,
                               .nexclude = w->q->nexclude,
                               .recall = w->memory->recall,
                               .asked = (reco_asked)(w->q->side + 1)};
    reco_hits found, listed = {.ids = out->hits.ids ? out->hits.ids + from * w->reach : NULL,
                               .scores = out->hits.scores ? out->hits.scores + from * w->reach : NULL,
                               .counts = out->hits.counts ? out->hits.counts + from : NULL};
    float *retrieved = reco_scratch(ctx, w->fuses ? n * w->s.k * w->d : 0, sizeof *retrieved, "retrieved"),
          *vectors[2] = {NULL, NULL};
    if (!make_hits(ctx, &found, n, w->fetch) || !retrieved) RECO_GO(RECO_E_NOMEM);
    if (w->fuses && w->fetch == w->s.k) vectors[w->fused] = retrieved;
    if (w->fetch)
        RECO_GO(reco_bank_retrieve(ctx, w->memory->bank, w->searched, x, n, &search, &found, vectors));
    if (w->fuses)
        RECO_GO(fuse(ctx, w, x, &found, retrieved, n, &fused));
    else if (w->s.refines && fused.rows) /* a layer that looks at no neighbours */
        RECO_GO(reco_fusion_refine(ctx, w->memory->fusion,
                                   &(reco_fusion_input){.side = w->q->side, .x = x, .n = n, .k = w->s.k},
                                   &fused));
    else {
        if (fused.rows && fused.rows != x) memcpy(fused.rows, x, n * w->d * sizeof *x);
        for (size_t i = 0; fused.weights && i < n * (w->s.k + 1); i++)
            fused.weights[i] = i % (w->s.k + 1) == 0;
    }
    narrow(&listed, w->reach, &found, w->fetch, n);
out:
    reco_scratch_release(ctx, mark);
    return status;
}

reco_status reco_refine(reco_ctx *ctx, const reco_memory *memory, const reco_question *question,
                        const reco_refined *out)
{
    work w = {.memory = memory, .q = question, .searched = question->side};
    RECO_TRY(reco_reserved(ctx, "refine", out->reserved));
    RECO_TRY(reco_reserved(ctx, "refine", out->hits.reserved));
    RECO_TRY(reco_check_question(ctx, memory, question));
    reco_memory_settle(memory, question->side, question->side, &w.s);
    w.d = reco_bank_get_info(memory->bank)->d;
    if (memory->fusion) {
        w.config = *reco_fusion_get_config(memory->fusion);
        w.searched = reco_modality_side(w.config.search, question->side);
        w.fused = reco_modality_side(w.config.fuse, question->side);
    }
    bool lists = out->hits.ids || out->hits.scores || out->hits.counts;
    w.fuses = w.s.refines && (out->weights || (out->rows && w.config.layer != RECO_LAYER_MLP));
    w.reach = out->reach ? out->reach : w.s.k;
    w.fetch = reco_max(w.fuses ? w.s.k : 0, lists ? w.reach : 0);
    if (reco_max(w.s.k, w.reach) > RECO_BANK_MAX_K)
        return reco_fail(ctx, RECO_E_ARG, "bank: k = %zu, want 1..%d", reco_max(w.s.k, w.reach),
                         RECO_BANK_MAX_K);
    for (size_t i = 0; i < question->n; i += ITEMS)
        RECO_TRY(block(ctx, &w, i, reco_min(ITEMS, question->n - i), out));
    return RECO_OK;
}
