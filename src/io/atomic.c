#include "io/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define ANY_LENGTH UINT64_MAX
#define NAME_IN_TEMP 200 /* of the target's name, so that the temporary one stays within NAME_MAX */

struct reco_file {
    int fd, error; /* errno of the first failed write: what lacks bytes is never renamed into place */
    char *path;    /* as the caller wrote it, for messages */
    char *target, *dir, *temp;
    uint64_t flushed, expected;
    bool kept; /* of a resumable file: what a checkpoint made last stays when the writer gives up */
    size_t used;
    uint8_t buffer[1 << 20];
};

static void release(reco_file *file)
{
    if (file->fd >= 0) close(file->fd);
    if (file->temp && !file->kept) unlink(file->temp);
    free(file->path);
    free(file->target);
    free(file->dir);
    free(file->temp);
    reco_free(file);
}

/* A writer holds a lock on its temporary file until it dies. Its process must be gone as well, because the
 * lock comes a moment after the file; the lock decides where the process is of another machine or container. */
static bool is_stale(const char *path, long pid)
{
    if (pid != (long)getpid() && (kill((pid_t)pid, 0) == 0 || errno != ESRCH)) return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return false;
    bool stale = flock(fd, LOCK_EX | LOCK_NB) == 0;
    close(fd);
    return stale;
}

/* Remove what killed writers of the same target left. Only cleaning: no failure here matters. */
static void remove_stale(reco_ctx *ctx, const char *dir, const char *prefix)
{
    DIR *stream = opendir(dir);
    if (!stream) return;
    size_t n = strlen(prefix);
    const struct dirent *entry;
    while ((entry = readdir(stream))) {
        if (strncmp(entry->d_name, prefix, n) != 0) continue;
        char *end;
        long pid = strtol(entry->d_name + n, &end, 10);
        if (pid <= 0 || *end != '-') continue;
        char *path = reco_path_join(ctx, dir, entry->d_name);
        if (path && is_stale(path, pid)) unlink(path);
        free(path);
    }
    closedir(stream);
}

/* O_EXCL and counting up find a name without shared state between the threads of a process. */
static reco_status create_temp(reco_ctx *ctx, reco_file *file, const char *prefix, mode_t mode)
{
    for (int i = 0; i < 1000; i++) {
        char *name = reco_format(ctx, "%s%ld-%d", prefix, (long)getpid(), i);
        char *path = name ? reco_path_join(ctx, file->dir, name) : NULL;
        free(name);
        if (!path) return RECO_E_NOMEM;
        do file->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        while (file->fd < 0 && errno == EINTR);
        if (file->fd >= 0) {
            file->temp = path;
            flock(file->fd, LOCK_EX | LOCK_NB); /* refused by some file systems; see is_stale */
            return RECO_OK;
        }
        free(path);
        if (errno != EEXIST) break;
    }
    return reco_fail_errno(ctx, RECO_E_IO, "%s", file->path);
}

/* Which file stands where the name points to, and the folder and name of the temporary one: "DIR/.NAME" + suffix. */
static reco_status create_file(reco_ctx *ctx, reco_file **out, const char *path, struct stat *old,
                               bool *replaces, const char *suffix, char **temp)
{
    *out = NULL;
    *temp = NULL;
    reco_file *file = reco_alloc(ctx, 1, sizeof *file, "file buffer");
    if (!file) return RECO_E_NOMEM;
    file->fd = -1;
    file->expected = ANY_LENGTH;

    reco_status status = RECO_E_NOMEM;
    *replaces = stat(path, old) == 0;
    if (*replaces && S_ISDIR(old->st_mode))
        RECO_GO(reco_fail(ctx, RECO_E_IO, "%s: is a directory, want a file", path));
    if (*replaces && !S_ISREG(old->st_mode)) /* renaming over /dev/null would be a disaster */
        RECO_GO(reco_fail(ctx, RECO_E_IO, "%s: is not a regular file and won't be replaced", path));

    file->path = reco_strdup(ctx, path);
    file->target = realpath(path, NULL); /* through a link, write what it points to */
    if (!file->target) file->target = reco_strdup(ctx, path);
    if (!file->path || !file->target) goto out;
    const char *name = strrchr(file->target, '/');
    name = name ? name + 1 : file->target;
    if (!*name) RECO_GO(reco_fail(ctx, RECO_E_ARG, "\"%s\": want the name of a file", path));
    file->dir = reco_path_dir(ctx, file->target);
    *temp = reco_format(ctx, ".%.*s%s", NAME_IN_TEMP, name, suffix);
    if (!file->dir || !*temp) goto out;
    *out = file;
    return RECO_OK;
out:
    release(file);
    return status;
}

