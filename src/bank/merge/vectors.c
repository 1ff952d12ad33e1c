#include "bank/merge/merge.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define DROPPED 1024 /* numbers read at a time */
#define PIECE ((size_t)4 << 20)

typedef struct placing {
    reco_merge *m;
    reco_segment_list *files;
    const reco_bank *bank;
    const char *dir; /* of the bank */
    int64_t number;  /* of the next live row, among all */
    int64_t next_id;
    int64_t dropped[DROPPED]; /* [ndropped], from at on, ascending; more may follow */
    size_t ndropped, at;
    bool *kept; /* [room] of the segment's rows */
    size_t room;
} placing;

static reco_status is_dropped(reco_ctx *ctx, placing *p, int64_t number, bool *yes)
{
    while (p->at < p->ndropped && p->dropped[p->at] < number) p->at++;
    if (p->at == p->ndropped && (p->ndropped == DROPPED || p->ndropped == 0)) {
        RECO_TRY(reco_catalog_merge_dropped(ctx, p->m->catalog, number, DROPPED, p->dropped, &p->ndropped));
        p->at = 0;
        if (p->ndropped == 0) p->dropped[p->ndropped++] = INT64_MAX; /* there are no more */
    }
    *yes = p->at < p->ndropped && p->dropped[p->at] == number;
    return RECO_OK;
}

/* Which rows of segment s go into the new bank, and how many. */
static reco_status choose_rows(reco_ctx *ctx, placing *p, const reco_segment *s, size_t *n)
{
    if (s->rows > p->room) {
        reco_free(p->kept);
        p->kept = reco_alloc(ctx, s->rows, sizeof *p->kept, "rows of a segment");
        p->room = p->kept ? s->rows : 0;
        if (!p->kept) return RECO_E_NOMEM;
    }
    *n = 0;
    for (size_t i = 0; i < s->rows; i++) {
        bool gone = reco_bank_is_deleted(p->bank, s->base + i);
        if (!gone) RECO_TRY(is_dropped(ctx, p, p->number++, &gone));
        p->kept[i] = !gone;
        *n += !gone;
    }
    return RECO_OK;
}

/* ---- a file as it is ---- */

