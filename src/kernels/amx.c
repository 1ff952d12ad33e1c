/* Products of bf16 by AMX: the weights in tiles, and who multiplies which rows by which columns. oneDNN 2.6 cuts sums over
 * long rows into parts that depend on how many rows there are, and gives few rows to other instructions; here a sum goes
 * through one tile from its first number to its last. */
#include "kernels/kernels_internal.h"

#ifdef RECO_AMX

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ARCH_REQ_XCOMP_PERM 0x1023 /* asm/prctl.h of Linux 5.16 */
#define XFEATURE_XTILEDATA 18
#define BLOCK RECO_AMX_BLOCK
#define PANEL RECO_AMX_PANEL

/* The CPU has it, the system saves its registers, and Linux lets this process use them. */
static bool can_use_amx(unsigned kind)
{
    unsigned a, b, c, d, low, high;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
        return false;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 24 & 1) || !(d >> kind & 1)) return false;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low >> 17 & 3) != 3) return false;
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

bool reco_amx_has_int8(void) { return can_use_amx(25); }
bool reco_amx_has_bf16(void) { return can_use_amx(22) && __builtin_cpu_supports("avx512bf16"); }

reco_status reco_amx_create(reco_ctx *ctx, reco_amx_weight *w, size_t out, size_t in)
{
    size_t count;
    *w = (reco_amx_weight){
        .out = out, .in = in, .blocks = (in + BLOCK - 1) / BLOCK, .panels = (out + PANEL - 1) / PANEL};
    if (!reco_mul(w->blocks, w->panels, &count) || !reco_mul(count, PANEL * BLOCK, &count))
        return reco_fail_nomem(ctx, SIZE_MAX, "weights");
    w->data = reco_alloc_raw(ctx, count, sizeof *w->data, "weights");
    if (!w->data) return RECO_E_NOMEM;
    for (size_t row = out; row < w->panels * PANEL; row++) reco_amx_put(w, NULL, row);
    return RECO_OK;
}

/* A tile holds 16 columns of a product: pairs of numbers of each, 16 pairs one below the other. */
void reco_amx_put(const reco_amx_weight *w, const uint16_t *row, size_t at)
{
    uint32_t *to = (uint32_t *)(void *)w->data + at / PANEL * w->blocks * PANEL * BLOCK / 2 +
                   at % PANEL / 16 * BLOCK * 8 + at % 16;
    for (size_t b = 0; b < w->blocks; b++, to += PANEL * BLOCK / 2) {
        uint32_t pairs[BLOCK / 2] = {0};
        if (row) memcpy(pairs, row + b * BLOCK, reco_min(BLOCK, w->in - b * BLOCK) * sizeof *row);
        for (size_t i = 0; i < BLOCK / 2; i++) to[i * 16] = pairs[i];
    }
}

typedef struct job {
    reco_amx_product product;
    size_t rows, groups, panels, parts; /* of a task; groups of rows, parts of columns */
    uint16_t *scratch;
} job;

static void multiply(void *arg, size_t begin, size_t end, int worker)
{
    const job *a = arg;
    for (size_t task = begin; task < end; task++) {
        size_t first = task / a->parts * a->rows, panel = task % a->parts * a->panels;
        if (first >= a->product.m || panel >= a->product.w->panels) continue;
        reco_amx_rows(&a->product, first, reco_min(a->rows, a->product.m - first), panel,
                      reco_min(a->panels, a->product.w->panels - panel),
                      a->scratch + (size_t)worker * reco_amx_scratch(a->product.w));
    }
}

static size_t share(size_t n, size_t parts, size_t unit)
{
    return ((n + parts - 1) / parts + unit - 1) / unit * unit;
}

reco_status reco_amx_run(reco_ctx *ctx, const reco_amx_product *product)
{
    const reco_amx_weight *w = product->w;
    size_t threads = (size_t)reco_ctx_threads(ctx), m = product->m, most = reco_amx_group(w);
    job a = {.product = *product};
    reco_mark mark = reco_scratch_mark(ctx);
    a.groups = (m + most - 1) / most;
    if (a.groups > 1) a.groups = (a.groups + threads - 1) / threads * threads;
    a.parts = threads == 1 || a.groups >= threads ? 1 : 2 * threads;
    a.rows = share(m, a.groups, RECO_AMX_ROWS);
    a.panels = share(w->panels, a.parts, 1);
    a.scratch = reco_scratch(ctx, threads * reco_amx_scratch(w), sizeof *a.scratch, "rows");
    if (!a.scratch) return RECO_E_NOMEM;
    reco_parallel(ctx, a.groups * a.parts, 1, multiply, &a);
    reco_scratch_release(ctx, mark);
    return RECO_OK;
}

#endif
