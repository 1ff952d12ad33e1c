#include "io/internal.h"
#include "io/window.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <unistd.h>

#define BLOCK ((size_t)64 << 10)

struct reco_inflate {
    struct archive *archive;
    const char *path;
    const void *head; /* given first */
    size_t bytes;
    int fd;
    char block[BLOCK];
};

bool reco_inflate_wants(const void *head, size_t bytes)
{
    static const struct {
        const char *magic;
        size_t bytes;
    } known[] = {{"\x1f\x8b\x08", 3}, {"\xfd\x37zXZ\0", 6}, {"\x28\xb5\x2f\xfd", 4}};
    if (bytes >= 8 && memcmp(head, "BZh", 3) == 0 && memcmp((const char *)head + 4, "1AY&", 4) == 0)
        return true;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (bytes >= known[i].bytes && memcmp(head, known[i].magic, known[i].bytes) == 0) return true;
    return false;
}

static la_ssize_t more(struct archive *archive, void *user, const void **out)
{
    reco_inflate *z = user;
    size_t got = z->bytes;
    if (got) {
        *out = z->head;
        z->bytes = 0;
        return (la_ssize_t)got;
    }
    *out = z->block;
    ssize_t n;
    do n = read(z->fd, z->block, BLOCK);
    while (n < 0 && errno == EINTR);
    if (n < 0) archive_set_error(archive, errno, "%s", strerror(errno));
    return n;
}

static reco_status fail_inflate(reco_ctx *ctx, const reco_inflate *z)
{
    const char *text = archive_error_string(z->archive);
    return reco_fail(ctx, RECO_E_FORMAT, "%s: %s", z->path, text ? text : "is not compressed as it claims");
}

reco_status reco_inflate_open(reco_ctx *ctx, reco_inflate **out, int fd, const void *head, size_t bytes,
                              const char *path)
{
    *out = NULL;
    reco_inflate *z = reco_alloc(ctx, 1, sizeof *z, "reader of a compressed file");
    if (!z) return RECO_E_NOMEM;
    z->path = path;
    z->head = head;
    z->bytes = bytes;
    z->fd = fd;
    reco_status status = RECO_OK;
    struct archive_entry *entry;
    if (!(z->archive = archive_read_new())) RECO_GO(reco_fail_nomem(ctx, 0, "reader of a compressed file"));
    archive_read_support_format_raw(z->archive);
    archive_read_support_format_empty(z->archive);
    archive_read_support_filter_gzip(z->archive);
    archive_read_support_filter_bzip2(z->archive);
    archive_read_support_filter_xz(z->archive);
    archive_read_support_filter_zstd(z->archive);
    if (archive_read_open(z->archive, z, NULL, more, NULL) != ARCHIVE_OK) RECO_GO(fail_inflate(ctx, z));
    int rc = archive_read_next_header(z->archive, &entry);
    if (rc != ARCHIVE_OK && rc != ARCHIVE_EOF) RECO_GO(fail_inflate(ctx, z));
    if (rc == ARCHIVE_OK && archive_filter_code(z->archive, 0) == ARCHIVE_FILTER_NONE) {
        archive_clear_error(z->archive); /* it has the mark, and nothing else of its kind */
        RECO_GO(fail_inflate(ctx, z));
    }
    *out = z;
    z = NULL;
out:
    reco_inflate_close(z);
    return status;
}

reco_status reco_inflate_read(reco_ctx *ctx, reco_inflate *z, void *out, size_t bytes, size_t *got)
{
    la_ssize_t n = archive_read_data(z->archive, out, bytes);
    *got = n > 0 ? (size_t)n : 0;
    return n < 0 ? fail_inflate(ctx, z) : RECO_OK;
}

void reco_inflate_close(reco_inflate *z)
{
    if (!z) return;
    archive_read_free(z->archive);
    reco_free(z);
}
