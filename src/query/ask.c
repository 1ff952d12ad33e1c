/* Answers to queries among the rows of a bank, for the command line, Python and the server. */
#include "fusion/fusion.h"
#include "kernels/kernels.h"
#include "query/query.h"

#include <stdlib.h>

#define BLOCK ((size_t)256)      /* queries at a time, */
#define FLOATS ((size_t)1 << 24) /* and floats of what is found for them */
/* Candidates that each of the two searches brings: so many that what is shown first does not depend on how much is shown,
 * and that what lies behind them has next to no probability. */
#define FEW ((size_t)128)

enum { NEIGHBOURS, PLAIN, REFINED, LISTS };

typedef struct ask {
    const reco_memory *memory;
    const reco_find_opts *opts;
    reco_settings s;
    bool mixes, pairs;       /* pairs come with what is found */
    size_t d, k, pool, most; /* most: candidates of a query, at most */
    /* of a block of queries */
    float *y; /* [block][d] refined */
    reco_lookup lists
        [LISTS]; /* what is found for the neighbours, the questions and the refined questions; nq 0: nothing */
    int64_t *by;  /* [block][voters] neighbours */
    float *close; /* likewise, what votes are weighed by */
    size_t *nby;  /* [block] */
    /* of one query */
    struct candidate *found; /* [most] */
    float *cosines[2], *p;   /* [most] of what candidates say or show, each once */
    uint32_t *of;            /* [voters] */
} ask;

typedef struct candidate {
    int64_t id;
    const float *vector, *image; /* of the side that is searched; of the picture, with `distinct` */
    reco_pair *pair;             /* or NULL */
    float plain, refined, score;
    uint32_t group; /* of equal vectors: one answer, however many rows say or show it */
} candidate;

