#include "kernels/kernels.h"

#define QUERIES 256
#define CANDIDATES 2048
/* Scores nearer than this are ties: products summed in another order differ by less. */
#define TIE 1e-6f

typedef struct args {
    const float *scores, *own; /* [nq][nc], [nq] */
    const uint32_t *target;
    uint32_t *ranks;
    size_t nc, first;
} args;

static void count_better(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const args *a = arg;
    for (size_t i = begin; i < end; i++)
        for (size_t j = 0; j < a->nc; j++) {
            float s = a->scores[i * a->nc + j] - a->own[i];
            size_t candidate = a->first + j;
            if (candidate != a->target[i] && (s > TIE || (s >= -TIE && candidate < a->target[i])))
                a->ranks[i]++;
        }
}

reco_status reco_rank(reco_ctx *ctx, uint32_t *ranks, const float *q, size_t n, const float *c, size_t m,
                      size_t d, const uint32_t *target)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    float *scores = reco_scratch(ctx, QUERIES * CANDIDATES, sizeof(float), "ranks");
    float *own = reco_scratch(ctx, QUERIES, sizeof(float), "ranks");
    if (!scores || !own) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < n; i++)
        if (target[i] >= m)
            RECO_GO(reco_fail(ctx, RECO_E_ARG, "rank: target %u, want below %zu", target[i], m));
    memset(ranks, 0, n * sizeof *ranks);
    for (size_t i = 0; i < n; i += QUERIES) {
        size_t nq = reco_min(n - i, QUERIES);
        for (size_t j = 0; j < nq; j++) own[j] = (float)reco_dot(q + (i + j) * d, c + target[i + j] * d, d);
        for (size_t j = 0; j < m; j += CANDIDATES) {
            size_t nc = reco_min(m - j, CANDIDATES);
            RECO_GO(reco_gemm(ctx, scores, nc, q + i * d, d, false, c + j * d, d, true, nq, nc, d, 1, 0));
            args a = {scores, own, target + i, ranks + i, nc, j};
            reco_parallel(ctx, nq, 16, count_better, &a);
        }
    }
out:
    reco_scratch_release(ctx, mark);
    return status;
}
