/* base/context.h: what a context holds; for base/ alone. */
#ifndef RECO_SRC_CONTEXT_H
#define RECO_SRC_CONTEXT_H

#include "base/base.h"

#define RECO_ERROR_BYTES 1024
#define RECO_SCRATCH_BLOCKS 48

struct reco_ctx {
    reco_ctx_opts opts;
    int threads;
    reco_isa isa;
    char error[RECO_ERROR_BYTES];
    /* Scratch: blocks of growing size, filled in order; a block is kept when it is released. */
    struct {
        unsigned char *data;
        size_t bytes;
    } blocks[RECO_SCRATCH_BLOCKS];
    size_t block, used;
    double progress_at; /* seconds of the last call of the hook */
    const char *progress_what;
};

reco_isa reco_cpu_isa(void);
#endif
