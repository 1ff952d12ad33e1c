/* Which class the caption of a row of the memory is. */
#include "pipeline/class_list.h"

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

static reco_status hash_both(reco_ctx *ctx, const reco_model *model, const char *text, uint64_t hash[2])
{
    RECO_TRY(reco_class_hash_tokens(ctx, model, text, &hash[0]));
    return reco_class_hash_words(ctx, text, false, &hash[1]);
}

/* The names, and the names in every template; entries are classes. */
static reco_status index_texts(reco_ctx *ctx, const reco_class_list *list, const reco_model *model,
                               const char *const *templates, size_t m, struct reco_class_index *index)
{
    for (size_t i = 0; i < list->n; i++)
        for (size_t t = 0; t < m + 1; t++) {
            uint64_t hash[2];
            char *text = t ? reco_fill_template(ctx, templates[t - 1], list->class_texts[i])
                           : reco_strdup(ctx, list->class_texts[i]);
            if (!text) return RECO_E_NOMEM; /* the templates have been filled before */
            reco_status status = hash_both(ctx, model, text, hash);
            reco_free(text);
            if (status != RECO_OK) return status;
            for (int h = 0; h < 2; h++) *index++ = (struct reco_class_index){hash[h], (uint32_t)i};
        }
    return RECO_OK;
}

static uint32_t find(const struct reco_class_index *index, size_t n, uint64_t hash)
{
    size_t at = reco_class_first(index, n, hash);
    return at < n ? index[at].entry : RECO_NO_CLASS;
}

static reco_status class_of(reco_ctx *ctx, const reco_bank *bank, const reco_model *model, int64_t id,
                            const struct reco_class_index *index, size_t n, uint32_t *class)
{
    reco_pair pair;
    uint64_t hash[2];
    *class = RECO_NO_CLASS;
    RECO_TRY(reco_bank_get(ctx, bank, id, &pair));
    reco_status status = RECO_OK;
    if (pair.caption && *pair.caption) {
        status = hash_both(ctx, model, pair.caption, hash);
        for (int h = 0; h < 2 && status == RECO_OK && *class == RECO_NO_CLASS; h++)
            *class = find(index, n, hash[h]);
    }
    reco_pair_free(&pair);
    return status;
}

reco_status reco_class_list_votes(reco_ctx *ctx, const reco_class_list *list, const reco_model *model,
                                  const char *const *templates, size_t m, const reco_bank *bank,
                                  const int64_t *ids, size_t n, uint32_t *classes)
{
    reco_status status = RECO_OK;
    size_t texts = 2 * list->n * (m + 1);
    struct reco_class_index *index = reco_alloc(ctx, texts, sizeof *index, "classes");
    wanted *rows = reco_alloc(ctx, n, sizeof *rows, "neighbours");
    if (!index || !rows) RECO_GO(RECO_E_NOMEM);
    RECO_GO(index_texts(ctx, list, model, templates, m, index));
    qsort(index, texts, sizeof *index, reco_class_by_hash);
    for (size_t i = 0; i < n; i++) rows[i] = (wanted){ids[i], i};
    qsort(rows, n, sizeof *rows, by_id);
    for (size_t i = 0; i < n; i++) {
        uint32_t *class = &classes[rows[i].at];
        if (rows[i].id < 0)
            *class = RECO_NO_CLASS;
        else if (i && rows[i].id == rows[i - 1].id)
            *class = classes[rows[i - 1].at];
        else
            RECO_GO(class_of(ctx, bank, model, rows[i].id, index, texts, class));
    }
out:
    reco_free(rows);
    reco_free(index);
    return status;
}
