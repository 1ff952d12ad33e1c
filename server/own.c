/* reco's own questions: /v1/search, /v1/refine, /v1/banks, GET /v1/pairs, /v1/pictures. */
#include "routes.h"

#include <errno.h>
#include <stdlib.h>

#define QUERY "text image image_url vector id side"
enum { QUERIES = 256, K = 10, EDGE = 256, LIST = 100 };

/* {"text"} or {"image"} or {"image_url"} or {"vector", "side"} or {"id"}, exactly one of them. */
static bool put_query(serve *s, serve_request *r, serve_item *item, const json_t *query, bool *sided)
{
    const char *text = NULL, *image = NULL, *url = NULL, *side = NULL;
    const json_t *vector = json_object_get(query, "vector"), *id = json_object_get(query, "id");
    if (!serve_get_text(r, query, "text", &text) || !serve_get_text(r, query, "image", &image) ||
        !serve_get_text(r, query, "image_url", &url) || !serve_get_text(r, query, "side", &side))
        return false;
    int given = (text != NULL) + (image != NULL) + (url != NULL) + (vector && !json_is_null(vector)) +
                (id && !json_is_null(id));
    if (given != 1) {
        serve_fail(r, 400, "a query must have exactly one of text, image, image_url, vector and id, not %d",
                   given);
        return false;
    }
    *sided = text || image || url || side;
    if (side && strcmp(side, "image") != 0 && strcmp(side, "text") != 0) {
        serve_fail(r, 400, "\"side\" is \"%s\"; it must be image or text", side);
        return false;
    }
    if (text) return serve_put_text(s, r, item, text);
    if (image) return serve_put_picture(s, r, item, image);
    if (url) return serve_put_url(s, r, item, url);
    item->own = side && *side == 't' ? RECO_TEXT : RECO_IMAGE;
    if (vector && !json_is_null(vector)) return serve_put_vector(s, r, item, vector);
    item->kind = SERVE_ROW;
    item->row = json_integer_value(id);
    if (json_is_integer(id) && item->row >= 0) return true;
    serve_fail(r, 400, "\"id\" must be a row id");
    return false;
}

static bool put_queries(serve *s, serve_request *r, bool *sided)
{
    const json_t *list = json_object_get(r->json, "queries");
    size_t n = json_is_array(list) ? json_array_size(list) : 1;
    static const char *const alone[] = {"text", "image", "image_url", "vector", "id", "side"};
    for (size_t i = 0; list && i < sizeof alone / sizeof *alone; i++)
        if (json_object_get(r->json, alone[i])) {
            serve_fail(r, 400, "\"%s\" cannot be combined with \"queries\"", alone[i]);
            return false;
        }
    if (list && (!json_is_array(list) || n < 1 || n > QUERIES)) {
        serve_fail(r, 400, "\"queries\" must be a list of 1 to %d queries", QUERIES);
        return false;
    }
    if (!serve_room(r, n)) return false;
    for (size_t i = 0; i < n; i++) {
        const json_t *query = list ? json_array_get(list, i) : r->json;
        if (!json_is_object(query)) {
            serve_fail(r, 400, "each query must be an object");
            return false;
        }
        if ((list && !serve_has_only(r, query, QUERY)) || !put_query(s, r, &r->items[i], query, sided))
            return false;
    }
    return true;
}

