#include "pipeline/export.h"
#include "pipeline/provenance.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

reco_status reco_export_page(reco_ctx *ctx, reco_export_rows *r)
{
    enum { PAGE = sizeof r->ids / sizeof *r->ids };
    int64_t from = r->n ? r->ids[r->n - 1] + 1 : 0;
    bool last = r->begun && r->n < PAGE;
    r->begun = true;
    r->n = 0;
    return last ? RECO_OK : reco_bank_select(ctx, r->bank, r->where, from, PAGE, r->ids, &r->n);
}

reco_status reco_export_meta(reco_ctx *ctx, const reco_pair *pair, json_t **out)
{
    *out = NULL;
    if (pair->meta) return reco_json_parse_object(ctx, out, pair->meta, strlen(pair->meta));
    *out = json_object();
    return *out ? RECO_OK : reco_fail_nomem(ctx, 0, "JSON");
}

/* ---- the folder: made under another name, so that it is there as a whole or not at all ---- */

static const char *const folders[] = {"img_emb", "text_emb", "metadata"};
static const char *const files[] = {"img_emb/img_emb_0.npy", "text_emb/text_emb_0.npy",
                                    "metadata/metadata_0.jsonl", "reco.json"};

typedef struct staging {
    char *dir;
    int lock;
} staging;

/* Nothing but what an interrupted export may have left. */
static void clean(reco_ctx *ctx, const char *dir)
{
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char *path = reco_path_join(ctx, dir, files[i]);
        if (path) unlink(path);
        reco_free(path);
    }
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        char *path = reco_path_join(ctx, dir, folders[i]);
        if (path) rmdir(path);
        reco_free(path);
    }
}

static reco_status begin_staging(reco_ctx *ctx, staging *s, const char *out)
{
    char **there = NULL;
    size_t n = 0, length = strlen(out);
    while (length > 1 && out[length - 1] == '/') length--;
    if (reco_path_exists(out)) {
        if (!reco_path_is_dir(out))
            return reco_fail(ctx, RECO_E_EXISTS, "%s: is a file, want a new folder", out);
        RECO_TRY(reco_list_files(ctx, &there, &n, out, true, NULL));
        for (size_t i = 0; i < n; i++) reco_free(there[i]);
        reco_free(there);
        if (n) return reco_fail(ctx, RECO_E_EXISTS, "%s: is not empty, want a new folder", out);
    }
    s->dir = reco_format(ctx, "%.*s.partial", (int)length, out);
    if (!s->dir) return RECO_E_NOMEM;
    RECO_TRY(reco_mkdirs(ctx, s->dir));
    s->lock = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->lock < 0) return reco_fail_errno(ctx, RECO_E_IO, "%s", s->dir);
    if (flock(s->lock, LOCK_EX | LOCK_NB) != 0) {
        close(s->lock);
        s->lock = -1;
        return reco_fail(ctx, RECO_E_BUSY, "%s: another export is running", s->dir);
    }
    clean(ctx, s->dir);
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        char *path = reco_path_join(ctx, s->dir, folders[i]);
        reco_status status = path ? reco_mkdirs(ctx, path) : RECO_E_NOMEM;
        reco_free(path);
        RECO_TRY(status);
    }
    return RECO_OK;
}

static reco_status end_staging(reco_ctx *ctx, staging *s, const char *out)
{
    char *parent = reco_path_dir(ctx, s->dir);
    reco_status status = parent ? reco_sync_dir(ctx, s->dir) : RECO_E_NOMEM;
    if (status == RECO_OK && rename(s->dir, out) != 0)
        status = reco_fail_errno(ctx, errno == ENOTEMPTY || errno == EEXIST ? RECO_E_EXISTS : RECO_E_IO,
                                 "%s", out);
    if (status == RECO_OK) status = reco_sync_dir(ctx, parent);
    reco_free(parent);
    return status;
}

static void release(reco_ctx *ctx, staging *s, bool failed)
{
    if (s->lock >= 0 && failed) {
        clean(ctx, s->dir);
        rmdir(s->dir);
    }
    if (s->lock >= 0) close(s->lock);
    reco_free(s->dir);
}

/* ---- rows ---- */

