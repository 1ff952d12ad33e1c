#include "fusion/tape.h"

/* Hand out pieces of one allocation; the first pass, with base NULL, only counts. */
typedef struct carve {
    float *base;
    size_t used;
    bool overflow;
} carve;

static float *carve_piece(carve *c, size_t a, size_t b, size_t e)
{
    size_t n;
    if (!reco_mul(a, b, &n) || !reco_mul(n, e, &n) || !reco_add(n, 15, &n) ||
        !reco_add(c->used, n & ~(size_t)15, &n)) {
        c->overflow = true;
        return NULL;
    }
    float *at = c->base ? c->base + c->used : NULL;
    c->used = n;
    return at;
}

static void lay_out(reco_tape *t, const reco_fusion_config *c, carve *m)
{
    size_t n = t->max_n, T = t->max_k + 1, d = c->d;
    t->y = carve_piece(m, n, d, 1);
    t->z = carve_piece(m, n, d, 1);
    t->norms = carve_piece(m, n, 1, 1);
    if (c->layer == RECO_LAYER_MLP) {
        reco_block_tape *b = t->blocks;
        b->b = carve_piece(m, n, d, 1);
        b->mean2 = carve_piece(m, n, 1, 1);
        b->rstd2 = carve_piece(m, n, 1, 1);
        b->m = carve_piece(m, n, c->mlp, 1);
        b->g = carve_piece(m, n, c->mlp, 1);
        return;
    }
    for (size_t l = 0; t->blocks && l < c->layers; l++) {
        reco_block_tape *b = &t->blocks[l];
        size_t tq = l + 1 == c->layers ? 1 : T;
        b->x = carve_piece(m, n, T, d);
        b->a = carve_piece(m, n, T, d);
        b->mean1 = carve_piece(m, n, T, 1);
        b->rstd1 = carve_piece(m, n, T, 1);
        b->q = carve_piece(m, n, tq, d);
        if (reco_layer_pools(c, l)) {
            b->r = carve_piece(m, n, c->heads, d);
            b->sums = carve_piece(m, n, c->heads, d);
        } else
            b->kv = carve_piece(m, n, T, 2 * d);
        b->p = carve_piece(m, n * c->heads, tq, T);
        b->o = carve_piece(m, n, tq, d);
        b->h = carve_piece(m, n, tq, d);
        b->b = carve_piece(m, n, tq, d);
        b->mean2 = carve_piece(m, n, tq, 1);
        b->rstd2 = carve_piece(m, n, tq, 1);
        b->m = carve_piece(m, n, tq, c->mlp);
        b->g = carve_piece(m, n, tq, c->mlp);
    }
    if (c->layer != RECO_LAYER_RELATIONAL) return;
    t->rel.f = carve_piece(m, n, t->max_k, RECO_FEATURES);
    for (int net = 0; net < 2; net++) {
        t->rel.pre[net] = carve_piece(m, n, net ? 1 : t->max_k, c->hidden);
        t->rel.act[net] = carve_piece(m, n, net ? 1 : t->max_k, c->hidden);
    }
    t->rel.u = carve_piece(m, n, t->max_k, 1);
    t->rel.p = carve_piece(m, n, t->max_k, 1);
    t->rel.e = carve_piece(m, n, RECO_FEATURES, 1);
    t->rel.gate = carve_piece(m, n, 1, 1);
}

reco_status reco_tape_create(reco_ctx *ctx, reco_tape **out, const reco_fusion *fusion, size_t max_n,
                             size_t max_k)
{
    *out = NULL;
    const reco_fusion_config *c = &fusion->config;
    if (max_k < 1 || max_k > 1024)
        return reco_fail(ctx, RECO_E_ARG, "fusion: k = %zu, want 1..1024", max_k);
    reco_status status = RECO_E_NOMEM;
    reco_tape *t = reco_alloc(ctx, 1, sizeof *t, "fusion tape");
    if (!t) return RECO_E_NOMEM;
    t->max_n = max_n;
    t->max_k = max_k;
    t->valid = reco_alloc(ctx, max_n, sizeof *t->valid, "fusion tape");
    if (!t->valid) goto out;
    if (c->layer != RECO_LAYER_RELATIONAL) {
        t->blocks =
            reco_alloc(ctx, c->layer == RECO_LAYER_MLP ? 1 : c->layers, sizeof *t->blocks, "fusion tape");
        if (!t->blocks) goto out;
    }
    carve need = {0};
    lay_out(t, c, &need);
    if (need.overflow) {
        reco_fail_nomem(ctx, SIZE_MAX, "fusion tape");
        goto out;
    }
    t->memory = reco_alloc(ctx, need.used, sizeof(float), "fusion tape");
    if (!t->memory) goto out;
    t->floats = need.used;
    lay_out(t, c, &(carve){.base = t->memory});
    *out = t;
    return RECO_OK;
out:
    reco_tape_free(t);
    return status;
}

void reco_tape_free(reco_tape *t)
{
    if (!t) return;
    reco_free(t->memory);
    reco_free(t->blocks);
    reco_free(t->valid);
    reco_free(t);
}

size_t reco_tape_bytes(const reco_tape *t) { return t->floats * sizeof *t->memory; }

void reco_tape_know(reco_tape *tape, const float *c, const float *a)
{
    tape->c = c;
    tape->a = a;
}

void reco_tape_point(reco_tape *tape, const float *rows, const uint32_t *place)
{
    tape->rows = rows;
    tape->place = place;
}
