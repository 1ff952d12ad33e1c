#include "kernels/kernels.h"
#include "train/train_internal.h"

#include <math.h>

/* Queries that the readout is chosen on: more would not change it. */
enum { MOST_QUERIES = 2048 };

static const float octaves[] = {10, 20, 40, 80}, wide[] = {4, 8, 16, 32}; /* of cosines; by the metric */
enum { OCTAVES = 4, THIRDS = 5, TENTHS = 11 };
/* Right answers as good as this part of the best count as beaten: products of the same vectors differ by less. */
#define TIE (1 - 1e-6f)

/* All combinations of some scales and weights. */
typedef struct grid {
    float scale[3][THIRDS];
    size_t scales[3];
    float weight[TENTHS * (TENTHS + 1) / 2][2];
    size_t weights;
    uint32_t voters;
} grid;

typedef struct judging {
    const reco_job *job;
    const reco_queries *q;
    const grid *g;
    size_t points;
    float *hit, *surprise; /* [points][n]: is it the right answer, and -log p of the right answer */
    float *room;           /* [threads][room_of] */
} judging;

static size_t points_of(const grid *g) { return g->weights * g->scales[0] * g->scales[1] * g->scales[2]; }

/* Floats that a thread works in: posteriors of the experts and of the mixture, weights of the voters. */
static size_t room_of(const grid *g, const reco_queries *q)
{
    return 4 * q->width + g->scales[2] * (q->voters + 1);
}

static reco_mixture point(const grid *g, size_t p)
{
    size_t n3 = g->scales[2], n2 = g->scales[1], n1 = g->scales[0];
    const float *w = g->weight[p / (n1 * n2 * n3)];
    return (reco_mixture){w[0],
                          w[1],
                          {g->scale[0][p / (n2 * n3) % n1], g->scale[1][p / n3 % n2], g->scale[2][p % n3]},
                          g->voters};
}

static void sharpen(const reco_ctx *ctx, float *p, const float *cosines, float scale, size_t n)
{
    for (size_t j = 0; j < n; j++) p[j] = scale * cosines[j];
    reco_softmax_row(ctx, p, n);
}

static float most_of(const float *p, size_t n)
{
    float most = 0;
    for (size_t j = 1; j < n; j++) most = fmaxf(most, p[j]);
    return most;
}

/* The votes [voters] that count of query i, and then what part of them is for a candidate. */
static void count_votes(const judging *u, size_t i, const reco_mixture *m, float *votes)
{
    const reco_queries *q = u->q;
    votes[q->voters] = reco_vote_weights(u->job->ctx, m->scale[2], q->near + i * q->voters,
                                         q->of + i * q->voters, reco_min(m->voters, q->valid[i]), votes);
}

/* Query i at point `at`. base: what CLIP and the refined have for its candidates, in their shares; rest: the most that a
 * wrong one has of it; votes as from count_votes. mixed is as base, before and after: few candidates get a vote. */
static void judge_one(const judging *u, size_t i, size_t at, const reco_mixture *m, const float *base,
                      float rest, const float *votes, float *mixed)
{
    const reco_queries *q = u->q;
    size_t n = reco_min(m->voters, q->valid[i]);
    float v = fmaxf(0, 1 - m->clip - m->refined);
    const uint32_t *of = q->of + i * q->voters;
    if (v <= 1e-6f) n = 0;
    for (size_t h = 0; h < n; h++)
        if (of[h] != RECO_NO_CANDIDATE) mixed[of[h]] += v * votes[h];
    for (size_t h = 0; h < n; h++)
        if (of[h] != RECO_NO_CANDIDATE && of[h] != 0) rest = fmaxf(rest, mixed[of[h]]);
    float all = m->clip + m->refined + (n ? v * votes[q->voters] : 0);
    u->hit[at * q->n + i] = rest < mixed[0] * TIE;
    u->surprise[at * q->n + i] = -logf(fmaxf(1e-30f, mixed[0] / all));
    for (size_t h = 0; h < n; h++)
        if (of[h] != RECO_NO_CANDIDATE) mixed[of[h]] = base[of[h]];
}

