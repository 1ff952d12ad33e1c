/* --embeddings: pictures, and the classes or captions among which they are ranked. */
#include "eval.h"

#include <stdlib.h>
#include <string.h>

/* ---- rows that are the same ---- */

typedef struct alike {
    char *const *texts; /* NULL, or where one is: the vectors count */
    const float *rows;
    size_t d;
} alike;

static int compare_candidates(const alike *a, size_t x, size_t y)
{
    const char *s = a->texts ? a->texts[x] : NULL, *t = a->texts ? a->texts[y] : NULL;
    if (!s != !t) return s ? 1 : -1;
    return s ? strcmp(s, t) : memcmp(a->rows + x * a->d, a->rows + y * a->d, a->d * sizeof(float));
}

static int by_candidate(const void *x, const void *y, void *arg)
{
    size_t i = *(const size_t *)x, j = *(const size_t *)y;
    int order = compare_candidates(arg, i, j);
    return order ? order : (i > j) - (i < j);
}

/* of [n]: number of each row's kind, kinds counted as they first come; first [n]: where. Returns how many, or SIZE_MAX. */
static size_t find_kinds(const alike *a, size_t n, uint32_t *of, size_t *first)
{
    size_t *order = calloc(n + 1, sizeof *order), *root = calloc(n + 1, sizeof *root), kinds = 0;
    if (!order || !root) {
        free(order), free(root);
        return SIZE_MAX;
    }
    for (size_t i = 0; i < n; i++) order[i] = i;
    qsort_r(order, n, sizeof *order, by_candidate, (void *)a);
    for (size_t i = 0; i < n; i++)
        root[order[i]] =
            i && compare_candidates(a, order[i], order[i - 1]) == 0 ? root[order[i - 1]] : order[i];
    for (size_t i = 0; i < n; i++) {
        if (root[i] == i) first[kinds] = i;
        of[i] = root[i] == i ? (uint32_t)kinds++ : of[root[i]];
    }
    free(order), free(root);
    return kinds;
}

static float *copy_rows(const float *rows, const size_t *at, size_t n, size_t d)
{
    float *out = calloc(n * d + 1, sizeof *out);
    for (size_t i = 0; out && i < n; i++) memcpy(out + i * d, rows + at[i] * d, d * sizeof *out);
    return out;
}

static reco_status want(const char *path, const char *what)
{
    cli_error("%s: %s", path, what);
    return RECO_E_ARG;
}

/* ---- classes ---- */

typedef struct source {
    reco_query_set pictures, classes;
    char **labels; /* [nlabels] by row of the file */
    size_t nlabels;
} source;

/* One row a class, of several entries that are one the first; beside: rows of its other side, or NULL. */
static reco_status take_rows(eval_question *q, zero_shot *z, const float *rows, const float *beside,
                             const size_t *first)
{
    const uint32_t *of = reco_class_list_of(z->list);
    size_t entries = z->among.n + reco_class_list_merged(z->list), *at = calloc(entries, sizeof *at);
    if (!at) return RECO_E_NOMEM;
    for (size_t i = entries; i-- > 0;) at[of[i]] = first ? first[i] : i;
    z->among.rows = q->prompts = copy_rows(rows, at, z->among.n, z->among.d);
    if (beside) z->among.pictures = q->shown = copy_rows(beside, at, z->among.n, z->among.d);
    free(at);
    return q->prompts && (q->shown || !beside) ? RECO_OK : RECO_E_NOMEM;
}

/* --class-embeddings: their names are those of --classes, else their captions, else their numbers. */
static reco_status embedded_classes(cli *c, eval_args *a, source *s, eval_question *q)
{
    reco_query_set_opts how = {.table = &c->table, .encoder = a->encoder};
    reco_status status = reco_query_set_load(c->ctx, &s->classes, a->class_embeddings, RECO_TEXT, &how);
    if (status != RECO_OK) return status;
    reco_query_set *set = &s->classes;
    size_t n = set->n, named = 0;
    if (!set->rows[RECO_TEXT]) return want(a->class_embeddings, "has no text_emb");
    if (n != set->total) return want(a->class_embeddings, "a class is zero or not finite");
    if (set->d != a->z.among.d) {
        cli_error("%s: embeddings of width %zu, those of %s have width %zu", a->class_embeddings, set->d,
                  a->embeddings, a->z.among.d);
        return RECO_E_MISMATCH;
    }
    char **texts = set->values[RECO_QUERY_TEXT], **names = calloc(n, sizeof *names);
    if (!names) return RECO_E_NOMEM;
    for (size_t i = 0; i < n; i++) named += texts[i] != NULL;
    for (size_t i = 0; i < n && status == RECO_OK; i++)
        if (named == n ? !(names[i] = strdup(texts[i])) : asprintf(&names[i], "%zu", i) < 0)
            status = RECO_E_NOMEM;
    if (status == RECO_OK)
        status = a->z.class_file ? reco_class_list_read(c->ctx, &a->z.list, a->z.class_file)
                                 : reco_class_list_from(c->ctx, &a->z.list, (const char *const *)names, n,
                                                        a->class_embeddings);
    for (size_t i = 0; i < n; i++) free(names[i]);
    free(names);
    if (status == RECO_OK) status = zero_shot_settle(c, &a->z, a->z.merge);
    if (status != RECO_OK) return status;
    size_t entries = a->z.among.n + reco_class_list_merged(a->z.list);
    if (entries != n) {
        cli_error("%s: %zu classes, %s has %zu", a->z.class_file, entries, a->class_embeddings, n);
        return RECO_E_MISMATCH;
    }
    return take_rows(q, &a->z, set->rows[RECO_TEXT], a->joint ? set->rows[RECO_IMAGE] : NULL, NULL);
}

