/* What is asked: pictures, and the classes or captions that they are asked among. */
#include "eval_runs.h"

#include <stdlib.h>
#include <string.h>

/* ---- rows that are the same ---- */

typedef struct alike {
    char *const *texts; /* NULL, or where one is: the vectors count */
    const float *rows;
    size_t d;
} alike;

static int compare(const alike *a, size_t x, size_t y)
{
    const char *s = a->texts ? a->texts[x] : NULL, *t = a->texts ? a->texts[y] : NULL;
    if (!s != !t) return s ? 1 : -1;
    return s ? strcmp(s, t) : memcmp(a->rows + x * a->d, a->rows + y * a->d, a->d * sizeof(float));
}

static int by_place(const void *x, const void *y, void *arg)
{
    size_t i = *(const size_t *)x, j = *(const size_t *)y;
    int order = compare(arg, i, j);
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
    qsort_r(order, n, sizeof *order, by_place, (void *)a);
    for (size_t i = 0; i < n; i++)
        root[order[i]] = i && compare(a, order[i], order[i - 1]) == 0 ? root[order[i - 1]] : order[i];
    for (size_t i = 0; i < n; i++) {
        if (root[i] == i) first[kinds] = i;
        of[i] = root[i] == i ? (uint32_t)kinds++ : of[root[i]];
    }
    free(order), free(root);
    return kinds;
}

static float *gather(const float *rows, const size_t *at, size_t n, size_t d)
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
    reco_class_list *list;
    reco_model *model; /* the zero_shot's */
    char **labels;     /* [nlabels] by row of the file */
    size_t nlabels;
} source;

/* One row a class, of several entries that are one the first; beside: rows of its other side, or NULL. */
static reco_status take_rows(eval_question *q, const source *s, const float *rows, const float *beside,
                             const size_t *first)
{
    const uint32_t *of = reco_class_list_of(s->list);
    size_t entries = reco_class_list_count(s->list) + reco_class_list_merged(s->list),
           *at = calloc(entries, sizeof *at);
    if (!at) return RECO_E_NOMEM;
    for (size_t i = entries; i-- > 0;) at[of[i]] = first ? first[i] : i;
    q->prompts = gather(rows, at, q->c, q->d);
    if (beside) q->shown = gather(beside, at, q->c, q->d);
    free(at);
    return q->prompts && (q->shown || !beside) ? RECO_OK : RECO_E_NOMEM;
}

static reco_status settle(cli *c, eval_args *a, source *s, eval_question *q, bool merge)
{
    reco_status status = reco_class_list_settle(c->ctx, s->list, s->model, merge);
    if (status == RECO_E_EXISTS) cli_error("%s; --merge-classes makes them one", reco_ctx_error(c->ctx));
    (void)a;
    if (status == RECO_OK) q->c = reco_class_list_count(s->list);
    return status;
}

/* --class-embeddings: their names are those of --classes, else their captions, else their numbers. */
static reco_status embedded_classes(cli *c, eval_args *a, source *s, eval_question *q)
{
    reco_stream_opts stream = {.encoder = a->encoder};
    reco_status status =
        reco_query_set_load(c->ctx, &s->classes, a->class_embeddings, RECO_TEXT, NULL, &c->table, &stream);
    if (status != RECO_OK) return status;
    reco_query_set *set = &s->classes;
    size_t n = set->n, named = 0;
    if (!set->rows[RECO_TEXT]) return want(a->class_embeddings, "has no text_emb");
    if (n != set->total) return want(a->class_embeddings, "a class is zero or not finite");
    if (set->d != q->d) {
        cli_error("%s: embeddings of %zu, those of %s are of %zu", a->class_embeddings, set->d,
                  a->embeddings, q->d);
        return RECO_E_MISMATCH;
    }
    char **texts = set->values[RECO_QUERY_TEXT], **names = calloc(n, sizeof *names);
    if (!names) return RECO_E_NOMEM;
    for (size_t i = 0; i < n; i++) named += texts[i] != NULL;
    for (size_t i = 0; i < n && status == RECO_OK; i++)
        if (named == n ? !(names[i] = strdup(texts[i])) : asprintf(&names[i], "%zu", i) < 0)
            status = RECO_E_NOMEM;
    if (status == RECO_OK)
        status = a->z.class_file ? reco_class_list_read(c->ctx, &s->list, a->z.class_file)
                                 : reco_class_list_from(c->ctx, &s->list, (const char *const *)names, n,
                                                        a->class_embeddings);
    for (size_t i = 0; i < n; i++) free(names[i]);
    free(names);
    if (status == RECO_OK) status = settle(c, a, s, q, a->z.merge);
    if (status != RECO_OK) return status;
    size_t entries = q->c + reco_class_list_merged(s->list);
    if (entries != n) {
        cli_error("%s: %zu classes, %s has %zu", a->z.class_file, entries, a->class_embeddings, n);
        return RECO_E_MISMATCH;
    }
    return take_rows(q, s, set->rows[RECO_TEXT], a->joint ? set->rows[RECO_IMAGE] : NULL, NULL);
}

