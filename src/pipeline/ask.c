/* One question to the memory: what the command line, and whoever else has a query, searches with. */
#include "pipeline/pipeline_internal.h"

#include <stdlib.h>

#define BLOCK ((size_t)256) /* queries at a time */
/* Candidates that each of the two searches brings: so many that what is shown first does not depend on how much is shown,
 * and that what lies behind them has next to no probability. */
#define FEW ((size_t)128)

typedef struct ask {
    const reco_bank *bank;
    const reco_fusion *fusion;
    reco_side own, side, searched; /* searched: by the layer, for neighbours */
    reco_search_opts search;       /* filter: without the row that is left out */
    bool distinct, refines, votes;
    reco_mixture mixture; /* scale[0] = 0: there is none */
    int64_t but;
    size_t d, k, pool, fused, near; /* near: neighbours that vote */
    float least;                    /* cosine of a neighbour that counts */
    /* of a block of queries */
    float *y;                 /* [BLOCK][d] refined */
    int64_t *ids[2], *by;     /* [BLOCK][pool] found plain, refined; [BLOCK][near] neighbours */
    float *scores[2], *close; /* likewise */
    size_t *counts[2], *nby;  /* [BLOCK] */
    /* of one query */
    struct candidate *found; /* [2 pool + near] */
    float *vectors;          /* [2 pool + near][d], by place in `order` */
    int64_t *order;          /* [2 pool + near] ids, ascending */
    float *cosines[2], *p;   /* [2 pool + near] of what candidates say or show, each once */
    uint32_t *of;            /* [near] */
} ask;

typedef struct candidate {
    int64_t id;
    const float *vector;
    float plain, refined, score;
    uint32_t group; /* of equal vectors: one answer, however many rows say or show it */
} candidate;

static int by_id(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static int by_vector(const void *a, const void *b, void *d)
{
    const candidate *x = a, *y = b;
    if (x->plain != y->plain) return x->plain > y->plain ? -1 : 1;
    int order = memcmp(x->vector, y->vector, *(const size_t *)d * sizeof(float));
    return order ? order : by_id(&x->id, &y->id);
}

static int by_score(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return by_id(&x->id, &y->id);
}

static size_t add_ids(int64_t *to, size_t n, const int64_t *ids, size_t count)
{
    memcpy(to + n, ids, count * sizeof *ids);
    return n + count;
}

/* The rows that any expert found for query q, in found[]; how many. */
static reco_status collect(reco_ctx *ctx, ask *a, size_t q, const float *x, const float *y, size_t *count)
{
    size_t n = 0, kept = 0, unique = 0;
    for (int r = 0; r < (a->refines ? 2 : 1); r++)
        n = add_ids(a->order, n, a->ids[r] + q * a->pool, a->counts[r][q]);
    if (a->votes) n = add_ids(a->order, n, a->by + q * a->near, a->nby[q]);
    qsort(a->order, n, sizeof *a->order, by_id);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || a->order[i] != a->order[i - 1]) a->order[unique++] = a->order[i];
    RECO_TRY(reco_bank_gather(ctx, a->bank, a->side, a->order, unique, a->vectors));
    for (size_t i = 0; i < unique; i++) {
        const float *row = a->vectors + i * a->d;
        candidate c = {a->order[i], row, (float)reco_dot(x, row, a->d), (float)reco_dot(y, row, a->d),
                       0,           0};
        if (a->search.use_min && c.plain < a->search.min_similarity && c.refined < a->search.min_similarity)
            continue;
        a->found[kept++] = c;
    }
    *count = kept;
    return RECO_OK;
}

/* Number the answers, and look up their cosines; how many there are. */
static size_t group(ask *a, size_t n)
{
    size_t groups = 0;
    qsort_r(a->found, n, sizeof *a->found, by_vector, &a->d);
    for (size_t i = 0; i < n; i++) {
        candidate *c = &a->found[i];
        if (i == 0 || memcmp(c->vector, c[-1].vector, a->d * sizeof(float)) != 0) {
            a->cosines[0][groups] = c->plain;
            a->cosines[1][groups++] = c->refined;
        }
        c->group = (uint32_t)groups - 1;
    }
    return groups;
}

/* What the neighbours of query q say, as candidates. */
static void listen(const ask *a, size_t q, size_t n, reco_votes *votes, size_t *count)
{
    const float *close = a->close + q * a->near;
    *count = 0;
    while (*count < a->nby[q] && !(close[*count] < a->least)) ++*count;
    for (size_t h = 0; h < *count; h++) {
        a->of[h] = RECO_NO_CANDIDATE;
        for (size_t i = 0; i < n; i++)
            if (a->found[i].id == a->by[q * a->near + h]) a->of[h] = a->found[i].group;
    }
    *votes = (reco_votes){close, a->of, count, a->near};
}

