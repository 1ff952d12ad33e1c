/* Hits of different pictures only: several captions of one picture are several rows. */
#include "kernels/kernels.h"
#include "query/query.h"

#define BLOCK ((size_t)64) /* queries at a time */
#define NEARLY 0.999       /* the same picture under one URI, but for rounding */

typedef struct distinct {
    const reco_bank *bank;
    reco_side side;
    reco_search_opts opts; /* k: of the next search */
    size_t d, k;
    /* of one query */
    reco_pictures chosen; /* [nexclude + k] what is left out and what was chosen */
    int64_t *seen;        /* rows that are left out or were looked at: [room] */
    size_t nseen, room;
} distinct;

static reco_status same_uri(reco_ctx *ctx, const reco_bank *bank, int64_t a, int64_t b, bool *same)
{
    reco_pair x = {0}, y = {0};
    reco_status status = reco_bank_get(ctx, bank, a, &x);
    if (status == RECO_OK) status = reco_bank_get(ctx, bank, b, &y);
    *same = status == RECO_OK && x.uri && y.uri && *x.uri && strcmp(x.uri, y.uri) == 0;
    reco_pair_free(&x);
    reco_pair_free(&y);
    return status;
}

/* By its vector; vectors that were computed in another way differ in their last digits. */
static reco_status is_known(reco_ctx *ctx, const reco_pictures *p, int64_t id, const float *vector,
                            bool *known)
{
    *known = false;
    for (size_t i = 0; i < p->n && !*known; i++) {
        const float *other = p->vectors + i * p->d;
        if (memcmp(vector, other, p->d * sizeof *vector) == 0)
            *known = true;
        else if (reco_dot(vector, other, p->d) > NEARLY)
            RECO_TRY(same_uri(ctx, p->bank, id, p->ids[i], known));
    }
    return RECO_OK;
}

reco_status reco_pictures_add(reco_ctx *ctx, reco_pictures *p, int64_t id, const float *vector, bool *added)
{
    bool known;
    RECO_TRY(is_known(ctx, p, id, vector, &known));
    *added = !known;
    if (known) return RECO_OK;
    memcpy(p->vectors + p->n * p->d, vector, p->d * sizeof *vector);
    p->ids[p->n++] = id;
    return RECO_OK;
}

reco_status reco_pictures_add_rows(reco_ctx *ctx, reco_pictures *p, const int64_t *ids, size_t n)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    float *vectors = reco_scratch(ctx, n * p->d, sizeof *vectors, "vectors");
    bool added;
    if (!vectors) RECO_GO(RECO_E_NOMEM);
    RECO_GO(reco_bank_gather(ctx, p->bank, RECO_IMAGE, ids, n, vectors));
    for (size_t i = 0; i < n; i++)
        if (ids[i] >= 0) RECO_GO(reco_pictures_add(ctx, p, ids[i], vectors + i * p->d, &added));
out:
    reco_scratch_release(ctx, mark);
    return status;
}

static reco_status remember(reco_ctx *ctx, distinct *s, const int64_t *ids, size_t n)
{
    if (n == 0) return RECO_OK;
    if (s->nseen + n > s->room) {
        size_t room = 2 * (s->nseen + n);
        int64_t *grown = reco_alloc(ctx, room, sizeof *grown, "rows");
        if (!grown) return RECO_E_NOMEM;
        if (s->nseen) memcpy(grown, s->seen, s->nseen * sizeof *grown);
        reco_free(s->seen);
        s->seen = grown;
        s->room = room;
    }
    memcpy(s->seen + s->nseen, ids, n * sizeof *ids);
    s->nseen += n;
    return RECO_OK;
}

/* Those of n hits that are other pictures, behind *count of `out`. */
static reco_status sift(reco_ctx *ctx, distinct *s, const int64_t *ids, const float *scores, size_t n,
                        int64_t *out, float *out_scores, size_t *count)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    float *vectors = reco_scratch(ctx, n * s->d, sizeof *vectors, "vectors");
    if (!vectors) RECO_GO(RECO_E_NOMEM);
    RECO_GO(reco_bank_gather(ctx, s->bank, RECO_IMAGE, ids, n, vectors));
    for (size_t i = 0; i < n && *count < s->k; i++) {
        bool added;
        RECO_GO(reco_pictures_add(ctx, &s->chosen, ids[i], vectors + i * s->d, &added));
        if (!added) continue;
        out[*count] = ids[i];
        out_scores[(*count)++] = scores[i];
    }
    status = remember(ctx, s, ids, n);
