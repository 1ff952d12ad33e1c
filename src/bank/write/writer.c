#include "bank/write/writer.h"

#include <unistd.h>

static const char *or_empty(const char *text) { return text ? text : ""; }

reco_status reco_bank_check_spec(reco_ctx *ctx, const reco_bank_spec *spec)
{
    const char *encoder = or_empty(spec->encoder), *print = or_empty(spec->fingerprint);
    if (spec->d < 1 || spec->d > RECO_BANK_MAX_WIDTH)
        return reco_fail(ctx, RECO_E_ARG, "bank: d = %zu, want 1..%d", spec->d, RECO_BANK_MAX_WIDTH);
    if (strlen(encoder) >= sizeof((reco_bank_info *)0)->encoder)
        return reco_fail(ctx, RECO_E_ARG, "bank: the encoder's name has %zu bytes, want at most 255",
                         strlen(encoder));
    if (*print && (strlen(print) != 32 || strspn(print, "0123456789abcdef") != 32))
        return reco_fail(ctx, RECO_E_ARG, "bank: fingerprint \"%.40s\", want 32 hexadecimal digits", print);
    if (!(spec->logit_scale >= 0 && spec->logit_scale <= 1e6f))
        return reco_fail(ctx, RECO_E_ARG, "bank: logit_scale = %g, want 0..1e6", (double)spec->logit_scale);
    return RECO_OK;
}

/* What a build that was cut off before its bank began may have left; bank.sqlite itself is another one's, that runs
 * right now. */
static bool is_foreign(const char *name)
{
    return strcmp(name, "writer.lock") != 0 && strcmp(name, "bank.sqlite") != 0 &&
           strncmp(name, "bank.sqlite.tmp", 15) != 0;
}

reco_status reco_bank_check_empty(reco_ctx *ctx, const char *dir)
{
    char **files = NULL;
    size_t n = 0;
    RECO_TRY(reco_list_files(ctx, &files, &n, dir, true, is_foreign));
    reco_status status =
        n ? reco_fail(ctx, RECO_E_EXISTS, "%s: is neither a bank nor empty: it has %s", dir, files[0])
          : RECO_OK;
    for (size_t i = 0; i < n; i++) reco_free(files[i]);
    reco_free(files);
    return status;
}

reco_status reco_bank_make_folder(reco_ctx *ctx, const char *dir)
{
    if (reco_path_is_dir(dir)) return RECO_OK;
    if (reco_path_exists(dir)) return reco_fail(ctx, RECO_E_EXISTS, "%s: is a file, want a folder", dir);
    RECO_TRY(reco_mkdirs(ctx, dir));
    char *parent = reco_path_dir(ctx, dir);
    if (!parent) return RECO_E_NOMEM;
    reco_status status = reco_sync_dir(ctx, parent);
    reco_free(parent);
    return status;
}

/* A folder to write in: a bank, or with spec one that may become a bank. Nothing is left in any other. */
static reco_status check_folder(reco_ctx *ctx, const char *dir, bool may_create)
{
    if (may_create) RECO_TRY(reco_bank_make_folder(ctx, dir));
    char *database = reco_path_join(ctx, dir, "bank.sqlite");
    if (!database) return RECO_E_NOMEM;
    bool exists = reco_path_exists(database);
    reco_free(database);
    if (exists) return RECO_OK;
    return may_create ? reco_bank_check_empty(ctx, dir)
                      : reco_fail(ctx, RECO_E_NOTFOUND, "%s: is not a bank: it has no bank.sqlite", dir);
}

/* Archives of an empty bank tend to lose the folder. */
reco_status reco_bank_make_vectors(reco_ctx *ctx, const char *dir)
{
    char *vectors = reco_path_join(ctx, dir, "vectors");
    if (!vectors) return RECO_E_NOMEM;
    reco_status status = RECO_OK;
    if (!reco_path_is_dir(vectors)) {
        status = reco_mkdirs(ctx, vectors);
        if (status == RECO_OK) status = reco_sync_dir(ctx, dir);
    }
    reco_free(vectors);
    return status;
}

reco_status reco_bank_check_same(reco_ctx *ctx, const char *dir, const reco_bank_spec *spec,
                                 const reco_bank_info *info, bool built)
{
    const char *encoder = or_empty(spec->encoder), *print = or_empty(spec->fingerprint);
    if (!built)
        return reco_fail(ctx, RECO_E_EXISTS,
                         "%s: is already a bank, built from something else; add to it instead", dir);
    if (spec->d != info->d)
        return reco_fail(ctx, RECO_E_MISMATCH, "%s: holds vectors of width %zu, the encoder gives %zu", dir,
                         info->d, spec->d);
    if (strcmp(print, info->fingerprint) != 0)
        return reco_fail(ctx, RECO_E_MISMATCH, "%s: was built with encoder %s (%s), not %s (%s)", dir,
                         info->encoder, info->fingerprint, encoder, print);
    return RECO_OK;
}

