/* Hits of different pictures only: several captions of one picture are several rows. */
#include "kernels/kernels.h"
#include "query/query.h"

#define BLOCK ((size_t)64)       /* queries at a time, */
#define FLOATS ((size_t)1 << 23) /* and floats of their hits' vectors */
#define NEARLY 0.999             /* the same picture under one URI, but for rounding */

typedef struct distinct {
    const reco_bank *bank;
    const reco_lookup *out;
    size_t d, k;
    /* What is looked up, of a block of queries or of one that is not done: more hits than k. */
    reco_lookup found;
    /* of one query */
    reco_pictures chosen; /* [nexclude + k] what is left out and what was chosen */
    reco_id_list seen;    /* rows that are left out or were looked at */
} distinct;

static reco_status same_uri(reco_ctx *ctx, const reco_bank *bank, int64_t a, int64_t b, bool *same)
{
    reco_pair pairs[2];
    RECO_TRY(reco_bank_get_many(ctx, bank, (const int64_t[2]){a, b}, 2, pairs));
    *same = pairs[0].uri && pairs[1].uri && *pairs[0].uri && strcmp(pairs[0].uri, pairs[1].uri) == 0;
    for (int i = 0; i < 2; i++) reco_pair_free(&pairs[i]);
    return RECO_OK;
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

/* Those of n rows that are left out; -1 is none. */
static reco_status leave_out(reco_ctx *ctx, reco_pictures *p, const int64_t *ids, size_t n)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    float *vectors = reco_scratch(ctx, n * p->d, sizeof *vectors, "vectors");
    bool added, any = false;
    if (!vectors) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < n; i++) any |= ids[i] >= 0;
    if (any) RECO_GO(reco_bank_gather(ctx, p->bank, RECO_IMAGE, ids, n, vectors));
    for (size_t i = 0; i < n; i++)
        if (ids[i] >= 0) RECO_GO(reco_pictures_add(ctx, p, ids[i], vectors + i * p->d, &added));
out:
    reco_scratch_release(ctx, mark);
    return status;
}

/* Those of the n hits from place `from` on that are other pictures, behind *count of query q. */
static reco_status sift(reco_ctx *ctx, distinct *s, size_t from, size_t n, size_t q, size_t *count)
{
    const reco_lookup *out = s->out, *found = &s->found;
    for (size_t i = from; i < from + n && *count < s->k; i++) {
        bool added;
        size_t to = q * s->k + *count;
        RECO_TRY(reco_pictures_add(ctx, &s->chosen, found->hits.ids[i],
                                   found->vectors[RECO_IMAGE] + i * s->d, &added));
        if (!added) continue;
        out->hits.ids[to] = found->hits.ids[i];
        out->hits.scores[to] = found->hits.scores[i];
        for (int side = 0; side < 2; side++)
            if (out->vectors[side])
                memcpy(out->vectors[side] + to * s->d, found->vectors[side] + i * s->d,
                       s->d * sizeof(float));
        if (out->pairs) {
            out->pairs[to] = found->pairs[i];
            found->pairs[i] = (reco_pair){0};
        }
        ++*count;
    }
    return reco_id_list_add(ctx, &s->seen, found->hits.ids + from, n);
}

/* Of n places. */
static void drop_pairs(const reco_lookup *l, size_t from, size_t n)
{
    for (size_t i = from; l->pairs && i < from + n; i++) reco_pair_free(&l->pairs[i]);
}

/* Query q, whose first n hits stand from place `from` on; searches on, without the rows that were seen, until there are enough. */
static reco_status one(reco_ctx *ctx, distinct *s, size_t q, size_t from, size_t n, size_t *count)
{
    const reco_search_opts *o = &s->out->opts;
    const int64_t *exclude = o->nexclude ? o->exclude + q * o->nexclude : NULL;
    const size_t most = s->found.opts.k;
    *count = s->chosen.n = s->seen.n = 0;
    RECO_TRY(leave_out(ctx, &s->chosen, exclude, o->nexclude));
    RECO_TRY(reco_id_list_add(ctx, &s->seen, exclude, o->nexclude));
    for (;;) {
        RECO_TRY(sift(ctx, s, from, n, q, count));
        if (n < most || *count == s->k) return RECO_OK;
        reco_lookup next = s->found;
        next.queries = s->out->queries + q * s->d;
        next.nq = 1;
        next.opts.exclude = s->seen.at;
        next.opts.nexclude = s->seen.n;
        next.hits = (reco_hits){
            .ids = s->found.hits.ids + from, .scores = s->found.hits.scores + from, .counts = &n};
        for (int side = 0; side < 2; side++)
            if (next.vectors[side]) next.vectors[side] += from * s->d;
        drop_pairs(&s->found, from, most);
        if (next.pairs) next.pairs += from;
        RECO_TRY(reco_bank_look_up(ctx, s->bank, &next, 1));
    }
}

