#include "base/context.h"

#include <sched.h>
#include <stdlib.h>

/* Processors this process may use, which a container or taskset makes fewer than the machine has. */
static int processors(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set) > 0 ? CPU_COUNT(&set) : 1;
    return 1;
}

reco_status reco_ctx_create(reco_ctx **out, const reco_ctx_opts *opts)
{
    if (!out) return RECO_E_ARG;
    *out = NULL;
    static const reco_ctx_opts defaults;
    if (!opts) opts = &defaults;
    for (size_t i = 0; i < RECO_RESERVED; i++)
        if (opts->reserved[i]) return RECO_E_ARG;
    if (opts->threads < 0 || opts->threads > 1024) return RECO_E_ARG;
    if (!(opts->wait >= 0)) return RECO_E_ARG;
    if ((int)opts->max_isa < RECO_ISA_AUTO || opts->max_isa > RECO_ISA_AVX512) return RECO_E_ARG;
    reco_ctx *ctx = calloc(1, sizeof *ctx);
    if (!ctx) return RECO_E_NOMEM;
    ctx->opts = *opts;
    ctx->threads = opts->threads ? opts->threads : processors();
    ctx->isa = reco_cpu_isa();
    if (opts->max_isa != RECO_ISA_AUTO && opts->max_isa < ctx->isa) ctx->isa = opts->max_isa;
    *out = ctx;
    return RECO_OK;
}

void reco_ctx_free(reco_ctx *ctx)
{
    if (!ctx) return;
    for (size_t i = 0; i < RECO_SCRATCH_BLOCKS; i++) free(ctx->blocks[i].data);
    free(ctx);
}

const char *reco_ctx_error(const reco_ctx *ctx) { return ctx ? ctx->error : ""; }
int reco_ctx_threads(const reco_ctx *ctx) { return ctx->threads; }
double reco_ctx_wait(const reco_ctx *ctx) { return ctx->opts.wait; }
reco_isa reco_ctx_isa(const reco_ctx *ctx) { return ctx->isa; }
const char *reco_precision_name(reco_precision precision)
{
    static const char *const names[] = {"auto", "f32", "bf16", "int8"};
    return (unsigned)precision < 4 ? names[precision] : "?";
}

const char *reco_version(void) { return RECO_VERSION; }

reco_status reco_ctx_worker(reco_ctx *ctx, reco_ctx **out)
{
    reco_ctx_opts opts = {.threads = 1, .max_isa = ctx->isa};
    reco_status status = reco_ctx_create(out, &opts);
    return status == RECO_OK ? RECO_OK : reco_fail(ctx, status, "context: out of memory");
}