static bool is_link_of(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && lstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* Bytes are checked on the way: what is damaged must not come to lie in two places. */
static reco_status copy_checked(reco_ctx *ctx, const char *from, const char *to, const char *xxh3)
{
    reco_map map;
    reco_file *file = NULL;
    reco_hash *hash = NULL;
    reco_status status;
    char hex[33];
    RECO_TRY(reco_map_open(ctx, &map, from));
    RECO_GO(reco_hash_new(ctx, &hash));
    RECO_GO(reco_file_begin(ctx, &file, to));
    for (size_t at = 0, n; at < map.bytes; at += n) {
        n = reco_min(PIECE, map.bytes - at);
        reco_hash_update(hash, map.data + at, n);
        RECO_GO(reco_file_write(ctx, file, map.data + at, n));
        RECO_GO(reco_progress(ctx, "copying vectors", at + n, map.bytes));
    }
    reco_hash_hex(hash, hex);
    hash = NULL;
    if (xxh3 && strcmp(hex, xxh3) != 0)
        RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s: is damaged: its checksum differs", from));
    reco_file *whole = file;
    file = NULL;
    status = reco_file_commit(ctx, whole);
out:
    reco_file_abort(file);
    reco_free(hash);
    reco_map_close(&map);
    return status;
}

/* A link where the file system has one, else a copy. What an earlier run has put there is kept. */
static reco_status link_or_copy(reco_ctx *ctx, const char *from, const char *to, const char *xxh3,
                                bool *linked)
{
    struct stat info, there;
    char hex[33];
    *linked = true;
    if (linkat(AT_FDCWD, from, AT_FDCWD, to, AT_SYMLINK_FOLLOW) == 0) return RECO_OK;
    if (errno == EEXIST) {
        if (is_link_of(from, to)) return RECO_OK;
        *linked = false;
        if (xxh3 && stat(from, &info) == 0 && lstat(to, &there) == 0 && S_ISREG(there.st_mode) &&
            info.st_size == there.st_size && reco_hash_file(ctx, to, hex) == RECO_OK &&
            strcmp(hex, xxh3) == 0)
            return RECO_OK;
        if (unlink(to) != 0) return reco_fail_errno(ctx, RECO_E_IO, "%s", to);
        *linked = true;
        if (linkat(AT_FDCWD, from, AT_FDCWD, to, AT_SYMLINK_FOLLOW) == 0) return RECO_OK;
    }
    *linked = false;
    if (errno == ENOENT || errno == ENOSPC || errno == EIO)
        return reco_fail_errno(ctx, RECO_E_IO, "%s: can't be linked as %s", from, to);
    return copy_checked(ctx, from, to,
                        xxh3); /* another file system, one without links, somebody else's file */
}

static reco_status take_sums(reco_ctx *ctx, const placing *p, const reco_segment_entry *from,
                             const reco_segment_entry *to)
{
    uint64_t *sums;
    size_t n;
    RECO_TRY(reco_catalog_blocks(ctx, p->bank->catalog, from->number, RECO_SEGMENT_BLOCK, &sums, &n));
    reco_status status =
        n ? reco_catalog_stage_blocks(ctx, p->m->catalog, to->number, RECO_SEGMENT_BLOCK, sums, n)
          : RECO_OK;
    reco_free(sums);
    return status;
}

/* The codes of a segment go with it; without them it is searched all the same. */
static void take_scan(reco_ctx *ctx, const placing *p, const reco_segment *s,
                      const reco_segment_entry *from, const reco_segment_entry *to)
{
    bool linked;
    char *a = reco_scan_path(ctx, p->dir, from->number), *b = reco_scan_path(ctx, p->m->out, to->number);
    if (a && b && !is_link_of(a, b)) unlink(b);
    if (a && b && s->scan_file) {
        if (link_or_copy(ctx, a, b, NULL, &linked) == RECO_OK)
            p->m->scanned++;
        else
            reco_log(ctx, RECO_LOG_WARN, "%s; the scan file is created again", reco_ctx_error(ctx));
    }
    reco_free(a);
    reco_free(b);
}

static reco_status take_file(reco_ctx *ctx, placing *p, const reco_segment *s,
                             const reco_segment_entry *from, reco_segment_entry *to)
{
    bool linked;
    int64_t number = to->number, first = to->first;
    *to = *from;
    to->number = number;
    to->first = first;
    snprintf(to->file, sizeof to->file, RECO_SEGMENT_NAME, (long long)number);
    char *a = reco_format(ctx, "%s/vectors/%s", p->dir, from->file),
         *b = reco_format(ctx, "%s/vectors/%s", p->m->out, to->file);
    reco_status status = a && b ? link_or_copy(ctx, a, b, from->xxh3, &linked) : RECO_E_NOMEM;
    reco_free(a);
    reco_free(b);
    RECO_TRY(status);
    if (linked)
        p->m->result.linked++;
    else
        p->m->result.copied++;
    take_scan(ctx, p, s, from, to);
    return take_sums(ctx, p, from, to);
}

/* ---- a file without the rows that are gone ---- */

static reco_status write_kept(reco_ctx *ctx, const placing *p, const reco_segment *s,
                              reco_segment_file *file, reco_side side)
{
    const size_t d = p->bank->info.d;
    for (size_t i = 0, end; i < s->rows; i = end) {
        for (end = i; end < s->rows && p->kept[end] == p->kept[i]; end++) continue;
        if (p->kept[i])
            RECO_TRY(reco_segment_put(ctx, file, s->vectors[side] + i * d,
                                      (end - i) * d * sizeof *s->vectors[side]));
    }
    return RECO_OK;
}

static reco_status rewrite_segment(reco_ctx *ctx, placing *p, const reco_segment *s,
                                   const reco_segment_entry *from, reco_segment_entry *to, size_t n)
{
    reco_segment_file *file;
    reco_status status;
    RECO_TRY(reco_segment_check_sum(ctx, s, from));
    RECO_TRY(reco_segment_begin(ctx, &file, to, p->m->out, n, p->bank->info.d, false));
    for (reco_side side = 0; side < 2; side++) RECO_GO(write_kept(ctx, p, s, file, side));
    p->m->result.rewritten++;
    return reco_segment_commit(ctx, file, p->m->catalog, to);
out:
    reco_segment_abort(file);
    return status;
}

/* ---- all of them ---- */

static reco_status take_segment(reco_ctx *ctx, placing *p, size_t i)
{
    const reco_segment *s = &p->bank->segments[i];
    size_t n;
    RECO_TRY(choose_rows(ctx, p, s, &n));
    if (n == 0) return RECO_OK;
    reco_segment_entry *to = reco_segment_push(ctx, p->files);
    if (!to) return RECO_E_NOMEM;
    to->number = (int64_t)p->files->n - 1;
    to->first = p->next_id;
    p->next_id += (int64_t)n;
    /* Ids that a file names itself are the old bank's. */
    RECO_TRY(n == s->rows && !s->ids ? take_file(ctx, p, s, &p->bank->entries[i], to)
                                     : rewrite_segment(ctx, p, s, &p->bank->entries[i], to, n));
    p->m->result.bytes += (uint64_t)to->bytes;
    return reco_progress(ctx, "merging vectors", (uint64_t)p->next_id, (uint64_t)p->m->result.rows);
}

static reco_status take_bank(reco_ctx *ctx, placing *p, size_t bank)
{
    reco_bank *opened;
    reco_status status = RECO_OK;
    RECO_TRY(reco_merge_open_bank(ctx, p->m, bank, &opened));
    p->bank = opened;
    p->dir = p->m->banks[bank];
    for (size_t i = 0; i < opened->nsegments && status == RECO_OK; i++) status = take_segment(ctx, p, i);
    reco_bank_close(opened);
    return status;
}

reco_status reco_merge_vectors(reco_ctx *ctx, reco_merge *m, reco_segment_list *files)
{
    placing p = {.m = m, .files = files};
    reco_status status = RECO_OK;
    char *vectors = reco_path_join(ctx, m->out, "vectors");
    if (!vectors) RECO_GO(RECO_E_NOMEM);
    for (size_t i = 0; i < m->n; i++) RECO_GO(take_bank(ctx, &p, i));
    if (p.next_id != m->result.rows)
        RECO_GO(reco_fail(ctx, RECO_E_INTERNAL, "%s: %lld vectors, want %lld", m->out, (long long)p.next_id,
                          (long long)m->result.rows));
    RECO_GO(reco_segment_sweep(ctx, m->catalog, m->out, files)); /* of another merge that was cut off */
    status = reco_sync_dir(ctx, vectors);
out:
    reco_free(p.kept);
    reco_free(vectors);
    return status;
}
