#include "bank/search/scan_block.h"
#include "kernels/kernels.h"

#include <math.h>

/* Rows along the bank's directions. The first stage is the kernel's, over tiles of 32 rows and all queries; what passes is sorted
 * by row, and the second stage compares each row, along more directions, with the queries that it passed for. What passes that,
 * too, is scored as after any scan.
 *
 * Where much passes the first stage (floors are low at the start; texts that ask for images lie far from all of them) that
 * costs more than it saves, and a worker looks at blocks in all dimensions for a while. */

#define LEAST_PATIENCE 2 /* blocks between two tries: at first, */
#define MOST_PATIENCE 64 /* at most */
#define MOST_CHUNK 8     /* tiles */
#define FEW_QUERIES 8    /* are turned one by one */

/* Length beyond the directions of a query of this square, of which w [m], wrong by off, is the part along them. */
static double beyond(const reco_ctx *ctx, double square, const float *w, size_t m, double off, double loose)
{
    double along = fmax(sqrt(reco_dot_wide(ctx, w, w, m)) - off, 0);
    return sqrt(fmax(square - (1 - loose) * along * along, 0) + 1e-14) * (1 + 1e-6);
}

static reco_status turn_queries(reco_ctx *ctx, float *w, const reco_scan *s, size_t nq)
{
    const reco_directions_side *x = s->directions;
    size_t d = s->bank->info.d, m = x->second;
    if (nq > FEW_QUERIES)
        return reco_gemm(ctx, w, m, s->queries, d, false, x->rows, d, true, nq, m, d, 1, 0);
    for (size_t i = 0; i < nq * m; i++)
        w[i] = reco_dot_fast(ctx, s->queries + i / m * d, x->rows + i % m * d, d);
    return RECO_OK;
}

/* Rows that pass the first stage before any goes through the second: where queries are few those wait for memory, together. */
static size_t chunk_rows(size_t n)
{
    return reco_max(1, reco_min(MOST_CHUNK, 1024 / n / RECO_SCAN_TILE)) * RECO_SCAN_TILE;
}

/* For the first stage, part [nq][first] of w. */
static reco_status encode_first(reco_ctx *ctx, reco_scan *s, const float *part, double off)
{
    size_t nq = s->q.n, width = reco_scan_width(s->directions->first);
    int8_t *codes = reco_scratch(ctx, nq, width, "search");
    float *missing = reco_scratch(ctx, nq, sizeof *missing, "search");
    RECO_TRY(reco_scan_queries_new(ctx, &s->turned, nq, width));
    if (!codes || !missing) return RECO_E_NOMEM;
    reco_scan_encode_queries(s->kernel, &s->turned, codes, missing, part, nq, s->directions->first, off);
    s->turned_codes = codes;
    s->missing = missing;
    return RECO_OK;
}

/* For the second, in 16 bits, of part [nq][second]. */
static reco_status encode_second(reco_ctx *ctx, reco_scan *s, const float *part, double off)
{
    size_t nq = s->q.n, m = s->directions->second, width = reco_scan_width(m);
    int16_t *codes = reco_scratch(ctx, nq, width * sizeof *codes, "search");
    double worst = 0;
    float *steps = reco_scratch(ctx, nq, sizeof *steps, "search");
    reco_scan_pair_query *pairs = reco_scratch(ctx, nq, sizeof *pairs, "search");
    if (!codes || !steps || !pairs) return RECO_E_NOMEM;
    memset(codes, 0, nq * width * sizeof *codes);
    for (size_t i = 0; i < nq; i++) {
        const float *w = part + i * m;
        float most = 1e-6f;
        for (size_t j = 0; j < m; j++) most = fmaxf(most, fabsf(w[j]));
        double step = (double)(most / RECO_SCAN_PAIR_LEVELS), error = 0, norm = 0;
        for (size_t j = 0; j < m; j++) {
            long code = lrint((double)w[j] / step), most_code = RECO_SCAN_PAIR_LEVELS;
            code = code > most_code ? most_code : code < -most_code ? -most_code : code;
            codes[i * width + j] = (int16_t)code;
            double e = (double)w[j] - step * codes[i * width + j];
            error += e * e;
            norm += (double)w[j] * (double)w[j];
        }
        double size = fmax(sqrt(norm) + off, RECO_SCAN_LEAST_SIZE);
        steps[i] = (float)step;
        worst = fmax(worst, (sqrt(error) + off) / size);
        pairs[i].gain = (float)(size / step * (1 + 1e-6));
    }
    s->pair_codes = codes;
    s->pair_width = width;
    s->pair_step = steps;
    s->pair_error = (float)(worst * (1 + 1e-6) + 1e-6);
    s->pairs = pairs;
    return RECO_OK;
}

