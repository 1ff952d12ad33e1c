#include "fusion/tape.h"
#include "kernels/kernels.h"

#include <math.h>

/* Everything that this layer sees of the embeddings is an inner product, and those are of frozen vectors: gradients
 * reach the parameters through u, the softmax, w and the gate, and end there. */

enum { F = RECO_FEATURES };

typedef struct two_layers {
    const float *w0, *b0, *w2, *b2; /* [hidden][F], [hidden], [1][hidden], [1] */
    size_t hidden;
} two_layers;

typedef struct job {
    const reco_ctx *ctx;
    const reco_fusion *f;
    reco_tape *tape;
    two_layers u, w;
    float b, gamma;
    const float *dz;
    float *partial;  /* [n] rows of one side's gradient */
    size_t per_side; /* floats of one side */
    float *base;     /* where the side's parameters start, to turn pointers into offsets */
} job;

static two_layers net_of(const reco_fusion *f, reco_side side, size_t first)
{
    return (two_layers){reco_fusion_at(f, side, 0, first), reco_fusion_at(f, side, 0, first + 1),
                        reco_fusion_at(f, side, 0, first + 2), reco_fusion_at(f, side, 0, first + 3),
                        f->config.hidden};
}

static job job_of(reco_ctx *ctx, const reco_fusion *f, reco_tape *tape)
{
    return (job){.ctx = ctx,
                 .f = f,
                 .tape = tape,
                 .u = net_of(f, tape->side, P_U0_W),
                 .w = net_of(f, tape->side, P_W0_W),
                 .b = *reco_fusion_at(f, tape->side, 0, P_REL_B),
                 .gamma = *reco_fusion_at(f, tape->side, 0, P_REL_GAMMA)};
}

static float gelu(float x) { return 0.5f * x * (1 + erff(x * 0.70710678f)); }
static float gelu_slope(float x)
{
    return 0.5f * (1 + erff(x * 0.70710678f)) + x * 0.39894228f * expf(-0.5f * x * x);
}

/* w2 . gelu(w0 in + b0) + b2; hidden [hidden] keeps what goes into gelu. */
static float net_forward(const two_layers *net, const float *in, float *hidden)
{
    float y = *net->b2;
    for (size_t h = 0; h < net->hidden; h++) {
        float a = net->b0[h];
        for (size_t i = 0; i < F; i++) a += net->w0[h * F + i] * in[i];
        hidden[h] = a;
        y += net->w2[h] * gelu(a);
    }
    return y;
}

/* Add the gradients of the net's tensors but b2, given dy, to row (offsets as in the parameters); din [F] unless NULL.
 * u's b2 shifts every logit of a softmax alike, so its gradient is zero: summing it up would give rounding noise, which
 * AdamW turns into steps. */
static void net_backward(const job *j, const two_layers *net, float *row, float *din, float dy,
                         const float *in, const float *hidden)
{
    float *dw0 = row + (net->w0 - j->base), *db0 = row + (net->b0 - j->base),
          *dw2 = row + (net->w2 - j->base);
    for (size_t h = 0; h < net->hidden; h++) {
        dw2[h] += dy * gelu(hidden[h]);
        float da = dy * net->w2[h] * gelu_slope(hidden[h]);
        db0[h] += da;
        for (size_t i = 0; i < F; i++) {
            dw0[h * F + i] += da * in[i];
            if (din) din[i] += da * net->w0[h * F + i];
        }
    }
}

/* f [m][F] = s_i, c_i, a_i, s_i - max s, c_i - max c. */
static void features(const reco_ctx *ctx, float *f, const float *x, const float *R, const float *s,
                     size_t m, size_t d)
{
    float max_s = s[0], max_c = 0;
    for (size_t i = 0; i < m; i++) {
        f[i * F] = s[i];
        f[i * F + 1] = reco_dot_fast(ctx, x, R + i * d, d);
        f[i * F + 2] = 0;
        if (s[i] > max_s) max_s = s[i];
        if (i == 0 || f[i * F + 1] > max_c) max_c = f[i * F + 1];
    }
    for (size_t i = 0; i < m; i++)
        for (size_t l = i + 1; l < m; l++) {
            float a = reco_dot_fast(ctx, R + i * d, R + l * d, d) / (float)(m - 1);
            f[i * F + 2] += a;
            f[l * F + 2] += a;
        }
    for (size_t i = 0; i < m; i++) {
        f[i * F + 3] = s[i] - max_s;
        f[i * F + 4] = f[i * F + 1] - max_c;
    }
}

