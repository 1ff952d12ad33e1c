#include "bank/bank_internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* "DIR/vectors/NAME" */
static char *path_of(reco_ctx *ctx, const char *dir, const char *name)
{
    return reco_format(ctx, "%s/vectors/%s", dir, name);
}

/* ---- reading ---- */

static reco_status need_vectors(reco_ctx *ctx, reco_segment *s, reco_side side, size_t d)
{
    static const char *const names[] = {[RECO_IMAGE] = "image", [RECO_TEXT] = "text"};
    const size_t shape[] = {s->rows, d};
    const reco_tensor *t;
    reco_status status = reco_safetensors_need(ctx, s->file, &t, names[side], 2, shape);
    if (status != RECO_OK) return status == RECO_E_NOTFOUND ? RECO_E_FORMAT : status;
    if (t->dtype_name || t->dtype != RECO_DTYPE_F16 || (uintptr_t)t->data % sizeof(uint16_t) != 0)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: tensor %s is %s, want aligned F16",
                         reco_safetensors_path(s->file), names[side],
                         t->dtype_name ? t->dtype_name : reco_dtype_name(t->dtype));
    s->vectors[side] = t->data;
    return RECO_OK;
}

/* Ids that ascend are what makes finding one by bisection right, and equal scores come in order of id. */
static reco_status check_ids(reco_ctx *ctx, reco_segment *s)
{
    const reco_tensor *t = reco_safetensors_find(s->file, "id");
    if (!t) return RECO_OK;
    const char *path = reco_safetensors_path(s->file);
    if (t->dtype_name || t->dtype != RECO_DTYPE_I64 || t->rank != 1 || t->shape[0] != s->rows)
        return reco_fail(ctx, RECO_E_FORMAT, "%s: tensor id is not I64 of shape [%zu]", path, s->rows);
    s->ids = t->data;
    int64_t least = s->first;
    for (size_t i = 0; i < s->rows; i++) {
        int64_t id = reco_segment_id(s, i);
        if (id < least || id >= RECO_BANK_MAX_ID || (i == 0 && id != s->first))
            return reco_fail(ctx, RECO_E_FORMAT, "%s: id[%zu] = %lld, want ascending ids from %lld on",
                             path, i, (long long)id, (long long)s->first);
        least = id + 1;
    }
    return RECO_OK;
}

reco_status reco_segment_open(reco_ctx *ctx, reco_segment *s, const char *dir,
                              const reco_segment_entry *entry, size_t d)
{
    *s = (reco_segment){.first = entry->first, .rows = (size_t)entry->rows};
    char *path = path_of(ctx, dir, entry->file);
    if (!path) return RECO_E_NOMEM;
    reco_status status;
    struct stat info;
    if (stat(path, &info) != 0) RECO_GO(reco_fail_errno(ctx, RECO_E_IO, "%s", path));
    if (info.st_size != entry->bytes)
        RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s: has %lld bytes, want %lld", path,
                          (long long)info.st_size, (long long)entry->bytes));
    RECO_GO(reco_safetensors_open(ctx, &s->file, path));
    RECO_GO(need_vectors(ctx, s, RECO_IMAGE, d));
    RECO_GO(need_vectors(ctx, s, RECO_TEXT, d));
    RECO_GO(check_ids(ctx, s));
out:
    if (status != RECO_OK) reco_segment_close(s);
    reco_free(path);
    return status;
}

void reco_segment_close(reco_segment *s)
{
    reco_scan_close(s);
    reco_safetensors_close(s->file);
    *s = (reco_segment){0};
}

/* ---- those there are ---- */

reco_segment_entry *reco_segment_push(reco_ctx *ctx, reco_segment_list *list)
{
    if (list->n == list->room) {
        size_t room = list->room ? 2 * list->room : 8;
        reco_segment_entry *grown = reco_alloc(ctx, room, sizeof *grown, "list of segments");
        if (!grown) return NULL;
        if (list->n) memcpy(grown, list->items, list->n * sizeof *grown);
        reco_free(list->items);
        list->items = grown;
        list->room = room;
    }
    list->items[list->n] = (reco_segment_entry){0};
    return &list->items[list->n++];
}

/* Temporary files of io/ are ".NAME.tmp-..." */
static bool is_ours(const char *name) { return strncmp(name + (*name == '.'), "segment-", 8) == 0; }

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
    char *vectors = path_of(ctx, dir, "");
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