void serve_search_parse(serve *s, serve_request *r)
{
    const char *bank, *where, *in;
    bool sided = true;
    int refine = -1;
    double least = -1;
    bool given;
    r->ask = (serve_ask){.search = true, .pairs = true, .k = K};
    if (!serve_put_own_json(
            r, QUERY " queries bank k in where min_similarity refine distinct explain recall exact") ||
        !serve_get_text(r, r->json, "bank", &bank) || !serve_put_bank(s, r, bank) ||
        !serve_get_text(r, r->json, "where", &where) || !serve_get_text(r, r->json, "in", &in) ||
        !serve_get_size(r, r->json, "k", 1, RECO_BANK_MAX_K, &r->ask.k) ||
        !serve_get_bool(r, r->json, "refine", &refine) ||
        !serve_get_bool(r, r->json, "explain", &r->explain) ||
        !serve_get_bool(r, r->json, "distinct", &r->ask.distinct) || !serve_get_recall(r) ||
        !serve_get_number(r, r->json, "min_similarity", -1, 1, &least, &given) ||
        !put_queries(s, r, &sided))
        return;
    if (in && strcmp(in, "image") != 0 && strcmp(in, "text") != 0) {
        serve_fail(r, 400, "\"in\" is \"%s\"; it must be image or text", in);
        return;
    }
    if (refine > 0 && !s->opts->fusion) {
        serve_fail(r, 400, "this server was started without a fusion layer, so it cannot refine queries");
        return;
    }
    for (size_t i = 1; i < r->nitems && !in; i++)
        if (r->items[i].own != r->items[0].own) {
            serve_fail(r, 400, "queries of both sides need \"in\", the side of the rows to search");
            return;
        }
    r->ask.side = in ? (*in == 't' ? RECO_TEXT : RECO_IMAGE) : r->items[0].own;
    for (size_t i = 0; i < r->nitems; i++) /* rows are asked with the vector that is compared */
        if (r->items[i].kind == SERVE_ROW && !sided) r->items[i].own = r->ask.side;
    /* Asked across the sides, the layer knows more; on one side, what is equal is to come first. */
    r->ask.refine = refine >= 0 ? refine : s->opts->fusion && r->items[0].own != r->ask.side;
    r->ask.least = (float)least;
    r->where = where ? strdup(where) : NULL;
    if (where && !r->where)
        serve_fail(r, 503, "out of memory");
    else
        serve_ask_engine(s, r);
}

/* Rows that took part in refining, with their cosines and weights. */
json_t *serve_neighbours(const reco_pair *pairs, const float *scores, const float *weights, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_t *row = answer_row(&pairs[i]);
        if (!row) continue;
        json_object_set_new(row, "score", answer_score(scores[i]));
        json_object_set_new(row, "weight", answer_score(weights[i + 1]));
        json_array_append_new(list, row);
    }
    return json_pack("{s:o, s:o}", "own", answer_score(weights[0]), "neighbours", list);
}

static json_t *explain(serve *s, const serve_request *r, const serve_item *item, reco_ctx *ctx)
{
    reco_pair pairs[RECO_BANK_MAX_K];
    float scores[RECO_BANK_MAX_K], weights[RECO_BANK_MAX_K + 1];
    size_t n = 0;
    reco_memory memory = serve_memory(s, r, true);
    reco_settings settings;
    int64_t exclude = item->kind == SERVE_ROW ? item->row : -1;
    reco_memory_settle(&memory, item->own, r->ask.side, &settings);
    if (!settings.refines) return json_pack("{s:i, s:[]}", "own", 1, "neighbours");
    reco_question question = {
        .side = item->own, .x = item->vector, .n = 1, .exclude = &exclude, .nexclude = 1};
    reco_refined out = {.hits = {.scores = scores, .counts = &n}, .weights = weights, .pairs = pairs};
    if (serve_where(r->bank, ctx, r->where, &memory.filter) != RECO_OK ||
        reco_refine(ctx, &memory, &question, &out) != RECO_OK)
        return json_pack("{s:s}", "error", reco_ctx_error(ctx));
    json_t *told = serve_neighbours(pairs, scores, weights, n);
    for (size_t i = 0; i < n; i++) reco_pair_free(&pairs[i]);
    return told;
}

static json_t *result(serve *s, const serve_request *r, const serve_item *item, reco_ctx *ctx)
{
    if (item->status != RECO_OK)
        return json_pack("{s:s, s:i}", "error", item->error ? item->error : "out of memory", "status",
                         serve_http_status(r, item->status));
    json_t *hits = json_array();
    for (size_t i = 0; i < item->n; i++) {
        json_t *hit = answer_row(&item->pairs[i]);
        if (!hit) continue;
        json_object_set_new(hit, "score", answer_score(item->scores[i]));
        if (item->plain) json_object_set_new(hit, "plain", answer_score(item->plain[i]));
        if (item->refined) json_object_set_new(hit, "refined", answer_score(item->refined[i]));
        json_array_append_new(hits, hit);
    }
    bool refined =
        r->ask.refine && s->fusion && ((int)reco_fusion_get_config(s->fusion)->sides >> item->own & 1);
    json_t *out =
        json_pack("{s:b, s:b, s:o}", "refined", refined, "mixture", item->plain != NULL, "hits", hits);
    if (item->kind == SERVE_TEXT) json_object_set_new(out, "truncated", json_boolean(item->cut));
    if (r->explain && s->fusion) json_object_set_new(out, "explanation", explain(s, r, item, ctx));
    return out;
}

