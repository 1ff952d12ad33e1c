/* Explanations of a picture's class. */
#include "explain.h"

#include <stdlib.h>
#include <string.h>

/* Does any neighbour of picture i vote for a class? */
static bool heard(const reco_findings *f, size_t i)
{
    for (size_t h = 0; h < f->voters[i]; h++)
        if (f->of[i * f->reach + h] != RECO_NO_CANDIDATE) return true;
    return false;
}

/* The `top` likeliest by an expert; *first: the likeliest. */
static json_t *expert(cli *c, const zero_shot *z, size_t i, int which, size_t top, size_t *first)
{
    const reco_findings *f = &z->found;
    reco_mixture m = explain_mixture(z, which);
    bool silent = which == 2 && !heard(f, i);
    /* Picture i alone. */
    reco_findings one = {.n = 1,
                         .reach = f->reach,
                         .plain = f->plain + i * z->among.d,
                         .refined = f->refined + i * z->among.d,
                         .ids = f->ids + i * f->reach,
                         .scores = f->scores + i * f->reach,
                         .counts = f->counts + i,
                         .voters = f->voters + i,
                         .of = f->of + i * f->reach,
                         .near = f->near ? f->near + i * f->reach : NULL};
    int64_t *of = calloc(top, sizeof *of);
    float *p = calloc(top, sizeof *p);
    json_t *list = NULL;
    if (of && p &&
        reco_classifier_rank(c->ctx, z->classifier, &one, &m,
                             &(reco_ranking){.top = top, .of = of, .p = p}) == RECO_OK)
        list = json_array();
    for (size_t t = 0; list && t < top && of[t] >= 0 && !silent; t++) {
        if (t && p[t] <= 0) break;
        json_array_append_new(list,
                              json_pack("{s:o, s:o}", "label", cli_text(zero_shot_name(z, (size_t)of[t])),
                                        "probability", cli_weight(p[t])));
    }
    if (list && first) *first = (size_t)of[0];
    free(of), free(p);
    return list ? explain_expert(z, which, silent, list) : NULL;
}

static json_t *by_picture(cli *c, const zero_shot *z, size_t i)
{
    const reco_findings *f = &z->found;
    size_t at = i * f->reach, n = f->counts[i] < z->s.k ? f->counts[i] : z->s.k;
    float *weights = calloc(z->s.k + 1, sizeof *weights);
    json_t *list = NULL;
    reco_question question = {.side = RECO_IMAGE, .x = z->asked + i * z->among.d, .n = 1};
    if (weights &&
        reco_refine(c->ctx, &z->memory, &question, &(reco_refined){.weights = weights}) == RECO_OK)
        list = explain_retrieved(c, z, "image", NULL,
                                 &(reco_hits){.ids = f->ids + at, .scores = f->scores + at, .counts = &n},
                                 weights);
    json_t *rows = json_object_get(list, "rows");
    if (list && z->s.voters) explain_votes(z, rows, f->scores + at, f->voters[i]);
    for (size_t h = 0; h < f->voters[i]; h++) { /* which class each row that is heard says */
        uint32_t of = f->of[at + h];
        json_object_set_new(json_array_get(rows, h), "class",
                            of == RECO_NO_CANDIDATE ? json_null() : cli_text(zero_shot_name(z, of)));
    }
    free(weights);
    return list;
}

static json_t *by_class(cli *c, const zero_shot *z, size_t class)
{
    size_t k = z->s.k, n = 0;
    float *weights = calloc(2 * k + 1, sizeof *weights);
    int64_t *ids = calloc(k, sizeof *ids);
    json_t *list = NULL;
    const reco_hits hits = {.ids = ids, .scores = weights + k + 1, .counts = &n};
    if (weights && ids &&
        reco_classifier_neighbours(c->ctx, z->classifier, class,
                                   &(reco_refined){.hits = hits, .weights = weights}) == RECO_OK)
        list = explain_retrieved(c, z, "class", zero_shot_name(z, class), &hits, weights);
    free(weights);
    free(ids);
    return list;
}

json_t *explain_picture(cli *c, zero_shot *z, size_t i, const char *image, const char *path, size_t top)
{
    size_t answer = 0;
    json_t *experts = json_array(), *retrieved = json_array(), *result = NULL;
    bool good = true;
    for (int e = 0; e < 4 && good; e++) {
        if (e == 2 && !z->s.voters) continue;
        good = json_array_append_new(experts, expert(c, z, i, e, top, e == 3 ? &answer : NULL)) == 0;
    }
    if (good && (z->s.refines || z->s.voters))
        good = json_array_append_new(retrieved, by_picture(c, z, i)) == 0;
    if (good && z->took & RECO_SIDES_TEXT)
        good = json_array_append_new(retrieved, by_class(c, z, answer)) == 0;
    if (good) result = explain_result("image", image, path, experts, retrieved);
    json_decref(experts);
    json_decref(retrieved);
    return result;
}
