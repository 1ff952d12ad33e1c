/* POST /v1/classify: which of the named classes a picture shows, by CLIP alone and with the memory. The embeddings of the latest sets
 * of classes are kept, until the bank or the layer changes. */
#include "routes.h"

#include <stdlib.h>

#define NEVER UINT64_MAX /* a snapshot that no bank has */
enum { CLASSES = 10000, TEMPLATES = 100, TOP = 5, PICTURES = 64 };

/* Classes as one request named them. */
typedef struct named {
    char *key; /* the request's classes, templates and recall as JSON */
    const serve_bank *bank;
    uint64_t snapshot, layers, used;
    reco_class_list *list;
    json_t *what; /* holds the templates */
    const char **templates;
    reco_classifier *classifier;
    uint64_t truncated;
} named;

static void drop_classifier(named *c)
{
    reco_classifier_free(c->classifier);
    reco_class_list_free(c->list);
    json_decref(c->what);
    free(c->key);
    free(c->templates);
    *c = (named){0};
}

void serve_classifiers_free(serve *s)
{
    named *all = s->classifiers;
    for (int i = 0; all && i < SERVE_CLASSIFIERS; i++) drop_classifier(&all[i]);
    free(all);
}

static bool is_texts(serve_request *r, const json_t *list, const char *name, size_t low, size_t high)
{
    size_t n = json_array_size(list), i;
    json_t *member;
    bool fine = (json_is_array(list) || !list) && n >= low && n <= high;
    json_array_foreach(list, i, member) fine &= json_is_string(member) && *json_string_value(member);
    if (!fine) serve_fail(r, 400, "\"%s\" must be a list of %zu to %zu texts", name, low, high);
    return fine;
}

void serve_classify_parse(serve *s, serve_request *r)
{
    const char *bank, *image;
    size_t top = TOP;
    if (!serve_put_own_json(r, "bank image images classes templates top recall exact") ||
        !serve_get_text(r, r->json, "bank", &bank) || !serve_put_bank(s, r, bank) ||
        !serve_get_text(r, r->json, "image", &image) || !serve_get_size(r, r->json, "top", 1, 1000, &top) ||
        !serve_get_recall(r))
        return;
    const json_t *classes = json_object_get(r->json, "classes"),
                 *templates = json_object_get(r->json, "templates"),
                 *images = json_object_get(r->json, "images");
    if (!is_texts(r, classes, "classes", 1, CLASSES) || !is_texts(r, templates, "templates", 0, TEMPLATES))
        return;
    size_t i;
    json_t *member;
    json_array_foreach(templates, i, member)
    {
        if (strstr(json_string_value(member), "{}") || strstr(json_string_value(member), "{c}")) continue;
        serve_fail(r, 400, "the template \"%s\" has no {} for the class name", json_string_value(member));
        return;
    }
    if (!images == !image) {
        serve_fail(r, 400, "the request must have either \"image\" or \"images\"");
        return;
    }
    if (images && !is_texts(r, images, "images", 1, PICTURES)) return;
    if (!serve_room(r, images ? json_array_size(images) : 1)) return;
    for (i = 0; i < r->nitems; i++)
        if (!serve_put_picture(s, r, &r->items[i],
                               image ? image : json_string_value(json_array_get(images, i))))
            return;
    if (!s->model_info.has_text) {
        serve_fail(r, 400, "the model of this server cannot embed texts");
        return;
    }
    r->edge = top;
    serve_ask_engine(s, r);
}

static const char **texts_of(const json_t *list)
{
    const char **out = calloc(json_array_size(list) + 1, sizeof *out);
    for (size_t i = 0; out && i < json_array_size(list); i++)
        out[i] = json_string_value(json_array_get(list, i));
    return out;
}