/* Captions of the pictures themselves, each once. */
static reco_status caption_classes(cli *c, eval_args *a, source *s, eval_question *q)
{
    const reco_query_set *set = &s->pictures;
    char *const *texts = set->values[RECO_QUERY_TEXT], **names;
    uint32_t *of = calloc(set->n, sizeof *of);
    size_t *first = calloc(set->n, sizeof *first), n = 0;
    alike by = {texts, set->rows[RECO_TEXT], q->d};
    reco_status status =
        of && first && (n = find_kinds(&by, set->n, of, first)) < SIZE_MAX ? RECO_OK : RECO_E_NOMEM;
    if (!(names = calloc(set->n, sizeof *names))) status = RECO_E_NOMEM;
    for (size_t i = 0; i < n && status == RECO_OK; i++)
        if (texts[first[i]]
                ? !(names[i] = strdup(texts[first[i]]))
                : asprintf(&names[i], "caption of row %llu", (unsigned long long)set->at[first[i]]) < 0)
            status = RECO_E_NOMEM;
    if (status == RECO_OK)
        status = reco_class_list_from(c->ctx, &s->list, (const char *const *)names, n, a->embeddings);
    if (status == RECO_OK) status = settle(c, a, s, q, true);
    if (status == RECO_OK) status = take_rows(q, s, set->rows[RECO_TEXT], NULL, first);
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

/* Each class in each template, by the model. */
static reco_status embed_prompts(cli *c, const zero_shot *z, const reco_class_list *list, eval_question *q)
{
    size_t each = q->c * q->d;
    uint64_t cut;
    q->m = z->ntemplates ? z->ntemplates : 1;
    if (!(q->prompts = calloc(q->m * each + 1, sizeof(float)))) return RECO_E_NOMEM;
    reco_status status = RECO_OK;
    for (size_t t = 0; t < q->m && status == RECO_OK; t++) {
        status = reco_embed_classes(c->ctx, z->model, NULL, reco_class_list_texts(list), q->c,
                                    (const char *const *)z->templates + t, z->ntemplates ? 1 : 0,
                                    q->prompts + t * each, NULL, &cut);
        if (status == RECO_OK) c->truncated += cut;
    }
    return status;
}

static reco_status named_classes(cli *c, eval_args *a, source *s, eval_question *q)
{
    zero_shot *z = &a->z;
    reco_status status = reco_class_list_read(c->ctx, &s->list, z->class_file);
    if (status == RECO_OK) status = settle(c, a, s, q, z->merge);
    if (status == RECO_OK && reco_model_get_info(z->model).d != q->d) {
        cli_error("%s: embeddings of %zu, the model makes %zu", a->embeddings, q->d,
                  reco_model_get_info(z->model).d);
        return RECO_E_MISMATCH;
    }
    if (status == RECO_OK && z->template_file && !z->templates)
        status = reco_read_lines(c->ctx, z->template_file, &z->templates, &z->ntemplates);
    return status == RECO_OK ? embed_prompts(c, z, s->list, q) : status;
}

static reco_status take_names(eval_question *q, const reco_class_list *list)
{
    if (!(q->names = calloc(q->c + 1, sizeof *q->names))) return RECO_E_NOMEM;
    for (size_t i = 0; i < q->c; i++)
        if (!(q->names[i] = strdup(reco_class_list_names(list)[i]))) return RECO_E_NOMEM;
    return RECO_OK;
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

/* Pictures of a class stay; the others are told of. */
static reco_status match(cli *c, eval_args *a, source *s, eval_question *q)
{
    const reco_query_set *set = &s->pictures;
    const char **labels = calloc(set->n + 1, sizeof *labels);
    uint32_t *classes = calloc(set->n + 1, sizeof *classes);
    size_t n = 0;
    reco_status status = labels && classes ? RECO_OK : RECO_E_NOMEM;
    for (size_t i = 0; i < set->n && status == RECO_OK; i++)
        if (label_of(s, i)) labels[n++] = label_of(s, i);
    if (status == RECO_OK && n)
        status = reco_class_list_match(c->ctx, s->list, s->model, labels, n, 0, classes, &q->how);
    q->labels = calloc(set->n + 1, sizeof *q->labels);
    q->images = calloc(set->n * q->d + 1, sizeof(float));
    char **groups = calloc(set->n + 1, sizeof *groups);
    bool asks = a->joint && set->rows[RECO_TEXT];
    if (asks) q->asked = calloc(set->n * q->d + 1, sizeof(float));
    if (!q->labels || !q->images || !groups || (asks && !q->asked)) status = RECO_E_NOMEM;
    for (size_t i = 0, j = 0; i < set->n && status == RECO_OK; i++) {
        const char *label = label_of(s, i);
        uint32_t class = label ? classes[j++] : RECO_NO_CLASS;
        const char *place = set->values[RECO_QUERY_IMAGE][i];
        char *reason = NULL;
        if (class != RECO_NO_CLASS) {
            q->labels[q->n] = class;
            groups[q->n] = set->values[RECO_QUERY_GROUP][i];
            memcpy(q->images + q->n * q->d, set->rows[RECO_IMAGE] + i * q->d, q->d * sizeof(float));
            if (asks) memcpy(q->asked + q->n * q->d, set->rows[RECO_TEXT] + i * q->d, q->d * sizeof(float));
            q->n++;
            continue;
        }
        if (label && asprintf(&reason, "label \"%s\" is no class, the nearest is \"%s\"", label,
                              reco_class_list_nearest(s->list, label)) < 0)
            reason = NULL;
        if (reason) reco_text_clean(reason);
        cli_failure(c, set->at[i], place ? place : "", reason ? reason : "has no label");
        free(reason);
    }
    if (status == RECO_OK && a->groups) status = eval_question_group(q, groups);
    free(labels), free(classes), free(groups);
    return status;
}

static reco_status load_classes(cli *c, eval_args *a, source *s, eval_question *q)
{
    reco_status status;
    if (a->class_embeddings)
        status = embedded_classes(c, a, s, q);
    else if (a->z.class_file && s->model)
        status = named_classes(c, a, s, q);
    else if (a->z.class_file)
        status = want(a->z.class_file,
                      "names alone are no embeddings; want --class-embeddings, or --model to embed them");
    else if (s->pictures.rows[RECO_TEXT])
        status = caption_classes(c, a, s, q);
    else
        status = want(a->embeddings, "has no text_emb; want --class-embeddings, or --classes and --model");
    if (status == RECO_OK && a->joint && !q->shown && !s->pictures.rows[RECO_TEXT])
        status = want(a->embeddings,
                      "--joint finds neither text_emb beside the pictures nor img_emb beside the classes");
    if (status == RECO_OK) status = take_names(q, s->list);
    if (status == RECO_OK) status = read_labels(c, a, s);
    return status == RECO_OK ? match(c, a, s, q) : status;
}

/* ---- retrieval ---- */

static reco_status load_pairs(cli *c, eval_args *a, source *s, eval_question *q)
{
    const reco_query_set *set = &s->pictures;
    (void)c;
    if (!set->rows[RECO_TEXT]) return want(a->embeddings, "has no text_emb, want pictures and captions");
    size_t *first = calloc(set->n + 1, sizeof *first), kinds = SIZE_MAX;
    q->retrieval = true;
    q->c = set->n;
    q->of = calloc(set->n + 1, sizeof *q->of);
    alike by = {set->values[RECO_QUERY_IMAGE], set->rows[RECO_IMAGE], q->d};
    if (first && q->of) kinds = find_kinds(&by, set->n, q->of, first);
    char **groups = calloc(set->n + 1, sizeof *groups);
    q->names = calloc(set->n + 1, sizeof *q->names);
    q->prompts = calloc(set->n * q->d + 1, sizeof(float));
    reco_status status = kinds < SIZE_MAX && groups && q->names && q->prompts ? RECO_OK : RECO_E_NOMEM;
    if (status == RECO_OK) {
        q->n = kinds;
        memcpy(q->prompts, set->rows[RECO_TEXT], set->n * q->d * sizeof(float));
        if (!(q->images = gather(set->rows[RECO_IMAGE], first, q->n, q->d))) status = RECO_E_NOMEM;
    }
    for (size_t i = 0; i < set->n && status == RECO_OK; i++) {
        const char *text = set->values[RECO_QUERY_TEXT][i];
        if (!(q->names[i] = strdup(text ? text : ""))) status = RECO_E_NOMEM;
    }
    for (size_t i = 0; i < q->n && status == RECO_OK; i++)
        groups[i] = set->values[RECO_QUERY_GROUP][first[i]];
    if (status == RECO_OK && a->groups) status = eval_question_group(q, groups);
    free(first), free(groups);
    return status;
}

/* ---- */

static float *copy(const float *rows, size_t n)
{
    float *out = calloc(n + 1, sizeof *out);
    if (out) memcpy(out, rows, n * sizeof *out);
    return out;
}

/* What CLIP alone compares. */
static reco_status finish(eval_question *q)
{
    q->plain = q->prompts;
    q->joint = q->images;
    if (q->m > 1) {
        if (!(q->plain = calloc(q->c * q->d + 1, sizeof(float)))) return RECO_E_NOMEM;
        eval_average(q, q->prompts, q->plain);
    }
    if (q->shown && q->m == 1 && !(q->plain = copy(q->prompts, q->c * q->d))) return RECO_E_NOMEM;
    if (q->asked && !(q->joint = copy(q->images, q->n * q->d))) return RECO_E_NOMEM;
    eval_join(q->plain, q->shown, q->c, q->d);
    eval_join(q->joint, q->asked, q->n, q->d);
    return RECO_OK;
}

reco_status eval_question_load(cli *c, eval_args *a, eval_question *q)
{
    source s = {0};
    reco_stream_opts stream = {.encoder = a->encoder, .failure = cli_failure, .user = c};
    reco_status status = RECO_OK;
    q->m = 1;
    if (a->z.model_dir)
        status =
            cli_open_model(c, &a->z.model, a->z.model_dir, a->dataset ? RECO_SIDES_BOTH : RECO_SIDES_TEXT);
    s.model = a->z.model;
    if (status == RECO_OK && a->dataset)
        status = reco_query_set_read(c->ctx, &s.pictures, s.model, a->embeddings, a->retrieval, &stream);
    else if (status == RECO_OK)
        status = reco_query_set_load(c->ctx, &s.pictures, a->embeddings, RECO_IMAGE, a->groups, &c->table,
                                     &stream);
    if (status == RECO_OK && !s.pictures.rows[RECO_IMAGE]) status = want(a->embeddings, "has no img_emb");
    if (status == RECO_OK) {
        q->d = s.pictures.d;
        q->total = s.pictures.total + s.pictures.skipped;
        c->truncated += s.pictures.truncated;
        q->scale = s.model ? reco_model_get_info(s.model).logit_scale : s.pictures.logit_scale;
        if (a->joint && !a->class_embeddings && !s.model) {
            cli_error("--joint wants classes apart from the questions: --class-embeddings, or --classes "
                      "and --model");
            status = RECO_E_ARG;
        }
    }
    if (status == RECO_OK) {
        status = a->retrieval ? load_pairs(c, a, &s, q) : load_classes(c, a, &s, q);
    }
    if (status == RECO_OK) status = finish(q);
    reco_class_list_free(s.list);
    reco_lines_free(s.labels, s.nlabels);
    reco_query_set_free(&s.pictures);
    reco_query_set_free(&s.classes);
    return status;
}

reco_status eval_question_of(cli *c, eval_args *a, eval_work *w, eval_question *q)
{
    size_t d = a->z.d;
    q->n = w->n;
    q->c = a->z.nclasses;
    q->d = d;
    q->total = w->total;
    q->scale = reco_model_get_info(a->z.model).logit_scale;
    q->how = a->how;
    q->images = calloc(w->n * d + 1, sizeof(float));
    q->labels = calloc(w->n + 1, sizeof *q->labels);
    if (!q->images || !q->labels) return RECO_E_NOMEM;
    memcpy(q->images, w->rows, w->n * d * sizeof(float));
    memcpy(q->labels, w->labels, w->n * sizeof *q->labels);
    reco_status status = take_names(q, a->z.list);
    if (status == RECO_OK) status = embed_prompts(c, &a->z, a->z.list, q);
    if (status == RECO_OK && w->groups) status = eval_question_group(q, w->groups);
    return status == RECO_OK ? finish(q) : status;
}

void eval_question_free(eval_question *q)
{
    if (q->plain != q->prompts) free(q->plain);
    if (q->joint != q->images) free(q->joint);
    free(q->asked), free(q->shown);
    for (size_t i = 0; q->names && i < q->c; i++) free(q->names[i]);
    for (size_t i = 0; q->groups && i < q->ngroups; i++) free(q->groups[i]);
    free(q->images), free(q->prompts), free(q->labels), free(q->of), free(q->names), free(q->groups);
    free(q->start[0]), free(q->start[1]);
}
