#include "study/study_internal.h"

#include <stdio.h>

static const char *const sides_names[] = {"none", "image", "text", "both"};

enum { TOP = 5 };

/* The queries among the classes, read out: by CLIP alone, or as the memory says. */
static reco_status score_queries(reco_ctx *ctx, reco_class_scores *scores, int64_t *top,
                                 const study_data *data, const reco_classifier *classifier)
{
    reco_question question = {.side = RECO_IMAGE, .x = data->rows, .n = data->n};
    reco_findings found = {0};
    reco_status status;
    RECO_GO(reco_classifier_ask(ctx, classifier, &question, NULL, &found));
    RECO_GO(reco_classifier_rank(ctx, classifier, &found, NULL, &(reco_ranking){.top = TOP, .of = top}));
    status = reco_eval_count(ctx, scores, top, NULL, data->labels, NULL, data->n, data->c);
out:
    reco_findings_free(&found);
    return status;
}

static reco_status ask_layer(reco_ctx *ctx, reco_class_scores *scores, int64_t *top, study_cell *cell,
                             const study_spec *spec, const study_data *data, const study_bank *bank,
                             const reco_bank_filter *filter, const char *path)
{
    static const reco_mixture none = {0};
    reco_memory memory = RECO_MEMORY_INIT;
    reco_fusion *fusion = NULL;
    reco_classifier *classifier = NULL;
    reco_settings settings;
    reco_status status;
    RECO_GO(reco_fusion_open(ctx, &fusion, spec->control ? spec->control : path, data->d, spec->train.k));
    memory.bank = bank->bank;
    memory.fusion = fusion;
    memory.filter = filter;
    memory.k = spec->k;
    memory.min_similarity = spec->min_similarity;
    memory.sides = spec->sides;
    if (!spec->mixture) memory.mixture = &none;
    RECO_GO(reco_classifier_create(ctx, &classifier, &memory, &data->among, NULL));
    RECO_GO(score_queries(ctx, scores, top, data, classifier));
    reco_classifier_settings(classifier, &settings);
    snprintf(cell->sides, sizeof cell->sides, "%s", sides_names[settings.sides & 3]);
    if (!spec->control)
        snprintf(cell->chosen, sizeof cell->chosen, "%s",
                 sides_names[reco_fusion_get_config(fusion)->sides & 3]);
out:
    reco_classifier_free(classifier);
    reco_fusion_free(fusion);
    return status;
}

reco_status study_evaluate(reco_ctx *ctx, study_cell *cell, const study_spec *spec, const study_data *data,
                           const study_bank *bank, const study_bank *known, const study_bank *pairs,
                           const reco_bank_filter *filter, const char *fusion)
{
    *cell = (study_cell){.sides = "none"};
    reco_class_scores scores = {0};
    int64_t *top = reco_alloc(ctx, data->n * TOP, sizeof *top, "predictions");
    reco_status status = RECO_E_NOMEM;
    cell->right = reco_alloc(ctx, data->n + 1, 1, "predictions");
    if (!top || !cell->right) goto out;
    switch (spec->kind) {
    case STUDY_CLIP:
        status = score_queries(ctx, &scores, top, data, data->clip);
        break;
    case STUDY_KNN:
        status = study_knn(ctx, &scores, top, spec, data, bank, filter);
        break;
    case STUDY_TIP:
        status = study_tip(ctx, &scores, top, data, bank, known, pairs);
        break;
    case STUDY_LAYER:
        status = ask_layer(ctx, &scores, top, cell, spec, data, bank, filter, fusion);
        break;
    }
    if (status != RECO_OK) goto out;
    for (size_t i = 0; i < data->n; i++)
        cell->right[i] = top[i * TOP] == (int64_t)data->labels[i] ? '1' : '0';
    cell->acc1 = scores.acc1;
    cell->acc5 = scores.acc5;
    cell->per_class = scores.mean_per_class;
out:
    reco_free(top);
    return status;
}

/* ---- as a file ---- */

reco_status study_cell_load(reco_ctx *ctx, study_cell *cell, const char *path, size_t n)
{
    json_t *root;
    const char *right, *sides, *chosen;
    *cell = (study_cell){0};
    RECO_TRY(reco_json_load(ctx, &root, path));
    reco_status status = RECO_OK;
    if (json_unpack(root, "{s:F, s:F, s:F, s:s, s:s, s:s}", "acc1", &cell->acc1, "acc5", &cell->acc5,
                    "mean_per_class", &cell->per_class, "sides", &sides, "chosen", &chosen, "right",
                    &right) != 0 ||
        strlen(right) != n || strspn(right, "01") != n || strlen(sides) >= sizeof cell->sides ||
        strlen(chosen) >= sizeof cell->chosen)
        status = reco_fail(ctx, RECO_E_FORMAT, "%s: is not a cell of a study of %zu queries; remove it",
                           path, n);
    if (status == RECO_OK) {
        snprintf(cell->sides, sizeof cell->sides, "%s", sides);
        snprintf(cell->chosen, sizeof cell->chosen, "%s", chosen);
        cell->right = reco_strdup(ctx, right);
        if (!cell->right) status = RECO_E_NOMEM;
    }
    json_decref(root);
    return status;
}

reco_status study_cell_save(reco_ctx *ctx, const study_cell *cell, const char *path)
{
    json_t *root = json_pack("{s:f, s:f, s:f, s:s, s:s, s:s}", "acc1", cell->acc1, "acc5", cell->acc5,
                             "mean_per_class", cell->per_class, "sides", cell->sides, "chosen",
                             cell->chosen, "right", cell->right);
    char *text = root ? reco_json_dump(ctx, root) : NULL;
    reco_status status = text ? reco_write_file(ctx, path, text, strlen(text)) : RECO_E_NOMEM;
    reco_free(text);
    json_decref(root);
    return status;
}

void study_cell_free(study_cell *cell)
{
    reco_free(cell->right);
    *cell = (study_cell){0};
}
