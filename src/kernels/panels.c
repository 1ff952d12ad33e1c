/* Products in f32 by weights that are packed once in panels of columns, tile by tile (tile.c). */
#include "kernels/kernels_internal.h"

#define PANEL RECO_PANEL
#define SPARE RECO_PANEL_SPARE
#define TILE RECO_TILE
#define GROUP 8 /* tiles whose rows stay in a cache while all panels pass by */
#define ROWS_READ 16

struct reco_panels {
    size_t out, in;
    float *data; /* panels, each [in][columns + SPARE] */
};

static size_t columns(const reco_panels *w, size_t panel)
{
    return reco_min(PANEL, w->out - panel * PANEL);
}

static float *panel_at(const reco_panels *w, size_t panel)
{
    return w->data + w->in * panel * (PANEL + SPARE);
}

static void put_weight_rows(const reco_panels *w, const float *rows, size_t first, size_t n)
{
    size_t panel = first / PANEL, ld = columns(w, panel) + SPARE;
    float *to = panel_at(w, panel) + first % PANEL;
    for (size_t k = 0; k < w->in; k++, to += ld)
        for (size_t i = 0; i < n; i++) to[i] = rows[i * w->in + k];
}

reco_status reco_panels_create(reco_ctx *ctx, reco_panels **result, reco_rows_read read, void *arg,
                               size_t out, size_t in)
{
    *result = NULL;
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    size_t panels = (out + PANEL - 1) / PANEL, width = 0, count = 0;
    reco_panels *w = reco_alloc(ctx, 1, sizeof *w, "weights");
    float *rows = reco_scratch(ctx, ROWS_READ * in, sizeof *rows, "weights");
    if (!w || !rows) RECO_GO(RECO_E_NOMEM);
    *w = (reco_panels){.out = out, .in = in};
    if (!reco_mul(panels, SPARE, &width) || !reco_add(width, out, &width) || !reco_mul(width, in, &count))
        RECO_GO(reco_fail_nomem(ctx, SIZE_MAX, "weights"));
    if (!(w->data = reco_alloc_raw(ctx, count, sizeof(float), "weights"))) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < out; i += ROWS_READ) { /* PANEL is a multiple */
        size_t n = reco_min(ROWS_READ, out - i);
        RECO_GO(read(ctx, arg, rows, i, n));
        put_weight_rows(w, rows, i, n);
    }
    *result = w;
    w = NULL;
out:
    reco_panels_free(w);
    reco_scratch_release(ctx, mark);
    return status;
}

void reco_panels_free(reco_panels *w)
{
    if (!w) return;
    reco_free(w->data);
    reco_free(w);
}

typedef struct job {
    const reco_vec *vec;
    const reco_panels *w;
    float *y;
    const float *x, *bias;
    reco_act act;
    bool add;
    size_t m, tiles, panels, per_worker;
    float *scratch;
    atomic_bool failed;
} job;

static void tile(job *a, size_t first, size_t n, size_t panel, float *scratch)
{
    size_t in = a->w->in, out = a->w->out, width = columns(a->w, panel);
    float *y = a->y + first * out + panel * PANEL;
    const float *x = a->x + first * in, *bias = a->bias ? a->bias + panel * PANEL : NULL;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < width; j++)
            y[i * out + j] = (a->add ? y[i * out + j] : 0) + (bias ? bias[j] : 0);
    if (!reco_tile(y, out, x, in, panel_at(a->w, panel), n, width, in, 1, 1, scratch))
        atomic_store(&a->failed, true);
    for (size_t i = 0; i < n && a->act != RECO_ACT_NONE; i++)
        reco_vec_activate(a->vec, y + i * out, y + i * out, width, a->act);
}

static void tiles(void *arg, size_t begin, size_t end, int worker)
{
    job *a = arg;
    for (size_t task = begin; task < end; task++) {
        size_t group = task / (GROUP * a->panels) * GROUP, here = reco_min(GROUP, a->tiles - group),
               within = task - group * a->panels, first = (group + within % here) * TILE;
        tile(a, first, reco_min(TILE, a->m - first), within / here,
             a->scratch + (size_t)worker * a->per_worker);
    }
}

reco_status reco_panels_run(reco_ctx *ctx, float *y, const reco_panels *w, const float *x,
                            const float *bias, reco_act act, size_t m, bool add)
{
    if (m == 0) return RECO_OK;
    job a = {.vec = reco_vec_of(ctx), .w = w, .y = y, .x = x, .bias = bias, .act = act, .add = add, .m = m};
    reco_mark mark = reco_scratch_mark(ctx);
    a.tiles = (m + TILE - 1) / TILE;
    a.panels = (w->out + PANEL - 1) / PANEL;
    a.per_worker = reco_tile_scratch(w->in);
    a.scratch = reco_scratch(ctx, (size_t)reco_ctx_threads(ctx) * a.per_worker, sizeof(float), "rows");
    if (!a.scratch) return RECO_E_NOMEM;
    int before = reco_threads_enter(1); /* of each call of oneDNN's */
    reco_parallel(ctx, a.tiles * a.panels, 1, tiles, &a);
    reco_threads_leave(before);
    reco_scratch_release(ctx, mark);
    return a.failed
               ? reco_fail(ctx, RECO_E_INTERNAL, "linear: oneDNN refused %zu x %zu x %zu", m, w->out, w->in)
               : RECO_OK;
}