typedef struct export
{
    reco_npy_writer *side[2];
    reco_file *metadata;
    float *rows; /* [1024][d] */
    uint64_t written;
}
export;

static reco_status write_record(reco_ctx *ctx, void *arg, size_t at, const reco_pair *pair)
{
    export *e = arg;
    json_t *meta = NULL, *record = json_object(), *value;
    const char *key;
    reco_status status;
    (void)at;
    RECO_GO(reco_export_meta(ctx, pair, &meta));
    int bad = !record || json_object_set_new(record, "id", json_integer((json_int_t)pair->id)) ||
              json_object_set_new(record, "caption", reco_json_text(pair->caption, strlen(pair->caption)));
    if (!bad && pair->uri)
        bad = json_object_set_new(record, "image_path", reco_json_text(pair->uri, strlen(pair->uri)));
    if (!bad && pair->base)
        bad = json_object_set_new(record, RECO_EXPORT_OWN "base",
                                  reco_json_text(pair->base, strlen(pair->base)));
    if (!bad && pair->content) {
        char hex[2 * RECO_BANK_HASH + 1];
        for (size_t i = 0; i < RECO_BANK_HASH; i++) snprintf(hex + 2 * i, 3, "%02x", pair->content[i]);
        bad = json_object_set_new(record, RECO_EXPORT_OWN "content", json_string(hex));
    }
    json_object_foreach(meta, key, value)
    {
        char *name = reco_pair_key_means(key) || strcmp(key, "id") == 0 ||
                             strncmp(key, RECO_EXPORT_OWN, strlen(RECO_EXPORT_OWN)) == 0 ||
                             strncmp(key, RECO_EXPORT_PREFIX, strlen(RECO_EXPORT_PREFIX)) == 0
                         ? reco_format(ctx, RECO_EXPORT_PREFIX "%s", key)
                         : reco_strdup(ctx, key);
        bad = bad || !name || json_object_set(record, name, value);
        reco_free(name);
    }
    if (bad) RECO_GO(reco_fail_nomem(ctx, 0, "JSON"));
    status = reco_write_json_line(ctx, e->metadata, record);
    record = NULL;
out:
    json_decref(record);
    json_decref(meta);
    return status;
}

static reco_status write_page(reco_ctx *ctx, export *e, const reco_export_rows *page)
{
    for (int side = 0; side < 2; side++) {
        RECO_TRY(reco_bank_gather(ctx, page->bank, (reco_side)side, page->ids, page->n, e->rows));
        RECO_TRY(reco_npy_append(ctx, e->side[side], e->rows, page->n));
    }
    RECO_TRY(reco_bank_each_pair(ctx, page->bank, page->ids, page->n, write_record, e));
    e->written += page->n;
    return reco_progress(ctx, "exporting", e->written, (uint64_t)reco_bank_get_info(page->bank)->rows);
}

static reco_status write_encoder(reco_ctx *ctx, const char *dir, const reco_bank_info *info, uint64_t rows)
{
    reco_provenance p = {.found = true,
                         .exported = true,
                         .logit_scale = info->logit_scale,
                         .d = info->d,
                         .sides = RECO_SIDES_BOTH,
                         .rows = rows};
    memcpy(p.encoder, info->encoder, sizeof p.encoder);
    memcpy(p.fingerprint, info->fingerprint, sizeof p.fingerprint);
    return reco_provenance_write(ctx, dir, &p);
}

static reco_status open_files(reco_ctx *ctx, export *e, const char *dir, size_t d)
{
    reco_status status = RECO_OK;
    char *metadata = reco_path_join(ctx, dir, files[2]);
    for (int side = 0; side < 2 && status == RECO_OK; side++) {
        char *path = reco_layout_path(ctx, dir, (reco_side)side);
        status = path ? reco_npy_begin(ctx, &e->side[side], path, RECO_DTYPE_F16, d) : RECO_E_NOMEM;
        reco_free(path);
    }
    if (status == RECO_OK) status = metadata ? reco_file_begin(ctx, &e->metadata, metadata) : RECO_E_NOMEM;
    reco_free(metadata);
    return status;
}

