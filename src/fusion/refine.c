#include "fusion/tape.h"
#include "kernels/kernels.h"

#include <math.h>

/* Tokens in one pass of refine: bounds its memory, whatever n is. */
enum { CHUNK_TOKENS = 2048 };

reco_status reco_fusion_counts(reco_ctx *ctx, size_t *valid, const reco_fusion *f,
                               const reco_fusion_input *in)
{
    const size_t k = in->k;
    for (size_t i = 0; i < in->n; i++) {
        size_t most = in->valid ? in->valid[i] : k, m = 0;
        const float *scores = in->scores + i * k;
        if (most > k)
            return reco_fail(ctx, RECO_E_ARG, "fusion: valid[%zu] = %zu, want 0..%zu", i, most, k);
        for (; m < most && !(scores[m] < f->config.min_similarity); m++)
            if (!isfinite(scores[m]))
                return reco_fail(ctx, RECO_E_ARG, "fusion: scores[%zu][%zu] is not finite", i, m);
        valid[i] = m;
    }
    return RECO_OK;
}

void reco_fusion_finish(reco_ctx *ctx, float *out, const float *z, const float *x, const size_t *valid,
                        size_t n, size_t d, float *norms)
{
    /* Runs of one kind at a time: out may alias x, and rows that are copied must not pass through arithmetic. */
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && (valid[end] == 0) == (valid[i] == 0);) end++;
        if (valid[i] == 0)
            memmove(out + i * d, x + i * d, (end - i) * d * sizeof *out);
        else
            reco_normalize(ctx, out + i * d, z + i * d, end - i, d, norms ? norms + i : NULL);
    }
}

/* By layer, from the relational one on. */
static const struct {
    reco_status (*forward)(reco_ctx *, const reco_fusion *, reco_tape *);
    reco_status (*backward)(reco_ctx *, const reco_fusion *, reco_tape *, float *, float *);
} trained[] = {{reco_relational_forward, reco_relational_backward},
               {reco_transformer_forward, reco_transformer_backward},
               {reco_mlp_forward, reco_mlp_backward}};

static reco_status check_k(reco_ctx *ctx, size_t k)
{
    return k >= 1 && k <= 1024 ? RECO_OK : reco_fail(ctx, RECO_E_ARG, "fusion: k = %zu, want 1..1024", k);
}

reco_fusion_input reco_fusion_part(const reco_fusion *fusion, const reco_fusion_input *in, size_t i,
                                   size_t n)
{
    reco_fusion_input part = *in;
    part.n = n;
    part.x += i * fusion->config.d;
    if (in->retrieved) part.retrieved += i * in->k * fusion->config.d;
    if (in->scores) part.scores += i * in->k;
    if (in->valid) part.valid += i;
    return part;
}

reco_status reco_fusion_forward(reco_ctx *ctx, const reco_fusion *fusion, const reco_fusion_input *in,
                                float *out, reco_tape *tape)
{
    const size_t n = in->n, k = in->k;
    RECO_TRY(check_k(ctx, k));
    if (n > tape->max_n || k > tape->max_k || !reco_layer_trains(fusion->config.layer))
        return reco_fail(ctx, RECO_E_ARG, "fusion: %zu items of %zu neighbours on a tape for %zu of %zu", n,
                         k, tape->max_n, tape->max_k);
    tape->side = in->side;
    tape->n = n;
    tape->k = k;
    tape->x = in->x;
    tape->retrieved = in->retrieved;
    tape->scores = in->scores;
    if (fusion->config.layer == RECO_LAYER_MLP)
        for (size_t i = 0; i < n; i++) tape->valid[i] = 1; /* none is copied */
    else
        RECO_TRY(reco_fusion_counts(ctx, tape->valid, fusion, in));
    RECO_TRY(trained[fusion->config.layer - RECO_LAYER_RELATIONAL].forward(ctx, fusion, tape));
    reco_fusion_finish(ctx, tape->y, tape->z, in->x, tape->valid, n, fusion->config.d, tape->norms);
    memcpy(out, tape->y, n * fusion->config.d * sizeof *out);
    return RECO_OK;
}