void serve_search_finish(serve *s, serve_request *r, reco_ctx *ctx)
{
    if (!json_object_get(r->json, "queries")) {
        json_t *one = result(s, r, &r->items[0], ctx);
        const serve_item *item = &r->items[0];
        serve_reply_found(s, r, r->bank->now,
                          item->status == RECO_OK ? 200 : serve_http_status(r, item->status), one);
        return;
    }
    json_t *list = json_array();
    for (size_t i = 0; i < r->nitems; i++) json_array_append_new(list, result(s, r, &r->items[i], ctx));
    serve_reply_found(s, r, r->bank->now, 200, json_pack("{s:o}", "results", list));
}

void serve_refine_parse(serve *s, serve_request *r)
{
    const char *bank;
    bool sided = true;
    if (!serve_put_own_json(r, QUERY " queries bank recall exact") ||
        !serve_get_text(r, r->json, "bank", &bank) || !serve_put_bank(s, r, bank) || !serve_get_recall(r) ||
        !put_queries(s, r, &sided))
        return;
    if (!s->opts->fusion)
        serve_fail(r, 400, "this server was started without a fusion layer, so it cannot refine queries");
    else if (!sided)
        serve_fail(r, 400, "a query by vector or row id needs \"side\", image or text");
    else
        serve_ask_engine(s, r);
}

reco_status serve_refine(serve *s, const serve_request *r, const serve_item *item, reco_ctx *ctx,
                         float *out, int *refined)
{
    reco_memory memory = serve_memory(s, r, true);
    reco_settings settings;
    int64_t exclude = item->kind == SERVE_ROW ? item->row : -1;
    reco_question question = {
        .side = item->own, .x = item->vector, .n = 1, .exclude = &exclude, .nexclude = 1};
    reco_memory_settle(&memory, item->own, item->own == RECO_IMAGE ? RECO_TEXT : RECO_IMAGE, &settings);
    *refined = settings.refines;
    return reco_refine(ctx, &memory, &question, &(reco_refined){.rows = out});
}

static json_t *refined(serve *s, const serve_request *r, const serve_item *item, reco_ctx *ctx)
{
    float *out = malloc(s->d * sizeof *out);
    reco_status status = out ? item->status : RECO_E_NOMEM;
    int takes = 0;
    if (status == RECO_OK) status = serve_refine(s, r, item, ctx, out, &takes);
    json_t *value = status == RECO_OK
                        ? json_pack("{s:b, s:o}", "refined", takes, "vector", serve_vector(out, s->d))
                        : json_pack("{s:s, s:i}", "error", item->error ? item->error : reco_ctx_error(ctx),
                                    "status", serve_http_status(r, status));
    free(out);
    return value;
}

void serve_refine_finish(serve *s, serve_request *r, reco_ctx *ctx)
{
    if (!json_object_get(r->json, "queries")) {
        json_t *one = refined(s, r, &r->items[0], ctx);
        json_int_t failed = json_integer_value(json_object_get(one, "status"));
        serve_reply_found(s, r, r->bank->now, failed ? (int)failed : 200, one);
        return;
    }
    json_t *list = json_array();
    for (size_t i = 0; i < r->nitems; i++) json_array_append_new(list, refined(s, r, &r->items[i], ctx));
    serve_reply_found(s, r, r->bank->now, 200, json_pack("{s:o}", "results", list));
}

void serve_banks_parse(serve *s, serve_request *r)
{
    json_t *list = json_array();
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->nbanks; i++) {
        const reco_bank_info *b = &s->banks[i].info;
        json_array_append_new(list,
                              json_pack("{s:s, s:I, s:I, s:I, s:s, s:s, s:I}", "name", s->banks[i].name,
                                        "rows", (json_int_t)b->rows, "deleted", (json_int_t)b->deleted, "d",
                                        (json_int_t)b->d, "encoder", b->encoder, "fingerprint",
                                        b->fingerprint, "shards", (json_int_t)b->shards));
    }
    pthread_mutex_unlock(&s->lock);
    serve_reply(r, 200,
                json_pack("{s:o, s:s?, s:b, s:b}", "banks", list, "model",
                          s->model ? s->model_info.name : NULL, "fusion", s->opts->fusion != NULL,
                          "read_only", s->opts->read_only));
}

