#include "image/picture.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* A link to nothing is mostly one to content that a tool keeps elsewhere and has not fetched. */
static reco_status fail_open(reco_ctx *ctx, const char *path)
{
    int error = errno;
    char target[512];
    ssize_t n = error == ENOENT || error == ENOTDIR ? readlink(path, target, sizeof target - 1) : -1;
    errno = error;
    if (n < 0) return reco_fail_errno(ctx, RECO_E_IO, "%s: cannot open image", path);
    target[n] = 0;
    const char *hint = strstr(target, "annex/objects/")
                           ? " (content of git-annex: fetch it with git annex get)"
                       : strstr(target, ".dvc/") ? " (content of DVC: fetch it with dvc pull)"
                                                 : "";
    return reco_fail(ctx, RECO_E_IO, "%s: a link to %s, which does not exist%s", path, target, hint);
}

/* Read, not mapped: a file that shrinks under a map kills the process. */
reco_status reco_image_read(reco_ctx *ctx, reco_buffer *out, size_t *bytes, const char *path,
                            size_t max_bytes)
{
    reco_status status = RECO_OK;
    struct stat st;
    size_t done = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return fail_open(ctx, path);
    if (fstat(fd, &st) != 0) {
        status = reco_fail_errno(ctx, RECO_E_IO, "%s: cannot read image", path);
        goto out;
    }
    if (!S_ISREG(st.st_mode)) {
        status = reco_fail(ctx, RECO_E_IO, "%s: is %s, want an image file", path,
                           S_ISDIR(st.st_mode) ? "a directory" : "not a regular file");
        goto out;
    }
    if ((uintmax_t)st.st_size > max_bytes) {
        status = reco_fail(ctx, RECO_E_NOMEM, "%s: %jd bytes, want at most %zu", path, (intmax_t)st.st_size,
                           max_bytes);
        goto out;
    }
    *bytes = (size_t)st.st_size;
    RECO_GO(reco_buffer_get(ctx, out, *bytes, "image file"));
    while (done < *bytes) {
        ssize_t got = read(fd, out->data + done, *bytes - done);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            status = reco_fail_errno(ctx, RECO_E_IO, "%s: cannot read image", path);
            goto out;
        }
        if (got == 0) break; /* shrank since fstat: the decoder will say truncated */
        done += (size_t)got;
    }
    *bytes = done;
out:
    close(fd);
    return status;
}

reco_status reco_image_load_rgb(reco_ctx *ctx, uint8_t *out, const char *path, const reco_preprocess *pre,
                                const reco_image_limits *limits)
{
    size_t max_bytes = limits && limits->max_bytes ? limits->max_bytes : RECO_IMAGE_MAX_BYTES, bytes = 0;
    reco_buffer file = {0};
    reco_mark mark = reco_scratch_mark(ctx);
    reco_status status;
    RECO_GO(reco_image_read(ctx, &file, &bytes, path, max_bytes));
    RECO_GO(reco_image_decode_rgb(ctx, out, path, file.data, bytes, pre, limits));
out:
    reco_buffer_drop(&file);
    reco_scratch_release(ctx, mark);
    return status;
}
