#include "bank/search/scan_block.h"

/* A bank that is larger than memory. Who touches a page that is not in memory waits for it, while the system reads all around it,
 * megabytes perhaps. A part that was asked for in time costs neither. So when a worker is found to have waited, the scan is cold to its
 * end: codes are asked for some blocks ahead, and a row is scored when others, as many as a ring holds, have been asked for.
 * Floors rise a little later then; what is found is the same. */

#define COLD_SCANS 16 /* after one that was cold begin so; then one looks whether it must be */
#define AHEAD 4       /* blocks for each thread */
#define MANY 8        /* where one of so many rows is scored, reading all is faster than reading these */
#define MOST_WORK 512 /* rows scored between two looks, each of which takes as long as scoring one or two */

bool reco_scan_begins_cold(const reco_bank *bank)
{
    atomic_int *left = (atomic_int *)(uintptr_t)&bank->cold; /* the one thing of a bank that changes */
    return atomic_load(left) > 0 && atomic_fetch_sub(left, 1) > 0;
}

/* At first after one row, then after two, four...: the first rows show most often what the others are like. */
void reco_scan_look(reco_scan *s, reco_scan_worker *w)
{
    uint64_t faults = reco_map_faults();
    if (faults > w->faults) {
        atomic_store(&s->cold, true);
        atomic_store((atomic_int *)(uintptr_t)&s->bank->cold, COLD_SCANS);
    }
    w->faults = faults;
    w->done = 0;
    w->look = reco_max(1, reco_min(2 * w->look, MOST_WORK));
}

/* ---- blocks ---- */

/* Of all that the source has, so many bytes a group, the block's groups with live rows. */
static void ask_groups(const reco_scan_worker *w, const reco_scan_block *b, const void *all, size_t bytes)
{
    const uint8_t *data = (const uint8_t *)all + b->first / RECO_SCAN_GROUP * bytes;
    for (size_t i = 0, n; i < b->rows; i += n) {
        for (n = 0; i + n < b->rows && w->live[(i + n) / 32]; n += 32) continue;
        size_t groups = (reco_min(n, b->rows - i) + RECO_SCAN_GROUP - 1) / RECO_SCAN_GROUP;
        if (n) reco_map_fetch(data + i / RECO_SCAN_GROUP * bytes, groups * bytes);
        n = reco_max(n, 32);
    }
}

/* Returns whether all live rows were asked for. */
static bool ask_block(const reco_scan *s, reco_scan_worker *w, const reco_scan_block *b)
{
    const reco_scan_source *source = b->source;
    const reco_scan_stages *stages = &source->stages;
    size_t d = s->bank->info.d, queries = b->queries ? b->nqueries : s->q.n;
    if (source->positions) { /* which would have to be read to know what lives */
        reco_map_fetch(source->positions + b->first, b->rows * sizeof *source->positions);
        memset(w->live, 0xff, (b->rows + 31) / 32 * sizeof *w->live);
    } else {
        size_t count = reco_scan_find_live(s, w, b);
        if (count == 0 || (source->codes && reco_scan_is_direct(b, queries, count))) return false;
    }
    if (reco_scan_is_staged(s, w, b)) {
        ask_groups(w, b, stages->first, RECO_SCAN_GROUP * s->turned.width);
        ask_groups(w, b, stages->first_bounds, RECO_SCAN_TURNED_BOUNDS * sizeof(float));
        ask_groups(w, b, stages->second, RECO_SCAN_GROUP * s->pair_width);
        ask_groups(w, b, stages->second_bounds, RECO_SCAN_TURNED_BOUNDS * sizeof(float));
    } else if (source->codes) {
        ask_groups(w, b, source->codes, RECO_SCAN_GROUP * s->q.width);
        ask_groups(w, b, source->bounds, RECO_SCAN_BOUNDS * sizeof(float));
    }
    if (source->positions || (source->codes && !atomic_load(&s->many))) return false;
    const uint16_t *rows = reco_scan_row(s, w, b, 0) - b->first * d;
    ask_groups(w, b, rows, RECO_SCAN_GROUP * d * sizeof *rows);
    return true;
}

void reco_scan_ask_blocks(reco_scan *s, reco_scan_worker *w, const reco_scan_block *b)
{
    size_t at = (size_t)(b - s->all), from = atomic_load(&s->ahead), scored = 0;
    size_t to = reco_min(s->nall, at + 1 + AHEAD * (size_t)reco_ctx_threads(s->ctx));
    if (w->block && !w->block->source->positions) {
        for (size_t i = 0; i < w->block->rows; i += 32)
            scored += (size_t)__builtin_popcount(w->asked[i / 32]);
        atomic_store(&s->many, scored * MANY > w->block->rows);
    }
    while (from < to && !atomic_compare_exchange_weak(&s->ahead, &from, to)) continue;
    for (size_t i = reco_max(from, at + 1); i < to; i++) ask_block(s, w, s->all + i);
    w->whole = ask_block(s, w, b); /* again, since others may have thought that it has stages, or has not */
    if (w->whole) reco_scan_score_rest(s, w);
}

/* ---- rows ---- */

static void score_oldest(reco_scan *s, reco_scan_worker *w)
{
    const reco_scan_late late = w->late[w->oldest];
    w->oldest = (w->oldest + 1) % RECO_SCAN_LATE;
    w->nlate--;
    reco_scan_score_late(s, w, &late);
}

void reco_scan_defer(reco_scan *s, reco_scan_worker *w, const reco_scan_late *late)
{
    uint32_t *asked = &w->asked[late->row / 32], bit = (uint32_t)1 << late->row % 32;
    if (!w->whole && !(*asked & bit))
        reco_map_fetch(reco_scan_row(s, w, late->block, late->row), s->bank->info.d * sizeof(uint16_t));
    *asked |= bit;
    if (w->whole) {
        reco_scan_score_late(s, w, late);
        return;
    }
    if (w->nlate == RECO_SCAN_LATE) score_oldest(s, w);
    w->late[(w->oldest + w->nlate++) % RECO_SCAN_LATE] = *late;
}

void reco_scan_score_rest(reco_scan *s, reco_scan_worker *w)
{
    while (w->nlate) score_oldest(s, w);
}
