#include "bank/segment/segment.h"

#include <sys/stat.h>

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
    reco_scan_close(s);
    char *path = reco_format(ctx, "%s/vectors/%s", dir, entry->file);
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

reco_status reco_segment_check_sum(reco_ctx *ctx, const reco_segment *s, const reco_segment_entry *entry)
{
    char hex[33];
    const char *path = reco_safetensors_path(s->file);
    RECO_TRY(reco_hash_file(ctx, path, hex));
    if (strcmp(hex, entry->xxh3) == 0) return RECO_OK;
    return reco_fail(ctx, RECO_E_FORMAT, "%s: is damaged: its checksum differs; nothing was changed", path);
}
