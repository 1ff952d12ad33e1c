#include "train/train_internal.h"
#include "kernels/kernels.h"

/* Products of the same vectors in another order differ by less. */
#define TIE 1e-6f

typedef struct ranking {
    const float *S; /* [n][n] pictures by texts */
    const reco_answers *same;
    const uint32_t *items;     /* [n] pairs, by row and column */
    const unsigned char *seen; /* [n] bits: the picture, the caption came before: it is ranked once */
    uint32_t *ranks[2];        /* [n] of texts for a picture, of pictures for a text */
    size_t n;
} ranking;

/* How many wrong answers beat the best right one: a text of this very picture, or that picture. Other pictures of the
 * caption are neither. */
static uint32_t rank_one(const ranking *r, size_t i, bool columns)
{
    const float *S = columns ? r->S + i : r->S + i * r->n;
    size_t step = columns ? r->n : 1, own = i;
    uint32_t picture = r->same->picture[r->items[i]], rank = 0;
    for (size_t j = 0; j < r->n; j++)
        if (S[j * step] > S[own * step] && r->same->picture[r->items[j]] == picture) own = j;
    float right = S[own * step];
    for (size_t j = 0; j < r->n; j++) {
        float score = S[j * step];
        if (score < right - TIE || r->seen[j] & 1 << !columns) continue;
        if (columns ? reco_is_right(r->same, r->items[j], r->items[i])
                    : reco_is_right(r->same, r->items[i], r->items[j]))
            continue;
        rank += score > right + TIE || j < own;
    }
    return rank;
}

static void rank(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    const ranking *r = arg;
    for (size_t i = begin; i < end; i++)
        for (int way = 0; way < 2; way++) r->ranks[way][i] = rank_one(r, i, way);
}

static reco_status ranks_of(reco_ctx *ctx, ranking *r, float *S, const float *a, const float *b, size_t d)
{
    RECO_TRY(reco_gemm(ctx, S, r->n, a, d, false, b, d, true, r->n, r->n, d, 1, 0));
    reco_parallel(ctx, r->n, 16, rank, r);
    return RECO_OK;
}

static void find_seen(const reco_job *job, const reco_mask *room, const uint32_t *items, size_t n,
                      unsigned char *seen)
{
    memset(room->picture, 0, job->same.pictures);
    memset(room->caption, 0, job->same.captions);
    for (size_t i = 0; i < n; i++) {
        unsigned char *picture = &room->picture[job->same.picture[items[i]]],
                      *caption = &room->caption[job->same.caption[items[i]]];
        seen[i] = (unsigned char)(*picture | *caption << 1);
        *picture = *caption = 1;
    }
}

/* Pairs whose caption the memory holds with another picture: does CLIP recognise that picture? */
static reco_status measure_twins(const reco_job *job, const uint32_t *items, size_t m, ranking *r, float *S,
                                 float *twins, const float *t, reco_outcome *out)
{
    int64_t *ids = reco_scratch(job->ctx, r->n, sizeof *ids, "validation");
    if (!ids) return RECO_E_NOMEM;
    for (size_t i = 0; i < r->n; i++)
        ids[i] =
            reco_job_has_twin(job, items[i]) ? job->id[job->near[RECO_TEXT][items[i] * job->depth]] : -1;
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

/* x, y [n][d] by side: originals and refined. */
static reco_status refine_all(const reco_job *job, const reco_fusion *fusion, const uint32_t *items,
                              size_t n, const reco_mask *mask, float *const x[2], float *const y[2])
{
    reco_status status = RECO_OK;
    reco_batch b = {0};
    size_t d = job->d;
    RECO_GO(reco_batch_create(job, &b, reco_min(n, 128)));
    for (size_t i = 0; i < n; i += b.max) {
        size_t m = reco_min(b.max, n - i);
        memcpy(b.items, items + i, m * sizeof *items);
        RECO_GO(reco_batch_fill(job, &b, m, mask, NULL));
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
    unsigned char *seen = reco_scratch(ctx, n, 1, "validation");
    reco_mask mask = {0};
    ranking r = {.same = &job->same, .items = items, .seen = seen};
    float *x[2], *y[2];
    for (int i = 0; i < 2; i++) {
        x[i] = reco_scratch(ctx, n * d, sizeof(float), "validation");
        y[i] = reco_scratch(ctx, n * d, sizeof(float), "validation");
        r.ranks[i] = reco_scratch(ctx, n, sizeof(uint32_t), "validation");
    }
    float *S = reco_scratch(ctx, n * n, sizeof *S, "validation");
    if (!items || !seen || !x[0] || !y[0] || !r.ranks[0] || !x[1] || !y[1] || !r.ranks[1] || !S)
        RECO_GO(RECO_E_NOMEM);
    RECO_GO(reco_mask_create(job, &mask));
    r.S = S;
    r.n = list_candidates(job, items, run);
    out += job->held_start[run];
    find_seen(job, &mask, items, r.n, seen);
    reco_mask_fold(job, &mask, run);
    RECO_GO(refine_all(job, fusion, items, r.n, job->own ? &mask : NULL, x, y));
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
    reco_mask_clear(&mask);
    reco_scratch_release(ctx, mark);
    return status;
}