/* The first k of n candidates in order; of each picture the first alone, where that is asked for. */
static reco_status emit(reco_ctx *ctx, const ask *a, size_t n, reco_answer_list out, size_t q)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    reco_pictures seen = {.bank = a->bank, .d = a->d};
    float *vector = NULL;
    size_t count = 0;
    if (a->distinct) {
        seen.vectors = reco_scratch(ctx, a->k * a->d, sizeof(float), "vectors");
        seen.ids = reco_scratch(ctx, a->k, sizeof *seen.ids, "hits");
        vector = reco_scratch(ctx, a->d, sizeof *vector, "vectors");
        if (!seen.vectors || !seen.ids || !vector) RECO_GO(RECO_E_NOMEM);
    }
    for (size_t i = 0; i < n && count < a->k; i++) {
        const candidate *c = &a->found[i];
        bool added = true;
        if (a->distinct) {
            RECO_GO(reco_bank_gather(ctx, a->bank, RECO_IMAGE, &c->id, 1, vector));
            RECO_GO(reco_pictures_add(ctx, &seen, c->id, vector, &added));
        }
        if (!added) continue;
        out.ids[q * a->k + count] = c->id;
        out.scores[q * a->k + count] = c->score;
        if (out.plain) out.plain[q * a->k + count] = c->plain;
        if (out.refined) out.refined[q * a->k + count] = c->refined;
        count++;
    }
    if (out.counts) out.counts[q] = count;
    for (; count < a->k; count++) {
        size_t at = q * a->k + count;
        out.ids[at] = -1;
        out.scores[at] = 0;
        if (out.plain) out.plain[at] = 0;
        if (out.refined) out.refined[at] = 0;
    }
out:
    reco_scratch_release(ctx, mark);
    return status;
}

static reco_status answer(reco_ctx *ctx, ask *a, size_t q, const float *x, const float *y,
                          reco_answer_list out, size_t to)
{
    size_t n, counted;
    reco_votes votes;
    RECO_TRY(collect(ctx, a, q, x, y, &n));
    if (a->mixture.scale[0] > 0) {
        size_t groups = group(a, n);
        if (a->votes) listen(a, q, n, &votes, &counted);
        if (groups)
            RECO_TRY(reco_mixture_posterior(ctx, &a->mixture, a->cosines[0], a->cosines[1],
                                            a->votes ? &votes : NULL, 1, groups, a->p));
        for (size_t i = 0; i < n; i++) a->found[i].score = a->p[a->found[i].group];
    } else
        for (size_t i = 0; i < n; i++) a->found[i].score = a->found[i].refined;
    qsort(a->found, n, sizeof *a->found, by_score);
    return emit(ctx, a, n, out, to);
}

/* The best rows for n queries. */
static reco_status find(reco_ctx *ctx, const ask *a, const float *queries, size_t n, size_t k,
                        reco_hits hits)
{
    reco_search_opts search = a->search;
    search.k = k;
    if (a->distinct) return reco_search_distinct(ctx, a->bank, a->side, queries, n, &search, a->but, hits);
    return reco_bank_search(ctx, a->bank, a->side, queries, n, &search, hits);
}

static reco_status ask_block(reco_ctx *ctx, ask *a, const float *x, size_t n, reco_answer_list out,
                             size_t to)
{
    const float *y = x;
    reco_hits by = {a->by, a->close, a->nby};
    if (a->refines) {
        reco_refine_opts fuse = {.k = a->fused, .filter = a->search.filter};
        RECO_TRY(reco_refine(ctx, a->bank, a->fusion, a->own, x, n, &fuse, a->y,
                             a->near == a->fused ? by : (reco_hits){0}));
        y = a->y;
    }
    if (a->votes && (!a->refines || a->near != a->fused))
        RECO_TRY(reco_bank_search(ctx, a->bank, a->searched, x, n,
                                  &(reco_search_opts){.k = a->near, .filter = a->search.filter}, by));
    bool mixes = a->mixture.scale[0] > 0;
    if (mixes || !a->refines)
        RECO_TRY(find(ctx, a, x, n, a->pool, (reco_hits){a->ids[0], a->scores[0], a->counts[0]}));
    else
        memset(a->counts[0], 0, n * sizeof *a->counts[0]);
    if (a->refines)
        RECO_TRY(find(ctx, a, y, n, a->pool, (reco_hits){a->ids[1], a->scores[1], a->counts[1]}));
    for (size_t q = 0; q < n; q++) RECO_TRY(answer(ctx, a, q, x + q * a->d, y + q * a->d, out, to + q));
    return RECO_OK;
}

