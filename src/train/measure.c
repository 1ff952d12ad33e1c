#include "train/train_internal.h"
#include "kernels/kernels.h"

/* Products of the same vectors in another order differ by less. */
#define TIE 1e-6f

typedef struct ranking {
    const float *S; /* [m][n] of the first m pairs, all pairs being candidates */
    const reco_answers *same;
    const uint32_t *items;     /* [n] pairs */
    const unsigned char *seen; /* [n] bits: the picture, the caption came before: it is ranked once */
    uint32_t *ranks;           /* [m] */
    size_t n;
    bool of_pictures; /* queries are texts, candidates pictures */
} ranking;

/* How many wrong answers beat the best right one: a text of this very picture, or that picture. Other pictures of the
 * caption are neither. */
static uint32_t rank_one(const ranking *r, size_t i)
{
    const float *S = r->S + i * r->n;
    uint32_t picture = r->same->picture[r->items[i]], rank = 0;
    unsigned char again = r->of_pictures ? 1 : 2;
    size_t own = i;
    for (size_t j = 0; j < r->n; j++)
        if (S[j] > S[own] && r->same->picture[r->items[j]] == picture) own = j;
    float right = S[own];
    for (size_t j = 0; j < r->n; j++) {
        if (S[j] < right - TIE || r->seen[j] & again) continue;
        if (r->of_pictures ? reco_is_right(r->same, r->items[j], r->items[i])
                           : reco_is_right(r->same, r->items[i], r->items[j]))
            continue;
        rank += S[j] > right + TIE || j < own;
    }
    return rank;
}

static void rank_pairs(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const ranking *r = arg;
    for (size_t i = begin; i < end; i++) r->ranks[i] = rank_one(r, i);
}

/* Rank the first m of a among all n of b. */
static reco_status ranks_of(reco_ctx *ctx, ranking *r, float *S, const float *a, const float *b, size_t m,
                            bool of_pictures, size_t d)
{
    r->of_pictures = of_pictures;
    RECO_TRY(reco_gemm(ctx, S, r->n, a, d, false, b, d, true, m, r->n, d, 1, 0));
    reco_parallel(ctx, m, 16, rank_pairs, r);
    return RECO_OK;
}

static void find_seen(const reco_job *job, const reco_mask *room, const uint32_t *items, size_t n,
                      unsigned char *seen)
{
    memset(room->picture, 0, job->same.pictures);
    memset(room->caption, 0, job->same.captions);
    for (size_t i = 0; i < n; i++) {
        unsigned char *picture = &room->picture[job->same.picture[items[i]]],
                      *caption = &room->caption[job->same.caption[items[i]]];
        seen[i] = (unsigned char)(*picture | *caption << 1);
        *picture = *caption = 1;
    }
}

/* Pairs whose caption the memory holds with another picture: does CLIP recognise that picture? */
static reco_status measure_twins(const reco_job *job, const uint32_t *items, size_t m, ranking *r, float *S,
                                 float *twins, const float *t, reco_outcome *out)
{
    int64_t *ids = reco_scratch(job->ctx, m, sizeof *ids, "validation");
    if (!ids) return RECO_E_NOMEM;
    for (size_t i = 0; i < m; i++)
        ids[i] = reco_job_has_twin(job, items[i])
                     ? job->id[job->near[reco_job_told(job)][items[i] * job->reach[reco_job_told(job)]]]
                     : -1;
    RECO_TRY(reco_bank_gather(job->ctx, job->bank, RECO_IMAGE, ids, m, twins));
    RECO_TRY(ranks_of(job->ctx, r, S, twins, t, m, false, job->d));
    for (size_t i = 0; i < m; i++)
        if (ids[i] < 0)
            out[i].twin = RECO_TWIN_NONE;
        else
            out[i].twin = r->ranks[i] == 0 ? RECO_TWIN_KNOWN : RECO_TWIN_UNKNOWN;
    return RECO_OK;
}

/* The pairs of a run's fold, then others that they are ranked among: as hard as it will be. Not where those are in the
 * memory and their captions come once: such a picture would be compared with the very captions that it retrieved, and
 * its own could not be among them. Returns how many. */