static void judge_queries(void *arg, size_t begin, size_t end, int worker)
{
    const judging *u = arg;
    const grid *g = u->g;
    const reco_queries *q = u->q;
    const reco_ctx *ctx = u->job->ctx;
    float *clip = u->room + (size_t)worker * room_of(g, q), *refined = clip + q->width,
          *base = refined + q->width, *mixed = base + q->width, *votes = mixed + q->width;
    size_t n1 = g->scales[0], n2 = g->scales[1], n3 = g->scales[2];
    for (size_t i = begin; i < end; i++) {
        size_t n = q->count[i];
        for (size_t s = 0; s < n3; s++) {
            reco_mixture m = point(g, s);
            count_votes(u, i, &m, votes + s * (q->voters + 1));
        }
        for (size_t s = 0; s < n1 * n2; s++) {
            if (s % n2 == 0) sharpen(ctx, clip, q->plain + i * q->width, g->scale[0][s / n2], n);
            sharpen(ctx, refined, q->refined + i * q->width, g->scale[1][s % n2], n);
            for (size_t w = 0; w < g->weights; w++) {
                float a = g->weight[w][0], b = g->weight[w][1];
                for (size_t j = 0; j < n; j++) base[j] = a * clip[j] + b * refined[j];
                memcpy(mixed, base, n * sizeof *mixed);
                float rest = most_of(base, n);
                for (size_t s3 = 0; s3 < n3; s3++) {
                    size_t at = (w * n1 * n2 + s) * n3 + s3;
                    const float *heard = votes + s3 * (q->voters + 1);
                    reco_mixture m = point(g, at);
                    /* Where nobody else has anything to say, CLIP does. */
                    if (a + b <= 0 && heard[q->voters] <= 0) {
                        memcpy(mixed, clip, n * sizeof *mixed);
                        m.clip = 1;
                        judge_one(u, i, at, &m, clip, most_of(clip, n), heard, mixed);
                        memcpy(mixed, base, n * sizeof *mixed);
                    } else
                        judge_one(u, i, at, &m, base, rest, heard, mixed);
                }
            }
        }
    }
}

typedef struct result {
    reco_mixture m;
    double share; /* of all queries, right */
    double won;   /* of those that CLIP gets wrong, right */
    double surprise;
    float *hit; /* [n] */
} result;

static double mean(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i];
    return n ? sum / (double)n : 0;
}

static double mean_where_wrong(const float *x, const float *clip, size_t n)
{
    double sum = 0, count = 0;
    for (size_t i = 0; i < n; i++) {
        if (clip[i] > 0) continue;
        sum += (double)x[i];
        count++;
    }
    return sum / fmax(1, count);
}

/* Where the memory holds the captions asked for, the mixture is to win what CLIP gets wrong, for that is what a concept that
 * comes later looks like, and to keep what it gets right. So of the points that keep at least half of what the best of them
 * is better than CLIP on all queries, and are no worse there than the refined cosines alone, those count that are right where CLIP is wrong as often as any, but for a standard
 * error; what is left is noise, and of these the one that finds the right answers likeliest is taken: that is smooth, and
 * calibrates. Elsewhere only the best on all queries count. clip and refined NULL: not known
 * yet. */
static reco_status best_of(const reco_job *job, const reco_queries *q, const grid *g, const result *clip,
                           const result *refined, result *best)
{
    reco_status status = RECO_OK;
    reco_ctx *ctx = job->ctx;
    reco_mark mark = reco_scratch_mark(ctx);
    judging u = {.job = job, .q = q, .g = g, .points = points_of(g)};
    size_t n = q->n;
    double most = 0, won = 0, least;
    result *all = reco_scratch(ctx, u.points, sizeof *all, "mixture");
    u.hit = reco_scratch(ctx, u.points * n, sizeof(float), "mixture");
    u.surprise = reco_scratch(ctx, u.points * n, sizeof(float), "mixture");
    u.room = reco_scratch(ctx, (size_t)reco_ctx_threads(ctx) * room_of(g, q), sizeof(float), "mixture");
    if (!all || !u.hit || !u.surprise || !u.room) RECO_GO(RECO_E_NOMEM);
    reco_parallel(ctx, n, 8, judge_queries, &u);
    for (size_t p = 0; p < u.points; p++) {
        all[p] = (result){
            .m = point(g, p), .share = mean(u.hit + p * n, n), .surprise = mean(u.surprise + p * n, n)};
        if (clip) all[p].won = mean_where_wrong(u.hit + p * n, clip->hit, n);
        most = fmax(most, all[p].share);
    }
    least = most;
    if (clip && job->twins && most > clip->share)
        least = fmin(most, fmax(refined->share, clip->share + (most - clip->share) / 2));
    for (size_t p = 0; p < u.points; p++)
        if (all[p].share >= least && job->twins) won = fmax(won, all[p].won);
    if (job->twins && clip && clip->share < 1)
        won -= sqrt(won * (1 - won) / ((1 - clip->share) * (double)n));
    const result *found = NULL;
    for (size_t p = 0; p < u.points; p++)
        if (all[p].share >= least && all[p].won >= won && (!found || all[p].surprise < found->surprise))
            found = &all[p];
    float *hit = best->hit;
    *best = *found;
    best->hit = memcpy(hit, u.hit + (size_t)(found - all) * n, n * sizeof(float));
out:
    reco_scratch_release(ctx, mark);
    return status;
}