/* Captions of the pictures themselves, each once. */
static reco_status caption_classes(cli *c, eval_args *a, source *s, eval_question *q)
{
    const reco_query_set *set = &s->pictures;
    char *const *texts = set->values[RECO_QUERY_TEXT], **names;
    uint32_t *of = calloc(set->n, sizeof *of);
    size_t *first = calloc(set->n, sizeof *first), n = 0;
    alike by = {texts, set->rows[RECO_TEXT], set->d};
    reco_status status =
        of && first && (n = find_kinds(&by, set->n, of, first)) < SIZE_MAX ? RECO_OK : RECO_E_NOMEM;
    if (!(names = calloc(set->n, sizeof *names))) status = RECO_E_NOMEM;
    for (size_t i = 0; i < n && status == RECO_OK; i++)
        if (texts[first[i]]
                ? !(names[i] = strdup(texts[first[i]]))
                : asprintf(&names[i], "caption of row %llu", (unsigned long long)set->at[first[i]]) < 0)
            status = RECO_E_NOMEM;
    if (status == RECO_OK)
        status = reco_class_list_from(c->ctx, &a->z.list, (const char *const *)names, n, a->embeddings);
    if (status == RECO_OK) status = zero_shot_settle(c, &a->z, true);
    if (status == RECO_OK) status = take_rows(q, &a->z, set->rows[RECO_TEXT], NULL, first);
    if (status == RECO_OK && !a->labels) { /* each picture's label is its caption */
        s->nlabels = set->total;
        if (!(s->labels = calloc(s->nlabels + 1, sizeof *s->labels))) status = RECO_E_NOMEM;
        for (size_t i = 0; i < set->n && status == RECO_OK; i++)
            if (!(s->labels[set->at[i]] = strdup(names[of[i]]))) status = RECO_E_NOMEM;
    }
    for (size_t i = 0; names && i < n; i++) free(names[i]);
    free(names), free(of), free(first);
    return status;
}

/* Names alone: the model embeds them. */
static reco_status named_classes(cli *c, eval_args *a)
{
    zero_shot *z = &a->z;
    size_t d = reco_model_get_info(z->model)->d;
    reco_status status = reco_class_list_read(c->ctx, &z->list, z->class_file);
    if (status == RECO_OK) status = zero_shot_settle(c, z, z->merge);
    if (status == RECO_OK && d != z->among.d) {
        cli_error("%s: embeddings of width %zu, the model makes %zu", a->embeddings, z->among.d, d);
        status = RECO_E_MISMATCH;
    }
    return status == RECO_OK ? zero_shot_templates(c, z) : status;
}

/* ---- labels ---- */

static reco_status read_labels(cli *c, eval_args *a, source *s)
{
    const reco_query_set *set = &s->pictures;
    bool any = s->labels != NULL;
    if (a->labels) {
        reco_status status = reco_read_labels(c->ctx, a->labels, &c->table, &s->labels, &s->nlabels);
        if (status != RECO_OK) return status;
        if (s->nlabels == set->total) return RECO_OK;
        cli_error("%s: %zu labels, %s has %zu rows", a->labels, s->nlabels, a->embeddings, set->total);
        return RECO_E_MISMATCH;
    }
    for (size_t i = 0; i < set->n; i++) any |= set->values[RECO_QUERY_LABEL][i] != NULL;
    if (any) return RECO_OK;
    return want(a->embeddings,
                "its metadata have no labels; want a column \"label\", --label-column or --labels");
}

static const char *label_of(const source *s, size_t i)
{
    const char *label = s->labels ? s->labels[s->pictures.at[i]] : s->pictures.values[RECO_QUERY_LABEL][i];
    return label && *label ? label : NULL;
}

