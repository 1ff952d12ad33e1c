#include "pipeline/pipeline_internal.h"

#include <math.h>

#define IDS 4096

/* Row by row: f16 files are normalised only to three digits. */
static reco_status alloc_pairs(reco_ctx *ctx, reco_pair_set *set, size_t n, size_t d)
{
    size_t count;
    if (!reco_mul(n, d, &count)) return reco_fail_nomem(ctx, SIZE_MAX, "training pairs");
    set->d = d;
    set->image = reco_alloc(ctx, count, sizeof(float), "training pairs");
    set->text = reco_alloc(ctx, count, sizeof(float), "training pairs");
    set->captions = reco_alloc(ctx, n, sizeof(uint64_t), "training pairs");
    set->pictures = reco_alloc(ctx, n, sizeof(uint64_t), "training pairs");
    return set->image && set->text && set->captions && set->pictures ? RECO_OK : RECO_E_NOMEM;
}

static reco_status from_bank(reco_ctx *ctx, reco_pair_set *set, const char *path)
{
    reco_bank *bank = NULL;
    reco_status status = RECO_OK;
    int64_t *ids = NULL;
    RECO_GO(reco_bank_open(ctx, &bank, path));
    reco_bank_info info = *reco_bank_get_info(bank);
    size_t total = (size_t)info.rows, n;
    RECO_GO(alloc_pairs(ctx, set, total, info.d));
    if (!(ids = reco_alloc(ctx, IDS, sizeof *ids, "ids"))) RECO_GO(RECO_E_NOMEM);
    for (int64_t from = 0; set->n < total; from = ids[n - 1] + 1) {
        RECO_GO(reco_bank_select(ctx, bank, NULL, from, reco_min(IDS, total - set->n), ids, &n));
        if (n == 0) break;
        RECO_GO(reco_bank_gather(ctx, bank, RECO_IMAGE, ids, n, set->image + set->n * info.d));
        RECO_GO(reco_bank_gather(ctx, bank, RECO_TEXT, ids, n, set->text + set->n * info.d));
        for (size_t i = 0; i < n; i++, set->n++) {
            reco_pair pair;
            RECO_GO(reco_bank_get(ctx, bank, ids[i], &pair));
            status = reco_caption_key(ctx, &set->captions[set->n], pair.caption);
            set->pictures[set->n] = reco_picture_key(pair.content ? pair.content : pair.place, pair.uri);
            reco_pair_free(&pair);
            if (status != RECO_OK) goto out;
            reco_unit_row(set->image + set->n * info.d, info.d);
            reco_unit_row(set->text + set->n * info.d, info.d);
        }
    }
out:
    reco_free(ids);
    reco_bank_close(bank);
    return status;
}

static reco_status from_embeddings(reco_ctx *ctx, reco_pair_set *set, const char *path)
{
    reco_embeddings *e = NULL;
    reco_status status = RECO_OK;
    RECO_GO(reco_embeddings_open(ctx, &e, path));
    if (!reco_embeddings_has(e, RECO_IMAGE) || !reco_embeddings_has(e, RECO_TEXT))
        RECO_GO(reco_fail(ctx, RECO_E_NOTFOUND, "%s: no %s, want img_emb and text_emb", path,
                          reco_embeddings_has(e, RECO_IMAGE) ? "text_emb" : "img_emb"));
    size_t n = reco_embeddings_rows(e), d = reco_embeddings_width(e);
    bool captions = reco_embeddings_has_metadata(e);
    if (reco_embeddings_need_metadata(ctx, e) != RECO_OK)
        reco_log(ctx, RECO_LOG_WARN, "%s", reco_ctx_error(ctx));
    RECO_GO(alloc_pairs(ctx, set, n, d));
    if (captions) RECO_GO(reco_embeddings_rewind(ctx, e));
    for (size_t i = 0; i < n; i++) {
        float *image = set->image + set->n * d, *text = set->text + set->n * d;
        RECO_GO(reco_embeddings_read(ctx, e, RECO_IMAGE, i, 1, image));
        RECO_GO(reco_embeddings_read(ctx, e, RECO_TEXT, i, 1, text));
        json_t *record = NULL;
        const char *bad = NULL, *reason;
        uint64_t number;
        reco_pair_row row = {0};
        if (captions) RECO_GO(reco_embeddings_next(ctx, e, &record, &number, &bad));
        if (record) status = reco_pair_row_read(ctx, &row, record, "", NULL, RECO_NEED_NOTHING, &reason);
        json_decref(record);
        if (status == RECO_OK) status = reco_caption_key(ctx, &set->captions[set->n], row.caption);
        set->pictures[set->n] = reco_picture_key(NULL, row.uri);
        reco_pair_row_free(&row);
        if (status != RECO_OK) goto out;
        if (reco_unit_row(image, d) && reco_unit_row(text, d)) set->n++;
    }
    if (set->n < n)
        reco_log(ctx, RECO_LOG_WARN, "%s: %zu of %zu rows are zero or not finite, and left out", path,
                 n - set->n, n);
out:
    reco_embeddings_close(e);
    return status;
}

reco_status reco_pair_set_load(reco_ctx *ctx, reco_pair_set *set, const char *path)
{
    *set = (reco_pair_set){0};
    char *database = reco_path_join(ctx, path, "bank.sqlite");
    if (!database) return RECO_E_NOMEM;
    bool bank = reco_path_exists(database);
    reco_free(database);
    reco_status status = bank ? from_bank(ctx, set, path) : from_embeddings(ctx, set, path);
    if (status == RECO_OK && set->n == 0) status = reco_fail(ctx, RECO_E_FORMAT, "%s: no rows", path);
    if (status != RECO_OK) reco_pair_set_free(set);
    return status;
}

void reco_pair_set_free(reco_pair_set *set)
{
    reco_free(set->image);
    reco_free(set->text);
    reco_free(set->captions);
    reco_free(set->pictures);
    *set = (reco_pair_set){0};
}
