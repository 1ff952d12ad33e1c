#include "study/study_internal.h"

/* As DINO weighs neighbours (reco_eval_knn). */
#define KNN_SCALE (1 / 0.07f)

reco_status study_knn(reco_ctx *ctx, reco_class_scores *scores, int64_t *top, const study_spec *spec,
                      const study_data *data, const study_bank *bank, const reco_bank_filter *filter)
{
    size_t k = spec->k ? spec->k : spec->train.k, n = data->n;
    int64_t *ids = reco_alloc(ctx, n * k, sizeof *ids, "neighbours");
    float *cosines = reco_alloc(ctx, n * k, sizeof *cosines, "neighbours");
    size_t *counts = reco_alloc(ctx, n, sizeof *counts, "neighbours");
    uint32_t *of = reco_alloc(ctx, n * k, sizeof *of, "neighbours");
    reco_search_opts opts = {.k = k, .min_similarity = -1, .filter = filter};
    reco_votes votes = {.scores = cosines, .of = of, .counts = counts, .k = k};
    reco_status status = ids && cosines && counts && of ? RECO_OK : RECO_E_NOMEM;
    if (status != RECO_OK) goto out;
    RECO_GO(reco_bank_search(ctx, bank->bank, RECO_IMAGE, data->rows, n, &opts,
                             &(reco_hits){.ids = ids, .scores = cosines, .counts = counts}));
    RECO_GO(reco_classifier_votes(ctx, data->clip, bank->bank, ids, n * k, of));
    RECO_GO(reco_eval_knn(ctx, scores, top, KNN_SCALE, &votes, n, data->c, data->labels));
out:
    reco_free(ids);
    reco_free(cosines);
    reco_free(counts);
    reco_free(of);
    return status;
}

static reco_tip_pictures tip_pictures(const study_data *data, const float *images, size_t n,
                                      const uint32_t *labels)
{
    return (reco_tip_pictures){.images = images,
                               .labels = labels,
                               .n = n,
                               .classes = reco_classifier_plain(data->clip),
                               .c = data->c,
                               .d = data->d};
}

/* Pairs whose caption is a class, to choose by. */
static reco_status choose_tip(reco_ctx *ctx, reco_tip *tip, const reco_tip_cache *cache,
                              const study_data *data, const study_bank *pairs)
{
    int64_t *ids = reco_alloc(ctx, pairs->n + 1, sizeof *ids, "pairs");
    uint32_t *labels = reco_alloc(ctx, pairs->n + 1, sizeof *labels, "pairs");
    float *images = reco_alloc(ctx, pairs->n * data->d + 1, sizeof *images, "pairs");
    size_t n = 0;
    reco_status status = ids && labels && images ? RECO_OK : RECO_E_NOMEM;
    for (size_t i = 0; i < pairs->n && status == RECO_OK; i++) {
        if (pairs->of[i] == RECO_NO_CLASS) continue;
        ids[n] = pairs->ids[i];
        labels[n++] = pairs->of[i];
    }
    if (status == RECO_OK && n) status = reco_bank_gather(ctx, pairs->bank, RECO_IMAGE, ids, n, images);
    const reco_tip_pictures pictures = tip_pictures(data, images, n, labels);
    if (status == RECO_OK && n) status = reco_eval_tip_choose(ctx, tip, cache, &pictures);
    reco_free(ids);
    reco_free(labels);
    reco_free(images);
    return status;
}

static reco_status cache_of(reco_ctx *ctx, reco_tip_cache *cache, float **images, const study_bank *bank,
                            size_t d)
{
    *images = reco_alloc(ctx, bank->n * d + 1, sizeof **images, "cache");
    *cache = (reco_tip_cache){.images = *images, .of = bank->of, .m = bank->n};
    return *images ? reco_bank_gather(ctx, bank->bank, RECO_IMAGE, bank->ids, bank->n, *images)
                   : RECO_E_NOMEM;
}

/* All rows whose caption is a class. alpha and beta are chosen with the memory that layers are trained with, on the pairs that they are
 * trained on; without pairs on its own rows, each without itself. */
reco_status study_tip(reco_ctx *ctx, reco_class_scores *scores, int64_t *top, const study_data *data,
                      const study_bank *bank, const study_bank *known, const study_bank *pairs)
{
    float *images = NULL, *old = NULL;
    reco_tip tip = {.scale = data->scale};
    reco_tip_cache cache, before;
    const reco_tip_pictures queries = tip_pictures(data, data->rows, data->n, data->labels),
                            none = tip_pictures(data, NULL, 0, NULL);
    reco_status status;
    RECO_GO(cache_of(ctx, &cache, &images, bank, data->d));
    RECO_GO(cache_of(ctx, &before, &old, known, data->d));
    if (pairs->bank)
        RECO_GO(choose_tip(ctx, &tip, &before, data, pairs));
    else
        RECO_GO(reco_eval_tip_choose(ctx, &tip, &before, &none));
    RECO_GO(reco_eval_tip(ctx, scores, top, &tip, &cache, &queries));
out:
    reco_free(images);
    reco_free(old);
    return status;
}
