/* Explanations of answers among the bank's own rows. */
#include "explain.h"

#include <stdlib.h>
#include <string.h>

#define ASKED 64 /* rows, of which several may say the same */

/* One expert alone, or all: the captions, or the pictures, that are likeliest. */
static json_t *expert(cli *c, const zero_shot *z, reco_side own, const float *x, int which, size_t top)
{
    int64_t ids[ASKED];
    float scores[ASKED];
    reco_pair pairs[ASKED];
    size_t n, shown = 0;
    reco_mixture m = explain_mixture(z, which);
    reco_side side = own == RECO_IMAGE ? RECO_TEXT : RECO_IMAGE;
    reco_memory memory = z->memory;
    memory.mixture = &m;
    reco_find_opts opts = {.in = side, .k = ASKED, .min_similarity = -1, .distinct = side == RECO_IMAGE};
    if (reco_ask(c->ctx, &memory, &(reco_question){.side = own, .x = x, .n = 1}, &opts,
                 &(reco_answer){.ids = ids, .scores = scores, .counts = &n, .pairs = pairs}) != RECO_OK)
        return NULL;
    json_t *list = json_array();
    float before = -1;
    for (size_t i = 0; i < n && shown < top; i++) {
        const reco_pair *pair = &pairs[i];
        if (side == RECO_TEXT && scores[i] == before) continue; /* the same caption */
        before = scores[i];
        if (shown && scores[i] <= 0) break;
        json_t *answer = json_pack("{s:s, s:o, s:I}", "label", pair->caption, "probability",
                                   cli_weight(scores[i]), "id", (json_int_t)pair->id);
        if (answer && side == RECO_IMAGE) explain_place(c, answer, pair);
        json_array_append_new(list, answer);
        shown++;
    }
    for (size_t i = 0; i < ASKED; i++) reco_pair_free(&pairs[i]);
    return explain_expert(z, which, false, list);
}

static json_t *retrieved(cli *c, const zero_shot *z, reco_side own, const float *x, bool votes)
{
    size_t n = 0, reach = z->s.voters > z->s.k ? z->s.voters : z->s.k, fused, voting;
    float *weights = calloc(z->s.k + 1, sizeof *weights), *scores = calloc(reach, sizeof *scores);
    int64_t *ids = calloc(reach, sizeof *ids);
    json_t *list = NULL;
    if (weights && ids && scores &&
        reco_refine(c->ctx, &z->memory, &(reco_question){.side = own, .x = x, .n = 1},
                    &(reco_refined){.reach = reach,
                                    .hits = {.ids = ids, .scores = scores, .counts = &n},
                                    .weights = weights}) == RECO_OK) {
        fused = n < z->s.k ? n : z->s.k;
        voting = n < z->s.voters ? n : z->s.voters;
        list = explain_retrieved(c, z, own == RECO_IMAGE ? "image" : "text", NULL,
                                 &(reco_hits){.ids = ids, .scores = scores, .counts = &fused}, weights);
        if (list && votes) explain_votes(z, json_object_get(list, "rows"), scores, voting);
    }
    free(weights);
    free(scores);
    free(ids);
    return list;
}

json_t *explain_question(cli *c, const zero_shot *z, reco_side own, const char *query, const float *x,
                         size_t top)
{
    json_t *experts = json_array(), *found = json_array(), *result = NULL;
    bool good = true, votes = z->s.voters && own == RECO_IMAGE;
    for (int e = 0; e < 4 && good; e++)
        if (e != 2 || votes) good = json_array_append_new(experts, expert(c, z, own, x, e, top)) == 0;
    if (good && ((int)z->took >> own & 1 || votes))
        good = json_array_append_new(found, retrieved(c, z, own, x, votes)) == 0;
    if (good)
        result = explain_result(own == RECO_IMAGE ? "image" : "text", query,
                                own == RECO_IMAGE ? query : NULL, experts, found);
    json_decref(experts);
    json_decref(found);
    return result;
}
