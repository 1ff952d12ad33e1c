/* Answers to queries among the rows of a bank, for the command line, Python and the server. */
#include "fusion/fusion.h"
#include "kernels/kernels.h"
#include "query/query.h"

#include <stdlib.h>

#define BLOCK ((size_t)256) /* queries at a time */
/* Candidates that each of the two searches brings: so many that what is shown first does not depend on how much is shown,
 * and that what lies behind them has next to no probability. */
#define FEW ((size_t)128)

typedef struct ask {
    const reco_memory *memory;
    const reco_find_opts *opts;
    reco_settings s;
    bool mixes;
    size_t d, k, pool;
    /* of a block of queries */
    float *y;                 /* [BLOCK][d] refined */
    int64_t *ids[2], *by;     /* [BLOCK][pool] found plain, refined; [BLOCK][voters] neighbours */
    float *scores[2], *close; /* likewise; close is what votes are weighed by */
    size_t *counts[2], *nby;  /* [BLOCK] */
    /* of one query */
    struct candidate *found; /* [2 pool + voters] */
    float *vectors;          /* [2 pool + voters][d], by place in `order` */
    int64_t *order;          /* [2 pool + voters] ids, ascending */
    float *cosines[2], *p;   /* [2 pool + voters] of what candidates say or show, each once */
    uint32_t *of;            /* [voters] */
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
    float least = a->opts->min_similarity;
    for (int r = 0; r < (a->s.refines ? 2 : 1); r++)
        n = add_ids(a->order, n, a->ids[r] + q * a->pool, a->counts[r][q]);
    if (a->s.voters) n = add_ids(a->order, n, a->by + q * a->s.voters, a->nby[q]);
    qsort(a->order, n, sizeof *a->order, by_id);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || a->order[i] != a->order[i - 1]) a->order[unique++] = a->order[i];
    RECO_TRY(reco_bank_gather(ctx, a->memory->bank, a->opts->in, a->order, unique, a->vectors));
    for (size_t i = 0; i < unique; i++) {
        const float *row = a->vectors + i * a->d;
        candidate c = {a->order[i], row, (float)reco_dot(x, row, a->d), (float)reco_dot(y, row, a->d),
                       0,           0};
        if (least > -1 && c.plain < least && c.refined < least) continue;
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
static reco_votes listen(const ask *a, size_t q, size_t n)
{
    const size_t most = a->s.voters;
    for (size_t h = 0; h < a->nby[q]; h++) {
        a->of[h] = RECO_NO_CANDIDATE;
        for (size_t i = 0; i < n; i++)
            if (a->found[i].id == a->by[q * most + h]) a->of[h] = a->found[i].group;
    }
    return (reco_votes){.scores = a->close + q * most, .of = a->of, .counts = a->nby + q, .k = most};
}

/* The first k of n candidates in order; of each picture the first alone, where that is asked for. */
static reco_status emit(reco_ctx *ctx, const ask *a, size_t n, const reco_answer *out, size_t q)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    reco_pictures seen = {.bank = a->memory->bank, .d = a->d};
    float *vector = NULL;
    size_t count = 0;
    if (a->opts->distinct) {
        seen.vectors = reco_scratch(ctx, a->k * a->d, sizeof(float), "vectors");
        seen.ids = reco_scratch(ctx, a->k, sizeof *seen.ids, "hits");
        vector = reco_scratch(ctx, a->d, sizeof *vector, "vectors");
        if (!seen.vectors || !seen.ids || !vector) RECO_GO(RECO_E_NOMEM);
    }
    for (size_t i = 0; i < n && count < a->k; i++) {
        const candidate *c = &a->found[i];
        bool added = true;
        if (a->opts->distinct) {
            RECO_GO(reco_bank_gather(ctx, a->memory->bank, RECO_IMAGE, &c->id, 1, vector));
            RECO_GO(reco_pictures_add(ctx, &seen, c->id, vector, &added));
        }
        if (!added) continue;
        out->ids[q * a->k + count] = c->id;
        out->scores[q * a->k + count] = c->score;
        if (out->plain) out->plain[q * a->k + count] = c->plain;
        if (out->refined) out->refined[q * a->k + count] = c->refined;
        count++;
    }
    if (out->counts) out->counts[q] = count;
    for (; count < a->k; count++) {
        size_t at = q * a->k + count;
        out->ids[at] = -1;
        out->scores[at] = 0;
        if (out->plain) out->plain[at] = 0;
        if (out->refined) out->refined[at] = 0;
    }
out:
    reco_scratch_release(ctx, mark);
    return status;
}

static reco_status answer(reco_ctx *ctx, ask *a, size_t q, const float *x, const float *y,
                          const reco_answer *out, size_t to)
{
    size_t n;
    RECO_TRY(collect(ctx, a, q, x, y, &n));
    if (a->mixes) {
        size_t groups = group(a, n);
        reco_votes votes = a->s.voters ? listen(a, q, n) : (reco_votes){0};
        if (groups)
            RECO_TRY(reco_mixture_posterior(ctx, &a->s.mixture, a->cosines[0], a->cosines[1],
                                            a->s.voters ? &votes : NULL, 1, groups, a->p));
        for (size_t i = 0; i < n; i++) a->found[i].score = a->p[a->found[i].group];
    } else
        for (size_t i = 0; i < n; i++) a->found[i].score = a->found[i].refined;
    qsort(a->found, n, sizeof *a->found, by_score);
    return emit(ctx, a, n, out, to);
}

