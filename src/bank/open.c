#include "bank/bank_internal.h"

#include <stdlib.h>

#define MAX_ATTEMPTS 100

static const reco_bank_ops folder_ops; /* at the end */

/* *broken: the entry that could not be opened. */
static reco_status open_segments(reco_ctx *ctx, reco_bank *bank, const char *dir,
                                 const reco_segment_list *list, int64_t *broken)
{
    bank->segments = reco_alloc(ctx, list->n, sizeof *bank->segments, "segments");
    if (!bank->segments) return RECO_E_NOMEM;
    reco_status opened = reco_directions_open(ctx, &bank->directions, dir, bank->info.d);
    if (opened == RECO_E_NOMEM) return opened;
    if (opened != RECO_OK) reco_log(ctx, RECO_LOG_WARN, "%s; searching without it", reco_ctx_error(ctx));
    for (size_t i = 0; i < list->n; i++) {
        const reco_segment_entry *entry = &list->items[i];
        reco_segment *s = &bank->segments[i];
        *broken = entry->number;
        RECO_TRY(reco_segment_open(ctx, s, dir, entry, bank->info.d));
        *broken = -1;
        bool has_scan;
        s->base = bank->positions;
        reco_scan_close(s); /* its sources know the base */
        reco_status status = reco_scan_open(ctx, s, dir, entry, bank->info.d, &bank->directions, &has_scan);
        if (status == RECO_E_NOMEM) return status;
        if (status != RECO_OK) /* all it does is save time */
            reco_log(ctx, RECO_LOG_WARN, "%s; searching without it", reco_ctx_error(ctx));
        if (s->scan_file) bank->info.scan_rows += entry->rows;
        bank->nsegments++;
        int64_t last = reco_segment_id(s, s->rows - 1),
                bound = i + 1 < list->n ? entry[1].first : bank->info.next_id;
        if (last >= bound)
            return reco_fail(ctx, RECO_E_FORMAT, "%s: %s ends with id %lld, want less than %lld", dir,
                             entry->file, (long long)last, (long long)bound);
        bank->positions += s->rows; /* all are mapped, so their sum fits */
        bank->info.vector_bytes += (uint64_t)entry->bytes;
    }
    bank->info.segments = list->n;
    return RECO_OK;
}

static reco_status mark_deleted(reco_ctx *ctx, void *arg, int64_t id)
{
    reco_bank *bank = arg;
    size_t position;
    if (!reco_bank_find(bank, id, &position))
        return reco_fail(ctx, RECO_E_FORMAT, "deleted pair %lld has no vectors", (long long)id);
    bank->deleted[position / 64] |= (uint64_t)1 << position % 64;
    return RECO_OK;
}

/* One bit a row, when anything is deleted: all the memory here that grows with the bank. */
static reco_status read_deleted(reco_ctx *ctx, reco_bank *bank)
{
    int64_t n = bank->info.deleted;
    if ((uint64_t)n > bank->positions)
        return reco_fail(ctx, RECO_E_FORMAT, "bank.deleted = %lld, want at most %zu", (long long)n,
                         bank->positions);
    bank->info.rows = (int64_t)bank->positions - n;
    if (n == 0) return RECO_OK;
    bank->deleted = reco_alloc(ctx, bank->positions / 64 + 1, sizeof *bank->deleted, "deleted rows");
    if (!bank->deleted) return RECO_E_NOMEM;
    RECO_TRY(reco_catalog_deleted(ctx, bank->catalog, n, mark_deleted, bank));
    int64_t marked = 0;
    for (size_t i = 0; i < bank->positions / 64 + 1; i++) marked += __builtin_popcountll(bank->deleted[i]);
    if (marked != n)
        return reco_fail(ctx, RECO_E_FORMAT, "%lld pairs are deleted, want bank.deleted = %lld",
                         (long long)marked, (long long)n);
    return RECO_OK;
}

/* Do captions and vectors go together? Counting pairs would read them all, so the ends must do. */
static reco_status check_ends(reco_ctx *ctx, const reco_bank *bank)
{
    bool some;
    int64_t least = 0, greatest = 0;
    RECO_TRY(reco_catalog_range(ctx, bank->catalog, &some, &least, &greatest));
    if (some != (bank->positions > 0))
        return reco_fail(ctx, RECO_E_FORMAT,
                         some ? "has pairs but no vectors" : "has vectors but no pairs");
    if (!some) return RECO_OK;
    int64_t first = reco_bank_id_at(bank, 0), last = reco_bank_id_at(bank, bank->positions - 1);
    if (least != first || greatest != last)
        return reco_fail(ctx, RECO_E_FORMAT, "pairs %lld..%lld but vectors %lld..%lld", (long long)least,
                         (long long)greatest, (long long)first, (long long)last);
    return RECO_OK;
}

