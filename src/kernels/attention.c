#include "kernels/kernels_internal.h"

typedef struct args {
    const reco_vec *vec;
    char *out;
    const char *qkv;
    size_t item; /* bytes of a number */
    float *scratch;
    const size_t *starts, *only;
    size_t heads, width, longest, per_worker;
    bool causal;
} args;

/* What the processor has instructions for is done in bf16. */
static bool native(const reco_ctx *ctx, const args *a)
{
#ifdef RECO_ATTEND_BF16
    return a->item == sizeof(uint16_t) && !a->only && a->width % 16 == 0 && reco_has_bf16(ctx);
#else
    (void)ctx, (void)a;
    return false;
#endif
}

static void attend_bf16(void *arg, size_t begin, size_t end, int worker)
{
#ifdef RECO_ATTEND_BF16
    const args *a = arg;
    size_t w = a->width, d = a->heads * w, row = 3 * d;
    for (size_t task = begin; task < end; task++) {
        size_t sequence = task / a->heads, first = a->starts[sequence], at = task % a->heads * w;
        const uint16_t *q = (const uint16_t *)(const void *)a->qkv + first * row + at;
        reco_attend_bf16(a->vec, (uint16_t *)(void *)a->out + first * d + at, d, q, q + d, q + 2 * d, row,
                         a->starts[sequence + 1] - first, w, a->causal,
                         a->scratch + (size_t)worker * a->per_worker);
    }
#else
    (void)arg, (void)begin, (void)end, (void)worker;
#endif
}

/* [t][w] numbers, one row every `row` numbers, as f32 in a row. */
static void gather_head(const args *a, float *to, const char *from, size_t t, size_t w, size_t row)
{
    for (size_t j = 0; j < t; j++, to += w, from += row * a->item)
        if (a->item == sizeof(float))
            memcpy(to, from, w * sizeof(float));
        else
            a->vec->from_bf16(to, (const uint16_t *)(const void *)from, w);
}

static void scatter(const args *a, char *to, const float *from, size_t t, size_t w, size_t row)
{
    for (size_t j = 0; j < t; j++, from += w, to += row * a->item)
        if (a->item == sizeof(float))
            memcpy(to, from, w * sizeof(float));
        else
            a->vec->to_bf16((uint16_t *)(void *)to, from, w);
}

/* One sequence and head: keys transposed and values packed, so that the inner loops run over contiguous memory. */
static void attend_heads(void *arg, size_t begin, size_t end, int worker)
{
    const args *a = arg;
    size_t w = a->width, d = a->heads * w, row = 3 * d, panel = w * a->longest;
    float *kt = a->scratch + (size_t)worker * a->per_worker, *v = kt + panel, *q = v + panel,
          *k = q + panel, *s = k + panel;
    for (size_t task = begin; task < end; task++) {
        size_t sequence = task / a->heads, head = task % a->heads;
        size_t first = a->starts[sequence], t = a->starts[sequence + 1] - first, nq = t, at = 0;
        const char *base = a->qkv + (first * row + head * w) * a->item;
        bool causal = a->causal;
        if (a->only) {
            at = a->only[sequence] - first;
            nq = 1;
            if (causal) t = at + 1;
            causal = false;
        }
        gather_head(a, q, base + at * row * a->item, nq, w, row);
        gather_head(a, k, base + d * a->item, t, w, row);
        gather_head(a, v, base + 2 * d * a->item, t, w, row);
        for (size_t j = 0; j < t; j++)
            for (size_t c = 0; c < w; c++) kt[c * a->longest + j] = k[j * w + c];
        /* k is done with: the output takes its place. */
        a->vec->attend(k, w, q, w, kt, a->longest, v, nq, t, w, causal, s);
        size_t to = a->only ? sequence : first;
        scatter(a, a->out + (to * d + head * w) * a->item, k, nq, w, d);
    }
}

reco_status reco_attention(reco_ctx *ctx, void *out, const void *qkv, reco_dtype type, const size_t *starts,
                           size_t n, size_t heads, size_t width, bool causal, const size_t *only)
{
    args a = {.vec = reco_vec_of(ctx),
              .out = out,
              .qkv = qkv,
              .item = reco_dtype_size(type),
              .starts = starts,
              .only = only,
              .heads = heads,
              .width = width,
              .causal = causal};
    for (size_t i = 0; i < n; i++) a.longest = reco_max(a.longest, starts[i + 1] - starts[i]);
    bool half = native(ctx, &a);
    size_t room = reco_attend_bf16_scratch(a.longest, width);
    a.longest = (a.longest + 15) / 16 * 16;
    a.per_worker = half ? room : (4 * width + 4) * a.longest + 4 * width + 16;
    reco_mark mark = reco_scratch_mark(ctx);
    a.scratch = reco_scratch(ctx, (size_t)reco_ctx_threads(ctx) * a.per_worker, sizeof(float), "attention");
    if (!a.scratch) return RECO_E_NOMEM;
    reco_parallel(ctx, n * heads, 4, half ? attend_bf16 : attend_heads, &a);
    reco_scratch_release(ctx, mark);
    return RECO_OK;
}
