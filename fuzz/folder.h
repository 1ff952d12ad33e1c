/* folder.h: one folder a process, for a model or a bank of which a file is the input. */
#ifndef RECO_FUZZ_FOLDER_H
#define RECO_FUZZ_FOLDER_H

#include "io/io.h"

#include <ftw.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static inline reco_ctx *fuzz_ctx(void)
{
    static reco_ctx *ctx;
    if (!ctx && reco_ctx_create(&ctx, &(reco_ctx_opts){.threads = 1}) != RECO_OK) abort();
    return ctx;
}

static inline void fuzz_need(reco_status status)
{
    if (status != RECO_OK) abort();
}

static char fuzz_path[256];

static inline int fuzz_unlink(const char *path, const struct stat *info, int kind, struct FTW *at)
{
    (void)info, (void)kind, (void)at;
    return remove(path);
}

static inline void fuzz_tidy(void) { nftw(fuzz_path, fuzz_unlink, 8, FTW_DEPTH | FTW_PHYS); }

/* One folder a process, empty at first and gone at its end. */
static inline const char *fuzz_folder(void)
{
    const char *base = getenv("TMPDIR");
    if (*fuzz_path) return fuzz_path;
    if (!base) base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(fuzz_path, sizeof fuzz_path, "%.200s/reco-fuzz-folder-XXXXXX", base);
    if (!mkdtemp(fuzz_path)) abort();
    atexit(fuzz_tidy);
    return fuzz_path;
}

static inline void fuzz_put(const char *name, const void *data, size_t bytes)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", fuzz_folder(), name);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, bytes, file) != bytes || fclose(file) != 0) abort();
}

static inline void fuzz_remove(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", fuzz_folder(), name);
    unlink(path);
}

/* A file of the source's own tests; $RECO_TEST_SOURCE (or the current folder) is the source's root. */
static inline void fuzz_copy(const char *from, const char *name)
{
    const char *root = getenv("RECO_TEST_SOURCE");
    char path[4096], *data;
    size_t bytes;
    snprintf(path, sizeof path, "%s/tests/golden/%s/%s", root ? root : ".", from, name);
    if (reco_read_file(fuzz_ctx(), &data, &bytes, path, 1 << 26) != RECO_OK) abort();
    fuzz_put(name, data, bytes);
    reco_free(data);
}

#endif