static size_t list_candidates(const reco_job *job, uint32_t *items, size_t run)
{
    size_t n = job->held_start[run + 1] - job->held_start[run];
    memcpy(items, job->held + job->held_start[run], n * sizeof *items);
    for (size_t i = 0; i < job->n && n < RECO_MOST_JUDGED && (job->twins || !job->inside); i++)
        if (job->fold[i] != run) items[n++] = (uint32_t)i;
    return n;
}

/* x, y [n][d] by side: originals and refined. */
static reco_status refine_all(const reco_job *job, const reco_fusion *fusion, const uint32_t *items,
                              size_t n, const reco_mask *mask, bool apart, float *const x[2],
                              float *const y[2])
{
    reco_status status = RECO_OK;
    reco_batch b = {0};
    size_t d = job->d;
    reco_tape *tape = NULL;
    RECO_GO(reco_batch_create(job, &b, reco_min(n, 128)));
    if (job->o.layer >= RECO_LAYER_RELATIONAL)
        RECO_GO(reco_tape_create(job->ctx, &tape, fusion, b.max, job->o.k));
    for (size_t i = 0; i < n; i += b.max) {
        size_t m = reco_min(b.max, n - i);
        memcpy(b.items, items + i, m * sizeof *items);
        RECO_GO(reco_batch_fill(job, &b, m, mask, apart, NULL));
        for (int side = 0; side < 2; side++) {
            memcpy(x[side] + i * d, b.x[side], m * d * sizeof(float));
            if (tape) {
                RECO_GO(reco_batch_forward(job->ctx, &b, fusion, (reco_side)side, 0, m, job->o.k,
                                           y[side] + i * d, tape));
                continue;
            }
            const reco_fusion_input in = reco_batch_input(&b, side, job->o.k);
            RECO_GO(reco_fusion_refine(job->ctx, fusion, &in, &(reco_fused){.rows = y[side] + i * d}));
        }
    }
out:
    reco_tape_free(tape);
    reco_batch_clear(&b);
    return status;
}

/* Add the ranks of the first m pairs for each choice of sides, among all, with a weight. */
static reco_status measure_choices(reco_ctx *ctx, ranking *r, float *S, float *const x[2],
                                   float *const y[2], size_t m, size_t d, bool known, float weight,
                                   reco_outcome *out)
{
    for (int choice = 0; choice < RECO_CHOICES; choice++) {
        const float *v = choice & RECO_SIDES_IMAGE ? y[0] : x[0],
                    *t = choice & RECO_SIDES_TEXT ? y[1] : x[1];
        for (int way = 0; way < 2; way++) {
            RECO_TRY(way ? ranks_of(ctx, r, S, t, v, m, true, d) : ranks_of(ctx, r, S, v, t, m, false, d));
            for (size_t i = 0; i < m; i++) {
                out[i].hit[choice] += r->ranks[i] == 0 ? weight / 2 : 0;
                out[i].reciprocal[known][choice] += weight / 2 / (1 + (float)r->ranks[i]);
            }
        }
    }
    return RECO_OK;
}

/* What a run holds out, and all that it is ranked among. */
typedef struct stage {
    size_t m, n;         /* held out; candidates, these first */
    uint32_t *items;     /* [n] pairs */
    unsigned char *seen; /* [n] as in ranking */
    float *S;            /* [m][n] */
    float *x[2], *y[2];  /* [n][d] by side, as they are and refined */
    reco_mask mask;      /* what the fold shows and says */
} stage;

static reco_status set_stage(const reco_job *job, size_t run, stage *s)
{
    reco_ctx *ctx = job->ctx;
    size_t n = reco_min(job->n, RECO_MOST_JUDGED), d = job->d;
    s->m = job->held_start[run + 1] - job->held_start[run];
    s->items = reco_scratch(ctx, n, sizeof *s->items, "validation");
    s->seen = reco_scratch(ctx, n, 1, "validation");
    s->S = reco_scratch(ctx, s->m * n, sizeof *s->S, "validation");
    bool good = s->items && s->seen && s->S;
    for (int side = 0; side < 2; side++) {
        s->x[side] = reco_scratch(ctx, n * d, sizeof(float), "validation");
        s->y[side] = reco_scratch(ctx, n * d, sizeof(float), "validation");
        good = good && s->x[side] && s->y[side];
    }
    if (!good) return RECO_E_NOMEM;
    RECO_TRY(reco_mask_create(job, &s->mask));
    s->n = list_candidates(job, s->items, run);
    find_seen(job, &s->mask, s->items, s->n, s->seen);
    reco_mask_fold(job, &s->mask, run, true);
    return RECO_OK;
}

