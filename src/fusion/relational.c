#include "fusion/tape.h"
#include "kernels/kernels.h"

#include <math.h>

/* Everything that this layer sees of the embeddings is an inner product, and those are of frozen vectors: gradients
 * reach the parameters through u, the softmax, w and the gate, and end there. The two small nets run over all rows at
 * once, as matrix products; the rest goes item by item. */

enum { F = RECO_FEATURES, NET_U = 0, NET_W = 1, ROWS = 256 };

/* ---- u and w: Linear(F, hidden), GELU, Linear(hidden, 1) ---- */

static const size_t net_first[2] = {P_U0_W, P_W0_W}; /* weight, bias, weight, bias from there */

/* y[m] = net(in [m][F]) */
static reco_status net_forward(reco_ctx *ctx, const reco_fusion *f, reco_tape *t, int net, float *y,
                               const float *in, size_t m)
{
    size_t hidden = f->config.hidden, first = net_first[net];
    float *pre = t->rel.pre[net], *act = t->rel.act[net];
    const float *w0 = reco_fusion_at(f, t->side, 0, first), *b0 = reco_fusion_at(f, t->side, 0, first + 1);
    const float *w2 = reco_fusion_at(f, t->side, 0, first + 2),
                *b2 = reco_fusion_at(f, t->side, 0, first + 3);
    for (size_t i = 0; i < m; i++) memcpy(pre + i * hidden, b0, hidden * sizeof *pre);
    RECO_TRY(reco_gemm(ctx, pre, hidden, in, F, false, w0, F, true, m, hidden, F, 1, 1));
    reco_activate(ctx, act, pre, m * hidden, RECO_ACT_GELU);
    for (size_t i = 0; i < m; i++) y[i] = *b2 + reco_dot_fast(ctx, act + i * hidden, w2, hidden);
    return RECO_OK;
}

/* Sums over rows: sums [F+2][hidden] += in' da, da, dy act. Matrix products of one to five columns, for which oneDNN has
 * no fast kernel on AVX2: there they took two thirds of a step. */
static void add_rows(float *restrict sums, const float *restrict da, const float *restrict dy,
                     const float *restrict act, const float *restrict in, size_t m, size_t hidden)
{
    for (size_t i = 0; i < m; i++) {
        const float *restrict row = da + i * hidden, *restrict a = act + i * hidden;
        for (size_t q = 0; q < F; q++) {
            float x = in[i * F + q], *restrict s = sums + q * hidden;
            for (size_t h = 0; h < hidden; h++) s[h] += x * row[h];
        }
        float *restrict s = sums + F * hidden, *restrict s2 = s + hidden, y = dy[i];
        for (size_t h = 0; h < hidden; h++) {
            s[h] += row[h];
            s2[h] += y * a[h];
        }
    }
}

/* Add the gradients of the net's tensors but the last bias, given dy [m]; din [m][F] unless NULL.
 * Of u the last bias shifts every logit of a softmax alike, so its gradient is zero: summing it up would give rounding
 * noise, which AdamW turns into steps. Of w the caller adds it. */
static reco_status net_backward(reco_ctx *ctx, const reco_fusion *f, const reco_tape *t, int net,
                                float *dvector, float *din, const float *dy, const float *in, size_t m)
{
    size_t hidden = f->config.hidden, first = net_first[net];
    const float *pre = t->rel.pre[net], *act = t->rel.act[net];
    const float *w0 = reco_fusion_at(f, t->side, 0, first), *w2 = reco_fusion_at(f, t->side, 0, first + 2);
    float *dw0 = reco_fusion_grad(f, dvector, t->side, 0, first);
    float *db0 = reco_fusion_grad(f, dvector, t->side, 0, first + 1);
    float *dw2 = reco_fusion_grad(f, dvector, t->side, 0, first + 2);
    float *da = reco_scratch(ctx, m * hidden, sizeof *da, "fusion backward"); /* [m][hidden] */
    float *sums = reco_scratch(ctx, (F + 2) * hidden, sizeof *sums, "fusion backward");
    if (!da || !sums) return RECO_E_NOMEM;
    for (size_t i = 0; i < m; i++)
        for (size_t h = 0; h < hidden; h++) da[i * hidden + h] = dy[i] * w2[h];
    reco_gelu_backward(ctx, da, da, pre, m * hidden);
    for (size_t i = 0; i < m; i += ROWS) { /* long sums in pieces, so that they round less */
        memset(sums, 0, (F + 2) * hidden * sizeof *sums);
        add_rows(sums, da + i * hidden, dy + i, act + i * hidden, in + i * F, reco_min(ROWS, m - i),
                 hidden);
        for (size_t h = 0; h < hidden; h++) {
            for (size_t q = 0; q < F; q++) dw0[h * F + q] += sums[q * hidden + h];
            db0[h] += sums[F * hidden + h];
            dw2[h] += sums[(F + 1) * hidden + h];
        }
    }
    return din ? reco_gemm(ctx, din, F, da, hidden, false, w0, F, false, m, F, hidden, 1, 0) : RECO_OK;
}

