#include "train/train_internal.h"
#include "kernels/kernels.h"

/* Products of the same vectors in another order differ by less. */
#define TIE 1e-6f

typedef struct ranking {
    const float *S;        /* [n][n], right answers on the diagonal */
    const uint32_t *group; /* [n] */
    uint32_t *ranks[2];    /* [n] of rows' answers, and of columns' */
    size_t n;
} ranking;

static bool beats(const ranking *r, float score, size_t other, size_t own, float right)
{
    if (r->group[other] == r->group[own]) return false; /* the same caption is not a wrong answer */
    return score > right + TIE || (score >= right - TIE && other < own);
}

static void rank(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const ranking *r = arg;
    for (size_t i = begin; i < end; i++) {
        float right = r->S[i * r->n + i];
        uint32_t row = 0, column = 0;
        for (size_t j = 0; j < r->n; j++) {
            row += beats(r, r->S[i * r->n + j], j, i, right);
            column += beats(r, r->S[j * r->n + i], j, i, right);
        }
        r->ranks[0][i] = row;
        r->ranks[1][i] = column;
    }
}

static reco_status ranks_of(reco_ctx *ctx, ranking *r, float *S, const float *a, const float *b, size_t d)
{
    RECO_TRY(reco_gemm(ctx, S, r->n, a, d, false, b, d, true, r->n, r->n, d, 1, 0));
    reco_parallel(ctx, r->n, 16, rank, r);
    return RECO_OK;
}

/* Pairs whose caption the memory holds with another picture: does CLIP recognise that picture? */
static reco_status measure_twins(const reco_job *job, const uint32_t *items, ranking *r, float *S,
                                 float *twins, const float *t, reco_outcome *out)
{
    int64_t *ids = reco_scratch(job->ctx, r->n, sizeof *ids, "validation");
    if (!ids) return RECO_E_NOMEM;
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++) {
        bool twin = reco_job_has_twin(job, items[i]);
        ids[i] = twin ? job->ids[RECO_TEXT][items[i] * job->depth] : -1;
        n += twin;
    }
    for (size_t i = 0; i < r->n; i++) out[i].twin = RECO_TWIN_NONE;
    if (n == 0) return RECO_OK;
    RECO_TRY(reco_bank_gather(job->ctx, job->bank, RECO_IMAGE, ids, r->n, twins));
    RECO_TRY(ranks_of(job->ctx, r, S, twins, t, job->d));
    for (size_t i = 0; i < r->n; i++)
        if (ids[i] >= 0) out[i].twin = r->ranks[0][i] == 0 ? RECO_TWIN_KNOWN : RECO_TWIN_UNKNOWN;
    return RECO_OK;
}

reco_status reco_measure(const reco_job *job, const reco_fusion *fusion, size_t run, reco_outcome *out)
{
    reco_ctx *ctx = job->ctx;
    const uint32_t *items = job->held + job->held_start[run];
    size_t n = job->held_start[run + 1] - job->held_start[run];
    out += job->held_start[run];
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    size_t d = job->d, k = job->o.k;
    reco_batch b = {0};
    float *x[2], *y[2];
    for (int side = 0; side < 2; side++) {
        x[side] = reco_scratch(ctx, n * d, sizeof(float), "validation");
        y[side] = reco_scratch(ctx, n * d, sizeof(float), "validation");
    }
    float *S = reco_scratch(ctx, n * n, sizeof *S, "validation");
    ranking r = {.S = S, .n = n};
    unsigned char *hidden = reco_scratch(ctx, job->n, 1, "validation"); /* this fold */
    uint32_t *group = reco_scratch(ctx, n, sizeof *group, "validation");
    for (int way = 0; way < 2; way++) r.ranks[way] = reco_scratch(ctx, n, sizeof(uint32_t), "validation");
    r.group = group;
    if (!x[0] || !x[1] || !y[0] || !y[1] || !S || !hidden || !group || !r.ranks[0] || !r.ranks[1])
        RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < job->n; i++) hidden[i] = job->fold[i] == run;
    RECO_GO(reco_batch_create(job, &b, reco_min(n, 128)));
    for (size_t i = 0; i < n; i += b.max) {
        size_t m = reco_min(b.max, n - i);
        memcpy(b.items, items + i, m * sizeof *items);
        RECO_GO(reco_batch_fill(job, &b, m, hidden, NULL));
        memcpy(group + i, b.group, m * sizeof *group);
        for (int side = 0; side < 2; side++) {
            memcpy(x[side] + i * d, b.x[side], m * d * sizeof(float));
            RECO_GO(reco_fusion_refine(ctx, fusion, (reco_side)side, b.x[side], b.R[side], b.s[side],
                                       b.valid[side], m, k, y[side] + i * d));
        }
    }
    for (int choice = 0; choice < RECO_CHOICES; choice++) {
        RECO_GO(ranks_of(ctx, &r, S, choice & RECO_SIDES_IMAGE ? y[0] : x[0],
                         choice & RECO_SIDES_TEXT ? y[1] : x[1], d));
        for (size_t i = 0; i < n; i++) {
            reco_outcome *o = &out[i];
            o->hit[choice] = 0.5f * (float)((r.ranks[0][i] == 0) + (r.ranks[1][i] == 0));
            o->reciprocal[choice] =
                0.5f * (1 / (1 + (float)r.ranks[0][i]) + 1 / (1 + (float)r.ranks[1][i]));
        }
    }
    RECO_GO(measure_twins(job, items, &r, S, y[0], x[1], out));
out:
    reco_batch_clear(&b);
    reco_scratch_release(ctx, mark);
    return status;
}
