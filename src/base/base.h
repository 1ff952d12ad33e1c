/* base/base.h: internal face of base/: errors, memory, checked sizes, threads, rng, half floats. */
#ifndef RECO_SRC_BASE_H
#define RECO_SRC_BASE_H

#include "reco/base.h"

#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

/* ---- errors (error.c) ---- */

/* Record a message, return status: `return reco_fail(ctx, RECO_E_ARG, "bank: k = %d, want 1..64", k);`
 * The message names the file or thing, the value met and the range wanted; no trailing newline. */
reco_status reco_fail(reco_ctx *ctx, reco_status status, const char *format, ...) RECO_PRINTF(3, 4);
/* RECO_E_ARG unless all that is reserved in options [n] is zero; NULL is fine. */
reco_status reco_reserved_of(reco_ctx *ctx, const char *what, const uint64_t *reserved, size_t n);
static inline reco_status reco_reserved(reco_ctx *ctx, const char *what, const uint64_t *reserved)
{
    return reco_reserved_of(ctx, what, reserved, RECO_RESERVED);
}
/* Put "prefix: " before the message already recorded; returns status. */
reco_status reco_fail_prefix(reco_ctx *ctx, reco_status status, const char *prefix);
/* reco_fail with ": " and the text of errno appended. */
reco_status reco_fail_errno(reco_ctx *ctx, reco_status status, const char *format, ...) RECO_PRINTF(3, 4);
reco_status reco_fail_nomem(reco_ctx *ctx, size_t bytes, const char *what);
void reco_log(reco_ctx *ctx, reco_log_level level, const char *format, ...) RECO_PRINTF(3, 4);

#define RECO_TRY(expr)                                                                                     \
    do {                                                                                                   \
        reco_status try_status = (expr);                                                                   \
        if (try_status != RECO_OK) return try_status;                                                      \
    } while (0)

/* For functions with one `goto out` and a local `reco_status status`. */
#define RECO_GO(expr)                                                                                      \
    do {                                                                                                   \
        status = (expr);                                                                                   \
        if (status != RECO_OK) goto out;                                                                   \
    } while (0)

/* ---- progress (progress.c) ---- */

double reco_now(void); /* seconds, monotonic */
/* Throttled call of the progress hook; RECO_E_CANCELLED when it asks to stop. Cheap enough for every
 * batch; a call with done == total is never dropped. */
reco_status reco_progress(reco_ctx *ctx, const char *what, uint64_t done, uint64_t total);

/* ---- memory (memory.c) ---- */

/* Zeroed, 64-byte aligned array of count * size bytes, overflow checked; NULL with the error
 * recorded when it cannot be had. count 0 gives a valid pointer. Release with reco_free. */
void *reco_alloc(reco_ctx *ctx, size_t count, size_t size, const char *what);
/* The same, not zeroed. */
void *reco_alloc_raw(reco_ctx *ctx, size_t count, size_t size, const char *what);
/* Room for one more: the array of *room items, of which n are in use, or a larger one in its place, of which the rest is zeroed. NULL
 * with the error recorded: the old one is as it was. first: items that it has room for when it begins. */
void *reco_grow(reco_ctx *ctx, void *items, size_t n, size_t *room, size_t first, size_t size,
                const char *what);
/* strndup that records the error. */
char *reco_strdup(reco_ctx *ctx, const char *text);
/* printf into a fresh string; NULL with the error recorded. */
char *reco_format(reco_ctx *ctx, const char *format, ...) RECO_PRINTF(2, 3);

/* Scratch of ctx: stack discipline, mark before, release after. Blocks are reused, 64-byte aligned,
 * not zeroed. */
typedef struct reco_mark {
    size_t block, used;
} reco_mark;
reco_mark reco_scratch_mark(reco_ctx *ctx);
void reco_scratch_release(reco_ctx *ctx, reco_mark mark);
void *reco_scratch(reco_ctx *ctx, size_t count, size_t size, const char *what);

/* ---- checked sizes ---- */

static inline bool reco_mul(size_t a, size_t b, size_t *out)
{
    *out = a * b;
    return a == 0 || b <= SIZE_MAX / a;
}