reco_status reco_measure(const reco_job *job, const reco_fusion *fusion, size_t run, reco_outcome *out)
{
    reco_ctx *ctx = job->ctx;
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    stage s = {0};
    RECO_GO(set_stage(job, run, &s));
    ranking r = {.same = &job->same, .items = s.items, .seen = s.seen, .S = s.S, .n = s.n};
    r.ranks = reco_scratch(ctx, s.m, sizeof(uint32_t), "validation");
    if (!r.ranks) RECO_GO(RECO_E_NOMEM);
    out += job->held_start[run];
    for (int known = 0; known < (job->twins ? 2 : 1); known++) {
        bool both = known && job->apart;
        for (size_t i = 0; i < s.m; i++) {
            memset(out[i].hit, 0, sizeof out[i].hit);
            memset(out[i].reciprocal[known], 0, sizeof out[i].reciprocal[known]);
        }
        for (int apart = 0; apart <= both; apart++) {
            RECO_GO(refine_all(job, fusion, s.items, s.n, known ? NULL : &s.mask, apart, s.x, s.y));
            RECO_GO(measure_choices(ctx, &r, s.S, s.x, s.y, s.m, job->d, known, both ? 0.5f : 1, out));
        }
    }
    for (size_t i = 0; i < s.m && !job->twins; i++)
        memcpy(out[i].reciprocal[1], out[i].reciprocal[0], sizeof out[i].reciprocal[1]);
    RECO_GO(measure_twins(job, s.items, s.m, &r, s.S, s.y[0], s.x[1], out));
out:
    reco_mask_clear(&s.mask);
    reco_scratch_release(ctx, mark);
    return status;
}

/* ---- the readout's queries: where captions have twins, with all of the memory, and where there is kin, once more without; else
 * without what the fold shows and says ---- */

/* Query i: its own text, then each caption once that is not right for its picture. rows [voters]: its neighbours. */
static void list_query(const reco_job *job, const stage *s, size_t i, const float *plain,
                       const float *refined, const uint32_t *rows, reco_queries *q)
{
    size_t to = q->n, count = 0;
    float *p = q->plain + to * q->width, *r = q->refined + to * q->width;
    uint32_t *of = q->of + to * q->voters;
    const uint32_t *caption = job->same.caption;
    for (size_t h = 0; h < q->voters; h++) of[h] = RECO_NO_CANDIDATE;
    for (size_t j = i, next = 0; j < s->n; j = next++) {
        bool own = count == 0;
        if (!own && (s->seen[j] & 2 || reco_is_right(&job->same, s->items[i], s->items[j]))) continue;
        p[count] = plain[j];
        r[count] = refined[j];
        for (size_t h = 0; h < q->valid[to]; h++)
            if (caption[rows[h]] == caption[s->items[j]]) of[h] = (uint32_t)count;
        count++;
    }
    q->count[to] = count;
    q->caption[to] = caption[s->items[i]];
    q->item[to] = s->items[i];
    q->n++;
}

/* How near the rows [n][voters] are that vote on queries which [n], by a metric. first: the query whose rows come first. */
static reco_status measure_near(const reco_job *job, const float *metric, const size_t *which, size_t n,
                                const uint32_t *rows, size_t first, reco_queries *q)
{
    reco_ctx *ctx = job->ctx;
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    size_t d = job->d, v = q->voters;
    float *x = reco_scratch(ctx, n * d, sizeof *x, "validation"), *y,
          *near = reco_scratch(ctx, n * v, sizeof *near, "validation");
    int64_t *ids = reco_scratch(ctx, 2 * n * v, sizeof *ids, "validation"), *unique = ids + n * v;
    uint32_t *place = reco_scratch(ctx, n * v, sizeof *place, "validation");
    if (!x || !near || !ids || !place) RECO_GO(RECO_E_NOMEM);
    for (size_t j = 0; j < n; j++) {
        memcpy(x + j * d, job->rows[RECO_IMAGE] + q->item[which[j]] * d, d * sizeof *x);
        for (size_t h = 0; h < v; h++)
            ids[j * v + h] = h < q->valid[which[j]] ? job->id[rows[(which[j] - first) * v + h]] : -1;
    }
    size_t m = reco_metric_rows(ids, n * v, unique, place);
    if (!(y = reco_scratch(ctx, m * d, sizeof *y, "validation"))) RECO_GO(RECO_E_NOMEM);
    RECO_GO(reco_bank_gather(ctx, job->bank, RECO_IMAGE, unique, m, y));
    RECO_GO(reco_metric_scores(ctx, metric, x, n, y, m, place, v, d, near));
    for (size_t j = 0; j < n; j++) memcpy(q->near + which[j] * v, near + j * v, v * sizeof *near);
out:
    reco_scratch_release(ctx, mark);
    return status;
}

