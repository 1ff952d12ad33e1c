#include "bank/bank_internal.h"
#include "bank/write/writer.h"

typedef struct compaction {
    reco_bank_writer *w;
    reco_bank *bank;         /* the bank as it is, under the writer's lock */
    reco_segment_list named; /* its segments, [bank->nsegments] */
    reco_segment_list old;   /* those that will go */
    size_t most;             /* rows of a new segment */
    size_t *live;            /* [bank->nsegments] rows not deleted */
    uint64_t done, total;    /* rows to be copied, for progress */
    const char *dir;
} compaction;

static size_t count_live(const reco_bank *bank, const reco_segment *s)
{
    size_t live = s->rows;
    for (size_t p = s->base; p < s->base + s->rows; p++) live -= reco_bank_is_deleted(bank, p);
    return live;
}

/* Is it as good as a new one? Half-full ones count, so that a bank which grows and is compacted again and again
 * copies each row a few times and not every time. */
static bool is_whole(const compaction *c, size_t i)
{
    size_t rows = c->bank->segments[i].rows;
    return c->live[i] == rows && 2 * rows >= c->most;
}

/* Calls for each stretch of up to n live rows that lie side by side from position p on, and returns where the next
 * would begin. */
static size_t stretch(const compaction *c, size_t p, size_t n, size_t *begin, size_t *rows, size_t *segment)
{
    const reco_bank *bank = c->bank;
    while (reco_bank_is_deleted(bank, p)) p++;
    *begin = p;
    *segment = reco_bank_segment_at(bank, p);
    size_t end = bank->segments[*segment].base + bank->segments[*segment].rows;
    while (p < end && p - *begin < n && !reco_bank_is_deleted(bank, p)) p++;
    *rows = p - *begin;
    return p;
}

static reco_status copy_vectors(reco_ctx *ctx, const compaction *c, reco_segment_file *file, reco_side side,
                                size_t from, size_t rows)
{
    size_t d = c->bank->info.d, begin, n, segment;
    for (size_t p = from; rows; rows -= n) {
        p = stretch(c, p, rows, &begin, &n, &segment);
        const uint16_t *data = reco_bank_row(c->bank, side, begin, &segment);
        RECO_TRY(reco_segment_put(ctx, file, data, n * d * sizeof *data));
        RECO_TRY(reco_progress(ctx, "compacting", c->done, c->total));
    }
    return RECO_OK;
}

static reco_status copy_ids(reco_ctx *ctx, const compaction *c, reco_segment_file *file, size_t from,
                            size_t rows)
{
    for (size_t p = from; rows; p++) {
        if (reco_bank_is_deleted(c->bank, p)) continue;
        int64_t id = reco_bank_id_at(c->bank, p);
        RECO_TRY(reco_segment_put(ctx, file, &id, sizeof id));
        rows--;
    }
    return RECO_OK;
}

/* One new segment of the next `rows` live rows from *position on. */
static reco_status write_segment(reco_ctx *ctx, compaction *c, size_t *position, size_t rows)
{
    reco_bank_writer *w = c->w;
    size_t first = *position, last;
    while (reco_bank_is_deleted(c->bank, first)) first++;
    size_t end = first;
    for (size_t n = 0; n < rows; end++) n += !reco_bank_is_deleted(c->bank, end);
    last = end - 1;
    int64_t id = reco_bank_id_at(c->bank, first);
    bool holes = reco_bank_id_at(c->bank, last) - id != (int64_t)rows - 1;

    reco_segment_entry *entry = reco_segment_push(ctx, &w->files);
    if (!entry) return RECO_E_NOMEM;
    entry->number = w->next_segment++;
    entry->first = id;
    reco_segment_file *file;
    reco_status status;
    RECO_TRY(reco_segment_begin(ctx, &file, entry, c->dir, rows, w->d, holes));
    RECO_GO(copy_vectors(ctx, c, file, RECO_IMAGE, first, rows));
    RECO_GO(copy_vectors(ctx, c, file, RECO_TEXT, first, rows));
    if (holes) RECO_GO(copy_ids(ctx, c, file, first, rows));
    RECO_TRY(reco_segment_commit(ctx, file, w->catalog, entry));
    *position = end;
    c->done += rows;
    return RECO_OK;
out:
    reco_segment_abort(file);
    return status;
}

/* Segments [begin, end) become new ones, of nearly equal sizes. */
static reco_status rewrite(reco_ctx *ctx, compaction *c, size_t begin, size_t end)
{
    size_t rows = 0, position = c->bank->segments[begin].base;
    for (size_t i = begin; i < end; i++) {
        reco_segment_entry *entry = reco_segment_push(ctx, &c->old);
        if (!entry) return RECO_E_NOMEM;
        *entry = c->named.items[i];
        RECO_TRY(reco_segment_check_sum(ctx, &c->bank->segments[i], &c->named.items[i]));
        rows += c->live[i];
    }
    for (size_t files = (rows + c->most - 1) / c->most; files; files--) {
        size_t n = (rows + files - 1) / files;
        RECO_TRY(write_segment(ctx, c, &position, n));
        rows -= n;
    }
    return RECO_OK;
}

