#include "bank/merge/merge.h"
#include "kernels/kernels.h"

#include <math.h>
#include <stdlib.h>

#define MOST_OPEN 128               /* banks at a time, each with a few open files */
#define MOST_SEEN ((size_t)1 << 27) /* pairs: 1 GiB */
#define SAME 0.9995 /* what a picture may come to when it is embedded twice (pipeline/sink_judge.c) */

/* Banks in which rows are looked up by number. */
typedef struct lookup {
    const reco_merge *m;
    reco_bank **open; /* [m->n]; NULL: closed */
    size_t n, next;   /* how many are open; the next to be closed */
} lookup;

static reco_status get_bank(reco_ctx *ctx, lookup *l, size_t i, reco_bank **bank)
{
    while (!l->open[i] && l->n >= MOST_OPEN) {
        reco_bank **victim = &l->open[l->next++ % l->m->n];
        l->n -= *victim != NULL;
        reco_bank_close(*victim);
        *victim = NULL;
    }
    if (!l->open[i]) {
        RECO_TRY(reco_merge_open_bank(ctx, l->m, i, &l->open[i]));
        l->n++;
    }
    *bank = l->open[i];
    return RECO_OK;
}

/* Position of the live row that has `rank` live ones before it. */
static size_t position_of(const reco_bank *bank, size_t rank)
{
    if (!bank->deleted) return rank;
    size_t word = 0, live;
    while (rank >= (live = 64 - (size_t)__builtin_popcountll(bank->deleted[word]))) {
        rank -= live;
        word++;
    }
    size_t p = 64 * word;
    for (;; p++)
        if (!reco_bank_is_deleted(bank, p) && rank-- == 0) return p;
}

static reco_status fetch_vector(reco_ctx *ctx, lookup *l, int64_t number, float *x)
{
    reco_bank *bank;
    size_t lo = 0, hi = l->m->n;
    while (hi - lo > 1) {
        size_t mid = lo + (hi - lo) / 2;
        if (l->m->firsts[mid] <= number)
            lo = mid;
        else
            hi = mid;
    }
    RECO_TRY(get_bank(ctx, l, lo, &bank));
    size_t p = position_of(bank, (size_t)(number - l->m->firsts[lo])), s = reco_bank_segment_at(bank, p);
    reco_f16_to_f32_n(x, reco_bank_row(bank, RECO_IMAGE, p, &s), bank->info.d);
    return RECO_OK;
}

static reco_status is_same_vector(reco_ctx *ctx, void *arg, int64_t a, int64_t b, bool *same)
{
    lookup *l = arg;
    const size_t d = l->m->spec.d;
    reco_mark mark = reco_scratch_mark(ctx);
    float *x = reco_scratch(ctx, 2 * d, sizeof *x, "vectors"), *y = x + d;
    reco_status status = x ? fetch_vector(ctx, l, a, x) : RECO_E_NOMEM;
    if (status == RECO_OK) status = fetch_vector(ctx, l, b, y);
    if (status == RECO_OK) *same = reco_dot(x, y, d) >= SAME * sqrt(reco_dot(x, x, d) * reco_dot(y, y, d));
    reco_scratch_release(ctx, mark);
    return status;
}

static reco_status drop_doubles(reco_ctx *ctx, reco_merge *m)
{
    lookup l = {.m = m, .open = reco_alloc(ctx, m->n, sizeof *l.open, "banks")};
    if (!l.open) return RECO_E_NOMEM;
    const reco_merge_rules rules = {m->firsts, m->n, m->several, is_same_vector, &l};
    reco_status status = reco_catalog_merge_drop(ctx, m->catalog, &rules);
    for (size_t i = 0; i < m->n; i++) reco_bank_close(l.open[i]);
    reco_free(l.open);
    return status;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* May a picture be in two banks? Where two share 50 bits by chance, the pairs are compared for nothing. */
static bool may_have_doubles(reco_merge_seen *seen)
{
    if (!seen->places || seen->unplaced) return true;
    qsort(seen->places, seen->n, sizeof *seen->places, by_value);
    for (size_t i = 1; i < seen->n; i++) {
        uint64_t a = seen->places[i - 1], b = seen->places[i];
        if (a != b && a >> RECO_MERGE_CATALOG_BITS == b >> RECO_MERGE_CATALOG_BITS) return true;
    }
    return false;
}

static reco_status take_all(reco_ctx *ctx, reco_merge *m, reco_merge_state *state, reco_merge_seen *seen)
{
    while (state->taken < (int64_t)m->n) {
        reco_bank *bank;
        size_t i = (size_t)state->taken;
        RECO_TRY(reco_merge_open_bank(ctx, m, i, &bank));
        reco_status status =
            reco_catalog_merge_take(ctx, m->catalog, bank->catalog, state, seen, m->firsts[m->n]);
        reco_bank_close(bank);
        RECO_TRY(status);
        if (state->met != m->firsts[i + 1])
            return reco_fail(ctx, RECO_E_FORMAT, "%s: has %lld pairs, want %lld, one a row", m->banks[i],
                             (long long)(state->met - m->firsts[i]),
                             (long long)(m->firsts[i + 1] - m->firsts[i]));
    }
    return RECO_OK;
}

/* The first round. What an earlier run took was not seen here. */
static reco_status take_first(reco_ctx *ctx, reco_merge *m, reco_merge_state *state)
{
    reco_merge_seen seen = {.room = (size_t)m->firsts[m->n]};
    if (state->taken == 0 && seen.room <= MOST_SEEN)
        if (!(seen.places = reco_alloc(ctx, seen.room, sizeof *seen.places, "pictures")))
            return RECO_E_NOMEM;
    reco_status status = take_all(ctx, m, state, &seen);
    bool twice = status == RECO_OK && may_have_doubles(&seen);
    reco_free(seen.places);
    return twice ? drop_doubles(ctx, m) : status;
}

reco_status reco_merge_pairs(reco_ctx *ctx, reco_merge *m)
{
    reco_merge_state state;
    reco_merge_seen none = {0};
    RECO_TRY(reco_catalog_merge_state(ctx, m->catalog, &state));
    while (state.round != RECO_MERGE_ALL_IN) {
        RECO_TRY(state.round == RECO_MERGE_FIRST ? take_first(ctx, m, &state)
                                                 : take_all(ctx, m, &state, &none));
        RECO_TRY(reco_catalog_merge_next(ctx, m->catalog, &state));
    }
    m->result.rows = state.next_id;
    return RECO_OK;
}
