#include "pipeline/pipeline_internal.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_SHOWN ((size_t)4096) /* bytes of an item or reason */

reco_status reco_failures_begin(reco_ctx *ctx, reco_failures *f, const char *dir, reco_failure_fn failure,
                                void *user)
{
    *f = (reco_failures){
        .path = reco_path_join(ctx, dir, "failures.jsonl"), .failure = failure, .user = user};
    return f->path ? RECO_OK : RECO_E_NOMEM;
}

static reco_status gone(reco_ctx *ctx, const reco_failures *f)
{
    return unlink(f->path) == 0 || errno == ENOENT ? RECO_OK
                                                   : reco_fail_errno(ctx, RECO_E_IO, "%s", f->path);
}

/* Rewrite the journal with the lines of records before next; a line that a kill cut short is no JSON and goes. */
static reco_status keep_before(reco_ctx *ctx, const reco_failures *f, uint64_t next)
{
    reco_status status = RECO_OK;
    reco_lines *lines = NULL;
    reco_file *file = NULL;
    RECO_GO(reco_lines_open(ctx, &lines, f->path));
    RECO_GO(reco_file_begin(ctx, &file, f->path));
    for (;;) {
        const char *line;
        size_t bytes;
        RECO_GO(reco_lines_next(ctx, lines, &line, &bytes));
        if (!line) break;
        json_t *value = json_loadb(line, bytes, 0, NULL);
        json_int_t row = json_integer_value(json_object_get(value, "row"));
        if (value && row >= 0 && (uint64_t)row < next)
            RECO_GO(reco_write_json_line(ctx, file, value));
        else
            json_decref(value);
    }
    reco_file *full = file;
    file = NULL;
    RECO_GO(reco_file_commit(ctx, full));
out:
    reco_file_abort(file);
    reco_lines_close(lines);
    return status;
}

reco_status reco_failures_resume(reco_ctx *ctx, reco_failures *f, const char *dir,
                                 const reco_embed_opts *opts, uint64_t next)
{
    if (reco_bank_is_server(dir)) { /* which has no place for them: they are told and counted */
        *f = (reco_failures){.failure = opts ? opts->failure : NULL, .user = opts ? opts->user : NULL};
        return RECO_OK;
    }
    RECO_TRY(reco_failures_begin(ctx, f, dir, opts ? opts->failure : NULL, opts ? opts->user : NULL));
    if (next == 0)
        RECO_TRY(gone(ctx, f));
    else if (reco_path_exists(f->path))
        RECO_TRY(keep_before(ctx, f, next));
    f->journal = fopen(f->path, "ae");
    return f->journal ? RECO_OK : reco_fail_errno(ctx, RECO_E_IO, "%s", f->path);
}

/* Names come from the input and may be of any length; a line must be one that can be read back. */
static json_t *shortened(const char *text)
{
    size_t bytes = strnlen(text, MAX_SHOWN + 1);
    return reco_json_text(text, reco_min(bytes, MAX_SHOWN));
}

reco_status reco_failures_add(reco_ctx *ctx, reco_failures *f, uint64_t row, const char *item,
                              const char *reason)
{
    f->count++;
    if (f->failure) f->failure(f->user, row, item, reason);
    if (!f->path) return RECO_OK;
    json_t *line = json_pack("{s:I, s:o, s:o}", "row", (json_int_t)row, "item", shortened(item), "reason",
                             shortened(reason));
    if (!f->journal) {
        reco_status status = f->file ? RECO_OK : reco_file_begin(ctx, &f->file, f->path);
        if (status == RECO_OK) return reco_write_json_line(ctx, f->file, line);
        json_decref(line);
        return status;
    }
    bool good = line && json_dumpf(line, f->journal, JSON_COMPACT) == 0 && fputc('\n', f->journal) != EOF &&
                fflush(f->journal) == 0;
    json_decref(line);
    return good ? RECO_OK : reco_fail_errno(ctx, RECO_E_IO, "%s", f->path);
}

reco_status reco_failures_sync(reco_ctx *ctx, reco_failures *f)
{
    if (!f->journal || fsync(fileno(f->journal)) == 0) return RECO_OK;
    return reco_fail_errno(ctx, RECO_E_IO, "%s", f->path);
}

reco_status reco_failures_commit(reco_ctx *ctx, reco_failures *f)
{
    reco_file *file = f->file;
    f->file = NULL;
    if (file) return reco_file_commit(ctx, file);
    if (!f->path) return RECO_OK;
    if (!f->journal) return gone(ctx, f);
    struct stat info;
    if (fsync(fileno(f->journal)) != 0 || fstat(fileno(f->journal), &info) != 0)
        return reco_fail_errno(ctx, RECO_E_IO, "%s", f->path);
    return info.st_size == 0 ? gone(ctx, f) : RECO_OK;
}

void reco_failures_abort(reco_failures *f)
{
    reco_file_abort(f->file);
    if (f->journal) fclose(f->journal);
    reco_free(f->path);
    *f = (reco_failures){0};
}
