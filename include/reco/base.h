/* reco/base.h: what every other header stands on: status codes, the context, hooks.
 *
 * Shapes in all headers: N bank rows, nq queries, d width, k neighbours, B batch, T tokens, H heads,
 * L layers; row-major always.
 *
 * A context (reco_ctx) carries scratch memory, the text of the last error, the thread budget and
 * the hooks. It belongs to one thread at a time. Models, banks and fusion layers are immutable once
 * open and may be shared between threads, each thread with a context of its own.
 *
 * Structs of options and of results grow without breaking who was built before. Those that the caller has memory for end in `reserved`,
 * which is zero: a field that is added takes its place there and means with zero what was so before, so sizes stay (a test of these
 * headers asserts them). What an object says of itself (NAME_info, NAME_config) is borrowed from it, and grows at the end.
 * Set a struct of options to the NAME_INIT beside it where there is one, else to {0}, then the fields by name. Options whose `reserved` is
 * not zero ask for something that this library does not know yet, and are refused with RECO_E_ARG.
 *
 * The library never exits, never prints and never reads the environment. Threads are OpenMP's; those that wait sleep, also where
 * OMP_WAIT_POLICY is not set. With GNU's runtime that takes some more threads, at most one for each processor, which sleep in the
 * process from the first work on several threads to its end. */
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

/* Of these headers; reco_version() tells the library's. RECO_VERSION_NUMBER grows: 2000 is 0.2.0, 1002003 would be 1.2.3. */
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
    RECO_E_NOMEM = 2,       /* memory, or a documented limit on it, ran out */
    RECO_E_IO = 3,          /* the operating system refused: missing file, disk full */
    RECO_E_FORMAT = 4,      /* a file is not what it claims to be */
    RECO_E_MISMATCH = 5,    /* two things do not belong together: bank and encoder, d and d */
    RECO_E_UNSUPPORTED = 6, /* valid, but not something reco can do */
    RECO_E_NOTFOUND = 7,    /* no such row, tensor or key */
    RECO_E_EXISTS = 8,      /* would overwrite something that is not ours to overwrite */
    RECO_E_BUSY = 9,        /* another writer holds the bank */
    RECO_E_CANCELLED = 10,  /* the progress hook asked to stop */
    RECO_E_INTERNAL = 11    /* a bug in reco or in a library below it */
} reco_status;

/* The two modalities; also the two sides of a pair and of a fusion checkpoint. */
typedef enum reco_side { RECO_IMAGE = 0, RECO_TEXT = 1 } reco_side;

/* A set of sides, as bits: which are refined. */
typedef enum reco_sides {
    RECO_SIDES_NONE = 0,
    RECO_SIDES_IMAGE = 1,
    RECO_SIDES_TEXT = 2,
    RECO_SIDES_BOTH = 3,
    RECO_SIDES_DEFAULT = 4 /* what training finds best, and writes into the checkpoint */
} reco_sides;

typedef enum reco_precision {
    RECO_PRECISION_AUTO = 0, /* bf16 where the CPU computes it, else f32 */
    RECO_PRECISION_F32 = 1,
    RECO_PRECISION_BF16 = 2,
    RECO_PRECISION_INT8 =
        3 /* a model's transformer blocks in int8 (weights by channel, rows by token), the rest as AUTO; never
                      chosen by AUTO */
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
    RECO_DTYPE_KEEP = -1 /* in reco_refine_opts alone: the type that was read (float64 as float32) */
} reco_dtype;

/* Highest instruction set that kernels may use; AUTO is what the CPU has. */
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
    double wait; /* seconds that a bank's writer waits for another one to finish; 0 = does not */
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

/* The first character of a text that has `bytes` > 0: how many bytes it takes, and whether a terminal would obey it instead of
 * showing it: a control character (C0, C1, DEL), a mark that turns the direction of writing, a line separator. */
RECO_API size_t reco_text_next(const char *text, size_t bytes, int *control);
/* A text as it may be shown: a '?' in the place of each such character, and of a postgresql:// URL neither user nor password nor
 * parameters. It only gets shorter. */
RECO_API void reco_text_clean(char *text);

/* Release memory that a reco function returned with the words "free with reco_free". NULL is fine. */
RECO_API void reco_free(void *memory);

#ifdef __cplusplus
}
#endif
#endif
