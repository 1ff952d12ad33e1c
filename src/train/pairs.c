#include "bank/bank.h"
#include "io/io.h"
#include "train/train_internal.h"

typedef struct reading {
    reco_job *job;
    size_t first;
} reading;

static reco_status read_key(reco_ctx *ctx, void *arg, size_t i, const reco_pair *pair)
{
    const reading *r = arg;
    r->job->keys[RECO_IMAGE][r->first + i] =
        reco_picture_key(pair->content ? pair->content : pair->place, pair->uri);
    return reco_caption_key(ctx, &r->job->keys[RECO_TEXT][r->first + i], pair->caption);
}

/* What rows [first, end), of these ids of the bank [end - first], say of themselves: their captions and the names of their
 * pictures. */
static reco_status read_keys(reco_job *job, size_t first, size_t end, const int64_t *ids)
{
    reading r = {job, first};
    return reco_bank_each_pair(job->ctx, job->bank, ids, end - first, read_key, &r);
}

static reco_status allocate_keys(reco_job *job)
{
    job->id = reco_alloc(job->ctx, job->total, sizeof *job->id, "training pairs");
    for (int side = 0; side < 2; side++)
        job->keys[side] = reco_alloc(job->ctx, job->total, sizeof(uint64_t), "training pairs");
    return job->id && job->keys[0] && job->keys[1] ? RECO_OK : RECO_E_NOMEM;
}

static void free_keys(reco_job *job)
{
    for (int side = 0; side < 2; side++) {
        reco_free(job->keys[side]);
        job->keys[side] = NULL;
    }
}

/* ids [trained] of the bank's live rows. */
static reco_status list_own(const reco_job *job, int64_t *ids)
{
    reco_ctx *ctx = job->ctx;
    for (size_t n = 0, got = 0, all = job->trained; n < all; n += got) {
        RECO_TRY(reco_bank_select(ctx, job->bank, NULL, n ? ids[n - 1] + 1 : 0, all - n, ids + n, &got));
        if (got == 0) return reco_fail(ctx, RECO_E_INTERNAL, "train: the bank gave %zu of %zu ids", n, all);
    }
    return RECO_OK;
}

static reco_status allocate_rows(reco_job *job)
{
    size_t count;
    if (!reco_mul(job->n, job->d, &count)) return reco_fail_nomem(job->ctx, SIZE_MAX, "training pairs");
    for (int side = 0; side < 2; side++) {
        job->rows[side] = job->owned[side] = reco_alloc(job->ctx, count, sizeof(float), "training pairs");
        if (!job->owned[side]) return RECO_E_NOMEM;
    }
    return RECO_OK;
}

static reco_status gather_own(const reco_job *job, const int64_t *ids)
{
    for (int side = 0; side < 2; side++)
        RECO_TRY(
            reco_bank_gather(job->ctx, job->bank, (reco_side)side, ids, job->trained, job->owned[side]));
    return RECO_OK;
}

/* Live rows of the bank, as pairs. */
static reco_status load_own(reco_job *job)
{
    job->total = job->n;
    RECO_TRY(allocate_keys(job));
    RECO_TRY(list_own(job, job->id));
    RECO_TRY(allocate_rows(job));
    RECO_TRY(gather_own(job, job->id));
    RECO_TRY(read_keys(job, 0, job->total, job->id));
    RECO_TRY(reco_job_number(job));
    return reco_job_search(job);
}

/* ---- pairs that are not the bank's ---- */

/* Rows of the bank that the pairs retrieved join the list, each once, after the pairs. */
static reco_status list_retrieved(reco_job *job)
{
    size_t slots = 0, count = 0, kept = 0;
    for (size_t list = 0; list < job->lists; list++) slots += job->n * job->reach[list];
    int64_t *ids = reco_alloc(job->ctx, slots, sizeof *ids, "neighbours");
    if (!ids) return RECO_E_NOMEM;
    for (size_t list = 0; list < job->lists; list++)
        for (size_t i = 0; i < job->n * job->reach[list]; i++)
            if (job->found[list][i] >= 0) ids[count++] = job->found[list][i];
    qsort(ids, count, sizeof *ids, reco_by_id);
    for (size_t i = 0; i < count; i++)
        if (i == 0 || ids[i] != ids[i - 1]) ids[kept++] = ids[i];
    job->total = job->n + kept;
    reco_status status = job->total < UINT32_MAX / 2
                             ? allocate_keys(job)
                             : reco_fail(job->ctx, RECO_E_ARG, "train: %zu pairs are too many", job->n);
    for (size_t i = 0; i < job->n && status == RECO_OK; i++) job->id[i] = -1;
    if (status == RECO_OK) memcpy(job->id + job->n, ids, kept * sizeof *ids);
    reco_free(ids);
    return status;
}

