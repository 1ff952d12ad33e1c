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

static int by_caption_and_picture(const void *a, const void *b)
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
    qsort(members, n, sizeof *members, by_caption_and_picture);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || members[i].caption != members[kept - 1].caption ||
            members[i].picture != members[kept - 1].picture)
            members[kept++] = members[i];
    return kept;
}

typedef struct scatter {
    float *S;    /* [d][d] the sum of y y^T over all captions */
    double *sum; /* [d] of the pictures */
    size_t pictures, freedom;
    /* Captions that wait to be taken together. */
    float *y;     /* [BLOCK + MOST_OF_ONE][d] */
    int64_t *ids; /* [BLOCK + MOST_OF_ONE] */
    size_t *of;   /* [BLOCK + MOST_OF_ONE] pictures of each caption */
    size_t waiting, captions;
} scatter;

/* y [m][d] of one caption: how its pictures differ from their mean; sum [d] += the pictures. */
static void deviate(float *y, size_t m, size_t d, double *sum)
{
    for (size_t j = 0; j < d; j++) {
        double own = 0;
        for (size_t i = 0; i < m; i++) own += (double)y[i * d + j];
        for (size_t i = 0; i < m; i++) y[i * d + j] -= (float)(own / (double)m);
        sum[j] += own;
    }
}

static reco_status take_waiting(const reco_job *job, const uint32_t *rows, scatter *s)
{
    const size_t d = job->d, n = s->waiting;
    for (size_t i = 0; i < n; i++) s->ids[i] = rows[i] < job->n ? -1 : job->id[rows[i]];
    RECO_TRY(reco_bank_gather(job->ctx, job->bank, RECO_IMAGE, s->ids, n, s->y));
    for (size_t i = 0; i < n; i++)
        if (rows[i] < job->n) memcpy(s->y + i * d, job->rows[RECO_IMAGE] + rows[i] * d, d * sizeof *s->y);
    for (size_t c = 0, at = 0; c < s->captions; at += s->of[c++])
        deviate(s->y + at * d, s->of[c], d, s->sum);
    s->waiting = s->captions = 0;
    return reco_gemm(job->ctx, s->S, d, s->y, d, true, s->y, d, false, d, d, n, 1, 1);
}

static reco_status sum_scatter(const reco_job *job, const member *members, size_t n, uint32_t *rows,
                               scatter *s)
{
    size_t d = job->d;
    memset(s->S, 0, d * d * sizeof *s->S);
    memset(s->sum, 0, d * sizeof *s->sum);
    for (size_t first = 0, end; first < n && s->pictures < MOST; first = end) {
        for (end = first; end < n && members[end].caption == members[first].caption;) end++;
        size_t m = reco_min(end - first, MOST_OF_ONE);
        if (m < 2) continue;
        for (size_t i = 0; i < m; i++) rows[s->waiting++] = members[first + i].row;
        s->of[s->captions++] = m;
        s->freedom += m - 1;
        s->pictures += m;
        if (s->waiting >= BLOCK) RECO_TRY(take_waiting(job, rows, s));
    }
    return s->waiting ? take_waiting(job, rows, s) : RECO_OK;
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
    float *S = reco_scratch(ctx, d * d, sizeof *S, "metric");
    enum { ROOM = BLOCK + MOST_OF_ONE };
    scatter s = {.S = S,
                 .sum = reco_scratch(ctx, d, sizeof *s.sum, "metric"),
                 .y = reco_scratch(ctx, ROOM * d, sizeof *s.y, "metric"),
                 .ids = reco_scratch(ctx, ROOM, sizeof *s.ids, "metric"),
                 .of = reco_scratch(ctx, ROOM, sizeof *s.of, "metric")};
    uint32_t *rows = reco_scratch(ctx, ROOM, sizeof *rows, "metric");
    double *A = reco_scratch(ctx, d * d, sizeof *A, "metric"),
           *inverse = reco_scratch(ctx, d * d, sizeof *inverse, "metric"),
           *column = reco_scratch(ctx, d, sizeof *column, "metric"), trace = 0;
    if (!members || !S || !s.sum || !s.y || !s.ids || !s.of || !rows || !A || !inverse || !column)
        RECO_GO(RECO_E_NOMEM);
    RECO_GO(sum_scatter(job, members, list_members(job, mask, without, members), rows, &s));
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
