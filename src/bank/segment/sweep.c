#include "bank/segment/lists.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* Temporary files of io/ are ".NAME.tmp-..." */
static bool is_ours(const char *name)
{
    static const char directions[] = "." RECO_DIRECTIONS_FILE ".tmp-";
    return strncmp(name + (*name == '.'), "segment-", 8) == 0 ||
           strncmp(name, directions, strlen(directions)) == 0 ||
           strncmp(name, "." RECO_LISTS_NAME, sizeof RECO_LISTS_NAME) == 0;
}

static int by_file(const void *a, const void *b)
{
    const reco_segment_entry *const *x = a, *const *y = b;
    return strcmp((*x)->file, (*y)->file);
}

/* Segments are listed in order of id, which after a compaction is not that of names. */
static const reco_segment_entry **sort_by_file(reco_ctx *ctx, const reco_segment_list *list)
{
    const reco_segment_entry **sorted = reco_alloc(ctx, list->n, sizeof *sorted, "list of segments");
    for (size_t i = 0; sorted && i < list->n; i++) sorted[i] = &list->items[i];
    if (sorted && list->n) qsort(sorted, list->n, sizeof *sorted, by_file);
    return sorted;
}

/* A scan file goes with its segment. */
static bool is_named(const char *name, const reco_segment_entry *const *sorted, size_t n)
{
    reco_segment_entry wanted;
    const reco_segment_entry *key = &wanted;
    size_t bytes = strlen(name);
    const char *ending = bytes > strlen(RECO_SCAN_ENDING) ? name + bytes - strlen(RECO_SCAN_ENDING) : name;
    bool is_scan = strcmp(ending, RECO_SCAN_ENDING) == 0;
    if (is_scan) bytes = (size_t)(ending - name);
    if (bytes + (is_scan ? sizeof ".safetensors" : 1) > sizeof wanted.file) return false;
    memcpy(wanted.file, name, bytes);
    strcpy(wanted.file + bytes, is_scan ? ".safetensors" : "");
    return n && bsearch(&key, sorted, n, sizeof *sorted, by_file);
}

/* Count what is not named, and with a catalog remove it. */
static reco_status sweep(reco_ctx *ctx, reco_catalog *c, const char *dir, const reco_segment_list *named,
                         size_t *found)
{
    *found = 0;
    char *vectors = reco_format(ctx, "%s/vectors/", dir);
    if (!vectors) return RECO_E_NOMEM;
    reco_status status = RECO_OK;
    bool settled = false;
    const struct dirent *entry;
    DIR *stream = opendir(vectors);
    const reco_segment_entry **sorted = sort_by_file(ctx, named);
    if (!sorted) RECO_GO(RECO_E_NOMEM);
    if (!stream) RECO_GO(reco_fail_errno(ctx, RECO_E_IO, "%s", vectors));
    while ((errno = 0, entry = readdir(stream))) {
        if (!is_ours(entry->d_name) || is_named(entry->d_name, sorted, named->n)) continue;
        ++*found;
        if (!c) continue;
        if (!settled) RECO_GO(reco_catalog_settle(ctx, c));
        settled = true;
        if (unlinkat(dirfd(stream), entry->d_name, 0) != 0 && errno != ENOENT)
            RECO_GO(reco_fail_errno(ctx, RECO_E_IO, "%s%s: can't remove what an interrupted run left",
                                    vectors, entry->d_name));
    }
    if (errno) RECO_GO(reco_fail_errno(ctx, RECO_E_IO, "%s", vectors));
out:
    if (stream) closedir(stream);
    reco_free(sorted);
    reco_free(vectors);
    return status;
}

reco_status reco_segment_sweep(reco_ctx *ctx, reco_catalog *c, const char *dir,
                               const reco_segment_list *named)
{
    size_t found;
    return sweep(ctx, c, dir, named, &found);
}

reco_status reco_segment_orphans(reco_ctx *ctx, const char *dir, const reco_segment_list *named,
                                 size_t *found)
{
    return sweep(ctx, NULL, dir, named, found);
}
