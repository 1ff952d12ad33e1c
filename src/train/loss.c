#include "train/train_internal.h"
#include "kernels/kernels.h"

#include <math.h>

/* Logit of a pair that is not a negative: far below any other, and finite. */
#define MASKED -1000.0f
/* A smaller gradient of a logit counts as none. Most of a softmax lies far down there, where products of denormal numbers took
 * five times as long as those of others. */
#define LEAST 1e-20f
#define TILE 16

typedef struct job {
    float *S, *St;               /* [B][B] logits and their transpose; softmaxed in place by rows */
    double *loss;                /* [B] */
    const reco_answers *answers; /* or NULL */
    const uint32_t *items;       /* [B] */
    uint32_t *head, *next; /* [buckets], [B]: items by their captions, chained; RECO_NOTHING ends a chain */
    size_t buckets;        /* a power of two */
    size_t B;
    const reco_ctx *ctx;
} job;

static void chain_captions(const job *j)
{
    memset(j->head, 0xff, j->buckets * sizeof *j->head);
    for (size_t q = 0; q < j->B; q++) {
        uint32_t *head = &j->head[j->answers->caption[j->items[q]] & (j->buckets - 1)];
        j->next[q] = *head;
        *head = (uint32_t)q;
    }
}

/* Texts that are right for picture i, but its own. */
static void mask_right(const job *j, float *row, size_t i)
{
    const reco_answers *a = j->answers;
    uint32_t picture = a->picture[j->items[i]];
    for (size_t c = a->start[picture]; c < a->start[picture + 1]; c++)
        for (uint32_t q = j->head[a->of[c] & (j->buckets - 1)]; q != RECO_NOTHING; q = j->next[q])
            if (q != i && a->caption[j->items[q]] == a->of[c]) row[q] = MASKED;
}

/* Cross-entropy of one row whose right answer is i. lse from the largest entry: its probability can't underflow. */
static double softmax_loss(const reco_ctx *ctx, float *row, size_t B, size_t i)
{
    float own = row[i], largest, share = reco_softmax_top(ctx, row, B, &largest);
    return (double)largest - log((double)share) - (double)own;
}

/* Rows [begin, end) are a tile's height: tile by tile, so that columns are not walked across memory. */
static void transpose_tiles(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const job *j = arg;
    size_t B = j->B;
    for (size_t i = begin; i < end && j->answers; i++) mask_right(j, j->S + i * B, i);
    for (size_t q0 = 0; q0 < B; q0 += TILE)
        for (size_t q = q0; q < reco_min(B, q0 + TILE); q++)
            for (size_t i = begin; i < end; i++) j->St[q * B + i] = j->S[i * B + q];
}

static void softmaxes(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const job *j = arg;
    for (size_t i = begin; i < end; i++)
        j->loss[i] = softmax_loss(j->ctx, j->S + i * j->B, j->B, i) +
                     softmax_loss(j->ctx, j->St + i * j->B, j->B, i);
}

/* S = dNCE/dS */
static void combine(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const job *j = arg;
    size_t B = j->B;
    float scale = 0.5f / (float)B;
    for (size_t q0 = 0; q0 < B; q0 += TILE)
        for (size_t i = begin; i < end; i++)
            for (size_t q = q0; q < reco_min(B, q0 + TILE); q++) {
                float sum = scale * (j->S[i * B + q] + j->St[q * B + i]);
                j->S[i * B + q] = sum < LEAST ? 0 : sum;
            }
    for (size_t i = begin; i < end; i++) j->S[i * B + i] -= 2 * scale;
}

/* Add NCE(a,b) to *loss; leave its gradient by the logits in j->S. */
static reco_status nce(reco_ctx *ctx, double *loss, const job *j, const float *a, const float *b, float s,
                       size_t d)
{
    size_t B = j->B;
    RECO_TRY(reco_gemm(ctx, j->S, B, a, d, false, b, d, true, B, B, d, s, 0));
    reco_parallel(ctx, B, TILE, transpose_tiles, (void *)j);
    reco_parallel(ctx, B, 16, softmaxes, (void *)j);
    reco_parallel(ctx, B, TILE, combine, (void *)j);
    double sum = 0;
    for (size_t i = 0; i < B; i++) sum += j->loss[i];
    *loss += 0.5 * sum / (double)B;
    return RECO_OK;
}

static double along(const reco_ctx *ctx, const float *a, const float *da, size_t B, size_t d)
{
    double sum = 0;
    for (size_t i = 0; i < B; i++) sum += reco_dot_wide(ctx, a + i * d, da + i * d, d);
    return sum;
}

reco_status reco_train_loss(reco_ctx *ctx, double *loss, float *dv2, float *dt2, float *dlogit_scale,
                            const float *v2, const float *t2, const float *v, const float *t,
                            float logit_scale, const reco_answers *answers, const uint32_t *items, size_t B,
                            size_t d)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    float s = expf(fminf(logit_scale, logf(100)));
    job j = {.answers = answers, .items = items, .B = B, .ctx = ctx};
    j.S = reco_scratch(ctx, B * B, sizeof(float), "loss");
    j.St = reco_scratch(ctx, B * B, sizeof(float), "loss");
    j.loss = reco_scratch(ctx, B, sizeof(double), "loss");
    for (j.buckets = 1; j.buckets < B;) j.buckets *= 2;
    j.head = reco_scratch(ctx, j.buckets, sizeof *j.head, "loss");
    j.next = reco_scratch(ctx, B, sizeof *j.next, "loss");
    if (!j.S || !j.St || !j.loss || !j.head || !j.next) RECO_GO(RECO_E_NOMEM);
    if (answers) chain_captions(&j);
    *loss = 0;
    RECO_GO(nce(ctx, loss, &j, v, t2, s, d));
    RECO_GO(reco_gemm(ctx, dt2, d, j.S, B, true, v, d, false, B, d, B, s, 0));
    /* sum dS.S of a term is a.da of that term, since S = s a b^T: no second pass over S. */
    double dscale = along(ctx, t2, dt2, B, d);
    RECO_GO(nce(ctx, loss, &j, v2, t, s, d));
    RECO_GO(reco_gemm(ctx, dv2, d, j.S, B, false, t, d, false, B, d, B, s, 0));
    RECO_GO(nce(ctx, loss, &j, v2, t2, s, d));
    RECO_GO(reco_gemm(ctx, dv2, d, j.S, B, false, t2, d, false, B, d, B, s, 1));
    RECO_GO(reco_gemm(ctx, dt2, d, j.S, B, true, v2, d, false, B, d, B, s, 1));
    dscale += along(ctx, v2, dv2, B, d);
    *dlogit_scale = logit_scale > logf(100) ? 0 : (float)dscale;
out:
    reco_scratch_release(ctx, mark);
    return status;
}