static reco_status close_files(reco_ctx *ctx, export *e)
{
    for (int side = 0; side < 2; side++) {
        reco_npy_writer *w = e->side[side];
        e->side[side] = NULL;
        RECO_TRY(reco_npy_commit(ctx, w));
    }
    reco_file *file = e->metadata;
    e->metadata = NULL;
    return reco_file_commit(ctx, file);
}

reco_status reco_bank_export(reco_ctx *ctx, const reco_bank *bank, const char *out, const char *where,
                             uint64_t *rows)
{
    reco_bank_info info = *reco_bank_get_info(bank);
    staging s = {.lock = -1};
    export e = {0};
    reco_export_rows page = {.bank = bank, .where = where};
    reco_status status;
    RECO_GO(begin_staging(ctx, &s, out));
    if (!(e.rows = reco_alloc(ctx, 1024 * info.d, sizeof *e.rows, "rows"))) RECO_GO(RECO_E_NOMEM);
    RECO_GO(open_files(ctx, &e, s.dir, info.d));
    do {
        RECO_GO(reco_export_page(ctx, &page));
        RECO_GO(write_page(ctx, &e, &page));
    } while (page.n);
    RECO_GO(close_files(ctx, &e));
    RECO_GO(write_encoder(ctx, s.dir, &info, e.written));
    RECO_GO(end_staging(ctx, &s, out));
    if (rows) *rows = e.written;
out:
    for (int side = 0; side < 2; side++)
        if (e.side[side]) reco_npy_abort(e.side[side]);
    reco_file_abort(e.metadata);
    reco_free(e.rows);
    release(ctx, &s, status != RECO_OK);
    return status;
}

/* ---- reading it back ---- */

/* What the bank knew of the row's picture. Anything else under these names is nobody's, and goes. */
static reco_status take_own(reco_ctx *ctx, reco_pair_row *row, json_t *meta)
{
    const char *base = json_string_value(json_object_get(meta, RECO_EXPORT_OWN "base")),
               *hex = json_string_value(json_object_get(meta, RECO_EXPORT_OWN "content"));
    reco_free(row->base);
    row->base = NULL;
    if (base && *base == '/' && !(row->base = reco_strdup(ctx, base))) return RECO_E_NOMEM;
    row->has_content =
        hex && strlen(hex) == 2 * RECO_BANK_HASH && strspn(hex, "0123456789abcdef") == 2 * RECO_BANK_HASH;
    for (size_t i = 0; row->has_content && i < RECO_BANK_HASH; i++) {
        unsigned byte = 0;
        sscanf(hex + 2 * i, "%2x", &byte);
        row->content[i] = (unsigned char)byte;
    }
    json_object_del(meta, RECO_EXPORT_OWN "base");
    json_object_del(meta, RECO_EXPORT_OWN "content");
    return RECO_OK;
}

static reco_status undo(reco_ctx *ctx, json_t *meta)
{
    const size_t n = strlen(RECO_EXPORT_PREFIX);
    json_t *plain = json_object(), *value;
    const char *key;
    void *next;
    int bad = !plain;
    json_object_del(meta, "id");
    json_object_foreach_safe(meta, next, key, value)
    {
        if (strncmp(key, RECO_EXPORT_PREFIX, n) != 0) continue;
        bad = bad || json_object_set(plain, key + n, value);
        json_object_del(meta, key);
    }
    bad = bad || json_object_update(meta, plain);
    json_decref(plain);
    return bad ? reco_fail_nomem(ctx, 0, "JSON") : RECO_OK;
}

reco_status reco_export_undo(reco_ctx *ctx, reco_pair_row *row)
{
    json_t *meta = NULL;
    if (!row->meta) return RECO_OK;
    reco_status status = reco_json_parse_object(ctx, &meta, row->meta, strlen(row->meta));
    if (status == RECO_OK) status = take_own(ctx, row, meta);
    if (status == RECO_OK) status = undo(ctx, meta);
    if (status == RECO_OK) {
        reco_free(row->meta);
        row->meta = json_object_size(meta) ? reco_json_dump(ctx, meta) : NULL;
        if (!row->meta && json_object_size(meta)) status = RECO_E_NOMEM;
    }
    json_decref(meta);
    return status;
}