/* The segments from i on that are rewritten together end before *end; false: they are good as they are. */
static bool plan(const compaction *c, size_t i, size_t *end)
{
    *end = i + 1;
    if (is_whole(c, i)) return false;
    while (*end < c->bank->nsegments && !is_whole(c, *end)) (*end)++;
    return *end > i + 1 || c->live[i] < c->bank->segments[i].rows;
}

static reco_status rewrite_all(reco_ctx *ctx, compaction *c)
{
    size_t end;
    for (size_t i = 0; i < c->bank->nsegments; i++) c->live[i] = count_live(c->bank, &c->bank->segments[i]);
    for (size_t i = 0; i < c->bank->nsegments; i = end)
        for (bool go = plan(c, i, &end); go && i < end; i++) c->total += c->live[i];
    for (size_t i = 0; i < c->bank->nsegments; i = end)
        if (plan(c, i, &end)) RECO_TRY(rewrite(ctx, c, i, end));
    return RECO_OK;
}

static reco_status prepare(reco_ctx *ctx, compaction *c, const char *path, const reco_compact_opts *opts)
{
    uint64_t next;
    int done;
    RECO_TRY(reco_bank_writer_open(ctx, &c->w, path, NULL, "", &next, &done));
    RECO_TRY(reco_bank_open(ctx, &c->bank, path));
    RECO_TRY(reco_catalog_segments(ctx, c->bank->catalog, &c->named));
    c->live = reco_alloc(ctx, c->named.n, sizeof *c->live, "segments");
    c->most = opts && opts->rows ? opts->rows : reco_segment_most(c->w->d);
    return c->live ? RECO_OK : RECO_E_NOMEM;
}

static reco_status commit(reco_ctx *ctx, compaction *c)
{
    reco_bank_writer *w = c->w;
    reco_status status =
        reco_catalog_replace(ctx, w->catalog, &c->old, &w->files, w->next_segment, c->bank->info.deleted);
    /* A failed commit may still lie whole in the log, and come true when the log is read again. */
    w->commit_failed = status != RECO_OK;
    if (status == RECO_OK) w->files.n = 0;
    return status;
}

/* The old files are of no use any more to anyone who opens the bank; who has them mapped keeps them. What can't be
 * removed now, the next writer removes. */
static void remove_old(reco_ctx *ctx, compaction *c)
{
    reco_segment_list named;
    reco_status status = reco_catalog_segments(ctx, c->w->catalog, &named);
    if (status == RECO_OK) status = reco_segment_sweep(ctx, c->w->catalog, c->dir, &named);
    if (status != RECO_OK) reco_log(ctx, RECO_LOG_WARN, "%s", reco_ctx_error(ctx));
    reco_free(named.items);
}

static void describe(const compaction *c, reco_compact_result *result)
{
    const reco_bank_info *info = &c->bank->info;
    *result = (reco_compact_result){
        .rows = info->rows,
        .removed = info->deleted,
        .copied = (int64_t)c->done,
        .segments_before = info->segments,
        .segments = info->segments - c->old.n + c->w->files.n,
        .bytes_before = info->vector_bytes,
        .bytes = info->vector_bytes,
    };
    for (size_t i = 0; i < c->old.n; i++) result->bytes -= (uint64_t)c->old.items[i].bytes;
    for (size_t i = 0; i < c->w->files.n; i++) result->bytes += (uint64_t)c->w->files.items[i].bytes;
}

reco_status reco_bank_compact(reco_ctx *ctx, const char *path, const reco_compact_opts *opts,
                              reco_compact_result *result)
{
    compaction c = {.dir = path};
    reco_compact_result r;
    reco_status status;
    RECO_GO(reco_reserved(ctx, "compact", opts ? opts->reserved : NULL));
    RECO_GO(
        reco_bank_check_folder(ctx, path, "a server compacts its tables by itself, or with VACUUM FULL"));
    RECO_GO(prepare(ctx, &c, path, opts));
    RECO_GO(rewrite_all(ctx, &c));
    describe(&c, &r);
    if (c.old.n) {
        RECO_GO(commit(ctx, &c));
        bool has_scan = c.bank->info.scan_rows > 0;
        size_t made = 0;
        reco_bank_close(c.bank); /* else the log can't be emptied */
        c.bank = NULL;
        remove_old(ctx, &c);
        if (has_scan && reco_bank_index_all(ctx, c.w, &made) != RECO_OK)
            reco_log(ctx, RECO_LOG_WARN, "%s; the bank lacks scan files", reco_ctx_error(ctx));
    }
    /* The deleted are gone already; this is only about space. */
    if (reco_catalog_shrink(ctx, c.w->catalog) != RECO_OK)
        reco_log(ctx, RECO_LOG_WARN, "%s; the database keeps its size", reco_ctx_error(ctx));
    RECO_GO(reco_progress(ctx, "compacting", c.total, c.total));
    if (result) *result = r;
out:
    reco_bank_close(c.bank);
    reco_bank_writer_close(c.w);
    reco_free(c.named.items);
    reco_free(c.old.items);
    reco_free(c.live);
    return status;
}
