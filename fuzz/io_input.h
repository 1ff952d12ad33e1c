/* io_input.h: the input of a fuzz target as a file, since io/ reads files. */
#ifndef RECO_FUZZ_IO_INPUT_H
#define RECO_FUZZ_IO_INPUT_H

#include "io/io.h"

#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static reco_ctx *fuzz_ctx(void)
{
    static reco_ctx *ctx;
    if (!ctx && reco_ctx_create(&ctx, &(reco_ctx_opts){.threads = 1}) != RECO_OK) abort();
    return ctx;
}

/* One file a process and ending, rewritten for each input. */
static const char *fuzz_file(const char *ending, const uint8_t *data, size_t bytes)
{
    static char path[256];
    const char *folder = getenv("TMPDIR");
    snprintf(path, sizeof path, "%.200s/reco-fuzz-%ld%s", folder ? folder : "/tmp", (long)getpid(), ending);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, bytes, file) != bytes || fclose(file) != 0) abort();
    return path;
}

#endif
