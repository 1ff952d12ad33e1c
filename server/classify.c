/* POST /v1/classify: which of the named classes a picture shows, by CLIP alone and with the memory. The embeddings of the latest sets
 * of classes are kept, until the bank or the layer changes. */
#include "routes.h"

#include <math.h>
#include <stdlib.h>

enum { CLASSES = 10000, TEMPLATES = 100, TOP = 5, PICTURES = 64 };

typedef struct classifier {
    char *key; /* the request's classes and templates as JSON */
    const serve_bank *bank;
    uint64_t snapshot, layers, used;
    reco_class_list *list;
    float *plain, *refined; /* [n][d] */
    size_t n;
    uint64_t truncated;
} classifier;

static void drop(classifier *c)
{
    reco_class_list_free(c->list);
    free(c->key);
    free(c->plain);
    free(c->refined);
    *c = (classifier){0};
}

void serve_classifiers_free(serve *s)
{
    classifier *all = s->classifiers;
    for (int i = 0; all && i < SERVE_CLASSIFIERS; i++) drop(&all[i]);
    free(all);
}

static bool is_texts(serve_request *r, const json_t *list, const char *name, size_t low, size_t high)
{
    size_t n = json_array_size(list), i;
    json_t *member;
    bool fine = (json_is_array(list) || !list) && n >= low && n <= high;
    json_array_foreach(list, i, member) fine &= json_is_string(member) && *json_string_value(member);
    if (!fine) serve_fail(r, 400, "\"%s\" is not a list of %zu to %zu texts", name, low, high);
    return fine;
}