/* The best rows for some queries, that are q or what became of them. */
static reco_status find(reco_ctx *ctx, const ask *a, const float *queries, const reco_question *q, size_t k,
                        const reco_hits *hits)
{
    reco_search_opts search = {.k = k,
                               .min_similarity = a->opts->min_similarity,
                               .filter = a->memory->filter,
                               .exclude = q->exclude,
                               .nexclude = q->nexclude,
                               .recall = a->memory->recall,
                               .asked = (reco_asked)(q->side + 1)};
    const reco_bank *bank = a->memory->bank;
    return a->opts->distinct ? reco_search_distinct(ctx, bank, a->opts->in, queries, q->n, &search, hits)
                             : reco_bank_search(ctx, bank, a->opts->in, queries, q->n, &search, hits);
}

static reco_status ask_block(reco_ctx *ctx, ask *a, const reco_question *q, const reco_answer *out,
                             size_t to)
{
    const float *y = a->s.refines ? a->y : q->x;
    reco_refined refined = {.rows = a->s.refines ? a->y : NULL, .reach = a->s.voters};
    if (a->s.voters) refined.hits = (reco_hits){.ids = a->by, .scores = a->close, .counts = a->nby};
    if (a->s.refines || a->s.voters) RECO_TRY(reco_refine(ctx, a->memory, q, &refined));
    if (a->s.voters && reco_fusion_metric(a->memory->fusion))
        RECO_TRY(reco_vote_near(ctx, a->memory, q->x, q->n, a->by, a->s.voters, a->close));
    if (a->mixes || !a->s.refines)
        RECO_TRY(find(ctx, a, q->x, q, a->pool,
                      &(reco_hits){.ids = a->ids[0], .scores = a->scores[0], .counts = a->counts[0]}));
    else
        memset(a->counts[0], 0, q->n * sizeof *a->counts[0]);
    if (a->s.refines)
        RECO_TRY(find(ctx, a, y, q, a->pool,
                      &(reco_hits){.ids = a->ids[1], .scores = a->scores[1], .counts = a->counts[1]}));
    for (size_t i = 0; i < q->n; i++)
        RECO_TRY(answer(ctx, a, i, q->x + i * a->d, y + i * a->d, out, to + i));
    return RECO_OK;
}

static reco_status make_room(reco_ctx *ctx, ask *a, size_t block)
{
    size_t most = 2 * a->pool + a->s.voters;
    a->y = reco_scratch(ctx, block * a->d, sizeof *a->y, "queries");
    for (int r = 0; r < 2; r++) {
        a->ids[r] = reco_scratch(ctx, block * a->pool, sizeof *a->ids[r], "hits");
        a->scores[r] = reco_scratch(ctx, block * a->pool, sizeof *a->scores[r], "hits");
        a->counts[r] = reco_scratch(ctx, block, sizeof *a->counts[r], "hits");
        a->cosines[r] = reco_scratch(ctx, most, sizeof *a->cosines[r], "candidates");
        if (!a->ids[r] || !a->scores[r] || !a->counts[r] || !a->cosines[r]) return RECO_E_NOMEM;
    }
    a->by = reco_scratch(ctx, block * a->s.voters, sizeof *a->by, "hits");
    a->close = reco_scratch(ctx, block * a->s.voters, sizeof *a->close, "hits");
    a->nby = reco_scratch(ctx, block, sizeof *a->nby, "hits");
    a->found = reco_scratch(ctx, most, sizeof *a->found, "candidates");
    a->vectors = reco_scratch(ctx, most * a->d, sizeof *a->vectors, "candidates");
    a->order = reco_scratch(ctx, most, sizeof *a->order, "candidates");
    a->p = reco_scratch(ctx, most, sizeof *a->p, "candidates");
    a->of = reco_scratch(ctx, a->s.voters, sizeof *a->of, "candidates");
    return a->y && a->by && a->close && a->nby && a->found && a->vectors && a->order && a->p && a->of
               ? RECO_OK
               : RECO_E_NOMEM;
}

reco_status reco_ask(reco_ctx *ctx, const reco_memory *memory, const reco_question *question,
                     const reco_find_opts *opts, const reco_answer *out)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    ask a = {.memory = memory, .opts = opts, .d = reco_bank_get_info(memory->bank)->d};
    RECO_GO(reco_reserved(ctx, "search", opts->reserved));
    RECO_GO(reco_reserved(ctx, "search", out->reserved));
    RECO_GO(reco_check_question(ctx, memory, question));
    reco_memory_settle(memory, question->side, opts->in, &a.s);
    a.k = a.pool = opts->k ? opts->k : 10;
    a.mixes = a.s.mixture.scale[0] > 0;
    size_t most = reco_max(a.k, reco_max(a.s.k, a.s.voters));
    if (most > RECO_BANK_MAX_K)
        RECO_GO(reco_fail(ctx, RECO_E_ARG, "bank: k = %zu, want 1..%d", most, RECO_BANK_MAX_K));
    if (!a.s.refines && !a.mixes && !out->plain &&
        !out->refined) { /* all queries in one pass over the bank */
        RECO_GO(find(ctx, &a, question->x, question, a.k,
                     &(reco_hits){.ids = out->ids, .scores = out->scores, .counts = out->counts}));
        goto out;
    }
    if (a.mixes) a.pool = a.k <= FEW ? FEW : RECO_BANK_MAX_K;
    size_t block = reco_min(BLOCK, question->n);
    RECO_GO(make_room(ctx, &a, block));
    for (size_t i = 0; i < question->n; i += block) {
        reco_question part = *question;
        part.x += i * a.d;
        part.n = reco_min(block, question->n - i);
        if (part.nexclude) part.exclude += i * part.nexclude;
        RECO_GO(ask_block(ctx, &a, &part, out, i));
    }
out:
    reco_scratch_release(ctx, mark);
    return status;
}