reco_status reco_fusion_backward(reco_ctx *ctx, const reco_fusion *fusion, reco_tape *tape,
                                 const float *dout, float *dvector)
{
    size_t d = fusion->config.d;
    reco_mark mark = reco_scratch_mark(ctx);
    float *dz = reco_scratch(ctx, tape->n * d, sizeof *dz, "fusion backward");
    if (!dz) return RECO_E_NOMEM;
    for (size_t i = 0; i < tape->n; i++) {
        const float *y = tape->y + i * d, *dy = dout + i * d;
        float along = (float)reco_dot_wide(ctx, y, dy, d), r = tape->norms[i] > 0 ? 1 / tape->norms[i] : 0;
        if (tape->valid[i] == 0) r = 0; /* copied, not computed */
        for (size_t q = 0; q < d; q++) dz[i * d + q] = r * (dy[q] - along * y[q]);
    }
    reco_status status =
        trained[fusion->config.layer - RECO_LAYER_RELATIONAL].backward(ctx, fusion, tape, dz, dvector);
    reco_scratch_release(ctx, mark);
    return status;
}

static reco_status refine_controls(reco_ctx *ctx, const reco_fusion *f, const reco_fusion_input *in,
                                   float *out)
{
    size_t d = f->config.d;
    reco_mark mark = reco_scratch_mark(ctx);
    size_t *valid = reco_scratch(ctx, in->n, sizeof *valid, "fusion");
    float *z = reco_scratch(ctx, in->n * d, sizeof *z, "fusion");
    if (!valid || !z) return RECO_E_NOMEM;
    reco_status status = reco_fusion_counts(ctx, valid, f, in);
    if (status == RECO_OK) {
        reco_control_forward(ctx, f, z, in, valid);
        reco_fusion_finish(ctx, out, z, in->x, valid, in->n, d, NULL);
    }
    reco_scratch_release(ctx, mark);
    return status;
}

reco_status reco_fusion_refine(reco_ctx *ctx, const reco_fusion *fusion, const reco_fusion_input *in,
                               const reco_fused *out)
{
    RECO_TRY(reco_reserved(ctx, "fusion", in->reserved));
    RECO_TRY(reco_reserved(ctx, "fusion", out->reserved));
    RECO_TRY(check_k(ctx, in->k));
    bool alone = fusion->config.layer == RECO_LAYER_MLP; /* neighbours may not be there at all */
    size_t d = fusion->config.d, tokens = alone ? 1 : in->k + 1,
           chunk = reco_min(in->n, reco_max(1, CHUNK_TOKENS / tokens));
    reco_status status = RECO_OK;
    reco_tape *tape = NULL;
    /* before the rows, which may be x */
    if (out->weights) RECO_TRY(reco_fusion_weights(ctx, fusion, in, out->weights));
    if (!out->rows) return RECO_OK;
    if (fusion->config.layer == RECO_LAYER_NONE) {
        memmove(out->rows, in->x, in->n * d * sizeof *out->rows);
        return RECO_OK;
    }
    bool trains = reco_layer_trains(fusion->config.layer);
    if (trains) RECO_TRY(reco_tape_create(ctx, &tape, fusion, chunk, in->k));
    for (size_t i = 0; i < in->n; i += chunk) {
        reco_fusion_input part = reco_fusion_part(fusion, in, i, reco_min(chunk, in->n - i));
        if (trains)
            RECO_GO(reco_fusion_forward(ctx, fusion, &part, out->rows + i * d, tape));
        else
            RECO_GO(refine_controls(ctx, fusion, &part, out->rows + i * d));
    }
out:
    reco_tape_free(tape);
    return status;
}
