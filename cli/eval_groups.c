/* Which group each picture is of. */
#include "eval.h"

#include <stdlib.h>
#include <string.h>

#define NO_GROUP "(none)"

static const char *name_of_group(char *const *names, size_t i)
{
    return names[i] && *names[i] ? names[i] : NO_GROUP;
}

static int by_group_name(const void *x, const void *y, void *names)
{
    return strcmp(name_of_group(names, *(const size_t *)x), name_of_group(names, *(const size_t *)y));
}

reco_status eval_group(eval_question *q, char *const *names)
{
    size_t *order = calloc(q->n + 1, sizeof *order);
    reco_status status = RECO_OK;
    q->groups = calloc(q->n + 1, sizeof *q->groups);
    q->group = calloc(q->n + 1, sizeof *q->group);
    q->group_n = calloc(q->n + 1, sizeof *q->group_n);
    if (!order || !q->groups || !q->group || !q->group_n) status = RECO_E_NOMEM;
    for (size_t i = 0; i < q->n && status == RECO_OK; i++) order[i] = i;
    if (status == RECO_OK) qsort_r(order, q->n, sizeof *order, by_group_name, (void *)names);
    for (size_t i = 0; i < q->n && status == RECO_OK; i++) {
        const char *name = name_of_group(names, order[i]);
        if (!q->ngroups || strcmp(q->groups[q->ngroups - 1], name) != 0)
            if (!(q->groups[q->ngroups++] = strdup(name))) status = RECO_E_NOMEM;
        q->group[order[i]] = (uint32_t)q->ngroups - 1;
        q->group_n[q->ngroups - 1]++;
    }
    free(order);
    return status;
}
