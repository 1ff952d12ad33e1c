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