/* A number of the query string; -1: it is none. */
static int64_t read_integer_parameter(const serve_request *r, const char *name, int64_t otherwise)
{
    const char *text = serve_parameter(r, name);
    if (!text) return otherwise;
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    return *text >= '0' && *text <= '9' && !*end && !errno ? value : -1;
}

void serve_rows_parse(serve *s, serve_request *r)
{
    const char *where = serve_parameter(r, "where");
    int64_t max = read_integer_parameter(r, "max", LIST);
    if (!serve_put_bank(s, r, serve_parameter(r, "bank"))) return;
    r->id = read_integer_parameter(r, serve_parameter(r, "id") ? "id" : "from", 0);
    if (r->id < 0 || max < 1 || max > RECO_BANK_MAX_K) {
        serve_fail(r, 400, "id and from must be row ids, and max must be a whole number from 1 to %d",
                   RECO_BANK_MAX_K);
        return;
    }
    r->ask = (serve_ask){.only_rows = true, .k = serve_parameter(r, "id") ? 0 : (size_t)max};
    r->where = where ? strdup(where) : NULL;
    serve_ask_engine(s, r);
}

void serve_rows_finish(serve *s, serve_request *r, reco_ctx *ctx)
{
    if (r->ask.k == 0) {
        json_t *row = serve_row(ctx, r->bank, r->id);
        if (row)
            serve_reply(r, 200, row);
        else
            serve_fail_row(r, r->id);
        return;
    }
    int64_t ids[RECO_BANK_MAX_K];
    size_t n = 0;
    reco_status status = reco_bank_select(ctx, r->bank->now, r->where, r->id, r->ask.k, ids, &n);
    if (status != RECO_OK) {
        serve_fail_status(r, ctx, status);
        return;
    }
    json_t *rows = json_array(), *each[RECO_BANK_MAX_K];
    serve_rows(ctx, r->bank, ids, n, each);
    for (size_t i = 0; i < n; i++)
        if (each[i]) json_array_append_new(rows, each[i]);
    bool more = n == r->ask.k;
    serve_reply_found(
        s, r, r->bank->now, 200,
        json_pack("{s:o, s:o}", "rows", rows, "next", more ? json_integer(ids[n - 1] + 1) : json_null()));
}

void serve_picture_parse(serve *s, serve_request *r)
{
    int64_t edge = read_integer_parameter(r, "edge", EDGE);
    if (!serve_put_bank(s, r, serve_parameter(r, "bank"))) return;
    r->id = read_integer_parameter(r, "id", -1);
    if (r->id < 0 || edge < 1 || edge > 4096) {
        serve_fail(r, 400, "id must be a row id, and edge must be a whole number from 1 to 4096");
        return;
    }
    r->edge = (size_t)edge;
    r->ask = (serve_ask){.only_rows = true};
    serve_ask_engine(s, r);
}

void serve_picture_finish(serve *s, serve_request *r, reco_ctx *ctx)
{
    (void)s;
    r->paths = calloc(1, sizeof *r->paths);
    reco_pair *pair = serve_pairs(ctx, r->bank, &r->id, 1);
    if (r->paths && pair) r->paths[0] = serve_picture_path(pair);
    serve_free_pairs(pair, 1);
    r->npaths = r->paths != NULL;
    if (!r->paths || !r->paths[0])
        serve_fail(r, 404, "row %lld has no picture on this machine", (long long)r->id);
}

void serve_picture_late(serve *s, serve_request *r, reco_ctx *ctx)
{
    size_t bytes = 0;
    unsigned char *jpeg = serve_thumbnail(s, ctx, r->paths[0], r->edge, &bytes);
    if (!jpeg) {
        serve_fail(r, 404, "the picture of row %lld cannot be read", (long long)r->id);
        return;
    }
    r->status = 200;
    r->answer = (char *)jpeg;
    r->answer_bytes = bytes;
    r->type = "image/jpeg";
}
