/* Why a picture was named so. */
#include "explain.h"

#include <stdlib.h>
#include <string.h>

typedef struct candidates {
    float *plain, *refined, *p; /* [n] */
    size_t n;
    reco_votes votes;
    bool votes_count;
} candidates;

static bool cosines(const zero_shot *z, size_t i, const float *x, const float *y, candidates *s)
{
    *s = (candidates){.n = z->nclasses};
    s->plain = calloc(3 * s->n + 1, sizeof *s->plain);
    if (!s->plain) return false;
    s->refined = s->plain + s->n;
    s->p = s->refined + s->n;
    for (size_t j = 0; j < s->n; j++) {
        double sum[2] = {0};
        for (size_t q = 0; q < z->d; q++) {
            sum[0] += (double)x[q] * (double)z->plain[j * z->d + q];
            sum[1] += (double)y[q] * (double)z->refined[j * z->d + q];
        }
        s->plain[j] = (float)sum[0];
        s->refined[j] = (float)sum[1];
    }
    s->votes = (reco_votes){z->scores + i * z->reach, z->of + i * z->reach, z->heard + i, z->reach};
    s->votes_count = zero_shot_votes(z);
    return true;
}

/* Does any neighbour vote for a class? */
static bool heard(const candidates *s)
{
    for (size_t h = 0; s->votes_count && h < *s->votes.counts; h++)
        if (s->votes.of[h] != RECO_NO_CANDIDATE) return true;
    return false;
}

/* The `top` likeliest by an expert; *first: the likeliest. */
static json_t *expert(cli *c, const zero_shot *z, candidates *s, int which, size_t top, size_t *first)
{
    reco_mixture m = explain_mixture(z, which);
    bool silent = which == 2 && !heard(s);
    json_t *list = json_array();
    if (reco_mixture_posterior(c->ctx, &m, s->plain, s->refined, s->votes_count ? &s->votes : NULL, 1, s->n,
                               s->p) != RECO_OK) {
        json_decref(list);
        return NULL;
    }
    for (size_t t = 0; t < top && t < s->n && !silent; t++) {
        size_t at = 0;
        for (size_t j = 1; j < s->n; j++)
            if (s->p[j] > s->p[at]) at = j;
        if (t == 0 && first) *first = at;
        if (t && s->p[at] <= 0) break;
        json_array_append_new(list, json_pack("{s:o, s:o}", "label", cli_text(z->classes[at]),
                                              "probability", cli_weight(s->p[at])));
        s->p[at] = -1;
    }
    return explain_expert(z, which, silent, list);
}

/* Which class each row that is heard says. */
static void add_classes(const zero_shot *z, const candidates *s, json_t *rows)
{
    for (size_t h = 0; s->votes_count && h < *s->votes.counts; h++) {
        uint32_t of = s->votes.of[h];
        json_object_set_new(json_array_get(rows, h), "class",
                            of == RECO_NO_CANDIDATE ? json_null() : cli_text(z->classes[of]));
    }
}

static json_t *by_picture(cli *c, const zero_shot *z, const candidates *s, size_t i, const float *x)
{
    size_t k = z->s.k, at = i * z->reach, n = z->counts[i] < k ? z->counts[i] : k;
    float *weights = calloc(k + 1, sizeof *weights);
    json_t *list = NULL;
    bool good = weights != NULL;
    reco_hits hits = {z->ids + at, z->scores + at, &n};
    if (good)
        good = reco_refine(c->ctx, &z->memory, &(reco_question){.side = RECO_IMAGE, .x = x, .n = 1},
                           &(reco_refined){.weights = weights}) == RECO_OK;
    if (good) list = explain_retrieved(c, z, "image", NULL, hits, weights);
    if (list && s->votes_count)
        explain_votes(z, json_object_get(list, "rows"), s->votes.scores, *s->votes.counts);
    if (list) add_classes(z, s, json_object_get(list, "rows"));
    free(weights);
    return list;
}

static json_t *by_class(cli *c, const zero_shot *z, size_t class)
{
    size_t k = z->s.k, n = 0;
    float *weights = calloc(2 * k + 1, sizeof *weights);
    int64_t *ids = calloc(k, sizeof *ids);
    json_t *list = NULL;
    if (weights && ids) {
        reco_hits hits = {ids, weights + k + 1, &n};
        if (reco_class_neighbours(c->ctx, z->model, &z->memory, reco_class_list_texts(z->list)[class],
                                  (const char *const *)z->templates, z->ntemplates,
                                  &(reco_refined){.hits = hits, .weights = weights}) == RECO_OK)
            list = explain_retrieved(c, z, "class", z->classes[class], hits, weights);
    }
    free(weights);
    free(ids);
    return list;
}

json_t *explain_picture(cli *c, zero_shot *z, size_t i, const char *image, const float *x, const float *y,
                        size_t top)
{
    candidates s;
    size_t answer = 0;
    json_t *experts = json_array(), *retrieved = json_array(), *result = NULL;
    bool good = cosines(z, i, x, y, &s);
    for (int e = 0; e < 4 && good; e++) {
        if (e == 2 && !zero_shot_votes(z)) continue;
        good = json_array_append_new(experts, expert(c, z, &s, e, top, e == 3 ? &answer : NULL)) == 0;
    }
    if (good && (z->took & RECO_SIDES_IMAGE || zero_shot_votes(z)))
        good = json_array_append_new(retrieved, by_picture(c, z, &s, i, x)) == 0;
    if (good && z->took & RECO_SIDES_TEXT)
        good = json_array_append_new(retrieved, by_class(c, z, answer)) == 0;
    if (good) result = explain_result("image", image, experts, retrieved);
    free(s.plain);
    json_decref(experts);
    json_decref(retrieved);
    return result;
}
