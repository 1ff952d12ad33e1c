#include "base/context.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define ALIGNMENT 64
/* Large arrays ask for huge pages: a model's weights are read whole again and again, and would miss the TLB with each
 * 4 KiB. */
#define HUGE_PAGE ((size_t)2 << 20)
#define HUGE_FROM (2 * HUGE_PAGE)

static bool array_bytes(size_t count, size_t size, size_t *bytes)
{
    if (!reco_mul(count, size, bytes) || *bytes > PTRDIFF_MAX - ALIGNMENT) return false;
    *bytes = (*bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (*bytes == 0) *bytes = ALIGNMENT;
    return true;
}

void *reco_alloc_raw(reco_ctx *ctx, size_t count, size_t size, const char *what)
{
    size_t bytes;
    void *memory = NULL;
    if (!array_bytes(count, size, &bytes))
        bytes = SIZE_MAX;
    else if (bytes < HUGE_FROM)
        memory = aligned_alloc(ALIGNMENT, bytes);
    else
        memory = aligned_alloc(HUGE_PAGE, bytes / HUGE_PAGE * HUGE_PAGE + HUGE_PAGE);
    if (!memory) {
        reco_fail_nomem(ctx, bytes, what);
        return NULL;
    }
#ifdef MADV_HUGEPAGE
    /* Only what is wholly asked for: the rest of the last page is not to become memory. */
    if (bytes >= HUGE_FROM) madvise(memory, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
#endif
    return memory;
}

void *reco_alloc(reco_ctx *ctx, size_t count, size_t size, const char *what)
{
    void *memory = reco_alloc_raw(ctx, count, size, what);
    size_t bytes;
    return memory && array_bytes(count, size, &bytes) ? memset(memory, 0, bytes) : memory;
}

void *reco_grow(reco_ctx *ctx, void *items, size_t n, size_t *room, size_t first, size_t size,
                const char *what)
{
    if (n < *room) return items;
    size_t more = *room ? 2 * *room : first;
    void *larger = reco_alloc(ctx, more, size, what);
    if (!larger) return NULL;
    if (n) memcpy(larger, items, n * size);
    free(items);
    *room = more;
    return larger;
}

void reco_free(void *memory) { free(memory); }

char *reco_strdup(reco_ctx *ctx, const char *text)
{
    char *copy = strdup(text);
    if (!copy) reco_fail_nomem(ctx, strlen(text) + 1, "string");
    return copy;
}

char *reco_format(reco_ctx *ctx, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = NULL;
    int n = vasprintf(&text, format, args);
    va_end(args);
    if (n < 0) {
        reco_fail_nomem(ctx, 0, "string");
        return NULL;
    }
    return text;
}

reco_mark reco_scratch_mark(reco_ctx *ctx) { return (reco_mark){ctx->block, ctx->used}; }

void reco_scratch_release(reco_ctx *ctx, reco_mark mark)
{
    ctx->block = mark.block;
    ctx->used = mark.used;
}

/* A block that is too small for the request is skipped, not grown: pointers into it must stay good. The next
 * unused one may be replaced by a larger, since nothing points into it. */
void *reco_scratch(reco_ctx *ctx, size_t count, size_t size, const char *what)
{
    size_t bytes;
    if (!array_bytes(count, size, &bytes)) {
        reco_fail_nomem(ctx, SIZE_MAX, what);
        return NULL;
    }
    if (ctx->blocks[ctx->block].bytes - ctx->used < bytes) {
        size_t next = ctx->used ? ctx->block + 1 : ctx->block;
        if (next == RECO_SCRATCH_BLOCKS) {
            reco_fail_nomem(ctx, bytes, what);
            return NULL;
        }
        if (ctx->blocks[next].bytes < bytes) {
            size_t want = reco_max(bytes, reco_min((size_t)1 << (20 + next), (size_t)1 << 26));
            free(ctx->blocks[next].data);
            ctx->blocks[next].data = reco_alloc_raw(ctx, want, 1, what);
            ctx->blocks[next].bytes = ctx->blocks[next].data ? want : 0;
            if (!ctx->blocks[next].data) return NULL;
        }
        ctx->block = next;
        ctx->used = 0;
    }
    void *memory = ctx->blocks[ctx->block].data + ctx->used;
    ctx->used += bytes;
    return memory;
}
