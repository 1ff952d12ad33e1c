#include "bank/bank_internal.h"
#include "kernels/kernels.h"

#include <math.h>

#define BLOCK 8192 /* rows between two looks at how many were found */

typedef struct scan {
    const reco_bank *bank;
    const reco_ctx *ctx; /* for the kernel level alone; threads only read it */
    const reco_range *range;
    size_t base; /* position of the block's first row */
    float slack;
    float *rows;   /* [threads][d] */
    float *scores; /* [BLOCK]; -INFINITY: not near, or not there */
} scan;

static void body(void *arg, size_t begin, size_t end, int worker)
{
    scan *s = arg;
    size_t d = s->bank->info.d, segment = reco_bank_segment_at(s->bank, s->base + begin);
    float *row = s->rows + (size_t)worker * d;
    for (size_t i = begin; i < end; i++) {
        size_t p = s->base + i;
        s->scores[i] = -INFINITY;
        if (reco_bank_is_deleted(s->bank, p)) continue;
        reco_f16_to_f32_n(row, reco_bank_row(s->bank, s->range->side, p, &segment), d);
        if (!(reco_dot_fast(s->ctx, s->range->query, row, d) >= s->range->least - s->slack)) continue;
        float score = (float)reco_dot(s->range->query, row, d);
        if (isfinite(score) && score >= s->range->least) s->scores[i] = score;
    }
}

reco_status reco_folder_within(reco_ctx *ctx, const reco_bank *bank, const reco_range *range,
                               const reco_hits *hits)
{
    size_t d = bank->info.d, p, *n = hits->counts;
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status = RECO_E_NOMEM;
    scan s = {.bank = bank,
              .ctx = ctx,
              .range = range,
              .slack = 1.03f * (float)(d + 4) * 0x1p-24f}; /* as in search.c */
    s.rows = reco_scratch(ctx, (size_t)reco_ctx_threads(ctx) * d, sizeof *s.rows, "search");
    s.scores = reco_scratch(ctx, BLOCK, sizeof *s.scores, "search");
    if (!s.rows || !s.scores) goto out;
    status = RECO_OK;
    reco_bank_find(bank, range->from, &p); /* the first position of that id or more */
    for (; p < bank->positions && *n < range->max; p += BLOCK) {
        size_t rows = reco_min(BLOCK, bank->positions - p);
        s.base = p;
        reco_parallel(ctx, rows, 256, body, &s);
        for (size_t i = 0; i < rows && *n < range->max; i++) {
            if (s.scores[i] == -INFINITY) continue;
            if (hits->scores) hits->scores[*n] = s.scores[i];
            hits->ids[(*n)++] = reco_bank_id_at(bank, p + i);
        }
        RECO_GO(reco_progress(ctx, "searching", p + rows, bank->positions));
    }
out:
    reco_scratch_release(ctx, mark);
    return status;
}