static reco_status alloc_question(const eval_args *a, const reco_query_set *set, eval_question *q)
{
    q->labels = calloc(set->n + 1, sizeof *q->labels);
    q->images = calloc(set->n * set->d + 1, sizeof(float));
    q->places = calloc(set->n + 1, sizeof *q->places);
    q->paths = calloc(set->n + 1, sizeof *q->paths);
    bool asks = a->joint && set->rows[RECO_TEXT];
    if (asks) q->asked = calloc(set->n * set->d + 1, sizeof(float));
    return q->labels && q->images && q->places && q->paths && (q->asked || !asks) ? RECO_OK : RECO_E_NOMEM;
}

/* What row i of the file is called, and where its picture may lie. */
static reco_status name_picture(cli *c, const eval_args *a, const reco_query_set *set, size_t i,
                                eval_question *q)
{
    const char *name = set->values[RECO_QUERY_IMAGE][i];
    char *base = NULL;
    if (!name)
        return asprintf(&q->places[q->n], "row %llu", (unsigned long long)set->at[i]) < 0 ? RECO_E_NOMEM
                                                                                          : RECO_OK;
    q->places[q->n] = strdup(name);
    if (asprintf(&base, "%s/.", a->embeddings) < 0) return RECO_E_NOMEM;
    if (!strstr(name, "://")) q->paths[q->n] = reco_resolve_path(c->ctx, base, name);
    free(base);
    return q->places[q->n] ? RECO_OK : RECO_E_NOMEM;
}

static void report_unmatched_row(cli *c, const eval_args *a, const reco_query_set *set, size_t i,
                                 const char *label)
{
    const char *name = set->values[RECO_QUERY_IMAGE][i];
    char *reason = NULL;
    if (label && asprintf(&reason, "label \"%s\" is not a class, the nearest is \"%s\"", label,
                          reco_class_list_nearest(a->z.list, label)) < 0)
        reason = NULL;
    if (reason) reco_text_clean(reason);
    cli_failure(c, set->at[i], name ? name : "", reason ? reason : "has no label");
    free(reason);
}

/* Pictures of a class stay; the others are told of. */
static reco_status match_embeddings(cli *c, eval_args *a, source *s, eval_question *q)
{
    const reco_query_set *set = &s->pictures;
    const size_t d = set->d;
    const char **labels = calloc(set->n + 1, sizeof *labels);
    uint32_t *classes = calloc(set->n + 1, sizeof *classes);
    char **groups = calloc(set->n + 1, sizeof *groups);
    size_t n = 0;
    reco_status status = labels && classes && groups ? alloc_question(a, set, q) : RECO_E_NOMEM;
    for (size_t i = 0; i < set->n && status == RECO_OK; i++)
        if (label_of(s, i)) labels[n++] = label_of(s, i);
    if (status == RECO_OK && n)
        status = reco_class_list_match(c->ctx, a->z.list, a->z.model, labels, n, 0, classes, &q->how);
    for (size_t i = 0, j = 0; i < set->n && status == RECO_OK; i++) {
        const char *label = label_of(s, i);
        uint32_t class = label ? classes[j++] : RECO_NO_CLASS;
        if (class == RECO_NO_CLASS) {
            report_unmatched_row(c, a, set, i, label);
            continue;
        }
        status = name_picture(c, a, set, i, q);
        q->labels[q->n] = class;
        groups[q->n] = set->values[RECO_QUERY_GROUP][i];
        memcpy(q->images + q->n * d, set->rows[RECO_IMAGE] + i * d, d * sizeof(float));
        if (q->asked) memcpy(q->asked + q->n * d, set->rows[RECO_TEXT] + i * d, d * sizeof(float));
        q->n++;
    }
    if (status == RECO_OK && a->groups) status = eval_group(q, groups);
    free(labels), free(classes), free(groups);
    return status;
}

static reco_status load_classes(cli *c, eval_args *a, source *s, eval_question *q)
{
    reco_status status;
    if (a->class_embeddings)
        status = embedded_classes(c, a, s, q);
    else if (a->z.class_file && a->z.model)
        status = named_classes(c, a);
    else if (a->z.class_file)
        status = want(a->z.class_file,
                      "names alone are not embeddings; want --class-embeddings, or --model to embed them");
    else if (s->pictures.rows[RECO_TEXT])
        status = caption_classes(c, a, s, q);
    else
        status = want(a->embeddings, "has no text_emb; want --class-embeddings, or --classes and --model");
    if (status == RECO_OK && a->joint && !q->shown && !s->pictures.rows[RECO_TEXT])
        status = want(a->embeddings,
                      "--joint finds neither text_emb beside the pictures nor img_emb beside the classes");
    if (status == RECO_OK) status = read_labels(c, a, s);
    return status == RECO_OK ? match_embeddings(c, a, s, q) : status;
}