static int by_id(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static int by_vector(const void *a, const void *b, void *d)
{
    const candidate *x = a, *y = b;
    if (x->plain != y->plain) return x->plain > y->plain ? -1 : 1;
    int order = memcmp(x->vector, y->vector, *(const size_t *)d * sizeof(float));
    return order ? order : by_id(x, y);
}

static int by_score(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return by_id(x, y);
}

/* Behind the n that are there what a list has for query q, the first `most` of it. */
static size_t add(ask *a, size_t n, int list, size_t q, size_t most)
{
    const reco_lookup *l = &a->lists[list];
    if (!l->nq) return n;
    for (size_t h = 0; h < reco_min(most, l->hits.counts[q]); h++) {
        size_t at = q * l->opts.k + h;
        a->found[n++] = (candidate){.id = l->hits.ids[at],
                                    .vector = l->vectors[a->opts->in] + at * a->d,
                                    .image = a->opts->distinct ? l->vectors[RECO_IMAGE] + at * a->d : NULL,
                                    .pair = l->pairs ? &l->pairs[at] : NULL};
    }
    return n;
}

/* The rows that any expert found for query q, in found[]; how many. */
static size_t collect(ask *a, size_t q, const float *x, const float *y)
{
    size_t n = 0, kept = 0;
    float least = a->opts->min_similarity;
    for (int list = PLAIN; list <= REFINED; list++) n = add(a, n, list, q, a->pool);
    if (a->s.voters) n = add(a, n, NEIGHBOURS, q, a->s.voters);
    qsort(a->found, n, sizeof *a->found, by_id);
    int64_t last = -1;
    for (size_t i = 0; i < n; i++) {
        candidate c = a->found[i];
        if (c.id == last) continue;
        last = c.id;
        c.plain = (float)reco_dot(x, c.vector, a->d);
        c.refined = (float)reco_dot(y, c.vector, a->d);
        if (least > -1 && c.plain < least && c.refined < least) continue;
        a->found[kept++] = c;
    }
    return kept;
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
    size_t count = 0;
    if (a->opts->distinct) {
        seen.vectors = reco_scratch(ctx, a->k * a->d, sizeof(float), "vectors");
        seen.ids = reco_scratch(ctx, a->k, sizeof *seen.ids, "hits");
        if (!seen.vectors || !seen.ids) RECO_GO(RECO_E_NOMEM);
    }
    for (size_t i = 0; i < n && count < a->k; i++) {
        const candidate *c = &a->found[i];
        bool added = true;
        if (a->opts->distinct) RECO_GO(reco_pictures_add(ctx, &seen, c->id, c->image, &added));
        if (!added) continue;
        const size_t at = q * a->k + count++;
        out->ids[at] = c->id;
        out->scores[at] = c->score;
        if (out->plain) out->plain[at] = c->plain;
        if (out->refined) out->refined[at] = c->refined;
        if (out->pairs && c->pair) {
            out->pairs[at] = *c->pair;
            *c->pair = (reco_pair){0};
        }
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
    size_t n = collect(a, q, x, y);
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

/* The search for the k best rows for some queries, that are q or what became of them. */
static reco_lookup search_for(const ask *a, const float *queries, const reco_question *q, size_t k)
{
    return (reco_lookup){.side = a->opts->in,
                         .queries = queries,
                         .nq = q->n,
                         .opts = {.k = k,
                                  .min_similarity = a->opts->min_similarity,
                                  .filter = a->memory->filter,
                                  .exclude = q->exclude,
                                  .nexclude = q->nexclude,
                                  .recall = a->memory->recall,
                                  .asked = (reco_asked)(q->side + 1)}};
}

static reco_status make_pairs(reco_ctx *ctx, const ask *a, reco_lookup *l)
{
    if (!a->pairs) return RECO_OK;
    l->pairs = reco_scratch(ctx, l->nq * l->opts.k, sizeof *l->pairs, "hits");
    if (l->pairs) memset(l->pairs, 0, l->nq * l->opts.k * sizeof *l->pairs);
    return l->pairs ? RECO_OK : RECO_E_NOMEM;
}

static reco_status make_list(reco_ctx *ctx, ask *a, int list, const float *queries, const reco_question *q)
{
    reco_lookup *l = &a->lists[list];
    const size_t places = q->n * a->pool;
    *l = search_for(a, queries, q, a->pool);
    l->hits = (reco_hits){.ids = reco_scratch(ctx, places, sizeof(int64_t), "hits"),
                          .scores = reco_scratch(ctx, places, sizeof(float), "hits"),
                          .counts = reco_scratch(ctx, q->n, sizeof(size_t), "hits")};
    if (!l->hits.ids || !l->hits.scores || !l->hits.counts) return RECO_E_NOMEM;
    for (reco_side side = 0; side < 2; side++) {
        if (side != a->opts->in && !(a->opts->distinct && side == RECO_IMAGE)) continue;
        l->vectors[side] = reco_scratch(ctx, places * a->d, sizeof(float), "candidates");
        if (!l->vectors[side]) return RECO_E_NOMEM;
    }
    return make_pairs(ctx, a, l);
}

static reco_status find(reco_ctx *ctx, const ask *a, reco_lookup *lookup)
{
    return a->opts->distinct ? reco_look_up_distinct(ctx, a->memory->bank, lookup, NULL)
                             : reco_bank_look_up(ctx, a->memory->bank, lookup, 1);
}

/* Neighbours and what is near the questions, which don't wait for each other; then what is near the refined questions. */
static reco_status look_up(reco_ctx *ctx, ask *a, const reco_question *q, const reco_refined *refined,
                           bool asks_neighbours)
{
    reco_lookup *lists = a->lists;
    const bool metric = a->s.voters && reco_fusion_metric(a->memory->fusion),
               far = reco_bank_get_info(a->memory->bank)->shards > 0;
    reco_refining w;
    if (asks_neighbours) {
        bool also[2] = {a->s.voters && a->opts->distinct, false};
        if (a->s.voters) also[a->opts->in] = true;
        if (metric && far) also[RECO_IMAGE] = true;
        RECO_TRY(reco_refining_begin(ctx, &w, a->memory, q, refined));
        if (w.fetch) {
            RECO_TRY(reco_refining_seek(ctx, &w, 0, q->n, also, &lists[NEIGHBOURS]));
            if (a->s.voters) RECO_TRY(make_pairs(ctx, a, &lists[NEIGHBOURS]));
        }
    }
    if (a->mixes || !a->s.refines) RECO_TRY(make_list(ctx, a, PLAIN, q->x, q));
    const bool near = lists[NEIGHBOURS].nq, plain = lists[PLAIN].nq;
    if (plain && a->opts->distinct)
        RECO_TRY(
            reco_look_up_distinct(ctx, a->memory->bank, &lists[PLAIN], near ? &lists[NEIGHBOURS] : NULL));
    else if (near || plain)
        RECO_TRY(
            reco_bank_look_up(ctx, a->memory->bank, near ? lists : &lists[PLAIN], near && plain ? 2 : 1));
    if (asks_neighbours) RECO_TRY(reco_refining_end(ctx, &w, 0, q->n, &lists[NEIGHBOURS], refined));
    if (metric)
        RECO_TRY(reco_vote_near(ctx, a->memory, q->x, q->n, a->by, a->s.voters,
                                far ? lists[NEIGHBOURS].vectors[RECO_IMAGE] : NULL, w.fetch, a->close));
    if (!a->s.refines) return RECO_OK;
    RECO_TRY(make_list(ctx, a, REFINED, a->y, q));
    return find(ctx, a, &lists[REFINED]);
}

static reco_status ask_block(reco_ctx *ctx, ask *a, const reco_question *q, const reco_answer *out,
                             size_t to)
{
    const float *y = a->s.refines ? a->y : q->x;
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    reco_refined refined = {.rows = a->s.refines ? a->y : NULL, .reach = a->s.voters};
    if (a->s.voters) refined.hits = (reco_hits){.ids = a->by, .scores = a->close, .counts = a->nby};
    for (int list = 0; list < LISTS; list++) a->lists[list] = (reco_lookup){0};
    RECO_GO(look_up(ctx, a, q, &refined, a->s.refines || a->s.voters));
    for (size_t i = 0; i < q->n; i++)
        RECO_GO(answer(ctx, a, i, q->x + i * a->d, y + i * a->d, out, to + i));
out:
    for (int list = 0; list < LISTS; list++) {
        const reco_lookup *l = &a->lists[list];
        for (size_t i = 0; l->pairs && i < l->nq * l->opts.k; i++) reco_pair_free(&l->pairs[i]);
    }
    reco_scratch_release(ctx, mark);
    return status;
}

static reco_status make_room(reco_ctx *ctx, ask *a, size_t block)
{
    a->y = reco_scratch(ctx, block * a->d, sizeof *a->y, "queries");
    a->by = reco_scratch(ctx, block * a->s.voters, sizeof *a->by, "hits");
    a->close = reco_scratch(ctx, block * a->s.voters, sizeof *a->close, "hits");
    a->nby = reco_scratch(ctx, block, sizeof *a->nby, "hits");
    a->found = reco_scratch(ctx, a->most, sizeof *a->found, "candidates");
    for (int r = 0; r < 2; r++)
        if (!(a->cosines[r] = reco_scratch(ctx, a->most, sizeof(float), "candidates"))) return RECO_E_NOMEM;
    a->p = reco_scratch(ctx, a->most, sizeof *a->p, "candidates");
    a->of = reco_scratch(ctx, a->s.voters, sizeof *a->of, "candidates");
    return a->y && a->by && a->close && a->nby && a->found && a->p && a->of ? RECO_OK : RECO_E_NOMEM;
}

/* All queries in one pass over the bank, where what is found is the answer. */
static reco_status ask_plainly(reco_ctx *ctx, ask *a, const reco_question *q, const reco_answer *out)
{
    reco_lookup l = search_for(a, q->x, q, a->k);
    l.hits = (reco_hits){.ids = out->ids, .scores = out->scores, .counts = out->counts};
    if (a->pairs) l.pairs = out->pairs;
    return find(ctx, a, &l);
}

static reco_status ask_in_blocks(reco_ctx *ctx, ask *a, const reco_question *question,
                                 const reco_answer *out)
{
    if (a->mixes) a->pool = a->k <= FEW ? FEW : RECO_BANK_MAX_K;
    a->most = 2 * a->pool + a->s.voters;
    size_t block = reco_min(BLOCK, FLOATS / ((2 * a->pool + reco_max(a->s.k, a->s.voters)) * a->d));
    block = reco_max(1, reco_min(block, question->n));
    RECO_TRY(make_room(ctx, a, block));
    for (size_t i = 0; i < question->n; i += block) {
        reco_question part = *question;
        part.x += i * a->d;
        part.n = reco_min(block, question->n - i);
        if (part.nexclude) part.exclude += i * part.nexclude;
        RECO_TRY(ask_block(ctx, a, &part, out, i));
    }
    return RECO_OK;
}

reco_status reco_ask(reco_ctx *ctx, const reco_memory *memory, const reco_question *question,
                     const reco_find_opts *opts, const reco_answer *out)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    ask a = {.memory = memory, .opts = opts, .d = reco_bank_get_info(memory->bank)->d};
    size_t places = 0;
    RECO_GO(reco_reserved(ctx, "search", opts->reserved));
    RECO_GO(reco_reserved_of(ctx, "search", out->reserved, RECO_RESERVED - 1));
    RECO_GO(reco_check_question(ctx, memory, question));
    reco_memory_settle(memory, question->side, opts->in, &a.s);
    a.k = a.pool = opts->k ? opts->k : 10;
    a.mixes = a.s.mixture.scale[0] > 0;
    a.pairs = out->pairs && reco_bank_get_info(memory->bank)->shards;
    size_t most = reco_max(a.k, reco_max(a.s.k, a.s.voters));
    if (most > RECO_BANK_MAX_K)
        RECO_GO(reco_fail(ctx, RECO_E_ARG, "bank: k = %zu, want 1..%d", most, RECO_BANK_MAX_K));
    places = question->n * a.k;
    for (size_t i = 0; out->pairs && i < places; i++) out->pairs[i] = (reco_pair){.id = -1};
    if (a.s.refines || a.mixes || out->plain || out->refined)
        RECO_GO(ask_in_blocks(ctx, &a, question, out));
    else
        RECO_GO(ask_plainly(ctx, &a, question, out));
    if (out->pairs && !a.pairs)
        RECO_GO(reco_bank_get_many(ctx, memory->bank, out->ids, places, out->pairs));
out:
    for (size_t i = 0; status != RECO_OK && out->pairs && i < places; i++) reco_pair_free(&out->pairs[i]);
    reco_scratch_release(ctx, mark);
    return status;
}
