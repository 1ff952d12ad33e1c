/* A deletion from a reco_bank_rows, which selects its rows. */
#include "bank/write/deletion.h"
#include "io/io.h"

#include <errno.h>

enum { PAGE = 1024 };

/* Some at a time of a list of millions. */
typedef struct list {
    reco_bank_deletion *d;
    int64_t ids[PAGE];
    char *uris[PAGE]; /* or these */
    size_t n;
    bool are_uris;
    uint64_t missing;
} list;

static reco_status pick(reco_ctx *ctx, list *l)
{
    uint64_t found;
    RECO_TRY(l->are_uris ? reco_bank_deletion_uris(ctx, l->d, (const char *const *)l->uris, l->n, &found)
                         : reco_bank_deletion_pick(ctx, l->d, l->ids, l->n, &found));
    l->missing += l->n - found;
    for (size_t i = 0; i < l->n && l->are_uris; i++) reco_free(l->uris[i]);
    l->n = 0;
    return RECO_OK;
}

static reco_status add_line(reco_ctx *ctx, list *l, const char *path, size_t number, const char *line)
{
    char *end = NULL;
    if (l->are_uris) {
        if (!(l->uris[l->n] = reco_strdup(ctx, line))) return RECO_E_NOMEM;
    } else {
        errno = 0;
        long long id = strtoll(line, &end, 10);
        if (errno || end == line || *end || id < 0)
            return reco_fail(ctx, RECO_E_FORMAT, "%s:%zu: \"%.40s\" is not an id", path, number, line);
        l->ids[l->n] = id;
    }
    return ++l->n < PAGE ? RECO_OK : pick(ctx, l);
}

static reco_status pick_file(reco_ctx *ctx, reco_bank_deletion *d, const char *path, bool uris,
                             uint64_t *missing)
{
    reco_lines *lines;
    const char *line;
    size_t bytes;
    reco_status status = RECO_OK;
    RECO_TRY(reco_lines_open(ctx, &lines, path));
    list *l = reco_alloc(ctx, 1, sizeof *l, "picked rows");
    if (!l) RECO_GO(RECO_E_NOMEM);
    l->d = d;
    l->are_uris = uris;
    for (size_t number = 1;; number++) {
        RECO_GO(reco_lines_next(ctx, lines, &line, &bytes));
        if (!line) break;
        if (bytes) RECO_GO(add_line(ctx, l, path, number, line));
    }
    RECO_GO(pick(ctx, l));
    *missing += l->missing;
out:
    for (size_t i = 0; l && l->are_uris && i < l->n; i++) reco_free(l->uris[i]);
    reco_free(l);
    reco_lines_close(lines);
    return status;
}

static reco_status pick_rows(reco_ctx *ctx, reco_bank_deletion *d, const reco_bank_rows *rows,
                             uint64_t *missing)
{
    const reco_bank *bank;
    uint64_t found;
    RECO_TRY(reco_bank_deletion_pick(ctx, d, rows->ids, rows->nids, &found));
    *missing += rows->nids - found;
    RECO_TRY(reco_bank_deletion_uris(ctx, d, rows->uris, rows->nuris, &found));
    *missing += rows->nuris - found;
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

static reco_status show(reco_ctx *ctx, void *arg, size_t i, const reco_pair *pair)
{
    const reco_delete_opts *opts = arg;
    (void)ctx, (void)i;
    opts->row(opts->user, pair);
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
        *total += n;
        if (!opts->preview || !opts->row) continue;
        if (!opts->restore) RECO_TRY(reco_bank_each_pair(ctx, bank, ids, n, show, (void *)(uintptr_t)opts));
        for (size_t i = 0; i < n && opts->restore; i++) {
            reco_pair pair;
            RECO_TRY(reco_bank_get_deleted(ctx, bank, ids[i], &pair));
            opts->row(opts->user, &pair);
            reco_pair_free(&pair);
        }
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