/* Lock, open, sweep: what every writer does first. */
static reco_status begin(reco_ctx *ctx, reco_bank_writer *w, const reco_bank_spec *spec, const char *job,
                         uint64_t *next, int *done)
{
    RECO_TRY(check_folder(ctx, w->dir, spec != NULL));
    RECO_TRY(reco_dir_lock(ctx, &w->lock, w->dir));
    reco_status status = reco_catalog_open(ctx, &w->catalog, w->dir, true);
    if (status == RECO_E_NOTFOUND && spec) {
        RECO_TRY(reco_catalog_create(ctx, w->dir, spec, job));
        status = reco_catalog_open(ctx, &w->catalog, w->dir, true);
    }
    RECO_TRY(status);
    RECO_TRY(reco_bank_make_vectors(ctx, w->dir));

    reco_bank_info info;
    reco_catalog_job_state state;
    RECO_TRY(reco_catalog_check_seal(ctx, w->catalog));
    RECO_TRY(reco_catalog_info(ctx, w->catalog, &info, &w->next_segment));
    RECO_TRY(reco_catalog_job(ctx, w->catalog, job, &state));
    if (spec) RECO_TRY(reco_bank_check_same(ctx, w->dir, spec, &info, state.built));
    if (!spec && !*job) { /* rows without a source: nothing to resume */
        state = (reco_catalog_job_state){.first = -1};
        reco_free(w->job);
        w->job = NULL;
    }
    *next = state.next;
    *done = state.done;
    w->d = info.d;
    w->next_id = w->committed = w->first = info.next_id;
    if (!state.done && state.first >= 0 && state.first <= info.next_id)
        w->first = state.first;
    else if (!state.done && state.built)
        w->first = 0;
    w->keeps_first = w->first > 0 || !state.built;
    reco_segment_list list;
    RECO_TRY(reco_catalog_segments(ctx, w->catalog, &list));
    for (size_t i = 0; i < list.n && status == RECO_OK; i++)
        if (list.items[i].number >= w->next_segment ||
            list.items[i].first + list.items[i].rows > w->next_id)
            status = reco_fail(ctx, RECO_E_FORMAT,
                               "%s: bank.next_segment or bank.next_id is not above those of %s", w->dir,
                               list.items[i].file);
    if (status == RECO_OK) status = reco_segment_sweep(ctx, w->catalog, w->dir, &list);
    reco_free(list.items);
    return status;
}

reco_status reco_folder_writer_open(reco_ctx *ctx, reco_bank_writer **out, const char *path,
                                    const reco_bank_spec *spec, const char *job, uint64_t *next, int *done)
{
    reco_bank_writer *w = reco_alloc(ctx, 1, sizeof *w, "bank writer");
    if (!w) return RECO_E_NOMEM;
    w->lock = -1;
    reco_status status = RECO_E_NOMEM;
    w->dir = reco_strdup(ctx, path);
    w->job = reco_strdup(ctx, job);
    if (w->dir && w->job) status = begin(ctx, w, spec, job, next, done);
    if (status == RECO_OK)
        *out = w;
    else
        reco_bank_writer_close(w);
    return status;
}

reco_status reco_bank_writer_check(reco_ctx *ctx, const reco_bank_writer *w)
{
    if (w->broken == RECO_OK) return RECO_OK;
    return reco_fail(ctx, w->broken, "%s: an earlier write failed; close the writer and start again",
                     w->dir);
}

void reco_bank_writer_close(reco_bank_writer *w)
{
    if (!w) return;
    if (w->ops) {
        w->ops->close(w);
        return;
    }
    reco_segment_job_free(&w->behind);
    /* Files of no commit; the next writer would remove them too. */
    for (size_t i = 0; i < w->files.n && !w->commit_failed; i++) {
        char *path = NULL, *scan = reco_scan_path(NULL, w->dir, w->files.items[i].number);
        if (scan) unlink(scan);
        if (asprintf(&path, "%s/vectors/%s", w->dir, w->files.items[i].file) >= 0) unlink(path);
        reco_free(path);
        reco_free(scan);
    }
    reco_bank_close(w->bank);
    reco_catalog_close(w->catalog);
    reco_dir_unlock(w->lock);
    reco_free(w->held[0]);
    reco_free(w->held[1]);
    reco_free(w->behind.vectors[0]);
    reco_free(w->behind.vectors[1]);
    reco_free(w->files.items);
    reco_free(w->old.items);
    reco_free(w->patches);
    reco_free(w->patch_vectors);
    reco_free(w->job);
    reco_free(w->key);
    reco_free(w->dir);
    reco_free(w);
}
