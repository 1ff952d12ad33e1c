/* --explain: some of the pictures, and the classes confused most. */
#include "eval.h"
#include "explain.h"

#include <stdlib.h>

#define CONFUSED 15 /* pairs of classes to show */

typedef struct pair {
    uint32_t label, answer;
    uint32_t count[2]; /* of CLIP, of RECO */
} pair;

static int by_classes(const void *a, const void *b)
{
    const pair *x = a, *y = b;
    if (x->label != y->label) return x->label < y->label ? -1 : 1;
    return (x->answer > y->answer) - (x->answer < y->answer);
}

/* Both together, then RECO's, then in the order of the classes. */
static int by_count(const void *a, const void *b)
{
    const pair *x = a, *y = b;
    uint32_t m = x->count[0] + x->count[1], n = y->count[0] + y->count[1];
    if (m != n) return m > n ? -1 : 1;
    if (x->count[1] != y->count[1]) return x->count[1] > y->count[1] ? -1 : 1;
    return by_classes(a, b);
}

/* [{"label", "answer", "clip", "reco"}]: how often pictures of label were taken for answer. */
static json_t *confused(const eval_work *w)
{
    size_t n = 0, unique = 0;
    const int64_t *const tops[2] = {w->top[0], w->top[eval_answer(w)]};
    pair *pairs = calloc(2 * w->n + 1, sizeof *pairs);
    json_t *list = json_array();
    for (size_t i = 0; pairs && i < w->n; i++)
        for (int r = 0; r < 2; r++)
            if (tops[r][i * 5] != (int64_t)w->labels[i]) {
                pairs[n] = (pair){w->labels[i], (uint32_t)tops[r][i * 5], {0}};
                pairs[n++].count[r] = 1;
            }
    if (pairs) qsort(pairs, n, sizeof *pairs, by_classes);
    for (size_t i = 0; i < n; i++)
        if (unique && by_classes(&pairs[i], &pairs[unique - 1]) == 0)
            for (int r = 0; r < 2; r++) pairs[unique - 1].count[r] += pairs[i].count[r];
        else
            pairs[unique++] = pairs[i];
    if (pairs) qsort(pairs, unique, sizeof *pairs, by_count);
    for (size_t i = 0; i < unique && i < CONFUSED; i++)
        json_array_append_new(
            list, json_pack("{s:o, s:o, s:I, s:I}", "label", cli_text(w->z->classes[pairs[i].label]),
                            "answer", cli_text(w->z->classes[pairs[i].answer]), "clip",
                            (json_int_t)pairs[i].count[0], "reco", (json_int_t)pairs[i].count[1]));
    free(pairs);
    return list;
}

enum { WON, LOST, OTHER, GROUPS };
static const char *const groups[GROUPS] = {"won", "lost", "other"};

static int group_of(const eval_work *w, size_t i)
{
    int64_t label = (int64_t)w->labels[i];
    bool clip = w->top[0][i * 5] == label, reco = w->top[eval_answer(w)][i * 5] == label;
    return clip == reco ? OTHER : reco ? WON : LOST;
}

/* Up to `most` pictures of a group, spread evenly over those that are in it; how many. */
static reco_status explain_group(cli *c, eval_work *w, int group, size_t most, json_t *list, size_t *shown)
{
    size_t all = 0, seen = 0, d = w->z->d;
    for (size_t i = 0; i < w->n; i++) all += group_of(w, i) == group;
    size_t some = all < most ? all : most;
    *shown = 0;
    for (size_t i = 0; i < w->n && *shown < some; i++) {
        if (group_of(w, i) != group) continue;
        if (seen++ != *shown * all / some) continue;
        json_t *one = explain_picture(c, w->z, i, w->paths[i], w->rows + i * d, w->improved + i * d, 5);
        if (!one) return RECO_E_FORMAT; /* the context has the reason */
        json_object_set_new(one, "label", cli_text(w->z->classes[w->labels[i]]));
        json_object_set_new(one, "group", json_string(groups[group]));
        json_array_append_new(list, one);
        ++*shown;
    }
    return RECO_OK;
}

static json_t *score_list(const eval_work *w, const reco_class_scores *scores)
{
    static const char *const names[] = {"CLIP", "refined cosines", "RECO"};
    json_t *list = json_array();
    for (int r = 0; r <= eval_answer(w); r++)
        json_array_append_new(list, json_pack("{s:s, s:f, s:f, s:f}", "name",
                                              r == eval_answer(w) ? "RECO" : names[r], "acc1",
                                              scores[r].acc1, "acc5", scores[r].acc5, "mean_per_class",
                                              scores[r].mean_per_class));
    return list;
}

reco_status eval_explain(cli *c, const eval_args *a, eval_work *w, const reco_class_scores scores[3])
{
    json_t *list = json_array();
    size_t third = (a->explain + 2) / 3, won, lost, shown;
    reco_status status = explain_group(c, w, WON, third, list, &won);
    if (status == RECO_OK)
        status =
            explain_group(c, w, LOST, third < a->explain - won ? third : a->explain - won, list, &lost);
    if (status == RECO_OK) status = explain_group(c, w, OTHER, a->explain - won - lost, list, &shown);
    if (status == RECO_OK) {
        json_t *page = json_pack("{s:o, s:o, s:o, s:O}", "facts", explain_facts(w->z), "scores",
                                 score_list(w, scores), "confused", confused(w), "queries", list);
        status = page ? explain_write(c, a->page, "What the memory changes", page) : RECO_E_NOMEM;
        json_decref(page);
    }
    json_decref(list);
    return status;
}