reco_status reco_file_begin(reco_ctx *ctx, reco_file **out, const char *path)
{
    *out = NULL;
    char *prefix = NULL;
    struct stat old;
    bool replaces;
    reco_file *file;
    reco_status status = create_file(ctx, &file, path, &old, &replaces, ".tmp-", &prefix);
    if (status != RECO_OK) goto out;
    remove_stale(ctx, file->dir, prefix);
    RECO_GO(create_temp(ctx, file, prefix, replaces ? 0600 : 0666));
    if (replaces && fchmod(file->fd, old.st_mode & 07777) != 0)
        RECO_GO(reco_fail_errno(ctx, RECO_E_IO, "%s", path));
    *out = file;
    file = NULL;
out:
    free(prefix);
    if (file) release(file);
    return status;
}

reco_status reco_file_resume(reco_ctx *ctx, reco_file **out, const char *path, uint64_t bytes)
{
    *out = NULL;
    char *name = NULL;
    struct stat old;
    bool replaces;
    reco_file *file;
    reco_status status = create_file(ctx, &file, path, &old, &replaces, ".part", &name);
    if (status != RECO_OK) goto out;
    file->kept = true; /* until it is known to be ours */
    if (!(file->temp = reco_path_join(ctx, file->dir, name))) RECO_GO(RECO_E_NOMEM);
    do file->fd = open(file->temp, O_RDWR | (bytes ? 0 : O_CREAT) | O_CLOEXEC | O_NOFOLLOW, 0666);
    while (file->fd < 0 && errno == EINTR);
    if (file->fd < 0 && errno == ENOENT && bytes)
        RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s: missing, want the %llu bytes of its checkpoint",
                          file->temp, (unsigned long long)bytes));
    if (file->fd < 0) RECO_GO(reco_fail_errno(ctx, RECO_E_IO, "%s", file->temp));
    if (flock(file->fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        RECO_GO(reco_fail(ctx, RECO_E_BUSY, "%s: another process is writing it", path));
    struct stat part, named;
    if (fstat(file->fd, &part) != 0 || stat(file->temp, &named) != 0)
        RECO_GO(reco_fail_errno(ctx, RECO_E_IO, "%s", file->temp));
    if (part.st_ino != named.st_ino || part.st_dev != named.st_dev) /* put in place between open and lock */
        RECO_GO(reco_fail(ctx, RECO_E_BUSY, "%s: another process has just written it", path));
    if ((uint64_t)part.st_size < bytes)
        RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s: %llu bytes, want the %llu of its checkpoint", file->temp,
                          (unsigned long long)part.st_size, (unsigned long long)bytes));
    file->kept = bytes > 0;
    if (ftruncate(file->fd, (off_t)bytes) != 0) RECO_GO(reco_fail_errno(ctx, RECO_E_IO, "%s", file->temp));
    if (replaces && fchmod(file->fd, old.st_mode & 07777) != 0)
        RECO_GO(reco_fail_errno(ctx, RECO_E_IO, "%s", path));
    file->flushed = bytes;
    *out = file;
    file = NULL;
out:
    free(name);
    if (file) release(file);
    return status;
}

static reco_status write_at(reco_ctx *ctx, reco_file *file, const void *data, size_t bytes, uint64_t offset)
{
    const uint8_t *from = data;
    while (bytes && !file->error) {
        ssize_t n = pwrite(file->fd, from, bytes, (off_t)offset);
        if (n > 0) {
            from += n;
            bytes -= (size_t)n;
            offset += (uint64_t)n;
        } else if (n == 0 || errno != EINTR)
            file->error = n == 0 ? EIO : errno;
    }
    if (!file->error) return RECO_OK;
    errno = file->error;
    return reco_fail_errno(ctx, RECO_E_IO, "%s", file->path);
}

