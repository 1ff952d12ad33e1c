/* What the memory answers where there are no classes, and why. */
#include "explain.h"

#include <stdlib.h>
#include <string.h>

#define ASKED 64 /* rows, of which several may say the same */

/* One expert alone, or all: the captions, or the pictures, that are likeliest. */
static json_t *expert(cli *c, const zero_shot *z, reco_side own, const float *x, int which, size_t top)
{
    int64_t ids[ASKED];
    float scores[ASKED];
    size_t n, shown = 0;
    reco_mixture m = explain_mixture(z, which);
    reco_side side = own == RECO_IMAGE ? RECO_TEXT : RECO_IMAGE;
    reco_ask_opts opts = {.search = {.k = ASKED, .filter = z->filter},
                          .distinct = side == RECO_IMAGE,
                          .fusion = z->fusion,
                          .sides = z->sides,
                          .mixture = &m,
                          .neighbours = z->k};
    if (reco_ask(c->ctx, z->bank, own, side, x, 1, &opts, -1,
                 (reco_answer_list){.ids = ids, .scores = scores, .counts = &n}) != RECO_OK)
        return NULL;
    json_t *list = json_array();
    float before = -1;
    for (size_t i = 0; i < n && shown < top; i++) {
        reco_pair pair;
        if (side == RECO_TEXT && scores[i] == before) continue; /* the same caption */
        before = scores[i];
        if (shown && scores[i] <= 0) break;
        if (reco_bank_get(c->ctx, z->bank, ids[i], &pair) != RECO_OK) {
            json_decref(list);
            return NULL;
        }
        json_t *answer = json_pack("{s:s, s:o, s:I}", "label", pair.caption, "probability",
                                   cli_weight(scores[i]), "id", (json_int_t)pair.id);
        if (answer && side == RECO_IMAGE) explain_place(c, answer, &pair);
        json_array_append_new(list, answer);
        reco_pair_free(&pair);
        shown++;
    }
    return explain_expert(z, which, false, list);
}

static json_t *retrieved(cli *c, const zero_shot *z, reco_side own, const float *x, bool votes)
{
    size_t n, most = z->mixture.voters ? z->mixture.voters : z->k;
    float *weights = calloc(2 * z->k + 1, sizeof *weights), *scores = calloc(most, sizeof *scores);
    int64_t *ids = calloc(z->k, sizeof *ids), *voters = calloc(most, sizeof *voters);
    json_t *list = NULL;
    if (weights && ids && scores && voters) {
        reco_hits hits = {ids, weights + z->k + 1, &n};
        bool good = reco_weigh(c->ctx, z->bank, z->fusion, own, x, &z->refine, hits, weights) == RECO_OK;
        if (!((int)z->took >> own & 1)) { /* they vote, and refine nothing */
            memset(weights, 0, (z->k + 1) * sizeof *weights);
            weights[0] = 1;
        }
        if (good) list = explain_retrieved(c, z, own == RECO_IMAGE ? "image" : "text", NULL, hits, weights);
        if (list && votes) {
            reco_side searched = reco_modality_side(reco_fusion_get_config(z->fusion).search, own);
            good = reco_bank_search(c->ctx, z->bank, searched, x, 1,
                                    &(reco_search_opts){.k = most, .filter = z->filter},
                                    (reco_hits){voters, scores, &n}) == RECO_OK;
            float least = reco_fusion_get_config(z->fusion).min_similarity;
            while (n && scores[n - 1] < least) n--;
            if (good)
                explain_votes(z, json_object_get(list, "rows"), scores, n);
            else {
                json_decref(list);
                list = NULL;
            }
        }
    }
    free(weights);
    free(scores);
    free(ids);
    free(voters);
    return list;
}

json_t *explain_question(cli *c, const zero_shot *z, reco_side own, const char *query, const float *x,
                         size_t top)
{
    json_t *experts = json_array(), *found = json_array(), *result = NULL;
    bool good = true, votes = zero_shot_votes(z) && own == RECO_IMAGE;
    for (int e = 0; e < 4 && good; e++)
        if (e != 2 || votes) good = json_array_append_new(experts, expert(c, z, own, x, e, top)) == 0;
    if (good && ((int)z->took >> own & 1 || votes))
        good = json_array_append_new(found, retrieved(c, z, own, x, votes)) == 0;
    if (good) result = explain_result(own == RECO_IMAGE ? "image" : "text", query, experts, found);
    json_decref(experts);
    json_decref(found);
    return result;
}
