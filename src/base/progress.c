#include "base/context.h"

#include <time.h>

double reco_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

reco_status reco_progress(reco_ctx *ctx, const char *what, uint64_t done, uint64_t total)
{
    if (!ctx->opts.progress) return RECO_OK;
    double at = reco_now();
    bool last = total != 0 && done >= total;
    if (!last && ctx->progress_what == what && at - ctx->progress_at < 0.1) return RECO_OK;
    ctx->progress_at = at;
    ctx->progress_what = what;
    if (!ctx->opts.progress(ctx->opts.user, what, done, total)) return RECO_OK;
    if (total == 0)
        return reco_fail(ctx, RECO_E_CANCELLED, "%s: interrupted at %llu", what, (unsigned long long)done);
    return reco_fail(ctx, RECO_E_CANCELLED, "%s: interrupted at %llu of %llu", what,
                     (unsigned long long)done, (unsigned long long)total);
}