static void fix(grid *g, const reco_mixture *m)
{
    for (int e = 0; e < 3; e++) {
        g->scale[e][0] = m->scale[e];
        g->scales[e] = 1;
    }
    g->weight[0][0] = m->clip;
    g->weight[0][1] = m->refined;
    g->weights = 1;
    g->voters = m->voters;
}

static void set_scales(grid *g, int expert, const float *from)
{
    g->scales[expert] = OCTAVES;
    for (size_t i = 0; i < OCTAVES; i++) g->scale[expert][i] = from[i];
}

static void narrow(grid *g, int expert, float middle)
{
    g->scales[expert] = THIRDS;
    for (size_t i = 0; i < THIRDS; i++) g->scale[expert][i] = middle * exp2f(((float)i - 2) / 3);
}

/* Tenths; without a vote, only those that leave it nothing. */
static void weigh(grid *g, bool vote)
{
    g->weights = 0;
    for (int a = 0; a < TENTHS; a++)
        for (int b = vote ? 0 : TENTHS - 1 - a; b < TENTHS - a; b++) {
            g->weight[g->weights][0] = (float)a / 10;
            g->weight[g->weights++][1] = (float)b / 10;
        }
}

/* First the two scales with the share of CLIP, then the vote and all weights, then finer scales. Where no caption that is
 * asked for is in the memory, nothing can be told of the vote, and it gets nothing. */
static reco_status search(const reco_job *job, const reco_queries *q, const result *clip,
                          const result *refined, result *best)
{
    grid g;
    best->m = (reco_mixture){1, 0, {octaves[2], octaves[2], octaves[2]}, q->crowd};
    fix(&g, &best->m);
    set_scales(&g, 0, octaves);
    set_scales(&g, 1, octaves);
    weigh(&g, false);
    RECO_TRY(best_of(job, q, &g, clip, refined, best));
    if (job->twins) {
        fix(&g, &best->m);
        set_scales(&g, 2, q->metric ? wide : octaves);
        weigh(&g, true);
        RECO_TRY(best_of(job, q, &g, clip, refined, best));
    }
    reco_mixture middle = best->m;
    fix(&g, &middle);
    narrow(&g, 0, middle.scale[0]);
    narrow(&g, 1, middle.scale[1]);
    if (middle.clip + middle.refined < 0.95f) narrow(&g, 2, middle.scale[2]);
    return best_of(job, q, &g, clip, refined, best);
}

/* CLIP, or the refined cosines, alone: only the scale is free. */
static reco_status alone(const reco_job *job, const reco_queries *q, bool refined, result *r)
{
    grid g;
    fix(&g, &(reco_mixture){refined ? 0 : 1, refined ? 1 : 0, {40, 40, 40}, q->crowd});
    set_scales(&g, refined, octaves);
    return best_of(job, q, &g, NULL, NULL, r);
}

reco_status reco_queries_error(const reco_job *job, const reco_queries *q, const float *x, const float *y,
                               double *error)
{
    size_t n = q->n, captions = job->same.captions;
    double mean = 0, square = 0, *off = reco_alloc(job->ctx, captions, sizeof *off, "mixture");
    if (!off) return RECO_E_NOMEM;
    for (size_t c = 0; c < captions; c++) off[c] = 0;
    for (size_t i = 0; i < n; i++) mean += ((double)x[i] - (double)y[i]) / (double)n;
    for (size_t i = 0; i < n; i++) off[q->caption[i]] += (double)x[i] - (double)y[i] - mean;
    for (size_t c = 0; c < captions; c++) square += off[c] * off[c];
    *error = sqrt(square) / (double)n;
    reco_free(off);
    return RECO_OK;
}

