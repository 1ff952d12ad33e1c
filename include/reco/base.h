/* reco/base.h: the basis of all other headers: status codes, contexts and hooks.
 *
 * Shapes in all headers: N bank rows, nq queries, d width, k neighbours, B batch, T tokens, H heads,
 * L layers; row-major always.
 *
 * A context (reco_ctx) carries scratch memory, the text of the last error, the thread budget and
 * the hooks. It belongs to one thread at a time. Models, banks and fusion layers are immutable once
 * open and may be shared between threads, each thread with a context of its own.
 *
 * What a function is asked, with which options, and what comes out are structs, passed by pointer. They can
 * grow without breaking programs built with older headers: they end in `reserved`, which is zero. A new
 * field takes its place there, and its value zero means the earlier behaviour, so sizes stay the same (a
 * test of these headers asserts them). Initialise such a struct with its NAME_INIT if there is one, else
 * with {0}, then set fields by name. One whose `reserved` is not zero asks for something that this library
 * does not know, and is refused with RECO_E_ARG. Properties of an object (NAME_info, NAME_config) are
 * borrowed from it and grow at the end. Small values, such as reco_mixture, and elements of arrays, such as
 * reco_pair, stay as they are.
 *
 * The library never exits, never prints and never reads the environment. Threads are OpenMP's; waiting
 * threads sleep, even if OMP_WAIT_POLICY is not set. With GNU's runtime, this takes additional threads, at
 * most one per processor, which sleep from the first multi-threaded work until the process ends. */
#ifndef RECO_BASE_H
#define RECO_BASE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define RECO_API __attribute__((visibility("default")))
#define RECO_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define RECO_API
#define RECO_PRINTF(f, a)
#endif

/* Version of these headers; reco_version() returns that of the library. RECO_VERSION_NUMBER is comparable:
 * 2000 is 0.2.0, 1002003 would be 1.2.3. */
#define RECO_VERSION "0.2.0"
#define RECO_VERSION_MAJOR 0
#define RECO_VERSION_MINOR 2
#define RECO_VERSION_PATCH 0
#define RECO_VERSION_NUMBER (RECO_VERSION_MAJOR * 1000000 + RECO_VERSION_MINOR * 1000 + RECO_VERSION_PATCH)

#define RECO_RESERVED 8

/* Values are pinned: bindings may hard-code them. */
typedef enum reco_status {
    RECO_OK = 0,
    RECO_E_ARG = 1,         /* an argument is out of its documented range */
    RECO_E_NOMEM = 2,       /* out of memory, or above a documented limit on it */
    RECO_E_IO = 3,          /* the operating system failed: missing file, disk full */
    RECO_E_FORMAT = 4,      /* a file is not what it claims to be */
    RECO_E_MISMATCH = 5,    /* two things do not belong together: bank and encoder, or two widths */
    RECO_E_UNSUPPORTED = 6, /* valid, but not something reco can do */
    RECO_E_NOTFOUND = 7,    /* no such row, tensor or key */
    RECO_E_EXISTS = 8,      /* would overwrite something that reco did not create */
    RECO_E_BUSY = 9,        /* another writer holds the bank */
    RECO_E_CANCELLED = 10,  /* the progress hook asked to stop */
    RECO_E_INTERNAL = 11    /* a bug in reco or in a library below it */
} reco_status;

/* The two modalities; also the two sides of a pair and of a fusion checkpoint. */
typedef enum reco_side { RECO_IMAGE = 0, RECO_TEXT = 1 } reco_side;

/* A set of sides, as bits: those that are refined. */
typedef enum reco_sides {
    RECO_SIDES_NONE = 0,
    RECO_SIDES_IMAGE = 1,
    RECO_SIDES_TEXT = 2,
    RECO_SIDES_BOTH = 3,
    RECO_SIDES_DEFAULT = 4 /* the sides that training found best and wrote into the checkpoint */
} reco_sides;

