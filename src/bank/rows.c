#include "bank/bank_internal.h"

#include <stdatomic.h>

size_t reco_bank_segment_at(const reco_bank *bank, size_t position)
{
    size_t lo = 0, hi = bank->nsegments; /* the last whose base is at or below position */
    while (hi - lo > 1) {
        size_t mid = lo + (hi - lo) / 2;
        if (bank->segments[mid].base <= position)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

int64_t reco_bank_id_at(const reco_bank *bank, size_t position)
{
    const reco_segment *s = &bank->segments[reco_bank_segment_at(bank, position)];
    return reco_segment_id(s, position - s->base);
}

/* The first position whose id is at least id; bank->positions when there is none. */
static size_t lower_bound(const reco_bank *bank, int64_t id)
{
    size_t lo = 0, hi = bank->nsegments; /* the last segment that begins at or below id */
    if (hi == 0 || id <= bank->segments[0].first) return 0;
    while (hi - lo > 1) {
        size_t mid = lo + (hi - lo) / 2;
        if (bank->segments[mid].first <= id)
            lo = mid;
        else
            hi = mid;
    }
    const reco_segment *s = &bank->segments[lo];
    if (!s->ids) return s->base + reco_min((size_t)(id - s->first), s->rows);
    size_t from = 0, to = s->rows;
    while (from < to) {
        size_t mid = from + (to - from) / 2;
        if (reco_segment_id(s, mid) < id)
            from = mid + 1;
        else
            to = mid;
    }
    return s->base + from;
}

bool reco_bank_find(const reco_bank *bank, int64_t id, size_t *position)
{
    *position = lower_bound(bank, id);
    return *position < bank->positions && reco_bank_id_at(bank, *position) == id;
}

size_t reco_folder_list(const reco_bank *bank, bool deleted, int64_t from, size_t max, int64_t *ids)
{
    size_t n = 0;
    for (size_t p = lower_bound(bank, from); p < bank->positions && n < max; p++)
        if (reco_bank_is_deleted(bank, p) == deleted) ids[n++] = reco_bank_id_at(bank, p);
    return n;
}

typedef struct gathering {
    const reco_bank *bank;
    reco_side side;
    const int64_t *ids;
    float *out;
    atomic_size_t missing; /* the first id that is no row's */
} gathering;

/* Of a bank that is read from the disk: all rows, before the first is waited for. */
static void ask_rows(const gathering *g, size_t begin, size_t end)
{
    size_t d = g->bank->info.d, position;
    for (size_t i = begin; i < end; i++) {
        if (g->ids[i] == -1 || !reco_bank_find(g->bank, g->ids[i], &position)) continue;
        size_t segment = reco_bank_segment_at(g->bank, position);
        reco_map_fetch(reco_bank_row(g->bank, g->side, position, &segment), d * sizeof(uint16_t));
    }
}

static void gather_rows(void *arg, size_t begin, size_t end, int worker)
{
    (void)worker;
    gathering *g = arg;
    size_t d = g->bank->info.d, position;
    if (g->bank->cold > 0) ask_rows(g, begin, end);
    for (size_t i = begin; i < end; i++) {
        if (g->ids[i] == -1) {
            memset(g->out + i * d, 0, d * sizeof *g->out);
        } else if (reco_bank_find(g->bank, g->ids[i], &position)) {
            size_t segment = reco_bank_segment_at(g->bank, position);
            reco_f16_to_f32_n(g->out + i * d, reco_bank_row(g->bank, g->side, position, &segment), d);
        } else {
            size_t first = atomic_load(&g->missing);
            while (i < first && !atomic_compare_exchange_weak(&g->missing, &first, i)) continue;
            return;
        }
    }
}

reco_status reco_folder_gather(reco_ctx *ctx, const reco_bank *bank, reco_side side, const int64_t *ids,
                               size_t n, float *out)
{
    gathering g = {.bank = bank, .side = side, .ids = ids, .out = out, .missing = n};
    reco_parallel(ctx, n, 1 + (1 << 18) / bank->info.d, gather_rows, &g);
    size_t missing = atomic_load(&g.missing);
    return missing == n
               ? RECO_OK
               : reco_fail(ctx, RECO_E_NOTFOUND, "bank: no row with id %lld", (long long)ids[missing]);
}