reco_status reco_scan_turn_queries(reco_ctx *ctx, reco_scan *s, const reco_scan_block *blocks, size_t n)
{
    const reco_directions_side *x = &s->bank->directions.side[s->opts->side];
    size_t rows = 0, nq = s->q.n, d = s->bank->info.d, m = x->second;
    for (size_t i = 0; i < n && x->rows; i++)
        if (blocks[i].source->stages.directions == x) rows += blocks[i].rows;
    if (!x->rows || rows < 2 * m) return RECO_OK;
    s->directions = x;
    float *w = reco_scratch(ctx, nq * m, sizeof *w, "search");
    float *part = reco_scratch(ctx, nq * m, sizeof *part, "search");
    if (!w || !part) return RECO_E_NOMEM;
    RECO_TRY(turn_queries(ctx, w, s, nq));
    double off[2] = {reco_scan_turn_error(d, x->first) * 1.01, reco_scan_turn_error(d, m) * 1.01};
    for (size_t stage = 0; stage < 2; stage++) {
        size_t along = stage ? m : x->first;
        for (size_t i = 0; i < nq; i++) {
            memcpy(part + i * along, w + i * m, along * sizeof *part);
            part[i * along] = 0; /* ahead */
        }
        RECO_TRY((stage ? encode_second : encode_first)(ctx, s, part, off[stage]));
    }
    for (size_t i = 0; i < nq; i++) {
        const float *query = s->queries + i * d;
        double square = reco_dot_wide(ctx, query, query, d), ahead = reco_dot_wide(ctx, query, x->rows, d);
        double rest[2], step[2] = {(double)s->turned.step[i], (double)s->pair_step[i]};
        for (size_t stage = 0; stage < 2; stage++)
            rest[stage] =
                beyond(ctx, square, w + i * m, stage ? m : x->first, off[stage], (double)x->loose);
        s->turned.beyond[i] = (float)(rest[0] / step[0] * (1 + 1e-6));
        s->turned.ahead[i] = (float)(ahead / step[0]);
        ((reco_scan_pair_query *)s->pairs)[i].beyond = (float)(rest[1] / step[1] * (1 + 1e-6));
        ((reco_scan_pair_query *)s->pairs)[i].ahead = (float)(ahead / step[1]);
    }
    return RECO_OK;
}

reco_status reco_scan_turned_worker(reco_ctx *ctx, const reco_scan *s, reco_scan_worker *w)
{
    size_t nq = s->q.n;
    RECO_TRY(reco_scan_queries_new(ctx, &w->own_first, nq, s->turned.width));
    w->own_turned = reco_scratch(ctx, nq, s->turned.width, "search");
    w->own_pairs = reco_scratch(ctx, nq, s->pair_width * sizeof *w->own_pairs, "search");
    w->first_floor = reco_scratch(ctx, nq, sizeof *w->first_floor, "search");
    w->pairs = reco_scratch(ctx, nq, sizeof *w->pairs, "search");
    w->reached = reco_scratch(ctx, chunk_rows(nq), nq * sizeof *w->reached, "search");
    w->patience = LEAST_PATIENCE;
    return w->own_turned && w->own_pairs && w->first_floor && w->pairs && w->reached ? RECO_OK
                                                                                     : RECO_E_NOMEM;
}

/* The greatest norm of n rows from a group's first on. */
static double greatest_norm(const float *bounds, size_t n)
{
    float most = 0;
    for (size_t i = 0; i < n; i++) {
        float norm = bounds[i / RECO_SCAN_GROUP * RECO_SCAN_TURNED_BOUNDS + 32 + i % RECO_SCAN_GROUP];
        most = norm > most ? norm : most;
    }
    return (double)most;
}

void reco_scan_use_turned(const reco_scan *s, reco_scan_worker *w, const reco_scan_block *b)
{
    const reco_scan_queries *first = &s->turned;
    const reco_scan_stages *stages = &b->source->stages;
    reco_scan_queries *own = &w->own_first;
    bool all = !w->names;
    size_t n = w->q->n, at = b->first / RECO_SCAN_GROUP * RECO_SCAN_TURNED_BOUNDS;
    w->norm = greatest_norm(stages->first_bounds + at, b->rows);
    w->first = all ? first : own;
    w->pair_codes = all ? s->pair_codes : w->own_pairs;
    for (size_t i = 0; i < n; i++) {
        size_t q = all ? i : b->queries[i];
        w->pairs[i] = s->pairs[q];
        if (all) continue;
        memcpy(w->own_turned + i * first->width, s->turned_codes + q * first->width, first->width);
        memcpy(w->own_pairs + i * s->pair_width, s->pair_codes + q * s->pair_width,
               s->pair_width * sizeof *w->own_pairs);
        own->start[i] = first->start[q];
        own->gain[i] = first->gain[q];
        own->step[i] = first->step[q];
        own->beyond[i] = first->beyond[q];
        own->ahead[i] = first->ahead[q];
    }
    if (all) return;
    own->n = n;
    s->kernel->pack(own->codes, w->own_turned, n, own->width);
}

/* Sort what a tile's rows, of the chunk's number from on, may reach by row. Returns how many pairs that is. */
static size_t sort_hits(reco_scan_worker *w, size_t hits, size_t from, uint32_t *counts)
{
    size_t n = w->q->n, pairs = 0;
    for (size_t h = 0; h < hits; h++) {
        uint32_t query = w->hits[h].query;
        for (uint32_t bits = w->hits[h].rows; bits; bits &= bits - 1, pairs++) {
            size_t r = from + (size_t)__builtin_ctz(bits);
            w->reached[r * n + counts[r]++] = query;
        }
    }
    return pairs;
}

