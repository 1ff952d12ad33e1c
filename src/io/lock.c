#include "io/io.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#define PAUSE_NANOSECONDS 20000000

/* Who wrote its name into the file that is locked. */
static reco_status report_holder(reco_ctx *ctx, int file, const char *dir)
{
    char text[64], began[32] = "";
    long pid;
    long long since, at = (long long)time(NULL);
    struct tm utc;
    ssize_t n = pread(file, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = 0;
    if (sscanf(text, "%ld %lld", &pid, &since) != 2)
        return reco_fail(ctx, RECO_E_BUSY, "%s: another process is writing", dir);
    if (gmtime_r(&(time_t){(time_t)since}, &utc)) strftime(began, sizeof began, "%Y-%m-%d %H:%M:%S", &utc);
    return reco_fail(ctx, RECO_E_BUSY, "%s: process %ld has been writing for %lld s, since %s UTC", dir,
                     pid, at > since ? at - since : 0, began);
}

static reco_status take_lock(reco_ctx *ctx, int file, const char *path, const char *dir)
{
    double deadline = reco_now() + reco_ctx_wait(ctx);
    for (;;) {
        if (flock(file, LOCK_EX | LOCK_NB) == 0) return RECO_OK;
        if (errno == EINTR) continue;
        if (errno != EWOULDBLOCK) return reco_fail_errno(ctx, RECO_E_IO, "%s: can't lock", path);
        if (reco_now() >= deadline) return report_holder(ctx, file, dir);
        RECO_TRY(reco_progress(ctx, "waiting for another writer", 0, 0));
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_NANOSECONDS}, NULL);
    }
}

/* flock, not SQLite's lock: it is held for hours while files are written, ends with the process however that ends,
 * and leaves SQLite free for readers. The file stays: removing it would let two writers lock two files. */
reco_status reco_dir_lock(reco_ctx *ctx, int *fd, const char *dir)
{
    char *path = reco_path_join(ctx, dir, "writer.lock"), text[64];
    *fd = -1;
    if (!path) return RECO_E_NOMEM;
    reco_status status;
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    if (file < 0) RECO_GO(reco_fail_errno(ctx, RECO_E_IO, "%s", path));
    RECO_GO(take_lock(ctx, file, path, dir));
    int n = snprintf(text, sizeof text, "%ld %lld\n", (long)getpid(), (long long)time(NULL));
    if (ftruncate(file, 0) != 0 || pwrite(file, text, (size_t)n, 0) != n)
        RECO_GO(reco_fail_errno(ctx, RECO_E_IO, "%s", path));
    *fd = file;
    file = -1;
out:
    if (file >= 0) close(file);
    reco_free(path);
    return status;
}

void reco_dir_unlock(int fd)
{
    if (fd >= 0) close(fd);
}
