#include "io/internal.h"

#include <stdlib.h>
#include <unistd.h>

/* Reads until the end and trusts no size: files of /proc say 0. */
reco_status reco_read_file(reco_ctx *ctx, char **out, size_t *bytes, const char *path, size_t max_bytes)
{
    *out = NULL;
    *bytes = 0;
    int fd;
    size_t size;
    RECO_TRY(reco_io_open(ctx, &fd, &size, path, true));

    reco_status status = RECO_OK;
    char *text = NULL;
    size_t used = 0, room = 0;
    if (size > max_bytes)
        RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s: is %zu bytes, want at most %zu", path, size, max_bytes));
    for (;;) {
        if (room - used < 2) { /* one byte to see that there is no more, one for the NUL */
            size_t want = room ? 2 * room : size + 2;
            char *grown = realloc(text, want);
            if (!grown) RECO_GO(reco_fail_nomem(ctx, want, path));
            text = grown;
            room = want;
        }
        size_t got;
        RECO_GO(reco_io_read(ctx, fd, text + used, room - used - 1, &got, path));
        if (!got) break;
        used += got;
        if (used > max_bytes)
            RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s: is larger than %zu bytes", path, max_bytes));
    }
    text[used] = 0;
    *out = text;
    *bytes = used;
    text = NULL;
out:
    free(text);
    close(fd);
    return status;
}
