/* A deletion from a reco_bank_rows, which selects its rows. */
#include "bank/write/deletion.h"
#include "io/io.h"

#include <errno.h>

enum { PAGE = 1024 };

static reco_status pick(reco_ctx *ctx, reco_bank_deletion *d, const char *uri, int64_t id,
                        uint64_t *missing)
{
    uint64_t n;
    RECO_TRY(uri ? reco_bank_deletion_uri(ctx, d, uri, &n) : reco_bank_deletion_id(ctx, d, id, &n));
    *missing += n == 0;
    return RECO_OK;
}

/* Line by line, so that a list of millions costs no memory. */
static reco_status pick_file(reco_ctx *ctx, reco_bank_deletion *d, const char *path, bool uris,
                             uint64_t *missing)
{
    reco_lines *lines;
    const char *line;
    size_t bytes;
    reco_status status = RECO_OK;
    RECO_TRY(reco_lines_open(ctx, &lines, path));
    for (size_t number = 1;; number++) {
        RECO_GO(reco_lines_next(ctx, lines, &line, &bytes));
        if (!line) break;
        if (bytes == 0) continue;
        char *end = NULL;
        errno = 0;
        long long id = uris ? 0 : strtoll(line, &end, 10);
        if (!uris && (errno || end == line || *end || id < 0))
            RECO_GO(reco_fail(ctx, RECO_E_FORMAT, "%s:%zu: \"%.40s\" is not an id", path, number, line));
        RECO_GO(pick(ctx, d, uris ? line : NULL, id, missing));
    }
out:
    reco_lines_close(lines);
    return status;
}

static reco_status pick_rows(reco_ctx *ctx, reco_bank_deletion *d, const reco_bank_rows *rows,
                             uint64_t *missing)
{
    const reco_bank *bank;
    for (size_t i = 0; i < rows->nids; i++) RECO_TRY(pick(ctx, d, NULL, rows->ids[i], missing));
    for (size_t i = 0; i < rows->nuris; i++) RECO_TRY(pick(ctx, d, rows->uris[i], 0, missing));
    if (rows->ids_file) RECO_TRY(pick_file(ctx, d, rows->ids_file, false, missing));
    if (rows->uris_file) RECO_TRY(pick_file(ctx, d, rows->uris_file, true, missing));
    if (rows->where) RECO_TRY(reco_bank_deletion_where(ctx, d, rows->where, NULL));
    if (rows->nnear) RECO_TRY(reco_bank_deletion_bank(ctx, d, &bank));
    for (size_t i = 0; i < rows->nnear; i++)
        RECO_TRY(reco_bank_deletion_near(ctx, d, rows->sides[i],
                                         rows->near + i * reco_bank_get_info(bank)->d, rows->least, NULL));
    return rows->all ? reco_bank_deletion_all(ctx, d, NULL) : RECO_OK;
}

static reco_status find_doubles(reco_ctx *ctx, reco_bank_deletion *d, const reco_delete_opts *opts,
                                uint64_t *total)
{
    int64_t ids[PAGE];
    size_t n = PAGE;
    for (int64_t from = 0; n == PAGE; from = n ? ids[n - 1] + 1 : 0) {
        RECO_TRY(reco_bank_deletion_doubles(ctx, d, from, PAGE, ids, &n));
        for (size_t i = 0; i < n; i++, ++*total)
            if (*total < opts->max_doubles) opts->doubles[*total] = ids[i];
    }
    return RECO_OK;
}

/* Count what is picked, and show a preview's. */
static reco_status look(reco_ctx *ctx, reco_bank_deletion *d, const reco_delete_opts *opts, uint64_t *total)
{
    int64_t ids[PAGE];
    const reco_bank *bank;
    size_t n = PAGE;
    RECO_TRY(reco_bank_deletion_bank(ctx, d, &bank));
    for (int64_t from = 0; n == PAGE; from = n ? ids[n - 1] + 1 : 0) {
        RECO_TRY(reco_bank_deletion_ids(ctx, d, from, PAGE, ids, &n));
        for (size_t i = 0; i < n && opts->preview && opts->row; i++) {
            reco_pair pair;
            RECO_TRY((opts->restore ? reco_bank_get_deleted : reco_bank_get)(ctx, bank, ids[i], &pair));
            opts->row(opts->user, &pair);
            reco_pair_free(&pair);
        }
        *total += n;
    }
    return RECO_OK;
}

reco_status reco_bank_delete(reco_ctx *ctx, const char *path, const reco_bank_rows *rows,
                             const reco_delete_opts *opts, reco_delete_result *result)
{
    static const reco_delete_opts none;
    if (!opts) opts = &none;
    reco_delete_result r = {0};
    reco_bank_deletion *d = NULL;
    reco_status status = RECO_OK;
    RECO_GO(reco_reserved(ctx, "delete", opts->reserved));
    RECO_GO(reco_reserved(ctx, "delete", rows->reserved));
    RECO_GO(reco_bank_deletion_open(ctx, &d, path, opts->restore, opts->preview));
    RECO_GO(pick_rows(ctx, d, rows, &r.missing));
    if (opts->restore) RECO_GO(find_doubles(ctx, d, opts, &r.doubles));
    r.doubts = d->doubts;
    bool unsure = r.doubts && !opts->sure && !opts->restore && !opts->preview;
    if (unsure || opts->preview)
        RECO_GO(look(ctx, d, opts, &r.rows));
    else
        RECO_GO(reco_bank_deletion_commit(ctx, d, &r.rows));
    if (unsure)
        status =
            reco_fail(ctx, RECO_E_ARG,
                      "%s: nothing was deleted, since the condition compares a text with a number", path);
out:
    reco_bank_deletion_close(d);
    if (result) *result = r;
    return status;
}