static reco_status fill(serve *s, const serve_request *r, reco_ctx *ctx, named *c)
{
    const json_t *classes = json_array_get(c->what, 0), *templates = json_array_get(c->what, 1);
    const char **names = texts_of(classes);
    reco_memory memory = serve_memory(s, r, true);
    c->templates = texts_of(templates);
    reco_status status = names && c->templates ? RECO_OK : RECO_E_NOMEM;
    if (status == RECO_OK)
        status = reco_class_list_from(ctx, &c->list, names, json_array_size(classes), "\"classes\"");
    if (status == RECO_OK) status = reco_class_list_settle(ctx, c->list, s->model, 1);
    free(names);
    if (status != RECO_OK) return status;
    reco_candidates among = {.n = reco_class_list_count(c->list),
                             .d = s->d,
                             .list = c->list,
                             .model = s->model,
                             .templates = c->templates,
                             .m = json_array_size(templates)};
    return reco_classifier_create(ctx, &c->classifier, &memory, &among, &c->truncated);
}

static reco_status get_classifier(serve *s, const serve_request *r, reco_ctx *ctx, named **out)
{
    static uint64_t clock; /* the engine's alone */
    if (!s->classifiers) s->classifiers = calloc(SERVE_CLASSIFIERS, sizeof(named));
    named *all = s->classifiers, *oldest = all;
    json_t *what = json_pack("[O, O?, f]", json_object_get(r->json, "classes"),
                             json_object_get(r->json, "templates"), (double)r->ask.recall);
    char *key = what ? json_dumps(what, JSON_COMPACT) : NULL;
    if (!all || !key) {
        json_decref(what);
        free(key);
        return RECO_E_NOMEM;
    }
    for (int i = 0; i < SERVE_CLASSIFIERS; i++) {
        named *c = &all[i];
        if (c->key && c->bank == r->bank && c->snapshot == r->bank->snapshot && c->layers == s->layers &&
            strcmp(c->key, key) == 0) {
            json_decref(what);
            free(key);
            c->used = ++clock;
            *out = c;
            return RECO_OK;
        }
        if (c->used < oldest->used) oldest = c;
    }
    drop_classifier(oldest);
    *oldest = (named){.key = key,
                      .what = what,
                      .bank = r->bank,
                      .snapshot = r->bank->snapshot,
                      .layers = s->layers,
                      .used = ++clock};
    reco_status status = fill(s, r, ctx, oldest);
    if (status != RECO_OK) drop_classifier(oldest);
    if (reco_bank_missing_shard(r->bank->now, 0)) oldest->snapshot = NEVER; /* not for another request */
    *out = oldest;
    return status;
}

/* The pictures of a request, all at once. */
typedef struct naming {
    const named *c;
    size_t n, top;
    float *x; /* [n][d] */
    reco_findings found;
    reco_settings set;
    struct readout {
        int64_t *of; /* [n][top] */
        float *p, *score;
    } by[2]; /* CLIP alone; as training chose */
    /* What they were refined with, if they are. */
    float *weights, *scores; /* [n][k + 1], [n][k] */
    size_t *counts;          /* [n] */
    reco_pair *pairs;        /* [n][k] */
} naming;

static void free_naming(naming *a)
{
    void *const all[] = {a->x,       a->by[0].of,    a->by[0].p, a->by[0].score, a->by[1].of,
                         a->by[1].p, a->by[1].score, a->weights, a->scores,      a->counts};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    serve_free_pairs(a->pairs, a->n * a->set.k);
    reco_findings_free(&a->found);
}

static reco_status rank(reco_ctx *ctx, naming *a, int which, const reco_mixture *by)
{
    struct readout *out = &a->by[which];
    const size_t places = a->n * a->top;
    out->of = calloc(places, sizeof *out->of);
    out->p = calloc(places, sizeof *out->p);
    out->score = calloc(places, sizeof *out->score);
    if (!out->of || !out->p || !out->score) return RECO_E_NOMEM;
    const reco_ranking ranking = {.top = a->top, .of = out->of, .p = out->p, .score = out->score};
    return reco_classifier_rank(ctx, a->c->classifier, &a->found, by, &ranking);
}

