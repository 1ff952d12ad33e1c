#include "train/train_internal.h"
#include "kernels/kernels.h"

enum { QUERIES = 256 };
/* The very row: rounding to f16 changes its length by 4.9e-4 at most. */
#define SAME_PICTURE 0.9995
typedef struct found {
    int64_t *ids; /* [QUERIES][fetch] */
    float *scores;
    size_t *counts;
    float *images; /* [QUERIES][fetch][d] of what the text side found */
} found;

/* Keep what is not barred of hits[0..count); *enough when depth were kept, or there was no more to be had. */
static size_t filter(const reco_job *job, reco_side side, size_t i, const found *f, size_t q, size_t fetch,
                     bool *is_there)
{
    const float *own = job->rows[RECO_IMAGE] + i * job->d;
    size_t kept = 0;
    for (size_t h = 0; h < f->counts[q] && kept < job->depth; h++) {
        size_t at = q * fetch + h;
        if (job->own && job->same.picture[reco_job_index(job, f->ids[at])] == job->same.picture[i])
            continue;
        double near =
            side == RECO_IMAGE ? (double)f->scores[at] : reco_dot(own, f->images + at * job->d, job->d);
        if (h == 0 && side == RECO_IMAGE) *is_there = near >= SAME_PICTURE;
        if (near > (double)job->o.max_similarity) continue;
        job->found[side][i * job->depth + kept] = f->ids[at];
        job->scores[side][i * job->depth + kept] = f->scores[at];
        kept++;
    }
    for (size_t h = kept; h < job->depth; h++) {
        job->found[side][i * job->depth + h] = -1;
        job->scores[side][i * job->depth + h] = 0;
    }
    return kept;
}

/* Fetch more than is wanted, drop what is barred, and fetch twice as many where too few remain. */
static reco_status search_block(reco_job *job, reco_side side, size_t first, size_t n, size_t most,
                                size_t *there)
{
    reco_ctx *ctx = job->ctx;
    reco_status status = RECO_OK;
    for (size_t fetch = reco_min(most, job->depth + 8);; fetch = reco_min(most, 2 * fetch)) {
        reco_mark mark = reco_scratch_mark(ctx);
        bool enough = true;
        found f = {.ids = reco_scratch(ctx, n * fetch, sizeof *f.ids, "neighbours"),
                   .scores = reco_scratch(ctx, n * fetch, sizeof *f.scores, "neighbours"),
                   .counts = reco_scratch(ctx, n, sizeof *f.counts, "neighbours")};
        if (side == RECO_TEXT)
            f.images = reco_scratch(ctx, n * fetch * job->d, sizeof(float), "neighbours");
        if (!f.ids || !f.scores || !f.counts || (side == RECO_TEXT && !f.images)) RECO_GO(RECO_E_NOMEM);
        RECO_GO(reco_bank_search(ctx, job->bank, side, job->rows[side] + first * job->d, n,
                                 &(reco_search_opts){.k = fetch},
                                 (reco_hits){.ids = f.ids, .scores = f.scores, .counts = f.counts}));
        if (side == RECO_TEXT)
            RECO_GO(reco_bank_gather(ctx, job->bank, RECO_IMAGE, f.ids, n * fetch, f.images));
        size_t here = 0;
        for (size_t q = 0; q < n; q++) {
            bool is_there = false;
            enough &=
                filter(job, side, first + q, &f, q, fetch, &is_there) == job->depth || f.counts[q] < fetch;
            here += is_there;
        }
        *there = here;
    out:
        reco_scratch_release(ctx, mark);
        if (status != RECO_OK || enough || fetch == most) return status;
    }
}

reco_status reco_job_search(reco_job *job)
{
    reco_ctx *ctx = job->ctx;
    size_t most = reco_min(RECO_BANK_MAX_K, (size_t)reco_bank_get_info(job->bank).rows);
    if (most == 0) return reco_fail(ctx, RECO_E_ARG, "train: the bank is empty");
    /* Some are put aside later: those of a batch, of a fold and of the pair's picture. */
    job->depth = reco_min(most, 3 * job->o.k);
    size_t inside = 0;
    for (int side = 0; side < 2; side++) {
        job->found[side] = reco_alloc(ctx, job->n * job->depth, sizeof(int64_t), "neighbours");
        job->scores[side] = reco_alloc(ctx, job->n * job->depth, sizeof(float), "neighbours");
        if (!job->found[side] || !job->scores[side]) return RECO_E_NOMEM;
        for (size_t i = 0; i < job->n; i += QUERIES) {
            size_t n = reco_min(QUERIES, job->n - i);
            size_t there = 0;
            RECO_TRY(search_block(job, (reco_side)side, i, n, most, &there));
            inside += there;
            RECO_TRY(reco_progress(ctx, "neighbours", (size_t)side * job->n + i + n, 2 * job->n));
        }
    }
    job->inside = job->own || inside > job->n / 2;
    return RECO_OK;
}