static inline bool reco_add(size_t a, size_t b, size_t *out)
{
    *out = a + b;
    return b <= SIZE_MAX - a;
}

/* The end of a noun: "1 row", "2 rows". */
static inline const char *reco_s(uint64_t n) { return n == 1 ? "" : "s"; }

static inline size_t reco_min(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t reco_max(size_t a, size_t b) { return a > b ? a : b; }

static inline bool reco_is_digit(char c) { return c >= '0' && c <= '9'; } /* whatever the locale */

/* For qsort and bsearch: int64_t, ascending. */
static inline int reco_by_id(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Of a forest of parents [n], where a root is its own parent; paths become shorter. */
static inline uint32_t reco_root(uint32_t *parent, uint32_t item)
{
    while (parent[item] != item) item = parent[item] = parent[parent[item]];
    return item;
}

/* ---- UTF-8 (utf8.c) ---- */

/* The code point at p, of which left > 0 bytes are there, and in *n its bytes; -1 where that is not UTF-8, and in *n how
 * many bytes one U+FFFD stands for (what Python's errors="replace" does). */
int32_t reco_utf8_next(const uint8_t *p, size_t left, size_t *n);
size_t reco_utf8_errors(const char *text, size_t bytes); /* how many U+FFFD it takes; 0: it is UTF-8 */
bool reco_point_space(int32_t point);                    /* Unicode's White_Space */

/* ---- JSON before it is parsed (json_excess.c) ---- */

/* Why this text would cost jansson too much, which recurses and allocates for as long as there is text; NULL: it would not. */
const char *reco_json_excess(const char *text, size_t bytes, size_t *line, size_t *byte);

/* ---- what lies in a file's place (content.c) ---- */

/* What a file is that begins so and can't be what was wanted: "is a git-lfs pointer ...", with what to do; NULL: nothing known. For
 * files that could not be read, or are to be text of their own. */
const char *reco_content_excuse(const void *data, size_t bytes);

/* ---- threads (parallel.c) ---- */

/* Run body(arg, begin, end, worker) over [0, n) split into pieces of at most `grain` items, on the
 * threads of ctx. worker is 0..threads-1. Which piece runs where is unspecified, so body must write
 * only what its range owns. body must not use ctx (errors, scratch). */
typedef void (*reco_body)(void *arg, size_t begin, size_t end, int worker);
void reco_parallel(reco_ctx *ctx, size_t n, size_t grain, reco_body body, void *arg);

/* Before OpenMP works with that many threads, here or in a library below: those that wait are to sleep (sleep.c). */
void reco_threads_sleep(int threads);

double reco_ctx_wait(const reco_ctx *ctx);  /* seconds */
reco_isa reco_ctx_isa(const reco_ctx *ctx); /* resolved: never AUTO */
/* A one-thread context with the same caps and no hooks, for a worker that needs errors of its own. */
reco_status reco_ctx_worker(reco_ctx *ctx, reco_ctx **out);

/* ---- rng (rng.c): xoshiro256**, seeded by splitmix64; same seed, same numbers everywhere ---- */

typedef struct reco_rng {
    uint64_t s[4];
} reco_rng;
void reco_rng_seed(reco_rng *rng, uint64_t seed);
uint64_t reco_rng_next(reco_rng *rng);
size_t reco_rng_below(reco_rng *rng, size_t n); /* uniform on 0..n-1, unbiased; n > 0 */
double reco_rng_uniform(reco_rng *rng);         /* [0, 1) */
double reco_rng_normal(reco_rng *rng);
void reco_rng_shuffle(reco_rng *rng, uint32_t *items, size_t n);

/* ---- half floats (half.c): IEEE round to nearest even, NaN stays NaN ---- */

float reco_f16_to_f32(uint16_t h);
uint16_t reco_f32_to_f16(float f);
static inline float reco_bf16_to_f32(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
uint16_t reco_f32_to_bf16(float f);
void reco_f16_to_f32_n(float *out, const uint16_t *in, size_t n);
void reco_f32_to_f16_n(uint16_t *out, const float *in, size_t n);

size_t reco_dtype_size(reco_dtype dtype);
const char *reco_dtype_name(reco_dtype dtype); /* "F32", as in safetensors */

#endif
