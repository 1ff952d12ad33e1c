#include "train/train_internal.h"

/* Items of a tape. Sums over a batch are cut there, whatever is kept: memory changes no bit. All sums below are cut at a divisor
 * of it, too, so that a tape of the whole batch would come to the same. */
enum { BLOCK = 1024 };

/* The loss needs all of a batch at once, but of a refined embedding no more than its d numbers. So blocks are refined, the loss says
 * what it wants of each embedding, and what a tape no longer holds is refined once more. (Gradient caching: Gao et al., 2021.) */
typedef struct pass {
    reco_ctx *ctx;
    const reco_gradients *g;
    const reco_batch *b;
    size_t parts; /* blocks of both sides */
} pass;

static reco_tape *tape_of(const pass *p, size_t part) { return p->g->tapes[reco_min(part, p->g->n - 1)]; }

/* Is the part still on its tape when backward comes to it? */
static bool is_kept(const pass *p, size_t part) { return part + 1 < p->g->n || p->parts <= p->g->n; }

static reco_status forward(const pass *p, size_t part)
{
    const reco_gradients *g = p->g;
    const reco_batch *b = p->b;
    size_t side = part % 2, i = part / 2 * BLOCK;
    return reco_batch_forward(p->ctx, b, g->fusion, (reco_side)side, i, reco_min(BLOCK, b->n - i), g->k,
                              g->y[side] + i * g->d, tape_of(p, part));
}

static reco_status backward(const pass *p, size_t part, float *gradient)
{
    const reco_gradients *g = p->g;
    if (!is_kept(p, part)) RECO_TRY(forward(p, part));
    return reco_fusion_backward(p->ctx, g->fusion, tape_of(p, part),
                                g->dy[part % 2] + part / 2 * BLOCK * g->d, gradient);
}

/* With two threads each takes a side: most of a step of a small layer would else go by in threads that wait for one another. */
typedef struct sides {
    const pass *p;
    float *gradient; /* NULL: forward */
    reco_status status[2];
} sides;

static void run_side(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    sides *s = arg;
    for (size_t side = begin; side < end; side++) {
        pass p = *s->p;
        p.ctx = p.g->workers[side];
        for (size_t part = side; part < p.parts && s->status[side] == RECO_OK; part += 2)
            s->status[side] = s->gradient ? backward(&p, part, s->gradient) : forward(&p, part);
    }
}

/* All parts: forward, or backward into gradient. */
static reco_status run_parts(const pass *p, float *gradient)
{
    if (!p->g->workers[0] || p->parts > p->g->n) {
        for (size_t part = 0; part < p->parts; part++)
            RECO_TRY(gradient ? backward(p, part, gradient) : forward(p, part));
        return RECO_OK;
    }
    sides s = {.p = p, .gradient = gradient};
    reco_parallel(p->ctx, 2, 1, run_side, &s);
    for (int side = 0; side < 2; side++)
        if (s.status[side] != RECO_OK)
            return reco_fail(p->ctx, s.status[side], "%s", reco_ctx_error(p->g->workers[side]));
    return RECO_OK;
}

reco_status reco_gradients_create(reco_ctx *ctx, reco_gradients *g, reco_fusion *fusion, size_t max,
                                  size_t k, size_t bytes)
{
    size_t most = 2 * ((max + BLOCK - 1) / BLOCK);
    *g = (reco_gradients){.fusion = fusion, .d = reco_fusion_get_config(fusion)->d, .k = k};
    g->tapes = reco_alloc(ctx, most, sizeof(reco_tape *), "gradient");
    if (!g->tapes) return RECO_E_NOMEM;
    for (int side = 0; side < 2; side++) {
        g->y[side] = reco_alloc(ctx, max * g->d, sizeof(float), "gradient");
        g->dy[side] = reco_alloc(ctx, max * g->d, sizeof(float), "gradient");
        if (!g->y[side] || !g->dy[side]) return RECO_E_NOMEM;
        if (reco_ctx_threads(ctx) == 2) RECO_TRY(reco_ctx_worker(ctx, &g->workers[side]));
    }
    for (size_t each = 0; g->n < most && (g->n == 0 || (g->n + 1) * each <= bytes); g->n++) {
        RECO_TRY(reco_tape_create(ctx, &g->tapes[g->n], fusion, reco_min(max, BLOCK), k));
        each = reco_tape_bytes(g->tapes[g->n]);
    }
    return RECO_OK;
}

void reco_gradients_clear(reco_gradients *g)
{
    for (size_t i = 0; i < g->n; i++) reco_tape_free(g->tapes[i]);
    reco_free(g->tapes);
    for (int side = 0; side < 2; side++) {
        reco_free(g->y[side]);
        reco_free(g->dy[side]);
        reco_ctx_free(g->workers[side]);
    }
}

reco_status reco_gradients_take(reco_ctx *ctx, reco_gradients *g, double *loss, float *gradient,
                                const reco_batch *b, const reco_answers *answers)
{
    pass p = {.ctx = ctx, .g = g, .b = b, .parts = 2 * ((b->n + BLOCK - 1) / BLOCK)};
    size_t total;
    const float *logit_scale = reco_fusion_vector(g->fusion, &total) + --total; /* the last parameter */
    memset(gradient, 0, total * sizeof *gradient);
    RECO_TRY(run_parts(&p, NULL));
    RECO_TRY(reco_train_loss(ctx, loss, g->dy[0], g->dy[1], gradient + total, g->y[0], g->y[1], b->x[0],
                             b->x[1], *logit_scale, answers, b->items, b->n, g->d));
    return run_parts(&p, gradient);
}