void serve_classify_parse(serve *s, serve_request *r)
{
    const char *bank, *image;
    size_t top = TOP;
    if (!serve_put_own_json(r) || !serve_get_text(r, r->json, "bank", &bank) ||
        !serve_put_bank(s, r, bank) || !serve_get_text(r, r->json, "image", &image) ||
        !serve_get_size(r, r->json, "top", 1, 1000, &top))
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
        serve_fail(r, 400, "the template \"%s\" has no {} for the name", json_string_value(member));
        return;
    }
    if (!images == !image) {
        serve_fail(r, 400, "want \"image\" or \"images\"");
        return;
    }
    if (images && !is_texts(r, images, "images", 1, PICTURES)) return;
    if (!serve_room(r, images ? json_array_size(images) : 1)) return;
    for (i = 0; i < r->nitems; i++)
        if (!serve_put_picture(s, r, &r->items[i],
                               image ? image : json_string_value(json_array_get(images, i))))
            return;
    if (!s->model_info.has_text) {
        serve_fail(r, 400, "this server's model reads no texts");
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

static reco_status fill(serve *s, const serve_request *r, reco_ctx *ctx, classifier *c)
{
    const json_t *classes = json_object_get(r->json, "classes"),
                 *templates = json_object_get(r->json, "templates");
    const char **names = texts_of(classes), **prompts = texts_of(templates);
    reco_memory memory = serve_memory(s, r->bank, true);
    reco_status status = names && prompts ? RECO_OK : RECO_E_NOMEM;
    if (status == RECO_OK)
        status = reco_class_list_from(ctx, &c->list, names, json_array_size(classes), "\"classes\"");
    if (status == RECO_OK) status = reco_class_list_settle(ctx, c->list, s->model, 1);
    c->n = status == RECO_OK ? reco_class_list_count(c->list) : 0;
    c->plain = calloc(c->n * s->d + 1, sizeof(float));
    c->refined = calloc(c->n * s->d + 1, sizeof(float));
    if (status == RECO_OK && (!c->plain || !c->refined)) status = RECO_E_NOMEM;
    if (status == RECO_OK)
        status = reco_class_list_embed(ctx, c->list, s->model, &memory, prompts, json_array_size(templates),
                                       c->plain, c->refined, &c->truncated);
    free(names);
    free(prompts);
    return status;
}

static reco_status get(serve *s, const serve_request *r, reco_ctx *ctx, classifier **out)
{
    static uint64_t clock; /* the engine's alone */
    if (!s->classifiers) s->classifiers = calloc(SERVE_CLASSIFIERS, sizeof(classifier));
    classifier *all = s->classifiers, *oldest = all;
    json_t *what =
        json_pack("[O, O?]", json_object_get(r->json, "classes"), json_object_get(r->json, "templates"));
    char *key = what ? json_dumps(what, JSON_COMPACT) : NULL;
    json_decref(what);
    if (!all || !key) {
        free(key);
        return RECO_E_NOMEM;
    }
    for (int i = 0; i < SERVE_CLASSIFIERS; i++) {
        classifier *c = &all[i];
        if (c->key && c->bank == r->bank && c->snapshot == r->bank->snapshot && c->layers == s->layers &&
            strcmp(c->key, key) == 0) {
            free(key);
            c->used = ++clock;
            *out = c;
            return RECO_OK;
        }
        if (c->used < oldest->used) oldest = c;
    }
    drop(oldest);
    *oldest = (classifier){
        .key = key, .bank = r->bank, .snapshot = r->bank->snapshot, .layers = s->layers, .used = ++clock};
    reco_status status = fill(s, r, ctx, oldest);
    if (status != RECO_OK) drop(oldest);
    *out = oldest;
    return status;
}

static void cosines(float *out, const float *x, const float *rows, size_t n, size_t d)
{
    for (size_t i = 0; i < n; i++) {
        double sum = 0;
        for (size_t j = 0; j < d; j++) sum += (double)x[j] * (double)rows[i * d + j];
        out[i] = (float)sum;
    }
}

static void softmax(float *p, const float *x, size_t n, float scale)
{
    float most = -2;
    double sum = 0;
    for (size_t i = 0; i < n; i++) most = fmaxf(most, x[i]);
    for (size_t i = 0; i < n; i++) sum += p[i] = expf(scale * (x[i] - most));
    for (size_t i = 0; i < n; i++) p[i] = (float)(p[i] / sum);
}

/* The `top` of greatest probability, which are taken out of p. */
static json_t *best(const classifier *c, float *p, const float *scores, size_t top)
{
    json_t *list = json_array();
    for (size_t m = 0; m < top && m < c->n; m++) {
        size_t at = 0;
        for (size_t i = 1; i < c->n; i++)
            if (p[i] > p[at]) at = i;
        json_array_append_new(list, json_pack("{s:s, s:o, s:o}", "label",
                                              reco_class_list_names(c->list)[at], "score",
                                              serve_score(scores[at]), "probability", serve_score(p[at])));
        p[at] = -1;
    }
    return list;
}

typedef struct work {
    float *y;                     /* [d] */
    float *plain, *refined, *p;   /* [n] */
    int64_t ids[RECO_VOTES_MAX];  /* neighbours, */
    float scores[RECO_VOTES_MAX]; /* */
    uint32_t of[RECO_VOTES_MAX];  /* and their classes */
    float weights[RECO_BANK_MAX_K + 1];
} work;

static reco_status name_it(serve *s, const serve_request *r, const serve_item *item, reco_ctx *ctx,
                           const classifier *c, work *w, json_t **out)
{
    reco_memory memory = serve_memory(s, r->bank, true);
    reco_settings set;
    size_t count = 0;
    reco_question question = {.side = RECO_IMAGE, .x = item->vector, .n = 1};
    reco_memory_settle(&memory, RECO_IMAGE, RECO_TEXT, &set);
    size_t reach = set.voters > set.k ? set.voters : set.k;
    reco_refined refined = {.rows = w->y, .reach = reach};
    if (reach) refined.hits = (reco_hits){w->ids, w->scores, &count};
    if (set.refines) refined.weights = w->weights;
    reco_status status = reco_refine(ctx, &memory, &question, &refined);
    if (status != RECO_OK) return status;
    size_t heard = count < set.voters ? count : set.voters;
    if (heard) status = reco_class_list_votes(ctx, c->list, s->model, r->bank->now, w->ids, heard, w->of);
    cosines(w->plain, item->vector, c->plain, c->n, s->d);
    cosines(w->refined, w->y, c->refined, c->n, s->d);
    float scale = s->model_info.logit_scale;
    softmax(w->p, w->plain, c->n, scale);
    json_t *clip = best(c, w->p, w->plain, r->edge);
    reco_votes votes = {w->scores, w->of, &heard, heard};
    if (set.mixture.scale[0] > 0)
        status = reco_mixture_posterior(ctx, &set.mixture, w->plain, w->refined, heard ? &votes : NULL, 1,
                                        c->n, w->p);
    else
        softmax(w->p, w->refined, c->n, scale);
    if (status != RECO_OK) {
        json_decref(clip);
        return status;
    }
    json_t *found = set.refines ? serve_neighbours(ctx, r->bank, w->ids, w->scores, w->weights,
                                                   count < set.k ? count : set.k)
                                : json_null();
    *out = json_pack("{s:o, s:o, s:o}", "clip", clip, "reco", best(c, w->p, w->refined, r->edge),
                     "explanation", found);
    return RECO_OK;
}

void serve_classify_finish(serve *s, serve_request *r, reco_ctx *ctx)
{
    classifier *c = NULL;
    reco_status status = get(s, r, ctx, &c);
    if (status != RECO_OK) {
        serve_fail_status(r, ctx, status);
        return;
    }
    work *w = malloc(sizeof *w);
    float *rows = malloc((s->d + 3 * c->n) * sizeof *rows);
    json_t *results = json_array();
    if (w && rows)
        *w = (work){
            .y = rows, .plain = rows + s->d, .refined = rows + s->d + c->n, .p = rows + s->d + 2 * c->n};
    for (size_t i = 0; i < r->nitems; i++) {
        const serve_item *item = &r->items[i];
        json_t *one = NULL;
        status = !w || !rows ? RECO_E_NOMEM : item->status;
        const char *why = item->error ? item->error : "out of memory";
        if (status == RECO_OK && (status = name_it(s, r, item, ctx, c, w, &one)) != RECO_OK)
            why = reco_ctx_error(ctx);
        if (status != RECO_OK && r->nitems == 1 && !json_object_get(r->json, "images")) {
            serve_fail(r, serve_http_status(status), "%s", why);
            break;
        }
        if (status != RECO_OK) one = json_pack("{s:s}", "error", why);
        json_array_append_new(results, one);
    }
    free(w);
    free(rows);
    if (!r->status && json_object_get(r->json, "images"))
        serve_reply(r, 200,
                    json_pack("{s:O, s:I}", "results", results, "truncated", (json_int_t)c->truncated));
    else if (!r->status) {
        json_object_set_new(json_array_get(results, 0), "truncated",
                            json_integer((json_int_t)c->truncated));
        serve_reply(r, 200, json_incref(json_array_get(results, 0)));
    }
    json_decref(results);
}
