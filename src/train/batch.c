#include "train/train_internal.h"

reco_status reco_batch_create(const reco_job *job, reco_batch *b, size_t max)
{
    reco_ctx *ctx = job->ctx;
    size_t k = job->o.k, d = job->d;
    bool turned = job->o.rotate && job->o.layer == RECO_LAYER_TRANSFORMER;
    *b = (reco_batch){.max = max, .known = job->products[0] != NULL};
    b->items = reco_alloc(ctx, max, sizeof *b->items, "batch");
    b->ids = reco_alloc(ctx, max * k, sizeof *b->ids, "batch");
    b->picked = reco_alloc(ctx, k, sizeof *b->picked, "batch");
    bool good = b->items && b->ids && b->picked;
    for (int side = 0; side < 2; side++) {
        if (job->o.layer >= RECO_LAYER_RELATIONAL && !turned) b->rows[side] = job->fused[side];
        if (b->rows[side])
            b->place[side] = reco_alloc(ctx, max * k, sizeof(uint32_t), "batch");
        else
            b->R[side] = reco_alloc(ctx, max * k * d, sizeof(float), "batch");
        b->x[side] = reco_alloc(ctx, max * d, sizeof(float), "batch");
        b->s[side] = reco_alloc(ctx, max * k, sizeof(float), "batch");
        b->valid[side] = reco_alloc(ctx, max, sizeof(size_t), "batch");
        b->c[side] = reco_alloc(ctx, max * k, sizeof(float), "batch");
        b->a[side] = reco_alloc(ctx, max * k, sizeof(float), "batch");
        good = good && b->c[side] && b->a[side] && b->x[side] && b->s[side] && b->valid[side] &&
               (b->rows[side] ? b->place[side] != NULL : b->R[side] != NULL);
    }
    return good ? RECO_OK : RECO_E_NOMEM;
}

void reco_batch_clear(reco_batch *b)
{
    for (int side = 0; side < 2; side++) {
        reco_free(b->x[side]);
        reco_free(b->R[side]);
        reco_free(b->place[side]);
        reco_free(b->s[side]);
        reco_free(b->valid[side]);
        reco_free(b->c[side]);
        reco_free(b->a[side]);
    }
    reco_free(b->picked);
    reco_free(b->ids);
    reco_free(b->items);
}

reco_status reco_mask_create(const reco_job *job, reco_mask *mask)
{
    mask->picture = reco_alloc(job->ctx, job->same.pictures, 1, "training");
    mask->caption = reco_alloc(job->ctx, job->same.captions, 1, "training");
    return mask->picture && mask->caption ? RECO_OK : RECO_E_NOMEM;
}

void reco_mask_clear(reco_mask *mask)
{
    reco_free(mask->picture);
    reco_free(mask->caption);
}

void reco_mask_fold(const reco_job *job, reco_mask *mask, size_t fold, bool captions)
{
    memset(mask->picture, 0, job->same.pictures);
    memset(mask->caption, 0, job->same.captions);
    for (size_t i = 0; i < job->n; i++) {
        if (job->fold[i] != fold) continue;
        mask->picture[job->same.picture[i]] = 1;
        mask->caption[job->same.caption[i]] = captions;
    }
}

/* What the relational layer would make of the neighbours in slot q, which are the picked [m] of the pair's: the same sums
 * in the same order. */
static void sum_neighbours(const reco_job *job, reco_batch *b, int side, size_t q, const uint32_t *picked,
                           size_t m)
{
    const float *from = job->products[side] + b->items[q] * reco_job_products(job),
                *pairs = from + job->depth;
    float *c = b->c[side] + q * job->o.k, *a = b->a[side] + q * job->o.k;
    for (size_t n = 0; n < m; n++) {
        size_t h = picked[n];
        c[n] = from[h];
        a[n] = 0;
        for (size_t l = 0; l < n; l++) {
            float mean = pairs[h * (h - 1) / 2 + picked[l]] / (float)(m - 1);
            a[n] += mean;
            a[l] += mean;
        }
    }
}

/* The first of the `depth` nearest neighbours of pair i that are not masked, as places among them: at most k. */
static size_t walk_neighbours(const reco_job *job, int side, size_t i, const reco_mask *mask, bool apart,
                              size_t depth, size_t k, uint32_t *picked)
{
    const uint32_t *near = job->near[side] + i * job->reach[side];
    const float *scores = job->scores[side] + i * job->reach[side];
    const unsigned char *kin =
        apart && side == RECO_IMAGE && job->apart ? job->kin + i * job->reach[side] : NULL;
    size_t m = 0;
    for (size_t h = 0; h < depth && near[h] != RECO_NOTHING && m < k; h++) {
        if (kin && kin[h]) continue;
        if (mask &&
            (mask->picture[job->same.picture[near[h]]] || mask->caption[job->same.caption[near[h]]]))
            continue;
        if (scores[h] < job->o.min_similarity) break;
        picked[m++] = (uint32_t)h;
    }
    return m;
}

