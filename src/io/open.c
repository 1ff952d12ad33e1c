#include "io/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

reco_status reco_io_open(reco_ctx *ctx, int *fd, size_t *bytes, const char *path, bool regular)
{
    /* O_NONBLOCK lets a named pipe be refused instead of waiting for its writer. */
    int flags = O_RDONLY | O_CLOEXEC | (regular ? O_NONBLOCK : 0);
    do *fd = open(path, flags);
    while (*fd < 0 && errno == EINTR);
    if (*fd < 0) return reco_fail_errno(ctx, RECO_E_IO, "%s", path);

    struct stat info;
    reco_status status = RECO_OK;
    if (fstat(*fd, &info) != 0)
        status = reco_fail_errno(ctx, RECO_E_IO, "%s", path);
    else if (S_ISDIR(info.st_mode))
        status = reco_fail(ctx, RECO_E_IO, "%s: is a directory, want a file", path);
    else if (regular && !S_ISREG(info.st_mode))
        status = reco_fail(ctx, RECO_E_IO, "%s: is not a regular file", path);
    if (status != RECO_OK) {
        close(*fd);
        *fd = -1;
    } else if (bytes)
        *bytes = (size_t)info.st_size;
    return status;
}

reco_status reco_io_read(reco_ctx *ctx, int fd, void *out, size_t bytes, size_t *got, const char *path)
{
    ssize_t n;
    do n = read(fd, out, bytes);
    while (n < 0 && errno == EINTR);
    if (n < 0) return reco_fail_errno(ctx, RECO_E_IO, "%s", path);
    *got = (size_t)n;
    return RECO_OK;
}

void reco_read_ahead(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return;
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED);
    close(fd);
}