/* As a scan file, all they do is save time. */
static reco_status open_lists(reco_ctx *ctx, reco_bank *bank)
{
    reco_bank_info *info = &bank->info;
    reco_status status = reco_lists_open(ctx, &bank->lists, bank->path, bank->entries, bank->segments,
                                         bank->nsegments, info->d, bank->deleted);
    if (status == RECO_E_NOMEM) return status;
    if (status != RECO_OK) reco_log(ctx, RECO_LOG_WARN, "%s; searching without it", reco_ctx_error(ctx));
    if (!bank->lists) return RECO_OK;
    info->list_rows = (int64_t)bank->lists->found;
    info->list_recall = bank->lists->recall;
    for (int side = 0; side < 2; side++) info->list_cells[side] = bank->lists->side[side].ncells;
    return RECO_OK;
}

static reco_status open_once(reco_ctx *ctx, reco_bank **out, const char *path, int64_t *broken)
{
    *out = NULL;
    *broken = -1;
    reco_bank *bank = reco_alloc(ctx, 1, sizeof *bank, "bank");
    if (!bank) return RECO_E_NOMEM;
    bank->ops = &folder_ops;
    reco_segment_list list = {0};
    int64_t next_segment;
    reco_status status;
    status = RECO_E_NOMEM;
    if (!(bank->path = reco_path_absolute(ctx, path))) goto out;
    RECO_GO(reco_catalog_open(ctx, &bank->catalog, bank->path, false));
    RECO_GO(reco_catalog_info(ctx, bank->catalog, &bank->info, &next_segment));
    RECO_GO(reco_catalog_segments(ctx, bank->catalog, &list));
    RECO_GO(open_segments(ctx, bank, path, &list, broken));
    bank->entries = list.items;
    list.items = NULL;
    bank->info.database_bytes = reco_catalog_bytes(bank->catalog);
    status = read_deleted(ctx, bank);
    if (status == RECO_OK) status = check_ends(ctx, bank);
    if (status != RECO_OK) RECO_GO(reco_fail_prefix(ctx, status, path));
    RECO_GO(open_lists(ctx, bank));
    *out = bank;
    bank = NULL;
out:
    reco_free(list.items);
    reco_bank_close(bank);
    return status;
}

/* Between the moment of its snapshot and that of mapping a file, a compaction may have removed the file. The bank
 * of now is then another one, and opens. */
reco_status reco_folder_open(reco_ctx *ctx, reco_bank **out, const char *path)
{
    int64_t broken, before = -1;
    reco_status status = open_once(ctx, out, path, &broken);
    for (int i = 0; i < MAX_ATTEMPTS && status != RECO_OK && broken != before; i++) {
        before = broken;
        status = open_once(ctx, out, path, &broken);
    }
    return status;
}

static reco_status refresh(reco_ctx *ctx, const reco_bank *bank, reco_bank **out)
{
    bool changed;
    RECO_TRY(reco_catalog_changed(ctx, bank->catalog, &changed));
    return changed ? reco_folder_open(ctx, out, bank->path) : RECO_OK;
}

static void close_folder(reco_bank *bank)
{
    for (size_t i = 0; i < bank->nsegments; i++) reco_segment_close(&bank->segments[i]);
    reco_lists_close(bank->lists);
    reco_directions_close(&bank->directions);
    reco_free(bank->segments);
    reco_free(bank->entries);
    reco_free(bank->deleted);
    reco_catalog_close(bank->catalog);
    reco_free(bank->path);
    reco_free(bank);
}

static const reco_segment_info *get_segment(const reco_bank *bank, size_t i)
{
    return i < bank->nsegments ? &bank->entries[i] : NULL;
}

static reco_status get_pair(reco_ctx *ctx, const reco_bank *bank, int64_t id, bool deleted, reco_pair *out)
{
    return reco_catalog_pair(ctx, bank->catalog, id, deleted, out);
}

static const reco_bank_ops folder_ops = {
    .close = close_folder,
    .refresh = refresh,
    .get_segment = get_segment,
    .filter_ids = reco_folder_filter_ids,
    .filter_where = reco_folder_filter_where,
    .search = reco_folder_search,
    .within = reco_folder_within,
    .expected = reco_folder_expected,
    .table = reco_folder_table,
    .gather = reco_folder_gather,
    .select = reco_folder_select,
    .get = get_pair,
};
