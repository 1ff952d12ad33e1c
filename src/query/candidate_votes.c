/* Which of some candidates, captions or classes, a row of the memory says. */
#include "io/io.h"
#include "kernels/kernels.h"
#include "query/query.h"

#include <stdlib.h>

enum { ROWS = 256, CANDIDATES = 2048 };

typedef struct wanted {
    int64_t id;
    size_t at;
} wanted;

typedef struct keyed {
    uint64_t key;
    uint32_t candidate;
} keyed;

static int by_id(const void *a, const void *b)
{
    const wanted *x = a, *y = b;
    if (x->id != y->id) return x->id < y->id ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

static int by_key(const void *a, const void *b)
{
    const keyed *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return x->candidate < y->candidate ? -1 : x->candidate > y->candidate;
}

static uint32_t find(const keyed *keys, size_t n, uint64_t key)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (keys[middle].key < key)
            low = middle + 1;
        else
            high = middle;
    }
    return key && low < n && keys[low].key == key ? keys[low].candidate : RECO_NO_CANDIDATE;
}

/* Rows whose vector is that of a candidate's prompt. */
static reco_status by_vector(reco_ctx *ctx, const reco_bank *bank, const reco_candidates *c,
                             const int64_t *ids, size_t n, uint32_t *of)
{
    reco_status status = RECO_OK;
    reco_mark mark = reco_scratch_mark(ctx);
    size_t d = c->d, m = c->n * c->prompts;
    float *x = reco_scratch(ctx, n * d, sizeof *x, "neighbours"),
          *best = reco_scratch(ctx, n, sizeof *best, "neighbours"),
          *S = reco_scratch(ctx, n * CANDIDATES, sizeof *S, "neighbours");
    size_t *at = reco_scratch(ctx, n, sizeof *at, "neighbours");
    if (!x || !best || !S || !at) RECO_GO(RECO_E_NOMEM);
    RECO_GO(reco_bank_gather(ctx, bank, RECO_TEXT, ids, n, x));
    for (size_t i = 0; i < n; i++) {
        reco_unit_row(x + i * d, d);
        best[i] = -2;
        at[i] = 0;
    }
    for (size_t j = 0; j < m; j += CANDIDATES) {
        size_t some = reco_min(CANDIDATES, m - j);
        RECO_GO(reco_gemm(ctx, S, some, x, d, false, c->rows + j * d, d, true, n, some, d, 1, 0));
        for (size_t i = 0; i < n; i++)
            for (size_t q = 0; q < some; q++)
                if (S[i * some + q] > best[i]) {
                    best[i] = S[i * some + q];
                    at[i] = j + q;
                }
    }
    for (size_t i = 0; i < n; i++)
        if (m && reco_is_same(x + i * d, c->rows + at[i] * d, d)) of[i] = (uint32_t)(at[i] % c->n);
out:
    reco_scratch_release(ctx, mark);
    return status;
}

reco_status reco_candidate_votes(reco_ctx *ctx, const reco_bank *bank, const reco_candidates *c,
                                 const int64_t *ids, size_t n, uint32_t *of)
{
    reco_status status = RECO_OK;
    size_t unique = 0;
    if (n == 0) return RECO_OK;
    keyed *keys = reco_alloc(ctx, c->n, sizeof *keys, "candidates");
    wanted *rows = reco_alloc(ctx, n, sizeof *rows, "neighbours");
    int64_t *id = reco_alloc(ctx, n, sizeof *id, "neighbours"), left[ROWS];
    uint32_t *said = reco_alloc(ctx, n, sizeof *said, "neighbours"), found[ROWS];
    if (!keys || !rows || !id || !said) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < c->n; i++) {
        keys[i].candidate = (uint32_t)i;
        if (c->names) RECO_GO(reco_caption_key(ctx, &keys[i].key, c->names[i]));
    }
    qsort(keys, c->n, sizeof *keys, by_key);
    for (size_t i = 0; i < n; i++) rows[i] = (wanted){ids[i], i};
    qsort(rows, n, sizeof *rows, by_id);
    for (size_t i = 0; i < n; i++) {
        if (rows[i].id < 0 || (unique && id[unique - 1] == rows[i].id)) continue;
        reco_pair pair;
        uint64_t key;
        RECO_GO(reco_bank_get(ctx, bank, rows[i].id, &pair));
        status = reco_caption_key(ctx, &key, pair.caption);
        reco_pair_free(&pair);
        if (status != RECO_OK) goto out;
        said[unique] = find(keys, c->n, key);
        id[unique++] = rows[i].id;
    }
    for (size_t i = 0, some = 0; i <= unique; i++) {
        if (some == ROWS || (i == unique && some)) {
            size_t to = 0;
            for (size_t q = 0; q < some; q++) found[q] = RECO_NO_CANDIDATE;
            RECO_GO(by_vector(ctx, bank, c, left, some, found));
            for (size_t q = 0; q < some; q++) {
                while (id[to] != left[q]) to++;
                said[to] = found[q];
            }
            some = 0;
        }
        if (i < unique && said[i] == RECO_NO_CANDIDATE) left[some++] = id[i];
    }
    for (size_t i = 0, u = 0; i < n; i++) {
        of[rows[i].at] = RECO_NO_CANDIDATE;
        if (rows[i].id < 0) continue;
        while (id[u] != rows[i].id) u++;
        of[rows[i].at] = said[u];
    }
out:
    reco_free(said);
    reco_free(id);
    reco_free(rows);
    reco_free(keys);
    return status;
}