static reco_status flush_buffer(reco_ctx *ctx, reco_file *file)
{
    RECO_TRY(write_at(ctx, file, file->buffer, file->used, file->flushed));
    file->flushed += file->used;
    file->used = 0;
    return RECO_OK;
}

reco_status reco_file_write(reco_ctx *ctx, reco_file *file, const void *data, size_t bytes)
{
    if (bytes > sizeof file->buffer - file->used) {
        RECO_TRY(flush_buffer(ctx, file));
        if (bytes >= sizeof file->buffer) {
            RECO_TRY(write_at(ctx, file, data, bytes, file->flushed));
            file->flushed += bytes;
            return RECO_OK;
        }
    }
    if (bytes) memcpy(file->buffer + file->used, data, bytes);
    file->used += bytes;
    return RECO_OK;
}

const void *reco_file_pending(const reco_file *file, size_t *bytes)
{
    *bytes = file->used;
    return file->buffer;
}

reco_status reco_file_pwrite(reco_ctx *ctx, reco_file *file, const void *data, size_t bytes,
                             uint64_t offset)
{
    RECO_TRY(flush_buffer(ctx, file));
    if (offset > file->flushed || bytes > file->flushed - offset)
        return reco_fail(ctx, RECO_E_ARG, "%s: rewriting %zu bytes at %llu, want within the %llu written",
                         file->path, bytes, (unsigned long long)offset, (unsigned long long)file->flushed);
    return write_at(ctx, file, data, bytes, offset);
}

reco_status reco_file_printf(reco_ctx *ctx, reco_file *file, const char *format, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, format);
    int n = vasprintf(&text, format, args);
    va_end(args);
    if (n < 0) return reco_fail_nomem(ctx, 0, "text to write");
    reco_status status = reco_file_write(ctx, file, text, (size_t)n);
    free(text);
    return status;
}

void reco_io_file_expect(reco_file *file, uint64_t bytes) { file->expected = bytes; }

reco_status reco_file_checkpoint(reco_ctx *ctx, reco_file *file, uint64_t *bytes)
{
    RECO_TRY(flush_buffer(ctx, file));
    int rc;
    do rc = fsync(file->fd);
    while (rc != 0 && errno == EINTR);
    if (rc != 0) return reco_fail_errno(ctx, RECO_E_IO, "%s", file->path);
    file->kept = true;
    *bytes = file->flushed;
    return RECO_OK;
}

reco_status reco_file_commit(reco_ctx *ctx, reco_file *file)
{
    reco_status status;
    RECO_GO(flush_buffer(ctx, file));
    if (file->expected != ANY_LENGTH && file->flushed != file->expected)
        RECO_GO(reco_fail(ctx, RECO_E_INTERNAL, "%s: %llu bytes were written, want %llu", file->path,
                          (unsigned long long)file->flushed, (unsigned long long)file->expected));
    int rc;
    do rc = fsync(file->fd);
    while (rc != 0 && errno == EINTR);
    if (rc != 0 || rename(file->temp, file->target) != 0)
        RECO_GO(reco_fail_errno(ctx, RECO_E_IO, "%s", file->path));
    free(file->temp);
    file->temp = NULL;
    RECO_GO(reco_sync_dir(ctx, file->dir));
out:
    release(file);
    return status;
}

void reco_file_abort(reco_file *file)
{
    if (file) release(file);
}

void reco_file_discard(reco_file *file)
{
    if (file) file->kept = false;
    reco_file_abort(file);
}

reco_status reco_write_file(reco_ctx *ctx, const char *path, const void *data, size_t bytes)
{
    reco_file *file;
    RECO_TRY(reco_file_begin(ctx, &file, path));
    reco_status status = reco_file_write(ctx, file, data, bytes);
    if (status == RECO_OK) return reco_file_commit(ctx, file);
    reco_file_abort(file);
    return status;
}
