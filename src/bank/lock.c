#include "bank/bank_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

/* flock, not SQLite's lock: it is held for hours while files are written, ends with the process however that ends,
 * and leaves SQLite free for readers. The file stays: removing it would let two writers lock two files. */
reco_status reco_bank_lock(reco_ctx *ctx, int *fd, const char *dir)
{
    char *path = reco_path_join(ctx, dir, "writer.lock"), text[64] = "";
    *fd = -1;
    if (!path) return RECO_E_NOMEM;
    reco_status status = RECO_OK;
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666), rc;
    if (file < 0) RECO_GO(reco_fail_errno(ctx, RECO_E_IO, "%s", path));
    do rc = flock(file, LOCK_EX | LOCK_NB);
    while (rc != 0 && errno == EINTR);
    long pid = 0;
    long long since = 0, now = (long long)time(NULL);
    if (rc != 0 && errno == EWOULDBLOCK) {
        ssize_t n = pread(file, text, sizeof text - 1, 0);
        text[n > 0 ? n : 0] = 0;
        if (sscanf(text, "%ld %lld", &pid, &since) == 2)
            RECO_GO(reco_fail(ctx, RECO_E_BUSY, "%s: process %ld has been writing for %lld s", dir, pid,
                              now > since ? now - since : 0));
        RECO_GO(reco_fail(ctx, RECO_E_BUSY, "%s: another process is writing", dir));
    }
    if (rc != 0) RECO_GO(reco_fail_errno(ctx, RECO_E_IO, "%s: can't lock", path));
    int n = snprintf(text, sizeof text, "%ld %lld\n", (long)getpid(), now);
    if (ftruncate(file, 0) != 0 || pwrite(file, text, (size_t)n, 0) != n)
        RECO_GO(reco_fail_errno(ctx, RECO_E_IO, "%s", path));
    *fd = file;
    file = -1;
out:
    if (file >= 0) close(file);
    reco_free(path);
    return status;
}

void reco_bank_unlock(int fd)
{
    if (fd >= 0) close(fd);
}
