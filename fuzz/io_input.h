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

static char fuzz_files[8][256]; /* of this process, by ending */

static void fuzz_tidy(void)
{
    for (int i = 0; i < 8 && *fuzz_files[i]; i++) unlink(fuzz_files[i]);
}

/* One file a process and ending, rewritten for each input, and gone at its end. */
static const char *fuzz_file(const char *ending, const uint8_t *data, size_t bytes)
{
    char path[256];
    int i = 0;
    const char *folder = getenv("TMPDIR");
    snprintf(path, sizeof path, "%.200s/reco-fuzz-%ld%s", folder ? folder : "/tmp", (long)getpid(), ending);
    while (*fuzz_files[i] && strcmp(fuzz_files[i], path) != 0)
        if (++i == 8) abort();
    if (!*fuzz_files[0]) atexit(fuzz_tidy);
    memcpy(fuzz_files[i], path, sizeof path);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, bytes, file) != bytes || fclose(file) != 0) abort();
    return fuzz_files[i];
}

#endif
