#include "kernels/kernels.h"
#include "train/train_internal.h"

/* Pairs at a time, and neighbours and bytes up to which their products are kept: beyond, they are taken at each step. */
enum { PAIRS = 64, DEPTH = 64 };
#define MOST_BYTES ((size_t)1 << 30)
#define MOST_GATHERED ((size_t)256 << 20)

typedef struct block {
    const reco_job *job;
    int side;
    size_t first;
    const float *R; /* [PAIRS][depth][d] */
} block;

static void multiply_neighbours(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const block *b = arg;
    const reco_job *job = b->job;
    size_t d = job->d, depth = job->depth;
    for (size_t q = begin; q < end; q++) {
        size_t i = b->first + q;
        const float *x = job->rows[b->side] + i * d, *R = b->R + q * depth * d;
        float *to = job->products[b->side] + i * reco_job_products(job);
        for (size_t h = 0; h < depth && job->near[b->side][i * job->reach[b->side] + h] != RECO_NOTHING;
             h++) {
            to[h] = reco_dot_fast(job->ctx, x, R + h * d, d);
            float *pairs = to + depth + h * (h - 1) / 2; /* nothing is written there for h = 0 */
            for (size_t l = 0; l < h; l++) pairs[l] = reco_dot_fast(job->ctx, R + h * d, R + l * d, d);
        }
    }
}

reco_status reco_job_gather(reco_job *job)
{
    size_t first = reco_job_first(job), n = job->total - first, bytes;
    for (int side = 0; side < 2; side++) {
        reco_side fused = reco_modality_side(job->o.fuse, (reco_side)side);
        if (job->own) {
            job->fused[side] = job->rows[fused];
            continue;
        }
        if (!reco_mul(n, 2 * sizeof(float) * job->d, &bytes) || bytes > MOST_GATHERED) return RECO_OK;
        job->fused[side] = job->gathered[side] =
            reco_alloc_raw(job->ctx, n * job->d, sizeof(float), "neighbours");
        if (!job->gathered[side]) return RECO_E_NOMEM;
        RECO_TRY(reco_bank_gather(job->ctx, job->bank, fused, job->id + first, n, job->gathered[side]));
    }
    return RECO_OK;
}

reco_status reco_job_multiply(reco_job *job)
{
    reco_ctx *ctx = job->ctx;
    reco_status status = RECO_OK;
    size_t bytes, depth = job->depth;
    if (job->o.layer != RECO_LAYER_RELATIONAL || depth > DEPTH ||
        !reco_mul(job->n, 2 * sizeof(float) * reco_job_products(job), &bytes) || bytes > MOST_BYTES)
        return RECO_OK;
    int64_t *ids = reco_alloc(ctx, PAIRS * depth, sizeof *ids, "neighbours");
    float *R = reco_alloc(ctx, PAIRS * depth * job->d, sizeof *R, "neighbours");
    for (int side = 0; side < 2; side++)
        job->products[side] = reco_alloc(ctx, job->n * reco_job_products(job), sizeof(float), "neighbours");
    if (!ids || !R || !job->products[0] || !job->products[1]) RECO_GO(RECO_E_NOMEM);
    for (int side = 0; side < 2; side++)
        for (size_t i = 0; i < job->n; i += PAIRS) {
            size_t n = reco_min(PAIRS, job->n - i);
            for (size_t h = 0; h < n * depth; h++) {
                uint32_t row = job->near[side][(i + h / depth) * job->reach[side] + h % depth];
                ids[h] = row == RECO_NOTHING ? -1 : job->id[row];
            }
            RECO_GO(reco_bank_gather(ctx, job->bank, reco_modality_side(job->o.fuse, (reco_side)side), ids,
                                     n * depth, R));
            reco_parallel(ctx, n, 4, multiply_neighbours, &(block){job, side, i, R});
        }
out:
    reco_free(R);
    reco_free(ids);
    return status;
}
