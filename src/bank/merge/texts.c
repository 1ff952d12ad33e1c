#include "bank/merge/merge.h"

#include <errno.h>
#include <unistd.h>

#define PIECE ((size_t)1 << 20)

static reco_status append_text(reco_ctx *ctx, void *arg, uint64_t offset, const uint8_t *data, size_t bytes)
{
    (void)offset;
    if (!data) return RECO_E_IO;
    return reco_file_write(ctx, arg, data, bytes);
}

static reco_status refuse_double_uri(reco_ctx *ctx, void *arg, int64_t number, const char *uri)
{
    json_t *line = json_pack("{s:I, s:s, s:s}", "row", (json_int_t)number, "item", uri ? uri : "", "reason",
                             "duplicate URI: an earlier bank has it with another text");
    char *text = line ? reco_json_dump(ctx, line) : NULL;
    json_decref(line);
    reco_status status = text ? reco_file_printf(ctx, arg, "%s\n", text) : reco_fail_nomem(ctx, 0, "JSON");
    reco_free(text);
    return status;
}

static reco_status write_all(reco_ctx *ctx, const reco_merge *m, const char *name, bool refused,
                             reco_file *file)
{
    for (size_t i = 0; i < m->n; i++) {
        char *from = reco_path_join(ctx, m->banks[i], name);
        reco_status status = from ? RECO_OK : RECO_E_NOMEM;
        if (from && reco_path_exists(from)) status = reco_read_pieces(ctx, from, PIECE, append_text, file);
        reco_free(from);
        RECO_TRY(status);
    }
    return refused ? reco_catalog_merge_refused(ctx, m->catalog, refuse_double_uri, file) : RECO_OK;
}

static reco_status has_any(reco_ctx *ctx, const reco_merge *m, const char *name, bool *any)
{
    *any = false;
    for (size_t i = 0; i < m->n && !*any; i++) {
        char *from = reco_path_join(ctx, m->banks[i], name);
        if (!from) return RECO_E_NOMEM;
        *any = reco_path_exists(from);
        reco_free(from);
    }
    return RECO_OK;
}

/* The banks' files of this name, one after the other; none where none has one. */
static reco_status join_files(reco_ctx *ctx, const reco_merge *m, const char *name, bool refused)
{
    reco_file *file = NULL;
    bool any;
    reco_status status;
    char *to = reco_path_join(ctx, m->out, name);
    if (!to) return RECO_E_NOMEM;
    RECO_GO(has_any(ctx, m, name, &any));
    if (!any && !refused) {
        if (unlink(to) != 0 && errno != ENOENT) status = reco_fail_errno(ctx, RECO_E_IO, "%s", to);
        goto out;
    }
    RECO_GO(reco_file_begin(ctx, &file, to));
    RECO_GO(write_all(ctx, m, name, refused, file));
    reco_file *whole = file;
    file = NULL;
    status = reco_file_commit(ctx, whole);
out:
    reco_file_abort(file);
    reco_free(to);
    return status;
}

reco_status reco_merge_texts(reco_ctx *ctx, reco_merge *m)
{
    int64_t counts[4];
    RECO_TRY(reco_catalog_merge_counts(ctx, m->catalog, counts));
    m->result.duplicates = counts[RECO_MERGE_DOUBLE];
    m->result.replaced = counts[RECO_MERGE_REPLACED];
    m->result.refused = counts[RECO_MERGE_REFUSED];
    RECO_TRY(join_files(ctx, m, "failures.jsonl", m->result.refused > 0));
    return join_files(ctx, m, "audit.jsonl", false);
}