static reco_status make_room(reco_ctx *ctx, ask *a, size_t block)
{
    size_t most = 2 * a->pool + a->near;
    a->y = reco_scratch(ctx, block * a->d, sizeof *a->y, "queries");
    for (int r = 0; r < 2; r++) {
        a->ids[r] = reco_scratch(ctx, block * a->pool, sizeof *a->ids[r], "hits");
        a->scores[r] = reco_scratch(ctx, block * a->pool, sizeof *a->scores[r], "hits");
        a->counts[r] = reco_scratch(ctx, block, sizeof *a->counts[r], "hits");
        a->cosines[r] = reco_scratch(ctx, most, sizeof *a->cosines[r], "candidates");
        if (!a->ids[r] || !a->scores[r] || !a->counts[r] || !a->cosines[r]) return RECO_E_NOMEM;
    }
    a->by = reco_scratch(ctx, block * a->near, sizeof *a->by, "hits");
    a->close = reco_scratch(ctx, block * a->near, sizeof *a->close, "hits");
    a->nby = reco_scratch(ctx, block, sizeof *a->nby, "hits");
    a->found = reco_scratch(ctx, most, sizeof *a->found, "candidates");
    a->vectors = reco_scratch(ctx, most * a->d, sizeof *a->vectors, "candidates");
    a->order = reco_scratch(ctx, most, sizeof *a->order, "candidates");
    a->p = reco_scratch(ctx, most, sizeof *a->p, "candidates");
    a->of = reco_scratch(ctx, a->near, sizeof *a->of, "candidates");
    return a->y && a->by && a->close && a->nby && a->found && a->vectors && a->order && a->p && a->of
               ? RECO_OK
               : RECO_E_NOMEM;
}

reco_mixture reco_ask_mixture(const reco_ask_opts *opts, reco_side own, reco_side side)
{
    if (!opts || !opts->fusion) return (reco_mixture){0};
    if (opts->mixture) return *opts->mixture;
    reco_fusion_config config = reco_fusion_get_config(opts->fusion);
    bool fits = own != side && (opts->sides == RECO_SIDES_DEFAULT || opts->sides == config.sides);
    return fits ? config.mixture : (reco_mixture){0};
}

static void settle(ask *a, const reco_ask_opts *opts)
{
    reco_fusion_config config = reco_fusion_get_config(a->fusion);
    reco_sides sides = opts->sides == RECO_SIDES_DEFAULT ? config.sides : opts->sides;
    a->refines = config.layer != RECO_LAYER_NONE && (int)sides >> a->own & 1;
    a->searched = reco_modality_side(config.search, a->own);
    a->fused = opts->neighbours ? opts->neighbours : config.k;
    a->least = config.min_similarity;
    a->mixture = reco_ask_mixture(opts, a->own, a->side);
    a->votes = reco_mixture_votes(&a->mixture) && a->own == RECO_IMAGE && a->side == RECO_TEXT;
    a->near = a->votes && a->mixture.voters ? a->mixture.voters : a->fused;
}

reco_status reco_ask(reco_ctx *ctx, const reco_bank *bank, reco_side own, reco_side side, const float *x,
                     size_t nq, const reco_ask_opts *opts, int64_t but, reco_answer_list out)
{
    reco_status status = RECO_OK;
    reco_bank_filter *others = NULL;
    reco_mark mark = reco_scratch_mark(ctx);
    ask a = {
        .bank = bank, .own = own, .side = side, .d = reco_bank_get_info(bank).d, .but = but, .near = 1};
    if (opts) {
        a.search = opts->search;
        a.distinct = opts->distinct != 0;
        a.fusion = opts->fusion;
    }
    a.k = a.pool = a.search.k ? a.search.k : 10;
    if (a.k > RECO_BANK_MAX_K)
        RECO_GO(reco_fail(ctx, RECO_E_ARG, "bank: k = %zu, want 1..%d", a.k, RECO_BANK_MAX_K));
    if (a.fusion) {
        RECO_GO(reco_check_encoder(ctx, NULL, bank, a.fusion));
        settle(&a, opts);
        if (reco_max(a.fused, a.near) > RECO_BANK_MAX_K)
            RECO_GO(reco_fail(ctx, RECO_E_ARG, "bank: k = %zu, want 1..%d", reco_max(a.fused, a.near),
                              RECO_BANK_MAX_K));
    }
    if (but >= 0) {
        RECO_GO(reco_bank_filter_without(ctx, &others, bank, a.search.filter, &but, 1));
        a.search.filter = others;
    }
    bool mixes = a.mixture.scale[0] > 0;
    if (!a.refines && !mixes && !out.plain && !out.refined) { /* all queries in one pass over the bank */
        RECO_GO(find(ctx, &a, x, nq, a.k, (reco_hits){out.ids, out.scores, out.counts}));
        goto out;
    }
    if (mixes) a.pool = a.k <= FEW ? FEW : RECO_BANK_MAX_K;
    size_t block = reco_min(BLOCK, nq);
    RECO_GO(make_room(ctx, &a, block));
    for (size_t i = 0; i < nq; i += block)
        RECO_GO(ask_block(ctx, &a, x + i * a.d, reco_min(block, nq - i), out, i));
out:
    reco_bank_filter_free(others);
    reco_scratch_release(ctx, mark);
    return status;
}