/* ---- item by item ---- */

typedef struct job {
    const reco_ctx *ctx;
    const reco_tape *t;
    size_t d;
    float b;
    const float *dz; /* [n][d] */
    float *dp;       /* [n*k] dz . R_i, then dLoss/dlogit_i of the softmax */
    float *dlog;     /* [n] of ln g */
    const float *de; /* [n][F] */
    float *db;       /* [n] */
} job;

/* f [k][F] = s_i, c_i, a_i, s_i - max s, c_i - max c of the m that count, else 0. */
static void features(const job *j, size_t i)
{
    size_t d = j->d, k = j->t->k, m = j->t->valid[i];
    const uint32_t *at;
    const float *x = j->t->x + i * d, *R = reco_tape_rows(j->t, i, d, &at), *s = j->t->scores + i * k;
    const float *c = j->t->c ? j->t->c + i * k : NULL;
    float *f = j->t->rel.f + i * k * F;
    float max_s = 0, max_c = 0;
    memset(f, 0, k * F * sizeof *f);
    for (size_t n = 0; n < m; n++) {
        f[n * F] = s[n];
        const float *row = R + (at ? at[n] : n) * d;
        f[n * F + 1] = c ? c[n] : reco_dot_fast(j->ctx, x, row, d);
        if (c) f[n * F + 2] = j->t->a[i * k + n];
        if (n == 0 || s[n] > max_s) max_s = s[n];
        if (n == 0 || f[n * F + 1] > max_c) max_c = f[n * F + 1];
        for (size_t l = 0; l < n && !c; l++) {
            float a = reco_dot_fast(j->ctx, row, R + (at ? at[l] : l) * d, d) / (float)(m - 1);
            f[n * F + 2] += a;
            f[l * F + 2] += a;
        }
    }
    for (size_t n = 0; n < m; n++) {
        f[n * F + 3] = s[n] - max_s;
        f[n * F + 4] = f[n * F + 1] - max_c;
    }
    /* The maxima wait in e until the softmax is known. */
    j->t->rel.e[i * F + 2] = max_s;
    j->t->rel.e[i * F + 3] = max_c;
}

static void all_features(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    for (size_t i = begin; i < end; i++) features(arg, i);
}

static void weigh(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const job *j = arg;
    const reco_relation_tape *r = &j->t->rel;
    for (size_t i = begin; i < end; i++) {
        size_t k = j->t->k, m = j->t->valid[i];
        const float *f = r->f + i * k * F;
        float *p = r->p + i * k, *e = r->e + i * F;
        for (size_t n = 0; n < m; n++) p[n] = 20 * j->b * f[n * F] + 10 * r->u[i * k + n];
        reco_softmax_row(j->ctx, p, m);
        for (size_t n = m; n < k; n++) p[n] = 0;
        e[0] = e[1] = e[4] = 0;
        for (size_t n = 0; n < m; n++) {
            e[0] += p[n] * f[n * F];
            e[1] += p[n] * f[n * F + 1];
            e[4] += p[n] * f[n * F + 2];
        }
    }
}

static void fuse(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const job *j = arg;
    size_t d = j->d, k = j->t->k;
    for (size_t i = begin; i < end; i++) {
        const uint32_t *at;
        const float *R = reco_tape_rows(j->t, i, d, &at), *p = j->t->rel.p + i * k;
        float *z = j->t->z + i * d, g = j->t->rel.gate[i], w[1024]; /* k is at most 1024 */
        size_t m = j->t->valid[i];
        memcpy(z, j->t->x + i * d, d * sizeof *z);
        for (size_t n = 0; n < m; n++) w[n] = g * p[n];
        reco_mix(j->ctx, z, R, d, at, w, m, d);
    }
}