out:
    reco_scratch_release(ctx, mark);
    return status;
}

/* One query, whose first n hits are there; searches on, without the rows that were seen, until there are enough. */
static reco_status one(reco_ctx *ctx, distinct *s, const float *query, const int64_t *exclude, int64_t *ids,
                       float *scores, size_t n, int64_t *out, float *out_scores, size_t *count)
{
    reco_search_opts opts = s->opts;
    *count = s->chosen.n = s->nseen = 0;
    RECO_TRY(reco_pictures_add_rows(ctx, &s->chosen, exclude, opts.nexclude));
    RECO_TRY(remember(ctx, s, exclude, opts.nexclude));
    for (;;) {
        RECO_TRY(sift(ctx, s, ids, scores, n, out, out_scores, count));
        if (n < opts.k || *count == s->k) return RECO_OK;
        opts.exclude = s->seen;
        opts.nexclude = s->nseen;
        RECO_TRY(reco_bank_search(ctx, s->bank, s->side, query, 1, &opts,
                                  &(reco_hits){.ids = ids, .scores = scores, .counts = &n}));
    }
}

reco_status reco_search_distinct(reco_ctx *ctx, const reco_bank *bank, reco_side side, const float *queries,
                                 size_t nq, const reco_search_opts *opts, const reco_hits *hits)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    distinct s = {
        .bank = bank, .side = side, .d = reco_bank_get_info(bank)->d, .opts = RECO_SEARCH_OPTS_INIT};
    if (opts) s.opts = *opts;
    s.k = s.opts.k ? s.opts.k : 10;
    RECO_GO(reco_reserved(ctx, "search", hits->reserved));
    if (s.k > RECO_BANK_MAX_K)
        RECO_GO(reco_fail(ctx, RECO_E_ARG, "bank: k = %zu, want 1..%d", s.k, RECO_BANK_MAX_K));
    size_t most = s.opts.k = reco_min(RECO_BANK_MAX_K, 4 * s.k + 16), block = reco_min(BLOCK, nq);
    int64_t *ids = reco_scratch(ctx, block * most, sizeof *ids, "hits");
    float *scores = reco_scratch(ctx, block * most, sizeof *scores, "hits");
    size_t *counts = reco_scratch(ctx, block, sizeof *counts, "hits");
    const int64_t *exclude = s.opts.exclude;
    size_t nexclude = s.opts.nexclude;
    s.chosen =
        (reco_pictures){bank, s.d, 0, reco_scratch(ctx, s.k + nexclude, s.d * sizeof(float), "vectors"),
                        reco_scratch(ctx, s.k + nexclude, sizeof(int64_t), "hits")};
    if (!ids || !scores || !counts || !s.chosen.vectors || !s.chosen.ids) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < nq; i += block) {
        size_t n = reco_min(block, nq - i), found;
        if (nexclude) s.opts.exclude = exclude + i * nexclude;
        RECO_GO(reco_bank_search(ctx, bank, side, queries + i * s.d, n, &s.opts,
                                 &(reco_hits){.ids = ids, .scores = scores, .counts = counts}));
        for (size_t q = 0; q < n; q++) {
            int64_t *out = hits->ids + (i + q) * s.k;
            float *out_scores = hits->scores + (i + q) * s.k;
            RECO_GO(one(ctx, &s, queries + (i + q) * s.d, nexclude ? exclude + (i + q) * nexclude : NULL,
                        ids + q * most, scores + q * most, counts[q], out, out_scores, &found));
            if (hits->counts) hits->counts[i + q] = found;
            for (size_t j = found; j < s.k; j++) {
                out[j] = -1;
                out_scores[j] = 0;
            }
        }
    }
out:
    reco_free(s.seen);
    reco_scratch_release(ctx, mark);
    return status;
}
