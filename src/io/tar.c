#include "io/internal.h"

#include <archive.h>
#include <archive_entry.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK ((size_t)64 << 10)
#define FIRST_ROOM ((size_t)64 << 10)

struct reco_tar {
    int fd;
    char *path;
    struct archive *archive;
    struct archive_entry *entry;
    char head[RECO_TAR_PEEK]; /* what was looked at of the member already */
    size_t looked;
};

static reco_status fail_tar(reco_ctx *ctx, const reco_tar *tar)
{
    const char *text = archive_error_string(tar->archive);
    return reco_fail(ctx, RECO_E_FORMAT, "%s: %s", tar->path, text ? text : "is not a tar archive");
}

reco_status reco_tar_open(reco_ctx *ctx, reco_tar **out, const char *path)
{
    *out = NULL;
    reco_tar *tar = reco_alloc(ctx, 1, sizeof *tar, "tar reader");
    if (!tar) return RECO_E_NOMEM;
    tar->fd = -1;
    reco_status status = RECO_E_NOMEM;
    if (!(tar->path = reco_strdup(ctx, path))) goto out;
    RECO_GO(reco_io_open(ctx, &tar->fd, NULL, path, true));
    if (!(tar->archive = archive_read_new())) RECO_GO(reco_fail_nomem(ctx, 0, "tar reader"));
    /* Names in UTF-8 whatever the locale; a name that is not is taken byte by byte. */
    if (archive_read_support_format_tar(tar->archive) != ARCHIVE_OK) RECO_GO(fail_tar(ctx, tar));
    archive_read_set_option(tar->archive, "tar", "hdrcharset", "UTF-8");
    /* Compressed or not, told by content. What a library was built without is left: it would run a program instead. */
    int (*const filters[])(struct archive *) = {
        archive_read_support_filter_gzip, archive_read_support_filter_bzip2, archive_read_support_filter_xz,
        archive_read_support_filter_zstd, archive_read_support_filter_lz4};
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
        if (filters[i](tar->archive) == ARCHIVE_FATAL) RECO_GO(fail_tar(ctx, tar));
    if (archive_read_open_fd(tar->archive, tar->fd, BLOCK) != ARCHIVE_OK) RECO_GO(fail_tar(ctx, tar));
    *out = tar;
    tar = NULL;
out:
    reco_tar_close(tar);
    return status;
}

void reco_tar_close(reco_tar *tar)
{
    if (!tar) return;
    archive_read_free(tar->archive);
    if (tar->fd >= 0) close(tar->fd);
    reco_free(tar->path);
    reco_free(tar);
}

/* A tar ends with blocks of zeros. One that was cut off between two members looks whole but for them. A compressed one has an
 * end of its own, which libarchive looks for. */
static reco_status check_end(reco_ctx *ctx, const reco_tar *tar)
{
    struct stat file;
    if (archive_filter_code(tar->archive, 0) != ARCHIVE_FILTER_NONE) return RECO_OK;
    if (fstat(tar->fd, &file) != 0) return reco_fail_errno(ctx, RECO_E_IO, "%s", tar->path);
    if (archive_read_header_position(tar->archive) < file.st_size) return RECO_OK;
    return reco_fail(ctx, RECO_E_FORMAT, "%s: is cut off: the tar has no end", tar->path);
}

reco_status reco_tar_next(reco_ctx *ctx, reco_tar *tar, const char **name)
{
    *name = NULL;
    tar->looked = 0;
    for (;;) {
        int rc = archive_read_next_header(tar->archive, &tar->entry);
        if (rc == ARCHIVE_EOF) return check_end(ctx, tar);
        if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN) return fail_tar(ctx, tar);
        if (archive_entry_filetype(tar->entry) != AE_IFREG || archive_entry_hardlink(tar->entry)) continue;
        *name = archive_entry_pathname_utf8(tar->entry);
        if (!*name) *name = archive_entry_pathname(tar->entry);
        if (*name && **name) return RECO_OK;
    }
}

reco_status reco_tar_peek(reco_ctx *ctx, reco_tar *tar, const char **head, size_t *bytes)
{
    while (tar->looked < sizeof tar->head) {
        la_ssize_t got =
            archive_read_data(tar->archive, tar->head + tar->looked, sizeof tar->head - tar->looked);
        if (got < 0) return fail_tar(ctx, tar);
        if (got == 0) break;
        tar->looked += (size_t)got;
    }
    *head = tar->head;
    *bytes = tar->looked;
    return RECO_OK;
}

reco_status reco_tar_read(reco_ctx *ctx, reco_tar *tar, char **data, size_t *bytes, size_t most)
{
    /* What the header says is only a claim: memory grows with what is there. */
    size_t room = 0, n = 0;
    char *to = NULL;
    reco_status status = RECO_OK;
    *data = NULL;
    *bytes = 0;
    if (archive_entry_size_is_set(tar->entry) &&
        archive_entry_size(tar->entry) > (int64_t)reco_min(most, INT64_MAX))
        return reco_fail(ctx, RECO_E_NOMEM, "%s: %lld bytes, want at most %zu", tar->path,
                         (long long)archive_entry_size(tar->entry), most);
    for (;;) {
        if (n + 1 >= room) {
            size_t more = room ? 2 * room : FIRST_ROOM;
            char *grown = reco_alloc(ctx, more, 1, "tar member");
            if (!grown) RECO_GO(RECO_E_NOMEM);
            if (n) memcpy(grown, to, n);
            reco_free(to);
            to = grown;
            room = more;
        }
        la_ssize_t got = (la_ssize_t)tar->looked;
        if (got) /* the room is larger */
            memcpy(to, tar->head, tar->looked);
        else
            got = archive_read_data(tar->archive, to + n, room - n - 1);
        tar->looked = 0;
        if (got < 0) RECO_GO(fail_tar(ctx, tar));
        if (got == 0) break;
        n += (size_t)got;
        if (n > most) RECO_GO(reco_fail(ctx, RECO_E_NOMEM, "%s: more than %zu bytes", tar->path, most));
    }
    to[n] = 0;
    *data = to;
    *bytes = n;
    to = NULL;
out:
    reco_free(to);
    return status;
}
