#include "kernels/kernels.h"
#include "train/train_internal.h"

#include <math.h>
#include <stdlib.h>

/* Pictures at a time; of one caption, and of all, at most: more would not change it. */
enum { BLOCK = 1024, MOST_OF_ONE = 256, MOST = 65536 };
/* Width beyond which the metric, d x d, is not worth its place; and degrees of freedom that tell anything. */
enum { MOST_WIDTH = 2048, LEAST = 20 };
/* The part of the covariance that is taken to be the same in all directions, where there is plenty of data. */
#define SHRINKAGE 0.3

typedef struct member {
    uint32_t caption, picture, row; /* row: of the job's list */
} member;

static int by_caption(const void *a, const void *b)
{
    const member *x = a, *y = b;
    if (x->caption != y->caption) return x->caption < y->caption ? -1 : 1;
    if (x->picture != y->picture) return x->picture < y->picture ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

/* All pictures that are trained on or were retrieved, those of a caption side by side, each once. */
static size_t list_members(const reco_job *job, const reco_mask *mask, size_t without, member *members)
{
    const reco_answers *same = &job->same;
    size_t n = 0, kept = 0;
    for (size_t i = 0; i < job->total; i++)
        if ((i < job->trained || i >= job->n) && !(mask && mask->caption[same->caption[i]]) &&
            reco_metric_part(job, i) != without)
            members[n++] = (member){same->caption[i], same->picture[i], (uint32_t)i};
    qsort(members, n, sizeof *members, by_caption);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || members[i].caption != members[kept - 1].caption ||
            members[i].picture != members[kept - 1].picture)
            members[kept++] = members[i];
    return kept;
}

/* y [m][d]: how the pictures of a caption differ from their mean; sum [d] += the pictures. */
static reco_status deviate(const reco_job *job, const member *members, size_t m, float *y, double *sum)
{
    size_t d = job->d;
    int64_t ids[MOST_OF_ONE] = {0};
    for (size_t i = 0; i < m; i++) ids[i] = members[i].row < job->n ? -1 : job->id[members[i].row];
    RECO_TRY(reco_bank_gather(job->ctx, job->bank, RECO_IMAGE, ids, m, y));
    for (size_t i = 0; i < m; i++)
        if (members[i].row < job->n)
            memcpy(y + i * d, job->rows[RECO_IMAGE] + members[i].row * d, d * sizeof *y);
    for (size_t j = 0; j < d; j++) {
        double own = 0;
        for (size_t i = 0; i < m; i++) own += (double)y[i * d + j];
        for (size_t i = 0; i < m; i++) y[i * d + j] -= (float)(own / (double)m);
        sum[j] += own;
    }
    return RECO_OK;
}

typedef struct scatter {
    float *S;    /* [d][d] the sum of y y^T over all captions */
    double *sum; /* [d] of the pictures */
    size_t pictures, freedom;
} scatter;

/* y: scratch [BLOCK + MOST_OF_ONE][d] */
static reco_status take(const reco_job *job, const member *members, size_t n, float *y, scatter *s)
{
    reco_ctx *ctx = job->ctx;
    size_t d = job->d, waiting = 0;
    memset(s->S, 0, d * d * sizeof *s->S);
    memset(s->sum, 0, d * sizeof *s->sum);
    for (size_t first = 0, end; first < n && s->pictures < MOST; first = end) {
        for (end = first; end < n && members[end].caption == members[first].caption;) end++;
        size_t m = reco_min(end - first, MOST_OF_ONE);
        if (m < 2) continue;
        RECO_TRY(deviate(job, members + first, m, y + waiting * d, s->sum));
        s->freedom += m - 1;
        s->pictures += m;
        waiting += m;
        if (waiting < BLOCK) continue;
        RECO_TRY(reco_gemm(ctx, s->S, d, y, d, true, y, d, false, d, d, waiting, 1, 1));
        waiting = 0;
    }
    return waiting ? reco_gemm(ctx, s->S, d, y, d, true, y, d, false, d, d, waiting, 1, 1) : RECO_OK;
}

/* A = L L^T, in place of its lower half; columns are copied so that inner loops run along rows. */
static void factor(double *A, double *column, size_t d)
{
    for (size_t k = 0; k < d; k++) {
        double root = sqrt(A[k * d + k]);
        for (size_t i = k; i < d; i++) column[i] = A[i * d + k] /= root;
        for (size_t i = k + 1; i < d; i++) {
            double *row = A + i * d, l = column[i];
            for (size_t j = k + 1; j <= i; j++) row[j] -= l * column[j];
        }
    }
}

/* W = L^-1; row [d] is scratch. */
static void invert(float *W, double *inverse, const double *L, size_t d)
{
    memset(inverse, 0, d * d * sizeof *inverse);
    for (size_t i = 0; i < d; i++) {
        double *row = inverse + i * d;
        row[i] = 1;
        for (size_t k = 0; k < i; k++) {
            const double *other = inverse + k * d;
            double l = L[i * d + k];
            for (size_t j = 0; j <= k; j++) row[j] -= l * other[j];
        }
        for (size_t j = 0; j <= i; j++) row[j] /= L[i * d + i];
    }
    for (size_t i = 0; i < d * d; i++) W[i] = (float)inverse[i];
}

reco_status reco_learn_metric(const reco_job *job, const reco_mask *mask, size_t without, float *metric,
                              bool *found)
{
    reco_ctx *ctx = job->ctx;
    reco_status status = RECO_OK;
    size_t d = job->d;
    *found = false;
    if (!job->twins || job->o.search != RECO_UNI || d > MOST_WIDTH) return RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    member *members = reco_scratch(ctx, job->total, sizeof *members, "metric");
    float *y = reco_scratch(ctx, (BLOCK + MOST_OF_ONE) * d, sizeof *y, "metric"),
          *S = reco_scratch(ctx, d * d, sizeof *S, "metric");
    scatter s = {.S = S, .sum = reco_scratch(ctx, d, sizeof *s.sum, "metric")};
    double *A = reco_scratch(ctx, d * d, sizeof *A, "metric"),
           *inverse = reco_scratch(ctx, d * d, sizeof *inverse, "metric"),
           *column = reco_scratch(ctx, d, sizeof *column, "metric"), trace = 0;
    if (!members || !y || !S || !s.sum || !A || !inverse || !column) RECO_GO(RECO_E_NOMEM);
    RECO_GO(take(job, members, list_members(job, mask, without, members), y, &s));
    for (size_t i = 0; i < d; i++) trace += (double)S[i * d + i];
    if (s.freedom < LEAST || !(trace > 0)) goto out;
    double shrinkage = fmax(SHRINKAGE, (double)d / (double)(d + s.freedom));
    for (size_t i = 0; i < d * d; i++) A[i] = (1 - shrinkage) * (double)S[i] / (double)s.freedom;
    for (size_t i = 0; i < d; i++) A[i * d + i] += shrinkage * trace / (double)(d * s.freedom);
    factor(A, column, d);
    invert(metric, inverse, A, d);
    for (size_t i = 0; i < d; i++) metric[d * d + i] = (float)(s.sum[i] / (double)s.pictures);
    *found = true;
out:
    reco_scratch_release(ctx, mark);
    return status;
}
