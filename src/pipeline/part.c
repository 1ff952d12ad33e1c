#include "pipeline/pipeline_internal.h"

reco_status reco_part_check(reco_ctx *ctx, const reco_stream_opts *opts)
{
    if (!opts || (opts->shard == 0 && opts->shards == 0)) return RECO_OK;
    if (opts->shard >= 1 && opts->shard <= opts->shards) return RECO_OK;
    return reco_fail(ctx, RECO_E_ARG, "shard: %u/%u, want I/N with 1 <= I <= N", opts->shard, opts->shards);
}

/* Parts lie side by side, so that the banks made of them, one after the other, are the bank made of all. */
reco_part reco_part_of(const reco_stream_opts *opts, uint64_t total)
{
    if (!reco_is_part(opts)) return (reco_part){0, UINT64_MAX};
    uint64_t before = opts->shard - 1, each = total / opts->shards, larger = total % opts->shards;
    uint64_t begin = before * each + reco_min(before, larger);
    return (reco_part){begin, begin + each + (before < larger)};
}

void reco_part_key(char key[48], const reco_stream_opts *opts)
{
    *key = 0;
    if (reco_is_part(opts)) snprintf(key, 48, ":shard=%u/%u", opts->shard, opts->shards);
}
