#include "bank/search/filter.h"
#include "bank/search/scan_block.h"
#include "kernels/kernels.h"

#include <math.h>

#define DIRECT_QUERIES 8 /* up to here, scoring f16 rows is faster than encoding them */
#define BLOCK_WORK 64    /* rows that are scored in the time that a block takes, at least */
#define MEAN_ROWS 64     /* of a block that is encoded on the way, its mean is of so many */

/* ---- the floor ---- */

static float get_best(const reco_scan *s, size_t q)
{
    uint32_t bits = __atomic_load_n(&s->best[q], __ATOMIC_RELAXED);
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static void raise_best(reco_scan *s, size_t q, float score)
{
    uint32_t was = __atomic_load_n(&s->best[q], __ATOMIC_RELAXED), bits;
    memcpy(&bits, &score, sizeof bits);
    for (;;) {
        float f;
        memcpy(&f, &was, sizeof f);
        if (!(score > f)) return;
        if (__atomic_compare_exchange_n(&s->best[q], &was, bits, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            return;
    }
}

/* Of query i of the block. */
static size_t name_of_query(const reco_scan_worker *w, size_t i) { return w->names ? w->names[i] : i; }

/* What scale * dot + slack * gain (+ rest * beyond) must reach, a little lower for the roundings on the way. */
static void set_floor(const reco_scan *s, reco_scan_worker *w, size_t i)
{
    size_t q = name_of_query(w, i);
    double best = (double)get_best(s, q), rounding = 1e-6 * (fabs(best) + fabs(w->centre[i])) + w->rounding;
    double floor = best - w->centre[i] - rounding;
    if (!w->staged) {
        w->floor[i] = (float)(floor / (double)w->q->step[i]);
        return;
    }
    w->first_floor[i] = (float)((floor - (double)s->missing[q] * w->norm) / (double)w->first->step[i]);
    w->pairs[i].floor = (float)(floor / (double)s->pair_step[q]);
}

/* ---- scoring ---- */

/* Of the bank, where the block's row is. */
static size_t position_of(const reco_scan_block *b, size_t row)
{
    const reco_scan_source *from = b->source;
    return from->positions ? from->positions[b->first + row] : from->base + b->first + row;
}

const uint16_t *reco_scan_row(const reco_scan *s, reco_scan_worker *w, const reco_scan_block *b, size_t row)
{
    size_t p = position_of(b, row);
    const reco_segment *at = &s->bank->segments[w->segment];
    if (p - at->base >= at->rows) at = &s->bank->segments[w->segment = reco_bank_segment_at(s->bank, p)];
    return at->vectors[s->opts->side] + (p - at->base) * s->bank->info.d;
}

/* Asked of the few rows that would be among the best. */
static bool is_excluded(const reco_scan *s, size_t q, size_t position)
{
    const size_t n = s->opts->nexclude, *exclude = s->opts->exclude + q * n;
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (exclude[middle] < position)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n && exclude[low] == position;
}

/* The f32 score first: a row that fails by more than f32 can be wrong is done with. Returns whether the query's best rose. */
static bool score_row(reco_scan *s, reco_scan_worker *w, const reco_scan_block *b, size_t row, size_t q)
{
    size_t d = s->bank->info.d, k = s->opts->k;
    const uint16_t *x = reco_scan_row(s, w, b, row);
    const float *query = s->queries + q * d;
    float best = get_best(s, q), rough = s->kernel->dot_f16(query, x, d);
    if (!(rough >= best - s->slack)) return false; /* NaN, of a damaged row, too */
    reco_f16_to_f32_n(w->row, x, d);
    float exact = (float)reco_dot_wide(s->ctx, query, w->row, d);
    if (!isfinite(exact) || !(exact >= best)) return false;
    size_t position = position_of(b, row);
    if (is_excluded(s, q, position)) return false;
    reco_topk_offer(w->scores + q * k, w->positions + q * k, &w->counts[q], k, exact, (int64_t)position);
    if (w->counts[q] < k) return false;
    raise_best(s, q, w->scores[q * k + k - 1]);
    return true;
}

/* A block that the worker has left has no floors any more; the next takes them from the best. */
void reco_scan_score_late(reco_scan *s, reco_scan_worker *w, const reco_scan_late *late)
{
    if (score_row(s, w, late->block, late->row, late->query) && late->block == w->block)
        set_floor(s, w, late->i);
}

void reco_scan_score(reco_scan *s, reco_scan_worker *w, const reco_scan_block *b, size_t row, size_t i)
{
    size_t q = name_of_query(w, i);
    if (reco_scan_is_cold(s)) {
        reco_scan_defer(s, w, &(reco_scan_late){b, row, q, i});
        return;
    }
    if (score_row(s, w, b, row, q)) set_floor(s, w, i);
    if (++w->done >= w->look) reco_scan_look(s, w);
}

/* ---- a block ---- */

/* Where positions are listed, one by one. */
static size_t find_live_among(const reco_scan *s, reco_scan_worker *w, const uint32_t *positions, size_t n)
{
    const reco_bank_filter *f = s->opts->filter;
    size_t count = 0;
    memset(w->live, 0, (n + 31) / 32 * sizeof *w->live);
    for (size_t i = 0; i < n; i++) {
        size_t p = positions[i];
        if (p >= s->bank->positions || reco_bank_is_deleted(s->bank, p)) continue;
        if (f && !(f->bits[p / 64] >> p % 64 & 1)) continue;
        w->live[i / 32] |= (uint32_t)1 << i % 32;
        count++;
    }
    return count;
}

size_t reco_scan_find_live(const reco_scan *s, reco_scan_worker *w, const reco_scan_block *b)
{
    if (b->source->positions) return find_live_among(s, w, b->source->positions + b->first, b->rows);
    const reco_bank *bank = s->bank;
    const uint64_t *bits = s->opts->filter ? s->opts->filter->bits : bank->deleted;
    uint64_t flip = s->opts->filter ? 0 : UINT64_MAX;
    size_t from = b->source->base + b->first, count = 0;
    for (size_t i = 0; i < b->rows; i += 32) {
        size_t p = from + i, n = reco_min(32, b->rows - i);
        uint64_t word = UINT64_MAX;
        if (bits) {
            word = (bits[p / 64] ^ flip) >> p % 64;
            if (p % 64 + n > 64) word |= (bits[p / 64 + 1] ^ flip) << (64 - p % 64);
        }
        if (s->opts->filter &&
            bank->deleted) { /* deleted after the filter was made: can't be, but costs nothing */
            uint64_t gone = bank->deleted[p / 64] >> p % 64;
            if (p % 64 + n > 64) gone |= bank->deleted[p / 64 + 1] << (64 - p % 64);
            word &= ~gone;
        }
        w->live[i / 32] = (uint32_t)(word & (n == 32 ? UINT32_MAX : ((uint32_t)1 << n) - 1));
        count += (size_t)__builtin_popcount(w->live[i / 32]);
    }
    return count;
}

/* The queries that look at the block, packed. */
static void use_queries(reco_scan *s, reco_scan_worker *w, const reco_scan_block *b)
{
    reco_scan_queries *own = &w->own;
    size_t width = s->q.width;
    bool all = !b->queries || b->nqueries == s->q.n;
    w->q = all ? &s->q : own;
    w->names = all ? NULL : b->queries;
    if (!all) own->n = b->nqueries;
    if (w->staged) {
        reco_scan_use_turned(s, w, b);
        return;
    }
    if (all) return;
    for (size_t i = 0; i < own->n; i++) {
        size_t q = b->queries[i];
        memcpy(w->own_codes + i * width, s->codes + q * width, width);
        own->start[i] = s->q.start[q];
        own->gain[i] = s->q.gain[q];
        own->step[i] = s->q.step[q];
    }
    memset(own->beyond, 0, own->n * sizeof *own->beyond);
    memset(own->ahead, 0, own->n * sizeof *own->ahead);
    own->error = s->q.error;
    s->kernel->pack(own->codes, w->own_codes, own->n, width);
}

static void use_mean(reco_scan *s, reco_scan_worker *w, const reco_scan_block *b, const float *mean)
{
    size_t d = s->bank->info.d;
    bool given = b->centre && mean == b->source->mean;
    if (given || w->names || mean != w->mean || mean == w->own_mean)
        for (size_t i = 0; i < w->q->n; i++)
            w->centre[i] = given ? (double)b->centre[i]
                                 : reco_dot_wide(s->ctx, s->queries + name_of_query(w, i) * d, mean, d);
    w->mean = given || w->names ? NULL : mean;
    w->rounding = given ? (double)s->slack : 1e-30;
    for (size_t i = 0; i < w->q->n; i++) set_floor(s, w, i);
}

/* rows: of the block, where they were gathered; NULL: row i of the codes is row i of the block. */
static void scan_codes(reco_scan *s, reco_scan_worker *w, const reco_scan_block *b, const uint8_t *codes,
                       const float *bounds, size_t n, const uint32_t *rows)
{
    size_t group = RECO_SCAN_GROUP * s->q.width;
    _Alignas(64) float scale[RECO_SCAN_TILE], slack[RECO_SCAN_TILE];
    static const float none[RECO_SCAN_TILE];
    for (size_t i = 0; i < n; i += RECO_SCAN_TILE) {
        uint32_t live = UINT32_MAX;
        if (!rows)
            live = w->live[i / 32];
        else if (n - i < 32)
            live = ((uint32_t)1 << (n - i)) - 1;
        if (!live) continue;
        for (size_t g = 0; g < 2; g++) {
            const float *bound = bounds + (i / RECO_SCAN_GROUP + g) * RECO_SCAN_BOUNDS;
            bool is_there = i + g * RECO_SCAN_GROUP < n;
            for (size_t r = 0; r < RECO_SCAN_GROUP; r++) {
                scale[g * 16 + r] = is_there ? bound[r] : 0;
                slack[g * 16 + r] = is_there ? bound[16 + r] + w->q->error * bound[32 + r] : 0;
            }
        }
        const uint8_t *low = codes + i / RECO_SCAN_GROUP * group;
        const reco_scan_tile tile = {
            {low, i + RECO_SCAN_GROUP < n ? low + group : low}, scale, slack, none, none, w->floor, live};
        size_t hits = s->kernel->scan(w->hits, w->q, &tile);
        for (size_t h = 0; h < hits; h++)
            for (uint32_t bits = w->hits[h].rows; bits; bits &= bits - 1) {
                size_t r = i + (size_t)__builtin_ctz(bits);
                reco_scan_score(s, w, b, rows ? rows[r] : r, w->hits[h].query);
            }
    }
}

/* Of some rows; any mean would do, a good one makes errors small. */
static void find_mean(reco_scan *s, reco_scan_worker *w, const reco_scan_block *b)
{
    size_t d = s->bank->info.d, step = (b->rows + MEAN_ROWS - 1) / MEAN_ROWS, n = 0;
    memset(w->own_mean, 0, d * sizeof *w->own_mean);
    for (size_t r = 0; r < b->rows; r += step) {
        if (!(w->live[r / 32] >> r % 32 & 1)) continue;
        n++;
        reco_f16_to_f32_n(w->row, reco_scan_row(s, w, b, r), d);
        for (size_t i = 0; i < d; i++) w->own_mean[i] += w->row[i];
    }
    for (size_t i = 0; i < d; i++) {
        w->own_mean[i] /= (float)reco_max(1, n);
        if (!isfinite(w->own_mean[i])) w->own_mean[i] = 0;
    }
}

/* Live rows into full groups: codes from the scan file, or made here. */
static void gather_codes(reco_scan *s, reco_scan_worker *w, const reco_scan_block *b, size_t count)
{
    const reco_scan_source *source = b->source;
    const reco_scan_stages *stages = &source->stages;
    size_t d = s->bank->info.d, width = w->staged ? s->turned.width : s->q.width, n = 0;
    size_t group = RECO_SCAN_GROUP * width, kinds = w->staged ? 5 : 3, bound = kinds * RECO_SCAN_GROUP;
    const uint8_t *all = w->staged ? stages->first : source->codes;
    const float *all_bounds = w->staged ? stages->first_bounds : source->bounds;
    for (size_t i = 0; i < b->rows; i += 32)
        for (uint32_t bits = w->live[i / 32]; bits; bits &= bits - 1, n++) {
            size_t row = i + (size_t)__builtin_ctz(bits), from = (b->first + row) / RECO_SCAN_GROUP;
            uint8_t *codes = w->codes + n / RECO_SCAN_GROUP * group;
            float *bounds = w->bounds + n / RECO_SCAN_GROUP * bound;
            w->rows[n] = (uint32_t)row;
            if (all)
                reco_scan_copy_row(codes, bounds, n % RECO_SCAN_GROUP, all + from * group,
                                   all_bounds + from * bound, (b->first + row) % RECO_SCAN_GROUP, width,
                                   kinds);
            else
                reco_scan_encode_row(s->ctx, codes, bounds, n % RECO_SCAN_GROUP,
                                     reco_scan_row(s, w, b, row), w->own_mean, d, w->scratch);
        }
    (w->staged ? reco_scan_staged : scan_codes)(s, w, b, w->codes, w->bounds, count, w->rows);
}

static void scan_rows(reco_scan *s, reco_scan_worker *w, const reco_scan_block *b)
{
    for (size_t i = 0; i < b->rows; i += 32)
        for (uint32_t bits = w->live[i / 32]; bits; bits &= bits - 1)
            for (size_t q = 0; q < w->q->n; q++)
                reco_scan_score(s, w, b, i + (size_t)__builtin_ctz(bits), q);
}

bool reco_scan_is_direct(const reco_scan_block *b, size_t queries, size_t live)
{
    return queries <= DIRECT_QUERIES && (!b->source->codes || live * 16 < b->rows);
}

void reco_scan_blocks(void *arg, size_t begin, size_t end, int number)
{
    reco_scan *s = arg;
    reco_scan_worker *w = &s->workers[number];
    for (size_t i = begin; i < end; i++) {
        const reco_scan_block *b = &s->blocks[i];
        const reco_scan_source *source = b->source;
        if (reco_scan_is_cold(s))
            reco_scan_ask_blocks(s, w, b);
        else if ((w->done += BLOCK_WORK) >= w->look)
            reco_scan_look(s, w);
        w->block = b;
        memset(w->asked, 0, (b->rows + 31) / 32 * sizeof *w->asked);
        size_t count = reco_scan_find_live(s, w, b);
        if (count == 0) continue;
        w->staged = reco_scan_is_staged(s, w, b);
        w->dense -= w->dense > 0;
        use_queries(s, w, b);
        if (reco_scan_is_direct(b, w->q->n, count)) {
            w->staged = false;
            scan_rows(s, w, b);
        } else if (source->codes && (count * 4 > b->rows * 3 || w->q->n <= DIRECT_QUERIES)) {
            size_t first = b->first / RECO_SCAN_GROUP;
            use_mean(s, w, b, source->mean);
            if (w->staged)
                reco_scan_staged(s, w, b, source->stages.first + first * RECO_SCAN_GROUP * s->turned.width,
                                 source->stages.first_bounds + first * RECO_SCAN_TURNED_BOUNDS, b->rows,
                                 NULL);
            else
                scan_codes(s, w, b, source->codes + first * RECO_SCAN_GROUP * s->q.width,
                           source->bounds + first * RECO_SCAN_BOUNDS, b->rows, NULL);
        } else {
            if (!source->codes) find_mean(s, w, b);
            use_mean(s, w, b, source->codes ? source->mean : w->own_mean);
            gather_codes(s, w, b, count);
        }
    }
}
