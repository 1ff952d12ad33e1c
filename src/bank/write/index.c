#include "bank/bank_internal.h"
#include "bank/write/writer.h"

#include <errno.h>
#include <unistd.h>

typedef struct indexing {
    const char *dir;
    size_t d;
    reco_segment_list list;
    reco_directions directions;
} indexing;

/* Is there a good scan file for this segment? If not, and when asked, make it. */
static reco_status look(reco_ctx *ctx, const indexing *x, const reco_segment_entry *entry, bool make,
                        bool *has, size_t *made)
{
    reco_segment s;
    bool is_there;
    RECO_TRY(reco_segment_open(ctx, &s, x->dir, entry, x->d));
    reco_status status = reco_scan_open(ctx, &s, x->dir, entry, x->d, &x->directions, &is_there);
    *has = status == RECO_OK && is_there && reco_scan_is_whole(&s, &x->directions);
    if (status != RECO_E_NOMEM) status = RECO_OK; /* a bad one is made anew */
    if (status == RECO_OK && !*has && make) {
        status = reco_scan_write(ctx, &s, x->dir, entry, x->d, &x->directions);
        *made += status == RECO_OK;
    }
    reco_segment_close(&s);
    return status;
}

/* The bank's, made of all its rows where it has none and make is true. What fails leaves it without. */
static void find_directions(reco_ctx *ctx, indexing *x, bool make)
{
    reco_segment *all = make ? reco_alloc(ctx, x->list.n, sizeof *all, "segments") : NULL;
    size_t n = 0;
    if (!make) (void)reco_directions_open(ctx, &x->directions, x->dir, x->d);
    if (!all) return;
    while (n < x->list.n && reco_segment_open(ctx, &all[n], x->dir, &x->list.items[n], x->d) == RECO_OK)
        n++;
    if (n == x->list.n && reco_segments_directions(ctx, &x->directions, x->dir, all, n, x->d) != RECO_OK)
        reco_log(ctx, RECO_LOG_WARN, "%s; searches use all dimensions", reco_ctx_error(ctx));
    while (n > 0) reco_segment_close(&all[--n]);
    reco_free(all);
}

static reco_status make_all(reco_ctx *ctx, const indexing *x, size_t *made)
{
    bool has;
    for (size_t i = 0; i < x->list.n; i++) {
        RECO_TRY(look(ctx, x, &x->list.items[i], true, &has, made));
        RECO_TRY(reco_progress(ctx, "indexing", i + 1, x->list.n));
    }
    return RECO_OK;
}

static reco_status remove_all(reco_ctx *ctx, const indexing *x, size_t *removed)
{
    for (size_t i = 0; i < x->list.n; i++) {
        char *path = reco_scan_path(ctx, x->dir, x->list.items[i].number);
        if (!path) return RECO_E_NOMEM;
        int rc = unlink(path);
        reco_status status =
            rc != 0 && errno != ENOENT ? reco_fail_errno(ctx, RECO_E_IO, "%s", path) : RECO_OK;
        reco_free(path);
        RECO_TRY(status);
        *removed += rc == 0;
    }
    char *path = reco_format(ctx, "%s/vectors/" RECO_DIRECTIONS_FILE, x->dir);
    if (!path) return RECO_E_NOMEM;
    int rc = unlink(path);
    reco_status status = rc != 0 && errno != ENOENT ? reco_fail_errno(ctx, RECO_E_IO, "%s", path) : RECO_OK;
    reco_free(path);
    return status;
}

/* The writer's lock keeps everyone else from changing what is found here. */
bool reco_bank_wants_scan(reco_ctx *ctx, reco_bank_writer *w, int64_t before)
{
    indexing x = {.dir = w->dir, .d = w->d};
    if (w->next_id < RECO_SCAN_DEFAULT_ROWS) return false; /* so is the number of rows */
    if (before < RECO_SCAN_DEFAULT_ROWS)
        return true; /* the bank becomes large just now, or is being built */
    if (w->scans) return w->scans > 0;
    size_t made = 0;
    bool has = false; /* not when they were taken away by `bank index --scan none` */
    if (reco_catalog_segments(ctx, w->catalog, &x.list) != RECO_OK) return false;
    if (x.list.n && look(ctx, &x, &x.list.items[0], false, &has, &made) != RECO_OK) has = false;
    reco_free(x.list.items);
    w->scans = has ? 1 : -1;
    return has;
}

reco_status reco_bank_index_new(reco_ctx *ctx, reco_bank_writer *w, int64_t before)
{
    indexing x = {.dir = w->dir, .d = w->d};
    if (!reco_bank_wants_scan(ctx, w, before)) return RECO_OK;
    RECO_TRY(reco_catalog_segments(ctx, w->catalog, &x.list));
    int64_t rows = 0;
    size_t made = 0;
    reco_status status = RECO_OK;
    for (size_t i = 0; i < x.list.n; i++) rows += x.list.items[i].rows;
    find_directions(ctx, &x, before < RECO_SCAN_DEFAULT_ROWS);
    for (size_t i = x.list.n; i > 0 && rows >= RECO_SCAN_DEFAULT_ROWS; i--) {
        bool has;
        RECO_GO(look(ctx, &x, &x.list.items[i - 1], true, &has, &made));
        if (has && before >= RECO_SCAN_DEFAULT_ROWS && x.list.items[i - 1].first < before) break;
    }
out:
    reco_directions_close(&x.directions);
    reco_free(x.list.items);
    return status;
}

reco_status reco_bank_index_missing(reco_ctx *ctx, const reco_bank_writer *w, size_t *made)
{
    indexing x = {.dir = w->dir, .d = w->d};
    RECO_TRY(reco_catalog_segments(ctx, w->catalog, &x.list));
    reco_status status = make_all(ctx, &x, made);
    reco_free(x.list.items);
    return status;
}

reco_status reco_bank_index_all(reco_ctx *ctx, const reco_bank_writer *w, size_t *made)
{
    indexing x = {.dir = w->dir, .d = w->d};
    RECO_TRY(reco_catalog_segments(ctx, w->catalog, &x.list));
    find_directions(ctx, &x, true);
    reco_status status = make_all(ctx, &x, made);
    reco_directions_close(&x.directions);
    reco_free(x.list.items);
    return status;
}

static reco_status index_none(reco_ctx *ctx, const reco_bank_writer *w, size_t *removed)
{
    indexing x = {.dir = w->dir, .d = w->d};
    RECO_TRY(reco_catalog_segments(ctx, w->catalog, &x.list));
    reco_status status = remove_all(ctx, &x, removed);
    reco_free(x.list.items);
    return status;
}

reco_status reco_bank_index(reco_ctx *ctx, const char *path, reco_scan_kind kind, size_t *files)
{
    uint64_t next;
    int done;
    size_t changed = 0;
    reco_bank_writer *w;
    if (kind != RECO_SCAN_NONE && kind != RECO_SCAN_INT8)
        return reco_fail(ctx, RECO_E_ARG, "bank: scan = %d, want 0 (none) or 1 (int8)", (int)kind);
    RECO_TRY(reco_bank_check_folder(
        ctx, path, "a server makes its own indexes: run CREATE INDEX ... USING hnsw (docs/postgres.md)"));
    RECO_TRY(reco_bank_writer_open(ctx, &w, path, NULL, "", &next, &done));
    reco_status status =
        kind == RECO_SCAN_INT8 ? reco_bank_index_all(ctx, w, &changed) : index_none(ctx, w, &changed);
    reco_bank_writer_close(w);
    if (status == RECO_OK && files) *files = changed;
    return status;
}