static void item_forward(const job *j, size_t i)
{
    const reco_tape *t = j->tape;
    size_t d = j->f->config.d, k = t->k, hidden = j->f->config.hidden, m = t->valid[i];
    const float *x = t->x + i * d, *R = t->retrieved + i * k * d;
    float *f = t->rel.f + i * k * F, *p = t->rel.p + i * k, *e = t->rel.e + i * F;
    float *z = t->z + i * d;
    if (m == 0) return;
    features(j->ctx, f, x, R, t->scores + i * k, m, d);
    for (size_t n = 0; n < m; n++)
        p[n] = 20 * j->b * f[n * F] + 10 * net_forward(&j->u, f + n * F, t->rel.hu + (i * k + n) * hidden);
    reco_softmax_row(p, m);
    /* s_i - (s_i - max s) would round; the maxima are sought again. */
    e[0] = e[1] = e[4] = 0;
    e[2] = f[0];
    e[3] = f[1];
    for (size_t n = 0; n < m; n++) {
        e[0] += p[n] * f[n * F];
        e[1] += p[n] * f[n * F + 1];
        e[4] += p[n] * f[n * F + 2];
        if (f[n * F] > e[2]) e[2] = f[n * F];
        if (f[n * F + 1] > e[3]) e[3] = f[n * F + 1];
    }
    float g = expf(j->gamma + 3 * net_forward(&j->w, e, t->rel.hw + i * hidden));
    t->rel.gate[i] = g;
    memcpy(z, x, d * sizeof *z);
    for (size_t n = 0; n < m; n++)
        for (size_t q = 0; q < d; q++) z[q] += g * p[n] * R[n * d + q];
}

static void items_forward(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    for (size_t i = begin; i < end; i++) item_forward(arg, i);
}

reco_status reco_relational_forward(reco_ctx *ctx, const reco_fusion *f, reco_tape *tape)
{
    job j = job_of(ctx, f, tape);
    reco_parallel(ctx, tape->n, 16, items_forward, &j);
    return RECO_OK;
}

static void item_backward(const job *j, size_t i)
{
    const reco_tape *t = j->tape;
    size_t d = j->f->config.d, k = t->k, hidden = j->f->config.hidden, m = t->valid[i];
    if (m == 0) return;
    const float *R = t->retrieved + i * k * d, *dz = j->dz + i * d;
    const float *f = t->rel.f + i * k * F, *p = t->rel.p + i * k, *e = t->rel.e + i * F;
    float *row = j->partial + i * j->per_side, g = t->rel.gate[i];
    float along[1024]; /* dz . R_n, then dLoss/dp_n; k is at most 1024 */
    float dg = 0;
    for (size_t n = 0; n < m; n++) {
        along[n] = reco_dot_fast(j->ctx, dz, R + n * d, d);
        dg += p[n] * along[n];
    }
    float dlog = dg * g, de[F] = {0}; /* of ln g */
    row[reco_fusion_at(j->f, t->side, 0, P_REL_GAMMA) - j->base] += dlog;
    row[j->w.b2 - j->base] += 3 * dlog;
    net_backward(j, &j->w, row, de, 3 * dlog, e, t->rel.hw + i * hidden);
    float mean = 0;
    for (size_t n = 0; n < m; n++) {
        along[n] = g * along[n] + de[0] * f[n * F] + de[1] * f[n * F + 1] + de[4] * f[n * F + 2];
        mean += p[n] * along[n];
    }
    for (size_t n = 0; n < m; n++) {
        float dlogit = p[n] * (along[n] - mean);
        row[reco_fusion_at(j->f, t->side, 0, P_REL_B) - j->base] += 20 * dlogit * f[n * F];
        net_backward(j, &j->u, row, NULL, 10 * dlogit, f + n * F, t->rel.hu + (i * k + n) * hidden);
    }
}

static void items_backward(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    for (size_t i = begin; i < end; i++) item_backward(arg, i);
}

reco_status reco_relational_backward(reco_ctx *ctx, const reco_fusion *f, reco_tape *tape, const float *dz,
                                     float *dvector)
{
    reco_mark mark = reco_scratch_mark(ctx);
    job j = job_of(ctx, f, tape);
    j.dz = dz;
    j.base = f->params[(size_t)tape->side * f->per_side].value;
    j.per_side = f->total / 2;
    j.partial = reco_scratch(ctx, tape->n * j.per_side, sizeof(float), "fusion backward");
    if (!j.partial) return RECO_E_NOMEM;
    memset(j.partial, 0, tape->n * j.per_side * sizeof(float));
    reco_parallel(ctx, tape->n, 16, items_backward, &j);
    /* Summed in the order of items, so that the result does not depend on the threads. */
    float *to = dvector + (j.base - f->vector);
    for (size_t q = 0; q < j.per_side; q++) {
        double sum = 0;
        for (size_t i = 0; i < tape->n; i++) sum += j.partial[i * j.per_side + q];
        to[q] += (float)sum;
    }
    reco_scratch_release(ctx, mark);
    return RECO_OK;
}
