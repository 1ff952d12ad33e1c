#include "bank/catalog/sqlite.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* SQLite's write-ahead log is whole up to the first frame whose checksum fails; what comes after is, to SQLite, a
 * transaction that was never finished. So damage in the log takes commits back without a word. It can be told from a
 * crash by what lies behind the bad frame: a writer that was killed has written nothing there. (The format:
 * sqlite.org/fileformat2.html, section 4.) */

#define HEADER 32
#define FRAME 24
#define PAUSE_NANOSECONDS 200000

typedef struct log {
    int fd;
    int64_t bytes;
    bool big; /* the checksum is of big-endian words */
    uint32_t salt[2], sum[2];
    size_t page;
    uint8_t *frame; /* [FRAME + page] */
} log;

static uint32_t word(const uint8_t *p, bool big)
{
    return big ? (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]
               : (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}

static void chain(log *l, const uint8_t *p, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 8) {
        l->sum[0] += word(p + i, l->big) + l->sum[1];
        l->sum[1] += word(p + i + 4, l->big) + l->sum[0];
    }
}

static bool sum_is(const log *l, const uint8_t *p)
{
    return word(p, true) == l->sum[0] && word(p + 4, true) == l->sum[1];
}

/* *whole false: the log has become shorter, since somebody has emptied it. */
static reco_status fetch(reco_ctx *ctx, const log *l, const char *path, uint8_t *to, size_t bytes,
                         int64_t at, bool *whole)
{
    ssize_t got = pread(l->fd, to, bytes, at);
    *whole = got == (ssize_t)bytes;
    return got < 0 ? reco_fail_errno(ctx, RECO_E_IO, "%s", path) : RECO_OK;
}

/* Is it of the log as it is now? Frames of an earlier round differ in both salts; a damaged one mostly in none or one. */
static bool is_own(const log *l)
{
    return word(l->frame + 8, true) == l->salt[0] || word(l->frame + 12, true) == l->salt[1];
}

static bool is_good(log *l)
{
    if (word(l->frame, true) == 0 || word(l->frame + 8, true) != l->salt[0] ||
        word(l->frame + 12, true) != l->salt[1])
        return false;
    chain(l, l->frame, 8);
    chain(l, l->frame + FRAME, l->page);
    return sum_is(l, l->frame + 16);
}

/* From the first bad frame, which lies at `at`, on: was anything written after it? */
static reco_status is_damage(reco_ctx *ctx, log *l, const char *path, int64_t at, bool *yes)
{
    int64_t size = FRAME + (int64_t)l->page;
    *yes = is_own(l) && at + size == l->bytes; /* a write that was cut short leaves a shorter file */
    for (at += size; !*yes && at + size <= l->bytes; at += size) {
        bool whole;
        RECO_TRY(fetch(ctx, l, path, l->frame, FRAME, at, &whole));
        if (!whole) break;
        *yes = is_own(l) && word(l->frame + 4, true) != 0; /* the last of a transaction */
    }
    return RECO_OK;
}

static reco_status scan(reco_ctx *ctx, log *l, const char *path, reco_catalog_damage *out)
{
    uint8_t header[HEADER];
    *out = (reco_catalog_damage){0};
    if (l->bytes < HEADER + FRAME + 512) return RECO_OK; /* holds nothing */
    bool whole;
    RECO_TRY(fetch(ctx, l, path, header, HEADER, 0, &whole));
    if (!whole) return RECO_OK;
    l->big = header[3] & 1;
    l->page = word(header + 8, true);
    l->sum[0] = l->sum[1] = 0;
    chain(l, header, 24);
    if (word(header, true) >> 1 != 0x377f0682 >> 1 || !sum_is(l, header + 24) || l->page < 512 ||
        l->page > 65536 || (l->page & (l->page - 1))) {
        *out =
            (reco_catalog_damage){0, HEADER, "the header of the log is damaged: its content is not read"};
        return RECO_OK;
    }
    for (int i = 0; i < 2; i++) l->salt[i] = word(header + 16 + 4 * i, true);
    int64_t size = FRAME + (int64_t)l->page;
    reco_free(l->frame);
    if (!(l->frame = reco_alloc(ctx, (size_t)size, 1, "log"))) return RECO_E_NOMEM;
    for (int64_t at = HEADER; at + size <= l->bytes; at += size) {
        bool damaged;
        RECO_TRY(fetch(ctx, l, path, l->frame, (size_t)size, at, &whole));
        if (!whole) break;
        if (is_good(l)) continue;
        RECO_TRY(is_damage(ctx, l, path, at, &damaged));
        if (damaged)
            *out = (reco_catalog_damage){at, size, "is damaged: the commits from here on are not read"};
        return RECO_OK;
    }
    return RECO_OK;
}

static reco_status look(reco_ctx *ctx, const char *path, reco_catalog_damage *out)
{
    struct stat info;
    log l = {.fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)};
    *out = (reco_catalog_damage){0};
    if (l.fd < 0) return errno == ENOENT ? RECO_OK : reco_fail_errno(ctx, RECO_E_IO, "%s", path);
    reco_status status = RECO_OK;
    if (fstat(l.fd, &info) != 0) RECO_GO(reco_fail_errno(ctx, RECO_E_IO, "%s", path));
    l.bytes = info.st_size;
    status = scan(ctx, &l, path, out);
out:
    reco_free(l.frame);
    close(l.fd); /* SQLite's locks are on the database and the log's index, not on the log */
    return status;
}

/* A writer may be at work in it: what is damage stays where it is. */
reco_status reco_catalog_log(reco_ctx *ctx, const reco_catalog *c, reco_catalog_damage *out)
{
    char *path = reco_format(ctx, "%s-wal", c->file);
    if (!path) return RECO_E_NOMEM;
    reco_status status = look(ctx, path, out);
    for (int i = 0; i < 2 && status == RECO_OK && out->bytes; i++) {
        reco_catalog_damage first = *out;
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_NANOSECONDS}, NULL);
        status = look(ctx, path, out);
        if (out->offset != first.offset || out->bytes != first.bytes) *out = (reco_catalog_damage){0};
    }
    reco_free(path);
    return status;
}
