#include "train/train_internal.h"
#include "kernels/kernels.h"

enum { QUERIES = 256 };
/* The very row: rounding to f16 changes its length by 4.9e-4 at most. */
#define SAME_PICTURE 0.9995
typedef struct found {
    int64_t *ids; /* [QUERIES][fetch] */
    float *scores;
    size_t *counts;
    float *
        images; /* [QUERIES][fetch][d] of what was found, where scores are not cosines of pictures; else NULL */
} found;

static reco_side query_of(size_t list) { return list == 0 ? RECO_IMAGE : RECO_TEXT; }

static reco_side searched_by(const reco_job *job, size_t list)
{
    return list == 2 ? RECO_TEXT : reco_modality_side(job->o.search, query_of(list));
}

/* Keep what is not barred of hits[0..count); *enough when all were kept that are wanted, or there was no more to be had. */
static size_t filter(const reco_job *job, size_t list, size_t i, const found *f, size_t q, size_t fetch)
{
    const float *own = job->rows[RECO_IMAGE] + i * job->d;
    size_t kept = 0, reach = job->reach[list];
    for (size_t h = 0; h < f->counts[q] && kept < reach; h++) {
        size_t at = q * fetch + h;
        if (job->own && job->same.picture[reco_job_index(job, f->ids[at])] == job->same.picture[i])
            continue;
        double near = f->images ? reco_dot(own, f->images + at * job->d, job->d) : (double)f->scores[at];
        if (near > (double)job->o.max_similarity) continue;
        job->found[list][i * reach + kept] = f->ids[at];
        job->scores[list][i * reach + kept] = f->scores[at];
        kept++;
    }
    for (size_t h = kept; h < reach; h++) {
        job->found[list][i * reach + h] = -1;
        job->scores[list][i * reach + h] = 0;
    }
    return kept;
}

/* Fetch more than is wanted, drop what is barred, and fetch twice as many where too few remain. */
static reco_status search_block(reco_job *job, size_t list, size_t first, size_t n, size_t most)
{
    reco_side own = query_of(list), searched = searched_by(job, list);
    bool gather = own != RECO_IMAGE || searched != RECO_IMAGE;
    reco_ctx *ctx = job->ctx;
    reco_status status = RECO_OK;
    for (size_t fetch = reco_min(most, job->reach[list] + 8);; fetch = reco_min(most, 2 * fetch)) {
        reco_mark mark = reco_scratch_mark(ctx);
        bool enough = true;
        found f = {.ids = reco_scratch(ctx, n * fetch, sizeof *f.ids, "neighbours"),
                   .scores = reco_scratch(ctx, n * fetch, sizeof *f.scores, "neighbours"),
                   .counts = reco_scratch(ctx, n, sizeof *f.counts, "neighbours")};
        if (gather) f.images = reco_scratch(ctx, n * fetch * job->d, sizeof(float), "neighbours");
        if (!f.ids || !f.scores || !f.counts || (gather && !f.images)) RECO_GO(RECO_E_NOMEM);
        float *const vectors[2] = {[RECO_IMAGE] = gather ? f.images : NULL};
        RECO_GO(reco_bank_retrieve(
            ctx, job->bank, searched, job->rows[own] + first * job->d, n,
            &(reco_search_opts){
                .k = fetch, .min_similarity = -1, .recall = job->o.recall, .asked = (reco_asked)(own + 1)},
            &(reco_hits){.ids = f.ids, .scores = f.scores, .counts = f.counts}, vectors));
        for (size_t q = 0; q < n; q++)
            enough &= filter(job, list, first + q, &f, q, fetch) == job->reach[list] || f.counts[q] < fetch;
    out:
        reco_scratch_release(ctx, mark);
        if (status != RECO_OK || enough || fetch == most) return status;
    }
}

/* Are most of the pairs rows of the bank, by whatever way they came? */
static reco_status find_inside(reco_job *job)
{
    reco_ctx *ctx = job->ctx;
    int64_t ids[QUERIES];
    float scores[QUERIES];
    size_t counts[QUERIES], inside = 0;
    for (size_t i = 0; i < job->trained && !job->own; i += QUERIES) {
        size_t n = reco_min(QUERIES, job->trained - i);
        RECO_TRY(reco_bank_search(ctx, job->bank, RECO_IMAGE, job->rows[RECO_IMAGE] + i * job->d, n,
                                  &(reco_search_opts){.k = 1, .min_similarity = -1, .recall = 1},
                                  &(reco_hits){.ids = ids, .scores = scores, .counts = counts}));
        for (size_t q = 0; q < n; q++) inside += counts[q] && (double)scores[q] >= SAME_PICTURE;
    }
    job->inside = job->own || inside > job->trained / 2;
    return RECO_OK;
}

reco_status reco_job_search(reco_job *job)
{
    reco_ctx *ctx = job->ctx;
    size_t most = reco_min(RECO_BANK_MAX_K, (size_t)reco_bank_get_info(job->bank)->rows);
    if (most == 0) return reco_fail(ctx, RECO_E_ARG, "train: the bank is empty");
    /* Some are put aside later: those of a batch, of a fold and of the pair's picture. */
    job->depth = reco_min(most, 3 * job->o.k);
    job->lists = job->o.search == RECO_CROSS ? 3 : 2;
    for (size_t list = 0; list < job->lists; list++)
        job->reach[list] = list ? job->depth : reco_min(most, reco_max(job->depth, RECO_MOST_VOTERS));
    RECO_TRY(reco_neighbours_open(job));
    for (size_t list = 0; list < job->lists; list++) {
        size_t before = list * job->n;
        if (!job->kept.map) {
            job->found[list] = reco_alloc(ctx, job->n * job->reach[list], sizeof(int64_t), "neighbours");
            job->scores[list] = reco_alloc(ctx, job->n * job->reach[list], sizeof(float), "neighbours");
            if (!job->found[list] || !job->scores[list]) return RECO_E_NOMEM;
        }
        for (size_t i = 0; i < job->n; i += QUERIES) {
            size_t n = reco_min(QUERIES, job->n - i);
            if (before + i + n <= job->kept.done) continue;
            RECO_TRY(search_block(job, list, i, n, most));
            RECO_TRY(reco_neighbours_done(job, before + i + n));
            RECO_TRY(reco_progress(ctx, "neighbours", list * job->n + i + n, job->lists * job->n));
        }
    }
    RECO_TRY(reco_neighbours_check(job));
    return find_inside(job);
}
