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
static reco_status measure_twins(const reco_job *job, const uint32_t *items, size_t m, ranking *r, float *S,
                                 float *twins, const float *t, reco_outcome *out)
{
    int64_t *ids = reco_scratch(job->ctx, r->n, sizeof *ids, "validation");
    if (!ids) return RECO_E_NOMEM;
    for (size_t i = 0; i < r->n; i++)
        ids[i] = reco_job_has_twin(job, items[i]) ? job->ids[RECO_TEXT][items[i] * job->depth] : -1;
    RECO_TRY(reco_bank_gather(job->ctx, job->bank, RECO_IMAGE, ids, r->n, twins));
    RECO_TRY(ranks_of(job->ctx, r, S, twins, t, job->d));
    for (size_t i = 0; i < m; i++)
        if (ids[i] < 0)
            out[i].twin = RECO_TWIN_NONE;
        else
            out[i].twin = r->ranks[0][i] == 0 ? RECO_TWIN_KNOWN : RECO_TWIN_UNKNOWN;
    return RECO_OK;
}

/* The pairs of a run's fold, then others that they are ranked among: as hard as it will be. Of the bank's own rows
 * none: what is in the memory will not be among the candidates. Returns how many. */
static size_t list_candidates(const reco_job *job, uint32_t *items, size_t run)
{
    size_t n = job->held_start[run + 1] - job->held_start[run];
    memcpy(items, job->held + job->held_start[run], n * sizeof *items);
    for (size_t i = 0; i < job->n && n < RECO_MOST_JUDGED && !job->own; i++)
        if (job->fold[i] != run) items[n++] = (uint32_t)i;
    return n;
}

/* x, y [n][d] by side: originals and refined; group [n]. */
static reco_status refine_all(const reco_job *job, const reco_fusion *fusion, const uint32_t *items,
                              size_t n, const unsigned char *hidden, float *const x[2], float *const y[2],
                              uint32_t *group)
{
    reco_status status = RECO_OK;
    reco_batch b = {0};
    size_t d = job->d;
    RECO_GO(reco_batch_create(job, &b, reco_min(n, 128)));
    for (size_t i = 0; i < n; i += b.max) {
        size_t m = reco_min(b.max, n - i);
        memcpy(b.items, items + i, m * sizeof *items);
        RECO_GO(reco_batch_fill(job, &b, m, hidden, NULL));
        memcpy(group + i, b.group, m * sizeof *group);
        for (int side = 0; side < 2; side++) {
            memcpy(x[side] + i * d, b.x[side], m * d * sizeof(float));
            RECO_GO(reco_fusion_refine(job->ctx, fusion, (reco_side)side, b.x[side], b.R[side], b.s[side],
                                       b.valid[side], m, job->o.k, y[side] + i * d));
        }
    }
out:
    reco_batch_clear(&b);
    return status;
}

reco_status reco_measure(const reco_job *job, const reco_fusion *fusion, size_t run, reco_outcome *out)
{
    reco_ctx *ctx = job->ctx;
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    size_t m = job->held_start[run + 1] - job->held_start[run], n = reco_min(job->n, RECO_MOST_JUDGED),
           d = job->d;
    uint32_t *items = reco_scratch(ctx, n, sizeof *items, "validation");
    unsigned char *hidden = reco_scratch(ctx, job->n, 1, "validation"); /* this fold */
    uint32_t *group = reco_scratch(ctx, n, sizeof *group, "validation");
    ranking r = {.group = group};
    float *x[2], *y[2];
    for (int i = 0; i < 2; i++) {
        x[i] = reco_scratch(ctx, n * d, sizeof(float), "validation");
        y[i] = reco_scratch(ctx, n * d, sizeof(float), "validation");
        r.ranks[i] = reco_scratch(ctx, n, sizeof(uint32_t), "validation");
    }
    float *S = reco_scratch(ctx, n * n, sizeof *S, "validation");
    if (!items || !hidden || !group || !x[0] || !y[0] || !r.ranks[0] || !x[1] || !y[1] || !r.ranks[1] || !S)
        RECO_GO(RECO_E_NOMEM);
    r.S = S;
    r.n = list_candidates(job, items, run);
    out += job->held_start[run];
    for (size_t i = 0; i < job->n; i++) hidden[i] = job->fold[i] == run;
    RECO_GO(refine_all(job, fusion, items, r.n, hidden, x, y, group));
    for (int choice = 0; choice < RECO_CHOICES; choice++) {
        RECO_GO(ranks_of(ctx, &r, S, choice & RECO_SIDES_IMAGE ? y[0] : x[0],
                         choice & RECO_SIDES_TEXT ? y[1] : x[1], d));
        for (size_t i = 0; i < m; i++) {
            float first = (float)r.ranks[0][i], second = (float)r.ranks[1][i];
            out[i].hit[choice] = 0.5f * (float)((first == 0) + (second == 0));
            out[i].reciprocal[choice] = 0.5f * (1 / (1 + first) + 1 / (1 + second));
        }
    }
    RECO_GO(measure_twins(job, items, m, &r, S, y[0], x[1], out));
out:
    reco_scratch_release(ctx, mark);
    return status;
}
