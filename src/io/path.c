#include "io/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

char *reco_path_join(reco_ctx *ctx, const char *dir, const char *name)
{
    size_t n = strlen(dir);
    if (name[0] == '/' || n == 0) return reco_strdup(ctx, name);
    return reco_format(ctx, "%s%s%s", dir, dir[n - 1] == '/' ? "" : "/", name);
}

char *reco_path_absolute(reco_ctx *ctx, const char *path)
{
    if (path[0] == '/') return reco_strdup(ctx, path);
    char *here = getcwd(NULL, 0);
    char *whole = here ? reco_path_join(ctx, here, path) : NULL;
    if (!here) reco_fail_errno(ctx, RECO_E_IO, "%s: the working directory", path);
    free(here);
    return whole;
}

char *reco_path_dir(reco_ctx *ctx, const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--; /* "a/b/" is "b" in "a" */
    while (n > 0 && path[n - 1] != '/') n--;
    if (n == 0) return reco_strdup(ctx, ".");
    while (n > 1 && path[n - 1] == '/') n--;
    return reco_format(ctx, "%.*s", (int)n, path);
}

bool reco_path_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

bool reco_path_is_dir(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool reco_path_ends(const char *path, size_t n, const char *ending)
{
    size_t m = strlen(ending);
    return n > m && strncasecmp(path + n - m, ending, m) == 0;
}

reco_status reco_mkdirs(reco_ctx *ctx, const char *path)
{
    char *copy = reco_strdup(ctx, path);
    if (!copy) return RECO_E_NOMEM;
    reco_status status = RECO_OK;
    for (char *c = copy; status == RECO_OK; c++) {
        char end = *c;
        if (end && end != '/') continue;
        *c = 0;
        /* Not only EEXIST: a parent that exists may be one where we can't write, or "/". */
        int error = *copy && mkdir(copy, 0777) != 0 ? errno : 0;
        if (error && !reco_path_is_dir(copy)) {
            errno = error == EEXIST ? ENOTDIR : error;
            status = reco_fail_errno(ctx, RECO_E_IO, "%s", copy);
        }
        *c = end;
        if (!end) break;
    }
    free(copy);
    return status;
}

static reco_status sync_path(reco_ctx *ctx, const char *path, int flags)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | flags);
    if (fd < 0) return reco_fail_errno(ctx, RECO_E_IO, "%s", path);
    int rc;
    do rc = fsync(fd);
    while (rc != 0 && errno == EINTR);
    reco_status status = RECO_OK;
    /* Some network file systems can't sync a folder and say EINVAL; theirs is then already on disk. */
    if (rc != 0 && errno != EINVAL) status = reco_fail_errno(ctx, RECO_E_IO, "%s", path);
    close(fd);
    return status;
}

reco_status reco_sync_dir(reco_ctx *ctx, const char *path) { return sync_path(ctx, path, O_DIRECTORY); }

reco_status reco_sync_file(reco_ctx *ctx, const char *path) { return sync_path(ctx, path, 0); }
