#include "kernels/kernels_internal.h"

typedef struct args {
    const reco_vec *vec;
    float *out, *scratch;
    const float *qkv;
    const size_t *starts;
    size_t heads, width, longest, per_worker;
    bool causal;
} args;

/* One sequence and head: keys transposed and values packed, so that the inner loops run over contiguous memory. */
static void attend(void *arg, size_t begin, size_t end, int worker)
{
    const args *a = arg;
    size_t w = a->width, d = a->heads * w, row = 3 * d;
    float *kt = a->scratch + (size_t)worker * a->per_worker, *v = kt + w * a->longest,
          *s = v + w * a->longest;
    for (size_t task = begin; task < end; task++) {
        size_t sequence = task / a->heads, head = task % a->heads;
        size_t first = a->starts[sequence], t = a->starts[sequence + 1] - first;
        const float *base = a->qkv + first * row + head * w;
        for (size_t j = 0; j < t; j++) {
            for (size_t c = 0; c < w; c++) kt[c * a->longest + j] = base[j * row + d + c];
            memcpy(v + j * w, base + j * row + 2 * d, w * sizeof(float));
        }
        a->vec->attend(a->out + first * d + head * w, d, base, row, kt, a->longest, v, t, t, w, a->causal,
                       s);
    }
}

reco_status reco_attention(reco_ctx *ctx, float *out, const float *qkv, const size_t *starts, size_t n,
                           size_t heads, size_t width, bool causal)
{
    args a = {reco_vec_of(ctx), out, NULL, qkv, starts, heads, width, 0, 0, causal};
    for (size_t i = 0; i < n; i++) a.longest = reco_max(a.longest, starts[i + 1] - starts[i]);
    a.longest = (a.longest + 15) / 16 * 16;
    a.per_worker = (2 * width + 1) * a.longest + 16;
    reco_mark mark = reco_scratch_mark(ctx);
    a.scratch = reco_scratch(ctx, (size_t)reco_ctx_threads(ctx) * a.per_worker, sizeof(float), "attention");
    if (!a.scratch) return RECO_E_NOMEM;
    reco_parallel(ctx, n * heads, 1, attend, &a);
    reco_scratch_release(ctx, mark);
    return RECO_OK;
}