reco_status reco_choose_mixture(const reco_job *job, const reco_queries *q, reco_sides sides,
                                reco_readout *readout)
{
    reco_ctx *ctx = job->ctx;
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    result clip = {0}, refined = {0}, best = {0};
    result *const all[] = {&clip, &refined, &best};
    for (int r = 0; r < 3; r++)
        if (!(all[r]->hit = reco_scratch(ctx, q->n, sizeof(float), "mixture"))) RECO_GO(RECO_E_NOMEM);
    RECO_GO(alone(job, q, false, &clip));
    RECO_GO(alone(job, q, true, &refined));
    RECO_GO(search(job, q, &clip, &refined, &best));
    *readout = (reco_readout){best.m, clip.share, refined.share, best.share, 0};
    RECO_GO(reco_queries_error(job, q, best.hit, clip.hit, &readout->error));
    const result *safe = sides == RECO_SIDES_NONE ? &clip : &refined;
    bool clear = best.share - clip.share > readout->error;
    if (!job->twins) {
        /* Without a vote little can be won, and the best of a thousand points wins a query by luck. */
        double error;
        RECO_GO(reco_queries_error(job, q, best.hit, safe->hit, &error));
        clear = clear && best.share - safe->share > 2 * error;
    }
    if (!clear) {
        readout->mixture = safe->m;
        readout->mixed = safe->share;
    }
out:
    reco_scratch_release(ctx, mark);
    return status;
}

/* As many vote as three captions have pictures in the memory: the right one and two that are near. */
static reco_status count_crowd(const reco_job *job, reco_queries *q)
{
    uint32_t *rows = reco_alloc(job->ctx, job->same.captions, sizeof *rows, "mixture");
    if (!rows) return RECO_E_NOMEM;
    uint64_t sum = 0, n = 0;
    size_t first = job->own ? 0 : job->n, last = job->own ? job->trained : job->total;
    memset(rows, 0, job->same.captions * sizeof *rows);
    for (size_t i = first; i < last; i++) rows[job->same.caption[i]]++;
    for (size_t i = 0; i < job->n; i++) {
        uint32_t count = rows[job->same.caption[i]];
        sum += count;
        n += count > 0;
    }
    reco_free(rows);
    q->crowd = (uint32_t)reco_max(job->o.k, reco_min(q->voters, 3 * sum / reco_max(1, n)));
    return RECO_OK;
}

static reco_status learn_metrics(const reco_job *job, reco_queries *q)
{
    size_t floats = RECO_METRIC_FLOATS(job->d);
    if (!job->twins) return RECO_OK;
    q->metrics = reco_alloc_raw(job->ctx, RECO_METRICS * floats, sizeof *q->metrics, "mixture");
    if (!q->metrics) return RECO_E_NOMEM;
    q->metric = true;
    for (size_t part = 0; part < RECO_METRICS && q->metric; part++)
        RECO_TRY(reco_learn_metric(job, NULL, part, q->metrics + part * floats, &q->metric));
    return RECO_OK;
}

reco_status reco_queries_create(const reco_job *job, reco_queries *q)
{
    reco_ctx *ctx = job->ctx;
    q->voters = reco_max(job->o.k, reco_min(RECO_MOST_VOTERS, job->reach[RECO_IMAGE]));
    RECO_TRY(count_crowd(job, q));
    RECO_TRY(learn_metrics(job, q));
    q->room = reco_min(job->nheld * (job->apart ? 2 : 1), MOST_QUERIES);
    q->width = reco_min(job->n, RECO_MOST_JUDGED);
    q->count = reco_alloc(ctx, q->room, sizeof *q->count, "mixture");
    q->valid = reco_alloc(ctx, q->room, sizeof *q->valid, "mixture");
    q->caption = reco_alloc(ctx, q->room, sizeof *q->caption, "mixture");
    q->item = reco_alloc(ctx, q->room, sizeof *q->item, "mixture");
    q->near = reco_alloc(ctx, q->room * q->voters, sizeof *q->near, "mixture");
    q->of = reco_alloc(ctx, q->room * q->voters, sizeof *q->of, "mixture");
    q->plain = reco_alloc(ctx, q->room * q->width, sizeof *q->plain, "mixture");
    q->refined = reco_alloc(ctx, q->room * q->width, sizeof *q->refined, "mixture");
    return q->count && q->valid && q->caption && q->item && q->near && q->of && q->plain && q->refined
               ? RECO_OK
               : RECO_E_NOMEM;
}

void reco_queries_clear(reco_queries *q)
{
    reco_free(q->refined);
    reco_free(q->plain);
    reco_free(q->of);
    reco_free(q->near);
    reco_free(q->item);
    reco_free(q->metrics);
    reco_free(q->caption);
    reco_free(q->valid);
    reco_free(q->count);
}
