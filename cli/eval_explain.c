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

/* What is explained: a run, beside CLIP. */
typedef struct story {
    eval_args *a;
    const eval_question *q;
    const eval_method *methods[2]; /* of CLIP, of RECO */
} story;

static int64_t answer_of(const story *s, int method, size_t i)
{
    return s->methods[method]->top[i * EVAL_TOP];
}

/* [{"label", "answer", "clip", "reco"}]: how often pictures of label were taken for answer. */
static json_t *confused(const story *s)
{
    const eval_question *q = s->q;
    const zero_shot *z = &s->a->z;
    size_t n = 0, unique = 0;
    pair *pairs = calloc(2 * q->n + 1, sizeof *pairs);
    json_t *list = json_array();
    for (size_t i = 0; pairs && i < q->n; i++)
        for (int r = 0; r < 2; r++)
            if (answer_of(s, r, i) != (int64_t)q->labels[i]) {
                pairs[n] = (pair){q->labels[i], (uint32_t)answer_of(s, r, i), {0}};
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
            list, json_pack("{s:o, s:o, s:I, s:I}", "label", cli_text(zero_shot_name(z, pairs[i].label)),
                            "answer", cli_text(zero_shot_name(z, pairs[i].answer)), "clip",
                            (json_int_t)pairs[i].count[0], "reco", (json_int_t)pairs[i].count[1]));
    free(pairs);
    return list;
}

enum { WON, LOST, OTHER, GROUPS };
static const char *const groups[GROUPS] = {"won", "lost", "other"};

static int group_of(const story *s, size_t i)
{
    bool clip = s->methods[0]->hit[0][i] > 0, reco = s->methods[1]->hit[0][i] > 0;
    return clip == reco ? OTHER : reco ? WON : LOST;
}

/* Up to `most` pictures of a group, spread evenly over those that are in it; how many. */
static reco_status explain_group(cli *c, const story *s, int group, size_t most, json_t *list,
                                 size_t *shown)
{
    const eval_question *q = s->q;
    size_t all = 0, seen = 0;
    for (size_t i = 0; i < q->n; i++) all += group_of(s, i) == group;
    size_t some = all < most ? all : most;
    *shown = 0;
    for (size_t i = 0; i < q->n && *shown < some; i++) {
        if (group_of(s, i) != group) continue;
        if (seen++ != *shown * all / some) continue;
        json_t *one =
            explain_picture(c, &s->a->z, i, s->a->embeddings ? q->places[i] : q->paths[i], q->paths[i], 5);
        if (!one) return RECO_E_FORMAT; /* the context has the reason */
        json_object_set_new(one, "label", cli_text(zero_shot_name(&s->a->z, q->labels[i])));
        json_object_set_new(one, "group", json_string(groups[group]));
        json_array_append_new(list, one);
        ++*shown;
    }
    return RECO_OK;
}

static void add_score(json_t *list, const char *name, const eval_method *m)
{
    const double *f = m->figures[0];
    json_array_append_new(list, json_pack("{s:s, s:f, s:f, s:f}", "name", name, "acc1", f[0], "acc5", f[1],
                                          "mean_per_class", f[2]));
}

reco_status eval_explain(cli *c, eval_args *a, const eval_question *q, const eval_method *clip,
                         const eval_run *run)
{
    const story s = {a, q, {clip, &run->reco}};
    json_t *list = json_array(), *scores = json_array();
    size_t third = (a->explain + 2) / 3, won, lost, shown;
    add_score(scores, "CLIP", clip);
    if (run->mixture.scale[0] > 0) add_score(scores, "refined cosines", &run->cosines);
    add_score(scores, "RECO", &run->reco);
    reco_status status = explain_group(c, &s, WON, third, list, &won);
    if (status == RECO_OK)
        status =
            explain_group(c, &s, LOST, third < a->explain - won ? third : a->explain - won, list, &lost);
    if (status == RECO_OK) status = explain_group(c, &s, OTHER, a->explain - won - lost, list, &shown);
    if (status == RECO_OK) {
        json_t *page = json_pack("{s:o, s:O, s:o, s:O}", "facts", explain_facts(&a->z), "scores", scores,
                                 "confused", confused(&s), "queries", list);
        status = page ? explain_write(c, a->page, "What the memory changes", page) : RECO_E_NOMEM;
        json_decref(page);
    }
    json_decref(list);
    json_decref(scores);
    return status;
}
