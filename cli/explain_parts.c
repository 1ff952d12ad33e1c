#include "explain.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const explain_experts[4] = {"CLIP", "refined", "vote", "RECO"};

reco_mixture explain_mixture(const zero_shot *z, int expert)
{
    reco_mixture m = z->s.mixture;
    bool mixes = zero_shot_mixes(z);
    float scale = z->model ? reco_model_get_info(z->model)->logit_scale : 0;
    if (!mixes) m = (reco_mixture){0, 1, {scale, scale, scale}, 0}; /* the refined cosines decide */
    if (expert < 3) m.clip = expert == 0, m.refined = expert == 1;
    return m;
}

json_t *explain_expert(const zero_shot *z, int expert, bool silent, json_t *top)
{
    reco_mixture all = explain_mixture(z, 3);
    float weights[3] = {all.clip, all.refined, fmaxf(0, 1 - all.clip - all.refined)};
    if (weights[2] < 1e-6f) weights[2] = 0;
    return json_pack("{s:s, s:o, s:b, s:o}", "name", explain_experts[expert], "weight",
                     expert < 3 ? cli_weight(weights[expert]) : json_null(), "silent", silent, "top", top);
}

static json_t *best_of_expert(const json_t *experts, size_t i)
{
    json_t *best = json_array_get(json_object_get(json_array_get(experts, i), "top"), 0);
    return best ? json_incref(best) : json_null();
}

json_t *explain_result(const char *kind, const char *query, const char *path, json_t *experts,
                       json_t *retrieved)
{
    json_t *result = json_pack(
        "{s:o, s:o, s:o, s:O, s:O}", kind, cli_text(query), "before", best_of_expert(experts, 0), "after",
        best_of_expert(experts, json_array_size(experts) - 1), "experts", experts, "retrieved", retrieved);
    if (result && path) json_object_set_new(result, "path", cli_text(path));
    return result;
}

void explain_place(cli *c, json_t *object, const reco_pair *pair)
{
    char *near = NULL, *path = NULL;
    if (!pair->uri) return;
    json_object_set_new(object, "uri", cli_text(pair->uri));
    if (strstr(pair->uri, "://")) return;
    if (pair->base && asprintf(&near, "%s/.", pair->base) < 0) near = NULL;
    path = reco_resolve_path(c->ctx, near ? near : ".", pair->uri);
    if (path) json_object_set_new(object, "path", cli_text(path));
    reco_free(path);
    free(near);
}

json_t *explain_retrieved(cli *c, const zero_shot *z, const char *by, const char *text,
                          const reco_hits *hits, const float *weights)
{
    reco_pair pairs[RECO_BANK_MAX_K];
    if (reco_bank_get_many(c->ctx, z->bank, hits->ids, *hits->counts, pairs) != RECO_OK) return NULL;
    json_t *rows = json_array();
    for (size_t j = 0; j < *hits->counts; j++) {
        reco_pair pair = pairs[j];
        json_t *row = json_pack("{s:I, s:o, s:o, s:s}", "id", (json_int_t)pair.id, "score",
                                answer_score(hits->scores[j]), "weight", cli_weight(weights[j + 1]),
                                "caption", pair.caption);
        if (row) explain_place(c, row, &pair);
        json_array_append_new(rows, row);
        reco_pair_free(&pair);
    }
    static const char *const sides[] = {"image", "text"};
    reco_fusion_config config = *reco_fusion_get_config(z->fusion);
    reco_side own = strcmp(by, "image") == 0 ? RECO_IMAGE : RECO_TEXT;
    return json_pack("{s:s, s:s, s:s, s:o, s:o, s:o}", "by", by, "compared",
                     sides[reco_modality_side(config.search, own)], "fused",
                     sides[reco_modality_side(config.fuse, own)], "text",
                     text ? cli_text(text) : json_null(), "own", cli_weight(weights[0]), "rows", rows);
}

void explain_votes(const zero_shot *z, json_t *rows, const float *scores, size_t n)
{
    double scale = (double)z->s.mixture.scale[2], sum = 0;
    json_t *row;
    size_t i;
    for (size_t h = 0; h < n; h++) sum += exp(scale * (double)(scores[h] - scores[0]));
    json_array_foreach(rows, i, row)
    {
        double own = i < n ? exp(scale * (double)(scores[i] - scores[0])) / sum : 0;
        json_object_set_new(row, "vote", cli_weight((float)own));
    }
}

json_t *explain_facts(const zero_shot *z)
{
    reco_bank_info bank = *reco_bank_get_info(z->bank);
    return json_pack("{s:s, s:s, s:o, s:I, s:s, s:s, s:o, s:I}", "reco", reco_version(), "model",
                     z->model ? reco_model_get_info(z->model)->name : bank.encoder, "bank",
                     cli_text(z->bank_dir), "rows", (json_int_t)bank.rows, "layer",
                     reco_layer_name(reco_fusion_get_config(z->fusion)->layer), "refined",
                     cli_sides_name(z->s.sides), "mixture", cli_mixture(&z->s.mixture), "classes",
                     (json_int_t)z->among.n);
}
