#include "io/internal.h"

#include <errno.h>
#include <unistd.h>

/* Bytes read at offset, fewer than wanted at the end of the file alone; -1 with errno. */
static ssize_t read_at(int fd, uint8_t *out, size_t bytes, uint64_t offset)
{
    size_t got = 0;
    while (got < bytes) {
        ssize_t n = pread(fd, out + got, bytes - got, (off_t)(offset + got));
        if (n == 0) break;
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -1;
        got += (size_t)n;
    }
    return (ssize_t)got;
}

reco_status reco_read_pieces(reco_ctx *ctx, const char *path, size_t piece, reco_piece_fn visit, void *arg)
{
    int fd;
    size_t bytes;
    RECO_TRY(reco_io_open(ctx, &fd, &bytes, path, true));
    reco_status status = RECO_OK;
    uint8_t *data = reco_alloc(ctx, piece, 1, "file buffer");
    if (!data) RECO_GO(RECO_E_NOMEM);
    for (uint64_t at = 0; at < bytes; at += piece) {
        size_t want = reco_min(piece, bytes - at);
        ssize_t got = read_at(fd, data, want, at);
        if (got < 0) reco_fail_errno(ctx, RECO_E_IO, "%s", path);
        RECO_GO(visit(ctx, arg, at, got < 0 ? NULL : data, got < 0 ? want : (size_t)got));
        if (got >= 0 && (size_t)got < want) break; /* became shorter meanwhile */
    }
out:
    reco_free(data);
    close(fd);
    return status;
}