static reco_status make_room(reco_ctx *ctx, distinct *s, size_t block)
{
    const size_t n = block * s->found.opts.k, known = s->k + s->out->opts.nexclude;
    s->found.hits = (reco_hits){.ids = reco_scratch(ctx, n, sizeof(int64_t), "hits"),
                                .scores = reco_scratch(ctx, n, sizeof(float), "hits"),
                                .counts = reco_scratch(ctx, block, sizeof(size_t), "hits")};
    s->chosen = (reco_pictures){s->bank, s->d, 0, reco_scratch(ctx, known, s->d * sizeof(float), "vectors"),
                                reco_scratch(ctx, known, sizeof(int64_t), "hits")};
    for (int side = 0; side < 2; side++) {
        if (side != RECO_IMAGE && !s->out->vectors[side]) continue;
        if (!(s->found.vectors[side] = reco_scratch(ctx, n, s->d * sizeof(float), "vectors")))
            return RECO_E_NOMEM;
    }
    if (s->out->pairs) {
        if (!(s->found.pairs = reco_scratch(ctx, n, sizeof(reco_pair), "hits"))) return RECO_E_NOMEM;
        memset(s->found.pairs, 0, n * sizeof(reco_pair));
    }
    return s->found.hits.ids && s->found.hits.scores && s->found.hits.counts && s->chosen.vectors &&
                   s->chosen.ids
               ? RECO_OK
               : RECO_E_NOMEM;
}

/* Places without a hit. */
static void clear(const distinct *s, size_t q, size_t count)
{
    const reco_lookup *out = s->out;
    for (size_t i = q * s->k + count; i < (q + 1) * s->k; i++) {
        out->hits.ids[i] = -1;
        out->hits.scores[i] = 0;
        for (int side = 0; side < 2; side++)
            if (out->vectors[side]) memset(out->vectors[side] + i * s->d, 0, s->d * sizeof(float));
        if (out->pairs) out->pairs[i] = (reco_pair){.id = -1};
    }
}

reco_status reco_look_up_distinct(reco_ctx *ctx, const reco_bank *bank, reco_lookup *lookup,
                                  const reco_lookup *beside)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    distinct s = {.bank = bank, .out = lookup, .d = reco_bank_get_info(bank)->d};
    const size_t nq = lookup->nq, nexclude = lookup->opts.nexclude;
    size_t most = 0, block = 0;
    s.k = lookup->opts.k = lookup->opts.k ? lookup->opts.k : 10;
    for (size_t i = 0; lookup->pairs && i < nq * s.k; i++) lookup->pairs[i] = (reco_pair){.id = -1};
    RECO_GO(reco_reserved(ctx, "search", lookup->hits.reserved));
    if (s.k > RECO_BANK_MAX_K)
        RECO_GO(reco_fail(ctx, RECO_E_ARG, "bank: k = %zu, want 1..%d", s.k, RECO_BANK_MAX_K));
    s.found = (reco_lookup){.side = lookup->side, .opts = lookup->opts};
    s.found.opts.k = most = reco_min(RECO_BANK_MAX_K, 4 * s.k + 16);
    block = reco_max(1, reco_min(nq, reco_min(BLOCK, FLOATS / (most * s.d))));
    RECO_GO(make_room(ctx, &s, block));
    for (size_t i = 0; i < nq; i += block) {
        const size_t n = reco_min(block, nq - i);
        size_t count;
        reco_lookup both[2] = {s.found};
        both[0].queries = lookup->queries + i * s.d;
        both[0].nq = n;
        if (nexclude) both[0].opts.exclude += i * nexclude;
        const bool two = beside && i == 0;
        if (two) both[1] = *beside;
        drop_pairs(&s.found, 0, block * most);
        RECO_GO(reco_bank_look_up(ctx, bank, both, two ? 2 : 1));
        for (size_t q = 0; q < n; q++) {
            RECO_GO(one(ctx, &s, i + q, q * most, s.found.hits.counts[q], &count));
            if (lookup->hits.counts) lookup->hits.counts[i + q] = count;
            clear(&s, i + q, count);
        }
    }
out:
    drop_pairs(&s.found, 0, block * most);
    for (size_t i = 0; status != RECO_OK && lookup->pairs && i < nq * s.k; i++)
        reco_pair_free(&lookup->pairs[i]);
    reco_free(s.seen.at);
    reco_scratch_release(ctx, mark);
    return status;
}

reco_status reco_search_distinct(reco_ctx *ctx, const reco_bank *bank, reco_side side, const float *queries,
                                 size_t nq, const reco_search_opts *opts, const reco_hits *hits)
{
    reco_lookup lookup = {.side = side,
                          .queries = queries,
                          .nq = nq,
                          .opts = opts ? *opts : (reco_search_opts)RECO_SEARCH_OPTS_INIT,
                          .hits = *hits};
    return reco_look_up_distinct(ctx, bank, &lookup, NULL);
}