static reco_status explain(serve *s, const serve_request *r, const reco_question *question, reco_ctx *ctx,
                           naming *a)
{
    const size_t n = a->n, k = a->set.k;
    reco_memory memory = serve_memory(s, r, true);
    a->weights = calloc(n * (k + 1), sizeof *a->weights);
    a->scores = calloc(n * k, sizeof *a->scores);
    a->counts = calloc(n, sizeof *a->counts);
    a->pairs = calloc(n * k, sizeof *a->pairs);
    if (!a->weights || !a->scores || !a->counts || !a->pairs) return RECO_E_NOMEM;
    return reco_refine(ctx, &memory, question,
                       &(reco_refined){.reach = k,
                                       .hits = {.scores = a->scores, .counts = a->counts},
                                       .weights = a->weights,
                                       .pairs = a->pairs});
}

static reco_status name_all(serve *s, const serve_request *r, reco_ctx *ctx, naming *a)
{
    static const reco_mixture clip = {.clip = 1};
    reco_question question = {.side = RECO_IMAGE, .x = a->x, .n = a->n};
    reco_status status = reco_classifier_ask(ctx, a->c->classifier, &question, NULL, &a->found);
    if (status == RECO_OK) status = rank(ctx, a, 0, &clip);
    if (status == RECO_OK) status = rank(ctx, a, 1, NULL);
    return status == RECO_OK && a->set.refines ? explain(s, r, &question, ctx, a) : status;
}

/* The likeliest of picture i by a readout. */
static json_t *best(const naming *a, int which, size_t i)
{
    const struct readout *by = &a->by[which];
    json_t *list = json_array();
    for (size_t t = i * a->top; t < (i + 1) * a->top && by->of[t] >= 0; t++)
        json_array_append_new(
            list, json_pack("{s:s, s:o, s:o}", "label", reco_class_list_names(a->c->list)[by->of[t]],
                            "score", answer_score(by->score[t]), "probability", answer_score(by->p[t])));
    return list;
}

static json_t *name_of(const naming *a, size_t i)
{
    const size_t k = a->set.k;
    json_t *why = a->set.refines ? serve_neighbours(a->pairs + i * k, a->scores + i * k,
                                                    a->weights + i * (k + 1), a->counts[i])
                                 : json_null();
    return json_pack("{s:o, s:o, s:o}", "clip", best(a, 0, i), "reco", best(a, 1, i), "explanation", why);
}

void serve_classify_finish(serve *s, serve_request *r, reco_ctx *ctx)
{
    named *c = NULL;
    const bool alone = !json_object_get(r->json, "images");
    reco_status status = get_classifier(s, r, ctx, &c);
    if (status != RECO_OK) {
        serve_fail_status(r, ctx, status);
        return;
    }
    naming a = {.c = c, .top = r->edge, .x = malloc(r->nitems * s->d * sizeof(float))};
    reco_classifier_settings(c->classifier, &a.set);
    for (size_t i = 0; i < r->nitems && a.x; i++)
        if (r->items[i].status == RECO_OK)
            memcpy(a.x + a.n++ * s->d, r->items[i].vector, s->d * sizeof(float));
    status = !a.x ? RECO_E_NOMEM : a.n ? name_all(s, r, ctx, &a) : RECO_OK;
    json_t *results = json_array();
    for (size_t i = 0, at = 0; i < r->nitems; i++) {
        const serve_item *item = &r->items[i];
        const reco_status own = item->status == RECO_OK ? status : item->status;
        const char *why = item->status == RECO_OK ? reco_ctx_error(ctx)
                          : item->error           ? item->error
                                                  : "out of memory";
        if (own != RECO_OK && alone) {
            serve_fail(r, serve_http_status(r, own), "%s", why);
            break;
        }
        json_array_append_new(results,
                              own == RECO_OK ? name_of(&a, at++) : json_pack("{s:s}", "error", why));
    }
    if (!r->status && !alone)
        serve_reply_found(
            s, r, r->bank->now, 200,
            json_pack("{s:O, s:I}", "results", results, "truncated", (json_int_t)c->truncated));
    else if (!r->status) {
        json_object_set_new(json_array_get(results, 0), "truncated",
                            json_integer((json_int_t)c->truncated));
        serve_reply_found(s, r, r->bank->now, 200, json_incref(json_array_get(results, 0)));
    }
    json_decref(results);
    free_naming(&a);
}
