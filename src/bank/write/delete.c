#include "bank/write/deletion.h"

static reco_status open_writer(reco_ctx *ctx, reco_bank_deletion *d)
{
    uint64_t next;
    int done;
    RECO_TRY(reco_bank_writer_open(ctx, &d->writer, d->dir, NULL, "", &next, &done));
    d->catalog = d->writer->catalog;
    d->next_id = d->writer->next_id;
    return RECO_OK;
}

static reco_status open_reader(reco_ctx *ctx, reco_bank_deletion *d)
{
    reco_bank_info info;
    int64_t next_segment;
    RECO_TRY(reco_catalog_open(ctx, &d->catalog, d->dir, false));
    RECO_TRY(reco_catalog_info(ctx, d->catalog, &info, &next_segment));
    d->next_id = info.next_id;
    return RECO_OK;
}

reco_status reco_folder_deletion_open(reco_ctx *ctx, reco_bank_deletion **out, const char *path, bool back,
                                      bool preview)
{
    *out = NULL;
    reco_bank_deletion *d = reco_alloc(ctx, 1, sizeof *d, "deletion");
    if (!d) return RECO_E_NOMEM;
    d->back = back;
    d->dir = reco_strdup(ctx, path);
    reco_status status = !d->dir ? RECO_E_NOMEM : preview ? open_reader(ctx, d) : open_writer(ctx, d);
    if (status == RECO_OK) status = reco_catalog_pick_none(ctx, d->catalog);
    if (status == RECO_OK)
        *out = d;
    else
        reco_bank_deletion_close(d);
    return status;
}

void reco_bank_deletion_close(reco_bank_deletion *d)
{
    if (!d) return;
    reco_bank_close(d->bank);
    if (d->ops) d->ops->close(d);
    if (d->writer)
        reco_bank_writer_close(d->writer);
    else
        reco_catalog_close(d->catalog);
    reco_free(d->dir);
    reco_free(d);
}

reco_status reco_bank_deletion_pick(reco_ctx *ctx, reco_bank_deletion *d, const int64_t *ids, size_t n,
                                    uint64_t *found)
{
    *found = 0;
    if (d->ops) return d->ops->pick_ids(ctx, d, ids, n, found);
    for (size_t i = 0; i < n; i++) {
        uint64_t rows;
        RECO_TRY(reco_catalog_pick_id(ctx, d->catalog, ids[i], d->back, &rows));
        *found += rows != 0;
    }
    return RECO_OK;
}

reco_status reco_bank_deletion_uris(reco_ctx *ctx, reco_bank_deletion *d, const char *const *uris, size_t n,
                                    uint64_t *found)
{
    *found = 0;
    if (d->ops) return d->ops->pick_uris(ctx, d, uris, n, found);
    for (size_t i = 0; i < n; i++) {
        uint64_t rows;
        RECO_TRY(reco_catalog_pick_uri(ctx, d->catalog, uris[i], d->back, &rows));
        *found += rows != 0;
    }
    return RECO_OK;
}

reco_status reco_bank_deletion_all(reco_ctx *ctx, reco_bank_deletion *d, uint64_t *picked)
{
    uint64_t n = 0;
    if (!d->back) return reco_bank_deletion_where(ctx, d, "true", picked);
    RECO_TRY(reco_catalog_pick_deleted(ctx, d->catalog, &n));
    if (picked) *picked = n;
    return RECO_OK;
}

reco_status reco_bank_deletion_doubles(reco_ctx *ctx, reco_bank_deletion *d, int64_t from, size_t max,
                                       int64_t *ids, size_t *n)
{
    *n = 0;
    if (!d->back) return RECO_OK;
    RECO_TRY(reco_catalog_drop_doubles(ctx, d->catalog));
    return reco_catalog_doubles(ctx, d->catalog, from, max, ids, n);
}

typedef struct picking {
    reco_bank_deletion *d;
    uint64_t n;
} picking;

static reco_status pick(reco_ctx *ctx, void *arg, int64_t id, bool *enough)
{
    picking *p = arg;
    uint64_t n;
    (void)enough;
    RECO_TRY(reco_bank_deletion_pick(ctx, p->d, &id, 1, &n));
    p->n += n;
    return RECO_OK;
}

reco_status reco_bank_deletion_where(reco_ctx *ctx, reco_bank_deletion *d, const char *where,
                                     uint64_t *picked)
{
    picking p = {d, 0};
    const reco_where_query query = {
        .where = where, .rows = (uint64_t)d->next_id, .deleted = d->back, .doubts = &d->doubts};
    RECO_TRY(d->ops ? d->ops->pick_where(ctx, d, where, &p.n)
                    : reco_catalog_where(ctx, d->catalog, &query, pick, &p));
    if (picked) *picked = p.n;
    return RECO_OK;
}

/* The lock keeps other writers out, so this snapshot is what the deletion finds; that of a preview may be newer. */
reco_status reco_bank_deletion_bank(reco_ctx *ctx, reco_bank_deletion *d, const reco_bank **bank)
{
    if (!d->bank) RECO_TRY(reco_bank_open(ctx, &d->bank, d->dir));
    *bank = d->bank;
    return RECO_OK;
}

reco_status reco_bank_deletion_near(reco_ctx *ctx, reco_bank_deletion *d, reco_side side,
                                    const float *query, float least, uint64_t *picked)
{
    enum { PAGE = 1024 };
    int64_t ids[PAGE];
    size_t n;
    const reco_bank *bank;
    uint64_t all = 0, found;
    if (d->back) return reco_fail(ctx, RECO_E_ARG, "%s: deleted rows cannot be searched", d->dir);
    RECO_TRY(reco_bank_deletion_bank(ctx, d, &bank));
    for (reco_range range = {.side = side, .query = query, .least = least, .max = PAGE};;
         range.from = ids[n - 1] + 1) {
        RECO_TRY(reco_bank_within(ctx, bank, &range, &(reco_hits){.ids = ids, .counts = &n}));
        RECO_TRY(reco_bank_deletion_pick(ctx, d, ids, n, &found));
        all += found;
        if (n < PAGE) break;
    }
    if (picked) *picked = all;
    return RECO_OK;
}

reco_status reco_bank_deletion_ids(reco_ctx *ctx, reco_bank_deletion *d, int64_t from, size_t max,
                                   int64_t *ids, size_t *n)
{
    return d->ops ? d->ops->picked(ctx, d, from, max, ids, n)
                  : reco_catalog_picked(ctx, d->catalog, from, max, ids, n);
}

reco_status reco_bank_deletion_commit(reco_ctx *ctx, reco_bank_deletion *d, uint64_t *deleted)
{
    uint64_t n = 0;
    if (!d->writer) return reco_fail(ctx, RECO_E_ARG, "%s: a preview changes nothing", d->dir);
    if (d->ops) return d->ops->commit(ctx, d, deleted);
    reco_bank_close(d->bank); /* it shows what was there before */
    d->bank = NULL;
    if (d->back) RECO_TRY(reco_catalog_drop_doubles(ctx, d->catalog));
    RECO_TRY(reco_catalog_mark_picked(ctx, d->catalog, !d->back, &n));
    if (deleted) *deleted = n;
    return RECO_OK;
}