reco_status reco_relational_forward(reco_ctx *ctx, const reco_fusion *f, reco_tape *t)
{
    job j = {.ctx = ctx, .t = t, .d = f->config.d, .b = *reco_fusion_at(f, t->side, 0, P_REL_B)};
    float gamma = *reco_fusion_at(f, t->side, 0, P_REL_GAMMA);
    reco_parallel(ctx, t->n, 16, all_features, &j);
    RECO_TRY(net_forward(ctx, f, t, NET_U, t->rel.u, t->rel.f, t->n * t->k));
    reco_parallel(ctx, t->n, 64, weigh, &j);
    RECO_TRY(net_forward(ctx, f, t, NET_W, t->rel.gate, t->rel.e, t->n));
    for (size_t i = 0; i < t->n; i++) t->rel.gate[i] = expf(gamma + 3 * t->rel.gate[i]);
    reco_parallel(ctx, t->n, 16, fuse, &j);
    return RECO_OK;
}

/* dp = dz . R_i, and the gradient of ln g. */
static void unfuse(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const job *j = arg;
    size_t d = j->d, k = j->t->k;
    for (size_t i = begin; i < end; i++) {
        const uint32_t *at;
        const float *R = reco_tape_rows(j->t, i, d, &at);
        float *along = j->dp + i * k, dg = 0;
        size_t m = j->t->valid[i];
        reco_dots(j->ctx, along, j->dz + i * d, R, d, at, m, d);
        for (size_t n = m; n < k; n++) along[n] = 0;
        for (size_t n = 0; n < m; n++) dg += j->t->rel.p[i * k + n] * along[n];
        j->dlog[i] = dg * j->t->rel.gate[i];
    }
}

/* Through the softmax; dlogit of neighbours that do not count is 0, since p is. */
static void unweigh(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const job *j = arg;
    size_t k = j->t->k;
    for (size_t i = begin; i < end; i++) {
        const float *f = j->t->rel.f + i * k * F, *p = j->t->rel.p + i * k, *de = j->de + i * F;
        float *dp = j->dp + i * k, mean = 0;
        for (size_t n = 0; n < k; n++) {
            dp[n] =
                j->t->rel.gate[i] * dp[n] + de[0] * f[n * F] + de[1] * f[n * F + 1] + de[4] * f[n * F + 2];
            mean += p[n] * dp[n];
        }
        j->db[i] = 0;
        for (size_t n = 0; n < k; n++) {
            float dlogit = p[n] > 1e-20f ? p[n] * (dp[n] - mean) : 0; /* no denormals: they are slow */
            j->db[i] += 20 * dlogit * f[n * F];
            dp[n] = 10 * dlogit; /* of u(f_n) */
        }
    }
}

/* Long sums in pieces, as those of nets are. */
static float add_up(float sum, float factor, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += ROWS) {
        double piece = 0;
        for (size_t q = i; q < reco_min(n, i + ROWS); q++) piece += (double)x[q];
        sum += (float)((double)factor * piece);
    }
    return sum;
}

reco_status reco_relational_backward(reco_ctx *ctx, const reco_fusion *f, reco_tape *t, float *dz,
                                     float *dvector)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    size_t n = t->n, k = t->k;
    float *de = reco_scratch(ctx, n * F, sizeof *de, "fusion backward");
    float *dw = reco_scratch(ctx, n, sizeof *dw, "fusion backward"); /* of w(e) */
    job j = {.ctx = ctx,
             .t = t,
             .d = f->config.d,
             .b = *reco_fusion_at(f, t->side, 0, P_REL_B),
             .dz = dz,
             .de = de};
    j.dp = reco_scratch(ctx, n * k, sizeof(float), "fusion backward");
    j.dlog = reco_scratch(ctx, n, sizeof(float), "fusion backward");
    j.db = reco_scratch(ctx, n, sizeof(float), "fusion backward");
    if (!de || !dw || !j.dp || !j.dlog || !j.db) RECO_GO(RECO_E_NOMEM);
    reco_parallel(ctx, n, 16, unfuse, &j);
    for (size_t i = 0; i < n; i++) dw[i] = 3 * j.dlog[i];
    float *dgamma = reco_fusion_grad(f, dvector, t->side, 0, P_REL_GAMMA),
          *dbias = reco_fusion_grad(f, dvector, t->side, 0, P_W2_B),
          *db = reco_fusion_grad(f, dvector, t->side, 0, P_REL_B);
    *dgamma = add_up(*dgamma, 1, j.dlog, n);
    *dbias = add_up(*dbias, 3, j.dlog, n);
    RECO_GO(net_backward(ctx, f, t, NET_W, dvector, de, dw, t->rel.e, n));
    reco_parallel(ctx, n, 64, unweigh, &j);
    *db = add_up(*db, 1, j.db, n);
    RECO_GO(net_backward(ctx, f, t, NET_U, dvector, NULL, j.dp, t->rel.f, n * k));
out:
    reco_scratch_release(ctx, mark);
    return status;
}
