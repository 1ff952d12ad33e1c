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

/* The `top` likeliest of one picture by a readout. */
static json_t *best(reco_ctx *ctx, const named *c, const reco_findings *found, const reco_mixture *by,
                    size_t top)
{
    int64_t *of = calloc(top, sizeof *of);
    float *p = calloc(top, sizeof *p), *scores = calloc(top, sizeof *scores);
    json_t *list = NULL;
    reco_ranking ranking = {.top = top, .of = of, .p = p, .score = scores};
    if (of && p && scores && reco_classifier_rank(ctx, c->classifier, found, by, &ranking) == RECO_OK)
        list = json_array();
    for (size_t t = 0; list && t < top && of[t] >= 0; t++)
        json_array_append_new(list, json_pack("{s:s, s:o, s:o}", "label",
                                              reco_class_list_names(c->list)[of[t]], "score",
                                              answer_score(scores[t]), "probability", answer_score(p[t])));
    free(of);
    free(p);
    free(scores);
    return list;
}

/* What the picture was refined with; null where it is not. */
static json_t *explain(serve *s, const serve_request *r, const reco_question *question, reco_ctx *ctx,
                       const reco_findings *found, const reco_settings *set)
{
    float weights[RECO_BANK_MAX_K + 1];
    reco_memory memory = serve_memory(s, r, true);
    if (!set->refines) return json_null();
    if (reco_refine(ctx, &memory, question, &(reco_refined){.weights = weights}) != RECO_OK) return NULL;
    size_t n = *found->counts < set->k ? *found->counts : set->k;
    return serve_neighbours(ctx, r->bank, found->ids, found->scores, weights, n);
}

static reco_status name_it(serve *s, const serve_request *r, const serve_item *item, reco_ctx *ctx,
                           const named *c, json_t **out)
{
    static const reco_mixture clip = {.clip = 1};
    reco_question question = {.side = RECO_IMAGE, .x = item->vector, .n = 1};
    reco_findings found;
    reco_settings set;
    reco_status status = reco_classifier_ask(ctx, c->classifier, &question, NULL, &found);
    if (status != RECO_OK) return status;
    reco_classifier_settings(c->classifier, &set);
    *out = json_pack("{s:o, s:o, s:o}", "clip", best(ctx, c, &found, &clip, r->edge), "reco",
                     best(ctx, c, &found, NULL, r->edge), "explanation",
                     explain(s, r, &question, ctx, &found, &set));
    reco_findings_free(&found);
    return *out ? RECO_OK : RECO_E_NOMEM;
}

void serve_classify_finish(serve *s, serve_request *r, reco_ctx *ctx)
{
    named *c = NULL;
    reco_status status = get_classifier(s, r, ctx, &c);
    if (status != RECO_OK) {
        serve_fail_status(r, ctx, status);
        return;
    }
    json_t *results = json_array();
    for (size_t i = 0; i < r->nitems; i++) {
        const serve_item *item = &r->items[i];
        json_t *one = NULL;
        status = item->status;
        const char *why = item->error ? item->error : "out of memory";
        if (status == RECO_OK && (status = name_it(s, r, item, ctx, c, &one)) != RECO_OK)
            why = reco_ctx_error(ctx);
        if (status != RECO_OK && r->nitems == 1 && !json_object_get(r->json, "images")) {
            serve_fail(r, serve_http_status(r, status), "%s", why);
            break;
        }
        if (status != RECO_OK) one = json_pack("{s:s}", "error", why);
        json_array_append_new(results, one);
    }
    if (!r->status && json_object_get(r->json, "images"))
        serve_reply_found(
            s, r, r->bank->now, 200,
            json_pack("{s:O, s:I}", "results", results, "truncated", (json_int_t)c->truncated));
    else if (!r->status) {
        json_object_set_new(json_array_get(results, 0), "truncated",
                            json_integer((json_int_t)c->truncated));
        serve_reply_found(s, r, r->bank->now, 200, json_incref(json_array_get(results, 0)));
    }
    json_decref(results);
}
