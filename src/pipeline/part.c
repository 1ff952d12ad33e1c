#include "pipeline/pipeline_internal.h"

reco_status reco_part_check(reco_ctx *ctx, reco_shard shard)
{
    if (shard.number == 0 && shard.of == 0) return RECO_OK;
    if (shard.number >= 1 && shard.number <= shard.of) return RECO_OK;
    return reco_fail(ctx, RECO_E_ARG, "shard: %u/%u, want I/N with 1 <= I <= N", shard.number, shard.of);
}

/* Parts lie side by side, so that the banks made of them, one after the other, are the bank made of all. */
reco_part reco_part_of(reco_shard shard, uint64_t total)
{
    if (!reco_is_part(shard)) return (reco_part){0, UINT64_MAX};
    uint64_t before = shard.number - 1, each = total / shard.of, larger = total % shard.of;
    uint64_t begin = before * each + reco_min(before, larger);
    return (reco_part){begin, begin + each + (before < larger)};
}

void reco_part_key(char key[48], reco_shard shard)
{
    *key = 0;
    if (reco_is_part(shard)) snprintf(key, 48, ":shard=%u/%u", shard.number, shard.of);
}

reco_status reco_part_next(reco_ctx *ctx, reco_part_lines *p, const char **line, size_t *bytes)
{
    *line = NULL;
    if (p->left == 0) return RECO_OK;
    p->left--;
    do RECO_TRY(reco_lines_next(ctx, p->lines, line, bytes));
    while (*line && *bytes == 0 && p->skips_empty);
    return RECO_OK;
}

/* The lines are gone through once to be counted. */
reco_status reco_part_open(reco_ctx *ctx, reco_part_lines *p, const char *path, reco_shard shard)
{
    uint64_t total = 0;
    const char *line = "";
    size_t bytes;
    reco_part_close(p);
    p->left = UINT64_MAX;
    RECO_TRY(reco_lines_open(ctx, &p->lines, path));
    if (!reco_is_part(shard)) return RECO_OK;
    for (; line; total += line != NULL) RECO_TRY(reco_part_next(ctx, p, &line, &bytes));
    reco_part part = reco_part_of(shard, total);
    reco_part_close(p);
    RECO_TRY(reco_lines_open(ctx, &p->lines, path));
    p->left = part.end;
    for (uint64_t i = 0; i < part.begin; i++) RECO_TRY(reco_part_next(ctx, p, &line, &bytes));
    return RECO_OK;
}

void reco_part_close(reco_part_lines *p)
{
    reco_lines_close(p->lines);
    p->lines = NULL;
}
