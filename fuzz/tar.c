/* Members of a tar come to an end, with names and contents within bounds. */
#include "io_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    enum { MOST = 1 << 16, MEMBERS = 4096 };
    reco_ctx *ctx = fuzz_ctx();
    reco_tar *tar;
    if (reco_tar_open(ctx, &tar, fuzz_file(".tar", data, bytes)) != RECO_OK) return 0;
    bool plain = bytes > 262 && memcmp(data + 257, "ustar", 5) == 0;
    for (size_t i = 0; i < MEMBERS; i++) { /* a few bytes may unpack to any number */
        const char *name;
        char *content;
        size_t n;
        if (reco_tar_next(ctx, tar, &name) != RECO_OK || !name) break;
        if (!*name || (plain && i > bytes / 512)) abort(); /* a header is a block */
        if (i % 2 && reco_tar_peek(ctx, tar, (const char **)&content, &n) != RECO_OK) break;
        if (reco_tar_read(ctx, tar, &content, &n, MOST) != RECO_OK) continue;
        if (n > MOST || content[n] != 0) abort();
        reco_free(content);
    }
    reco_tar_close(tar);
    return 0;
}