typedef enum reco_precision {
    RECO_PRECISION_AUTO = 0, /* bf16 if the CPU supports it, else f32 */
    RECO_PRECISION_F32 = 1,
    RECO_PRECISION_BF16 = 2,
    /* transformer blocks in int8 (weights per channel, activations per token), the rest as AUTO; never
     * chosen by AUTO */
    RECO_PRECISION_INT8 = 3
} reco_precision;

/* "auto", "f32", "bf16", "int8"; a static string. */
RECO_API const char *reco_precision_name(reco_precision precision);

/* Storage types of tensors and arrays in files. */
typedef enum reco_dtype {
    RECO_DTYPE_F32 = 0,
    RECO_DTYPE_F16 = 1,
    RECO_DTYPE_BF16 = 2,
    RECO_DTYPE_I64 = 3,
    RECO_DTYPE_I32 = 4,
    RECO_DTYPE_U8 = 5,
    RECO_DTYPE_F64 = 6,
    RECO_DTYPE_KEEP = -1 /* only in reco_refine_opts: the type that was read (float64 becomes float32) */
} reco_dtype;

/* Highest instruction set that kernels may use; AUTO: the highest that the CPU supports. */
typedef enum reco_isa {
    RECO_ISA_AUTO = 0,
    RECO_ISA_PLAIN = 1,
    RECO_ISA_AVX2 = 2,
    RECO_ISA_AVX512 = 3
} reco_isa;

typedef enum reco_log_level { RECO_LOG_INFO = 0, RECO_LOG_WARN = 1 } reco_log_level;

/* message is valid during the call only. */
typedef void (*reco_log_fn)(void *user, reco_log_level level, const char *message);

/* Called from the context's own thread, at most a few times a second. total is 0 where unknown.
 * Returning non-zero asks the operation to stop at the next safe point with RECO_E_CANCELLED. */
typedef int (*reco_progress_fn)(void *user, const char *what, uint64_t done, uint64_t total);

typedef struct reco_ctx_opts {
    int threads;               /* 0 = every processor this process may use; else 1..1024 */
    reco_isa max_isa;          /* cap on kernels, for tests */
    reco_log_fn log;           /* may be NULL */
    reco_progress_fn progress; /* may be NULL */
    void *user;                /* handed to both hooks */
    double wait; /* seconds that a writer waits for another one to finish; 0: it doesn't wait */
    uint64_t reserved[RECO_RESERVED];
} reco_ctx_opts;

typedef struct reco_ctx reco_ctx;

/* Create a context. opts may be NULL for defaults.
 * Returns RECO_OK, RECO_E_ARG (threads out of range) or RECO_E_NOMEM; *out is NULL on error. */
RECO_API reco_status reco_ctx_create(reco_ctx **out, const reco_ctx_opts *opts);

/* Accepts NULL. Objects made with this context outlive it. */
RECO_API void reco_ctx_free(reco_ctx *ctx);

/* Text of the last error of this context, "" if none; valid until the next call with ctx. */
RECO_API const char *reco_ctx_error(const reco_ctx *ctx);

/* Threads that ctx works with, at least 1. */
RECO_API int reco_ctx_threads(const reco_ctx *ctx);

/* "RECO_E_IO" and so on; a static string. */
RECO_API const char *reco_status_name(reco_status status);

/* RECO_VERSION of the library; a static string. */
RECO_API const char *reco_version(void);

/* Return the number of bytes of the first character of a text of `bytes` > 0. *control: whether a terminal
 * would obey the character instead of showing it: a control character (C0, C1, DEL), a mark that changes
 * the direction of writing, or a line separator. */
RECO_API size_t reco_text_next(const char *text, size_t bytes, int *control);
/* Make a text safe to show, in place: replace each such character with '?', and remove user, password and
 * parameters from postgresql:// URLs. The text never gets longer. */
RECO_API void reco_text_clean(char *text);

/* Release memory that a reco function returned with the words "free with reco_free". NULL is fine. */
RECO_API void reco_free(void *memory);

#ifdef __cplusplus
}
#endif
#endif
