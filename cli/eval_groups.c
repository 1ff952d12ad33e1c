/* Pictures of a group, and their captions, are brought together, so that each figure of it is one of neighbouring rows. */
#include "eval_runs.h"

#include <stdlib.h>
#include <string.h>

#define NO_GROUP "(none)"

static const char *named(char *const *names, size_t i)
{
    return names[i] && *names[i] ? names[i] : NO_GROUP;
}

static int by_group(const void *x, const void *y, void *arg)
{
    size_t i = *(const size_t *)x, j = *(const size_t *)y;
    int order = strcmp(named(arg, i), named(arg, j));
    return order ? order : (i > j) - (i < j);
}

static int by_picture(const void *x, const void *y, void *arg)
{
    const uint32_t *of = arg;
    size_t i = *(const size_t *)x, j = *(const size_t *)y;
    if (of[i] != of[j]) return of[i] < of[j] ? -1 : 1;
    return (i > j) - (i < j);
}

/* rows [n] of `size` bytes, in this order; false: out of memory. */
static bool reorder(void *rows, size_t size, const size_t *order, size_t n)
{
    char *copy = malloc(n * size + 1);
    if (!copy) return false;
    memcpy(copy, rows, n * size);
    for (size_t i = 0; i < n; i++) memcpy((char *)rows + i * size, copy + order[i] * size, size);
    free(copy);
    return true;
}

static size_t *counting(size_t n)
{
    size_t *order = calloc(n + 1, sizeof *order);
    for (size_t i = 0; order && i < n; i++) order[i] = i;
    return order;
}

/* Captions in the order of their pictures. */
static bool order_captions(eval_question *q, const size_t *pictures)
{
    uint32_t *now = calloc(q->n + 1, sizeof *now);
    size_t *order = counting(q->c);
    bool done = now && order;
    for (size_t i = 0; done && i < q->n; i++) now[pictures[i]] = (uint32_t)i;
    for (size_t j = 0; done && j < q->c; j++) q->of[j] = now[q->of[j]];
    if (done) {
        qsort_r(order, q->c, sizeof *order, by_picture, q->of);
        done = reorder(q->of, sizeof *q->of, order, q->c) &&
               reorder(q->names, sizeof *q->names, order, q->c) &&
               reorder(q->prompts, q->d * sizeof(float), order, q->c);
    }
    free(now), free(order);
    return done;
}

reco_status eval_question_group(eval_question *q, char *const *names)
{
    size_t *order = counting(q->n);
    bool done = order != NULL;
    if (done) {
        qsort_r(order, q->n, sizeof *order, by_group, (void *)names);
        done = reorder(q->images, q->d * sizeof(float), order, q->n) &&
               (!q->asked || reorder(q->asked, q->d * sizeof(float), order, q->n)) &&
               (!q->labels || reorder(q->labels, sizeof *q->labels, order, q->n)) &&
               (!q->of || order_captions(q, order));
    }
    q->groups = calloc(q->n + 1, sizeof *q->groups);
    for (int side = 0; side < 2; side++) q->start[side] = calloc(q->n + 2, sizeof(size_t));
    if (!done || !q->groups || !q->start[0] || !q->start[1]) {
        free(order);
        return RECO_E_NOMEM;
    }
    for (size_t i = 0; i < q->n; i++) {
        const char *name = named(names, order[i]);
        if (q->ngroups && strcmp(q->groups[q->ngroups - 1], name) == 0) continue;
        q->start[0][q->ngroups] = i;
        if (!(q->groups[q->ngroups++] = strdup(name))) {
            free(order);
            return RECO_E_NOMEM;
        }
    }
    q->start[0][q->ngroups] = q->n;
    for (size_t g = 0, j = 0; g <= q->ngroups; g++) {
        while (q->of && j < q->c && q->of[j] < q->start[0][g]) j++;
        q->start[1][g] = j;
    }
    free(order);
    return RECO_OK;
}