/* A name says which picture it is among the names of its own list alone: two folders may both hold 0001.png. Between lists, and
 * between a list and the bank, the vectors decide. */
static void take_keys(reco_job *job, const reco_train_pairs *pairs, size_t first, uint64_t list)
{
    for (size_t i = 0; i < pairs->n; i++) {
        if (pairs->captions) job->keys[RECO_TEXT][first + i] = pairs->captions[i];
        if (pairs->pictures && pairs->pictures[i])
            job->keys[RECO_IMAGE][first + i] = pairs->pictures[i] ^ list;
    }
}

static reco_status take_pairs(reco_job *job, const reco_train_pairs *pairs)
{
    job->rows[RECO_IMAGE] = pairs->image;
    job->rows[RECO_TEXT] = pairs->text;
    RECO_TRY(reco_job_search(job));
    RECO_TRY(list_retrieved(job));
    take_keys(job, pairs, 0, UINT64_MAX);
    RECO_TRY(read_keys(job, job->n, job->total, job->id + job->n));
    return reco_job_number(job);
}

/* Pairs, or the bank's own rows as if they had come as pairs, and behind them those that are judged on. */
static reco_status load_judged(reco_job *job, const reco_train_pairs *pairs, const reco_train_pairs *judged)
{
    reco_ctx *ctx = job->ctx;
    reco_status status = RECO_OK;
    size_t floats = job->trained * job->d;
    int64_t *ids = reco_alloc(ctx, pairs ? 0 : job->trained, sizeof *ids, "training pairs");
    if (!ids) return RECO_E_NOMEM;
    RECO_GO(allocate_rows(job));
    if (!pairs) {
        RECO_GO(list_own(job, ids));
        RECO_GO(gather_own(job, ids));
    }
    for (int side = 0; side < 2; side++) {
        if (pairs) memcpy(job->owned[side], side ? pairs->text : pairs->image, floats * sizeof(float));
        memcpy(job->owned[side] + floats, side ? judged->text : judged->image,
               judged->n * job->d * sizeof(float));
    }
    RECO_GO(reco_job_search(job));
    RECO_GO(list_retrieved(job));
    if (pairs)
        take_keys(job, pairs, 0, UINT64_MAX);
    else
        RECO_GO(read_keys(job, 0, job->trained, ids));
    take_keys(job, judged, job->trained, 0x5555555555555555u);
    RECO_GO(read_keys(job, job->n, job->total, job->id + job->n));
    RECO_GO(reco_job_number(job));
out:
    reco_free(ids);
    return status;
}

/* ---- */

/* Ids that were found become places in the list; rows of the pair's own picture go. */
static reco_status list_neighbours(reco_job *job)
{
    for (size_t list = 0; list < job->lists; list++) {
        size_t reach = job->reach[list];
        /* What lies in a file stays as it was found. */
        float *scores = job->kept.map ? reco_alloc(job->ctx, job->n * reach, sizeof *scores, "neighbours")
                                      : job->scores[list];
        if (!scores) return RECO_E_NOMEM;
        job->near[list] = reco_alloc(job->ctx, job->n * reach, sizeof(uint32_t), "neighbours");
        if (!job->near[list]) {
            if (job->kept.map) reco_free(scores);
            return RECO_E_NOMEM;
        }
        for (size_t i = 0; i < job->n; i++) {
            size_t at = i * reach, kept = 0;
            for (size_t h = 0; h < reach && job->found[list][at + h] >= 0; h++) {
                uint32_t row = (uint32_t)reco_job_index(job, job->found[list][at + h]);
                if (job->same.picture[row] == job->same.picture[i]) continue;
                scores[at + kept] = job->scores[list][at + h];
                job->near[list][at + kept++] = row;
            }
            for (; kept < reach; kept++) {
                scores[at + kept] = 0;
                job->near[list][at + kept] = RECO_NOTHING;
            }
        }
        if (!job->kept.map) reco_free(job->found[list]);
        job->found[list] = NULL;
        job->scores[list] = scores;
    }
    reco_neighbours_close(job);
    /* What counts is what the layer is judged by. */
    size_t twins = 0, first = job->trained < job->n ? job->trained : 0;
    for (size_t i = first; i < job->n; i++) twins += reco_job_has_twin(job, i);
    job->twins = twins > (job->n - first) / 2;
    return RECO_OK;
}