/* All queries from `first` on whose pictures are of `part`, or of any. */
static reco_status measure_part(const reco_job *job, const float *metric, size_t part, const uint32_t *rows,
                                size_t first, reco_queries *q)
{
    enum { BLOCK = 64 };
    size_t which[BLOCK], n = 0;
    for (size_t i = first; i <= q->n; i++) {
        if (n == BLOCK || (i == q->n && n)) {
            RECO_TRY(measure_near(job, metric, which, n, rows, first, q));
            n = 0;
        }
        if (i < q->n && (part == RECO_METRICS || reco_metric_part(job, q->item[i]) == part)) which[n++] = i;
    }
    return RECO_OK;
}

/* By metrics that have not met the picture, but its caption, or not even that. */
static reco_status measure_vote(const reco_job *job, const reco_mask *mask, bool known,
                                const uint32_t *rows, size_t first, reco_queries *q)
{
    reco_ctx *ctx = job->ctx;
    if (!q->metric) return RECO_OK;
    size_t floats = RECO_METRIC_FLOATS(job->d);
    if (known) {
        for (size_t part = 0; part < RECO_METRICS; part++)
            RECO_TRY(measure_part(job, q->metrics + part * floats, part, rows, first, q));
        return RECO_OK;
    }
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    bool found;
    float *metric = reco_scratch(ctx, floats, sizeof *metric, "validation");
    if (!metric) RECO_GO(RECO_E_NOMEM);
    RECO_GO(reco_learn_metric(job, mask, RECO_METRICS, metric, &found));
    if (!found) memcpy(metric, q->metrics, floats * sizeof *metric);
    RECO_GO(measure_part(job, metric, RECO_METRICS, rows, first, q));
out:
    reco_scratch_release(ctx, mark);
    return status;
}

reco_status reco_queries_add(const reco_job *job, const reco_fusion *fusion, size_t run, reco_sides sides,
                             reco_queries *q)
{
    reco_ctx *ctx = job->ctx;
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    stage s = {0};
    RECO_GO(set_stage(job, run, &s));
    const reco_mask *hidden = job->twins ? NULL : &s.mask;
    size_t n = s.n, d = job->d, times = job->apart ? 2 : 1,
           some = reco_min(s.m, reco_min(q->room / job->runs, q->room - q->n) / times);
    float *refined = reco_scratch(ctx, s.m * n, sizeof *refined, "validation");
    uint32_t *rows = reco_scratch(ctx, some * q->voters, sizeof *rows, "validation");
    if (!refined || !rows) RECO_GO(RECO_E_NOMEM);
    for (size_t apart = 0; apart < times; apart++) {
        RECO_GO(refine_all(job, fusion, s.items, n, hidden, apart, s.x, s.y));
        const float *v = sides & RECO_SIDES_IMAGE ? s.y[0] : s.x[0],
                    *t = sides & RECO_SIDES_TEXT ? s.y[1] : s.x[1];
        RECO_GO(reco_gemm(ctx, s.S, n, s.x[0], d, false, s.x[1], d, true, s.m, n, d, 1, 0));
        RECO_GO(reco_gemm(ctx, refined, n, v, d, false, t, d, true, s.m, n, d, 1, 0));
        for (size_t j = 0; j < some; j++) {
            size_t i = j * s.m / some;
            q->valid[q->n] = reco_job_voters(job, s.items[i], hidden, apart, q->voters,
                                             q->near + q->n * q->voters, rows + j * q->voters);
            list_query(job, &s, i, s.S + i * n, refined + i * n, rows + j * q->voters, q);
        }
        RECO_GO(measure_vote(job, job->trained < job->n ? NULL : &s.mask, job->apart && !apart, rows,
                             q->n - some, q));
    }
out:
    reco_mask_clear(&s.mask);
    reco_scratch_release(ctx, mark);
    return status;
}