/* ---- retrieval ---- */

static reco_status load_captions(eval_args *a, source *s, eval_question *q)
{
    const reco_query_set *set = &s->pictures;
    const size_t d = set->d;
    reco_candidates *among = &a->z.among;
    if (!set->rows[RECO_TEXT]) return want(a->embeddings, "has no text_emb, want pictures and captions");
    size_t *first = calloc(set->n + 1, sizeof *first), kinds = SIZE_MAX;
    q->retrieval = true;
    q->of = calloc(set->n + 1, sizeof *q->of);
    alike by = {set->values[RECO_QUERY_IMAGE], set->rows[RECO_IMAGE], d};
    if (first && q->of) kinds = find_kinds(&by, set->n, q->of, first);
    char **groups = calloc(set->n + 1, sizeof *groups);
    q->captions = calloc(set->n + 1, sizeof *q->captions);
    q->prompts = calloc(set->n * d + 1, sizeof(float));
    reco_status status = kinds < SIZE_MAX && groups && q->captions && q->prompts ? RECO_OK : RECO_E_NOMEM;
    if (status == RECO_OK) {
        q->n = kinds;
        memcpy(q->prompts, set->rows[RECO_TEXT], set->n * d * sizeof(float));
        if (!(q->images = copy_rows(set->rows[RECO_IMAGE], first, q->n, d))) status = RECO_E_NOMEM;
    }
    among->n = set->n;
    among->rows = q->prompts;
    among->names = (const char *const *)q->captions;
    for (size_t i = 0; i < set->n && status == RECO_OK; i++) {
        const char *text = set->values[RECO_QUERY_TEXT][i];
        if (!(q->captions[i] = strdup(text ? text : ""))) status = RECO_E_NOMEM;
    }
    for (size_t i = 0; i < q->n && status == RECO_OK; i++)
        groups[i] = set->values[RECO_QUERY_GROUP][first[i]];
    if (status == RECO_OK && a->groups) status = eval_group(q, groups);
    free(first), free(groups);
    return status;
}

/* ---- */

reco_status eval_load_embeddings(cli *c, eval_args *a, eval_question *q)
{
    source s = {0};
    zero_shot *z = &a->z;
    reco_embed_opts embed = {.failure = cli_failure, .user = c};
    reco_query_set_opts how = {
        .group = a->groups, .table = &c->table, .encoder = a->encoder, .failure = cli_failure, .user = c};
    reco_status status = RECO_OK;
    q->how = "names";
    if (z->model_dir)
        status = cli_open_model(c, &z->model, z->model_dir, a->dataset ? RECO_SIDES_BOTH : RECO_SIDES_TEXT);
    if (status == RECO_OK && a->dataset)
        status = reco_query_set_read(c->ctx, &s.pictures, z->model, a->embeddings, a->retrieval, a->cache,
                                     &embed);
    else if (status == RECO_OK)
        status = reco_query_set_load(c->ctx, &s.pictures, a->embeddings, RECO_IMAGE, &how);
    if (status == RECO_OK && !s.pictures.rows[RECO_IMAGE]) status = want(a->embeddings, "has no img_emb");
    if (status == RECO_OK) {
        q->total = s.pictures.total + s.pictures.skipped;
        c->truncated += s.pictures.truncated;
        z->among.d = s.pictures.d;
        z->among.model = z->model;
        z->among.scale = z->model ? 0 : s.pictures.logit_scale;
        if (a->joint && !a->class_embeddings && !z->model) {
            cli_error("--joint needs classes apart from the questions: --class-embeddings, or --classes "
                      "and --model");
            status = RECO_E_ARG;
        }
    }
    if (status == RECO_OK) status = a->retrieval ? load_captions(a, &s, q) : load_classes(c, a, &s, q);
    reco_lines_free(s.labels, s.nlabels);
    reco_query_set_free(&s.pictures);
    reco_query_set_free(&s.classes);
    return status;
}

void eval_question_free(const eval_args *a, eval_question *q)
{
    size_t places = a->embeddings ? q->n : q->total;
    for (size_t i = 0; q->captions && i < a->z.among.n; i++) free(q->captions[i]);
    for (size_t i = 0; q->groups && i < q->ngroups; i++) free(q->groups[i]);
    for (size_t i = 0; q->places && i < places; i++) free(q->places[i]);
    for (size_t i = 0; q->paths && i < places; i++) reco_free(q->paths[i]);
    free(q->images), free(q->asked), free(q->labels), free(q->of), free(q->places), free(q->paths);
    free(q->prompts), free(q->shown), free(q->captions), free(q->groups), free(q->group), free(q->group_n);
}
