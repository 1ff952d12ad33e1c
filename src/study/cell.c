#include "study/study_internal.h"

#include <math.h>
#include <stdio.h>

static const char *const sides_names[] = {"none", "image", "text", "both"};

/* ---- one layer, asked ---- */

typedef struct asking {
    reco_ctx *ctx;
    const study_spec *spec;
    const study_data *data;
    reco_memory memory;
    reco_settings s;
    reco_fusion *fusion;
    float *images, *classes; /* [n][d], [c][d] refined */
    int64_t *ids;            /* [n][voters], like the rest */
    float *cosines;
    size_t *counts;
    uint32_t *of;
} asking;

/* Each prompt refined, normalised, averaged, normalised. */
static reco_status refine_classes(asking *a)
{
    const study_data *data = a->data;
    const size_t m = data->ntemplates ? data->ntemplates : 1, row = data->c * data->d;
    float *one = reco_alloc(a->ctx, row, sizeof *one, "classes");
    if (!one) return RECO_E_NOMEM;
    reco_status status = RECO_OK;
    for (size_t t = 0; t < m && status == RECO_OK; t++) {
        reco_question question = {.side = RECO_TEXT, .x = data->prompts + t * row, .n = data->c};
        status = reco_refine(a->ctx, &a->memory, &question, &(reco_refined){.rows = one});
        for (size_t i = 0; i < row; i++) a->classes[i] += one[i];
    }
    for (size_t i = 0; i < data->c && m > 1; i++) {
        float *x = a->classes + i * data->d;
        double norm = 0;
        for (size_t j = 0; j < data->d; j++) norm += (double)x[j] * (double)x[j];
        for (size_t j = 0; j < data->d && norm > 0; j++) x[j] = (float)((double)x[j] / sqrt(norm));
    }
    reco_free(one);
    return status;
}

static reco_status ask(asking *a, reco_class_scores *scores, int64_t *top)
{
    const study_data *data = a->data;
    reco_ctx *ctx = a->ctx;
    const size_t n = data->n, k = a->s.voters;
    a->images = reco_alloc(ctx, n * data->d, sizeof *a->images, "queries");
    a->classes = reco_alloc(ctx, data->c * data->d, sizeof *a->classes, "classes");
    a->ids = reco_alloc(ctx, n * k, sizeof *a->ids, "neighbours");
    a->cosines = reco_alloc(ctx, n * k, sizeof *a->cosines, "neighbours");
    a->counts = reco_alloc(ctx, n, sizeof *a->counts, "neighbours");
    a->of = reco_alloc(ctx, n * k, sizeof *a->of, "neighbours");
    if (!a->images || !a->classes || !a->ids || !a->cosines || !a->counts || !a->of) return RECO_E_NOMEM;
    reco_question question = {.side = RECO_IMAGE, .x = data->rows, .n = n};
    reco_refined refined = {.rows = a->images, .reach = k};
    if (k) refined.hits = (reco_hits){a->ids, a->cosines, a->counts};
    RECO_TRY(reco_refine(ctx, &a->memory, &question, &refined));
    if (a->s.sides & RECO_SIDES_TEXT)
        RECO_TRY(refine_classes(a));
    else
        memcpy(a->classes, data->plain, data->c * data->d * sizeof *a->classes);
    if (!(a->s.mixture.scale[0] > 0))
        return reco_eval_classes(ctx, scores, top, a->images, n, a->classes, data->c, data->d,
                                 data->labels);
    if (k) RECO_TRY(study_votes(ctx, data, a->memory.bank, a->ids, n * k, a->of));
    reco_votes heard = {a->cosines, a->of, a->counts, k};
    reco_readout_rows rows = {data->rows, data->plain, a->images, a->classes, n, data->c, data->d};
    return reco_eval_mixture(ctx, scores, top, &a->s.mixture, &rows, k ? &heard : NULL, data->labels);
}

static reco_status ask_layer(reco_ctx *ctx, reco_class_scores *scores, int64_t *top, study_cell *cell,
                             const study_spec *spec, const study_data *data, const study_bank *bank,
                             const reco_bank_filter *filter, const char *fusion)
{
    static const reco_mixture none = {0};
    asking a = {.ctx = ctx, .spec = spec, .data = data, .memory = RECO_MEMORY_INIT};
    reco_status status;
    RECO_GO(
        reco_fusion_open(ctx, &a.fusion, spec->control ? spec->control : fusion, data->d, spec->train.k));
    a.memory.bank = bank->bank;
    a.memory.fusion = a.fusion;
    a.memory.filter = filter;
    a.memory.k = spec->k;
    if (spec->use_min) a.memory.min_similarity = spec->min_similarity;
    a.memory.sides = spec->sides;
    if (!spec->mixture) a.memory.mixture = &none;
    reco_memory_settle(&a.memory, RECO_IMAGE, RECO_TEXT, &a.s);
    RECO_GO(reco_check_encoder(ctx, data->model, bank->bank, a.fusion));
    RECO_GO(ask(&a, scores, top));
    snprintf(cell->sides, sizeof cell->sides, "%s", sides_names[a.s.sides & 3]);
    if (!spec->control)
        snprintf(cell->chosen, sizeof cell->chosen, "%s",
                 sides_names[reco_fusion_get_config(a.fusion).sides & 3]);
out:
    reco_free(a.images);
    reco_free(a.classes);
    reco_free(a.ids);
    reco_free(a.cosines);
    reco_free(a.counts);
    reco_free(a.of);
    reco_fusion_free(a.fusion);
    return status;
}

reco_status study_evaluate(reco_ctx *ctx, study_cell *cell, const study_spec *spec, const study_data *data,
                           const study_bank *bank, const study_bank *known, const study_bank *pairs,
                           const reco_bank_filter *filter, const char *fusion)
{
    *cell = (study_cell){.sides = "none"};
    reco_class_scores scores = {0};
    int64_t *top = reco_alloc(ctx, data->n * 5, sizeof *top, "predictions");
    reco_status status = RECO_E_NOMEM;
    cell->right = reco_alloc(ctx, data->n + 1, 1, "predictions");
    if (!top || !cell->right) goto out;
    switch (spec->kind) {
    case STUDY_CLIP:
        status = reco_eval_classes(ctx, &scores, top, data->rows, data->n, data->plain, data->c, data->d,
                                   data->labels);
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
        cell->right[i] = top[i * 5] == (int64_t)data->labels[i] ? '1' : '0';
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
        status =
            reco_fail(ctx, RECO_E_FORMAT, "%s: is no cell of a study of %zu queries; remove it", path, n);
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