bool reco_job_has_twin(const reco_job *job, size_t i)
{
    size_t told = reco_job_told(job);
    uint32_t first = job->near[told][i * job->reach[told]];
    return first != RECO_NOTHING && job->same.caption[first] == job->same.caption[i];
}

static reco_status check_count(reco_ctx *ctx, const char *what, size_t n)
{
    return n >= RECO_TRAIN_MIN_PAIRS && n < UINT32_MAX / 2
               ? RECO_OK
               : reco_fail(ctx, RECO_E_ARG, "train: %zu %s%s, want %d..%u", n, what, reco_s(n),
                           RECO_TRAIN_MIN_PAIRS, UINT32_MAX / 2);
}

reco_status reco_job_load(reco_job *job, const reco_train_pairs *pairs)
{
    reco_ctx *ctx = job->ctx;
    reco_bank_info info = *reco_bank_get_info(job->bank);
    size_t rows = (size_t)info.rows;
    job->d = info.d;
    const reco_train_pairs *judged = job->o.judged;
    job->own = !pairs && !judged;
    RECO_TRY(reco_reserved(ctx, "train", pairs ? pairs->reserved : NULL));
    RECO_TRY(reco_reserved(ctx, "train", judged ? judged->reserved : NULL));
    job->trained = pairs ? pairs->n : rows;
    if ((pairs && (!pairs->image || !pairs->text)) || (judged && (!judged->image || !judged->text)))
        return reco_fail(ctx, RECO_E_ARG, "train: want both image and text");
    RECO_TRY(check_count(ctx, "pair", job->trained));
    if (judged) RECO_TRY(check_count(ctx, "validation pair", judged->n));
    job->n = job->trained + (judged ? judged->n : 0);
    RECO_TRY(check_count(ctx, "pair", job->n));
    RECO_TRY(reco_train_resolve(ctx, &job->o, job->trained, job->d, pairs ? rows : rows - 1));
    reco_status status = judged  ? load_judged(job, pairs, judged)
                         : pairs ? take_pairs(job, pairs)
                                 : load_own(job);
    if (status == RECO_OK) status = list_neighbours(job);
    if (status == RECO_OK) status = reco_job_find_kin(job);
    if (status == RECO_OK) status = reco_job_split(job);
    if (status == RECO_OK) status = reco_job_gather(job);
    if (status == RECO_OK) status = reco_job_multiply(job);
    free_keys(job);
    return status;
}

reco_status reco_job_turn(reco_job *job, const reco_train_opts *asked, reco_layer layer)
{
    size_t k = job->o.k; /* as many as the bank can give */
    job->o = *asked;
    job->o.layer = layer;
    job->o.k = k;
    for (int side = 0; side < 2; side++) {
        reco_free(job->products[side]);
        job->products[side] = NULL;
    }
    RECO_TRY(reco_train_resolve(job->ctx, &job->o, job->trained, job->d, 0));
    RECO_TRY(reco_job_hold(job));
    return reco_job_multiply(job);
}

size_t reco_job_index(const reco_job *job, int64_t id)
{
    size_t first = reco_job_first(job), low = first, high = job->total;
    if (low < high && id >= job->id[low] && (uint64_t)(id - job->id[low]) < high - low) {
        size_t guess = low + (size_t)(id - job->id[low]); /* right where nothing has been deleted */
        if (job->id[guess] == id) return guess;
    }
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (job->id[middle] < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < job->total && job->id[low] == id ? low : RECO_NOTHING;
}

void reco_job_clear(reco_job *job)
{
    reco_neighbours_close(job);
    for (int side = 0; side < 2; side++) {
        reco_free(job->owned[side]);
        reco_free(job->gathered[side]);
        reco_free(job->products[side]);
    }
    for (int list = 0; list < RECO_LISTS; list++) {
        reco_free(job->found[list]);
        reco_free(job->near[list]);
        reco_free(job->scores[list]);
    }
    reco_free(job->kin);
    reco_free(job->same.start);
    reco_free(job->same.of);
    reco_free(job->same.picture);
    reco_free(job->same.caption);
    reco_free(job->held_start);
    reco_free(job->held);
    reco_free(job->fold);
    reco_free(job->id);
}