static void prefetch(const void *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch((const uint8_t *)from + i);
}

static const float *second_bounds(const reco_scan_block *b, size_t row)
{
    size_t at = b->first + row;
    return b->source->stages.second_bounds + at / RECO_SCAN_GROUP * RECO_SCAN_TURNED_BOUNDS +
           at % RECO_SCAN_GROUP;
}

/* row: of the block. */
static void second_stage(reco_scan *s, reco_scan_worker *w, const reco_scan_block *b, size_t row,
                         uint32_t *names, size_t n)
{
    const float *all = second_bounds(b, row);
    const float bound[] = {all[0], all[16] + s->pair_error * all[32], all[48], all[64]};
    const reco_scan_pairs pairs = {w->pair_codes, w->pairs, s->pair_width};
    const uint8_t *codes = b->source->stages.second + (b->first + row) * s->pair_width;
    size_t kept = s->kernel->pairs(names, n, &pairs, codes, bound);
    for (size_t i = 0; i < kept; i++) reco_scan_score(s, w, b, row, names[i]);
}

/* A share of the pairs that pass the first stage, from which on all dimensions would have been faster. A single query waits for
 * memory, of which the first stage reads a part; many share what was read, and wait for the kernel. */
static double most_pass(const reco_scan *s, size_t n)
{
    double saved = (double)(s->q.width - s->turned.width);
    return saved * (s->kernel->saves + 0.08 / (double)n) / (11 + 25 / (double)n);
}

/* One tile of the first stage: rows i.. of n. Returns its hits; *live is how many rows count. */
static size_t first_stage(reco_scan *s, reco_scan_worker *w, const uint8_t *codes, const float *bounds,
                          size_t i, size_t n, uint32_t live)
{
    static const size_t places[] = {0, 16, 48, 64}; /* scale, slack, rest, along */
    _Alignas(64) float part[4][RECO_SCAN_TILE];
    size_t group = RECO_SCAN_GROUP * w->first->width;
    for (size_t g = 0; g < 2; g++) {
        const float *bound = bounds + (i / RECO_SCAN_GROUP + g) * RECO_SCAN_TURNED_BOUNDS;
        bool is_there = i + g * RECO_SCAN_GROUP < n;
        for (size_t k = 0; k < 4; k++)
            for (size_t r = 0; r < RECO_SCAN_GROUP; r++)
                part[k][g * RECO_SCAN_GROUP + r] = is_there ? bound[places[k] + r] : 0;
    }
    const uint8_t *low = codes + i / RECO_SCAN_GROUP * group;
    const reco_scan_tile tile = {{low, i + RECO_SCAN_GROUP < n ? low + group : low},
                                 part[0],
                                 part[1],
                                 part[2],
                                 part[3],
                                 w->first_floor,
                                 live};
    if (w->q->n <= FEW_QUERIES)
        prefetch(low + 2 * group, 2 * group); /* the next; may lie beyond the last */
    return s->kernel->scan(w->hits, w->first, &tile);
}

void reco_scan_staged(reco_scan *s, reco_scan_worker *w, const reco_scan_block *b, const uint8_t *codes,
                      const float *bounds, size_t n, const uint32_t *rows)
{
    size_t passed = 0, looked = 0, nq = w->q->n, chunk = chunk_rows(nq);
    uint32_t counts[MOST_CHUNK * RECO_SCAN_TILE];
    for (size_t at = 0; at < n; at += chunk) {
        size_t end = reco_min(n, at + chunk);
        memset(counts, 0, sizeof counts);
        for (size_t i = at; i < end; i += RECO_SCAN_TILE) {
            uint32_t live = UINT32_MAX;
            if (!rows)
                live = w->live[i / 32];
            else if (n - i < 32)
                live = ((uint32_t)1 << (n - i)) - 1;
            if (!live) continue;
            looked += (size_t)__builtin_popcount(live) * nq;
            passed += sort_hits(w, first_stage(s, w, codes, bounds, i, n, live), i - at, counts);
            for (size_t r = i; r < reco_min(end, i + RECO_SCAN_TILE) && nq <= FEW_QUERIES; r++) {
                if (!counts[r - at]) continue;
                size_t row = rows ? rows[r] : r;
                prefetch(b->source->stages.second + (b->first + row) * s->pair_width, s->pair_width);
                __builtin_prefetch(second_bounds(b, row));
            }
        }
        for (size_t r = at; r < end; r++)
            if (counts[r - at])
                second_stage(s, w, b, rows ? rows[r] : r, w->reached + (r - at) * nq, counts[r - at]);
    }
    if ((double)passed <= most_pass(s, nq) * (double)looked) {
        w->patience = LEAST_PATIENCE;
        return;
    }
    w->dense = w->patience;
    w->patience = reco_min(2 * w->patience, MOST_PATIENCE);
}
