/* Which class the caption of a row of the memory is. */
#include "io/io.h"
#include "query/class_list.h"

#include <stdlib.h>

typedef struct wanted {
    int64_t id;
    size_t at;
} wanted;

static int by_id(const void *a, const void *b)
{
    const wanted *x = a, *y = b;
    if (x->id != y->id) return x->id < y->id ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* By the names, whose hashes stand beside looser ones that mean nothing here, then by the prompts. */
static uint32_t find(const reco_class_list *list, const uint64_t hash[2])
{
    uint32_t class = RECO_NO_CLASS;
    for (int h = 0; h < 2 && class == RECO_NO_CLASS; h++)
        class = reco_class_look_up(list, list->known, list->nknown, hash[h]);
    for (int h = 0; h < 2 && class == RECO_NO_CLASS; h++) {
        size_t at = reco_class_first(list->said, list->nsaid, hash[h]);
        if (at < list->nsaid) class = list->said[at].entry;
    }
    return class;
}

static reco_status class_of(reco_ctx *ctx, const reco_class_list *list, const reco_model *model,
                            const reco_bank *bank, int64_t id, uint32_t *class)
{
    reco_pair pair;
    uint64_t hash[2];
    *class = RECO_NO_CLASS;
    RECO_TRY(reco_bank_get(ctx, bank, id, &pair));
    reco_status status = RECO_OK;
    if (pair.caption && *pair.caption) {
        status = reco_model_hash_tokens(ctx, model, pair.caption, &hash[0]);
        if (status == RECO_OK) status = reco_class_hash_words(ctx, pair.caption, false, &hash[1]);
        if (status == RECO_OK) *class = find(list, hash);
    }
    reco_pair_free(&pair);
    return status;
}

reco_status reco_class_list_votes(reco_ctx *ctx, const reco_class_list *list, const reco_model *model,
                                  const reco_bank *bank, const int64_t *ids, size_t n, uint32_t *classes)
{
    reco_status status = RECO_OK;
    if (!list->embedded) return reco_fail(ctx, RECO_E_ARG, "votes: the classes have not been embedded");
    wanted *rows = reco_alloc(ctx, n, sizeof *rows, "neighbours");
    if (!rows) return RECO_E_NOMEM;
    for (size_t i = 0; i < n; i++) rows[i] = (wanted){ids[i], i};
    qsort(rows, n, sizeof *rows, by_id);
    for (size_t i = 0; i < n; i++) {
        uint32_t *class = &classes[rows[i].at];
        if (rows[i].id < 0)
            *class = RECO_NO_CLASS;
        else if (i && rows[i].id == rows[i - 1].id)
            *class = classes[rows[i - 1].at];
        else
            RECO_GO(class_of(ctx, list, model, bank, rows[i].id, class));
    }
out:
    reco_free(rows);
    return status;
}
