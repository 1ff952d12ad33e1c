#include "train/train_internal.h"
#include "kernels/kernels.h"

#include <math.h>

enum { ROWS = 4096 }; /* turned at once */

/* Rows of a Gaussian matrix made orthonormal one by one (twice, which is enough for f32): uniform over all rotations
 * and reflections. */
static void random_orthogonal(float *Q, size_t d, reco_rng *rng)
{
    for (size_t i = 0; i < d; i++) {
        float *row = Q + i * d;
        for (size_t j = 0; j < d; j++) row[j] = (float)reco_rng_normal(rng);
        for (int pass = 0; pass < 2; pass++) {
            for (size_t p = 0; p < i; p++) {
                float along = (float)reco_dot(Q + p * d, row, d);
                for (size_t j = 0; j < d; j++) row[j] -= along * Q[p * d + j];
            }
            float inverse = (float)(1 / sqrt(reco_dot(row, row, d)));
            for (size_t j = 0; j < d; j++) row[j] *= inverse;
        }
    }
}

/* scratch [ROWS][d] */
static reco_status rotate_rows(reco_ctx *ctx, float *x, float *scratch, const float *Q, size_t n, size_t d)
{
    for (size_t i = 0; i < n; i += ROWS) {
        size_t m = reco_min(ROWS, n - i);
        RECO_TRY(reco_gemm(ctx, scratch, d, x + i * d, d, false, Q, d, true, m, d, d, 1, 0));
        memcpy(x + i * d, scratch, m * d * sizeof *x);
    }
    return RECO_OK;
}

reco_status reco_batch_rotate(const reco_job *job, reco_batch *b, reco_rng *rng)
{
    reco_ctx *ctx = job->ctx;
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    size_t d = job->d, rows = b->n * job->o.k;
    float *Q = reco_scratch(ctx, d * d, sizeof *Q, "rotation"); /* [d][d] */
    float *scratch = reco_scratch(ctx, reco_min(ROWS, rows) * d, sizeof *scratch, "rotation");
    if (!Q || !scratch) RECO_GO(RECO_E_NOMEM);
    random_orthogonal(Q, d, rng);
    for (int side = 0; side < 2; side++) {
        RECO_GO(rotate_rows(ctx, b->x[side], scratch, Q, b->n, d));
        RECO_GO(rotate_rows(ctx, b->R[side], scratch, Q, rows, d));
    }
out:
    reco_scratch_release(ctx, mark);
    return status;
}