size_t reco_job_voters(const reco_job *job, size_t i, const reco_mask *mask, bool apart, size_t k,
                       float *scores, uint32_t *rows)
{
    size_t reach = job->reach[RECO_IMAGE];
    size_t m = walk_neighbours(job, RECO_IMAGE, i, mask, apart, reach, k, rows);
    for (size_t n = 0; n < m; n++) {
        size_t at = i * reach + rows[n];
        scores[n] = job->scores[RECO_IMAGE][at];
        rows[n] = job->near[RECO_IMAGE][at];
    }
    return m;
}

/* The first k neighbours of pair i that are not masked, into slot q. A pair that is held out, or in the same batch, is
 * masked when the pairs are the bank's own rows: at inference a query is never a row of the bank, and the captions it is
 * compared with are not those that it retrieves. Training on anything else teaches that what is retrieved is wrong. */
static void pick_neighbours(const reco_job *job, reco_batch *b, int side, size_t q, const reco_mask *mask,
                            bool apart, reco_rng *rng)
{
    size_t k = job->o.k, i = b->items[q];
    const uint32_t *near = job->near[side] + i * job->reach[side];
    const float *scores = job->scores[side] + i * job->reach[side];
    int64_t *to = b->ids + q * k;
    float *s = b->s[side] + q * k;
    uint32_t *picked = b->picked;
    size_t m = walk_neighbours(job, side, i, mask, apart, job->depth, k, picked);
    for (size_t n = 0; n < m; n++) {
        to[n] = job->id[near[picked[n]]];
        s[n] = scores[picked[n]];
    }
    /* Dropout: of some items, a random number of random neighbours stays, so that every count is met. */
    if (rng && reco_rng_uniform(rng) < job->o.neighbour_dropout) {
        size_t left = reco_rng_below(rng, m + 1), kept = 0;
        for (size_t h = 0; h < m; h++)
            if (reco_rng_below(rng, m - h) < left - kept) {
                picked[kept] = picked[h];
                to[kept] = to[h];
                s[kept++] = s[h];
            }
        m = kept;
    }
    b->valid[side][q] = m;
    if (job->products[side]) sum_neighbours(job, b, side, q, picked, m);
    for (size_t n = 0; n < m && b->rows[side]; n++)
        b->place[side][q * k + n] = near[picked[n]] - (uint32_t)reco_job_first(job);
    for (; m < k; m++) {
        to[m] = -1;
        s[m] = 0;
    }
}

reco_status reco_batch_fill(const reco_job *job, reco_batch *b, size_t n, const reco_mask *mask, bool apart,
                            reco_rng *rng)
{
    b->n = n;
    for (int side = 0; side < 2; side++) {
        for (size_t q = 0; q < n; q++) {
            memcpy(b->x[side] + q * job->d, job->rows[side] + b->items[q] * job->d, job->d * sizeof(float));
            pick_neighbours(job, b, side, q, mask, apart, rng);
        }
        if (b->R[side])
            RECO_TRY(reco_bank_gather(job->ctx, job->bank, reco_modality_side(job->o.fuse, (reco_side)side),
                                      b->ids, n * job->o.k, b->R[side]));
    }
    return RECO_OK;
}

reco_fusion_input reco_batch_input(const reco_batch *b, int side, size_t k)
{
    return (reco_fusion_input){.side = (reco_side)side,
                               .x = b->x[side],
                               .retrieved = b->R[side],
                               .scores = b->s[side],
                               .valid = b->valid[side],
                               .n = b->n,
                               .k = k};
}

reco_status reco_batch_forward(reco_ctx *ctx, const reco_batch *b, const reco_fusion *fusion,
                               reco_side side, size_t first, size_t n, size_t k, float *out,
                               reco_tape *tape)
{
    const reco_fusion_input all = reco_batch_input(b, (int)side, k),
                            in = reco_fusion_part(fusion, &all, first, n);
    size_t at = first * k;
    if (b->known) reco_tape_know(tape, b->c[side] + at, b->a[side] + at);
    if (b->rows[side]) reco_tape_point(tape, b->rows[side], b->place[side] + at);
    return reco_fusion_forward(ctx, fusion, &in, out, tape);
}
